"""layer_streams.py: layers that are read one after the other, some of them ahead."""

from __future__ import annotations

import gzip
import queue
import threading
from contextlib import closing
from itertools import islice
from typing import TYPE_CHECKING

import pytest
from tests.tars import layer
from tests.threads import none_left

from brolga.errors import BrolgaError, CorruptBlob
from brolga.images import BlockStream, StoredBlob
from brolga.images.layer_streams import MAX_LAYERS, open_layers
from brolga.spec.descriptor import Descriptor
from brolga.spec.digest import Digest
from brolga.spec.mediatypes import OCI_LAYER
from brolga.stream.decompression import Limits

if TYPE_CHECKING:
    from collections.abc import Generator

    from brolga.spec.blob import Blob

LIMITS = Limits()
MIB = 1 << 20


class Source:
    """Layers that tell when they are opened, read and closed."""

    def __init__(self) -> None:
        self.events: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.threads: set[str] = set()

    def layer(self, name: str, *blocks: bytes, error: Exception | None = None) -> StoredBlob:
        def read() -> Generator[bytes, None, None]:
            self.threads.add(threading.current_thread().name)
            self.events.put(f"{name} begun")
            try:
                yield from blocks
                if error:
                    raise error
            finally:
                self.events.put(f"{name} ended")

        descriptor = Descriptor(OCI_LAYER, Digest.of(name.encode()), 0)
        return StoredBlob(descriptor, lambda: BlockStream(read()))

    def wait(self, *events: str) -> None:
        assert {self.events.get(timeout=30) for _ in events} == set(events)


def test_open_layers_yields_decompressed_layers_in_order() -> None:
    """Their compression is told by the first bytes."""
    texts = [b"%d" % number * 100_000 for number in range(9)]
    layers = [layer(gzip.compress(text) if n % 2 else text) for n, text in enumerate(texts)]
    assert [b"".join(blocks) for blocks in open_layers(layers, LIMITS)] == texts
    assert list(open_layers([], LIMITS)) == []
    assert none_left()


@pytest.mark.parametrize(("jobs", "count"), [(1, 1), (0, 1), (2, 2), (99, MAX_LAYERS)])
def test_next_layers_are_read_while_one_is(jobs: int, count: int) -> None:
    """As many at a time as there are jobs; the next one begins when the first was read."""
    source = Source()
    names = [f"{number}" for number in range(5)]
    with closing(open_layers([source.layer(name, b"x") for name in names], LIMITS, jobs)) as opened:
        blocks = next(opened)
        both = ("begun", "ended")
        source.wait(*(f"{name} {what}" for name in names[:count] for what in both))
        assert source.events.empty()
        assert list(blocks) == [b"x"]
        next(opened)
        source.wait(*(f"{names[count]} {what}" for what in both))
    assert source.events.empty()
    assert source.threads == {"brolga-read-ahead"}


def test_bytes_that_are_read_ahead_are_bounded() -> None:
    """However large the layers are."""
    counts = [0, 0, 0]

    def endless(number: int) -> Generator[bytes, None, None]:
        while counts[number] < 1000:
            counts[number] += 1
            yield bytes(MIB)

    descriptor = Descriptor(OCI_LAYER, Digest.of(b""), 0)
    layers: list[Blob] = [
        StoredBlob(descriptor, lambda number=number: BlockStream(endless(number)))  # type: ignore[misc]
        for number in range(3)
    ]
    with closing(open_layers(layers, LIMITS)) as opened:
        assert len(list(islice(next(opened), 20))) == 20
    assert 20 <= counts[0] <= 26
    assert counts[1] <= 3
    assert counts[2] == 0


def test_closing_ends_layers_that_are_read_ahead() -> None:
    """No thread is left; nothing else is opened."""
    source = Source()
    layers = [source.layer(f"{number}", *[bytes(MIB)] * 20) for number in range(4)]
    opened = open_layers(layers, LIMITS)
    next(iter(next(opened)))
    source.wait("0 begun", "1 begun")
    opened.close()
    source.wait("0 ended", "1 ended")
    assert source.events.empty()
    assert none_left()


def test_next_layer_closes_one_that_was_not_read_to_its_end() -> None:
    """The reader has seen enough of it."""
    source = Source()
    layers = [source.layer("a", *[bytes(MIB)] * 20), source.layer("b", b"b")]
    with closing(open_layers(layers, LIMITS)) as opened:
        first = next(opened)
        assert len(next(iter(first))) == MIB
        source.wait("a begun", "b begun", "b ended")
        assert list(next(opened)) == [b"b"]
        source.wait("a ended")
        assert list(first) == []


@pytest.mark.parametrize("error", [BrolgaError("cut"), CorruptBlob("x")])
def test_error_of_a_layer_is_raised_when_it_is_read(error: BrolgaError) -> None:
    """Not before: the layers above it may have an error of their own."""
    source = Source()
    layers = [source.layer("a", b"a"), source.layer("b", b"b" * 9, error=error)]
    with closing(open_layers(layers, LIMITS)) as opened:
        assert list(next(opened)) == [b"a"]
        blocks = next(opened)
        with pytest.raises(BrolgaError) as caught:
            list(blocks)
    assert caught.value is error


def test_layer_of_users_code_is_read_in_the_readers_thread() -> None:
    """User's code runs in the user's thread, and when the user reads."""
    here = threading.current_thread().name
    threads: list[str] = []

    class Own:
        """A class of the user's."""

        def open(self) -> BlockStream:
            threads.append(threading.current_thread().name)
            return BlockStream(block for block in [gzip.compress(b"own")])

    own: Blob = Own()  # type: ignore[assignment] # its descriptor is not read
    with closing(open_layers([layer(b"x"), own, layer(b"y")], LIMITS)) as opened:
        assert list(next(opened)) == [b"x"]
        blocks = next(opened)
        assert threads == []
        assert list(blocks) == [b"own"]
        assert list(next(opened)) == [b"y"]
    assert threads == [here]


def test_limits_hold_for_each_layer() -> None:
    """A layer that grows beyond them is an error."""
    layers = [layer(gzip.compress(bytes(MIB)))]
    with closing(open_layers(layers, Limits(size=1000))) as opened:
        blocks = next(opened)
        with pytest.raises(CorruptBlob, match="which is the limit"):
            list(blocks)
