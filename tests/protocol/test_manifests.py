"""wire/manifests.py: manifests by tag and by digest; the digest that they really have."""

from __future__ import annotations

import pytest
from tests.protocol.scripted import (
    BEARER,
    HOME,
    Answer,
    access,
    authorized,
    elsewhere,
    later,
    play,
    token_call,
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
    Receipt,
    Request,
    Response,
    Retry,
    Stored,
    delete_manifest,
    find_manifest,
    get_manifest,
    head_manifest,
    put_manifest,
)
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
    """Return the call that reads a manifest."""
    return Request("GET", url(reference), ACCEPT)


def head(reference: object) -> Request:
    """Return the call that asks for a manifest's digest."""
    return Request("HEAD", url(reference), ACCEPT)


def put(reference: object, media_type: str = OCI_MANIFEST) -> Request:
    """Return the call that pushes a manifest."""
    return Request("PUT", url(reference), {"Content-Type": media_type}, RAW)


def named(digest: object) -> dict[str, str]:
    """Return the header that names a digest."""
    return {"docker-content-digest": str(digest)}


# --- Read


@pytest.mark.parametrize(
    ("reference", "said", "digest"),
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
def test_a_manifest_is_its_exact_bytes(
    reference: object, said: dict[str, str], digest: Digest
) -> None:
    """A GET MUST return the manifest's bytes; their digest is computed here (Pulling manifests)."""
    flow = get_manifest(access(), str(reference))
    stored = play(flow, (get(reference), Response(200, TYPE | said, RAW)))
    assert stored == Stored(RAW, OCI_MANIFEST, digest)


@pytest.mark.parametrize("kind", ["text/html", "TEXT/html; charset=utf-8", "application/xhtml+xml"])
@pytest.mark.parametrize("said", [{}, named(DIGEST), LENGTH])
def test_a_page_is_no_manifest(kind: str, said: dict[str, str]) -> None:
    """What a server answers to everything has a hash as well, and is no manifest all the same."""
    page = Response(200, {"content-type": kind} | said, b"<html>")
    for flow, request in ((get_manifest, get), (head_manifest, head)):
        play(
            flow(access(), "v1"),
            (request("v1"), page),
            error=ProtocolViolation,
            match="manifests/v1 is .*ml: that is not an OCI registry's answer",
        )


@pytest.mark.parametrize(
    ("reference", "said", "expected", "actual"),
    [
        ("v1", named(OTHER), OTHER, DIGEST),
        (DIGEST_512, {}, DIGEST_512, Digest.of(b"changed", "sha512")),
        (OTHER, {}, OTHER, DIGEST),
        (OTHER, named(DIGEST), OTHER, DIGEST),
        (OTHER, named(OTHER), OTHER, DIGEST),
    ],
    ids=str,
)
def test_other_bytes_are_a_mismatch(
    reference: object, said: dict[str, str], expected: Digest, actual: Digest
) -> None:
    """Bytes by digest SHOULD be verified; by tag, Docker-Content-Digest says what they are."""
    raw = RAW if actual == DIGEST else b"changed"
    error = play(
        get_manifest(access(), str(reference)),
        (get(reference), Response(200, TYPE | said, raw)),
        error=DigestMismatch,
    )
    assert (error.expected, error.actual) == (str(expected), str(actual))


@pytest.mark.parametrize(
    "reference", [str(BLAKE), "sha256:12", "md5:d41d8cd98f00b204e9800998ecf8427e"]
)
def test_what_cannot_be_verified_is_not_read(reference: str) -> None:
    """A digest is never wrong: one that cannot be computed here is refused, not ignored."""
    play(get_manifest(access(), reference), error=InvalidDigest)
    play(head_manifest(access(), reference), error=InvalidDigest)


@pytest.mark.parametrize(
    ("said", "media_type"),
    [
        (OCI_INDEX, OCI_INDEX),
        (f"{OCI_INDEX}; charset=utf-8", OCI_INDEX),
        (f" {OCI_INDEX} ;", OCI_INDEX),
        ("", ""),
    ],
)
def test_a_media_type_has_no_parameters(said: str, media_type: str) -> None:
    """Parameters of a Content-Type are no part of the media type (RFC 9110, section 8.3.1)."""
    stored = play(
        get_manifest(access(), "v1"), (get("v1"), Response(200, {"content-type": said}, RAW))
    )
    assert stored.media_type == media_type


def test_a_manifest_without_a_content_type_has_none() -> None:
    """What the bytes say of themselves is for who reads them."""
    assert play(get_manifest(access(), "v1"), (get("v1"), Response(200, {}, RAW))).media_type == ""


def test_a_manifest_has_less_than_four_mebibytes() -> None:
    """A limit of 4 megabytes is what registries keep (Pushing Manifests); the driver cuts there."""
    large = b" " * ((4 << 20) - 1)
    play(get_manifest(access(), "v1"), (get("v1"), Response(200, {}, large)))
    for reference in ("v1", str(Digest.of(large + b" "))):
        play(
            get_manifest(access(), reference),
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
def test_a_refusal_is_itself(status: int, kind: type[BrolgaError]) -> None:
    """404 where the manifest is not there (Pulling manifests)."""
    play(get_manifest(access(), "v1"), (get("v1"), Response(status)), error=kind)
    steps = [(head("v1"), Response(status))]
    if status in HEAD_REFUSED:
        steps.append((get("v1"), Response(status)))
    play(head_manifest(access(), "v1"), *steps, error=kind)


def test_a_manifest_may_be_elsewhere() -> None:
    """A read follows redirects; what comes is held against the digest all the same."""
    away = elsewhere(Request("GET", "https://cdn.example/m", ACCEPT))
    there = Response(307, {"location": away.url})
    flow = get_manifest(access(), str(DIGEST))
    assert play(flow, (get(DIGEST), there), (away, Response(200, TYPE, RAW))).digest == DIGEST


# --- Asked for


@pytest.mark.parametrize(
    ("reference", "said", "digest"),
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
def test_a_head_tells_the_descriptor(
    reference: object, said: dict[str, str], digest: Digest | None
) -> None:
    """Docker-Content-Digest names what a tag points to; a digest names itself."""
    steps: list[tuple[Request, Answer]] = [(head(reference), Response(200, TYPE | LENGTH | said))]
    if digest is None:
        steps.append((get(reference), Response(200, TYPE, RAW)))
    descriptor = play(head_manifest(access(), str(reference)), *steps)
    assert descriptor == Descriptor(OCI_MANIFEST, digest or DIGEST, len(RAW))


def test_a_head_that_names_another_digest_is_a_mismatch() -> None:
    """Who asked for a digest must not be told that it is another one."""
    error = play(
        head_manifest(access(), str(DIGEST)),
        (head(DIGEST), Response(200, TYPE | LENGTH | named(OTHER))),
        error=DigestMismatch,
    )
    assert (error.expected, error.actual) == (str(DIGEST), str(OTHER))


@pytest.mark.parametrize(
    "said",
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
    ids=lambda said: repr(said)[-100:],
)
def test_what_a_head_does_not_tell_is_read(said: dict[str, str]) -> None:
    """Docker-Content-Digest is a SHOULD: without it the bytes say what they are."""
    steps = (head("v1"), Response(200, said)), (get("v1"), Response(200, TYPE, RAW))
    descriptor = play(head_manifest(access(), "v1"), *steps)
    assert descriptor == Descriptor(OCI_MANIFEST, DIGEST, len(RAW))


@pytest.mark.parametrize("said", ["", "text", "a b/c\x1b[31m", "/", "a/b/c"])
def test_a_manifest_that_nobody_can_name_has_no_descriptor(said: str) -> None:
    """A descriptor's media type is type/subtype (RFC 6838, 4.2): no ValueError comes out."""
    error = play(
        head_manifest(access(), "v1"),
        (head("v1"), Response(200, {"content-type": said})),
        (get("v1"), Response(200, {"content-type": said}, RAW)),
        error=ProtocolViolation,
        match="Content-Type",
    )
    assert str(error).isprintable()


@pytest.mark.parametrize("status", HEAD_REFUSED)
@pytest.mark.parametrize("reference", ["v1", str(DIGEST)])
def test_a_head_may_be_refused_where_a_get_is_not(status: int, reference: str) -> None:
    """Some refuse every HEAD (google/go-containerregistry#971, containerd/containerd#6684)."""
    steps = (head(reference), Response(status)), (get(reference), Response(200, TYPE, RAW))
    for flow in (head_manifest, find_manifest):
        descriptor = play(flow(access(), reference), *steps[: 1 if flow_ends(flow, status) else 2])
        expected = None if flow_ends(flow, status) else Descriptor(OCI_MANIFEST, DIGEST, len(RAW))
        assert descriptor == expected


def flow_ends(flow: object, status: int) -> bool:
    """Tell whether the answer to HEAD is all that a flow wants to know."""
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
def test_a_type_that_says_nothing_is_the_documents_own(
    kind: str, raw: bytes, media_type: str
) -> None:
    """A store gives octet-stream to what it does not know; `mediaType` SHOULD be there."""
    raw = raw.replace(b"%s", media_type.encode())
    said = {"content-type": kind, "content-length": str(len(raw))} | named(Digest.of(raw))
    full = Response(200, said, raw)
    assert play(get_manifest(access(), "v1"), (get("v1"), full)).media_type == media_type
    steps = (head("v1"), Response(200, said)), (get("v1"), full)
    expected = Descriptor(media_type, Digest.of(raw), len(raw))
    assert play(head_manifest(access(), "v1"), *steps) == expected
    assert play(find_manifest(access(), "v1"), *steps) == expected


@pytest.mark.parametrize("raw", [b"hello", b"", b"\xff"])
def test_a_plain_text_that_is_no_json_is_a_page(raw: bytes) -> None:
    """A proxy says "not here" with 200 as well."""
    response = Response(200, {"content-type": "text/plain"}, raw)
    play(
        get_manifest(access(), "v1"),
        (get("v1"), response),
        error=ProtocolViolation,
        match="is text/plain: that is not an OCI registry's answer",
    )


@pytest.mark.parametrize("length", ["0", "000"])
def test_a_length_of_nothing_is_not_the_size(length: str) -> None:
    """Some say a length of 0 with every HEAD: the size is a part of what refers to a manifest."""
    said = TYPE | named(DIGEST) | {"content-length": length}
    steps = (head("v1"), Response(200, said)), (get("v1"), Response(200, TYPE, RAW))
    assert play(head_manifest(access(), "v1"), *steps).size == len(RAW)


# --- Asked for before it is written


@pytest.mark.parametrize("status", [403, 404])
def test_what_may_not_be_asked_is_not_known_to_be_there(status: int) -> None:
    """Artifactory answers 403 for a manifest that is not there: the write tells of rights."""
    assert play(find_manifest(access(), "v1"), (head("v1"), Response(status))) is None
    for refusal in (405, 501):
        steps = (head("v1"), Response(refusal)), (get("v1"), Response(status))
        assert play(find_manifest(access(), "v1"), *steps) is None


@pytest.mark.parametrize(("status", "kind"), [(401, Unauthorized), (500, RegistryError)])
def test_who_may_not_know_is_told(status: int, kind: type[BrolgaError]) -> None:
    """No answer is not the answer no."""
    play(find_manifest(access(), "v1"), (head("v1"), Response(status)), error=kind)
    steps = (head("v1"), Response(405)), (get("v1"), Response(status))
    play(find_manifest(access(), "v1"), *steps, error=kind)


def test_what_is_known_to_be_there_is_described() -> None:
    """One request, if the answer tells all."""
    response = Response(200, TYPE | LENGTH | named(DIGEST))
    found = play(find_manifest(access(), "v1"), (head("v1"), response))
    assert found == Descriptor(OCI_MANIFEST, DIGEST, len(RAW))


# --- Pushed


@pytest.mark.parametrize("status", [200, 201, 202])
@pytest.mark.parametrize(
    ("reference", "said", "digest"),
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
def test_a_manifest_is_pushed_as_its_exact_bytes(
    reference: object, said: dict[str, str], digest: Digest, status: int
) -> None:
    """201 Created (Pushing Manifests, end-7); the Content-Type is its media type."""
    flow = put_manifest(access(), str(reference), RAW, OCI_MANIFEST)
    assert play(flow, (put(reference), Response(status, said))) == Receipt(digest, subject=False)


@pytest.mark.parametrize("subject", [str(OTHER), ""])
def test_a_subject_that_was_taken_up_is_told(subject: str) -> None:
    """A registry with the referrers API MUST set OCI-Subject (Manifests with Subject)."""
    flow = put_manifest(access(), "v1", RAW, OCI_MANIFEST)
    assert play(flow, (put("v1"), Response(201, {"oci-subject": subject}))).subject is True


@pytest.mark.parametrize(
    ("reference", "said", "sent"),
    [
        ("v1", OTHER, DIGEST),
        (DIGEST, OTHER, DIGEST),
        (DIGEST_512, Digest.of(b"other", "sha512"), DIGEST_512),
    ],
    ids=str,
)
def test_another_digest_was_stored(reference: object, said: Digest, sent: Digest) -> None:
    """The registry's own word is that it has other bytes."""
    error = play(
        put_manifest(access(), str(reference), RAW, OCI_MANIFEST),
        (put(reference), Response(201, named(said))),
        error=DigestMismatch,
    )
    assert (error.expected, error.actual) == (str(sent), str(said))


def test_a_manifest_is_pushed_again_after_a_lost_answer() -> None:
    """PUT is idempotent (RFC 9110, 9.2.2): the same bytes under the same name."""
    flow = put_manifest(access(retry=Retry(attempts=3)), "v1", RAW, OCI_MANIFEST)
    request = put("v1")
    play(
        flow,
        (request, CUT),
        (later(request, 0.5), Response(503)),
        (later(request, 1.5), Response(201)),
    )


@pytest.mark.parametrize("status", [400, 403, 405, 409, 412])
def test_a_tag_that_must_not_change_was_written_by_the_lost_attempt(status: int) -> None:
    """The first PUT was done and nobody heard of it: the second one meets an immutable tag."""
    way, request = access(retry=Retry(attempts=2)), put("v1")
    lost = (request, CUT), (later(request, 0.5), Response(status))
    there = head("v1"), Response(200, TYPE | LENGTH | named(DIGEST))
    flow = put_manifest(way, "v1", RAW, OCI_MANIFEST)
    assert play(flow, *lost, there) == Receipt(DIGEST, subject=False)
    for other in (Response(404), Response(200, TYPE | LENGTH | named(OTHER))):
        flow = put_manifest(way, "v1", RAW, OCI_MANIFEST)
        play(flow, *lost, (head("v1"), other), error=RegistryError, match=str(status))


def test_a_token_that_died_is_renewed_to_push_the_manifest() -> None:
    """The manifest comes last, after minutes of blobs."""
    flow = put_manifest(access(), "v1", RAW, OCI_MANIFEST)
    bearer = authorized(put("v1"), "Bearer t1"), Response(201)
    play(flow, (put("v1"), Response(401, BEARER)), (token_call(), TOKEN), bearer)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, RegistryError),
        (401, Unauthorized),
        (403, Denied),
        (404, NotFound),
        (413, RegistryError),
        (204, ProtocolViolation),
        (307, ProtocolViolation),
    ],
)
def test_a_manifest_that_is_refused_is_told(status: int, kind: type[BrolgaError]) -> None:
    """MANIFEST_BLOB_UNKNOWN, MANIFEST_INVALID and others (Error Codes)."""
    flow = put_manifest(access(), "v1", RAW, OCI_MANIFEST)
    response = Response(status, {"location": "/x"}, b'{"errors": [{"code": "MANIFEST_INVALID"}]}')
    error = play(flow, (put("v1"), response), error=kind)
    assert not isinstance(error, RegistryError) or error.code == "MANIFEST_INVALID"


@pytest.mark.parametrize("reference", [str(BLAKE), "sha256:12"])
def test_what_cannot_be_verified_is_not_pushed(reference: str) -> None:
    """Nobody here could say whether the bytes are those of the digest."""
    play(put_manifest(access(), reference, RAW, OCI_MANIFEST), error=InvalidDigest)


# --- Deleted


@pytest.mark.parametrize("status", [200, 202, 204])
@pytest.mark.parametrize("reference", ["v1", str(DIGEST)])
def test_a_manifest_or_a_tag_is_deleted(status: int, reference: str) -> None:
    """202 Accepted (Deleting tags, Deleting Manifests)."""
    request = Request("DELETE", url(reference))
    play(delete_manifest(access(), reference), (request, Response(status)))


@pytest.mark.parametrize(
    ("status", "kind"), [(404, NotFound), (405, RegistryError), (400, RegistryError)]
)
def test_what_is_not_deleted_is_told(status: int, kind: type[BrolgaError]) -> None:
    """404 where it is not found, 400 or 405 where deletion is disabled (Deleting tags)."""
    play(
        delete_manifest(access(), "v1"),
        (Request("DELETE", url("v1")), Response(status)),
        error=kind,
    )


@pytest.mark.parametrize("lost", [CUT, TransportError("late", reason="timeout"), Response(502)])
def test_what_the_lost_attempt_deleted_is_deleted(lost: Answer) -> None:
    """DELETE is idempotent (RFC 9110, 9.2.2): the second one finds nothing, as was wanted."""
    way, request = access(retry=Retry(attempts=2)), Request("DELETE", url("v1"))
    play(delete_manifest(way, "v1"), (request, lost), (later(request, 0.5), Response(404)))


@pytest.mark.parametrize("refused", [TransportError("no", reason="connect"), Response(503)])
def test_what_no_attempt_deleted_is_not_found(refused: Answer) -> None:
    """A call that did not arrive, or was refused, did nothing."""
    way, request = access(retry=Retry(attempts=2)), Request("DELETE", url("v1"))
    steps = (request, refused), (later(request, 0.5), Response(404))
    play(delete_manifest(way, "v1"), *steps, error=NotFound)
