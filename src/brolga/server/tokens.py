"""A token server in the registry, whose tokens die when a plan or a profile says so.

Knows how a token is asked for (distribution, Token Authentication Specification and OAuth2 Token
Authentication) and shown (RFC 6750). Must not know who may do what: whoever asks gets a token, and
each one opens everything. It is there for what happens when one dies.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from starlette.datastructures import Headers
from starlette.responses import JSONResponse

from brolga.server.faults import TokenDies
from brolga.server.injection import Token
from brolga.server.problems import answer
from brolga.server.striking import exchange_of

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from brolga.server.injection import Exchange, Injector

__all__ = ["Tokens"]


class Tokens:
    """Let only those in who show a token that lives, where the plan has tokens."""

    def __init__(self, app: ASGIApp, injector: Injector) -> None:
        self._app = app
        self._injector = injector

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Give a token, pass a request on, or answer 401."""
        exchange = exchange_of(scope)
        app = self._app
        if exchange.planned(TokenDies) or _usual_s(exchange) is not None:
            if scope["path"] == "/token":
                app = self._give(exchange)
            elif not self._lives(exchange, _shown(scope)):
                app = _unauthorized(scope)
        await app(scope, receive, send)

    def _give(self, exchange: Exchange) -> ASGIApp:
        fault = next(iter(exchange.due(TokenDies)), None)
        # A token of a later number lives as long as it says.
        life_s = fault.announced_s if fault else _usual_s(exchange) or TokenDies().announced_s
        token = uuid.uuid4().hex
        exchange.tokens[token] = Token(self._injector.clock(), fault)
        content: dict[str, Any] = {"token": token, "access_token": token, "expires_in": life_s}
        return JSONResponse(content)

    def _lives(self, exchange: Exchange, text: str) -> bool:
        token = exchange.tokens.get(text)
        if token is None:
            return False
        fault, uses = token.fault, exchange.use(text)
        age_s = self._injector.clock() - token.given
        if fault is None:
            life_s = _usual_s(exchange)
            return life_s is None or age_s < life_s
        old = fault.after_s is not None and age_s >= fault.after_s
        if old or (fault.uses is not None and uses >= fault.uses):
            exchange.strike(fault)
            return False
        return True


def _usual_s(exchange: Exchange) -> int | None:
    """Return how long the profile's tokens live; None where it asks for none."""
    return exchange.profile.token_s if exchange.profile else None


def _shown(scope: Scope) -> str:
    scheme, _, text = Headers(scope=scope).get("authorization", "").partition(" ")
    return text.strip() if scheme.lower() == "bearer" else ""


def _unauthorized(scope: Scope) -> ASGIApp:
    host = Headers(scope=scope).get("host", "localhost")
    realm = f"{scope['scheme']}://{host}/token"
    challenge = {"WWW-Authenticate": f'Bearer realm="{realm}",service="brolga"'}
    return answer(401, "UNAUTHORIZED", {"reason": "a token that lives, please"}, challenge)
