"""upload/flow.py: failures of the source, interrupts, and flows that are closed."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

import pytest
from tests.protocol.driver import (
    ACCEPTED,
    BEARER,
    BLOB,
    FIRST,
    HEAD,
    POST,
    SECOND,
    Answer,
    KnownBody,
    advance,
    delete,
    make_access,
    patch,
    play,
    put,
    upload_known,
)

from brolga.errors import (
    DigestMismatch,
    NotComputed,
    RegistryError,
    SourceError,
    TransportError,
    UploadInterrupted,
)
from brolga.protocol import (
    BodyError,
    Request,
    Response,
    Retry,
    Timeout,
    UploadStrategy,
    upload_stream,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


from tests.protocol.upload.conversation import (
    BODY,
    CREATED,
    CUT,
    LENGTH,
    NEXT,
    OCTETS,
    finalize,
    finalize_too_early,
)

FAILURES = [
    SourceError("the source failed"),
    KeyboardInterrupt(),
    SystemExit(1),
    ValueError("a bug in the source"),
]


@pytest.mark.parametrize("failure", FAILURES, ids=repr)
def test_upload_stream_cancels_and_raises_the_error_of_the_source(
    failure: BaseException,
) -> None:
    """Clients SHOULD send DELETE when aborting a blob upload (Cancel a blob upload)."""
    error = play(
        upload_known(make_access(), BODY, finalize),
        (POST, ACCEPTED),
        (patch(BODY), failure),
        (delete(FIRST), Response(204)),
        error=type(failure),
    )
    assert error is failure


@pytest.mark.parametrize(
    ("response", "session"),
    [
        (None, FIRST),
        (NEXT, SECOND),
        (Response(200, {"location": SECOND}), SECOND),
        (Response(202), FIRST),
        (Response(202, {"location": ""}), FIRST),
        (Response(202, {"location": "http://[::1"}), FIRST),
        (Response(202, {"location": "https://127.0.0.1/u"}), FIRST),
        (Response(307, {"location": "/login"}), FIRST),
        (Response(401, {"location": "/login"} | BEARER), FIRST),
        (Response(500, {"location": "/sorry"}), FIRST),
    ],
)
@pytest.mark.parametrize("failure", FAILURES, ids=repr)
def test_upload_stream_cancels_at_the_location_of_the_interrupted_patch(
    failure: BaseException, response: Response | None, session: str
) -> None:
    """Cancel at the Location of the preceding PATCH: docker-registry 2.8 takes no other.

    The Location of an error or a redirect is ignored.
    """
    error = play(
        upload_known(make_access(), BODY, finalize),
        (POST, ACCEPTED),
        (patch(BODY), BodyError(failure, response)),
        (delete(session), Response(204)),
        error=type(failure),
    )
    assert error is failure
    # Neither the driver's words for it, nor what happened meanwhile, are part of the story.
    assert (error.__cause__, error.__context__) == (None, None)


def test_upload_stream_cancels_at_the_location_of_the_interrupted_chunk() -> None:
    """The driver waits for the answer of a chunk as for the one of a stream."""
    failure = KeyboardInterrupt()
    headers = {"Content-Type": "application/octet-stream", "Content-Range": "0-2"}
    error = play(
        upload_stream(
            make_access(), KnownBody(BODY), finalize, strategy=UploadStrategy(chunk_size=3)
        ),
        (POST, ACCEPTED),
        (Request("PATCH", FIRST, headers, b"blo", Timeout.LONG), BodyError(failure, NEXT)),
        (delete(SECOND), Response(204)),
        error=KeyboardInterrupt,
    )
    assert error is failure


@pytest.mark.parametrize(
    "failure",
    [
        TransportError("the other registry is gone", reason="cut"),
        RegistryError("no", method="GET", url="", status=500),
        DigestMismatch("other bytes", expected="", actual=""),
        UploadInterrupted("another upload", sent=0, acknowledged=0),
        SourceError("gone"),
        KeyboardInterrupt(),
    ],
    ids=repr,
)
def test_upload_stream_raises_the_error_of_the_source_between_chunks(
    failure: BaseException,
) -> None:
    """Its bytes end there: nothing more is sent, nothing is committed, and the error is its own."""

    def source() -> Iterator[bytes]:
        yield b"blo"
        raise failure

    error = play(
        upload_stream(
            make_access(retry=Retry(attempts=3)),
            KnownBody(source()),
            finalize,
            descriptor=BLOB,
            strategy=UploadStrategy(chunk_size=2),
        ),
        (POST, ACCEPTED),
        (Request("PATCH", FIRST, {**OCTETS, "Content-Range": "0-1"}, b"bl", Timeout.LONG), NEXT),
        (delete(SECOND), Response(204)),
        error=type(failure),
    )
    assert error is failure
    assert (error.__cause__, error.__context__) == (None, None)


class _Block(bytearray):
    """A block to which a weak reference is possible."""


def test_upload_stream_releases_a_chunk_before_it_gathers_the_next() -> None:
    """There is memory for one chunk, not for two."""
    seen: list[bool] = []

    def source() -> Iterator[bytes]:
        first = _Block(b"bl")
        alive = weakref.ref(first)
        yield memoryview(first)  # type: ignore[misc]
        del first
        yield b"o"  # this one tells that the first chunk is whole
        seen.append(alive() is not None)
        yield b"b"

    flow = upload_stream(
        make_access(), KnownBody(source()), finalize, strategy=UploadStrategy(chunk_size=2)
    )
    advance(flow)
    advance(flow, ACCEPTED)
    assert not seen
    advance(flow, NEXT)
    assert seen == [False]
    flow.close()


def test_upload_stream_raises_the_transport_error_of_the_source() -> None:
    """A body may come from another registry: its failure is that side's."""
    failure = TransportError("the other registry is gone", reason="cut")
    error = play(
        upload_known(make_access(retry=Retry(attempts=3)), BODY, finalize),
        (POST, ACCEPTED),
        (patch(BODY), BodyError(failure)),
        (delete(FIRST), Response(204)),
        error=TransportError,
    )
    assert error is failure


@pytest.mark.parametrize(
    "refusal",
    [
        Response(404),
        Response(405),
        Response(500, body=b"<html>"),
        Response(401),
        CUT,
        OSError("the driver's own"),
    ],
    ids=repr,
)
def test_upload_stream_ignores_a_failed_cancel(refusal: Answer) -> None:
    """Clients SHOULD ignore any failures (Cancel a blob upload)."""
    failure = SourceError("the source failed")
    error = play(
        upload_known(make_access(), BODY, finalize),
        (POST, ACCEPTED),
        (patch(BODY), failure),
        (delete(FIRST), refusal),
        error=SourceError,
    )
    assert error is failure


def test_upload_stream_raises_an_interrupt_during_cancel() -> None:
    """A second Ctrl-C means now: no clean-up holds it up."""
    play(
        upload_known(make_access(), BODY, finalize),
        (POST, ACCEPTED),
        (patch(BODY), CUT),
        (delete(FIRST), KeyboardInterrupt()),
        error=KeyboardInterrupt,
    )


def test_upload_stream_cancels_the_session_if_put_is_interrupted() -> None:
    """The Location of a PUT's answer is the blob, which a DELETE would remove."""
    failure = KeyboardInterrupt()
    error = play(
        upload_known(make_access(), BODY, finalize),
        (POST, ACCEPTED),
        (patch(BODY), NEXT),
        (put(), BodyError(failure, CREATED)),
        (delete(SECOND), Response(404)),
        error=KeyboardInterrupt,
    )
    assert error is failure


def test_upload_stream_raises_an_interrupt_while_it_cancels_a_committed_session() -> None:
    """A second Ctrl-C means now, whether the blob is there or not."""
    play(
        upload_known(make_access(), BODY, finalize),
        (POST, ACCEPTED),
        (patch(BODY), NEXT),
        (put(), CUT),
        (HEAD, Response(200, LENGTH)),
        (delete(SECOND), KeyboardInterrupt()),
        error=KeyboardInterrupt,
    )


@pytest.mark.parametrize("answered", [0, 1, 2])
def test_upload_stream_sends_nothing_after_close(answered: int) -> None:
    """A closed generator must not yield (PEP 342): no driver would send the request."""
    flow = upload_known(make_access(), BODY, finalize)
    advance(flow)
    for response in (ACCEPTED, NEXT)[:answered]:
        advance(flow, response)
    flow.close()  # RuntimeError "generator ignored GeneratorExit" if it made a call


def test_upload_stream_sends_nothing_after_close_during_cancel() -> None:
    """A generator that is closed must not yield (PEP 342)."""
    flow = upload_known(make_access(), BODY, finalize)
    advance(flow)
    advance(flow, ACCEPTED)
    assert advance(flow, CUT) == delete(FIRST)
    flow.close()


def test_upload_stream_sends_no_put_if_finalize_raises() -> None:
    """The closing PUT MUST include the digest of the whole blob: half a stream has no digest."""
    play(
        upload_known(make_access(), BODY, finalize_too_early),
        (POST, ACCEPTED),
        (patch(BODY), NEXT),
        (delete(SECOND), Response(204)),
        error=NotComputed,
    )
