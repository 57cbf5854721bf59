"""wire/blobs.py: blobs asked for, read to their end and verified, deleted."""

from __future__ import annotations

from inspect import GEN_CLOSED, getgeneratorstate
from typing import TYPE_CHECKING

import pytest
from tests.protocol.scripted import (
    BEARER,
    BLOB,
    HEAD,
    HOME,
    Answer,
    access,
    authorized,
    drive,
    elsewhere,
    gathered,
    later,
    play,
    token_call,
)

from brolga.errors import (
    BrolgaError,
    Denied,
    DigestMismatch,
    InvalidDigest,
    NotFound,
    ProtocolViolation,
    RegistryError,
    TransportError,
    Unauthorized,
)
from brolga.protocol import Request, Response, Retry, delete_blob, has_blob, read_blob
from brolga.spec.descriptor import Descriptor
from brolga.spec.digest import Digest

if TYPE_CHECKING:
    from collections.abc import Generator

DATA = b"0123456789"
DIGEST = Digest.of(DATA)
URL = f"{HOME}/v2/team/app/blobs/{DIGEST}"
GET = Request("GET", URL, stream_response=True)
CUT = TransportError("the connection was cut", reason="cut")
TOKEN = Response(200, body=b'{"token": "t1"}')
PATIENT = Retry(attempts=3)


def streamed(*blocks: bytes | Exception, status: int = 200, start: int | None = None) -> Response:
    """Return an answer whose body comes in blocks; `start` is where its part begins."""

    def body() -> Generator[bytes, None, None]:
        for block in blocks:
            if isinstance(block, Exception):
                raise block
            yield block

    headers = {} if start is None else {"content-range": f"bytes {start}-9/10"}
    return Response(status, headers, body_stream=body())


def part(start: int, *blocks: bytes | Exception) -> Response:
    """Return the rest of a body, as it was asked for."""
    return streamed(*blocks, status=206, start=start)


def rest(start: int, pause: float = 0.5) -> Request:
    """Return the call that asks for what is missing."""
    return later(Request("GET", URL, {"Range": f"bytes={start}-"}, stream_response=True), pause)


def all_closed(*responses: Answer) -> bool:
    """Tell whether every body that was given was closed."""
    bodies = [
        response.body_stream
        for response in responses
        if isinstance(response, Response) and response.body_stream
    ]
    return all(getgeneratorstate(body) == GEN_CLOSED for body in bodies)


def read(
    *steps: tuple[Request, Answer],
    size: int | None = None,
    digest: Digest = DIGEST,
    retry: Retry = PATIENT,
) -> bytes:
    """Read a blob by a script; whatever comes of it, each body is closed."""
    try:
        return play(gathered(read_blob(access(retry=retry), digest, size)), *steps)
    finally:
        assert all_closed(*(response for _, response in steps))


# --- To the end


@pytest.mark.parametrize("size", [None, 10])
@pytest.mark.parametrize("blocks", [(DATA,), (b"01234", b"56789"), (b"", b"0123", b"", b"456789")])
def test_a_blob_is_read_in_blocks(blocks: tuple[bytes, ...], size: int | None) -> None:
    """A GET MUST return the blob's bytes (Pulling blobs, end-2)."""
    assert read((GET, streamed(*blocks)), size=size) == DATA


def test_a_blob_that_came_in_one_piece_is_read() -> None:
    """A driver that has the whole body gives it as it is."""
    assert read((GET, Response(200, body=DATA))) == DATA


def test_an_empty_blob_is_read() -> None:
    """Nothing is a blob too: e3b0c442..."""
    digest = Digest.of(b"")
    request = Request("GET", f"{HOME}/v2/team/app/blobs/{digest}", stream_response=True)
    assert read((request, streamed()), size=0, digest=digest) == b""


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_each_algorithm_that_can_be_computed_is_verified(algorithm: str) -> None:
    """Both are registered (image-spec descriptor.md, Registered algorithms)."""
    digest = Digest.of(DATA, algorithm)
    request = Request("GET", f"{HOME}/v2/team/app/blobs/{digest}", stream_response=True)
    assert read((request, streamed(DATA)), digest=digest) == DATA
    with pytest.raises(DigestMismatch):
        read((request, streamed(DATA[::-1])), digest=digest)


def test_a_digest_that_cannot_be_computed_is_not_read() -> None:
    """What cannot be verified is not given out (descriptor.md, Verification)."""
    digest = Digest("blake3", "0" * 64)
    with pytest.raises(InvalidDigest):
        read(digest=digest)


# --- What is not the blob


@pytest.mark.parametrize("blocks", [(b"9876543210",), (b"01234567",), (b"0123456789a",), ()])
def test_other_bytes_are_a_mismatch_at_the_end(blocks: tuple[bytes, ...]) -> None:
    """Content SHOULD be verified against the digest (descriptor.md, Verification)."""
    with pytest.raises(DigestMismatch):
        read((GET, streamed(*blocks)))


def test_too_few_bytes_are_a_mismatch() -> None:
    """`size` exists so that a client can tell the length (descriptor.md, Properties)."""
    with pytest.raises(DigestMismatch, match=r"gave 8 bytes as sha256:.* where 10 were expected"):
        read((GET, streamed(b"01234567")), size=10)


def test_too_many_bytes_are_a_mismatch_at_once() -> None:
    """A body without an end must not be read to it (GHSA-f36w-mj3v-6jqv)."""
    taken: list[bytes] = []

    def endless() -> Generator[bytes, None, None]:
        while True:
            taken.append(b"0123")
            yield b"0123"

    response = Response(200, body_stream=endless())
    with pytest.raises(DigestMismatch, match="gave more bytes"):
        read((GET, response), size=10)
    assert len(taken) == 3


def test_the_bytes_before_the_wrong_ones_come_out_first() -> None:
    """The last block is kept back: who reads no more than the size is told of wrong bytes too."""
    flow = read_blob(access(), DIGEST, 10)
    assert next(flow) == GET
    response = streamed(b"01234", b"xxxxx")
    assert flow.send(response) == b"01234"
    with pytest.raises(DigestMismatch, match=f"{HOME} gave other bytes as {DIGEST}") as caught:
        next(flow)
    assert caught.value.expected == str(DIGEST)
    assert all_closed(response)


# --- Cuts


@pytest.mark.parametrize("size", [None, 10])
@pytest.mark.parametrize("reason", ["cut", "timeout"])
def test_a_cut_is_mended_by_asking_for_the_rest(size: int | None, reason: str) -> None:
    """A Range request is for interrupted transfers (RFC 9110, 14; Pulling blobs: MAY support)."""
    cut = TransportError("no more", reason=reason)
    assert (
        read(
            (GET, streamed(b"0123", cut)),
            (rest(4), part(4, b"45", cut)),
            (rest(6), part(6, b"6789")),
            size=size,
        )
        == DATA
    )


def test_a_cut_before_the_first_byte_is_no_range() -> None:
    """There is nothing to leave out."""
    assert read((GET, streamed(CUT)), (later(GET, 0.5), streamed(DATA))) == DATA


@pytest.mark.parametrize(
    "blocks",
    [(DATA,), (b"0123", b"456789"), (b"01", b"", b"23", b"45", b"6789"), (b"012", b"3456789")],
)
def test_a_registry_without_ranges_sends_again_what_is_here(blocks: tuple[bytes, ...]) -> None:
    """A server MAY ignore the Range header (RFC 9110, section 14.2): 200, from the start."""
    assert read((GET, streamed(b"0123", CUT)), (rest(4), streamed(*blocks))) == DATA


def test_a_registry_without_ranges_makes_progress_beyond_what_is_here() -> None:
    """What is skipped is no progress: three cuts at one place are three attempts."""
    first = GET, streamed(b"0123", CUT)
    again = rest(4), streamed(b"0123", CUT)
    last = rest(4, 1.5), streamed(b"01", b"23", CUT)
    with pytest.raises(TransportError) as caught:
        read(first, again, last)
    assert caught.value is CUT


def test_attempts_without_progress_are_bounded() -> None:
    """A registry that gives nothing is not asked for ever."""
    steps = (GET, streamed(CUT)), (later(GET, 0.5), streamed(b"", CUT))
    with pytest.raises(TransportError):
        read(*steps, (later(GET, 1.5), streamed(CUT)))


def test_progress_begins_the_count_anew() -> None:
    """A large blob over a bad line: each cut is mended as if it were the first."""
    steps: list[tuple[Request, Answer]] = [(GET, streamed(b"0", CUT))]
    for place in range(1, 9):
        steps.append((rest(place), part(place, CUT)))
        steps.append((rest(place, 1.5), part(place, DATA[place : place + 1], CUT)))
    assert read(*steps, (rest(9), part(9, b"9"))) == DATA


def test_all_pauses_of_a_read_are_bounded() -> None:
    """A registry that gives a byte more each time does not hold us for ever."""
    way = access(retry=Retry(attempts=2, max_elapsed_s=0.9))
    flow = gathered(read_blob(way, DIGEST, len(DATA)))
    steps = (GET, streamed(b"0", CUT)), (later(rest(1), 0.5), part(1, b"1", CUT))
    play(flow, *steps, error=TransportError)


def test_a_cut_after_the_last_byte_is_no_cut() -> None:
    """All bytes are here, and are verified: a Range behind them could only be refused (416)."""
    assert read((GET, streamed(DATA, CUT)), size=10) == DATA
    with pytest.raises(DigestMismatch):
        read((GET, streamed(DATA[::-1], CUT)), size=10)


@pytest.mark.parametrize(
    "said",
    ["", "bytes 3-9/10", "bytes 5-9/10", "bytes */10", "bytes=4-9", "items 4-9/10", "4-9/10"],
)
def test_another_part_than_was_asked_for_is_not_taken(said: str) -> None:
    """Content-Range says which part is enclosed (RFC 9110, section 15.3.7).

    The whole blob is asked for then, and what is here is passed over.
    """
    wrong = part(4, b"456789")
    wrong = Response(206, {"content-range": said}, body_stream=wrong.body_stream)
    first = (GET, streamed(b"0123", CUT)), (rest(4), wrong)
    assert read(*first, (later(GET, 1.5), streamed(b"01234", b"56789"))) == DATA


@pytest.mark.parametrize("size", [None, 10])
@pytest.mark.parametrize("answer", [Response(416), Response(206)])
def test_a_registry_without_the_rest_is_asked_for_all_from_then_on(
    answer: Response, size: int | None
) -> None:
    """416: none of the ranges can be served (RFC 9110, section 15.5.17), as its proxy thinks."""
    steps: list[tuple[Request, Answer]] = [(GET, streamed(b"0123", CUT)), (rest(4), answer)]
    steps += [(later(GET, 1.5), streamed(b"0123", b"45", CUT)), (later(GET, 0.5), streamed(DATA))]
    assert read(*steps, size=size) == DATA


def test_what_is_passed_over_does_not_hide_other_bytes() -> None:
    """What was handed on must be a part of what is verified."""
    steps = (GET, streamed(b"0123", CUT)), (rest(4), Response(416))
    with pytest.raises(DigestMismatch):
        read(*steps, (later(GET, 1.5), streamed(b"0123x56789")))


def test_a_registry_that_never_gives_the_rest_is_left() -> None:
    """Attempts are bounded, and the last error tells what is wrong."""
    last = later(GET, 1.5), streamed(b"0123", CUT)
    with pytest.raises(TransportError):
        read((GET, streamed(b"0123", CUT)), (rest(4), Response(416)), last)
    with pytest.raises(ProtocolViolation, match="from byte 4 on"):
        read((GET, streamed(b"0123", CUT)), (rest(4), Response(416)), retry=Retry(attempts=2))


@pytest.mark.parametrize("size", [None, 10])
def test_a_part_that_is_short_is_gone_on_with(size: int | None) -> None:
    """A server may send less than was asked for (RFC 9110, section 15.3.7)."""
    steps = (GET, streamed(b"0123", CUT)), (rest(4), part(4, b"45"))
    assert read(*steps, (rest(6), part(6, b"6789")), size=size) == DATA


@pytest.mark.parametrize("size", [None, 10])
def test_a_part_without_a_byte_is_no_rest(size: int | None) -> None:
    """The same question would have the same answer: the whole blob is asked for."""
    steps = (GET, streamed(b"0123", CUT)), (rest(4), part(4))
    assert read(*steps, (later(GET, 1.5), streamed(DATA)), size=size) == DATA


def test_a_part_whose_blob_has_an_unknown_length_ends_with_its_body() -> None:
    """`bytes 4-9/*`: nobody says how long the blob is; its digest does."""
    rest_of_it = part(4, b"456789")
    unknown = Response(206, {"content-range": "bytes 4-9/*"}, body_stream=rest_of_it.body_stream)
    assert read((GET, streamed(b"0123", CUT)), (rest(4), unknown)) == DATA


def test_a_part_that_nobody_asked_for_is_a_violation() -> None:
    """206 answers a Range request alone (RFC 9110, section 15.3.7)."""
    with pytest.raises(ProtocolViolation, match="206"):
        read((GET, part(0, DATA)))


def test_other_bytes_in_the_rest_are_a_mismatch() -> None:
    """The blob may have changed between two answers: the hash goes over both."""
    with pytest.raises(DigestMismatch):
        read((GET, streamed(b"0123", CUT)), (rest(4), part(4, b"xxxxxx")))


@pytest.mark.parametrize("blocks", [(), (b"01",)])
def test_a_shorter_answer_to_the_rest_is_a_mismatch(blocks: tuple[bytes, ...]) -> None:
    """An end that comes before what is here is no end of this blob."""
    with pytest.raises(DigestMismatch):
        read((GET, streamed(b"0123", CUT)), (rest(4), streamed(*blocks)))


# --- Refusals


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, Unauthorized),
        (403, Denied),
        (404, NotFound),
        (416, RegistryError),
        (204, ProtocolViolation),
    ],
)
def test_a_refusal_is_itself(status: int, kind: type[BrolgaError]) -> None:
    """404 where the blob is not there (Pulling blobs)."""
    with pytest.raises(kind, match=str(status)):
        read((GET, Response(status)))


@pytest.mark.parametrize(("status", "kind"), [(404, NotFound), (403, Denied)])
def test_a_refusal_in_the_middle_is_itself(status: int, kind: type[BrolgaError]) -> None:
    """A blob may be deleted while it is read."""
    with pytest.raises(kind):
        read((GET, streamed(b"0123", CUT)), (rest(4), Response(status)))


def test_a_refusal_that_passes_is_waited_for() -> None:
    """A registry that restarts in the middle of a read."""
    assert (
        read(
            (GET, streamed(b"0123", CUT)),
            (rest(4), Response(503)),
            (rest(4), CUT),
            (rest(4, 1.5), part(4, b"456789")),
        )
        == DATA
    )


def test_a_token_that_died_is_renewed_in_the_middle() -> None:
    """A token lives for minutes, a large read for hours."""
    steps = (
        (GET, streamed(b"0123", CUT)),
        (rest(4), Response(401, BEARER)),
        (token_call(), TOKEN),
        (authorized(rest(4, 0.0), "Bearer t1"), part(4, b"456789")),
    )
    assert read(*steps) == DATA


def test_the_rest_is_asked_for_at_the_registry() -> None:
    """A storage's signed URL may be dead by then: the registry gives a new one."""
    away = "https://cdn.example/x?sig=1"
    there = elsewhere(Request("GET", away, stream_response=True))
    again = elsewhere(Request("GET", away, {"Range": "bytes=4-"}, stream_response=True))
    steps = (
        (GET, Response(307, {"location": away})),
        (there, streamed(b"0123", CUT)),
        (rest(4), Response(307, {"location": away})),
        (again, part(4, b"456789")),
    )
    assert read(*steps) == DATA


# --- Who stops


@pytest.mark.parametrize("taken", [0, 1, 2])
def test_a_read_that_is_dropped_closes_its_connection(taken: int) -> None:
    """A connection whose body is not read to its end cannot serve another call."""
    flow = read_blob(access(), DIGEST)
    assert next(flow) == GET
    response = streamed(b"01234", b"56789")
    for number in range(taken):
        _ = next(flow) if number else flow.send(response)
    flow.close()
    assert all_closed(response) is (taken > 0)


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), OSError("the driver's own")])
def test_a_failure_of_the_driver_comes_out_as_it_was(failure: BaseException) -> None:
    """What is no failure of the connection is not mended here."""

    def body() -> Generator[bytes, None, None]:
        yield b"0123"
        raise failure

    response = Response(200, body_stream=body())
    with pytest.raises(type(failure)) as caught:
        drive(gathered(read_blob(access(retry=PATIENT), DIGEST)), lambda _call: response)
    assert caught.value is failure
    assert all_closed(response)


# --- Asked for


@pytest.mark.parametrize(
    "said",
    [
        {"content-length": "4"},
        {"docker-content-digest": str(BLOB.digest)},
        {"docker-content-digest": str(BLOB.digest), "content-length": "0"},
        {"docker-content-digest": "nonsense", "content-length": "4"},
    ],
)
def test_a_blob_is_there(said: dict[str, str]) -> None:
    """A HEAD of an existing blob MUST return 200 OK (Checking if content exists)."""
    assert play(has_blob(access(), BLOB), (HEAD, Response(200, said))) is True


@pytest.mark.parametrize(
    "reply",
    [
        Response(404),
        Response(200),
        Response(200, {"content-length": "5"}),
        Response(200, {"content-length": "0"}),
        Response(200, {"content-length": "4", "docker-content-digest": str(DIGEST)}),
    ],
)
def test_a_blob_is_not_there(response: Response) -> None:
    """404 where it is not found; another size or digest is another blob, a bare 200 a page."""
    assert play(has_blob(access(), BLOB), (HEAD, response)) is False


@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, Unauthorized), (403, Denied), (500, RegistryError), (204, ProtocolViolation)],
)
def test_who_may_not_know_is_told(status: int, kind: type[BrolgaError]) -> None:
    """No answer is not the answer no."""
    play(has_blob(access(), BLOB), (HEAD, Response(status)), error=kind)


def test_a_blob_may_be_there_elsewhere() -> None:
    """A HEAD follows a redirect as a GET does."""
    away = elsewhere(Request("HEAD", "https://cdn.example/x"))
    there = Response(307, {"location": away.url})
    size = Response(200, {"content-length": "4"})
    assert play(has_blob(access(), BLOB), (HEAD, there), (away, size)) is True


# --- Deleted

DELETE = Request("DELETE", f"{HOME}/v2/team/app/blobs/{BLOB.digest}")


@pytest.mark.parametrize("status", [200, 202, 204])
def test_a_blob_is_deleted(status: int) -> None:
    """202 Accepted (Deleting Blobs); others say it their way."""
    play(delete_blob(access(), BLOB.digest), (DELETE, Response(status)))


@pytest.mark.parametrize(
    ("status", "kind"),
    [(404, NotFound), (405, RegistryError), (403, Denied), (307, ProtocolViolation)],
)
def test_a_blob_that_is_not_deleted_is_told(status: int, kind: type[BrolgaError]) -> None:
    """404 where it is not found, 400 or 405 where deletion is disabled (Deleting Blobs)."""
    play(delete_blob(access(), BLOB.digest), (DELETE, Response(status)), error=kind)


def test_a_size_is_the_descriptors() -> None:
    """The media type has nothing to do with what is there."""
    other = Descriptor("text/plain", BLOB.digest, 4)
    assert play(has_blob(access(), other), (HEAD, Response(200, {"content-length": "4"}))) is True


def test_what_the_lost_attempt_deleted_is_deleted() -> None:
    """DELETE is idempotent (RFC 9110, 9.2.2): the second one finds nothing, as was wanted."""
    way = access(retry=PATIENT)
    play(delete_blob(way, BLOB.digest), (DELETE, CUT), (later(DELETE, 0.5), Response(404)))
    steps = (DELETE, Response(503)), (later(DELETE, 0.5), Response(404))
    play(delete_blob(way, BLOB.digest), *steps, error=NotFound)
