"""A profile honoured: requests and answers put from one registry's words into another's.

Knows the distribution-spec's uploads, and what a `Profile` says of them. Must not know how a blob
is stored: the registry itself does the work.

Strategy: the first rule that refuses a request answers it (`refusals`); else the request is put
into the registry's own words, and the answer's headers into the profile's. What a session has been
through is kept by its id.
"""

from __future__ import annotations

import asyncio
import base64
import re
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from starlette.datastructures import Headers, MutableHeaders

from brolga.errors import InvalidReference
from brolga.server.faults import FrozenRange, MissingRange, OtherLocation, ShiftedRange, StaleState
from brolga.server.injection import Session
from brolga.server.layout import RepositoryUnknown
from brolga.server.locations import respell, session_in
from brolga.server.manifest_store import ManifestUnknown
from brolga.server.problems import answer
from brolga.server.profiles import Profile
from brolga.server.receiving import writing
from brolga.server.refusals import Case, refusal, said
from brolga.server.session import UploadBusy, UploadUnknown
from brolga.server.striking import exchange_of
from brolga.spec.reference import Repository

if TYPE_CHECKING:
    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from brolga.server.injection import Exchange, Injector
    from brolga.server.session import Upload
    from brolga.server.storage import Repo

__all__ = ["Quirks"]

# The registry's own behaviour: what faults are added to where there is no profile.
_OWN: Final = Profile(name="")
_ERROR: Final = 400
_NAME: Final = re.compile("/v2/(.+)/(?:blobs|manifests|tags|referrers)(?:/.*)?")
_STATE: Final = re.compile("(?:^|&)_state=([A-Za-z0-9_=-]+)(?:&|$)")
_DIGEST_TAG: Final = re.compile("(/v2/.+/manifests/)(sha256-([0-9a-f]{64}))")
_HUNG_UP: Final = {"type": "http.disconnect"}


class Quirks:
    """Play the registry of the profile in force."""

    def __init__(self, app: ASGIApp, injector: Injector) -> None:
        self._app = app
        self._injector = injector

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a request, or pass it on in the registry's own words."""
        exchange = exchange_of(scope)
        target = self._target(exchange.path)
        case = self._case(scope, exchange, target, await _size(target.upload))
        body = _Received(case, receive)
        answering = _Answering(case, exchange, target, body, send)
        refused = refusal(case) or await _ended(exchange, target.upload, case)
        if refused is not None:
            await refused(scope, receive, answering.send)
            return
        _remember(case)
        case = _with_digest(case, target.repo)
        await self._app(_in_own_words(case, scope), body.receive, answering.send)
        if body.is_refused:
            await _refused(case, body)(scope, receive, answering.pass_on)

    def _target(self, path: str) -> _Target:
        match = _NAME.fullmatch(path)
        try:
            repo = match and self._injector.store.repo(Repository("localhost", match[1]))
        except InvalidReference:
            repo = None
        return _Target(repo, _upload(path, repo))

    def _case(self, scope: Scope, exchange: Exchange, target: _Target, size: int) -> Case:
        repo, upload = target
        now = self._injector.clock()
        fresh = Session(now)
        headers = Headers(scope=scope)
        return Case(
            kind=exchange.seen.kind,
            origin=f"{scope['scheme']}://{headers.get('host', 'localhost')}",
            asked=scope["path"],
            path=exchange.path,
            query=exchange.seen.query,
            headers=headers,
            profile=exchange.profile or _OWN,
            session=exchange.sessions.setdefault(upload.id, fresh) if upload else fresh,
            size=size,
            exists=repo is not None and (self._injector.exists(repo.name) or _was_stored(repo)),
            now=now,
        )


class _Target(NamedTuple):
    """What a request is about, as far as it is there."""

    repo: Repo | None
    upload: Upload | None


def _upload(path: str, repo: Repo | None) -> Upload | None:
    """Return the session that a path names, None where it is none or not there."""
    found = session_in(path)
    if found is None or repo is None:
        return None
    try:
        upload = repo.upload(found[1])
        upload.size()
    except UploadUnknown:
        return None
    return upload


async def _size(upload: Upload | None) -> int:
    """Return how much a session has, when nobody writes to it any more."""
    if upload is None:
        return 0
    try:
        async with writing(upload) as writer:
            return writer.size
    except UploadBusy:
        return upload.size()
    except UploadUnknown:
        return 0  # whoever wrote has ended it: the registry says so


def _was_stored(repo: Repo) -> bool:
    try:
        repo.require()
    except RepositoryUnknown:
        return False
    return True


async def _ended(exchange: Exchange, upload: Upload | None, case: Case) -> Response | None:
    """Refuse a Location that is none of this session, or one whose age ends it."""
    if upload is None or not exchange.has_states:
        return None
    offset = _offset(case.query, upload)
    if offset is not None:
        fault = next(iter(exchange.due(StaleState)), None)
        if offset == case.size or not (fault or case.profile.state == "kills"):
            return None
        if fault is not None:
            exchange.strike(fault)
        await _discard(upload)
    said = {"reason": "the session is not where this Location has it"}
    return answer(404, "BLOB_UPLOAD_INVALID", said)


def _state(upload: Upload, session: Session) -> str:
    """Return what a Location has of its session. It is opaque, and never twice the same."""
    session.serial += 1
    text = f"{upload.id}:{upload.size()}:{session.serial}"
    return base64.urlsafe_b64encode(text.encode()).decode()


def _offset(query: str, upload: Upload) -> int | None:
    """Return how much the session had when a Location was given, None for one of no session."""
    match = _STATE.search(query)
    try:
        upload_id, offset, _ = base64.urlsafe_b64decode(match[1] if match else "").split(b":")
    except ValueError:
        return None
    return int(offset) if upload_id.decode() == upload.id else None


def _remember(case: Case) -> None:
    if case.kind == "PATCH upload":
        case.session.patches += 1
        case.session.short_chunk = case.length is not None and case.length < case.profile.chunk_min


def _in_own_words(case: Case, scope: Scope) -> Scope:
    headers = scope["headers"]
    if case.is_stream or case.profile.content_range == "overlap":
        headers = [(name, value) for name, value in headers if name != b"content-range"]
    return {**scope, "path": case.path, "raw_path": case.path.encode(), "headers": headers}


def _with_digest(case: Case, repo: Repo | None) -> Case:
    """Return a request for a tag that stands for a digest as one for that, where the tag is not."""
    match = _DIGEST_TAG.fullmatch(case.path)
    reads = case.kind in ("GET manifest", "HEAD manifest")
    if not case.profile.tag_is_digest or not reads or match is None or repo is None:
        return case
    try:
        repo.manifests.by_tag(match[2]).file.close()
    except (ManifestUnknown, RepositoryUnknown):
        return replace(case, path=f"{match[1]}sha256:{match[3]}")
    return case


def _refused(case: Case, body: _Received) -> ASGIApp:
    profile = case.profile
    if body.late:
        return said(profile, 408, "UNKNOWN", "the body gives nothing for too long")
    status = profile.blob_max_status if profile.request_max is None else 413
    return said(profile, status, "SIZE_INVALID", "more bytes than are taken here")


def _is_over(case: Case, body: _Received, status: int) -> bool:
    """Whether the profile's session ends with this request, which the registry's does not."""
    failed = case.method == "PUT" and status >= _ERROR
    return (body.cut and case.profile.after_cut == "gone") or (
        failed and case.profile.failed_put_ends
    )


async def _discard(upload: Upload) -> None:
    with suppress(UploadBusy, UploadUnknown):
        async with writing(upload) as writer:
            writer.discard()


class _Received:
    """A request's body without what the session has already, up to what is taken.

    `late` tells that it gave nothing for longer than a proxy waits.
    """

    def __init__(self, case: Case, receive: Receive) -> None:
        self.cut = False
        self.too_long = False
        self.late = False
        self._has_more = True
        self._wait_s = case.profile.body_wait_s
        self._skip = case.skipped
        self._room = case.room
        self._receive = receive

    @property
    def is_refused(self) -> bool:
        """Whether it is not taken to its end."""
        return self.too_long or self.late

    async def receive(self) -> Message:
        """Return the next piece."""
        message = await self._next()
        if message["type"] == "http.disconnect":
            self.cut = True
            return message
        self._has_more = message.get("more_body", False)
        piece = message.get("body", b"")
        skipped = min(self._skip, len(piece))
        self._skip -= skipped
        if self._room is not None:
            self._room -= len(piece)
            self.too_long = self._room < 0
        return dict(_HUNG_UP) if self.too_long else {**message, "body": piece[skipped:]}

    async def _next(self) -> Message:
        if self.late:
            return dict(_HUNG_UP)
        try:
            async with asyncio.timeout(self._wait_s if self._has_more else None):
                return await self._receive()
        except TimeoutError:
            self.late = True
            return dict(_HUNG_UP)


class _Answering:
    """The answer, put into the profile's words."""

    def __init__(
        self, case: Case, exchange: Exchange, target: _Target, body: _Received, send: Send
    ) -> None:
        self._case = case
        self._exchange = exchange
        self._target = target
        self._body = body
        self._send = send

    async def send(self, message: Message) -> None:
        """Pass a message on; the registry's own answer to a body that is refused is none."""
        if not self._body.is_refused:
            await self.pass_on(message)

    async def pass_on(self, message: Message) -> None:
        """Pass a message on, the head respelled."""
        if message["type"] == "http.response.start":
            message = {**message, "headers": list(message["headers"])}
            message["status"] = status = self._spelled_status(message["status"])
            # Before anybody hears of it.
            upload = self._target.upload
            if upload is not None and _is_over(self._case, self._body, status):
                await _discard(upload)
            self._spell(MutableHeaders(scope=message))
        await self._send(message)

    def _spelled_status(self, status: int) -> int:
        profile, kind = self._case.profile, self._case.kind
        if kind == "PATCH upload" and status == 202:  # noqa: PLR2004 - the registry's own
            return profile.patch_status
        if status == 404 and kind.endswith((" blob", " manifest")):  # noqa: PLR2004 - the registry's own
            return profile.missing_status
        return status

    def _spell(self, headers: MutableHeaders) -> None:
        profile, kind = self._case.profile, self._case.kind
        for name, value in profile.headers:
            headers[name] = value
        if profile.cookie:
            headers["Set-Cookie"] = profile.cookie
        if kind == "PUT manifest" and not profile.manifest_location:
            del headers["Location"]
        if not profile.referrers:
            del headers["OCI-Subject"]  # it tells of the referrers API
        types = {"GET api": profile.api_type, "GET tags": profile.list_type}
        if said := types.get(kind.replace("catalog", "tags")):
            headers["Content-Type"] = said
        upload = _upload(headers.get("location", ""), self._target.repo)
        if upload is not None:
            self._spell_range(headers, upload)
            self._spell_location(headers, upload)

    def _spell_location(self, headers: MutableHeaders, upload: Upload) -> None:
        case, profile = self._case, self._case.profile
        if case.kind == "GET upload" and not profile.says_location:
            del headers["Location"]
            return
        assert self._target.repo is not None  # noqa: S101 - the session is one of it
        target = profile.session_path.format(name=self._target.repo.name, upload=upload.id)
        session = self._exchange.sessions.setdefault(upload.id, case.session)
        state = f"_state={_state(upload, session)}" if self._exchange.has_states else ""
        query = "&".join(filter(None, (profile.query, state)))
        target += f"?{query}" if query else ""
        forms: list[Any] = [profile.location]
        for fault in self._exchange.due(OtherLocation):
            self._exchange.strike(fault)
            forms.append(fault.form)
        for form in forms:
            target = respell(target, form, self._case.origin, case.asked)
        headers["Location"] = target

    def _spell_range(self, headers: MutableHeaders, upload: Upload) -> None:
        case, profile, size = self._case, self._case.profile, upload.size()
        for shifted in self._exchange.due(ShiftedRange):
            self._exchange.strike(shifted)
            size += shifted.by
        text = f"0-{size - 1}" if size > 0 else profile.range_of_none
        text = profile.range_prefix + text
        if case.kind == "PATCH upload" and not case.session.first_range:
            case.session.first_range = text
        first = case.session.first_range
        if first and first != text:
            frozen = self._exchange.due(FrozenRange)
            for fault in frozen:
                self._exchange.strike(fault)
            text = first if frozen or profile.range_frozen else text
        headers["Range"] = text
        for missing in self._exchange.due(MissingRange):
            self._exchange.strike(missing)
            del headers["Range"]
