"""protocol.ping: the API check, its schemes, and whether the credentials are accepted."""

from __future__ import annotations

from urllib.parse import urlencode

import pytest
from tests.protocol.driver import (
    ACCEPTED,
    BASIC,
    BEARER,
    HOME,
    ONCE,
    PING,
    POST,
    REALM,
    REPOSITORY,
    USER,
    Step,
    from_redirect,
    open_access,
    play,
    token_request,
    with_authorization,
)

from brolga.errors import (
    BrolgaError,
    Denied,
    ProtocolViolation,
    RateLimited,
    RegistryError,
    TransportError,
    Unauthorized,
)
from brolga.protocol import Credentials, Flow, Request, Response, check_login, ping
from brolga.spec.reference import Repository

TOKEN = Response(200, body=b'{"token": "t1"}')
IDENTITY = Credentials("someone", identity_token="refresh me")  # noqa: S106 - a made-up one
READY = Credentials(registry_token="as-it-is")  # noqa: S106 - a made-up one
PLAIN = Request("GET", "http://registry.example/v2/")
BOTH = ("https", "http")
HTML = b"<!DOCTYPE html><html><body>404 Not Found</body></html>"


def failed(reason: str) -> TransportError:
    """Return a request's failure for a reason."""
    return TransportError("no answer", reason=reason)


# --- Determining support


def test_ping_needs_no_authorization_after_200() -> None:
    """If the response is `200 OK`, then the registry implements this specification."""
    access = play(open_access(REPOSITORY), (PING, Response(200)))
    assert access.url("blobs/uploads/") == POST.url
    play(access.send(POST), (POST, ACCEPTED))


@pytest.mark.parametrize("status", [400, 404, 405])
def test_ping_raises_if_api_is_missing(status: int) -> None:
    """`/v2/` responds 404 if the specification is not implemented (Endpoints, end-1)."""
    play(
        open_access(REPOSITORY),
        (PING, Response(status, body=HTML)),
        error=ProtocolViolation,
        match="not an OCI registry",
    )


@pytest.mark.parametrize(
    ("status", "kind"),
    [(403, Denied), (429, RateLimited), (500, RegistryError), (204, ProtocolViolation)],
)
def test_ping_raises_error_of_other_status(status: int, kind: type[BrolgaError]) -> None:
    """Only 200 and 401 are the responses of a registry (Determining Support)."""
    play(
        open_access(REPOSITORY), (PING, Response(status, body=HTML)), error=kind, match=str(status)
    )


@pytest.mark.parametrize(
    ("target", "shown"),
    [
        ("https://other.example/v2/", "https://other.example/v2/;"),
        ("https://me:secret@other.example/v2/?sig=secret", "https://other.example/v2/;"),
        ("/login?next=secret", f"{HOME}/login;"),
        ("http://[::1", "http://\\[::1;"),
    ],
)
def test_ping_raises_on_redirect(target: str, shown: str) -> None:
    """Authorization kept on a redirect to another origin is a leak (GHSA-vh4v-2xq2-g5cg)."""
    response = Response(301, {"location": target})
    error = play(
        open_access(REPOSITORY, USER),
        (PING, response),
        error=ProtocolViolation,
        match=f"a redirect to {shown} it is not followed",
    )
    assert "secret" not in str(error)


# --- Schemes


@pytest.mark.parametrize("reason", ["tls", "connect"])
def test_ping_falls_back_to_http_if_tls_fails(reason: str) -> None:
    """Even if plain http is allowed, TLS is used if the registry speaks it."""
    flow = open_access(REPOSITORY, schemes=BOTH)
    access = play(flow, (PING, failed(reason)), (PLAIN, Response(200)))
    assert access.registry.base == "http://registry.example"


@pytest.mark.parametrize("reason", ["certificate", "timeout", "cut"])
def test_ping_does_not_fall_back_after_possible_attack(reason: str) -> None:
    """An attacker who cuts or forges the https connection must not be able to choose plain http."""
    error = play(
        open_access(REPOSITORY, schemes=BOTH), (PING, failed(reason)), error=TransportError
    )
    assert error.reason == reason


def test_ping_raises_failure_of_last_scheme() -> None:
    """The failure that ended the search is raised; the one before it is its context."""
    first, last = failed("tls"), failed("connect")
    error = play(
        open_access(REPOSITORY, schemes=BOTH), (PING, first), (PLAIN, last), error=TransportError
    )
    assert error is last
    assert error.__context__ is first


@pytest.mark.parametrize("answer", [failed("cut"), failed("connect"), Response(400)])
def test_ping_tries_https_after_http(answer: Response | TransportError) -> None:
    """A TLS server responds to plain http with a 400, or closes the connection."""
    flow = open_access(REPOSITORY, schemes=BOTH[::-1])
    access = play(flow, (PLAIN, answer), (PING, Response(200)))
    assert access.registry.base == "https://registry.example"


@pytest.mark.parametrize("kind", ["text/html", "Text/HTML; charset=utf-8", "text/plain"])
def test_ping_rejects_page(kind: str) -> None:
    """A server that has a page for every URL responds 200 to `/v2/` as well."""
    error = play(
        open_access(REPOSITORY),
        (PING, Response(200, {"content-type": kind}, HTML)),
        error=ProtocolViolation,
        match=f"{HOME}/v2/ is text/.*: that is not an OCI registry's answer",
    )
    assert "check the host and port" in error.__notes__[0]


@pytest.mark.parametrize("kind", ["application/json", "application/json; charset=utf-8", ""])
def test_ping_accepts_any_json_type(kind: str) -> None:
    """The specification requires 200 at `/v2/`, and nothing of its body (Endpoints, end-1)."""
    play(open_access(REPOSITORY), (PING, Response(200, {"content-type": kind})))


@pytest.mark.parametrize("schemes", [BOTH, BOTH[::-1]])
def test_ping_tries_named_port_once(schemes: tuple[str, ...]) -> None:
    """If the user named the port, nothing listens there in the other scheme either."""
    named = Repository.parse("registry.example:5000/team/app")
    request = Request("GET", f"{schemes[0]}://registry.example:5000/v2/")
    play(open_access(named, schemes=schemes), (request, failed("connect")), error=TransportError)


def test_ping_does_not_fall_back_after_timeout() -> None:
    """A server that does not respond to plain http in time does not respond to TLS either."""
    play(
        open_access(REPOSITORY, schemes=BOTH[::-1]),
        (PLAIN, failed("timeout")),
        error=TransportError,
    )


def test_ping_raises_on_400_to_last_scheme() -> None:
    """There is nothing left to try."""
    flow = open_access(REPOSITORY, schemes=("http",))
    play(flow, (PLAIN, Response(400)), error=ProtocolViolation, match="is not an OCI registry")


def test_ping_does_not_fall_back_with_one_scheme() -> None:
    """Plain http is for loopback, or on request."""
    play(open_access(REPOSITORY), (PING, failed("connect")), error=TransportError)


@pytest.mark.parametrize("reason", ["tls", "connect"])
def test_ping_does_not_fall_back_if_token_server_fails(reason: str) -> None:
    """The registry spoke https: no later failure may downgrade it (CVE-2026-48978)."""
    play(
        open_access(REPOSITORY, USER, schemes=BOTH),
        (PING, Response(401, BEARER)),
        (token_request(USER), failed(reason)),
        error=TransportError,
    )


# --- Credentials


def ping_and_check(credentials: Credentials | None) -> Flow[bool]:
    """Find a registry and check the credentials there."""
    registry = yield from ping("registry.example", credentials, retry=ONCE)
    return (yield from check_login(registry))


def unscoped_token_request(credentials: Credentials | None = None) -> Request:
    """Return the request for a token without a scope."""
    headers = {"Authorization": credentials.basic} if credentials else {}
    return from_redirect(Request("GET", f"{REALM}?service=registry.example", headers))


FORM = {
    "grant_type": "refresh_token",
    "client_id": "brolga",
    "refresh_token": "refresh me",
    "service": "registry.example",
}
EXCHANGE = from_redirect(
    Request(
        "POST",
        REALM,
        {"Content-Type": "application/x-www-form-urlencoded"},
        urlencode(FORM).encode(),
    )
)

KNOWN: dict[str, tuple[Credentials | None, list[Step]]] = {
    "basic": (
        USER,
        [(PING, Response(401, BASIC)), (with_authorization(PING, USER.basic), Response(200))],
    ),
    "bearer": (
        USER,
        [
            (PING, Response(401, BEARER)),
            (unscoped_token_request(USER), TOKEN),
            (with_authorization(PING, "Bearer t1"), Response(200)),
        ],
    ),
    "anonymous": (
        None,
        [
            (PING, Response(401, BEARER)),
            (unscoped_token_request(), TOKEN),
            (with_authorization(PING, "Bearer t1"), Response(200)),
        ],
    ),
    "identity token": (
        IDENTITY,
        [
            (PING, Response(401, BEARER)),
            (EXCHANGE, TOKEN),
            (with_authorization(PING, "Bearer t1"), Response(200)),
        ],
    ),
    "registry token": (
        READY,
        [
            (PING, Response(401, BEARER)),
            (with_authorization(PING, "Bearer as-it-is"), Response(200)),
        ],
    ),
    "asked later": (
        USER,
        [
            (PING, Response(200)),
            (PING, Response(401, BASIC)),
            (with_authorization(PING, USER.basic), Response(200)),
        ],
    ),
}


@pytest.mark.parametrize("name", KNOWN)
def test_check_login_accepts_credentials(name: str) -> None:
    """`GET /v2/` with the credentials; a token has no scope (docker login does the same)."""
    credentials, steps = KNOWN[name]
    assert play(ping_and_check(credentials), *steps) is True


@pytest.mark.parametrize("credentials", [None, USER, IDENTITY])
def test_check_login_returns_false_without_challenge(credentials: Credentials | None) -> None:
    """A 200 without a challenge does not verify a password."""
    assert play(ping_and_check(credentials), (PING, Response(200)), (PING, Response(200))) is False


@pytest.mark.parametrize(
    ("credentials", "steps", "kind"),
    [
        (
            USER,
            [
                (PING, Response(401, BASIC)),
                (with_authorization(PING, USER.basic), Response(401, BASIC)),
            ],
            401,
        ),
        (USER, [(PING, Response(401, BEARER)), (unscoped_token_request(USER), Response(401))], 401),
        (USER, [(PING, Response(401, BEARER)), (unscoped_token_request(USER), Response(403))], 403),
        (None, [(PING, Response(401, BASIC))], 401),
        (IDENTITY, [(PING, Response(401, BEARER)), (EXCHANGE, Response(401))], 401),
        (
            READY,
            [
                (PING, Response(401, BEARER)),
                (with_authorization(PING, "Bearer as-it-is"), Response(401, BEARER)),
            ],
            401,
        ),
        (
            READY,
            [
                (PING, Response(401, BASIC)),
                (with_authorization(PING, "Bearer as-it-is"), Response(403)),
            ],
            403,
        ),
    ],
)
def test_check_login_raises_if_credentials_are_refused(
    credentials: Credentials | None, steps: list[Step], kind: int
) -> None:
    """Wrong credentials are tried once."""
    error: type[BrolgaError] = {401: Unauthorized, 403: Denied}[kind]
    play(ping_and_check(credentials), *steps, error=error)


@pytest.mark.parametrize(("status", "kind"), [(204, ProtocolViolation), (500, RegistryError)])
def test_check_login_raises_on_other_status(status: int, kind: type[BrolgaError]) -> None:
    """If the response is `200 OK`, then the registry implements this specification."""
    play(ping_and_check(USER), (PING, Response(200)), (PING, Response(status)), error=kind)


@pytest.mark.parametrize(
    ("response", "asks_for"),
    [
        (Response(200), "nothing"),
        (Response(401, BASIC), "basic"),
        (Response(401, BEARER), "token of auth.example"),
    ],
)
def test_ping_records_auth_scheme_and_headers(response: Response, asks_for: str) -> None:
    """The challenge of the API check and its headers, as `explain` shows them."""
    shown = Response(response.status, {**response.headers, "server": "some/1.0"})
    registry = play(ping("registry.example", USER, retry=ONCE), (PING, shown))
    assert registry.auth_scheme == asks_for
    assert registry.requires_auth is (response.status == 401)
    assert registry.ping_headers["server"] == "some/1.0"


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
def test_ping_accepts_text_that_names_the_api(headers: dict[str, str], body: bytes) -> None:
    """Quay responds `true` as text/html to a known user (quay/quay, endpoints/v2/__init__.py)."""
    with_credentials = with_authorization(PING, USER.basic), Response(200, headers, body)
    assert play(ping_and_check(USER), (PING, Response(401, BASIC)), with_credentials) is True
    open_to_all = (PING, Response(200, headers, body)), (PING, Response(200, headers, body))
    assert play(ping_and_check(USER), *open_to_all) is False


@pytest.mark.parametrize("version", ["", "1.0"])
@pytest.mark.parametrize(("kind", "body"), [("text/html", b"<html>"), ("text/plain", b"hello")])
def test_check_login_rejects_page(version: str, kind: str, body: bytes) -> None:
    """A login page's 200 does not verify a password."""
    headers = {"content-type": kind, "docker-distribution-api-version": version}
    steps = (
        (PING, Response(401, BASIC)),
        (with_authorization(PING, USER.basic), Response(200, headers, body)),
    )
    play(
        ping_and_check(USER), *steps, error=ProtocolViolation, match="not an OCI registry's answer"
    )
