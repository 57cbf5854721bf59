"""transport/http11.py: a request and its response as pure state."""

from __future__ import annotations

import asyncio
import gc
import weakref
from itertools import pairwise
from typing import TYPE_CHECKING

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brolga.errors import SourceError
from brolga.transport.failures import ConnectionFailure
from brolga.transport.http11 import Exchange, is_interrupt

if TYPE_CHECKING:
    from collections.abc import Iterator

    from brolga.protocol import Blocks

OK = b"HTTP/1.1 200 OK\r\n"
EMPTY = OK + b"Content-Length: 0\r\n\r\n"
THREE = OK + b"Content-Length: 3\r\n\r\nabc"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n2;x=y\r\nbc\r\n0\r\n\r\n"
HEADERS = {"Host": "registry.example"}


def request(
    method: str = "GET", body: bytes | Blocks | None = None, size: int | None = None
) -> Exchange:
    """Make an exchange."""
    return Exchange(method, "/v2/", HEADERS, body, size)


def send(exchange: Exchange) -> bytes:
    """Send a request to its end; return the bytes after its head."""
    sent = bytearray()
    for block in exchange.blocks:
        sent += b"".join(exchange.frame(block))
        exchange.note_block(len(block))
    sent += b"".join(exchange.end())
    exchange.note_end()
    return bytes(sent)


def receive(exchange: Exchange, *pieces: bytes) -> tuple[bytes, bool]:
    """Give pieces to an exchange as a transfer does; return the body, and whether it has ended.

    What is left of a piece after the end of a body of known length stays in the socket.
    """
    body = b""
    for piece in pieces:
        if exchange.status and exchange.is_direct:
            taken = piece[: exchange.left]
            if exchange.left:
                exchange.note_received(len(taken))
            body += taken
            continue
        exchange.receive(piece)
        while exchange.status and (data := exchange.take_data()):
            body += data
    is_ended = bool(exchange.status) and exchange.take_data() is None
    return body, is_ended


def cut(data: bytes, points: list[int]) -> list[bytes]:
    """Return the pieces of some bytes between the points; none is empty, which is an end."""
    return [data[a:b] for a, b in pairwise([0, *sorted(points), len(data)]) if a < b]


class TestRequest:
    """The head and the body of a request."""

    @pytest.mark.parametrize(
        ("body", "size", "header", "sent"),
        [
            (None, None, b"", b""),
            (b"", None, b"Content-Length: 0", b""),
            (b"bytes", None, b"Content-Length: 5", b"bytes"),
            ((), None, b"Content-Length: 0", b""),
            ((b"by", memoryview(b"tes")), None, b"Content-Length: 5", b"bytes"),
            ((b"by", b"", b"tes"), 5, b"Content-Length: 5", b"bytes"),
            ([b"by", b"", b"tes"], 5, b"Content-Length: 5", b"bytes"),
            ([], 0, b"Content-Length: 0", b""),
            (
                [b"by", b"", b"tes"],
                None,
                b"Transfer-Encoding: chunked",
                b"2\r\nby\r\n3\r\ntes\r\n0\r\n\r\n",
            ),
            ([], None, b"Transfer-Encoding: chunked", b"0\r\n\r\n"),
        ],
        ids=map(str, range(10)),
    )
    def test_body_of_known_size_has_content_length(
        self, body: bytes | Blocks | None, size: int | None, header: bytes, sent: bytes
    ) -> None:
        """RFC 9112, section 6.2: a Content-Length if the size is known before the content."""
        exchange = request("PUT", body, size)
        lines = exchange.head.split(b"\r\n")
        assert lines[0] == b"PUT /v2/ HTTP/1.1"
        assert b"Host: registry.example" in lines
        framing = [line for line in lines if line[:8] in {b"Content-", b"Transfer"}]
        assert framing == ([header] if header else [])
        assert send(exchange) == sent
        assert exchange.sent == sum(map(len, [body] if isinstance(body, bytes) else body or ()))
        assert exchange.is_sent

    @pytest.mark.parametrize("block", [b"bytes", memoryview(b"bytes"), memoryview(bytearray(9))])
    @pytest.mark.parametrize("size", [None, 100])
    def test_frame_has_block_by_reference(
        self, block: bytes | memoryview, size: int | None
    ) -> None:
        """A block is never copied."""
        assert any(buffer is block for buffer in request("PUT", [], size).frame(block))

    @pytest.mark.parametrize("size", [None, 100])
    def test_frame_of_heartbeat_is_empty(self, size: int | None) -> None:
        """An empty chunk would be the last one."""
        assert list(request("PUT", [], size).frame(b"")) == []

    @pytest.mark.parametrize(
        ("blocks", "size", "text"),
        [
            ([b"ab", b"cd"], 3, "a blob of 3 bytes gave more than that"),
            ([b"ab", b"c"], 4, "a blob of 4 bytes ended after 3"),
            ([], 1, "a blob of 1 bytes ended after 0"),
        ],
    )
    def test_stream_of_other_size_raises(self, blocks: Blocks, size: int, text: str) -> None:
        """It is the source's fault; the registry would wait for the rest."""
        with pytest.raises(SourceError, match=text):
            send(request("PUT", blocks, size))

    @pytest.mark.parametrize(
        ("method", "target", "headers"),
        [
            ("GET", "/a b", {}),
            ("GET", "/\r\nX: y", {}),
            ("GET", "/\u20ac", {}),
            ("G T", "/", {}),
            ("GET", "/", {"X\r\n": "y"}),
            ("GET", "/", {"X Y": "z"}),
            ("GET", "/", {"X": "y\r\nZ: a"}),
            ("GET", "/", {"X": "y\0"}),
            ("GET", "/", {"X": "\u20ac"}),
            ("GET", "/", {"Content-Length": "many"}),
        ],
    )
    def test_invalid_request_raises(
        self, method: str, target: str, headers: dict[str, str]
    ) -> None:
        """A registry that names a Location cannot add headers to a request."""
        with pytest.raises(ValueError, match=r"."):
            Exchange(method, target, {**HEADERS, **headers})


# The method, the response, its body, and whether the connection can be used again.
RESPONSES = [
    ("GET", THREE, b"abc", True),
    ("GET", EMPTY, b"", True),
    ("GET", CHUNKED, b"abc", True),
    ("GET", CHUNKED[:-2] + b"Trailer: x\r\n\r\n", b"abc", True),
    ("GET", OK + b"Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n0\r\n\r\n", b"", True),
    ("GET", OK + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", b"abc", True),
    ("GET", OK + b"content-length: 3, 3\r\n\r\nabc", b"abc", True),
    ("GET", OK + b"X: a\r\n b\r\nContent-Length: 1\r\n\r\na", b"a", True),  # obs-fold
    ("GET", b"HTTP/1.1 200 OK\nContent-Length: 1\n\na", b"a", True),
    ("GET", b"HTTP/1.1 200\r\nContent-Length: 1\r\n\r\na", b"a", True),
    ("GET", b"HTTP/1.1 404 \r\nContent-Length: 1\r\n\r\na", b"a", True),
    ("GET", b"HTTP/1.1 999 X\r\nContent-Length: 1\r\n\r\na", b"a", True),
    ("HEAD", OK + b"Content-Length: 3\r\n\r\n", b"", True),
    ("HEAD", OK + b"Transfer-Encoding: chunked\r\n\r\n", b"", True),
    ("HEAD", OK + b"\r\n", b"", True),
    ("HEAD", b"HTTP/1.1 404 No\r\nContent-Length: 9999999\r\n\r\n", b"", True),
    ("DELETE", b"HTTP/1.1 204 No\r\n\r\n", b"", True),
    ("DELETE", b"HTTP/1.1 204 No\r\nContent-Length: 3\r\n\r\n", b"", True),
    ("GET", b"HTTP/1.1 304 Same\r\nContent-Length: 3\r\n\r\n", b"", True),
    ("GET", OK + b"Connection: close\r\nContent-Length: 1\r\n\r\na", b"a", False),
    ("GET", OK + b"connection: keep-alive, CLOSE\r\nContent-Length: 1\r\n\r\na", b"a", False),
    ("GET", OK + b"Connection: x,\tclose\t,y\r\nContent-Length: 1\r\n\r\na", b"a", False),
    ("GET", OK + b"Connection: x\r\nConnection: Close\r\nContent-Length: 0\r\n\r\n", b"", False),
    ("GET", OK + b"Connection: closed\r\nContent-Length: 1\r\n\r\na", b"a", True),
    ("HEAD", OK + b"Connection: close\r\n\r\n", b"", False),
    ("GET", b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\na", b"a", False),
    ("GET", b"HTTP/1.0 204 OK\r\nConnection: keep-alive\r\n\r\n", b"", False),
    ("GET", b"HTTP/1.1 100 Continue\r\n\r\n" + THREE, b"abc", True),
    ("GET", b"HTTP/1.1 103 Early\r\nLink: </a>\r\n\r\n" * 3 + THREE, b"abc", True),
    ("GET", b"HTTP/1.0 102 x\r\na: b\r\n\r\n" + THREE, b"abc", True),
    ("GET", b"HTTP/1.1 100 Continue\n\n" + THREE, b"abc", True),
    ("CONNECT", b"HTTP/1.1 200 Established\r\n\r\n", b"", True),
    ("CONNECT", b"HTTP/1.1 299 X\r\nContent-Length: 3\r\n\r\n", b"", True),
    ("CONNECT", b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"", False),
    ("CONNECT", b"HTTP/1.1 407 No\r\nContent-Length: 3\r\n\r\nabc", b"abc", True),
]
# Responses whose body is all that comes.
UNTIL_END = [
    (OK + b"\r\nabc", b"abc"),
    (b"HTTP/1.0 200 OK\r\n\r\nabc", b"abc"),
    (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\n", b""),
]


class TestResponse:
    """The response, of which bytes come in any pieces."""

    @pytest.mark.parametrize(("method", "response", "body", "is_reusable"), RESPONSES, ids=repr)
    def test_response_is_received_whatever_its_pieces(
        self, method: str, response: bytes, body: bytes, is_reusable: bool
    ) -> None:
        """All at once, cut at each byte, and byte by byte."""
        cuts = [[], *([i] for i in range(1, len(response))), list(range(len(response)))]
        for points in cuts:
            exchange = request(method)
            send(exchange)
            assert receive(exchange, *cut(response, points)) == (body, True)
            assert exchange.is_reusable is is_reusable

    @pytest.mark.parametrize(("response", "body"), UNTIL_END, ids=repr)
    def test_body_without_length_ends_with_connection(self, response: bytes, body: bytes) -> None:
        """RFC 9112, section 6.3, number 8."""
        for points in ([], *([i] for i in range(1, len(response))), list(range(len(response)))):
            exchange = request()
            send(exchange)
            pieces = cut(response, points)
            assert receive(exchange, *pieces) == (body, False)
            assert receive(exchange, b"") == (b"", True)
            assert not exchange.is_reusable

    @pytest.mark.parametrize("response", [THREE, CHUNKED], ids=["length", "chunked"])
    def test_end_before_end_of_response_raises(self, response: bytes) -> None:
        """A cut response is never taken for a whole one."""
        for size in range(len(response)):
            exchange = request()
            send(exchange)
            with pytest.raises(ConnectionFailure, match="no valid answer") as caught:
                receive(exchange, *cut(response[:size], []), b"")
            assert caught.value.reason == "cut"

    @pytest.mark.parametrize("response", [OK + b"\r\n", OK + b"Content-Length: 0\r\n\r\n"])
    def test_end_after_head_of_response_to_head(self, response: bytes) -> None:
        """The connection need not be open for a body that cannot come."""
        exchange = request("HEAD")
        send(exchange)
        assert receive(exchange, response, b"") == (b"", True)

    @pytest.mark.parametrize(
        "response",
        [
            b"SSH-2.0-OpenSSH_9.2\r\n",
            b"\x15\x03\x01\x00\x02\x02\x46\r\n\r\n",
            b"HTTP/2 200 OK\r\n\r\n",
            b"HTTP/1.1 20 OK\r\n\r\n",
            b"HTTP/1.1 000 OK\r\n\r\n",
            b"HTTP/1.1 101 Switching\r\n\r\n",
            b"HTTP/1.1 101 Switching\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n",
            OK + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
            OK + b"Content-Length: 3, 4\r\n\r\nabcd",
            OK + b"Content-Length: -1\r\n\r\n",
            OK + b"Content-Length: 1e3\r\n\r\n",
            OK + b"Content-Length: " + b"9" * 50 + b"\r\n\r\n",
            OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
            OK + b"X Y: z\r\n\r\n",
            OK + b"no colon\r\n\r\n",
            OK + b" folded: first\r\n\r\n",
            OK + b"X: \0\r\n\r\n",
            OK + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n",
            OK + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n",
            OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n0\r\n\r\n",
            OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"f" * 30 + b"\r\n",
        ],
        ids=repr,
    )
    def test_invalid_response_raises(self, response: bytes) -> None:
        """Whatever comes, it is a failure of the connection."""
        for points in ([], list(range(len(response)))):
            exchange = request()
            send(exchange)
            with pytest.raises(ConnectionFailure, match="no valid answer") as caught:
                receive(exchange, *cut(response, points))
            assert caught.value.reason == "cut"

    @pytest.mark.parametrize("start", [b"HTTP/1.1 100 Continue\r\n", OK, b"", b"\r\n"], ids=repr)
    def test_endless_head_raises(self, start: bytes) -> None:
        """A server cannot fill the memory with the head of an interim or final response."""
        exchange = request()
        send(exchange)
        with pytest.raises(ConnectionFailure):
            exchange.receive(start + b"X: ")
            for _ in range(100):
                exchange.receive(b"x" * 4096)

    def test_interim_responses_are_not_kept(self) -> None:
        """A server may send them without end, also in the middle of one."""
        exchange = request()
        send(exchange)
        interim = b"HTTP/1.1 103 Early\r\nLink: </a>\r\n\r\n"
        for _ in range(100):
            exchange.receive(interim * 10 + interim[:9])
            exchange.receive(interim[9:])
            assert sum(map(len, exchange.received)) < len(interim)
        exchange.receive(THREE)
        assert exchange.take_data() == b"abc"

    def test_head_of_100_000_bytes_is_received(self) -> None:
        """Some registries send large tokens and cookies."""
        exchange = request("HEAD")
        send(exchange)
        exchange.receive(OK + b"X: " + b"x" * 100_000 + b"\r\n\r\n")
        assert len(exchange.headers["x"]) == 100_000

    @pytest.mark.parametrize(
        "start",
        [b"", b"HTTP/1.1 ", b"HTTP/1.1 1", b"HTTP/1.1 401 X", b"HTTP/1.1 100 Continue\r\n"],
    )
    def test_beginning_of_head_is_no_response(self, start: bytes) -> None:
        """The body goes on until all of the head has come."""
        exchange = request("PATCH", [b"a"])
        if start:
            exchange.receive(start)
        assert (exchange.status, exchange.headers) == (0, {})

    def test_repeated_headers_are_joined(self) -> None:
        """RFC 9110, section 5.3; and names are in lower case, values in latin-1."""
        exchange = request("HEAD")
        exchange.receive(OK + b"WARNING: 1\r\nLink: </a>\r\nwarning: \xe9\r\n\r\n")
        assert exchange.headers == {"warning": "1, \xe9", "link": "</a>"}

    @given(
        st.sampled_from(RESPONSES),
        st.lists(st.integers(0, 200), max_size=12),
        st.sampled_from([None, b"bytes", [b"a", b"b"]]),
    )
    @settings(deadline=None, max_examples=300)
    def test_pieces_do_not_matter(
        self,
        case: tuple[str, bytes, bytes, bool],
        points: list[int],
        body: bytes | Blocks | None,
    ) -> None:
        """Any cuts give the same response."""
        method, response, expected, is_reusable = case
        body = None if method == "CONNECT" else body
        exchange = request(method, body)
        send(exchange)
        cuts = [min(point, len(response)) for point in points]
        assert receive(exchange, *cut(response, cuts)) == (expected, True)
        assert exchange.is_reusable is is_reusable


@pytest.mark.parametrize("name", ["receive_data", "next_event"])
@pytest.mark.parametrize("is_before", [True, False], ids=["before", "after"])
@pytest.mark.parametrize("number", range(6))
def test_head_is_parsed_again_after_interrupt(
    monkeypatch: pytest.MonkeyPatch, name: str, is_before: bool, number: int
) -> None:
    """The response to a PATCH is not lost, whenever Ctrl-C is pressed."""
    function = getattr(h11.Connection, name)
    calls: list[int] = []

    def interrupted(parser: h11.Connection, *data: bytes) -> object:
        calls.append(len(calls))
        if is_before and calls[-1] == number:
            raise KeyboardInterrupt
        result = function(parser, *data)
        if not is_before and calls[-1] == number:
            raise KeyboardInterrupt
        return result

    exchange = request("PATCH", b"bytes")
    send(exchange)
    monkeypatch.setattr(h11.Connection, name, interrupted)
    interim = b"HTTP/1.1 100 Continue\r\n\r\n"
    pieces = [interim[:9], interim[9:] + interim, THREE[:20], THREE[20:]]
    interrupts = 0
    for piece in pieces:
        exchange.received.append(piece)
        try:
            exchange.parse_head()
        except KeyboardInterrupt:
            interrupts += 1
            exchange.parse_head()
        assert not exchange.parse_head()
    assert interrupts == (calls[-1] >= number)
    assert exchange.status == 200
    assert exchange.take_data() == b"abc"
    assert exchange.is_reusable


class TestEarlyResponse:
    """A response that comes before the request was sent."""

    @pytest.mark.parametrize("body", [b"bytes", [b"a", b"b"]], ids=["bytes", "stream"])
    @pytest.mark.parametrize("response", [THREE, CHUNKED], ids=["length", "chunked"])
    def test_response_within_body_is_received(self, body: bytes | Blocks, response: bytes) -> None:
        """It is complete; but the connection is not used again, as the request is not."""
        exchange = request("PATCH", body)
        exchange.frame(next(exchange.blocks))
        assert receive(exchange, response) == (b"abc", True)
        assert not exchange.is_sent
        assert not exchange.is_reusable

    def test_response_before_body_is_received(self) -> None:
        """A registry may look at the head alone."""
        exchange = request("PATCH", [b"a"])
        assert receive(exchange, THREE) == (b"abc", True)
        assert not exchange.is_reusable

    def test_response_before_end_of_body_lets_body_end(self) -> None:
        """If the end can be sent all the same, the connection is used again."""
        exchange = request("PATCH", [b"a"])
        exchange.receive(b"HTTP/1.1 100 Continue\r\n\r\n")
        exchange.frame(next(exchange.blocks))
        assert receive(exchange, THREE) == (b"abc", True)
        assert b"".join(exchange.end()) == b"0\r\n\r\n"
        exchange.note_end()
        assert exchange.is_reusable


class TestReuse:
    """Whether a connection can be used for another request."""

    def test_connection_with_incomplete_body_is_not_reusable(self) -> None:
        """The rest would be taken for the next response."""
        exchange = request()
        send(exchange)
        receive(exchange, THREE[:-1])
        assert not exchange.is_reusable
        assert (exchange.is_direct, exchange.left) == (True, 1)
        exchange.note_received(1)
        assert exchange.is_reusable

    @pytest.mark.parametrize(
        ("method", "response"),
        [("GET", THREE), ("GET", CHUNKED), ("GET", EMPTY), ("HEAD", EMPTY), ("CONNECT", EMPTY)],
    )
    def test_connection_with_surplus_is_not_reusable(self, method: str, response: bytes) -> None:
        """A second response without a request answers nothing that was asked."""
        exchange = request(method)
        send(exchange)
        assert receive(exchange, response + EMPTY)[1]
        assert not exchange.is_reusable

    def test_connection_with_failed_body_is_not_reusable(self) -> None:
        """The end of a body that failed was sent, but what the registry makes of it is unknown."""
        exchange = request("PATCH", [b"a"])
        exchange.frame(next(exchange.blocks))
        exchange.error = OSError()
        exchange.end()
        exchange.note_end()
        receive(exchange, THREE)
        assert not exchange.is_sent
        assert not exchange.is_reusable

    def test_connection_without_response_is_not_reusable(self) -> None:
        """Nothing has come yet."""
        exchange = request()
        send(exchange)
        assert not exchange.is_reusable


BODIES: list[bytes | tuple[bytes, ...] | list[bytes] | None] = [
    None,
    b"bytes",
    (b"a", b"b"),
    [b"a", b"b"],
]


class TestDefer:
    """An interrupt waits for the response that says what the request changed."""

    @pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit, asyncio.CancelledError])
    @pytest.mark.parametrize("method", ["PATCH", "POST"])
    @pytest.mark.parametrize("body", BODIES, ids=repr)
    def test_interrupt_is_deferred_once_after_request(
        self, method: str, body: bytes | Blocks | None, interrupt: type[BaseException]
    ) -> None:
        """A head has no clean end in its middle, and before it nothing was changed."""
        before = request(method, body)
        assert not before.defer(interrupt())
        exchange = request(method, body)
        send(exchange)
        first = interrupt()
        assert exchange.defer(first)
        assert exchange.error is first
        assert not exchange.defer(interrupt())

    @pytest.mark.parametrize("body", BODIES, ids=repr)
    def test_interrupt_after_head_is_deferred_unless_source_runs(
        self, body: bytes | Blocks | None
    ) -> None:
        """Without a body, the head is all of the request."""
        exchange = request("POST", body)
        exchange.note_head()
        assert exchange.defer(KeyboardInterrupt()) is not exchange.is_streamed

    @pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "CONNECT"])
    @pytest.mark.parametrize("body", BODIES, ids=repr)
    def test_interrupt_of_idempotent_request_is_not_deferred(
        self, method: str, body: bytes | Blocks | None
    ) -> None:
        """A PATCH and a POST are not idempotent: only their response says what they did."""
        exchange = request(method, body)
        send(exchange)
        assert not exchange.defer(KeyboardInterrupt())

    @pytest.mark.parametrize("error", [OSError(), GeneratorExit(), ConnectionFailure("cut", "")])
    def test_other_error_is_not_deferred(self, error: BaseException) -> None:
        """Only an interrupt waits."""
        exchange = request("PATCH", b"bytes")
        send(exchange)
        assert not is_interrupt(error)
        assert not exchange.defer(error)

    def test_interrupt_in_source_is_not_deferred(self) -> None:
        """The source may be another registry's response: what it waits for need never come."""
        deferred = []

        def source() -> Iterator[bytes]:
            deferred.append(exchange.defer(KeyboardInterrupt()))
            yield b"a"
            deferred.append(exchange.defer(KeyboardInterrupt()))
            yield b""
            deferred.append(exchange.defer(KeyboardInterrupt()))

        exchange = request("PATCH", source())
        send(exchange)
        assert deferred == [False] * 3

    def test_interrupt_between_pieces_of_bytes_is_deferred(self) -> None:
        """No source runs; all of them are sent, as the request has a Content-Length."""
        exchange = request("PATCH", (b"a", b"b"))
        exchange.frame(next(exchange.blocks))
        exchange.note_block(1)
        assert exchange.defer(KeyboardInterrupt())
        assert list(exchange.blocks) == [b"b"]

    def test_interrupt_after_failure_of_source_is_not_deferred(self) -> None:
        """One error is enough."""
        exchange = request("PATCH", [b"a"])
        exchange.frame(next(exchange.blocks))
        exchange.error = OSError()
        assert not exchange.defer(KeyboardInterrupt())

    def test_interrupt_during_heartbeat_is_deferred(self) -> None:
        """Nothing is sent, but the end of the body can be."""
        exchange = request("PATCH", [b""])
        exchange.frame(next(exchange.blocks))
        assert exchange.defer(KeyboardInterrupt())
        exchange.note_block(0)
        assert b"".join(exchange.end()) == b"0\r\n\r\n"
        exchange.note_end()
        assert not exchange.is_sent


class TestClose:
    """The end of an exchange."""

    def test_close_drops_body(self) -> None:
        """A stream that is cut often must not keep each failed request until a cycle is found."""

        def source() -> Iterator[bytes]:
            yield bytes(exchanges[0].sent)
            yield b""

        exchanges = [request("PATCH", source())]
        next(exchanges[0].blocks)
        gone = weakref.ref(exchanges[0])
        gc.disable()
        try:
            exchanges[0].close()
            exchanges.clear()
            assert gone() is None
        finally:
            gc.enable()

    def test_close_drops_error(self) -> None:
        """The frames of its traceback may hold the exchange."""
        exchange = request("PATCH", [b"a"])
        try:
            raise OSError  # noqa: TRY301 - it gets a traceback with this frame
        except OSError as error:
            exchange.error = error
        exchange.close()
        assert list(exchange.blocks) == []
        assert exchange.error is None
