"""Follow redirects (RFC 9110, section 15.4), also of requests that write.

"Registries MAY respond to any request with a redirect [...]; clients SHOULD follow such redirects,
and MUST NOT forward `Authorization` headers across host boundaries" (distribution-spec, API;
opencontainers/distribution-spec#607, commit ed40988).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from brolga.errors import ProtocolViolation
from brolga.protocol.urls import check_url, hostname, origin, resolve
from brolga.spec.value import replace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from brolga.errors import UploadInterrupted
    from brolga.protocol.http import Flow, Request, Response

MAX_REDIRECTS: Final = 5
_READS: Final = ("GET", "HEAD")
_REDIRECTS: Final = (301, 302, 303, 307, 308)
_SAME_METHOD: Final = (307, 308)  # the others turn a POST into a GET


class StreamRedirected(Exception):
    """A stream has to be sent to another `url`; `error` is for the case that this is impossible."""

    def __init__(self, error: UploadInterrupted, url: str) -> None:
        super().__init__()
        self.error = error
        self.url = url


def follow_redirects(
    request: Request,
    send: Callable[[Request], Flow[Response]],
    server: str,
    *,
    within_origin: bool = False,
) -> Flow[Response]:
    """Send a request by `send`, and follow redirects if its body can be sent again.

    The response says where they led to (`redirected_to`). The Authorization header is sent to the
    same origin only. If `within_origin`, so is the body. `server` is named in errors.

    Raises ProtocolViolation if a target is not safe, or there are too many redirects.
    """
    first = request.url
    for _ in range(1 + MAX_REDIRECTS):
        response = yield from send(request)
        url = redirect_target(request, response) if request.is_repeatable else None
        stays = within_origin and request.method not in _READS
        if url is None or (stays and origin(url) != origin(request.url)):
            return (
                response if request.url == first else replace(response, redirected_to=request.url)
            )
        request = redirect(request, url)
    raise too_many_redirects(server)


def redirect_target(request: Request, response: Response) -> str | None:
    """Return the URL that a response redirects a request to; None if it does not.

    Raises ProtocolViolation if the URL is not safe to call.
    """
    target = response.headers.get("location", "")
    statuses = _REDIRECTS if request.method in _READS else _SAME_METHOD
    if response.status not in statuses or not target:
        return None
    return check_url(resolve(request.url, target), "redirect", named_by=request.url)


def redirect(request: Request, url: str) -> Request:
    """Return a request for the URL that it was redirected to."""
    headers = request.headers
    if origin(url) != origin(request.url):
        headers = {k: v for k, v in headers.items() if k.lower() != "authorization"}
    return replace(
        request, url=url, headers=headers, delay_s=0.0, redirected_from=hostname(request.url)
    )


def too_many_redirects(server: str) -> ProtocolViolation:
    """Return the error for one redirect more than are followed."""
    return ProtocolViolation(f"{server} redirected more than {MAX_REDIRECTS} times")


def redirect_all(request: Request, urls: Iterable[str]) -> Request:
    """Return the request for the last of the URLs that redirects led to, one after the other."""
    for url in urls:
        request = redirect(request, url)
    return request
