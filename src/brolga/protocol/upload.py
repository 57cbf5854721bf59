"""One blob's upload, and what is done when it fails.

Knows which step of a session follows which, and climbs the ladder (`ladder`) when one fails. Must
not know what the bytes are, how they travel, or who keeps them.

    POST, PATCH, PUT; or POST and several PATCHes, of one chunk each, or as the source gives its
    bytes; or POST and a PUT of all, where the digest is known before. DELETE where all was in vain.

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

from contextlib import closing, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from brolga.errors import (
    BrolgaError,
    DigestMismatch,
    ProtocolViolation,
    RegistryError,
    TransportError,
    UploadInterrupted,
)
from brolga.protocol.body import Body, IdleLimit, check_kept, chunks_of, wait_for_bytes
from brolga.protocol.commit import Commit
from brolga.protocol.http import BodyError
from brolga.protocol.ladder import (
    DOUBTFUL,
    Recovery,
    Standing,
    decide,
    is_silence,
    may_be_second,
    refuses_more,
)
from brolga.protocol.profiles import UploadStrategy
from brolga.protocol.responses import raise_for_status
from brolga.protocol.retry import RETRY_LATER_STATUSES, RetryBudget
from brolga.protocol.session import (
    PATCH_SUCCESS,
    Chunk,
    UploadSession,
    cancel,
    chunk_call,
    commit_call,
    follow_location,
    get_status,
    monolithic_put,
    start,
    stream_call,
    verify_stored,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from brolga.protocol.access import Access
    from brolga.protocol.http import Flow, Request, Response
    from brolga.protocol.retry import Retry
    from brolga.spec.descriptor import Descriptor

__all__ = ["Body", "upload_stream"]

_ASKS: Final = 3  # times that a blob is asked for after a PUT without an answer
_UNEXPECTED: Final = (200, 202, 203)  # a PUT that was done, or will be: by whose word?


def upload_stream(  # noqa: PLR0913 - what goes where, and how
    access: Access,
    body: Body,
    seal: Callable[[], Descriptor],
    *,
    known: Descriptor | None = None,
    session: UploadSession | None = None,
    style: UploadStrategy | None = None,
    retry: Retry | None = None,
) -> Flow[Descriptor]:
    """Upload a stream as a blob (distribution-spec, Pushing blobs).

    `seal` returns the blob's descriptor and is called after the whole body went out; `known` is
    that descriptor where it is known before. `session` is one that is open already; `retry` bounds
    how often it may fail without a byte more.

    Raises UploadInterrupted where the bytes did not all arrive, StreamNotReplayable where they
    could have gone out again but are gone, RegistryError where the registry refused,
    DigestMismatch where it stored other bytes, and whatever the body or `seal` raised.
    """
    style, retry = style or UploadStrategy(), retry or access.registry.retry
    run = _Run(access, body, seal, known, style, retry, session)
    cause: BaseException
    try:
        return (yield from run.upload())
    except GeneratorExit:
        raise  # the flow was dropped: nobody is there to make a call
    except BodyError as failed:
        # The registry may have moved the session on, and docker-registry 2.8 takes a DELETE at
        # the newest Location alone.
        run.take_location(failed.response)
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


@dataclass(eq=False)
class _Run:
    """One upload under way: the session that is open now, and what went wrong so far."""

    access: Access
    body: Body
    seal: Callable[[], Descriptor]
    known: Descriptor | None
    style: UploadStrategy
    retry: Retry
    session: UploadSession | None = None
    is_sure: bool = True  # how many bytes the session has
    has_resumed: bool = False
    has_split: bool = False  # the stream was silent, and went on in another PATCH
    last: Chunk | None = None  # what goes with the PUT
    cause: BrolgaError | None = None
    vain_asks: int = 0

    def __post_init__(self) -> None:
        """Count from nothing."""
        clock = self.access.registry.clock
        self.setbacks = RetryBudget(self.retry, clock)
        self.idle = IdleLimit(clock)
        self.closing = Commit(self.access, self.retry)

    def upload(self) -> Flow[Descriptor]:
        """Go up the ladder until the blob is there."""
        try:
            while True:
                try:
                    return (yield from self._attempt())
                except (TransportError, UploadInterrupted, RegistryError, DigestMismatch) as error:
                    if may_be_second(error) and (yield from self._is_done()):
                        return self.seal()
                    if (yield from self._weigh(error)):
                        return self.seal()
        finally:
            self.cause = None  # its traceback knows this object

    def _attempt(self) -> Flow[Descriptor]:
        """Go on from where the registry is, to the end."""
        if not self.is_sure and (yield from self._find()):
            return self.seal()
        if self.cause is not None:
            check_kept(self.body, self.session.acknowledged if self.session else 0, self.cause)
        if self.session is None:
            yield from self._start()
        if self.known and self._goes_whole(self.known):
            return (yield from self._put_whole(self.known))
        yield from self._send()
        return (yield from self._commit())

    def take_location(self, response: Response | None) -> None:
        """Note where the session is after an answer that nobody waited for."""
        # An error page's, or a redirect's, Location is no session.
        if self.session is not None and response is not None and response.status in PATCH_SUCCESS:
            request = stream_call(self.session, ())
            with suppress(ProtocolViolation):
                self.session = follow_location(
                    self.session, request, response, self.session.acknowledged
                )

    def give_up(self) -> Flow[None]:
        """Cancel the session that is open."""
        if self.session is not None:
            session, self.session = self.session, None
            yield from cancel(self.access, session)
        self.is_sure = True

    # --- Steps

    def _start(self) -> Flow[None]:
        self.session, smallest = yield from start(self.access, self.setbacks.pause_s())
        self.has_resumed = self.has_split = False
        self.style = self.style.at_least(smallest)

    def _goes_whole(self, known: Descriptor) -> bool:
        """Tell whether a PUT takes the whole blob."""
        return self._at().acknowledged == 0 and known.size <= self.style.monolithic_max

    def _put_whole(self, known: Descriptor) -> Flow[Descriptor]:
        """Send the whole blob with the closing PUT."""
        request = monolithic_put(self._at(), known.digest, self.body.blocks(0), known.size)
        return (yield from self._close(request, known, known.size))

    def _send(self) -> Flow[None]:
        """Send what the registry has not acknowledged yet."""
        self.last = None
        size = self.style.chunk
        if self.style.final_chunk_in_put and self._at().acknowledged:
            # ECR wants the last bytes of several PATCHes in the PUT: a stream does not know them.
            size = size or self.style.smaller
        if size:
            yield from self._send_chunks(size)
        else:
            yield from self._send_stream()

    def _send_stream(self) -> Flow[None]:
        """Send the stream in one PATCH, or in several where it is silent in between."""
        while self._has_more():
            session, body = self._at(), self.body
            blocks = self.idle.watch(body, session.acknowledged, ends=self.style.splits)
            body.retain_from(None)
            with closing(blocks):  # what has failed keeps no bytes
                yield from self._patch(stream_call(session, blocks))
            self.has_split |= not body.ended

    def _send_chunks(self, size: int) -> Flow[None]:
        """Send the stream in chunks of so many bytes."""
        session, body = self._at(), self.body
        if body.ended and session.acknowledged == body.bytes_read:
            return
        body.retain_from(session.acknowledged)
        for chunk in chunks_of(body, session.acknowledged, size):
            if chunk.is_last and self.style.final_chunk_in_put:
                self.last = chunk
                return
            yield from self._patch(chunk_call(self._at(), chunk), chunk.size)
            body.retain_from(self._at().acknowledged)
            del chunk  # before the next one is gathered: there is memory for one

    def _has_more(self) -> bool:
        """Wait until there are bytes to send; return False at the end of the stream."""
        body, acknowledged = self.body, self._at().acknowledged
        body.retain_from(acknowledged)
        if not body.ended and (acknowledged == body.bytes_read or self.idle.waits):
            wait_for_bytes(body)
        return acknowledged < body.bytes_read

    def _patch(self, request: Request, size: int | None = None) -> Flow[None]:
        """Make a PATCH of `size` bytes, or of all that come, once: it may arrive unanswered."""
        session, body = self._at(), self.body
        try:
            response = yield from self.access.send(request, once=True)
        except TransportError as error:
            sent = min(session.acknowledged + error.sent, body.bytes_read)
            what = f"the upload was cut after {sent} bytes"
            raise self._interrupted(what, sent, error) from error
        self.setbacks.note_retry_after(response)
        raise_for_status(request, response, *PATCH_SUCCESS)
        self._check_whole(response)
        acknowledged = body.bytes_read if size is None else session.acknowledged + size
        self.session = follow_location(session, request, response, acknowledged)

    def _commit(self) -> Flow[Descriptor]:
        """Close the session with the digest (end-6)."""
        descriptor = self.seal()
        request = commit_call(self._at(), descriptor.digest, self.last)
        return (yield from self._close(request, descriptor, self.last.size if self.last else 0))

    def _close(self, request: Request, descriptor: Descriptor, size: int) -> Flow[Descriptor]:
        """Make the closing PUT of `size` bytes, and believe only an answer that agrees."""
        try:
            # Once: a second PUT finds no session, where the first one did its work.
            response = yield from self.access.send(request, once=True)
        except TransportError as error:
            self.closing.doubt(descriptor, self.retry.attempts)
            # It may have done its work and lost its answer alone: ask before calling it lost.
            if (yield from self._is_done(_ASKS if error.sent >= size else 1)):
                return descriptor
            sent = min(self._at().acknowledged + error.sent, descriptor.size)
            what = f"{sent} of {descriptor.size} bytes were sent, and the registry does not show"
            raise self._interrupted(f"{what} the blob", sent, error) from error
        if response.status in RETRY_LATER_STATUSES:
            self.closing.doubt(descriptor, 1)
        elif response.status in DOUBTFUL or response.status in _UNEXPECTED:
            self.closing.doubt(descriptor, self.retry.attempts)
            if (yield from self._is_done(_ASKS)):
                return descriptor
        self.setbacks.note_retry_after(response)
        try:
            verify_stored(request, response, descriptor.digest)
        except RegistryError as error:
            if may_be_second(error):
                self.closing.doubt(descriptor, 1)
            raise
        self._check_whole(response)
        return descriptor

    def _is_done(self, times: int | None = None) -> Flow[bool]:
        """Ask for the blob, so often at most, where a PUT was made for it.

        A session that is left then is not needed: the PUT found none, or another upload was first.
        """
        done = yield from self.closing.is_done(times)
        if done:
            yield from self.give_up()
        return done

    def _check_whole(self, response: Response) -> None:
        """Raise UploadInterrupted for an answer that came before the end of the body."""
        if not response.complete:
            sent = self._at().acknowledged + response.sent
            what = f"the registry answered {response.status} after {sent} bytes, before the end"
            raise self._interrupted(what, sent)

    # --- The ladder

    def _find(self) -> Flow[bool]:
        """Ask the session how far it came, and give it up where it does not tell.

        Return whether the blob is there by now: then there is no session to tell of.
        """
        session = self._at()
        found = yield from get_status(
            self.access, session, self.body.bytes_read, self.setbacks.pause_s()
        )
        if found is not None:
            self.session, self.is_sure, self.has_resumed = found, True, True
            self.vain_asks = 0
            return False
        if (yield from self._is_done()):
            return True
        yield from self._lose()
        return False

    def _weigh(self, error: BrolgaError) -> Flow[bool]:
        """Prepare the next try after a failure. Raises it where there is none.

        Return whether the blob is there all the same: then none is needed.
        """
        asking = not self.is_sure
        self.vain_asks += asking
        self.cause = self.cause if asking and self.cause else error
        what = decide(error, self._standing())
        # Smaller requests come to an end by themselves: they need neither counting nor pauses.
        is_shrinking = what is Recovery.SHRINK and self.retry.attempts > 1
        if what is Recovery.FAIL or not (is_shrinking or self._count_setback(error)):
            if not self.closing.has_asked and (yield from self._is_done(1)):
                return True
            raise self.cause
        if is_shrinking:
            self.style = self.style.chunked()
        self._mind_silence(error)
        if what is Recovery.RESUME:
            self.is_sure = False
        else:
            yield from self._lose()
        return False

    def _mind_silence(self, error: BrolgaError) -> None:
        """Let the next requests of a silent stream be shorter, or fewer where that failed."""
        if is_silence(error):
            self.idle.shorten()
        if self.has_split and refuses_more(error):
            self.style = self.style.in_one_patch()

    def _standing(self) -> Standing:
        session = self.session
        return Standing(
            self.style,
            is_open=session is not None,
            acknowledged=session.acknowledged if session else 0,
            has_resumed=self.has_resumed or self.has_split,
            asks=self.vain_asks,
            has_all=self.body.replayable_from == 0,
        )

    def _lose(self) -> Flow[None]:
        """Give up the session, for a new one."""
        yield from self.give_up()
        self.setbacks.record_session_loss()
        self.vain_asks = 0

    def _count_setback(self, error: BrolgaError) -> bool:
        """Count a failure, and note the pause after it; return whether there is a further try."""
        acknowledged = self.session.acknowledged if self.session else 0
        return self.setbacks.record_failure(error, self.body.bytes_read, acknowledged)

    def _at(self) -> UploadSession:
        assert self.session is not None  # noqa: S101 - `upload` opened it
        return self.session

    def _interrupted(
        self, what: str, sent: int, error: TransportError | None = None
    ) -> UploadInterrupted:
        why = f" ({error})" if error else ""
        return UploadInterrupted(
            f"{what}{why}; nothing was committed", sent=sent, acknowledged=self._at().acknowledged
        )
