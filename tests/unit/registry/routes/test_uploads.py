"""Pushing blobs: each MUST of the distribution-spec 1.1, by its sentence."""

from __future__ import annotations

import json
import uuid

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.registry.conftest import ABC, Registry

from brolga.disk.directory import Directory
from brolga.registry.routes import requests
from brolga.registry.storage import uploads
from brolga.registry.storage.uploads import HashCache, Upload
from brolga.spec.digest import Digest


@pytest.mark.parametrize("end", ["/", ""])
def test_start_upload(registry: Registry, end: str) -> None:
    """Upon success, the response MUST have a code of `202 Accepted`.

    The `<location>` MUST contain a UUID representing a unique session ID.
    """
    answer = registry("POST", f"/v2/a/b/blobs/uploads{end}")
    assert answer.status == 202
    location = answer.headers["location"]
    assert uuid.UUID(location.rpartition("/")[2]).version == 4
    assert answer.headers["docker-upload-uuid"] == location.rpartition("/")[2]
    assert answer.headers["range"] == "0-0"
    assert answer.headers["content-length"] == "0"
    assert registry.start() != location


def test_push_blob_with_post_and_put(registry: Registry) -> None:
    """Upon success of the PUT, the response MUST have code `201 Created` and MUST have Location.

    With `<blob-location>` being a pullable blob URL.
    """
    answer = registry("PUT", f"{registry.start()}?digest={ABC}", b"abcdef")
    assert answer.status == 201
    assert answer.headers["docker-content-digest"] == str(ABC)
    assert registry("GET", answer.headers["location"]).body == b"abcdef"


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_push_blob_with_single_post(registry: Registry, algorithm: str) -> None:
    """Successful completion of the request MUST return a `201 Created` and MUST include Location.

    Here, `<blob-location>` is a pullable blob URL.
    """
    digest = Digest.of(b"abcdef", algorithm)
    answer = registry("POST", f"/v2/a/b/blobs/uploads/?digest={digest}", b"abcdef")
    assert answer.status == 201
    assert registry("GET", answer.headers["location"]).body == b"abcdef"


def test_single_post_of_wrong_bytes_stores_nothing(registry: Registry) -> None:
    """Likewise, the `<digest>` MUST match the blob's digest."""
    answer = registry("POST", f"/v2/a/b/blobs/uploads/?digest={ABC}", b"other")
    assert (answer.status, answer.code) == (400, "DIGEST_INVALID")
    assert registry.files() == set()


def test_cut_single_post_stores_nothing(registry: Registry) -> None:
    """The session of a single POST does not outlive the request."""
    registry("POST", f"/v2/a/b/blobs/uploads/?digest={ABC}", b"abcdef", cut=True)
    assert registry.files() == set()


def test_push_blob_in_chunks(registry: Registry) -> None:
    """Each successful chunk upload MUST have a `202 Accepted` response code, Location and Range.

    The `<end-of-range>` value is the position of the last uploaded byte.
    """
    location = registry.start()
    headers = {"Content-Range": "0-2", "Content-Length": "3"}
    answer = registry("PATCH", location, b"abc", headers)
    assert (answer.status, answer.headers["range"]) == (202, "0-2")
    headers = {"Content-Range": "3-5", "Content-Length": "3"}
    answer = registry("PATCH", answer.headers["location"], b"def", headers)
    assert (answer.status, answer.headers["range"]) == (202, "0-5")
    # "The closing `PUT` request MUST include the `<digest>` of the whole blob"
    answer = registry("PUT", f"{answer.headers['location']}?digest={ABC}")
    assert answer.status == 201


def test_push_last_chunk_with_put(registry: Registry) -> None:
    """The final chunk MAY be uploaded using a `PATCH` or in the closing `PUT` request."""
    location = registry.start()
    registry("PATCH", location, b"abc")
    headers = {"Content-Range": "3-5", "Content-Length": "3"}
    assert registry("PUT", f"{location}?digest={ABC}", b"def", headers).status == 201


def test_empty_put_with_range_is_accepted(registry: Registry) -> None:
    """A range cannot say that nothing follows: on an empty body it is not looked at."""
    location = registry.start()
    registry("PATCH", location, b"abcdef")
    headers = {"Content-Range": "3-5", "Content-Length": "0"}
    assert registry("PUT", f"{location}?digest={ABC}", b"", headers).status == 201


def test_streamed_patch_appends(registry: Registry) -> None:
    """A PATCH without Content-Length and Content-Range appends, as docker and podman send it."""
    location = registry.start()
    headers = {"Transfer-Encoding": "chunked"}
    assert registry("PATCH", location, [b"ab", b"", b"c"], headers).headers["range"] == "0-2"
    assert registry("PATCH", location, [b"def"], headers).headers["range"] == "0-5"
    assert registry("PUT", f"{location}?digest={ABC}").status == 201


@pytest.mark.parametrize(
    "wrong",
    ["0-2", "2-4", "4-6", "9-12", "3-2", "x", "3", "bytes=3-5", "3-5/6", "-3",
     "3-" + "9" * 40],
)  # fmt: skip
@pytest.mark.parametrize("method", ["PATCH", "PUT"])
def test_chunk_out_of_order_is_416(registry: Registry, method: str, wrong: str) -> None:
    """If a chunk is uploaded out of order, the registry MUST respond with a `416`.

    A range that does not match the grammar begins nowhere.
    """
    location = registry.start()
    registry("PATCH", location, b"abc")
    target = f"{location}?digest={ABC}"
    answer = registry(method, target, b"xyz", {"Content-Range": wrong, "Content-Length": "3"})
    assert (answer.status, answer.code) == (416, "BLOB_UPLOAD_INVALID")
    assert answer.headers["range"] == "0-2"
    assert answer.headers["location"] == location
    # Nothing of it was taken, and the session goes on.
    assert registry("PUT", target, b"def").status == 201


def test_first_chunk_must_start_at_zero(registry: Registry) -> None:
    """The first chunk's range MUST begin with `0`."""
    answer = registry("PATCH", registry.start(), b"abc", {"Content-Range": "1-3"})
    assert answer.status == 416


@pytest.mark.parametrize("length", [True, False])
def test_chunk_of_wrong_length_is_rejected(registry: Registry, *, length: bool) -> None:
    """The `<range>` refers to the byte range of the chunk, and MUST be inclusive on both ends."""
    location = registry.start()
    registry("PATCH", location, b"abc")
    headers = {"Content-Range": "3-4"} | ({"Content-Length": "3"} if length else {})
    answer = registry("PATCH", location, b"xyz", headers)
    assert (answer.status, answer.code) == (400, "SIZE_INVALID")
    assert registry("GET", location).headers["range"] == "0-2"
    assert registry("PUT", f"{location}?digest={ABC}", b"def").status == 201


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_upload_status_has_range(registry: Registry, method: str) -> None:
    """The response to an active upload `<location>` MUST be a `204 No Content` response code.

    It MUST have the headers Location and Range.
    """
    location = registry.start()
    assert registry(method, location).headers["range"] == "0-0"
    registry("PATCH", location, b"abc")
    answer = registry(method, location)
    assert answer.status == 204
    assert answer.headers["location"] == location
    assert answer.headers["range"] == "0-2"


@pytest.mark.parametrize("query", ["", "?digest=", "?digest=x", "?digest=sha256:abc"])
def test_finish_without_digest_is_rejected(registry: Registry, query: str) -> None:
    """The closing `PUT` request MUST include the `<digest>` of the whole blob."""
    location = registry.start()
    answer = registry("PUT", location + query, b"abcdef")
    assert (answer.status, answer.code) == (400, "DIGEST_INVALID")
    # The session goes on, and took nothing.
    assert registry("PUT", f"{location}?digest={ABC}", b"abcdef").status == 201


def test_finish_with_wrong_digest_is_rejected(registry: Registry) -> None:
    """Likewise, the `<digest>` MUST match the blob's digest."""
    location = registry.start()
    answer = registry("PUT", f"{location}?digest={ABC}", b"abcdeF")
    assert (answer.status, answer.code) == (400, "DIGEST_INVALID")
    detail = json.loads(answer.body)["errors"][0]["detail"]
    assert detail["digest"] == str(ABC)
    assert detail["actual"] == str(Digest.of(b"abcdeF"))
    assert registry.files() == set()
    assert registry("GET", location).code == "BLOB_UPLOAD_UNKNOWN"


def test_cancel_upload(registry: Registry) -> None:
    """A cancelled session is gone, and its bytes with it."""
    location = registry.start()
    registry("PATCH", location, b"abc")
    assert registry("DELETE", location).status == 204
    assert registry("DELETE", location).status == 404
    assert registry.files() == set()


@pytest.mark.parametrize("method", ["GET", "PATCH", "PUT", "DELETE"])
@pytest.mark.parametrize("upload", ["0" * 32, "x", "..", "%2e%2e", "%00", ".%2findex.json"])
def test_unknown_session_is_404(registry: Registry, method: str, upload: str) -> None:
    """A session that was never started, or under another repository's name, is not found."""
    registry.push(b"x")
    answer = registry(method, f"/v2/a/b/blobs/uploads/{upload}?digest={ABC}", b"abc")
    assert answer.status == 404
    assert answer.code in {"BLOB_UPLOAD_UNKNOWN", "UNSUPPORTED"}
    elsewhere = registry.start("a/b").replace("/a/b/", "/a/c/")
    answer = registry(method, f"{elsewhere}?digest={ABC}", b"abc")
    assert answer.code == "BLOB_UPLOAD_UNKNOWN"


@pytest.mark.parametrize("method", ["PATCH", "PUT"])
def test_cut_put_commits_nothing(registry: Registry, method: str) -> None:
    """A client that goes away leaves a session at the offset that arrived, and never a blob."""
    location = registry.start()
    target = f"{location}?digest={ABC}"
    registry(method, target, [b"ab", b"c"], cut=True)
    assert registry.blobs() == set()
    assert registry("GET", location).headers["range"] == "0-2"
    # Even if all bytes of the blob were there.
    registry(method, target, b"def", cut=True)
    assert registry.blobs() == set()
    assert registry("PUT", target).status == 201


@given(pieces=st.lists(st.binary(max_size=30), max_size=12), cuts=st.lists(st.integers(0, 12)))
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_split_of_chunks_stores_the_same_blob(
    registry: Registry, pieces: list[bytes], cuts: list[int]
) -> None:
    """In any pieces, requests and cut requests, the same bytes are stored."""
    whole = b"".join(pieces)
    digest = Digest.of(whole)
    location = registry.start()
    sent = 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(requests, "_BATCH", 16)
        for cut in sorted(min(cut, len(pieces)) for cut in cuts):
            registry("PATCH", location, pieces[sent:cut], cut=bool(cut % 2))
            sent = max(sent, cut)
        answer = registry("PUT", f"{location}?digest={digest}", pieces[sent:])
    assert answer.status == 201
    assert registry("GET", answer.headers["location"]).body == whole


def test_second_writer_is_409(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second request to a session that is being written is refused, not interleaved."""
    monkeypatch.setattr(uploads, "_WAIT_S", 0.02)
    location = registry.start()
    path = registry.root / "a/b/.uploads" / location.rpartition("/")[2]
    with Upload(path, HashCache(), Directory(path.parent)).writer() as writer:
        writer.write(b"abc")
        for method in ("PATCH", "PUT", "DELETE"):
            answer = registry(method, f"{location}?digest={ABC}", b"xyz")
            assert (answer.status, answer.code) == (409, "BLOB_UPLOAD_INVALID")
        # Its status can be asked all the same.
        assert registry("GET", location).headers["range"] == "0-2"
    assert registry("PUT", f"{location}?digest={ABC}", b"def").status == 201
