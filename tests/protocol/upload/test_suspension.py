"""upload/suspension.py: uploads that are left to a later run, and that an earlier run has left."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.protocol.driver import (
    ACCEPTED,
    BLOB,
    FIRST,
    HEAD,
    POST,
    SECOND,
    advance,
    delete,
    make_access,
    patch,
    play,
    put,
    resume,
)
from tests.protocol.upload.conversation import (
    CREATED,
    CUT,
    GONE,
    LENGTH,
    MISMATCH,
    NEXT,
    THIRD,
    located,
    query,
)
from tests.protocol.upload.journals import BLOCKS, KnownJournal, unread_body

from brolga.errors import NotComputed, RegistryError, SourceError, UploadInterrupted
from brolga.protocol import BodyError, Response, Retry, UploadSession, UploadStrategy, upload_stream
from brolga.protocol.upload.journal import Record
from brolga.spec.descriptor import Descriptor
from brolga.spec.digest import Digest
from brolga.spec.value import replace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from brolga.protocol import Flow
    from brolga.protocol.upload.body import Body

LEFT = Record(UploadSession(FIRST, 1))
CLOSING = Record(UploadSession(FIRST, 4), BLOB)
OTHER_BLOB = Descriptor(BLOB.media_type, Digest.of(b"beer"), 4)
HEAD_OTHER = HEAD.__class__("HEAD", HEAD.url.replace(str(BLOB.digest), str(OTHER_BLOB.digest)))


def upload(
    journal: KnownJournal,
    body: Body | None = None,
    strategy: UploadStrategy | None = None,
    session: UploadSession | None = None,
    attempts: int = 2,
    *,
    on_resume: Callable[[int], object] = lambda _kept: None,
) -> Flow[Descriptor]:
    """Upload the blob with a journal."""
    return upload_stream(
        replace(make_access(retry=Retry(attempts=attempts)), on_resume=on_resume),
        body or unread_body(),
        lambda: BLOB,
        session=session,
        strategy=strategy,
        journal=journal,
    )


# --- Going on


def test_upload_sends_what_the_session_of_an_earlier_run_lacks() -> None:
    """The bytes that it has are read, and not sent; `on_resume` is told how many these are."""
    journal, kept = KnownJournal(LEFT), list[int]()
    play(
        upload(journal, on_resume=kept.append),
        (query(FIRST, 0.0), located("0-1")),
        (patch([b"ob"], THIRD), NEXT),
        (put(), CREATED),
    )
    assert kept == [2]
    assert journal.records == [
        LEFT,
        Record(UploadSession(THIRD, 2)),
        Record(UploadSession(SECOND, 4)),
        Record(UploadSession(SECOND, 4), BLOB),
        Record(None, BLOB),
    ]


def test_upload_asks_again_for_the_session_of_an_earlier_run() -> None:
    """How much was sent is still not known after a query that failed."""
    play(
        upload(KnownJournal(LEFT)),
        (query(FIRST, 0.0), CUT),
        (query(FIRST, 0.5), located("0-1")),
        (patch([b"ob"], THIRD), NEXT),
        (put(), CREATED),
    )


def test_upload_begins_a_session_that_got_nothing() -> None:
    """No byte has to be compared."""
    play(
        upload(KnownJournal(Record(UploadSession(FIRST)), confirmed=0)),
        (query(FIRST, 0.0), located("0-0")),
        (patch(BLOCKS, THIRD), NEXT),
        (put(), CREATED),
    )


@pytest.mark.parametrize(
    ("journal", "answer"),
    [
        (KnownJournal(LEFT, confirmed=1), located("0-1")),
        (KnownJournal(LEFT, differs=True), located("0-1")),
        (KnownJournal(LEFT, confirmed=99), located("0-8")),
        (KnownJournal(LEFT), Response(404)),
    ],
    ids=["not confirmed", "differs", "more than the source has", "gone"],
)
def test_upload_begins_anew_if_the_session_is_of_other_bytes(
    journal: KnownJournal, answer: Response
) -> None:
    """The session is cancelled, and nothing is sent into it."""
    journal.records.clear()
    play(
        upload(journal),
        (query(FIRST, 0.0), answer),
        (delete(FIRST), GONE),
        (POST, ACCEPTED),
        (patch(BLOCKS), NEXT),
        (put(), CREATED),
    )
    assert journal.records[:3] == [LEFT, Record(), Record(UploadSession(FIRST))]


def test_upload_begins_anew_after_a_mismatch_in_the_session_of_an_earlier_run() -> None:
    """The registry's comparison of the digest is the last word."""
    play(
        upload(KnownJournal(LEFT)),
        (query(FIRST, 0.0), located("0-1")),
        (patch([b"ob"], THIRD), NEXT),
        (put(), MISMATCH),
        (delete(SECOND), GONE),
        (POST.__class__("POST", POST.url, body=b"", delay_s=0.5), ACCEPTED),
        (patch(BLOCKS), NEXT),
        (put(), CREATED),
    )


def test_upload_ignores_an_earlier_session_if_the_registry_never_resumes() -> None:
    """Asking could do harm."""
    play(
        upload(KnownJournal(LEFT), strategy=UploadStrategy(resumes=False)),
        (delete(FIRST), GONE),
        (POST, ACCEPTED),
        (patch(BLOCKS), NEXT),
        (put(), CREATED),
    )


def test_upload_goes_on_in_a_given_session_and_records_it() -> None:
    """The caller has chosen it."""
    journal = KnownJournal(LEFT)
    play(
        upload(journal, session=UploadSession(SECOND)),
        (patch(BLOCKS, SECOND), NEXT),
        (put(), CREATED),
    )
    assert journal.records[0] == Record(UploadSession(SECOND))


# --- A blob that may be there


def test_upload_finds_the_blob_of_an_earlier_run() -> None:
    """It is read, to see that it is the same, and not sent."""
    body, journal = unread_body(), KnownJournal(Record(None, BLOB))
    assert play(upload(journal, body), (HEAD, Response(200, LENGTH))) == BLOB
    assert body.ended
    assert journal.records == [Record(None, BLOB)]


def test_upload_cancels_a_session_whose_blob_is_there() -> None:
    """Another upload was first."""
    play(
        upload(KnownJournal(CLOSING)),
        (HEAD, Response(200, LENGTH)),
        (delete(FIRST), GONE),
    )


def test_upload_closes_a_session_that_has_all_bytes() -> None:
    """The PUT was not sent, or did not arrive."""
    play(
        upload(KnownJournal(CLOSING)),
        (HEAD, Response(404)),
        (query(FIRST, 0.0), located("0-3")),
        (put(THIRD), CREATED),
    )


@pytest.mark.parametrize(
    "journal",
    [
        KnownJournal(Record(None, OTHER_BLOB)),
        KnownJournal(Record(None, OTHER_BLOB), differs=True),
    ],
    ids=["at the end", "before"],
)
def test_upload_sends_a_blob_that_differs_from_that_of_an_earlier_run(
    journal: KnownJournal,
) -> None:
    """That one says nothing of this one."""
    play(
        upload(journal),
        (HEAD_OTHER, Response(200, LENGTH)),
        (POST, ACCEPTED),
        (patch(BLOCKS), NEXT),
        (put(), CREATED),
    )


def test_upload_sends_a_blob_that_the_registry_has_lost() -> None:
    """A garbage collection may have deleted it."""
    play(
        upload(KnownJournal(Record(None, BLOB))),
        (HEAD, Response(404)),
        (POST, ACCEPTED),
        (patch(BLOCKS), NEXT),
        (put(), CREATED),
    )


# --- Leaving


@pytest.mark.parametrize(
    "failure", [KeyboardInterrupt(), SystemExit(1)], ids=["KeyboardInterrupt", "SystemExit"]
)
@pytest.mark.parametrize(
    ("response", "left"),
    [(None, UploadSession(FIRST)), (NEXT, UploadSession(SECOND))],
    ids=["lost", "answered"],
)
def test_interrupted_upload_leaves_its_session_at_the_newest_location(
    failure: BaseException, response: Response | None, left: UploadSession
) -> None:
    """docker-registry 2.8 takes no other. Nothing is cancelled."""
    journal = KnownJournal()
    play(
        upload(journal),
        (POST, ACCEPTED),
        (patch(BLOCKS), BodyError(failure, response)),
        error=type(failure),
    )
    assert journal.records[-1] == Record(left)


def test_upload_that_is_cut_too_often_leaves_its_session() -> None:
    """A later run may find the registry back."""
    journal = KnownJournal()
    play(
        upload(journal, attempts=1),
        (POST, ACCEPTED),
        (patch(BLOCKS), CUT),
        error=UploadInterrupted,
    )
    assert journal.records[-1] == Record(UploadSession(FIRST))


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Response(403), RegistryError),
        (BodyError(SourceError("the source failed")), SourceError),
        (BodyError(ValueError("a bug")), ValueError),
    ],
    ids=["refused", "source", "user's code"],
)
def test_upload_that_cannot_succeed_cancels_its_session(
    answer: Response | BodyError, error: type[Exception]
) -> None:
    """A later run would fail in the same way."""
    journal = KnownJournal()
    play(
        upload(journal),
        (POST, ACCEPTED),
        (patch(BLOCKS), answer),
        (delete(FIRST), GONE),
        error=error,
    )
    assert journal.records[-1] == Record()


def test_interrupted_upload_cancels_a_session_that_is_never_resumed() -> None:
    """It is of no use to a later run."""
    journal = KnownJournal()
    play(
        upload(journal, strategy=UploadStrategy(resumes=False)),
        (POST, ACCEPTED),
        (patch(BLOCKS), KeyboardInterrupt()),
        (delete(FIRST), GONE),
        error=KeyboardInterrupt,
    )
    assert journal.records[-1] == Record()


def test_upload_that_opens_no_session_leaves_what_an_earlier_run_recorded() -> None:
    """A run without the registry does not undo the work of others."""
    journal = KnownJournal(Record(None, BLOB))
    play(
        upload(journal),
        (HEAD, Response(404)),
        (POST, Response(403)),
        error=RegistryError,
    )
    assert journal.records == []


def test_closed_flow_leaves_its_session() -> None:
    """The caller makes no further call."""
    journal = KnownJournal()
    flow = upload(journal)
    advance(flow)
    advance(flow, ACCEPTED)
    flow.close()
    assert journal.records[-1] == Record(UploadSession(FIRST))


@pytest.mark.parametrize("error", [SourceError("no"), KeyboardInterrupt()], ids=repr)
def test_error_while_the_sent_bytes_are_read_is_raised(error: BaseException) -> None:
    """A source that fails is not the session's fault, and a later run has the same source."""

    def fail() -> Iterable[bytes]:
        yield b"b"
        raise error

    journal = KnownJournal(LEFT)
    steps = [(query(FIRST, 0.0), located("0-1"))]
    if isinstance(error, SourceError):
        steps.append((delete(FIRST), GONE))
    play(upload(journal, unread_body(fail())), *steps, error=type(error))
    left = isinstance(error, KeyboardInterrupt)
    assert journal.records[-1] == (LEFT if left else Record())


def test_finalize_is_not_called_for_a_body_that_has_not_ended() -> None:
    """The digest of an earlier run may be of fewer bytes."""

    def finalize() -> Descriptor:
        raise NotComputed("not at the end")

    shorter = Descriptor(BLOB.media_type, Digest.of(b"b"), 1)
    flow = upload_stream(
        make_access(), unread_body(), finalize, journal=KnownJournal(Record(None, shorter))
    )
    request = advance(flow)
    assert request.method == "HEAD"
    step = resume(flow, Response(200, {"content-length": "1"}))
    assert step is not None
    flow.close()
