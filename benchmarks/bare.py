"""Do the work of one upload and nothing else: the bare loop that a push is compared with.

    cat FILE | python benchmarks/bare.py push PORT gzip|zstd|none
    python benchmarks/bare.py pull PORT PATH

A push reads stdin, hashes, compresses and hashes in threads like those of brolga's pass, and sends
one chunked PATCH by plain sendmsg. A pull receives one response and hashes it. There is no HTTP
library, no recovery and no replay, and nothing is kept.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import queue
import socket
import sys
import threading
from collections import deque
from typing import TYPE_CHECKING, Any

import kernels

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_READ_AHEAD = 3
# What is received at once. Less costs more: 256 KiB a third, 1 MiB a seventh of all.
_RECEIVED = 2 << 20
_HEAD = "{} {} HTTP/1.1\r\nHost: 127.0.0.1\r\n{}\r\n"


class _Pool:
    """Threads that run jobs in order; `submit` returns a queue of the one result."""

    def __init__(self, threads: int) -> None:
        self._jobs: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for _ in range(threads):
            threading.Thread(target=self._run, daemon=True).start()

    def submit(self, function: Callable[..., Any], *arguments: Any) -> queue.SimpleQueue[Any]:  # noqa: ANN401 - of any kernel
        """Queue a call."""
        future: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._jobs.put((function, arguments, future))
        return future

    def _run(self) -> None:
        while True:
            function, arguments, future = self._jobs.get()
            future.put(function(*arguments))
            del function, arguments, future


def _read(fd: int, blocks: queue.SimpleQueue[memoryview], free: queue.SimpleQueue[None]) -> None:
    """Fill blocks from a file descriptor. The last one is short, perhaps empty."""
    full = True
    while full:
        free.get()
        block, filled = memoryview(bytearray(kernels.BLOCK)), 0
        while filled < kernels.BLOCK and (count := os.readv(fd, [block[filled:]])):
            filled += count
        full = filled == kernels.BLOCK
        blocks.put(block[:filled])


def _blocks(fd: int) -> Iterator[memoryview]:
    blocks: queue.SimpleQueue[memoryview] = queue.SimpleQueue()
    free: queue.SimpleQueue[None] = queue.SimpleQueue()
    for _ in range(_READ_AHEAD):
        free.put(None)
    threading.Thread(target=_read, args=(fd, blocks, free), daemon=True).start()
    full = True
    while full:
        block = blocks.get()
        free.put(None)
        full = len(block) == kernels.BLOCK
        if block:
            yield block


def _gzip() -> Callable[[Any, Any], Any]:
    """Compress with isal's class for threads, one object for each thread."""
    isal = importlib.import_module("isal.isal_zlib")
    local = threading.local()

    def encode(window: Any, block: Any) -> Any:  # noqa: ANN401 - of any buffer
        if not hasattr(local, "compressor"):
            new = isal._ParallelCompress  # noqa: SLF001 - the fastest call of isal
            local.compressor = new(kernels.BLOCK * 9 // 8, 1)
        return local.compressor.compress_and_crc(block, window)[0]

    return encode


def _zstd() -> Callable[[Any, Any], Any]:
    compress = kernels.zstd().compress
    return lambda _, block: compress(block, 3)


_ENCODERS: dict[str, Callable[[], Any]] = {"gzip": _gzip, "zstd": _zstd, "none": lambda: None}


class _Pass:
    """Blocks that are hashed and compressed, in the order of the source."""

    def __init__(self, compression: str) -> None:
        self._encode = _ENCODERS[compression]()
        self._pools = _Pool(1), _Pool(kernels.CORES), _Pool(1)
        self._diff_id, self._digest = hashlib.sha256(), hashlib.sha256()
        self._window: Any = b""
        self._under_way: deque[tuple[Any, Any]] = deque()
        self._hashed: Any = None

    def blocks(self, source: Iterator[memoryview]) -> Iterator[Any]:
        """Yield the output, while at most as many blocks are under way as brolga has."""
        first, middle, _ = self._pools
        for block in source:
            hashed, out = first.submit(self._diff_id.update, block), None
            if self._encode:
                out = middle.submit(self._encode, self._window, block)
            self._window = block[-kernels.WINDOW :]
            self._under_way.append((hashed, out or block))
            if len(self._under_way) == kernels.CORES + 2:
                yield self._finish()
        while self._under_way:
            yield self._finish()
        if self._hashed:
            self._hashed.get()

    def _finish(self) -> Any:  # noqa: ANN401 - any buffer
        hashed, out = self._under_way.popleft()
        hashed.get()
        if self._encode:
            out = out.get()
            if self._hashed:
                self._hashed.get()
            self._hashed = self._pools[2].submit(self._digest.update, out)
        return out


def push(port: int, compression: str) -> None:
    """Send stdin as one chunked PATCH."""
    kernels.enlarge_pipe(0)
    with socket.create_connection(("127.0.0.1", port)) as sink:
        sink.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        chunked = "Transfer-Encoding: chunked\r\n"
        sink.sendall(_HEAD.format("PATCH", "/v2/bench/blobs/uploads/b", chunked).encode())
        for block in _Pass(compression).blocks(_blocks(0)):
            _send(sink, [f"{len(block):x}\r\n".encode(), block, b"\r\n"])
        sink.sendall(b"0\r\n\r\n")
        sink.recv(kernels.BLOCK)


def _send(sink: socket.socket, buffers: list[Any]) -> None:
    views = [memoryview(buffer) for buffer in buffers]
    while views:
        sent = sink.sendmsg(views)
        while views and sent >= len(views[0]):
            sent -= len(views.pop(0))
        if sent:
            views[0] = views[0][sent:]


def pull(port: int, path: str) -> None:
    """Receive one response and hash it in this thread."""
    digest, buffer = hashlib.sha256(), memoryview(bytearray(_RECEIVED))
    with socket.create_connection(("127.0.0.1", port)) as server:
        server.sendall(_HEAD.format("GET", path, "Connection: close\r\n").encode())
        head = server.recv(1 << 16)
        digest.update(head.partition(b"\r\n\r\n")[2])
        while count := server.recv_into(buffer):
            digest.update(buffer[:count])
    print(json.dumps(digest.hexdigest()))


if __name__ == "__main__":
    {"push": push, "pull": pull}[sys.argv[1]](int(sys.argv[2]), sys.argv[3])
