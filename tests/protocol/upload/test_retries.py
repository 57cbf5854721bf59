"""upload/flow.py: how often, and after which delays, an upload goes on."""

from __future__ import annotations

import gc
import weakref

import pytest
from tests.protocol.driver import (
    ACCEPTED,
    BEARER,
    BLOB,
    FIRST,
    HEAD,
    HOME,
    POST,
    REALM,
    REPOSITORY,
    SECOND,
    Answer,
    KnownBody,
    delete,
    drive,
    make_access,
    patch,
    play,
    put,
    token_request,
    with_authorization,
    with_delay,
)
from tests.protocol.upload.conversation import (
    BODY,
    CREATED,
    CUT,
    GONE,
    NEXT,
    THIRD,
    chunk,
    located,
    query,
    restart,
    upload,
)

from brolga.errors import (
    RegistryError,
    TransportError,
    UploadInterrupted,
)
from brolga.protocol import (
    RegistrySession,
    Request,
    Response,
    Retry,
    UploadStrategy,
    upload_stream,
)

# --- Progress


def test_upload_counts_attempts_anew_after_progress() -> None:
    """Bytes that go out again may be cut as often as those of the first time."""
    play(
        upload(attempts=2),
        (POST, ACCEPTED),
        (patch(BODY), CUT),
        (query(FIRST), located("0-0")),
        (patch(BODY, THIRD), CUT),
        (delete(THIRD), GONE),
        error=UploadInterrupted,
    )
    play(
        upload(attempts=2),
        (POST, ACCEPTED),
        (patch(BODY), CUT),
        (query(FIRST), located("0-1")),
        (patch([b"ob"], THIRD), CUT),
        (query(THIRD), located("0-2")),
        (patch([b"b"], THIRD), CUT),
        (query(THIRD), located("0-3")),
        (put(THIRD), CREATED),
    )


def test_upload_raises_after_max_elapsed_time() -> None:
    """A registry that gives a byte more each time does not hold us for ever."""
    way = make_access(retry=Retry(attempts=2, max_elapsed_s=0.9))
    play(
        upload_stream(way, KnownBody(BODY), lambda: BLOB),
        (POST, ACCEPTED),
        (patch(BODY), CUT),
        (query(FIRST), located("0-1")),
        (patch([b"ob"], THIRD), CUT),
        (delete(THIRD), GONE),
        error=UploadInterrupted,
    )


def test_upload_renews_token_after_401_to_a_resumed_patch() -> None:
    """A 401 counts as any other setback: GitLab's tokens live five minutes."""
    play(
        upload(),
        (POST, ACCEPTED),
        (patch(BODY), CUT),
        (query(FIRST), located("0-0", FIRST)),
        (patch(BODY), Response(401, BEARER)),
        (query(FIRST, 1.5), Response(401, BEARER)),
        (token_request(), Response(200, body=b'{"token": "t1"}')),
        (with_authorization(query(FIRST, 0.0), "Bearer t1"), located("0-0", FIRST)),
        (with_authorization(patch(BODY), "Bearer t1"), NEXT),
        (with_authorization(put(), "Bearer t1"), CREATED),
    )


def test_upload_renews_an_expired_token_before_patch_and_put() -> None:
    """No body goes out on a token that is known to die: the clock says so, not a 401."""
    now = [0.0]
    registry = RegistrySession(HOME, None, retry=Retry(attempts=1), clock=lambda: now[0])
    way = registry.access(REPOSITORY, "pull,push")
    given = iter("123")
    requests: list[tuple[str, str]] = []

    def answer(request: Request) -> Answer:
        authorization = request.headers.get("Authorization", "")
        requests.append((request.method, authorization))
        if request.url.startswith(REALM):
            body = f'{{"token": "t{next(given)}", "expires_in": 60}}'
            return Response(200, body=body.encode())
        if not authorization:
            return Response(401, BEARER)
        now[0] += 55
        return {"POST": ACCEPTED, "PATCH": NEXT, "PUT": CREATED}[request.method]

    drive(upload_stream(way, KnownBody(BODY), lambda: BLOB), answer)
    assert requests == [
        ("POST", ""),
        ("GET", ""),
        ("POST", "Bearer t1"),
        ("GET", ""),
        ("PATCH", "Bearer t2"),
        ("GET", ""),
        ("PUT", "Bearer t3"),
    ]


@pytest.mark.parametrize("status", [429, 503])
def test_upload_waits_for_retry_after_of_patch_and_put(status: int) -> None:
    """Retry-After is for 503 as for 429 (RFC 9110, section 10.2.3), after a PATCH and a PUT."""
    wish = Response(status, {"retry-after": "9"})
    play(
        upload(),
        (POST, ACCEPTED),
        (patch(BODY), wish),
        (query(FIRST, 9.0), located("0-3")),
        (put(THIRD), wish),
        (query(THIRD, 9.0), located("0-3")),
        (put(THIRD), CREATED),
    )
    play(
        upload(strategy=UploadStrategy(chunk_size=2)),
        (POST, ACCEPTED),
        (chunk(FIRST, 0, b"bl"), wish),
        (query(FIRST, 9.0), located("0-1")),
        (chunk(THIRD, 2, b"ob"), NEXT),
        (put(), CREATED),
    )


def test_upload_forgets_retry_after_once_it_has_waited() -> None:
    """A later failure is not a refusal: it has its own delays."""
    play(
        upload(),
        (POST, ACCEPTED),
        (patch(BODY), Response(503, {"retry-after": "9"})),
        (query(FIRST, 9.0), located("0-0", FIRST)),
        (patch(BODY), CUT),
        (query(FIRST, 1.5), located("0-3")),
        (put(THIRD), CREATED),
    )


def test_upload_waits_for_retry_after_of_post() -> None:
    """The call has its attempts; the upload does not multiply them by its own."""
    refused = Response(429, {"retry-after": "9"})
    play(
        upload(attempts=2),
        (POST, refused),
        (with_delay(POST, 9.0), refused),
        error=RegistryError,
        match="429",
    )


def test_upload_releases_a_failure_that_it_survived() -> None:
    """Its traceback knows the body, and so all bytes that are kept."""
    failure = TransportError("cut", reason="cut", sent=3)
    gone = weakref.ref(failure)
    answers: list[Answer] = [ACCEPTED, failure, located("0-3"), CREATED]
    del failure
    gc.disable()
    try:
        drive(upload(), lambda _: answers.pop(0))
        assert gone() is None
    finally:
        gc.enable()


def test_upload_keeps_only_the_last_failure_of_many() -> None:
    """Each traceback knows the block that was sent: many cuts must not keep many blocks."""
    alive: list[weakref.ref[TransportError]] = []
    most = 0

    def answer(request: Request) -> Answer:
        nonlocal most
        most = max(most, sum(ref() is not None for ref in alive))
        if request.method == "PATCH" and len(alive) < 4:
            failure = TransportError("cut", reason="cut", sent=3)
            alive.append(weakref.ref(failure))
            return failure
        return {"POST": ACCEPTED, "PATCH": NEXT, "PUT": CREATED}.get(request.method, located("0-0"))

    gc.disable()
    try:
        drive(upload(attempts=9), answer)
    finally:
        gc.enable()
    assert (len(alive), most) == (4, 1)


def test_upload_restarts_after_400_to_a_resumed_session() -> None:
    """Not every registry has a code for bytes at a wrong offset."""
    play(
        upload(),
        (POST, ACCEPTED),
        (patch(BODY), CUT),
        (query(FIRST), located("0-1")),
        (patch([b"ob"], THIRD), NEXT),
        (put(), Response(400)),
        (HEAD, Response(404)),
        (delete(SECOND), GONE),
        *restart(),
    )


# --- Stale connections


STALE = TransportError("cut", reason="cut", is_new_connection=False)


def test_upload_repeats_post_at_once_on_a_stale_connection() -> None:
    """It had been closed before the POST came, or a session is left that holds nothing.

    A proxy, or the transport's pool, may be late in noticing (RFC 9112, section 9.3.1).
    """
    play(upload(attempts=1), (POST, STALE), (POST, ACCEPTED), (patch(BODY), NEXT), (put(), CREATED))


def test_upload_queries_the_session_after_patch_on_a_stale_connection() -> None:
    """What arrived of it is not known: the session is asked."""
    play(
        upload(),
        (POST, ACCEPTED),
        (patch(BODY), STALE),
        (query(FIRST), located("0-1")),
        (patch([b"ob"], THIRD), NEXT),
        (put(), CREATED),
    )
