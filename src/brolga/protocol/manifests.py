"""Manifests in a registry: read, asked for, pushed, deleted, by tag or by digest.

Knows the distribution-spec's "Pulling manifests" and "Pushing manifests". Must not know what a
manifest says, but for its media type: that is `brolga.spec`.

Strategy: exact bytes go in and out. What comes by digest is held against it; what comes by tag is
held against what the registry says that it is. What a HEAD does not tell, a GET does; what the
Content-Type does not tell, the document does.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from brolga.errors import (
    Denied,
    DigestMismatch,
    InvalidManifest,
    NotFound,
    ProtocolViolation,
)
from brolga.protocol.http import Request
from brolga.protocol.responses import (
    expect_deleted,
    media_type,
    named_digest,
    raise_for_status,
    reject_html,
)
from brolga.spec.descriptor import Descriptor
from brolga.spec.digest import Digest, hasher
from brolga.spec.index import parse_manifest
from brolga.spec.mediatypes import DOCKER_MANIFEST, DOCKER_MANIFEST_LIST, OCI_INDEX, OCI_MANIFEST

if TYPE_CHECKING:
    from brolga.protocol.access import Access
    from brolga.protocol.http import Flow, Response

__all__ = [
    "Receipt",
    "Stored",
    "delete_manifest",
    "find_manifest",
    "get_manifest",
    "head_manifest",
    "put_manifest",
]

_OK: Final = 200
# Docker's schema 1 is not among them: a registry that has nothing else says so.
_ACCEPT: Final = {
    "Accept": f"{OCI_MANIFEST}, {OCI_INDEX}, {DOCKER_MANIFEST}, {DOCKER_MANIFEST_LIST}"
}
# What the driver keeps of an answer; registries take manifests of 4 MB (Pushing Manifests).
_MAX_SIZE: Final = 4 << 20
# Some say a length of 0 with every HEAD: no manifest is empty.
_LENGTH: Final = re.compile("0*[1-9][0-9]{0,17}")
# Types that a store or an HTTP library gives to whatever it does not know.
_SAYS_NOTHING: Final = {
    "",
    "application/json",
    "application/octet-stream",
    "binary/octet-stream",
    "text/plain",
}
# How registries refuse to write a tag again that must not change.
_UNCHANGEABLE: Final = (400, 403, 405, 409, 412)
_ABSENT: Final = (403, 404)
# HEAD is refused where GET may work (google/go-containerregistry#971, containerd/containerd#6684).
_NO_HEAD: Final = (*_ABSENT, 405, 501)


class Stored(NamedTuple):
    """A manifest as a registry holds it: its exact bytes, media type and digest."""

    raw: bytes
    media_type: str
    digest: Digest


class Receipt(NamedTuple):
    """What a registry said to a manifest: whether it has taken up its subject."""

    digest: Digest
    subject: bool


def get_manifest(access: Access, reference: str, pause_s: float = 0.0) -> Flow[Stored]:
    """Read the manifest that a tag or a digest names, after a pause (end-3).

    Raises DigestMismatch where the bytes are not those of the digest, InvalidManifest where there
    are too many of them, InvalidDigest for a digest that cannot be computed here, NotFound,
    RegistryError, ProtocolViolation for a page instead of a manifest.
    """
    named = _named(reference)
    request = Request("GET", access.url(f"manifests/{reference}"), _ACCEPT, delay_s=pause_s)
    response = yield from access.send(request)
    raise_for_status(request, response, _OK)
    reject_html(request, response)
    if len(response.body) >= _MAX_SIZE:
        raise InvalidManifest(f"the manifest {reference} has {_MAX_SIZE} bytes or more")
    said = named or named_digest(response)
    digest = Digest.of(response.body, said.algorithm if said else "sha256")
    if said is not None:
        _expect_equal("the registry gave a manifest of {actual} as {expected}", said, digest)
    return Stored(response.body, _type_of(response), digest)


def head_manifest(access: Access, reference: str) -> Flow[Descriptor]:
    """Ask what a tag or a digest names, by GET where HEAD is refused or tells too little (end-3).

    Raises ProtocolViolation where it has no media type, and what `get_manifest` raises.
    """
    request, response = yield from _head(access, reference)
    if (
        response.status not in _NO_HEAD
        and (found := _told(request, response, reference)) is not None
    ):
        return found
    return (yield from _described(access, reference))


def find_manifest(access: Access, reference: str) -> Flow[Descriptor | None]:
    """Ask what a tag or a digest names before it is written; None where it is not known to exist.

    That is a 404, and a 403 too: Artifactory gives it for what is not there. Who lacks the rights
    learns it from the write. Raises as `head_manifest`.
    """
    request, response = yield from _head(access, reference)
    if response.status in _ABSENT:
        return None
    if (
        response.status not in _NO_HEAD
        and (found := _told(request, response, reference)) is not None
    ):
        return found
    try:
        return (yield from _described(access, reference))
    except (NotFound, Denied):
        return None


def _head(access: Access, reference: str) -> Flow[tuple[Request, Response]]:
    """Ask for a manifest by HEAD; return call and answer. Raises InvalidDigest."""
    _named(reference)
    request = Request("HEAD", access.url(f"manifests/{reference}"), _ACCEPT)
    return request, (yield from access.send(request))


def _told(request: Request, response: Response, reference: str) -> Descriptor | None:
    """Return the descriptor that an answer to HEAD tells, None where it does not tell all of it."""
    raise_for_status(request, response, _OK)
    kind = media_type(response)
    if kind.lower() not in _SAYS_NOTHING:
        reject_html(request, response)
    named, said = _named(reference), named_digest(response)
    if named is not None and said is not None:
        _expect_equal("the registry says that {expected} is {actual}", named, said)
    digest, length = named or said, response.headers.get("content-length", "")
    if digest is None or kind.lower() in _SAYS_NOTHING or not _LENGTH.fullmatch(length):
        return None
    try:
        return Descriptor(kind, digest, int(length))
    except ValueError:  # no media type: the whole answer may have one
        return None


def _described(access: Access, reference: str) -> Flow[Descriptor]:
    """Read a manifest, and describe it. Raises as `get_manifest`, and ProtocolViolation."""
    stored = yield from get_manifest(access, reference)
    try:
        return Descriptor(stored.media_type, stored.digest, len(stored.raw))
    except ValueError as error:
        raise ProtocolViolation(
            f"the registry gave the manifest {reference} without a usable Content-Type: {error}"
        ) from error


def put_manifest(access: Access, reference: str, raw: bytes, kind: str) -> Flow[Receipt]:
    """Push a manifest's exact bytes, of the media type `kind`, under a tag or its digest (end-7).

    If an earlier attempt had no known outcome, and the tag must not change, what the tag stands for
    tells whether that was done. The receipt then names no subject.

    Raises DigestMismatch where the registry stored other bytes, RegistryError where it refused,
    InvalidDigest for a digest that cannot be computed here.
    """
    named = _named(reference)
    url = access.url(f"manifests/{reference}")
    request = Request("PUT", url, {"Content-Type": kind}, raw)
    response = yield from access.send(request)
    digest = Digest.of(raw, named.algorithm if named else "sha256")
    if response.retried and response.status in _UNCHANGEABLE:
        found = yield from find_manifest(access, reference)
        if found is not None and found.digest == digest:
            return Receipt(digest, subject=False)
    raise_for_status(request, response, 201, 200, 202)
    if (said := named_digest(response)) is not None:
        text = "the registry stored the manifest as {actual}, where {expected} was sent"
        _expect_equal(text, digest, said)
    return Receipt(digest, "oci-subject" in response.headers)


def delete_manifest(access: Access, reference: str) -> Flow[None]:
    """Delete a manifest, or a tag where the registry does that (end-9). Raises NotFound."""
    request = Request("DELETE", access.url(f"manifests/{reference}"))
    expect_deleted(request, (yield from access.send(request)))


def _type_of(response: Response) -> str:
    """Return the media type of a manifest: the answer's or, if that says nothing, its own.

    "" where neither tells it.
    """
    said = media_type(response)
    if said.lower() not in _SAYS_NOTHING:
        return said
    try:
        return parse_manifest(response.body).media_type
    except InvalidManifest:
        return ""


def _named(reference: str) -> Digest | None:
    """Return the digest that a reference is, or None for a tag, which has no colon.

    Raises InvalidDigest for one that cannot be computed here: nothing could be held against it.
    """
    if ":" not in reference:
        return None
    digest = Digest.parse(reference)
    hasher(digest.algorithm)
    return digest


def _expect_equal(text: str, expected: Digest, actual: Digest) -> None:
    """Raise DigestMismatch where two digests of one algorithm differ."""
    # Two algorithms name the same bytes in two ways: that is no contradiction.
    if expected.algorithm == actual.algorithm and expected != actual:
        raise DigestMismatch(
            text.format(expected=expected, actual=actual),
            expected=str(expected),
            actual=str(actual),
        )
