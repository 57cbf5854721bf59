"""protocol.redirects: which redirect is followed, with which headers."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from tests.protocol.driver import (
    ACCEPTED,
    BASIC,
    BEARER,
    BLOB,
    FIRST,
    HEAD,
    HOME,
    PING,
    POST,
    QUERY,
    REPOSITORY,
    SECOND,
    USER,
    KnownBody,
    Step,
    delete,
    from_redirect,
    make_access,
    open_access,
    patch,
    play,
    put,
    token_request,
    with_authorization,
)
from tests.protocol.test_manifests import ACCEPT
from tests.protocol.upload.conversation import (
    BODY,
    CREATED,
    CUT,
    MISMATCH,
    NEXT,
    chunk,
    located,
    put_whole,
    query,
    restart,
    upload,
)

from brolga.errors import (
    DigestMismatch,
    ProtocolViolation,
    RegistryError,
    StreamNotReplayable,
    Unauthorized,
    UploadInterrupted,
)
from brolga.protocol import (
    Access,
    RegistrySession,
    Request,
    Response,
    Timeout,
    UploadSession,
    UploadStrategy,
    find_manifest,
    has_blob,
    head_manifest,
    upload_stream,
)
from brolga.protocol.responses import raise_for_status
from brolga.protocol.upload.session import follow_location, open_session, streamed_patch
from brolga.spec.descriptor import Descriptor
from brolga.spec.digest import Digest
from brolga.spec.mediatypes import OCI_MANIFEST

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from brolga.protocol import Flow

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
    response = play(authorized_access().send(request), *steps)
    assert response == replace(OK, redirected_to=away.url)


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
    result = play(authorized_access().send(GET), *steps)
    assert result == replace(response, redirected_to=away.url)


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
    response = play(make_access().send(hops[0]), *steps[:5], (hops[5], OK))
    assert response.redirected_to == hops[5].url
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


@pytest.mark.parametrize("status", [307, 308])
@pytest.mark.parametrize("method", ["PUT", "POST", "PATCH", "DELETE"])
@pytest.mark.parametrize("body", [b"all", (b"a", b"ll")], ids=["bytes", "blocks"])
@pytest.mark.parametrize("retry", [True, False])
def test_follow_redirects_repeats_write(
    method: str, status: int, body: bytes | tuple[bytes, ...], retry: bool
) -> None:
    """Method and body stay, if the body can be sent again; no credentials go along."""
    request = Request(method, f"{HOME}/v2/x", {"Content-Type": "a/b"}, body, Timeout.LONG)
    away = from_redirect(replace(request, url="https://cdn.example/y", body=b"all"))
    response = play(
        authorized_access().send(request, retry=retry),
        (with_authorization(replace(request, body=b"all"), USER.basic), to(away.url, status)),
        (away, Response(201)),
    )
    assert response == Response(201, redirected_to=away.url)


def test_follow_redirects_authorizes_write_at_same_origin() -> None:
    """The redirect may be relative, and lead to another path of the registry."""
    request = Request("PUT", f"{HOME}/v2/x", body=b"all")
    moved = replace(request, url=f"{HOME}/v2/y?z")
    steps = ((request, to("y?z")), (moved, OK))
    play(
        authorized_access().send(request),
        *((with_authorization(each, USER.basic), answer) for each, answer in steps),
    )


@pytest.mark.parametrize("url", ["http://registry.example/y", "https://10.0.0.1/y"])
def test_follow_redirects_raises_on_unsafe_target_of_write(url: str) -> None:
    """A body does not leave TLS, nor go to a private address."""
    request = Request("PUT", f"{HOME}/v2/x", body=b"all")
    play(make_access().send(request), (request, to(url)), error=ProtocolViolation)


@pytest.mark.parametrize("status", [301, 302, 303])
@pytest.mark.parametrize("method", ["PUT", "POST", "PATCH", "DELETE"])
def test_follow_redirects_ignores_redirect_of_write(method: str, status: int) -> None:
    """Clients may turn these into a GET (RFC 9110, section 15.4)."""
    request = Request(method, f"{HOME}/v2/x", body=b"all")
    response = to("https://cdn.example/y", status)
    assert play(make_access().send(request), (request, response)) is response
    with pytest.raises(ProtocolViolation, match="not followed here") as caught:
        raise_for_status(request, response, 201)
    assert caught.value.hint == "name the registry by the address that it redirects to"


def test_follow_redirects_ignores_redirect_of_stream() -> None:
    """A stream is read once: the upload decides whether its bytes are still there."""
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


def test_location_is_resolved_against_redirected_request() -> None:
    """A session that another host opens is at that host, and what that host names is its word."""
    moved = from_redirect(replace(POST, url="https://uploads.example/v2/app/"))
    opened = Response(202, {"location": "session?x"})
    session = play(open_session(make_access()), (POST, to(moved.url)), (moved, opened))
    at_host = "https://uploads.example/v2/app/session?x"
    assert session == UploadSession(at_host, redirected_from="uploads.example")
    response = Response(202, {"location": "https://third.example/s"})
    request = streamed_patch(session, [b"a"])
    assert request.redirected_from == "uploads.example"
    session = follow_location(session, request, response, 4)
    assert session == UploadSession("https://third.example/s", 4, "uploads.example")


# --- Streams


def upload_kept(from_: int = 0) -> Flow[Descriptor]:
    """Upload BODY, whose bytes from an offset on can be sent again."""
    return upload(KnownBody(BODY, replayable_from=from_), attempts=1)


@pytest.mark.parametrize("sent", [0, 2, 4])
def test_upload_sends_redirected_stream_again(sent: int) -> None:
    """The bytes are still kept; the PUT goes to the session's own URL, without Location."""
    away = from_redirect(patch(BODY, "https://uploads.example/s?x"))
    play(
        upload_kept(),
        (POST, ACCEPTED),
        (patch(BODY), replace(to("https://uploads.example/s?x"), sent=sent, complete=sent == 4)),
        (away, Response(202, sent=4)),
        (put(FIRST), CREATED),
    )


@pytest.mark.parametrize(("sent", "is_doubted"), [(4, True), (0, False)])
def test_upload_restarts_if_redirected_bytes_were_kept(sent: int, is_doubted: bool) -> None:
    """They are in the session twice: the registry's comparison of the digest finds it."""
    again = patch(BODY, SECOND)
    steps: list[Step] = [
        (POST, ACCEPTED),
        (patch(BODY), replace(to(SECOND), sent=sent)),
        (again, NEXT),
        (put(), MISMATCH),
    ]
    if not is_doubted:
        steps.append((delete(SECOND), Response(204)))
        play(upload(KnownBody(BODY)), *steps, error=DigestMismatch)
        return
    play(
        upload(KnownBody(BODY)),
        *steps,
        (delete(SECOND), Response(204)),
        *restart(),
    )


def test_upload_follows_chain_of_redirects_of_stream() -> None:
    """Each is the word of the host before; a Location is resolved against the last one."""
    second = from_redirect(patch(BODY, "https://a.example/s"))
    third = replace(patch(BODY, "https://b.example/x/s"), redirected_from="a.example")
    closing = replace(put(f"https://b.example/x/t?{QUERY}"), url=f"https://b.example/x/t?{QUERY}")
    play(
        upload_kept(),
        (POST, ACCEPTED),
        (patch(BODY), to("https://a.example/s")),
        (second, to("https://b.example/x/s", 308)),
        (third, Response(202, {"location": "t"}, sent=4)),
        (replace(closing, redirected_from="b.example"), CREATED),
    )


def test_upload_raises_if_redirected_bytes_are_gone() -> None:
    """The error says what was redirected where, and what would have helped."""
    error = play(
        upload_kept(3),
        (POST, ACCEPTED),
        (patch(BODY), replace(to("https://uploads.example/s?secret"), sent=4)),
        (delete(FIRST), Response(204)),
        error=StreamNotReplayable,
        match="redirected the upload to https://uploads.example/s after 4 bytes",
    )
    assert "a larger window, or a spool" in str(error)
    assert isinstance(error.__cause__, UploadInterrupted)


def test_upload_raises_after_five_redirects_of_stream() -> None:
    """The session is cancelled where it was opened."""
    hops = [patch(BODY), *(patch(BODY, f"{HOME}/{number}") for number in range(1, 6))]
    play(
        upload_kept(),
        (POST, ACCEPTED),
        *((hop, to(f"/{number + 1}")) for number, hop in enumerate(hops)),
        (delete(FIRST), Response(204)),
        error=ProtocolViolation,
        match="redirected more than 5 times",
    )


def test_upload_raises_on_unsafe_redirect_of_stream() -> None:
    """As for any other request; the session is cancelled."""
    play(
        upload_kept(),
        (POST, ACCEPTED),
        (patch(BODY), to("http://registry.example/s")),
        (delete(FIRST), Response(204)),
        error=ProtocolViolation,
        match="falls back to plain http",
    )


def test_upload_resumes_at_the_session_after_redirected_patch_is_cut() -> None:
    """The redirect held for one request: the session is asked at its own URL."""
    away = from_redirect(patch(BODY, "https://uploads.example/s"))
    play(
        upload(KnownBody(BODY), attempts=2),
        (POST, ACCEPTED),
        (patch(BODY), to(away.url)),
        (away, CUT),
        (query(FIRST), located("0-1", SECOND)),
        (patch([b"ob"], SECOND), NEXT),
        (put(SECOND), CREATED),
    )


def test_upload_sends_redirected_put_of_all_again() -> None:
    """The target has the digest already."""
    whole = put_whole()
    away = replace(whole, url="https://uploads.example/s?digest=x")
    play(
        upload_stream(
            make_access(),
            KnownBody(BODY),
            lambda: BLOB,
            descriptor=BLOB,
            strategy=UploadStrategy(monolithic_max=4),
        ),
        (POST, ACCEPTED),
        (replace(whole, body=BODY, size=4), replace(to(away.url), sent=2, complete=False)),
        (from_redirect(replace(away, body=BODY, size=4)), CREATED),
    )


def test_upload_sends_redirected_chunk_again() -> None:
    """A chunk is kept until it is acknowledged, so that it can be sent again at once."""
    play(
        upload(strategy=UploadStrategy(chunk_size=4)),
        (POST, ACCEPTED),
        (chunk(FIRST, 0, b"blob"), to(SECOND)),
        (chunk(SECOND, 0, b"blob"), Response(202)),
        (put(FIRST), CREATED),
    )


# --- A HEAD that the other host refuses

CDN = "https://cdn.example/y?sig=s"
AWAY_HEAD = from_redirect(Request("HEAD", CDN))
GET_BLOB = replace(HEAD, method="GET", stream_response=True)
AWAY_GET = from_redirect(Request("GET", CDN, stream_response=True))


@pytest.mark.parametrize("status", [403, 405, 501])
@pytest.mark.parametrize(
    ("response", "exists"),
    [
        (Response(200, {"content-length": "4"}), True),
        (Response(200, {"content-length": "5"}), False),
        (Response(404), False),
    ],
)
def test_has_blob_uses_get_if_redirected_head_is_refused(
    status: int, response: Response, exists: bool
) -> None:
    """A URL may be signed for GET alone; the body is closed unread."""
    read: list[bytes] = []

    def blocks() -> Generator[bytes, None, None]:
        read.append(b"blob")
        yield b"blob"

    streamed = replace(response, body_stream=blocks() if response.status == 200 else None)
    steps = [
        (HEAD, to(CDN)),
        (AWAY_HEAD, Response(status)),
        (GET_BLOB, to(CDN)),
        (AWAY_GET, streamed),
    ]
    assert play(has_blob(make_access(), BLOB), *steps) is exists
    assert read == []


@pytest.mark.parametrize("status", [403, 405])
def test_has_blob_raises_if_the_registry_refuses_head(status: int) -> None:
    """The registry's own refusal is its word."""
    play(has_blob(make_access(), BLOB), (HEAD, Response(status)), error=RegistryError)


@pytest.mark.parametrize("status", [403, 404, 405, 501])
@pytest.mark.parametrize("flow", [head_manifest, find_manifest])
def test_head_manifest_uses_get_if_redirected_head_is_refused(
    status: int, flow: Callable[[Access, str], Flow[Descriptor | None]]
) -> None:
    """The refusal is not the registry's: the manifest may well exist."""
    url = f"{HOME}/v2/team/app/manifests/v1"
    head = Request("HEAD", url, ACCEPT)
    get = replace(head, method="GET")
    away = [from_redirect(replace(each, url=CDN)) for each in (head, get)]
    raw = b'{"schemaVersion": 2}'
    manifest = Response(200, {"content-type": OCI_MANIFEST}, raw)
    steps = [(head, to(CDN)), (away[0], Response(status)), (get, to(CDN)), (away[1], manifest)]
    found = play(flow(make_access(), "v1"), *steps)
    assert found == Descriptor(OCI_MANIFEST, Digest.of(raw), len(raw))
