"""What can be made to go wrong, as values: a plan of faults.

Knows which request a fault strikes, and what it does there. Must not know how it is done: that is
`striking` for the faults of one request, `quirks` and `tokens` for those of a session's URL and of
tokens.

    plan = FaultPlan(
        Cut(at=5_000_000, stored=1_000_000),           # in the middle of the first PATCH
        TooMany(after_s=1, on="POST upload", nth=2),   # the second session is refused once
        DropAnswer(on="PUT upload"),                   # the blob is there, and nobody says so
    )

A request's kind is its method and what it is for: `POST upload`, `PATCH upload`, `PUT upload`,
`GET upload`, `DELETE upload`, `HEAD blob`, `PUT manifest`, `GET api`, `GET token` and so on. `any
upload` is each method, `any` is each request. A fault strikes the `nth` request of its kind that
comes, and those after it, `times` in all; None is each one. Requests are counted for each fault
alone, so several may strike one upload, or one request.

Of the faults that end a request (Cut, DropAnswer, Kill, Answer, TooMany, Resend), the first one in
the plan that is due ends it. A value holds no counts: an `Injector` does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "KINDS",
    "Answer",
    "Cut",
    "CutAnswer",
    "DropAnswer",
    "Ending",
    "Fault",
    "FaultPlan",
    "FrozenRange",
    "Kill",
    "LocationForm",
    "MissingRange",
    "OtherLocation",
    "Resend",
    "ShiftedRange",
    "Slow",
    "StaleState",
    "Stall",
    "TokenDies",
    "TooMany",
]

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
"""With scheme and host; from the root; relative to the request's URL; on a path of its own."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Something that goes wrong on some requests. Raises ValueError for a kind that is none."""

    on: str = "PATCH upload"
    nth: int = 1
    times: int | None = 1

    def __post_init__(self) -> None:
        """Refuse what could never strike."""
        if self.on not in KINDS:
            raise ValueError(f"{self.on!r} is no kind of request; there are {sorted(KINDS)}")
        if self.nth < 1 or (self.times is not None and self.times < 1):
            raise ValueError("requests are counted from 1, and a fault strikes at least one")

    def fits(self, kind: str) -> bool:
        """Whether a request of this kind is one to count."""
        return self.on in ("any", kind, f"any {kind.partition(' ')[2]}")

    def strikes(self, number: int) -> bool:
        """Whether the request of this number, counted from 1, is struck."""
        return number >= self.nth and (self.times is None or number < self.nth + self.times)


@dataclass(frozen=True, kw_only=True)
class Ending(Fault):
    """Ends a request at byte `at` of its body, or at the body's end where that comes first.

    None is after the whole request. Of the bytes that came, the registry keeps the first `stored`:
    0 is before storing, a number below `at` during it, None is all of them. With `at` and `stored`
    None the registry has done its work.
    """

    at: int | None = None
    stored: int | None = None


@dataclass(frozen=True, kw_only=True)
class Cut(Ending):
    """The connection breaks off: by RST, or in order (FIN) where not `reset`."""

    at: int | None = 0
    reset: bool = True


@dataclass(frozen=True, kw_only=True)
class DropAnswer(Ending):
    """The registry does its work, and the connection ends without an answer."""

    on: str = "PUT upload"
    reset: bool = False


@dataclass(frozen=True, kw_only=True)
class Kill(Ending):
    """The registry's process kills itself (SIGKILL), and is started again where it `comes_back`.

    For a registry that is a process of its own: `process.RegistryProcess` starts it again. What it
    stored is on disk by then; what was under way in other requests is lost.
    """

    at: int | None = 0
    comes_back: bool = True


@dataclass(frozen=True, kw_only=True)
class Answer(Ending):
    """An answer that is not the registry's own, early, in the middle of the body or after it.

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
class Resend(Answer):
    """A proxy loses the answer to a request, and sends that again (nginx: `proxy_next_upstream`).

    The registry does its work once, and says of the second request that no session is there.
    """

    on: str = "PUT upload"
    at: int | None = None
    stored: int | None = None
    status: int = 404
    code: str = "BLOB_UPLOAD_UNKNOWN"


@dataclass(frozen=True, kw_only=True)
class Stall(Fault):
    """The registry takes no more of the body from byte `at` on, for `for_s` seconds.

    `at` None is before the answer, when the work is done. `for_s` None is until the client hangs
    up, or the plan is replaced.
    """

    at: int | None = 0
    for_s: float | None = None


@dataclass(frozen=True, kw_only=True)
class Slow(Fault):
    """The registry reads so many bytes a second. Raises ValueError for none."""

    bytes_per_s: float

    def __post_init__(self) -> None:
        """Refuse what would never end: that is a Stall."""
        super().__post_init__()
        if self.bytes_per_s <= 0:
            raise ValueError("a slow reader reads something: see Stall")


@dataclass(frozen=True, kw_only=True)
class CutAnswer(Fault):
    """The connection ends after `at` bytes of an answer's body."""

    on: str = "GET blob"
    at: int = 0


@dataclass(frozen=True, kw_only=True)
class MissingRange(Fault):
    """Answers about a session have no Range."""

    on: str = "any upload"
    times: int | None = None


@dataclass(frozen=True, kw_only=True)
class FrozenRange(Fault):
    """Range stays where it was in the session's first answer to a PATCH."""

    on: str = "any upload"
    times: int | None = None


@dataclass(frozen=True, kw_only=True)
class ShiftedRange(Fault):
    """Range says `by` bytes more than have arrived, or fewer where that is negative."""

    by: int
    on: str = "any upload"
    times: int | None = None


@dataclass(frozen=True, kw_only=True)
class OtherLocation(Fault):
    """A session's Location is spelled in another form."""

    form: LocationForm = "relative"
    on: str = "any upload"
    times: int | None = None


@dataclass(frozen=True, kw_only=True)
class StaleState(Fault):
    """A session's Location has a `_state`; one that is not of the session's size ends it."""

    on: str = "any upload"
    times: int | None = None


@dataclass(frozen=True, kw_only=True)
class TokenDies(Fault):
    """The registry asks for tokens; the `nth` that it gives dies before its time.

    It dies after `after_s` seconds or after `uses` requests; it claims to live for `announced_s`.
    Without any of the two it lives as long as it says.
    """

    on: str = "any token"
    after_s: float | None = None
    uses: int | None = None
    announced_s: int = 300


@dataclass(frozen=True, init=False)
class FaultPlan:
    """Some faults, each of which counts requests for itself."""

    faults: tuple[Fault, ...]

    def __init__(self, *faults: Fault) -> None:
        object.__setattr__(self, "faults", faults)
