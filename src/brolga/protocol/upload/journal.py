"""What an upload records of itself, so that a later run can go on with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from brolga.protocol.upload.machine import Committing, Done, InSession, State, Suspended
from brolga.spec.value import Value

if TYPE_CHECKING:
    from brolga.protocol.upload.session import UploadSession
    from brolga.spec.descriptor import Descriptor

ANY_SIZE: Final = 1 << 62  # bytes: how much an earlier run has sent is not known


class Record(Value):
    """An upload as a later run finds it.

    `session` is open, unless it was closed or lost since. `descriptor` is that of the blob if all
    bytes were sent: then the registry may have it.
    """

    session: UploadSession | None = None
    descriptor: Descriptor | None = None


class Journal(Protocol):
    """The records of one upload. Each method returns at once."""

    @property
    def past(self) -> Record:
        """The last record of an earlier run."""

    @property
    def differs(self) -> bool:
        """Whether a byte that was read is not what an earlier run has read."""

    def confirms(self, size: int) -> bool:
        """Return whether the first `size` bytes, which were read, are those of an earlier run."""

    def record(self, record: Record) -> None:
        """Record the state of the upload."""


def record_of(state: State) -> Record:
    """Return what is recorded of a state."""
    if isinstance(state, Done):
        return Record(None, state.descriptor)
    if isinstance(state, Suspended | Committing):
        return Record(state.session, state.descriptor)
    return Record(state.session if isinstance(state, InSession) else None)
