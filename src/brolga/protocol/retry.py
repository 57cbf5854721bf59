"""When a call is made again, and how long to wait before.

Knows which failures pass by themselves and which calls may be repeated. Must not know clocks: a
pause is a wish on the next call, `Request.after_s`, and chance comes from outside.

Strategy: only calls whose body is bytes are repeated. A refusal (429, 503) did nothing, so any
such call may follow it. After a lost answer, or another 5xx, the call may have done its work: only
what is idempotent (RFC 9110, section 9.2.2) may follow, and the answer tells of it
(`Response.retried`): to a DELETE that was done, the second answer is 404. Attempts and pauses are
bounded.

A connection that was kept from an earlier call may have been closed before this one came: a cut of
it says nothing of the registry, so the call follows at once, and once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from brolga.errors import RateLimited, RegistryError, TransportError
from brolga.protocol.http import Timeout
from brolga.protocol.responses import retry_after_s

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from brolga.errors import BrolgaError
    from brolga.protocol.http import Flow, Request, Response

__all__ = [
    "PASSING_REASONS",
    "RETRY_LATER_STATUSES",
    "TRANSIENT_STATUSES",
    "Retry",
    "RetryBudget",
    "is_transient",
    "send_with_retry",
]

# What is idempotent (RFC 9110, section 9.2.2), and the POSTs of this protocol: they open a session,
# mount a blob or give a token, and a second one does no harm. A PATCH would be appended twice.
_REPEATABLE: Final = ("GET", "HEAD", "PUT", "DELETE", "POST")
_SAFE: Final = ("GET", "HEAD")
RETRY_LATER_STATUSES: Final = (429, 503)
# Proxies have numbers of their own (Cloudflare's 520 to 530). What is not implemented, does not fit
# on the disk or goes in circles does not pass by itself.
TRANSIENT_STATUSES: Final = frozenset({408, 429, *range(500, 600)}) - {
    501,
    505,
    506,
    507,
    508,
    510,
    511,
}
# A wrong certificate stays wrong; all else may be a restart, or a moment's loss of the network.
PASSING_REASONS: Final = ("cut", "connect", "timeout")
_MAX_TRIPLED: Final = 100  # times; a pause is bounded long before, and a float ends at 646


def _halfway() -> float:
    return 0.5


@dataclass(frozen=True)
class Retry:
    """How often, and how patiently: `attempts` in all, pauses in seconds.

    The pauses are `first_s`, then three times as long each, with jitter: `chance` gives numbers
    from 0 to 1, and the pause is between half and one and a half of itself. A Retry-After is
    honoured to `longest_s`; where the registry asks for more, its refusal is the answer. What the
    failures of one upload cost comes to `total_s` at most, however often it makes progress: the
    pauses, and the time in between in which nothing came of the tries.
    """

    attempts: int = 5
    initial_delay_s: float = 0.5
    max_delay_s: float = 60.0
    max_elapsed_s: float = 3600.0
    jitter: Callable[[], float] = _halfway

    def pause_s(self, attempt: int, asked_s: float | None = None) -> float | None:
        """Return the seconds to wait after failed attempt number `attempt`; None for no more."""
        if attempt >= self.attempts or (asked_s or 0) > self.max_delay_s:
            return None
        own = self.initial_delay_s * 3.0 ** min(attempt - 1, _MAX_TRIPLED)
        return max(min(own, self.max_delay_s) * (0.5 + self.jitter()), asked_s or 0)


def _never() -> float:
    return 0.0


class RetryBudget:
    """The failures of one upload in a row, and what it has waited for them.

    They are counted anew after progress: a byte more out of the source, or a byte more in the same
    session. A new session may make progress of its own, but each of them counts until the source
    gives more: a registry that loses one after the other is left in the end. `clock` gives
    monotonic seconds.
    """

    def __init__(self, retry: Retry, clock: Callable[[], float] = _never) -> None:
        self._retry = retry
        self._clock = clock
        self._count = self._sessions = 0
        self._produced, self._acknowledged = -1, 0
        self._lost_s = 0.0
        self._last_s = self._last_pause_s = 0.0  # of the last failure
        self._pause_s = 0.0  # before the next call
        self._asked_s: float | None = None  # the registry's wish

    def note_retry_after(self, response: Response) -> None:
        """Note what an answer says of when to come again (Retry-After)."""
        self._asked_s = (
            retry_after_s(response.headers) if response.status in TRANSIENT_STATUSES else None
        )

    def record_failure(self, error: BrolgaError, produced: int, acknowledged: int) -> bool:
        """Count one more failure, after so many bytes; return whether there is a further try."""
        asked_s, self._asked_s = self._asked_s, None
        if isinstance(error, RateLimited):
            asked_s = error.retry_after_s
        now, since_s = self._clock(), self._last_pause_s
        if produced > self._produced:
            self._count = self._sessions = 0
        elif acknowledged > self._acknowledged:
            self._count = self._sessions
        else:
            since_s = max(since_s, now - self._last_s)  # all of it was in vain
        self._lost_s += since_s
        self._produced, self._acknowledged = max(produced, self._produced), acknowledged
        self._count += 1
        pause_s = self._retry.pause_s(self._count, asked_s)
        if pause_s is None or self._lost_s + pause_s > self._retry.max_elapsed_s:
            return False
        self._last_s, self._last_pause_s, self._pause_s = now, pause_s, pause_s
        return True

    def pause_s(self) -> float:
        """Return the seconds to wait before the next call; they are waited once."""
        pause_s, self._pause_s = self._pause_s, 0.0
        return pause_s

    def record_session_loss(self) -> None:
        """Note that it begins again."""
        self._sessions += 1
        self._acknowledged = 0


def send_with_retry(
    retry: Retry,
    request: Request,
    once: Callable[[Request], Flow[Response]],
    *,
    reasons: Collection[str] = PASSING_REASONS,
) -> Flow[Response]:
    """Make `request` by `once`, and again where its failure may pass; return the last answer.

    `reasons` are those of a TransportError that may pass.

    Raises the last TransportError where there was no answer.
    """
    attempt, stale, unknown = 1, False, False
    reads = request.method in _SAFE
    while True:
        pause: float | None
        try:
            response = yield from once(request)
        except TransportError as error:
            unknown = unknown or error.reason != "connect"
            if not stale and error.reason in reasons and _is_stale(error, request):
                stale, request = True, replace(request, delay_s=0.0)
                continue
            passing = error.reason in reasons and _is_repeatable(request)
            pause = retry.pause_s(attempt) if passing else None
            if pause is None:
                raise
        else:
            pause = _pause_after(retry, attempt, request, response)
            if pause is None:
                return replace(response, retried=True) if unknown and not reads else response
            unknown = unknown or response.status not in RETRY_LATER_STATUSES
        request = replace(request, delay_s=pause)
        attempt += 1


def _pause_after(retry: Retry, attempt: int, request: Request, response: Response) -> float | None:
    refused = response.status in RETRY_LATER_STATUSES and request.is_repeatable
    if not refused and not (response.status in TRANSIENT_STATUSES and _is_repeatable(request)):
        return None
    if request.timeout is Timeout.SHORT:
        return None
    return retry.pause_s(attempt, retry_after_s(response.headers))


def is_transient(error: BrolgaError) -> bool:
    """Tell whether a failure may pass by itself: a refusal for now, or an answer that was lost."""
    if isinstance(error, TransportError):
        return error.reason in PASSING_REASONS
    return isinstance(error, RegistryError) and error.status in TRANSIENT_STATUSES


def _is_stale(error: TransportError, request: Request) -> bool:
    """Tell whether a kept connection may have been closed before the call came to it."""
    return error.reason == "cut" and not error.fresh and _is_repeatable(request)


def _is_repeatable(request: Request) -> bool:
    return (
        request.is_repeatable
        and request.method in _REPEATABLE
        and request.timeout is not Timeout.SHORT
    )
