"""distribution-spec, section Pull: each MUST by its sentence."""

from __future__ import annotations

import http.client
import os
import socket
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from tests.images import digest_of
from tests.integration.registry.conftest import IMAGE, INDEX

if TYPE_CHECKING:
    from tests.integration.registry.conftest import Client


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_pull_manifest(client: Client, method: str) -> None:
    """A GET request to an existing manifest URL MUST provide the expected manifest, with 200 OK.

    A successful response MUST contain the digest of the uploaded blob in the header
    `Docker-Content-Digest`. A HEAD request MUST return `200 OK`, and MUST contain the size in
    bytes in the header `Content-Length`.
    """
    body = b'{ "schemaVersion" : 2, "manifests" : [] }\n'
    digest = digest_of(body)
    assert client.put("v1", body, INDEX).status == 201
    for reference in ("v1", digest):
        reply = client(method, f"manifests/{reference}")
        assert reply.status == 200
        assert reply.body == (body if method == "GET" else b"")
        assert reply.headers["Docker-Content-Digest"] == digest
        assert reply.headers["Content-Length"] == str(len(body))
        # "The `Content-Type` header SHOULD match what the client pushed"
        assert reply.headers["Content-Type"] == INDEX


@pytest.mark.parametrize("reference", ["v1", "sha256:" + "0" * 64, ".no", "x" * 129])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_pull_missing_manifest_is_404(client: Client, method: str, reference: str) -> None:
    """If the manifest is not found in the repository, the response code MUST be `404 Not Found`.

    An attempt to pull a nonexistent repository MUST return response code `404 Not Found`. The
    `<tag-or-digest>` MUST NOT be in any other format.
    """
    assert client(method, f"manifests/{reference}").status == 404
    client.push(b"x")
    assert client(method, f"manifests/{reference}").status == 404


@pytest.mark.parametrize("size", [0, 1, 6, 3_000_001])
@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_pull_blob(client: Client, algorithm: str, size: int) -> None:
    """A GET request to an existing blob URL MUST provide the expected blob, with `200 OK`.

    A successful response MUST contain the digest in the header `Docker-Content-Digest`: "the
    value of this header MUST be a digest matching that of the response body". To a HEAD request
    it MUST contain the size in bytes in the header `Content-Length`.
    """
    data = os.urandom(size)
    digest = client.push(data, algorithm)
    for method, body in (("GET", data), ("HEAD", b"")):
        reply = client(method, f"blobs/{digest}")
        assert (reply.status, reply.body) == (200, body)
        assert reply.headers["Docker-Content-Digest"] == digest
        assert reply.headers["Content-Length"] == str(size)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_pull_missing_blob_is_404(client: Client, method: str) -> None:
    """If the blob is not found in the repository, the response code MUST be `404 Not Found`."""
    digest = digest_of(b"abc")
    assert client(method, f"blobs/{digest}").status == 404
    client.push(b"x")
    assert client(method, f"blobs/{digest}").status == 404
    client.of("tests/another").push(b"abc")
    assert client(method, f"blobs/{digest}").status == 404


@pytest.mark.parametrize(
    ("byte_range", "body"),
    [
        ("bytes=0-0", b"a"),
        ("bytes=2-4", b"cde"),
        ("bytes=4-", b"ef"),
        ("bytes=-2", b"ef"),
        ("bytes=-200", b"abcdef"),
        ("bytes=2-100", b"cdef"),
        ("Bytes= 1-2", b"bc"),
    ],
)
def test_pull_range(client: Client, byte_range: str, body: bytes) -> None:
    """A registry SHOULD support the `Range` request header in accordance with RFC 9110."""
    digest = client.push(b"abcdef")
    reply = client("GET", f"blobs/{digest}", headers={"Range": byte_range})
    assert (reply.status, reply.body) == (206, body)
    first = b"abcdef".index(body)
    assert reply.headers["Content-Range"] == f"bytes {first}-{first + len(body) - 1}/6"
    assert reply.headers["Docker-Content-Digest"] == digest


@pytest.mark.parametrize("byte_range", ["bytes=6-", "bytes=9-12", "bytes=-0"])
def test_range_outside_is_416(client: Client, byte_range: str) -> None:
    """RFC 9110, 15.5.17: [416] SHOULD [have] a Content-Range with the current length."""
    reply = client("GET", f"blobs/{client.push(b'abcdef')}", headers={"Range": byte_range})
    assert reply.status == 416
    assert reply.headers["Content-Range"] == "bytes */6"


@pytest.mark.parametrize(
    "byte_range",
    ["bytes=4-2", "bytes=a-b", "bytes=", "bytes=-", "lines=0-1", "bytes=0-1,3-4", "0-1"],
)
def test_invalid_range_is_ignored(client: Client, byte_range: str) -> None:
    """RFC 9110, 14.2: a server MAY ignore the Range header field; unknown units it MUST."""
    reply = client("GET", f"blobs/{client.push(b'abcdef')}", headers={"Range": byte_range})
    assert (reply.status, reply.body) == (200, b"abcdef")


def test_range_of_empty_blob(client: Client) -> None:
    """An empty blob has no byte to begin with."""
    digest = client.push(b"")
    assert client("GET", f"blobs/{digest}", headers={"Range": "bytes=0-"}).status == 416


def test_range_with_if_range(client: Client) -> None:
    """RFC 9110, 13.1.5: If-Range, if the representation is unchanged, send the part."""
    target = f"blobs/{client.push(b'abcdef')}"
    etag = client("HEAD", target).headers["ETag"]
    for value, expected in ((etag, (206, b"def")), ('"other"', (200, b"abcdef"))):
        reply = client("GET", target, headers={"Range": "bytes=3-", "If-Range": value})
        assert (reply.status, reply.body) == expected


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_if_none_match_is_304(client: Client, method: str) -> None:
    """RFC 9110, 13.1.2: If-None-Match, the condition is false: 304 to GET and HEAD."""
    target = f"blobs/{client.push(b'abcdef')}"
    etag = client("HEAD", target).headers["ETag"]
    for value in (etag, f'"x", W/{etag}', "*"):
        reply = client(method, target, headers={"If-None-Match": value})
        assert (reply.status, reply.body) == (304, b"")
        assert reply.headers["ETag"] == etag
    assert client(method, target, headers={"If-None-Match": '"x"'}).status == 200


def test_moved_tag_keeps_digest(client: Client) -> None:
    """The manifest pushed last is the one that a tag names; ETag tells the two apart."""
    first = client.pushed("v1")
    second = client.pushed("v1", annotations={"n": "2"})
    assert client("GET", "manifests/v1").headers["ETag"] == f'"{second}"'
    assert client("GET", f"manifests/{first}").headers["Content-Type"] == IMAGE


def test_connection_is_reused(client: Client) -> None:
    """A file that the kernel sent leaves the connection in order for the next request."""
    digests = {client.push(data): data for data in (b"a" * 100_000, b"", b"c" * 3_000_000)}
    with closing(http.client.HTTPConnection(client.address, timeout=30)) as connection:
        for digest, data in [*digests.items()] * 3:
            connection.request("GET", f"/v2/{client.name}/blobs/{digest}")
            assert connection.getresponse().read() == data


def test_pipelined_requests_are_answered_in_order(client: Client) -> None:
    """RFC 9112, 9.3.2: it MUST send the corresponding responses in the same order."""
    digests = {client.push(data): data for data in (b"a" * 100_000, b"", b"c" * 3_000_000)}
    heads = [f"GET /v2/{client.name}/blobs/{digest} HTTP/1.1\r\nHost: x\r\n" for digest in digests]
    host, _, port = client.address.partition(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall("\r\n".join([*heads[:-1], f"{heads[-1]}Connection: close\r\n"]).encode())
        connection.sendall(b"\r\n")
        with connection.makefile("rb") as answers:
            rest = answers.read()
    for data in digests.values():
        head, _, rest = rest.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK")
        assert rest[: len(data)] == data
        rest = rest[len(data) :]
    assert rest == b""
