"""transport/driver.py: the driver of flows."""

from __future__ import annotations

import contextlib
import gc
import re
import threading
import weakref
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from tests.integration.transport.flows import TEST_TIMEOUT_S, patch, perform
from tests.raw_server import Peer, refusing_port, serve_script

from brolga.errors import TransportError
from brolga.protocol import Flow, ReadFlow, Request, Timeout
from brolga.transport import Transport

if TYPE_CHECKING:
    from collections.abc import Iterator


class TestRun:
    """transport/driver.py: the driver of flows."""

    def test_run_returns_result_of_flow_without_request(self, client: Transport) -> None:
        """The return value of the generator is the result."""

        def flow() -> Flow[str]:
            return "nothing to do"
            yield Request("GET", "unreachable")  # type: ignore[unreachable]

        assert client.run(flow()) == "nothing to do"

    def test_run_sends_responses_and_returns_result(self, client: Transport) -> None:
        """Each reply answers the call before it."""

        def script(peer: Peer) -> None:
            while head := peer.head():
                peer.answer(200, head[0].encode())

        def flow(url: str) -> Flow[list[bytes]]:
            first = yield Request("GET", f"{url}a")
            second = yield Request("GET", f"{url}b")
            return [first.body, second.body]

        with serve_script(script) as address, client:
            bodies = client.run(flow(f"http://{address}/"))
        assert bodies == [b"GET /a HTTP/1.1", b"GET /b HTTP/1.1"]

    def test_run_throws_transport_error_into_flow(self, client: Transport) -> None:
        """Retry is the flow's to decide."""

        def script(peer: Peer) -> None:
            peer.head()
            peer.answer(200)

        def flow(urls: list[str]) -> Flow[int]:
            for url in urls:
                try:
                    return (yield from perform(Request("GET", url))).status
                except TransportError as error:
                    reasons.append(error.reason)
            return 0

        reasons: list[str] = []

        with serve_script(script) as address:
            urls = [f"http://127.0.0.1:{refusing_port()}/", f"http://{address}/"]
            assert client.run(flow(urls)) == 200
        assert reasons == ["connect"]

    def test_flow_may_make_request_after_interrupt(self, client: Transport) -> None:
        """Ctrl-C in the middle of a body is thrown in: the flow cancels, then it comes out."""
        heads = []

        def script(peer: Peer) -> None:
            head = peer.head()
            heads.append(head[0].partition(" ")[0])
            if heads[-1] == "PATCH":
                peer.chunks()
            else:
                peer.answer(204)

        def body() -> Iterator[bytes]:
            yield b"a"
            raise KeyboardInterrupt

        def flow(url: str) -> Flow[None]:
            try:
                yield Request("PATCH", url, body=body())
            except BaseException:
                yield Request("DELETE", url, timeout=Timeout.SHORT)
                raise

        with serve_script(script) as address, pytest.raises(KeyboardInterrupt):
            client.run(flow(f"http://{address}/"))
        assert heads == ["PATCH", "DELETE"]

    def test_run_raises_error_of_flow(self, client: Transport) -> None:
        """The driver has no opinion of a flow's errors."""

        def script(peer: Peer) -> None:
            peer.head()
            peer.answer(200)

        def flow(url: str) -> Flow[None]:
            response = yield Request("GET", url)
            raise LookupError(response.status)

        with serve_script(script) as address, pytest.raises(LookupError, match="200"):
            client.run(flow(f"http://{address}/"))

    def test_threads_share_transport_without_waiting(self) -> None:
        """Uploads of many threads go on at once: all of them are under way before one ends."""
        threads = 12
        together = threading.Barrier(threads, timeout=TEST_TIMEOUT_S)

        def script(peer: Peer) -> None:
            while peer.head():
                chunks, whole = peer.chunks()
                assert whole
                together.wait()
                peer.answer(202, b"".join(chunks))

        bodies: list[tuple[bytes, bytes]] = []

        def push(number: int) -> None:
            text = str(number).encode()
            response = client.run(patch(f"http://{address}/", [text]))
            bodies.append((text, response.body))

        with serve_script(script) as address, Transport(timeout_s=TEST_TIMEOUT_S) as client:
            workers = [threading.Thread(target=push, args=(number,)) for number in range(threads)]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
        gc.collect()
        assert len(bodies) == threads
        assert all(sent == echoed for sent, echoed in bodies)

    def test_close_is_idempotent(self) -> None:
        """Idempotent, as every close is."""
        with closing(Transport()) as client:
            client.close()

    def test_run_raises_after_close(self, client: Transport) -> None:
        """A closed client says so, and opens no connection again."""
        made: list[Request] = []

        def flow() -> Flow[None]:
            made.append(Request("GET", "http://127.0.0.1/"))
            yield made[0]

        client.close()
        with pytest.raises(RuntimeError, match="the client is closed"):
            client.run(flow())
        assert made == []

    def test_request_raises_if_closed_during_flow(self, client: Transport) -> None:
        """Its further calls have no connections."""

        def flow() -> Flow[None]:
            client.close()
            yield Request("GET", "http://127.0.0.1/")

        with pytest.raises(RuntimeError, match="the client is closed"):
            client.run(flow())


class TestStream:
    """The driver of a flow that gives bytes on its way."""

    def test_stream_yields_bytes_between_requests(self, client: Transport) -> None:
        """A failure is thrown in here too: to go on after it is the flow's to decide."""

        def script(peer: Peer) -> None:
            peer.head()
            peer.answer(200, b"two")

        def flow(url: str) -> ReadFlow:
            yield b"one"
            try:
                yield Request("GET", f"http://127.0.0.1:{refusing_port()}/")
            except TransportError:
                response = yield Request("GET", url)
                yield response.body

        def without_end() -> ReadFlow:
            with contextlib.suppress(TransportError):
                yield Request("GET", f"http://127.0.0.1:{refusing_port()}/")

        with serve_script(script) as address:
            assert list(client.stream(flow(f"http://{address}/"))) == [b"one", b"two"]
        assert list(client.stream(without_end())) == []

    def test_stream_closed_early_closes_flow(self, client: Transport) -> None:
        """What the flow holds open is given up with it."""
        closed = []

        def flow() -> ReadFlow:
            try:
                yield b"one"
                yield b"two"
            finally:
                closed.append(True)

        blocks = client.stream(flow())
        assert next(blocks) == b"one"
        blocks.close()
        assert closed == [True]

    def test_stream_raises_after_close(self, client: Transport) -> None:
        """Raises RuntimeError after `close`."""

        def flow() -> ReadFlow:
            yield b"one"

        client.close()
        with pytest.raises(RuntimeError, match="the client is closed"):
            next(client.stream(flow()))

    @pytest.mark.parametrize("driver", ["threads"], indirect=True)
    def test_dropped_transport_is_closed(self) -> None:
        """`close_when_dropped`: for one that has no scope of its own."""
        closed = threading.Event()

        def script(peer: Peer) -> None:
            peer.head()
            peer.answer(200)
            peer.drain()
            closed.set()

        transport = Transport(timeout_s=TEST_TIMEOUT_S)
        transport.close_when_dropped()
        with serve_script(script) as address:
            transport.run(perform(Request("GET", f"http://{address}/")))
            del transport
            gc.collect()
            assert closed.wait(TEST_TIMEOUT_S)


class _Block(bytearray):
    """A block of which it can be told whether it is still there."""


def test_body_is_dropped_before_flow_continues(client: Transport) -> None:
    """The flow may gather the next chunk then, and there is memory for one."""
    alive: list[weakref.ref[_Block]] = []

    def script(peer: Peer) -> None:
        peer.head()
        peer.answer(202)

    def flow(url: str) -> Flow[bool]:
        block = _Block(b"chunk")
        alive.append(weakref.ref(block))
        body = [(memoryview(block),)]
        del block
        yield Request("PATCH", url, body=body.pop())
        return alive[0]() is not None

    with serve_script(script) as address:
        assert client.run(flow(f"http://{address}/")) is False


class TestDelaysAndTimeouts:
    """When a call is made, and how long its answer is waited for."""

    @pytest.mark.parametrize("driver", ["threads"], indirect=True)
    def test_request_is_sent_after_delay(self) -> None:
        """`after_s` seconds, waited by `pause`, before anything is sent."""
        pauses: list[float] = []
        heads = []

        def script(peer: Peer) -> None:
            heads.append((peer.head()[0], list(pauses)))
            peer.answer(200)

        with serve_script(script) as address:
            for after_s in (0.0, 2.5):
                with Transport(pause=pauses.append) as client:
                    client.run(perform(Request("GET", f"http://{address}/", delay_s=after_s)))
        assert heads == [("GET / HTTP/1.1", []), ("GET / HTTP/1.1", [2.5])]

    @pytest.mark.parametrize("driver", ["threads"], indirect=True)
    def test_interrupt_during_delay_is_thrown_in(self) -> None:
        """The flow may have something to cancel."""

        def pause(_seconds: float) -> None:
            raise KeyboardInterrupt

        def flow() -> Flow[str]:
            try:
                yield Request("GET", "http://127.0.0.1/", delay_s=1)
            except KeyboardInterrupt:
                return "cancelled"
            return "sent"

        with Transport(pause=pause) as client:
            assert client.run(flow()) == "cancelled"

    @pytest.mark.parametrize(
        ("timeout", "timeout_s", "read_s", "others_s"),
        [
            (Timeout.SHORT, 60.0, 5.0, 5.0),
            (Timeout.DEFAULT, 60.0, 60.0, 60.0),
            (Timeout.LONG, 60.0, 900.0, 60.0),
            (Timeout.LONG, 1.0, 15.0, 1.0),
        ],
    )
    def test_timeouts_of_each_timeout_class(
        self, timeout: Timeout, timeout_s: float, read_s: float, others_s: float
    ) -> None:
        """LONG lets the answer alone take its time: the registry moves a whole blob."""
        with Transport(timeout_s=timeout_s) as client:
            timeouts = client._requests._timeouts(timeout)
        assert (timeouts.connect_s, timeouts.write_s) == (others_s, others_s)
        assert timeouts.read_s == read_s


class TestLog:
    """The logger `brolga.transport`: a line for each call and each answer, and no secrets."""

    def test_log_has_request_and_response(
        self, client: Transport, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Method, URL, status and counts; never a query, a header or a body."""

        def script(peer: Peer) -> None:
            while head := peer.head():
                if head[0].startswith("PATCH"):
                    peer.chunks()
                peer.answer(200, b"secret", "X-Token: secret")

        with serve_script(script) as address, client, caplog.at_level("DEBUG", "brolga.transport"):
            url = f"http://user:secret@{address}/v2/?_state=secret"
            client.run(patch(url, [b"secret", b"secret"]))
            response = client.run(
                perform(Request("GET", url, {"Authorization": "secret"}, stream_response=True))
            )
            assert list(response.body_stream or []) == [b"secret"]
        ours = [record for record in caplog.records if record.name == "brolga.transport"]
        lines = [re.sub(r"[0-9]+ ms$", "0 ms", record.getMessage()) for record in ours]
        shown = f"http://{address}/v2/"
        assert lines == [
            f"PATCH {shown}",
            f"PATCH {shown}: 200, 12 bytes sent, 6 bytes received, 0 ms",
            f"GET {shown}",
            f"GET {shown}: 200, 0 bytes sent, a streamed body, 0 ms",
        ]

    def test_log_has_failure(self, client: Transport, caplog: pytest.LogCaptureFixture) -> None:
        """The log has the type of the error, not its text."""
        url = f"http://127.0.0.1:{refusing_port()}/"
        with caplog.at_level("DEBUG", "brolga.transport"), pytest.raises(TransportError):
            client.run(perform(Request("GET", url)))
        assert re.fullmatch(f"GET {url}: TransportError after [0-9]+ ms", caplog.messages[-1])

    def test_log_is_silent_by_default(
        self, client: Transport, capfd: pytest.CaptureFixture[str]
    ) -> None:
        """A library prints nothing on its own."""
        with pytest.raises(TransportError):
            client.run(perform(Request("GET", f"http://127.0.0.1:{refusing_port()}/")))
        assert capfd.readouterr() == ("", "")
