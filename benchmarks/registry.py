"""Measure the embedded registry beside docker-registry: uploads, downloads, memory; one table.

    python benchmarks/registry.py                       medians of 3 at 512 MiB, about 5 minutes
    python benchmarks/registry.py --size 64MiB --runs 1 does it all work?

The clients are processes that send a file by sendfile(2), or receive into a buffer. Each run
starts both servers anew, one after the other, on empty directories below `--work-dir` (a tmpfs
avoids the disk). Peak memory is VmHWM after one blob of an eighth of the size, and at the end.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import json
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import docker_registry
from options import parse_size

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MIB = 1 << 20
_FORK = multiprocessing.get_context("fork")


@dataclass(frozen=True)
class Blob:
    """An input file and its digest."""

    path: Path
    digest: str
    size: int


@dataclass(frozen=True)
class Server:
    """A running registry."""

    host: str
    port: int
    pid: int

    def peak(self) -> int:
        """Return the most memory in bytes that it has had (VmHWM)."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        found = re.search(r"VmHWM:\s*(\d+) kB", status)
        return int(found[1]) << 10 if found else 0

    def cpu_s(self) -> float:
        """Return the processor time in seconds that it has taken."""
        words = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


# Rates by label, in MiB/s; peaks by label, in MiB; processor time in ms for each MiB.
Results = dict[str, dict[str, list[float]]]


def main() -> None:
    """Measure what the options choose, and print it."""
    options = _options()
    results: Results = defaultdict(lambda: defaultdict(list))
    with tempfile.TemporaryDirectory(prefix="bench-registry-", dir=options.work_dir) as name:
        work = Path(name)
        small = _input(work / "small", options.size // 8)
        blobs = [_input(work / f"blob-{n}", options.size) for n in range(max(options.clients))]
        for _ in range(options.runs):
            for label, start in _servers(options):
                _measure(results[label], start, work / "store", options.clients, (small, blobs))
    print(_table(results, options))
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add("--size", type=parse_size, default=512 * MIB, help="of a blob, as 64MiB (512MiB)")
    add("--runs", type=int, default=3, help="median of so many (3)")
    add("--clients", type=int, nargs="+", default=[1, 8], help="at once (1 8)")
    add("--work-dir", type=Path, help="inputs and stores go below it")
    add("--python", default=sys.executable, help="runs brolga (this one)")
    add(
        "--option", action="append", default=[], metavar="NAME=VALUE", help="of Options, for brolga"
    )
    add("--json", type=Path, metavar="FILE", help="write every sample as well")
    return parser.parse_args()


def _input(path: Path, size: int) -> Blob:
    """Write random bytes, and hash them."""
    state = hashlib.sha256()
    with path.open("wb") as out:
        for start in range(0, size, MIB):
            block = os.urandom(min(MIB, size - start))
            state.update(block)
            out.write(block)
        # The disk must not be busy with it later.
        out.flush()
        os.fsync(out.fileno())
    return Blob(path, f"sha256:{state.hexdigest()}", size)


# --- Servers

Start = Callable[[Path], "subprocess.Popen[bytes]"]

_BROLGA = """
import sys
from pathlib import Path
from brolga.registry.options import Options
from brolga.registry.server import serve
def ready(address): print("listening on", address, flush=True)
serve(Path(sys.argv[1]), on_ready=ready, options=Options({}))
"""


def _servers(options: argparse.Namespace) -> Iterator[tuple[str, Start]]:
    """Yield the name of each registry, and the function that starts it in a directory."""

    def brolga(directory: Path) -> subprocess.Popen[bytes]:
        program = _BROLGA.format(", ".join(options.option))
        with directory.with_suffix(".log").open("wb") as log:
            return subprocess.Popen(
                [options.python, "-c", program, directory], stdout=log, stderr=log
            )

    yield "brolga", brolga
    if shutil.which("docker-registry"):
        yield "docker-registry", docker_registry.start


@contextmanager
def _running(start: Start, directory: Path) -> Iterator[Server]:
    """Run a registry on an empty directory; delete the directory at the end."""
    directory.mkdir()
    process = start(directory)
    try:
        address = docker_registry.wait_for_address(directory.with_suffix(".log"), process)
        host, _, port = address.rpartition(":")
        yield Server(host, int(port), process.pid)
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(directory)


# --- Clients


def _measure(
    rates: dict[str, list[float]],
    start: Start,
    directory: Path,
    clients: Sequence[int],
    inputs: tuple[Blob, list[Blob]],
) -> None:
    small, blobs = inputs
    with _running(start, directory) as server:
        _run_clients(_upload, server, [small], "small")
        _run_clients(_download, server, [small], "small")
        rates["peak after an eighth"].append(server.peak() / MIB)
        for count in clients:
            chosen = blobs[:count]
            for verb, work in (("upload", _upload), ("download", _download)):
                total = sum(blob.size for blob in chosen) / MIB
                cpu_s = server.cpu_s()
                seconds = _run_clients(work, server, chosen, f"of-{count}")
                cpu_s = server.cpu_s() - cpu_s
                rates[f"{verb}, {count} at once, cpu"].append(1000 * cpu_s / total)
                rates[f"{verb}, {count} at once"].append(total / seconds)
                _progress(f"{verb} {count}: {total / seconds:.0f} MiB/s")
        rates["peak at the end"].append(server.peak() / MIB)


def _run_clients(
    work: Callable[[Server, Blob, str], None], server: Server, blobs: Sequence[Blob], name: str
) -> float:
    """Run a client for each blob, all at once; return the seconds until the last is done."""
    gate = _FORK.Barrier(len(blobs) + 1)

    def client(blob: Blob) -> None:
        gate.wait()
        work(server, blob, name)

    processes = [_FORK.Process(target=client, args=(blob,)) for blob in blobs]
    for process in processes:
        process.start()
    gate.wait()
    begin = time.perf_counter()
    for process in processes:
        process.join()
        if process.exitcode:
            raise SystemExit("registry: a client failed")
    return time.perf_counter() - begin


def _upload(server: Server, blob: Blob, name: str) -> None:
    """Push a file: POST, then PUT with its length."""
    connection = http.client.HTTPConnection(server.host, server.port)
    connection.request("POST", f"/v2/{name}/blobs/uploads/", headers={"Content-Length": "0"})
    response = connection.getresponse()
    response.read()
    location = re.sub(r"^https?://[^/]*", "", response.headers["Location"])
    target = f"{location}{'&' if '?' in location else '?'}digest={blob.digest}"
    connection.putrequest("PUT", target)
    connection.putheader("Content-Length", str(blob.size))
    connection.putheader("Content-Type", "application/octet-stream")
    connection.endheaders()
    with blob.path.open("rb") as file:
        connection.sock.sendfile(file)
    response = connection.getresponse()
    if response.status != http.client.CREATED:
        raise SystemExit(f"registry: {response.status} {response.read()!r}")


def _download(server: Server, blob: Blob, name: str) -> None:
    """Pull a blob, and discard it."""
    connection = http.client.HTTPConnection(server.host, server.port)
    connection.request("GET", f"/v2/{name}/blobs/{blob.digest}")
    response = connection.getresponse()
    left = blob.size
    buffer = bytearray(MIB)
    while count := response.readinto(buffer):
        left -= count
    if left or response.status != http.client.OK:
        raise SystemExit(f"registry: {response.status}, {left} bytes are missing")


# --- Table


def _table(results: Results, options: argparse.Namespace) -> str:
    """Format the medians, and the ratios of brolga to docker-registry."""
    names = list(results)
    lines = [
        f"blobs of {options.size / MIB:g} MiB, medians of {options.runs}, {os.cpu_count()} cores",
        "rates in MiB/s, cpu in ms of the server for each MiB, peaks of memory in MiB",
        "",
        f"{'':28}" + "".join(f"{name:>18}" for name in names) + f"{'ratio':>8}",
    ]
    for label in results[names[0]]:
        values = [median(results[name][label]) for name in names]
        ratio = f"{values[0] / values[1]:8.2f}" if len(values) > 1 and values[1] else ""
        lines.append(f"{label:28}" + "".join(f"{_figure(value):>18}" for value in values) + ratio)
    return "\n".join(lines)


def _figure(value: float) -> str:
    return f"{value:.2f}"


def _progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
