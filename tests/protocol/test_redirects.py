"""protocol.auth.follow_redirects: which redirect is followed, with which headers."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.protocol.driver import (
    BASIC,
    BEARER,
    HOME,
    PING,
    REPOSITORY,
    USER,
    from_redirect,
    make_access,
    open_access,
    patch,
    play,
    token_request,
    with_authorization,
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


def authorized_access() -> Access:
    """Return an access that has sent its password."""
    return play(open_access(REPOSITORY, USER), (PING, Response(401, BASIC)))


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_follow_redirects_keeps_method_and_headers_of_read(method: str, status: int) -> None:
    """A registry may serve its blobs from elsewhere (Pulling blobs): method and headers stay."""
    request = replace(GET, method=method)
    away = from_redirect(replace(request, url="https://cdn.example/y?sig=s"))
    steps = (with_authorization(request, USER.basic), to(away.url, status)), (away, OK)
    assert play(authorized_access().send(request), *steps) is OK


@pytest.mark.parametrize(
    ("url", "named_by"),
    [
        ("https://cdn.example/y", "registry.example"),
        ("https://registry.example.evil.example/y", "registry.example"),
        ("https://registry.example:8443/y", "registry.example"),
        ("https://auth.example/token", "registry.example"),
    ],
)
def test_follow_redirects_drops_authorization_at_other_origin(url: str, named_by: str) -> None:
    """Kept on a redirect to another origin, ports included, it is a leak (GHSA-vh4v-2xq2-g5cg)."""
    away = replace(GET, url=url, redirected_from=named_by)
    play(authorized_access().send(GET), (with_authorization(GET, USER.basic), to(url)), (away, OK))


@pytest.mark.parametrize(
    "target", ["/v2/team/app/blobs/y?a=%2F", f"{HOME}:443/v2/team/app/blobs/y?a=%2F"]
)
def test_follow_redirects_keeps_authorization_at_same_origin(target: str) -> None:
    """The same scheme, host and port are the same origin (RFC 6454, section 5)."""
    url = target if target.startswith("https") else HOME + target
    moved = with_authorization(replace(GET, url=url), USER.basic)
    play(
        authorized_access().send(GET),
        (with_authorization(GET, USER.basic), to(target)),
        (moved, OK),
    )


def test_send_does_not_answer_challenge_of_other_host() -> None:
    """A 401 from elsewhere gets neither password nor token, and names no realm."""
    away = from_redirect(replace(GET, url="https://cdn.example/y"))
    response = Response(401, {"www-authenticate": 'Bearer realm="https://evil.example/"'})
    steps = (with_authorization(GET, USER.basic), to(away.url)), (away, response)
    assert play(authorized_access().send(GET), *steps) is response


def test_send_answers_401_after_redirect() -> None:
    """A registry may redirect before it asks for authorization."""
    moved = replace(GET, url=f"{HOME}/v2/team/app/blobs/y")
    play(
        make_access().send(GET),
        (GET, to(moved.url)),
        (moved, Response(401, BEARER)),
        (token_request(), TOKEN),
        (with_authorization(moved, "Bearer t1"), OK),
    )


def test_send_authorizes_redirect_back_to_registry() -> None:
    """Each URL of a chain is judged by itself."""
    away = from_redirect(replace(GET, url="https://cdn.example/y"))
    back = with_authorization(replace(GET, url=f"{HOME}/z"), USER.basic)
    steps = (with_authorization(GET, USER.basic), to(away.url)), (away, to(back.url)), (back, OK)
    play(authorized_access().send(GET), *steps)


def test_follow_redirects_resolves_relative_target() -> None:
    """Resolved against the URL of the request (RFC 9110, section 10.2.2)."""
    first = from_redirect(replace(GET, url="https://cdn.example/a/b?c"))
    second = replace(GET, url="https://cdn.example/a/d", redirected_from="cdn.example")
    play(make_access().send(GET), (GET, to(first.url)), (first, to("d#part")), (second, OK))


def test_follow_redirects_raises_after_five() -> None:
    """A client SHOULD detect cyclical redirections (RFC 9110, section 15.4)."""
    hops = [replace(GET, url=f"{HOME}/{number}") for number in range(6)]
    steps = [(request, to(f"/{number + 1}")) for number, request in enumerate(hops)]
    assert play(make_access().send(hops[0]), *steps[:5], (hops[5], OK)) is OK
    play(
        make_access().send(hops[0]),
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
        ("https://u:secret@cdn.example/y", "not a valid http"),
        ("file:///etc/passwd?secret", "not a valid http"),
        ("https://[::1", "not a valid http"),
        ("/a b?secret", "not a valid http"),
    ],
)
def test_follow_redirects_raises_on_unsafe_target(target: str, fault: str) -> None:
    """A target may leave TLS, lead to a private address, or not be a URL (CVE-2026-48978)."""
    error = play(
        make_access().send(GET),
        (GET, to(target)),
        error=ProtocolViolation,
        match=f"redirect .*{fault}",
    )
    assert "secret" not in str(error)


def test_follow_redirects_checks_target_against_redirecting_host() -> None:
    """A host that a registry redirects to does not have the registry's place in our network."""
    access = RegistrySession("http://10.0.0.1:5000").access(REPOSITORY)
    request = Request("GET", "http://10.0.0.1:5000/v2/x")
    near = Request("GET", "http://10.0.0.2/y", redirected_from="10.0.0.1")
    play(access.send(request), (request, to(near.url)), (near, OK))
    far = Request("GET", "http://cdn.example/y", redirected_from="10.0.0.1")
    play(
        access.send(request),
        (request, to(far.url)),
        (far, to("http://10.0.0.3/secrets")),
        error=ProtocolViolation,
        match="private network",
    )
    # A name may lead inside, which only the driver sees: it must know whose word this is.
    name = Request("GET", "http://name.example/secrets", redirected_from="cdn.example")
    play(access.send(request), (request, to(far.url)), (far, to(name.url)), (name, OK))


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("method", ["PUT", "POST", "PATCH", "DELETE"])
def test_follow_redirects_ignores_redirect_of_write(method: str, status: int) -> None:
    """A body for the registry is not sent to another server (RFC 9110, section 15.4)."""
    request = Request(method, f"{HOME}/v2/x", body=b"all")
    response = to("https://cdn.example/y", status)
    assert play(make_access().send(request), (request, response)) is response
    with pytest.raises(ProtocolViolation, match="not followed here"):
        raise_for_status(request, response, 201)


def test_follow_redirects_ignores_redirect_of_stream() -> None:
    """A stream is read once, for the registry."""
    request = patch(iter([b"a"]))
    response = to("https://cdn.example/y")
    assert play(make_access().send(request), (request, response)) is response


@pytest.mark.parametrize("response", [Response(307), to("", 307), to("/x", 300), to("/x", 304)])
def test_follow_redirects_returns_other_response(response: Response) -> None:
    """Without a Location, or with another status, there is nothing to follow."""
    assert play(make_access().send(GET), (GET, response)) is response


def test_send_raises_on_401_after_authorized_redirect() -> None:
    """The first 401 of a chain is answered; a second one is raised."""
    moved = replace(GET, url=f"{HOME}/y")
    refused = Response(401, BASIC)
    play(
        authorized_access().send(GET),
        (with_authorization(GET, USER.basic), to(moved.url)),
        (with_authorization(moved, USER.basic), refused),
        error=Unauthorized,
    )
