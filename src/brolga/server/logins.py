"""Password checks, one at a time, in an order that a flood of guesses cannot hold up.

Knows who waits, and whether the client is still there. Must not know how a password is checked.

A check costs a core for a moment, so there is one at a time. The addresses that wait take turns.
Of one address the newest request is first: its client is still there, and a client that guesses
waits behind everybody who came after it. A client that leaves loses its place. If `PLACES` are
taken, the address that has most of them loses its oldest.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["PLACES", "ClientGone", "LoginQueue", "TooManyLogins"]

PLACES = 128


class ClientGone(Exception):
    """The client left before its password was checked."""


class TooManyLogins(Exception):
    """Too many passwords wait to be checked."""


class LoginQueue:
    """The requests that wait for their password's check."""

    def __init__(self, check: Callable[[str, str], bool]) -> None:
        self._check = check
        self._is_busy = False
        self._waiting: dict[str, list[asyncio.Future[bool]]] = {}  # by address, the next first

    async def check(self, address: str, name: str, password: str, gone: asyncio.Event) -> bool:
        """Return whether a password is right; `gone` is set once the client has left.

        Raises ClientGone, TooManyLogins.
        """
        turn = asyncio.get_running_loop().create_future()
        self._enter(address, turn)
        try:
            await _first_of(turn, gone)
            if not turn.result():
                raise TooManyLogins
            return await asyncio.to_thread(self._check, name, password)
        finally:
            self._leave(address, turn)

    def _enter(self, address: str, turn: asyncio.Future[bool]) -> None:
        if not self._is_busy:
            self._is_busy = True
            turn.set_result(True)
            return
        self._waiting.setdefault(address, []).append(turn)
        if sum(map(len, self._waiting.values())) > PLACES:
            most = max(self._waiting.values(), key=len)
            most.pop(0).set_result(False)

    def _leave(self, address: str, turn: asyncio.Future[bool]) -> None:
        """Give up a place; if it was this one's turn, it is the next one's."""
        if turn in (turns := self._waiting.get(address, [])):
            turns.remove(turn)
            if not turns:
                del self._waiting[address]
        elif turn.done() and not turn.cancelled() and turn.result():
            self._is_busy = self._call_next()

    def _call_next(self) -> bool:
        """Call the newest of the next address, and return whether there is one."""
        if not self._waiting:
            return False
        address = next(iter(self._waiting))
        turns = self._waiting.pop(address)
        turns.pop().set_result(True)
        if turns:
            self._waiting[address] = turns  # behind the other addresses
        return True


async def _first_of(turn: asyncio.Future[bool], gone: asyncio.Event) -> None:
    """Wait for a turn. Raises ClientGone if the client leaves before."""
    leaving = asyncio.ensure_future(gone.wait())
    either: set[asyncio.Future[bool] | asyncio.Future[Literal[True]]] = {turn, leaving}
    try:
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    finally:
        leaving.cancel()
    if not turn.done():
        raise ClientGone
