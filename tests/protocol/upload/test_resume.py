"""upload/flow.py: the same session, or a new one."""

from __future__ import annotations

import pytest
from tests.protocol.driver import (
    ACCEPTED,
    BEARER,
    BLOB,
    FIRST,
    POST,
    SECOND,
    Answer,
    KnownBody,
    Step,
    delete,
    patch,
    play,
    put,
    token_request,
    with_authorization,
    with_delay,
)
from tests.protocol.upload.conversation import (
    BODY,
    CREATED,
    CUT,
    GONE,
    MISMATCH,
    NEXT,
    NOT_THERE,
    THIRD,
    chunk,
    located,
    query,
    restart,
    upload,
)

from brolga.errors import (
    BrolgaError,
    Denied,
    DigestMismatch,
    NotFound,
    ProtocolViolation,
    RegistryError,
    StreamNotReplayable,
    TransportError,
    Unauthorized,
    UploadInterrupted,
)
from brolga.protocol import (
    Response,
    UploadStrategy,
)

# --- The same session


@pytest.mark.parametrize("status", [200, 202, 204])
@pytest.mark.parametrize("end", ["0-1", "bytes=0-1"])
def test_upload_resumes_at_the_offset_after_a_cut_patch(end: str, status: int) -> None:
    """GET of the session returns its Range (Pushing a blob in chunks, end-13)."""
    assert (
        play(
            upload(),
            (POST, ACCEPTED),
            (patch(BODY), CUT),
            (query(FIRST), located(end, status=status)),
            (patch([b"ob"], THIRD), NEXT),
            (put(), CREATED),
        )
        is BLOB
    )


@pytest.mark.parametrize("end", ["0-0", "0--1", "bytes=0--1"])
def test_upload_sends_all_bytes_if_the_range_is_empty(end: str) -> None:
    """In distribution 2.8 it is 0-0 for nothing as for one byte, Quay `bytes=0--1`."""
    play(
        upload(),
        (POST, ACCEPTED),
        (patch(BODY), CUT),
        (query(FIRST), located(end)),
        (patch(BODY, THIRD), NEXT),
        (put(), CREATED),
    )


def test_upload_sends_no_patch_if_the_range_is_complete() -> None:
    """The answer alone was lost: a PATCH sent again would be appended (jib#4526)."""
    play(
        upload(),
        (POST, ACCEPTED),
        (patch(BODY), CUT),
        (query(FIRST), located("0-3")),
        (put(THIRD), CREATED),
    )


def test_upload_keeps_the_url_if_the_status_has_no_location() -> None:
    """Quay's answer to the question has no Location."""
    play(
        upload(),
        (POST, ACCEPTED),
        (patch(BODY), CUT),
        (query(FIRST), Response(204, {"range": "0-3"})),
        (put(FIRST), CREATED),
    )


@pytest.mark.parametrize("answer", [Response(429), Response(503)])
def test_upload_repeats_put_after_429_or_503(answer: Response) -> None:
    """A whole stream is not thrown away for a moment's refusal."""
    play(
        upload(),
        (POST, ACCEPTED),
        (patch(BODY), NEXT),
        (put(), answer),
        (query(SECOND), located("0-0")),  # ECR's Range stands still: what a 2xx acknowledged counts
        (put(THIRD), CREATED),
    )


def test_upload_resumes_after_an_early_success_of_patch() -> None:
    """An answer before the end of the stream cannot have seen all of it."""
    early = Response(202, {"location": SECOND}, sent=2, complete=False)
    play(
        upload(),
        (POST, ACCEPTED),
        (patch(BODY), early),
        (query(FIRST), located("0-1")),
        (patch([b"ob"], THIRD), NEXT),
        (put(), CREATED),
    )


def test_upload_renews_token_by_the_query_after_401_to_patch() -> None:
    """The query is not a stream: its 401 is answered, and the rest is sent with the new token."""
    bearer = "Bearer t1"
    play(
        upload(),
        (POST, ACCEPTED),
        (patch(BODY), Response(401, BEARER, complete=False)),
        (query(FIRST), Response(401, BEARER)),
        (token_request(), Response(200, body=b'{"token": "t1"}')),
        (with_authorization(query(FIRST, 0.0), bearer), located("0-1")),
        (with_authorization(patch([b"ob"], THIRD), bearer), NEXT),
        (with_authorization(put(), bearer), CREATED),
    )


def test_upload_raises_unauthorized_after_repeated_401_to_patch() -> None:
    """A renewal each time, and no endless loop."""
    refused = Response(401, BEARER)
    play(
        upload(attempts=3),
        (POST, ACCEPTED),
        (patch(BODY), refused),
        (query(FIRST), located("0-0", FIRST)),
        (patch(BODY), refused),
        (query(FIRST, 1.5), located("0-0", FIRST)),
        (patch(BODY), refused),
        (delete(FIRST), GONE),
        error=Unauthorized,
    )


# --- A new session


@pytest.mark.parametrize(
    "answer",
    [
        Response(404),
        Response(400),
        Response(403),
        Response(301),
        Response(204),
        located(""),
        located("0-4"),
        located("0-99999999999999999999"),
        located("1-3"),
        located("nonsense"),
        located("0-1", "http://registry.example/u"),
        located("0-1", "https://127.0.0.1/u"),
        TransportError("no", reason="certificate"),
    ],
)
def test_upload_restarts_if_the_query_gives_no_valid_offset(answer: Answer) -> None:
    """Nothing ambiguous is trusted: a new session from the first byte, without another delay."""
    play(
        upload(),
        (POST, ACCEPTED),
        (patch(BODY), CUT),
        (query(FIRST), answer),
        (delete(FIRST), GONE),
        *restart(0.0),
    )


def test_upload_resumes_at_acknowledged_bytes_if_the_range_is_behind() -> None:
    """ECR's Range stays at the first chunk (aws/containers-roadmap#2831)."""
    play(
        upload(strategy=UploadStrategy(chunk_size=2)),
        (POST, ACCEPTED),
        (chunk(FIRST, 0, b"bl"), Response(202, {"location": SECOND})),
        (chunk(SECOND, 2, b"ob"), CUT),
        (query(SECOND), located("0-0")),
        (chunk(THIRD, 2, b"ob"), Response(201, {"location": SECOND})),
        (put(), CREATED),
    )


def test_upload_restarts_without_a_query_if_the_strategy_never_resumes() -> None:
    """A PATCH that was cut ends its session in zot; ACR cannot resume."""
    strategy = UploadStrategy(resumes=False)
    play(
        upload(strategy=strategy),
        (POST, ACCEPTED),
        (patch(BODY), CUT),
        (delete(FIRST), GONE),
        *restart(),
    )


@pytest.mark.parametrize(
    "answer",
    [
        Response(404),
        Response(416),
        Response(400, body=b'{"errors": [{"code": "BLOB_UPLOAD_UNKNOWN"}]}'),
        Response(400, body=b'{"errors": [{"code": "BLOB_UPLOAD_INVALID"}]}'),
        Response(400, body=b'{"errors": [{"code": "RANGE_INVALID"}]}'),
        Response(400, body=b'{"errors": [{"code": "SIZE_INVALID"}]}'),
    ],
)
def test_upload_restarts_without_a_query_if_the_session_is_lost(answer: Response) -> None:
    """docker-registry 2.8 cancels a session that it is asked for at a stale Location."""
    play(upload(), (POST, ACCEPTED), (patch(BODY), answer), (delete(FIRST), GONE), *restart())


def test_upload_repeats_post_after_a_cut() -> None:
    """No byte was sent: nothing is lost but a session without a known URL."""
    play(upload(), (POST, CUT), *restart())


@pytest.mark.parametrize(
    ("status", "kind"), [(401, Unauthorized), (403, Denied), (404, NotFound), (413, RegistryError)]
)
def test_upload_raises_the_error_of_a_refused_post(status: int, kind: type[BrolgaError]) -> None:
    """A repository that is not there does not appear by asking again."""
    play(upload(), (POST, Response(status)), error=kind)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (Response(403), Denied),
        (Response(400), RegistryError),
        (Response(307), ProtocolViolation),
        (TransportError("no", reason="certificate"), UploadInterrupted),
    ],
)
def test_upload_raises_a_permanent_error_of_patch(answer: Answer, kind: type[BrolgaError]) -> None:
    """The same request gets the same answer."""
    play(upload(), (POST, ACCEPTED), (patch(BODY), answer), (delete(FIRST), GONE), error=kind)


def test_upload_restarts_after_a_mismatch_in_a_resumed_session() -> None:
    """An offset was wrong: the registry's comparison of the digest finds it."""
    play(
        upload(),
        (POST, ACCEPTED),
        (patch(BODY), CUT),
        (query(FIRST), located("0-1")),
        (patch([b"ob"], THIRD), NEXT),
        (put(), MISMATCH),
        (delete(SECOND), GONE),
        *restart(),
    )


def test_upload_raises_a_mismatch_in_a_session_without_resume() -> None:
    """No offset can be wrong there: something changes the bytes on the way."""
    steps: list[Step] = [(POST, ACCEPTED), (patch(BODY), NEXT), (put(), MISMATCH)]
    play(upload(), *steps, (delete(SECOND), GONE), error=DigestMismatch)


def test_upload_raises_the_last_failure_after_all_attempts() -> None:
    """Setbacks without a byte more are counted over sessions."""
    last = TransportError("the last one", reason="cut", sent=1)
    error = play(
        upload(strategy=UploadStrategy(resumes=False)),
        (POST, ACCEPTED),
        (patch(BODY), CUT),
        (delete(FIRST), GONE),
        (with_delay(POST, 0.5), ACCEPTED),
        (patch(BODY), CUT),
        (delete(FIRST), GONE),
        (with_delay(POST, 1.5), ACCEPTED),
        (patch(BODY), last),
        (delete(FIRST), GONE),
        error=UploadInterrupted,
        match="after 1 bytes",
    )
    assert error.__cause__ is last


def test_upload_waits_for_retry_after_within_the_limit() -> None:
    """Retry-After, before the question; one that is too long is the refusal itself."""
    steps: list[Step] = [(POST, ACCEPTED), (patch(BODY), Response(429, {"retry-after": "9"}))]
    play(upload(), *steps, (query(FIRST, 9.0), located("0-3")), (put(THIRD), CREATED))
    steps = [(POST, ACCEPTED), (patch(BODY), Response(429, {"retry-after": "99"}))]
    play(upload(), *steps, (delete(FIRST), GONE), error=RegistryError, match="429")


# --- Bytes that are gone


def test_upload_raises_not_replayable_if_bytes_after_the_offset_are_gone() -> None:
    """Nothing half-read can be committed: the session is cancelled."""
    error = play(
        upload(KnownBody(BODY, replayable_from=3)),
        (POST, ACCEPTED),
        (patch(BODY), CUT),
        (query(FIRST), located("0-1")),
        (delete(THIRD), GONE),
        error=StreamNotReplayable,
        match="has 2 of the 4 bytes sent, and only the last 1 are kept",
    )
    assert (error.sent, error.acknowledged, error.kept) == (4, 2, 1)
    assert isinstance(error.__cause__, UploadInterrupted)


def test_upload_opens_no_session_if_the_first_bytes_are_gone() -> None:
    """A new session would begin with the first byte."""
    play(
        upload(KnownBody(BODY, replayable_from=1)),
        (POST, ACCEPTED),
        (patch(BODY), CUT),
        (query(FIRST), Response(404)),
        (delete(FIRST), GONE),
        error=StreamNotReplayable,
    )


def test_upload_resumes_if_the_offset_is_in_the_window() -> None:
    """The window begins at the offset of the registry: exactly enough."""
    play(
        upload(KnownBody(BODY, replayable_from=2)),
        (POST, ACCEPTED),
        (patch(BODY), CUT),
        (query(FIRST), located("0-1")),
        (patch([b"ob"], THIRD), NEXT),
        (put(), CREATED),
    )


# --- Queries that fail


@pytest.mark.parametrize("answer", [TransportError("no", reason="connect"), Response(503)])
def test_upload_repeats_the_query_after_a_transient_failure(answer: Answer) -> None:
    """A registry that restarts has its sessions still: the bytes need not all be here."""
    body = KnownBody(BODY, replayable_from=2)
    play(
        upload(body, attempts=2),
        (POST, ACCEPTED),
        (patch(BODY), Response(429)),
        (query(FIRST), answer),
        (with_delay(query(FIRST), 0.5), answer),
        (delete(FIRST), GONE),
        error=RegistryError,
        match="429",
    )
    play(
        upload(body),
        (POST, ACCEPTED),
        (patch(BODY), CUT),
        (query(FIRST), answer),
        (query(FIRST), answer),
        (with_delay(query(FIRST), 1.5), answer),
        (with_delay(query(FIRST), 1.5), located("0-1")),
        (patch([b"ob"], THIRD), NEXT),
        (put(), CREATED),
    )


def test_upload_restarts_after_three_failed_queries_if_replayable() -> None:
    """A registry may take uploads and have no answer to the question."""
    play(
        upload(attempts=5),
        (POST, ACCEPTED),
        (patch(BODY), CUT),
        *[
            (query(FIRST, delay), Response(500))
            for first in (0.5, 1.5, 4.5)
            for delay in (first, 0.5, 1.5, 4.5, 13.5)
        ],
        (delete(FIRST), GONE),
        *restart(13.5),
    )


def test_upload_sends_three_heads_after_a_lost_put() -> None:
    """Three times: then the session is queried, which shows whether the commit is under way."""
    play(
        upload(attempts=9),
        (POST, ACCEPTED),
        (patch(BODY), NEXT),
        (put(), CUT),
        *NOT_THERE,
        (query(SECOND), located("0-3")),
        (put(THIRD), CREATED),
    )


def test_upload_raises_the_first_failure_if_the_query_fails() -> None:
    """The question's own failure is not what the user has to look at."""
    answer = TransportError("refused", reason="connect")
    error = play(
        upload(attempts=2),
        (POST, ACCEPTED),
        (patch(BODY), CUT),
        (query(FIRST), answer),
        (query(FIRST), answer),
        (delete(FIRST), GONE),
        error=UploadInterrupted,
    )
    assert error.__cause__ is CUT
