"""The middleware that emulates the registry of a profile.

The first rule that rejects a request answers it (rejections.py). Otherwise the request is converted
to the registry's own form, and the response's headers to the profile's (responses.py). The history
of a session is kept by its id.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from starlette.datastructures import Headers

from brolga.errors import InvalidReference
from brolga.registry.errors import error_response
from brolga.registry.storage.layout import RepositoryUnknown
from brolga.registry.storage.manifest_store import ManifestUnknown
from brolga.registry.storage.uploads import UploadBusy, UploadUnknown, open_writer
from brolga.spec.reference import Repository
from brolga.testing.emulation.rejections import RequestFacts, reject, rejection
from brolga.testing.emulation.responses import (
    RequestBody,
    ResponseConverter,
    Target,
    discard,
    find_upload,
    parse_state,
)
from brolga.testing.faults import StaleState
from brolga.testing.injector import Exchange
from brolga.testing.registries import Profile
from brolga.testing.run import Session

if TYPE_CHECKING:
    from starlette.responses import Response
    from starlette.types import ASGIApp, Receive, Scope, Send

    from brolga.registry.storage.repository import Repo
    from brolga.registry.storage.store import Store
    from brolga.registry.storage.uploads import Upload
    from brolga.testing.injector import Injector


# The registry's own behaviour, for faults without a profile.
_OWN: Final = Profile(name="")
_NAME: Final = re.compile("/v2/(.+)/(?:blobs|manifests|tags|referrers)(?:/.*)?")
_DIGEST_TAG: Final = re.compile("(/v2/.+/manifests/)(sha256-([0-9a-f]{64}))")


class Emulation:
    """Emulate the profile in force."""

    def __init__(self, app: ASGIApp, injector: Injector) -> None:
        self._app = app
        self._injector = injector

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Reject a request, or pass it on in the registry's own form."""
        exchange = Exchange.of(scope)
        target = _find_target(scope["app"].state.store, exchange.path)
        facts = self._facts(scope, exchange, target, await _stored_size(target.upload))
        body = RequestBody(facts, receive)
        converter = ResponseConverter(facts, exchange, target, body, send)
        response = rejection(facts) or await _reject_stale(exchange, target.upload, facts)
        if response is not None:
            await response(scope, receive, converter.send)
            return
        if facts.kind == "PATCH upload":
            facts.session.patches += 1
            facts.session.short_chunk = (
                facts.length is not None and facts.length < facts.profile.chunk_min
            )
        facts = _resolve_digest_tag(facts, target.repo)
        await self._app(_own_scope(facts, scope), body.receive, converter.send)
        if body.is_rejected:
            await _reject_body(facts, body)(scope, receive, converter.convert)

    def _facts(self, scope: Scope, exchange: Exchange, target: Target, size: int) -> RequestFacts:
        repo, upload = target
        now = self._injector.clock()
        session = Session(now)
        headers = Headers(scope=scope)
        return RequestFacts(
            kind=exchange.request.kind,
            origin=f"{scope['scheme']}://{headers.get('host', 'localhost')}",
            request_path=scope["path"],
            path=exchange.path,
            query=exchange.request.query,
            headers=headers,
            profile=exchange.profile or _OWN,
            session=exchange.sessions.setdefault(upload.id, session) if upload else session,
            size=size,
            exists=repo is not None and (self._injector.exists(repo.name) or repo.layout.exists()),
            now=now,
        )


def _find_target(store: Store, path: str) -> Target:
    """Return the repository and the session of a path, as far as they exist."""
    match = _NAME.fullmatch(path)
    try:
        repo = store.repo(Repository("localhost", match[1])) if match else None
    except InvalidReference:
        repo = None
    return Target(repo, find_upload(path, repo))


async def _stored_size(upload: Upload | None) -> int:
    """Return the size of a session, once no request is writing to it."""
    if upload is None:
        return 0
    try:
        async with open_writer(upload) as writer:
            return writer.size
    except UploadBusy:
        return upload.size()
    except UploadUnknown:
        return 0  # the last writer ended it: the registry will say so


async def _reject_stale(
    exchange: Exchange, upload: Upload | None, facts: RequestFacts
) -> Response | None:
    """Reject a Location of another session, or a stale one that ends the session."""
    if upload is None or not exchange.has_states:
        return None
    offset = parse_state(facts.query, upload)
    if offset is not None:
        fault = next(iter(exchange.due(StaleState)), None)
        if offset == facts.size or not (fault or facts.profile.state == "kills"):
            return None
        if fault is not None:
            exchange.fire(fault)
        await discard(upload)
    reason = "the session is not where this Location has it"
    return error_response(404, "BLOB_UPLOAD_INVALID", reason)


def _own_scope(facts: RequestFacts, scope: Scope) -> Scope:
    headers = scope["headers"]
    if facts.is_stream or facts.profile.content_range == "overlap":
        headers = [(name, value) for name, value in headers if name != b"content-range"]
    return {**scope, "path": facts.path, "raw_path": facts.path.encode(), "headers": headers}


def _resolve_digest_tag(facts: RequestFacts, repo: Repo | None) -> RequestFacts:
    """Replace a missing tag `sha256-<hex>` with its digest, if the profile does."""
    match = _DIGEST_TAG.fullmatch(facts.path)
    is_read = facts.kind in ("GET manifest", "HEAD manifest")
    if not facts.profile.tag_is_digest or not is_read or match is None or repo is None:
        return facts
    try:
        repo.manifests.by_tag(match[2]).file.close()
    except (ManifestUnknown, RepositoryUnknown):
        return replace(facts, path=f"{match[1]}sha256:{match[3]}")
    return facts


def _reject_body(facts: RequestFacts, body: RequestBody) -> ASGIApp:
    profile = facts.profile
    if body.is_late:
        return reject(profile, 408, "UNKNOWN", "the body gives nothing for too long")
    status = profile.blob_max_status if profile.request_max is None else 413
    return reject(profile, status, "SIZE_INVALID", "more bytes than are taken here")
