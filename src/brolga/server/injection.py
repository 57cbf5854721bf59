"""The faults that are in force: what is to strike, what struck, and which requests came.

Knows a plan, a profile and the counts. Must not know ASGI, sockets or what a fault does.

An `Injector` goes into `Options`, and may be given another plan while the registry serves. All
that it counts is in one `Run`, which is replaced as a whole: a request that is still under way
belongs to the run in which it began, and leaves no trace in the next one.

A registry that is to be killed writes its run down (`record`) whenever something is counted: the
process that is started next goes on with it, so that nothing strikes twice.
"""

from __future__ import annotations

import pickle
import re
import threading
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from brolga.server.faults import Fault, FaultPlan, Kill, StaleState, TokenDies
from brolga.server.locations import OWN, canonical, session_in
from brolga.server.profiles import Profile, profile_named
from brolga.server.storage import Store

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Event
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from typing import Self

    from starlette.datastructures import State

__all__ = [
    "Exchange",
    "Injector",
    "Run",
    "Seen",
    "Session",
    "kind_of",
    "read_record",
    "write_record",
]

_F = TypeVar("_F", bound=Fault)

# As the application's routes have it; what is nothing of these is `other`.
_RESOURCES: Final = (
    ("api", re.compile("/v2/")),
    ("token", re.compile("/token")),
    ("catalog", re.compile("/v2/_catalog")),
    ("upload", re.compile("/v2/.+/blobs/uploads(/[^/]*)?")),
    ("blob", re.compile("/v2/.+/blobs/[^/]+")),
    ("manifest", re.compile("/v2/.+/manifests/[^/]+")),
    ("tags", re.compile("/v2/.+/tags/list")),
    ("referrers", re.compile("/v2/.+/referrers/[^/]+")),
)


def kind_of(method: str, path: str) -> str:
    """Return a request's kind, as `faults` has it."""
    found = (resource for resource, pattern in _RESOURCES if pattern.fullmatch(path))
    return f"{method} {next(found, 'other')}"


@dataclass
class Seen:
    """A request that came. `status` is None as long as nothing was answered, or for ever.

    `received` counts the bytes of its body that were read. Threads may look while it changes.
    """

    kind: str
    method: str
    path: str
    query: str
    headers: Mapping[str, str] = field(repr=False)
    status: int | None = None
    received: int = 0
    struck: tuple[Fault, ...] = ()


@dataclass
class Session:
    """What a profile must remember of an upload session."""

    begun: float
    patches: int = 0
    first_range: str = ""
    serial: int = 0
    short_chunk: bool = False


class Token(NamedTuple):
    """A token: when it was given, and what it dies of."""

    given: float
    fault: TokenDies | None


@dataclass
class Run:
    """What happens between one reset and the next."""

    plan: FaultPlan
    profile: Profile | None
    counts: list[int]
    requests: list[Seen] = field(default_factory=list)
    struck: list[Fault] = field(default_factory=list)
    hit: set[int] = field(default_factory=set)
    sessions: dict[str, Session] = field(default_factory=dict)
    tokens: dict[str, Token] = field(default_factory=dict)
    uses: dict[str, int] = field(default_factory=dict)
    waiting: dict[Event, tuple[AbstractEventLoop, str]] = field(default_factory=dict)
    over: bool = False
    record: Path | None = None

    @property
    def pending(self) -> tuple[Fault, ...]:
        """What has not struck yet."""
        return tuple(f for number, f in enumerate(self.plan.faults) if number not in self.hit)

    def save(self) -> None:
        """Write down what the next process must know: neither requests nor what waits."""
        if self.record is not None:
            kept = replace(self, requests=[], waiting={})
            beside = self.record.with_suffix(".new")
            beside.write_bytes(pickle.dumps(kept))
            beside.replace(self.record)


class Exchange:
    """One request, the faults that are due on it, and the run to which it belongs."""

    def __init__(
        self, run: Run, seen: Seen, path: str, due: Mapping[int, Fault], lock: threading.Lock
    ) -> None:
        self.seen = seen
        self.path = path  # the registry's own, whatever the profile has
        self.profile = run.profile
        self.sessions = run.sessions
        self.tokens = run.tokens
        self._run = run
        self._due = due
        self._lock = lock

    def due(self, kind: type[_F]) -> list[_F]:
        """Return the faults of a kind that are due, in the plan's order."""
        return [fault for fault in self._due.values() if isinstance(fault, kind)]

    def planned(self, kind: type[Fault]) -> bool:
        """Whether the plan has a fault of this kind at all."""
        return any(isinstance(fault, kind) for fault in self._run.plan.faults)

    @property
    def has_states(self) -> bool:
        """Whether Locations have a `_state`."""
        return bool(self.profile and self.profile.state) or self.planned(StaleState)

    def strike(self, fault: Fault) -> None:
        """Note that a fault struck: its effect is about to be felt."""
        with self._lock:
            self.seen.struck += (fault,)
            self._run.struck.append(fault)
            # By identity: equal faults of a plan count for themselves.
            planned = enumerate(self._run.plan.faults)
            self._run.hit.update(number for number, other in planned if other is fault)
            self._run.save()

    def use(self, token: str) -> int:
        """Count a use of a token; return how many there were before."""
        with self._lock:
            before = self._run.uses.get(token, 0)
            self._run.uses[token] = before + 1
        return before

    def wait(self, loop: AbstractEventLoop, event: Event) -> None:
        """Set an event of a loop when this exchange is to be let go of, or at once.

        That is when the run is over, or the client comes back to the session: it has hung up then,
        which a registry that reads nothing does not hear of.
        """
        with self._lock:
            self._run.waiting[event] = loop, self.path
            if self._run.over:
                event.set()

    def waited(self, event: Event) -> None:
        """Forget an event."""
        with self._lock:
            self._run.waiting.pop(event, None)


class Injector:
    """A registry's faults and profile, which may be replaced while it serves. Threads may share it.

    `profile` is one, its name, or None for the registry's own behaviour. `clock` gives the seconds
    by which tokens and sessions die. Raises ValueError for a name that is none.
    """

    def __init__(
        self,
        plan: FaultPlan | None = None,
        profile: Profile | str | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        _refuse_to_die(plan)
        self.clock = clock
        self._lock = threading.Lock()
        self._created: frozenset[str] = frozenset()
        self._run = _begin(plan, profile)

    @classmethod
    def recorded(cls, record: Path) -> Self:
        """Go on with what a record has. Raises OSError."""
        injector = cls()
        injector._run = read_record(record)
        return injector

    @property
    def plan(self) -> FaultPlan:
        """The plan in force."""
        return self._run.plan

    @property
    def profile(self) -> Profile | None:
        """The profile in force."""
        return self._run.profile

    @property
    def requests(self) -> tuple[Seen, ...]:
        """The requests that came since the last reset, in their order."""
        with self._lock:
            return tuple(self._run.requests)

    @property
    def struck(self) -> tuple[Fault, ...]:
        """The faults that struck since the last reset, in order, each as often as it did."""
        with self._lock:
            return tuple(self._run.struck)

    @property
    def pending(self) -> tuple[Fault, ...]:
        """The faults of the plan that have not struck yet."""
        with self._lock:
            run = self._run
            return run.pending

    def use(self, plan: FaultPlan | None = None, profile: Profile | str | None = None) -> None:
        """Put a plan and a profile in force, and begin to count. Raises ValueError."""
        _refuse_to_die(plan)
        self._replace(_begin(plan, profile))

    def reset(self) -> None:
        """Begin to count anew, with the same plan and profile; let go of what is stalled."""
        self._replace(_begin(self._run.plan, self._run.profile))

    def create(self, name: str) -> None:
        """Make a repository, where the profile wants that before a push."""
        with self._lock:
            self._created |= {name}

    def exists(self, name: str) -> bool:
        """Whether a repository was made so."""
        return name in self._created

    def begin(self, method: str, path: str, query: str, headers: Mapping[str, str]) -> Exchange:
        """List a request, and count it for each fault that it fits."""
        with self._lock:
            run = self._run
            template = run.profile.session_path if run.profile else OWN
            own_path = canonical(path, template)
            seen = Seen(kind_of(method, own_path), method, path, query, headers)
            run.requests.append(seen)
            if session_in(own_path):
                _let_go(run, own_path)
            due = {}
            for number, fault in enumerate(run.plan.faults):
                if fault.fits(seen.kind):
                    run.counts[number] += 1
                    if fault.strikes(run.counts[number]):
                        due[number] = fault
            run.save()
        return Exchange(run, seen, own_path, due, self._lock)

    def bind(self, state: State) -> None:
        """Take note of the application's state, which has its store."""
        self._state = state

    @property
    def store(self) -> Store:
        """What the registry stores in."""
        store: Store = self._state.store
        return store

    def move(self, root: Path) -> None:
        """Store in another directory, from the next request on; no repository is made there."""
        root.mkdir(parents=True, exist_ok=True)
        self._created = frozenset()
        self._state.store = Store(root)

    def _replace(self, run: Run) -> None:
        with self._lock:
            before, self._run = self._run, run
            before.over = True
            waiting = list(before.waiting.items())
        for event, (loop, _) in waiting:
            loop.call_soon_threadsafe(event.set)


def write_record(record: Path, plan: FaultPlan | None, profile: Profile | str | None) -> None:
    """Begin a record, for a process that may be killed. Raises ValueError, OSError."""
    run = _begin(plan, profile)
    run.record = record
    run.save()


def read_record(record: Path) -> Run:
    """Return what a record has. It is a pickle: the reader trusts who may write it."""
    run: Run = pickle.loads(record.read_bytes())  # noqa: S301 - this program's own file
    return run


def _refuse_to_die(plan: FaultPlan | None) -> None:
    """Raise ValueError for a plan that would kill the process of whoever made it."""
    if plan is not None and any(isinstance(fault, Kill) for fault in plan.faults):
        raise ValueError("Kill needs a registry that is a process of its own: RegistryProcess")


def _let_go(run: Run, path: str) -> None:
    """Let go of what stalls at a session."""
    for event, (loop, where) in run.waiting.items():
        if where == path:
            loop.call_soon_threadsafe(event.set)


def _begin(plan: FaultPlan | None, profile: Profile | str | None) -> Run:
    plan = plan or FaultPlan()
    profile = profile_named(profile) if isinstance(profile, str) else profile
    return Run(plan, profile, [0] * len(plan.faults))
