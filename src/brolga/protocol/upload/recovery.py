"""What a failed upload does next: RULES is the table."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from brolga import errors
from brolga.protocol.retry import (
    RETRY_LATER_STATUSES,
    TRANSIENT_REASONS,
    TRANSIENT_STATUSES,
    is_transient,
)
from brolga.protocol.upload.machine import Active, Idle, InSession, Recovery, Uncertain

if TYPE_CHECKING:
    from brolga.protocol.upload.known_registries import UploadStrategy

# A PUT with such an answer may have stored the blob: a proxy lost the registry's answer, as if
# committing a large blob takes too long (goharbor/harbor#19573), or the registry failed after it.
DOUBTFUL: Final = TRANSIENT_STATUSES - set(RETRY_LATER_STATUSES)
# A proxy that does not accept a chunked transfer coding: 411 Length Required, or 501 for a coding
# that it does not understand (RFC 9112, section 6.1).
_LENGTH_REQUIRED: Final = (411, 501)
_GATEWAY_TIMEOUTS: Final = (408, 502, 504)  # a proxy's words for a body that it waited too long for
_LOST: Final = (404, 410, 416)
_LOST_CODES: Final = ("BLOB_UPLOAD_UNKNOWN", "BLOB_UPLOAD_INVALID", "RANGE_INVALID", "SIZE_INVALID")
_MAX_QUERIES: Final = 2  # that may fail before a session is given up, if all bytes are kept


def adapt(state: InSession, error: errors.BrolgaError, recovery: Recovery) -> UploadStrategy:
    """Return the strategy of the next try."""
    strategy = state.strategy
    if recovery is Recovery.SHRINK:
        strategy = strategy.with_smaller_chunks()
    is_final = isinstance(error, errors.DigestMismatch) or (
        isinstance(error, errors.RegistryError)
        and error.status not in TRANSIENT_STATUSES
        and not isinstance(error, errors.Unauthorized)
    )
    # The registry may accept one PATCH a session, and no second one.
    return strategy.with_one_patch() if state.split and is_final else strategy


def may_follow_commit(error: errors.BrolgaError) -> bool:
    """Return whether a PUT may be refused so because an earlier one has stored the blob.

    A proxy may repeat a PUT whose answer it lost: the session is closed then. Not every registry
    has a code for that.
    """
    if not isinstance(error, errors.RegistryError):
        return False
    is_closed = error.status in (HTTPStatus.BAD_REQUEST, HTTPStatus.CONFLICT)
    return is_closed or (error.status not in DOUBTFUL and _is_session_lost(error))


def may_be_idle_timeout(error: errors.BrolgaError) -> bool:
    """Return whether a request may have failed because its body gave no bytes for too long."""
    if isinstance(error, errors.RegistryError):
        return error.status in _GATEWAY_TIMEOUTS
    return isinstance(error, errors.UploadInterrupted)


def may_pass(error: BaseException) -> bool:
    """Return whether a later run may succeed: after an interrupt, or a failure that may pass."""
    if isinstance(error, errors.UploadInterrupted):
        return True
    if isinstance(error, errors.BrolgaError):
        return is_transient(error)
    return not isinstance(error, Exception)


def clear_frames(error: BaseException) -> None:
    """Clear the local variables in the tracebacks of a failure and its causes; keep their lines.

    An upload keeps the failure that led to its state. Its frames know the block that was sent and
    the state before, with the failure that led there: each cut would add a block for good.
    """
    import traceback

    failure: BaseException | None = error
    while failure is not None:
        traceback.clear_frames(failure.__traceback__)
        failure = failure.__cause__


def _is_too_large(state: InSession, error: errors.BrolgaError) -> bool:
    """Return whether the registry needs smaller requests, or requests of known length.

    GHCR answers 416 to a chunk above 4 MiB (oras-project/rust-oci-client#35). For the first chunk
    of a session that did not fail before, 416 can have no other reason.
    """
    if not isinstance(error, errors.RegistryError):
        return False
    chunk_size = state.strategy.chunk_size
    if error.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        is_first = state.acknowledged == 0 and not state.is_continued
        return bool(chunk_size) and is_first and state.strategy.can_shrink
    if error.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return True
    return error.status in _LENGTH_REQUIRED and not chunk_size


def _needs_smaller_requests(state: InSession, error: errors.BrolgaError) -> bool:
    return state.strategy.can_shrink and _is_too_large(state, error)


def _is_permanent(state: InSession, error: errors.BrolgaError) -> bool:
    """Return whether the same request would fail again."""
    if isinstance(error, errors.DigestMismatch):
        return not state.is_continued
    if isinstance(error, errors.RegistryError):
        is_transient = error.status in TRANSIENT_STATUSES or isinstance(error, errors.Unauthorized)
        return not is_transient and not _is_session_over(state, error)
    cause = error.__cause__ if isinstance(error, errors.UploadInterrupted) else error
    return isinstance(cause, errors.TransportError) and cause.reason not in TRANSIENT_REASONS


def _has_no_answers(state: Uncertain, _error: errors.BrolgaError) -> bool:
    """Return whether a new session, which could have all bytes, is better than another query."""
    return state.replayable and state.failed_queries >= _MAX_QUERIES


def _is_never_resumed(state: InSession, _error: errors.BrolgaError) -> bool:
    return not state.strategy.resumes


def _is_session_over(state: InSession, error: errors.BrolgaError) -> bool:
    """Return whether the session cannot be resumed."""
    # Not every registry has a code for bytes at a wrong offset.
    if isinstance(error, errors.RegistryError) and error.status == HTTPStatus.BAD_REQUEST:
        return state.is_continued or _is_session_lost(error)
    return _is_session_lost(error)


def _is_session_lost(error: errors.BrolgaError) -> bool:
    if isinstance(error, errors.RegistryError):
        return error.status in _LOST or error.code in _LOST_CODES
    return isinstance(error, errors.DigestMismatch)


def _is_any(_state: Active, _error: errors.BrolgaError) -> bool:
    return True


class Rule(NamedTuple):
    """In this state, a failure of this kind leads to this recovery."""

    state: type[Active]
    applies: Callable[[Any, errors.BrolgaError], bool]
    recovery: Recovery


RULES: Final = (  # the first one that applies counts
    Rule(Idle, _is_any, Recovery.FAIL),  # a POST, which was repeated as often as it may be
    Rule(InSession, _needs_smaller_requests, Recovery.SHRINK),
    Rule(InSession, _is_too_large, Recovery.FAIL),
    Rule(InSession, _is_permanent, Recovery.FAIL),
    Rule(Uncertain, _has_no_answers, Recovery.RESTART),
    Rule(InSession, _is_never_resumed, Recovery.RESTART),
    Rule(InSession, _is_session_over, Recovery.RESTART),
    Rule(InSession, _is_any, Recovery.RESUME),
)


def decide(state: Active, error: errors.BrolgaError) -> Recovery:
    """Return what follows a failure."""
    rules = (rule for rule in RULES if isinstance(state, rule.state))
    return next(rule.recovery for rule in rules if rule.applies(state, error))
