"""What stands before every handler: who may come in, and what may be done at all.

Knows HTTP's Basic authentication (RFC 7617), what a browser says of the page that it asks for
(Host, Origin), and which methods change something. Must not know how passwords are kept.
"""

from __future__ import annotations

import asyncio
import base64
import ipaddress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from brolga.errors import excerpt
from brolga.server.logins import ClientGone, LoginQueue, TooManyLogins
from brolga.server.problems import answer

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from brolga.server.htpasswd import Htpasswd

__all__ = ["Authentication", "Browsers", "ReadOnly"]

_CHALLENGE = {"WWW-Authenticate": 'Basic realm="brolga", charset="UTF-8"'}
_SAFE = frozenset({"GET", "HEAD"})


# Names below these are of this machine or this network: no page elsewhere has one (RFC 6761, RFC
# 9476 and ICANN's reservation of `internal`).
_LOCAL_NAMES = (".localhost", ".internal")


class Browsers:
    """Refuse what a page of another site makes a browser send.

    If `hosts` is not None, a request's Host must be an address, a name without a dot, a name of
    this machine's, or one of them: a page whose name was rebound to this address has its own name
    there. An Origin, if there is one, must be this registry itself.
    """

    def __init__(self, app: ASGIApp, hosts: tuple[str, ...] | None) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer 403."""
        headers = Headers(scope=scope)
        host, origin = headers.get("host", ""), headers.get("origin")
        app = self._app
        if self._hosts is not None and not _is_local(host, self._hosts):
            app = _forbidden(f"the Host {excerpt(host)} is not local; --allow-host adds it")
        elif origin is not None and origin != f"{scope['scheme']}://{host}":
            app = _forbidden(f"the request comes from a page of {excerpt(origin)}")
        await app(scope, receive, send)


def _is_local(host: str, allowed: tuple[str, ...]) -> bool:
    try:
        name = (urlsplit(f"//{host}").hostname or "").removesuffix(".")
    except ValueError:
        return False
    return "." not in name or name in allowed or name.endswith(_LOCAL_NAMES) or _is_address(name)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _forbidden(reason: str) -> ASGIApp:
    return answer(403, "DENIED", {"reason": reason})


class Authentication:
    """Let only those in whom the password file knows."""

    def __init__(self, app: ASGIApp, users: Htpasswd) -> None:
        self._app = app
        self._users = users
        self._queue = LoginQueue(users.check)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer 401, or 429 if too many passwords wait."""
        try:
            app = self._app if await self._is_known(scope) else _unauthorized()
        except TooManyLogins:
            app = _too_many()
        except ClientGone:
            return
        await app(scope, receive, send)

    async def _is_known(self, scope: Scope) -> bool:
        given = _credentials(Headers(scope=scope).get("authorization", ""))
        if given is None:
            return False
        if self._users.remembers(*given):
            return True
        lost = scope.get("extensions", {}).get("brolga.lost", {})
        address, _ = scope.get("client") or ("", 0)
        return await self._queue.check(address, *given, lost.get("event") or asyncio.Event())


def _too_many() -> ASGIApp:
    reason = {"reason": "too many passwords wait to be checked"}
    return answer(429, "TOOMANYREQUESTS", reason, {"Retry-After": "1"})


def _unauthorized() -> ASGIApp:
    return answer(401, "UNAUTHORIZED", {"reason": "name and password, please"}, _CHALLENGE)


def _credentials(header: str) -> tuple[str, str] | None:
    """Read name and password (RFC 7617, section 2); None where there are none."""
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
    """Refuse what would change anything."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer 405 ("If manifest deletion is disabled, ...")."""
        app = self._app if scope["method"] in _SAFE else _refused()
        await app(scope, receive, send)


def _refused() -> ASGIApp:
    reason = {"reason": "this registry is read-only"}
    return answer(405, "UNSUPPORTED", reason, {"Allow": ", ".join(sorted(_SAFE))})
