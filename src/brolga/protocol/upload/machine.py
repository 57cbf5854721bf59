"""The states of one upload, and every transition between them.

A state is a frozen value that holds all that decides what comes next. `advance` alone leads from
one kind of state to another, and it follows TRANSITIONS. docs/upload.svg is a drawing of it.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from brolga.spec.value import Value, field_names

if TYPE_CHECKING:
    from collections.abc import Mapping

    from brolga.errors import BrolgaError
    from brolga.protocol.http import Request
    from brolga.protocol.upload.known_registries import UploadStrategy
    from brolga.protocol.upload.session import UploadSession
    from brolga.spec.descriptor import Descriptor


class Event(Enum):
    """What moves an upload on."""

    OPENED = "the POST opened a session"
    RECORDED = "a journal has the session of an earlier run"
    ACKNOWLEDGED = "a PATCH was acknowledged"
    MOVED = "the stream has to be sent to another URL"
    LOCATED = "the GET says how many bytes the session has"
    SENT = "all bytes were sent, but those of the PUT"
    UNCONFIRMED = "the PUT may have stored the blob, but no answer confirms it"
    STORED = "the PUT was confirmed"
    FOUND = "a HEAD shows the blob that an unconfirmed PUT stored"


class Recovery(Enum):
    """What follows a failure."""

    RESUME = "the same session: ask how many bytes it has, and send the rest"
    RESTART = "a new session, from the first byte"
    SHRINK = "a new session, in smaller requests of known length"
    SUSPEND = "leave the session to a later run and raise the error"
    FAIL = "cancel the session and raise the error"


class Unconfirmed(Value):
    """A blob that a PUT may have stored.

    `head_attempts` is how often it is worth asking for. `head_done` says whether the registry was
    asked since the last such PUT.
    """

    descriptor: Descriptor
    head_attempts: int
    head_done: bool = False


class Active(Value, kw_only=True):
    """An upload that is neither done nor failed. `cause` is the failure that led here, if any."""

    strategy: UploadStrategy
    cause: BrolgaError | None = None
    unconfirmed: Unconfirmed | None = None

    @property
    def acknowledged(self) -> int:
        """How many bytes the registry has acknowledged."""
        return 0


class Idle(Active):
    """No session is open."""


class InSession(Active, kw_only=True):
    """A session is open.

    `resumed` says whether it went on after a failure, and `split` whether a stream that fell silent
    went on in another PATCH. `redirects` are the URLs that the next request was redirected to: it
    goes to the last of them.
    """

    session: UploadSession
    resumed: bool = False
    split: bool = False
    redirects: tuple[str, ...] = ()

    @property
    def acknowledged(self) -> int:
        """How many bytes the session has acknowledged."""
        return self.session.acknowledged

    @property
    def is_continued(self) -> bool:
        """Whether the session went on, so that its offset may have been wrong."""
        return self.resumed or self.split


class Open(InSession):
    """The session has exactly the bytes that it acknowledged."""


class Uncertain(InSession, kw_only=True):
    """A request failed, or an earlier run opened the session: how many bytes it has is unknown.

    It has `sent` bytes at most. `failed_queries` counts the GETs in a row that failed. `replayable`
    says whether a new session could have all bytes again.
    """

    replayable: bool
    sent: int
    failed_queries: int = 0


class Committing(InSession, kw_only=True):
    """All bytes are in the session, or in the body of `put`, which closes it: `size` bytes."""

    descriptor: Descriptor
    put: Request
    size: int


class Done(Value):
    """The registry has the blob."""

    descriptor: Descriptor


class Suspended(Value):
    """The upload failed, and its session is left to a later run.

    `descriptor` is that of the blob if all bytes were sent.
    """

    session: UploadSession
    descriptor: Descriptor | None = None


class Failed(Value):
    """The upload failed, and no session is open."""


State: TypeAlias = Idle | Open | Uncertain | Committing | Done | Suspended | Failed

TRANSITIONS: Final[Mapping[type[State], Mapping[Event | Recovery, type[State]]]] = {
    Idle: {
        Event.OPENED: Open,
        Event.RECORDED: Uncertain,
        Event.FOUND: Done,
        Recovery.FAIL: Failed,
    },
    Open: {
        Event.ACKNOWLEDGED: Open,
        Event.MOVED: Open,
        Event.SENT: Committing,
        Event.FOUND: Done,
        Recovery.RESUME: Uncertain,
        Recovery.RESTART: Idle,
        Recovery.SHRINK: Idle,
        Recovery.SUSPEND: Suspended,
        Recovery.FAIL: Failed,
    },
    Uncertain: {
        Event.LOCATED: Open,
        Event.FOUND: Done,
        Recovery.RESUME: Uncertain,
        Recovery.RESTART: Idle,
        Recovery.SUSPEND: Suspended,
        Recovery.FAIL: Failed,
    },
    Committing: {
        Event.UNCONFIRMED: Committing,
        Event.MOVED: Committing,
        Event.STORED: Done,
        Event.FOUND: Done,
        Recovery.RESUME: Uncertain,
        Recovery.RESTART: Idle,
        Recovery.SHRINK: Idle,
        Recovery.SUSPEND: Suspended,
        Recovery.FAIL: Failed,
    },
    Done: {},
    Suspended: {},
    Failed: {},
}


def advance(state: State, event: Event | Recovery, **changes: Any) -> State:  # noqa: ANN401 - the fields of any state
    """Return the state that `event` leads to: with `changes`, and else with the same fields."""
    target = TRANSITIONS[type(state)][event]
    names = [name for name in field_names(target) if hasattr(state, name)]
    same = {name: getattr(state, name) for name in names}
    return target(**(same | changes))
