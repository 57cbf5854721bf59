"""Check that a host speaks the registry API (end-1), and whether it accepts the credentials."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Final

from brolga.errors import ProtocolViolation, TransportError
from brolga.protocol.auth import Access, Credentials, RegistrySession
from brolga.protocol.http import Flow, Request, Response, send_request
from brolga.protocol.responses import is_json, raise_for_status, reject_html
from brolga.protocol.retry import Retry, no_clock, send_with_retry
from brolga.protocol.urls import origin

_NO_API: Final = (400, 404, 405)
_VERSION: Final = "docker-distribution-api-version"
# Reasons of a TransportError by which a registry speaks the other scheme. A TLS connection that is
# cut may be an attack, and is not one of them.
_OTHER_SCHEME: Final = {"https": ("tls", "connect"), "http": ("connect", "cut")}


def ping(
    api_host: str,
    credentials: Credentials | None = None,
    *,
    schemes: Sequence[str] = ("https",),
    retry: Retry | None = None,
    clock: Callable[[], float] = no_clock,
) -> Flow[RegistrySession]:
    """Find the registry at a host, and what it asks for (distribution-spec, end-1).

    `schemes` are tried in order; the next one only if the registry does not speak the one before.
    Raises TransportError if it cannot be reached, Unauthorized if it asks for other credentials,
    ProtocolViolation if it is not a registry.
    """
    retry = retry or Retry()
    bases = [f"{scheme}://{api_host}" for scheme in schemes]
    base, request, response = yield from _get_api(retry, bases)
    registry = RegistrySession(
        base, credentials, retry=retry, clock=clock, ping_headers=response.headers
    )
    if response.status == HTTPStatus.UNAUTHORIZED:
        registry.handle_challenge(request, response)
    elif response.status in _NO_API:
        raise ProtocolViolation(
            f"{base} answers {response.status} at /v2/: it is not an OCI registry"
        )
    else:
        _check_api(request, response)
    return registry


def check_login(registry: RegistrySession) -> Flow[bool]:
    """Call the API with the credentials; return whether the registry asked for them.

    A token is requested without a scope, which takes nothing but the password. Raises
    Unauthorized or Denied if it is refused.
    """
    access = Access(registry, (), f"{registry.base}/v2/")
    request = Request("GET", access.url(""))
    response = yield from access.send(request)
    _check_api(request, response)
    return registry.requires_auth


def _check_api(request: Request, response: Response) -> None:
    """Raise if a response to the API check is not a registry's.

    Quay sends `true` as text/html (quay/quay, endpoints/v2/__init__.py): a response that names
    the API's version, or is JSON, is not a page.
    """
    raise_for_status(request, response, HTTPStatus.OK)
    if response.headers.get(_VERSION, "").startswith("registry/2"):
        return
    try:
        reject_html(request, response)
    except ProtocolViolation:
        if not is_json(response):
            raise


def _get_api(retry: Retry, bases: Sequence[str]) -> Flow[tuple[str, Request, Response]]:
    """Get /v2/ from the first base URL that speaks its scheme."""
    base, *others = bases
    request = Request("GET", f"{base}/v2/")
    scheme = base.partition(":")[0]
    try:
        # No retry of a failure to connect: a wrong address is more likely than a short outage.
        response = yield from send_with_retry(retry, request, send_request, reasons=())
    except TransportError as error:
        if not others or error.reason not in _OTHER_SCHEME[scheme]:
            raise
        if error.reason == "connect" and origin(base)[2] == origin(others[0])[2]:
            raise  # the user named the port, and nothing listens there in either scheme
        # In the handler, so that a traceback shows both failures.
        return (yield from _get_api(retry, others))
    if others and scheme == "http" and response.status == HTTPStatus.BAD_REQUEST:
        return (yield from _get_api(retry, others))  # a TLS server answers plain http with 400
    return base, request, response
