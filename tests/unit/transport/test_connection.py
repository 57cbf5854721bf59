"""transport/connection.py: a request and its response on a stream."""

from __future__ import annotations

import gc
import select
import socket
import weakref
from typing import TYPE_CHECKING, Any

import pytest

from brolga.errors import SourceError
from brolga.protocol.http import BlockingCall
from brolga.transport.connection import (
    MIN_RATE,
    IncompleteBody,
    Outgoing,
    RateMonitor,
    Timeouts,
    Transfer,
)
from brolga.transport.failures import ConnectionFailure
from brolga.transport.http11 import Exchange
from brolga.transport.steps import perform
from brolga.transport.streams import PlainStream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from brolga.protocol import Blocks
    from brolga.spec.blob import Block
    from brolga.transport.steps import Ready, Steps

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
TIMEOUTS = Timeouts(1.0, 2.0, 3.0)


class Scripted:
    """A stream on which what comes, and what can be sent, is scripted.

    Each call takes the next item of its script: an exception is raised, a function is called
    first. Without a script all is sent, and nothing comes.
    """

    events = select.POLLIN
    has_input = False

    def __init__(self) -> None:
        self.socket: Any = object()
        self.sent = bytearray()
        self.sends: list[int | BaseException] = []  # how many bytes each call sends
        self.comes: list[bytes | BaseException] = []
        self.waits: list[tuple[int, float | None, int]] = []
        self.ready: list[int | BaseException] = []  # the events of each wait with a timeout
        self.now = 0.0
        self.before_wait: Callable[[float | None], object] = lambda _seconds: None

    def send(self, buffers: Sequence[Block], /) -> int:
        """Send as many bytes as the script says."""
        data = b"".join(buffers)
        count = self.sends.pop(0) if self.sends else len(data)
        if isinstance(count, BaseException):
            raise count
        self.sent += data[:count]
        return min(count, len(data))

    def recv(self, size: int, /) -> bytes:
        """Return what comes."""
        if not self.comes:
            raise BlockingIOError
        data = self.comes.pop(0)
        if isinstance(data, BaseException):
            raise data
        if len(data) > size:
            self.comes.insert(0, data[size:])
        return data[:size]

    def recv_into(self, buffer: memoryview, /) -> int:
        """Receive what comes into a buffer."""
        data = self.recv(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        """Do nothing."""

    def wait(self, events: int, seconds: float | None, ignored_stops: int) -> Ready:
        """Return what is ready; a wait without anything takes all of its time."""
        self.before_wait(seconds)
        is_input = bool(self.comes) and not isinstance(self.comes[0], BlockingIOError)
        found = (select.POLLIN if is_input else 0) & events
        if seconds:
            self.waits.append((events, seconds, ignored_stops))
            if self.ready:
                scripted = self.ready.pop(0)
                if isinstance(scripted, BaseException):
                    raise scripted
                found |= scripted & events
        if not found:
            self.now += seconds or 0.0
        return {self.socket: found} if found else {}

    def run(self, steps: Steps[Any]) -> Any:
        """Perform steps on this stream."""
        proceed: Callable[[Any], Any] = steps.send
        argument: Any = None
        try:
            while True:
                step = proceed(argument)
                proceed = steps.send
                try:
                    if isinstance(step, BlockingCall):
                        argument = step.function()
                    else:
                        assert step.sockets == (self.socket,)
                        argument = self.wait(step.events, step.seconds, step.ignored_stops)
                except BaseException as error:  # noqa: BLE001 - the steps handle it
                    proceed, argument = steps.throw, error
        except StopIteration as end:
            return end.value


@pytest.fixture
def stream(monkeypatch: pytest.MonkeyPatch) -> Scripted:
    """Make a stream, and the clock that goes with it."""
    stream = Scripted()
    monkeypatch.setattr("brolga.transport.connection.time.monotonic", lambda: stream.now)
    return stream


def transfer(
    stream: Scripted,
    method: str = "PATCH",
    body: bytes | Blocks | None = None,
    size: int | None = None,
    timeouts: Timeouts = TIMEOUTS,
) -> Transfer:
    """Make a transfer over a scripted stream."""
    exchange = Exchange(method, "/", {"Host": "registry.example"}, body, size)
    return Transfer(stream, exchange, timeouts)


def body_sent(stream: Scripted) -> bytes:
    """Return what was sent after the head."""
    return bytes(stream.sent).partition(b"\r\n\r\n")[2]


def read_all(stream: Scripted, transfer: Transfer) -> bytes:
    """Receive the body of a response."""
    body = b""
    while (block := stream.run(transfer.receive_block())) is not None:
        assert block
        body += block
    return body


@pytest.mark.parametrize(
    ("waits", "slow"),
    [
        ([(1.0, 10), (1.0, 10)], True),
        ([(1.0, 10), (1.0, 2 * MIN_RATE)], False),
        ([(0.5, 0), (0.5, 0), (0.5, 0)], False),
        ([(2.0, 2 * MIN_RATE), (2.0, 0)], True),
        ([(2.0, 2 * MIN_RATE - 1)], True),
        ([(2.0, 2 * MIN_RATE)], False),
        ([(9.0, 2 * MIN_RATE)], True),
    ],
)
def test_is_too_slow_measures_waiting_time(waits: list[tuple[float, int]], slow: bool) -> None:
    """It is judged each time that a timeout's worth of waiting is over."""
    rate = RateMonitor()
    results = [rate.is_too_slow(*wait, 2.0) for wait in waits]
    assert any(results) is slow


class TestOutgoing:
    """The buffers that are being sent."""

    @pytest.mark.parametrize("counts", [[6], [1] * 6, [2, 4], [1, 0, 3, 0, 2], [5, 1]])
    def test_rest_is_what_was_not_sent(self, stream: Scripted, counts: list[int]) -> None:
        """Nothing is sent twice, or lost."""
        outgoing = Outgoing((b"ab", memoryview(b"c"), b"", b"def"))
        stream.sends += counts
        for number, count in enumerate(counts, 1):
            assert outgoing.send(stream, outgoing.rest()) == count
            assert b"".join(outgoing.rest()) == b"abcdef"[sum(counts[:number]) :]
        assert not outgoing.rest()
        assert bytes(stream.sent) == b"abcdef"
        assert outgoing.is_count_known

    def test_send_to_full_socket_sends_nothing(self, stream: Scripted) -> None:
        """Whatever poll has said."""
        outgoing = Outgoing((b"ab",))
        stream.sends += [BlockingIOError()]
        assert outgoing.send(stream, outgoing.rest()) == 0
        assert outgoing.is_count_known
        assert outgoing.rest() == [b"ab"]

    @pytest.mark.parametrize("error", [KeyboardInterrupt(), BrokenPipeError()])
    def test_count_is_unknown_after_error(self, stream: Scripted, error: BaseException) -> None:
        """TLS may have encrypted the block already."""
        outgoing = Outgoing((b"ab",))
        stream.sends += [error]
        with pytest.raises(type(error)):
            outgoing.send(stream, outgoing.rest())
        assert not outgoing.is_count_known

    def test_rest_of_large_block_is_not_copied(self) -> None:
        """It refers to the block."""
        block = bytes(1 << 20)
        assert Outgoing((block,)).rest()[0].obj is block


class TestSend:
    """The request goes out while nothing has come."""

    @pytest.mark.parametrize(
        ("body", "size", "sent"),
        [
            (None, None, b""),
            (b"", None, b""),
            (b"bytes", None, b"bytes"),
            ((b"a", b"", memoryview(b"b")), None, b"ab"),
            ([b"a", b"", b"b"], 2, b"ab"),
            ([b"a", b"", b"b"], None, b"1\r\na\r\n1\r\nb\r\n0\r\n\r\n"),
        ],
        ids=map(str, range(6)),
    )
    @pytest.mark.parametrize("counts", [[], [1, 0] * 200, [3] * 100], ids=["all", "1", "3"])
    def test_body_is_sent_in_parts(
        self,
        stream: Scripted,
        body: bytes | Blocks | None,
        size: int | None,
        sent: bytes,
        counts: list[int],
    ) -> None:
        """Whatever the socket takes at a time."""
        sending = transfer(stream, "PATCH", body, size)
        stream.sends += counts
        stream.ready += [select.POLLOUT] * (len(counts) + 1)
        steps = sending.run()
        with pytest.raises(ConnectionFailure, match="no answer in time"):
            stream.run(steps)  # it is all that is sent
        assert body_sent(stream) == sent
        assert sending.exchange.is_sent

    def test_response_is_received_after_request(self, stream: Scripted) -> None:
        """In any pieces, with waits between them."""
        sending = transfer(stream, "POST", b"body")
        pieces: list[Any] = [b for i in range(len(OK)) for b in (OK[i : i + 1], BlockingIOError())]
        stream.ready += [select.POLLIN] * 100
        stream.sends += [len(sending.exchange.head), 4]
        first = [BlockingIOError()]
        stream.comes += [*first, *pieces]
        stream.run(sending.run())
        assert sending.exchange.status == 200
        assert sending.exchange.is_sent
        assert read_all(stream, sending) == b"ok"
        assert sending.exchange.is_reusable

    @pytest.mark.parametrize("body", [b"bytes", [b"stream"]], ids=repr)
    def test_response_before_head_stops_request(
        self, stream: Scripted, body: bytes | Blocks
    ) -> None:
        """A server that is overloaded answers as soon as it accepts."""
        sending = transfer(stream, body=body)
        stream.comes += [OK]
        stream.run(sending.run())
        assert (sending.exchange.sent, sending.exchange.is_sent) == (0, False)
        assert bytes(stream.sent) == b""
        assert read_all(stream, sending) == b"ok"

    def test_early_response_stops_body(self, stream: Scripted) -> None:
        """No block is taken after it."""
        sending = transfer(stream, body=self.blocks(stream, [b"b"] * 9, {3: OK}))
        stream.run(sending.run())
        assert (sending.exchange.status, sending.exchange.sent) == (200, 3)
        assert not sending.exchange.is_sent
        assert body_sent(stream) == b"1\r\nb\r\n" * 3

    def blocks(
        self, stream: Scripted, blocks: Sequence[bytes], comes: dict[int, bytes]
    ) -> Iterator[bytes]:
        """Give blocks; what is scripted comes before the block of that number."""
        for number, block in enumerate(blocks):
            stream.comes += [comes[number]] if number in comes else []
            yield block

    def test_early_response_stops_heartbeats(self, stream: Scripted) -> None:
        """A source may be idle for hours."""
        sending = transfer(stream, body=self.blocks(stream, [b""] * 9, {5: OK}))
        stream.run(sending.run())
        assert (sending.exchange.status, sending.exchange.sent) == (200, 0)
        assert body_sent(stream) == b""

    def test_body_continues_after_interim_response(self, stream: Scripted) -> None:
        """Also if it comes while nothing can be sent, and in parts."""
        interim = b"HTTP/1.1 100 Continue\r\n\r\n"
        comes = {1: interim[:9], 2: interim[9:] + interim, 3: OK[:9], 4: OK[9:]}
        sending = transfer(stream, body=self.blocks(stream, [b"b"] * 9, comes))
        stream.run(sending.run())
        assert (sending.exchange.status, sending.exchange.sent) == (200, 4)

    def test_response_while_socket_is_full_stops_body(self, stream: Scripted) -> None:
        """The server takes no more bytes, as it has answered."""
        sending = transfer(stream, body=[b"block"])
        stream.sends += [999, 2, BlockingIOError()]
        stream.ready += [select.POLLOUT, select.POLLIN]

        def answer(seconds: float | None) -> None:
            if len(stream.waits) == 1:
                stream.comes += [OK]

        stream.before_wait = answer
        stream.run(sending.run())
        assert (sending.exchange.status, sending.exchange.sent) == (200, 0)

    def test_response_before_broken_socket_is_received(self, stream: Scripted) -> None:
        """A server that answers early may close at once."""

        class Broken(Scripted):
            def send(self, buffers: Sequence[Block], /) -> int:
                if self.sent:
                    self.comes += [OK]
                    raise BrokenPipeError
                return super().send(buffers)

        broken = Broken()
        sending = transfer(broken, body=[b"block"])
        broken.run(sending.run())
        assert (sending.exchange.status, sending.exchange.is_sent) == (200, False)

    @pytest.mark.parametrize("where", ["send", "receive"])
    def test_broken_socket_without_response_raises(self, stream: Scripted, where: str) -> None:
        """Its own error is shown; an alert of TLS comes once."""
        sending = transfer(stream, body=[b"block"])
        if where == "send":
            stream.sends += [BrokenPipeError("broken")]
        stream.comes += [ConnectionResetError("alert")]
        with pytest.raises(ConnectionFailure, match="was cut: alert") as caught:
            stream.run(sending.run())
        assert caught.value.reason == "cut"
        assert isinstance(caught.value.__cause__, ConnectionResetError)

    def test_end_during_body_raises(self, stream: Scripted) -> None:
        """The server has hung up, and there is no response."""
        sending = transfer(stream, body=self.blocks(stream, [b"a"] * 3, {1: b"", 2: OK}))
        with pytest.raises(ConnectionFailure, match="the connection was closed"):
            stream.run(sending.run())


def test_broken_transfer_is_freed_without_collector() -> None:
    """A stream that is cut often must not keep each failed request until a cycle is found."""
    here, there = socket.socketpair()

    def body() -> Iterator[bytes]:
        there.close()  # with unread bytes: a reset
        yield b"block"

    def fail() -> weakref.ref[Transfer]:
        exchange = Exchange("PATCH", "/", {"Host": "registry.example"}, body())
        sending = Transfer(PlainStream(here), exchange, TIMEOUTS)
        try:
            perform(sending.run())
        except ConnectionFailure as failure:
            assert isinstance(failure.__cause__, ConnectionResetError)  # noqa: PT017 - it is to be freed
        return weakref.ref(sending)

    with here, there:
        here.setblocking(False)
        gc.disable()
        try:
            assert fail()() is None
        finally:
            gc.enable()


class TestTimeouts:
    """What takes too long fails."""

    def test_full_socket_times_out(self, stream: Scripted) -> None:
        """Each write has its time."""
        sending = transfer(stream, body=b"bytes")
        stream.sends += [3]
        with pytest.raises(ConnectionFailure, match="takes no more bytes") as caught:
            stream.run(sending.run())
        assert caught.value.reason == "timeout"
        assert stream.waits == [(select.POLLIN | select.POLLOUT, 2.0, 0)]

    def test_slow_reader_times_out(self, stream: Scripted) -> None:
        """It takes a byte now and then."""
        sending = transfer(stream, body=bytes(1 << 20))
        stream.sends += [1] * 100

        def wait_slowly(seconds: float | None) -> None:
            stream.now += 0.9 if seconds else 0.0

        stream.before_wait = wait_slowly
        stream.ready += [select.POLLOUT] * 100
        with pytest.raises(ConnectionFailure, match="less than 1024 bytes a second were taken"):
            stream.run(sending.run())
        assert len(stream.sent) == 3

    def test_missing_response_times_out(self, stream: Scripted) -> None:
        """All of the head has one timeout, which starts after the body."""
        sending = transfer(stream, body=b"bytes")
        stream.comes += [BlockingIOError()]
        with pytest.raises(ConnectionFailure, match="no answer in time") as caught:
            stream.run(sending.run())
        assert caught.value.reason == "timeout"
        assert stream.waits == [(select.POLLIN, 3.0, 0)]

    def test_endless_interim_responses_time_out(self, stream: Scripted) -> None:
        """Each of them comes in time."""
        sending = transfer(stream, body=b"bytes")

        def go_on(seconds: float | None) -> None:
            stream.now += 0.5
            stream.comes += [b"HTTP/1.1 102 Processing\r\n\r\n", BlockingIOError()]

        stream.before_wait = go_on
        with pytest.raises(ConnectionFailure, match="no answer in time"):
            stream.run(sending.run())
        assert stream.now < 9

    def test_stalled_body_times_out(self, stream: Scripted) -> None:
        """Its beginning has come."""
        receiving = transfer(stream, "GET")
        stream.comes += [BlockingIOError(), OK[:-1]]
        stream.ready += [select.POLLIN]
        stream.run(receiving.run())
        assert stream.run(receiving.receive_block()) == b"o"
        with pytest.raises(ConnectionFailure, match="no answer in time"):
            stream.run(receiving.receive_block())

    def test_slow_body_times_out(self, stream: Scripted) -> None:
        """A byte comes now and then."""
        receiving = transfer(stream, "GET")
        stream.comes += [OK.replace(b": 2", b": 999")]
        stream.run(receiving.run())

        def wait_slowly(seconds: float | None) -> None:
            stream.now += 1.1
            stream.comes[:] = [b"x"]

        stream.before_wait = wait_slowly
        with pytest.raises(ConnectionFailure, match="less than 1024 bytes a second came"):
            read_all(stream, receiving)


def fail(error: BaseException, *blocks: bytes) -> Iterator[bytes]:
    """Make a body that fails after some blocks."""
    yield from blocks
    raise error


class TestBodyFailure:
    """The source of a body raises."""

    @pytest.mark.parametrize(
        "error", [OSError(), BlockingIOError(), KeyboardInterrupt(), ConnectionFailure("cut", "")]
    )
    def test_failed_chunked_body_is_ended(self, stream: Scripted, error: BaseException) -> None:
        """The registry responds then, with the location of the session."""
        sending = transfer(stream, body=fail(error, b"a"))
        sending.exchange.receive(b"HTTP/1.1 100 Continue\r\n\r\n")
        stream.comes += [BlockingIOError(), OK]
        stream.ready += [select.POLLIN]
        stream.run(sending.run())
        assert body_sent(stream) == b"1\r\na\r\n0\r\n\r\n"
        assert sending.exchange.error is error
        assert (sending.exchange.status, sending.exchange.is_sent) == (200, False)

    @pytest.mark.parametrize("blocks", [[b"a"], [b"abc"]])
    def test_failed_body_of_known_length_is_incomplete(
        self, stream: Scripted, blocks: list[bytes]
    ) -> None:
        """It has no clean end; no response is awaited."""
        sending = transfer(stream, body=blocks, size=2)
        with pytest.raises(IncompleteBody):
            stream.run(sending.run())
        assert isinstance(sending.exchange.error, SourceError)

    def test_response_after_failure_has_cleanup_timeout(self, stream: Scripted) -> None:
        """And a stop request does not end the wait."""
        sending = transfer(stream, body=fail(OSError()), timeouts=Timeouts(60.0, 60.0, 900.0))
        with pytest.raises(ConnectionFailure, match="no answer in time"):
            stream.run(sending.run())
        assert stream.waits == [(select.POLLIN, 5.0, 1)]
        assert stream.now == 5.0


class TestInterrupt:
    """An interrupt within a block, or before the response to a PATCH, waits."""

    @pytest.mark.parametrize(
        ("body", "sent"),
        [
            (b"bytes", b"bytes"),
            ((b"byt", b"es"), b"bytes"),
            ([b"byt", b"es"], b"3\r\nbyt\r\n0\r\n\r\n"),
        ],
        ids=["bytes", "pieces", "stream"],
    )
    def test_interrupt_within_block_is_deferred(
        self, stream: Scripted, body: bytes | Blocks, sent: bytes
    ) -> None:
        """A stream ends after its block; a request of bytes is completed."""
        sending = transfer(stream, body=body)
        interrupt = KeyboardInterrupt()
        stream.sends += [len(sending.exchange.head), 2, 1, 99]
        stream.ready += [interrupt, select.POLLOUT, select.POLLIN]

        def answer(seconds: float | None) -> None:
            if body_sent(stream) == sent:
                stream.comes[:] = [OK]

        stream.before_wait = answer
        stream.run(sending.run())
        assert body_sent(stream) == sent
        assert sending.exchange.error is interrupt
        assert sending.exchange.status == 200

    @pytest.mark.parametrize("body", [b"bytes", (b"byt", b"es"), [b"bytes"]], ids=repr)
    def test_interrupt_before_response_is_deferred(
        self, stream: Scripted, body: bytes | Blocks
    ) -> None:
        """Only the response says what was changed."""
        sending = transfer(stream, body=body)
        interrupt = KeyboardInterrupt()
        stream.ready += [interrupt, select.POLLIN]
        stream.comes += [BlockingIOError(), BlockingIOError(), OK]
        stream.run(sending.run())
        assert sending.exchange.error is interrupt
        assert sending.exchange.status == 200

    @pytest.mark.parametrize("number", [0, 1], ids=["within", "before"])
    def test_second_interrupt_is_raised(self, stream: Scripted, number: int) -> None:
        """Whoever presses Ctrl-C twice does not want to wait."""
        sending = transfer(stream, body=b"bytes")
        if not number:
            stream.sends += [len(sending.exchange.head), 2]
        first, second = KeyboardInterrupt(), KeyboardInterrupt()
        stream.ready += [first, second]
        with pytest.raises(KeyboardInterrupt) as caught:
            stream.run(sending.run())
        assert caught.value is second
        assert sending.exchange.error is first

    @pytest.mark.parametrize("method", ["PUT", "GET"])
    def test_interrupt_of_idempotent_request_is_raised(self, stream: Scripted, method: str) -> None:
        """It can be repeated."""
        sending = transfer(stream, method, b"bytes")
        stream.ready += [KeyboardInterrupt()]
        with pytest.raises(KeyboardInterrupt):
            stream.run(sending.run())
        assert sending.exchange.error is None

    def test_interrupt_with_unknown_count_is_raised(self, stream: Scripted) -> None:
        """Nothing may be sent twice: without a count from TLS the block cannot be continued."""
        sending = transfer(stream, body=b"bytes")
        stream.sends += [len(sending.exchange.head), KeyboardInterrupt()]
        with pytest.raises(KeyboardInterrupt):
            stream.run(sending.run())
        assert sending.exchange.error is None

    def test_interrupt_within_head_is_raised(self, stream: Scripted) -> None:
        """A head has no clean end in its middle, and nothing was changed."""
        sending = transfer(stream, body=b"bytes")
        stream.sends += [2]
        stream.ready += [KeyboardInterrupt()]
        with pytest.raises(KeyboardInterrupt):
            stream.run(sending.run())
        assert sending.exchange.error is None
        assert len(stream.sent) == 2


class TestReceive:
    """The body of a response."""

    @pytest.mark.parametrize(
        ("response", "body"),
        [
            (OK, b"ok"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b""),
            (
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x\r\nok\r\n0\r\n\r\n",
                b"ok",
            ),
            (b"HTTP/1.1 200 OK\r\n\r\nok", b"ok"),
        ],
    )
    @pytest.mark.parametrize("size", [1, 7, 1000])
    def test_body_is_received_in_pieces(
        self, stream: Scripted, response: bytes, body: bytes, size: int
    ) -> None:
        """No block is empty, and the end comes again."""
        receiving = transfer(stream, "GET")
        stream.comes += [BlockingIOError()]
        stream.ready += [select.POLLIN] * 100
        stream.comes += [response[i : i + size] for i in range(0, len(response), size)]
        stream.comes += [b""]
        stream.run(receiving.run())
        assert read_all(stream, receiving) == body
        assert stream.run(receiving.receive_block()) is None

    def test_large_body_comes_in_blocks(
        self, stream: Scripted, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Each of them has a buffer of its own; nothing after the body is received."""
        monkeypatch.setattr("brolga.transport.connection._BLOCK_SIZE", 1000)
        receiving = transfer(stream, "GET")
        stream.comes += [b"HTTP/1.1 200 OK\r\nContent-Length: 2500\r\n\r\n", bytes(2501)]
        stream.run(receiving.run())
        sizes = []
        while (block := stream.run(receiving.receive_block())) is not None:
            sizes.append(len(block))
        assert sizes == [1000, 1000, 500]
        assert stream.comes == [b"\0"]

    @pytest.mark.parametrize("error", [b"", ConnectionResetError("reset")], ids=repr)
    def test_cut_body_raises(self, stream: Scripted, error: bytes | BaseException) -> None:
        """What came is given first."""
        receiving = transfer(stream, "GET")
        stream.comes += [OK[:-1], error]
        stream.run(receiving.run())
        assert stream.run(receiving.receive_block()) == b"o"
        with pytest.raises(ConnectionFailure) as caught:
            stream.run(receiving.receive_block())
        assert caught.value.reason == "cut"
