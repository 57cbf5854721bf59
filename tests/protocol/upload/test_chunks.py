"""upload/flow.py: smaller requests."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.protocol.driver import (
    ACCEPTED,
    BLOB,
    FIRST,
    HEAD,
    POST,
    QUERY,
    REPOSITORY,
    SECOND,
    Answer,
    KnownBody,
    Step,
    delete,
    drive,
    make_access,
    patch,
    play,
    put,
    with_delay,
)
from tests.protocol.upload.conversation import (
    BODY,
    CREATED,
    CUT,
    GONE,
    NEXT,
    OCTETS,
    THIRD,
    chunk,
    located,
    query,
    upload,
)

from brolga.errors import (
    RegistryError,
    TransportError,
    UploadInterrupted,
)
from brolga.protocol import (
    Request,
    Response,
    Retry,
    Timeout,
    UploadStrategy,
    mount_blob,
    upload_bytes,
    upload_stream,
)

# --- Smaller requests


def test_upload_sends_chunks_after_413() -> None:
    """413, and no header has a maximum (distribution-spec#485): smaller ones, from the start."""
    play(
        upload(strategy=UploadStrategy(fallback_chunk_size=3, min_chunk_size=1)),
        (POST, ACCEPTED),
        (patch(BODY), Response(413, complete=False)),
        (delete(FIRST), GONE),
        (POST, ACCEPTED),
        (chunk(FIRST, 0, b"blo"), Response(202, {"location": SECOND})),
        (chunk(SECOND, 3, b"b"), Response(202, {"location": SECOND})),
        (put(), CREATED),
    )


@pytest.mark.parametrize("status", [411, 501])
def test_upload_sends_chunks_after_411_or_501(status: int) -> None:
    """411 Length Required (RFC 9110, 15.5.12); 501 for a coding that it does not understand.

    "A server that receives a request message with a transfer coding it does not understand SHOULD
    respond with 501" (RFC 9112, section 6.1).
    """
    play(
        upload(strategy=UploadStrategy(fallback_chunk_size=3, min_chunk_size=1)),
        (POST, ACCEPTED),
        (patch(BODY), Response(status, complete=False)),
        (delete(FIRST), GONE),
        (POST, ACCEPTED),
        (chunk(FIRST, 0, b"blo"), Response(202, {"location": SECOND})),
        (chunk(SECOND, 3, b"b"), Response(202, {"location": SECOND})),
        (put(), CREATED),
    )


@pytest.mark.parametrize("status", [411, 501])
def test_upload_raises_411_or_501_to_a_chunk(status: int) -> None:
    """It has a Content-Length: it cannot be sent otherwise."""
    steps: list[Step] = [(POST, ACCEPTED), (chunk(FIRST, 0, b"blob"), Response(status))]
    refused = delete(FIRST), GONE
    play(
        upload(strategy=UploadStrategy(chunk_size=8)),
        *steps,
        refused,
        error=RegistryError,
        match=str(status),
    )


@pytest.mark.parametrize(
    "strategy", [UploadStrategy(fallback_chunk_size=0), UploadStrategy(chunk_size=1 << 20)]
)
def test_upload_raises_413_if_nothing_is_smaller(strategy: UploadStrategy) -> None:
    """GAR takes no chunks; and there is a smallest one."""
    first = chunk(FIRST, 0, b"blob") if strategy.chunk_size else patch(BODY)
    steps: list[Step] = [(POST, ACCEPTED), (first, Response(413)), (delete(FIRST), GONE)]
    play(upload(strategy=strategy), *steps, error=RegistryError, match="413")


def test_with_smaller_chunks_halves_to_the_minimum() -> None:
    """Halve and begin again: 32, 16, 8, 4, 2, 1 MiB."""
    strategy, sizes = UploadStrategy(), []
    while strategy.can_shrink:
        strategy = strategy.with_smaller_chunks()
        sizes.append(strategy.chunk_size >> 20)
    assert sizes == [32, 16, 8, 4, 2, 1]
    assert UploadStrategy(chunk_size=(1 << 20) + 1).with_smaller_chunks().chunk_size == 1 << 20


def test_upload_sends_the_last_chunk_in_put_if_the_strategy_says_so() -> None:
    """ECR wants the last chunk in the PUT, with its place."""
    headers = {"Content-Type": "application/octet-stream", "Content-Range": "2-3"}
    closing = Request("PUT", f"{SECOND}&{QUERY}", headers, b"ob", Timeout.LONG)
    play(
        upload(strategy=UploadStrategy(chunk_size=2, final_chunk_in_put=True)),
        (POST, ACCEPTED),
        (chunk(FIRST, 0, b"bl"), Response(201, {"location": SECOND, "range": "0-1"})),
        (closing, CREATED),
    )


def test_upload_sends_the_last_bytes_of_a_resumed_stream_in_put() -> None:
    """ECR: after several PATCHes the last chunk must ride in the PUT."""
    headers = {"Content-Type": "application/octet-stream", "Content-Range": "3-3"}
    play(
        upload(strategy=UploadStrategy(fallback_chunk_size=1, final_chunk_in_put=True)),
        (POST, ACCEPTED),
        (patch(BODY), CUT),
        (query(FIRST), located("0-1", SECOND)),
        (chunk(SECOND, 2, b"o"), Response(201, {"location": THIRD})),
        (Request("PUT", f"{THIRD}&{QUERY}", headers, b"b", Timeout.LONG), CREATED),
    )


def test_upload_repeats_put_with_the_last_chunk_after_a_cut() -> None:
    """What goes with the PUT is acknowledged by the blob alone."""
    headers = {"Content-Type": "application/octet-stream", "Content-Range": "2-3"}
    closing = Request("PUT", f"{SECOND}&{QUERY}", headers, b"ob", Timeout.LONG)
    play(
        upload(strategy=UploadStrategy(chunk_size=2, final_chunk_in_put=True)),
        (POST, ACCEPTED),
        (chunk(FIRST, 0, b"bl"), Response(201, {"location": SECOND})),
        (closing, TransportError("cut", reason="cut")),
        (HEAD, Response(404)),
        (query(SECOND), located("0-1", SECOND)),
        (closing, CREATED),
    )


def test_upload_repeats_put_without_the_last_chunk_if_it_arrived() -> None:
    """The PUT failed after its bytes were stored: the next one is empty."""
    headers = {"Content-Type": "application/octet-stream", "Content-Range": "2-3"}
    closing = Request("PUT", f"{SECOND}&{QUERY}", headers, b"ob", Timeout.LONG)
    play(
        upload(strategy=UploadStrategy(chunk_size=2, final_chunk_in_put=True)),
        (POST, ACCEPTED),
        (chunk(FIRST, 0, b"bl"), Response(201, {"location": SECOND})),
        (closing, Response(503)),
        (query(SECOND), located("0-3")),
        (put(THIRD), CREATED),
    )


def test_upload_sends_no_chunk_of_an_empty_stream() -> None:
    """Nothing to send is nothing to place: an empty PUT."""
    empty = KnownBody((), bytes_read=0, ended=False)
    play(upload(empty, UploadStrategy(chunk_size=2)), (POST, ACCEPTED), (put(FIRST), CREATED))


@pytest.mark.parametrize(("text", "size"), [("1", 2), ("3", 3), ("x", 2), ("", 2), ("9" * 9, 2)])
def test_upload_obeys_oci_chunk_min_length_within_the_limit(text: str, size: int) -> None:
    """OCI-Chunk-Min-Length (Pushing a blob in chunks), to a bound.

    A chunk is held in memory: the peer does not choose how much (GHSA-f36w-mj3v-6jqv).
    """
    data = b"blob"
    play(
        upload(strategy=UploadStrategy(chunk_size=2)),
        (POST, Response(202, {"location": FIRST, "oci-chunk-min-length": text})),
        (chunk(FIRST, 0, data[:size]), Response(202, {"location": SECOND})),
        (chunk(SECOND, size, data[size:]), Response(202, {"location": SECOND})),
        (put(), CREATED),
    )


LIMITED = Response(202, {"location": FIRST, "oci-chunk-max-length": "3"})


@pytest.mark.parametrize("strategy", [UploadStrategy(), UploadStrategy(monolithic_max=9)])
@pytest.mark.parametrize("is_known", [True, False])
def test_upload_obeys_oci_chunk_max_length(strategy: UploadStrategy, is_known: bool) -> None:
    """A stream goes in chunks, and a blob of known size not in one PUT."""
    flow = upload_stream(
        make_access(),
        KnownBody(BODY),
        lambda: BLOB,
        descriptor=BLOB if is_known else None,
        strategy=strategy,
    )
    play(
        flow,
        (POST, LIMITED),
        (chunk(FIRST, 0, b"blo"), Response(202, {"location": SECOND})),
        (chunk(SECOND, 3, b"b"), Response(202, {"location": SECOND})),
        (put(), CREATED),
    )


def test_upload_obeys_oci_chunk_max_length_of_a_session_of_another_post() -> None:
    """The POST that wanted to mount the blob, or to store it at once, says it too."""
    flow = mount_blob(make_access(), BLOB.digest, REPOSITORY)
    url = f"{POST.url}?mount=sha256%3A{BLOB.digest.encoded}&from=team%2Fapp"
    session = play(flow, (replace(POST, url=url), LIMITED))
    assert session is not None
    play(
        upload_stream(make_access(), KnownBody(BODY), lambda: BLOB, session=session),
        (chunk(FIRST, 0, b"blo"), Response(202, {"location": SECOND})),
        (chunk(SECOND, 3, b"b"), Response(202, {"location": SECOND})),
        (put(), CREATED),
    )


def test_upload_bytes_goes_in_chunks_after_413_to_the_post() -> None:
    """The registry that takes no body of this size by POST may take it in chunks."""
    strategy = UploadStrategy(single_post_max=4)
    single = Request("POST", f"{POST.url}?{QUERY}", OCTETS, b"blob")
    play(
        upload_bytes(make_access(), b"blob", BLOB, strategy=strategy),
        (single, Response(413)),
        (POST, LIMITED),
        (chunk(FIRST, 0, b"blo"), Response(202, {"location": SECOND})),
        (chunk(SECOND, 3, b"b"), Response(202, {"location": SECOND})),
        (put(), CREATED),
    )


def test_upload_restarts_after_416_to_a_resumed_first_chunk() -> None:
    """0-0 means no byte or one (distribution 2.8): 416 shows that it was one. A drawn case."""
    one = KnownBody([b"b"], bytes_read=1)
    play(
        upload(one, strategy=UploadStrategy(chunk_size=2)),
        (POST, ACCEPTED),
        (chunk(FIRST, 0, b"b"), CUT),
        (query(FIRST), located("0-0", FIRST)),
        (chunk(FIRST, 0, b"b"), Response(416)),
        (delete(FIRST), GONE),
        (with_delay(POST, 1.5), ACCEPTED),
        (chunk(FIRST, 0, b"b"), NEXT),
        (put(), CREATED),
    )


@pytest.mark.parametrize("answer", [Response(503), CUT])
def test_upload_queries_the_session_after_a_failed_chunk(answer: Answer) -> None:
    """It may have arrived: sent again blindly, it would be there twice."""
    play(
        upload(strategy=UploadStrategy(chunk_size=2)),
        (POST, ACCEPTED),
        (chunk(FIRST, 0, b"bl"), answer),
        (query(FIRST), located("0-1")),
        (chunk(THIRD, 2, b"ob"), NEXT),
        (put(), CREATED),
    )


def test_upload_resumes_after_an_early_success_of_a_chunk() -> None:
    """An answer before a chunk's end cannot have seen all of it, as with a stream."""
    play(
        upload(strategy=UploadStrategy(chunk_size=2)),
        (POST, ACCEPTED),
        (chunk(FIRST, 0, b"bl"), Response(202, {"location": SECOND}, sent=0, complete=False)),
        (query(FIRST), located("0-0")),
        (chunk(THIRD, 0, b"bl"), Response(202, {"location": SECOND})),
        (chunk(SECOND, 2, b"ob"), NEXT),
        (put(), CREATED),
    )


def test_upload_raises_interrupted_after_a_cut_chunk() -> None:
    """The error says what a 2xx acknowledged."""
    error = play(
        upload(strategy=UploadStrategy(chunk_size=2), attempts=1),
        (POST, ACCEPTED),
        (chunk(FIRST, 0, b"bl"), Response(202, {"location": SECOND})),
        (chunk(SECOND, 2, b"ob"), CUT),
        (delete(SECOND), GONE),
        error=UploadInterrupted,
    )
    assert (error.sent, error.acknowledged) == (4, 2)


def test_upload_bytes_restarts_after_a_cut_put() -> None:
    """All of them are kept, and they are few: a new session needs no question."""
    octets = {"Content-Type": "application/octet-stream"}
    whole = Request("PUT", f"{FIRST}&{QUERY}", octets, b"blob", Timeout.LONG)
    way = make_access(retry=Retry(attempts=3))
    play(
        upload_bytes(way, b"blob", BLOB),
        (POST, ACCEPTED),
        (whole, CUT),
        (HEAD, Response(404)),
        (delete(FIRST), GONE),
        (with_delay(POST, 0.5), ACCEPTED),
        (whole, CREATED),
    )


# --- Down to the minimum


def test_upload_halves_chunks_down_to_the_minimum_after_each_413() -> None:
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
    body = KnownBody([data], bytes_read=len(data))
    drive(upload(body, strategy=UploadStrategy(fallback_chunk_size=8 << 20), attempts=2), answer)
    assert [size >> 20 for size in sizes] == [0, 3, 3, 2, 1, 1, 1]


def test_upload_keeps_chunks_above_oci_chunk_min_length_after_413() -> None:
    """OCI-Chunk-Min-Length, or a profile's: a smaller chunk would be refused for ever."""
    large = Response(202, {"location": FIRST, "oci-chunk-min-length": "3"})
    play(
        upload(strategy=UploadStrategy(chunk_size=4, min_chunk_size=1)),
        (POST, large),
        (chunk(FIRST, 0, b"blob"), Response(413)),
        (delete(FIRST), GONE),
        (POST, large),
        (chunk(FIRST, 0, b"blo"), Response(413)),
        (delete(FIRST), GONE),
        error=RegistryError,
        match="413",
    )


def test_upload_raises_413_if_one_attempt_is_allowed() -> None:
    """`--retries 0`: nothing is sent twice, in whatever size."""
    steps: list[Step] = [(POST, ACCEPTED), (patch(BODY), Response(413)), (delete(FIRST), GONE)]
    play(upload(attempts=1), *steps, error=RegistryError, match="413")
