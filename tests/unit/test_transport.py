"""transport.py: what goes over a real socket, and what is made of what comes back."""

from __future__ import annotations

import gc
import socket
import ssl
import struct
import threading
from contextlib import closing, contextmanager
from itertools import count, repeat
from typing import TYPE_CHECKING

import httpcore2 as httpcore
import pytest
from tests.scripted import Peer, refusing_port, scripted

from brolga import transport as transport_module
from brolga.errors import TransportFailed
from brolga.transport import Transport
from brolga.transport.connection import Watched, _is_final, _without_interim
from brolga.wire import Call, Flow, Patience, Reply

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from tests.conftest import Authority

BLOCK = bytes(range(256)) * 256  # 64 KiB
PATIENCE_S = 30.0  # until a test that would hang for ever fails instead


def one(call: Call) -> Flow[Reply]:
    """Make one call: the shortest flow."""
    return (yield call)


def patch(
    url: str, body: Iterable[bytes | memoryview], *, patience: Patience = Patience.USUAL
) -> Flow[Reply]:
    """Stream a body."""
    return one(Call("PATCH", url, {"Content-Type": "application/octet-stream"}, body, patience))


@contextmanager
def failing(reason: str, text: str = "") -> Iterator[list[TransportFailed]]:
    """Expect a TransportFailed of that reason; give a list that it will be in."""
    caught: list[TransportFailed] = []
    with pytest.raises(TransportFailed, match=text or None) as info:
        yield caught
    caught.append(info.value)
    assert info.value.reason == reason


def wait(event: threading.Event) -> None:
    """Wait for what another thread does."""
    assert event.wait(PATIENCE_S)


@pytest.fixture
def client() -> Iterator[Transport]:
    """Make a transport; nothing of it may be left open."""
    with Transport(timeout_s=PATIENCE_S) as transport:
        yield transport
    gc.collect()  # what was not closed says so now


class TestRequest:
    """What a call is on the wire."""

    def test_a_stream_goes_out_chunked_and_decodes_to_exactly_its_bytes(
        self, client: Transport
    ) -> None:
        """`Transfer-Encoding: chunked`, no Content-Length (RFC 9112, section 7.1)."""
        blocks: list[bytes | memoryview] = [
            b"a",
            memoryview(b"bc"),
            BLOCK,
            memoryview(BLOCK)[3:],
            b"\r\n0\r\n\r\n",
        ]

        def script(peer: Peer) -> None:
            head = peer.head()
            assert head[0] == "PATCH /v2/x?a=1 HTTP/1.1"
            assert peer.header("transfer-encoding", head) == ["chunked"]
            assert peer.header("content-length", head) == []
            chunks, whole = peer.chunks()
            assert whole
            assert chunks == [bytes(block) for block in blocks]
            peer.answer(202, b"", "Location: /next")

        with scripted(script) as address:
            reply = client.run(patch(f"http://{address}/v2/x?a=1", blocks))
        total = sum(map(len, blocks))
        assert (reply.status, reply.whole, reply.sent) == (202, True, total)
        assert reply.headers["location"] == "/next"

    def test_empty_blocks_write_nothing_and_never_end_the_body(self, client: Transport) -> None:
        """An empty chunk is the last one (RFC 9112, section 7.1): a heartbeat is none."""

        def script(peer: Peer) -> None:
            peer.head()
            assert peer.chunks() == ([b"a", b"b"], True)
            assert peer.arrived == b""
            peer.answer(202)

        with scripted(script) as address:
            body: list[bytes | memoryview] = [b"", b"", b"a", b"", memoryview(b""), b"b", b""]
            assert client.run(patch(f"http://{address}/", body)).sent == 2

    def test_an_empty_stream_is_one_last_chunk(self, client: Transport) -> None:
        """A stream of nothing is whole when its last chunk went out."""

        def script(peer: Peer) -> None:
            peer.head()
            assert peer.chunks() == ([], True)
            peer.answer(202)

        with scripted(script) as address:
            reply = client.run(patch(f"http://{address}/", []))
        assert (reply.sent, reply.whole) == (0, True)

    @pytest.mark.parametrize("body", [b"", b"manifest"])
    def test_bytes_have_a_content_length(self, client: Transport, body: bytes) -> None:
        """`Content-Length: 0` on the empty PUT: some registries insist on it."""

        def script(peer: Peer) -> None:
            head = peer.head()
            assert peer.header("content-length", head) == [str(len(body))]
            assert peer.header("transfer-encoding", head) == []
            while len(peer.arrived) < len(body):
                peer.receive()
            peer.answer(201)

        with scripted(script) as address:
            reply = client.run(one(Call("PUT", f"http://{address}/", body=body)))
        assert (reply.status, reply.sent, reply.whole) == (201, len(body), True)

    def test_a_call_without_body_has_neither_length_nor_encoding(self, client: Transport) -> None:
        """A GET has no content (RFC 9110, section 9.3.1)."""

        def script(peer: Peer) -> None:
            head = peer.head()
            assert head[0] == "GET / HTTP/1.1"
            assert peer.header("content-length", head) == []
            assert peer.header("transfer-encoding", head) == []
            assert peer.header("user-agent", head)[0].startswith("brolga/")
            peer.answer(200, b"{}")

        with scripted(script) as address:
            reply = client.run(one(Call("GET", f"http://{address}")))
        assert (reply.body, reply.sent, reply.whole) == (b"{}", 0, True)

    def test_the_path_and_query_of_a_location_go_out_byte_for_byte(self, client: Transport) -> None:
        """A session's URL is the registry's own: nothing of it is dropped or quoted anew."""
        target = "/v2/x/blobs/uploads/a;b=c;d?_state=A%2fb==&x=%7E~&y"

        def script(peer: Peer) -> None:
            assert peer.head()[0] == f"DELETE {target} HTTP/1.1"
            peer.answer(204)

        with scripted(script) as address:
            assert client.run(one(Call("DELETE", f"http://{address}{target}"))).status == 204

    def test_a_large_block_reaches_a_slow_reader_whole(self, client: Transport) -> None:
        """A socket takes a part of a block at a time; the rest of it is sent after."""
        block = BLOCK * 16  # 1 MiB

        def script(peer: Peer) -> None:
            peer.head()
            pieces = [peer.arrived]
            while not pieces[-1].endswith(b"0\r\n\r\n"):
                pieces.append(peer.socket.recv(3000))
            peer.arrived = b"".join(pieces)
            assert peer.chunks() == ([block, block], True)
            peer.answer(202)

        with scripted(script, receive_buffer=4096) as address:
            assert client.run(patch(f"http://{address}/", [block, block])).sent == 2 << 20

    def test_ipv6_keeps_its_brackets_in_the_host_header(self, client: Transport) -> None:
        """`Host: [::1]:5000` (RFC 9112, section 3.2): a registry builds its Location from it."""
        if not _has_ipv6():
            pytest.skip("this machine has no ::1")
        hosts = []

        def script(peer: Peer) -> None:
            hosts.extend(peer.header("host", peer.head()))
            peer.answer(200)

        with scripted(script, host="::1") as address:
            assert client.run(one(Call("GET", f"http://{address}/"))).status == 200
        assert hosts == [address]

    def test_a_connection_is_used_again(self, client: Transport) -> None:
        """The calls of one upload share one connection."""
        connections = []

        def script(peer: Peer) -> None:
            connections.append(peer)
            while head := peer.head():
                if head[0].startswith("PATCH"):
                    peer.chunks()
                peer.answer(202)

        with scripted(script) as address, client:
            url = f"http://{address}/"
            client.run(one(Call("GET", url)))
            client.run(patch(url, [b"a", b"b"]))
            client.run(one(Call("PUT", url, body=b"")))
        assert len(connections) == 1


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


class TestAnswer:
    """What a reply is made of."""

    def test_duplicate_headers_are_joined_in_order(self, client: Transport) -> None:
        """Field lines of one name are one list (RFC 9110, section 5.3)."""

        def script(peer: Peer) -> None:
            peer.head()
            peer.answer(401, b"", "WWW-Authenticate: Basic", "www-authenticate: Bearer x=y")

        with scripted(script) as address:
            reply = client.run(one(Call("GET", f"http://{address}/")))
        assert reply.headers["www-authenticate"] == "Basic, Bearer x=y"

    def test_the_body_is_capped_and_the_rest_not_read(self, client: Transport) -> None:
        """No memory is taken by a size that the other side claims."""

        def script(peer: Peer) -> None:
            peer.head()
            peer.send(b"HTTP/1.1 500 Endless\r\n\r\n")
            for _ in repeat(None):
                peer.send(BLOCK)

        with scripted(script) as address:
            reply = client.run(one(Call("GET", f"http://{address}/")))
        assert len(reply.body) == 4 << 20

    def test_an_answer_that_drips_holds_nobody_up(self) -> None:
        """Each piece may come in time, and the end never: what came counts."""
        body = transport_module._capped(repeat(b"x"), 0.001)
        assert 0 < len(body) < 4 << 20

    def test_the_head_of_an_answer_has_no_body(self, client: Transport) -> None:
        """The Content-Length of a HEAD is the blob's (RFC 9110, section 9.3.2)."""

        def script(peer: Peer) -> None:
            peer.head()
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n")

        with scripted(script) as address:
            reply = client.run(one(Call("HEAD", f"http://{address}/")))
        assert (reply.headers["content-length"], reply.body) == ("12345", b"")


class _Source:
    """An endless body that knows what was taken of it, and can wait for the server."""

    def __init__(self, block: bytes = BLOCK, *, until: threading.Event | None = None) -> None:
        self.taken = 0
        self.after = 0  # blocks taken after `until`
        self._block = block
        self._until = until

    def __iter__(self) -> Iterator[bytes]:
        for _ in count():
            self.taken += 1
            yield self._block
            if self._until is not None:
                wait(self._until)
                self.after += 1


class TestEarlyAnswer:
    """An answer that comes while the body goes out."""

    @pytest.mark.parametrize("status", [201, 401, 413, 500])
    @pytest.mark.parametrize("secure", [False, True])
    def test_it_is_returned_and_the_pump_stops(
        self, request: pytest.FixtureRequest, status: int, secure: bool
    ) -> None:
        """No gigabytes are pumped into a request that was answered; it is not whole."""
        authority: Authority | None = request.getfixturevalue("authority") if secure else None
        answered = threading.Event()

        def script(peer: Peer) -> None:
            peer.head()
            peer.chunk()
            peer.answer(status, b"no", "X-Why: because")
            answered.set()
            rest = peer.drain()  # it would take all, for ever
            assert not rest.endswith(b"0\r\n\r\n")

        source = _Source(until=answered)
        with (
            Transport(timeout_s=PATIENCE_S, insecure=True) as client,
            scripted(script, tls=authority.server_context() if authority else None) as address,
        ):
            scheme = "https" if secure else "http"
            reply = client.run(patch(f"{scheme}://{address}/", source))
        assert (reply.status, reply.body, reply.whole) == (status, b"no", False)
        assert reply.headers["x-why"] == "because"
        # Seen at the next block. A kernel may take its time, but not much of it.
        assert source.after <= 20
        assert reply.sent <= source.taken * len(BLOCK)

    @pytest.mark.parametrize("secure", [False, True])
    def test_it_is_seen_while_the_source_is_idle(
        self, request: pytest.FixtureRequest, secure: bool
    ) -> None:
        """The driver looks at the other side at every heartbeat."""
        authority: Authority | None = request.getfixturevalue("authority") if secure else None

        def script(peer: Peer) -> None:
            peer.head()
            peer.answer(401)
            assert peer.drain() == b""

        with (
            Transport(timeout_s=PATIENCE_S, insecure=True) as client,
            scripted(script, tls=authority.server_context() if authority else None) as address,
        ):
            scheme = "https" if secure else "http"
            reply = client.run(patch(f"{scheme}://{address}/", _Source(b"")))
        assert (reply.status, reply.sent, reply.whole) == (401, 0, False)

    def test_it_is_seen_while_the_server_reads_no_more(self, client: Transport) -> None:
        """A refusing registry need not take the body: a full socket must not hide its answer."""

        def script(peer: Peer) -> None:
            peer.head()
            peer.answer(413)
            peer.socket.shutdown(socket.SHUT_WR)
            finished.wait(PATIENCE_S)

        finished = threading.Event()
        with scripted(script) as address:
            try:
                reply = client.run(patch(f"http://{address}/", _Source(BLOCK * 16)))
            finally:
                finished.set()
        assert (reply.status, reply.whole) == (413, False)

    def test_an_answer_before_the_last_chunk_is_not_whole(self, client: Transport) -> None:
        """The end of a chunked body is its last chunk: without it, the request was not whole."""
        answered = threading.Event()

        def script(peer: Peer) -> None:
            peer.head()
            peer.chunk()
            peer.answer(201)
            answered.set()
            assert peer.drain() == b""

        def body() -> Iterator[bytes]:
            yield b"all of it"
            wait(answered)

        with scripted(script) as address:
            reply = client.run(patch(f"http://{address}/", body()))
        assert (reply.status, reply.sent, reply.whole) == (201, 9, False)

    def test_bytes_that_were_answered_too_early_are_not_whole(self, client: Transport) -> None:
        """`whole` tells that all of the body went out, for a body of bytes too."""
        body = bytes(64 << 20)  # more than any socket holds

        def script(peer: Peer) -> None:
            peer.head()
            peer.answer(413)
            peer.drain()

        with scripted(script) as address:
            reply = client.run(one(Call("PUT", f"http://{address}/", body=body)))
        assert (reply.status, reply.whole) == (413, False)

    def test_the_connection_of_an_early_answer_is_not_used_again(self, client: Transport) -> None:
        """What was left unsent must never be taken for the next request."""
        connections = []

        def script(peer: Peer) -> None:
            connections.append(peer)
            if peer.head()[0].startswith("PATCH"):
                peer.answer(401)
                peer.drain()
            else:
                peer.answer(204)

        with scripted(script) as address:
            url = f"http://{address}/"
            assert client.run(patch(url, _Source())).status == 401
            assert client.run(one(Call("DELETE", url))).status == 204
        assert len(connections) == 2


class _Inner(httpcore.NetworkStream):
    """The library's side of a connection, as far as `Watched` needs it."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def get_extra_info(self, info: str) -> socket.socket | None:
        """Give the socket."""
        return self._connection if info == "socket" else None


class TestWatched:
    """The connection that looks while it sends, at its borders."""

    def test_a_full_socket_takes_nothing_and_a_broken_one_is_told(self) -> None:
        """Whatever poll has said, a send may find the socket full, or the other side gone."""
        here, there = socket.socketpair()
        with here, there:
            watched = Watched(_Inner(here))
            while watched._send(memoryview(BLOCK)):
                pass
            there.close()
            with pytest.raises(httpcore.WriteError):
                watched._send(memoryview(BLOCK))

    def test_a_connection_that_fails_while_it_sends_stopped(self) -> None:
        """What is broken is never used again."""
        here, there = socket.socketpair()
        with here, there:
            watched = Watched(_Inner(here))
            there.close()
            with pytest.raises(httpcore.WriteError):
                watched.write(BLOCK, PATIENCE_S)
            assert watched.stopped
            assert watched.get_extra_info("is_readable") is True

    def test_a_send_that_found_no_room_is_tried_again(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """TLS may want to read before it writes: nothing went out, nothing is lost."""
        counts = iter([0, 3, 0, 2])
        sent: list[bytes] = []

        def send(_watched: Watched, view: memoryview) -> int:
            size = next(counts)
            sent.append(bytes(view[:size]))
            return size

        monkeypatch.setattr(Watched, "_send", send)
        here, there = socket.socketpair()
        with here, there:
            Watched(_Inner(here)).write(b"hello", PATIENCE_S)
        assert b"".join(sent) == b"hello"


class TestInterimAnswer:
    """1xx answers are not the answer (RFC 9110, section 15.2)."""

    @pytest.mark.parametrize("split", [0, 9, 12, 30])
    def test_it_does_not_stop_the_body(self, client: Transport, split: int) -> None:
        """A client parses 1xx answers before the final one, even if it did not ask for them."""
        interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n"
        steps = [threading.Event() for _ in range(4)]

        def script(peer: Peer) -> None:
            peer.head()
            peer.chunk()
            peer.send(interim[:split])
            steps[0].set()
            wait(steps[1])
            peer.send(interim[split:])
            steps[2].set()
            assert peer.chunks() == ([b"b", b"c"], True)
            peer.answer(202)

        def body() -> Iterator[bytes]:
            yield b"a"
            wait(steps[0])
            yield b"b"
            steps[1].set()
            wait(steps[2])
            yield b"c"

        with scripted(script) as address:
            reply = client.run(patch(f"http://{address}/", body()))
        assert (reply.status, reply.whole) == (202, True)

    @pytest.mark.parametrize(
        ("early", "rest", "final"),
        [
            (b"", b"", False),
            (b"HTTP/1.1 ", b"HTTP/1.1 ", False),
            (b"HTTP/1.1 1", b"HTTP/1.1 1", False),
            (b"HTTP/1.1 100 Continue\r\n", b"HTTP/1.1 100 Continue\r\n", False),
            (b"HTTP/1.1 100 Continue\r\n\r\n", b"", False),
            (b"HTTP/1.1 100 Continue\n\n", b"", False),
            (b"HTTP/1.0 102 x\r\na: b\r\n\r\nHTTP/1.1 401", b"HTTP/1.1 401", True),
            (b"HTTP/1.1 10", b"HTTP/1.1 10", False),
            (b"HTTP/1.1 101 Switching\r\n\r\n", b"HTTP/1.1 101 Switching\r\n\r\n", True),
            (b"HTTP/1.1 4", b"HTTP/1.1 4", False),
            (b"HTTP/1.1 401 Unauthorized", b"HTTP/1.1 401 Unauthorized", True),
            (b"SSH-2.0-OpenSSH_9.2", b"SSH-2.0-OpenSSH_9.2", True),
        ],
    )
    def test_it_is_told_from_a_final_one(self, early: bytes, rest: bytes, final: bool) -> None:
        """What cannot be told yet is no answer yet."""
        assert _without_interim(early) == rest
        assert _is_final(rest) is final

    def test_one_without_an_end_is_no_interim_answer(self) -> None:
        """A server cannot fill the memory with the head of an interim answer."""
        assert _is_final(b"HTTP/1.1 100 Continue\r\nX: " + BLOCK)


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

        with scripted(script) as address, failing("cut", "PATCH to 127.0.0.1:") as caught:
            client.run(patch(f"http://{address}/", _Source()))
        assert caught[0].sent >= len(BLOCK)
        assert caught[0].sent % len(BLOCK) == 0

    def test_before_any_answer(self, client: Transport) -> None:
        """A registry that hangs up without a word has not answered."""

        def script(peer: Peer) -> None:
            peer.head()

        with scripted(script) as address, failing("cut", "no valid answer"):
            client.run(one(Call("GET", f"http://{address}/")))

    def test_in_the_middle_of_the_answer(self, client: Transport) -> None:
        """Half an answer is none."""

        def script(peer: Peer) -> None:
            peer.head()
            peer.send(b"HTTP/1.1 500 Oops\r\nContent-Length: 10\r\n\r\nhalf")

        with scripted(script) as address, failing("cut", "no valid answer"):
            client.run(one(Call("GET", f"http://{address}/")))

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

        with scripted(script) as address, failing("cut", "no valid answer"):
            client.run(one(Call("GET", f"http://{address}/")))

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

        with scripted(script) as address, failing("cut"):
            transport.run(patch(f"http://{address}/", body()))


class TestFailure:
    """Calls that have no answer."""

    def test_nobody_listens(self, client: Transport) -> None:
        """Refused: `connect`, and nothing was sent."""
        url = f"http://127.0.0.1:{refusing_port()}/"
        with failing("connect", "refused") as caught:
            client.run(one(Call("POST", url, body=b"body")))
        assert caught[0].sent == 0

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
            client.run(one(Call("GET", url)))

    def test_a_header_that_http_forbids(self, client: Transport) -> None:
        """What would break out of its header is not sent."""
        connected: list[Peer] = []
        with scripted(connected.append) as address, failing("cut"):
            client.run(one(Call("GET", f"http://{address}/", {"X": "a\r\nY: b"})))

    def test_a_reader_that_stalls(self) -> None:
        """Each write is bounded by `timeout_s`."""
        finished = threading.Event()

        def script(peer: Peer) -> None:
            peer.head()
            wait(finished)

        with Transport(timeout_s=0.2) as client, scripted(script) as address:
            try:
                with failing("timeout", "takes no more bytes") as caught:
                    client.run(patch(f"http://{address}/", _Source(BLOCK * 16)))
            finally:
                finished.set()
        assert caught[0].sent % (1 << 20) == 0

    def test_an_answer_that_does_not_come(self) -> None:
        """The wait for an answer is bounded by `timeout_s`."""

        def script(peer: Peer) -> None:
            peer.head()
            peer.drain()

        with (
            scripted(script) as address,
            Transport(timeout_s=0.2) as client,
            failing("timeout", "no answer in time"),
        ):
            client.run(one(Call("GET", f"http://{address}/")))

    def test_a_call_in_a_hurry_does_not_wait_as_long(
        self, client: Transport, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """`HURRY` asks for one short try: nobody waits for it."""
        monkeypatch.setattr(transport_module, "_HURRY_S", 0.1)

        def script(peer: Peer) -> None:
            peer.head()
            peer.drain()

        with scripted(script) as address, failing("timeout"):
            client.run(one(Call("DELETE", f"http://{address}/", patience=Patience.HURRY)))

    @pytest.mark.parametrize("timeout_s", [0, -1, float("nan"), float("inf"), 1e6])
    def test_a_timeout_is_a_time(self, timeout_s: float) -> None:
        """What the operating system cannot wait for is refused before anything is sent."""
        with pytest.raises(ValueError, match="a timeout is a time of up to a day"):
            Transport(timeout_s=timeout_s)


class TestTls:
    """Certificates, and what is no TLS."""

    def test_an_upload_over_tls_is_not_stopped_by_session_tickets(
        self, authority: Authority
    ) -> None:
        """TLS 1.3 sends tickets whenever it likes (RFC 8446, section 4.6.1): no answer."""
        blocks = [BLOCK * 16, b"", b"x", BLOCK]

        def script(peer: Peer) -> None:
            assert isinstance(peer.socket, ssl.SSLSocket)
            assert peer.socket.version() == "TLSv1.3"
            peer.head()
            assert peer.chunks() == ([block for block in blocks if block], True)
            peer.answer(202)

        with (
            Transport(ca_cert=authority.ca_cert, timeout_s=PATIENCE_S) as client,
            scripted(script, tls=authority.server_context()) as address,
        ):
            reply = client.run(patch(f"https://{address}/", blocks))
        assert (reply.status, reply.whole) == (202, True)

    def test_an_unknown_authority_is_a_matter_of_the_certificate(
        self, client: Transport, authority: Authority
    ) -> None:
        """Nothing is sent to whom the certificate does not prove."""
        heads = []

        def script(peer: Peer) -> None:
            heads.append(peer.head())

        with (
            scripted(script, tls=authority.server_context()) as address,
            failing("certificate", "the certificate is not trusted"),
        ):
            client.run(one(Call("GET", f"https://{address}/")))
        assert heads in ([], [[]])

    def test_a_certificate_for_another_name_is_refused(self, authority: Authority) -> None:
        """The authority is known, the name is not in the certificate (RFC 9110, 4.3.4)."""

        def script(peer: Peer) -> None:
            peer.head()

        with (
            Transport(ca_cert=authority.ca_cert) as client,
            scripted(script, tls=authority.server_context("elsewhere")) as address,
            failing("certificate", "not valid for"),
        ):
            client.run(one(Call("GET", f"https://{address}/")))

    @pytest.mark.parametrize("how", ["ca_cert", "insecure"])
    def test_the_user_may_accept_it(self, authority: Authority, how: str) -> None:
        """`ca_cert` trusts one more authority; `insecure` leaves certificates unverified."""

        def script(peer: Peer) -> None:
            peer.head()
            peer.answer(200)

        client = (
            Transport(ca_cert=authority.ca_cert) if how == "ca_cert" else Transport(insecure=True)
        )
        with client, scripted(script, tls=authority.server_context()) as address:
            assert client.run(one(Call("GET", f"https://{address}/"))).status == 200

    @pytest.mark.parametrize(
        ("answer", "reason"),
        [(b"HTTP/1.1 400 Bad Request\r\n\r\n", "tls"), (b"", "connect")],
    )
    def test_a_plain_http_server_speaks_no_tls(
        self, client: Transport, answer: bytes, reason: str
    ) -> None:
        """It answers in plain text, or hangs up: both let a flow fall back to http."""

        def script(peer: Peer) -> None:
            peer.receive()
            if answer:
                peer.send(answer)

        with (
            scripted(script, refuse_tls=False) as address,
            pytest.raises(TransportFailed) as caught,
        ):
            client.run(one(Call("GET", f"https://{address}/")))
        assert caught.value.reason in {"tls", reason}

    def test_authorities_that_are_none(self, tmp_path: Path) -> None:
        """Raises OSError where `ca_cert` cannot be read as certificates."""
        empty = tmp_path / "empty.pem"
        empty.touch()
        for path in (empty, tmp_path / "missing.pem"):
            with pytest.raises(OSError, match=r"certificate|No such file"):
                Transport(ca_cert=path)


class _SourceError(Exception):
    """What a source raises."""


class TestBrokenBody:
    """A stream that fails must never look complete on the wire."""

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
    def test_its_error_comes_out_and_the_body_has_no_end(
        self, request: pytest.FixtureRequest, error: BaseException, secure: bool
    ) -> None:
        """The server sees a chunked body that is cut off: it cannot take it for the whole."""
        authority: Authority | None = request.getfixturevalue("authority") if secure else None
        seen: list[tuple[list[bytes], bool]] = []
        cause = ValueError("why")

        def script(peer: Peer) -> None:
            peer.head()
            seen.append(peer.chunks())
            assert peer.arrived == b""

        def body() -> Iterator[bytes]:
            yield BLOCK
            yield b"half"
            raise error from cause

        with (
            Transport(timeout_s=PATIENCE_S, insecure=True) as client,
            scripted(script, tls=authority.server_context() if authority else None) as address,
        ):
            scheme = "https" if secure else "http"
            with pytest.raises(type(error)) as caught:
                client.run(patch(f"{scheme}://{address}/", body()))
            # The server sees the end although the client is still open.
        assert caught.value is error
        assert error.__cause__ is cause
        assert seen == [([BLOCK, b"half"], False)]

    def test_the_connection_is_closed_at_once(self, client: Transport) -> None:
        """Not when the client is: a registry that waits for the rest holds the session."""
        closed = threading.Event()

        def script(peer: Peer) -> None:
            peer.head()
            peer.drain()
            closed.set()

        def body() -> Iterator[bytes]:
            yield b"half"
            raise _SourceError

        with scripted(script) as address:
            with pytest.raises(_SourceError):
                client.run(patch(f"http://{address}/", body()))
            wait(closed)

    def test_a_block_that_is_no_bytes_ends_nothing(self, client: Transport) -> None:
        """A TypeError cuts the body like any other error."""
        seen = []

        def script(peer: Peer) -> None:
            peer.head()
            seen.append(peer.chunks())

        with scripted(script) as address, pytest.raises(TypeError):
            client.run(patch(f"http://{address}/", [b"a", "text"]))  # type: ignore[list-item]
        assert seen == [([b"a"], False)]


class TestRun:
    """The driver: calls out, replies and errors in, a result at the end."""

    def test_a_flow_that_makes_no_call_has_a_result(self, client: Transport) -> None:
        """The return value of the generator is the result."""

        def flow() -> Flow[str]:
            return "nothing to do"
            yield Call("GET", "unreachable")  # type: ignore[unreachable]

        assert client.run(flow()) == "nothing to do"

    def test_replies_are_sent_in_and_the_result_returned(self, client: Transport) -> None:
        """Each reply answers the call before it."""

        def script(peer: Peer) -> None:
            while head := peer.head():
                peer.answer(200, head[0].encode())

        def flow(url: str) -> Flow[list[bytes]]:
            first = yield Call("GET", f"{url}a")
            second = yield Call("GET", f"{url}b")
            return [first.body, second.body]

        with scripted(script) as address, client:
            bodies = client.run(flow(f"http://{address}/"))
        assert bodies == [b"GET /a HTTP/1.1", b"GET /b HTTP/1.1"]

    def test_a_failure_is_thrown_in_and_the_flow_may_go_on(self, client: Transport) -> None:
        """Retry is the flow's to decide."""

        def script(peer: Peer) -> None:
            peer.head()
            peer.answer(200)

        def flow(urls: list[str]) -> Flow[int]:
            for url in urls:
                try:
                    return (yield Call("GET", url)).status
                except TransportFailed as error:
                    reasons.append(error.reason)
            return 0

        reasons: list[str] = []

        with scripted(script) as address:
            urls = [f"http://127.0.0.1:{refusing_port()}/", f"http://{address}/"]
            assert client.run(flow(urls)) == 200
        assert reasons == ["connect"]

    def test_a_flow_may_clean_up_after_an_interrupt_with_a_call(self, client: Transport) -> None:
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
                yield Call("PATCH", url, body=body())
            except BaseException:
                yield Call("DELETE", url, patience=Patience.HURRY)
                raise

        with scripted(script) as address, pytest.raises(KeyboardInterrupt):
            client.run(flow(f"http://{address}/"))
        assert heads == ["PATCH", "DELETE"]

    def test_what_a_flow_raises_comes_out(self, client: Transport) -> None:
        """The driver has no opinion of a flow's errors."""

        def script(peer: Peer) -> None:
            peer.head()
            peer.answer(200)

        def flow(url: str) -> Flow[None]:
            reply = yield Call("GET", url)
            raise LookupError(reply.status)

        with scripted(script) as address, pytest.raises(LookupError, match="200"):
            client.run(flow(f"http://{address}/"))

    def test_threads_share_a_transport_and_none_waits_for_another(self) -> None:
        """Uploads of many threads go on at once: all of them are under way before one ends."""
        threads = 12
        together = threading.Barrier(threads, timeout=PATIENCE_S)

        def script(peer: Peer) -> None:
            while peer.head():
                chunks, whole = peer.chunks()
                assert whole
                together.wait()
                peer.answer(202, b"".join(chunks))

        bodies: list[tuple[bytes, bytes]] = []

        def push(number: int) -> None:
            text = str(number).encode()
            reply = client.run(patch(f"http://{address}/", [text]))
            bodies.append((text, reply.body))

        with scripted(script) as address, Transport(timeout_s=PATIENCE_S) as client:
            workers = [threading.Thread(target=push, args=(number,)) for number in range(threads)]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
        gc.collect()
        assert len(bodies) == threads
        assert all(sent == echoed for sent, echoed in bodies)

    def test_closing_twice_is_closing_once(self) -> None:
        """Idempotent, as every close is."""
        with closing(Transport()) as client:
            client.close()
