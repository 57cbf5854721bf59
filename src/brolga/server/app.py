"""The registry as an ASGI application: the table of its routes.

Knows which method and path is whose. Must not know what the handlers do, or which server runs it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.responses import JSONResponse
from starlette.routing import Route

from brolga._version import __version__
from brolga.server import blobs, listings, manifests, uploads
from brolga.server.guard import Authentication, Browsers, ReadOnly
from brolga.server.htpasswd import Htpasswd
from brolga.server.options import Options
from brolga.server.problems import HANDLERS, answer
from brolga.server.quirks import Quirks
from brolga.server.storage import Store
from brolga.server.striking import Injecting
from brolga.server.tokens import Tokens

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from brolga.server.injection import Injector

__all__ = ["create_app"]


async def _ping(_request: Request) -> Response:
    """Say that this is a registry (distribution-spec, Determining Support)."""
    return JSONResponse({})


# distribution-spec, Endpoints. A name has slashes: it is all that stands before the last words
# that a path can end with, and names.py judges it.
_TABLE: tuple[tuple[str, str, Callable[[Request], Awaitable[Response]]], ...] = (
    ("GET", "/v2/", _ping),
    ("GET", "/v2/_catalog", listings.catalog),
    ("POST", "/v2/{name:path}/blobs/uploads/", uploads.start),
    ("POST", "/v2/{name:path}/blobs/uploads", uploads.start),
    ("GET", "/v2/{name:path}/blobs/uploads/{upload}", uploads.status),
    ("PATCH", "/v2/{name:path}/blobs/uploads/{upload}", uploads.append),
    ("PUT", "/v2/{name:path}/blobs/uploads/{upload}", uploads.finish),
    ("DELETE", "/v2/{name:path}/blobs/uploads/{upload}", uploads.cancel),
    ("GET", "/v2/{name:path}/blobs/{digest}", blobs.pull),
    ("DELETE", "/v2/{name:path}/blobs/{digest}", blobs.delete),
    ("GET", "/v2/{name:path}/manifests/{reference}", manifests.pull),
    ("PUT", "/v2/{name:path}/manifests/{reference}", manifests.push),
    ("DELETE", "/v2/{name:path}/manifests/{reference}", manifests.delete),
    ("GET", "/v2/{name:path}/tags/list", listings.tags),
    ("GET", "/v2/{name:path}/referrers/{digest}", listings.referrers),
)
_ROUTES = [Route(path, handler, methods=[method]) for method, path, handler in _TABLE]


def _not_in_table(request: Request, _error: Exception) -> Response:
    """Tell a wrong method from a wrong path."""
    allowed: set[str] = set()
    for route in _ROUTES:
        if route.path_regex.match(request.scope["path"]):
            allowed |= route.methods or set()
    if not allowed:
        return answer(404, "UNSUPPORTED", {"reason": "no such path"})
    reason = {"reason": f"no {request.method} here"}
    return answer(405, "UNSUPPORTED", reason, {"Allow": ", ".join(sorted(allowed))})


# A client chooses what it pushes, and its media type: no browser may run it as a page from here.
_NO_PAGE = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
    "Content-Disposition": "attachment",
}


class _Marks:
    """Put on every answer whose registry this is, and the header that clients of old look for.

    And those that keep a browser from showing it.
    """

    def __init__(self, app: ASGIApp, injector: Injector | None) -> None:
        self._app = app
        self._injector = injector

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def mark(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Docker-Distribution-API-Version"] = "registry/2.0"
                headers.update(_NO_PAGE)
                # One that plays another kind of registry does not say who it is.
                if self._injector is None or self._injector.profile is None:
                    headers["Server"] = f"brolga/{__version__}"
            await send(message)

        await self._app(scope, receive, mark)


def _middleware(options: Options) -> list[Middleware]:
    # Others that reach the registry know it by other names, or cannot come in without a password.
    is_open = options.htpasswd is None and options.tls_cert is None
    hosts = options.allow_host if is_open and not options.allow_anonymous else None
    chosen = [
        Middleware(_Marks, injector=options.injector),
        Middleware(Browsers, hosts=hosts),
    ]
    if options.injector is not None:
        chosen += [
            Middleware(Injecting, injector=options.injector),
            Middleware(Tokens, injector=options.injector),
            Middleware(Quirks, injector=options.injector),
        ]
    if options.htpasswd is not None:
        chosen.append(Middleware(Authentication, users=Htpasswd(options.htpasswd)))
    if options.read_only:
        chosen.append(Middleware(ReadOnly))
    return chosen


def create_app(directory: Path, options: Options | None = None) -> Starlette:
    """Return the registry that stores in `directory`, which is made where it is not there.

    Raises InvalidHtpasswd; OSError.
    """
    options = options or Options()
    directory.mkdir(parents=True, exist_ok=True)
    app = Starlette(
        routes=_ROUTES,
        middleware=_middleware(options),
        exception_handlers={**HANDLERS, HTTPException: _not_in_table},
    )
    app.router.redirect_slashes = False
    app.state.options = options
    # What the log has already, by its number (problems).
    app.state.told = set()
    app.state.store = Store(directory, durable=options.durable, read_only=options.read_only)
    if options.injector is not None:
        options.injector.bind(app.state)
    return app
