"""Pulling blobs: each MUST of the distribution-spec 1.1, by its sentence."""

from __future__ import annotations

import pytest
from tests.unit.registry.conftest import ABC, Registry


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
    ("byte_range", "status", "body", "content_range"),
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
    registry: Registry, byte_range: str, status: int, body: bytes | None, content_range: str
) -> None:
    """A registry SHOULD support the `Range` request header in accordance with RFC 9110."""
    digest = registry.push(b"abcdef")
    answer = registry("GET", f"/v2/a/b/blobs/{digest}", headers={"Range": byte_range})
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
