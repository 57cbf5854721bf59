"""upload/session.py: one upload session, step by step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.protocol.driver import (
    ACCEPTED,
    BEARER,
    BLOB,
    FIRST,
    HEAD,
    POST,
    QUERY,
    SECOND,
    UPLOADS,
    Answer,
    delete,
    drive,
    make_access,
    play,
    with_delay,
)

from brolga.errors import (
    DigestMismatch,
    ProtocolViolation,
    RegistryError,
    TransportError,
)
from brolga.protocol import BodyError, Request, Response, Timeout
from brolga.protocol.responses import location
from brolga.protocol.upload import session as upload_session
from brolga.protocol.upload.body import Chunk, split_chunks
from brolga.protocol.upload.session import (
    UploadSession,
    cancel,
    chunk_patch,
    closing_put,
    follow_location,
    get_status,
    monolithic_put,
    open_session,
    post_blob,
    query_blob,
    streamed_patch,
    verify_stored,
)
from brolga.spec.digest import Digest

if TYPE_CHECKING:
    from collections.abc import Callable

    from brolga.protocol import Flow

CUT = TransportError("cut", reason="cut")
OCTETS = {"Content-Type": "application/octet-stream"}
ASKED = Request("GET", FIRST)


def at(acknowledged: int = 0, url: str = FIRST) -> UploadSession:
    """Return a session of whose bytes so many are acknowledged."""
    return UploadSession(url, acknowledged)


# --- Requests


def test_open_session_returns_the_location() -> None:
    """The response to a successful request MUST be 202, with a Location (end-4a)."""
    assert play(open_session(make_access()), (POST, ACCEPTED)) == at()
    assert play(open_session(make_access(), 2.0), (with_delay(POST, 2.0), ACCEPTED)) == at()


def test_open_session_names_the_algorithm() -> None:
    """The POST SHOULD have the parameter for any algorithm but sha256 (end-4c)."""
    strong = Request("POST", f"{UPLOADS}?digest-algorithm=sha512", body=b"")
    flow = open_session(make_access(), algorithm="sha512")
    assert play(flow, (strong, ACCEPTED)) == at()
    flow = open_session(make_access(), algorithm="sha256")
    assert play(flow, (POST, ACCEPTED)) == at()


@pytest.mark.parametrize(
    ("text", "size"),
    [("5242880", 5 << 20), (str(32 << 20), 32 << 20), (str(33 << 20), 0), ("-1", 0), ("1.5", 0)],
)
def test_open_session_returns_the_min_chunk_within_the_limit(text: str, size: int) -> None:
    """OCI-Chunk-Min-Length: the client SHOULD NOT send smaller ones, the last one apart."""
    response = Response(202, {"location": FIRST, "oci-chunk-min-length": text})
    assert play(open_session(make_access()), (POST, response)).limits == (size, 0)


@pytest.mark.parametrize(
    ("text", "size"),
    [("1", 1), ("104857600", 100 << 20), ("0", 0), ("-1", 0), ("5MB", 0), ("9" * 19, 0)],
)
def test_open_session_returns_the_max_chunk(text: str, size: int) -> None:
    """OCI-Chunk-Max-Length is proposed (opencontainers/distribution-spec#485)."""
    response = Response(202, {"location": FIRST, "oci-chunk-max-length": text})
    assert play(open_session(make_access()), (POST, response)).limits == (0, size)


def test_streamed_patch_has_neither_length_nor_range() -> None:
    """Docker's form of a stream of unknown length."""
    body = (b"blob",)
    assert streamed_patch(at(), body) == Request("PATCH", FIRST, OCTETS, body, Timeout.LONG)


def test_chunk_patch_has_a_content_range() -> None:
    """Content-Range is `<start>-<end>`, the end inclusive (Pushing a blob in chunks, end-5)."""
    headers = {**OCTETS, "Content-Range": "4-5"}
    chunk = Chunk((b"o", b"b"), 2)
    assert chunk_patch(at(4), chunk) == Request("PATCH", FIRST, headers, (b"o", b"b"), Timeout.LONG)


@pytest.mark.parametrize(
    ("acknowledged", "last", "headers"),
    [
        (4, None, {}),
        (0, Chunk((b"bl", b"ob"), 4), OCTETS),
        (2, Chunk((b"ob",), 2), {**OCTETS, "Content-Range": "2-3"}),
    ],
)
def test_closing_put_has_the_last_chunk(
    acknowledged: int, last: Chunk | None, headers: dict[str, str]
) -> None:
    """The final chunk MAY be uploaded by the closing PUT (end-6)."""
    body = last.blocks if last else b""
    request = Request("PUT", f"{FIRST}&{QUERY}", headers, body, Timeout.LONG)
    assert closing_put(at(acknowledged), BLOB.digest, last) == request


def test_monolithic_put_has_a_length() -> None:
    """The blob's size is its Content-Length (Pushing a blob monolithically, end-6)."""
    body = (b"bl", b"ob")
    request = Request("PUT", f"{FIRST}&{QUERY}", OCTETS, body, Timeout.LONG, size=4)
    assert monolithic_put(at(), BLOB.digest, body, 4) == request


BY_POST = Request("POST", f"{UPLOADS}?{QUERY}", OCTETS, b"blob")


def test_post_blob_returns_none_after_201() -> None:
    """Successful completion of the request MUST return 201 (end-4b)."""
    assert play(post_blob(make_access(), b"blob", BLOB.digest), (BY_POST, Response(201))) is None


def test_post_blob_returns_a_session_after_202() -> None:
    """Registries that do not support it SHOULD return 202, with a Location (end-4b)."""
    assert play(post_blob(make_access(), b"blob", BLOB.digest), (BY_POST, ACCEPTED)) == at()


def test_open_session_cancels_the_session_after_an_interrupt() -> None:
    """The response that came with the interrupt has the Location of the session."""
    error = KeyboardInterrupt()
    for answer, cancelled in (
        (BodyError(error, ACCEPTED), ((delete(FIRST), Response(204)),)),
        (BodyError(error, Response(202)), ()),  # no Location
        (BodyError(error, Response(401, BEARER)), ()),
        (BodyError(error), ()),
    ):
        failed = play(open_session(make_access()), (POST, answer), *cancelled, error=BodyError)
        assert failed is answer


@pytest.mark.parametrize(
    ("opened", "post"),
    [
        (lambda: open_session(make_access()), POST),
        (lambda: post_blob(make_access(), b"blob", BLOB.digest), BY_POST),
    ],
)
def test_session_is_cancelled_if_interrupt_comes_while_response_is_read(
    monkeypatch: pytest.MonkeyPatch, opened: Callable[[], Flow[object]], post: Request
) -> None:
    """The first Location of a process takes milliseconds: regular expressions are compiled."""
    calls: list[Response] = []

    def interrupted(request: Request, response: Response) -> str:
        calls.append(response)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return location(request, response)

    monkeypatch.setattr(upload_session, "location", interrupted)
    cancelled = (delete(FIRST), Response(204))
    play(opened(), (post, ACCEPTED), cancelled, error=KeyboardInterrupt)


@pytest.mark.parametrize(
    ("blocks", "cut"),
    [
        ([], []),
        ([b"", b""], []),
        ([b"a"], [((b"a",), True)]),
        ([b"abc"], [((b"abc",), True)]),
        ([b"ab", b"", b"cd"], [((b"ab", b"c"), False), ((b"d",), True)]),
        ([b"ab", b"c", b"d"], [((b"ab", b"c"), False), ((b"d",), True)]),
        ([b"abcdef"], [((b"abc",), False), ((b"def",), True)]),
        ([memoryview(b"abcdefg")], [((b"abc",), False), ((b"def",), False), ((b"g",), True)]),
    ],
)
def test_split_chunks_marks_the_last_one(
    blocks: list[bytes], cut: list[tuple[tuple[bytes, ...], bool]]
) -> None:
    """The last one is marked even if it is whole: it may go with the PUT."""
    found = list(split_chunks(blocks, 3))
    assert [(chunk.blocks, chunk.is_last) for chunk in found] == cut
    assert [chunk.size for chunk in found] == [sum(map(len, pieces)) for pieces, _ in cut]


def test_split_chunks_copies_no_byte() -> None:
    """A window holds them too: two copies would be twice the memory."""
    blocks = [bytearray(b"abcd"), bytearray(b"efgh")]
    (first, last) = split_chunks(map(memoryview, blocks), 6)
    blocks[0][:] = b"ABCD"
    blocks[1][:] = b"EFGH"
    assert b"".join(first.blocks) + b"".join(last.blocks) == b"ABCDEFGH"


# --- Where a session is


@pytest.mark.parametrize(
    ("headers", "url"), [({}, FIRST), ({"location": SECOND}, SECOND), ({"location": "two"}, None)]
)
def test_follow_location_returns_the_new_url(headers: dict[str, str], url: str | None) -> None:
    """The Location of the preceding answer is the one to use (Pushing a blob in chunks)."""
    there = follow_location(at(1), POST, Response(202, headers), 4)
    assert there == at(4, url or f"{POST.url}two")


def test_follow_location_raises_for_an_unsafe_location() -> None:
    """A Location may point inside (CVE-2026-48978)."""
    with pytest.raises(ProtocolViolation):
        follow_location(at(), POST, Response(202, {"location": "https://127.0.0.1/u"}), 4)


# --- How far it came


@pytest.mark.parametrize(
    ("text", "acknowledged", "known"),
    [
        ("0-3", 0, 4),
        ("bytes=0-3", 0, 4),
        ("0-0", 0, 0),  # distribution 2.8, of nothing and of one byte
        ("bytes=0--1", 0, 0),  # Quay, of nothing
        ("0-0", 2, 2),  # ECR, of all
        ("0-1", 4, 4),
        ("0-9", 0, 10),
        ("0-10", 0, None),  # more than went out
        ("1-3", 0, None),
        ("0-3/4", 0, None),
        ("bytes 0-3", 0, None),
        ("", 0, None),
    ],
)
@pytest.mark.parametrize("code", [200, 202, 204])
def test_get_status_parses_range_as_registries_write_it(
    code: int, text: str, acknowledged: int, known: int | None
) -> None:
    """`0-<end>`, inclusive (end-13); if it is behind the acknowledged bytes, those count."""
    response = Response(code, {"range": text, "location": SECOND})
    there = play(get_status(make_access(), at(acknowledged), 10), (ASKED, response))
    assert there == (None if known is None else at(known, SECOND))


@pytest.mark.parametrize(
    "answer",
    [
        Response(400),
        Response(403),
        Response(404),
        Response(416),
        Response(301),
        Response(201, {"range": "0-3"}),
        Response(204, {"range": "0-3", "location": "http://registry.example/u"}),
        TransportError("no", reason="certificate"),
        TransportError("no", reason="tls"),
    ],
)
def test_get_status_returns_none_without_a_valid_offset(answer: Answer) -> None:
    """A session whose offset is not known is not written to."""
    assert play(get_status(make_access(), at(), 10), (ASKED, answer)) is None


def test_get_status_returns_none_after_401() -> None:
    """Without a token it cannot be resumed."""
    assert play(get_status(make_access(), at(), 10), (ASKED, Response(401))) is None


@pytest.mark.parametrize("answer", [CUT, Response(429), Response(500), Response(503)])
def test_get_status_raises_a_transient_failure(answer: Answer) -> None:
    """A registry that restarts still has it: the caller decides how long to wait."""
    kind = TransportError if answer is CUT else RegistryError
    play(get_status(make_access(), at(), 10), (ASKED, answer), error=kind)
    play(get_status(make_access(), at(), 10, 3.0), (with_delay(ASKED, 3.0), answer), error=kind)


# --- Whether it is done

DIGEST = {"docker-content-digest": str(BLOB.digest)}
OTHER = {"docker-content-digest": str(Digest.of(b"other"))}


@pytest.mark.parametrize(
    ("answer", "there"),
    [
        (Response(200, DIGEST), True),
        (Response(200, {"content-length": "4"}), True),
        (Response(200, {"content-length": "4"} | DIGEST), True),
        (Response(200, {"content-length": "0"} | DIGEST), True),
        (Response(200, {"content-length": "3"} | DIGEST), False),
        (Response(200, {"content-length": "4"} | OTHER), False),
        (Response(200, {"content-length": "0"}), False),
        (Response(200), False),
        (Response(404), False),
        (Response(404, {"content-length": "4"}), False),
        (Response(206), None),
        (Response(403), None),
        (Response(500), None),
        (Response(401, BEARER | {"www-authenticate": "nonsense"}), None),
        (CUT, None),
    ],
)
def test_blob_exists_compares_digest_and_size(answer: Answer, there: bool | None) -> None:
    """HEAD of a blob (end-2): a page that answers 200 to everything does not show a blob."""
    assert play(query_blob(make_access(), BLOB), (HEAD, answer)) is there
    assert play(query_blob(make_access(), BLOB, 2.0), (with_delay(HEAD, 2.0), answer)) is there


def test_blob_exists_accepts_length_zero_of_the_empty_blob() -> None:
    """A length of 0 is the size of the empty blob, and of nothing else."""
    empty = type(BLOB)(BLOB.media_type, Digest.of(b""), 0)
    found = drive(
        query_blob(make_access(), empty), lambda _: Response(200, {"content-length": "0"})
    )
    assert found is True


@pytest.mark.parametrize("headers", [{}, DIGEST, {"docker-content-digest": "x"}])
@pytest.mark.parametrize("code", [201, 204])
def test_verify_stored_accepts_the_same_or_no_digest(code: int, headers: dict[str, str]) -> None:
    """Docker-Content-Digest, if present, is the digest of what was stored."""
    verify_stored(POST, Response(code, headers), BLOB.digest)


@pytest.mark.parametrize(
    "response",
    [Response(201, OTHER), Response(400, body=b'{"errors": [{"code": "DIGEST_INVALID"}]}')],
)
def test_verify_stored_raises_for_another_digest(response: Response) -> None:
    """DIGEST_INVALID, or another digest: the bytes were changed on the way."""
    with pytest.raises(DigestMismatch):
        verify_stored(POST, response, BLOB.digest)


# --- Giving it up


def test_cancel_ignores_failures() -> None:
    """Clients SHOULD send DELETE, and SHOULD ignore any failures (Cancel a blob upload)."""
    for answer in (Response(204), Response(404), Response(500), CUT, OSError("the driver's own")):
        play(cancel(make_access(), at()), (delete(FIRST), answer))
