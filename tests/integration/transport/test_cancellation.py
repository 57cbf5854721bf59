"""transport/aio.py: cancelling a task is as an interrupt of the thread that runs a flow."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import pytest
from tests.integration.transport.flows import BLOCK, TEST_TIMEOUT_S, perform, wait
from tests.raw_server import Peer, serve_script

from brolga.protocol import BodyError, Flow, Request, Response, Timeout
from brolga.transport.aio import AsyncTransport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

pytestmark = pytest.mark.parametrize("driver", ["asyncio"], indirect=True)

HUGE = BLOCK * 1024  # 64 MiB: more than any socket holds


class Cancelled:
    """A flow that runs as a task, and how often a server cancels it."""

    def __init__(self) -> None:
        self.heads: list[str] = []
        self.thrown: list[BaseException] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[object] | None = None

    def cancel(self) -> None:
        """Cancel the task, from the server's thread; return when the loop has seen it."""
        seen = threading.Event()

        def cancel() -> None:
            assert self._task is not None
            self._task.cancel()
            self._loop and self._loop.call_soon(self._loop.call_soon, seen.set)

        assert self._loop is not None
        self._loop.call_soon_threadsafe(cancel)
        wait(seen)

    def flow(self, url: str, method: str, body: bytes | Iterable[bytes] | None) -> Flow[Response]:
        """Make a request; after a failure delete the newest session."""
        try:
            return (yield from perform(Request(method, f"{url}/first", body=body)))
        except BodyError as failed:
            self.thrown.append(failed.error)
            newest = failed.response.headers["location"] if failed.response else "/unanswered"
            yield Request("DELETE", f"{url}{newest}", timeout=Timeout.SHORT)
            raise
        except BaseException as error:
            self.thrown.append(error)
            raise

    def run(
        self,
        script: Callable[[Peer], None],
        method: str = "PATCH",
        body: bytes | Iterable[bytes] | None = None,
    ) -> None:
        """Run the flow against a script; it must end as a cancelled task."""

        async def main(url: str) -> None:
            async with AsyncTransport(timeout_s=TEST_TIMEOUT_S) as transport:
                self._loop = asyncio.get_running_loop()
                self._task = asyncio.create_task(transport.run(self.flow(url, method, body)))
                await asyncio.wait([self._task])
                assert self._task.cancelled()

        with serve_script(script) as address:
            asyncio.run(main(f"http://{address}"))


@pytest.mark.parametrize("method", ["PATCH", "POST"])
@pytest.mark.parametrize("body", [b"chunk", [b"stream"]], ids=["chunk", "stream"])
def test_cancelled_request_has_response(method: str, body: bytes | list[bytes]) -> None:
    """docker-registry 2.8 takes a DELETE only under the Location of that response."""
    cancelled = Cancelled()

    def script(peer: Peer) -> None:
        while head := peer.head():
            cancelled.heads.append(head[0].rpartition(" ")[0])
            if head[0].startswith(method):
                if isinstance(body, list):
                    assert peer.chunks() == (body, True)
                else:
                    while not peer.arrived.endswith(body) and peer.receive():
                        pass
                    peer.arrived = b""
                cancelled.cancel()
                peer.answer(202, b"", "Location: /newest")
            else:
                peer.answer(204)

    cancelled.run(script, method, body)
    assert cancelled.heads == [f"{method} /first", "DELETE /newest"]
    assert isinstance(cancelled.thrown[0], asyncio.CancelledError)


def test_cancellation_ends_body_after_block() -> None:
    """No byte is lost or sent twice."""
    cancelled = Cancelled()

    def script(peer: Peer) -> None:
        head = peer.head()
        cancelled.heads.append(head[0].rpartition(" ")[0])
        if head[0].startswith("DELETE"):
            peer.answer(204)
            return
        assert peer.line()
        cancelled.cancel()
        end = b"\r\n0\r\n\r\n"
        data = bytearray(peer.arrived)
        while not data.endswith(end) and (piece := peer.socket.recv(1 << 20)):
            data += piece
        assert data == HUGE + end
        peer.arrived = b""
        peer.answer(202, b"", "Location: /newest", "Connection: close")

    cancelled.run(script, body=[HUGE, b"never sent"])
    assert cancelled.heads == ["PATCH /first", "DELETE /newest"]


def test_cancellation_while_source_runs_ends_body() -> None:
    """What the source returns then is not sent; the call is waited for."""
    cancelled = Cancelled()
    returned: list[str] = []

    def source() -> Iterator[bytes]:
        yield b"sent"
        cancelled.cancel()
        returned.append("block")
        yield b"not sent"

    def script(peer: Peer) -> None:
        while head := peer.head():
            cancelled.heads.append(head[0].rpartition(" ")[0])
            if head[0].startswith("PATCH"):
                assert peer.chunks() == ([b"sent"], True)
                peer.answer(202, b"", "Location: /newest")
            else:
                peer.answer(204)

    cancelled.run(script, body=source())
    assert (cancelled.heads, returned) == (["PATCH /first", "DELETE /newest"], ["block"])


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
def test_cancelled_idempotent_request_is_not_waited_for(method: str) -> None:
    """Of these nothing has to be known."""
    cancelled = Cancelled()

    def script(peer: Peer) -> None:
        peer.head()
        cancelled.cancel()
        assert peer.drain() == b""

    cancelled.run(script, method)
    assert isinstance(cancelled.thrown[0], asyncio.CancelledError)


def test_second_cancellation_makes_no_more_requests() -> None:
    """The first one waits for a response; the second one ends that."""
    cancelled = Cancelled()

    def script(peer: Peer) -> None:
        cancelled.heads.append(peer.head()[0].rpartition(" ")[0])
        peer.chunks()
        cancelled.cancel()
        cancelled.cancel()
        peer.drain()

    cancelled.run(script, body=[b"stream"])
    assert cancelled.heads == ["PATCH /first"]
    assert isinstance(cancelled.thrown[0], GeneratorExit)


def test_timeout_of_asyncio_ends_request() -> None:
    """`asyncio.timeout` cancels the task, and sees its own cancellation come back."""

    async def main(url: str) -> None:
        async with AsyncTransport() as transport:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await transport.run(perform(Request("GET", url)))

    def script(peer: Peer) -> None:
        peer.head()
        peer.drain()

    with serve_script(script) as address:
        asyncio.run(main(f"http://{address}/"))
