"""The checks before every handler: Basic authentication (RFC 7617), Host and Origin, read-only."""

from __future__ import annotations

import asyncio
import base64
import ipaddress
from typing import TYPE_CHECKING, Final, Literal
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from brolga.errors import excerpt
from brolga.registry.errors import error_response
from brolga.registry.serving.connection_limits import disconnect_event

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp, Receive, Scope, Send

    from brolga.registry.serving.htpasswd import Htpasswd


_CHALLENGE: Final = {"WWW-Authenticate": 'Basic realm="brolga", charset="UTF-8"'}
_SAFE_METHODS: Final = frozenset({"GET", "HEAD"})

# Names below these belong to this machine or this network: no foreign page has one (RFC 6761, RFC
# 9476 and ICANN's reservation of `internal`).
_LOCAL_SUFFIXES: Final = (".localhost", ".internal")

MAX_PENDING_LOGINS: Final = 128


class HostCheck:
    """Reject requests that a page of another site makes a browser send.

    If `hosts` is not None, a request's Host must be an address, a local name, or one of `hosts`. A
    page whose name was rebound to this address still sends its own name. An Origin, if there is
    one, must be this registry itself.
    """

    def __init__(self, app: ASGIApp, hosts: tuple[str, ...] | None) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer 403."""
        headers = Headers(scope=scope)
        host, origin = headers.get("host", ""), headers.get("origin")
        reason = ""
        if self._hosts is not None and not _is_local(host, self._hosts):
            reason = f"the Host {excerpt(host)} is not local; --allow-host adds it"
        elif origin is not None and origin != f"{scope['scheme']}://{host}":
            reason = f"the request comes from a page of {excerpt(origin)}"
        app = error_response(403, "DENIED", reason) if reason else self._app
        await app(scope, receive, send)


def _is_local(host: str, allowed: tuple[str, ...]) -> bool:
    try:
        name = (urlsplit(f"//{host}").hostname or "").removesuffix(".")
        if "." in name and name not in allowed and not name.endswith(_LOCAL_SUFFIXES):
            ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


class Authentication:
    """Require Basic credentials that are in the htpasswd file."""

    def __init__(self, app: ASGIApp, users: Htpasswd) -> None:
        self._app = app
        self._users = users
        self._queue = LoginQueue(users.check)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer 401, or 429 if too many logins are pending."""
        app = self._app
        try:
            if not await self._is_known(scope):
                app = error_response(401, "UNAUTHORIZED", "name and password, please", _CHALLENGE)
        except TooManyLogins:
            reason = "too many passwords wait to be checked"
            app = error_response(429, "TOOMANYREQUESTS", reason, {"Retry-After": "1"})
        except ClientGone:
            return
        await app(scope, receive, send)

    async def _is_known(self, scope: Scope) -> bool:
        credentials = _parse_credentials(Headers(scope=scope).get("authorization", ""))
        if credentials is None:
            return False
        if self._users.remembers(*credentials):
            return True
        address, _ = scope.get("client") or ("", 0)
        return await self._queue.check(address, *credentials, disconnect_event(scope))


def _parse_credentials(header: str) -> tuple[str, str] | None:
    """Return name and password (RFC 7617, section 2); None for another scheme."""
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        text = base64.b64decode(encoded.strip(), validate=True).decode()
    except ValueError:
        return None
    name, colon, password = text.partition(":")
    return (name, password) if colon else None


class ReadOnly:
    """Reject requests that would change anything."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer 405 ("If manifest deletion is disabled, ...")."""
        app = self._app
        if scope["method"] not in _SAFE_METHODS:
            allow = {"Allow": ", ".join(sorted(_SAFE_METHODS))}
            app = error_response(405, "UNSUPPORTED", "this registry is read-only", allow)
        await app(scope, receive, send)


class ClientGone(Exception):
    """The client left before its password was checked."""


class TooManyLogins(Exception):
    """Too many passwords wait to be checked."""


class LoginQueue:
    """Checks one password at a time, in an order that a flood of guesses cannot block.

    A check costs a core for a moment. Waiting addresses take turns. Of one address the newest
    request is first: a client that guesses waits behind those that came later. A client that leaves
    loses its place. If `MAX_PENDING_LOGINS` wait, the address with most of them loses its oldest.
    """

    def __init__(self, check: Callable[[str, str], bool]) -> None:
        self._check = check
        self._is_busy = False
        self._pending: dict[str, list[asyncio.Future[bool]]] = {}  # by address, the next first

    async def check(self, address: str, name: str, password: str, gone: asyncio.Event) -> bool:
        """Return whether a password is right. Raises ClientGone, TooManyLogins."""
        turn: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        leaving = asyncio.ensure_future(gone.wait())
        either: set[asyncio.Future[bool] | asyncio.Future[Literal[True]]] = {turn, leaving}
        self._enter(address, turn)
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not turn.done():
                raise ClientGone
            if not turn.result():
                raise TooManyLogins
            return await asyncio.to_thread(self._check, name, password)
        finally:
            leaving.cancel()
            self._leave(address, turn)

    def _enter(self, address: str, turn: asyncio.Future[bool]) -> None:
        if not self._is_busy:
            self._is_busy = True
            turn.set_result(True)
            return
        self._pending.setdefault(address, []).append(turn)
        if sum(map(len, self._pending.values())) > MAX_PENDING_LOGINS:
            most = max(self._pending.values(), key=len)
            most.pop(0).set_result(False)

    def _leave(self, address: str, turn: asyncio.Future[bool]) -> None:
        """Give up a place, or pass the turn on."""
        if turn in (turns := self._pending.get(address, [])):
            turns.remove(turn)
            if not turns:
                del self._pending[address]
        elif turn.done() and not turn.cancelled() and turn.result():
            self._is_busy = bool(self._pending)
            if self._is_busy:
                address = next(iter(self._pending))
                turns = self._pending.pop(address)
                turns.pop().set_result(True)
                if turns:
                    self._pending[address] = turns  # behind the other addresses
