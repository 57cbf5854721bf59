"""protocol.auth: Basic, token servers and their realms; secrets."""

from __future__ import annotations

import json
from base64 import b64decode

import pytest
from tests.protocol.driver import (
    ACCEPTED,
    BASIC,
    BEARER,
    HOME,
    PING,
    POST,
    REALM,
    REPOSITORY,
    SCOPE,
    USER,
    Answer,
    drive,
    from_redirect,
    make_access,
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
    Unauthorized,
)
from brolga.protocol import Credentials, Flow, Request, Response
from brolga.protocol.responses import raise_for_status
from brolga.spec.reference import Repository

HTML = b"<!DOCTYPE html><html><body>404 Not Found</body></html>"


def bearer(realm: str) -> dict[str, str]:
    """Return the headers of a 401 that names a token realm."""
    return {"www-authenticate": f'Bearer realm="{realm}"'}


# --- Basic


def test_send_uses_basic_credentials_after_challenge() -> None:
    """The user-id and password, joined by a colon, in base64 (RFC 7617, section 2)."""
    access = play(open_access(REPOSITORY, USER), (PING, Response(401, BASIC)))
    request = with_authorization(POST, USER.basic)
    play(access.send(POST), (request, ACCEPTED))
    assert (
        b64decode(request.headers["Authorization"].removeprefix("Basic ")) == b"someone:open sesame"
    )


def test_send_tries_wrong_basic_credentials_once() -> None:
    """A client must not repeat what was refused (RFC 9110, section 15.5.2)."""
    access = play(open_access(REPOSITORY, USER), (PING, Response(401, BASIC)))
    play(
        access.send(POST),
        (with_authorization(POST, USER.basic), Response(401, BASIC)),
        error=Unauthorized,
    )


def test_ping_raises_unauthorized_without_credentials() -> None:
    """Without credentials nothing can answer that challenge."""
    play(open_access(REPOSITORY), (PING, Response(401, BASIC)), error=Unauthorized)


def test_ping_raises_unauthorized_without_challenge() -> None:
    """A 401 MUST carry WWW-Authenticate (RFC 9110, section 15.5.2)."""
    play(open_access(REPOSITORY, USER), (PING, Response(401)), error=Unauthorized)


def test_ping_prefers_bearer_to_basic() -> None:
    """The most secure scheme that is supported is used (RFC 7617, section 4)."""
    both = {"www-authenticate": f"{BASIC['www-authenticate']}, {BEARER['www-authenticate']}"}
    token = Response(200, body=b'{"token": "t1"}')
    play(open_access(REPOSITORY, USER), (PING, Response(401, both)), (token_request(USER), token))


def test_basic_encodes_lone_surrogates_as_bytes() -> None:
    """Other bytes than UTF-8 in the environment read as lone surrogates (PEP 383)."""
    basic = Credentials("u", b"\xff\xe4".decode("utf-8", "surrogateescape")).basic
    assert b64decode(basic.removeprefix("Basic ")) == b"u:\xff\xe4"


# --- Tokens


def test_send_renews_token_once() -> None:
    """One renewal for each request, no endless loop."""

    def post() -> Flow[Response]:
        response = yield from make_access().send(POST)
        assert response.status == 401
        return response

    token = Response(200, body=b'{"token": "t1"}')
    refused = Response(401, BEARER)
    play(
        post(),
        (POST, refused),
        (token_request(), token),
        (with_authorization(POST, "Bearer t1"), refused),
    )


@pytest.mark.parametrize(
    "body",
    [
        {"token": "t1"},
        {"access_token": "t1"},
        {"token": "", "access_token": "t1"},
        {"token": "t1", "access_token": "t1", "expires_in": 300},
    ],
)
def test_authorize_reads_token_under_either_name(body: dict[str, object]) -> None:
    """`access_token` is for OAuth 2.0 compatibility, `token` the same (Token Authentication)."""
    access = play(
        open_access(REPOSITORY, USER),
        (PING, Response(401, BEARER)),
        (token_request(USER), Response(200, body=json.dumps(body).encode())),
    )
    play(access.send(POST), (with_authorization(POST, "Bearer t1"), ACCEPTED))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not JSON",
        HTML,
        b"\xff\xfe",
        b"[]",
        b"null",
        b"{}",
        b'{"token": null}',
        b'{"token": 5}',
        b'{"token": ["t"]}',
        b'{"token": "a b"}',
        b'{"token": "a\\nHost: evil.example"}',
        b'{"token": "t\\r\\n"}',
        b'{"token": "\\u00e4"}',
        b'{"token": "\\ud800"}',
        b'{"token": "' + b"t" * 65537 + b'"}',
        b"[" * 100_000,
        b'{"token":' * 100_000,
        b'{"token": ' + b"1" * 5000 + b"}",
    ],
    ids=lambda body: repr(body[:20]),
)
def test_authorize_rejects_invalid_token(body: bytes) -> None:
    """A b64token is visible ASCII (RFC 6750, 2.1), of bounded size (GHSA-f36w-mj3v-6jqv)."""
    error = play(
        open_access(REPOSITORY),
        (PING, Response(401, BEARER)),
        (token_request(), Response(200, body=body)),
        error=ProtocolViolation,
    )
    assert str(error) == "the token server answered without a usable token"
    assert error.hint == "tell its administrator"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, RegistryError),
        (401, Unauthorized),
        (403, Denied),
        (429, RateLimited),
        (500, RegistryError),
        (304, ProtocolViolation),
    ],
)
def test_authorize_raises_error_of_token_server(status: int, kind: type[BrolgaError]) -> None:
    """The token server's own error gives the reason."""
    answer = Response(
        status, {"location": "https://evil.example/"}, b'{"details": "wrong password"}'
    )
    error = play(
        open_access(REPOSITORY, USER),
        (PING, Response(401, BEARER)),
        (token_request(USER), answer),
        error=kind,
    )
    assert "https://auth.example/token" in str(error)
    assert "scope" not in str(error)
    assert ("wrong password" in str(error)) is (status >= 400)


# --- Realms


@pytest.mark.parametrize(
    ("realm", "url"),
    [
        ("https://auth.example/token", f"https://auth.example/token?{SCOPE}"),
        ("https://auth.example/t?a=%2F", f"https://auth.example/t?a=%2F&{SCOPE}"),
        ("https://auth.example/t#part", f"https://auth.example/t?{SCOPE}"),
        ("HTTPS://auth.example:8443", f"HTTPS://auth.example:8443?{SCOPE}"),
        ("https://8.8.8.8/t", f"https://8.8.8.8/t?{SCOPE}"),
        ("https://[2001:4860:4860::8888]/t", f"https://[2001:4860:4860::8888]/t?{SCOPE}"),
    ],
)
def test_authorize_adds_scope_to_realm(realm: str, url: str) -> None:
    """`service` and `scope` are added to the realm's query (Token Authentication)."""
    play(
        open_access(REPOSITORY, USER),
        (PING, Response(401, bearer(realm))),
        (
            from_redirect(Request("GET", url, {"Authorization": USER.basic})),
            Response(200, body=b'{"token": "t"}'),
        ),
    )


def test_authorize_quotes_service() -> None:
    """The registry's text is quoted (RFC 3986, section 2.1), so it cannot widen the scope."""
    headers = {"www-authenticate": f'Bearer realm="{REALM}",service="a&scope=x b",scope="all"'}
    url = f"{REALM}?{SCOPE}&service=a%26scope%3Dx+b"
    play(
        open_access(REPOSITORY),
        (PING, Response(401, headers)),
        (from_redirect(Request("GET", url)), Response(200, body=b'{"token": "t"}')),
    )


@pytest.mark.parametrize(
    ("realm", "fault"),
    [
        ("/token", "not a valid http"),
        ("auth.example/token", "not a valid http"),
        ("ftp://auth.example/token", "not a valid http"),
        ("file:///etc/passwd", "not a valid http"),
        ("https://", "not a valid http"),
        ("https://someone:secret@auth.example/", "not a valid http"),
        ("https://@auth.example/", "not a valid http"),
        ("https://[::1", "not a valid http"),
        ("https://auth.example:99999/", "not a valid http"),
        ("https://auth.example/a b", "not a valid http"),
        ("https://auth.\u2100.example/", "not a valid http"),
        ("http://auth.example/token?secret", "plain http"),
        ("https://localhost/?secret", "private network"),
        ("https://169.254.169.254/latest?secret", "private network"),
        ("https://10.0.0.1/", "private network"),
        ("https://[fe80::1]/", "private network"),
    ],
)
def test_handle_challenge_rejects_unsafe_realm(realm: str, fault: str) -> None:
    """A realm at a private address or on plain http (GHSA-28r5-37g7-p6mp, CVE-2026-48978)."""
    error = play(
        open_access(REPOSITORY, USER),
        (PING, Response(401, bearer(realm))),
        error=ProtocolViolation,
        match=f"token realm .*{fault}",
    )
    assert "secret" not in str(error)


def test_handle_challenge_accepts_http_realm_of_http_registry() -> None:
    """The user allowed plain http for this registry."""
    realm = "http://127.0.0.1:5001/token"
    local = Repository.parse("localhost:5000/app")
    scope = "scope=repository%3Aapp%3Apull%2Cpush"
    play(
        open_access(local, schemes=("http",)),
        (Request("GET", "http://localhost:5000/v2/"), Response(401, bearer(realm))),
        (
            Request("GET", f"{realm}?{scope}", redirected_from="localhost"),
            Response(200, body=b'{"token": "t"}'),
        ),
    )


@pytest.mark.parametrize("header", ["Bearer", 'Bearer realm=""', 'Bearer realm="#part"'])
def test_handle_challenge_raises_without_realm(header: str) -> None:
    """`realm` is the URL of the token server (Token Authentication)."""
    play(
        open_access(REPOSITORY, USER),
        (PING, Response(401, {"www-authenticate": header})),
        error=ProtocolViolation,
        match="names no realm",
    )


def test_authorize_marks_realm_on_other_port() -> None:
    """The name may resolve to a private address by now: `redirected_from` covers other origins."""
    realm = f"{HOME}:8443/token"
    play(
        open_access(REPOSITORY),
        (PING, Response(401, bearer(realm))),
        (
            Request("GET", f"{realm}?{SCOPE}", redirected_from=HOME.removeprefix("https://")),
            Response(200, body=b'{"token": "t"}'),
        ),
    )


# --- Secrets


def test_repr_contains_no_secret() -> None:
    """No secret in a log or in an exception: both contain reprs of values."""
    request = with_authorization(
        Request("GET", "https://u:secret@host/p?sig=secret"), "Basic secret"
    )
    response = Response(200, {"location": "/?secret"}, b'{"token": "secret"}')
    user = Credentials("someone", "secret", "secret too", "secret as well", "the environment")
    shown = repr([request, response, make_access(user), user])
    assert "<Request GET https://host/p>" in shown
    assert "someone" in shown
    assert "secret" not in shown


def test_credentials_are_equal_if_origins_differ() -> None:
    """`origin` is for messages."""
    assert Credentials("someone", "secret", source="a file") == Credentials("someone", "secret")


def test_errors_contain_no_secret() -> None:
    """Redact URLs and headers at every level of verbosity."""
    answers: list[Answer] = [
        Response(401, BEARER),
        Response(200, body=b'{"token": "hidden-token"}'),
        Response(403),
    ]
    user = Credentials("someone", "hidden-password")
    request = Request("PUT", f"{HOME}/upload?_state=hidden-state", body=b"")
    with pytest.raises(Denied) as caught:
        _ = drive(_refused(user, request), lambda _call: answers.pop(0))
    error = caught.value
    assert error.url == f"{HOME}/upload"
    assert "hidden" not in f"{error} {error!r} {vars(error)}"


def _refused(user: Credentials, request: Request) -> Flow[None]:
    response = yield from make_access(user).send(request)
    raise_for_status(request, response, 201)
