"""One pass: the way of a block from the source to whoever reads the compressed stream.

Knows sources, codecs, hashes and the threads between them. Must not know layers or registries.

Strategy: `one_pass` is the whole way, in one generator that the reader of the stream drives. It
takes blocks from the source, gives each to the DiffID's hash and to a compressing thread, and
hands the results on in order, hashed once more. What is under way is bounded by `depth` blocks;
nothing else is kept.

    source ──┬─> lane: DiffID, trailer (crc)            uncompressed bytes
             └─> lane: encode ──┬─> lane: digest        compressed bytes
                                └─> the reader          (an HTTP request's body)

The reader's thread may be interrupted at any bytecode, by the handler of a signal. So the lanes
are threads and SimpleQueues, which are written in C, and nothing that holds a lock of Python code,
as Future and Condition do. They can be closed again where closing was interrupted.
"""

from __future__ import annotations

from collections import deque
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from brolga.spec.digest import Digest, hasher
from brolga.stream.compression import WINDOW_SIZE, Codec
from brolga.stream.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from brolga.spec.blob import Block, BlockSource

__all__ = ["ByteCounts", "PassResult", "WorkerPools", "one_pass"]

_Result: TypeAlias = "SimpleQueue[Any]"  # of one job: what it returned, or what it raised
_Job: TypeAlias = "tuple[Callable[..., object], tuple[Block, ...], _Result]"

_LANES: Final = "brolga-lane-"  # how the names of the threads begin
_HEARTBEAT_S: Final = 0.05  # seconds without a block after which the reader hears of it


@dataclass(frozen=True, slots=True)
class PassResult:
    """What one whole pass has computed."""

    digest: Digest
    diff_id: Digest
    size: int
    uncompressed_size: int


class ByteCounts:
    """Bytes so far, written by the pass and read by whoever shows progress.

    `diff_id` has hashed those that were read, but for the blocks that are in its lane.
    """

    def __init__(self) -> None:
        self.read = 0
        self.written = 0
        self.diff_id = hasher()


class WorkerPools:
    """The threads of one pass. A lane starts its threads when it is first used.

    Each hash has a lane of one thread, so its blocks stay in order; encoding has many.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.depth = threads + 2  # so that none is without a block while the first is handed on
        self.diff_id = _SerialPool("diff-id", 1)
        self.encode = _SerialPool("encode", threads)
        self.digest = _SerialPool("digest", 1)

    def read_so_far(self, tally: ByteCounts) -> Digest:
        """Return the digest of the `tally.read` bytes that were read. For a pass under way."""
        return Digest.from_hasher(_taken(self.diff_id.submit(tally.diff_id.copy)))

    def close(self) -> None:
        """Stop, and wait until every thread has ended. Idempotent, and so after an interrupt."""
        lanes = self.diff_id, self.encode, self.digest
        for lane in lanes:
            lane.stop()
        for lane in lanes:
            lane.join()


class _SerialPool:
    """Threads that do one kind of job, in the order of the source."""

    def __init__(self, name: str, threads: int) -> None:
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        work = partial(_work, self._jobs)
        self._workers = [Worker(f"{_LANES}{name}-{number}", work) for number in range(threads)]
        self._fresh = iter(self._workers)

    def submit(self, function: Callable[..., object], *arguments: Block) -> _Result:
        """Start a job on its way; return where its result will be."""
        result: _Result = SimpleQueue()
        self._jobs.put((function, arguments, result))
        for worker in self._fresh:
            worker.start()
            break
        return result

    def stop(self) -> None:
        with suppress(Empty):
            while True:
                self._jobs.get_nowait()
        for _ in self._workers:
            self._jobs.put(None)

    def join(self) -> None:
        for worker in self._workers:
            worker.join()


def one_pass(
    source: BlockSource, codec: Codec, lanes: WorkerPools, tally: ByteCounts
) -> Generator[Block, None, PassResult]:
    """Yield the compressed stream; return its sums at the clean end of the source.

    An empty block is a heartbeat: nothing came for a while, nothing is wrong. Source and lanes are
    closed at the end, whichever it is; where an interrupt hit that, closing them again finishes it.
    """
    run = _Pass(codec, lanes, tally)
    with closing(source), closing(lanes), closing(run):
        yield run.emit(codec.head)
        ended = False
        while run.pending or not ended:
            block = None
            if not ended and run.pending < lanes.depth:
                block = source.next_block(0 if run.pending else _HEARTBEAT_S)
            if block:
                run.take(block)
            elif block is not None:
                ended = True
            if ended or block is None or run.ready or run.pending == lanes.depth:
                yield run.give() if run.pending else b""
        yield run.emit(run.trailer.end())
        return run.sums()


class _Pass:
    """The blocks under way in the lanes, in the order of the source."""

    def __init__(self, codec: Codec, lanes: WorkerPools, tally: ByteCounts) -> None:
        self.trailer = codec.trailer()
        self._encode = codec.encode
        self._lanes = lanes
        self._tally = tally
        self._window: Block = b""
        self._digest = hasher()
        self._blocks: deque[tuple[_Result, _Result]] = deque()
        self._hashed = _done(None)

    @property
    def pending(self) -> int:
        return len(self._blocks)

    @property
    def ready(self) -> bool:
        return bool(self._blocks) and not any(stage.empty() for stage in self._blocks[0])

    def take(self, block: Block) -> None:
        """Start a block on its way."""
        self._tally.read += len(block)
        summed = self._lanes.diff_id.submit(self._sum_up, block)
        if self._encode:
            encoded = self._lanes.encode.submit(self._encode, block, self._window)
        else:
            encoded = _done(block)
        self._blocks.append((summed, encoded))
        self._window = block[-WINDOW_SIZE:]

    def give(self) -> Block:
        """Return the first block under way, when it has been hashed and encoded."""
        summed, encoded = self._blocks.popleft()
        _taken(summed)
        return self.emit(_taken(encoded))

    def emit(self, block: Block) -> Block:
        """Count a compressed block, hash it while the reader has it already, and return it."""
        self._tally.written += len(block)
        if self._encode:
            _taken(self._hashed)  # so that no more than one block waits for this lane
            self._hashed = self._lanes.digest.submit(self._digest.update, block)
        return block

    def sums(self) -> PassResult:
        _taken(self._hashed)
        diff_id = Digest.from_hasher(self._tally.diff_id)
        # Where nothing was compressed, the compressed bytes are the uncompressed ones: hash once.
        digest = Digest.from_hasher(self._digest) if self._encode else diff_id
        return PassResult(digest, diff_id, self._tally.written, self._tally.read)

    def close(self) -> None:
        """Free blocks and buffers: the error of a pass that failed keeps this object."""
        self._blocks.clear()
        self._window = b""
        self._encode = None

    def _sum_up(self, block: Block) -> None:
        self._tally.diff_id.update(block)
        self.trailer.update(block)


def _work(jobs: SimpleQueue[_Job | None]) -> None:
    """Do the jobs of a lane, until it stops."""
    while job := jobs.get():
        _do(*job)
        del job  # a thread that waits keeps no block alive


def _do(function: Callable[..., object], arguments: tuple[Block, ...], result: _Result) -> None:
    try:
        result.put(function(*arguments))
    except BaseException as error:  # noqa: BLE001 - raised where the result is taken
        result.put(error)


def _taken(result: _Result) -> Any:  # noqa: ANN401 - what the job returned
    """Wait for a job's result, and take it, once. Raises what the job raised."""
    outcome = result.get()
    try:
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome
    finally:
        del outcome  # or an exception would hold itself, and the blocks of the pass, by its frames


def _done(value: object) -> _Result:
    result: _Result = SimpleQueue()
    result.put(value)
    return result
