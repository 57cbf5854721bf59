"""The registry as an ASGI application: the table of its routes, and its middleware."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from brolga._version import __version__
from brolga.registry.errors import HANDLERS, error_response
from brolga.registry.options import Options
from brolga.registry.routes import blobs, listings, manifests, uploads
from brolga.registry.serving.auth import Authentication, HostCheck, ReadOnly
from brolga.registry.serving.htpasswd import Htpasswd
from brolga.registry.storage.store import Store

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

    from starlette.requests import Request
    from starlette.types import ASGIApp, Message, Receive, Scope, Send


async def _ping(_request: Request) -> Response:
    """Confirm that this is a registry (distribution-spec, Determining Support)."""
    return JSONResponse({})


# distribution-spec, Endpoints. A name has slashes: it is everything before the last words of the
# path, and routes/requests.py checks it.
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
# Of every response. A client chooses what it pushes, and its media type: no browser may run it as a
# page of this host.
_HEADERS: Final = {
    "Docker-Distribution-API-Version": "registry/2.0",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
    "Content-Disposition": "attachment",
}
_ROUTES: Final = [Route(path, handler, methods=[method]) for method, path, handler in _TABLE]


def _no_route(request: Request, _error: Exception) -> Response:
    """Answer 405 to a wrong method, and 404 to a wrong path."""
    allowed: set[str] = set()
    for route in _ROUTES:
        if route.path_regex.match(request.scope["path"]):
            allowed |= route.methods or set()
    if not allowed:
        return error_response(404, "UNSUPPORTED", "no such path")
    allow = {"Allow": ", ".join(sorted(allowed))}
    return error_response(405, "UNSUPPORTED", f"no {request.method} here", allow)


class _ServerHeaders:
    """Add `_HEADERS`, and `Server` unless a middleware has set it; an empty one is left out."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(_HEADERS)
                if not headers.setdefault("Server", f"brolga/{__version__}"):
                    del headers["Server"]
            await send(message)

        await self._app(scope, receive, send_with_headers)


def create_app(
    directory: Path, options: Options | None = None, middleware: Sequence[Middleware] = ()
) -> Starlette:
    """Return the registry that stores in `directory`, which is created if it does not exist.

    `middleware` runs before authentication. Its `scope["app"].state.store` is the Store of all
    handlers, and may be replaced. Raises InvalidHtpasswd; OSError.
    """
    options = options or Options()
    directory.mkdir(parents=True, exist_ok=True)
    # Other machines use other names for a public registry, or need a password.
    is_local = options.htpasswd is None and options.tls_cert is None
    hosts = options.allow_host if is_local and not options.allow_anonymous else None
    layers = [Middleware(_ServerHeaders), Middleware(HostCheck, hosts=hosts), *middleware]
    if options.htpasswd is not None:
        layers.append(Middleware(Authentication, users=Htpasswd(options.htpasswd)))
    if options.read_only:
        layers.append(Middleware(ReadOnly))
    app = Starlette(
        routes=_ROUTES,
        middleware=layers,
        exception_handlers={**HANDLERS, HTTPException: _no_route},
    )
    app.router.redirect_slashes = False
    app.state.options = options
    # The numbers of the write errors that are in the log (errors.py).
    app.state.logged_errnos = set()
    app.state.store = Store(directory, durable=options.durable, read_only=options.read_only)
    return app
