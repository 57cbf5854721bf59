"""transport/streams.py: bytes over a socket, plain and in TLS."""

from __future__ import annotations

import select
import socket
import ssl
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from brolga.transport.failures import ConnectionFailure
from brolga.transport.steps import Wait
from brolga.transport.streams import PlainStream, Stream, TLSStream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.conftest import Authority

    from brolga.spec.blob import Block

BIG = bytes(range(256)) * 4096  # 1 MiB
TIMEOUT_S = 30.0


class Memory:
    """A stream without a network: what was sent, what can be received, and room for more."""

    events = select.POLLIN
    has_input = False

    def __init__(self) -> None:
        self.socket = socket.socket()
        self.sent = bytearray()
        self.incoming = bytearray()
        self.room = 1 << 30
        self.is_ended = False
        self.send_error: OSError = BlockingIOError()
        self.close = self.socket.close

    def send(self, buffers: Sequence[Block], /) -> int:
        """Take as many bytes as there is room for."""
        data = b"".join(buffers)[: self.room]
        if not data:
            raise self.send_error
        self.room -= len(data)
        self.sent += data
        return len(data)

    def recv(self, size: int, /) -> bytes:
        """Return what has come."""
        if not self.incoming and not self.is_ended:
            raise BlockingIOError
        data = bytes(self.incoming[:size])
        del self.incoming[:size]
        return data

    def recv_into(self, buffer: memoryview, /) -> int:
        """Receive into a buffer."""
        data = self.recv(len(buffer))
        buffer[: len(data)] = data
        return len(data)


class Server:
    """The other side of TLS over a stream without a network."""

    def __init__(self, memory: Memory, context: ssl.SSLContext) -> None:
        self._memory = memory
        self._received, self._encrypted = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._received, self._encrypted, server_side=True)
        self.is_ready = False
        self.plain = bytearray()

    def take(self) -> None:
        """Take what was sent, and decrypt it; raise what TLS raises."""
        self._received.write(bytes(self._memory.sent))
        self._memory.sent.clear()
        try:
            if not self.is_ready:
                self.tls.do_handshake()
                self.is_ready = True
            while data := self.tls.read(1 << 16):
                self.plain += data
        except ssl.SSLWantReadError:
            pass
        finally:
            self.flush()

    def send(self, data: bytes) -> None:
        """Send bytes in TLS."""
        self.tls.write(data)
        self.flush()

    def close(self) -> None:
        """Send close_notify."""
        with pytest.raises(ssl.SSLWantReadError):
            self.tls.unwrap()
        self.flush()

    def flush(self) -> None:
        """Give what was encrypted to the stream."""
        self._memory.incoming += self._encrypted.read()


def shake_hands(stream: TLSStream, act: Callable[[int], object]) -> None:
    """Perform a handshake; `act` is called at each wait, with its events."""
    steps = stream.handshake(TIMEOUT_S, 0)
    with suppress(StopIteration):
        wait = next(steps)
        while True:
            assert isinstance(wait, Wait)
            act(wait.events)
            wait = steps.send({wait.sockets[0]: wait.events})


@pytest.fixture(params=["TLSv1_2", "TLSv1_3"])
def contexts(
    authority: Authority, request: pytest.FixtureRequest
) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Make the contexts of a client and of a server."""
    client = ssl.create_default_context(cafile=authority.ca_cert)
    server = authority.server_context()
    server.maximum_version = ssl.TLSVersion[request.param]
    return client, server


@pytest.fixture
def memory() -> Iterator[Memory]:
    """Make a stream without a network."""
    memory = Memory()
    yield memory
    memory.close()


@pytest.fixture
def pair(
    memory: Memory, contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> tuple[TLSStream, Server]:
    """Make a stream in TLS and its server, after the handshake."""
    stream = TLSStream(memory, contexts[0], "localhost")
    server = Server(memory, contexts[1])
    shake_hands(stream, lambda _: server.take())
    server.take()
    return stream, server


def receive(stream: Stream, size: int) -> bytes:
    """Receive bytes until nothing is there, or the end."""
    data = b""
    while len(data) < size:
        try:
            piece = stream.recv(size - len(data))
        except BlockingIOError:
            break
        if not piece:
            break
        data += piece
    return data


def send_all(stream: TLSStream, data: Block, make_room: Callable[[], object]) -> None:
    """Send all of some bytes; `make_room` is called whenever the socket is full."""
    rest = memoryview(data)
    while rest or stream.events & select.POLLOUT:
        with suppress(BlockingIOError):
            if rest:
                rest = rest[stream.send((rest,)) :]
            else:
                stream.recv(1)
        make_room()


class TestPlainStream:
    """The socket itself."""

    def test_bytes_are_sent_and_received(self) -> None:
        """Several buffers go out in one call."""
        here, there = socket.socketpair()
        with here, there:
            here.setblocking(False)
            stream = PlainStream(here)
            assert stream.send((b"hel", memoryview(b"lo"))) == 5
            assert there.recv(9) == b"hello"
            there.send(b"answer")
            buffer = bytearray(3)
            assert stream.recv_into(memoryview(buffer)) == 3
            assert (bytes(buffer), stream.recv(9)) == (b"ans", b"wer")
            with pytest.raises(BlockingIOError):
                stream.recv(9)
            assert (stream.events, stream.has_input) == (select.POLLIN, False)
            stream.close()
            assert there.recv(9) == b""

    def test_send_to_full_and_to_broken_socket(self) -> None:
        """Whatever poll has said, a send may find the socket full, or the other side gone."""
        here, there = socket.socketpair()
        with here, there:
            here.setblocking(False)
            stream = PlainStream(here)
            with pytest.raises(BlockingIOError):
                while stream.send((BIG,)):
                    pass
            there.close()
            with pytest.raises(OSError) as caught:  # noqa: PT011 - of the kernel
                stream.send((BIG,))
            assert not isinstance(caught.value, BlockingIOError)


class TestHandshake:
    """Agreeing on keys."""

    def test_handshake_verifies_server(self, pair: tuple[TLSStream, Server]) -> None:
        """Then bytes go both ways."""
        stream, server = pair
        assert server.is_ready
        assert stream.send((b"hello",)) == 5
        server.take()
        assert server.plain == b"hello"
        server.send(b"answer")
        assert stream.recv(9) == b"answer"

    @pytest.mark.parametrize(
        ("trusts", "name", "text"),
        [(False, "localhost", "not trusted"), (True, "registry.example", "not trusted")],
        ids=["authority", "name"],
    )
    def test_invalid_certificate_raises(
        self,
        memory: Memory,
        contexts: tuple[ssl.SSLContext, ssl.SSLContext],
        trusts: bool,
        name: str,
        text: str,
    ) -> None:
        """The server is told by an alert."""
        client = contexts[0] if trusts else ssl.create_default_context()
        server = Server(memory, contexts[1])
        with pytest.raises(ConnectionFailure, match=text) as caught:
            shake_hands(TLSStream(memory, client, name), lambda _: server.take())
        assert caught.value.reason == "certificate"
        with pytest.raises(ssl.SSLError, match="ALERT"):
            server.take()

    @pytest.mark.parametrize(
        "answer",
        [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-OpenSSH_9.2\r\n", b""],
        ids=repr,
    )
    def test_answer_without_tls_raises(self, authority: Authority, answer: bytes) -> None:
        """A port of plain HTTP, another protocol, or a server that hangs up."""
        memory = Memory()
        memory.incoming += answer
        memory.is_ended = not answer
        context = ssl.create_default_context(cafile=authority.ca_cert)
        with pytest.raises(ConnectionFailure, match="TLS failed") as caught:
            shake_hands(TLSStream(memory, context, "localhost"), lambda _: None)
        assert caught.value.reason == "tls"
        memory.close()

    def test_broken_connection_raises(self, authority: Authority, memory: Memory) -> None:
        """It is not TLS that failed."""
        memory.room, memory.send_error, memory.is_ended = 0, ConnectionResetError(), True
        context = ssl.create_default_context(cafile=authority.ca_cert)
        with pytest.raises(ConnectionFailure, match="cannot connect") as caught:
            shake_hands(TLSStream(memory, context, "localhost"), lambda _: None)
        assert caught.value.reason == "connect"

    def test_slow_handshake_times_out(
        self, authority: Authority, memory: Memory, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """All of it has one timeout: a server may send a byte now and then."""
        now = [0.0]
        monkeypatch.setattr("brolga.transport.streams.time.monotonic", lambda: now[0])
        context = ssl.create_default_context(cafile=authority.ca_cert)
        steps = TLSStream(memory, context, "localhost").handshake(3.0, 1)
        waits = [next(steps)]
        with pytest.raises(TimeoutError):
            while True:
                now[0] += 1.0
                waits.append(steps.send({memory.socket: select.POLLIN}))
        sockets = (memory.socket,)
        assert waits == [Wait(sockets, select.POLLIN, seconds, 1) for seconds in (3.0, 2.0, 1.0)]

    def test_handshake_waits_until_output_is_sent(
        self, memory: Memory, contexts: tuple[ssl.SSLContext, ssl.SSLContext]
    ) -> None:
        """The socket may be full, in the last step too."""
        stream, server = TLSStream(memory, contexts[0], "localhost"), Server(memory, contexts[1])
        memory.room = 0
        events: list[int] = []

        def act(waited: int) -> None:
            events.append(waited)
            memory.room = 50 if waited & select.POLLOUT else 0
            server.take()

        shake_hands(stream, act)
        server.take()
        assert server.is_ready
        assert select.POLLIN | select.POLLOUT in events


class TestSend:
    """Encrypting and sending."""

    @pytest.mark.parametrize("room", [1, 999, 1 << 30])
    def test_large_block_is_sent_in_parts(
        self, memory: Memory, pair: tuple[TLSStream, Server], room: int
    ) -> None:
        """What is encrypted already is sent first; nothing is lost or sent twice."""
        stream, server = pair
        block = memoryview(BIG)[: 1 << 19 if room > 1 else 1 << 10]
        memory.room = room
        send_all(stream, block, lambda: setattr(memory, "room", room))
        server.take()
        assert server.plain == block

    def test_send_raises_while_socket_is_full(
        self, memory: Memory, pair: tuple[TLSStream, Server]
    ) -> None:
        """Only a bounded part of a body is encrypted ahead of the network."""
        stream, _ = pair
        memory.room = 0
        assert 0 < stream.send((BIG,)) < len(BIG)
        for _ in range(3):
            with pytest.raises(BlockingIOError):
                stream.send((BIG,))
        assert stream.events == select.POLLIN | select.POLLOUT

    def test_send_to_broken_connection_raises(
        self, memory: Memory, pair: tuple[TLSStream, Server]
    ) -> None:
        """The other side has gone."""
        stream, _ = pair
        memory.room, memory.send_error = 0, BrokenPipeError()
        with pytest.raises(BrokenPipeError):
            stream.send((BIG,))


class TestReceive:
    """Receiving and decrypting."""

    def test_records_are_joined_up_to_size(self, pair: tuple[TLSStream, Server]) -> None:
        """A record has 16 KiB at most."""
        stream, server = pair
        server.send(BIG)
        buffer = bytearray(100_000)
        assert stream.recv_into(memoryview(buffer)) == len(buffer)
        assert bytes(buffer) + receive(stream, len(BIG)) == BIG
        with pytest.raises(BlockingIOError):
            stream.recv(1)

    def test_record_in_parts_is_awaited(
        self, memory: Memory, pair: tuple[TLSStream, Server]
    ) -> None:
        """A part of a record cannot be decrypted."""
        stream, server = pair
        server.send(b"answer")
        late = bytes(memory.incoming[-1:])
        del memory.incoming[-1:]
        for _ in range(2):
            with pytest.raises(BlockingIOError):
                stream.recv(9)
        memory.incoming += late
        assert stream.recv(9) == b"answer"

    @pytest.mark.parametrize("closes", [True, False], ids=["close_notify", "ragged"])
    def test_end_comes_after_data_and_again(
        self, memory: Memory, pair: tuple[TLSStream, Server], closes: bool
    ) -> None:
        """Many servers hang up without close_notify; HTTP itself knows whether all has come."""
        stream, server = pair
        server.send(b"answer")
        if closes:
            server.close()
        else:
            memory.is_ended = True
        assert [stream.recv(9) for _ in range(3)] == [b"answer", b"", b""]
        assert stream.has_input

    def test_response_is_received_while_output_is_pending(
        self, memory: Memory, pair: tuple[TLSStream, Server]
    ) -> None:
        """A registry that has answered early takes no more bytes of the body."""
        stream, server = pair
        memory.room = 0
        stream.send((BIG,))
        server.send(b"HTTP/1.1 401")
        assert stream.recv(99) == b"HTTP/1.1 401"

    def test_response_is_received_after_output_has_failed(
        self, memory: Memory, pair: tuple[TLSStream, Server]
    ) -> None:
        """A registry that has answered early may have hung up then."""
        stream, server = pair
        memory.room = 0
        stream.send((BIG,))
        memory.send_error = BrokenPipeError()
        server.send(b"HTTP/1.1 413")
        assert stream.recv(99) == b"HTTP/1.1 413"

    def test_pending_output_is_sent_while_receiving(
        self, memory: Memory, pair: tuple[TLSStream, Server]
    ) -> None:
        """The rest of a request may wait for room, and the response for the rest."""
        stream, server = pair
        memory.room = 0
        count = stream.send((BIG,))
        memory.room = 1 << 30
        with pytest.raises(BlockingIOError):
            stream.recv(9)
        server.take()
        assert server.plain == BIG[:count]
        assert stream.events == select.POLLIN

    def test_surplus_is_input(self, pair: tuple[TLSStream, Server]) -> None:
        """Bytes after a response are not in the socket any more."""
        stream, server = pair
        server.send(b"body")
        server.send(b"surplus")
        found = [(stream.recv(size), stream.has_input) for size in (4, 3, 4)]
        assert found == [(b"body", True), (b"sur", True), (b"plus", False)]

    @pytest.mark.parametrize("size", [6, 9])
    def test_end_after_response_is_input(self, pair: tuple[TLSStream, Server], size: int) -> None:
        """The connection must not be used again, although its socket has nothing to read."""
        stream, server = pair
        server.send(b"answer")
        server.close()
        assert stream.recv(size) == b"answer"
        assert stream.has_input

    def test_alert_is_raised_in_place_of_response(
        self, memory: Memory, authority: Authority
    ) -> None:
        """TLS 1.3 has finished its handshake before the server misses the certificate."""
        context = authority.server_context()
        context.verify_mode = ssl.CERT_REQUIRED
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        client = ssl.create_default_context(cafile=authority.ca_cert)
        stream, server = TLSStream(memory, client, "localhost"), Server(memory, context)
        shake_hands(stream, lambda _: server.take())
        with pytest.raises(ssl.SSLError):
            server.take()
        with pytest.raises(ssl.SSLError, match="CERTIFICATE_REQUIRED"):
            stream.recv(9)

    def test_garbage_raises(self, memory: Memory, pair: tuple[TLSStream, Server]) -> None:
        """It is not what the server sent."""
        stream, server = pair
        server.send(b"answer")
        memory.incoming[-1] ^= 1
        with pytest.raises(ssl.SSLError):
            stream.recv(9)


class TestTLSInTLS:
    """A host behind an https proxy."""

    @pytest.fixture
    def tunnel(
        self, memory: Memory, authority: Authority, pair: tuple[TLSStream, Server]
    ) -> tuple[TLSStream, Callable[[], bytes], Callable[[bytes], None]]:
        """Make a stream through a proxy, what takes its bytes, and what sends to it."""
        outer, proxy = pair
        inside = Memory()
        host = Server(inside, authority.server_context())
        context = ssl.create_default_context(cafile=authority.ca_cert)
        stream = TLSStream(outer, context, "localhost")

        def relay() -> bytes:
            proxy.take()
            inside.sent += proxy.plain
            proxy.plain.clear()
            host.take()
            if inside.incoming:
                proxy.send(bytes(inside.incoming))
                inside.incoming.clear()
            return bytes(host.plain)

        def send(data: bytes) -> None:
            host.send(data)
            relay()

        shake_hands(stream, lambda _: relay())
        relay()
        inside.close()
        return stream, relay, send

    @pytest.mark.parametrize("room", [1 << 12, 1 << 30])
    def test_bytes_go_both_ways(
        self,
        memory: Memory,
        tunnel: tuple[TLSStream, Callable[[], bytes], Callable[[bytes], None]],
        room: int,
    ) -> None:
        """Each layer may hold back a part."""
        stream, relay, send = tunnel
        memory.room = room

        def make_room() -> None:
            memory.room = room
            relay()

        send_all(stream, BIG, make_room)
        assert relay() == BIG
        memory.room = 1 << 30
        send(BIG)
        assert receive(stream, len(BIG)) == BIG
        assert not stream.has_input

    def test_surplus_of_proxy_is_input(
        self,
        memory: Memory,
        tunnel: tuple[TLSStream, Callable[[], bytes], Callable[[bytes], None]],
    ) -> None:
        """Whatever layer holds it."""
        stream, _, send = tunnel
        send(b"a")
        send(b"b")
        assert stream.recv(1) == b"a"
        assert stream.has_input

    def test_end_of_proxy_is_end(
        self,
        memory: Memory,
        tunnel: tuple[TLSStream, Callable[[], bytes], Callable[[bytes], None]],
    ) -> None:
        """The connection to the proxy is that of the host."""
        stream, _, send = tunnel
        send(b"answer")
        memory.is_ended = True
        assert [stream.recv(9) for _ in range(2)] == [b"answer", b""]
        stream.close()
        assert memory.socket.fileno() == -1
