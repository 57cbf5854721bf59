"""transport/request_state.py: a body that fails, and interrupts during a request."""

from __future__ import annotations

import signal
import socket
import struct
import threading
from typing import TYPE_CHECKING

import httpcore2 as httpcore
import pytest
from tests.raw_server import Peer, serve_script
from tests.unit.transport.flows import BLOCK, TEST_TIMEOUT_S, patch, perform, wait

from brolga.errors import SourceError
from brolga.protocol import BodyError, Flow, ReadFlow, Request, Response, Timeout
from brolga.transport import Transport, request_state
from brolga.transport.connection import EarlyResponseStream
from brolga.transport.request_state import RequestState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from tests.conftest import Authority

HUGE = BLOCK * 1024  # 64 MiB: more than any socket holds


class _SourceError(Exception):
    """What a source raises."""


def half(error: BaseException | None = None) -> Iterator[bytes]:
    """Make a body that fails in its middle."""
    yield b"half"
    raise error or _SourceError


def watched(url: str, body: bytes | Iterable[bytes], caught: list[BaseException]) -> Flow[Response]:
    """Stream a body; keep what is thrown in."""
    try:
        return (yield Request("PATCH", url, body=body))
    except BaseException as error:
        caught.append(error)
        raise


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the cleanup timeout: the response does not come here."""
    monkeypatch.setattr(request_state, "CLEANUP_TIMEOUT_S", 0.1)


class TestBodyError:
    """A body that fails is ended all the same, and the answer handed on with the error."""

    @pytest.mark.parametrize(
        "error",
        [
            _SourceError("disk on fire"),
            KeyboardInterrupt(),
            SystemExit(143),
            # A source that is itself an HTTP download has the library's own errors.
            httpcore.ReadError("the other registry"),
            httpcore.WriteError("the other registry"),
        ],
        ids=repr,
    )
    @pytest.mark.parametrize("secure", [False, True])
    def test_failed_body_ends_cleanly_and_error_has_response(
        self, request: pytest.FixtureRequest, error: BaseException, secure: bool
    ) -> None:
        """docker-registry 2.8 takes a DELETE only under the Location of that answer."""
        authority: Authority | None = request.getfixturevalue("authority") if secure else None
        cause = ValueError("why")
        caught: list[BaseException] = []

        def script(peer: Peer) -> None:
            peer.head()
            assert peer.chunks() == ([BLOCK, b"half"], True)
            peer.answer(202, b"", "Location: /newest")

        def body() -> Iterator[bytes]:
            yield BLOCK
            yield b"half"
            raise error from cause

        with (
            Transport(timeout_s=TEST_TIMEOUT_S, insecure=True) as client,
            serve_script(script, tls=authority.server_context() if authority else None) as address,
            pytest.raises(type(error)) as raised,
        ):
            scheme = "https" if secure else "http"
            client.run(watched(f"{scheme}://{address}/", body(), caught))
        # What the user sees is theirs, and no word of ours is in it.
        assert raised.value is error
        assert (error.__cause__, error.__context__) == (cause, None)
        (failed,) = caught
        assert isinstance(failed, BodyError)
        assert failed.error is error
        assert failed.response is not None
        assert (failed.response.status, failed.response.headers["location"]) == (202, "/newest")
        assert (failed.response.complete, failed.response.sent) == (False, len(BLOCK) + 4)

    @pytest.mark.usefixtures("hasty")
    @pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 202 OK\r\nContent-Length: 9\r\n\r\nhalf"])
    def test_missing_response_is_awaited_briefly(self, client: Transport, answer: bytes) -> None:
        """It is awaited for the cleanup timeout."""
        caught: list[BaseException] = []

        def script(peer: Peer) -> None:
            peer.head()
            peer.chunks()
            peer.send(answer)
            assert peer.drain() == b""

        with serve_script(script) as address, pytest.raises(_SourceError):
            client.run(watched(f"http://{address}/", half(), caught))
        assert isinstance(caught[0], BodyError)
        assert caught[0].response is None

    def test_body_error_has_no_response_if_connection_fails(self, client: Transport) -> None:
        """The body's error came first, so it is raised."""
        caught: list[BaseException] = []

        def script(peer: Peer) -> None:
            peer.head()
            peer.chunks()

        with serve_script(script) as address, pytest.raises(_SourceError):
            client.run(watched(f"http://{address}/", half(), caught))
        assert isinstance(caught[0], BodyError)
        assert caught[0].response is None

    def test_body_error_has_early_response(self, client: Transport) -> None:
        """The registry may have had enough before the body failed."""
        caught: list[BaseException] = []
        answered = threading.Event()

        def script(peer: Peer) -> None:
            peer.head()
            peer.chunk()
            peer.answer(413)
            answered.set()
            assert peer.drain() == b""

        def body() -> Iterator[bytes]:
            yield b"half"
            wait(answered)
            raise _SourceError

        with serve_script(script) as address, pytest.raises(_SourceError):
            client.run(watched(f"http://{address}/", body(), caught))
        assert isinstance(caught[0], BodyError)
        assert caught[0].response is not None
        assert caught[0].response.status == 413

    def test_body_error_has_response_with_body(self, client: Transport) -> None:
        """The response to a failed body is not streamed."""
        caught: list[BaseException] = []

        def script(peer: Peer) -> None:
            peer.head()
            peer.chunks()
            peer.answer(200, b"done")

        def flow(url: str) -> Flow[Response]:
            try:
                return (yield Request("PATCH", url, body=half(), stream_response=True))
            except BaseException as error:
                caught.append(error)
                raise

        with serve_script(script) as address, pytest.raises(_SourceError):
            client.run(flow(f"http://{address}/"))
        assert isinstance(caught[0], BodyError)
        assert caught[0].response is not None
        assert (caught[0].response.body, caught[0].response.body_stream) == (b"done", None)

    def test_flow_may_cancel_at_location_of_response(self, client: Transport) -> None:
        """Ctrl-C in a source is thrown in: the flow cancels, then it comes out."""
        heads = []

        def script(peer: Peer) -> None:
            while head := peer.head():
                heads.append(head[0].rpartition(" ")[0])
                if head[0].startswith("PATCH"):
                    peer.chunks()
                peer.answer(202, b"", "Location: /newest")

        def flow(url: str) -> Flow[None]:
            try:
                yield Request("PATCH", f"{url}/first", body=half(KeyboardInterrupt()))
            except BodyError as failed:
                newest = failed.response.headers["location"] if failed.response else "/unanswered"
                yield Request("DELETE", f"{url}{newest}", timeout=Timeout.SHORT)
                raise

        with serve_script(script) as address, client, pytest.raises(KeyboardInterrupt):
            client.run(flow(f"http://{address}"))
        assert heads == ["PATCH /first", "DELETE /newest"]

    def test_run_raises_error_that_flow_makes_of_body_error(self, client: Transport) -> None:
        """A flow may have an error of its own for it."""

        def script(peer: Peer) -> None:
            peer.head()
            peer.chunks()
            peer.answer(202)

        def flow(url: str) -> Flow[None]:
            try:
                yield Request("PATCH", url, body=half())
            except BodyError as failed:
                raise LookupError from failed.error

        with serve_script(script) as address, pytest.raises(LookupError) as caught:
            client.run(flow(f"http://{address}/"))
        assert isinstance(caught.value.__cause__, _SourceError)

    def test_invalid_block_does_not_end_body(self, client: Transport) -> None:
        """It is not an error of the source. The connection cannot continue and is closed."""
        seen = []
        closed = threading.Event()

        def script(peer: Peer) -> None:
            peer.head()
            seen.append(peer.chunks())
            closed.set()

        with serve_script(script) as address:
            with pytest.raises(TypeError):
                client.run(patch(f"http://{address}/", [b"a", "text"]))  # type: ignore[list-item]
            wait(closed)  # although the client is still open
        assert seen == [([b"a"], False)]

    def test_dropped_body_does_not_fail(self) -> None:
        """Its owner has an error of its own."""
        state = RequestState([b"a", b"b"])
        blocks = iter(state.body)
        next(blocks)
        del blocks, state.body
        assert state.error is None
        assert not state.ended

    @pytest.mark.parametrize(
        ("body", "size", "headers"),
        [
            (None, None, []),
            (b"", None, [("Content-Length", "0")]),
            (b"bytes", None, [("Content-Length", "5")]),
            ((b"by", memoryview(b"tes")), None, [("Content-Length", "5")]),
            ((b"by", b"tes"), 5, [("Content-Length", "5")]),
            ([b"by", b"tes"], None, [("Transfer-Encoding", "chunked")]),
            ([b"by", b"tes"], 5, [("Content-Length", "5")]),
        ],
    )
    def test_body_of_known_size_has_content_length(
        self,
        body: bytes | tuple[bytes, ...] | list[bytes] | None,
        size: int | None,
        headers: list[tuple[str, str]],
    ) -> None:
        """RFC 9112, section 6.2: a Content-Length if the size is known before the content."""
        state = RequestState(body, "PUT", size)
        assert state.headers == headers
        assert b"".join(state.body) == b"".join([body] if isinstance(body, bytes) else body or ())
        assert state.sent == sum(map(len, [body] if isinstance(body, bytes) else body or ()))
        assert state.ended

    @pytest.mark.parametrize(
        ("body", "sent", "words"),
        [
            ([b"bl", b"obs"], b"bl", "a blob of 4 bytes gave more than that"),
            ([b"bl", b""], b"bl", "a blob of 4 bytes ended after 2"),
        ],
    )
    def test_body_of_wrong_size_is_source_error(
        self, client: Transport, body: list[bytes], sent: bytes, words: str
    ) -> None:
        """The library's own error would say nothing of whose fault it is."""
        seen = []

        def script(peer: Peer) -> None:
            peer.head()
            seen.append(peer.drain())

        with serve_script(script) as address, pytest.raises(SourceError, match=words):
            client.run(perform(Request("PUT", f"http://{address}/", body=body, size=4)))
        assert seen == [sent]

    def test_failed_body_of_known_size_closes_connection(self, client: Transport) -> None:
        """It cannot be ended cleanly: the registry would wait for the rest. Its error comes out."""
        caught: list[BaseException] = []
        seen = []

        def script(peer: Peer) -> None:
            peer.head()
            seen.append(peer.drain())

        def flow(url: str) -> Flow[Response]:
            try:
                return (yield Request("PUT", url, body=half(), size=8))
            except BaseException as error:
                caught.append(error)
                raise

        with serve_script(script) as address, pytest.raises(_SourceError):
            client.run(flow(f"http://{address}/"))
        assert isinstance(caught[0], BodyError)
        assert caught[0].response is None
        assert seen == [b"half"]


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
            client.run(watched(f"http://{address}/", [HUGE, b"never sent"], caught))
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

    @pytest.mark.usefixtures("hasty")
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
                    client.run(watched(f"http://{address}/", [HUGE], caught))
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

    @pytest.mark.parametrize("method", ["PATCH", "POST"])
    @pytest.mark.parametrize("body", [None, b"bytes", (b"a", b"b"), [b"a", b"b"]])
    def test_interrupt_is_deferred_from_first_block_on(
        self, method: str, body: bytes | tuple[bytes] | list[bytes] | None
    ) -> None:
        """A head has no clean end in its middle, and before it nothing was changed."""
        before = RequestState(body, method)
        assert not before.defer_interrupt(KeyboardInterrupt())
        state = RequestState(body, method)
        list(state.body)
        assert state.defer_interrupt(KeyboardInterrupt())
        assert not state.defer_interrupt(KeyboardInterrupt())

    @pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
    @pytest.mark.parametrize("body", [None, b"bytes", [b"a"]])
    def test_interrupt_of_idempotent_request_is_not_deferred(
        self, method: str, body: bytes | list[bytes] | None
    ) -> None:
        """A PATCH and a POST are not idempotent: only their response says what they did."""
        state = RequestState(body, method)
        list(state.body)
        assert not state.defer_interrupt(KeyboardInterrupt())

    def test_no_block_is_read_after_interrupt(self) -> None:
        """An interrupt that was kept back ends the body, and there is one of them."""
        state = RequestState([b"a", b"b"], "PATCH")
        blocks = iter(state.body)
        next(blocks)
        first = KeyboardInterrupt()
        assert state.defer_interrupt(first)
        assert not state.defer_interrupt(KeyboardInterrupt())
        assert list(blocks) == []
        assert (state.error, state.sent, state.ended) == (first, 1, False)

    def test_interrupt_in_source_is_not_deferred(self) -> None:
        """The source may be another registry's answer: what it waits for need never come."""
        held = []

        def source() -> Iterator[bytes]:
            yield b"a"
            held.append(state.defer_interrupt(KeyboardInterrupt()))
            yield b"b"

        state = RequestState(source(), "PATCH")
        list(state.body)
        assert held == [False]

    def test_rest_of_block_has_cleanup_timeout(
        self, client: Transport, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A reader that takes a little now and then would keep a large chunk going for hours."""
        monkeypatch.setattr(request_state, "CLEANUP_TIMEOUT_S", 0.0)

        def script(peer: Peer) -> None:
            peer.head()
            assert peer.receive()
            interrupt()
            assert len(peer.drain()) < len(HUGE)

        caught: list[BaseException] = []
        with serve_script(script) as address, pytest.raises(KeyboardInterrupt):
            client.run(watched(f"http://{address}/", HUGE, caught))
        assert isinstance(caught[0], BodyError)
        assert caught[0].response is None


class Signalled:
    """A socket whose reader gets signals while it waits: each read takes one of them first."""

    def __init__(self, inner: socket.socket, signals: list[signal.Signals]) -> None:
        self._inner = inner
        self._signals = signals

    def recv(self, size: int) -> bytes:
        """Wait, and be signalled."""
        if self._signals:
            signal.raise_signal(self._signals.pop())
        return self._inner.recv(size)

    def __getattr__(self, name: str) -> object:
        """Be a socket in all else."""
        return getattr(self._inner, name)


@pytest.fixture
def signals(monkeypatch: pytest.MonkeyPatch) -> list[signal.Signals]:
    """Make a list of signals that come, the last one first, while an answer is waited for."""
    coming: list[signal.Signals] = []
    made = EarlyResponseStream.__init__

    def signalled(self: EarlyResponseStream, inner: httpcore.NetworkStream) -> None:
        made(self, inner)
        self._socket = Signalled(self._socket, coming)  # type: ignore[assignment] # a double

    monkeypatch.setattr(EarlyResponseStream, "__init__", signalled)
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

        def flow(url: str) -> ReadFlow:
            yield b"one"
            yield Request("POST", url, body=b"token")

        blocks: list[bytes] = []
        with serve_script(script) as address, pytest.raises(KeyboardInterrupt):
            blocks.extend(client.stream(flow(f"http://{address}/")))
        assert blocks == [b"one"]

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
            client.run(watched(f"http://{address}/", half(), caught))
        assert isinstance(caught[0], KeyboardInterrupt)

    @pytest.mark.usefixtures("hasty")
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
            client.run(watched(f"http://{address}/", b"chunk", caught))
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
