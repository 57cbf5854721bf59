"""The upload of a blob, as a state machine, which docs/upload.svg shows.

`upload_stream` and `upload_bytes` are its flows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from brolga.errors import BrolgaError, RegistryError
from brolga.protocol.http import BodyError, Flow
from brolga.protocol.retry import Retry, is_transient
from brolga.protocol.upload.flow import Upload
from brolga.protocol.upload.known_registries import UploadStrategy
from brolga.protocol.upload.machine import Event, Idle
from brolga.protocol.upload.session import UploadSession, post_blob
from brolga.protocol.upload.suspension import close, end, restore
from brolga.spec.digest import CANONICAL
from brolga.spec.value import replace

if TYPE_CHECKING:
    from collections.abc import Callable

    from brolga.protocol.auth import Access
    from brolga.protocol.upload.body import Body
    from brolga.protocol.upload.journal import Journal
    from brolga.spec.descriptor import Descriptor

_TOO_LARGE: Final = 413  # for one request: a session may take the bytes in chunks


def upload_stream(  # noqa: PLR0913 - what goes where, and how
    access: Access,
    body: Body,
    finalize: Callable[[], Descriptor],
    *,
    descriptor: Descriptor | None = None,
    session: UploadSession | None = None,
    strategy: UploadStrategy | None = None,
    retry: Retry | None = None,
    algorithm: str = CANONICAL,
    journal: Journal | None = None,
) -> Flow[Descriptor]:
    """Upload a stream as a blob (distribution-spec, Pushing blobs).

    `finalize` returns the blob's descriptor. It is called after the last byte of the body was read,
    and must raise an error if the stream did not end cleanly. `descriptor` is the same, if it is
    known before. `session` is one that is open already; `algorithm` is that of the digest.

    `journal` has the records of an earlier run, and gets those of this one: it needs a body that
    can be sent again from its first byte. An interrupt, or a failure that may pass, then leaves the
    session to a later run.

    Raises UploadInterrupted if the bytes did not all arrive, StreamNotReplayable if bytes that have
    to be sent again are gone, RegistryError if the registry refused, DigestMismatch if it stored
    other bytes, and whatever the body or `finalize` raises.
    """
    strategy = strategy or UploadStrategy()
    if descriptor is not None:
        algorithm = descriptor.digest.algorithm
    retry = retry or access.registry.retry
    upload = Upload(
        access,
        body,
        finalize,
        Idle(strategy=strategy),
        descriptor=descriptor,
        retry=retry,
        algorithm=algorithm,
        journal=journal,
    )
    if session is not None:
        strategy = strategy.with_chunk_limits(*session.limits)
        upload.advance(Event.OPENED, session=session, strategy=strategy)
    cause: BaseException
    try:
        if journal is not None and session is None:
            yield from restore(upload, journal)
        return (yield from upload.run())
    except GeneratorExit:
        close(upload)  # without a DELETE: the caller makes no further call
        raise
    except BodyError as failed:
        yield from end(upload, failed.error, failed.response)
        cause = failed.error
    except BaseException as error:
        yield from end(upload, error)
        raise
    # Outside of the except clause, so that it does not get a context.
    try:
        raise cause
    finally:
        del cause  # its traceback refers to this frame


def upload_bytes(
    access: Access,
    data: bytes,
    descriptor: Descriptor,
    *,
    session: UploadSession | None = None,
    strategy: UploadStrategy | None = None,
) -> Flow[Descriptor]:
    """Upload bytes in memory: POST, then one PUT with all of them (end-4a, end-6).

    If `strategy` says so, small ones go with the POST (end-4b). Raises what `upload_stream` does.
    """
    # No session is resumed: all bytes can be sent again.
    strategy = replace(
        strategy or UploadStrategy(), chunk_size=0, monolithic_max=len(data), resumes=False
    )
    if session is None and len(data) <= strategy.single_post_max:
        try:
            session = yield from post_blob(access, data, descriptor.digest)
        except BrolgaError as error:
            is_too_large = isinstance(error, RegistryError) and error.status == _TOO_LARGE
            if not is_too_large and not is_transient(error):
                raise
        else:
            if session is None:
                return descriptor
    return (
        yield from upload_stream(
            access,
            _InMemoryBody(data),
            lambda: descriptor,
            descriptor=descriptor,
            session=session,
            strategy=strategy,
        )
    )


class _InMemoryBody:
    replayable_from = 0

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.bytes_read = 0
        self.ended = False

    def retain_from(self, start: int | None) -> None:
        """Do nothing: all bytes are in memory."""

    def blocks(self, start: int) -> tuple[bytes, ...]:
        self.bytes_read, self.ended = len(self.data), True
        return (self.data[start:],)
