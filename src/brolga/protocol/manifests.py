"""Fetch, describe, push and delete manifests by tag or digest (Pulling and Pushing manifests).

Manifests are exact bytes. A manifest is verified against the digest of the request, or against
Docker-Content-Digest. If HEAD does not give the descriptor, GET does; if Content-Type does not
give the media type, the document does.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import urlencode

from brolga.errors import Denied, DigestMismatch, InvalidManifest, NotFound, ProtocolViolation
from brolga.protocol import responses
from brolga.protocol.http import Flow, Request, Response
from brolga.protocol.responses import content_digest, raise_for_status, reject_html
from brolga.spec.descriptor import Descriptor
from brolga.spec.digest import Digest, check_computable
from brolga.spec.mediatypes import DOCKER_MANIFEST, DOCKER_MANIFEST_LIST, OCI_INDEX, OCI_MANIFEST

if TYPE_CHECKING:
    from collections.abc import Collection

    from brolga.protocol.auth import Access

# Without Docker's schema 1: a registry that has nothing else says so.
_ACCEPT: Final = {
    "Accept": f"{OCI_MANIFEST}, {OCI_INDEX}, {DOCKER_MANIFEST}, {DOCKER_MANIFEST_LIST}"
}
# What the driver keeps of a body; registries accept manifests of 4 MB (Pushing Manifests).
_MAX_SIZE: Final = 4 << 20
# Some registries send a length of 0 with every HEAD; a manifest is not empty.
_LENGTH: Final = "0*[1-9][0-9]{0,17}"
# Types that a store or an HTTP library gives to a file of unknown type.
_GENERIC_TYPES: Final = {
    "",
    "application/json",
    "application/octet-stream",
    "binary/octet-stream",
    "text/plain",
}
# How registries refuse to change an immutable tag.
_IMMUTABLE: Final = (400, 403, 405, 409, 412)
# HEAD may be refused if GET is not (google/go-containerregistry#971, containerd/containerd#6684).
_NO_HEAD_METHOD: Final = (405, 501)
_NO_HEAD: Final = (403, 404, *_NO_HEAD_METHOD)
# "SHOULD support pushing at least 10 tags per request" (Pushing Manifests).
_TAGS_PER_REQUEST: Final = 10
# How a registry refuses a request with too many tags (414, 431), or a digest or a query there.
_NO_TAG_PARAMETERS: Final = (400, 404, 405, 414, 431)


class FetchedManifest(NamedTuple):
    """A manifest as a registry stores it: its exact bytes, media type and digest."""

    raw: bytes
    media_type: str
    digest: Digest


class PutResult(NamedTuple):
    """The digest of a pushed manifest, and whether the registry processed its subject.

    `tags_left` are the tags that the registry did not set.
    """

    digest: Digest
    subject_processed: bool
    tags_left: tuple[str, ...] = ()


def get_manifest(access: Access, reference: str, delay_s: float = 0.0) -> Flow[FetchedManifest]:
    """Fetch the manifest of a tag or digest, after a delay (end-3).

    Raises DigestMismatch if the bytes have another digest, InvalidManifest if there are too many
    of them, InvalidDigest for a digest that cannot be computed here, NotFound, RegistryError.
    """
    expected = _parse_digest(reference)
    request = Request("GET", access.url(f"manifests/{reference}"), _ACCEPT, delay_s=delay_s)
    response = yield from access.send(request)
    raise_for_status(request, response, HTTPStatus.OK)
    reject_html(request, response)
    if len(response.body) >= _MAX_SIZE:
        raise InvalidManifest(f"the manifest {reference} has {_MAX_SIZE} bytes or more")
    expected = expected or content_digest(response)
    digest = Digest.of(response.body, expected.algorithm if expected else "sha256")
    if expected is not None:
        _check_equal("the registry gave a manifest of {actual} as {expected}", expected, digest)
    media_type = responses.media_type(response)
    if media_type.lower() in _GENERIC_TYPES:
        from brolga.spec.index import parse_manifest

        try:
            media_type = parse_manifest(response.body).media_type
        except InvalidManifest:
            media_type = ""
    return FetchedManifest(response.body, media_type, digest)


def head_manifest(access: Access, reference: str) -> Flow[Descriptor]:
    """Return the descriptor of a tag or digest (end-3); by GET if HEAD is refused or incomplete."""
    return (yield from _describe(access, reference, _NO_HEAD))


def find_manifest(access: Access, reference: str) -> Flow[Descriptor | None]:
    """Return the descriptor of a tag or digest that will be written; None if it may not exist.

    404 means so, and 403: Artifactory sends that for a missing manifest. If the rights are
    missing, the write fails. Raises as `head_manifest`.
    """
    try:
        return (yield from _describe(access, reference, _NO_HEAD_METHOD))
    except (NotFound, Denied):
        return None


def _describe(access: Access, reference: str, no_head: tuple[int, ...]) -> Flow[Descriptor]:
    """Return the descriptor from HEAD, or from GET if it is incomplete or its status `no_head`."""
    expected = _parse_digest(reference)
    request = Request("HEAD", access.url(f"manifests/{reference}"), _ACCEPT)
    response = yield from access.send(request)
    # A redirected HEAD may be refused because the URL is signed for GET alone.
    is_refused = response.status in (_NO_HEAD if response.redirected_to else no_head)
    if not is_refused:
        descriptor = _read_head(request, response, expected)
        if descriptor is not None:
            return descriptor
    manifest = yield from get_manifest(access, reference)
    try:
        return Descriptor(manifest.media_type, manifest.digest, len(manifest.raw))
    except ValueError as error:
        raise ProtocolViolation(
            f"the registry gave the manifest {reference} without a usable Content-Type: {error}"
        ) from error


def _read_head(request: Request, response: Response, expected: Digest | None) -> Descriptor | None:
    """Return the descriptor in a response to HEAD, or None if it is incomplete."""
    raise_for_status(request, response, HTTPStatus.OK)
    media_type = responses.media_type(response)
    is_generic = media_type.lower() in _GENERIC_TYPES
    if not is_generic:
        reject_html(request, response)
    actual = content_digest(response)
    if expected is not None and actual is not None:
        _check_equal("the registry says that {expected} is {actual}", expected, actual)
    digest, length = expected or actual, response.headers.get("content-length", "")
    if digest is None or is_generic or not re.fullmatch(_LENGTH, length):
        return None
    try:
        return Descriptor(media_type, digest, int(length))
    except ValueError:  # not a valid media type: the response to GET may have one
        return None


def put_manifest(access: Access, reference: str, raw: bytes, media_type: str) -> Flow[PutResult]:
    """Push a manifest's exact bytes under a tag or its digest (end-7).

    If an attempt has an unknown outcome and the tag is immutable, the tag itself shows whether
    that attempt succeeded. `subject_processed` is False then.
    """
    expected = _parse_digest(reference)
    url = access.url(f"manifests/{reference}")
    request = Request("PUT", url, {"Content-Type": media_type}, raw)
    response = yield from access.send(request)
    digest = Digest.of(raw, expected.algorithm if expected else "sha256")
    may_be_stored = response.retried and response.status in _IMMUTABLE
    if may_be_stored and (yield from _is_name_of(access, reference, digest)):
        return PutResult(digest, subject_processed=False)
    return _read_put(request, response, digest)


def put_with_tags(
    access: Access, digest: Digest, tags: Collection[str], raw: bytes, media_type: str
) -> Flow[PutResult]:
    """Push a manifest's exact bytes under its digest, with tags as parameters (end-7b).

    Registries that know the parameters name in OCI-Tag each tag that they have set
    (opencontainers/distribution-spec#600, commit ed885fa). All other tags are left, to be set one
    by one.
    """
    left, processed = tuple(dict.fromkeys(tags)), False
    while True:
        batch = left[:_TAGS_PER_REQUEST]
        query = "?" + urlencode([("tag", tag) for tag in batch]) if batch else ""
        url = access.url(f"manifests/{digest}{query}")
        request = Request("PUT", url, {"Content-Type": media_type}, raw)
        response = yield from access.send(request)
        may_be_set = response.retried and response.status in _IMMUTABLE
        if batch and (may_be_set or response.status in _NO_TAG_PARAMETERS):
            if may_be_set:
                left = yield from _tags_not_set(access, digest, left)
            return PutResult(digest, processed, left)
        result = _read_put(request, response, digest)
        processed |= result.subject_processed
        tags_set = {tag.strip() for tag in response.headers.get("oci-tag", "").split(",")}
        rest = tuple(tag for tag in left if tag not in tags_set)
        if not rest or not tags_set.issuperset(batch):
            return PutResult(digest, processed, rest)
        left = rest


def delete_manifest(access: Access, reference: str) -> Flow[None]:
    """Delete a manifest or, if the registry supports it, a tag (end-9). Raises NotFound."""
    request = Request("DELETE", access.url(f"manifests/{reference}"))
    responses.raise_unless_deleted(request, (yield from access.send(request)))


def _is_name_of(access: Access, reference: str, digest: Digest) -> Flow[bool]:
    """Return whether a tag or digest stands for a manifest."""
    descriptor = yield from find_manifest(access, reference)
    return descriptor is not None and descriptor.digest == digest


def _tags_not_set(access: Access, digest: Digest, tags: tuple[str, ...]) -> Flow[tuple[str, ...]]:
    """Return those of `tags` that do not stand for a manifest."""
    left: tuple[str, ...] = ()
    for tag in tags:
        is_set = yield from _is_name_of(access, tag, digest)
        left += () if is_set else (tag,)
    return left


def _read_put(request: Request, response: Response, digest: Digest) -> PutResult:
    """Return the result of a PUT. Raises RegistryError, or DigestMismatch for another digest."""
    raise_for_status(request, response, 201, 200, 202)
    if (actual := content_digest(response)) is not None:
        _check_equal("the registry stored the manifest {expected} as {actual}", digest, actual)
    return PutResult(digest, "oci-subject" in response.headers)


def _parse_digest(reference: str) -> Digest | None:
    """Return the digest that a reference is, or None for a tag. Raises InvalidDigest."""
    if ":" not in reference:
        return None
    digest = Digest.parse(reference)
    check_computable(digest.algorithm)
    return digest


def _check_equal(text: str, expected: Digest, actual: Digest) -> None:
    """Raise DigestMismatch if two digests of one algorithm differ."""
    if expected.algorithm == actual.algorithm and expected != actual:
        message = text.format(expected=expected, actual=actual)
        raise DigestMismatch(message, expected=expected, actual=actual)
