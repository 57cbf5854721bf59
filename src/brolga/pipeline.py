"""One pass: the way of a block from the source to whoever reads the compressed stream.

Knows sources, codecs, hashes and the threads between them. Must not know layers or registries.

Strategy: `one_pass` is the whole way, in one generator that the reader of the stream drives. It
takes blocks from the source, gives each to the DiffID's hash and to a compressing thread, and
hands the results on in order, hashed once more. What is under way is bounded by `depth` blocks;
nothing else is kept.

    source ──┬─> lane: DiffID, trailer (crc)            uncompressed bytes
             └─> pool: encode ──┬─> lane: digest        compressed bytes
                                └─> the reader          (an HTTP request's body)
"""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self, TypeVar

from brolga.compression import WINDOW_SIZE, Block, Codec
from brolga.digest import Digest, hasher

if TYPE_CHECKING:
    from collections.abc import Generator

    from brolga.sources import BlockSource

__all__ = ["Sums", "Tally", "one_pass"]

_T = TypeVar("_T")

_LANES: Final = "brolga-lane-"  # how the names of the threads begin
_HEARTBEAT_S: Final = 0.05  # seconds without a block after which the reader hears of it


@dataclass(frozen=True, slots=True)
class Sums:
    """What one whole pass has computed."""

    digest: Digest
    diff_id: Digest
    size: int
    uncompressed_size: int


class Tally:
    """Bytes so far, written by the pass and read by whoever shows progress."""

    def __init__(self) -> None:
        self.read = 0
        self.written = 0


def one_pass(
    source: BlockSource, codec: Codec, threads: int, tally: Tally
) -> Generator[Block, None, Sums]:
    """Yield the compressed stream; return its sums at the clean end of the source.

    An empty block is a heartbeat: nothing came for a while, nothing is wrong.
    """
    depth = threads + 2  # so that no thread is without a block while the first is handed on
    with closing(source), _Pass(codec, threads, tally) as run:
        yield run.hand_on(codec.head)
        ended = False
        while run.pending or not ended:
            block = None
            if not ended and run.pending < depth:
                block = source.next_block(0 if run.pending else _HEARTBEAT_S)
            if block:
                run.take(block)
            elif block is not None:
                ended = True
            if ended or block is None or run.ready or run.pending == depth:
                yield run.give() if run.pending else b""
        yield run.hand_on(run.trailer.end())
        return run.sums()


class _Pass:
    """The lanes of one pass, and the blocks under way in them, in the order of the source.

    Each hash has a lane of one thread, so its blocks stay in order; encoding has many.
    """

    def __init__(self, codec: Codec, threads: int, tally: Tally) -> None:
        self.trailer = codec.trailer()
        self._encode = codec.encode
        self._tally = tally
        self._window: Block = b""
        self._diff_id, self._digest = hasher(), hasher()
        self._blocks: deque[tuple[Future[None], Future[Block]]] = deque()
        self._hashed: Future[None] = _done(None)
        # A lane starts its threads when it is first used.
        self._lanes = (
            ThreadPoolExecutor(1, _LANES + "diff-id"),
            ThreadPoolExecutor(threads, _LANES + "encode"),
            ThreadPoolExecutor(1, _LANES + "digest"),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # A dropped cycle may be collected in a thread of ours, which cannot wait for itself.
        ours = threading.current_thread().name.startswith(_LANES)
        for lane in self._lanes:
            lane.shutdown(wait=not ours, cancel_futures=True)

    @property
    def pending(self) -> int:
        return len(self._blocks)

    @property
    def ready(self) -> bool:
        return bool(self._blocks) and all(stage.done() for stage in self._blocks[0])

    def take(self, block: Block) -> None:
        """Start a block on its way."""
        diff_id, pool, _ = self._lanes
        self._tally.read += len(block)
        encoded: Future[Block] = _done(block)
        if self._encode:
            encoded = pool.submit(self._encode, block, self._window)
        self._blocks.append((diff_id.submit(self._sum_up, block), encoded))
        self._window = block[-WINDOW_SIZE:]

    def give(self) -> Block:
        """Return the first block under way, when it has been hashed and encoded."""
        summed, encoded = self._blocks.popleft()
        summed.result()
        return self.hand_on(encoded.result())

    def hand_on(self, block: Block) -> Block:
        """Count a compressed block, hash it while the reader has it already, and return it."""
        self._tally.written += len(block)
        if self._encode:
            self._hashed.result()  # so that no more than one block waits for this lane
            self._hashed = self._lanes[2].submit(self._digest.update, block)
        return block

    def sums(self) -> Sums:
        self._hashed.result()
        diff_id = Digest.from_hasher(self._diff_id)
        # Where nothing was compressed, the compressed bytes are the uncompressed ones: hash once.
        digest = Digest.from_hasher(self._digest) if self._encode else diff_id
        return Sums(digest, diff_id, self._tally.written, self._tally.read)

    def _sum_up(self, block: Block) -> None:
        self._diff_id.update(block)
        self.trailer.update(block)


def _done(value: _T) -> Future[_T]:
    future: Future[_T] = Future()
    future.set_result(value)
    return future
