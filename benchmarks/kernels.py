"""Measure the parts that no upload can do without, and derive the limit from them.

Each kernel runs alone in this process: read, sha256, compress one block, write to a socket. It is a
program of its own (`kernels.py FILE PORT BYTES`, JSON on stdout) because it holds its blocks in
memory, and the peak memory of a parent counts as that of every program it starts (see process).
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
import os
import socket
import subprocess
import sys
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    # The 32 KiB before a block, and the block: bytes out.
    Codec = Callable[[bytes, bytes], int]

BLOCK = 1 << 20
WINDOW = 1 << 15
# The codecs that are ten times slower take every fourth block of the sample.
_SLOW_STEP = 4
GIB = 1 << 30

CORES = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1

# The codec whose cost enters the limit of each way to compress: brolga's default levels.
LIMIT_CODECS = {"gzip": "isal 1", "zstd": "zstd 3", "none": ""}


class Timing(NamedTuple):
    """One kernel: seconds per GiB of its input, and bytes out per byte in."""

    wall_s: float
    cpu_s: float
    ratio: float


def limit(kernels: Mapping[str, Timing], compression: str, read: str) -> float:
    """Return the least seconds per GiB of input that one pass can take on these cores.

    Bytes are hashed in order, so sha256 over the input is serial; everything else can at best be
    spread evenly. The sum leaves out what also runs on these cores: the process that feeds the
    pipe, the sink, gzip's crc32 (about 0.1 s/GiB) and the start of the interpreter. It is thus a
    little lower than what can be reached.
    """
    sha = kernels["sha256"]
    ratio, work = 1.0, kernels[read].cpu_s + sha.cpu_s
    if codec := LIMIT_CODECS[compression]:
        ratio = kernels[f"{codec}, 1 core"].ratio
        work += kernels[f"{codec}, 1 core"].cpu_s + sha.cpu_s * ratio
    work += kernels["socket write"].cpu_s * ratio
    return max(sha.wall_s, work / CORES)


def codecs() -> dict[str, Codec]:
    """Return the codecs that are installed, each over one block."""
    found: dict[str, Codec] = {"zlib 1": _deflate(zlib, 1, 8)}
    with contextlib.suppress(ImportError):
        isal = importlib.import_module("isal.isal_zlib")
        found = {
            "isal 1": _deflate(isal, 1, isal.DEF_MEM_LEVEL),
            "isal 3": _deflate(isal, 3, isal.DEF_MEM_LEVEL),
            **found,
        }
    with contextlib.suppress(ImportError):
        zlib_ng = importlib.import_module("zlib_ng.zlib_ng")
        found["zlib-ng 6"] = _deflate(zlib_ng, 6, 8)
    if library := zstd():
        found["zstd 3"] = lambda _, block: len(library.compress(block, 3))
    return found


def _deflate(module: Any, level: int, memory: int) -> Codec:  # noqa: ANN401 - three alike modules
    """Compress a block as a part of one gzip stream: primed with the window, ended by a flush."""

    def compress(window: bytes, block: bytes) -> int:
        stream = module.compressobj(level, module.DEFLATED, -15, memory, 0, window)
        return len(stream.compress(block)) + len(stream.flush(module.Z_SYNC_FLUSH))

    return compress


def zstd() -> Any:  # noqa: ANN401 - either of two modules
    """Return the module of zstd, None without one."""
    for name in ("compression.zstd", "backports.zstd"):
        with contextlib.suppress(ImportError):
            return importlib.import_module(name)
    return None


def _sample(path: Path, size: int) -> list[tuple[bytes, bytes]]:
    """Read about `size` bytes as evenly spaced blocks, each with the window before it."""
    blocks = max(path.stat().st_size // BLOCK, 1)
    wanted = max(min(size // BLOCK, blocks), 1)
    sample = []
    with path.open("rb") as content:
        for number in range(wanted):
            start = number * blocks // wanted * BLOCK
            content.seek(max(start - WINDOW, 0))
            window = content.read(min(start, WINDOW))
            sample.append((window, content.read(BLOCK)))
    return sample


def _time(size: int, work: Callable[[], int]) -> Timing:
    """Run `work`, which returns bytes out, over `size` bytes."""
    cpu_s, wall_s = time.process_time(), time.perf_counter()
    out = work()
    cpu_s, wall_s = time.process_time() - cpu_s, time.perf_counter() - wall_s
    return Timing(wall_s * GIB / size, cpu_s * GIB / size, out / size)


def _read_file(path: Path) -> int:
    total, buffer = 0, bytearray(BLOCK)
    with path.open("rb", buffering=0) as content:
        while count := content.readinto(buffer):
            total += count
    return total


def _read_pipe(path: Path) -> int:
    """Read what `cat` writes; the pipe holds 1 MiB where the system lets it."""
    total, buffer = 0, bytearray(BLOCK)
    with subprocess.Popen(["cat", path], stdout=subprocess.PIPE, bufsize=0) as feeder:
        assert feeder.stdout is not None  # noqa: S101 - for the type
        enlarge_pipe(feeder.stdout.fileno())
        while count := os.readv(feeder.stdout.fileno(), [buffer]):
            total += count
    return total


def enlarge_pipe(fd: int) -> None:
    """Let a pipe hold 1 MiB, as brolga does."""
    if sys.platform == "linux":
        fcntl = importlib.import_module("fcntl")
        with contextlib.suppress(OSError):
            fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, BLOCK)


def _hash(blocks: list[bytes]) -> int:
    digest = hashlib.sha256()
    for block in blocks:
        digest.update(block)
    return sum(map(len, blocks))


def _send(blocks: list[bytes], port: int) -> int:
    """Send the blocks as one PATCH of known length and wait for the answer."""
    size = sum(map(len, blocks))
    head = f"PATCH /v2/bench/blobs/uploads/k HTTP/1.1\r\nContent-Length: {size}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port)) as sink:
        sink.sendall(head.encode())
        for block in blocks:
            sink.sendall(block)
        sink.recv(BLOCK)
    return size


def measure(path: Path, port: int, size: int) -> dict[str, Timing]:
    """Run every kernel once: reading over the whole file, the rest over a sample of `size`."""
    whole = path.stat().st_size
    timings = {
        "file read": _time(whole, lambda: _read_file(path)),
        "pipe read": _time(whole, lambda: _read_pipe(path)),
    }
    sample = _sample(path, size)
    blocks = [block for _, block in sample]
    size = sum(map(len, blocks))
    timings["sha256"] = _time(size, lambda: _hash(blocks))
    timings["socket write"] = _time(size, lambda: _send(blocks, port))
    for name, codec in codecs().items():
        step = _SLOW_STEP if name.startswith("zlib") else 1
        timings |= _both(name, codec, sample[::step])
    return timings


def _both(name: str, codec: Codec, sample: list[tuple[bytes, bytes]]) -> dict[str, Timing]:
    """Run a codec on one core and on all."""
    size = sum(len(block) for _, block in sample)
    return {
        f"{name}, 1 core": _time(size, lambda: _serial(codec, sample)),
        f"{name}, {CORES} cores": _time(size, lambda: _spread(codec, sample)),
    }


def _serial(codec: Codec, sample: list[tuple[bytes, bytes]]) -> int:
    return sum(codec(window, block) for window, block in sample)


def _spread(codec: Codec, sample: list[tuple[bytes, bytes]]) -> int:
    windows, blocks = zip(*sample, strict=True)
    with ThreadPoolExecutor(CORES) as pool:
        return sum(pool.map(codec, windows, blocks))


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))))
