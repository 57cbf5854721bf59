"""transport: how long an answer and a body may take, and what ends a wait before."""

from __future__ import annotations

import gc
import threading
import weakref
from itertools import count
from typing import TYPE_CHECKING

import pytest
from tests.raw_server import Peer, serve_script
from tests.unit.transport.calls import PATIENCE_S, one

from brolga.errors import TransportError
from brolga.protocol import Request, Timeout
from brolga.stream.worker import Stop, stop_scope
from brolga.transport import Transport
from brolga.transport.outgoing import Outgoing
from brolga.transport.pace import LOWEST_RATE, Pace

if TYPE_CHECKING:
    from collections.abc import Callable


def without_end(*pieces: bytes) -> Callable[[Peer], None]:
    """Return a server that answers piece by piece, the last one again and again."""

    def script(peer: Peer) -> None:
        peer.head()
        wait = threading.Event()
        try:
            for number in count():
                peer.send(pieces[min(number, len(pieces) - 1)])
                wait.wait(0.01)
        except OSError:
            return

    return script


@pytest.mark.parametrize(
    "pieces",
    [(b"HTTP/1.1 404 Not Found\r\nX: ", b"y"), (b"HTTP/1.1 103 Early Hints\r\n\r\n",)],
    ids=["a header a byte at a time", "interim answers without end"],
)
def test_the_head_of_an_answer_comes_within_the_timeout_or_fails(pieces: tuple[bytes, ...]) -> None:
    """The timeout is of the whole head, interim answers included: each byte came in time."""
    with serve_script(without_end(*pieces)) as address, Transport(timeout_s=0.2) as client:
        with pytest.raises(TransportError) as caught:
            client.run(one(Request("GET", f"http://{address}/")))
        assert caught.value.reason == "timeout"


def test_a_streamed_answer_below_the_lowest_rate_fails() -> None:
    """A byte now and then comes in time each, and the blob never."""
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"
    with serve_script(without_end(head, b"x")) as address, Transport(timeout_s=0.2) as client:
        response = client.run(one(Request("GET", f"http://{address}/", stream_response=True)))
        assert response.body_stream is not None
        with pytest.raises(TransportError, match="less than 1024 bytes a second"):
            for _ in response.body_stream:
                pass


@pytest.mark.parametrize(
    ("waits", "slow"),
    [
        ([(1.0, 10), (1.0, 10)], True),
        ([(1.0, 10), (1.0, 2 * LOWEST_RATE)], False),
        ([(0.5, 0), (0.5, 0), (0.5, 0)], False),
        ([(2.0, 2 * LOWEST_RATE), (2.0, 0)], True),
    ],
)
def test_the_lowest_rate_is_of_the_time_that_was_waited(
    waits: list[tuple[float, int]], slow: bool
) -> None:
    """It is judged each time that a timeout's worth of waiting is over."""
    pace = Pace()
    results = [pace.is_too_slow(*wait, 2.0) for wait in waits]
    assert any(results) is slow
    assert not Pace().is_too_slow(1e6, 0, None)


def stopped(stop: Stop, request: Request) -> list[BaseException]:
    """Make a call in a thread that `stop` may interrupt; return what it raised."""
    raised: list[BaseException] = []

    def work() -> None:
        with stop_scope(stop), Transport(timeout_s=3600.0) as client:
            try:
                client.run(one(request))
            except BaseException as error:  # noqa: BLE001 - the test looks at it
                raised.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
    return raised


@pytest.mark.parametrize(
    ("patience", "requests"), [(Timeout.DEFAULT, 1), (Timeout.LONG, 1), (Timeout.SHORT, 2)]
)
def test_a_request_to_stop_wakes_the_wait_for_an_answer(patience: Timeout, requests: int) -> None:
    """What cancels a session is still waited for after the first request, not after the second."""
    stop, over = Stop(), threading.Event()

    def script(peer: Peer) -> None:
        peer.head()
        for _ in range(requests):
            stop.request()
        over.wait(PATIENCE_S)

    with serve_script(script) as address:
        raised = stopped(stop, Request("GET", f"http://{address}/", timeout=patience))
        over.set()
    assert [type(error) for error in raised] == [KeyboardInterrupt]


def test_a_request_to_stop_wakes_the_write_of_a_body() -> None:
    """The registry takes no more bytes: a socket that is full is waited for, too."""
    stop, over = Stop(), threading.Event()

    def script(peer: Peer) -> None:
        peer.head()
        stop.request()
        over.wait(PATIENCE_S)

    with serve_script(script) as address:
        body = (bytes(1 << 20) for _ in range(1 << 10))
        raised = stopped(stop, Request("PUT", f"http://{address}/", body=body, size=1 << 30))
        over.set()
    assert [type(error) for error in raised] == [KeyboardInterrupt]


def test_closing_the_transport_wakes_a_thread_that_waits() -> None:
    """`close` closes every connection: nobody waits for an answer on one of them."""
    over = threading.Event()
    client = Transport(timeout_s=3600.0)
    raised: list[BaseException] = []

    def script(peer: Peer) -> None:
        peer.head()
        client.close()
        over.wait(PATIENCE_S)

    def work(address: str) -> None:
        try:
            client.run(one(Request("GET", f"http://{address}/")))
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            raised.append(error)

    with serve_script(script) as address:
        thread = threading.Thread(target=work, args=(address,), daemon=True)
        thread.start()
        thread.join(PATIENCE_S)
        over.set()
    assert [type(error) for error in raised] == [TransportError]


def test_a_request_that_ended_keeps_nothing_of_its_body() -> None:
    """A stream that is cut often must not keep each failed request until a cycle is collected."""
    outgoing = Outgoing(bytes(1) for _ in range(2))
    next(outgoing.blocks)
    gone = weakref.ref(outgoing)
    gc.disable()
    try:
        outgoing.end()
        del outgoing
        assert gone() is None
    finally:
        gc.enable()
