"""One pass over a source: hash, compress, and hash again, with bounded memory.

    source ──┬─> pool: DiffID, trailer (crc)            uncompressed bytes
             └─> pool: encode ──┬─> pool: digest        compressed bytes
                                └─> the reader          (an HTTP request's body)

The reader drives the generator `one_pass`. A signal handler may interrupt it at any bytecode, so it
shares only SimpleQueues with the threads, no locks of Python code as Future and Condition hold.
An interrupted `close` can be repeated.
"""

from __future__ import annotations

from collections import deque
from contextlib import closing, suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from brolga.spec.digest import CANONICAL, Digest, hasher
from brolga.spec.value import Value
from brolga.stream.compression import WINDOW_SIZE, Codec
from brolga.stream.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from brolga.spec.blob import Block, BlockSource

_Future: TypeAlias = "SimpleQueue[Any]"  # of one job: what it returned or raised
_Job: TypeAlias = "tuple[Callable[..., object], tuple[Block, ...], _Future]"

_HEARTBEAT_S: Final = 0.05  # seconds without a block after which an empty one is yielded


class PassResult(Value):
    """The results of one complete pass."""

    digest: Digest
    diff_id: Digest
    size: int
    uncompressed_size: int


class ByteCounts:
    """Bytes so far, written by the pass and read by any thread.

    `hasher` has hashed the bytes read, except blocks still in the pool of the DiffID.
    """

    def __init__(self) -> None:
        self.read = 0
        self.written = 0
        self.hasher = hasher()


class WorkerPools:
    """The threads of one pass. A thread starts when its pool is first used.

    Each hash has a pool of one thread, so its blocks stay in order; encoding has several.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.depth = threads + 2  # blocks under way: no thread idles while the first is yielded
        self.diff_id = _Pool("diff-id", 1)
        self.encode = _Pool("encode", threads)
        self.digest = _Pool("digest", 1)

    def digest_so_far(self, counts: ByteCounts) -> Digest:
        """Return the digest of the `counts.read` bytes that a running pass has read."""
        return Digest.from_hasher(_result(self.diff_id.submit(counts.hasher.copy)))

    def close(self) -> None:
        """Stop, and wait until every thread has ended. Idempotent, and so after an interrupt."""
        pools = self.diff_id, self.encode, self.digest
        for pool in pools:
            pool.stop()
        for pool in pools:
            pool.join()


class _Pool:
    """Threads that do one kind of job, in the order of the source."""

    def __init__(self, name: str, threads: int) -> None:
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        run = partial(_run_jobs, self._jobs)
        self._workers = [Worker(f"brolga-pool-{name}-{number}", run) for number in range(threads)]
        self._unstarted = iter(self._workers)

    def submit(self, function: Callable[..., object], *arguments: Block) -> _Future:
        """Queue a job; return the future of its result."""
        future: _Future = SimpleQueue()
        self._jobs.put((function, arguments, future))
        for worker in self._unstarted:
            worker.start()
            break
        return future

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
    source: BlockSource,
    codec: Codec,
    pools: WorkerPools,
    counts: ByteCounts,
    algorithm: str = CANONICAL,
) -> Generator[Block, None, PassResult]:
    """Yield the compressed stream; return its results at the clean end of the source.

    `algorithm` is that of the digest. The DiffID is by sha256, as readers expect.
    An empty block is a heartbeat: nothing came for a while. Source and pools are closed at the end
    or on an error; if that is interrupted, they can be closed again.
    """
    run = _Pass(codec, pools, counts, algorithm)
    with closing(source), closing(pools), closing(run):
        yield run.emit(codec.head)
        ended = False
        while run.pending or not ended:
            block = None
            if not ended and run.pending < pools.depth:
                block = source.next_block(0 if run.pending else _HEARTBEAT_S)
            if block:
                run.submit(block)
            elif block is not None:
                ended = True
            if ended or block is None or run.ready or run.pending == pools.depth:
                yield run.next_output() if run.pending else b""
        yield run.emit(run.trailer.end())
        return run.result()


class _Pass:
    """The blocks in the pools, in the order of the source."""

    def __init__(
        self, codec: Codec, pools: WorkerPools, counts: ByteCounts, algorithm: str
    ) -> None:
        self.trailer = codec.trailer()
        self._encode = codec.encode
        self._pools = pools
        self._counts = counts
        self._window: Block = b""
        # Without compression the DiffID is of the same bytes: hash once, if it may be the digest.
        is_diff_id = not codec.encode and algorithm == CANONICAL
        self._digest = None if is_diff_id else hasher(algorithm)
        self._blocks: deque[tuple[_Future, _Future]] = deque()
        self._hashed = _completed(None)

    @property
    def pending(self) -> int:
        return len(self._blocks)

    @property
    def ready(self) -> bool:
        return bool(self._blocks) and not any(stage.empty() for stage in self._blocks[0])

    def submit(self, block: Block) -> None:
        """Start hashing and encoding a block."""
        self._counts.read += len(block)
        hashed = self._pools.diff_id.submit(self._hash_block, block)
        if self._encode:
            encoded = self._pools.encode.submit(self._encode, block, self._window)
        else:
            encoded = _completed(block)
        self._blocks.append((hashed, encoded))
        self._window = block[-WINDOW_SIZE:]

    def next_output(self) -> Block:
        """Return the first block of the pass, when it has been hashed and encoded."""
        hashed, encoded = self._blocks.popleft()
        _result(hashed)
        return self.emit(_result(encoded))

    def emit(self, block: Block) -> Block:
        """Count a compressed block and return it; the pool hashes it while the reader has it."""
        self._counts.written += len(block)
        if self._digest:
            _result(self._hashed)  # so that at most one block waits for this pool
            self._hashed = self._pools.digest.submit(self._digest.update, block)
        return block

    def result(self) -> PassResult:
        _result(self._hashed)
        diff_id = Digest.from_hasher(self._counts.hasher)
        digest = Digest.from_hasher(self._digest) if self._digest else diff_id
        return PassResult(digest, diff_id, self._counts.written, self._counts.read)

    def close(self) -> None:
        """Free blocks and buffers: the error of a failed pass keeps this object."""
        self._blocks.clear()
        self._window = b""
        self._encode = None

    def _hash_block(self, block: Block) -> None:
        self._counts.hasher.update(block)
        self.trailer.update(block)


def _run_jobs(jobs: SimpleQueue[_Job | None]) -> None:
    while job := jobs.get():
        _run_job(job)
        del job  # a waiting thread keeps no block alive


def _run_job(job: _Job) -> None:
    function, arguments, future = job
    try:
        future.put(function(*arguments))
    except BaseException as error:  # noqa: BLE001 - `_result` raises it
        future.put(error)


def _result(future: _Future) -> Any:  # noqa: ANN401 - what the job returned
    """Wait for a job's result, and remove it. Raises what the job raised."""
    outcome = future.get()
    try:
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome
    finally:
        del outcome  # else the exception's frames refer to it, and to the blocks of the pass


def _completed(value: object) -> _Future:
    future: _Future = SimpleQueue()
    future.put(value)
    return future
