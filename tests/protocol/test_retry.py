"""wire/retry.py: what is made again, how often, and after which pause."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.protocol.scripted import (
    ACCEPTED,
    BEARER,
    HOME,
    PING,
    authorized,
    elsewhere,
    later,
    patch,
    play,
    token_call,
)
from tests.protocol.scripted import access as way_in

from brolga.errors import BrolgaError, RateLimited, RegistryError, TransportError
from brolga.protocol import Access, Request, Response, Retry, Timeout, ping
from brolga.protocol.retry import RetryBudget

URL = f"{HOME}/v2/team/app/x"
TWICE = Retry(attempts=2)
OK = Response(200)
CUT = TransportError("cut", reason="cut")


def access(attempts: int = 2) -> Access:
    """Return a way into the registry whose calls are repeated."""
    return way_in(retry=Retry(attempts=attempts))


def call_of(method: str) -> Request:
    """Return a call as a flow makes it: what changes something has a body."""
    return Request(method, URL, body=None if method in {"GET", "HEAD"} else b"all of it")


# --- What is repeated


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "POST", "PATCH"])
@pytest.mark.parametrize("status", [429, 503])
def test_a_refusal_is_followed_by_a_second_try(method: str, status: int) -> None:
    """503 and 429 say that nothing was done yet (RFC 9110, 15.6.4; RFC 6585, section 4)."""
    request = call_of(method)
    play(access().send(request), (request, Response(status)), (later(request, 0.5), OK))


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "POST"])
@pytest.mark.parametrize("status", [408, 500, 502, 504])
def test_what_is_idempotent_follows_a_servers_failure(method: str, status: int) -> None:
    """Repeating the request will have the same intended effect (RFC 9110, section 9.2.2).

    A second POST opens another session, mounts the blob that is mounted, or gives another token.
    """
    request = call_of(method)
    play(access().send(request), (request, Response(status)), (later(request, 0.5), OK))


@pytest.mark.parametrize("status", [408, 500, 502, 504])
def test_what_may_have_been_done_is_not_done_twice(status: int) -> None:
    """A client SHOULD NOT automatically retry a non-idempotent method (RFC 9110, 9.2.2).

    The bytes of a second PATCH would be appended to those of the first.
    """
    request = call_of("PATCH")
    response = Response(status)
    assert play(access().send(request), (request, response)) is response


@pytest.mark.parametrize("status", [200, 202, 307, 400, 403, 404, 405, 409, 413, 416, 501, 505])
def test_an_answer_that_stays_is_the_answer(status: int) -> None:
    """The same request gets the same answer: nothing is gained by asking again."""
    request = call_of("GET")
    response = Response(status)
    assert play(access().send(request), (request, response)) is response


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "POST"])
@pytest.mark.parametrize("reason", ["cut", "connect", "timeout"])
def test_what_is_idempotent_follows_a_lost_answer(method: str, reason: str) -> None:
    """A client may repeat idempotent requests after a failure (RFC 9110, section 9.2.2)."""
    request = call_of(method)
    lost = TransportError("no answer", reason=reason)
    play(access().send(request), (request, lost), (later(request, 0.5), OK))


@pytest.mark.parametrize("reason", ["cut", "connect", "timeout"])
def test_a_lost_answer_to_anything_else_is_told(reason: str) -> None:
    """The request may have done its work (RFC 9110, section 9.2.2)."""
    request = call_of("PATCH")
    lost = TransportError("no answer", reason=reason)
    assert play(access().send(request), (request, lost), error=TransportError) is lost


@pytest.mark.parametrize("reason", ["tls", "certificate"])
def test_what_does_not_pass_is_told_at_once(reason: str) -> None:
    """A certificate that is wrong stays wrong, and is the one thing to look at."""
    request = call_of("GET")
    play(
        access().send(request), (request, TransportError("no", reason=reason)), error=TransportError
    )


@pytest.mark.parametrize("status", [429, 503, 500])
@pytest.mark.parametrize("method", ["PATCH", "PUT"])
def test_a_stream_is_never_sent_twice(method: str, status: int) -> None:
    """A second request would carry nothing, or the rest, and be committed."""
    request = replace(patch(iter([b"a"])), method=method)
    response = Response(status, {"retry-after": "1"})
    assert play(access().send(request), (request, response)) is response
    play(access().send(request), (request, CUT), error=TransportError)


@pytest.mark.parametrize("status", [429, 503, 500])
def test_what_is_in_a_hurry_is_not_made_again(status: int) -> None:
    """Nobody needs the answer, so nobody waits for it."""
    request = Request("DELETE", URL, body=b"", timeout=Timeout.SHORT)
    response = Response(status)
    assert play(access().send(request), (request, response)) is response
    play(access().send(request), (request, CUT), error=TransportError)


@pytest.mark.parametrize("answer", [Response(429), Response(503), Response(500)])
def test_what_is_made_once_is_made_once(answer: Response) -> None:
    """A second PUT finds no session where the first one did its work (end-6)."""
    request = call_of("PUT")
    assert play(access().send(request, once=True), (request, answer)) is answer
    play(access().send(request, once=True), (request, CUT), error=TransportError)


# --- How often, and when


def test_attempts_are_bounded_and_the_last_answer_is_the_answer() -> None:
    """A registry that is down is told to be down: no endless loop."""
    request = call_of("GET")
    last = Response(503)
    steps = [
        (request, Response(503)),
        (later(request, 0.5), Response(500)),
        (later(request, 1.5), Response(502)),
    ]
    assert play(access(4).send(request), *steps, (later(request, 4.5), last)) is last


def test_the_last_failure_is_the_failure() -> None:
    """Answers and failures share their attempts."""
    request = call_of("GET")
    last = TransportError("the last one", reason="timeout")
    steps = (request, Response(503)), (later(request, 0.5), CUT), (later(request, 1.5), last)
    assert play(access(3).send(request), *steps, error=TransportError) is last


NOW = "Wed, 21 Oct 2026 07:28:00 GMT"


@pytest.mark.parametrize(
    ("headers", "pause"),
    [
        ({"retry-after": "0"}, 0.5),
        ({"retry-after": "12"}, 12.0),
        ({"retry-after": "60"}, 60.0),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:30 GMT", "date": NOW}, 30.0),
        ({"retry-after": "Wed, 21 Oct 2026 07:27:00 GMT", "date": NOW}, 0.5),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:30 GMT"}, 0.5),
        ({"retry-after": "soon"}, 0.5),
    ],
)
@pytest.mark.parametrize("status", [429, 503, 500])
def test_the_registrys_wish_is_honoured(status: int, headers: dict[str, str], pause: float) -> None:
    """Retry-After: how long the user agent ought to wait (RFC 9110, section 10.2.3)."""
    request = call_of("GET")
    play(access().send(request), (request, Response(status, headers)), (later(request, pause), OK))


@pytest.mark.parametrize(
    "headers",
    [
        {"retry-after": "61"},
        {"retry-after": "999999999"},
        {"retry-after": "Wed, 21 Oct 2026 08:28:00 GMT", "date": NOW},
    ],
)
def test_a_wish_to_wait_too_long_is_the_refusal_itself(headers: dict[str, str]) -> None:
    """Who asks decides whether to wait minutes: `retry_after_s` of the error says how many."""
    request = call_of("GET")
    response = Response(429, headers)
    assert play(access().send(request), (request, response)) is response


def test_a_pause_is_made_once() -> None:
    """The token and the call with it follow the paused call at once."""
    request = call_of("POST")
    bearer = authorized(request, "Bearer t1")
    play(
        access(4).send(request),
        (request, Response(503)),
        (later(request, 0.5), Response(401, BEARER)),
        (token_call(), Response(200, body=b'{"token": "t1"}')),
        (bearer, Response(429)),
        (later(bearer, 1.5), ACCEPTED),
    )


@pytest.mark.parametrize(
    ("retry", "attempt", "asked_s", "pause"),
    [
        (Retry(), 1, None, 0.5),
        (Retry(), 2, None, 1.5),
        (Retry(), 3, None, 4.5),
        (Retry(), 5, None, None),
        (Retry(), 1, 0.0, 0.5),
        (Retry(), 1, 59.9, 59.9),
        (Retry(), 1, 60.0, 60.0),
        (Retry(), 1, 60.1, None),
        (Retry(), 5, 1.0, None),
        (Retry(jitter=lambda: 0.0), 1, None, 0.25),
        (Retry(jitter=lambda: 1.0), 1, None, 0.75),
        (Retry(jitter=lambda: 0.0), 1, 0.3, 0.3),
        (Retry(attempts=9), 6, None, 60.0),
        (Retry(attempts=2, initial_delay_s=8.0, max_delay_s=5.0), 1, None, 5.0),
        (Retry(attempts=2, initial_delay_s=0.0), 1, None, 0.0),
        (Retry(attempts=1), 1, None, None),
        (Retry(attempts=5000), 4000, None, 60.0),
    ],
)
def test_a_pause_grows_to_a_bound(
    retry: Retry, attempt: int, asked_s: float | None, pause: float | None
) -> None:
    """Exponential backoff with jitter: clients that failed together do not come back together."""
    assert retry.pause_s(attempt, asked_s) == pause


# --- The front door


def test_a_wrong_address_is_told_at_once() -> None:
    """The first call of all: a mistyped host is likelier than a passing fault."""
    flow = ping("registry.example", retry=TWICE)
    play(flow, (PING, TransportError("no", reason="connect")), error=TransportError)


def test_a_registry_that_starts_is_waited_for() -> None:
    """It answers, so the address is right."""
    flow = ping("registry.example", retry=TWICE)
    play(flow, (PING, Response(503)), (later(PING, 0.5), OK))


def test_what_is_retried_without_a_word_is_retried_as_usual() -> None:
    """A registry's own choice is five attempts."""
    flow = ping("registry.example")
    steps = [(later(PING, pause), Response(503)) for pause in (0.0, 0.5, 1.5, 4.5, 13.5)]
    play(flow, *steps, error=RegistryError, match="503")


# --- Redirects and second tries


def test_a_redirects_failure_is_tried_from_the_start() -> None:
    """A signed URL is for one use, or for minutes: the registry is asked for a new one."""
    request = call_of("GET")
    one, two = (elsewhere(replace(request, url=f"https://cdn.example/{n}")) for n in "12")
    play(
        access().send(request),
        (request, Response(307, {"location": one.url})),
        (one, CUT),
        (later(request, 0.5), Response(307, {"location": two.url})),
        (two, OK),
    )


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_redirects_refusal_is_tried_from_the_start(status: int) -> None:
    """The pause is before the registry is asked, and not a second time before the storage is."""
    request = call_of("GET")
    away = elsewhere(replace(request, url="https://cdn.example/1"))
    there = Response(307, {"location": away.url})
    refusal = Response(status, {"retry-after": "9"})
    play(
        access().send(request),
        (request, there),
        (away, refusal),
        (later(request, 9.0), there),
        (away, OK),
    )


# --- A connection that was kept


STALE = TransportError("cut", reason="cut", fresh=False)


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "POST"])
def test_a_kept_connection_that_was_closed_is_no_attempt(method: str) -> None:
    """A server may close an idle connection at any time (RFC 9112, 9.3.1): once, at once."""
    request = later(call_of(method), 2.0)
    now = later(request, 0.0)
    play(access(1).send(request), (request, STALE), (now, OK))
    play(access(1).send(request), (request, STALE), (now, STALE), error=TransportError)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (call_of("PATCH"), STALE),  # a chunk: it may have arrived
        (patch(iter([b"a"])), STALE),
        (replace(call_of("DELETE"), timeout=Timeout.SHORT), STALE),
        (call_of("GET"), CUT),
        (call_of("GET"), TransportError("late", reason="timeout", fresh=False)),
    ],
)
def test_what_may_have_come_to_something_is_not_made_at_once(
    request: Request, error: TransportError
) -> None:
    """Only a cut of an old connection, and only what does no harm twice."""
    assert play(access(1).send(request), (request, error), error=TransportError) is error


# --- Setbacks


def failing(
    setbacks: RetryBudget, produced: int, acknowledged: int, error: BrolgaError = CUT
) -> float | None:
    """Count a failure; return the pause after it, None where there is no further try."""
    return setbacks.pause_s() if setbacks.record_failure(error, produced, acknowledged) else None


def test_setbacks_are_counted_until_there_is_progress() -> None:
    """A byte more out of the source, or in the session, begins the count anew."""
    setbacks = RetryBudget(Retry(attempts=3))
    assert [failing(setbacks, 0, 0) for _ in range(3)] == [0.5, 1.5, None]
    assert [failing(setbacks, 1, 0) for _ in range(3)] == [0.5, 1.5, None]
    assert [failing(setbacks, 1, 1) for _ in range(3)] == [0.5, 1.5, None]


def test_each_new_session_counts_whatever_it_holds() -> None:
    """A registry that loses one session after the other is left in the end."""
    setbacks = RetryBudget(Retry(attempts=3))
    pauses = []
    for _ in range(3):
        pauses.append(failing(setbacks, 9, 5))
        setbacks.record_session_loss()
    assert pauses == [0.5, 1.5, None]


def test_what_is_waited_in_all_is_bounded() -> None:
    """Progress without end does not make an upload without end."""
    setbacks = RetryBudget(Retry(max_elapsed_s=1.2))
    assert [failing(setbacks, number, 0) for number in range(3)] == [0.5, 0.5, None]
    refused = RateLimited("no", method="", url="", status=429)
    refused.retry_after_s = 6.0
    assert failing(RetryBudget(Retry(max_elapsed_s=5.0)), 0, 0, refused) is None


def test_the_time_of_tries_that_came_to_nothing_is_bounded_too() -> None:
    """A registry that lets each request wait for its timeout costs more than the pauses."""
    now = [0.0]
    setbacks = RetryBudget(Retry(attempts=9, max_elapsed_s=100.0), lambda: now[0])
    pauses = []
    for _ in range(4):
        pauses.append(failing(setbacks, 0, 0))
        now[0] += 45
    assert pauses == [0.5, 1.5, 4.5, None]
    assert failing(setbacks, 1, 0) is None


def test_the_time_of_progress_is_not_counted() -> None:
    """A stream may take days, and fail each hour."""
    now = [0.0]
    setbacks = RetryBudget(Retry(max_elapsed_s=9.0), lambda: now[0])
    for produced in range(9):
        assert failing(setbacks, produced, 0) == 0.5
        now[0] += 3600


def test_a_pause_is_waited_once() -> None:
    """It is for the next call, and not for those after it."""
    setbacks = RetryBudget(Retry())
    assert setbacks.record_failure(CUT, 0, 0)
    assert [setbacks.pause_s(), setbacks.pause_s()] == [0.5, 0.0]
