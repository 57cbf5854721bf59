"""What stands before every handler: who may come in, and what may be done at all.

Knows HTTP's Basic authentication (RFC 7617), and which methods change something. Must not know
how passwords are kept.
"""

from __future__ import annotations

import asyncio
import base64
from typing import TYPE_CHECKING

from starlette.datastructures import Headers

from brolga.server.problems import answer

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from brolga.server.htpasswd import Htpasswd

__all__ = ["Authentication", "ReadOnly"]

_CHALLENGE = {"WWW-Authenticate": 'Basic realm="brolga", charset="UTF-8"'}
_SAFE = frozenset({"GET", "HEAD"})


class Authentication:
    """Let only those in whom the password file knows."""

    def __init__(self, app: ASGIApp, users: Htpasswd) -> None:
        self._app = app
        self._users = users
        # A password costs a core for a moment: guesses wait for one another, not for uploads.
        self._turn = asyncio.Semaphore(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer 401."""
        app = self._app if await self._is_known(Headers(scope=scope)) else _unauthorized()
        await app(scope, receive, send)

    async def _is_known(self, headers: Headers) -> bool:
        given = _credentials(headers.get("authorization", ""))
        if given is None:
            return False
        if self._users.remembers(*given):
            return True
        async with self._turn:
            return await asyncio.to_thread(self._users.check, *given)


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
