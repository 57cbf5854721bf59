"""The plan and the profile in force, which may be replaced while the registry serves.

A replacement starts a new `Run`: a request that is in progress belongs to the run in which it
began, and leaves no trace in the next one.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, ClassVar, TypeVar

from brolga.registry.storage.store import Store
from brolga.testing.faults import Ending, Fault, FaultPlan, Kill, StaleState
from brolga.testing.run import RecordedRequest, Run, kind_of
from brolga.testing.sessions import OWN_PATH, parse_session_path, to_own_path

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Event
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from typing import Self

    from starlette.types import Scope

    from brolga.testing.registries import Profile


_F = TypeVar("_F", bound=Fault)


class Exchange:
    """One request, its due faults, and the run to which it belongs."""

    SCOPE_KEY: ClassVar = "brolga.exchange"

    def __init__(
        self,
        run: Run,
        request: RecordedRequest,
        path: str,
        due: Mapping[int, Fault],
        lock: threading.Lock,
    ) -> None:
        self.request = request
        self.path = path  # the registry's own, whatever the profile uses
        self.profile = run.profile
        self.sessions = run.sessions
        self.tokens = run.tokens
        self._run = run
        self._due = due
        self._lock = lock
        self.ending = next(iter(self.due(Ending)), None)

    @classmethod
    def of(cls, scope: Scope) -> Self:
        """Return the exchange of a request."""
        exchange: Self = scope[cls.SCOPE_KEY]
        return exchange

    def due(self, kind: type[_F]) -> list[_F]:
        """Return the due faults of a kind, in the plan's order."""
        return [fault for fault in self._due.values() if isinstance(fault, kind)]

    def has_planned(self, kind: type[Fault]) -> bool:
        """Return whether the plan has a fault of this kind."""
        return any(isinstance(fault, kind) for fault in self._run.plan.faults)

    @property
    def has_states(self) -> bool:
        """Whether Locations have a `_state`."""
        return bool(self.profile and self.profile.state) or self.has_planned(StaleState)

    def fire(self, fault: Fault) -> None:
        """Record that a fault fired. Called before its effect is visible to the client."""
        with self._lock:
            self.request.fired += (fault,)
            self._run.fired.append(fault)
            # By identity: equal faults of a plan count for themselves.
            planned = enumerate(self._run.plan.faults)
            self._run.fired_numbers.update(number for number, other in planned if other is fault)
            self._run.save()

    def count_use(self, token: str) -> int:
        """Count a use of a token; return how many there were before."""
        with self._lock:
            before = self._run.uses.get(token, 0)
            self._run.uses[token] = before + 1
        return before

    def add_waiting(self, loop: AbstractEventLoop, event: Event) -> None:
        """Set an event of a loop when this exchange is released, or at once.

        It is released at the end of the run, or if the client returns to the session. It has hung
        up then, which a registry that reads nothing does not notice.
        """
        with self._lock:
            self._run.waiting[event] = loop, self.path
            if self._run.is_over:
                event.set()

    def remove_waiting(self, event: Event) -> None:
        """Remove an event of `add_waiting`."""
        with self._lock:
            self._run.waiting.pop(event, None)


class Injector:
    """A registry's faults and profile. Threads may share it.

    `profile` is a profile, its name, or None for the registry's own behaviour. `clock` returns the
    seconds by which tokens and sessions die. Raises ValueError for an unknown profile, and for a
    plan with Kill.
    """

    def __init__(
        self,
        plan: FaultPlan | None = None,
        profile: Profile | str | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        _reject_kill(plan)
        self.clock = clock
        self.store: Store | None = None
        self._lock = threading.Lock()
        self._created: frozenset[str] = frozenset()
        self._run = Run.begin(plan, profile)

    @classmethod
    def from_record(cls, record: Path) -> Self:
        """Continue a saved run. Raises OSError."""
        injector = cls()
        injector._run = Run.load(record)
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
    def requests(self) -> tuple[RecordedRequest, ...]:
        """The requests since the last reset, in the order of their arrival."""
        return tuple(self._run.requests)

    @property
    def fired(self) -> tuple[Fault, ...]:
        """The faults that fired since the last reset, in order, each as often as it did."""
        return tuple(self._run.fired)

    @property
    def pending(self) -> tuple[Fault, ...]:
        """The faults of the plan that have not fired."""
        return self._run.pending

    def use(self, plan: FaultPlan | None = None, profile: Profile | str | None = None) -> None:
        """Replace the plan and the profile, and restart the counts. Raises ValueError."""
        _reject_kill(plan)
        self._replace(Run.begin(plan, profile))

    def reset(self) -> None:
        """Restart the counts of the same plan and profile; release stalled requests."""
        self._replace(Run.begin(self._run.plan, self._run.profile))

    def create(self, name: str) -> None:
        """Create a repository, if the profile requires it before a push."""
        with self._lock:
            self._created |= {name}

    def exists(self, name: str) -> bool:
        """Return whether a repository was created so."""
        return name in self._created

    def use_directory(self, root: Path) -> None:
        """Store in another directory from the next request on; no repository is created there."""
        root.mkdir(parents=True, exist_ok=True)
        self._created = frozenset()
        self.store = Store(root)

    def begin(self, method: str, path: str, query: str, headers: Mapping[str, str]) -> Exchange:
        """Record a request, and count it for each fault that matches."""
        with self._lock:
            run = self._run
            own_path = to_own_path(path, run.profile.session_path if run.profile else OWN_PATH)
            request = RecordedRequest(kind_of(method, own_path), method, path, query, headers)
            run.requests.append(request)
            if parse_session_path(own_path):
                run.release(own_path)
            due = {}
            for number, fault in enumerate(run.plan.faults):
                if fault.matches(request.kind):
                    run.counts[number] += 1
                    if fault.fires_on(run.counts[number]):
                        due[number] = fault
            run.save()
        return Exchange(run, request, own_path, due, self._lock)

    def _replace(self, run: Run) -> None:
        with self._lock:
            before, self._run = self._run, run
            before.is_over = True
            waiting = list(before.waiting.items())
        for event, (loop, _) in waiting:
            loop.call_soon_threadsafe(event.set)


def _reject_kill(plan: FaultPlan | None) -> None:
    """Raise ValueError for a plan that would kill the process of the test."""
    if plan is not None and any(isinstance(fault, Kill) for fault in plan.faults):
        raise ValueError("Kill needs a registry that is a process of its own: RegistryProcess")
