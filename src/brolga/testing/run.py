"""What happens between one reset of an injector and the next: requests, counts, fired faults."""

from __future__ import annotations

import pickle
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, NamedTuple

from brolga.testing.faults import Fault, FaultPlan, TokenDies
from brolga.testing.registries import Profile, find_profile

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Event
    from collections.abc import Mapping
    from pathlib import Path


# The routes of the application; any other path is `other`.
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
    """Return the kind of a request (faults.py)."""
    matches = (resource for resource, pattern in _RESOURCES if pattern.fullmatch(path))
    return f"{method} {next(matches, 'other')}"


@dataclass
class RecordedRequest:
    """A request. `status` is None without a response.

    `received` counts the bytes of its body that were read. It may change while a test reads it.
    """

    kind: str
    method: str
    path: str
    query: str
    headers: Mapping[str, str] = field(repr=False)
    status: int | None = None
    received: int = 0
    fired: tuple[Fault, ...] = ()


@dataclass
class Session:
    """What an emulated registry remembers of an upload session."""

    begun: float
    patches: int = 0
    first_range: str = ""
    serial: int = 0
    short_chunk: bool = False


class Token(NamedTuple):
    """A token: when it was issued, and the fault that ends it."""

    issued: float
    fault: TokenDies | None


@dataclass
class Run:
    """The state between one reset and the next.

    With a `record`, it is saved to that file whenever it changes: a registry that is killed and
    restarted continues the run, so that no fault fires twice.
    """

    plan: FaultPlan
    profile: Profile | None
    counts: list[int]
    requests: list[RecordedRequest] = field(default_factory=list)
    fired: list[Fault] = field(default_factory=list)
    fired_numbers: set[int] = field(default_factory=set)
    sessions: dict[str, Session] = field(default_factory=dict)
    tokens: dict[str, Token] = field(default_factory=dict)
    uses: dict[str, int] = field(default_factory=dict)
    waiting: dict[Event, tuple[AbstractEventLoop, str]] = field(default_factory=dict)
    is_over: bool = False
    record: Path | None = None

    @classmethod
    def begin(cls, plan: FaultPlan | None, profile: Profile | str | None) -> Run:
        """Return a new run. Raises ValueError for an unknown profile."""
        plan = plan or FaultPlan()
        profile = find_profile(profile) if isinstance(profile, str) else profile
        return cls(plan, profile, [0] * len(plan.faults))

    @classmethod
    def load(cls, record: Path) -> Run:
        """Return a saved run. It is a pickle, so its writer must be trusted. Raises OSError."""
        run: Run = pickle.loads(record.read_bytes())  # noqa: S301 - this program's own file
        return run

    def save(self) -> None:
        """Save what the next process needs: neither requests nor waiting events."""
        if self.record is not None:
            saved = replace(self, requests=[], waiting={})
            new = self.record.with_suffix(".new")
            new.write_bytes(pickle.dumps(saved))
            new.replace(self.record)

    @property
    def pending(self) -> tuple[Fault, ...]:
        """The faults that have not fired."""
        faults = enumerate(self.plan.faults)
        return tuple(fault for number, fault in faults if number not in self.fired_numbers)

    def release(self, path: str) -> None:
        """Release the requests that stall at a session."""
        for event, (loop, stalled_path) in self.waiting.items():
            if stalled_path == path:
                loop.call_soon_threadsafe(event.set)
