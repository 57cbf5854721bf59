"""The client against the embedded registry, over sockets, with faults that are drawn.

If anything fails, the registry has the right blob, or the client raises a typed error. Then nothing
is committed, and no session is left that could be cancelled. `_may_be_committed` and
`uncancelled` have the exceptions.
"""

from __future__ import annotations

import random
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from tests.faults.counterparts import as_hosted
from tests.images import digest_of
from tests.loops import DRIVERS
from tests.registries import fetch_blob

from brolga.client import Client, TransportOptions, UploadOptions
from brolga.errors import BrolgaError
from brolga.protocol import Retry
from brolga.spec.descriptor import Descriptor
from brolga.stream.layer import StreamLayer
from brolga.testing.faults import (
    Answer,
    Cut,
    CutAnswer,
    DropAnswer,
    Ending,
    Fault,
    FaultPlan,
    FrozenRange,
    MissingRange,
    OtherLocation,
    Redirect,
    Resend,
    ShiftedRange,
    Slow,
    StaleState,
    Stall,
    TokenDies,
    TooMany,
)
from brolga.testing.registries import PROFILES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from brolga.spec.progress import ProgressEvent
    from brolga.testing.plugin import BrolgaRegistry
    from brolga.testing.registries import Profile
    from brolga.testing.run import RecordedRequest

KIB, MIB = 1 << 10, 1 << 20
NAME = "team/app"
MAX_SIZE = 3 * MIB
BYTES = random.Random(7).randbytes(MAX_SIZE)
# Only a fault that stalls for ever needs the short one: a busy machine is slow, too.
LONG_TIMEOUT_S, SHORT_TIMEOUT_S = 30.0, 0.3
# `make soak` draws more.
upload_settings = settings(
    max_examples=max(50, (settings.default or settings()).max_examples),
    deadline=None,
    # The registry is one for all examples, and is cleared for each.
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


class SourceFailure(Exception):
    """The exception of a source."""


@dataclass(frozen=True)
class Plan:
    """A planned upload.

    `source` is `once` (an iterable of `block` bytes at a time), `file`, or `broken`: an iterable
    that fails at its end. `window` is in bytes; None means a spool. If `known`, the client
    recognises the registry by its host. If `tight`, the limits of the profile are so small that
    uploads reach them. `style` and `attempts` are options of the client.
    """

    profile: str = "distribution-3"
    faults: tuple[Fault, ...] = ()
    size: int = 0
    block: int = 64 * KIB
    source: Literal["once", "file", "broken"] = "once"
    window: int | None = 32 * MIB
    style: str = "auto"
    known: bool = True
    tight: bool = False
    attempts: int = 5

    @property
    def data(self) -> bytes:
        """The source's bytes."""
        return BYTES[: self.size]

    @property
    def emulated(self) -> Profile:
        """The profile of the registry."""
        profile = PROFILES[self.profile]
        if not self.tight:
            return profile
        return replace(
            profile,
            chunk_max=profile.chunk_max and MIB + 100,
            chunk_min=profile.chunk_min and 200 * KIB,
            put_max=profile.put_max and MIB + 200,
        )

    @property
    def timeout_s(self) -> float:
        """The timeout of the client."""
        endless = any(isinstance(fault, Stall) and fault.for_s is None for fault in self.faults)
        return SHORT_TIMEOUT_S if endless else LONG_TIMEOUT_S


@dataclass(frozen=True)
class Outcome:
    """How an upload ended, and what the registry received and stores."""

    plan: Plan
    result: Descriptor | Exception
    requests: Sequence[RecordedRequest]
    blobs: dict[str, bytes] = field(repr=False)
    uploads: Sequence[str]

    def check(self) -> None:
        """Assert what is promised."""
        data = self.plan.data
        right = {digest_of(data): data}
        if isinstance(self.result, Descriptor):
            assert (str(self.result.digest), self.result.size) == (digest_of(data), len(data))
            assert self.blobs == right
        else:
            assert not self.blobs or (self.blobs == right and _may_be_committed(self.requests))
            assert self.plan.source == "broken" or isinstance(self.result, BrolgaError)
        assert set(self.uploads) <= uncancelled(self.plan, self.requests, self.uploads)


def is_lost(seen: RecordedRequest) -> bool:
    """Return whether the client did not get the registry's own response to a request."""
    return seen.status is None or any(isinstance(one, Ending | CutAnswer) for one in seen.fired)


def _may_be_committed(requests: Sequence[RecordedRequest]) -> bool:
    """Return whether a blob may be there although the client raised an error.

    The response to its PUT was lost or replaced, and no later HEAD found the blob.
    """
    puts = [number for number, seen in enumerate(requests) if seen.kind == "PUT upload"]
    lost = [number for number in puts if is_lost(requests[number])]
    if not lost:
        return False
    later = [seen for seen in requests[lost[0] :] if seen.kind in ("HEAD blob", "GET token")]
    return bool(later) and not any(
        seen.kind == "HEAD blob" and seen.status == 200 and not is_lost(seen) for seen in later
    )


def uncancelled(
    plan: Plan, requests: Sequence[RecordedRequest], uploads: Sequence[str]
) -> set[str]:
    """Return the sessions that the client could not cancel.

    The registry does not support it; the DELETE, or the token for it, failed; or the client does
    not know the session, because the response to its POST was lost.
    """
    if not plan.emulated.may_cancel:
        return set(uploads)
    failed = [s for s in requests if s.kind == "DELETE upload" and (is_lost(s) or s.status == 401)]
    if any(is_lost(seen) for seen in requests if seen.kind == "GET token"):
        return set(uploads)
    unheard = [s for s in uploads if not any(s in seen.path for seen in requests)]
    posts = [s for s in requests if s.kind == "POST upload" and is_lost(s)]
    excused = {s for s in uploads if any(s in seen.path for seen in failed)}
    return excused | (set(unheard) if len(unheard) <= len(posts) else set())


def _pieces(plan: Plan) -> Iterator[bytes]:
    data = plan.data
    for start in range(0, len(data), plan.block):
        yield data[start : start + plan.block]
    if plan.source == "broken":
        raise SourceFailure


class Uploader:
    """Uploads into a registry as planned."""

    def __init__(self, registry: BrolgaRegistry, directory: Path, driver: str) -> None:
        self._registry = registry
        self._directory = directory
        self._driver = driver

    def upload(self, plan: Plan) -> Outcome:
        """Upload as planned; raise what is neither an error of brolga nor the source's own."""
        registry = self._registry
        registry.clear(profile=plan.emulated, faults=FaultPlan(*plan.faults))
        home = registry.repository(NAME)
        source: Any = _pieces(plan)
        if plan.source == "file":
            source = self._directory / "source"
            source.write_bytes(plan.data)
        layer = StreamLayer(source, compression="none", tar=False)
        result: Descriptor | Exception
        with client_of(plan, self._driver) as client:
            try:
                result = client.push_layer(home, layer)
            except (BrolgaError, SourceFailure) as error:
                result = error
        seen, blobs, uploads = registry.requests, registry.blobs(NAME), list(registry.uploads(NAME))
        registry.use()
        if isinstance(result, Descriptor):
            assert fetch_blob(registry.address, NAME, result.digest) == plan.data
        return Outcome(plan, result, seen, blobs, uploads)


@contextmanager
def client_of(
    plan: Plan, driver: str, progress: Callable[[ProgressEvent], object] | None = None
) -> Iterator[Client]:
    """Give a client with the options of a plan, whose flows a driver of `DRIVERS` runs."""
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        # A test cannot wait for the minutes that a registry may need to move a whole blob.
        patch.setattr("brolga.transport.requests._LONG", 1)
        if plan.known:
            stack.enter_context(as_hosted(plan.profile))
        yield stack.enter_context(
            Client(
                retry=Retry(initial_delay_s=0, attempts=plan.attempts),
                transport=TransportOptions(timeout_s=plan.timeout_s),
                uploads=UploadOptions(
                    jobs=1,
                    style=plan.style,
                    window=plan.window or 0,
                    spool=plan.window is None,
                ),
                progress=progress,
                make_transport=DRIVERS[driver],
            )
        )


@pytest.fixture(params=DRIVERS)
def uploader(
    request: pytest.FixtureRequest, brolga_registry: BrolgaRegistry, tmp_path: Path
) -> Uploader:
    """Return an uploader into the test's registry, for each driver."""
    return Uploader(brolga_registry, tmp_path, request.param)


# --- Strategies

# A gateway may answer so after the registry did the work; a registry that refuses did not do it.
GATEWAY = (408, 429, 500, 502, 503, 504)
CODES = {
    400: "BLOB_UPLOAD_INVALID",
    401: "UNAUTHORIZED",
    403: "DENIED",
    404: "BLOB_UPLOAD_UNKNOWN",
    413: "SIZE_INVALID",
    416: "RANGE_INVALID",
}
KINDS = (
    "POST upload",
    *3 * ("PATCH upload",),
    *2 * ("PUT upload",),
    "GET upload",
    "DELETE upload",
    "HEAD blob",
    "any upload",
)
ENTERING = ("GET api", "GET token")
CHUNKED = tuple(f"chunked:{size}" for size in (100 * KIB, 300 * KIB, MIB, 2 * MIB))
STYLES = ("auto", "auto", "streamed", "put", *CHUNKED)
sizes = st.one_of(
    st.integers(0, 3),
    st.sampled_from([MIB - 1, MIB, MIB + 1, 2 * MIB, MAX_SIZE]),
    st.integers(0, MAX_SIZE),
)


def _offsets(size: int) -> st.SearchStrategy[int]:
    """Draw an offset in a body of `size` bytes: its first byte, any byte, or its end."""
    middle = st.integers(0, 20).map(lambda part: part * size // 20)
    return st.sampled_from([0, 1, size, size + 1]) | middle


def _cut_points(size: int) -> st.SearchStrategy[dict[str, Any]]:
    """Draw at which byte a request ends, and how much of it is stored."""
    at = _offsets(size)
    return st.fixed_dictionaries({"at": at, "stored": st.none() | st.just(0) | at})


def _affected_requests(kinds: Sequence[str], most: int | None) -> dict[str, st.SearchStrategy[Any]]:
    """Draw which requests a fault affects, at most `most` times; None means any number."""
    times = st.integers(1, 3) | st.none() if most is None else st.integers(1, most)
    return {"on": st.sampled_from(kinds), "nth": st.integers(1, 3), "times": times}


def _header_faults(size: int) -> st.SearchStrategy[Fault]:
    """Draw wrong headers of a response, or a token that expires."""
    always = {"on": st.just("any upload"), "nth": st.integers(1, 3)}
    return st.one_of(
        st.builds(MissingRange, **always),
        st.builds(FrozenRange, **always),
        st.builds(ShiftedRange, by=st.sampled_from([-100, -1, 1, 1 << 20, 1 << 40]), **always),
        st.builds(
            OtherLocation,
            form=st.sampled_from(["absolute", "path", "relative", "elsewhere"]),
            **always,
        ),
        st.builds(StaleState, **always),
        st.builds(TokenDies, uses=st.integers(1, 4), nth=st.integers(1, 3), times=st.just(1)),
        st.builds(TokenDies, announced_s=st.sampled_from([1, 60, 300])),
        st.builds(Stall, at=_offsets(size), for_s=st.just(0.001)),
        st.builds(Slow, bytes_per_s=st.just(1e9)),
    )


def transient_faults(
    size: int, kinds: Sequence[str], most: int | None = 1
) -> st.SearchStrategy[Fault]:
    """Draw what passes: cuts, lost responses, overload, a gateway's responses, wrong headers."""
    counts = _affected_requests(kinds, most)
    work = st.sampled_from([{"at": None, "stored": None}, {"at": None, "stored": 0}])
    reset, statuses = st.booleans(), st.sampled_from(GATEWAY)
    drawn = (
        st.builds(lambda end, **o: Cut(**end, **o), _cut_points(size), reset=reset, **counts),
        st.builds(DropAnswer, reset=reset, **counts),
        st.builds(
            lambda end, **o: Answer(**end, **o), _cut_points(size), status=statuses, **counts
        ),
        st.builds(lambda end, **o: Answer(**end, **o), work, status=statuses, **counts),
        st.builds(TooMany, after_s=st.just(0), as_date=st.booleans(), **counts),
        st.builds(Resend, nth=counts["nth"], times=counts["times"]),
        st.builds(
            lambda end, **o: Redirect(**end, **o),
            _cut_points(size),
            status=st.sampled_from([307, 308]),
            **counts,
        ),
        _header_faults(size),
    )
    return st.integers(0, len(drawn) - 1).flatmap(drawn.__getitem__)


def any_faults(size: int) -> st.SearchStrategy[Fault]:
    """Draw a transient fault, one that stays, or one that hangs."""
    kinds = (*KINDS, *ENTERING)
    refused = st.builds(
        lambda status, at, **other: Answer(status=status, code=CODES[status], at=at, **other),
        st.sampled_from(sorted(CODES)),
        st.none() | _offsets(size),
        **_affected_requests(kinds, None),
    )
    # A DELETE has a timeout of its own: a test would wait for seconds.
    hanging = st.builds(
        Stall,
        at=st.none() | _offsets(size),
        on=st.sampled_from([kind for kind in KINDS if kind not in ("DELETE upload", "any upload")]),
        nth=st.integers(1, 2),
    )
    dead = st.builds(
        TokenDies,
        after_s=st.none() | st.just(0),
        uses=st.integers(0, 4),
        nth=st.integers(1, 3),
        times=st.none() | st.just(1),
    )
    drawn = (*7 * (transient_faults(size, kinds, None),), *3 * (refused,), hanging, dead)
    return st.integers(0, len(drawn) - 1).flatmap(drawn.__getitem__)


# Hypothesis prefers short lists, but uploads with several faults find more.
counts = st.sampled_from([0, 1, 2, 2, 3, 3, 4])


def fault_tuples(fault: st.SearchStrategy[Fault]) -> st.SearchStrategy[tuple[Fault, ...]]:
    """Draw the faults of an upload."""
    return counts.flatmap(lambda n: st.lists(fault, min_size=n, max_size=n)).map(tuple)


@st.composite
def upload_plans(draw: st.DrawFn) -> Plan:
    """Draw an upload with any faults."""
    size = draw(sizes)
    faults = draw(fault_tuples(any_faults(size)))
    hangs = any(isinstance(fault, Stall) and fault.for_s is None for fault in faults)
    sources = ["once", "once", "file"] if hangs else ["once", "once", "file", "broken"]
    return Plan(
        profile=draw(st.sampled_from(sorted(PROFILES))),
        faults=faults,
        size=size,
        block=draw(st.sampled_from([777, 64 * KIB, MIB, 5 * MIB])),
        source=draw(st.sampled_from(sources)),
        window=draw(st.none() | st.sampled_from([0, KIB, MIB, 2 * MIB, 32 * MIB])),
        style=draw(st.sampled_from(STYLES)),
        known=draw(st.booleans()),
        tight=draw(st.booleans()),
        attempts=draw(st.sampled_from([1, 2, 5])),
    )


@st.composite
def survivable_plans(draw: st.DrawFn) -> Plan:
    """Draw an upload whose bytes can all be replayed, and transient faults."""
    size = draw(sizes)
    keeps: list[tuple[str, int | None]] = [("once", None), ("once", 32 * MIB), ("file", 0)]
    source, window = draw(st.sampled_from(keeps))
    return Plan(
        profile=draw(st.sampled_from(sorted(PROFILES))),
        faults=draw(fault_tuples(transient_faults(size, KINDS))),
        size=size,
        block=draw(st.sampled_from([777, 64 * KIB, MIB])),
        source=source,  # type: ignore[arg-type] # it is a literal
        window=window,
        attempts=40,
    )


@upload_settings
@given(plan=upload_plans())
def test_upload_gives_the_blob_or_a_typed_error(uploader: Uploader, plan: Plan) -> None:
    """A failure is survived or reported, never hidden, and nothing is left behind."""
    outcome = uploader.upload(plan)
    event(type(outcome.result).__name__)
    outcome.check()
    if plan.source == "broken":
        assert not isinstance(outcome.result, Descriptor)


@upload_settings
@given(plan=survivable_plans())
def test_upload_survives_transient_faults_if_bytes_can_be_replayed(
    uploader: Uploader, plan: Plan
) -> None:
    """With a spool, a window that is large enough or a file, on every kind of registry."""
    outcome = uploader.upload(plan)
    outcome.check()
    assert isinstance(outcome.result, Descriptor), outcome.result


# --- Former failures

FORMER_FAILURES = {
    "a redirect of a stream whose bytes were kept": Plan(
        profile="distribution-3",
        faults=(Redirect(at=1, stored=None),),
        size=1,
        block=777,
        window=None,
        known=True,
        attempts=40,
    ),
    "a PUT answered 503 that did its work": Plan(
        faults=(Answer(on="PUT upload", times=None, at=None, stored=None, status=503),),
        size=1,
        attempts=1,
    ),
}


@pytest.mark.parametrize("plan", FORMER_FAILURES.values(), ids=FORMER_FAILURES)
def test_upload_survives_faults_that_were_found(uploader: Uploader, plan: Plan) -> None:
    """Each of these once failed."""
    uploader.upload(plan).check()
