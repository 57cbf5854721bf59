"""transport: timeouts, minimum rates, and stop requests."""

from __future__ import annotations

import threading
from itertools import count
from typing import TYPE_CHECKING

import pytest
from tests.integration.transport.flows import TEST_TIMEOUT_S, perform
from tests.raw_server import Peer, serve_script

from brolga.errors import TransportError
from brolga.protocol import Request, Timeout
from brolga.stream.worker import Stop, stop_scope
from brolga.transport import Transport

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
def test_timeout_bounds_whole_head_of_response(pieces: tuple[bytes, ...]) -> None:
    """The timeout is of the whole head, interim answers included: each byte came in time."""
    with serve_script(without_end(*pieces)) as address, Transport(timeout_s=0.2) as client:
        with pytest.raises(TransportError) as caught:
            client.run(perform(Request("GET", f"http://{address}/")))
        assert caught.value.reason == "timeout"


def test_streamed_body_below_minimum_rate_fails() -> None:
    """A byte now and then comes in time each, and the blob never."""
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"
    with serve_script(without_end(head, b"x")) as address, Transport(timeout_s=0.2) as client:
        response = client.run(perform(Request("GET", f"http://{address}/", stream_response=True)))
        assert response.body_stream is not None
        with pytest.raises(TransportError, match="less than 1024 bytes a second"):
            for _ in response.body_stream:
                pass


def stopped(stop: Stop, request: Request) -> list[BaseException]:
    """Make a call in a thread that `stop` may interrupt; return what it raised."""
    raised: list[BaseException] = []

    def work() -> None:
        with stop_scope(stop), Transport(timeout_s=3600.0) as client:
            try:
                client.run(perform(request))
            except BaseException as error:  # noqa: BLE001 - the test looks at it
                raised.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(TEST_TIMEOUT_S)
    assert not thread.is_alive()
    return raised


@pytest.mark.parametrize(
    ("timeout", "requests"), [(Timeout.DEFAULT, 1), (Timeout.LONG, 1), (Timeout.SHORT, 2)]
)
def test_stop_request_ends_wait_for_response(timeout: Timeout, requests: int) -> None:
    """What cancels a session is still waited for after the first request, not after the second."""
    stop, over = Stop(), threading.Event()

    def script(peer: Peer) -> None:
        peer.head()
        for _ in range(requests):
            stop.request()
        over.wait(TEST_TIMEOUT_S)

    with serve_script(script) as address:
        raised = stopped(stop, Request("GET", f"http://{address}/", timeout=timeout))
        over.set()
    assert [type(error) for error in raised] == [KeyboardInterrupt]


def test_stop_request_ends_write_of_body() -> None:
    """The registry takes no more bytes: a socket that is full is waited for, too."""
    stop, over = Stop(), threading.Event()

    def script(peer: Peer) -> None:
        peer.head()
        stop.request()
        over.wait(TEST_TIMEOUT_S)

    with serve_script(script) as address:
        body = (bytes(1 << 20) for _ in range(1 << 10))
        raised = stopped(stop, Request("PUT", f"http://{address}/", body=body, size=1 << 30))
        over.set()
    assert [type(error) for error in raised] == [KeyboardInterrupt]


def test_close_ends_wait_of_other_thread() -> None:
    """`close` closes every connection, and ends waits on them."""
    over = threading.Event()
    client = Transport(timeout_s=3600.0)
    raised: list[BaseException] = []

    def script(peer: Peer) -> None:
        peer.head()
        client.close()
        over.wait(TEST_TIMEOUT_S)

    def work(address: str) -> None:
        try:
            client.run(perform(Request("GET", f"http://{address}/")))
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            raised.append(error)

    with serve_script(script) as address:
        thread = threading.Thread(target=work, args=(address,), daemon=True)
        thread.start()
        thread.join(TEST_TIMEOUT_S)
        over.set()
    assert [type(error) for error in raised] == [TransportError]
