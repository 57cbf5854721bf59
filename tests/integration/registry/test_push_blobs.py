"""distribution-spec, Pushing blobs: each MUST by its sentence."""

from __future__ import annotations

import os
import uuid
from typing import TYPE_CHECKING

import pytest
from tests.images import digest_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.registry.conftest import Client


ABC = digest_of(b"abcdef")


def test_push_blob_with_post_and_put(client: Client) -> None:
    """Upon success, the response MUST have a code of `202 Accepted`, and MUST include Location.

    The `<blob-push-location>` MUST contain a UUID representing a unique session ID. The PUT's
    response MUST have code `201 Created` and MUST have Location, "a pullable blob URL".
    """
    location = client.start()
    assert uuid.UUID(location.rpartition("/")[2]).version == 4
    assert client.start() != location
    response = client("PUT", f"{location}?digest={ABC}", b"abcdef")
    assert response.status == 201
    assert client("GET", response.location).body == b"abcdef"


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_push_blob_with_single_post(client: Client, algorithm: str) -> None:
    """Successful completion MUST return a `201 Created` and MUST include Location."""
    digest = digest_of(b"abcdef", algorithm)
    response = client("POST", f"blobs/uploads/?digest={digest}", b"abcdef")
    assert response.status == 201
    assert client("GET", response.location).body == b"abcdef"


@pytest.mark.parametrize("way", ["POST", "PUT"])
def test_wrong_digest_is_rejected(client: Client, way: str) -> None:
    """The `<digest>` MUST match the blob's digest."""
    target = "blobs/uploads/" if way == "POST" else client.start()
    response = client(way, f"{target}?digest={ABC}", b"abcdeF")
    assert (response.status, response.codes) == (400, ["DIGEST_INVALID"])
    assert client("GET", f"blobs/{ABC}").status == 404


@pytest.mark.parametrize(
    "digest", ["", "x", "sha256:abc", f"blake3:{'a' * 64}", f"md5:{'a' * 32}", f"sha256:{'A' * 64}"]
)
def test_invalid_digest_is_rejected(client: Client, digest: str) -> None:
    """If the digest is invalid or of an unsupported algorithm, the registry SHOULD respond 400."""
    for method, target in (
        ("POST", "blobs/uploads/?digest="),
        ("POST", "blobs/uploads/?from=a/b&mount="),
        ("PUT", f"{client.start()}?digest="),
    ):
        response = client(method, target + digest, b"abcdef")
        assert (response.status, response.codes) == (400, ["DIGEST_INVALID"])


def chunk(start: int, data: bytes) -> dict[str, str]:
    """Return the headers of a chunk."""
    return {
        "Content-Range": f"{start}-{start + len(data) - 1}",
        "Content-Length": str(len(data)),
        "Content-Type": "application/octet-stream",
    }


@pytest.mark.parametrize("last", ["PATCH", "PUT"])
@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_push_blob_in_chunks(client: Client, algorithm: str, last: str) -> None:
    """The response for each successful chunk upload MUST be `202 Accepted`, with Location, Range.

    The final chunk MAY be uploaded using a `PATCH` request or [...] in the closing `PUT`. The
    response to a successful closing of the session MUST be `201 Created`, with Location.
    """
    location = client.start(f"?digest-algorithm={algorithm}")
    response = client("PATCH", location, b"abc", chunk(0, b"abc"))
    assert (response.status, response.headers["Range"]) == (202, "0-2")
    location = response.location
    rest: tuple[bytes, dict[str, str]] = (b"def", chunk(3, b"def"))
    if last == "PATCH":
        response = client("PATCH", location, *rest)
        assert (response.status, response.headers["Range"]) == (202, "0-5")
        location, rest = response.location, (b"", {})
    response = client("PUT", f"{location}?digest={digest_of(b'abcdef', algorithm)}", *rest)
    assert response.status == 201
    assert client("GET", response.location).body == b"abcdef"


def test_unknown_algorithm_is_rejected(client: Client) -> None:
    """An unsupported algorithm is refused before a byte is sent."""
    response = client("POST", "blobs/uploads/?digest-algorithm=md5")
    assert (response.status, response.codes) == (400, ["DIGEST_INVALID"])


def test_push_blob_with_streamed_patch(client: Client) -> None:
    """One PATCH with Transfer-Encoding: chunked and no range, as docker and podman push."""
    location = client.start()
    response = client("PATCH", location, iter([b"ab", b"cd", b"ef"]))
    assert (response.status, response.headers["Range"]) == (202, "0-5")
    assert client("PUT", f"{response.location}?digest={ABC}").status == 201


@pytest.mark.parametrize("method", ["PATCH", "PUT"])
@pytest.mark.parametrize("start", [0, 2, 4, 100])
def test_chunk_out_of_order_is_416(client: Client, method: str, start: int) -> None:
    """If a chunk is uploaded out of order, the registry MUST respond with a `416`.

    If the final chunk is uploaded out of order, the registry MUST respond with a `416`. Status:
    the response to an active upload MUST be `204 No Content`, and MUST have Location and Range.
    """
    location = client.start()
    client("PATCH", location, b"abc", chunk(0, b"abc"))
    response = client(method, f"{location}?digest={ABC}", b"xyz", chunk(start, b"xyz"))
    assert response.status == 416
    response = client("GET", location)
    assert (response.status, response.headers["Range"]) == (204, "0-2")
    response = client("PUT", f"{response.location}?digest={ABC}", b"def", chunk(3, b"def"))
    assert response.status == 201


def test_first_chunk_must_start_at_zero(client: Client) -> None:
    """The first chunk's range MUST begin with `0`; it MUST match `^[0-9]+-[0-9]+$`."""
    for wrong in ("1-3", "bytes 0-2/3", "0-", "-2"):
        location = client.start()
        headers = chunk(0, b"abc") | {"Content-Range": wrong}
        assert client("PATCH", location, b"abc", headers).status == 416


def test_put_without_digest_is_rejected(client: Client) -> None:
    """The closing `PUT` request MUST include the `<digest>` of the whole blob."""
    location = client.start()
    assert client("PUT", location, b"abcdef").codes == ["DIGEST_INVALID"]
    assert client("PUT", f"{location}?digest={ABC}", b"abcdef").status == 201


def test_unknown_session_is_404(client: Client) -> None:
    """A session that is not there is `404`: never begun, finished, cancelled."""
    location = client.start()
    assert client("PUT", f"{location}?digest={ABC}", b"abcdef").status == 201
    for method in ("GET", "PATCH", "PUT", "DELETE"):
        response = client(method, f"{location}?digest={ABC}", b"")
        assert response.status == 404


def test_cancel_upload(client: Client) -> None:
    """[To a `DELETE`, if successful,] the response SHOULD be a `204 No Content`."""
    location = client.start()
    client("PATCH", location, b"abc")
    assert client("DELETE", location).status == 204
    assert client("GET", location).codes == ["BLOB_UPLOAD_UNKNOWN"]


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_mount_blob(client: Client, root: Path, algorithm: str) -> None:
    """The response to a successful mount MUST be `201 Created`, and MUST contain Location."""
    data = os.urandom(10)
    digest = client.push(data, algorithm)
    other = client.of(f"{client.name}/other")
    for _ in range(2):
        response = other("POST", f"blobs/uploads/?mount={digest}&from={client.name}")
        assert response.status == 201
        assert client("GET", response.location).body == data
    # It takes no place on the disk, and outlives the blob that it came from.
    [path] = (root / other.name).glob("blobs/*/*")
    assert path.stat().st_nlink == 2
    assert client("DELETE", f"blobs/{digest}").status == 202
    assert client("GET", response.location).body == data


@pytest.mark.parametrize(
    "source", ["&from=tests/nobody", "&from=NO", "&from=", "", "&from=..%2fx", "&from=tests/blobs"]
)
def test_mount_of_missing_blob_opens_session(client: Client, source: str) -> None:
    """If a registry [...] is unable to mount the requested blob, it SHOULD return a `202`.

    This indicates that the upload session has begun. `from` is not optional here: another
    repository's content is not looked for.
    """
    client.of("tests/somebody").push(b"abcdef")
    response = client("POST", f"blobs/uploads/?mount={ABC}{source}")
    assert response.status == 202
    assert client("PUT", f"{response.location}?digest={ABC}", b"abcdef").status == 201
