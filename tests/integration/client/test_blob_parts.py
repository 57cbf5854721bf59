"""Reading a blob over several connections: at a registry on a real socket."""

from __future__ import annotations

import itertools
import threading
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from tests.blob_server import DATA, EAGER, BlobServer, Get, make_client, serve_blob
from tests.raw_server import serve_script

from brolga.errors import DigestMismatch, NotFound, RangeNotSupported
from brolga.spec.blob import Prefix
from brolga.spec.descriptor import Descriptor
from brolga.spec.digest import hasher
from brolga.spec.reference import Repository
from brolga.spec.value import replace
from brolga.stores.parts import Parts
from brolga.stores.read_budget import Share
from brolga.stores.registry import RegistryStore
from brolga.stream.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.raw_server import Peer

    from brolga.stores.read_budget import ReadOptions

PART = EAGER.part_size


def read(server: BlobServer, reads: ReadOptions = EAGER, jobs: int = 4) -> bytes:
    """Read the blob."""
    with make_client(reads, jobs=jobs) as client, client.blob(server.name) as stream:
        return stream.read()


def is_part(get: Get) -> bool:
    """Return whether a GET is for a part, not for the whole blob or the rest of it."""
    return get.is_ranged and get.stop < len(DATA)


def threads() -> list[str]:
    """Return the names of the threads that read parts."""
    return [thread.name for thread in threading.enumerate() if thread.name == "brolga-part"]


def hold_first_part(server: BlobServer, peer: Peer, get: Get) -> bool:
    """Give the whole blob only after a part was asked for, so that the parts begin in time."""
    if not get.is_ranged:
        give_slowly(server, peer, get)
        return False
    return server.give(peer, get)


def give_slowly(server: BlobServer, peer: Peer, get: Get) -> None:
    """Give the first bytes, and the rest when the first part was given."""
    peer.send(f"HTTP/1.1 200 OK\r\nContent-Length: {len(server.data)}\r\n\r\n".encode())
    sent = PART // 2
    peer.send(server.data[:sent])
    wait_until(lambda: server.ended > 0)
    peer.send(server.data[sent:])


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds."""
    tick = threading.Event()
    while not condition():
        tick.wait(0.001)


def test_blob_is_read_in_parts() -> None:
    """Each part once, in order for the reader, and by no more connections than `jobs`."""
    with serve_blob(respond=hold_first_part) as server:
        assert read(server) == DATA
        parts = sorted((get.start, get.stop) for get in server.gets if get.is_ranged)
        assert len(parts) > 5
        assert parts == sorted(set(parts))
        assert parts[-1][1] == len(DATA)
        # The server may not yet know that the first connection was closed.
        assert server.most <= 4 + 1
        assert not threads()


def test_small_blob_takes_one_request() -> None:
    """A further connection would take longer than the rest of the bytes."""
    with serve_blob(DATA[: 2 * PART]) as server:
        assert read(server) == DATA[: 2 * PART]
        assert len(server.gets) == 1


def test_blob_takes_one_request_if_it_does_not_wait() -> None:
    """Another connection cannot help if the reader is what takes the time."""
    with serve_blob() as server:
        assert read(server, replace(EAGER, patience_s=1e9)) == DATA
        assert len(server.gets) == 1


def test_blob_takes_one_request_with_one_job() -> None:
    """`jobs` bounds the connections."""
    with serve_blob() as server:
        assert read(server, jobs=1) == DATA
        assert len(server.gets) == 1


def ignore_range(server: BlobServer, peer: Peer, get: Get) -> bool:
    """Give the whole blob, whatever is asked for."""
    whole = Get(0, len(server.data), is_ranged=False, target="", authorization="")
    return server.give(peer, whole)


def give_other_part(server: BlobServer, peer: Peer, get: Get) -> bool:
    """Give the part after the one that was asked for (oras-project/oras-go#368)."""
    return server.give(peer, replace_start(get, get.start + 1) if get.is_ranged else get)


def replace_start(get: Get, start: int) -> Get:
    """Return a request for other bytes."""
    return Get(start, get.stop, get.is_ranged, get.target, get.authorization)


def refuse_parts(server: BlobServer, peer: Peer, get: Get) -> bool:
    """Refuse what has a Range."""
    if get.is_ranged:
        peer.answer(416)
        return True
    return server.give(peer, get)


def cut_parts(server: BlobServer, peer: Peer, get: Get) -> bool:
    """Cut each connection that asks for a part before the response."""
    return not get.is_ranged and server.give(peer, get)


@pytest.mark.parametrize("respond", [ignore_range, give_other_part, refuse_parts, cut_parts])
def test_blob_is_read_by_one_request_if_parts_fail(
    respond: Callable[[BlobServer, Peer, Get], bool],
) -> None:
    """The request for the whole blob goes on: nothing is lost."""
    with serve_blob(respond=respond) as server:
        assert read(server) == DATA
        assert [get for get in server.gets if not get.is_ranged] == server.gets[:1]
        assert not threads()


def test_blob_is_read_by_one_request_after_parts_that_fail_later() -> None:
    """A CDN has many servers, and one of them may not know Range."""

    def respond(server: BlobServer, peer: Peer, get: Get) -> bool:
        if not get.is_ranged:
            return hold_first_part(server, peer, get)
        is_late = get.start > len(DATA) // 2 and get.stop < len(DATA)
        return ignore_range(server, peer, get) if is_late else server.give(peer, get)

    with serve_blob(respond=respond) as server:
        assert read(server) == DATA


def test_part_is_resumed_after_cut() -> None:
    """Each part is cut once, and only its rest is asked for again."""
    cut: set[int] = set()

    def respond(server: BlobServer, peer: Peer, get: Get) -> bool:
        if not get.is_ranged:
            return hold_first_part(server, peer, get)
        if get.stop in cut:
            return server.give(peer, get)
        cut.add(get.stop)
        return server.give(peer, get, 1000)

    with serve_blob(respond=respond) as server:
        assert read(server) == DATA
        sent = sum(get.stop - get.start for get in server.gets if get.is_ranged)
        assert len(cut) > 5
        assert sent < 2 * len(DATA)


@pytest.mark.parametrize("given", [None, 1000])
def test_part_that_stalls_is_asked_for_again(given: int | None) -> None:
    """One connection that stalls holds up nobody (containerd/containerd#12811)."""
    stalled: list[Get] = []
    end = threading.Event()

    def respond(server: BlobServer, peer: Peer, get: Get) -> bool:
        if not get.is_ranged:
            return hold_first_part(server, peer, get)
        if get.start > len(DATA) // 2 and not stalled:
            stalled.append(get)
            if given is not None:
                server.give(peer, get, given)
            peer.drain()  # until the client closes the connection
            end.set()
            return False
        return server.give(peer, get)

    with serve_blob(respond=respond) as server:
        assert read(server, replace(EAGER, slow_after_s=0.1)) == DATA
        assert end.wait(30)
        again = [get for get in server.gets if get.stop == stalled[0].stop]
        assert again[1].start in {stalled[0].start, stalled[0].start + (given or 0)}


def test_wrong_byte_in_part_is_an_error() -> None:
    """All bytes are hashed in order, from whichever connection they come."""

    def respond(server: BlobServer, peer: Peer, get: Get) -> bool:
        if not get.is_ranged:
            return hold_first_part(server, peer, get)
        wrong = BlobServer(bytes(len(DATA)))
        return wrong.give(peer, get)

    with serve_blob(respond=respond) as server, pytest.raises(DigestMismatch):
        read(server)


def test_body_without_an_end_is_not_waited_for() -> None:
    """A part has its last byte, and the chunk that ends its body never comes."""

    def respond(server: BlobServer, peer: Peer, get: Get) -> bool:
        if not get.is_ranged:
            return hold_first_part(server, peer, get)
        body = server.data[get.start : get.stop]
        part = f"Content-Range: bytes {get.start}-{get.stop - 1}/{len(DATA)}\r\n"
        head = f"HTTP/1.1 206 OK\r\n{part}Transfer-Encoding: chunked\r\n\r\n{len(body):x}\r\n"
        peer.send(head.encode() + body + b"\r\n")
        server.ended += 1  # for the request of the whole blob
        peer.drain()
        return False

    with serve_blob(respond=respond) as server:
        assert read(server) == DATA


@pytest.mark.parametrize(
    ("cls", "name", "call", "error"),
    [
        (Worker, "start", 0, RuntimeError("can't start new thread")),
        (Worker, "start", 0, KeyboardInterrupt()),
        (Parts, "wait_begun", 0, KeyboardInterrupt()),
        (Parts, "close", 0, KeyboardInterrupt()),
        (Share, "close", 0, KeyboardInterrupt()),
    ],
    ids=["no-thread", "first-thread", "wait-begun", "close-of-parts", "close-of-share"],
)
def test_connections_and_memory_return_after_failure(
    monkeypatch: pytest.MonkeyPatch, cls: type, name: str, call: int, error: BaseException
) -> None:
    """An interrupt may come at any time, and there may be no more threads."""
    function, calls = getattr(cls, name), itertools.count()

    def fail_once(self: object) -> object:
        if next(calls) == call:
            raise error
        return function(self)

    with serve_blob() as server, make_client() as client:
        store = client.registries.open(Repository.parse(f"{server.address}/app"))
        assert isinstance(store, RegistryStore)
        budget = store.read_budget()
        monkeypatch.setattr(cls, name, fail_once)
        with (
            nullcontext() if isinstance(error, Exception) else pytest.raises(KeyboardInterrupt),
            client.blob(server.name) as stream,
        ):
            stream.read()
        assert next(calls) > call
        assert len(budget.connections.free) == 4
        assert len(budget.parts.free) == 12
        assert not threads()


def test_close_ends_connections_and_threads() -> None:
    """A reader may have enough of it."""
    with serve_blob(respond=hold_first_part) as server, make_client() as client:
        with client.blob(server.name) as stream:
            while not any(map(is_part, server.gets)):
                stream.read(1)
        assert not threads()


def test_error_of_registry_is_raised() -> None:
    """A blob may be deleted while it is read."""

    def respond(server: BlobServer, peer: Peer, get: Get) -> bool:
        if not get.is_ranged:
            return hold_first_part(server, peer, get)
        if len(server.gets) < 4:
            return server.give(peer, get)
        peer.answer(404)
        return True

    with serve_blob(respond=respond) as server, pytest.raises(NotFound):
        read(server)


def test_blobs_share_connections() -> None:
    """Blobs that are read at a time, and their parts, have `jobs` connections together."""
    with serve_blob(respond=hold_first_part) as server, make_client(jobs=4) as client:
        results: list[bytes] = []

        def read_one() -> None:
            with client.blob(server.name) as stream:
                results.append(stream.read())

        readers = [threading.Thread(target=read_one) for _ in range(2)]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
        assert results == [DATA] * 2
        # A blob that begins is read at once, even if the other has all connections; and the server
        # may not yet know that the first connection of each was closed.
        assert server.most <= 4 + 1 + 2


@dataclass
class _CDN:
    """A server that a registry redirects to, by links that work a few times."""

    data: bytes
    uses: int
    server: BlobServer = field(init=False)
    links: dict[str, int] = field(default_factory=dict)
    refused: int = 0

    def __post_init__(self) -> None:
        """Serve the data."""
        self.server = BlobServer(self.data, self.respond)

    def respond(self, server: BlobServer, peer: Peer, get: Get) -> bool:
        """Give what was asked for if the link is still good."""
        self.links[get.target] = self.links.get(get.target, 0) + 1
        if self.links[get.target] > self.uses:
            self.refused += 1
            peer.answer(403, b"expired")
            return True
        return hold_first_part(server, peer, get)


def test_expired_link_is_asked_for_again() -> None:
    """A signed URL lives for minutes; no Authorization goes where it leads."""
    cdn = _CDN(DATA, uses=3)
    with serve_script(cdn.server.script) as away:

        def redirect(server: BlobServer, peer: Peer, get: Get) -> bool:
            link = f"http://{away}/link{len(server.gets)}"
            peer.answer(307, b"", f"Location: {link}")
            return True

        with serve_blob(respond=redirect) as server:
            assert read(server) == DATA
    assert cdn.refused
    assert len(server.gets) < len(cdn.server.gets)  # the link is used as long as it is good
    assert not any(get.authorization for get in cdn.server.gets)


def test_prefix_is_not_fetched_again() -> None:
    """A reader that has the first bytes gets the others, verified together."""
    known = len(DATA) // 3
    state = hasher("sha256")
    state.update(DATA[:known])
    with serve_blob(respond=hold_first_part) as server, make_client() as client:
        descriptor = Descriptor("application/x", server.digest, len(DATA))
        store = client.registries.open(Repository.parse(f"{server.address}/app"))
        with store.fetch_rest(descriptor, Prefix(known, state)) as stream:
            assert stream.read() == DATA[known:]
        assert min(get.start for get in server.gets) == known
        wrong = hasher("sha256")
        with (
            pytest.raises(DigestMismatch),
            store.fetch_rest(descriptor, Prefix(known, wrong)) as stream,
        ):
            stream.read()
        whole = hasher("sha256")
        whole.update(DATA)
        before = len(server.gets)
        with store.fetch_rest(descriptor, Prefix(len(DATA), whole)) as stream:
            assert stream.read() == b""
        assert len(server.gets) == before


def test_read_range_gives_part() -> None:
    """One request for the bytes that are wanted."""
    with serve_blob() as server, make_client() as client:
        descriptor = Descriptor("application/x", server.digest, len(DATA))
        store = client.registries.open(Repository.parse(f"{server.address}/app"))
        with store.read_range(descriptor, 1000, 3000) as stream:
            assert stream.read() == DATA[1000:3000]
        assert [(get.start, get.stop) for get in server.gets] == [(1000, 3000)]


def test_read_range_raises_if_range_is_ignored() -> None:
    """The caller decides whether to read the whole blob."""
    with serve_blob(respond=ignore_range) as server, make_client() as client:
        descriptor = Descriptor("application/x", server.digest, len(DATA))
        store = client.registries.open(Repository.parse(f"{server.address}/app"))
        with pytest.raises(RangeNotSupported), store.read_range(descriptor, 1, 3) as stream:
            stream.read()
