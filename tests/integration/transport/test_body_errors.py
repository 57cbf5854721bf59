"""transport/request_state.py: a body that fails."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
from tests.integration.transport.flows import (
    BLOCK,
    TEST_TIMEOUT_S,
    FailedSource,
    half,
    patch,
    perform,
    record_thrown,
    wait,
)
from tests.raw_server import Peer, serve_script

from brolga.errors import SourceError, TransportError
from brolga.protocol import BodyError, Flow, Request, Response, Timeout
from brolga.transport import Transport
from brolga.transport.failures import ConnectionFailure

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Authority


class TestBodyError:
    """A body that fails is ended all the same, and the answer handed on with the error."""

    @pytest.mark.parametrize(
        "error",
        [
            FailedSource("disk on fire"),
            KeyboardInterrupt(),
            SystemExit(143),
            # A source that is itself an HTTP download has the transport's own errors.
            TransportError("the other registry", reason="cut"),
            ConnectionFailure("cut", "the other registry"),
            BlockingIOError(),
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
            client.run(record_thrown(f"{scheme}://{address}/", body(), caught))
        # What the user sees is theirs, and no word of ours is in it.
        assert raised.value is error
        assert (error.__cause__, error.__context__) == (cause, None)
        (failed,) = caught
        assert isinstance(failed, BodyError)
        assert failed.error is error
        assert failed.response is not None
        assert (failed.response.status, failed.response.headers["location"]) == (202, "/newest")
        assert (failed.response.complete, failed.response.sent) == (False, len(BLOCK) + 4)

    @pytest.mark.usefixtures("short_cleanup")
    @pytest.mark.parametrize(
        ("answer", "body"),
        [(b"", None), (b"HTTP/1.1 202 OK\r\nContent-Length: 9\r\n\r\nhalf", b"half")],
    )
    def test_missing_response_is_awaited_briefly(
        self, client: Transport, answer: bytes, body: bytes | None
    ) -> None:
        """It is awaited for the cleanup timeout; the head alone has the location of the session."""
        caught: list[BaseException] = []

        def script(peer: Peer) -> None:
            peer.head()
            peer.chunks()
            peer.send(answer)
            assert peer.drain() == b""

        with serve_script(script) as address, pytest.raises(FailedSource):
            client.run(record_thrown(f"http://{address}/", half(), caught))
        assert isinstance(caught[0], BodyError)
        assert (caught[0].response and caught[0].response.body) == body

    def test_body_error_has_no_response_if_connection_fails(self, client: Transport) -> None:
        """The body's error came first, so it is raised."""
        caught: list[BaseException] = []

        def script(peer: Peer) -> None:
            peer.head()
            peer.chunks()

        with serve_script(script) as address, pytest.raises(FailedSource):
            client.run(record_thrown(f"http://{address}/", half(), caught))
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
            raise FailedSource

        with serve_script(script) as address, pytest.raises(FailedSource):
            client.run(record_thrown(f"http://{address}/", body(), caught))
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
                request = Request("PATCH", url, body=half(), stream_response=True)
                return (yield from perform(request))
            except BaseException as error:
                caught.append(error)
                raise

        with serve_script(script) as address, pytest.raises(FailedSource):
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
        assert isinstance(caught.value.__cause__, FailedSource)

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
                return (yield from perform(Request("PUT", url, body=half(), size=8)))
            except BaseException as error:
                caught.append(error)
                raise

        with serve_script(script) as address, pytest.raises(FailedSource):
            client.run(flow(f"http://{address}/"))
        assert isinstance(caught[0], BodyError)
        assert caught[0].response is None
        assert seen == [b"half"]
