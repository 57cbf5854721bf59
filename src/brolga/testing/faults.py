"""Faults, as values, and plans of them.

    plan = FaultPlan(
        Cut(at=5_000_000, stored=1_000_000),           # in the middle of the first PATCH
        TooMany(after_s=1, on="POST upload", nth=2),   # the second session is rejected once
        DropAnswer(on="PUT upload"),                   # the blob is stored; no response says so
    )

A request's kind is its method and its resource (`KINDS`). `any upload` is each method, `any` each
request. A fault fires on the `nth` request of its kind and the following ones, `times` in all; None
means all of them. Each fault counts requests for itself, so several may fire on one request. The
first due Ending of the plan ends the request.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping


_METHODS: Final[Mapping[str, tuple[str, ...]]] = {
    "api": ("GET",),
    "token": ("GET", "POST"),
    "catalog": ("GET",),
    "upload": ("POST", "GET", "PATCH", "PUT", "DELETE"),
    "blob": ("GET", "HEAD", "DELETE"),
    "manifest": ("GET", "HEAD", "PUT", "DELETE"),
    "tags": ("GET",),
    "referrers": ("GET",),
}
KINDS: Final = frozenset(
    {"any"}
    | {f"any {resource}" for resource in _METHODS}
    | {f"{method} {resource}" for resource, methods in _METHODS.items() for method in methods}
)

LocationForm = Literal["absolute", "path", "relative", "elsewhere"]
"""With scheme and host; from the root; relative to the request's URL; on another path."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A fault on some requests. Raises ValueError for an invalid kind, `nth` or `times`."""

    on: str = "PATCH upload"
    nth: int = 1
    times: int | None = 1

    def __post_init__(self) -> None:
        """Reject a fault that could never fire."""
        if self.on not in KINDS:
            raise ValueError(f"{self.on!r} is not a kind of request; there are {sorted(KINDS)}")
        if self.nth < 1 or (self.times is not None and self.times < 1):
            raise ValueError("requests are counted from 1, and a fault fires at least once")

    def matches(self, kind: str) -> bool:
        """Return whether requests of this kind are counted."""
        return self.on in ("any", kind, f"any {kind.partition(' ')[2]}")

    def fires_on(self, number: int) -> bool:
        """Return whether the fault fires on the matching request of this number, from 1."""
        return number >= self.nth and (self.times is None or number < self.nth + self.times)


@dataclass(frozen=True, kw_only=True)
class Ending(Fault):
    """Ends a request at byte `at` of its body, or at the end of the body if that is earlier.

    None is after the whole request. Of the bytes that arrived, the registry stores the first
    `stored`: 0 is before storing, a number below `at` during it, None is all of them. If both are
    None, the registry has completed the request.
    """

    at: int | None = None
    stored: int | None = None


@dataclass(frozen=True, kw_only=True)
class Cut(Ending):
    """The connection is cut: by RST, or in order (FIN) without `reset`."""

    at: int | None = 0
    reset: bool = True


@dataclass(frozen=True, kw_only=True)
class DropAnswer(Ending):
    """The registry completes the request, and the connection ends without a response."""

    on: str = "PUT upload"
    reset: bool = False


@dataclass(frozen=True, kw_only=True)
class Kill(Ending):
    """The registry's process kills itself (SIGKILL), and is restarted if it `comes_back`.

    It needs a `process.RegistryProcess`, which restarts it. What it stored is on disk by then;
    what was in progress in other requests is lost.
    """

    at: int | None = 0
    comes_back: bool = True


@dataclass(frozen=True, kw_only=True)
class Answer(Ending):
    """A response that is not the registry's own, before, during or after the request's body.

    Its body is the spec's for `code`, or `body`. With `stored` None, it hides what the registry
    did, as a gateway's 502 does.
    """

    status: int
    code: str = "UNKNOWN"
    at: int | None = 0
    stored: int | None = 0
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None


@dataclass(frozen=True, kw_only=True)
class TooMany(Answer):
    """429 with Retry-After: seconds, or with `as_date` an HTTP date (RFC 9110, section 10.2.3)."""

    on: str = "POST upload"
    status: int = 429
    code: str = "TOOMANYREQUESTS"
    after_s: int = 1
    as_date: bool = False


@dataclass(frozen=True, kw_only=True)
class Redirect(Answer):
    """A redirect to the same URL; the response may come in the middle of the request's body."""

    status: int = 307


@dataclass(frozen=True, kw_only=True)
class Resend(Answer):
    """A proxy loses the answer to a request, and sends that again (nginx: `proxy_next_upstream`).

    The registry completes the first request, and answers the second one: no such session.
    """

    on: str = "PUT upload"
    at: int | None = None
    stored: int | None = None
    status: int = 404
    code: str = "BLOB_UPLOAD_UNKNOWN"


@dataclass(frozen=True, kw_only=True)
class Stall(Fault):
    """The registry reads no more of the body from byte `at` on, for `for_s` seconds.

    `at` None is before the response, after the request was completed. `for_s` None is until the
    client hangs up, or the plan is replaced.
    """

    at: int | None = 0
    for_s: float | None = None


@dataclass(frozen=True, kw_only=True)
class Slow(Fault):
    """The registry reads so many bytes a second. Raises ValueError for zero."""

    bytes_per_s: float

    def __post_init__(self) -> None:
        """Reject what would never end: that is a Stall."""
        super().__post_init__()
        if self.bytes_per_s <= 0:
            raise ValueError("a slow reader reads something: see Stall")


@dataclass(frozen=True, kw_only=True)
class CutAnswer(Fault):
    """The connection ends after `at` bytes of a response's body."""

    on: str = "GET blob"
    at: int = 0


@dataclass(frozen=True, kw_only=True)
class SessionFault(Fault):
    """A fault of the headers of responses about a session."""

    on: str = "any upload"
    times: int | None = None


class MissingRange(SessionFault):
    """Responses about a session have no Range."""


class FrozenRange(SessionFault):
    """Range stays as in the session's first response to a PATCH."""


@dataclass(frozen=True, kw_only=True)
class ShiftedRange(SessionFault):
    """Range says `by` bytes more than have arrived, or fewer if it is negative."""

    by: int


@dataclass(frozen=True, kw_only=True)
class OtherLocation(SessionFault):
    """A session's Location has another form."""

    form: LocationForm = "relative"


class StaleState(SessionFault):
    """A session's Location has a `_state`; a stale one ends the session."""


@dataclass(frozen=True, kw_only=True)
class TokenDies(Fault):
    """The registry requires tokens; the `nth` one that it issues dies before its time.

    It dies after `after_s` seconds or after `uses` requests; it claims to live for `announced_s`.
    Without either, it lives as long as it claims.
    """

    on: str = "any token"
    after_s: float | None = None
    uses: int | None = None
    announced_s: int = 300


@dataclass(frozen=True, init=False)
class FaultPlan:
    """A sequence of faults."""

    faults: tuple[Fault, ...]

    def __init__(self, *faults: Fault) -> None:
        object.__setattr__(self, "faults", faults)
