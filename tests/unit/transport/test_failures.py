"""transport/failures.py: calls without an answer, and what is said of them."""

from __future__ import annotations

import errno
import os
import socket
import struct
import threading
from typing import TYPE_CHECKING

import pytest
from tests.raw_server import Peer, refusing_port, serve_script
from tests.unit.transport.calls import BLOCK, PATIENCE_S, Source, failing, one, patch, wait

from brolga.protocol import Request, Timeout
from brolga.transport import Transport
from brolga.transport import outgoing as outgoing_module

if TYPE_CHECKING:
    from collections.abc import Iterator


class TestCut:
    """A connection that ends too early."""

    @pytest.mark.parametrize("reset", [False, True])
    def test_in_the_middle_of_the_body_it_says_how_much_went_out(
        self, client: Transport, reset: bool
    ) -> None:
        """`reason` is cut; `sent` counts the bytes of the body that had gone out."""

        def script(peer: Peer) -> None:
            peer.head()
            assert peer.chunk() == BLOCK
            if reset:
                linger = struct.pack("ii", 1, 0)
                peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

        with serve_script(script) as address, failing("cut", "PATCH to 127.0.0.1:") as caught:
            client.run(patch(f"http://{address}/", Source()))
        assert caught[0].sent >= len(BLOCK)
        assert caught[0].sent % len(BLOCK) == 0

    def test_before_any_answer(self, client: Transport) -> None:
        """A registry that hangs up without a word has not answered."""

        def script(peer: Peer) -> None:
            peer.head()

        with serve_script(script) as address, failing("cut", "no valid answer"):
            client.run(one(Request("GET", f"http://{address}/")))

    def test_in_the_middle_of_the_answer(self, client: Transport) -> None:
        """Half an answer is none."""

        def script(peer: Peer) -> None:
            peer.head()
            peer.send(b"HTTP/1.1 500 Oops\r\nContent-Length: 10\r\n\r\nhalf")

        with serve_script(script) as address, failing("cut", "no valid answer"):
            client.run(one(Request("GET", f"http://{address}/")))

    @pytest.mark.parametrize(
        "greeting",
        [
            b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
            b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
            b"\0" * 200_000,
        ],
    )
    def test_what_is_not_http_is_no_answer(self, client: Transport, greeting: bytes) -> None:
        """Something else listens on that port."""

        def script(peer: Peer) -> None:
            peer.head()
            peer.send(greeting)
            peer.drain()

        with serve_script(script) as address, failing("cut", "no valid answer"):
            client.run(one(Request("GET", f"http://{address}/")))

    def test_on_a_kept_connection_it_may_have_been_closed_before(self, client: Transport) -> None:
        """`fresh` is False where the connection was one of an earlier request."""

        def script(peer: Peer) -> None:
            if peer.head()[0].startswith("GET /first"):
                peer.answer(200)
                peer.head()

        with serve_script(script) as address:
            with failing("cut") as caught:
                client.run(one(Request("GET", f"http://{address}/other")))
            assert caught[0].fresh
            client.run(one(Request("GET", f"http://{address}/first")))
            with failing("cut") as caught:
                client.run(one(Request("GET", f"http://{address}/second")))
            assert not caught[0].fresh

    def test_a_transport_that_was_closed_meanwhile_is_a_cut(self) -> None:
        """Closing a client ends what its other threads send, with an error that says so."""
        transport = Transport(timeout_s=PATIENCE_S)

        def script(peer: Peer) -> None:
            peer.head()
            peer.drain()

        def body() -> Iterator[bytes]:
            yield b"a"
            transport.close()
            yield b"b"

        with serve_script(script) as address, failing("cut"):
            transport.run(patch(f"http://{address}/", body()))


class TestFailure:
    """Calls that have no answer."""

    def test_nobody_listens(self, client: Transport) -> None:
        """Refused: `connect`, and nothing was sent."""
        url = f"http://127.0.0.1:{refusing_port()}/"
        with failing("connect", "refused") as caught:
            client.run(one(Request("POST", url, body=b"body")))
        assert caught[0].sent == 0

    @pytest.mark.parametrize("number", [errno.EMFILE, errno.ENOMEM])
    def test_what_this_machine_lacks_is_no_failure_of_the_registry(
        self, client: Transport, monkeypatch: pytest.MonkeyPatch, number: int
    ) -> None:
        """It is raised as it is: the command says `local`, and nothing is tried again."""

        def fail(*_: object, **_options: object) -> socket.socket:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(socket, "create_connection", fail)
        with pytest.raises(OSError, match=os.strerror(number)) as caught:
            client.run(one(Request("GET", "http://127.0.0.1:1/")))
        assert caught.value.errno == number

    @pytest.mark.parametrize(
        "url",
        [
            "ftp://127.0.0.1/",
            "http://127.0.0.1:99999/",
            "http://127.0.0.1:x/",
            "http://b\u00fccher.example/",
            "http://a..example/",
            "http://[::1/",
            "http:///v2/",
        ],
    )
    def test_a_url_that_leads_nowhere(self, client: Transport, url: str) -> None:
        """A Location is the registry's: whatever it says, the error is ours and has a reason."""
        with failing("connect"):
            client.run(one(Request("GET", url)))

    def test_a_header_that_http_forbids(self, client: Transport) -> None:
        """What would break out of its header is not sent."""
        connected: list[Peer] = []
        with serve_script(connected.append) as address, failing("cut"):
            client.run(one(Request("GET", f"http://{address}/", {"X": "a\r\nY: b"})))

    def test_a_reader_that_stalls(self) -> None:
        """Each write is bounded by `timeout_s`."""
        finished = threading.Event()

        def script(peer: Peer) -> None:
            peer.head()
            wait(finished)

        with Transport(timeout_s=0.2) as client, serve_script(script) as address:
            try:
                with failing("timeout", "takes no more bytes") as caught:
                    client.run(patch(f"http://{address}/", Source(BLOCK * 16)))
            finally:
                finished.set()
        assert caught[0].sent % (1 << 20) == 0

    def test_an_answer_that_does_not_come(self) -> None:
        """The wait for an answer is bounded by `timeout_s`."""

        def script(peer: Peer) -> None:
            peer.head()
            peer.drain()

        with (
            serve_script(script) as address,
            Transport(timeout_s=0.2) as client,
            failing("timeout", "no answer in time"),
        ):
            client.run(one(Request("GET", f"http://{address}/")))

    def test_a_call_in_a_hurry_does_not_wait_as_long(
        self, client: Transport, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """`HURRY` asks for one short try: nobody waits for it."""
        monkeypatch.setattr(outgoing_module, "HURRY_S", 0.1)

        def script(peer: Peer) -> None:
            peer.head()
            peer.drain()

        with serve_script(script) as address, failing("timeout"):
            client.run(one(Request("DELETE", f"http://{address}/", timeout=Timeout.SHORT)))

    @pytest.mark.parametrize("timeout_s", [0, -1, float("nan"), float("inf"), 1e6])
    def test_a_timeout_is_a_time(self, timeout_s: float) -> None:
        """What the operating system cannot wait for is refused before anything is sent."""
        with pytest.raises(ValueError, match="a timeout is a time of up to a day"):
            Transport(timeout_s=timeout_s)
