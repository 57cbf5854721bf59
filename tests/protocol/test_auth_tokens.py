"""protocol.auth_tokens and the tokens of protocol.auth: which one is used, and how long."""

from __future__ import annotations

import json
from base64 import b64encode
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
    Answer,
    from_redirect,
    play,
    with_authorization,
    with_delay,
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
from brolga.protocol import (
    Access,
    Credentials,
    RegistrySession,
    Request,
    Response,
    Retry,
    Timeout,
    ping,
)
from brolga.protocol.auth_tokens import parse_challenges, parse_token
from brolga.spec.reference import Repository

OTHER = Repository.parse("registry.example/team/base")
THIRD = Repository.parse("registry.example/a")
TAGS = Request("GET", f"{HOME}/v2/team/app/tags/list")
REFUSED = Response(401, BEARER)
IDENTITY = Credentials("someone", identity_token="refresh me")  # noqa: S106 - a made-up one
READY = Credentials(registry_token="as-it-is")  # noqa: S106 - a made-up one


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def token_response(text: str, **more: object) -> Response:
    """Return a token server's answer."""
    return Response(200, body=json.dumps({"token": text, **more}).encode())


def scoped_token_request(*scopes: str, basic: str = "") -> Request:
    """Return the request for a token of some scopes."""
    fields = [("scope", scope) for scope in scopes] + [("service", "registry.example")]
    headers = {"Authorization": basic} if basic else {}
    return from_redirect(Request("GET", f"{REALM}?{urlencode(fields)}", headers))


def oauth2_request(scope: str) -> Request:
    """Return the request for a token in the OAuth2 form."""
    form = {
        "grant_type": "refresh_token",
        "client_id": "brolga",
        "refresh_token": IDENTITY.identity_token,
        "service": "registry.example",
        "scope": scope,
    }
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    return from_redirect(Request("POST", REALM, headers, urlencode(form).encode()))


def make_session(
    credentials: Credentials | None = None, clock: Clock | None = None, retry: Retry = ONCE
) -> RegistrySession:
    """Return a session of a registry that requires a bearer token."""
    flow = ping("registry.example", credentials, retry=retry, clock=clock or Clock())
    return play(flow, (PING, REFUSED))


def pull_scope(repository: Repository = REPOSITORY) -> str:
    """Return the scope to pull from a repository."""
    return f"repository:{repository.path}:pull"


PUSH = f"{pull_scope()},push"


# --- When a token is requested


def test_send_fetches_token_at_first_use() -> None:
    """No token is requested before a request needs it: each has a scope of its own."""
    registry = make_session()
    access = registry.access(REPOSITORY)
    play(
        access.send(TAGS),
        (scoped_token_request(pull_scope()), token_response("t1")),
        (with_authorization(TAGS, "Bearer t1"), Response(200)),
    )


def test_send_needs_no_token_for_other_host() -> None:
    """A session may be at a storage's signed URL: no token is sent there, so none is requested."""
    request = Request("DELETE", "https://storage.example/u?sig=s", body=b"")
    play(make_session().access(REPOSITORY).send(request), (from_redirect(request), Response(204)))
    play(
        make_session().access(REPOSITORY).send(request, retry=False),
        (from_redirect(request), Response(204)),
    )


def test_send_reuses_token_until_it_expires() -> None:
    """A token is for a scope, not for a request (Token Authentication)."""
    registry = make_session()
    play(
        registry.access(REPOSITORY).send(TAGS),
        (scoped_token_request(pull_scope()), token_response("t1")),
        success("t1"),
    )
    play(registry.access(REPOSITORY).send(TAGS), success("t1"))


def success(token: str) -> tuple[Request, Response]:
    """Return the step of a request with a valid token."""
    return with_authorization(TAGS, f"Bearer {token}"), Response(200)


def test_send_reuses_token_of_wider_scope() -> None:
    """A token's actions are a set (Token Scope Documentation): a subset needs no second token."""
    registry = make_session()
    play(
        registry.access(REPOSITORY, "pull,push").send(TAGS),
        (scoped_token_request(PUSH), token_response("t1")),
        success("t1"),
    )
    play(registry.access(REPOSITORY, "pull").send(TAGS), success("t1"))
    play(registry.access(REPOSITORY, "push,pull").send(TAGS), success("t1"))


@pytest.mark.parametrize(
    ("actions", "repository", "scope"),
    [
        ("pull,push", REPOSITORY, PUSH),
        ("delete", REPOSITORY, "repository:team/app:delete"),
        ("pull", OTHER, pull_scope(OTHER)),
        ("pull", THIRD, pull_scope(THIRD)),
    ],
)
def test_send_fetches_token_for_other_scope(
    actions: str, repository: Repository, scope: str
) -> None:
    """A token is not used beyond its scope."""
    registry = make_session()
    play(
        registry.access(REPOSITORY).send(TAGS),
        (scoped_token_request(pull_scope()), token_response("t1")),
        success("t1"),
    )
    play(
        registry.access(repository, actions).send(TAGS),
        (scoped_token_request(scope), token_response("t2")),
        success("t2"),
    )
    # And the first one is still there.
    play(registry.access(REPOSITORY).send(TAGS), success("t1"))


def test_access_covers_several_repositories() -> None:
    """`scope` may be given several times (Token Authentication, Requesting a Token)."""
    registry = make_session()
    access = registry.access(REPOSITORY, "pull,push", OTHER, THIRD)
    play(
        access.send(TAGS),
        (scoped_token_request(PUSH, pull_scope(THIRD), pull_scope(OTHER)), token_response("t1")),
        success("t1"),
    )
    # In another order it is the same token; and it does for each part.
    play(registry.access(REPOSITORY, "pull,push", THIRD, OTHER).send(TAGS), success("t1"))
    play(registry.access(THIRD).send(TAGS), success("t1"))


def test_access_lists_own_repository_once() -> None:
    """Pulling from the repository itself is not a second scope."""
    assert make_session().access(REPOSITORY, "pull", REPOSITORY).scope == (pull_scope(),)


def test_catalog_access_has_its_own_scope() -> None:
    """`registry:catalog:*` (Token Scope Documentation, Resource Types)."""
    access = make_session().catalog_access()
    request = Request("GET", access.url("_catalog"))
    assert request.url == f"{HOME}/v2/_catalog"
    steps = (
        (scoped_token_request("registry:catalog:*"), token_response("t1")),
        (with_authorization(request, "Bearer t1"), Response(200)),
    )
    play(access.send(request), *steps)


def test_session_host_has_no_port() -> None:
    """The user trusts a host; RFC 6454 separates ports."""
    assert RegistrySession("http://localhost:5000").host == "localhost"


# --- Lifetime


@pytest.mark.parametrize(
    ("more", "until"),
    [
        ({}, 50.0),
        ({"expires_in": 300}, 290.0),
        ({"expires_in": 60.5}, 50.5),
        ({"expires_in": 20}, 16.0),
        ({"expires_in": 86400}, 86390.0),
        ({"expires_in": 10**9}, 86390.0),
        ({"expires_in": float("inf")}, 86390.0),
        ({"expires_in": float("nan")}, 50.0),
        ({"expires_in": 0}, 50.0),
        ({"expires_in": -5}, 50.0),
        ({"expires_in": "300"}, 50.0),
        ({"expires_in": None}, 50.0),
    ],
    ids=repr,
)
def test_send_renews_token_before_it_expires(more: dict[str, object], until: float) -> None:
    """`expires_in`: seconds that it is valid, 60 if it is omitted (Token Response Fields).

    A token must not expire in a long upload: the last fifth, at most 10 s, is not used.
    """
    clock = Clock()
    registry = make_session(clock=clock)
    access = registry.access(REPOSITORY)
    play(
        access.send(TAGS),
        (scoped_token_request(pull_scope()), token_response("t1", **more)),
        success("t1"),
    )
    clock.now = 1000.0 + until - 0.01
    play(access.send(TAGS), success("t1"))
    clock.now = 1000.0 + until
    play(
        access.send(TAGS), (scoped_token_request(pull_scope()), token_response("t2")), success("t2")
    )


def test_token_expires_relative_to_request() -> None:
    """The time of the response is a part of the lifetime: the server counts from its own moment."""
    clock = Clock()
    registry = make_session(clock=clock)
    flow = registry.access(REPOSITORY).send(TAGS)
    assert next(flow) == scoped_token_request(pull_scope())
    clock.now += 45.0
    assert flow.send(token_response("t1")) == with_authorization(TAGS, "Bearer t1")
    flow.close()
    clock.now += 5.0
    play(
        registry.access(REPOSITORY).send(TAGS),
        (scoped_token_request(pull_scope()), token_response("t2")),
        success("t2"),
    )


def test_token_lives_until_401_without_clock() -> None:
    """A driver without a clock still gets a new token by the 401."""
    access = RegistrySession(HOME, retry=ONCE).access(REPOSITORY)
    for_short = token_response("t1", expires_in=1e-300)
    play(
        access.send(TAGS),
        (TAGS, REFUSED),
        (scoped_token_request(pull_scope()), for_short),
        success("t1"),
    )
    play(access.send(TAGS), success("t1"))
    dead = with_authorization(TAGS, "Bearer t1"), REFUSED
    play(
        access.send(TAGS),
        dead,
        (scoped_token_request(pull_scope()), token_response("t2")),
        success("t2"),
    )


@pytest.mark.parametrize(
    "body", [b'{"token": "t", "expires_in": ' + b"9" * 5000 + b"}", b"{" * 100_000]
)
def test_parse_token_rejects_endless_number(body: bytes) -> None:
    """No size that the peer chooses makes work without a bound (GHSA-f36w-mj3v-6jqv)."""
    with pytest.raises(ProtocolViolation):
        parse_token(body)


# --- Refused tokens


def test_handle_challenge_discards_refused_token() -> None:
    """A 401 concerns this token, not those of other repositories."""
    registry = make_session()
    app, base = registry.access(REPOSITORY), registry.access(OTHER)
    play(app.send(TAGS), (scoped_token_request(pull_scope()), token_response("t1")), success("t1"))
    play(
        base.send(TAGS),
        (scoped_token_request(pull_scope(OTHER)), token_response("t2")),
        success("t2"),
    )
    dead = with_authorization(TAGS, "Bearer t1"), REFUSED
    play(
        app.send(TAGS),
        dead,
        (scoped_token_request(pull_scope()), token_response("t3")),
        success("t3"),
    )
    play(base.send(TAGS), success("t2"))


def test_handle_challenge_discards_wider_token() -> None:
    """The next token is for the scope that is needed, and the refused one is not tried again."""
    registry = make_session()
    play(
        registry.access(REPOSITORY, "pull,push").send(TAGS),
        (scoped_token_request(PUSH), token_response("t1")),
        success("t1"),
    )
    dead = with_authorization(TAGS, "Bearer t1"), REFUSED
    access = registry.access(REPOSITORY)
    play(
        access.send(TAGS),
        dead,
        (scoped_token_request(pull_scope()), token_response("t2")),
        success("t2"),
    )
    access = registry.access(REPOSITORY, "pull,push")
    play(access.send(TAGS), (scoped_token_request(PUSH), token_response("t3")), success("t3"))


def test_handle_challenge_discards_covering_tokens() -> None:
    """The registry changed its key: a token of a wider scope is invalid as well.

    Tokens of other repositories stay: if they are invalid too, a 401 of their own shows it.
    """
    registry = make_session()
    other = registry.access(OTHER)
    play(
        other.send(TAGS),
        (scoped_token_request(pull_scope(OTHER)), token_response("t0")),
        success("t0"),
    )
    narrow, wide = registry.access(REPOSITORY), registry.access(REPOSITORY, "pull,push")
    play(
        narrow.send(TAGS), (scoped_token_request(pull_scope()), token_response("t1")), success("t1")
    )
    play(wide.send(TAGS), (scoped_token_request(PUSH), token_response("t2")), success("t2"))
    dead = with_authorization(TAGS, "Bearer t1"), REFUSED
    play(
        narrow.send(TAGS),
        dead,
        (scoped_token_request(pull_scope()), token_response("t3")),
        success("t3"),
    )
    play(wide.send(TAGS), (scoped_token_request(PUSH), token_response("t4")), success("t4"))
    play(other.send(TAGS), success("t0"))


def test_handle_challenge_keeps_renewed_token() -> None:
    """Two requests are refused with one token: the second one uses the first one's new token."""
    registry = make_session()
    access = registry.access(REPOSITORY)
    play(
        access.send(TAGS), (scoped_token_request(pull_scope()), token_response("t1")), success("t1")
    )
    late = access.send(TAGS)
    assert next(late) == with_authorization(TAGS, "Bearer t1")
    dead = with_authorization(TAGS, "Bearer t1"), REFUSED
    play(
        access.send(TAGS),
        dead,
        (scoped_token_request(pull_scope()), token_response("t2")),
        success("t2"),
    )
    assert late.send(REFUSED) == with_authorization(TAGS, "Bearer t2")
    late.close()


# --- The cache


def token_count(registry: RegistrySession) -> int:
    """Return how many tokens a registry has kept."""
    return len(registry._tokens._entries)


def use(registry: RegistrySession, number: int, **more: object) -> None:
    """Get a token for one of many repositories."""
    access = registry.access(Repository("registry.example", f"a{number}"))
    scope = f"repository:a{number}:pull"
    play(
        access.send(TAGS),
        (scoped_token_request(scope), token_response(f"t{number}", **more)),
        success(f"t{number}"),
    )


def test_cache_drops_expired_tokens() -> None:
    """A client that runs for months does not keep a token of each repository that it saw."""
    clock = Clock()
    registry = make_session(clock=clock)
    for number in range(20):
        use(registry, number)
    assert token_count(registry) == 20
    clock.now += 3600.0
    use(registry, 20)
    assert token_count(registry) == 1


def test_cache_keeps_newest_tokens() -> None:
    """Tokens may live for a day: their number is bounded, and the oldest are dropped."""
    registry = make_session()
    for number in range(300):
        use(registry, number, expires_in=86400)
    assert token_count(registry) == 256
    access = registry.access(Repository("registry.example", "a299"))
    play(access.send(TAGS), success("t299"))
    use(registry, 0)


# --- Redirects of the token server


def test_realm_redirect_keeps_password_at_same_origin() -> None:
    """The same scheme, host and port (RFC 6454, section 5)."""
    first = scoped_token_request(pull_scope(), basic=USER.basic)
    moved = Request(
        "GET", "https://auth.example/new?x", first.headers, redirected_from="auth.example"
    )
    play(
        make_session(USER).access(REPOSITORY).send(TAGS),
        (first, Response(302, {"location": "/new?x"})),
        (moved, token_response("t1")),
        success("t1"),
    )


@pytest.mark.parametrize(
    "url", ["https://other.example/t", "https://auth.example:8443/t", "https://evil.example/"]
)
def test_realm_redirect_drops_password_at_other_origin(url: str) -> None:
    """Kept on a redirect to another origin, ports included, it is a leak (GHSA-vh4v-2xq2-g5cg)."""
    play(
        make_session(USER).access(REPOSITORY).send(TAGS),
        (scoped_token_request(pull_scope(), basic=USER.basic), Response(307, {"location": url})),
        (Request("GET", url, redirected_from="auth.example"), token_response("t1")),
        success("t1"),
    )


def test_realm_redirect_to_registry_is_not_marked() -> None:
    """The user named that host; the password is still not sent there."""
    url = f"{HOME}/token"
    play(
        make_session(USER).access(REPOSITORY).send(TAGS),
        (scoped_token_request(pull_scope(), basic=USER.basic), Response(307, {"location": url})),
        (Request("GET", url), token_response("t1")),
        success("t1"),
    )


@pytest.mark.parametrize(
    ("target", "fault"),
    [
        ("http://auth.example/t", "falls back to plain http"),
        ("https://127.0.0.1/t", "private network"),
        ("https://169.254.169.254/t", "private network"),
        ("https://u:secret@auth.example/t", "not a valid http"),
    ],
)
def test_realm_redirect_to_unsafe_url_raises(target: str, fault: str) -> None:
    """No redirect of a realm leaves TLS, or leads to a private address (GHSA-28r5-37g7-p6mp)."""
    response = Response(307, {"location": target})
    for credentials, request in (
        (USER, scoped_token_request(pull_scope(), basic=USER.basic)),
        (IDENTITY, oauth2_request(pull_scope())),
    ):
        access = make_session(credentials).access(REPOSITORY)
        play(access.send(TAGS), (request, response), error=ProtocolViolation, match=fault)


def test_realm_redirect_loop_raises() -> None:
    """A client SHOULD detect cyclical redirections (RFC 9110, section 15.4)."""
    first = scoped_token_request(pull_scope())
    moved = Request("GET", "https://auth.example/x", redirected_from="auth.example")
    response = Response(307, {"location": "/x"})
    play(
        make_session().access(REPOSITORY).send(TAGS),
        (first, response),
        *5 * [(moved, response)],
        error=ProtocolViolation,
        match="the token server redirected more than 5 times",
    )


@pytest.mark.parametrize("status", [307, 308])
def test_refresh_token_is_redirected_at_same_origin(status: int) -> None:
    """307 and 308 keep the method and the body (RFC 9110, sections 15.4.8 and 15.4.9)."""
    first = oauth2_request(pull_scope())
    moved = Request("POST", f"{REALM}/", first.headers, first.body, redirected_from="auth.example")
    play(
        make_session(IDENTITY).access(REPOSITORY).send(TAGS),
        (first, Response(status, {"location": f"{REALM}/"})),
        (moved, token_response("t1")),
        success("t1"),
    )


@pytest.mark.parametrize(
    ("status", "url"), [(302, f"{REALM}/"), (307, "https://other.example/t"), (308, "//a.example")]
)
def test_refresh_token_is_not_sent_to_other_origin(status: int, url: str) -> None:
    """A secret in a body is as secret as one in a header."""
    play(
        make_session(IDENTITY).access(REPOSITORY).send(TAGS),
        (oauth2_request(pull_scope()), Response(status, {"location": url})),
        error=ProtocolViolation,
        match="not followed here",
    )


# --- The newest challenge


def test_authorize_uses_newest_realm() -> None:
    """A registry may move its token server: the newest challenge counts (RFC 6750, section 3)."""
    registry = make_session()
    access = registry.access(REPOSITORY)
    moved = Response(401, {"www-authenticate": 'Bearer realm="https://new.example/t"'})
    url = f"https://new.example/t?{urlencode({'scope': pull_scope()})}"
    request = from_redirect(Request("GET", url))
    play(
        access.send(TAGS),
        (scoped_token_request(pull_scope()), token_response("t1")),
        (with_authorization(TAGS, "Bearer t1"), moved),
        (request, token_response("t2")),
        success("t2"),
    )


def test_handle_challenge_switches_from_bearer_to_basic() -> None:
    """The challenge of a 401 says what is required now (RFC 9110, section 11.6.1)."""
    registry = make_session(USER)
    access = registry.access(REPOSITORY)
    steps = (
        (scoped_token_request(pull_scope(), basic=USER.basic), token_response("t1")),
        (with_authorization(TAGS, "Bearer t1"), Response(401, BASIC)),
        (with_authorization(TAGS, USER.basic), Response(200)),
    )
    play(access.send(TAGS), *steps)
    play(access.send(TAGS), (with_authorization(TAGS, USER.basic), Response(200)))


def test_handle_challenge_switches_from_basic_to_bearer() -> None:
    """The challenge of a 401 says what is required now (RFC 9110, section 11.6.1)."""
    registry = play(ping("registry.example", USER, retry=ONCE), (PING, Response(401, BASIC)))
    play(
        registry.access(REPOSITORY).send(TAGS),
        (with_authorization(TAGS, USER.basic), REFUSED),
        (scoped_token_request(pull_scope(), basic=USER.basic), token_response("t1")),
        success("t1"),
    )


def test_send_raises_on_unsupported_scheme() -> None:
    """Negotiate and other schemes are not supported: the 401 is raised."""
    other = Response(401, {"www-authenticate": "Negotiate"})
    access = make_session(USER).access(REPOSITORY)
    token = scoped_token_request(pull_scope(), basic=USER.basic), token_response("t1")
    play(
        access.send(TAGS), token, (with_authorization(TAGS, "Bearer t1"), other), error=Unauthorized
    )


def test_send_does_not_repeat_refused_basic_credentials() -> None:
    """A client must not repeat what was refused (RFC 9110, section 15.5.2)."""
    registry = play(ping("registry.example", USER, retry=ONCE), (PING, Response(401, BASIC)))
    access = registry.access(REPOSITORY)
    refused = with_authorization(TAGS, USER.basic), Response(401, BASIC)
    play(access.send(TAGS), refused, error=Unauthorized)


# --- Identity tokens (OAuth2 Token Authentication)


def test_authorize_exchanges_identity_token() -> None:
    """`grant_type=refresh_token`, `service`, `client_id`, `scope` (OAuth2 Token Authentication)."""
    access = make_session(IDENTITY).access(REPOSITORY, "pull,push", OTHER)
    answer = Response(200, body=b'{"access_token": "t1", "expires_in": 300, "scope": "any"}')
    step = oauth2_request(f"{PUSH} {pull_scope(OTHER)}"), answer
    play(access.send(TAGS), step, success("t1"))


@pytest.mark.parametrize("status", [400, 404, 405])
def test_authorize_falls_back_to_password_form(status: int) -> None:
    """`docker login` stores what either form accepts; distribution's first form is the GET."""
    basic = "Basic " + b64encode(b"someone:refresh me").decode()
    play(
        make_session(IDENTITY).access(REPOSITORY).send(TAGS),
        (oauth2_request(pull_scope()), Response(status)),
        (scoped_token_request(pull_scope(), basic=basic), token_response("t1")),
        success("t1"),
    )


def test_authorize_prefers_password_to_identity_token() -> None:
    """The GET form is made for the password (RFC 7617, section 2)."""
    both = Credentials("someone", "open sesame", "refresh me")
    play(
        make_session(both).access(REPOSITORY).send(TAGS),
        (oauth2_request(pull_scope()), Response(404)),
        (scoped_token_request(pull_scope(), basic=USER.basic), token_response("t1")),
        success("t1"),
    )


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, Unauthorized),
        (403, Denied),
        (429, RateLimited),
        (500, RegistryError),
        (302, ProtocolViolation),
        (201, ProtocolViolation),
    ],
)
def test_authorize_raises_if_identity_token_is_refused(
    status: int, kind: type[BrolgaError]
) -> None:
    """The token server supports the form and refuses the token: its error is raised."""
    error = play(
        make_session(IDENTITY).access(REPOSITORY).send(TAGS),
        (oauth2_request(pull_scope()), Response(status, {"location": "https://evil.example/"})),
        error=kind,
        match=f"the token server answered POST {REALM} with {status}",
    )
    assert "refresh me" not in f"{error} {vars(error)}"


# --- Registry tokens


def test_send_uses_registry_token() -> None:
    """In docker's words, "a bearer token to be sent to a registry": no realm is called."""
    access = make_session(READY).access(REPOSITORY)
    play(access.send(TAGS), success("as-it-is"))
    play(access.send(POST), (with_authorization(POST, "Bearer as-it-is"), ACCEPTED))


@pytest.mark.parametrize("challenge", [BEARER, BASIC])
def test_send_raises_if_registry_token_is_refused(challenge: dict[str, str]) -> None:
    """Neither a realm nor a second attempt could help."""
    access = make_session(READY).access(REPOSITORY)
    refused = with_authorization(TAGS, "Bearer as-it-is"), Response(401, challenge)
    play(access.send(TAGS), refused, error=Unauthorized)


def test_send_returns_401_without_challenge() -> None:
    """A 401 MUST name what it requires (RFC 9110, section 15.5.2)."""
    for credentials in (READY, USER):
        access = RegistrySession(HOME, credentials, retry=ONCE).access(REPOSITORY)
        header = "Bearer as-it-is" if credentials is READY else ""
        request = with_authorization(TAGS, header) if header else TAGS
        assert play(access.send(TAGS), (request, Response(401))).status == 401


# --- Failures of the token server


def test_authorize_retries_after_refusal() -> None:
    """A refusal had no effect, so the request may be repeated (RFC 9110, section 10.2.3)."""
    registry = make_session(retry=Retry(attempts=3))
    play(
        registry.access(REPOSITORY).send(TAGS),
        (scoped_token_request(pull_scope()), Response(429, {"retry-after": "7"})),
        (with_delay(scoped_token_request(pull_scope()), 7.0), Response(503)),
        (with_delay(scoped_token_request(pull_scope()), 1.5), token_response("t1")),
        success("t1"),
    )


def test_authorize_retries_without_multiplying_attempts() -> None:
    """The token server has attempts of its own: the request does not add more."""
    cut = TransportError("no route", reason="connect")
    access = make_session(retry=Retry(attempts=3)).access(REPOSITORY)
    steps = [
        (with_delay(scoped_token_request(pull_scope()), delay), cut) for delay in (0.0, 0.5, 1.5)
    ]
    play(access.send(TAGS), *steps, error=TransportError)


@pytest.mark.parametrize("answer", [TransportError("cut", reason="cut"), Response(502)])
def test_authorize_repeats_oauth2_after_lost_response(answer: Answer) -> None:
    """A second token does no harm, and registries accept an identity token more than once."""
    access = make_session(IDENTITY, retry=Retry(attempts=2)).access(REPOSITORY)
    request = oauth2_request(pull_scope())
    play(
        access.send(POST), (request, answer), (with_delay(request, 0.5), answer), error=BrolgaError
    )


def test_authorize_uses_timeout_of_request() -> None:
    """A request with a short timeout gets a token with a short timeout, or none."""
    registry = make_session(retry=Retry(attempts=3))
    access = registry.access(REPOSITORY)
    request = Request("DELETE", f"{HOME}/v2/x", timeout=Timeout.SHORT)
    hurried = Request(
        "GET",
        scoped_token_request(pull_scope()).url,
        timeout=Timeout.SHORT,
        redirected_from="registry.example",
    )
    play(
        access.send(request),
        (hurried, Response(503)),
        error=RegistryError,
        match="the token server",
    )


def test_access_is_a_value() -> None:
    """Two accesses of one scope are equal: the state is in the registry session."""
    registry = make_session()
    assert registry.access(REPOSITORY) == registry.access(REPOSITORY)
    assert registry.access(REPOSITORY) == Access(registry, (pull_scope(),), f"{HOME}/v2/team/app/")


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
def test_parse_challenges_reads_schemes_and_parameters(
    header: str, challenges: dict[str, dict[str, str]]
) -> None:
    """RFC 9110, section 11.3: challenge = auth-scheme [ 1*SP ( token68 / #auth-param ) ]."""
    assert parse_challenges(header) == challenges


@pytest.mark.parametrize(
    "piece", ["a", " ", ",", '"', "\\", 'a="', 'a="\\', "a=b,", "Bearer ", '\\"', "= "]
)
def test_parse_challenges_takes_linear_time(piece: str) -> None:
    """No size that the peer chooses makes work without a bound (GHSA-f36w-mj3v-6jqv).

    A reader that tries things twice would need hours here, and this test would not end.
    """
    header = 'Bearer realm="' + piece * (100_000 // len(piece))
    assert len(parse_challenges(header)) <= 8192


def test_parse_challenges_reads_8_kib() -> None:
    """A challenge beyond 8 KiB of a header is ignored."""
    assert parse_challenges(f"Basic {',' * 8192} Bearer") == {"basic": {}}
