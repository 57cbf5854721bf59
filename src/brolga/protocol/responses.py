"""What an answer means: the error in its body, the session in its Location.

Knows the distribution-spec's error codes and headers. Must not know which conversation asks.

Strategy: an answer may come from a proxy, a login page or an enemy. Whatever its bytes are, they
become a typed error of one short printable line.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final, NoReturn

from brolga.errors import (
    Denied,
    InvalidDigest,
    NotFound,
    ProtocolViolation,
    RateLimited,
    RegistryError,
    Unauthorized,
    one_line,
)
from brolga.protocol.urls import check, redact, resolve
from brolga.spec.digest import Digest, hasher

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from brolga.protocol.http import Request, Response
    from brolga.spec.descriptor import Descriptor

__all__ = [
    "expect_deleted",
    "is_json",
    "location",
    "media_type",
    "named_digest",
    "raise_for_status",
    "reject_html",
    "retry_after_s",
    "shows_blob",
]

_OK: Final = 200
_NOT_FOUND: Final = 404
_MAX_ERRORS: Final = 3  # the cause may not be the first

_MAX_TEXT: Final = 300  # characters of a registry's own words in a message of ours
_MAX_WAIT_S: Final = 3600.0  # no registry makes us wait longer than this many seconds
_MAX_DATE: Final = 64  # characters
_ERRORS: Final[dict[int, type[RegistryError]]] = {
    401: Unauthorized,
    403: Denied,
    404: NotFound,
    429: RateLimited,
}
_REQUEST_IDS: Final = ("x-request-id", "x-github-request-id", "x-amzn-requestid", "x-ms-request-id")


def raise_for_status(
    request: Request, response: Response, *statuses: int, who: str = "the registry"
) -> None:
    """Return where the status of the answer, which `who` gave, is one of `statuses`.

    Raises the RegistryError that the status stands for (distribution-spec, Error Codes), or
    ProtocolViolation for a success or a redirect that is none here.
    """
    if response.status in statuses:
        return
    if response.status >= 400:  # noqa: PLR2004 - HTTP's own border
        _raise_error(request, response, who)
    what = f"{who} answered {request.method} {redact(request.url)} with {response.status}"
    target = response.headers.get("location")
    if target and 300 <= response.status < 400:  # noqa: PLR2004 - HTTP's own border
        raise ProtocolViolation(
            f"{what}, a redirect to {redact(resolve(request.url, target))}; it is not followed "
            "here: name the registry by the address that it redirects to"
        )
    wanted = " or ".join(map(str, statuses))
    raise ProtocolViolation(f"{what} where {wanted} was expected")


def expect_deleted(request: Request, response: Response) -> None:
    """Return if what a DELETE names is gone. Raises NotFound, RegistryError, ProtocolViolation.

    If an earlier attempt had no known outcome, 404 says that it was done.
    """
    if not (response.retried and response.status == _NOT_FOUND):
        raise_for_status(request, response, 202, 200, 204)


def reject_html(request: Request, response: Response) -> None:
    """Raise ProtocolViolation if an answer is a text for people: no registry gives one here.

    A server that has a page for whatever it is asked says 200 as well. A plain text that is JSON is
    no page: Go's HTTP server, and Cloudflare's, call JSON text/plain if nobody says what it is.
    """
    kind = media_type(response).lower()
    is_text = kind.startswith("text/") and not (kind == "text/plain" and is_json(response))
    if is_text or kind == "application/xhtml+xml":
        error = ProtocolViolation(
            f"{redact(request.url)} is {_readable(kind)}: that is not an OCI registry's answer"
        )
        error.add_note(
            "check the host and port; a proxy or a login page may stand in front of the registry"
        )
        raise error


def is_json(response: Response) -> bool:
    """Tell whether the body of an answer is JSON, whatever its Content-Type is."""
    try:
        json.loads(response.body)
    except (ValueError, RecursionError):
        return False
    return True


def media_type(response: Response) -> str:
    """Return the media type that an answer has, without parameters; "" where it tells none."""
    return response.headers.get("content-type", "").partition(";")[0].strip()


def named_digest(response: Response, like: Digest | None = None) -> Digest | None:
    """Return the digest that an answer names; None where it can be no contradiction.

    That is one of another algorithm than `like`'s, or one that cannot be computed here: a registry
    may name a blob by another algorithm, or put something else into the header.
    """
    try:
        digest = Digest.parse(response.headers.get("docker-content-digest", ""))
        hasher(digest.algorithm)
    except InvalidDigest:
        return None
    return digest if like is None or digest.algorithm == like.algorithm else None


def shows_blob(response: Response, descriptor: Descriptor) -> bool:
    """Tell whether an answer to HEAD shows a blob (end-2); a proxy's page with 200 is none.

    Digest or length must be ours, and neither another. Some say a length of 0 with every HEAD.
    """
    digest = named_digest(response, descriptor.digest)
    length = response.headers.get("content-length", "")
    return (
        response.status == _OK
        and digest in {None, descriptor.digest}
        and length in {str(descriptor.size), *(("0", "") if digest else ())}
    )


def location(request: Request, response: Response) -> str:
    """Return the Location of an upload session, resolved against the request's URL.

    Its query is kept byte for byte (distribution-spec, Pushing a blob in chunks). Raises
    ProtocolViolation where there is none, or none that is safe to call.
    """
    target = response.headers.get("location", "").partition("#")[0]
    if not target:
        raise ProtocolViolation(
            f"the registry answered {request.method} {redact(request.url)} without a Location"
        )
    return check(resolve(request.url, target), "Location", seen_from=request.url)


def _raise_error(request: Request, response: Response, who: str) -> NoReturn:
    errors = _errors(response.body)
    code, _, detail = errors[0]
    url = redact(request.url)
    lines = [": ".join(filter(None, parts)) for parts in errors]
    said = "; ".join(dict.fromkeys(filter(None, lines)))
    text = f"{who} answered {request.method} {url} with {response.status}"
    request_id = next(filter(None, map(response.headers.get, _REQUEST_IDS)), "")
    error = _ERRORS.get(response.status, RegistryError)(
        f"{text}: {said}" if said else text,
        method=request.method,
        url=url,
        status=response.status,
        code=code,
        detail=detail,
        request_id=_readable(request_id),
    )
    error.codes = tuple(one for one, _, _ in errors if one)
    if isinstance(error, RateLimited):
        error.retry_after_s = retry_after_s(response.headers)
    raise error


def _errors(body: bytes) -> list[tuple[str, str, str]]:
    """Return code, message and detail of the body's first errors; empty ones where it has none.

    The body is `{"errors": [{"code", "message", "detail"}, …]}` (distribution-spec, Error Codes),
    a token server's `{"details"}` or `{"error"}`, or anything, a proxy's HTML page among it.
    """
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return [("", "", _plain(body))]
    if not isinstance(document, dict):
        return [("", "", "")]
    errors = document.get("errors")
    if not isinstance(errors, list) or not errors:
        errors = [document]
    return [_error(one) for one in errors[:_MAX_ERRORS]]


def _error(one: Any) -> tuple[str, str, str]:  # noqa: ANN401 - any JSON value
    if not isinstance(one, dict):
        return "", "", _readable(one)
    message = one.get("message") or one.get("error_description") or one.get("details")
    return (
        _readable(one.get("code") or one.get("error")),
        _readable(message),
        _readable(one.get("detail")),
    )


def _plain(body: bytes) -> str:
    text = body.decode("utf-8-sig", "replace").strip()
    if text.startswith("<"):
        return "an HTML or XML page, not a registry's answer"
    return _readable(text)


def _readable(value: Any) -> str:  # noqa: ANN401 - any JSON value
    """Return a registry's words as one short printable line."""
    if value is None or value in ("", {}, []):
        return ""
    text = value if isinstance(value, str) else _as_json(value)
    return one_line(text[: 4 * _MAX_TEXT], _MAX_TEXT)


def _as_json(value: Any) -> str:  # noqa: ANN401 - any JSON value
    try:
        return json.dumps(value, ensure_ascii=False)
    except RecursionError:  # what could just be read may be too deep to be written
        return "(deeply nested)"


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that Retry-After asks for (RFC 9110, section 10.2.3), at most an hour.

    A date counts from the answer's own Date: no clock of ours has to agree with the registry's.
    """
    text = headers.get("retry-after", "")
    if re.fullmatch("[0-9]{1,9}", text):
        return min(float(text), _MAX_WAIT_S)
    until, now = _date(text), _date(headers.get("date", ""))
    if until is None or now is None:
        return None
    return min(max((until - now).total_seconds(), 0.0), _MAX_WAIT_S)


def _date(text: str) -> datetime | None:
    """Return an HTTP date, always GMT (RFC 9110, section 5.6.7), or None for what is none."""
    from email.utils import parsedate_to_datetime  # heavy, and rarely needed

    try:
        return parsedate_to_datetime(text[:_MAX_DATE]).replace(tzinfo=None)
    except (ValueError, OverflowError):
        return None
