"""protocol.blobs: check, read and delete blobs."""

from __future__ import annotations

from inspect import GEN_CLOSED, getgeneratorstate
from types import GeneratorType
from typing import TYPE_CHECKING

import pytest
from tests.protocol.driver import (
    BEARER,
    BLOB,
    HEAD,
    HOME,
    Answer,
    advance,
    collect_bytes,
    drive,
    from_redirect,
    make_access,
    play,
    token_request,
    with_authorization,
    with_delay,
)

from brolga.errors import (
    BrolgaError,
    Denied,
    DigestMismatch,
    NotFound,
    ProtocolViolation,
    RangeNotSupported,
    RegistryError,
    TransportError,
    Unauthorized,
)
from brolga.protocol import (
    BlobHead,
    Request,
    Response,
    Retry,
    delete_blob,
    get_blob_size,
    has_blob,
    read_blob,
    read_range,
)
from brolga.protocol.http import ReadBlock
from brolga.spec.descriptor import Descriptor
from brolga.spec.digest import Digest
from brolga.spec.value import replace
from brolga.stores.blob_reader import verify

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
    """Return a response whose body comes in blocks; `start` is the offset of a part."""

    def body() -> Generator[bytes, None, None]:
        for block in blocks:
            if isinstance(block, Exception):
                raise block
            yield block

    headers = {} if start is None else {"content-range": f"bytes {start}-9/10"}
    return Response(status, headers, body_stream=body())


def part(start: int, *blocks: bytes | Exception) -> Response:
    """Return the part of a body from an offset on."""
    return streamed(*blocks, status=206, start=start)


def rest(start: int, delay: float = 0.5) -> Request:
    """Return the request for the rest from an offset on."""
    return with_delay(
        Request("GET", URL, {"Range": f"bytes={start}-"}, stream_response=True), delay
    )


def all_closed(*responses: Answer) -> bool:
    """Return whether every body was closed."""
    bodies = [
        response.body_stream
        for response in responses
        if isinstance(response, Response) and isinstance(response.body_stream, GeneratorType)
    ]
    return all(getgeneratorstate(body) == GEN_CLOSED for body in bodies)


def read(
    *steps: tuple[Request, Answer],
    size: int | None = None,
    digest: Digest = DIGEST,
    retry: Retry = PATIENT,
) -> bytes:
    """Read and verify a blob by a script, and check that each body is closed."""
    flow = collect_bytes(read_blob(make_access(retry=retry), digest, size))
    try:
        data = play(flow, *steps)
        return b"".join(verify((block for block in [data]), digest, size, HOME))
    finally:
        assert all_closed(*(response for _, response in steps))


# --- Complete reads


@pytest.mark.parametrize("size", [None, 10])
@pytest.mark.parametrize("blocks", [(DATA,), (b"01234", b"56789"), (b"", b"0123", b"", b"456789")])
def test_read_blob_yields_blocks(blocks: tuple[bytes, ...], size: int | None) -> None:
    """A GET MUST return the blob's bytes (Pulling blobs, end-2)."""
    assert read((GET, streamed(*blocks)), size=size) == DATA


def test_read_blob_accepts_empty_blob() -> None:
    """An empty blob is valid: e3b0c442..."""
    digest = Digest.of(b"")
    request = Request("GET", f"{HOME}/v2/team/app/blobs/{digest}", stream_response=True)
    assert read((request, streamed()), size=0, digest=digest) == b""


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_read_blob_verifies_each_algorithm(algorithm: str) -> None:
    """Both are registered (image-spec descriptor.md, Registered algorithms)."""
    digest = Digest.of(DATA, algorithm)
    request = Request("GET", f"{HOME}/v2/team/app/blobs/{digest}", stream_response=True)
    assert read((request, streamed(DATA)), digest=digest) == DATA
    with pytest.raises(DigestMismatch):
        read((request, streamed(DATA[::-1])), digest=digest)


# --- Mismatches


@pytest.mark.parametrize("blocks", [(b"9876543210",), (b"01234567",), (b"0123456789a",), ()])
def test_read_blob_raises_on_other_bytes(blocks: tuple[bytes, ...]) -> None:
    """Content SHOULD be verified against the digest (descriptor.md, Verification)."""
    with pytest.raises(DigestMismatch):
        read((GET, streamed(*blocks)))


def test_read_blob_raises_on_too_few_bytes() -> None:
    """`size` exists so that a client can check the length (descriptor.md, Properties)."""
    with pytest.raises(DigestMismatch, match=r"gave 8 bytes as sha256:.* not the expected 10"):
        read((GET, streamed(b"01234567")), size=10)


def test_read_blob_raises_at_once_on_too_many_bytes() -> None:
    """An endless body must not be read to its end (GHSA-f36w-mj3v-6jqv)."""
    taken: list[bytes] = []

    def endless() -> Generator[bytes, None, None]:
        while True:
            taken.append(b"0123")
            yield b"0123"

    response = Response(200, body_stream=endless())
    with pytest.raises(DigestMismatch, match="gave more bytes"):
        read((GET, response), size=10)
    assert len(taken) == 3


def test_verify_yields_last_block_after_check() -> None:
    """A reader that stops at the size still gets DigestMismatch."""
    blocks = verify((block for block in [b"01234", b"xxxxx"]), DIGEST, 10, HOME)
    assert next(blocks) == b"01234"
    with pytest.raises(DigestMismatch, match=f"{HOME} gave other bytes as {DIGEST}") as caught:
        next(blocks)
    assert caught.value.expected == str(DIGEST)


# --- Cuts


@pytest.mark.parametrize("size", [None, 10])
@pytest.mark.parametrize("reason", ["cut", "timeout"])
def test_read_blob_resumes_with_range_after_cut(size: int | None, reason: str) -> None:
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


def test_read_blob_repeats_without_range_after_cut_before_first_byte() -> None:
    """There is nothing to leave out."""
    assert read((GET, streamed(CUT)), (with_delay(GET, 0.5), streamed(DATA))) == DATA


@pytest.mark.parametrize(
    "blocks",
    [(DATA,), (b"0123", b"456789"), (b"01", b"", b"23", b"45", b"6789"), (b"012", b"3456789")],
)
def test_read_blob_skips_known_bytes_if_range_is_ignored(blocks: tuple[bytes, ...]) -> None:
    """A server MAY ignore the Range header (RFC 9110, section 14.2): 200, from the start."""
    assert read((GET, streamed(b"0123", CUT)), (rest(4), streamed(*blocks))) == DATA


def test_read_blob_counts_no_progress_for_skipped_bytes() -> None:
    """Three cuts at one offset are three attempts."""
    first = GET, streamed(b"0123", CUT)
    again = rest(4), streamed(b"0123", CUT)
    last = rest(4, 1.5), streamed(b"01", b"23", CUT)
    with pytest.raises(TransportError) as caught:
        read(first, again, last)
    assert caught.value is CUT


def test_read_blob_bounds_attempts_without_progress() -> None:
    """A registry that sends nothing is given up."""
    steps = (GET, streamed(CUT)), (with_delay(GET, 0.5), streamed(b"", CUT))
    with pytest.raises(TransportError):
        read(*steps, (with_delay(GET, 1.5), streamed(CUT)))


def test_read_blob_resets_count_after_progress() -> None:
    """A large blob over a bad line: each cut counts as the first."""
    steps: list[tuple[Request, Answer]] = [(GET, streamed(b"0", CUT))]
    for place in range(1, 9):
        steps.append((rest(place), part(place, CUT)))
        steps.append((rest(place, 1.5), part(place, DATA[place : place + 1], CUT)))
    assert read(*steps, (rest(9), part(9, b"9"))) == DATA


def test_read_blob_bounds_total_delay() -> None:
    """A registry that sends one byte more each time does not hold us for ever."""
    access = make_access(retry=Retry(attempts=2, max_elapsed_s=0.9))
    flow = collect_bytes(read_blob(access, DIGEST, len(DATA)))
    steps = (GET, streamed(b"0", CUT)), (with_delay(rest(1), 0.5), part(1, b"1", CUT))
    play(flow, *steps, error=TransportError)


def test_read_blob_ignores_cut_after_last_byte() -> None:
    """All bytes arrived and are verified: a Range after them could only be refused (416)."""
    assert read((GET, streamed(DATA, CUT)), size=10) == DATA
    with pytest.raises(DigestMismatch):
        read((GET, streamed(DATA[::-1], CUT)), size=10)


@pytest.mark.parametrize(
    "content_range",
    ["", "bytes 3-9/10", "bytes 5-9/10", "bytes */10", "bytes=4-9", "items 4-9/10", "4-9/10"],
)
def test_read_blob_reads_whole_blob_after_wrong_part(content_range: str) -> None:
    """Content-Range says which part is enclosed (RFC 9110, section 15.3.7).

    The whole blob is read then, and the known bytes are skipped.
    """
    wrong = part(4, b"456789")
    wrong = Response(206, {"content-range": content_range}, body_stream=wrong.body_stream)
    first = (GET, streamed(b"0123", CUT)), (rest(4), wrong)
    assert read(*first, (with_delay(GET, 1.5), streamed(b"01234", b"56789"))) == DATA


@pytest.mark.parametrize("size", [None, 10])
@pytest.mark.parametrize("answer", [Response(416), Response(206)])
def test_read_blob_reads_whole_blob_after_416(answer: Response, size: int | None) -> None:
    """416: none of the ranges can be served (RFC 9110, section 15.5.17), a proxy may say."""
    steps: list[tuple[Request, Answer]] = [(GET, streamed(b"0123", CUT)), (rest(4), answer)]
    steps += [
        (with_delay(GET, 1.5), streamed(b"0123", b"45", CUT)),
        (with_delay(GET, 0.5), streamed(DATA)),
    ]
    assert read(*steps, size=size) == DATA


def test_read_blob_verifies_skipped_bytes() -> None:
    """The bytes that were yielded must be a part of what is verified."""
    steps = (GET, streamed(b"0123", CUT)), (rest(4), Response(416))
    with pytest.raises(DigestMismatch):
        read(*steps, (with_delay(GET, 1.5), streamed(b"0123x56789")))


def test_read_blob_bounds_attempts_after_416() -> None:
    """The last error says what is wrong."""
    last = with_delay(GET, 1.5), streamed(b"0123", CUT)
    with pytest.raises(TransportError):
        read((GET, streamed(b"0123", CUT)), (rest(4), Response(416)), last)
    with pytest.raises(ProtocolViolation, match="from byte 4 on"):
        read((GET, streamed(b"0123", CUT)), (rest(4), Response(416)), retry=Retry(attempts=2))


@pytest.mark.parametrize("size", [None, 10])
def test_read_blob_resumes_after_short_part(size: int | None) -> None:
    """A server may send less than was requested (RFC 9110, section 15.3.7)."""
    steps = (GET, streamed(b"0123", CUT)), (rest(4), part(4, b"45"))
    assert read(*steps, (rest(6), part(6, b"6789")), size=size) == DATA


@pytest.mark.parametrize("size", [None, 10])
def test_read_blob_reads_whole_blob_after_empty_part(size: int | None) -> None:
    """The same request would get the same response."""
    steps = (GET, streamed(b"0123", CUT)), (rest(4), part(4))
    assert read(*steps, (with_delay(GET, 1.5), streamed(DATA)), size=size) == DATA


def test_read_blob_accepts_part_of_unknown_length() -> None:
    """`bytes 4-9/*` does not give the blob's length; the digest verifies it."""
    rest_of_it = part(4, b"456789")
    unknown = Response(206, {"content-range": "bytes 4-9/*"}, body_stream=rest_of_it.body_stream)
    assert read((GET, streamed(b"0123", CUT)), (rest(4), unknown)) == DATA


def test_read_blob_rejects_unrequested_part() -> None:
    """206 is a response to a Range request only (RFC 9110, section 15.3.7)."""
    with pytest.raises(ProtocolViolation, match="206"):
        read((GET, part(0, DATA)))


def test_read_blob_raises_on_other_bytes_in_rest() -> None:
    """The blob may have changed between two responses: the hash covers both."""
    with pytest.raises(DigestMismatch):
        read((GET, streamed(b"0123", CUT)), (rest(4), part(4, b"xxxxxx")))


@pytest.mark.parametrize("blocks", [(), (b"01",)])
def test_read_blob_raises_if_whole_blob_is_shorter_than_known(blocks: tuple[bytes, ...]) -> None:
    """The response ends before the bytes that are known."""
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
def test_read_blob_raises_on_refusal(status: int, kind: type[BrolgaError]) -> None:
    """404 if the blob is missing (Pulling blobs)."""
    with pytest.raises(kind, match=str(status)):
        read((GET, Response(status)))


@pytest.mark.parametrize(("status", "kind"), [(404, NotFound), (403, Denied)])
def test_read_blob_raises_on_refusal_of_rest(status: int, kind: type[BrolgaError]) -> None:
    """A blob may be deleted while it is read."""
    with pytest.raises(kind):
        read((GET, streamed(b"0123", CUT)), (rest(4), Response(status)))


def test_read_blob_repeats_after_transient_refusal_of_rest() -> None:
    """A registry may restart while a blob is read."""
    assert (
        read(
            (GET, streamed(b"0123", CUT)),
            (rest(4), Response(503)),
            (rest(4), CUT),
            (rest(4, 1.5), part(4, b"456789")),
        )
        == DATA
    )


def test_read_blob_renews_expired_token() -> None:
    """A token lives for minutes, a large read takes hours."""
    steps = (
        (GET, streamed(b"0123", CUT)),
        (rest(4), Response(401, BEARER)),
        (token_request(), TOKEN),
        (with_authorization(rest(4, 0.0), "Bearer t1"), part(4, b"456789")),
    )
    assert read(*steps) == DATA


def test_read_blob_resumes_at_registry_after_redirect() -> None:
    """A storage's signed URL may have expired: the registry gives a new one."""
    away = "https://cdn.example/x?sig=1"
    redirected = from_redirect(Request("GET", away, stream_response=True))
    again = from_redirect(Request("GET", away, {"Range": "bytes=4-"}, stream_response=True))
    steps = (
        (GET, Response(307, {"location": away})),
        (redirected, streamed(b"0123", CUT)),
        (rest(4), Response(307, {"location": away})),
        (again, part(4, b"456789")),
    )
    assert read(*steps) == DATA


AWAY = "https://cdn.example/x?sig=1"
MOVED = Response(307, {"location": AWAY})


def away(start: int | None = None, stop: int | None = None) -> Request:
    """Return the request that a redirect leads to."""
    headers = (
        {} if start is None else {"Range": f"bytes={start}-{'' if stop is None else stop - 1}"}
    )
    return from_redirect(Request("GET", AWAY, headers, stream_response=True))


def test_read_blob_asks_registry_again_if_redirect_is_refused() -> None:
    """The URL of a CDN may have expired when it is used; a new one is asked for once."""
    expired = Response(403, body=b"expired")
    assert read((GET, MOVED), (away(), expired), (GET, MOVED), (away(), streamed(DATA))) == DATA
    with pytest.raises(Denied):
        read((GET, MOVED), (away(), expired), (GET, MOVED), (away(), expired))


def test_read_blob_asks_again_after_each_progress() -> None:
    """URLs that live for a minute expire many times while a blob is read."""
    expired = Response(403)
    steps: list[tuple[Request, Answer]] = [(GET, MOVED), (away(), streamed(b"0123", CUT))]
    for start, block in ((4, b"45"), (6, b"67"), (8, b"89")):
        steps += [(rest(start), MOVED), (away(start), expired)]
        steps += [(rest(start, 0.0), MOVED), (away(start), part(start, block, CUT))]
    assert read(*steps, size=10) == DATA


def test_read_blob_starts_at_offset() -> None:
    """A reader that has the first bytes asks for the others; a registry may ignore it."""
    for response in (part(4, b"456789"), streamed(b"012345", b"6789")):
        flow = collect_bytes(read_blob(make_access(), DIGEST, 10, 4))
        assert play(flow, (rest(4, 0.0), response)) == b"456789"


@pytest.mark.parametrize(
    ("size", "headers", "expected"),
    [
        (None, {"content-length": "10"}, 10),
        (10, {"content-length": "11"}, 10),
        (None, {"content-length": "ten"}, None),
        (None, {}, None),
    ],
)
def test_read_blob_yields_size_of_response(
    size: int | None, headers: dict[str, str], expected: int | None
) -> None:
    """The size of the descriptor counts, if it is known."""
    flow = read_blob(make_access(), DIGEST, size)
    next(flow)
    response = Response(200, headers, body_stream=streamed().body_stream)
    assert flow.send(response) == BlobHead(expected)
    flow.close()


# --- Ranges


def ranged(start: int, stop: int, delay: float = 0.0) -> Request:
    """Return the request for a part."""
    headers = {"Range": f"bytes={start}-{stop - 1}"}
    return with_delay(Request("GET", URL, headers, stream_response=True), delay)


def read_part(
    *steps: tuple[Request, Answer], start: int = 2, stop: int = 6, url: str = ""
) -> bytes:
    """Read a part by a script, and check that each body is closed."""
    access = make_access(retry=PATIENT)
    try:
        return play(collect_bytes(read_range(access, DIGEST, start, stop, url)), *steps)
    finally:
        assert all_closed(*(response for _, response in steps))


@pytest.mark.parametrize(
    "blocks", [(b"2345",), (b"23", b"", b"45"), (b"23456789",), (b"2345", b"6")]
)
def test_read_range_yields_part(blocks: tuple[bytes, ...]) -> None:
    """A server may send more than was requested: no more is yielded."""
    assert read_part((ranged(2, 6), part(2, *blocks))) == b"2345"


def test_read_range_receives_nothing_after_its_last_byte() -> None:
    """A body may have no end, and then what waits for that would wait for ever."""
    late = AssertionError("it waits for the end")
    assert read_part((ranged(2, 6), part(2, b"23", b"45", late))) == b"2345"


def test_read_range_asks_for_first_bytes() -> None:
    """A part from byte 0 on has a Range as well."""
    assert read_part((ranged(0, 4), part(0, b"0123")), start=0, stop=4) == b"0123"


def test_read_range_of_no_bytes_sends_nothing() -> None:
    """There is no Range of no bytes (RFC 9110, section 14.1.2)."""
    assert read_part(start=3, stop=3) == b""


@pytest.mark.parametrize("answer", [streamed(b"0123456789"), Response(416), part(3, b"345")])
def test_read_range_raises_on_other_part(answer: Response) -> None:
    """A server MAY ignore Range, or be wrong (oras-project/oras-go#368)."""
    with pytest.raises(RangeNotSupported):
        read_part((ranged(2, 6), answer))


@pytest.mark.parametrize(
    ("status", "kind"), [(404, NotFound), (403, Denied), (204, ProtocolViolation)]
)
def test_read_range_raises_on_refusal(status: int, kind: type[BrolgaError]) -> None:
    """As the read of a whole blob does."""
    with pytest.raises(kind):
        read_part((ranged(2, 6), Response(status)))


@pytest.mark.parametrize("end", [(), (CUT,)])
def test_read_range_resumes_after_cut(end: tuple[Exception, ...]) -> None:
    """Only the bytes that are missing are asked for again."""
    steps = (ranged(2, 6), part(2, b"23", *end)), (ranged(4, 6, 0.5), part(4, b"45"))
    assert read_part(*steps) == b"2345"


def test_read_range_ignores_cut_after_last_byte() -> None:
    """The part is complete."""
    assert read_part((ranged(2, 6), part(2, b"2345", CUT))) == b"2345"


def test_read_range_bounds_attempts() -> None:
    """A registry that sends nothing is given up."""
    steps = (ranged(2, 6), part(2, CUT)), (ranged(2, 6, 0.5), part(2, CUT))
    with pytest.raises(TransportError):
        read_part(*steps, (ranged(2, 6, 1.5), part(2, CUT)))
    lost = (ranged(2, 6), CUT), (ranged(2, 6, 0.5), CUT), (ranged(2, 6, 1.5), CUT)
    with pytest.raises(TransportError):
        read_part(*lost)


def test_read_range_asks_known_url_first() -> None:
    """The registry redirected an earlier request: one round trip is saved. No token goes there."""
    assert read_part((away(2, 6), part(2, b"2345")), url=AWAY) == b"2345"


@pytest.mark.parametrize(
    "failure", [Response(403), Response(500), Response(416), streamed(b"0123"), CUT, part(2, CUT)]
)
def test_read_range_asks_registry_if_known_url_fails(failure: Answer) -> None:
    """A signed URL expires; the registry gives another one."""
    steps = (away(2, 6), failure), (ranged(2, 6), MOVED), (away(2, 6), part(2, b"2345"))
    assert read_part(*steps, url=AWAY) == b"2345"


def test_read_range_asks_registry_once_more_if_redirect_is_refused() -> None:
    """The new URL may have expired as well, or what it leads to is gone."""
    again = (ranged(2, 6), MOVED), (away(2, 6), Response(403))
    steps = *again, (ranged(2, 6), MOVED), (away(2, 6), part(2, b"2345"))
    assert read_part(*steps) == b"2345"
    with pytest.raises(Denied):
        read_part(*again, *again)


# --- Closed and failed reads


@pytest.mark.parametrize("taken", [0, 1, 2])
def test_read_blob_closes_connection_if_closed(taken: int) -> None:
    """A connection whose body is not read to its end cannot serve another request."""
    flow = read_blob(make_access(), DIGEST)
    assert advance(flow) == GET
    response = streamed(b"01234", b"56789")
    for number in range(taken):
        advance(flow, None if number else response)  # the head is the first
    flow.close()
    assert all_closed(response) is (taken > 0)


@pytest.mark.parametrize("failure", [None, KeyboardInterrupt(), OSError("the driver's own")])
@pytest.mark.parametrize("blocks", [0, 1])
def test_read_blob_closes_connection_if_driver_fails_during_call(
    blocks: int, failure: BaseException | None
) -> None:
    """The read of a block is a call of the driver, which may be given up."""
    flow = read_blob(make_access(retry=PATIENT), DIGEST)
    assert next(flow) == GET
    response = streamed(b"01234", b"56789")
    assert flow.send(response) == BlobHead(None)
    step = next(flow)
    for _ in range(blocks):
        assert isinstance(step, ReadBlock)
        assert flow.send(next(step.stream)) == b"01234"
        step = next(flow)
    assert isinstance(step, ReadBlock)
    if failure is None:
        flow.close()
    else:
        with pytest.raises(type(failure)) as caught:
            flow.throw(failure)
        assert caught.value is failure
    assert all_closed(response)


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), OSError("the driver's own")])
def test_read_blob_raises_failure_of_driver(failure: BaseException) -> None:
    """It does not resume after another failure than that of the connection."""

    def body() -> Generator[bytes, None, None]:
        yield b"0123"
        raise failure

    response = Response(200, body_stream=body())
    with pytest.raises(type(failure)) as caught:
        drive(collect_bytes(read_blob(make_access(retry=PATIENT), DIGEST)), lambda _call: response)
    assert caught.value is failure
    assert all_closed(response)


# --- HEAD


@pytest.mark.parametrize(
    "headers",
    [
        {"content-length": "4"},
        {"docker-content-digest": str(BLOB.digest)},
        {"docker-content-digest": str(BLOB.digest), "content-length": "0"},
        {"docker-content-digest": "nonsense", "content-length": "4"},
    ],
)
def test_has_blob_returns_true_if_head_matches(headers: dict[str, str]) -> None:
    """A HEAD of an existing blob MUST return 200 OK (Checking if content exists)."""
    assert play(has_blob(make_access(), BLOB), (HEAD, Response(200, headers))) is True


@pytest.mark.parametrize(
    "response",
    [
        Response(404),
        Response(200),
        Response(200, {"content-length": "5"}),
        Response(200, {"content-length": "0"}),
        Response(200, {"content-length": "4", "docker-content-digest": str(DIGEST)}),
    ],
)
def test_has_blob_returns_false_if_head_differs(response: Response) -> None:
    """404 if it is missing; another size or digest is another blob, a bare 200 a page."""
    assert play(has_blob(make_access(), BLOB), (HEAD, response)) is False


@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, Unauthorized), (403, Denied), (500, RegistryError), (204, ProtocolViolation)],
)
def test_has_blob_raises_on_refusal(status: int, kind: type[BrolgaError]) -> None:
    """A refusal does not mean that the blob is missing."""
    play(has_blob(make_access(), BLOB), (HEAD, Response(status)), error=kind)


def test_has_blob_follows_redirect() -> None:
    """A HEAD follows a redirect as a GET does."""
    away = from_redirect(Request("HEAD", "https://cdn.example/x"))
    redirect = Response(307, {"location": away.url})
    size = Response(200, {"content-length": "4"})
    assert play(has_blob(make_access(), BLOB), (HEAD, redirect), (away, size)) is True


# --- Size

WHOLE = Request("GET", HEAD.url, stream_response=True)


def test_get_blob_size_returns_length_of_head() -> None:
    """Nothing else is sent."""
    response = Response(200, {"content-length": "4"})
    assert play(get_blob_size(make_access(), BLOB.digest), (HEAD, response)) == 4


@pytest.mark.parametrize("headers", [{}, {"content-length": "0"}], ids=["none", "zero"])
@pytest.mark.parametrize("size", [0, 4])
def test_get_blob_size_asks_by_get_if_head_lacks_length(headers: dict[str, str], size: int) -> None:
    """No byte of the body is read."""
    whole = replace(streamed(b"blob"), headers={"content-length": str(size)})
    steps = (HEAD, Response(200, headers)), (WHOLE, whole)
    assert play(get_blob_size(make_access(), BLOB.digest), *steps) == size
    assert all_closed(whole)


@pytest.mark.parametrize("length", [None, "", "four", "-4", "4" * 20])
def test_get_blob_size_raises_if_no_response_has_length(length: str | None) -> None:
    """A chunked response has none (RFC 9112, section 6.1)."""
    headers = {} if length is None else {"content-length": length}
    whole = Response(200, headers, body_stream=None if length else streamed(b"").body_stream)
    steps = [(HEAD, Response(200)), (WHOLE, whole)]
    if length:
        steps = [(HEAD, Response(200, headers))]
    error = play(get_blob_size(make_access(), BLOB.digest), *steps, error=ProtocolViolation)
    assert "does not say the size" in str(error)


@pytest.mark.parametrize("status", [404, 403, 500])
def test_get_blob_size_raises_on_refusal(status: int) -> None:
    """Of the HEAD, or of the GET that follows one without a length."""
    head = HEAD, Response(status, {"content-length": "4"})
    play(get_blob_size(make_access(), BLOB.digest), head, error=RegistryError)
    play(
        get_blob_size(make_access(), BLOB.digest),
        (HEAD, Response(200)),
        (WHOLE, Response(404)),
        error=NotFound,
    )


# --- DELETE

DELETE = Request("DELETE", f"{HOME}/v2/team/app/blobs/{BLOB.digest}")


@pytest.mark.parametrize("status", [200, 202, 204])
def test_delete_blob_accepts_success(status: int) -> None:
    """202 Accepted (Deleting Blobs), or another success."""
    play(delete_blob(make_access(), BLOB.digest), (DELETE, Response(status)))


@pytest.mark.parametrize(
    ("status", "kind"),
    [(404, NotFound), (405, RegistryError), (403, Denied), (307, ProtocolViolation)],
)
def test_delete_blob_raises_on_error(status: int, kind: type[BrolgaError]) -> None:
    """404 if it is missing, 400 or 405 if deletion is disabled (Deleting Blobs)."""
    play(delete_blob(make_access(), BLOB.digest), (DELETE, Response(status)), error=kind)


def test_has_blob_ignores_media_type() -> None:
    """The media type has nothing to do with what is there."""
    other = Descriptor("text/plain", BLOB.digest, 4)
    assert (
        play(has_blob(make_access(), other), (HEAD, Response(200, {"content-length": "4"}))) is True
    )


def test_delete_blob_accepts_404_after_lost_response() -> None:
    """DELETE is idempotent (RFC 9110, 9.2.2): the second one finds nothing."""
    access = make_access(retry=PATIENT)
    play(delete_blob(access, BLOB.digest), (DELETE, CUT), (with_delay(DELETE, 0.5), Response(404)))
    steps = (DELETE, Response(503)), (with_delay(DELETE, 0.5), Response(404))
    play(delete_blob(access, BLOB.digest), *steps, error=NotFound)
