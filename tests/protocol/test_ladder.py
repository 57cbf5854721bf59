"""wire/upload.py, wire/session.py: what is done when an upload fails, step by step."""

from __future__ import annotations

import gc
import weakref
from typing import TYPE_CHECKING

import pytest
from tests.protocol.scripted import (
    ACCEPTED,
    BEARER,
    BLOB,
    FIRST,
    HEAD,
    HOME,
    POST,
    QUERY,
    REALM,
    REPOSITORY,
    SECOND,
    UPLOADS,
    Answer,
    Known,
    Step,
    access,
    authorized,
    delete,
    drive,
    later,
    patch,
    play,
    put,
    token_call,
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
    Flow,
    RegistrySession,
    Request,
    Response,
    Retry,
    Timeout,
    UploadStrategy,
    upload_bytes,
    upload_stream,
)

if TYPE_CHECKING:
    from brolga.spec.descriptor import Descriptor

BODY = [b"bl", b"", b"ob"]
NEXT = Response(202, {"location": SECOND}, sent=4)
CREATED = Response(201)
CUT = TransportError("the connection was cut", reason="cut", sent=3)
GONE = Response(204)
THIRD = f"{UPLOADS}one?_state=c"
NOT_THERE: tuple[Step, ...] = (
    (HEAD, Response(404)),
    (later(HEAD, 0.5), Response(404)),
    (later(HEAD, 1.5), Response(404)),
)
MISMATCH = Response(400, body=b'{"errors": [{"code": "DIGEST_INVALID"}]}')


def upload(
    body: Known | None = None, style: UploadStrategy | None = None, attempts: int = 3
) -> Flow[Descriptor]:
    """Upload BODY, with second tries."""
    way = access(retry=Retry(attempts=attempts))
    return upload_stream(way, body or Known(BODY), lambda: BLOB, style=style or UploadStrategy())


def asked(session: str, pause: float = 0.5) -> Request:
    """Return the call that asks how far a session came."""
    return Request("GET", session, delay_s=pause)


def has(end: str, location: str = THIRD, status: int = 204) -> Response:
    """Return the answer that tells how far a session came."""
    return Response(status, {"range": end, "location": location})


def chunk(session: str, start: int, data: bytes) -> Request:
    """Return the PATCH of one chunk."""
    said = f"{start}-{start + len(data) - 1}"
    headers = {"Content-Type": "application/octet-stream", "Content-Range": said}
    return Request("PATCH", session, headers, data, Timeout.LONG)


def again(pause: float = 0.5) -> tuple[Step, Step, Step]:
    """Return the steps of an upload from the beginning, which ends well."""
    return (later(POST, pause), ACCEPTED), (patch(BODY), NEXT), (put(), CREATED)


# --- The same session


@pytest.mark.parametrize("status", [200, 202, 204])
@pytest.mark.parametrize("end", ["0-1", "bytes=0-1"])
def test_a_cut_stream_goes_on_where_the_registry_is(end: str, status: int) -> None:
    """GET of the session tells the Range that is there (Pushing a blob in chunks, end-13)."""
    assert (
        play(
            upload(),
            (POST, ACCEPTED),
            (patch(BODY), CUT),
            (asked(FIRST), has(end, status=status)),
            (patch([b"ob"], THIRD), NEXT),
            (put(), CREATED),
        )
        is BLOB
    )


@pytest.mark.parametrize("end", ["0-0", "0--1", "bytes=0--1"])
def test_a_registry_that_has_nothing_gets_it_all(end: str) -> None:
    """In distribution 2.8 it is 0-0 for nothing as for one byte, Quay `bytes=0--1`."""
    play(
        upload(),
        (POST, ACCEPTED),
        (patch(BODY), CUT),
        (asked(FIRST), has(end)),
        (patch(BODY, THIRD), NEXT),
        (put(), CREATED),
    )


def test_a_registry_that_has_it_all_gets_no_more() -> None:
    """The answer alone was lost: a PATCH sent again would be appended (jib#4526)."""
    play(
        upload(),
        (POST, ACCEPTED),
        (patch(BODY), CUT),
        (asked(FIRST), has("0-3")),
        (put(THIRD), CREATED),
    )


def test_a_session_that_does_not_say_where_it_is_stays_there() -> None:
    """Quay's answer to the question has no Location."""
    play(
        upload(),
        (POST, ACCEPTED),
        (patch(BODY), CUT),
        (asked(FIRST), Response(204, {"range": "0-3"})),
        (put(FIRST), CREATED),
    )


@pytest.mark.parametrize("answer", [Response(429), Response(503)])
def test_a_closing_that_was_refused_is_tried_again(answer: Response) -> None:
    """A whole stream is not thrown away for a moment's refusal."""
    play(
        upload(),
        (POST, ACCEPTED),
        (patch(BODY), NEXT),
        (put(), answer),
        (asked(SECOND), has("0-0")),  # ECR's Range stands still: what a 2xx acknowledged counts
        (put(THIRD), CREATED),
    )


def test_an_early_success_is_asked_for_the_rest() -> None:
    """An answer before the end of the stream cannot have seen all of it."""
    early = Response(202, {"location": SECOND}, sent=2, complete=False)
    play(
        upload(),
        (POST, ACCEPTED),
        (patch(BODY), early),
        (asked(FIRST), has("0-1")),
        (patch([b"ob"], THIRD), NEXT),
        (put(), CREATED),
    )


def test_a_token_that_died_in_the_stream_is_renewed_by_the_question() -> None:
    """The question is no stream: its 401 is answered, and the rest goes out with the new token."""
    bearer = "Bearer t1"
    play(
        upload(),
        (POST, ACCEPTED),
        (patch(BODY), Response(401, BEARER, complete=False)),
        (asked(FIRST), Response(401, BEARER)),
        (token_call(), Response(200, body=b'{"token": "t1"}')),
        (authorized(asked(FIRST, 0.0), bearer), has("0-1")),
        (authorized(patch([b"ob"], THIRD), bearer), NEXT),
        (authorized(put(), bearer), CREATED),
    )


def test_a_stream_that_is_refused_again_and_again_is_unauthorized() -> None:
    """A renewal each time, and no endless loop."""
    refused = Response(401, BEARER)
    play(
        upload(attempts=3),
        (POST, ACCEPTED),
        (patch(BODY), refused),
        (asked(FIRST), has("0-0", FIRST)),
        (patch(BODY), refused),
        (asked(FIRST, 1.5), has("0-0", FIRST)),
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
        has(""),
        has("0-4"),
        has("0-99999999999999999999"),
        has("1-3"),
        has("nonsense"),
        has("0-1", "http://registry.example/u"),
        has("0-1", "https://127.0.0.1/u"),
        TransportError("no", reason="certificate"),
    ],
)
def test_an_offset_that_is_not_known_is_not_written_to(answer: Answer) -> None:
    """Nothing ambiguous is trusted: a new session from the first byte, without another pause."""
    play(
        upload(),
        (POST, ACCEPTED),
        (patch(BODY), CUT),
        (asked(FIRST), answer),
        (delete(FIRST), GONE),
        *again(0.0),
    )


def test_an_offset_behind_what_was_acknowledged_counts_as_that() -> None:
    """ECR's Range stays at the first chunk (aws/containers-roadmap#2831)."""
    play(
        upload(style=UploadStrategy(chunk=2)),
        (POST, ACCEPTED),
        (chunk(FIRST, 0, b"bl"), Response(202, {"location": SECOND})),
        (chunk(SECOND, 2, b"ob"), CUT),
        (asked(SECOND), has("0-0")),
        (chunk(THIRD, 2, b"ob"), Response(201, {"location": SECOND})),
        (put(), CREATED),
    )


def test_a_session_that_is_not_worth_asking_is_not_asked() -> None:
    """A PATCH that was cut ends its session in zot; ACR cannot resume."""
    style = UploadStrategy(resumes=False)
    play(
        upload(style=style),
        (POST, ACCEPTED),
        (patch(BODY), CUT),
        (delete(FIRST), GONE),
        *again(),
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
def test_a_session_that_is_lost_is_not_asked(answer: Response) -> None:
    """docker-registry 2.8 cancels a session that it is asked for at a stale Location."""
    play(upload(), (POST, ACCEPTED), (patch(BODY), answer), (delete(FIRST), GONE), *again())


def test_a_post_without_an_answer_is_made_again() -> None:
    """No byte went out: nothing is lost but a session that nobody knows."""
    play(upload(), (POST, CUT), *again())


@pytest.mark.parametrize(
    ("status", "kind"), [(401, Unauthorized), (403, Denied), (404, NotFound), (413, RegistryError)]
)
def test_a_post_that_is_refused_is_told(status: int, kind: type[BrolgaError]) -> None:
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
def test_what_does_not_pass_is_told(answer: Answer, kind: type[BrolgaError]) -> None:
    """The same request gets the same answer."""
    play(upload(), (POST, ACCEPTED), (patch(BODY), answer), (delete(FIRST), GONE), error=kind)


def test_other_bytes_in_a_session_that_went_on_are_sent_anew() -> None:
    """An offset was wrong: the registry's comparison of the digest finds it."""
    play(
        upload(),
        (POST, ACCEPTED),
        (patch(BODY), CUT),
        (asked(FIRST), has("0-1")),
        (patch([b"ob"], THIRD), NEXT),
        (put(), MISMATCH),
        (delete(SECOND), GONE),
        *again(),
    )


def test_other_bytes_in_one_session_are_a_mismatch() -> None:
    """No offset can be wrong there: something changes the bytes on the way."""
    steps: list[Step] = [(POST, ACCEPTED), (patch(BODY), NEXT), (put(), MISMATCH)]
    play(upload(), *steps, (delete(SECOND), GONE), error=DigestMismatch)


def test_attempts_are_bounded_and_the_last_failure_is_told() -> None:
    """Setbacks without a byte more are counted over sessions."""
    last = TransportError("the last one", reason="cut", sent=1)
    error = play(
        upload(style=UploadStrategy(resumes=False)),
        (POST, ACCEPTED),
        (patch(BODY), CUT),
        (delete(FIRST), GONE),
        (later(POST, 0.5), ACCEPTED),
        (patch(BODY), CUT),
        (delete(FIRST), GONE),
        (later(POST, 1.5), ACCEPTED),
        (patch(BODY), last),
        (delete(FIRST), GONE),
        error=UploadInterrupted,
        match="after 1 bytes",
    )
    assert error.__cause__ is last


def test_the_registrys_wish_to_wait_is_honoured() -> None:
    """Retry-After, before the question; one that is too long is the refusal itself."""
    steps: list[Step] = [(POST, ACCEPTED), (patch(BODY), Response(429, {"retry-after": "9"}))]
    play(upload(), *steps, (asked(FIRST, 9.0), has("0-3")), (put(THIRD), CREATED))
    steps = [(POST, ACCEPTED), (patch(BODY), Response(429, {"retry-after": "99"}))]
    play(upload(), *steps, (delete(FIRST), GONE), error=RegistryError, match="429")


# --- Bytes that are gone


def test_bytes_that_are_gone_cannot_go_out_again() -> None:
    """Nothing half-read can be committed: the session is given up, and its cause is told."""
    error = play(
        upload(Known(BODY, replayable_from=3)),
        (POST, ACCEPTED),
        (patch(BODY), CUT),
        (asked(FIRST), has("0-1")),
        (delete(THIRD), GONE),
        error=StreamNotReplayable,
        match="has 2 of the 4 bytes sent, and only the last 1 are kept",
    )
    assert (error.sent, error.acknowledged, error.kept) == (4, 2, 1)
    assert isinstance(error.__cause__, UploadInterrupted)


def test_bytes_that_are_gone_need_no_new_session() -> None:
    """A new session would begin with the first byte."""
    play(
        upload(Known(BODY, replayable_from=1)),
        (POST, ACCEPTED),
        (patch(BODY), CUT),
        (asked(FIRST), Response(404)),
        (delete(FIRST), GONE),
        error=StreamNotReplayable,
    )


def test_the_window_is_enough_where_the_registry_is_in_it() -> None:
    """What is kept begins where the registry is: exactly enough."""
    play(
        upload(Known(BODY, replayable_from=2)),
        (POST, ACCEPTED),
        (patch(BODY), CUT),
        (asked(FIRST), has("0-1")),
        (patch([b"ob"], THIRD), NEXT),
        (put(), CREATED),
    )


# --- Smaller requests


def test_a_request_that_is_too_large_is_made_in_chunks() -> None:
    """413, and no header tells a maximum (distribution-spec#485): smaller ones, from the start."""
    play(
        upload(style=UploadStrategy(smaller=3, smallest=1)),
        (POST, ACCEPTED),
        (patch(BODY), Response(413, complete=False)),
        (delete(FIRST), GONE),
        (POST, ACCEPTED),
        (chunk(FIRST, 0, b"blo"), Response(202, {"location": SECOND})),
        (chunk(SECOND, 3, b"b"), Response(202, {"location": SECOND})),
        (put(), CREATED),
    )


@pytest.mark.parametrize("status", [411, 501])
def test_a_proxy_without_chunked_coding_gets_requests_of_known_length(status: int) -> None:
    """411 Length Required (RFC 9110, 15.5.12); 501 for a coding that it does not understand.

    "A server that receives a request message with a transfer coding it does not understand SHOULD
    respond with 501" (RFC 9112, section 6.1).
    """
    play(
        upload(style=UploadStrategy(smaller=3, smallest=1)),
        (POST, ACCEPTED),
        (patch(BODY), Response(status, complete=False)),
        (delete(FIRST), GONE),
        (POST, ACCEPTED),
        (chunk(FIRST, 0, b"blo"), Response(202, {"location": SECOND})),
        (chunk(SECOND, 3, b"b"), Response(202, {"location": SECOND})),
        (put(), CREATED),
    )


@pytest.mark.parametrize("status", [411, 501])
def test_a_chunk_that_is_refused_for_its_coding_is_told(status: int) -> None:
    """It has a Content-Length: there is no other way to send it."""
    steps: list[Step] = [(POST, ACCEPTED), (chunk(FIRST, 0, b"blob"), Response(status))]
    refused = delete(FIRST), GONE
    play(
        upload(style=UploadStrategy(chunk=8)),
        *steps,
        refused,
        error=RegistryError,
        match=str(status),
    )


@pytest.mark.parametrize("style", [UploadStrategy(smaller=0), UploadStrategy(chunk=1 << 20)])
def test_where_nothing_is_smaller_it_is_told(style: UploadStrategy) -> None:
    """GAR takes no chunks; and there is a smallest one."""
    first = chunk(FIRST, 0, b"blob") if style.chunk else patch(BODY)
    steps: list[Step] = [(POST, ACCEPTED), (first, Response(413)), (delete(FIRST), GONE)]
    play(upload(style=style), *steps, error=RegistryError, match="413")


def test_chunks_are_halved_to_a_bound() -> None:
    """Halve and begin again: 32, 16, 8, 4, 2, 1 MiB."""
    style, sizes = UploadStrategy(), []
    while style.can_shrink:
        style = style.chunked()
        sizes.append(style.chunk >> 20)
    assert sizes == [32, 16, 8, 4, 2, 1]
    assert UploadStrategy(chunk=(1 << 20) + 1).chunked().chunk == 1 << 20


def test_the_last_chunk_may_go_with_the_put() -> None:
    """ECR wants the last chunk in the PUT, with its place."""
    headers = {"Content-Type": "application/octet-stream", "Content-Range": "2-3"}
    closing = Request("PUT", f"{SECOND}&{QUERY}", headers, b"ob", Timeout.LONG)
    play(
        upload(style=UploadStrategy(chunk=2, final_chunk_in_put=True)),
        (POST, ACCEPTED),
        (chunk(FIRST, 0, b"bl"), Response(201, {"location": SECOND, "range": "0-1"})),
        (closing, CREATED),
    )


def test_a_stream_that_goes_on_has_its_last_bytes_in_the_put_there() -> None:
    """ECR: after several PATCHes the last chunk must ride in the PUT."""
    headers = {"Content-Type": "application/octet-stream", "Content-Range": "3-3"}
    play(
        upload(style=UploadStrategy(smaller=1, final_chunk_in_put=True)),
        (POST, ACCEPTED),
        (patch(BODY), CUT),
        (asked(FIRST), has("0-1", SECOND)),
        (chunk(SECOND, 2, b"o"), Response(201, {"location": THIRD})),
        (Request("PUT", f"{THIRD}&{QUERY}", headers, b"b", Timeout.LONG), CREATED),
    )


def test_a_last_chunk_that_was_lost_goes_out_again() -> None:
    """What goes with the PUT is acknowledged by the blob alone."""
    headers = {"Content-Type": "application/octet-stream", "Content-Range": "2-3"}
    closing = Request("PUT", f"{SECOND}&{QUERY}", headers, b"ob", Timeout.LONG)
    play(
        upload(style=UploadStrategy(chunk=2, final_chunk_in_put=True)),
        (POST, ACCEPTED),
        (chunk(FIRST, 0, b"bl"), Response(201, {"location": SECOND})),
        (closing, TransportError("cut", reason="cut")),
        (HEAD, Response(404)),
        (asked(SECOND), has("0-1", SECOND)),
        (closing, CREATED),
    )


def test_a_last_chunk_that_arrived_does_not_go_out_again() -> None:
    """The PUT failed after its bytes were stored: the next one is empty."""
    headers = {"Content-Type": "application/octet-stream", "Content-Range": "2-3"}
    closing = Request("PUT", f"{SECOND}&{QUERY}", headers, b"ob", Timeout.LONG)
    play(
        upload(style=UploadStrategy(chunk=2, final_chunk_in_put=True)),
        (POST, ACCEPTED),
        (chunk(FIRST, 0, b"bl"), Response(201, {"location": SECOND})),
        (closing, Response(503)),
        (asked(SECOND), has("0-3")),
        (put(THIRD), CREATED),
    )


def test_an_empty_stream_has_no_chunk() -> None:
    """Nothing to send is nothing to place: an empty PUT."""
    empty = Known((), bytes_read=0, ended=False)
    play(upload(empty, UploadStrategy(chunk=2)), (POST, ACCEPTED), (put(FIRST), CREATED))


@pytest.mark.parametrize(("said", "size"), [("1", 2), ("3", 3), ("x", 2), ("", 2), ("9" * 9, 2)])
def test_a_registry_may_want_larger_chunks(said: str, size: int) -> None:
    """OCI-Chunk-Min-Length (Pushing a blob in chunks), to a bound.

    A chunk is held in memory: the peer does not choose how much (GHSA-f36w-mj3v-6jqv).
    """
    data = b"blob"
    play(
        upload(style=UploadStrategy(chunk=2)),
        (POST, Response(202, {"location": FIRST, "oci-chunk-min-length": said})),
        (chunk(FIRST, 0, data[:size]), Response(202, {"location": SECOND})),
        (chunk(SECOND, size, data[size:]), Response(202, {"location": SECOND})),
        (put(), CREATED),
    )


def test_one_byte_that_arrived_after_all_is_found_by_its_refusal() -> None:
    """0-0 is none or one byte (distribution 2.8): 416 says that it was one. A drawn case."""
    one = Known([b"b"], bytes_read=1)
    play(
        upload(one, style=UploadStrategy(chunk=2)),
        (POST, ACCEPTED),
        (chunk(FIRST, 0, b"b"), CUT),
        (asked(FIRST), has("0-0", FIRST)),
        (chunk(FIRST, 0, b"b"), Response(416)),
        (delete(FIRST), GONE),
        (later(POST, 1.5), ACCEPTED),
        (chunk(FIRST, 0, b"b"), NEXT),
        (put(), CREATED),
    )


@pytest.mark.parametrize("answer", [Response(503), CUT])
def test_a_chunk_without_an_answer_is_asked_for(answer: Answer) -> None:
    """It may have arrived: sent again blindly, it would be there twice."""
    play(
        upload(style=UploadStrategy(chunk=2)),
        (POST, ACCEPTED),
        (chunk(FIRST, 0, b"bl"), answer),
        (asked(FIRST), has("0-1")),
        (chunk(THIRD, 2, b"ob"), NEXT),
        (put(), CREATED),
    )


def test_an_early_success_of_a_chunk_is_asked_for_the_rest() -> None:
    """An answer before a chunk's end cannot have seen all of it, as with a stream."""
    play(
        upload(style=UploadStrategy(chunk=2)),
        (POST, ACCEPTED),
        (chunk(FIRST, 0, b"bl"), Response(202, {"location": SECOND}, sent=0, complete=False)),
        (asked(FIRST), has("0-0")),
        (chunk(THIRD, 0, b"bl"), Response(202, {"location": SECOND})),
        (chunk(SECOND, 2, b"ob"), NEXT),
        (put(), CREATED),
    )


def test_chunks_that_were_cut_are_an_interruption() -> None:
    """What a 2xx acknowledged is told."""
    error = play(
        upload(style=UploadStrategy(chunk=2), attempts=1),
        (POST, ACCEPTED),
        (chunk(FIRST, 0, b"bl"), Response(202, {"location": SECOND})),
        (chunk(SECOND, 2, b"ob"), CUT),
        (delete(SECOND), GONE),
        error=UploadInterrupted,
    )
    assert (error.sent, error.acknowledged) == (4, 2)


def test_bytes_at_hand_go_out_again() -> None:
    """All of them are kept, and they are few: a new session needs no question."""
    octets = {"Content-Type": "application/octet-stream"}
    whole = Request("PUT", f"{FIRST}&{QUERY}", octets, b"blob", Timeout.LONG)
    way = access(retry=Retry(attempts=3))
    play(
        upload_bytes(way, b"blob", BLOB),
        (POST, ACCEPTED),
        (whole, CUT),
        (HEAD, Response(404)),
        (delete(FIRST), GONE),
        (later(POST, 0.5), ACCEPTED),
        (whole, CREATED),
    )


# --- A PUT without an answer


@pytest.mark.parametrize("lost", [CUT, Response(408), Response(500), Response(502), Response(504)])
def test_a_commit_that_takes_its_time_is_asked_for_again(lost: Answer) -> None:
    """A large blob is committed after its proxy's patience (goharbor/harbor#19573)."""
    play(
        upload(),
        (POST, ACCEPTED),
        (patch(BODY), NEXT),
        (put(), lost),
        (HEAD, Response(404)),
        (later(HEAD, 0.5), Response(404)),
        (later(HEAD, 1.5), Response(200, {"content-length": "4"})),
        (delete(SECOND), GONE),
    )


def test_a_question_without_an_answer_ends_the_asking() -> None:
    """The question has attempts of its own: who does not answer them is asked for the session."""
    play(
        upload(attempts=2),
        (POST, ACCEPTED),
        (patch(BODY), NEXT),
        (put(), CUT),
        (HEAD, Response(502)),
        (later(HEAD, 0.5), Response(502)),
        (asked(SECOND), has("0-3")),
        (put(THIRD), CREATED),
    )


@pytest.mark.parametrize("lost", [CUT, Response(408), Response(500), Response(504)])
def test_a_session_that_a_commit_ended_is_not_begun_again(lost: Answer) -> None:
    """Its 404 may say that the PUT did its work: the blob is asked for before a byte goes again."""
    there = Response(200, {"content-length": "4"})
    steps = (POST, ACCEPTED), (patch(BODY), NEXT), (put(), lost), *NOT_THERE
    play(upload(), *steps, (asked(SECOND), Response(404)), (HEAD, there), (delete(SECOND), GONE))


def test_a_second_closing_that_finds_no_session_asks_for_the_blob() -> None:
    """The first PUT was still under way, and ended the session after all."""
    play(
        upload(),
        (POST, ACCEPTED),
        (patch(BODY), NEXT),
        (put(), CUT),
        *NOT_THERE,
        (asked(SECOND), has("0-3")),
        (put(THIRD), Response(404)),
        (HEAD, Response(200, {"content-length": "4"})),
        (delete(THIRD), GONE),
    )


@pytest.mark.parametrize("status", [429, 503])
def test_a_refused_closing_that_did_its_work_all_the_same_is_found(status: int) -> None:
    """The session is gone, and the bytes too: before that is told, the blob is asked for, once."""
    steps: list[Step] = [
        (POST, ACCEPTED),
        (patch(BODY), NEXT),
        (put(), Response(status)),
        (asked(SECOND), Response(404)),
    ]
    there = (HEAD, Response(200, {"content-length": "4"})), (delete(SECOND), GONE)
    assert play(upload(Known(BODY, replayable_from=4)), *steps, *there) is BLOB
    gone = (HEAD, Response(404)), (delete(SECOND), GONE)
    play(upload(Known(BODY, replayable_from=4)), *steps, *gone, error=StreamNotReplayable)


def test_the_last_refusal_of_a_closing_is_not_believed_either() -> None:
    """There is no further try: before that is told, the blob is asked for."""
    steps: list[Step] = [(POST, ACCEPTED), (patch(BODY), NEXT), (put(), Response(503))]
    there = (HEAD, Response(200, {"content-length": "4"})), (delete(SECOND), GONE)
    assert play(upload(attempts=1), *steps, *there) is BLOB
    gone = (HEAD, Response(404)), (delete(SECOND), GONE)
    play(upload(attempts=1), *steps, *gone, error=RegistryError, match="503")


SECOND_PUT = (
    Response(400),
    Response(400, body=b'{"errors": [{"code": "BLOB_UPLOAD_INVALID"}]}'),
    Response(404),
    Response(409),
    Response(410),
    Response(416),
)


@pytest.mark.parametrize("answer", SECOND_PUT)
def test_a_closing_put_that_a_proxy_sent_twice_is_found_by_head(answer: Response) -> None:
    """Nginx sends a PUT again whose answer it lost (proxy_next_upstream): the session is gone.

    The bytes need not be here any more.
    """
    steps: list[Step] = [(POST, ACCEPTED), (patch(BODY), NEXT), (put(), answer)]
    found = HEAD, Response(200, {"docker-content-digest": str(BLOB.digest), "content-length": "4"})
    flow = upload(Known(BODY, replayable_from=3))
    assert play(flow, *steps, found, (delete(SECOND), GONE)) is BLOB


@pytest.mark.parametrize("status", [404, 410, 416])
def test_a_closing_put_that_found_no_session_and_no_blob_is_begun_again(status: int) -> None:
    """The blob is asked for once, and not shown: the session was lost before."""
    play(
        upload(),
        (POST, ACCEPTED),
        (patch(BODY), NEXT),
        (put(), Response(status)),
        (HEAD, Response(404)),
        (delete(SECOND), GONE),
        *again(),
    )


@pytest.mark.parametrize("status", [401, 403, 405, 413])
def test_a_clean_refusal_of_the_closing_asks_for_no_blob(status: int) -> None:
    """Whoever says that nothing may be done is believed."""
    steps: list[Step] = [(POST, ACCEPTED), (patch(BODY), NEXT), (put(), Response(status))]
    requests: list[str] = []
    answers = [answer for _, answer in steps]

    def answer(request: Request) -> Answer:
        requests.append(request.method)
        return answers.pop(0) if answers else GONE

    with pytest.raises(RegistryError):
        drive(upload(style=UploadStrategy(smaller=0), attempts=1), answer)
    assert "HEAD" not in requests


# --- A session that cannot be asked now


@pytest.mark.parametrize("answer", [TransportError("no", reason="connect"), Response(503)])
def test_a_session_that_cannot_be_asked_now_is_asked_later(answer: Answer) -> None:
    """A registry that restarts has its sessions still: the bytes need not all be here."""
    body = Known(BODY, replayable_from=2)
    play(
        upload(body, attempts=2),
        (POST, ACCEPTED),
        (patch(BODY), Response(429)),
        (asked(FIRST), answer),
        (later(asked(FIRST), 0.5), answer),
        (delete(FIRST), GONE),
        error=RegistryError,
        match="429",
    )
    play(
        upload(body),
        (POST, ACCEPTED),
        (patch(BODY), CUT),
        (asked(FIRST), answer),
        (asked(FIRST), answer),
        (later(asked(FIRST), 1.5), answer),
        (later(asked(FIRST), 1.5), has("0-1")),
        (patch([b"ob"], THIRD), NEXT),
        (put(), CREATED),
    )


def test_a_session_that_never_answers_is_left_where_all_bytes_are_kept() -> None:
    """A registry may take uploads and have no answer to the question."""
    play(
        upload(attempts=5),
        (POST, ACCEPTED),
        (patch(BODY), CUT),
        *[
            (asked(FIRST, pause), Response(500))
            for first in (0.5, 1.5, 4.5)
            for pause in (first, 0.5, 1.5, 4.5, 13.5)
        ],
        (delete(FIRST), GONE),
        *again(13.5),
    )


def test_a_blob_is_asked_for_a_few_times() -> None:
    """Three times: then the session is asked, which tells whether the commit is under way."""
    play(
        upload(attempts=9),
        (POST, ACCEPTED),
        (patch(BODY), NEXT),
        (put(), CUT),
        *NOT_THERE,
        (asked(SECOND), has("0-3")),
        (put(THIRD), CREATED),
    )


def test_what_cannot_be_asked_tells_the_failure_of_the_upload() -> None:
    """The question's own failure is not what the user has to look at."""
    answer = TransportError("refused", reason="connect")
    error = play(
        upload(attempts=2),
        (POST, ACCEPTED),
        (patch(BODY), CUT),
        (asked(FIRST), answer),
        (asked(FIRST), answer),
        (delete(FIRST), GONE),
        error=UploadInterrupted,
    )
    assert error.__cause__ is CUT


# --- Progress


def test_progress_within_a_session_is_counted_anew() -> None:
    """Bytes that go out again may be cut as often as those of the first time."""
    play(
        upload(attempts=2),
        (POST, ACCEPTED),
        (patch(BODY), CUT),
        (asked(FIRST), has("0-0")),
        (patch(BODY, THIRD), CUT),
        (delete(THIRD), GONE),
        error=UploadInterrupted,
    )
    play(
        upload(attempts=2),
        (POST, ACCEPTED),
        (patch(BODY), CUT),
        (asked(FIRST), has("0-1")),
        (patch([b"ob"], THIRD), CUT),
        (asked(THIRD), has("0-2")),
        (patch([b"b"], THIRD), CUT),
        (asked(THIRD), has("0-3")),
        (put(THIRD), CREATED),
    )


def test_all_pauses_of_an_upload_are_bounded() -> None:
    """A registry that gives a byte more each time does not hold us for ever."""
    way = access(retry=Retry(attempts=2, max_elapsed_s=0.9))
    play(
        upload_stream(way, Known(BODY), lambda: BLOB),
        (POST, ACCEPTED),
        (patch(BODY), CUT),
        (asked(FIRST), has("0-1")),
        (patch([b"ob"], THIRD), CUT),
        (delete(THIRD), GONE),
        error=UploadInterrupted,
    )


def test_a_token_that_dies_after_a_cut_is_renewed_too() -> None:
    """A 401 counts as any other setback: GitLab's tokens live five minutes."""
    play(
        upload(),
        (POST, ACCEPTED),
        (patch(BODY), CUT),
        (asked(FIRST), has("0-0", FIRST)),
        (patch(BODY), Response(401, BEARER)),
        (asked(FIRST, 1.5), Response(401, BEARER)),
        (token_call(), Response(200, body=b'{"token": "t1"}')),
        (authorized(asked(FIRST, 0.0), "Bearer t1"), has("0-0", FIRST)),
        (authorized(patch(BODY), "Bearer t1"), NEXT),
        (authorized(put(), "Bearer t1"), CREATED),
    )


def test_a_token_that_expires_is_renewed_before_the_stream_and_before_the_closing() -> None:
    """No body goes out on a token that is known to die: the clock says so, not a 401."""
    now = [0.0]
    registry = RegistrySession(HOME, None, retry=Retry(attempts=1), clock=lambda: now[0])
    way = registry.access(REPOSITORY, "pull,push")
    given = iter("123")
    requests: list[tuple[str, str]] = []

    def answer(request: Request) -> Answer:
        said = request.headers.get("Authorization", "")
        requests.append((request.method, said))
        if request.url.startswith(REALM):
            body = f'{{"token": "t{next(given)}", "expires_in": 60}}'
            return Response(200, body=body.encode())
        if not said:
            return Response(401, BEARER)
        now[0] += 55
        return {"POST": ACCEPTED, "PATCH": NEXT, "PUT": CREATED}[request.method]

    drive(upload_stream(way, Known(BODY), lambda: BLOB), answer)
    assert requests == [
        ("POST", ""),
        ("GET", ""),
        ("POST", "Bearer t1"),
        ("GET", ""),
        ("PATCH", "Bearer t2"),
        ("GET", ""),
        ("PUT", "Bearer t3"),
    ]


@pytest.mark.parametrize("status", [429, 503])
def test_the_wish_to_wait_comes_with_each_refusal(status: int) -> None:
    """Retry-After is for 503 as for 429 (RFC 9110, section 10.2.3), after a PATCH and a PUT."""
    wish = Response(status, {"retry-after": "9"})
    play(
        upload(),
        (POST, ACCEPTED),
        (patch(BODY), wish),
        (asked(FIRST, 9.0), has("0-3")),
        (put(THIRD), wish),
        (asked(THIRD, 9.0), has("0-3")),
        (put(THIRD), CREATED),
    )
    play(
        upload(style=UploadStrategy(chunk=2)),
        (POST, ACCEPTED),
        (chunk(FIRST, 0, b"bl"), wish),
        (asked(FIRST, 9.0), has("0-1")),
        (chunk(THIRD, 2, b"ob"), NEXT),
        (put(), CREATED),
    )


def test_a_wish_to_wait_holds_once() -> None:
    """A later failure is no refusal: it has the pauses of its own."""
    play(
        upload(),
        (POST, ACCEPTED),
        (patch(BODY), Response(503, {"retry-after": "9"})),
        (asked(FIRST, 9.0), has("0-0", FIRST)),
        (patch(BODY), CUT),
        (asked(FIRST, 1.5), has("0-3")),
        (put(THIRD), CREATED),
    )


def test_a_post_that_is_refused_for_the_rate_waits_as_it_is_asked() -> None:
    """The call has its attempts; the upload does not multiply them by its own."""
    refused = Response(429, {"retry-after": "9"})
    play(
        upload(attempts=2),
        (POST, refused),
        (later(POST, 9.0), refused),
        error=RegistryError,
        match="429",
    )


def test_a_failure_that_was_survived_is_let_go() -> None:
    """Its traceback knows the body, and so all bytes that are kept."""
    failure = TransportError("cut", reason="cut", sent=3)
    gone = weakref.ref(failure)
    answers: list[Answer] = [ACCEPTED, failure, has("0-3"), CREATED]
    del failure
    gc.disable()
    try:
        drive(upload(), lambda _: answers.pop(0))
        assert gone() is None
    finally:
        gc.enable()


def test_a_bad_request_to_what_went_on_is_begun_again() -> None:
    """Not every registry has a code for bytes that are not where they should be."""
    play(
        upload(),
        (POST, ACCEPTED),
        (patch(BODY), CUT),
        (asked(FIRST), has("0-1")),
        (patch([b"ob"], THIRD), NEXT),
        (put(), Response(400)),
        (HEAD, Response(404)),
        (delete(SECOND), GONE),
        *again(),
    )


# --- Smaller requests, to their end


def test_smaller_requests_are_tried_down_to_the_floor() -> None:
    """A proxy's limit may be 1 MiB (nginx): five attempts would end at 2. Nothing is waited for."""
    sizes: list[int] = []

    def answer(request: Request) -> Answer:
        if request.method != "PATCH":
            return {"POST": ACCEPTED, "DELETE": GONE, "PUT": CREATED}[request.method]
        assert request.delay_s == 0
        size = sum(map(len, request.body)) if isinstance(request.body, tuple) else 0
        sizes.append(size)
        return NEXT if 0 < size <= 1 << 20 else Response(413)

    data = bytes(3 << 20)
    body = Known([data], bytes_read=len(data))
    drive(upload(body, style=UploadStrategy(smaller=8 << 20), attempts=2), answer)
    assert [size >> 20 for size in sizes] == [0, 3, 3, 2, 1, 1, 1]


def test_no_413_goes_below_what_the_registry_wants() -> None:
    """OCI-Chunk-Min-Length, or a profile's: a smaller chunk would be refused for ever."""
    large = Response(202, {"location": FIRST, "oci-chunk-min-length": "3"})
    play(
        upload(style=UploadStrategy(chunk=4, smallest=1)),
        (POST, large),
        (chunk(FIRST, 0, b"blob"), Response(413)),
        (delete(FIRST), GONE),
        (POST, large),
        (chunk(FIRST, 0, b"blo"), Response(413)),
        (delete(FIRST), GONE),
        error=RegistryError,
        match="413",
    )


def test_who_wants_one_try_gets_one() -> None:
    """`--retries 0`: nothing is sent twice, in whatever size."""
    steps: list[Step] = [(POST, ACCEPTED), (patch(BODY), Response(413)), (delete(FIRST), GONE)]
    play(upload(attempts=1), *steps, error=RegistryError, match="413")


# --- A connection that was kept


STALE = TransportError("cut", reason="cut", fresh=False)


def test_a_post_on_a_connection_that_was_closed_is_made_at_once() -> None:
    """It had been closed before the POST came; a session that was opened all the same is nobody's.

    A proxy, or the transport's pool, may be late in noticing (RFC 9112, section 9.3.1).
    """
    play(upload(attempts=1), (POST, STALE), (POST, ACCEPTED), (patch(BODY), NEXT), (put(), CREATED))


def test_a_stream_on_a_connection_that_was_closed_is_not_sent_blindly() -> None:
    """What arrived of it is not known: the session is asked."""
    play(
        upload(),
        (POST, ACCEPTED),
        (patch(BODY), STALE),
        (asked(FIRST), has("0-1")),
        (patch([b"ob"], THIRD), NEXT),
        (put(), CREATED),
    )
