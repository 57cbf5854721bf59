"""Faults on their way: a request's body and its answer, interrupted where the plan says.

Knows ASGI, and what each fault of one request does. Must not know which registry is played
(`quirks`), or sockets: it raises `Gone`, and the server ends the connection.

Strategy: outermost in the application, so that a fault hides what the registry answers as well.
The body goes by in pieces that end at each byte where something happens. When a request is ended,
the application is told that the client hung up, and finishes what it does then: what is stored is
on disk before the client sees the fault, so a test needs no waiting.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from contextlib import aclosing
from email.utils import formatdate
from typing import TYPE_CHECKING, Final

from starlette.datastructures import Headers
from starlette.responses import Response

from brolga.server.faults import (
    Answer,
    Cut,
    CutAnswer,
    DropAnswer,
    Ending,
    Kill,
    Slow,
    Stall,
    TooMany,
)
from brolga.server.problems import answer
from brolga.server.sending import Gone

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from brolga.server.injection import Exchange, Injector
    from brolga.server.profiles import Profile

__all__ = ["EXCHANGE", "Injecting", "exchange_of"]

EXCHANGE: Final = "brolga.exchange"
_HUNG_UP: Final = {"type": "http.disconnect"}


def exchange_of(scope: Scope) -> Exchange:
    """Return the exchange that a request belongs to."""
    exchange: Exchange = scope[EXCHANGE]
    return exchange


class Injecting:
    """List each request, and let the faults strike that are due on it."""

    def __init__(self, app: ASGIApp, injector: Injector) -> None:
        self._app = app
        self._injector = injector

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, up to where a fault ends it."""
        exchange = self._injector.begin(
            scope["method"],
            scope["path"],
            scope["query_string"].decode("latin-1"),
            Headers(scope=scope),
        )
        scope = {**scope, EXCHANGE: exchange}
        ending = next(iter(exchange.due(Ending)), None)
        body = _Body(exchange, ending, receive, _lost(scope))
        outgoing = _Outgoing(exchange, ending, body, send)
        if exchange.due(CutAnswer):
            # Its bytes must come by here.
            scope["extensions"] = {**scope.get("extensions", {})}
            scope["extensions"].pop("http.response.zerocopysend", None)
        async with aclosing(body.messages):
            await body.stall(0)
            # Where nothing is stored, the registry never hears of it.
            if ending is None or ending.stored != 0:
                await self._app(scope, body.receive, outgoing.send)
            if body.let_go:
                raise Gone
            if ending is not None:
                await body.drain()
                exchange.strike(ending)
                await _end(ending, exchange, scope, receive, send)


async def _end(
    ending: Ending, exchange: Exchange, scope: Scope, receive: Receive, send: Send
) -> None:
    """End a request as the fault says."""
    if isinstance(ending, Kill):
        os.kill(os.getpid(), signal.SIGKILL)
    if isinstance(ending, Cut | DropAnswer):
        raise Gone(reset=ending.reset)
    assert isinstance(ending, Answer)  # noqa: S101 - there is no other kind
    exchange.seen.status = ending.status
    await _own_answer(ending, exchange.profile)(scope, receive, send)


def _own_answer(fault: Answer, profile: Profile | None) -> ASGIApp:
    headers = dict(fault.headers)
    if isinstance(fault, TooMany):
        wanted = formatdate(time.time() + fault.after_s, usegmt=True)
        headers["Retry-After"] = wanted if fault.as_date else str(fault.after_s)
    if fault.body is not None:
        return Response(fault.body, status_code=fault.status, headers=headers)
    if profile is not None and profile.proxy_pages and isinstance(fault, TooMany):
        return Response("Too Many Requests", status_code=fault.status, headers=headers)
    return answer(fault.status, fault.code, {"reason": "a fault that was planned"}, headers)


def _lost(scope: Scope) -> asyncio.Event:
    """Return what is set when the client has gone; never, on a server that does not tell."""
    extension = scope.get("extensions", {}).get("brolga.lost")
    return extension["event"] if extension else asyncio.Event()


class _Outgoing:
    """The answer: noted, cut in the middle, or hidden by the fault that ends its request."""

    def __init__(self, exchange: Exchange, ending: Ending | None, body: _Body, send: Send) -> None:
        self._exchange = exchange
        self._body = body
        self._hidden = ending
        self._cut = next(iter(exchange.due(CutAnswer)), None)
        self._passed = 0
        self._send = send

    async def send(self, message: Message) -> None:
        """Pass a message of the answer on, or not."""
        if self._hidden is not None or self._body.let_go:
            return
        if message["type"] == "http.response.start":
            await self._body.stall_at_end()
            self._exchange.seen.status = message["status"]
        elif self._cut is not None:
            await self._up_to(self._cut, message)
            return
        await self._send(message)

    async def _up_to(self, cut: CutAnswer, message: Message) -> None:
        piece = message["body"][: cut.at - self._passed]
        self._passed += len(piece)
        await self._send({**message, "body": piece, "more_body": True})
        if self._passed == cut.at:
            self._exchange.strike(cut)
            raise Gone(reset=False)


class _Body:
    """A request's body in pieces that end where something happens."""

    def __init__(
        self, exchange: Exchange, ending: Ending | None, receive: Receive, lost: asyncio.Event
    ) -> None:
        self.messages = self._pass_on()
        self.let_go = False  # of what was stalled: nobody gets an answer
        self._hung_up = False
        self._exchange = exchange
        self._ending = ending
        self._stalls = exchange.due(Stall)
        self._slow = exchange.due(Slow)
        self._receive = receive
        self._lost = lost

    async def receive(self) -> Message:
        """Return the next piece of what the registry is to see."""
        return await anext(self.messages, _HUNG_UP)

    async def drain(self) -> None:
        """Take the rest, up to where the request ends. Raises Gone where the client goes before."""
        async for _ in self.messages:
            pass
        if self._hung_up:
            raise Gone

    async def stall(self, taken: int) -> None:
        """Wait where a stall is due after so many bytes. Raises Gone."""
        await self._stall([s for s in self._stalls if s.at is not None and s.at <= taken])

    async def stall_at_end(self) -> None:
        """Wait where a stall is due before the answer. Raises Gone."""
        await self._stall([s for s in self._stalls if s.at is None])

    async def _pass_on(self) -> AsyncGenerator[Message, None]:
        """Yield what the application gets of the body; let go of, it is as if it was cut."""
        try:
            async with aclosing(self._pieces()) as pieces:
                async for message in pieces:
                    yield message
        except Gone:
            self.let_go = self._hung_up = True
            yield _HUNG_UP

    async def _pieces(self) -> AsyncGenerator[Message, None]:
        taken, held, more = 0, b"", True
        while True:
            await self.stall(taken)
            if self._ending is not None and self._ending.at == taken:
                return
            if not held and more:
                message = await self._receive()
                if message["type"] == "http.disconnect":
                    self._hung_up = True
                    yield message
                    return
                held, more = message.get("body", b""), message.get("more_body", False)
            piece = held[: self._room(taken)]
            held = held[len(piece) :]
            last = not held and not more
            await self._slow_down(len(piece))
            kept = piece[: self._kept(taken)]
            taken += len(piece)
            self._exchange.seen.received = taken
            yield {
                "type": "http.request",
                "body": kept,
                "more_body": not (last and self._does_its_work),
            }
            if last:
                return

    @property
    def _does_its_work(self) -> bool:
        """Whether the application gets the body's end."""
        return self._ending is None or (self._ending.at is None and self._ending.stored is None)

    def _room(self, taken: int) -> int | None:
        """Return how many bytes there are up to the next fault."""
        at = [stall.at for stall in self._stalls if stall.at is not None]
        if self._ending is not None and self._ending.at is not None:
            at.append(self._ending.at)
        return min((place - taken for place in at), default=None)

    def _kept(self, taken: int) -> int | None:
        stored = None if self._ending is None else self._ending.stored
        return None if stored is None else max(stored - taken, 0)

    async def _slow_down(self, count: int) -> None:
        for slow in self._slow:
            if count and slow not in self._exchange.seen.struck:
                self._exchange.strike(slow)
            await self._pause(count / slow.bytes_per_s)

    async def _stall(self, due: list[Stall]) -> None:
        for stall in due:
            self._stalls.remove(stall)
            self._exchange.strike(stall)
            await self._pause(stall.for_s)

    async def _pause(self, seconds: float | None) -> None:
        """Wait. Raises Gone when the client hangs up, or the exchange is let go of, before."""
        over, loop = asyncio.Event(), asyncio.get_running_loop()
        self._exchange.wait(loop, over)
        waits = [asyncio.ensure_future(event.wait()) for event in (over, self._lost)]
        try:
            done, _ = await asyncio.wait(
                waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            self._exchange.waited(over)
            for wait in waits:
                wait.cancel()
        if done:
            raise Gone
