"""A token server in the registry, whose tokens die as a plan or a profile says.

Every client gets a token, and each token opens everything (distribution, Token Authentication
Specification; OAuth2 Token Authentication; RFC 6750): only the death of a token is emulated.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from starlette.datastructures import Headers
from starlette.responses import JSONResponse

from brolga.registry.errors import error_response
from brolga.testing.faults import TokenDies
from brolga.testing.injector import Exchange, Injector
from brolga.testing.run import Token

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send


class TokenAuthentication:
    """Require a live token, if the plan or the profile has tokens."""

    def __init__(self, app: ASGIApp, injector: Injector) -> None:
        self._app = app
        self._injector = injector

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Issue a token, pass a request on, or answer 401."""
        exchange = Exchange.of(scope)
        app = self._app
        if exchange.has_planned(TokenDies) or _lifetime_s(exchange) is not None:
            headers = Headers(scope=scope)
            scheme, _, token = headers.get("authorization", "").partition(" ")
            if scope["path"] == "/token":
                app = self._issue(exchange)
            elif scheme.lower() != "bearer" or not self._is_alive(exchange, token.strip()):
                realm = f"{scope['scheme']}://{headers.get('host', 'localhost')}/token"
                challenge = {"WWW-Authenticate": f'Bearer realm="{realm}",service="brolga"'}
                app = error_response(401, "UNAUTHORIZED", "a live token, please", challenge)
        await app(scope, receive, send)

    def _issue(self, exchange: Exchange) -> ASGIApp:
        fault = next(iter(exchange.due(TokenDies)), None)
        # A token of a later number lives as long as it claims.
        life_s = fault.announced_s if fault else _lifetime_s(exchange) or TokenDies().announced_s
        token = uuid.uuid4().hex
        exchange.tokens[token] = Token(self._injector.clock(), fault)
        return JSONResponse({"token": token, "access_token": token, "expires_in": life_s})

    def _is_alive(self, exchange: Exchange, text: str) -> bool:
        token = exchange.tokens.get(text)
        if token is None:
            return False
        fault, uses = token.fault, exchange.count_use(text)
        age_s = self._injector.clock() - token.issued
        if fault is None:
            life_s = _lifetime_s(exchange)
            return life_s is None or age_s < life_s
        is_old = fault.after_s is not None and age_s >= fault.after_s
        if is_old or (fault.uses is not None and uses >= fault.uses):
            exchange.fire(fault)
            return False
        return True


def _lifetime_s(exchange: Exchange) -> int | None:
    """Return how long the profile's tokens live; None if it requires none."""
    return exchange.profile.token_s if exchange.profile else None
