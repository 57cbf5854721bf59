"""wire/manifests.py: manifests by tag and by digest; the digest that they really have."""

from __future__ import annotations

import pytest
from tests.wire.scripted import (
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

from brolga.descriptor import Descriptor
from brolga.digest import Digest
from brolga.errors import (
    BrolgaError,
    Denied,
    DigestMismatch,
    InvalidDigest,
    InvalidManifest,
    NotFound,
    ProtocolViolation,
    RegistryError,
    TransportFailed,
    Unauthorized,
)
from brolga.mediatypes import OCI_INDEX, OCI_MANIFEST
from brolga.wire import (
    Call,
    Receipt,
    Reply,
    Retry,
    Stored,
    delete_manifest,
    get_manifest,
    head_manifest,
    put_manifest,
)

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
TOKEN = Reply(200, body=b'{"token": "t1"}')
CUT = TransportFailed("cut", reason="cut")


def url(reference: object) -> str:
    """Return a manifest's URL."""
    return f"{HOME}/v2/team/app/manifests/{reference}"


def get(reference: object) -> Call:
    """Return the call that reads a manifest."""
    return Call("GET", url(reference), ACCEPT)


def head(reference: object) -> Call:
    """Return the call that asks for a manifest's digest."""
    return Call("HEAD", url(reference), ACCEPT)


def put(reference: object, media_type: str = OCI_MANIFEST) -> Call:
    """Return the call that pushes a manifest."""
    return Call("PUT", url(reference), {"Content-Type": media_type}, RAW)


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
    stored = play(flow, (get(reference), Reply(200, TYPE | said, RAW)))
    assert stored == Stored(RAW, OCI_MANIFEST, digest)


@pytest.mark.parametrize("kind", ["text/html", "TEXT/html; charset=utf-8", "application/xhtml+xml"])
@pytest.mark.parametrize("said", [{}, named(DIGEST), LENGTH])
def test_a_page_is_no_manifest(kind: str, said: dict[str, str]) -> None:
    """What a server answers to everything has a hash as well, and is no manifest all the same."""
    page = Reply(200, {"content-type": kind} | said, b"<html>")
    for flow, call in ((get_manifest, get), (head_manifest, head)):
        play(
            flow(access(), "v1"),
            (call("v1"), page),
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
        (get(reference), Reply(200, TYPE | said, raw)),
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
        get_manifest(access(), "v1"), (get("v1"), Reply(200, {"content-type": said}, RAW))
    )
    assert stored.media_type == media_type


def test_a_manifest_without_a_content_type_has_none() -> None:
    """What the bytes say of themselves is for who reads them."""
    assert play(get_manifest(access(), "v1"), (get("v1"), Reply(200, {}, RAW))).media_type == ""


def test_a_manifest_has_less_than_four_mebibytes() -> None:
    """A limit of 4 megabytes is what registries keep (Pushing Manifests); the driver cuts there."""
    large = b" " * ((4 << 20) - 1)
    play(get_manifest(access(), "v1"), (get("v1"), Reply(200, {}, large)))
    for reference in ("v1", str(Digest.of(large + b" "))):
        play(
            get_manifest(access(), reference),
            (get(reference), Reply(200, {}, large + b" ")),
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
    play(get_manifest(access(), "v1"), (get("v1"), Reply(status)), error=kind)
    play(head_manifest(access(), "v1"), (head("v1"), Reply(status)), error=kind)


def test_a_manifest_may_be_elsewhere() -> None:
    """A read follows redirects; what comes is held against the digest all the same."""
    away = elsewhere(Call("GET", "https://cdn.example/m", ACCEPT))
    there = Reply(307, {"location": away.url})
    flow = get_manifest(access(), str(DIGEST))
    assert play(flow, (get(DIGEST), there), (away, Reply(200, TYPE, RAW))).digest == DIGEST


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
    steps: list[tuple[Call, Answer]] = [(head(reference), Reply(200, TYPE | LENGTH | said))]
    if digest is None:
        steps.append((get(reference), Reply(200, TYPE, RAW)))
    descriptor = play(head_manifest(access(), str(reference)), *steps)
    assert descriptor == Descriptor(OCI_MANIFEST, digest or DIGEST, len(RAW))


def test_a_head_that_names_another_digest_is_a_mismatch() -> None:
    """Who asked for a digest must not be told that it is another one."""
    error = play(
        head_manifest(access(), str(DIGEST)),
        (head(DIGEST), Reply(200, TYPE | LENGTH | named(OTHER))),
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
    steps = (head("v1"), Reply(200, said)), (get("v1"), Reply(200, TYPE, RAW))
    descriptor = play(head_manifest(access(), "v1"), *steps)
    assert descriptor == Descriptor(OCI_MANIFEST, DIGEST, len(RAW))


@pytest.mark.parametrize("said", ["", "text", "a b/c\x1b[31m", "/", "a/b/c"])
def test_a_manifest_that_nobody_can_name_has_no_descriptor(said: str) -> None:
    """A descriptor's media type is type/subtype (RFC 6838, 4.2): no ValueError comes out."""
    error = play(
        head_manifest(access(), "v1"),
        (head("v1"), Reply(200, {"content-type": said})),
        (get("v1"), Reply(200, {"content-type": said}, RAW)),
        error=ProtocolViolation,
        match="Content-Type",
    )
    assert str(error).isprintable()


def test_a_head_may_be_refused_where_a_get_is_not() -> None:
    """Its error is told as it is: who needs the bytes can still read them."""
    play(head_manifest(access(), "v1"), (head("v1"), Reply(405)), error=RegistryError)


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
    assert play(flow, (put(reference), Reply(status, said))) == Receipt(digest, subject=False)


@pytest.mark.parametrize("subject", [str(OTHER), ""])
def test_a_subject_that_was_taken_up_is_told(subject: str) -> None:
    """A registry with the referrers API MUST set OCI-Subject (Manifests with Subject)."""
    flow = put_manifest(access(), "v1", RAW, OCI_MANIFEST)
    assert play(flow, (put("v1"), Reply(201, {"oci-subject": subject}))).subject is True


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
        (put(reference), Reply(201, named(said))),
        error=DigestMismatch,
    )
    assert (error.expected, error.actual) == (str(sent), str(said))


def test_a_manifest_is_pushed_again_after_a_lost_answer() -> None:
    """PUT is idempotent (RFC 9110, 9.2.2): the same bytes under the same name."""
    flow = put_manifest(access(retry=Retry(attempts=3)), "v1", RAW, OCI_MANIFEST)
    call = put("v1")
    play(flow, (call, CUT), (later(call, 0.5), Reply(503)), (later(call, 1.5), Reply(201)))


def test_a_token_that_died_is_renewed_to_push_the_manifest() -> None:
    """The manifest comes last, after minutes of blobs."""
    flow = put_manifest(access(), "v1", RAW, OCI_MANIFEST)
    bearer = authorized(put("v1"), "Bearer t1"), Reply(201)
    play(flow, (put("v1"), Reply(401, BEARER)), (token_call(), TOKEN), bearer)


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
    reply = Reply(status, {"location": "/x"}, b'{"errors": [{"code": "MANIFEST_INVALID"}]}')
    error = play(flow, (put("v1"), reply), error=kind)
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
    call = Call("DELETE", url(reference))
    play(delete_manifest(access(), reference), (call, Reply(status)))


@pytest.mark.parametrize(
    ("status", "kind"), [(404, NotFound), (405, RegistryError), (400, RegistryError)]
)
def test_what_is_not_deleted_is_told(status: int, kind: type[BrolgaError]) -> None:
    """404 where it is not found, 400 or 405 where deletion is disabled (Deleting tags)."""
    play(delete_manifest(access(), "v1"), (Call("DELETE", url("v1")), Reply(status)), error=kind)
