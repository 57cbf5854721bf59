"""What is to be done about a failure of an upload: a rung of the ladder.

Knows what each failure means for a session. Must not know the steps of an upload, or who has the
bytes.

    ASK      the same session: the registry is asked how many bytes it has, and gets the rest
    ANEW     a new session, from the first byte
    SMALLER  a new session, in smaller requests, whose length is known
    NONE     there is no other way to end: the failure is told
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

from brolga.errors import (
    DigestMismatch,
    RegistryError,
    TransportError,
    Unauthorized,
    UploadInterrupted,
)
from brolga.protocol.retry import PASSING_REASONS, RETRY_LATER_STATUSES, TRANSIENT_STATUSES

if TYPE_CHECKING:
    from brolga.errors import BrolgaError
    from brolga.protocol.profiles import UploadStrategy

__all__ = [
    "DOUBTFUL",
    "Recovery",
    "Standing",
    "decide",
    "is_session_lost",
    "is_silence",
    "may_be_second",
    "refuses_more",
]

# A PUT may have done its work all the same: a proxy lost the answer, as it does where committing a
# large blob outlasts its patience (goharbor/harbor#19573), or the registry fell over its end.
DOUBTFUL: Final = TRANSIENT_STATUSES - set(RETRY_LATER_STATUSES)
_BAD_REQUEST: Final = 400
_TOO_LARGE: Final = 413
# A proxy that takes no chunked transfer coding: 411 Length Required, or 501 for a coding that it
# does not understand (RFC 9112, section 6.1).
_NO_STREAM: Final = (411, 501)
# What a proxy says that has waited too long for a body, itself or before it.
_WAITED: Final = (408, 502, 504)
# A session is closed: nothing is there to close again, or it conflicts with what is there.
_SECOND: Final = (_BAD_REQUEST, 409)
_NOT_THERE: Final = 416
_LOST: Final = (404, 410, _NOT_THERE)
_LOST_CODES: Final = ("BLOB_UPLOAD_UNKNOWN", "BLOB_UPLOAD_INVALID", "RANGE_INVALID", "SIZE_INVALID")


class Recovery(Enum):
    """What to do next."""

    RESUME = "ask"
    RESTART = "anew"
    SHRINK = "smaller"
    FAIL = "none"


@dataclass(frozen=True)
class Standing:
    """Where an upload stands when it fails.

    `style` is how its bytes go out. `is_open` tells that there is a session, of which
    `acknowledged` bytes are; `has_resumed` that it went on before, after a failure or in a further
    PATCH, so that its offset may have been wrong. `asks` counts the questions in a row that came to
    nothing, and `has_all` tells that every byte can be had again.
    """

    style: UploadStrategy
    is_open: bool = True
    acknowledged: int = 0
    has_resumed: bool = False
    asks: int = 0
    has_all: bool = True


_VAIN_ASKS: Final = 3  # times that a session is asked where all bytes can be had again


def decide(error: BrolgaError, at: Standing) -> Recovery:
    """Return what to do after a failure."""
    if _is_too_large(error, at):
        return Recovery.SHRINK if at.style.can_shrink else Recovery.FAIL
    if not _may_end_otherwise(error, at):
        return Recovery.FAIL
    in_vain = at.asks >= _VAIN_ASKS and at.has_all
    if in_vain or not at.style.resumes or _is_over(error, at):
        return Recovery.RESTART
    return Recovery.RESUME


def is_session_lost(error: BrolgaError) -> bool:
    """Tell whether the registry knows the session no more: a commit ends it too."""
    return isinstance(error, RegistryError) and error.status not in DOUBTFUL and _is_lost(error)


def may_be_second(error: BrolgaError) -> bool:
    """Tell whether a refusal of a closing PUT may follow another one that did its work.

    A proxy may send a PUT again whose answer it lost: the session is gone then. Not every registry
    has a code for that.
    """
    bare = isinstance(error, RegistryError) and error.status in _SECOND
    return bare or is_session_lost(error)


def is_silence(error: BrolgaError) -> bool:
    """Tell whether a request may have failed because its body gave no bytes for too long."""
    if isinstance(error, RegistryError):
        return error.status in _WAITED
    return isinstance(error, UploadInterrupted)


def refuses_more(error: BrolgaError) -> bool:
    """Tell whether a session may have taken one PATCH, and no further one."""
    if isinstance(error, RegistryError):
        return error.status not in TRANSIENT_STATUSES and not isinstance(error, Unauthorized)
    return isinstance(error, DigestMismatch)


def _is_too_large(error: BrolgaError, at: Standing) -> bool:
    """Tell whether smaller requests are wanted, or such as say their length.

    GHCR says 416 to a chunk of over 4 MiB (oras-project/rust-oci-client#35): to the first one of a
    session that did not fail before, that can have no other reason.
    """
    if not isinstance(error, RegistryError) or not at.is_open:
        return False
    is_first = bool(at.style.chunk) and at.acknowledged == 0 and not at.has_resumed
    says_so = error.status == _NOT_THERE and is_first and at.style.can_shrink
    is_unsized = error.status in _NO_STREAM and not at.style.chunk
    return error.status == _TOO_LARGE or is_unsized or says_so


def _may_end_otherwise(error: BrolgaError, at: Standing) -> bool:
    """Tell whether another try can end otherwise."""
    if isinstance(error, DigestMismatch):
        return at.has_resumed
    if not at.is_open:
        return False  # the POST, which was made again as often as it may be
    if isinstance(error, RegistryError):
        passing = error.status in TRANSIENT_STATUSES or isinstance(error, Unauthorized)
        return passing or _is_over(error, at)
    cause = error.__cause__ if isinstance(error, UploadInterrupted) else error
    return not isinstance(cause, TransportError) or cause.reason in PASSING_REASONS


def _is_over(error: BrolgaError, at: Standing) -> bool:
    """Tell whether the session cannot be gone on with, so that it need not be asked."""
    # Not every registry has a code for bytes that are not where they should be.
    refused = isinstance(error, RegistryError) and error.status == _BAD_REQUEST
    return _is_lost(error) or (at.has_resumed and refused)


def _is_lost(error: BrolgaError) -> bool:
    if isinstance(error, RegistryError):
        return error.status in _LOST or error.code in _LOST_CODES
    return isinstance(error, DigestMismatch)
