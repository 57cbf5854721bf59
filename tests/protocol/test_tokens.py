"""wire/access.py, wire/challenge.py: which token does for which call, and how long."""

from __future__ import annotations

import json
from base64 import b64encode
from urllib.parse import urlencode

import pytest
from tests.protocol.scripted import (
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
    authorized,
    elsewhere,
    later,
    play,
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
from brolga.protocol.challenge import parse_token
from brolga.spec.reference import Repository

OTHER = Repository.parse("registry.example/team/base")
THIRD = Repository.parse("registry.example/a")
TAGS = Request("GET", f"{HOME}/v2/team/app/tags/list")
REFUSED = Response(401, BEARER)
IDENTITY = Credentials("someone", identity_token="refresh me")  # noqa: S106 - a made-up one
READY = Credentials(registry_token="as-it-is")  # noqa: S106 - a made-up one


class Clock:
    """A clock that the test turns."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def given(text: str, **more: object) -> Response:
    """Return a token server's answer."""
    return Response(200, body=json.dumps({"token": text, **more}).encode())


def ask(*scopes: str, basic: str = "") -> Request:
    """Return the call that asks for a token for some scopes."""
    fields = [("scope", scope) for scope in scopes] + [("service", "registry.example")]
    headers = {"Authorization": basic} if basic else {}
    return elsewhere(Request("GET", f"{REALM}?{urlencode(fields)}", headers))


def exchange(scope: str) -> Request:
    """Return the call that asks for a token in the OAuth2 form."""
    form = {
        "grant_type": "refresh_token",
        "client_id": "brolga",
        "refresh_token": IDENTITY.identity_token,
        "service": "registry.example",
        "scope": scope,
    }
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    return elsewhere(Request("POST", REALM, headers, urlencode(form).encode()))


def found(
    credentials: Credentials | None = None, clock: Clock | None = None, retry: Retry = ONCE
) -> RegistrySession:
    """Return a registry that asked for a bearer token at its front door."""
    flow = ping("registry.example", credentials, retry=retry, clock=clock or Clock())
    return play(flow, (PING, REFUSED))


def pull(repository: Repository = REPOSITORY) -> str:
    """Return the scope to pull from a repository."""
    return f"repository:{repository.path}:pull"


PUSH = f"{pull()},push"


# --- When a token is asked for


def test_a_token_is_fetched_at_its_first_use() -> None:
    """Nobody is asked for a token that no call needs: each has a scope of its own."""
    registry = found()
    way = registry.access(REPOSITORY)
    play(way.send(TAGS), (ask(pull()), given("t1")), (authorized(TAGS, "Bearer t1"), Response(200)))


def test_a_call_to_another_host_needs_no_token() -> None:
    """A session may be at a storage's signed URL: no token goes there, so none is asked for."""
    request = Request("DELETE", "https://storage.example/u?sig=s", body=b"")
    play(found().access(REPOSITORY).send(request), (elsewhere(request), Response(204)))
    play(found().access(REPOSITORY).send(request, once=True), (elsewhere(request), Response(204)))


def test_a_token_serves_until_it_expires() -> None:
    """A token is for a scope, not for a request (Token Authentication)."""
    registry = found()
    play(registry.access(REPOSITORY).send(TAGS), (ask(pull()), given("t1")), sent("t1"))
    play(registry.access(REPOSITORY).send(TAGS), sent("t1"))


def sent(token: str) -> tuple[Request, Response]:
    """Return the step of a call with a token that does."""
    return authorized(TAGS, f"Bearer {token}"), Response(200)


def test_who_may_push_may_pull() -> None:
    """A token's actions are a set (Token Scope Documentation): no second one for a part of it."""
    registry = found()
    play(registry.access(REPOSITORY, "pull,push").send(TAGS), (ask(PUSH), given("t1")), sent("t1"))
    play(registry.access(REPOSITORY, "pull").send(TAGS), sent("t1"))
    play(registry.access(REPOSITORY, "push,pull").send(TAGS), sent("t1"))


@pytest.mark.parametrize(
    ("actions", "repository", "scope"),
    [
        ("pull,push", REPOSITORY, PUSH),
        ("delete", REPOSITORY, "repository:team/app:delete"),
        ("pull", OTHER, pull(OTHER)),
        ("pull", THIRD, pull(THIRD)),
    ],
)
def test_a_token_does_for_nothing_beyond_its_scope(
    actions: str, repository: Repository, scope: str
) -> None:
    """What a token was not given for needs another one."""
    registry = found()
    play(registry.access(REPOSITORY).send(TAGS), (ask(pull()), given("t1")), sent("t1"))
    play(registry.access(repository, actions).send(TAGS), (ask(scope), given("t2")), sent("t2"))
    # And the first one is still there.
    play(registry.access(REPOSITORY).send(TAGS), sent("t1"))


def test_a_mount_needs_a_token_of_both_repositories() -> None:
    """`scope` may be given several times (Token Authentication, Requesting a Token)."""
    registry = found()
    way = registry.access(REPOSITORY, "pull,push", OTHER, THIRD)
    play(way.send(TAGS), (ask(PUSH, pull(THIRD), pull(OTHER)), given("t1")), sent("t1"))
    # In another order it is the same token; and it does for each part.
    play(registry.access(REPOSITORY, "pull,push", THIRD, OTHER).send(TAGS), sent("t1"))
    play(registry.access(THIRD).send(TAGS), sent("t1"))


def test_a_scope_is_asked_for_once() -> None:
    """What is pulled from the repository itself is no second scope."""
    assert found().access(REPOSITORY, "pull", REPOSITORY).scope == (pull(),)


def test_the_catalog_has_a_scope_of_its_own() -> None:
    """`registry:catalog:*` (Token Scope Documentation, Resource Types)."""
    way = found().catalog()
    request = Request("GET", way.url("_catalog"))
    assert request.url == f"{HOME}/v2/_catalog"
    steps = (
        (ask("registry:catalog:*"), given("t1")),
        (authorized(request, "Bearer t1"), Response(200)),
    )
    play(way.send(request), *steps)


def test_a_host_is_known_without_its_port() -> None:
    """What the user trusts is the host that was named (RFC 6454 has ports apart)."""
    assert RegistrySession("http://localhost:5000").host == "localhost"


# --- How long it lives


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
def test_a_token_is_renewed_before_it_expires(more: dict[str, object], until: float) -> None:
    """`expires_in`: seconds that it is valid, 60 where it is omitted (Token Response Fields).

    A long upload must not find its token dead: the last fifth, at most 10 s, is not used.
    """
    clock = Clock()
    registry = found(clock=clock)
    way = registry.access(REPOSITORY)
    play(way.send(TAGS), (ask(pull()), given("t1", **more)), sent("t1"))
    clock.now = 1000.0 + until - 0.01
    play(way.send(TAGS), sent("t1"))
    clock.now = 1000.0 + until
    play(way.send(TAGS), (ask(pull()), given("t2")), sent("t2"))


def test_a_token_lives_from_when_it_was_asked_for() -> None:
    """How long its answer took is part of its life: the server counts from its own moment."""
    clock = Clock()
    registry = found(clock=clock)
    flow = registry.access(REPOSITORY).send(TAGS)
    assert next(flow) == ask(pull())
    clock.now += 45.0
    assert flow.send(given("t1")) == authorized(TAGS, "Bearer t1")
    flow.close()
    clock.now += 5.0
    play(registry.access(REPOSITORY).send(TAGS), (ask(pull()), given("t2")), sent("t2"))


def test_without_a_clock_a_token_lives_until_it_is_refused() -> None:
    """Who drives a flow without a clock still gets a new token by the 401."""
    way = RegistrySession(HOME, retry=ONCE).access(REPOSITORY)
    for_short = given("t1", expires_in=1e-300)
    play(way.send(TAGS), (TAGS, REFUSED), (ask(pull()), for_short), sent("t1"))
    play(way.send(TAGS), sent("t1"))
    dead = authorized(TAGS, "Bearer t1"), REFUSED
    play(way.send(TAGS), dead, (ask(pull()), given("t2")), sent("t2"))


@pytest.mark.parametrize(
    "body", [b'{"token": "t", "expires_in": ' + b"9" * 5000 + b"}", b"{" * 100_000]
)
def test_a_number_without_an_end_is_no_token(body: bytes) -> None:
    """No size that the peer chooses makes work without a bound (GHSA-f36w-mj3v-6jqv)."""
    with pytest.raises(ProtocolViolation):
        parse_token(body)


# --- A token that was refused


def test_a_refused_token_alone_is_forgotten() -> None:
    """A 401 says that this token does not do; it says nothing of the others."""
    registry = found()
    one, two = registry.access(REPOSITORY), registry.access(OTHER)
    play(one.send(TAGS), (ask(pull()), given("t1")), sent("t1"))
    play(two.send(TAGS), (ask(pull(OTHER)), given("t2")), sent("t2"))
    dead = authorized(TAGS, "Bearer t1"), REFUSED
    play(one.send(TAGS), dead, (ask(pull()), given("t3")), sent("t3"))
    play(two.send(TAGS), sent("t2"))


def test_a_refused_token_of_a_wider_scope_is_forgotten_for_all_of_it() -> None:
    """The next one is asked for the scope that is needed, and no dead one is tried again."""
    registry = found()
    play(registry.access(REPOSITORY, "pull,push").send(TAGS), (ask(PUSH), given("t1")), sent("t1"))
    dead = authorized(TAGS, "Bearer t1"), REFUSED
    way = registry.access(REPOSITORY)
    play(way.send(TAGS), dead, (ask(pull()), given("t2")), sent("t2"))
    way = registry.access(REPOSITORY, "pull,push")
    play(way.send(TAGS), (ask(PUSH), given("t3")), sent("t3"))


def test_when_all_tokens_die_at_once_a_new_one_is_asked_for() -> None:
    """The registry's key was changed: the token of a wider scope is dead as well, and is not tried.

    Tokens of other repositories are left: if they are dead too, a 401 of their own tells it.
    """
    registry = found()
    other = registry.access(OTHER)
    play(other.send(TAGS), (ask(pull(OTHER)), given("t0")), sent("t0"))
    narrow, wide = registry.access(REPOSITORY), registry.access(REPOSITORY, "pull,push")
    play(narrow.send(TAGS), (ask(pull()), given("t1")), sent("t1"))
    play(wide.send(TAGS), (ask(PUSH), given("t2")), sent("t2"))
    dead = authorized(TAGS, "Bearer t1"), REFUSED
    play(narrow.send(TAGS), dead, (ask(pull()), given("t3")), sent("t3"))
    play(wide.send(TAGS), (ask(PUSH), given("t4")), sent("t4"))
    play(other.send(TAGS), sent("t0"))


def test_a_token_that_another_thread_renewed_is_kept() -> None:
    """Two calls are refused with one token: the second one takes what the first one got."""
    registry = found()
    way = registry.access(REPOSITORY)
    play(way.send(TAGS), (ask(pull()), given("t1")), sent("t1"))
    late = way.send(TAGS)
    assert next(late) == authorized(TAGS, "Bearer t1")
    dead = authorized(TAGS, "Bearer t1"), REFUSED
    play(way.send(TAGS), dead, (ask(pull()), given("t2")), sent("t2"))
    assert late.send(REFUSED) == authorized(TAGS, "Bearer t2")
    late.close()


# --- How many are kept


def kept(registry: RegistrySession) -> int:
    """Return how many tokens a registry has kept."""
    return len(registry._tokens)


def use(registry: RegistrySession, number: int, **more: object) -> None:
    """Get a token for one of many repositories."""
    way = registry.access(Repository("registry.example", f"a{number}"))
    scope = f"repository:a{number}:pull"
    play(way.send(TAGS), (ask(scope), given(f"t{number}", **more)), sent(f"t{number}"))


def test_tokens_that_expired_are_dropped() -> None:
    """A client that lives for months does not keep a token of each repository that it saw."""
    clock = Clock()
    registry = found(clock=clock)
    for number in range(20):
        use(registry, number)
    assert kept(registry) == 20
    clock.now += 3600.0
    use(registry, 20)
    assert kept(registry) == 1


def test_the_newest_tokens_are_kept() -> None:
    """Tokens may live for a day: their number is bounded, and the oldest go first."""
    registry = found()
    for number in range(300):
        use(registry, number, expires_in=86400)
    assert kept(registry) == 256
    way = registry.access(Repository("registry.example", "a299"))
    play(way.send(TAGS), sent("t299"))
    use(registry, 0)


# --- A token server that redirects


def test_a_redirect_of_the_token_server_is_followed_at_home_with_the_password() -> None:
    """The same scheme, host and port: it is whom the password is for (RFC 6454, section 5)."""
    first = ask(pull(), basic=USER.basic)
    moved = Request(
        "GET", "https://auth.example/new?x", first.headers, redirected_from="auth.example"
    )
    play(
        found(USER).access(REPOSITORY).send(TAGS),
        (first, Response(302, {"location": "/new?x"})),
        (moved, given("t1")),
        sent("t1"),
    )


@pytest.mark.parametrize(
    "url", ["https://other.example/t", "https://auth.example:8443/t", "https://evil.example/"]
)
def test_a_redirect_of_the_token_server_elsewhere_gets_no_password(url: str) -> None:
    """Kept on a redirect to another origin, ports included, it is a leak (GHSA-vh4v-2xq2-g5cg)."""
    play(
        found(USER).access(REPOSITORY).send(TAGS),
        (ask(pull(), basic=USER.basic), Response(307, {"location": url})),
        (Request("GET", url, redirected_from="auth.example"), given("t1")),
        sent("t1"),
    )


def test_a_redirect_of_the_token_server_to_the_registry_is_the_users() -> None:
    """The user named that host; its password stays where it was asked for."""
    url = f"{HOME}/token"
    play(
        found(USER).access(REPOSITORY).send(TAGS),
        (ask(pull(), basic=USER.basic), Response(307, {"location": url})),
        (Request("GET", url), given("t1")),
        sent("t1"),
    )


@pytest.mark.parametrize(
    ("target", "fault"),
    [
        ("http://auth.example/t", "falls back to plain http"),
        ("https://127.0.0.1/t", "private network"),
        ("https://169.254.169.254/t", "private network"),
        ("https://u:secret@auth.example/t", "no http"),
    ],
)
def test_a_redirect_of_the_token_server_that_is_not_safe_is_a_violation(
    target: str, fault: str
) -> None:
    """No redirect of a realm leaves TLS, or leads inside (GHSA-28r5-37g7-p6mp)."""
    response = Response(307, {"location": target})
    for credentials, request in (
        (USER, ask(pull(), basic=USER.basic)),
        (IDENTITY, exchange(pull())),
    ):
        way = found(credentials).access(REPOSITORY)
        play(way.send(TAGS), (request, response), error=ProtocolViolation, match=fault)


def test_a_token_server_that_redirects_for_ever_is_a_violation() -> None:
    """A client SHOULD detect cyclical redirections (RFC 9110, section 15.4)."""
    first = ask(pull())
    there = Request("GET", "https://auth.example/x", redirected_from="auth.example")
    response = Response(307, {"location": "/x"})
    play(
        found().access(REPOSITORY).send(TAGS),
        (first, response),
        *5 * [(there, response)],
        error=ProtocolViolation,
        match="the token server redirected more than 5 times",
    )


@pytest.mark.parametrize("status", [307, 308])
def test_a_refresh_token_goes_along_within_its_origin(status: int) -> None:
    """307 and 308 keep the method and the body (RFC 9110, sections 15.4.8 and 15.4.9)."""
    first = exchange(pull())
    moved = Request("POST", f"{REALM}/", first.headers, first.body, redirected_from="auth.example")
    play(
        found(IDENTITY).access(REPOSITORY).send(TAGS),
        (first, Response(status, {"location": f"{REALM}/"})),
        (moved, given("t1")),
        sent("t1"),
    )


@pytest.mark.parametrize(
    ("status", "url"), [(302, f"{REALM}/"), (307, "https://other.example/t"), (308, "//a.example")]
)
def test_a_refresh_token_goes_nowhere_else(status: int, url: str) -> None:
    """A secret in a body is no less one than in a header."""
    play(
        found(IDENTITY).access(REPOSITORY).send(TAGS),
        (exchange(pull()), Response(status, {"location": url})),
        error=ProtocolViolation,
        match="not followed here",
    )


# --- What the newest challenge says


def test_the_newest_realm_is_asked() -> None:
    """A registry may move its token server: the challenge at hand counts (RFC 6750, section 3)."""
    registry = found()
    way = registry.access(REPOSITORY)
    moved = Response(401, {"www-authenticate": 'Bearer realm="https://new.example/t"'})
    asked = elsewhere(Request("GET", f"https://new.example/t?{urlencode({'scope': pull()})}"))
    play(
        way.send(TAGS),
        (ask(pull()), given("t1")),
        (authorized(TAGS, "Bearer t1"), moved),
        (asked, given("t2")),
        sent("t2"),
    )


def test_a_registry_may_change_from_bearer_to_basic() -> None:
    """The challenge of a 401 says what is wanted now (RFC 9110, section 11.6.1)."""
    registry = found(USER)
    way = registry.access(REPOSITORY)
    steps = (
        (ask(pull(), basic=USER.basic), given("t1")),
        (authorized(TAGS, "Bearer t1"), Response(401, BASIC)),
        (authorized(TAGS, USER.basic), Response(200)),
    )
    play(way.send(TAGS), *steps)
    play(way.send(TAGS), (authorized(TAGS, USER.basic), Response(200)))


def test_a_registry_may_change_from_basic_to_bearer() -> None:
    """The challenge of a 401 says what is wanted now (RFC 9110, section 11.6.1)."""
    registry = play(ping("registry.example", USER, retry=ONCE), (PING, Response(401, BASIC)))
    play(
        registry.access(REPOSITORY).send(TAGS),
        (authorized(TAGS, USER.basic), REFUSED),
        (ask(pull(), basic=USER.basic), given("t1")),
        sent("t1"),
    )


def test_a_challenge_that_nothing_answers_is_the_answer() -> None:
    """Negotiate and the like are not spoken here: the 401 is told as it is."""
    other = Response(401, {"www-authenticate": "Negotiate"})
    way = found(USER).access(REPOSITORY)
    token = ask(pull(), basic=USER.basic), given("t1")
    play(way.send(TAGS), token, (authorized(TAGS, "Bearer t1"), other), error=Unauthorized)


def test_basic_credentials_are_not_sent_twice_to_who_refuses_them() -> None:
    """A client must not repeat what was refused (RFC 9110, section 15.5.2)."""
    registry = play(ping("registry.example", USER, retry=ONCE), (PING, Response(401, BASIC)))
    way = registry.access(REPOSITORY)
    refused = authorized(TAGS, USER.basic), Response(401, BASIC)
    play(way.send(TAGS), refused, error=Unauthorized)


# --- Identity tokens (OAuth2 Token Authentication)


def test_an_identity_token_is_exchanged_by_oauth2() -> None:
    """`grant_type=refresh_token`, `service`, `client_id`, `scope` (OAuth2 Token Authentication)."""
    way = found(IDENTITY).access(REPOSITORY, "pull,push", OTHER)
    answer = Response(200, body=b'{"access_token": "t1", "expires_in": 300, "scope": "any"}')
    step = exchange(f"{PUSH} {pull(OTHER)}"), answer
    play(way.send(TAGS), step, sent("t1"))


@pytest.mark.parametrize("status", [400, 404, 405])
def test_a_token_server_without_oauth2_gets_the_token_as_a_password(status: int) -> None:
    """`docker login` stores what either form takes; distribution's first form is the GET."""
    basic = "Basic " + b64encode(b"someone:refresh me").decode()
    play(
        found(IDENTITY).access(REPOSITORY).send(TAGS),
        (exchange(pull()), Response(status)),
        (ask(pull(), basic=basic), given("t1")),
        sent("t1"),
    )


def test_a_password_goes_before_the_token_where_both_are_there() -> None:
    """The password is what the GET form is made for (RFC 7617, section 2)."""
    both = Credentials("someone", "open sesame", "refresh me")
    play(
        found(both).access(REPOSITORY).send(TAGS),
        (exchange(pull()), Response(404)),
        (ask(pull(), basic=USER.basic), given("t1")),
        sent("t1"),
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
def test_a_refused_identity_token_is_no_reason_to_try_it_elsewhere(
    status: int, kind: type[BrolgaError]
) -> None:
    """The token server knows the form, and refuses: it is told as it is."""
    error = play(
        found(IDENTITY).access(REPOSITORY).send(TAGS),
        (exchange(pull()), Response(status, {"location": "https://evil.example/"})),
        error=kind,
        match=f"the token server answered POST {REALM} with {status}",
    )
    assert "refresh me" not in f"{error} {vars(error)}"


# --- Registry tokens


def test_a_registry_token_is_sent_as_it_is() -> None:
    """In docker's words, "a bearer token to be sent to a registry", no realm is asked."""
    way = found(READY).access(REPOSITORY)
    play(way.send(TAGS), sent("as-it-is"))
    play(way.send(POST), (authorized(POST, "Bearer as-it-is"), ACCEPTED))


@pytest.mark.parametrize("challenge", [BEARER, BASIC])
def test_a_refused_registry_token_is_unauthorized(challenge: dict[str, str]) -> None:
    """It is all there is: neither a realm nor a second try could help."""
    way = found(READY).access(REPOSITORY)
    refused = authorized(TAGS, "Bearer as-it-is"), Response(401, challenge)
    play(way.send(TAGS), refused, error=Unauthorized)


def test_a_401_without_a_challenge_is_the_answer() -> None:
    """A 401 MUST name what it wants (RFC 9110, section 15.5.2); nothing can be tried without it."""
    for credentials in (READY, USER):
        way = RegistrySession(HOME, credentials, retry=ONCE).access(REPOSITORY)
        said = "Bearer as-it-is" if credentials is READY else ""
        request = authorized(TAGS, said) if said else TAGS
        assert play(way.send(TAGS), (request, Response(401))).status == 401


# --- The token server's bad moments


def test_a_token_server_in_trouble_is_asked_again() -> None:
    """A refusal did nothing, so it may be repeated (RFC 9110, section 10.2.3)."""
    registry = found(retry=Retry(attempts=3))
    play(
        registry.access(REPOSITORY).send(TAGS),
        (ask(pull()), Response(429, {"retry-after": "7"})),
        (later(ask(pull()), 7.0), Response(503)),
        (later(ask(pull()), 1.5), given("t1")),
        sent("t1"),
    )


def test_a_token_server_out_of_reach_is_tried_as_often_as_anyone() -> None:
    """Its attempts are its own: the call that needs the token does not multiply them."""
    cut = TransportError("no way there", reason="connect")
    way = found(retry=Retry(attempts=3)).access(REPOSITORY)
    steps = [(later(ask(pull()), pause), cut) for pause in (0.0, 0.5, 1.5)]
    play(way.send(TAGS), *steps, error=TransportError)


@pytest.mark.parametrize("answer", [TransportError("cut", reason="cut"), Response(502)])
def test_a_lost_answer_of_the_oauth2_form_is_asked_for_again(answer: Answer) -> None:
    """A second token does no harm, and registries take an identity token more than once."""
    way = found(IDENTITY, retry=Retry(attempts=2)).access(REPOSITORY)
    asked = exchange(pull())
    play(way.send(POST), (asked, answer), (later(asked, 0.5), answer), error=BrolgaError)


def test_nobody_waits_for_a_token_to_give_up_with() -> None:
    """A call in a hurry gets a token in a hurry, or none."""
    registry = found(retry=Retry(attempts=3))
    way = registry.access(REPOSITORY)
    request = Request("DELETE", f"{HOME}/v2/x", timeout=Timeout.SHORT)
    hurried = Request(
        "GET", ask(pull()).url, timeout=Timeout.SHORT, redirected_from="registry.example"
    )
    play(way.send(request), (hurried, Response(503)), error=RegistryError, match="the token server")


def test_a_view_is_a_value() -> None:
    """Two views of one scope are the same: what is kept is the registry's."""
    registry = found()
    assert registry.access(REPOSITORY) == registry.access(REPOSITORY)
    assert registry.access(REPOSITORY) == Access(registry, (pull(),), f"{HOME}/v2/team/app/")
