"""List and change what refers to a manifest (Listing Referrers, Referrers Tag Schema).

A registry without the referrers API has an index under a tag made from the subject's digest,
which the client maintains. Nothing locks that tag, so a client that read it before our write may
overwrite ours. `add_referrer` therefore reads the tag again after a delay, longer than a client
takes from its read to its write, and repeats the write. A slower client still wins.
"""

from __future__ import annotations

import re
from contextlib import suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from brolga.errors import InvalidDigest, InvalidManifest, NotFound, ProtocolViolation
from brolga.protocol.http import Flow, Request
from brolga.protocol.listing import ListLimits, next_page
from brolga.protocol.manifests import get_manifest, put_manifest
from brolga.protocol.responses import raise_for_status, reject_html
from brolga.spec.digest import Digest
from brolga.spec.index import Index
from brolga.spec.mediatypes import OCI_INDEX

if TYPE_CHECKING:
    from collections.abc import Callable

    from brolga.protocol.auth import Access
    from brolga.spec.descriptor import Descriptor

# How registries without the API respond. GHCR redirects with 303 to one of these. Old Harbor sends
# 401 without a challenge, or 403: if the rights are missing, reading the tag fails as well.
_NO_API: Final = (303, 400, 401, 403, 404, 405, 406, 501)
_MAX_PAGES: Final = 1000
_MAX_ENTRIES: Final = 100_000
_MAX_SIZE: Final = 64 << 20  # bytes
_ATTEMPTS: Final = 10
# The delay before a write is read again grows, so that concurrent writers drift apart.
_INITIAL_DELAY_S: Final = 0.2
_MAX_DELAY_S: Final = 1.0
# "truncated to 32 characters … to 64 characters" (Referrers Tag Schema).
_MAX_ALGORITHM: Final = 32
_MAX_ENCODED: Final = 64
_NOT_IN_TAGS: Final = "[^a-zA-Z0-9._-]"


def referrers_tag(subject: Digest) -> str:
    """Return the tag under which a registry without the API has the referrers."""
    tag = f"{subject.algorithm[:_MAX_ALGORITHM]}-{subject.encoded[:_MAX_ENCODED]}"
    return re.sub(_NOT_IN_TAGS, "-", tag)


def list_referrers(
    access: Access, subject: Digest, artifact_type: str = ""
) -> Flow[tuple[Descriptor, ...]]:
    """Return the referrers of `subject`, of one artifact type if it is given (end-12a, 12b)."""
    query = f"?artifactType={quote(artifact_type, safe='')}" if artifact_type else ""
    url, is_first = access.url(f"referrers/{subject}{query}"), True
    limits = ListLimits("referrers", _MAX_PAGES, _MAX_ENTRIES, _MAX_SIZE)
    referrers: list[Descriptor] = []
    while url:
        request = Request("GET", url, {"Accept": OCI_INDEX})
        response = yield from access.send(request)
        # A 401 with a challenge means insufficient credentials, not that the API is missing.
        is_challenge = (
            response.status == HTTPStatus.UNAUTHORIZED and "www-authenticate" in response.headers
        )
        if is_first and response.status in _NO_API and not is_challenge:
            index, url = (yield from _get_index(access, subject)), ""
        else:
            raise_for_status(request, response, HTTPStatus.OK)
            limits.count_bytes(request, response)
            reject_html(request, response)
            index = _parse_index(access, subject, response.body)
            url = next_page(access, request, response)
        limits.count_page(request, len(index.manifests), is_last=not url)
        is_first = False
        # A registry need not filter (OCI-Filters-Applied).
        referrers += [
            referrer
            for referrer in index.manifests
            if artifact_type in {"", referrer.artifact_type}
        ]
    return tuple(referrers)


def add_referrer(access: Access, subject: Digest, referrer: Descriptor) -> Flow[None]:
    """Add `referrer` to the referrers tag of `subject` if it is missing.

    Call it if the registry did not respond with OCI-Subject: the client MUST then maintain the
    tag (distribution-spec, Pushing Manifests with Subject).
    """

    def change(manifests: list[Descriptor]) -> list[Descriptor]:
        is_listed = any(manifest.digest == referrer.digest for manifest in manifests)
        return manifests if is_listed else [*manifests, referrer]

    yield from _update_index(access, subject, change)


def remove_referrer(access: Access, subject: Digest, referrer: Digest) -> Flow[None]:
    """Remove a deleted manifest from the referrers tag of `subject` (Deleting Manifests)."""

    def change(manifests: list[Descriptor]) -> list[Descriptor]:
        return [manifest for manifest in manifests if manifest.digest != referrer]

    yield from _update_index(access, subject, change)


def _update_index(
    access: Access, subject: Digest, change: Callable[[list[Descriptor]], list[Descriptor]]
) -> Flow[None]:
    """Write the changed index, until what is read again needs no change."""
    tag, attempt, delay_s = referrers_tag(subject), 0, 0.0
    while True:
        index = yield from _get_index(access, subject, delay_s)
        manifests = list(index.manifests)
        changed = change(manifests)
        if changed == manifests:
            return
        attempt += 1
        if attempt > _ATTEMPTS:
            raise ProtocolViolation(
                f"the tag {tag} does not keep what is written to it: other clients write to it at "
                "the same time, or the registry refuses changes of tags"
            )
        index = index.replace(manifests=changed)
        yield from put_manifest(access, tag, index.raw, index.media_type)
        jitter = 0.5 + access.registry.retry.jitter()
        delay_s = min(attempt * _INITIAL_DELAY_S, _MAX_DELAY_S) * jitter


def _get_index(access: Access, subject: Digest, delay_s: float = 0.0) -> Flow[Index]:
    """Return the index under the referrers tag, an empty one if the tag does not exist.

    GitLab responds to a missing tag with the subject itself (oras-project/oras#2148), which is
    not a list of its own referrers even if it is an index.
    """
    try:
        manifest = yield from get_manifest(access, referrers_tag(subject), delay_s)
    except NotFound:
        return Index.new(())
    with suppress(InvalidDigest):  # its algorithm is not supported here
        if Digest.of(manifest.raw, subject.algorithm) == subject:
            return Index.new(())
    return _parse_index(access, subject, manifest.raw, manifest.media_type)


def _parse_index(access: Access, subject: Digest, raw: bytes, media_type: str = "") -> Index:
    """Parse a list of referrers. Raises InvalidManifest, which names the subject."""
    try:
        return Index.parse(raw, media_type)
    except InvalidManifest as error:
        url = access.url(f"referrers/{subject}")
        raise InvalidManifest(f"the list of referrers {url} is not valid: {error}") from error
