"""Read responses: the status, the error in the body, Location, Docker-Content-Digest, Retry-After.

A response may come from a proxy, a login page or an attacker. Whatever its bytes are, they become
a typed error of one short printable line.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, NoReturn

from brolga import errors
from brolga.errors import ProtocolViolation
from brolga.protocol.urls import check_url, redact, resolve
from brolga.spec.digest import Digest, check_computable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from brolga.protocol.http import Request, Response
    from brolga.spec.descriptor import Descriptor

_MAX_ERRORS: Final = 3  # the cause may not be the first
_MAX_TEXT: Final = 300  # characters of each text of a registry in a message
_MAX_WAIT_S: Final = 3600.0
_MAX_DATE: Final = 64  # characters
_ERRORS: Final[dict[int, type[errors.RegistryError]]] = {
    HTTPStatus.UNAUTHORIZED: errors.Unauthorized,
    HTTPStatus.FORBIDDEN: errors.Denied,
    HTTPStatus.NOT_FOUND: errors.NotFound,
    HTTPStatus.TOO_MANY_REQUESTS: errors.RateLimited,
}
# What to do if a server other than the registry fails.
_HINTS: Final = {"the token server": "tell its administrator"}
_REQUEST_IDS: Final = ("x-request-id", "x-github-request-id", "x-amzn-requestid", "x-ms-request-id")


def raise_for_status(
    request: Request, response: Response, *statuses: int, server: str = "the registry"
) -> None:
    """Raise if the status of a response is not one of `statuses`; `server` names who sent it.

    Raises the RegistryError of the status (distribution-spec, Error Codes), or ProtocolViolation
    for another success or a redirect.
    """
    if response.status in statuses:
        return
    if response.status >= HTTPStatus.BAD_REQUEST:
        _raise_error(request, response, server)
    answer = f"{server} answered {request.method} {redact(request.url)} with {response.status}"
    target = response.headers.get("location")
    if target and response.status >= HTTPStatus.MULTIPLE_CHOICES:
        raise ProtocolViolation(
            f"{answer}, a redirect to {redact(resolve(request.url, target))}; it is not followed "
            "here",
            hint="name the registry by the address that it redirects to",
        )
    expected = " or ".join(map(str, statuses))
    raise ProtocolViolation(f"{answer}, not with {expected}", hint=_HINTS.get(server, ""))


def raise_unless_deleted(request: Request, response: Response) -> None:
    """Raise as `raise_for_status` unless a DELETE, or a lost attempt before it (404), succeeded."""
    if not (response.retried and response.status == HTTPStatus.NOT_FOUND):
        raise_for_status(request, response, 202, 200, 204)


def reject_html(request: Request, response: Response) -> None:
    """Raise ProtocolViolation if a response is a page or a text: no registry sends one here.

    A server that has a page for every URL may send it with 200. A plain text that is JSON is not
    such a page: the HTTP servers of Go and Cloudflare call JSON text/plain by default.
    """
    kind = media_type(response).lower()
    is_text = kind.startswith("text/") and not (kind == "text/plain" and is_json(response))
    if is_text or kind == "application/xhtml+xml":
        raise ProtocolViolation(
            f"{redact(request.url)} is {_printable(kind)}: that is not an OCI registry's answer",
            hint="check the host and port; a proxy or a login page may stand in front of the "
            "registry",
        )


def is_json(response: Response) -> bool:
    """Return whether the body of a response is JSON, whatever its Content-Type is."""
    import json

    try:
        json.loads(response.body)
    except (ValueError, RecursionError):
        return False
    return True


def media_type(response: Response) -> str:
    """Return the media type of a response without parameters; "" if it has no Content-Type."""
    return response.headers.get("content-type", "").partition(";")[0].strip()


def content_digest(response: Response, expected: Digest | None = None) -> Digest | None:
    """Return Docker-Content-Digest, or None if it cannot contradict the `expected` digest.

    It cannot if it is of another algorithm, cannot be computed here, or is not a valid digest.
    """
    try:
        digest = Digest.parse(response.headers.get("docker-content-digest", ""))
        check_computable(digest.algorithm)
    except errors.InvalidDigest:
        return None
    return digest if expected is None or digest.algorithm == expected.algorithm else None


def confirms_blob(response: Response, descriptor: Descriptor) -> bool:
    """Return whether a response to HEAD shows that a blob exists (end-2), unlike a page with 200.

    Digest or length must be equal, and neither may differ. Some registries send a length of 0
    with every HEAD.
    """
    digest = content_digest(response, descriptor.digest)
    length = response.headers.get("content-length", "")
    return (
        response.status == HTTPStatus.OK
        and digest in {None, descriptor.digest}
        and length in {str(descriptor.size), *(("0", "") if digest else ())}
    )


def location(request: Request, response: Response) -> str:
    """Return the Location of an upload session, resolved against the URL that sent the response.

    Its query is kept byte for byte (distribution-spec, Pushing a blob in chunks). Raises
    ProtocolViolation if it is missing, or not safe to call.
    """
    target = response.headers.get("location", "").partition("#")[0]
    if not target:
        raise ProtocolViolation(
            f"the registry answered {request.method} {redact(request.url)} without a Location"
        )
    sender = response.redirected_to or request.url
    return check_url(resolve(sender, target), "Location", named_by=sender)


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Return Retry-After in seconds (RFC 9110, section 10.2.3), at most an hour.

    A date counts from the response's own Date, so the clocks need not agree.
    """
    text = headers.get("retry-after", "")
    if re.fullmatch("[0-9]{1,9}", text):
        return min(float(text), _MAX_WAIT_S)
    until, now = _parse_date(text), _parse_date(headers.get("date", ""))
    if until is None or now is None:
        return None
    return min(max((until - now).total_seconds(), 0.0), _MAX_WAIT_S)


def _raise_error(request: Request, response: Response, server: str) -> NoReturn:
    entries = _read_errors(response.body)
    code, _, detail = entries[0]
    url = redact(request.url)
    lines = [": ".join(filter(None, parts)) for parts in entries]
    reason = "; ".join(dict.fromkeys(filter(None, lines)))
    text = f"{server} answered {request.method} {url} with {response.status}"
    request_id = next(filter(None, map(response.headers.get, _REQUEST_IDS)), "")
    error = _ERRORS.get(response.status, errors.RegistryError)(
        f"{text}: {reason}" if reason else text,
        method=request.method,
        url=url,
        status=response.status,
        code=code,
        detail=detail,
        request_id=_printable(request_id),
        hint=_HINTS.get(server, "") if response.status == HTTPStatus.NOT_FOUND else "",
    )
    error.codes = tuple(code for code, _, _ in entries if code)
    if isinstance(error, errors.RateLimited):
        error.retry_after_s = retry_after_s(response.headers)
    try:
        raise error
    finally:
        del error  # its traceback refers to this frame


def _read_errors(body: bytes) -> list[tuple[str, str, str]]:
    """Return code, message and detail of the first errors in a body, each "" if it is missing.

    The body is `{"errors": [{"code", "message", "detail"}, …]}` (distribution-spec, Error Codes),
    a token server's `{"details"}` or `{"error"}`, or anything else, such as a proxy's page.
    """
    import json

    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        text = body.decode("utf-8-sig", "replace").strip()
        if text.startswith("<"):
            text = "an HTML or XML page, not a registry's answer"
        return [("", "", _printable(text))]
    if not isinstance(document, dict):
        return [("", "", "")]
    entries = document.get("errors")
    if not isinstance(entries, list) or not entries:
        entries = [document]
    return [_read_error(entry) for entry in entries[:_MAX_ERRORS]]


def _read_error(error: Any) -> tuple[str, str, str]:  # noqa: ANN401 - any JSON value
    if not isinstance(error, dict):
        return "", "", _printable(error)
    message = error.get("message") or error.get("error_description") or error.get("details")
    code = error.get("code") or error.get("error")
    return _printable(code), _printable(message), _printable(error.get("detail"))


def _printable(value: Any) -> str:  # noqa: ANN401 - any JSON value
    """Return a JSON value from a registry as one short printable line."""
    import json

    if value is None or value in ("", {}, []):
        return ""
    try:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    except RecursionError:  # a value that could be read may be too deep to be written
        text = "(deeply nested)"
    return errors.one_line(text[: 4 * _MAX_TEXT], _MAX_TEXT)


def _parse_date(text: str) -> datetime | None:
    """Return an HTTP date, always GMT (RFC 9110, section 5.6.7); None if it is not valid."""
    from email.utils import parsedate_to_datetime  # slow to import, and rarely needed

    try:
        return parsedate_to_datetime(text[:_MAX_DATE]).replace(tzinfo=None)
    except (ValueError, OverflowError):
        return None
