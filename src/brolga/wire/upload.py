"""One blob's upload, and what is done when it fails: the ladder.

Knows which step of a session follows which, what each failure means, and what can be done about
it. Must not know what the bytes are, how they travel, or who keeps them.

    POST, PATCH, PUT; or POST and several PATCHes of one chunk each; DELETE where all was in vain.

A failure that may pass is answered in this order:

    a. the same session: the registry is asked how many bytes it has, and gets the rest
    b. a new session, from the first byte
    c. StreamNotReplayable: the bytes that are needed are gone

a and b need bytes that went out before; the `Body` has them, or says from where on it has. After a
PUT without an answer, the blob itself is asked for, a few times, before anything is sent again or
given up. Nothing ambiguous is trusted: where the offset is not known, b. What was wrong all the
same, the registry's comparison of the digest finds.

The digest comes from `seal`, called after the last byte: a stream that did not end cleanly has no
digest, so it cannot be committed, whatever the registry answered.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from brolga.errors import (
    BrolgaError,
    DigestMismatch,
    ProtocolViolation,
    RateLimited,
    RegistryError,
    StreamNotReplayable,
    TransportFailed,
    Unauthorized,
    UploadInterrupted,
)
from brolga.wire.http import BodyFailed
from brolga.wire.profiles import Style
from brolga.wire.replies import expect, retry_after_s
from brolga.wire.retry import PASSING, PASSING_REASONS, REFUSED, Setbacks
from brolga.wire.session import (
    PATCHED,
    Session,
    cancel,
    chunk_call,
    chunks,
    commit_call,
    expect_stored,
    is_lost,
    is_there,
    is_too_large,
    moved,
    start,
    status,
    stream_call,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from brolga.descriptor import Descriptor
    from brolga.wire.access import Access
    from brolga.wire.http import Call, Flow, Reply
    from brolga.wire.retry import Retry

__all__ = ["Body", "Style", "upload_bytes", "upload_stream"]

_LOG: Final = logging.getLogger("brolga.upload")
# A PUT may have done its work all the same: a proxy lost the answer, as it does where committing a
# large blob outlasts its patience (goharbor/harbor#19573), or the registry fell over its end.
_DOUBTFUL: Final = (408, 500, 502, 504)
_BAD_REQUEST: Final = 400
_ASKS: Final = 3  # times that a blob is asked for after a PUT without an answer
_VAIN_ASKS: Final = 3  # times that a session is asked where all bytes can be had again


class Body(Protocol):
    """The bytes of an upload, some of which can be given again."""

    @property
    def produced(self) -> int:
        """How many bytes were given so far."""

    @property
    def kept_from(self) -> int:
        """The offset from which on they can be given again."""

    @property
    def ended(self) -> bool:
        """Whether the source came to its clean end."""

    def blocks(self, start: int) -> Iterable[bytes | memoryview]:
        """Yield the bytes from offset `start` on, not less than `kept_from`."""


STREAMED: Final = Style()


def upload_stream(  # noqa: PLR0913 - what goes where, and how
    access: Access,
    body: Body,
    seal: Callable[[], Descriptor],
    *,
    session: str = "",
    style: Style = STREAMED,
    retry: Retry | None = None,
) -> Flow[Descriptor]:
    """Upload a stream of unknown length as a blob (distribution-spec, Pushing blobs).

    `seal` returns the blob's descriptor and is called after the whole body went out.
    `session` is the Location of a session that is open already; `retry` bounds how often it may
    fail without a byte more.

    Raises UploadInterrupted where the bytes did not all arrive, StreamNotReplayable where they
    could have gone out again but are gone, RegistryError where the registry refused,
    DigestMismatch where it stored other bytes, and whatever the body or `seal` raised.
    """
    run = _Run(access, body, seal, style, retry or access.registry.retry)
    cause: BaseException
    try:
        return (yield from run.upload(Session(session) if session else None))
    except GeneratorExit:
        raise  # the flow was dropped: nobody is there to make a call
    except BodyFailed as failed:
        # The registry may have moved the session on, and docker-registry 2.8 takes a DELETE at
        # the newest Location alone.
        run.take_location(failed.reply)
        yield from run.give_up()
        cause = failed.error
    except BaseException:
        yield from run.give_up()
        raise
    # Raised here, it is what it was; raised up there, it would get a context of ours.
    try:
        raise cause
    finally:
        del cause  # its traceback knows this frame


def upload_bytes(
    access: Access, data: bytes, descriptor: Descriptor, session: str = ""
) -> Flow[Descriptor]:
    """Upload bytes that are at hand: POST, then one PUT with all of them (end-4a, end-6).

    Raises what `upload_stream` does.
    """
    style = Style(chunk=max(len(data), 1), last_in_put=True)
    return upload_stream(access, _AtHand(data), lambda: descriptor, session=session, style=style)


@dataclass
class _AtHand:
    """A body of bytes that are at hand."""

    data: bytes
    produced: int = 0
    kept_from: int = 0
    ended: bool = False

    def blocks(self, start: int) -> Iterator[bytes]:
        self.produced, self.ended = len(self.data), True
        yield self.data[start:]


class _Run:
    """One upload under way: the session that is open now, and what went wrong so far."""

    def __init__(
        self,
        access: Access,
        body: Body,
        seal: Callable[[], Descriptor],
        style: Style,
        retry: Retry,
    ) -> None:
        self._access = access
        self._body = body
        self._seal = seal
        self._style = style
        self._retry = retry
        self._setbacks = Setbacks(retry)
        self._session: Session | None = None
        self._known = True  # how many bytes the session has
        self._resumed = False
        self._last = b""  # what goes with the PUT
        self._closing: Descriptor | None = None  # what a PUT was made for, which may be there
        self._cause: BrolgaError | None = None
        self._vain_asks = 0
        self._pause_s = 0.0  # before the next call
        self._asked_s: float | None = None  # the registry's wish: the seconds of a Retry-After

    def upload(self, session: Session | None) -> Flow[Descriptor]:
        """Go up the ladder until the blob is there."""
        self._session = session
        try:
            while True:
                try:
                    return (yield from self._attempt())
                except (TransportFailed, UploadInterrupted, RegistryError, DigestMismatch) as error:
                    if _is_gone(error) and (yield from self._shows(self._retry.attempts)):
                        return self._seal()
                    yield from self._weigh(error)
                    _LOG.info("an upload failed (%s); on after %.1f s", error, self._pause_s)
        finally:
            self._cause = None  # its traceback knows this object

    def _attempt(self) -> Flow[Descriptor]:
        """Go on from where the registry is, to the end."""
        if not self._known and (yield from self._find()):
            return self._seal()
        self._check_kept()
        if self._session is None:
            yield from self._start()
        yield from self._send()
        return (yield from self._commit())

    def take_location(self, reply: Reply | None) -> None:
        """Note where the session is after an answer that nobody waited for."""
        # An error page's, or a redirect's, Location is no session.
        if self._session is not None and reply is not None and reply.status in PATCHED:
            with suppress(ProtocolViolation):
                call = stream_call(self._session, ())
                self._session = moved(self._session, call, reply, self._session.acknowledged)

    def give_up(self) -> Flow[None]:
        """Cancel the session that is open."""
        if self._session is not None:
            session, self._session = self._session, None
            yield from cancel(self._access, session)
        self._known = True

    # --- Steps

    def _start(self) -> Flow[None]:
        self._session, smallest = yield from start(self._access, self._pause())
        self._resumed = False
        self._style = self._style.at_least(smallest)

    def _send(self) -> Flow[None]:
        """Send what the registry has not acknowledged yet."""
        session, body = self._at(), self._body
        self._last = b""
        if body.ended and session.acknowledged == body.produced:
            return
        blocks = body.blocks(session.acknowledged)
        if not self._style.chunk:
            yield from self._patch(stream_call(session, blocks))
            return
        for chunk, is_last in chunks(blocks, self._style.chunk):
            if is_last and self._style.last_in_put:
                self._last = chunk
                return
            yield from self._patch(chunk_call(self._at(), chunk), len(chunk))

    def _patch(self, call: Call, size: int | None = None) -> Flow[None]:
        """Make a PATCH of `size` bytes, or of all that come, once: it may arrive unanswered."""
        session, body = self._at(), self._body
        try:
            reply = yield from self._access.send(call, once=True)
        except TransportFailed as error:
            sent = min(session.acknowledged + error.sent, body.produced)
            raise self._interrupted(
                f"the upload was cut after {sent} bytes", sent, error
            ) from error
        self._hear(reply)
        expect(call, reply, *PATCHED)
        if not reply.whole:
            sent = session.acknowledged + reply.sent
            what = f"the registry answered {reply.status} after {sent} bytes, before the end"
            raise self._interrupted(what, sent)
        acknowledged = body.produced if size is None else session.acknowledged + size
        self._session = moved(session, call, reply, acknowledged)

    def _commit(self) -> Flow[Descriptor]:
        """Close the session with the digest (end-6), and believe only an answer that agrees."""
        descriptor = self._seal()
        call = commit_call(self._at(), descriptor.digest, self._last)
        try:
            # Once: a second PUT finds no session, where the first one did its work.
            reply = yield from self._access.send(call, once=True)
        except TransportFailed as error:
            # The PUT may have done its work and lost its answer alone: ask before calling it lost.
            self._closing = descriptor
            if (yield from self._shows(_ASKS)):
                return descriptor
            sent = min(self._at().acknowledged + error.sent, descriptor.size)
            what = f"{sent} of {descriptor.size} bytes were sent, and the registry does not show"
            raise self._interrupted(f"{what} the blob", sent, error) from error
        if reply.status in _DOUBTFUL:
            self._closing = descriptor
            if (yield from self._shows(_ASKS)):
                return descriptor
        self._hear(reply)
        expect_stored(call, reply, descriptor.digest)
        return descriptor

    def _shows(self, times: int) -> Flow[bool]:
        """Ask for the blob, so often at most, where a PUT was made for it: some take their time."""
        if self._closing is None:
            return False
        pause_s = 0.0
        for attempt in range(1, times + 1):
            there = yield from is_there(self._access, self._closing, pause_s)
            longer_s = self._retry.pause_s(attempt)
            if there is not False or longer_s is None:
                return bool(there)
            pause_s = longer_s
        return False

    def _hear(self, reply: Reply) -> None:
        self._asked_s = retry_after_s(reply.headers) if reply.status in PASSING else None

    # --- The ladder

    def _find(self) -> Flow[bool]:
        """Ask the session how far it came, and give it up where it does not tell.

        Return whether the blob is there by now: then there is no session to tell of.
        """
        session = self._at()
        found = yield from status(self._access, session, self._body.produced, self._pause())
        if found is not None:
            self._session, self._known, self._resumed = found, True, True
            self._vain_asks = 0
            return False
        if (yield from self._shows(self._retry.attempts)):
            return True
        yield from self._lose()
        return False

    def _weigh(self, error: BrolgaError) -> Flow[None]:
        """Prepare the next try after a failure. Raises it where there is none."""
        asking = not self._known
        self._cause = self._cause if asking and self._cause else error
        if not self._may_pass(error):
            raise self._cause
        if is_too_large(error) and self._retry.attempts > 1:
            self._style = self._style.chunked()  # which ends: it needs neither counting nor pauses
        else:
            self._count_setback(error)
        self._vain_asks += asking
        vain = self._vain_asks >= _VAIN_ASKS and self._body.kept_from == 0
        if self._session is None:
            return
        if vain or not self._style.resumes or self._is_over(error):
            yield from self._lose()
        else:
            self._known = False

    def _lose(self) -> Flow[None]:
        """Give up the session, for a new one."""
        yield from self.give_up()
        self._setbacks.session_lost()
        self._vain_asks = 0

    def _count_setback(self, error: BrolgaError) -> None:
        """Note the pause before the next try. Raises the failure where there is none."""
        asked_s, self._asked_s = self._asked_s, None
        if isinstance(error, RateLimited):
            asked_s = error.retry_after_s
        acknowledged = self._session.acknowledged if self._session else 0
        pause_s = self._setbacks.pause_s(self._body.produced, acknowledged, asked_s)
        if pause_s is None:
            raise self._cause or error
        self._pause_s = pause_s

    def _may_pass(self, error: BrolgaError) -> bool:
        """Tell whether another try can end otherwise."""
        if isinstance(error, DigestMismatch):
            return self._resumed
        if isinstance(error, RegistryError):
            if self._session is None:  # the POST: a refusal of it was answered with patience
                return error.status in PASSING and error.status not in REFUSED
            if error.status in PASSING:
                return True
            if is_too_large(error):
                return self._style.can_shrink
            return isinstance(error, Unauthorized) or self._is_over(error)
        cause = error.__cause__ if isinstance(error, UploadInterrupted) else error
        return not isinstance(cause, TransportFailed) or cause.reason in PASSING_REASONS

    def _is_over(self, error: BrolgaError) -> bool:
        """Tell whether the session cannot be gone on with."""
        # Not every registry has a code for bytes that are not where they should be.
        refused = isinstance(error, RegistryError) and error.status == _BAD_REQUEST
        return is_lost(error) or (self._resumed and refused)

    def _check_kept(self) -> None:
        """Raise StreamNotReplayable where the bytes that are needed are gone."""
        offset, body = self._session.acknowledged if self._session else 0, self._body
        if self._cause is not None and offset < body.kept_from:
            kept = body.produced - body.kept_from
            raise StreamNotReplayable(
                f"{self._cause}; of {body.produced} bytes {offset} are acknowledged, and only the "
                f"last {kept} are kept: it cannot go on",
                sent=body.produced,
                acknowledged=offset,
                kept=kept,
            ) from self._cause

    def _pause(self) -> float:
        """Return the seconds to wait before the next call; they are waited once."""
        pause_s, self._pause_s = self._pause_s, 0.0
        return pause_s

    def _at(self) -> Session:
        assert self._session is not None  # noqa: S101 - `upload` opened it
        return self._session

    def _interrupted(
        self, what: str, sent: int, error: TransportFailed | None = None
    ) -> UploadInterrupted:
        why = f" ({error})" if error else ""
        return UploadInterrupted(
            f"{what}{why}; nothing was committed", sent=sent, acknowledged=self._at().acknowledged
        )


def _is_gone(error: BrolgaError) -> bool:
    """Tell whether the registry knows the session no more: a commit ends it too."""
    return isinstance(error, RegistryError) and is_lost(error) and error.status not in _DOUBTFUL
