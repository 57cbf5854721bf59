"""Request bodies and responses in the form of a profile."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from starlette.datastructures import MutableHeaders

from brolga.testing.faults import FrozenRange, MissingRange, OtherLocation, ShiftedRange
from brolga.testing.sessions import convert_location, discard, find_upload, new_state

if TYPE_CHECKING:
    from starlette.types import Message, Receive, Send

    from brolga.registry.storage.uploads import Upload
    from brolga.testing.emulation.rejections import RequestFacts
    from brolga.testing.injector import Exchange


_DISCONNECT: Final = {"type": "http.disconnect"}


class RequestBody:
    """A request's body without its stored first bytes, up to the profile's limit."""

    def __init__(self, facts: RequestFacts, receive: Receive) -> None:
        self.is_cut = False
        self.is_too_long = False
        self.is_late = False  # it sent nothing for longer than a proxy waits
        self._has_more = True
        self._wait_s = facts.profile.body_wait_s
        self._skip = facts.skipped
        self._left = facts.limit
        self._receive = receive

    @property
    def is_rejected(self) -> bool:
        """Whether the registry did not get its end."""
        return self.is_too_long or self.is_late

    async def receive(self) -> Message:
        """Return the next message."""
        message: Message = dict(_DISCONNECT)
        if not self.is_late:
            try:
                async with asyncio.timeout(self._wait_s if self._has_more else None):
                    message = await self._receive()
            except TimeoutError:
                self.is_late = True
        if message["type"] == "http.disconnect":
            self.is_cut = True
            return message
        self._has_more = message.get("more_body", False)
        piece = message.get("body", b"")
        skipped = min(self._skip, len(piece))
        self._skip -= skipped
        if self._left is not None:
            self._left -= len(piece)
            self.is_too_long = self._left < 0
        return dict(_DISCONNECT) if self.is_too_long else {**message, "body": piece[skipped:]}


class ResponseConverter:
    """Converts a response to the form of the profile."""

    def __init__(
        self, facts: RequestFacts, exchange: Exchange, body: RequestBody, send: Send
    ) -> None:
        self._facts = facts
        self._exchange = exchange
        self._body = body
        self._send = send

    async def send(self, message: Message) -> None:
        """Pass a message on, unless it is the registry's own answer to a rejected body."""
        if not self._body.is_rejected:
            await self.convert(message)

    async def convert(self, message: Message) -> None:
        """Pass a message on, with a converted head."""
        if message["type"] == "http.response.start":
            profile, kind, status = self._facts.profile, self._facts.kind, message["status"]
            if kind == "PATCH upload" and status == HTTPStatus.ACCEPTED:
                status = profile.patch_status
            elif status == HTTPStatus.NOT_FOUND and kind.endswith((" blob", " manifest")):
                status = profile.missing_status
            message = {**message, "status": status, "headers": list(message["headers"])}
            has_failed = self._facts.method == "PUT" and status >= HTTPStatus.BAD_REQUEST
            is_ended = (has_failed and profile.failed_put_ends) or (
                self._body.is_cut and profile.after_cut == "gone"
            )
            if self._facts.upload is not None and is_ended:
                await discard(self._facts.upload)  # before the client sees the response
            self._convert_headers(MutableHeaders(scope=message))
        await self._send(message)

    def _convert_headers(self, headers: MutableHeaders) -> None:
        profile, kind = self._facts.profile, self._facts.kind
        for name, value in profile.headers:
            headers[name] = value
        if profile.cookie:
            headers["Set-Cookie"] = profile.cookie
        if kind == "PUT manifest" and not profile.manifest_location:
            del headers["Location"]
        if not profile.referrers:
            del headers["OCI-Subject"]  # it announces the referrers API
        types = {"GET api": profile.api_type, "GET tags": profile.list_type}
        if content_type := types.get(kind.replace("catalog", "tags")):
            headers["Content-Type"] = content_type
        upload = find_upload(headers.get("location", ""), self._facts.repo)
        if upload is not None:
            self._convert_range(headers, upload)
            self._convert_location(headers, upload)

    def _convert_location(self, headers: MutableHeaders, upload: Upload) -> None:
        facts, profile = self._facts, self._facts.profile
        if facts.kind == "GET upload" and not profile.status_has_location:
            del headers["Location"]
            return
        assert facts.repo is not None  # noqa: S101 - the session is in it
        location = profile.session_path.format(name=facts.repo.name, upload=upload.id)
        session = self._exchange.sessions.setdefault(upload.id, facts.session)
        state = f"_state={new_state(upload, session)}" if self._exchange.has_states else ""
        query = "&".join(filter(None, (profile.query, state)))
        location += f"?{query}" if query else ""
        forms: list[Any] = [profile.location]
        for fault in self._exchange.due(OtherLocation):
            self._exchange.fire(fault)
            forms.append(fault.form)
        for form in forms:
            location = convert_location(location, form, facts.origin, facts.request_path)
        headers["Location"] = location

    def _convert_range(self, headers: MutableHeaders, upload: Upload) -> None:
        facts, profile, size = self._facts, self._facts.profile, upload.size()
        for shifted in self._exchange.due(ShiftedRange):
            self._exchange.fire(shifted)
            size += shifted.by
        text = f"0-{size - 1}" if size > 0 else profile.range_of_none
        text = profile.range_prefix + text
        if facts.kind == "PATCH upload" and not facts.session.first_range:
            facts.session.first_range = text
        first = facts.session.first_range
        if first and first != text:
            frozen = self._exchange.due(FrozenRange)
            for fault in frozen:
                self._exchange.fire(fault)
            text = first if frozen or profile.range_frozen else text
        headers["Range"] = text
        for missing in self._exchange.due(MissingRange):
            self._exchange.fire(missing)
            del headers["Range"]
