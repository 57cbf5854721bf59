"""The upload of one blob: the step out of each state, and what follows a failure.

POST, then PATCH and PUT, or several PATCHes; or one PUT of all, if the digest is known before. The
digest exists only if the stream came to its clean end, so nothing else is committed.
"""

from __future__ import annotations

from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Final

from brolga.errors import (
    BrolgaError,
    DigestMismatch,
    RegistryError,
    TransportError,
    UploadInterrupted,
)
from brolga.protocol.http import call
from brolga.protocol.redirects import (
    MAX_REDIRECTS,
    StreamRedirected,
    redirect_all,
    redirect_target,
    too_many_redirects,
)
from brolga.protocol.responses import raise_for_status
from brolga.protocol.retry import RETRY_LATER_STATUSES, Retry
from brolga.protocol.upload import recovery
from brolga.protocol.upload.body import (
    Body,
    Chunk,
    SilenceLimit,
    catch_up,
    check_replayable,
    split_chunks,
    wait_for_bytes,
)
from brolga.protocol.upload.journal import Journal, record_of
from brolga.protocol.upload.machine import (
    Active,
    Committing,
    Done,
    Event,
    InSession,
    Open,
    Recovery,
    State,
    Uncertain,
    Unconfirmed,
    advance,
)
from brolga.protocol.upload.session import (
    PATCH_SUCCESS,
    cancel,
    chunk_patch,
    closing_put,
    follow_location,
    get_status,
    monolithic_put,
    open_session,
    query_blob,
    streamed_patch,
    verify_stored,
)
from brolga.protocol.urls import redact
from brolga.spec.digest import CANONICAL
from brolga.spec.value import replace

if TYPE_CHECKING:
    from collections.abc import Callable

    from brolga.protocol.auth import Access
    from brolga.protocol.http import Flow, Request, Response
    from brolga.spec.descriptor import Descriptor

_HEAD_ATTEMPTS: Final = 3  # after a PUT without an answer
_UNEXPECTED: Final = (200, 202, 203)  # to a PUT: a proxy's answer, or the registry is not done yet


class Upload:
    """One upload under way. What decides its next step is in `state`."""

    def __init__(  # noqa: PLR0913 - the parts of an upload
        self,
        access: Access,
        body: Body,
        finalize: Callable[[], Descriptor],
        state: State,
        *,
        descriptor: Descriptor | None,
        retry: Retry,
        algorithm: str = CANONICAL,
        journal: Journal | None = None,
    ) -> None:
        self.access = access
        self.body = body
        self.finalize = finalize
        self.descriptor = descriptor
        self.retry = retry
        self.algorithm = algorithm
        self.journal = journal
        self.state = state
        self.budget = access.retry_budget(retry)
        self.silence = SilenceLimit(access.registry.clock)

    def run(self) -> Flow[Descriptor]:
        """Go from state to state until the blob is there."""
        while isinstance(self.state, Active):
            try:
                yield from self._step(self.state)
            except StreamRedirected as error:
                self._follow(error)
            except (TransportError, UploadInterrupted, RegistryError, DigestMismatch) as error:
                yield from self._recover(error)
        assert isinstance(self.state, Done)  # noqa: S101 - a failure is raised
        return self.state.descriptor

    def _step(self, state: Active) -> Flow[None]:
        if isinstance(state, Uncertain):
            return self._query(state)
        if isinstance(state, Committing):
            return self._commit(state)
        if state.cause is not None:
            check_replayable(self.body, state.acknowledged, state.cause)
        return self._send(state) if isinstance(state, Open) else self._open(state)

    def advance(self, event: Event | Recovery, **changes: object) -> None:
        """Enter the state that an event leads to, and record it.

        If no session could be opened, what an earlier run recorded stays.
        """
        before, self.state = self.state, advance(self.state, event, **changes)
        is_worth = isinstance(before, InSession) or event is not Recovery.FAIL
        if self.journal is not None and is_worth:
            self.journal.record(record_of(self.state))

    @property
    def _in_session(self) -> InSession:
        assert isinstance(self.state, InSession)  # noqa: S101 - the caller is a step of a session
        return self.state

    def _open(self, state: Active) -> Flow[None]:
        delay_s = self.budget.take_delay_s()
        session = yield from open_session(self.access, delay_s, self.algorithm)
        strategy = state.strategy.with_chunk_limits(*session.limits)
        self.advance(Event.OPENED, session=session, strategy=strategy)

    def _send(self, state: Open) -> Flow[None]:
        """Send what the registry has not acknowledged, but for the bytes of the PUT."""
        strategy, descriptor = state.strategy, self.descriptor
        most = strategy.monolithic_max
        if descriptor is not None and not state.acknowledged and descriptor.size <= most:
            size, body = descriptor.size, self.body.blocks(0)
            put = monolithic_put(state.session, descriptor.digest, body, size)
        else:
            last, chunk_size = None, strategy.chunk_size
            if strategy.final_chunk_in_put and state.acknowledged:
                # ECR wants the last of several parts in the PUT: a stream does not know it.
                chunk_size = chunk_size or strategy.fallback_chunk_size
            if chunk_size:
                last = yield from self._send_chunks(chunk_size)
            else:
                yield from self._send_stream()
            descriptor = self.finalize()
            size = last.size if last else 0
            put = closing_put(self._in_session.session, descriptor.digest, last)
        self.advance(Event.SENT, descriptor=descriptor, put=put, size=size)

    def _send_stream(self) -> Flow[None]:
        """Send the stream in one PATCH, or in several if it is silent in between."""
        body = self.body
        while True:
            state = self._in_session
            acknowledged = state.acknowledged
            body.retain_from(acknowledged)
            if not body.ended and (acknowledged == body.bytes_read or self.silence.waits):
                yield from call(partial(wait_for_bytes, body))
            if acknowledged >= body.bytes_read:
                return
            ends = state.strategy.splits
            watch = partial(self.silence.watch, body, acknowledged, ends=ends)
            blocks = yield from call(watch)
            body.retain_from(None)
            with closing(blocks):  # a failed request keeps no bytes
                yield from self._patch(streamed_patch(state.session, blocks))

    def _send_chunks(self, size: int) -> Flow[Chunk | None]:
        """Send the stream in chunks; return the last one if it goes with the PUT."""
        body, acknowledged = self.body, self._in_session.acknowledged
        if body.ended and acknowledged == body.bytes_read:
            return None
        body.retain_from(acknowledged)
        chunks = split_chunks(body.blocks(acknowledged), size)
        while chunk := (yield from call(lambda: next(chunks, None))):
            state = self._in_session
            if chunk.is_last and state.strategy.final_chunk_in_put:
                return chunk
            yield from self._patch(chunk_patch(state.session, chunk), chunk.size)
            body.retain_from(self._in_session.acknowledged)
            del chunk  # before the next one is gathered: there is memory for one
        return None

    def _patch(self, request: Request, size: int | None = None) -> Flow[None]:
        """Send a PATCH of `size` bytes, or of all that the body has, once."""
        state, body = self._in_session, self.body
        request = redirect_all(request, state.redirects)
        try:
            response = yield from self.access.send(request, retry=False)
        except TransportError as error:
            sent = min(state.acknowledged + error.sent, body.bytes_read)
            text = f"the upload was cut after {sent} bytes"
            raise self._interrupted(text, sent, error) from error
        self._check_redirect(request, response)
        self.budget.note_retry_after(response)
        raise_for_status(request, response, *PATCH_SUCCESS)
        self._check_complete(response)
        acknowledged = body.bytes_read if size is None else state.acknowledged + size
        if state.redirects:
            response = replace(response, redirected_to=request.url)
        session = follow_location(state.session, request, response, acknowledged)
        split = state.split or (size is None and not body.ended)
        self.advance(Event.ACKNOWLEDGED, session=session, split=split, redirects=())

    def _query(self, state: Uncertain) -> Flow[None]:
        """Ask how many bytes the session has; give it up if the registry does not say so."""
        delay_s = self.budget.take_delay_s()
        session = yield from get_status(self.access, state.session, state.sent, delay_s)
        if session is not None and (yield from self._catch_up(session.acknowledged)):
            self.advance(Event.LOCATED, session=session, resumed=True)
        elif not (yield from self._find_blob()):
            yield from self._restart(Recovery.RESTART)

    def _catch_up(self, start: int) -> Flow[bool]:
        """Read the bytes that an earlier run has sent; return whether they are the same."""
        body, journal = self.body, self.journal
        if start <= body.bytes_read or journal is None:
            return True
        yield from call(partial(catch_up, body, start, lambda: journal.differs))
        is_same = start <= body.bytes_read and journal.confirms(start)
        if is_same:
            self.access.on_resume(start)
        return is_same

    def _commit(self, state: Committing) -> Flow[None]:
        """Send the PUT once, since a second one may find no session, and check the response."""
        descriptor, attempts = state.descriptor, self.retry.attempts
        put = redirect_all(state.put, state.redirects)
        try:
            response = yield from self.access.send(put, retry=False)
        except TransportError as error:
            self._note_unconfirmed(attempts)
            heads = _HEAD_ATTEMPTS if error.sent >= state.size else 1
            exists = yield from self._find_blob(heads)
            if exists:
                return
            sent = min(state.acknowledged + error.sent, descriptor.size)
            text = f"{sent} of {descriptor.size} bytes were sent, and the registry "
            text += "does not show the blob" if exists is False else "does not answer"
            raise self._interrupted(text, sent, error, is_absent=exists is False) from error
        self._check_redirect(put, response)
        if response.status in RETRY_LATER_STATUSES:
            self._note_unconfirmed(1)
        elif response.status in recovery.DOUBTFUL or response.status in _UNEXPECTED:
            self._note_unconfirmed(attempts)
            if (yield from self._find_blob(_HEAD_ATTEMPTS)):
                return
        self.budget.note_retry_after(response)
        try:
            verify_stored(put, response, descriptor.digest)
        except RegistryError as error:
            if recovery.may_follow_commit(error):
                self._note_unconfirmed(1)
            raise
        self._check_complete(response)
        self.advance(Event.STORED)

    def _note_unconfirmed(self, head_attempts: int) -> None:
        """Note that the blob may be there, and how often it is worth asking for."""
        state = self.state
        assert isinstance(state, Committing)  # noqa: S101 - the caller is its step
        attempts = max(head_attempts, state.unconfirmed.head_attempts if state.unconfirmed else 0)
        self.advance(Event.UNCONFIRMED, unconfirmed=Unconfirmed(state.descriptor, attempts))

    def _find_blob(self, attempts: int | None = None) -> Flow[bool | None]:
        """Ask for the blob, `attempts` times at most, if a PUT may have stored it.

        Return whether it is there, or None without an answer. If it is there, enter Done. A session
        that is left is not needed: the PUT closed it, or another upload was first.
        """
        state = self.state
        assert isinstance(state, Active)  # noqa: S101 - the caller is a step
        if state.unconfirmed is None:
            return False
        descriptor, most = state.unconfirmed.descriptor, state.unconfirmed.head_attempts
        self.state = replace(state, unconfirmed=replace(state.unconfirmed, head_done=True))
        delay_s = 0.0
        for attempt in range(1, 1 + min(most, attempts or most)):
            exists = yield from query_blob(self.access, descriptor, delay_s)
            if exists:
                self.advance(Event.FOUND, descriptor=descriptor)
                if isinstance(state, InSession):
                    yield from cancel(self.access, state.session)
                return True
            next_delay_s = self.retry.delay_s(attempt)
            if exists is None or next_delay_s is None:
                return exists
            delay_s = next_delay_s
        return False

    def _check_redirect(self, request: Request, response: Response) -> None:
        """Raise StreamRedirected if a stream has to be sent to another URL."""
        target = None if request.is_repeatable else redirect_target(request, response)
        if target is not None:
            sent = self._in_session.acknowledged + response.sent
            text = f"the registry redirected the upload to {redact(target)} after {sent} bytes"
            raise StreamRedirected(self._interrupted(text, sent), target)

    def _follow(self, redirected: StreamRedirected) -> None:
        """Send the stream to another URL next, if its bytes are still there."""
        state = self._in_session
        check_replayable(self.body, state.acknowledged, redirected.error)
        if len(state.redirects) == MAX_REDIRECTS:
            raise too_many_redirects(self.access.registry.base)
        # If bytes were kept all the same, the digest will differ: a new session follows then.
        changes: dict[str, object] = {
            "redirects": (*state.redirects, redirected.url),
            "resumed": state.resumed or redirected.error.sent > state.acknowledged,
        }
        if isinstance(state, Committing):
            changes["put"] = replace(state.put, body=self.body.blocks(0))
        self.advance(Event.MOVED, **changes)

    def _check_complete(self, response: Response) -> None:
        """Raise UploadInterrupted for a response that came before the end of the body."""
        if not response.complete:
            sent = self._in_session.acknowledged + response.sent
            text = f"the registry answered {response.status} after {sent} bytes, before the end"
            raise self._interrupted(text, sent)

    def _interrupted(
        self,
        text: str,
        sent: int,
        error: TransportError | None = None,
        *,
        is_absent: bool = True,
    ) -> UploadInterrupted:
        text += f" ({error})" if error else ""
        text += "; nothing was committed" if is_absent else "; the blob may have been committed"
        return UploadInterrupted(text, sent=sent, acknowledged=self._in_session.acknowledged)

    def _recover(self, error: BrolgaError) -> Flow[None]:
        """Enter the state in which the upload goes on after a failure, or raise the failure."""
        if recovery.may_follow_commit(error) and (yield from self._find_blob()):
            return
        state = self.state
        assert isinstance(state, Active)  # noqa: S101 - a step failed
        # The user has to look at the failure that led to the query.
        cause = (isinstance(state, Uncertain) and state.cause) or error
        action = recovery.decide(state, error)
        if action is Recovery.SHRINK:  # comes to an end by itself: neither counted nor delayed
            goes_on = self.retry.attempts > 1
        else:
            read, acknowledged = self.body.bytes_read, state.acknowledged
            goes_on = action is not Recovery.FAIL and self.budget.record_failure(
                error, read, acknowledged
            )
        if not goes_on or not isinstance(state, InSession):
            is_unasked = state.unconfirmed is not None and not state.unconfirmed.head_done
            if is_unasked and (yield from self._find_blob(1)):
                return
            raise cause
        recovery.clear_frames(cause)
        if recovery.may_be_idle_timeout(error):
            self.silence.shorten()
        strategy = recovery.adapt(state, error, action)
        if action is Recovery.RESUME:
            queries = state.failed_queries + 1 if isinstance(state, Uncertain) else 0
            replayable = self.body.replayable_from == 0
            sent = max(read, state.sent if isinstance(state, Uncertain) else 0)
            known = {"failed_queries": queries, "replayable": replayable, "sent": sent}
            self.advance(action, cause=cause, strategy=strategy, redirects=(), **known)
        else:
            yield from self._restart(action, cause=cause, strategy=strategy)

    def _restart(self, action: Recovery, **changes: object) -> Flow[None]:
        """Cancel the session; a new one follows."""
        session = self._in_session.session
        self.advance(action, **changes)
        self.budget.record_session_loss()
        yield from cancel(self.access, session)
