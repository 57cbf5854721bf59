"""The middleware that emulates the registry of a profile.

The first rule that rejects a request answers it (rejections.py). Otherwise the request is converted
to the registry's own form, and the response's headers to the profile's (responses.py). The history
of a session is kept by its id.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from starlette.datastructures import Headers

from brolga.errors import InvalidReference
from brolga.registry.errors import error_response
from brolga.registry.storage.layout import RepositoryUnknown
from brolga.registry.storage.manifest_store import ManifestUnknown
from brolga.spec.reference import Repository
from brolga.testing.emulation.rejections import RequestFacts, reject, rejection
from brolga.testing.emulation.responses import RequestBody, ResponseConverter
from brolga.testing.faults import StaleState
from brolga.testing.injector import Exchange, Injector
from brolga.testing.registries import Profile
from brolga.testing.run import Session
from brolga.testing.sessions import discard, find_upload, parse_state, stored_size

if TYPE_CHECKING:
    from starlette.responses import Response
    from starlette.types import ASGIApp, Receive, Scope, Send


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
        facts = await self._facts(scope, exchange)
        body = RequestBody(facts, receive)
        converter = ResponseConverter(facts, exchange, body, send)
        response = rejection(facts) or await _reject_stale(exchange, facts)
        if response is not None:
            await response(scope, receive, converter.send)
            return
        if facts.kind == "PATCH upload":
            facts.session.patches += 1
            facts.session.short_chunk = (
                facts.length is not None and facts.length < facts.profile.chunk_min
            )
        facts = _resolve_digest_tag(facts)
        headers = scope["headers"]
        if facts.is_stream or facts.profile.content_range == "overlap":
            headers = [(name, value) for name, value in headers if name != b"content-range"]
        path = {"path": facts.path, "raw_path": facts.path.encode()}
        await self._app({**scope, **path, "headers": headers}, body.receive, converter.send)
        if body.is_late:
            response = reject(facts.profile, 408, "UNKNOWN", "the body sends nothing for too long")
        elif body.is_too_long:
            status = facts.profile.blob_max_status if facts.profile.request_max is None else 413
            response = reject(facts.profile, status, "SIZE_INVALID", "more bytes than are accepted")
        if response is not None:
            await response(scope, receive, converter.convert)

    async def _facts(self, scope: Scope, exchange: Exchange) -> RequestFacts:
        repo = None
        if match := _NAME.fullmatch(exchange.path):
            with suppress(InvalidReference):
                repo = scope["app"].state.store.repo(Repository("localhost", match[1]))
        upload = find_upload(exchange.path, repo)
        now = self._injector.clock()
        session = Session(now)
        headers = Headers(scope=scope)
        return RequestFacts(
            repo=repo,
            upload=upload,
            kind=exchange.request.kind,
            origin=f"{scope['scheme']}://{headers.get('host', 'localhost')}",
            request_path=scope["path"],
            path=exchange.path,
            query=exchange.request.query,
            headers=headers,
            profile=exchange.profile or _OWN,
            session=exchange.sessions.setdefault(upload.id, session) if upload else session,
            size=await stored_size(upload),
            exists=repo is not None and (self._injector.exists(repo.name) or repo.layout.exists()),
            now=now,
        )


async def _reject_stale(exchange: Exchange, facts: RequestFacts) -> Response | None:
    """Reject a Location of another session, or a stale one that ends the session."""
    if facts.upload is None or not exchange.has_states:
        return None
    offset = parse_state(facts.query, facts.upload)
    if offset is not None:
        fault = next(iter(exchange.due(StaleState)), None)
        if offset == facts.size or not (fault or facts.profile.state == "kills"):
            return None
        if fault is not None:
            exchange.fire(fault)
        await discard(facts.upload)
    reason = "the session is not where this Location has it"
    return error_response(404, "BLOB_UPLOAD_INVALID", reason)


def _resolve_digest_tag(facts: RequestFacts) -> RequestFacts:
    """Replace a missing tag `sha256-<hex>` with its digest, if the profile does."""
    match = _DIGEST_TAG.fullmatch(facts.path)
    is_read = facts.kind in ("GET manifest", "HEAD manifest")
    if not facts.profile.tag_is_digest or not is_read or match is None or facts.repo is None:
        return facts
    try:
        facts.repo.manifests.by_tag(match[2]).file.close()
    except (ManifestUnknown, RepositoryUnknown):
        return replace(facts, path=f"{match[1]}sha256:{match[3]}")
    return facts
