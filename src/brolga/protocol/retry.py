"""Which requests are repeated, and after which delay.

Only a request whose body is bytes is repeated. After a refusal (429, 503) any method may be, since
nothing was done. After a lost response or another 5xx, only what does no harm twice
(RFC 9110, section 9.2.2) may be, and the response says so (`Response.retried`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from http import HTTPStatus
from typing import Final, TypeAlias

from brolga.errors import (
    BrolgaError,
    RateLimited,
    RegistryError,
    TransportError,
    UploadInterrupted,
)
from brolga.protocol.http import Flow, Request, Response, Timeout
from brolga.protocol.responses import retry_after_s
from brolga.spec.value import Value, replace

# The idempotent methods, and POST, which here opens a session, mounts a blob or gets a token: a
# second one does no harm. The bytes of a second PATCH would be appended.
_REPEATABLE: Final = ("GET", "HEAD", "PUT", "DELETE", "POST")
RETRY_LATER_STATUSES: Final = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)
# What is not implemented, does not fit or is in a loop stays so.
_PERMANENT: Final = {501, 505, 506, 507, 508, 510, 511}
# Proxies have statuses of their own (Cloudflare's 520 to 530).
TRANSIENT_STATUSES: Final = frozenset({408, 429, *range(500, 600)}) - _PERMANENT
# A wrong certificate stays wrong; these may be a restart, or a short loss of the network.
TRANSIENT_REASONS: Final = ("cut", "connect", "timeout")
_MAX_TRIPLED: Final = 100  # times; 3.0 ** 647 overflows
# It is called with the reason of a failure, in a word, and the delay before the next attempt.
OnRetry: TypeAlias = Callable[[str, float], object]


def _halfway() -> float:
    return 0.5


def no_clock() -> float:
    """Return 0: the default of a clock, with which no time passes."""
    return 0.0


def ignore_retry(_reason: str, _delay_s: float) -> None:
    """Do nothing: the default of what is called before another attempt."""


class Retry(Value):
    """How often a request is attempted, and the delays in between, in seconds.

    The first delay is `initial_delay_s`; each one is three times the one before, at most
    `max_delay_s`. `jitter` returns numbers from 0 to 1 that vary a delay by half of it, up or
    down. Retry-After counts up to `max_delay_s`; if it is longer, the refusal is the result.
    `max_elapsed_s` bounds what all failures of one upload cost: the delays, and the time of
    attempts without progress.
    """

    attempts: int = 5
    initial_delay_s: float = 0.5
    max_delay_s: float = 60.0
    max_elapsed_s: float = 3600.0
    jitter: Callable[[], float] = _halfway

    def delay_s(self, attempt: int, requested_s: float | None = None) -> float | None:
        """Return the delay after failed attempt number `attempt`; None if it was the last."""
        if attempt >= self.attempts or (requested_s or 0) > self.max_delay_s:
            return None
        delay_s = self.initial_delay_s * 3.0 ** min(attempt - 1, _MAX_TRIPLED)
        return max(min(delay_s, self.max_delay_s) * (0.5 + self.jitter()), requested_s or 0)


class RetryBudget:
    """The consecutive failures of one upload, and the time that they have cost.

    Progress resets the count: a byte more from the source, or in the same session. New sessions
    count until the source gives more, so a registry that loses every session is given up.
    `clock` returns monotonic seconds. `on_retry` is called if there is another attempt.
    """

    def __init__(
        self,
        retry: Retry,
        clock: Callable[[], float] = no_clock,
        on_retry: OnRetry = ignore_retry,
    ) -> None:
        self._retry = retry
        self._clock = clock
        self._on_retry = on_retry
        self._count = self._sessions = 0
        self._bytes_read, self._acknowledged = -1, 0
        self._lost_s = 0.0
        self._last_s = self._last_delay_s = 0.0  # of the last failure
        self._delay_s = 0.0  # before the next request
        self._requested_s: float | None = None

    def note_retry_after(self, response: Response) -> None:
        """Remember the Retry-After of a response for the next failure."""
        self._requested_s = (
            retry_after_s(response.headers) if response.status in TRANSIENT_STATUSES else None
        )

    def record_failure(self, error: BrolgaError, bytes_read: int, acknowledged: int) -> bool:
        """Count a failure after so many bytes; return whether there is another attempt."""
        requested_s, self._requested_s = self._requested_s, None
        if isinstance(error, RateLimited):
            requested_s = error.retry_after_s
        now, cost_s = self._clock(), self._last_delay_s
        if bytes_read > self._bytes_read:
            self._count = self._sessions = 0
        elif acknowledged > self._acknowledged:
            self._count = self._sessions
        else:
            cost_s = max(cost_s, now - self._last_s)  # no progress: all the time was lost
        self._lost_s += cost_s
        self._bytes_read, self._acknowledged = max(bytes_read, self._bytes_read), acknowledged
        self._count += 1
        delay_s = self._retry.delay_s(self._count, requested_s)
        if delay_s is None or self._lost_s + delay_s > self._retry.max_elapsed_s:
            return False
        self._last_s, self._last_delay_s, self._delay_s = now, delay_s, delay_s
        self._on_retry(failure_reason(error), delay_s)
        return True

    def take_delay_s(self) -> float:
        """Return the delay before the next request, once: it is 0 after that."""
        delay_s, self._delay_s = self._delay_s, 0.0
        return delay_s

    def record_session_loss(self) -> None:
        """Record that the upload session was lost."""
        self._sessions += 1
        self._acknowledged = 0


def send_with_retry(
    retry: Retry,
    request: Request,
    send: Callable[[Request], Flow[Response]],
    *,
    reasons: Collection[str] = TRANSIENT_REASONS,
    on_retry: OnRetry = ignore_retry,
) -> Flow[Response]:
    """Send `request` by `send`, and again if its failure may pass; return the last response.

    `reasons` are the transient reasons of a TransportError. A kept connection that turns out to
    be closed is not an attempt: the request is repeated at once, but once only. `on_retry` is
    called before each other repetition.
    """
    may_retry = request.is_repeatable and request.timeout is not Timeout.SHORT
    is_harmless = may_retry and request.method in _REPEATABLE
    attempt, was_stale, outcome_unknown = 1, False, False
    while True:
        delay_s = None
        try:
            response = yield from send(request)
        except TransportError as error:
            outcome_unknown = outcome_unknown or error.reason != "connect"
            if is_harmless and error.reason in reasons:
                if error.reason == "cut" and not error.is_new_connection and not was_stale:
                    was_stale, request = True, replace(request, delay_s=0.0)
                    continue
                delay_s = retry.delay_s(attempt)
            if delay_s is None:
                raise
            reason = error.reason
        else:
            is_refusal = response.status in RETRY_LATER_STATUSES
            is_temporary = is_refusal or (is_harmless and response.status in TRANSIENT_STATUSES)
            if may_retry and is_temporary:
                delay_s = retry.delay_s(attempt, retry_after_s(response.headers))
            if delay_s is None:
                changes = request.method not in ("GET", "HEAD")
                return replace(response, retried=True) if outcome_unknown and changes else response
            outcome_unknown = outcome_unknown or not is_refusal
            reason = f"status {response.status}"
        on_retry(reason, delay_s)
        request = replace(request, delay_s=delay_s)
        attempt += 1


def is_transient(error: BrolgaError) -> bool:
    """Return whether a failure may pass by itself: a temporary refusal, or a lost response."""
    if isinstance(error, TransportError):
        return error.reason in TRANSIENT_REASONS
    return isinstance(error, RegistryError) and error.status in TRANSIENT_STATUSES


def failure_reason(error: BrolgaError) -> str:
    """Return why a request failed, in a word: that of a TransportError, or the status.

    It is `response` if what the registry answered does not fit the request.
    """
    cause = error.__cause__ if isinstance(error, UploadInterrupted) else error
    if isinstance(cause, TransportError):
        return cause.reason
    return f"status {cause.status}" if isinstance(cause, RegistryError) else "response"
