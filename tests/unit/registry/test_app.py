"""Each MUST of the distribution-spec 1.1 that the registry keeps, by its sentence."""

from __future__ import annotations

import errno
import json
import shutil
import uuid
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.registry.conftest import Registry

from brolga._version import __version__
from brolga.registry.routes import requests
from brolga.registry.storage import uploads
from brolga.registry.storage.database import DATABASE
from brolga.registry.storage.layout import Disk
from brolga.registry.storage.manifest import MAX_MANIFEST_SIZE
from brolga.registry.storage.repository import Repo
from brolga.registry.storage.uploads import HashCache, Upload, UploadWriter
from brolga.spec.digest import Digest
from brolga.spec.mediatypes import OCI_INDEX, OCI_MANIFEST
from brolga.testing.injector import Injector
from brolga.testing.middleware import fault_middleware

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.registry.conftest import Answer


ABC = Digest.of(b"abcdef")
# The shortest manifest that needs nothing else.
MANIFEST = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}).encode()


def put(
    registry: Registry, reference: str, body: bytes = MANIFEST, kind: str = OCI_INDEX
) -> Answer:
    """Push a manifest."""
    headers = {"Content-Type": kind} if kind else {}
    return registry("PUT", f"/v2/a/b/manifests/{reference}", body, headers)


# --- Determining support


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_ping(registry: Registry, method: str) -> None:
    """If the response is `200 OK`, then the registry implements this specification."""
    answer = registry(method, "/v2/")
    assert answer.status == 200
    assert answer.headers["docker-distribution-api-version"] == "registry/2.0"


@pytest.mark.parametrize("target", ["/", "/v2", "/v1/", "/v2/a", "/v2/a/nothing/here", "/v2//"])
def test_unknown_path_is_404(registry: Registry, target: str) -> None:
    """The `code` field MUST be one of the following."""
    answer = registry("GET", target)
    assert (answer.status, answer.code) == (404, "UNSUPPORTED")
    assert answer.headers["docker-distribution-api-version"] == "registry/2.0"


def test_unknown_method_is_405(registry: Registry) -> None:
    """RFC 9110, 15.5.6: the server MUST generate an Allow header field in a 405 response."""
    answer = registry("PUT", "/v2/a/b/tags/list")
    assert (answer.status, answer.code) == (405, "UNSUPPORTED")
    assert answer.headers["allow"] == "GET, HEAD"
    answer = registry("POST", "/v2/a/b/blobs/uploads/x")
    assert answer.headers["allow"] == "DELETE, GET, HEAD, PATCH, PUT"


# --- Names


@pytest.mark.parametrize(
    "name",
    [
        "A", "a/B", "a//b", "/a", "-a", "a-", "a___b", ".uploads", "a/.uploads", "..", "a/../b",
        "%2e%2e/a", "a/%2e%2e/%2e%2e/etc", "a%00b", "a%0a", "%2fetc", "a b", "\u00e4", "a" * 300,
        "..%2f..%2fetc", "a\\b", "a:b",
    ],
)  # fmt: skip
def test_invalid_name_is_rejected(registry: Registry, name: str) -> None:
    """`<name>` MUST match the following regular expression."""
    for method, rest in (
        ("POST", "blobs/uploads/"),
        ("PATCH", f"blobs/uploads/{uuid.uuid4().hex}"),
        ("GET", f"blobs/{ABC}"),
        ("PUT", "manifests/x"),
        ("GET", "manifests/x"),
        ("GET", "tags/list"),
    ):
        answer = registry(method, f"/v2/{name}/{rest}", MANIFEST)
        # A name with a line feed is in no route at all.
        assert (answer.status, answer.code) in {(400, "NAME_INVALID"), (404, "UNSUPPORTED")}
    assert registry.files() == set()


@pytest.mark.parametrize("name", ["blobs", "a/blobs/sha256", "index.json", "a/oci-layout"])
def test_reserved_name_is_rejected(registry: Registry, name: str) -> None:
    """A name that is legal and cannot be stored is refused, and told why."""
    answer = registry("POST", f"/v2/{name}/blobs/uploads/")
    assert (answer.status, answer.code) == (400, "NAME_INVALID")
    assert "image layout" in answer.reason


@pytest.mark.parametrize("name", ["a", "a/b/c/d", "a.b_c__d-e---f", "manifests", "tags/list/x"])
def test_valid_name_is_accepted(registry: Registry, name: str) -> None:
    r"""`[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*`."""
    digest = registry.push(b"abc", name)
    assert registry("GET", f"/v2/{name}/blobs/{digest}").body == b"abc"
    # An encoded colon is the same digest.
    assert registry("GET", f"/v2/{name}/blobs/{digest}".replace(":", "%3A")).body == b"abc"


def test_repository_below_another(registry: Registry) -> None:
    """A repository's blobs are its own, also where its name begins with another's."""
    digest = registry.push(b"abc", "a")
    registry.push(b"def", "a/b")
    assert registry("GET", f"/v2/a/b/blobs/{digest}").code == "BLOB_UNKNOWN"


# --- Pulling blobs


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_pull_blob(registry: Registry, algorithm: str) -> None:
    """A GET request to an existing blob URL MUST provide the expected blob, with `200 OK`."""
    digest = registry.push(b"abcdef", algorithm=algorithm)
    answer = registry("GET", f"/v2/a/b/blobs/{digest}")
    assert (answer.status, answer.body) == (200, b"abcdef")
    assert answer.headers["docker-content-digest"] == str(digest)
    assert answer.headers["content-length"] == "6"
    assert answer.headers["content-type"] == "application/octet-stream"


def test_head_blob(registry: Registry) -> None:
    """A HEAD request to an existing blob or manifest URL MUST return `200 OK`."""
    digest = registry.push(b"abcdef")
    answer = registry("HEAD", f"/v2/a/b/blobs/{digest}", headers={"Range": "bytes=1-2"})
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["docker-content-digest"] == str(digest)
    assert answer.headers["content-length"] == "6"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_pull_missing_blob_is_404(registry: Registry, method: str) -> None:
    """If the blob is not found in the repository, the response code MUST be `404 Not Found`."""
    answer = registry(method, f"/v2/a/b/blobs/{ABC}")
    assert (answer.status, answer.code) == (404, "NAME_UNKNOWN")
    registry.push(b"x")
    answer = registry(method, f"/v2/a/b/blobs/{ABC}")
    assert (answer.status, answer.code) == (404, "BLOB_UNKNOWN")


@pytest.mark.parametrize(
    "digest",
    ["x", "sha256:", "sha256:..", f"sha256:{'A' * 64}", "sha256:%00", f"md5:{'a' * 32}", "..:..",
     f"blake3:{'a' * 64}", f"sha256:{'a' * 64}%0a", f"sha256:..%2f..%2f{'a' * 58}"],
)  # fmt: skip
def test_invalid_digest_is_rejected(registry: Registry, digest: str) -> None:
    """A digest from the network is held against the grammar before it is a path."""
    registry.push(b"x")
    before = registry.files()
    answer = registry("GET", f"/v2/a/b/blobs/{digest}")
    assert (answer.status, answer.code) in {(400, "DIGEST_INVALID"), (404, "UNSUPPORTED")}
    answer = registry("POST", f"/v2/a/b/blobs/uploads/?digest={digest}", b"x")
    assert (answer.status, answer.code) == (400, "DIGEST_INVALID")
    assert registry.files() == before


@pytest.mark.parametrize(
    ("wanted", "status", "body", "content_range"),
    [
        ("bytes=0-2", 206, b"abc", "bytes 0-2/6"),
        ("bytes=4-", 206, b"ef", "bytes 4-5/6"),
        ("bytes=-2", 206, b"ef", "bytes 4-5/6"),
        ("bytes=2-100", 206, b"cdef", "bytes 2-5/6"),
        ("bytes=6-", 416, None, "bytes */6"),
        ("bytes=9-12", 416, None, "bytes */6"),
    ],
)
def test_pull_blob_range(
    registry: Registry, wanted: str, status: int, body: bytes | None, content_range: str
) -> None:
    """A registry SHOULD support the `Range` request header in accordance with RFC 9110."""
    digest = registry.push(b"abcdef")
    answer = registry("GET", f"/v2/a/b/blobs/{digest}", headers={"Range": wanted})
    assert answer.status == status
    assert answer.headers["content-range"] == content_range
    if body is not None:
        assert answer.body == body


def test_pull_blob_with_if_range(registry: Registry) -> None:
    """A download that goes on says of which bytes it has the first part (RFC 9110, If-Range)."""
    digest = registry.push(b"abcdef")
    target = f"/v2/a/b/blobs/{digest}"
    etag = registry("HEAD", target).headers["etag"]
    headers = {"Range": "bytes=3-", "If-Range": etag}
    assert registry("GET", target, headers=headers).body == b"def"
    assert registry("GET", target, headers={**headers, "If-Range": '"x"'}).body == b"abcdef"


# --- Pushing blobs


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
    """Nobody knows a single POST's session: it does not outlive the request."""
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
    # Even where all bytes of the blob were there.
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
    """However a blob comes, in pieces, requests and cut requests, its bytes are the same."""
    whole = b"".join(pieces)
    digest = Digest.of(whole)
    location = registry.start()
    done = 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(requests, "_BATCH", 16)
        for cut in sorted(min(cut, len(pieces)) for cut in cuts):
            registry("PATCH", location, pieces[done:cut], cut=bool(cut % 2))
            done = max(done, cut)
        answer = registry("PUT", f"{location}?digest={digest}", pieces[done:])
    assert answer.status == 201
    assert registry("GET", answer.headers["location"]).body == whole


def test_second_writer_is_409(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second request to a session that is being written is refused, not interleaved."""
    monkeypatch.setattr(uploads, "_WAIT_S", 0.02)
    location = registry.start()
    path = registry.root / "a/b/.uploads" / location.rpartition("/")[2]
    with Upload(path, HashCache(), Disk(path.parent)).writer() as writer:
        writer.write(b"abc")
        for method in ("PATCH", "PUT", "DELETE"):
            answer = registry(method, f"{location}?digest={ABC}", b"xyz")
            assert (answer.status, answer.code) == (409, "BLOB_UPLOAD_INVALID")
        # Its status can be asked all the same.
        assert registry("GET", location).headers["range"] == "0-2"
    assert registry("PUT", f"{location}?digest={ABC}", b"def").status == 201


# --- ManifestStore


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_pull_manifest(registry: Registry, method: str) -> None:
    """A GET request to an existing manifest URL MUST provide the expected manifest, `200 OK`.

    The registry MUST store the manifest in the exact byte representation provided by the client.
    The `Content-Type` header SHOULD match what the client pushed.
    """
    body = b' { "schemaVersion": 2 ,\n\t"x": "\\u00e9" } '
    answer = put(registry, "v1", body, "application/vnd.example+json; charset=utf-8")
    assert answer.status == 201
    digest = Digest.of(body)
    assert answer.headers["docker-content-digest"] == str(digest)
    # "The `<location>` is a pullable manifest URL"
    for target in (answer.headers["location"], "/v2/a/b/manifests/v1"):
        pulled = registry(method, target)
        assert pulled.status == 200
        assert pulled.body == (body if method == "GET" else b"")
        # "The registry SHOULD NOT include parameters on the `Content-Type` header"
        assert pulled.headers["content-type"] == "application/vnd.example+json"
        assert pulled.headers["docker-content-digest"] == str(digest)
        assert pulled.headers["content-length"] == str(len(body))


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_push_manifest_by_digest(registry: Registry, algorithm: str) -> None:
    """Docker-Content-Digest MUST be equal to the client provided digest."""
    digest = Digest.of(MANIFEST, algorithm)
    answer = put(registry, str(digest))
    assert answer.status == 201
    assert answer.headers["docker-content-digest"] == str(digest)
    assert registry("GET", f"/v2/a/b/manifests/{digest}").body == MANIFEST
    assert json.loads(registry("GET", "/v2/a/b/tags/list").body)["tags"] == []


def test_push_manifest_by_wrong_digest_is_rejected(registry: Registry) -> None:
    """A reference that is a digest MUST be the manifest's."""
    answer = put(registry, str(ABC))
    assert (answer.status, answer.code) == (400, "DIGEST_INVALID")
    assert registry.files() == set()


def test_push_manifest_moves_tag(registry: Registry) -> None:
    """A tag names the manifest pushed last; the one before is still there by its digest."""
    first = put(registry, "v1").headers["location"]
    second = MANIFEST + b" "
    put(registry, "v1", second)
    assert registry("GET", "/v2/a/b/manifests/v1").body == second
    assert registry("GET", first).body == MANIFEST


@pytest.mark.parametrize("reference", ["v1", "latest", ".INVALID", "a" * 129, str(ABC)])
def test_pull_missing_manifest_is_404(registry: Registry, reference: str) -> None:
    """If the manifest is not found in the repository, the response code MUST be `404`.

    An attempt to pull a nonexistent repository MUST return response code `404 Not Found`.
    """
    answer = registry("GET", f"/v2/a/b/manifests/{reference}")
    assert (answer.status, answer.code) == (404, "NAME_UNKNOWN")
    registry.push(b"abcdef")
    answer = registry("GET", f"/v2/a/b/manifests/{reference}")
    assert (answer.status, answer.code) == (404, "MANIFEST_UNKNOWN")


@pytest.mark.parametrize("tag", ["-x", ".x", "a" * 129, "a%2fb", "%00", "a b", "\u0663"])
def test_invalid_tag_is_rejected(registry: Registry, tag: str) -> None:
    """`<reference>` as a tag MUST be at most 128 characters in length and MUST match [...]."""
    answer = put(registry, tag)
    assert answer.status in {400, 404}
    assert answer.code in {"MANIFEST_INVALID", "UNSUPPORTED", "NAME_INVALID"}
    assert registry.files() == set()
    assert put(registry, "_" + "a." * 63 + "-").status == 201


@pytest.mark.parametrize(
    ("body", "kind", "reason"),
    [
        (b"", OCI_INDEX, "not JSON"),
        (b"{", OCI_INDEX, "not JSON"),
        (b"\xff{}", OCI_INDEX, "not UTF-8"),
        # RFC 8259, section 4: an object whose names are all unique is interoperable.
        (b'{"a":1,"a":2}', OCI_INDEX, "twice"),
        (b'{"a":{"b":1,"\\u0062":1}}', OCI_INDEX, "twice"),
        (b'{"a":' * 100_000, OCI_INDEX, "deeper than 64"),
        (b'{"a":' + b"[" * 65 + b"]" * 65 + b"}", OCI_INDEX, "deeper than 64"),
        (b'{"a":' * 65 + b"1" + b"}" * 65, OCI_INDEX, "deeper than 64"),
        (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", OCI_INDEX, "deeper than 64"),
        (b"[]", OCI_INDEX, "object"),
        (b"null", OCI_INDEX, "object"),
        (b"\xef\xbb\xbf{}", OCI_INDEX, "not JSON"),
        (b'{"a":"\xff"}', OCI_INDEX, "not UTF-8"),
        (b'{"a":NaN}', OCI_INDEX, "a number"),
        (b'{"a":[Infinity]}', OCI_INDEX, "a number"),
        (b'{"a":-Infinity}', OCI_INDEX, "a number"),
        (b'{"a":1e999}', OCI_INDEX, "out of range"),
        (b'{"a":' + b"9" * 5000 + b"}", OCI_INDEX, "number"),
        (b'{"a":"\\ud800"}', OCI_INDEX, "half of a surrogate pair"),
        (b'{"\\udc00":1}', OCI_INDEX, "half of a surrogate pair"),
        (b'{"a":[{"b":"\\udc00\\ud800"}]}', OCI_INDEX, "half of a surrogate pair"),
        (b'"x"', OCI_INDEX, "object"),
        (MANIFEST, OCI_MANIFEST, "Content-Type"),
        (b"{}", "", "mediaType"),
        (b'{"mediaType":1}', "", "mediaType"),
        (b'{"mediaType":1}', OCI_INDEX, "mediaType"),
        (b'{"mediaType":"a/b\\r\\nx: y"}', "", "media type"),
        (b"{}", "text", "media type"),
    ],
)
def test_push_invalid_manifest_is_rejected(
    registry: Registry, body: bytes, kind: str, reason: str
) -> None:
    """If a manifest includes a `mediaType` field, clients MUST set the `Content-Type` to it.

    What is no JSON object of one media type is no manifest.
    """
    answer = put(registry, "v1", body, kind)
    assert (answer.status, answer.code) == (400, "MANIFEST_INVALID")
    assert reason in answer.reason
    assert registry.files() == set()


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b' {"a" : 1}\n',
        b'{"a":"\\ud83d\\ude00"}',
        '{"a":"\U0001f600"}'.encode(),
        b'{"a":1.5e10,"b":-0}',
        b'{"a":1.7976931348623157e308}',
        b'{"a":{"a":{"a":1}}}',
        b'{"a":' + b"[" * 64 + b"]" * 64 + b"}",
        b'{"a":' * 64 + b"1" + b"}" * 64,
    ],
)
def test_push_manifest_accepts_interoperable_json(registry: Registry, body: bytes) -> None:
    """The limits are those of the spec's documents, and far from them."""
    assert put(registry, "v1", body, "application/vnd.example+json").status == 201
    assert registry("GET", "/v2/a/b/manifests/v1").body == body


def test_push_manifest_without_content_type(registry: Registry) -> None:
    """Clients SHOULD set the `Content-Type` header: without it, the manifest says what it is."""
    put(registry, "v1", MANIFEST, "")
    assert registry("HEAD", "/v2/a/b/manifests/v1").headers["content-type"] == OCI_INDEX


def test_push_largest_manifest(registry: Registry) -> None:
    """A registry SHOULD expect to be able to support manifest pushes of at least 4 megabytes.

    One over its limit it answers with `413 Payload Too Large`.
    """
    begin, end = b'{"schemaVersion":2,"manifests":[],"x":"', b'"}'
    fits = begin + b"a" * (MAX_MANIFEST_SIZE - len(begin + end)) + end
    assert put(registry, "v1", fits).status == 201
    answer = put(registry, "v2", fits + b" ")
    assert (answer.status, answer.code) == (413, "MANIFEST_INVALID")


def test_push_cut_manifest_stores_nothing(registry: Registry) -> None:
    """A manifest whose body breaks off is not stored, even where it could be read."""
    headers = {"Content-Type": OCI_INDEX}
    registry("PUT", "/v2/a/b/manifests/v1", MANIFEST, headers, cut=True)
    assert registry.files() == set()


# --- Tags


def tags(registry: Registry, query: str = "") -> tuple[list[str], str | None]:
    """Return a page of tags, and the Link that leads on."""
    answer = registry("GET", f"/v2/a/b/tags/list{query}")
    assert answer.status == 200
    document = json.loads(answer.body)
    assert document["name"] == "a/b"
    return document["tags"], answer.headers.get("link")


def test_tags_are_sorted(registry: Registry) -> None:
    """If the list is not empty, the tags MUST be in lexical order (case-insensitive)."""
    for tag in ("v2", "V10", "a", "B", "_", "v10"):
        put(registry, tag)
    assert tags(registry) == (["_", "a", "B", "V10", "v10", "v2"], None)


def test_tags_of_unknown_repository_is_404(registry: Registry) -> None:
    """Assuming a repository is found, this request MUST return a `200 OK` response code."""
    answer = registry("GET", "/v2/a/b/tags/list")
    assert (answer.status, answer.code) == (404, "NAME_UNKNOWN")
    registry.push(b"x")
    assert tags(registry) == ([], None)


def test_tags_in_pages(registry: Registry) -> None:
    """The `Link` header MUST be set according to RFC5988 with the Relation Type `rel="next"`."""
    for tag in ("c", "A", "b", "D"):
        put(registry, tag)
    page, link = tags(registry, "?n=2")
    assert page == ["A", "b"]
    assert link == '</v2/a/b/tags/list?n=2&last=b>; rel="next"'
    assert tags(registry, "?n=2&last=b") == (["c", "D"], None)
    # "`<tagname>` will not be included in the results"; it need not exist.
    assert tags(registry, "?last=bb") == (["c", "D"], None)
    assert tags(registry, "?n=9")[0] == ["A", "b", "c", "D"]
    assert tags(registry, "?last=zzz") == ([], None)


def test_tags_page_of_zero_is_empty(registry: Registry) -> None:
    """When `n` is zero, this endpoint MUST return an empty list, and MUST NOT include a `Link`."""
    put(registry, "v1")
    assert tags(registry, "?n=0") == ([], None)


@pytest.mark.parametrize("n", ["-1", "x", "", "1.5", "\u0663", "9" * 5000])
def test_invalid_page_size_is_rejected(registry: Registry, n: str) -> None:
    """`<int>` is an integer specifying the number of tags requested."""
    registry.push(b"x")
    answer = registry("GET", f"/v2/a/b/tags/list?n={n}")
    assert (answer.status, answer.code) == (400, "UNSUPPORTED")


def test_tags_skips_invalid_tags(registry: Registry) -> None:
    """Another program's layout may name a manifest by what nobody can ask for."""
    put(registry, "v1")
    path = registry.root / "a/b/index.json"
    path.write_text(path.read_text().replace('"v1"', '"docker.io/library/x:v1"'))
    assert tags(registry) == ([], None)


# --- The registry's own faults


def test_full_disk_is_507(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk is an answer of its own; what was there stays."""
    kept = registry.push(b"x")
    location = registry.start()

    def full(_self: UploadWriter, _block: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(UploadWriter, "write", full)
        answer = registry("PATCH", location, b"abc")
    assert (answer.status, answer.code) == (507, "UNKNOWN")
    assert registry("GET", f"/v2/a/b/blobs/{kept}").status == 200
    assert registry("PUT", f"{location}?digest={ABC}", b"abcdef").status == 201


@pytest.mark.parametrize("error", [OSError(5, "no"), RuntimeError("bug")])
def test_bug_is_500(registry: Registry, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """What nobody foresaw goes to the server, which logs it."""

    def fail(_self: Repo) -> None:
        raise error

    monkeypatch.setattr(Repo, "start_upload", fail)
    with pytest.raises(type(error)):
        registry("POST", "/v2/a/b/blobs/uploads/")


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", "/v2/a/b/tags/list"),
        ("GET", "/v2/a/b/manifests/v1"),
        ("GET", f"/v2/a/b/manifests/{ABC}"),
        ("GET", f"/v2/a/b/referrers/{ABC}"),
        ("PUT", "/v2/a/b/manifests/v1"),
        ("DELETE", "/v2/a/b/manifests/v1"),
        ("DELETE", f"/v2/a/b/blobs/{ABC}"),
    ],
)
def test_broken_index_is_500(
    registry: Registry, caplog: pytest.LogCaptureFixture, method: str, target: str
) -> None:
    """It is said with a code, the log names the file, and nothing is written over it."""
    registry.push(b"x")
    index = registry.root / "a/b/index.json"
    index.write_bytes(b'{"manifests":{}}')
    before = registry.files()
    body = MANIFEST if method == "PUT" else b""
    answer = registry(method, target, body, {"Content-Type": OCI_INDEX})
    assert (answer.status, answer.code) == (500, "UNKNOWN")
    assert "a file of this repository is broken" in answer.reason
    assert str(registry.root) not in answer.reason
    assert str(index) in caplog.text
    assert index.read_bytes() == b'{"manifests":{}}'
    assert registry.files() == before


def test_empty_layout_of_umoci_is_a_repository(registry: Registry) -> None:
    """A layout that umoci made is a repository like any other."""
    registry.push(b"x")
    (registry.root / "a/b/index.json").write_text('{"schemaVersion":2,"manifests":null}')
    answer = registry("GET", "/v2/a/b/tags/list")
    assert json.loads(answer.body) == {"name": "a/b", "tags": []}
    assert put(registry, "v1").status == 201
    assert json.loads(registry("GET", "/v2/a/b/tags/list").body)["tags"] == ["v1"]


def test_unreadable_manifest_hides_no_other(
    registry: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    """What is wrong with one manifest does not hide the others."""
    answer = put(registry, "v1")
    digest = Digest.parse(answer.headers["docker-content-digest"])
    path = registry.root / "a/b/blobs/sha256" / digest.encoded
    path.unlink()
    path.mkdir()
    shutil.rmtree(registry.root / "a/b" / DATABASE)
    assert registry("GET", f"/v2/a/b/referrers/{ABC}").status == 200
    assert path.name in caplog.text


# --- Its name


def test_response_has_server_header(registry: Registry) -> None:
    """RFC 9110, 10.2.4: Server is information about the software used by the origin server."""
    for target in ("/v2/", "/nothing"):
        assert registry("GET", target).headers["server"] == f"brolga/{__version__}"


def test_emulated_registry_has_no_server_header(tmp_path: Path) -> None:
    """A registry that plays another one does not say that it is this one."""
    other = Registry(tmp_path, middleware=fault_middleware(Injector(profile="harbor")))
    assert "server" not in other("GET", "/v2/").headers
    same = Registry(tmp_path, middleware=fault_middleware(Injector()))
    assert same("GET", "/v2/").headers["server"] == f"brolga/{__version__}"
