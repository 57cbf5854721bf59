"""wire/access.py: whether the credentials do."""

from __future__ import annotations

from urllib.parse import urlencode

import pytest
from tests.protocol.scripted import (
    BASIC,
    BEARER,
    ONCE,
    PING,
    REALM,
    USER,
    Step,
    authorized,
    elsewhere,
    play,
)

from brolga.errors import BrolgaError, Denied, ProtocolViolation, RegistryError, Unauthorized
from brolga.protocol import Credentials, Flow, Request, Response, check_login, ping

TOKEN = Response(200, body=b'{"token": "t1"}')
IDENTITY = Credentials("someone", identity_token="refresh me")  # noqa: S106 - a made-up one
READY = Credentials(registry_token="as-it-is")  # noqa: S106 - a made-up one


def login(credentials: Credentials | None) -> Flow[bool]:
    """Find a registry and check the credentials there."""
    registry = yield from ping("registry.example", credentials, retry=ONCE)
    return (yield from check_login(registry))


def ask(credentials: Credentials | None = None) -> Request:
    """Return the call that asks for a token without a scope."""
    headers = {"Authorization": credentials.basic} if credentials else {}
    return elsewhere(Request("GET", f"{REALM}?service=registry.example", headers))


FORM = {
    "grant_type": "refresh_token",
    "client_id": "brolga",
    "refresh_token": "refresh me",
    "service": "registry.example",
}
EXCHANGE = elsewhere(
    Request(
        "POST",
        REALM,
        {"Content-Type": "application/x-www-form-urlencoded"},
        urlencode(FORM).encode(),
    )
)

KNOWN: dict[str, tuple[Credentials | None, list[Step]]] = {
    "basic": (USER, [(PING, Response(401, BASIC)), (authorized(PING, USER.basic), Response(200))]),
    "bearer": (
        USER,
        [
            (PING, Response(401, BEARER)),
            (ask(USER), TOKEN),
            (authorized(PING, "Bearer t1"), Response(200)),
        ],
    ),
    "nobody": (
        None,
        [
            (PING, Response(401, BEARER)),
            (ask(), TOKEN),
            (authorized(PING, "Bearer t1"), Response(200)),
        ],
    ),
    "identity token": (
        IDENTITY,
        [
            (PING, Response(401, BEARER)),
            (EXCHANGE, TOKEN),
            (authorized(PING, "Bearer t1"), Response(200)),
        ],
    ),
    "registry token": (
        READY,
        [(PING, Response(401, BEARER)), (authorized(PING, "Bearer as-it-is"), Response(200))],
    ),
    "asked later": (
        USER,
        [
            (PING, Response(200)),
            (PING, Response(401, BASIC)),
            (authorized(PING, USER.basic), Response(200)),
        ],
    ),
}


@pytest.mark.parametrize("name", KNOWN)
def test_credentials_that_do_are_told_so(name: str) -> None:
    """`GET /v2/` as who the credentials say; a token has no scope (docker login does the same)."""
    credentials, steps = KNOWN[name]
    assert play(login(credentials), *steps) is True


@pytest.mark.parametrize("credentials", [None, USER, IDENTITY])
def test_a_registry_that_does_not_ask_proves_nothing(credentials: Credentials | None) -> None:
    """200 to everybody says nothing about a password."""
    assert play(login(credentials), (PING, Response(200)), (PING, Response(200))) is False


@pytest.mark.parametrize(
    ("credentials", "steps", "kind"),
    [
        (
            USER,
            [(PING, Response(401, BASIC)), (authorized(PING, USER.basic), Response(401, BASIC))],
            401,
        ),
        (USER, [(PING, Response(401, BEARER)), (ask(USER), Response(401))], 401),
        (USER, [(PING, Response(401, BEARER)), (ask(USER), Response(403))], 403),
        (None, [(PING, Response(401, BASIC))], 401),
        (IDENTITY, [(PING, Response(401, BEARER)), (EXCHANGE, Response(401))], 401),
        (
            READY,
            [
                (PING, Response(401, BEARER)),
                (authorized(PING, "Bearer as-it-is"), Response(401, BEARER)),
            ],
            401,
        ),
        (
            READY,
            [(PING, Response(401, BASIC)), (authorized(PING, "Bearer as-it-is"), Response(403))],
            403,
        ),
    ],
)
def test_credentials_that_do_not_are_refused(
    credentials: Credentials | None, steps: list[Step], kind: int
) -> None:
    """Wrong ones are told at once, and tried once."""
    error: type[BrolgaError] = {401: Unauthorized, 403: Denied}[kind]
    play(login(credentials), *steps, error=error)


@pytest.mark.parametrize(("status", "kind"), [(204, ProtocolViolation), (500, RegistryError)])
def test_another_answer_is_no_success(status: int, kind: type[BrolgaError]) -> None:
    """If the response is `200 OK`, then the registry implements this specification."""
    play(login(USER), (PING, Response(200)), (PING, Response(status)), error=kind)


@pytest.mark.parametrize(
    ("reply", "asks_for"),
    [
        (Response(200), "nothing"),
        (Response(401, BASIC), "basic"),
        (Response(401, BEARER), "token of auth.example"),
    ],
)
def test_what_a_registry_asks_for_can_be_told(response: Response, asks_for: str) -> None:
    """The challenge of the API check, and the headers beside it: who explains shows them."""
    shown = Response(response.status, {**response.headers, "server": "some/1.0"})
    registry = play(ping("registry.example", USER, retry=ONCE), (PING, shown))
    assert registry.auth_scheme == asks_for
    assert registry.asks is (response.status == 401)
    assert registry.shows["server"] == "some/1.0"


VERSION = {"docker-distribution-api-version": "registry/2.0"}


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({"content-type": "text/html; charset=utf-8"}, b"true"),
        ({"content-type": "text/html; charset=utf-8"} | VERSION, b"true"),
        ({"content-type": "text/html"} | VERSION, b""),
        ({"content-type": "text/plain; charset=utf-8"}, b"{}"),
        ({"content-type": "text/plain"} | VERSION, b"ok"),
    ],
)
def test_an_api_check_that_calls_itself_a_text_is_no_page(
    headers: dict[str, str], body: bytes
) -> None:
    """Quay answers `true` as text/html to who is known (quay/quay, endpoints/v2/__init__.py)."""
    known = authorized(PING, USER.basic), Response(200, headers, body)
    assert play(login(USER), (PING, Response(401, BASIC)), known) is True
    open_to_all = (PING, Response(200, headers, body)), (PING, Response(200, headers, body))
    assert play(login(USER), *open_to_all) is False


@pytest.mark.parametrize("version", ["", "1.0"])
@pytest.mark.parametrize(("kind", "body"), [("text/html", b"<html>"), ("text/plain", b"hello")])
def test_a_page_is_no_api(version: str, kind: str, body: bytes) -> None:
    """A login page's 200 checks no password."""
    headers = {"content-type": kind, "docker-distribution-api-version": version}
    steps = (
        (PING, Response(401, BASIC)),
        (authorized(PING, USER.basic), Response(200, headers, body)),
    )
    play(login(USER), *steps, error=ProtocolViolation, match="not an OCI registry's answer")
