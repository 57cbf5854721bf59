"""protocol.responses: the errors of registries and proxies."""

from __future__ import annotations

import json

import pytest

from brolga.errors import NotFound, ProtocolViolation, RateLimited, RegistryError
from brolga.protocol import Request, Response
from brolga.protocol.responses import _printable, raise_for_status

CALL = Request("GET", "https://registry.example/v2/a/blobs/x?sig=secret")
TEXT = "the registry answered GET https://registry.example/v2/a/blobs/x with"


def error_of(
    body: bytes, status: int = 400, headers: dict[str, str] | None = None
) -> RegistryError:
    """Return the error that an answer with this body stands for."""
    with pytest.raises(RegistryError) as caught:
        raise_for_status(CALL, Response(status, headers or {}, body), 200)
    return caught.value


def spec_body(**first: object) -> bytes:
    """Return an error body of the spec's form, with four more errors behind."""
    more = [{"code": "SECOND", "message": "another"}, first, {"code": "FOURTH"}]
    return json.dumps({"errors": [first, *more]}).encode()


def test_error_message_has_first_three_errors() -> None:
    """`{"errors": [{"code", "message", "detail"}, ...]}` (Error Codes).

    Three of them at most, each once: the second may be the cause.
    """
    body = spec_body(code="BLOB_UNKNOWN", message="blob unknown", detail={"Digest": "sha256:x"})
    error = error_of(body, 404)
    assert isinstance(error, NotFound)
    assert (error.code, error.detail) == ("BLOB_UNKNOWN", '{"Digest": "sha256:x"}')
    assert str(error) == (
        f'{TEXT} 404: BLOB_UNKNOWN: blob unknown: {{"Digest": "sha256:x"}}; SECOND: another'
    )
    assert (error.method, error.status) == ("GET", 404)
    assert error.codes == ("BLOB_UNKNOWN", "SECOND", "BLOB_UNKNOWN")
    assert error.url == "https://registry.example/v2/a/blobs/x"


@pytest.mark.parametrize(
    ("body", "suffix"),
    [
        (b"", ""),
        (b" \r\n ", ""),
        (b"slow down", ": slow down"),
        (b"\xef\xbb\xbf<html><h1>502</h1>", ": an HTML or XML page, not a registry's answer"),
        (b"<?xml version='1.0'?><Error/>", ": an HTML or XML page, not a registry's answer"),
        (b"\xff\xfe\x80", ": \ufffd\ufffd\ufffd"),
        (b"null", ""),
        (b"[]", ""),
        (b"17", ""),
        (b"{}", ""),
        (b'{"errors": []}', ""),
        (b'{"errors": {}}', ""),
        (b'{"errors": "text"}', ""),
        (b'{"errors": [null]}', ""),
        (b'{"errors": ["text"]}', ": text"),
        (b'{"errors": [[1, 2]]}', ": [1, 2]"),
        (b'{"errors": [{}]}', ""),
        (b'{"errors": [{"code": 5, "message": ["a"], "detail": 0}]}', ': 5: ["a"]: 0'),
        (b'{"errors": [{"code": null, "message": "", "detail": {}}]}', ""),
        (b'{"details": "incorrect username or password"}', ": incorrect username or password"),
        (
            b'{"error": "invalid_grant", "error_description": "expired"}',
            ": invalid_grant: expired",
        ),
        (b'{"message": "Not Found"}', ": Not Found"),
        (b'{"errors": [{"message": "' + "ä".encode() + b'"}]}', ": ä"),
    ],
    ids=repr,
)
def test_error_message_of_any_body(body: bytes, suffix: str) -> None:
    """A 4XX response MAY return a body in any format (Error Codes)."""
    assert str(error_of(body)) == f"{TEXT} 400{suffix}"


@pytest.mark.parametrize(
    "text",
    ["a\x1b[31mb", "a\r\nb", "a\x00b", "a\u202eb", "a\u2028b", "a\x9bb", "a\ud800b", "a \t b"],
)
def test_error_message_is_printable(text: str) -> None:
    """An error is one line; escapes could repaint the screen or forge a line of the log."""
    error = error_of(spec_body(code=text, message=text, detail={"x": text}))
    for shown in (str(error), error.code, error.detail):
        assert shown.isprintable()
    assert error.code in {"a b", "a [31mb"}


@pytest.mark.parametrize(
    "body",
    [
        b"x" * 5_000_000,
        spec_body(code="C" * 100_000, message="m" * 100_000, detail=["d"] * 100_000),
        b'{"errors": [' * 100_000,
        b'{"errors": [{"detail": ' + b"1" * 5000 + b"}]}",
        b'{"errors": [{"detail": ' + b"[" * 900 + b"]" * 900 + b"}]}",
    ],
    ids=["text", "spec", "deep", "number", "deep detail"],
)
def test_error_message_is_short(body: bytes) -> None:
    """Memory and screens are not filled by what a peer sends (GHSA-f36w-mj3v-6jqv)."""
    error = error_of(body)
    assert len(str(error)) < 1100
    assert len(error.code) <= 301
    assert len(error.detail) <= 301


def test_printable_replaces_deeply_nested_value() -> None:
    """RFC 8259, section 9: a parser may set limits; a writer's may be narrower."""
    value: list[object] = []
    for _ in range(100_000):
        value = [value]
    assert _printable(value) == "(deeply nested)"
    while value:  # taken apart by hand: the interpreter frees it by recursion as well
        value = value.pop()  # type: ignore[assignment]


@pytest.mark.parametrize(
    "name", ["x-request-id", "x-github-request-id", "x-amzn-requestid", "x-ms-request-id"]
)
def test_error_has_request_id(name: str) -> None:
    """A registry's support asks for it first."""
    assert error_of(b"", 500, {name: "id-\x1b1"}).request_id == "id- 1"
    assert error_of(b"", 500).request_id == ""


NOW = "Wed, 21 Oct 2026 07:28:00 GMT"


@pytest.mark.parametrize(
    ("after", "date", "seconds"),
    [
        ("", NOW, None),
        ("0", "", 0.0),
        ("120", "", 120.0),
        ("999999999", "", 3600.0),
        ("9999999999", "", None),
        ("-5", "", None),
        ("1.5", "", None),
        ("1e3", "", None),
        ("\u0665", "", None),
        ("soon", NOW, None),
        ("Wed, 21 Oct 2026 07:30:00 GMT", NOW, 120.0),
        ("Wednesday, 21-Oct-26 07:30:00 GMT", NOW, 120.0),
        ("Wed, 21 Oct 2026 07:27:00 GMT", NOW, 0.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", NOW, 3600.0),
        ("Wed, 21 Oct 2026 07:30:00 GMT", "", None),
        ("Wed, 21 Oct 2026 07:30:00 GMT", "yesterday", None),
        ("Wed, 99 Oct 2026 07:30:00 GMT", NOW, None),
        ("Wed, 21 Oct 2026 07:30:00 +9999999999", NOW, None),
        ("Wed, 21 Oct 99999999999999999999 07:30:00 GMT", NOW, None),
    ],
)
def test_error_has_retry_after(after: str, date: str, seconds: float | None) -> None:
    """Retry-After = HTTP-date / delay-seconds (RFC 9110, section 10.2.3), with a bound."""
    error = error_of(b"", 429, {"retry-after": after, "date": date})
    assert isinstance(error, RateLimited)
    assert error.retry_after_s == seconds


@pytest.mark.parametrize("status", [200, 201, 206, 304])
def test_raise_for_status_rejects_unexpected_success(status: int) -> None:
    """Each endpoint names its own success (Endpoints)."""
    with pytest.raises(ProtocolViolation, match=f"{status}, not with 202 or 204"):
        raise_for_status(CALL, Response(status), 202, 204)
