"""transport/responses.py: responses, warnings, and requests without a response."""

from __future__ import annotations

import errno
import os
import socket
import struct
import threading
import time
from contextlib import suppress
from itertools import repeat
from typing import TYPE_CHECKING

import pytest
from tests.integration.transport.flows import (
    BLOCK,
    TEST_TIMEOUT_S,
    Source,
    failing,
    patch,
    perform,
    wait,
)
from tests.raw_server import Peer, refusing_port, serve_script

from brolga.protocol import Request, Timeout
from brolga.transport import Transport, connection, responses

if TYPE_CHECKING:
    from collections.abc import Iterator


class TestResponse:
    """What a reply is made of."""

    def test_join_headers_joins_duplicates_in_order(self, client: Transport) -> None:
        """Field lines of one name are one list (RFC 9110, section 5.3)."""

        def script(peer: Peer) -> None:
            peer.head()
            peer.answer(401, b"", "WWW-Authenticate: Basic", "www-authenticate: Bearer x=y")

        with serve_script(script) as address:
            response = client.run(perform(Request("GET", f"http://{address}/")))
        assert response.headers["www-authenticate"] == "Basic, Bearer x=y"

    def test_read_body_is_capped(self, client: Transport) -> None:
        """No memory is taken by a size that the other side claims."""

        def script(peer: Peer) -> None:
            peer.head()
            peer.send(b"HTTP/1.1 500 Endless\r\n\r\n")
            for _ in repeat(None):
                peer.send(BLOCK)

        with serve_script(script) as address:
            response = client.run(perform(Request("GET", f"http://{address}/")))
        assert len(response.body) == 4 << 20

    def test_body_is_read_until_timeout(self) -> None:
        """Each piece may come in time, and the end never: what came counts."""

        def script(peer: Peer) -> None:
            peer.head()
            peer.send(b"HTTP/1.1 500 Endless\r\nContent-Length: 1000000\r\n\r\n")
            with suppress(OSError):
                for _ in repeat(None):
                    peer.send(b"x" * 1024)
                    time.sleep(0.05)

        with serve_script(script) as address, Transport(timeout_s=0.3) as client:
            response = client.run(perform(Request("GET", f"http://{address}/")))
        assert 0 < len(response.body) < 1_000_000

    def test_response_to_head_has_no_body(self, client: Transport) -> None:
        """The Content-Length of a HEAD is the blob's (RFC 9110, section 9.3.2)."""

        def script(peer: Peer) -> None:
            peer.head()
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n")

        with serve_script(script) as address:
            response = client.run(perform(Request("HEAD", f"http://{address}/")))
        assert (response.headers["content-length"], response.body) == ("12345", b"")


class TestWarnings:
    """`Warning: 299 - "text"` (distribution-spec, Warnings; RFC 7234, section 5.5)."""

    @pytest.mark.parametrize(
        ("header", "texts"),
        [
            ("", []),
            ('299 - "go away"', ["go away"]),
            ('299 - "one", 299 - "two", 299 registry.example "three"', ["one", "two", "three"]),
            ('299 - "a, \\"b\\" and 299 - c"', ['a, "b" and 299 - c']),
            ('299 - "text" "Tue, 24 Nov 2026 00:00:00 GMT"', ["text"]),
            ('110 - "Response is Stale", 299 - "old"', ["old"]),
            ('1299 - "no"', []),
            ("299 - unquoted", []),
            ('299 - "no end', []),
            ('299 - "a\x1b[31mred\tb"', ["a [31mred b"]),
            ('299 - "gr\u00c3\u00bc\u00c3\u009fe"', ["gr\u00fc\u00dfe"]),
            (f'299 - "{"x" * 400}"', ["x" * 300 + "\u2026"]),
            (f'299 - "{"x" * 9000}"', []),
        ],
    )
    def test_report_parses_texts_of_299(self, header: str, texts: list[str]) -> None:
        """Each as one short printable line; other codes are for caches."""
        reported: list[tuple[str, str]] = []
        responses.Warnings(lambda host, text: reported.append((host, text))).report(
            "registry.example", header
        )
        assert reported == [("registry.example", text) for text in texts]

    def test_report_calls_on_warning_once_for_each_text(self, client: Transport) -> None:
        """A registry repeats it with each answer."""
        reported: list[tuple[str, str]] = []

        def script(peer: Peer) -> None:
            while peer.head():
                peer.answer(200, b"", 'Warning: 299 - "a"', 'warning: 299 - "b"')

        with (
            serve_script(script) as address,
            Transport(on_warning=lambda host, text: reported.append((host, text))) as warned,
        ):
            for _ in range(2):
                warned.run(perform(Request("GET", f"http://{address}/")))
        assert reported == [(address, "a"), (address, "b")]

    def test_warning_without_callback_is_ignored(self, client: Transport) -> None:
        """A warning is not an error."""

        def script(peer: Peer) -> None:
            peer.head()
            peer.answer(200, b"", 'Warning: 299 - "a"')

        with serve_script(script) as address:
            assert client.run(perform(Request("GET", f"http://{address}/"))).status == 200

    def test_number_of_warnings_is_limited(self) -> None:
        """No memory is filled, and no terminal, with what a registry makes up."""
        reported: list[str] = []
        warnings = responses.Warnings(lambda _host, text: reported.append(text))
        for number in range(1000):
            warnings.report("registry.example", f'299 - "{number}"')
        assert len(reported) == 100


class TestCut:
    """A connection that ends too early."""

    @pytest.mark.parametrize("reset", [False, True])
    def test_cut_during_body_has_number_of_sent_bytes(self, client: Transport, reset: bool) -> None:
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

    def test_cut_before_response(self, client: Transport) -> None:
        """A registry that hangs up without a word has not answered."""

        def script(peer: Peer) -> None:
            peer.head()

        with serve_script(script) as address, failing("cut", "no valid answer"):
            client.run(perform(Request("GET", f"http://{address}/")))

    def test_cut_during_response(self, client: Transport) -> None:
        """A truncated response is an error."""

        def script(peer: Peer) -> None:
            peer.head()
            peer.send(b"HTTP/1.1 500 Oops\r\nContent-Length: 10\r\n\r\nhalf")

        with serve_script(script) as address, failing("cut", "no valid answer"):
            client.run(perform(Request("GET", f"http://{address}/")))

    @pytest.mark.parametrize(
        "greeting",
        [
            b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
            b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
            b"\0" * 200_000,
        ],
    )
    def test_response_that_is_not_http_is_cut(self, client: Transport, greeting: bytes) -> None:
        """Something else listens on that port."""

        def script(peer: Peer) -> None:
            peer.head()
            peer.send(greeting)
            peer.drain()

        with serve_script(script) as address, failing("cut", "no valid answer"):
            client.run(perform(Request("GET", f"http://{address}/")))

    def test_cut_tells_reused_connection(self, client: Transport) -> None:
        """`is_new_connection` is False if an earlier request used the connection."""

        def script(peer: Peer) -> None:
            if peer.head()[0].startswith("GET /first"):
                peer.answer(200)
                peer.head()

        with serve_script(script) as address:
            with failing("cut") as caught:
                client.run(perform(Request("GET", f"http://{address}/other")))
            assert caught[0].is_new_connection
            client.run(perform(Request("GET", f"http://{address}/first")))
            with failing("cut") as caught:
                client.run(perform(Request("GET", f"http://{address}/second")))
            assert not caught[0].is_new_connection

    @pytest.mark.parametrize("driver", ["threads"], indirect=True)
    def test_close_during_request_is_cut(self) -> None:
        """Closing a client ends what its other threads send, with an error that says so."""
        transport = Transport(timeout_s=TEST_TIMEOUT_S)

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

    def test_refused_connection(self, client: Transport) -> None:
        """Refused: `connect`, and nothing was sent."""
        url = f"http://127.0.0.1:{refusing_port()}/"
        with failing("connect", "refused") as caught:
            client.run(perform(Request("POST", url, body=b"body")))
        assert caught[0].sent == 0

    @pytest.mark.parametrize("number", [errno.EMFILE, errno.ENOMEM])
    def test_local_os_error_is_raised_unchanged(
        self, client: Transport, monkeypatch: pytest.MonkeyPatch, number: int
    ) -> None:
        """It is raised as it is: the command says `local`, and nothing is tried again."""

        def fail(*_: object, **_options: object) -> socket.socket:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(socket, "socket", fail)
        with pytest.raises(OSError, match=os.strerror(number)) as caught:
            client.run(perform(Request("GET", "http://127.0.0.1:1/")))
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
    def test_invalid_url_is_connect_error(self, client: Transport, url: str) -> None:
        """A Location is the registry's: whatever it says, the error is ours and has a reason."""
        with failing("connect"):
            client.run(perform(Request("GET", url)))

    def test_invalid_header_is_not_sent(self, client: Transport) -> None:
        """What would break out of its header is not sent."""
        connected: list[Peer] = []
        with serve_script(connected.append) as address, failing("cut"):
            client.run(perform(Request("GET", f"http://{address}/", {"X": "a\r\nY: b"})))

    def test_write_to_stalled_reader_times_out(self) -> None:
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

    def test_missing_response_times_out(self) -> None:
        """The wait for an answer is bounded by `timeout_s`."""

        def script(peer: Peer) -> None:
            peer.head()
            peer.drain()

        with (
            serve_script(script) as address,
            Transport(timeout_s=0.2) as client,
            failing("timeout", "no answer in time"),
        ):
            client.run(perform(Request("GET", f"http://{address}/")))

    def test_short_timeout_is_used(
        self, client: Transport, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """`Timeout.SHORT` uses the cleanup timeout."""
        monkeypatch.setattr(connection, "CLEANUP_TIMEOUT_S", 0.1)

        def script(peer: Peer) -> None:
            peer.head()
            peer.drain()

        with serve_script(script) as address, failing("timeout"):
            client.run(perform(Request("DELETE", f"http://{address}/", timeout=Timeout.SHORT)))

    @pytest.mark.parametrize("timeout_s", [0, -1, float("nan"), float("inf"), 1e6])
    def test_transport_rejects_invalid_timeout(self, timeout_s: float) -> None:
        """What the operating system cannot wait for is refused before anything is sent."""
        with pytest.raises(ValueError, match="a timeout is a time of up to a day"):
            Transport(timeout_s=timeout_s)
