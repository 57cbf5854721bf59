"""The faults of a request, injected into its body and its response by ASGI middleware.

    injector = Injector(FaultPlan(Cut(at=5)), profile="zot")
    app = create_app(directory, Options(), middleware=fault_middleware(injector))

`FaultInjection` passes the body on in pieces, which end at each byte with a due fault. If a fault
ends the request, the registry sees that the client hung up, and finishes first: what is stored is
on disk before the client sees the fault. The other two emulate the profile.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from contextlib import aclosing
from email.utils import formatdate
from typing import TYPE_CHECKING, Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.responses import Response

from brolga.registry.errors import error_response
from brolga.registry.serving.connection_limits import Disconnect, disconnect_event
from brolga.testing import faults
from brolga.testing.emulation.emulator import Emulation
from brolga.testing.emulation.tokens import TokenAuthentication
from brolga.testing.injector import Exchange, Injector

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from starlette.types import ASGIApp, Message, Receive, Scope, Send


_DISCONNECT: Final = {"type": "http.disconnect"}


def fault_middleware(injector: Injector) -> list[Middleware]:
    """Return the middleware for `create_app`, `serve` or `running`, outermost first."""
    kinds = (FaultInjection, TokenAuthentication, Emulation)
    return [Middleware(kind, injector=injector) for kind in kinds]


class FaultInjection:
    """Record each request, and let its due faults fire."""

    def __init__(self, app: ASGIApp, injector: Injector) -> None:
        self._app = app
        self._injector = injector

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, up to the byte where a fault ends it."""
        if self._injector.store is not None:
            scope["app"].state.store = self._injector.store
        query = scope["query_string"].decode("latin-1")
        headers = Headers(scope=scope)
        exchange = self._injector.begin(scope["method"], scope["path"], query, headers)
        scope = {**scope, Exchange.SCOPE_KEY: exchange}
        ending = exchange.ending
        body = _RequestBody(exchange, receive, disconnect_event(scope))
        response = _ResponseFilter(exchange, body, send)
        if exchange.due(faults.CutAnswer):
            # Its bytes must pass through here.
            scope["extensions"] = {**scope.get("extensions", {})}
            scope["extensions"].pop("http.response.zerocopysend", None)
        async with aclosing(body.messages):
            await body.stall(0)
            # If nothing is stored, the registry never sees the request.
            if ending is None or ending.stored != 0:
                await self._app(scope, body.receive, response.send)
            if body.is_released:
                raise Disconnect
            if ending is not None:
                await body.drain()
                exchange.fire(ending)
                await _end(ending, exchange, scope, receive, send)


async def _end(
    ending: faults.Ending, exchange: Exchange, scope: Scope, receive: Receive, send: Send
) -> None:
    """End a request as the fault says."""
    if isinstance(ending, faults.Kill):
        os.kill(os.getpid(), signal.SIGKILL)
    if isinstance(ending, faults.Cut | faults.DropAnswer):
        raise Disconnect(reset=ending.reset)
    assert isinstance(ending, faults.Answer)  # noqa: S101 - the only other kind
    exchange.request.status = ending.status
    headers, body = dict(ending.headers), ending.body
    if isinstance(ending, faults.TooMany):
        date = formatdate(time.time() + ending.after_s, usegmt=True)
        headers["Retry-After"] = date if ending.as_date else str(ending.after_s)
        if body is None and exchange.profile is not None and exchange.profile.proxy_pages:
            body = b"Too Many Requests"
    if isinstance(ending, faults.Redirect):
        path, query = exchange.request.path, exchange.request.query
        headers["Location"] = f"{path}?{query}" if query else path
    if body is None:
        response = error_response(ending.status, ending.code, "a planned fault", headers)
    else:
        response = Response(body, status_code=ending.status, headers=headers)
    if exchange.profile is not None:
        response.headers.setdefault("Server", "")
    await response(scope, receive, send)


class _ResponseFilter:
    """The response: recorded, cut, or hidden by the fault that ends its request."""

    def __init__(self, exchange: Exchange, body: _RequestBody, send: Send) -> None:
        self._exchange = exchange
        self._body = body
        self._cut = next(iter(exchange.due(faults.CutAnswer)), None)
        self._sent = 0
        self._send = send

    async def send(self, message: Message) -> None:
        """Pass a message of the response on, or drop it."""
        if self._exchange.ending is not None or self._body.is_released:
            return
        if message["type"] == "http.response.start":
            await self._body.stall(None)
            self._exchange.request.status = message["status"]
            if self._exchange.profile is not None:  # another registry is not brolga
                MutableHeaders(scope=message).setdefault("Server", "")
        elif self._cut is not None:
            piece = message["body"][: self._cut.at - self._sent]
            self._sent += len(piece)
            await self._send({**message, "body": piece, "more_body": True})
            if self._sent == self._cut.at:
                self._exchange.fire(self._cut)
                raise Disconnect(reset=False)
            return
        await self._send(message)


class _RequestBody:
    """A request's body, in pieces that end where a fault is due."""

    def __init__(self, exchange: Exchange, receive: Receive, disconnected: asyncio.Event) -> None:
        self.messages = self._messages()
        self.is_released = False  # from a stall: the request gets no response
        self._has_hung_up = False
        self._exchange = exchange
        self._stalls = exchange.due(faults.Stall)
        self._slow = exchange.due(faults.Slow)
        self._receive = receive
        self._disconnected = disconnected

    async def receive(self) -> Message:
        """Return the next message for the application."""
        return await anext(self.messages, _DISCONNECT)

    async def drain(self) -> None:
        """Read the rest, up to the end of the request. Raises Disconnect if the client leaves."""
        async for _ in self.messages:
            pass
        if self._has_hung_up:
            raise Disconnect

    async def stall(self, received: int | None) -> None:
        """Wait if a stall is due after so many bytes; None is before the response."""
        for stall in list(self._stalls):
            is_due = received is None if stall.at is None else stall.at <= (received or 0)
            if is_due:
                self._stalls.remove(stall)
                self._exchange.fire(stall)
                await self._pause(stall.for_s)

    async def _messages(self) -> AsyncGenerator[Message, None]:
        """Yield the messages for the application; a released body looks as if it was cut."""
        try:
            async with aclosing(self._pieces()) as pieces:
                async for message in pieces:
                    yield message
        except Disconnect:
            self.is_released = self._has_hung_up = True
            yield _DISCONNECT

    async def _pieces(self) -> AsyncGenerator[Message, None]:
        received, buffered, more = 0, b"", True
        ending = self._exchange.ending
        is_completed = ending is None or (ending.at is None and ending.stored is None)
        while True:
            await self.stall(received)
            if ending is not None and ending.at == received:
                return
            if not buffered and more:
                message = await self._receive()
                if message["type"] == "http.disconnect":
                    self._has_hung_up = True
                    yield message
                    return
                buffered, more = message.get("body", b""), message.get("more_body", False)
            offsets = [
                fault.at for fault in [*self._stalls, ending] if fault and fault.at is not None
            ]
            piece = buffered[: min(offsets, default=received + len(buffered)) - received]
            buffered = buffered[len(piece) :]
            is_last = not buffered and not more
            for slow in self._slow:
                if piece and slow not in self._exchange.request.fired:
                    self._exchange.fire(slow)
                await self._pause(len(piece) / slow.bytes_per_s)
            stored = piece
            if ending is not None and ending.stored is not None:
                stored = piece[: max(ending.stored - received, 0)]
            received += len(piece)
            self._exchange.request.received = received
            more_body = not (is_last and is_completed)
            yield {"type": "http.request", "body": stored, "more_body": more_body}
            if is_last:
                return

    async def _pause(self, seconds: float | None) -> None:
        """Wait. Raises Disconnect if the client hangs up, or the exchange is released, before."""
        released, loop = asyncio.Event(), asyncio.get_running_loop()
        self._exchange.add_waiting(loop, released)
        waits = [asyncio.ensure_future(event.wait()) for event in (released, self._disconnected)]
        try:
            done, _ = await asyncio.wait(
                waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            self._exchange.remove_waiting(released)
            for wait in waits:
                wait.cancel()
        if done:
            raise Disconnect
