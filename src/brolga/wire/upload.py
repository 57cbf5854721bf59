"""One blob's upload, and what is done when it fails: the ladder.

Knows which step of a session follows which, what each failure means, and what can be done about
it. Must not know what the bytes are, how they travel, or who keeps them.

    POST, PATCH, PUT; or POST and several PATCHes of one chunk each; DELETE where all was in vain.

A failure that may pass is answered in this order:

    a. the same session: the registry is asked how many bytes it has, and gets the rest
    b. a new session, from the first byte
    c. StreamNotReplayable: the bytes that are needed are gone

a and b need bytes that went out before; the `Body` has them, or says from where on it has. After a
PUT without an answer, the blob itself is asked for. Nothing ambiguous is trusted: where the offset
is not known, b. What was wrong all the same, the registry's comparison of the digest finds.

The digest comes from `seal`, called after the last byte: a stream that did not end cleanly has no
digest, so it cannot be committed, whatever the registry answered.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import dataclass, replace
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
from brolga.wire.replies import expect
from brolga.wire.retry import PASSING, PASSING_REASONS
from brolga.wire.session import (
    PATCHED,
    Session,
    cancel,
    chunk_call,
    commit_call,
    expect_stored,
    is_there,
    moved,
    start,
    status,
    stream_call,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from brolga.descriptor import Descriptor
    from brolga.wire.access import Access
    from brolga.wire.http import Flow, Reply
    from brolga.wire.retry import Retry

__all__ = ["Body", "Style", "upload_bytes", "upload_stream"]

_LOG: Final = logging.getLogger("brolga.upload")
# A proxy lost the registry's answer: the registry may have done its work all the same. Committing
# a large blob outlasts many a proxy's patience (goharbor/harbor#19573).
_GATEWAY: Final = (502, 504)
_TOO_LARGE: Final = 413
_SMALLEST_CHUNK: Final = 1 << 20  # bytes; what 413 does not halve any more
# What says that the session is gone, or not where we think that it is; 413 wants smaller requests,
# from the beginning.
_LOST: Final = (404, 413, 416)
_LOST_CODES: Final = ("BLOB_UPLOAD_UNKNOWN", "BLOB_UPLOAD_INVALID", "RANGE_INVALID", "SIZE_INVALID")


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


@dataclass(frozen=True)
class Style:
    """How the bytes of a blob go out: one streamed PATCH where `chunk` is 0, else PATCHes of it.

    `chunk` is in bytes; `smaller` is what a first 413 leads to, 0 where the registry takes no
    chunks. With `last_in_put` the last chunk goes with the PUT. `resumes` tells whether a session
    that failed is worth asking how far it came.
    """

    chunk: int = 0
    smaller: int = 32 << 20
    last_in_put: bool = False
    resumes: bool = True

    @property
    def can_shrink(self) -> bool:
        """Whether there are smaller requests to try."""
        return self.chunk > _SMALLEST_CHUNK if self.chunk else self.smaller > 0

    def chunked(self) -> Style:
        """Return the style in smaller requests: chunks, and of half the size each further time."""
        half = max(self.chunk // 2, _SMALLEST_CHUNK) if self.chunk else self.smaller
        return replace(self, chunk=half)


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
        self._session: Session | None = None
        self._last = b""  # what goes with the PUT
        self._resumed = False
        self._setbacks, self._reached = 0, -1

    def upload(self, session: Session | None) -> Flow[Descriptor]:
        """Go up the ladder until the blob is there."""
        self._session = session
        pause_s = 0.0
        while True:
            try:
                if self._session is None:
                    yield from self._start(pause_s)
                yield from self._send()
                return (yield from self._commit())
            except (TransportFailed, UploadInterrupted, RegistryError, DigestMismatch) as error:
                pause_s = yield from self._recover(error, self._pause_after(error))
                self._check_kept(error)
                where = f"byte {self._session.acknowledged}" if self._session else "the beginning"
                _LOG.info("an upload failed (%s); it goes on from %s", error, where)

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

    # --- Steps

    def _start(self, pause_s: float) -> Flow[None]:
        self._session, smallest = yield from start(self._access, pause_s)
        self._resumed = False
        if 0 < self._style.chunk < smallest:
            self._style = replace(self._style, chunk=smallest)

    def _send(self) -> Flow[None]:
        """Send what the registry has not acknowledged yet."""
        session, body = self._at(), self._body
        self._last = b""
        if body.ended and session.acknowledged == body.produced:
            return
        blocks = body.blocks(session.acknowledged)
        if self._style.chunk:
            yield from self._send_chunks(blocks)
            return
        call = stream_call(session, blocks)
        try:
            reply = yield from self._access.send(call)
        except TransportFailed as error:
            sent = session.acknowledged + error.sent
            raise self._interrupted(
                f"the upload was cut after {sent} bytes", sent, error
            ) from error
        expect(call, reply, *PATCHED)
        if not reply.whole:
            sent = session.acknowledged + reply.sent
            what = f"the registry answered {reply.status} after {sent} bytes, before the end"
            raise self._interrupted(what, sent)
        self._session = moved(session, call, reply, body.produced)

    def _send_chunks(self, blocks: Iterable[bytes | memoryview]) -> Flow[None]:
        """Send one PATCH for each chunk; the last one may be left for the PUT."""
        for chunk, is_last in _chunks(blocks, self._style.chunk):
            if is_last and self._style.last_in_put:
                self._last = chunk
                return
            session = self._at()
            call = chunk_call(session, chunk)
            try:
                # Once: a chunk whose answer was lost may have arrived.
                reply = yield from self._access.send(call, once=True)
            except TransportFailed as error:
                sent = session.acknowledged
                raise self._interrupted(
                    f"the upload was cut after {sent} bytes", sent, error
                ) from error
            expect(call, reply, *PATCHED)
            self._session = moved(session, call, reply, session.acknowledged + len(chunk))

    def _commit(self) -> Flow[Descriptor]:
        """Close the session with the digest (end-6), and believe only an answer that agrees."""
        descriptor = self._seal()
        call = commit_call(self._at(), descriptor.digest, self._last)
        try:
            # Once: a second PUT finds no session, where the first one did its work.
            reply = yield from self._access.send(call, once=True)
        except TransportFailed as error:
            # The PUT may have done its work and lost its answer alone: ask before calling it lost.
            if (yield from is_there(self._access, descriptor)):
                return descriptor
            sent = min(self._at().acknowledged + error.sent, descriptor.size)
            what = f"{sent} of {descriptor.size} bytes were sent, and the registry does not show"
            raise self._interrupted(f"{what} the blob", sent, error) from error
        if reply.status in _GATEWAY and (yield from is_there(self._access, descriptor)):
            return descriptor
        expect_stored(call, reply, descriptor.digest)
        return descriptor

    # --- The ladder

    def _pause_after(self, error: BrolgaError) -> float:
        """Return the seconds to wait before the next try. Raises `error` where there is none."""
        if not self._may_pass(error):
            raise error
        if self._body.produced > self._reached:  # there was progress: count anew
            self._reached, self._setbacks = self._body.produced, 0
        self._setbacks += 1
        asked = error.retry_after_s if isinstance(error, RateLimited) else None
        pause_s = self._retry.pause_s(self._setbacks, asked)
        if pause_s is None or (isinstance(error, Unauthorized) and self._setbacks > 1):
            raise error
        return pause_s

    def _may_pass(self, error: BrolgaError) -> bool:
        """Tell whether another try can end otherwise."""
        if isinstance(error, DigestMismatch):
            return self._resumed
        if isinstance(error, RegistryError):
            if error.status in PASSING:
                return True
            if self._session is None:  # no session was opened: that is no failure of one
                return False
            if error.status == _TOO_LARGE:
                return self._style.can_shrink
            return isinstance(error, Unauthorized) or _is_lost(error)
        cause = error.__cause__ if isinstance(error, UploadInterrupted) else error
        return not isinstance(cause, TransportFailed) or cause.reason in PASSING_REASONS

    def _recover(self, error: BrolgaError, pause_s: float) -> Flow[float]:
        """Find the session from which it goes on: the same one, or none where a new one must be.

        Return the seconds that are left to wait before a new one.
        """
        session = self._session
        if session is not None and self._style.resumes and not _is_lost(error):
            session = yield from status(self._access, session, self._body.produced, pause_s)
            pause_s = 0.0
            self._resumed = session is not None
            self._session = session or self._session
        else:
            session = None
        if _is_too_large(error):
            self._style = self._style.chunked()
        if session is None:
            yield from self.give_up()
        return pause_s

    def _check_kept(self, error: BrolgaError) -> None:
        """Raise StreamNotReplayable where the bytes that are needed are gone."""
        offset, body = self._session.acknowledged if self._session else 0, self._body
        if offset < body.kept_from:
            kept = body.produced - body.kept_from
            raise StreamNotReplayable(
                f"{error}; of {body.produced} bytes {offset} are acknowledged, and only the last "
                f"{kept} are kept: it cannot go on",
                sent=body.produced,
                acknowledged=offset,
                kept=kept,
            ) from error

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


def _is_too_large(error: BrolgaError) -> bool:
    return isinstance(error, RegistryError) and error.status == _TOO_LARGE


def _is_lost(error: BrolgaError) -> bool:
    """Tell whether the session cannot be gone on with, so that it need not be asked."""
    if isinstance(error, RegistryError):
        return error.status in _LOST or error.code in _LOST_CODES
    return isinstance(error, DigestMismatch)


def _chunks(blocks: Iterable[bytes | memoryview], size: int) -> Iterator[tuple[bytes, bool]]:
    """Join blocks to chunks of `size` bytes, the last one shorter; tell which is the last."""
    chunk = bytearray()
    for block in blocks:
        chunk += block
        while len(chunk) > size:
            yield bytes(memoryview(chunk)[:size]), False
            del chunk[:size]
    if chunk:
        yield bytes(chunk), True
