"""What refers to a manifest: signatures, attestations, anything with it as its subject.

Knows the referrers API and, for registries without it, the referrers tag (distribution-spec,
"Listing Referrers", "Referrers Tag Schema"). Must not know what a referrer is about.

Strategy: a registry that takes up a subject says so with OCI-Subject. Where it does not, the
client keeps an index under a tag made from the subject's digest. Nothing locks that tag: another
client that read it before we wrote takes ours away when it writes. So what we wrote is read again
after a pause, longer than a client takes from reading to writing, and written again where it is not
there any more. A client that takes longer than that still wins, and neither learns of it.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from brolga.errors import InvalidDigest, InvalidManifest, NotFound, ProtocolViolation
from brolga.protocol.http import Request
from brolga.protocol.listing import ListLimits, next_page
from brolga.protocol.manifests import get_manifest, put_manifest
from brolga.protocol.responses import raise_for_status, reject_html
from brolga.spec.digest import Digest
from brolga.spec.index import Index
from brolga.spec.mediatypes import OCI_INDEX

if TYPE_CHECKING:
    from collections.abc import Callable

    from brolga.protocol.access import Access
    from brolga.protocol.http import Flow, Response
    from brolga.spec.descriptor import Descriptor

__all__ = ["add_referrer", "list_referrers", "referrers_tag", "remove_referrer"]

_OK: Final = 200
_UNAUTHORIZED: Final = 401
# How registries without the API answer (GHCR sends elsewhere with 303, which ends in one of these).
# Old Harbor says 401 without a challenge, or 403: who really may not read is told so by the tag.
_NO_API: Final = (303, 400, 401, 403, 404, 405, 406, 501)
# What is read of one list.
_MAX_PAGES: Final = 1000
_MAX_ENTRIES: Final = 100_000
_MAX_SIZE: Final = 64 << 20  # bytes
_TRIES: Final = 10
# Seconds after which what was written is read again; longer each time, so that many who write at
# once come apart.
_SETTLE_S: Final = 0.2
_LONGEST_S: Final = 1.0
# "truncated to 32 characters … to 64 characters" (Referrers Tag Schema).
_MAX_ALGORITHM: Final = 32
_MAX_ENCODED: Final = 64
_NOT_IN_TAGS: Final = re.compile("[^a-zA-Z0-9._-]")


def referrers_tag(subject: Digest) -> str:
    """Return the tag under which a registry without the API keeps referrers."""
    tag = f"{subject.algorithm[:_MAX_ALGORITHM]}-{subject.encoded[:_MAX_ENCODED]}"
    return _NOT_IN_TAGS.sub("-", tag)


def list_referrers(
    access: Access, subject: Digest, artifact_type: str = ""
) -> Flow[tuple[Descriptor, ...]]:
    """Return what refers to `subject`, of one artifact type where that is given (end-12a, 12b).

    Raises RegistryError, InvalidManifest, ProtocolViolation for a list without an end.
    """
    query = f"?artifactType={quote(artifact_type, safe='')}" if artifact_type else ""
    url = access.url(f"referrers/{subject}{query}")
    budget = ListLimits("referrers", _MAX_PAGES, _MAX_ENTRIES, _MAX_SIZE)
    found: list[Descriptor] = []
    is_first = True
    while url:
        request = Request("GET", url, {"Accept": OCI_INDEX})
        response = yield from access.send(request)
        if is_first and _has_no_api(response):
            page, url = (yield from _tagged(access, subject)).manifests, ""
        else:
            raise_for_status(request, response, _OK)
            budget.spend(request, response)
            reject_html(request, response)
            page, url = (
                _index(access, subject, response.body).manifests,
                next_page(access, request, response),
            )
        budget.take(request, len(page))
        if url:
            budget.turn_page(request)
        # A registry need not filter (OCI-Filters-Applied).
        found += [one for one in page if artifact_type in {"", one.artifact_type}]
        is_first = False
    return tuple(found)


def _has_no_api(response: Response) -> bool:
    """Tell whether an answer is that of a registry without the referrers API.

    A 401 with a challenge is none: it says that the credentials do not do.
    """
    asks_who = response.status == _UNAUTHORIZED and "www-authenticate" in response.headers
    return response.status in _NO_API and not asks_who


def add_referrer(access: Access, subject: Digest, referrer: Descriptor) -> Flow[None]:
    """Put `referrer` into the referrers tag of `subject`, where it is not there yet.

    For a registry that did not answer with OCI-Subject: the client MUST then keep the tag
    (distribution-spec, Pushing Manifests with Subject).
    """
    yield from _change(
        access,
        subject,
        lambda kept: kept if referrer.digest in {one.digest for one in kept} else [*kept, referrer],
    )


def remove_referrer(access: Access, subject: Digest, referrer: Digest) -> Flow[None]:
    """Take a deleted manifest out of the referrers tag of `subject` (Deleting Manifests)."""
    yield from _change(
        access, subject, lambda kept: [one for one in kept if one.digest != referrer]
    )


def _change(
    access: Access, subject: Digest, change: Callable[[list[Descriptor]], list[Descriptor]]
) -> Flow[None]:
    """Change the referrers tag, until what is read back needs no change."""
    pause_s = 0.0
    for attempt in range(1, 1 + _TRIES):
        index = yield from _tagged(access, subject, pause_s)
        kept = list(index.manifests)
        changed = change(kept)
        if changed == kept:
            return
        index = index.replace(manifests=changed)
        yield from put_manifest(access, referrers_tag(subject), index.raw, index.media_type)
        pause_s = min(attempt * _SETTLE_S, _LONGEST_S) * (0.5 + access.registry.retry.jitter())
    index = yield from _tagged(access, subject, pause_s)
    kept = list(index.manifests)
    if change(kept) != kept:
        raise ProtocolViolation(
            f"the tag {referrers_tag(subject)} does not keep what is written to it: other clients "
            "write to it at the same time, or the registry refuses changes of tags"
        )


def _tagged(access: Access, subject: Digest, pause_s: float = 0.0) -> Flow[Index]:
    """Return the index under the referrers tag; an empty one where there is no tag.

    GitLab answers with the subject itself where there is none (oras-project/oras#2148): an image is
    no list of its own referrers, and the children of an index do not refer to it.
    """
    try:
        stored = yield from get_manifest(access, referrers_tag(subject), pause_s)
    except NotFound:
        return Index.new(())
    if _is(subject, stored.raw):
        return Index.new(())
    return _index(access, subject, stored.raw, stored.media_type)


def _is(digest: Digest, raw: bytes) -> bool:
    """Tell whether bytes are those of a digest; False where it cannot be computed here."""
    with suppress(InvalidDigest):
        return Digest.of(raw, digest.algorithm) == digest
    return False


def _index(access: Access, subject: Digest, raw: bytes, media_type: str = "") -> Index:
    """Read a list of referrers. Raises InvalidManifest, which says whose it is."""
    try:
        return Index.parse(raw, media_type)
    except InvalidManifest as error:
        where = access.url(f"referrers/{subject}")
        raise InvalidManifest(f"the list of referrers {where} is not valid: {error}") from error
