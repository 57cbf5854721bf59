"""wire/access.py: the API check, challenges, tokens, and who gets the Authorization header."""

from __future__ import annotations

import json
from base64 import b64decode

import pytest
from tests.protocol.scripted import (
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
    access,
    authorized,
    drive,
    elsewhere,
    entered,
    play,
    token_call,
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
from brolga.protocol import Credentials, Flow, Request, Response
from brolga.protocol.challenge import parse_challenges
from brolga.spec.reference import Repository

PLAIN = Request("GET", "http://registry.example/v2/")
BOTH = ("https", "http")
HTML = b"<!DOCTYPE html><html><body>404 Not Found</body></html>"


def failed(reason: str) -> TransportError:
    """Return a request's failure for a reason."""
    return TransportError("no answer", reason=reason)


def bearer(realm: str) -> dict[str, str]:
    """Return the headers of a 401 that names a token realm."""
    return {"www-authenticate": f'Bearer realm="{realm}"'}


# --- Determining support


def test_a_registry_that_answers_200_needs_no_authorization() -> None:
    """If the response is `200 OK`, then the registry implements this specification."""
    way = play(entered(REPOSITORY), (PING, Response(200)))
    assert way.url("blobs/uploads/") == POST.url
    play(way.send(POST), (POST, ACCEPTED))


@pytest.mark.parametrize("status", [400, 404, 405])
def test_a_server_without_the_api_is_no_registry(status: int) -> None:
    """`/v2/` answers 404 where the specification is not implemented (Endpoints, end-1)."""
    play(
        entered(REPOSITORY),
        (PING, Response(status, body=HTML)),
        error=ProtocolViolation,
        match="not an OCI registry",
    )


@pytest.mark.parametrize(
    ("status", "kind"),
    [(403, Denied), (429, RateLimited), (500, RegistryError), (204, ProtocolViolation)],
)
def test_another_answer_to_the_check_is_itself(status: int, kind: type[BrolgaError]) -> None:
    """Only 200 and 401 tell of a registry (Determining Support)."""
    play(entered(REPOSITORY), (PING, Response(status, body=HTML)), error=kind, match=str(status))


@pytest.mark.parametrize(
    ("target", "shown"),
    [
        ("https://other.example/v2/", "https://other.example/v2/;"),
        ("https://me:secret@other.example/v2/?sig=secret", "https://other.example/v2/;"),
        ("/login?next=secret", f"{HOME}/login;"),
        ("http://[::1", "http://\\[::1;"),
    ],
)
def test_a_redirect_is_not_followed_but_told(target: str, shown: str) -> None:
    """Authorization kept on a redirect to another origin is a leak (GHSA-vh4v-2xq2-g5cg)."""
    response = Response(301, {"location": target})
    error = play(
        entered(REPOSITORY, USER),
        (PING, response),
        error=ProtocolViolation,
        match=f"a redirect to {shown} it is not followed",
    )
    assert "secret" not in str(error)


# --- Schemes


@pytest.mark.parametrize("reason", ["tls", "connect"])
def test_plain_http_is_tried_where_https_is_not_spoken(reason: str) -> None:
    """Who allows plain http still gets TLS where the registry speaks it."""
    flow = entered(REPOSITORY, schemes=BOTH)
    way = play(flow, (PING, failed(reason)), (PLAIN, Response(200)))
    assert way.registry.base == "http://registry.example"


@pytest.mark.parametrize("reason", ["certificate", "timeout", "cut"])
def test_plain_http_is_no_answer_to_an_attack(reason: str) -> None:
    """Who can cut or forge the https connection must not be able to choose plain http."""
    error = play(entered(REPOSITORY, schemes=BOTH), (PING, failed(reason)), error=TransportError)
    assert error.reason == reason


def test_the_last_scheme_fails_as_itself() -> None:
    """The failure that ended the search is told, and the one before it is its context."""
    first, last = failed("tls"), failed("connect")
    error = play(
        entered(REPOSITORY, schemes=BOTH), (PING, first), (PLAIN, last), error=TransportError
    )
    assert error is last
    assert error.__context__ is first


@pytest.mark.parametrize("answer", [failed("cut"), failed("connect"), Response(400)])
def test_https_is_tried_where_plain_http_is_not_spoken(answer: Response | TransportError) -> None:
    """A TLS server answers plain http with a 400, or hangs up."""
    flow = entered(REPOSITORY, schemes=BOTH[::-1])
    way = play(flow, (PLAIN, answer), (PING, Response(200)))
    assert way.registry.base == "https://registry.example"


@pytest.mark.parametrize("kind", ["text/html", "Text/HTML; charset=utf-8", "text/plain"])
def test_a_page_is_no_registry(kind: str) -> None:
    """A server that has a page for everything says 200 to `/v2/` as well."""
    error = play(
        entered(REPOSITORY),
        (PING, Response(200, {"content-type": kind}, HTML)),
        error=ProtocolViolation,
        match=f"{HOME}/v2/ is text/.*: that is not an OCI registry's answer",
    )
    assert "check the host and port" in error.__notes__[0]


@pytest.mark.parametrize("kind", ["application/json", "application/json; charset=utf-8", ""])
def test_a_registry_needs_no_certain_type(kind: str) -> None:
    """The specification wants 200 at `/v2/`, and nothing of its body (Endpoints, end-1)."""
    play(entered(REPOSITORY), (PING, Response(200, {"content-type": kind})))


@pytest.mark.parametrize("schemes", [BOTH, BOTH[::-1]])
def test_a_port_that_is_refused_is_not_asked_in_another_way(schemes: tuple[str, ...]) -> None:
    """Who named the port named the server: nobody listens there, whatever is spoken."""
    named = Repository.parse("registry.example:5000/team/app")
    request = Request("GET", f"{schemes[0]}://registry.example:5000/v2/")
    play(entered(named, schemes=schemes), (request, failed("connect")), error=TransportError)


def test_a_silent_server_is_not_asked_twice() -> None:
    """What does not answer plain http in time will not answer TLS either."""
    play(entered(REPOSITORY, schemes=BOTH[::-1]), (PLAIN, failed("timeout")), error=TransportError)


def test_a_400_to_the_last_scheme_is_no_registry() -> None:
    """There is nothing left to try."""
    flow = entered(REPOSITORY, schemes=("http",))
    play(flow, (PLAIN, Response(400)), error=ProtocolViolation, match="is not an OCI registry")


def test_without_a_second_scheme_there_is_no_fallback() -> None:
    """Plain http is for loopback, or for who asked for it."""
    play(entered(REPOSITORY), (PING, failed("connect")), error=TransportError)


@pytest.mark.parametrize("reason", ["tls", "connect"])
def test_a_token_server_out_of_reach_does_not_lead_to_plain_http(reason: str) -> None:
    """The registry spoke https: nothing that fails later may downgrade it (CVE-2026-48978)."""
    play(
        entered(REPOSITORY, USER, schemes=BOTH),
        (PING, Response(401, BEARER)),
        (token_call(USER), failed(reason)),
        error=TransportError,
    )


# --- Basic


def test_basic_credentials_are_used_where_they_are_asked_for() -> None:
    """The user-id and password, joined by a colon, in base64 (RFC 7617, section 2)."""
    way = play(entered(REPOSITORY, USER), (PING, Response(401, BASIC)))
    request = authorized(POST, USER.basic)
    play(way.send(POST), (request, ACCEPTED))
    assert (
        b64decode(request.headers["Authorization"].removeprefix("Basic ")) == b"someone:open sesame"
    )


def test_wrong_basic_credentials_are_tried_once() -> None:
    """A client must not repeat what was refused (RFC 9110, section 15.5.2)."""
    way = play(entered(REPOSITORY, USER), (PING, Response(401, BASIC)))
    play(way.send(POST), (authorized(POST, USER.basic), Response(401, BASIC)), error=Unauthorized)


def test_basic_without_credentials_is_unauthorized() -> None:
    """Nothing can be answered to that challenge."""
    play(entered(REPOSITORY), (PING, Response(401, BASIC)), error=Unauthorized)


def test_a_401_without_a_challenge_is_unauthorized() -> None:
    """A 401 MUST carry WWW-Authenticate (RFC 9110, section 15.5.2): without it, nothing helps."""
    play(entered(REPOSITORY, USER), (PING, Response(401)), error=Unauthorized)


def test_bearer_goes_before_basic() -> None:
    """The most secure scheme that is understood is used (RFC 7617, section 4)."""
    both = {"www-authenticate": f"{BASIC['www-authenticate']}, {BEARER['www-authenticate']}"}
    token = Response(200, body=b'{"token": "t1"}')
    play(entered(REPOSITORY, USER), (PING, Response(401, both)), (token_call(USER), token))


def test_a_password_of_other_bytes_than_utf8_goes_out_as_it_is() -> None:
    """The environment's bytes read as lone surrogates (PEP 383), and are sent back as bytes."""
    basic = Credentials("u", b"\xff\xe4".decode("utf-8", "surrogateescape")).basic
    assert b64decode(basic.removeprefix("Basic ")) == b"u:\xff\xe4"


# --- Tokens


def test_a_token_refused_twice_ends_in_unauthorized() -> None:
    """One renewal for each call, no endless loop."""

    def post() -> Flow[Response]:
        response = yield from access().send(POST)
        assert response.status == 401
        return response

    token = Response(200, body=b'{"token": "t1"}')
    refused = Response(401, BEARER)
    play(post(), (POST, refused), (token_call(), token), (authorized(POST, "Bearer t1"), refused))


@pytest.mark.parametrize(
    "body",
    [
        {"token": "t1"},
        {"access_token": "t1"},
        {"token": "", "access_token": "t1"},
        {"token": "t1", "access_token": "t1", "expires_in": 300},
    ],
)
def test_a_token_has_one_of_two_names(body: dict[str, object]) -> None:
    """`access_token` is for OAuth 2.0 compatibility, `token` the same (Token Authentication)."""
    way = play(
        entered(REPOSITORY, USER),
        (PING, Response(401, BEARER)),
        (token_call(USER), Response(200, body=json.dumps(body).encode())),
    )
    play(way.send(POST), (authorized(POST, "Bearer t1"), ACCEPTED))


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
def test_a_token_that_cannot_be_a_header_is_a_violation(body: bytes) -> None:
    """A b64token is visible ASCII (RFC 6750, 2.1), of bounded size (GHSA-f36w-mj3v-6jqv)."""
    error = play(
        entered(REPOSITORY),
        (PING, Response(401, BEARER)),
        (token_call(), Response(200, body=body)),
        error=ProtocolViolation,
    )
    assert str(error) == "the token server answered without a usable token"


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
def test_a_token_server_that_refuses_is_told_as_it_is(status: int, kind: type[BrolgaError]) -> None:
    """The token server's own error says why."""
    answer = Response(
        status, {"location": "https://evil.example/"}, b'{"details": "wrong password"}'
    )
    error = play(
        entered(REPOSITORY, USER),
        (PING, Response(401, BEARER)),
        (token_call(USER), answer),
        error=kind,
    )
    assert "https://auth.example/token" in str(error)
    assert "scope" not in str(error)
    assert ("wrong password" in str(error)) is (status >= 400)


# --- Realms


@pytest.mark.parametrize(
    ("realm", "asked"),
    [
        ("https://auth.example/token", f"https://auth.example/token?{SCOPE}"),
        ("https://auth.example/t?a=%2F", f"https://auth.example/t?a=%2F&{SCOPE}"),
        ("https://auth.example/t#part", f"https://auth.example/t?{SCOPE}"),
        ("HTTPS://auth.example:8443", f"HTTPS://auth.example:8443?{SCOPE}"),
        ("https://8.8.8.8/t", f"https://8.8.8.8/t?{SCOPE}"),
        ("https://[2001:4860:4860::8888]/t", f"https://[2001:4860:4860::8888]/t?{SCOPE}"),
    ],
)
def test_the_realm_is_asked_for_our_own_scope(realm: str, asked: str) -> None:
    """`service` and `scope` are added to the realm's query (Token Authentication)."""
    play(
        entered(REPOSITORY, USER),
        (PING, Response(401, bearer(realm))),
        (
            elsewhere(Request("GET", asked, {"Authorization": USER.basic})),
            Response(200, body=b'{"token": "t"}'),
        ),
    )


def test_a_service_cannot_add_to_the_query() -> None:
    """The registry's text is quoted (RFC 3986, section 2.1): it cannot widen the scope."""
    headers = {"www-authenticate": f'Bearer realm="{REALM}",service="a&scope=x b",scope="all"'}
    asked = f"{REALM}?{SCOPE}&service=a%26scope%3Dx+b"
    play(
        entered(REPOSITORY),
        (PING, Response(401, headers)),
        (elsewhere(Request("GET", asked)), Response(200, body=b'{"token": "t"}')),
    )


@pytest.mark.parametrize(
    ("realm", "fault"),
    [
        ("/token", "no http"),
        ("auth.example/token", "no http"),
        ("ftp://auth.example/token", "no http"),
        ("file:///etc/passwd", "no http"),
        ("https://", "no http"),
        ("https://someone:secret@auth.example/", "no http"),
        ("https://@auth.example/", "no http"),
        ("https://[::1", "no http"),
        ("https://auth.example:99999/", "no http"),
        ("https://auth.example/a b", "no http"),
        ("https://auth.\u2100.example/", "no http"),
        ("http://auth.example/token?secret", "plain http"),
        ("https://localhost/?secret", "private network"),
        ("https://169.254.169.254/latest?secret", "private network"),
        ("https://10.0.0.1/", "private network"),
        ("https://[fe80::1]/", "private network"),
    ],
)
def test_a_realm_that_leads_elsewhere_gets_no_password(realm: str, fault: str) -> None:
    """A realm that points inside or falls to http (GHSA-28r5-37g7-p6mp, CVE-2026-48978)."""
    error = play(
        entered(REPOSITORY, USER),
        (PING, Response(401, bearer(realm))),
        error=ProtocolViolation,
        match=f"token realm .*{fault}",
    )
    assert "secret" not in str(error)


def test_a_registry_on_plain_http_may_have_its_realm_there() -> None:
    """Nothing falls: the user allowed plain http for this registry."""
    realm = "http://127.0.0.1:5001/token"
    local = Repository.parse("localhost:5000/app")
    scope = "scope=repository%3Aapp%3Apull%2Cpush"
    play(
        entered(local, schemes=("http",)),
        (Request("GET", "http://localhost:5000/v2/"), Response(401, bearer(realm))),
        (
            Request("GET", f"{realm}?{scope}", redirected_from="localhost"),
            Response(200, body=b'{"token": "t"}'),
        ),
    )


@pytest.mark.parametrize("header", ["Bearer", 'Bearer realm=""', 'Bearer realm="#part"'])
def test_a_challenge_without_a_realm_is_a_violation(header: str) -> None:
    """`realm` is where the token is to be had (Token Authentication): there is nobody to ask."""
    play(
        entered(REPOSITORY, USER),
        (PING, Response(401, {"www-authenticate": header})),
        error=ProtocolViolation,
        match="names no realm",
    )


def test_a_realm_on_another_port_of_the_registrys_host_is_named_by_the_registry() -> None:
    """The name may have come to mean an address inside since: `named_by` is for other origins."""
    realm = f"{HOME}:8443/token"
    play(
        entered(REPOSITORY),
        (PING, Response(401, bearer(realm))),
        (
            Request("GET", f"{realm}?{SCOPE}", redirected_from=HOME.removeprefix("https://")),
            Response(200, body=b'{"token": "t"}'),
        ),
    )


# --- Challenges


@pytest.mark.parametrize(
    ("header", "challenges"),
    [
        ("", {}),
        ("Basic", {"basic": {}}),
        ('bAsIc REALM="x"', {"basic": {"realm": "x"}}),
        ('Bearer realm="a,b=c", service=d', {"bearer": {"realm": "a,b=c", "service": "d"}}),
        (r'Bearer realm="a\"b\\c", x=""', {"bearer": {"realm": 'a"b\\c', "x": ""}}),
        ('Bearer realm = "a" , , service\t=\tb', {"bearer": {"realm": "a", "service": "b"}}),
        ('Negotiate, Bearer realm="a"', {"negotiate": {}, "bearer": {"realm": "a"}}),
        ('Negotiate ab/c+d==, Basic realm="a"', {"negotiate": {}, "basic": {"realm": "a"}}),
        ('Basic realm="a", Bearer realm="b"', {"basic": {"realm": "a"}, "bearer": {"realm": "b"}}),
        ('Bearer realm="a", realm="b"', {"bearer": {"realm": "a"}}),
        ('Bearer realm="a", Bearer realm="b"', {"bearer": {"realm": "a"}}),
        ('realm="a"', {}),
        ('=,"",;Bearer', {}),
        ('Bearer realm="a', {"bearer": {}}),
        ("Bearer realm=", {"bearer": {}}),
    ],
)
def test_challenges_are_read(header: str, challenges: dict[str, dict[str, str]]) -> None:
    """RFC 9110, section 11.3: challenge = auth-scheme [ 1*SP ( token68 / #auth-param ) ]."""
    assert parse_challenges(header) == challenges


@pytest.mark.parametrize(
    "piece", ["a", " ", ",", '"', "\\", 'a="', 'a="\\', "a=b,", "Bearer ", '\\"', "= "]
)
def test_a_long_header_is_read_in_no_time(piece: str) -> None:
    """No size that the peer chooses makes work without a bound (GHSA-f36w-mj3v-6jqv).

    A reader that tries things twice would need hours here, and this test would not end.
    """
    header = 'Bearer realm="' + piece * (100_000 // len(piece))
    assert len(parse_challenges(header)) <= 8192


def test_a_challenge_is_read_to_a_bound() -> None:
    """What stands 8 KiB behind the beginning of a header is no challenge of a registry."""
    assert parse_challenges(f"Basic {',' * 8192} Bearer") == {"basic": {}}


# --- Secrets


def test_nothing_that_is_shown_holds_a_secret() -> None:
    """No secret in a log or in an exception: reprs of values are in both."""
    request = authorized(Request("GET", "https://u:secret@host/p?sig=secret"), "Basic secret")
    response = Response(200, {"location": "/?secret"}, b'{"token": "secret"}')
    user = Credentials("someone", "secret", "secret too", "secret as well", "the environment")
    shown = repr([request, response, access(user), user])
    assert "<Call GET https://host/p>" in shown
    assert "someone" in shown
    assert "secret" not in shown


def test_credentials_are_the_same_wherever_they_are_from() -> None:
    """Where they were found is for messages: it changes nothing of who asks."""
    assert Credentials("someone", "secret", origin="a file") == Credentials("someone", "secret")


def test_the_errors_of_a_whole_conversation_hold_no_secret() -> None:
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
    from brolga.protocol.responses import raise_for_status

    response = yield from access(user).send(request)
    raise_for_status(request, response, 201)
