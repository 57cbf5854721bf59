"""wire/access.py: which redirect is followed, and what goes along."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.protocol.scripted import (
    BASIC,
    BEARER,
    HOME,
    PING,
    REPOSITORY,
    USER,
    access,
    authorized,
    elsewhere,
    entered,
    patch,
    play,
    token_call,
)

from brolga.errors import ProtocolViolation, Unauthorized
from brolga.protocol import Access, RegistrySession, Request, Response
from brolga.protocol.responses import raise_for_status

GET = Request("GET", f"{HOME}/v2/team/app/blobs/x", {"Range": "bytes=4-"}, stream_response=True)
OK = Response(200)
TOKEN = Response(200, body=b'{"token": "t1"}')


def to(url: str, status: int = 307) -> Response:
    """Return a redirect."""
    return Response(status, {"location": url})


def known() -> Access:
    """Return a way in which has shown its password."""
    return play(entered(REPOSITORY, USER), (PING, Response(401, BASIC)))


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_read_follows_a_redirect_as_it_is(method: str, status: int) -> None:
    """A registry may give its blobs from elsewhere (Pulling blobs): method and headers stay."""
    request = replace(GET, method=method)
    away = elsewhere(replace(request, url="https://cdn.example/y?sig=s"))
    steps = (authorized(request, USER.basic), to(away.url, status)), (away, OK)
    assert play(known().send(request), *steps) is OK


@pytest.mark.parametrize(
    ("url", "named_by"),
    [
        ("https://cdn.example/y", "registry.example"),
        ("https://registry.example.evil.example/y", "registry.example"),
        ("https://registry.example:8443/y", "registry.example"),
        ("https://auth.example/token", "registry.example"),
    ],
)
def test_the_authorization_stays_at_home(url: str, named_by: str) -> None:
    """Kept on a redirect to another origin, ports included, it is a leak (GHSA-vh4v-2xq2-g5cg)."""
    away = replace(GET, url=url, redirected_from=named_by)
    play(known().send(GET), (authorized(GET, USER.basic), to(url)), (away, OK))


@pytest.mark.parametrize(
    "target", ["/v2/team/app/blobs/y?a=%2F", f"{HOME}:443/v2/team/app/blobs/y?a=%2F"]
)
def test_the_authorization_goes_along_at_home(target: str) -> None:
    """The same scheme, host and port are the same origin (RFC 6454, section 5)."""
    url = target if target.startswith("https") else HOME + target
    moved = authorized(replace(GET, url=url), USER.basic)
    play(known().send(GET), (authorized(GET, USER.basic), to(target)), (moved, OK))


def test_what_another_host_asks_for_is_not_given() -> None:
    """A 401 from elsewhere gets neither password nor token, and names no realm."""
    away = elsewhere(replace(GET, url="https://cdn.example/y"))
    response = Response(401, {"www-authenticate": 'Bearer realm="https://evil.example/"'})
    steps = (authorized(GET, USER.basic), to(away.url)), (away, response)
    assert play(known().send(GET), *steps) is response


def test_a_401_at_home_is_answered_in_the_middle_of_redirects() -> None:
    """A registry may redirect before it asks who is there."""
    moved = replace(GET, url=f"{HOME}/v2/team/app/blobs/y")
    play(
        access().send(GET),
        (GET, to(moved.url)),
        (moved, Response(401, BEARER)),
        (token_call(), TOKEN),
        (authorized(moved, "Bearer t1"), OK),
    )


def test_the_way_home_again_is_authorized() -> None:
    """Each URL of a chain is judged by itself."""
    away = elsewhere(replace(GET, url="https://cdn.example/y"))
    back = authorized(replace(GET, url=f"{HOME}/z"), USER.basic)
    steps = (authorized(GET, USER.basic), to(away.url)), (away, to(back.url)), (back, OK)
    play(known().send(GET), *steps)


def test_a_relative_target_is_one_of_who_said_it() -> None:
    """Resolved against the URL that was asked (RFC 9110, section 10.2.2)."""
    one = elsewhere(replace(GET, url="https://cdn.example/a/b?c"))
    two = replace(GET, url="https://cdn.example/a/d", redirected_from="cdn.example")
    play(access().send(GET), (GET, to(one.url)), (one, to("d#part")), (two, OK))


def test_five_redirects_are_followed_and_no_more() -> None:
    """A client SHOULD detect cyclical redirections (RFC 9110, section 15.4)."""
    hops = [replace(GET, url=f"{HOME}/{number}") for number in range(6)]
    steps = [(request, to(f"/{number + 1}")) for number, request in enumerate(hops)]
    assert play(access().send(hops[0]), *steps[:5], (hops[5], OK)) is OK
    play(
        access().send(hops[0]),
        *steps,
        error=ProtocolViolation,
        match=f"{HOME} redirected more than 5 times",
    )


@pytest.mark.parametrize(
    ("target", "fault"),
    [
        ("http://registry.example/y?secret", "falls back to plain http"),
        ("http://cdn.example/y?secret", "falls back to plain http"),
        ("https://127.0.0.1/y?secret", "private network"),
        ("https://10.0.0.1/y?secret", "private network"),
        ("https://169.254.169.254/y?secret", "private network"),
        ("https://localhost/y?secret", "private network"),
        ("https://u:secret@cdn.example/y", "no http"),
        ("file:///etc/passwd?secret", "no http"),
        ("https://[::1", "no http"),
        ("/a b?secret", "no http"),
    ],
)
def test_a_redirect_that_is_not_safe_is_a_violation(target: str, fault: str) -> None:
    """A target may leave TLS, lead inside, or be no URL at all (CVE-2026-48978)."""
    error = play(
        access().send(GET), (GET, to(target)), error=ProtocolViolation, match=f"redirect .*{fault}"
    )
    assert "secret" not in str(error)


def test_a_redirect_inside_is_judged_by_who_gave_it() -> None:
    """Whoever a registry sends us to has not the registry's place in our network."""
    way = RegistrySession("http://10.0.0.1:5000").access(REPOSITORY)
    request = Request("GET", "http://10.0.0.1:5000/v2/x")
    near = Request("GET", "http://10.0.0.2/y", redirected_from="10.0.0.1")
    play(way.send(request), (request, to(near.url)), (near, OK))
    far = Request("GET", "http://cdn.example/y", redirected_from="10.0.0.1")
    play(
        way.send(request),
        (request, to(far.url)),
        (far, to("http://10.0.0.3/secrets")),
        error=ProtocolViolation,
        match="private network",
    )
    # A name may lead inside, which only the driver sees: it must know whose word this is.
    name = Request("GET", "http://name.example/secrets", redirected_from="cdn.example")
    play(way.send(request), (request, to(far.url)), (far, to(name.url)), (name, OK))


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("method", ["PUT", "POST", "PATCH", "DELETE"])
def test_what_changes_something_is_not_sent_elsewhere(method: str, status: int) -> None:
    """A body that was meant for the registry is nobody else's (RFC 9110, section 15.4)."""
    request = Request(method, f"{HOME}/v2/x", body=b"all")
    response = to("https://cdn.example/y", status)
    assert play(access().send(request), (request, response)) is response
    with pytest.raises(ProtocolViolation, match="not followed here"):
        raise_for_status(request, response, 201)


def test_a_stream_is_not_sent_elsewhere() -> None:
    """A stream is read once, by the one it was meant for."""
    request = patch(iter([b"a"]))
    response = to("https://cdn.example/y")
    assert play(access().send(request), (request, response)) is response


@pytest.mark.parametrize("reply", [Response(307), to("", 307), to("/x", 300), to("/x", 304)])
def test_what_is_no_redirect_is_the_answer(response: Response) -> None:
    """Without a Location, or with another status, nothing is to be followed."""
    assert play(access().send(GET), (GET, response)) is response


def test_a_refusal_after_a_redirect_is_the_registrys() -> None:
    """The first 401 of a chain is answered; a second one is told."""
    moved = replace(GET, url=f"{HOME}/y")
    refused = Response(401, BASIC)
    play(
        known().send(GET),
        (authorized(GET, USER.basic), to(moved.url)),
        (authorized(moved, USER.basic), refused),
        error=Unauthorized,
    )
