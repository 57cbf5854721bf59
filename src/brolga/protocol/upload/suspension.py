"""How an upload ends that is not done, and how a later run goes on with it."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from brolga.errors import ProtocolViolation
from brolga.protocol.http import call
from brolga.protocol.redirects import redirect_all
from brolga.protocol.upload.body import catch_up
from brolga.protocol.upload.journal import ANY_SIZE
from brolga.protocol.upload.machine import Active, Committing, Event, InSession, Recovery
from brolga.protocol.upload.recovery import may_pass
from brolga.protocol.upload.session import (
    PATCH_SUCCESS,
    UploadSession,
    cancel,
    follow_location,
    query_blob,
    streamed_patch,
)

if TYPE_CHECKING:
    from brolga.protocol.http import Flow, Response
    from brolga.protocol.upload.flow import Upload
    from brolga.protocol.upload.journal import Journal


def restore(upload: Upload, journal: Journal) -> Flow[None]:
    """Enter the state in which an earlier run left an upload that is idle, as far as it holds.

    A blob that the registry has is not sent, but read: only that shows that it is the same.
    """
    state = upload.state
    assert isinstance(state, Active)  # noqa: S101 - the upload has just begun
    session, blob = journal.past.session, journal.past.descriptor
    if blob is not None and (yield from query_blob(upload.access, blob)):
        body = upload.body
        yield from call(partial(catch_up, body, blob.size + 1, lambda: journal.differs))
        if body.ended and (descriptor := upload.finalize()).digest == blob.digest:
            upload.advance(Event.FOUND, descriptor=descriptor)
    elif session is not None and state.strategy.resumes:
        known = {"replayable": True, "sent": ANY_SIZE}
        upload.advance(Event.RECORDED, session=session, resumed=True, **known)
        return
    if session is not None:
        yield from cancel(upload.access, session)


def end(upload: Upload, error: BaseException, response: Response | None = None) -> Flow[None]:
    """Enter Failed, and cancel the session that is left; or leave it to a later run.

    `response` is that of an interrupted request: docker-registry 2.8 accepts a request at the
    newest Location only. Errors, redirects and blobs have Locations too.
    """
    state = upload.state
    if not isinstance(state, InSession):
        close(upload)
        return
    session = _newest(state, response)
    if _is_resumable(upload, state) and may_pass(error):
        upload.advance(Recovery.SUSPEND, session=session)
    else:
        upload.advance(Recovery.FAIL)
        yield from cancel(upload.access, session)


def close(upload: Upload) -> None:
    """End an upload without another request."""
    state = upload.state
    if isinstance(state, InSession) and _is_resumable(upload, state):
        upload.advance(Recovery.SUSPEND)
    elif isinstance(state, Active):
        upload.advance(Recovery.FAIL)


def _is_resumable(upload: Upload, state: InSession) -> bool:
    return upload.journal is not None and state.strategy.resumes


def _newest(state: InSession, response: Response | None) -> UploadSession:
    session = state.session
    if (
        response is not None
        and response.status in PATCH_SUCCESS
        and not isinstance(state, Committing)
    ):
        with suppress(ProtocolViolation):
            patch = redirect_all(streamed_patch(session, ()), state.redirects)
            return follow_location(session, patch, response, session.acknowledged)
    return session
