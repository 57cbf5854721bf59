"""transport/connection.py: interrupts during a request."""

from __future__ import annotations

import signal
import socket
import struct
import threading
from typing import TYPE_CHECKING

import pytest
from tests.integration.transport.flows import (
    BLOCK,
    half,
    perform,
    record_thrown,
    wait,
)
from tests.raw_server import Peer, serve_script

from brolga.protocol import BodyError, Flow, Request, Timeout
from brolga.transport import Transport, connection

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from brolga.spec.blob import Block
    from brolga.transport.streams import Stream


# Cancellation, which is as an interrupt for asyncio, is tested in test_cancellation.py.
pytestmark = pytest.mark.parametrize("driver", ["threads"], indirect=True)

HUGE = BLOCK * 1024  # 64 MiB: more than any socket holds


def interrupt() -> None:
    """Press Ctrl-C."""
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


def in_the_middle(peer: Peer) -> None:
    """Take the beginning of a block: most of it is not sent yet."""
    peer.head()
    assert peer.line()


class TestInterrupt:
    """An interrupt while a block is being written waits until that block is out."""

    def run(self, client: Transport, script: Callable[[Peer], None]) -> BaseException:
        """Stream huge blocks to a script; return what was thrown into the flow."""
        caught: list[BaseException] = []
        with serve_script(script) as address, pytest.raises(KeyboardInterrupt):
            client.run(record_thrown(f"http://{address}/", [HUGE, b"never sent"], caught))
        return caught[0]

    def test_interrupt_ends_body_after_block(self, client: Transport) -> None:
        """No byte is lost or sent twice, and the response has the location of the session."""

        def script(peer: Peer) -> None:
            in_the_middle(peer)
            interrupt()
            end = b"\r\n0\r\n\r\n"  # sent in two writes
            data = bytearray(peer.arrived)
            while not data.endswith(end) and (piece := peer.socket.recv(1 << 20)):
                data += piece
            assert data == HUGE + end
            peer.answer(202, b"", "Location: /newest")

        failed = self.run(client, script)
        assert isinstance(failed, BodyError)
        assert isinstance(failed.error, KeyboardInterrupt)
        assert failed.response is not None
        assert failed.response.headers["location"] == "/newest"
        assert failed.response.sent == len(HUGE)

    @pytest.mark.usefixtures("short_cleanup")
    def test_interrupt_does_not_wait_for_stalled_reader(self, client: Transport) -> None:
        """The rest of the block has the cleanup timeout."""
        finished = threading.Event()

        def script(peer: Peer) -> None:
            in_the_middle(peer)
            interrupt()
            wait(finished)

        caught: list[BaseException] = []
        with serve_script(script) as address:
            try:
                with pytest.raises(KeyboardInterrupt):
                    client.run(record_thrown(f"http://{address}/", [HUGE], caught))
            finally:
                finished.set()
        assert isinstance(caught[0], BodyError)
        assert caught[0].response is None

    def test_second_interrupt_is_raised_at_once(self, client: Transport) -> None:
        """A second Ctrl-C ends the wait."""

        def script(peer: Peer) -> None:
            in_the_middle(peer)
            interrupt()
            while not peer.arrived.endswith(b"\r\n0\r\n\r\n") and peer.receive():
                peer.arrived = peer.arrived[-7:]
            interrupt()
            assert peer.drain().endswith(b"0\r\n\r\n")

        # The flow is closed, and makes no further request.
        assert isinstance(self.run(client, script), GeneratorExit)

    def test_body_error_has_early_response(self, client: Transport) -> None:
        """The registry stops the body before the interrupt could."""

        def script(peer: Peer) -> None:
            in_the_middle(peer)
            interrupt()
            peer.answer(413)
            peer.drain()

        failed = self.run(client, script)
        assert isinstance(failed, BodyError)
        assert failed.response is not None
        assert failed.response.status == 413

    def test_body_error_has_no_response_if_connection_fails(self, client: Transport) -> None:
        """The interrupt was first."""

        def script(peer: Peer) -> None:
            in_the_middle(peer)
            interrupt()
            linger = struct.pack("ii", 1, 0)
            peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

        failed = self.run(client, script)
        # The kernel may report the reset before the signal is seen.
        assert isinstance(failed, (BodyError, KeyboardInterrupt))
        assert not isinstance(failed, BodyError) or failed.response is None

    def test_rest_of_block_has_cleanup_timeout(
        self, client: Transport, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A reader that takes a little now and then would keep a large chunk going for hours."""
        monkeypatch.setattr(connection, "CLEANUP_TIMEOUT_S", 0.0)

        def script(peer: Peer) -> None:
            peer.head()
            assert peer.receive()
            interrupt()
            assert len(peer.drain()) < len(HUGE)

        caught: list[BaseException] = []
        with serve_script(script) as address, pytest.raises(KeyboardInterrupt):
            client.run(record_thrown(f"http://{address}/", HUGE, caught))
        assert isinstance(caught[0], BodyError)
        assert caught[0].response is None


@pytest.fixture
def signals(monkeypatch: pytest.MonkeyPatch) -> list[signal.Signals]:
    """Make a list of signals that come, the last one first, while a response is waited for.

    Each attempt to receive after the request was sent takes one of them first.
    """
    coming: list[signal.Signals] = []
    receive = connection.Transfer._receive

    def signalled(transfer: connection.Transfer) -> bool:
        if coming and transfer.exchange._is_sending:
            signal.raise_signal(coming.pop())
        return receive(transfer)

    monkeypatch.setattr(connection.Transfer, "_receive", signalled)
    return coming


def sized(peer: Peer, body: bytes) -> bool:
    """Take a body with a length."""
    while not peer.arrived.endswith(body) and peer.receive():
        pass
    taken, peer.arrived = peer.arrived, b""
    return taken == body


class TestInterruptBeforeResponse:
    """An interrupt between the last byte of a PATCH and its answer waits for that answer."""

    @pytest.mark.parametrize("body", [b"chunk", [b"stream"]], ids=["chunk", "stream"])
    def test_interrupt_has_response(
        self, client: Transport, signals: list[signal.Signals], body: bytes | list[bytes]
    ) -> None:
        """docker-registry 2.8 takes a DELETE only under the Location of that answer."""
        signals += [signal.SIGINT]
        heads: list[str] = []

        def script(peer: Peer) -> None:
            while head := peer.head():
                heads.append(head[0].rpartition(" ")[0])
                if head[0].startswith("PATCH"):
                    assert peer.chunks()[1] if isinstance(body, list) else sized(peer, body)
                peer.answer(202, b"", "Location: /newest")

        def flow(url: str) -> Flow[None]:
            try:
                yield Request("PATCH", f"{url}/first", body=body)
            except BodyError as failed:
                newest = failed.response.headers["location"] if failed.response else "/unanswered"
                yield Request("DELETE", f"{url}{newest}", timeout=Timeout.SHORT)
                raise

        with serve_script(script) as address, client, pytest.raises(KeyboardInterrupt) as raised:
            client.run(flow(f"http://{address}"))
        assert raised.value.__context__ is None
        assert heads == ["PATCH /first", "DELETE /newest"]

    def test_stream_raises_interrupt_of_post(
        self, client: Transport, signals: list[signal.Signals]
    ) -> None:
        """A read may ask for a token by POST: the interrupt itself is raised, not BodyError."""
        signals += [signal.SIGINT]

        def script(peer: Peer) -> None:
            peer.head()
            assert sized(peer, b"token")
            peer.answer(200)

        def flow(url: str) -> Generator[Request | bytes, object, None]:
            yield b"one"
            yield Request("POST", url, body=b"token")

        blocks: list[Block] = []
        with serve_script(script) as address, pytest.raises(KeyboardInterrupt):
            blocks.extend(client.stream(flow(f"http://{address}/")))
        assert blocks == [b"one"]

    def test_interrupt_at_send_of_whole_request_waits_for_response(
        self, client: Transport, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A request without a body is its head: the response has the location of the session."""
        send = connection.Outgoing.send

        def interrupted(
            outgoing: connection.Outgoing, stream: Stream, buffers: list[memoryview]
        ) -> int:
            send(outgoing, stream, buffers)
            raise KeyboardInterrupt

        def script(peer: Peer) -> None:
            peer.head()
            peer.answer(202, b"", "Location: /newest")

        monkeypatch.setattr(connection.Outgoing, "send", interrupted)
        caught: list[BaseException] = []
        with serve_script(script) as address, pytest.raises(KeyboardInterrupt):
            client.run(record_thrown(f"http://{address}/", b"", caught))
        (failed,) = caught
        assert isinstance(failed, BodyError)
        assert failed.response is not None
        assert failed.response.headers["location"] == "/newest"

    @pytest.mark.parametrize("body", [b"chunk", [b"stream"]], ids=["chunk", "stream"])
    def test_second_interrupt_ends_wait(
        self, client: Transport, signals: list[signal.Signals], body: bytes | list[bytes]
    ) -> None:
        """No further request is made after a second interrupt."""
        signals += [signal.SIGINT, signal.SIGINT]
        heads: list[str] = []

        def script(peer: Peer) -> None:
            heads.append(peer.head()[0].rpartition(" ")[0])
            peer.drain()

        def flow(url: str) -> Flow[None]:
            try:
                yield Request("PATCH", f"{url}/first", body=body)
            except (BodyError, KeyboardInterrupt):
                yield Request("DELETE", f"{url}/first")
                raise

        with serve_script(script) as address, pytest.raises(KeyboardInterrupt) as raised:
            client.run(flow(f"http://{address}"))
        assert raised.value.__context__ is None
        assert heads == ["PATCH /first"]

    def test_interrupt_after_source_error_lets_flow_cancel(
        self, client: Transport, signals: list[signal.Signals]
    ) -> None:
        """Only a second interrupt ends it."""
        signals += [signal.SIGINT]
        caught: list[BaseException] = []

        def script(peer: Peer) -> None:
            peer.head()
            peer.drain()

        with serve_script(script) as address, pytest.raises(KeyboardInterrupt):
            client.run(record_thrown(f"http://{address}/", half(), caught))
        assert isinstance(caught[0], KeyboardInterrupt)

    @pytest.mark.usefixtures("short_cleanup")
    def test_missing_response_is_awaited_briefly(
        self, client: Transport, signals: list[signal.Signals]
    ) -> None:
        """It has the cleanup timeout."""
        signals += [signal.SIGINT]
        caught: list[BaseException] = []

        def script(peer: Peer) -> None:
            peer.head()
            peer.drain()

        with serve_script(script) as address, pytest.raises(KeyboardInterrupt):
            client.run(record_thrown(f"http://{address}/", b"chunk", caught))
        assert isinstance(caught[0], BodyError)
        assert caught[0].response is None

    def test_interrupt_of_get_ends_read(
        self, client: Transport, signals: list[signal.Signals]
    ) -> None:
        """Of a GET nothing has to be known: it is not waited for."""
        signals += [signal.SIGINT]

        def script(peer: Peer) -> None:
            peer.head()
            peer.drain()

        with serve_script(script) as address, pytest.raises(KeyboardInterrupt):
            client.run(perform(Request("GET", f"http://{address}/")))
