"""protocol.retry: which requests are repeated, how often, and after which delay."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.protocol.driver import (
    ACCEPTED,
    BEARER,
    HOME,
    PING,
    from_redirect,
    make_access,
    patch,
    play,
    token_request,
    with_authorization,
    with_delay,
)

from brolga.errors import (
    BrolgaError,
    ProtocolViolation,
    RateLimited,
    RegistryError,
    TransportError,
    UploadInterrupted,
)
from brolga.protocol import Access, Request, Response, Retry, Timeout, ping
from brolga.protocol.retry import RetryBudget

URL = f"{HOME}/v2/team/app/x"
TWICE = Retry(attempts=2)
OK = Response(200)
CUT = TransportError("cut", reason="cut")


def retrying_access(attempts: int = 2) -> Access:
    """Return an access that repeats its requests."""
    return make_access(retry=Retry(attempts=attempts))


def call_of(method: str) -> Request:
    """Return a request as a flow sends it: one that writes has a body."""
    return Request(method, URL, body=None if method in {"GET", "HEAD"} else b"all of it")


# --- What is repeated


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "POST", "PATCH"])
@pytest.mark.parametrize("status", [429, 503])
def test_send_repeats_any_method_after_refusal(method: str, status: int) -> None:
    """503 and 429 mean that nothing was done yet (RFC 9110, 15.6.4; RFC 6585, section 4)."""
    request = call_of(method)
    play(
        retrying_access().send(request), (request, Response(status)), (with_delay(request, 0.5), OK)
    )


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "POST"])
@pytest.mark.parametrize("status", [408, 500, 502, 504])
def test_send_repeats_idempotent_request_after_server_error(method: str, status: int) -> None:
    """Repeating the request will have the same intended effect (RFC 9110, section 9.2.2).

    A second POST opens another session, mounts the blob again, or gives another token.
    """
    request = call_of(method)
    play(
        retrying_access().send(request), (request, Response(status)), (with_delay(request, 0.5), OK)
    )


@pytest.mark.parametrize("status", [408, 500, 502, 504])
def test_send_does_not_repeat_patch_after_server_error(status: int) -> None:
    """A client SHOULD NOT automatically retry a non-idempotent method (RFC 9110, 9.2.2).

    The bytes of a second PATCH would be appended to those of the first.
    """
    request = call_of("PATCH")
    response = Response(status)
    assert play(retrying_access().send(request), (request, response)) is response


@pytest.mark.parametrize("status", [200, 202, 307, 400, 403, 404, 405, 409, 413, 416, 501, 505])
def test_send_returns_permanent_status(status: int) -> None:
    """The same request gets the same response."""
    request = call_of("GET")
    response = Response(status)
    assert play(retrying_access().send(request), (request, response)) is response


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "POST"])
@pytest.mark.parametrize("reason", ["cut", "connect", "timeout"])
def test_send_repeats_idempotent_request_after_lost_response(method: str, reason: str) -> None:
    """A client may repeat idempotent requests after a failure (RFC 9110, section 9.2.2)."""
    request = call_of(method)
    lost = TransportError("no answer", reason=reason)
    play(retrying_access().send(request), (request, lost), (with_delay(request, 0.5), OK))


@pytest.mark.parametrize("reason", ["cut", "connect", "timeout"])
def test_send_does_not_repeat_patch_after_lost_response(reason: str) -> None:
    """The request may have done its work (RFC 9110, section 9.2.2)."""
    request = call_of("PATCH")
    lost = TransportError("no answer", reason=reason)
    assert play(retrying_access().send(request), (request, lost), error=TransportError) is lost


@pytest.mark.parametrize("reason", ["tls", "certificate"])
def test_send_does_not_repeat_after_tls_error(reason: str) -> None:
    """A wrong certificate stays wrong."""
    request = call_of("GET")
    play(
        retrying_access().send(request),
        (request, TransportError("no", reason=reason)),
        error=TransportError,
    )


@pytest.mark.parametrize("status", [429, 503, 500])
@pytest.mark.parametrize("method", ["PATCH", "PUT"])
def test_send_never_repeats_stream(method: str, status: int) -> None:
    """A second request would carry nothing, or the rest, and be committed."""
    request = replace(patch(iter([b"a"])), method=method)
    response = Response(status, {"retry-after": "1"})
    assert play(retrying_access().send(request), (request, response)) is response
    play(retrying_access().send(request), (request, CUT), error=TransportError)


@pytest.mark.parametrize("status", [429, 503, 500])
def test_send_does_not_repeat_with_short_timeout(status: int) -> None:
    """Nothing depends on the response, so nothing waits for it."""
    request = Request("DELETE", URL, body=b"", timeout=Timeout.SHORT)
    response = Response(status)
    assert play(retrying_access().send(request), (request, response)) is response
    play(retrying_access().send(request), (request, CUT), error=TransportError)


@pytest.mark.parametrize("answer", [Response(429), Response(503), Response(500)])
def test_send_does_not_repeat_without_retry(answer: Response) -> None:
    """A second PUT does not find the session if the first one succeeded (end-6)."""
    request = call_of("PUT")
    assert play(retrying_access().send(request, retry=False), (request, answer)) is answer
    play(retrying_access().send(request, retry=False), (request, CUT), error=TransportError)


# --- How often, and when


def test_send_returns_last_response_after_all_attempts() -> None:
    """No endless loop if a registry is down."""
    request = call_of("GET")
    last = Response(503)
    steps = [
        (request, Response(503)),
        (with_delay(request, 0.5), Response(500)),
        (with_delay(request, 1.5), Response(502)),
    ]
    assert play(retrying_access(4).send(request), *steps, (with_delay(request, 4.5), last)) is last


def test_send_raises_last_failure() -> None:
    """Responses and failures share their attempts."""
    request = call_of("GET")
    last = TransportError("the last one", reason="timeout")
    steps = (
        (request, Response(503)),
        (with_delay(request, 0.5), CUT),
        (with_delay(request, 1.5), last),
    )
    assert play(retrying_access(3).send(request), *steps, error=TransportError) is last


NOW = "Wed, 21 Oct 2026 07:28:00 GMT"


@pytest.mark.parametrize(
    ("headers", "delay"),
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
def test_send_waits_for_retry_after(status: int, headers: dict[str, str], delay: float) -> None:
    """Retry-After: how long the user agent ought to wait (RFC 9110, section 10.2.3)."""
    request = call_of("GET")
    play(
        retrying_access().send(request),
        (request, Response(status, headers)),
        (with_delay(request, delay), OK),
    )


@pytest.mark.parametrize(
    "headers",
    [
        {"retry-after": "61"},
        {"retry-after": "999999999"},
        {"retry-after": "Wed, 21 Oct 2026 08:28:00 GMT", "date": NOW},
    ],
)
def test_send_returns_refusal_with_long_retry_after(headers: dict[str, str]) -> None:
    """The caller decides whether to wait for minutes, as `retry_after_s` says."""
    request = call_of("GET")
    response = Response(429, headers)
    assert play(retrying_access().send(request), (request, response)) is response


def test_send_waits_once_before_token_and_request() -> None:
    """The token and the request with it follow the delayed request at once."""
    request = call_of("POST")
    bearer = with_authorization(request, "Bearer t1")
    play(
        retrying_access(4).send(request),
        (request, Response(503)),
        (with_delay(request, 0.5), Response(401, BEARER)),
        (token_request(), Response(200, body=b'{"token": "t1"}')),
        (bearer, Response(429)),
        (with_delay(bearer, 1.5), ACCEPTED),
    )


@pytest.mark.parametrize(
    ("retry", "attempt", "requested_s", "delay"),
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
def test_delay_grows_to_maximum(
    retry: Retry, attempt: int, requested_s: float | None, delay: float | None
) -> None:
    """Exponential backoff with jitter: clients that fail together do not retry together."""
    assert retry.delay_s(attempt, requested_s) == delay


# --- Ping


def test_ping_does_not_retry_failed_connection() -> None:
    """The first request of all: a wrong address is more likely than a short outage."""
    flow = ping("registry.example", retry=TWICE)
    play(flow, (PING, TransportError("no", reason="connect")), error=TransportError)


def test_ping_retries_after_503() -> None:
    """It responds, so the address is right."""
    flow = ping("registry.example", retry=TWICE)
    play(flow, (PING, Response(503)), (with_delay(PING, 0.5), OK))


def test_ping_retries_five_times_by_default() -> None:
    """A registry's own choice is five attempts."""
    flow = ping("registry.example")
    steps = [(with_delay(PING, delay), Response(503)) for delay in (0.0, 0.5, 1.5, 4.5, 13.5)]
    play(flow, *steps, error=RegistryError, match="503")


# --- Redirects


def test_send_repeats_redirect_from_start_after_failure() -> None:
    """A signed URL may be for one use, or for minutes: the registry gives a new one."""
    request = call_of("GET")
    first_target, second_target = (
        from_redirect(replace(request, url=f"https://cdn.example/{n}")) for n in "12"
    )
    play(
        retrying_access().send(request),
        (request, Response(307, {"location": first_target.url})),
        (first_target, CUT),
        (with_delay(request, 0.5), Response(307, {"location": second_target.url})),
        (second_target, OK),
    )


@pytest.mark.parametrize("status", [500, 503, 429])
def test_send_repeats_redirect_from_start_after_refusal(status: int) -> None:
    """The delay is before the request to the registry, and not again before that to the storage."""
    request = call_of("GET")
    away = from_redirect(replace(request, url="https://cdn.example/1"))
    redirect = Response(307, {"location": away.url})
    refusal = Response(status, {"retry-after": "9"})
    play(
        retrying_access().send(request),
        (request, redirect),
        (away, refusal),
        (with_delay(request, 9.0), redirect),
        (away, OK),
    )


# --- Kept connections


STALE = TransportError("cut", reason="cut", is_new_connection=False)


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "POST"])
def test_send_repeats_at_once_on_closed_keepalive(method: str) -> None:
    """A server may close an idle connection at any time (RFC 9112, 9.3.1): once, at once."""
    request = with_delay(call_of(method), 2.0)
    now = with_delay(request, 0.0)
    play(retrying_access(1).send(request), (request, STALE), (now, OK))
    play(retrying_access(1).send(request), (request, STALE), (now, STALE), error=TransportError)


@pytest.mark.parametrize(
    ("repeated", "error"),
    [
        (call_of("PATCH"), STALE),  # a chunk: it may have arrived
        (patch(iter([b"a"])), STALE),
        (replace(call_of("DELETE"), timeout=Timeout.SHORT), STALE),
        (call_of("GET"), CUT),
        (call_of("GET"), TransportError("late", reason="timeout", is_new_connection=False)),
    ],
)
def test_send_does_not_repeat_at_once_if_it_may_do_harm(
    repeated: Request, error: TransportError
) -> None:
    """Only after a cut of a kept connection, and only a request that does no harm twice."""
    assert play(retrying_access(1).send(repeated), (repeated, error), error=TransportError) is error


# --- RetryBudget


def failing(
    budget: RetryBudget, produced: int, acknowledged: int, error: BrolgaError = CUT
) -> float | None:
    """Record a failure; return the delay after it, None if it was the last attempt."""
    return budget.take_delay_s() if budget.record_failure(error, produced, acknowledged) else None


def test_record_failure_resets_count_after_progress() -> None:
    """A byte more from the source, or in the session, resets the count."""
    budget = RetryBudget(Retry(attempts=3))
    assert [failing(budget, 0, 0) for _ in range(3)] == [0.5, 1.5, None]
    assert [failing(budget, 1, 0) for _ in range(3)] == [0.5, 1.5, None]
    assert [failing(budget, 1, 1) for _ in range(3)] == [0.5, 1.5, None]


def test_record_failure_counts_lost_sessions() -> None:
    """A registry that loses one session after the other is given up in the end."""
    budget = RetryBudget(Retry(attempts=3))
    delays = []
    for _ in range(3):
        delays.append(failing(budget, 9, 5))
        budget.record_session_loss()
    assert delays == [0.5, 1.5, None]


def test_record_failure_bounds_total_delay() -> None:
    """Endless progress does not make an endless upload."""
    budget = RetryBudget(Retry(max_elapsed_s=1.2))
    assert [failing(budget, number, 0) for number in range(3)] == [0.5, 0.5, None]
    refused = RateLimited("no", method="", url="", status=429)
    refused.retry_after_s = 6.0
    assert failing(RetryBudget(Retry(max_elapsed_s=5.0)), 0, 0, refused) is None


def test_record_failure_bounds_time_without_progress() -> None:
    """A registry that lets each request wait for its timeout costs more than the delays."""
    now = [0.0]
    budget = RetryBudget(Retry(attempts=9, max_elapsed_s=100.0), lambda: now[0])
    delays = []
    for _ in range(4):
        delays.append(failing(budget, 0, 0))
        now[0] += 45
    assert delays == [0.5, 1.5, 4.5, None]
    assert failing(budget, 1, 0) is None


def test_record_failure_ignores_time_of_progress() -> None:
    """A stream may take days, and fail each hour."""
    now = [0.0]
    budget = RetryBudget(Retry(max_elapsed_s=9.0), lambda: now[0])
    for produced in range(9):
        assert failing(budget, produced, 0) == 0.5
        now[0] += 3600


def test_record_failure_tells_of_each_further_attempt() -> None:
    """With the reason and the delay; the last failure is raised by the caller."""
    told: list[tuple[str, float]] = []
    budget = RetryBudget(Retry(attempts=3), on_retry=lambda *each: told.append(each))
    refused = RateLimited("no", method="", url="", status=429)
    interrupted = UploadInterrupted("cut", sent=0, acknowledged=0)
    interrupted.__cause__ = CUT
    assert failing(budget, 0, 0, refused) == 0.5
    assert failing(budget, 0, 0, interrupted) == 1.5
    assert failing(budget, 0, 0, CUT) is None
    assert failing(budget, 1, 0, ProtocolViolation("another part")) == 0.5
    assert told == [("status 429", 0.5), ("cut", 1.5), ("response", 0.5)]


def test_send_tells_of_each_repetition() -> None:
    """But not of a kept connection that was closed meanwhile, which is no failure."""
    told: list[tuple[str, float]] = []
    access = replace(make_access(retry=Retry(attempts=3)), on_retry=lambda *each: told.append(each))
    stale = TransportError("closed", reason="cut", is_new_connection=False)
    request = Request("GET", access.url("x"))
    play(
        access.send(request),
        (request, stale),
        (request, CUT),
        (with_delay(request, 0.5), Response(503)),
        (with_delay(request, 1.5), Response(200)),
    )
    assert told == [("cut", 0.5), ("status 503", 1.5)]


def test_take_delay_s_is_zero_after_first_call() -> None:
    """It is for the next request, not for those after it."""
    budget = RetryBudget(Retry())
    assert budget.record_failure(CUT, 0, 0)
    assert [budget.take_delay_s(), budget.take_delay_s()] == [0.5, 0.0]
