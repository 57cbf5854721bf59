"""Manifests: each MUST of the distribution-spec 1.1, by its sentence."""

from __future__ import annotations

import json

import pytest
from tests.unit.registry.conftest import ABC, MANIFEST, Registry, put_manifest

from brolga.spec.digest import Digest
from brolga.spec.json import MAX_SIZE
from brolga.spec.mediatypes import OCI_INDEX, OCI_MANIFEST


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_pull_manifest(registry: Registry, method: str) -> None:
    """A GET request to an existing manifest URL MUST provide the expected manifest, `200 OK`.

    The registry MUST store the manifest in the exact byte representation provided by the client.
    The `Content-Type` header SHOULD match what the client pushed.
    """
    body = b' { "schemaVersion": 2 ,\n\t"x": "\\u00e9" } '
    answer = put_manifest(registry, "v1", body, "application/vnd.example+json; charset=utf-8")
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
    answer = put_manifest(registry, str(digest))
    assert answer.status == 201
    assert answer.headers["docker-content-digest"] == str(digest)
    assert registry("GET", f"/v2/a/b/manifests/{digest}").body == MANIFEST
    assert json.loads(registry("GET", "/v2/a/b/tags/list").body)["tags"] == []


def test_push_manifest_by_wrong_digest_is_rejected(registry: Registry) -> None:
    """A reference that is a digest MUST be the manifest's."""
    answer = put_manifest(registry, str(ABC))
    assert (answer.status, answer.code) == (400, "DIGEST_INVALID")
    assert registry.files() == set()


def test_push_manifest_moves_tag(registry: Registry) -> None:
    """A tag names the manifest pushed last; the one before is still there by its digest."""
    first = put_manifest(registry, "v1").headers["location"]
    second = MANIFEST + b" "
    put_manifest(registry, "v1", second)
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
    answer = put_manifest(registry, tag)
    assert answer.status in {400, 404}
    assert answer.code in {"MANIFEST_INVALID", "UNSUPPORTED", "NAME_INVALID"}
    assert registry.files() == set()
    assert put_manifest(registry, "_" + "a." * 63 + "-").status == 201


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
    answer = put_manifest(registry, "v1", body, kind)
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
    assert put_manifest(registry, "v1", body, "application/vnd.example+json").status == 201
    assert registry("GET", "/v2/a/b/manifests/v1").body == body


def test_push_manifest_without_content_type(registry: Registry) -> None:
    """Clients SHOULD set the `Content-Type` header: without it, the manifest says what it is."""
    put_manifest(registry, "v1", MANIFEST, "")
    assert registry("HEAD", "/v2/a/b/manifests/v1").headers["content-type"] == OCI_INDEX


def test_push_largest_manifest(registry: Registry) -> None:
    """A registry SHOULD expect to be able to support manifest pushes of at least 4 megabytes.

    One over its limit it answers with `413 Payload Too Large`.
    """
    begin, end = b'{"schemaVersion":2,"manifests":[],"x":"', b'"}'
    fits = begin + b"a" * (MAX_SIZE - len(begin + end)) + end
    assert put_manifest(registry, "v1", fits).status == 201
    answer = put_manifest(registry, "v2", fits + b" ")
    assert (answer.status, answer.code) == (413, "MANIFEST_INVALID")


def test_push_cut_manifest_stores_nothing(registry: Registry) -> None:
    """A manifest whose body breaks off is not stored, even if it could be read."""
    headers = {"Content-Type": OCI_INDEX}
    registry("PUT", "/v2/a/b/manifests/v1", MANIFEST, headers, cut=True)
    assert registry.files() == set()
