"""protocol.manifests: manifests by tag and digest, and their verification."""

from __future__ import annotations

import pytest
from tests.protocol.driver import (
    BEARER,
    HOME,
    Answer,
    from_redirect,
    make_access,
    play,
    token_request,
    with_authorization,
    with_delay,
)

from brolga.errors import (
    BrolgaError,
    Denied,
    DigestMismatch,
    InvalidDigest,
    InvalidManifest,
    NotFound,
    ProtocolViolation,
    RegistryError,
    TransportError,
    Unauthorized,
)
from brolga.protocol import (
    Request,
    Response,
    Retry,
    delete_manifest,
    find_manifest,
    get_manifest,
    head_manifest,
    put_manifest,
    put_with_tags,
)
from brolga.protocol.manifests import FetchedManifest, PutResult
from brolga.spec.descriptor import Descriptor
from brolga.spec.digest import Digest
from brolga.spec.mediatypes import OCI_INDEX, OCI_MANIFEST

ACCEPT = {
    "Accept": (
        "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, "
        "application/vnd.docker.distribution.manifest.v2+json, "
        "application/vnd.docker.distribution.manifest.list.v2+json"
    )
}
RAW = b'{"schemaVersion": 2}'
DIGEST, DIGEST_512, OTHER = Digest.of(RAW), Digest.of(RAW, "sha512"), Digest.of(b"other")
BLAKE = Digest("blake3", "0" * 64)
TYPE = {"content-type": OCI_MANIFEST}
LENGTH = {"content-length": str(len(RAW))}
TOKEN = Response(200, body=b'{"token": "t1"}')
CUT = TransportError("cut", reason="cut")
HEAD_REFUSED = (403, 404, 405, 501)


def url(reference: object) -> str:
    """Return a manifest's URL."""
    return f"{HOME}/v2/team/app/manifests/{reference}"


def get(reference: object) -> Request:
    """Return the GET request of a manifest."""
    return Request("GET", url(reference), ACCEPT)


def head(reference: object) -> Request:
    """Return the HEAD request of a manifest."""
    return Request("HEAD", url(reference), ACCEPT)


def put(reference: object, media_type: str = OCI_MANIFEST) -> Request:
    """Return the PUT request of a manifest."""
    return Request("PUT", url(reference), {"Content-Type": media_type}, RAW)


def named(digest: object) -> dict[str, str]:
    """Return the header that names a digest."""
    return {"docker-content-digest": str(digest)}


# --- Read


@pytest.mark.parametrize(
    ("reference", "headers", "digest"),
    [
        ("v1", {}, DIGEST),
        ("v1", named(DIGEST), DIGEST),
        ("v1", named(DIGEST_512), DIGEST_512),
        ("v1", named(BLAKE), DIGEST),
        ("v1", named("nonsense"), DIGEST),
        ("v1", named(""), DIGEST),
        (DIGEST, {}, DIGEST),
        (DIGEST, named(DIGEST), DIGEST),
        (DIGEST_512, {}, DIGEST_512),
        (DIGEST_512, named(DIGEST), DIGEST_512),
        (DIGEST, named(DIGEST_512), DIGEST),
    ],
    ids=str,
)
def test_get_manifest_returns_exact_bytes(
    reference: object, headers: dict[str, str], digest: Digest
) -> None:
    """A GET MUST return the manifest's bytes; their digest is computed here (Pulling manifests)."""
    flow = get_manifest(make_access(), str(reference))
    stored = play(flow, (get(reference), Response(200, TYPE | headers, RAW)))
    assert stored == FetchedManifest(RAW, OCI_MANIFEST, digest)


@pytest.mark.parametrize("kind", ["text/html", "TEXT/html; charset=utf-8", "application/xhtml+xml"])
@pytest.mark.parametrize("headers", [{}, named(DIGEST), LENGTH])
def test_get_manifest_rejects_page(kind: str, headers: dict[str, str]) -> None:
    """A page has a digest as well, and is still not a manifest."""
    page = Response(200, {"content-type": kind} | headers, b"<html>")
    for flow, request in ((get_manifest, get), (head_manifest, head)):
        play(
            flow(make_access(), "v1"),
            (request("v1"), page),
            error=ProtocolViolation,
            match="manifests/v1 is .*ml: that is not an OCI registry's answer",
        )


@pytest.mark.parametrize(
    ("reference", "headers", "expected", "actual"),
    [
        ("v1", named(OTHER), OTHER, DIGEST),
        (DIGEST_512, {}, DIGEST_512, Digest.of(b"changed", "sha512")),
        (OTHER, {}, OTHER, DIGEST),
        (OTHER, named(DIGEST), OTHER, DIGEST),
        (OTHER, named(OTHER), OTHER, DIGEST),
    ],
    ids=str,
)
def test_get_manifest_raises_on_other_digest(
    reference: object, headers: dict[str, str], expected: Digest, actual: Digest
) -> None:
    """Bytes by digest SHOULD be verified; by tag, Docker-Content-Digest gives the digest."""
    raw = RAW if actual == DIGEST else b"changed"
    error = play(
        get_manifest(make_access(), str(reference)),
        (get(reference), Response(200, TYPE | headers, raw)),
        error=DigestMismatch,
    )
    assert (error.expected, error.actual) == (str(expected), str(actual))


@pytest.mark.parametrize(
    "reference", [str(BLAKE), "sha256:12", "md5:d41d8cd98f00b204e9800998ecf8427e"]
)
def test_get_manifest_rejects_unknown_algorithm(reference: str) -> None:
    """A digest that cannot be computed here is rejected, not ignored."""
    play(get_manifest(make_access(), reference), error=InvalidDigest)
    play(head_manifest(make_access(), reference), error=InvalidDigest)


@pytest.mark.parametrize(
    ("content_type", "media_type"),
    [
        (OCI_INDEX, OCI_INDEX),
        (f"{OCI_INDEX}; charset=utf-8", OCI_INDEX),
        (f" {OCI_INDEX} ;", OCI_INDEX),
        ("", ""),
    ],
)
def test_get_manifest_drops_parameters_of_type(content_type: str, media_type: str) -> None:
    """A media type has no parameters (RFC 9110, section 8.3.1)."""
    stored = play(
        get_manifest(make_access(), "v1"),
        (get("v1"), Response(200, {"content-type": content_type}, RAW)),
    )
    assert stored.media_type == media_type


def test_get_manifest_returns_empty_type_without_content_type() -> None:
    """The bytes may still contain one for the caller."""
    assert (
        play(get_manifest(make_access(), "v1"), (get("v1"), Response(200, {}, RAW))).media_type
        == ""
    )


def test_get_manifest_rejects_four_mebibytes() -> None:
    """A limit of 4 megabytes is what registries keep (Pushing Manifests); the driver cuts there."""
    large = b" " * ((4 << 20) - 1)
    play(get_manifest(make_access(), "v1"), (get("v1"), Response(200, {}, large)))
    for reference in ("v1", str(Digest.of(large + b" "))):
        play(
            get_manifest(make_access(), reference),
            (get(reference), Response(200, {}, large + b" ")),
            error=InvalidManifest,
            match="4194304",
        )


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, Unauthorized),
        (403, Denied),
        (404, NotFound),
        (500, RegistryError),
        (206, ProtocolViolation),
        (204, ProtocolViolation),
    ],
)
def test_get_manifest_raises_on_refusal(status: int, kind: type[BrolgaError]) -> None:
    """404 if the manifest is missing (Pulling manifests)."""
    play(get_manifest(make_access(), "v1"), (get("v1"), Response(status)), error=kind)
    steps = [(head("v1"), Response(status))]
    if status in HEAD_REFUSED:
        steps.append((get("v1"), Response(status)))
    play(head_manifest(make_access(), "v1"), *steps, error=kind)


def test_get_manifest_follows_redirect() -> None:
    """A read follows redirects; the bytes are verified against the digest all the same."""
    away = from_redirect(Request("GET", "https://cdn.example/m", ACCEPT))
    redirect = Response(307, {"location": away.url})
    flow = get_manifest(make_access(), str(DIGEST))
    assert play(flow, (get(DIGEST), redirect), (away, Response(200, TYPE, RAW))).digest == DIGEST


# --- HEAD


@pytest.mark.parametrize(
    ("reference", "headers", "digest"),
    [
        ("v1", named(DIGEST), DIGEST),
        ("v1", named(DIGEST_512), DIGEST_512),
        ("v1", named(BLAKE), None),
        (DIGEST, named(DIGEST), DIGEST),
        (DIGEST, {}, DIGEST),
        (DIGEST, named("nonsense"), DIGEST),
        (DIGEST_512, named(DIGEST), DIGEST_512),
        (DIGEST_512, {}, DIGEST_512),
    ],
    ids=str,
)
def test_head_manifest_returns_descriptor(
    reference: object, headers: dict[str, str], digest: Digest | None
) -> None:
    """Docker-Content-Digest gives the digest of a tag."""
    steps: list[tuple[Request, Answer]] = [
        (head(reference), Response(200, TYPE | LENGTH | headers))
    ]
    if digest is None:
        steps.append((get(reference), Response(200, TYPE, RAW)))
    descriptor = play(head_manifest(make_access(), str(reference)), *steps)
    assert descriptor == Descriptor(OCI_MANIFEST, digest or DIGEST, len(RAW))


def test_head_manifest_raises_on_other_digest() -> None:
    """A digest must not resolve to another digest."""
    error = play(
        head_manifest(make_access(), str(DIGEST)),
        (head(DIGEST), Response(200, TYPE | LENGTH | named(OTHER))),
        error=DigestMismatch,
    )
    assert (error.expected, error.actual) == (str(DIGEST), str(OTHER))


@pytest.mark.parametrize(
    "headers",
    [
        TYPE | LENGTH,
        named(DIGEST) | LENGTH,
        named(DIGEST) | TYPE,
        named("nonsense") | TYPE | LENGTH,
        named(DIGEST) | TYPE | {"content-length": ""},
        named(DIGEST) | TYPE | {"content-length": "-1"},
        named(DIGEST) | TYPE | {"content-length": "1.5"},
        named(DIGEST) | TYPE | {"content-length": "\u0661"},
        named(DIGEST) | TYPE | {"content-length": "\u00b2"},
        named(DIGEST) | TYPE | {"content-length": "9" * 30},
        named(DIGEST) | TYPE | {"content-length": "9" * 5000},
        named(DIGEST) | LENGTH | {"content-type": ";"},
        named(DIGEST) | LENGTH | {"content-type": "text"},
        named(DIGEST) | LENGTH | {"content-type": "a b/c\x1b[31m"},
    ],
    ids=lambda headers: repr(headers)[-100:],
)
def test_head_manifest_uses_get_if_head_is_incomplete(headers: dict[str, str]) -> None:
    """Docker-Content-Digest is a SHOULD: without it the digest is that of the bytes."""
    steps = (head("v1"), Response(200, headers)), (get("v1"), Response(200, TYPE, RAW))
    descriptor = play(head_manifest(make_access(), "v1"), *steps)
    assert descriptor == Descriptor(OCI_MANIFEST, DIGEST, len(RAW))


@pytest.mark.parametrize("content_type", ["", "text", "a b/c\x1b[31m", "/", "a/b/c"])
def test_head_manifest_raises_without_media_type(content_type: str) -> None:
    """A descriptor's media type is type/subtype (RFC 6838, 4.2): no ValueError is raised."""
    error = play(
        head_manifest(make_access(), "v1"),
        (head("v1"), Response(200, {"content-type": content_type})),
        (get("v1"), Response(200, {"content-type": content_type}, RAW)),
        error=ProtocolViolation,
        match="Content-Type",
    )
    assert str(error).isprintable()


@pytest.mark.parametrize("status", HEAD_REFUSED)
@pytest.mark.parametrize("reference", ["v1", str(DIGEST)])
def test_head_manifest_uses_get_if_head_is_refused(status: int, reference: str) -> None:
    """Some refuse every HEAD (google/go-containerregistry#971, containerd/containerd#6684)."""
    steps = (head(reference), Response(status)), (get(reference), Response(200, TYPE, RAW))
    for flow in (head_manifest, find_manifest):
        descriptor = play(
            flow(make_access(), reference), *steps[: 1 if flow_ends(flow, status) else 2]
        )
        expected = None if flow_ends(flow, status) else Descriptor(OCI_MANIFEST, DIGEST, len(RAW))
        assert descriptor == expected


def flow_ends(flow: object, status: int) -> bool:
    """Return whether the response to HEAD is enough for a flow."""
    return flow is find_manifest and status in (403, 404)


@pytest.mark.parametrize(
    "kind",
    [
        "application/json",
        "Application/JSON; charset=utf-8",
        "application/octet-stream",
        "binary/octet-stream",
        "text/plain; charset=utf-8",
        "",
    ],
)
@pytest.mark.parametrize(
    ("raw", "media_type"),
    [
        (b'{"schemaVersion": 2, "mediaType": "%s", "manifests": []}', OCI_INDEX),
        (b'{"schemaVersion": 2, "manifests": []}', OCI_INDEX),
        (
            b'{"schemaVersion": 2, "mediaType": "%s", "layers": [], "config": '
            b'{"mediaType": "a/b", "size": 2, "digest": "sha256:' + 64 * b"a" + b'"}}',
            OCI_MANIFEST,
        ),
    ],
)
def test_get_manifest_uses_type_of_document(kind: str, raw: bytes, media_type: str) -> None:
    """A store gives octet-stream to a file of unknown type; `mediaType` SHOULD be present."""
    raw = raw.replace(b"%s", media_type.encode())
    headers = {"content-type": kind, "content-length": str(len(raw))} | named(Digest.of(raw))
    full = Response(200, headers, raw)
    assert play(get_manifest(make_access(), "v1"), (get("v1"), full)).media_type == media_type
    steps = (head("v1"), Response(200, headers)), (get("v1"), full)
    expected = Descriptor(media_type, Digest.of(raw), len(raw))
    assert play(head_manifest(make_access(), "v1"), *steps) == expected
    assert play(find_manifest(make_access(), "v1"), *steps) == expected


@pytest.mark.parametrize("raw", [b"hello", b"", b"\xff"])
def test_get_manifest_rejects_plain_text(raw: bytes) -> None:
    """A proxy responds "not here" with 200 as well."""
    response = Response(200, {"content-type": "text/plain"}, raw)
    play(
        get_manifest(make_access(), "v1"),
        (get("v1"), response),
        error=ProtocolViolation,
        match="is text/plain: that is not an OCI registry's answer",
    )


@pytest.mark.parametrize("length", ["0", "000"])
def test_head_manifest_ignores_length_of_zero(length: str) -> None:
    """Some registries send a length of 0 with every HEAD: the size is a part of the descriptor."""
    headers = TYPE | named(DIGEST) | {"content-length": length}
    steps = (head("v1"), Response(200, headers)), (get("v1"), Response(200, TYPE, RAW))
    assert play(head_manifest(make_access(), "v1"), *steps).size == len(RAW)


# --- find_manifest


@pytest.mark.parametrize("status", [403, 404])
def test_find_manifest_returns_none_if_absent_or_denied(status: int) -> None:
    """Artifactory responds 403 for a missing manifest; without rights, the write fails."""
    assert play(find_manifest(make_access(), "v1"), (head("v1"), Response(status))) is None
    for refusal in (405, 501):
        steps = (head("v1"), Response(refusal)), (get("v1"), Response(status))
        assert play(find_manifest(make_access(), "v1"), *steps) is None


@pytest.mark.parametrize(("status", "kind"), [(401, Unauthorized), (500, RegistryError)])
def test_find_manifest_raises_on_refusal(status: int, kind: type[BrolgaError]) -> None:
    """A refusal does not mean that the manifest is missing."""
    play(find_manifest(make_access(), "v1"), (head("v1"), Response(status)), error=kind)
    steps = (head("v1"), Response(405)), (get("v1"), Response(status))
    play(find_manifest(make_access(), "v1"), *steps, error=kind)


def test_find_manifest_needs_one_request_if_head_is_complete() -> None:
    """HEAD is enough if its response has all headers."""
    response = Response(200, TYPE | LENGTH | named(DIGEST))
    descriptor = play(find_manifest(make_access(), "v1"), (head("v1"), response))
    assert descriptor == Descriptor(OCI_MANIFEST, DIGEST, len(RAW))


# --- PUT


@pytest.mark.parametrize("status", [200, 201, 202])
@pytest.mark.parametrize(
    ("reference", "headers", "digest"),
    [
        ("v1", {}, DIGEST),
        ("v1", named(DIGEST), DIGEST),
        ("v1", named(DIGEST_512), DIGEST),
        ("v1", named("nonsense"), DIGEST),
        (DIGEST, named(DIGEST), DIGEST),
        (DIGEST_512, {}, DIGEST_512),
        (DIGEST_512, named(DIGEST_512), DIGEST_512),
        (DIGEST_512, named(DIGEST), DIGEST_512),
    ],
    ids=str,
)
def test_put_manifest_sends_exact_bytes(
    reference: object, headers: dict[str, str], digest: Digest, status: int
) -> None:
    """201 Created (Pushing Manifests, end-7); the Content-Type is its media type."""
    flow = put_manifest(make_access(), str(reference), RAW, OCI_MANIFEST)
    assert play(flow, (put(reference), Response(status, headers))) == PutResult(
        digest, subject_processed=False
    )


@pytest.mark.parametrize("subject", [str(OTHER), ""])
def test_put_manifest_returns_whether_subject_is_processed(subject: str) -> None:
    """A registry with the referrers API MUST set OCI-Subject (Manifests with Subject)."""
    flow = put_manifest(make_access(), "v1", RAW, OCI_MANIFEST)
    assert (
        play(flow, (put("v1"), Response(201, {"oci-subject": subject}))).subject_processed is True
    )


@pytest.mark.parametrize(
    ("reference", "actual", "expected"),
    [
        ("v1", OTHER, DIGEST),
        (DIGEST, OTHER, DIGEST),
        (DIGEST_512, Digest.of(b"other", "sha512"), DIGEST_512),
    ],
    ids=str,
)
def test_put_manifest_raises_on_other_digest(
    reference: object, actual: Digest, expected: Digest
) -> None:
    """The registry's own word is that it has other bytes."""
    error = play(
        put_manifest(make_access(), str(reference), RAW, OCI_MANIFEST),
        (put(reference), Response(201, named(actual))),
        error=DigestMismatch,
    )
    assert (error.expected, error.actual) == (str(expected), str(actual))


def test_put_manifest_repeats_after_lost_response() -> None:
    """PUT is idempotent (RFC 9110, 9.2.2): the same bytes under the same name."""
    flow = put_manifest(make_access(retry=Retry(attempts=3)), "v1", RAW, OCI_MANIFEST)
    request = put("v1")
    play(
        flow,
        (request, CUT),
        (with_delay(request, 0.5), Response(503)),
        (with_delay(request, 1.5), Response(201)),
    )


@pytest.mark.parametrize("status", [400, 403, 405, 409, 412])
def test_put_manifest_finds_immutable_tag_after_lost_response(status: int) -> None:
    """The first PUT succeeded, its response was lost, and the tag is immutable by now."""
    access, request = make_access(retry=Retry(attempts=2)), put("v1")
    lost = (request, CUT), (with_delay(request, 0.5), Response(status))
    found_tag = head("v1"), Response(200, TYPE | LENGTH | named(DIGEST))
    flow = put_manifest(access, "v1", RAW, OCI_MANIFEST)
    assert play(flow, *lost, found_tag) == PutResult(DIGEST, subject_processed=False)
    for other in (Response(404), Response(200, TYPE | LENGTH | named(OTHER))):
        flow = put_manifest(access, "v1", RAW, OCI_MANIFEST)
        play(flow, *lost, (head("v1"), other), error=RegistryError, match=str(status))


def test_put_manifest_renews_expired_token() -> None:
    """The manifest comes last, after minutes of blobs."""
    flow = put_manifest(make_access(), "v1", RAW, OCI_MANIFEST)
    bearer = with_authorization(put("v1"), "Bearer t1"), Response(201)
    play(flow, (put("v1"), Response(401, BEARER)), (token_request(), TOKEN), bearer)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, RegistryError),
        (401, Unauthorized),
        (403, Denied),
        (404, NotFound),
        (413, RegistryError),
        (204, ProtocolViolation),
        (302, ProtocolViolation),
    ],
)
def test_put_manifest_raises_on_refusal(status: int, kind: type[BrolgaError]) -> None:
    """MANIFEST_BLOB_UNKNOWN, MANIFEST_INVALID and others (Error Codes)."""
    flow = put_manifest(make_access(), "v1", RAW, OCI_MANIFEST)
    response = Response(status, {"location": "/x"}, b'{"errors": [{"code": "MANIFEST_INVALID"}]}')
    error = play(flow, (put("v1"), response), error=kind)
    assert not isinstance(error, RegistryError) or error.code == "MANIFEST_INVALID"


@pytest.mark.parametrize("reference", [str(BLAKE), "sha256:12"])
def test_put_manifest_rejects_unknown_algorithm(reference: str) -> None:
    """The digest of the bytes could not be computed here."""
    play(put_manifest(make_access(), reference, RAW, OCI_MANIFEST), error=InvalidDigest)


# --- PUT with tags as parameters


def put_tags(*tags: str, digest: Digest = DIGEST) -> Request:
    """Return the PUT request of a manifest by digest, with tags as parameters."""
    return put(f"{digest}?{'&'.join(f'tag={tag}' for tag in tags)}")


MANY = tuple(f"v{number}" for number in range(12))


@pytest.mark.parametrize(
    ("header", "left"),
    [
        ({"oci-tag": "1.2.3, 1.2, latest"}, ()),
        ({"oci-tag": "latest,1.2,1.2.3, other"}, ()),
        ({"oci-tag": "1.2"}, ("1.2.3", "latest")),
        ({"oci-tag": ""}, ("1.2.3", "1.2", "latest")),
        ({}, ("1.2.3", "1.2", "latest")),
    ],
)
def test_put_with_tags_returns_tags_that_the_registry_did_not_set(
    header: dict[str, str], left: tuple[str, ...]
) -> None:
    """It "MUST include an `OCI-Tag` response header [...] for each accepted tag"."""
    tags = ("1.2.3", "1.2", "latest", "1.2")
    flow = put_with_tags(make_access(), DIGEST, tags, RAW, OCI_MANIFEST)
    step = put_tags("1.2.3", "1.2", "latest"), Response(201, header)
    assert play(flow, step) == PutResult(DIGEST, subject_processed=False, tags_left=left)


def test_put_with_tags_sends_ten_tags_with_each_request() -> None:
    """A registry SHOULD support 10 tags, and may refuse more."""
    flow = put_with_tags(make_access(), DIGEST, MANY, RAW, OCI_MANIFEST)
    first = Response(201, {"oci-tag": ",".join(MANY[:10]), "oci-subject": "x"})
    second = Response(201, {"oci-tag": "v11"})
    steps = (put_tags(*MANY[:10]), first), (put_tags("v10", "v11"), second)
    assert play(flow, *steps) == PutResult(DIGEST, subject_processed=True, tags_left=("v10",))
    flow = put_with_tags(make_access(), DIGEST, MANY, RAW, OCI_MANIFEST)
    unknown = put_tags(*MANY[:10]), Response(201)
    assert play(flow, unknown) == PutResult(DIGEST, subject_processed=False, tags_left=MANY)


def test_put_with_tags_without_tags_puts_digest() -> None:
    """There is no query, and no tag is left."""
    flow = put_with_tags(make_access(), DIGEST_512, (), RAW, OCI_MANIFEST)
    step = put(DIGEST_512), Response(201)
    assert play(flow, step) == PutResult(DIGEST_512, subject_processed=False)
    flow = put_with_tags(make_access(), DIGEST, (), RAW, OCI_MANIFEST)
    play(flow, (put(DIGEST), Response(400)), error=RegistryError)


@pytest.mark.parametrize("status", [400, 404, 405, 414, 431])
def test_put_with_tags_leaves_all_tags_if_parameters_are_refused(status: int) -> None:
    """414 and 431 are for too many tags; a registry without end-7b may not take a query."""
    flow = put_with_tags(make_access(), DIGEST, ["a", "b"], RAW, OCI_MANIFEST)
    result = play(flow, (put_tags("a", "b"), Response(status)))
    assert result == PutResult(DIGEST, subject_processed=False, tags_left=("a", "b"))


@pytest.mark.parametrize("status", [401, 403, 413, 500])
def test_put_with_tags_raises_on_other_refusal(status: int) -> None:
    """A second request would be refused like the first."""
    flow = put_with_tags(make_access(), DIGEST, ["a", "b"], RAW, OCI_MANIFEST)
    play(flow, (put_tags("a", "b"), Response(status)), error=RegistryError)


def test_put_with_tags_raises_on_other_digest() -> None:
    """The registry's own word is that it has other bytes."""
    flow = put_with_tags(make_access(), DIGEST, ["a", "b"], RAW, OCI_MANIFEST)
    play(flow, (put_tags("a", "b"), Response(201, named(OTHER))), error=DigestMismatch)


@pytest.mark.parametrize("status", [400, 403, 405, 409, 412])
def test_put_with_tags_finds_immutable_tags_after_lost_response(status: int) -> None:
    """The first PUT set the tags, its response was lost, and the tags are immutable by now."""
    access, request = make_access(retry=Retry(attempts=2)), put_tags("a", "b")
    flow = put_with_tags(access, DIGEST, ["a", "b"], RAW, OCI_MANIFEST)
    result = play(
        flow,
        (request, CUT),
        (with_delay(request, 0.5), Response(status)),
        (head("a"), Response(200, TYPE | LENGTH | named(DIGEST))),
        (head("b"), Response(404)),
    )
    assert result == PutResult(DIGEST, subject_processed=False, tags_left=("b",))


# --- DELETE


@pytest.mark.parametrize("status", [200, 202, 204])
@pytest.mark.parametrize("reference", ["v1", str(DIGEST)])
def test_delete_manifest_accepts_success(status: int, reference: str) -> None:
    """202 Accepted (Deleting tags, Deleting Manifests)."""
    request = Request("DELETE", url(reference))
    play(delete_manifest(make_access(), reference), (request, Response(status)))


@pytest.mark.parametrize(
    ("status", "kind"), [(404, NotFound), (405, RegistryError), (400, RegistryError)]
)
def test_delete_manifest_raises_on_error(status: int, kind: type[BrolgaError]) -> None:
    """404 if it is missing, 400 or 405 if deletion is disabled (Deleting tags)."""
    play(
        delete_manifest(make_access(), "v1"),
        (Request("DELETE", url("v1")), Response(status)),
        error=kind,
    )


@pytest.mark.parametrize("lost", [CUT, TransportError("late", reason="timeout"), Response(502)])
def test_delete_manifest_accepts_404_after_lost_response(lost: Answer) -> None:
    """DELETE is idempotent (RFC 9110, 9.2.2): the second one finds nothing."""
    access, request = make_access(retry=Retry(attempts=2)), Request("DELETE", url("v1"))
    play(delete_manifest(access, "v1"), (request, lost), (with_delay(request, 0.5), Response(404)))


@pytest.mark.parametrize("refused", [TransportError("no", reason="connect"), Response(503)])
def test_delete_manifest_raises_on_404_after_refusal(refused: Answer) -> None:
    """A request that did not arrive, or was refused, had no effect."""
    access, request = make_access(retry=Retry(attempts=2)), Request("DELETE", url("v1"))
    steps = (request, refused), (with_delay(request, 0.5), Response(404))
    play(delete_manifest(access, "v1"), *steps, error=NotFound)
