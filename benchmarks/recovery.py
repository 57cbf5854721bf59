"""Measure what a cut in the middle of an upload costs: one table.

    python benchmarks/recovery.py             about 2 minutes on 2 cores
    python benchmarks/recovery.py --size 256  MiB of each source

Runs `brolga layer push` through a forwarder to Debian's docker-registry, which forgets a session
whose connection was cut, so that every byte must go out again: the worst case. Each source is
pushed without a cut and with one at half of its bytes, in turn; medians are printed. A cut may
cost the time of the bytes that were sent before it.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import IO

import docker_registry

_MIB = 1 << 20
_WINDOW_MIB = 24  # the size of a stream that stays within the window


class Forwarder:
    """Forwards connections to a registry; cuts the one that carries a PATCH after `cut` bytes."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self.cut = 0
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        """Take no more connections."""
        self._listening.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            there = socket.create_connection(("127.0.0.1", self._target))
            for source, sink in ((client, there), (there, client)):
                threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        """Forward until one side ends, or the cut is reached."""
        sent, buffer = 0, memoryview(bytearray(_MIB))
        with source, sink:
            try:
                while count := source.recv_into(buffer):
                    sent += count
                    if 0 < self.cut < sent:
                        self.cut = 0  # once
                        return
                    sink.sendall(buffer[:count])
            except OSError:
                return
            finally:
                for end in (source, sink):
                    _shut(end)


def _shut(end: socket.socket) -> None:
    try:
        end.shutdown(socket.SHUT_RDWR)
    except OSError:
        return


def _push(port: int, arguments: list[str], stdin: IO[bytes] | None) -> float:
    """Push once; return the seconds."""
    began = time.monotonic()
    subprocess.run(
        [sys.executable, "-m", "brolga", "layer", "push", f"127.0.0.1:{port}/bench", *arguments],
        stdin=stdin or subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        check=True,
    )
    return time.monotonic() - began


def _row(forwarder: Forwarder, file: Path, how: str, runs: int) -> tuple[float, float]:
    """Return the median seconds without a cut, and with one."""
    seconds: tuple[list[float], list[float]] = [], []
    flags = ["--compression", "none", *(["--spool"] if how == "pipe, --spool" else [])]
    for _ in range(runs):
        for cut, results in zip((0, file.stat().st_size // 2), seconds, strict=True):
            forwarder.cut = cut
            if how == "file":
                results.append(_push(forwarder.port, [*flags, str(file)], None))
                continue
            with subprocess.Popen(["cat", str(file)], stdout=subprocess.PIPE) as cat:
                results.append(_push(forwarder.port, flags, cat.stdout))
    return median(seconds[0]), median(seconds[1])


def main() -> None:
    """Measure each source and print the table."""
    parser = argparse.ArgumentParser(description="Measure what a cut costs: one table.")
    parser.add_argument("--size", type=int, default=512, help="MiB of the large sources (512)")
    parser.add_argument("--runs", type=int, default=5, help="of each row; medians are printed (5)")
    options = parser.parse_args()
    print(f"{'source':<24}{'MiB':>6}{'no cut':>10}{'one cut':>10}{'ratio':>8}{'allowed':>9}")
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        directory = Path(name)
        with (
            docker_registry.running(directory / "registry") as address,
            closing(Forwarder(int(address.rpartition(":")[2]))) as forwarder,
        ):
            for how, size in (
                ("file", options.size),
                ("pipe, --spool", options.size),
                ("pipe within the window", _WINDOW_MIB),
            ):
                file = directory / "data"
                with file.open("wb") as out:
                    for _ in range(size):
                        out.write(os.urandom(_MIB))
                plain, cut = _row(forwarder, file, how, options.runs)
                # Half of the bytes go out twice, after a first pause of half a second.
                allowed = 1.5 + 0.5 / plain
                ratio = cut / plain
                print(f"{how:<24}{size:>6}{plain:>9.2f}s{cut:>9.2f}s{ratio:>8.2f}{allowed:>9.2f}")


if __name__ == "__main__":
    main()
