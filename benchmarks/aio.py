"""Measure the asynchronous client beside the synchronous one: one table.

    python benchmarks/aio.py                  about 2 minutes on 2 cores
    python benchmarks/aio.py --size 64MiB     of the stream

Each run is a process that pushes a pipe to a registry that discards it. The asynchronous one also
runs a ticker of 10 ms on its event loop. *late* is how much later than that it woke up, at most: it
counts what other processes and threads take of the cores as well. *busy* is the CPU time of the
longest callback of the loop: that is what blocks other tasks.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter, thread_time

import process
from options import parse_size
from sink import Sink

_TICK_S = 0.01
_COMPRESSIONS = ("gzip", "zstd", "none")
_FACTOR = 1.15
_REPOSITORY = "127.0.0.1:{}/bench/x"


def _push_sync(port: str, compression: str) -> None:
    """Push stdin."""
    import brolga

    with brolga.Client() as client:
        layer = brolga.StreamLayer(sys.stdin.buffer, compression)
        client.push_layer(_REPOSITORY.format(port), layer)
    print(json.dumps((0.0, 0.0)))


def _push_async(port: str, compression: str) -> None:
    """Push stdin beside a ticker; print how late it was, and the longest callback, in seconds."""
    print(json.dumps(asyncio.run(_push_beside_ticker(_REPOSITORY.format(port), compression))))


async def _push_beside_ticker(repository: str, compression: str) -> tuple[float, float]:
    import brolga

    late, busy = [0.0], _time_callbacks()
    async with brolga.AsyncClient() as client:
        ticker = asyncio.create_task(_tick(late))
        await client.push_layer(repository, brolga.StreamLayer(sys.stdin.buffer, compression))
        ticker.cancel()
    return max(late), max(busy)


def _time_callbacks() -> list[float]:
    """Return a list to which the CPU time of each callback of an event loop is added."""
    times: list[float] = []
    run = asyncio.Handle._run  # noqa: SLF001 - asyncio has no public hook

    def timed(handle: asyncio.Handle) -> None:
        began = thread_time()
        run(handle)
        times.append(thread_time() - began)

    asyncio.Handle._run = timed  # type: ignore[assignment, method-assign]  # noqa: SLF001 - as above
    return times


async def _tick(late: list[float]) -> None:
    while True:
        before = perf_counter()
        await asyncio.sleep(_TICK_S)
        late.append(perf_counter() - before - _TICK_S)


_PROGRAMS = {"sync": _push_sync, "async": _push_async}


def _measure(sink: Sink, source: Path, runs: int) -> None:
    """Run every row once a round, and print the medians."""
    samples: dict[tuple[str, str], list[tuple[float, float, float, float, float]]] = {}
    for _ in range(runs):
        for compression in _COMPRESSIONS:
            for name in _PROGRAMS:
                command = [sys.executable, __file__, "--run", name, str(sink.port), compression]
                usage = process.run(command, feed=[source])
                late_s, busy_s = json.loads(usage.stdout)
                sample = usage.wall_s, usage.cpu_s, usage.rss / (1 << 20), late_s, busy_s
                samples.setdefault((compression, name), []).append(sample)
    print(f"{'':<12}{'wall s':>8}{'CPU s':>8}{'MiB':>8}{'late ms':>9}{'busy ms':>9}{'/ sync':>8}")
    for (compression, name), rows in samples.items():
        wall_s, cpu_s, memory, *_ = (median(column) for column in zip(*rows, strict=True))
        ratio = wall_s / median(row[0] for row in samples[compression, "sync"])
        late_ms, busy_ms = (1000 * max(row[column] for row in rows) for column in (3, 4))
        print(
            f"{compression + ' ' + name:<12}{wall_s:>8.2f}{cpu_s:>8.2f}{memory:>8.1f}"
            f"{late_ms:>9.1f}{busy_ms:>9.1f}{ratio:>8.2f}"
        )
    print(f"target: async within {_FACTOR} x of sync, and busy for a few milliseconds at most")


def main() -> None:
    """Measure what the options choose, or run one push."""
    parser = argparse.ArgumentParser(description="Measure the asynchronous client: one table.")
    parser.add_argument("--size", type=parse_size, default=1 << 30, help="of the stream (1GiB)")
    parser.add_argument("--runs", type=int, default=5, help="of each row; medians are printed (5)")
    parser.add_argument(
        "--run", nargs=3, metavar=("PROGRAM", "PORT", "COMPRESSION"), help="push once"
    )
    options = parser.parse_args()
    if options.run:
        program, port, compression = options.run
        _PROGRAMS[program](port, compression)
        return
    with tempfile.TemporaryDirectory(prefix="bench-") as name, Sink() as sink:
        source = Path(name, "tree")
        inputs = str(Path(__file__).with_name("inputs.py"))
        process.run([sys.executable, inputs, "tree", str(source), str(options.size)])
        _measure(sink, source, options.runs)


if __name__ == "__main__":
    main()
