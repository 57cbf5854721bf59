"""Measure archives of images beside crane and skopeo: one pass over a pipe; one table.

    python benchmarks/archives.py                      medians of 5 on 1 GiB, about 10 minutes
    python benchmarks/archives.py --runs 1 --size 32MiB    does it all work?

Every run is a new process of the tool. brolga reads a pipe and keeps nothing of an upload
(`--window 0`); crane and skopeo read the file. Pushes go to a registry that discards (`sink`),
pulls come from docker-registry and go into a named pipe. Files are in memory if there is a
/dev/shm. A round runs each row with each tool, so that a noisy minute hits all alike.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import docker_registry
import process
from options import parse_size
from rows import clean_environment
from sink import Sink

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

_LAYERS = 4
_MIB = 1 << 20
_NAME = "example.com/bench/app:v1"
_FACTOR = 4.0  # a push is to be so much faster than each peer
_MEMORY_MIB = 64.0
_NOTES = """\
s       median wall time of a process, its start included
MB/s    10^6 bytes of the archive's uncompressed layers per second
CPU     user + system time of the process
memory  its highest peak of all runs, MiB
times   the tool's wall time / brolga's: more is better for brolga"""


@dataclass(frozen=True)
class Job:
    """One run of one tool: its command, what is fed to it by a pipe, where its output goes."""

    command: Sequence[str]
    feed: Sequence[Path] = ()
    drained: Path | None = None


@dataclass(frozen=True)
class Row:
    """A task, and the run of each tool that does it."""

    name: str
    jobs: Mapping[str, Job]


def main() -> None:
    """Measure what the options choose, and print it."""
    options = _options()
    tools = ["brolga", *(name for name in ("crane", "skopeo") if shutil.which(name))]
    with tempfile.TemporaryDirectory(prefix="bench-archives-", dir=options.work_dir) as name:
        work = Path(name)
        plain = _plain_archive(work, options.size)
        with Sink() as sink, docker_registry.running(work / "registry") as address:
            process.run(_brolga("push", str(plain), f"{address}/bench/app:v1"), cwd=work)
            packed = work / "packed.tar"
            pull = _brolga("pull", f"{address}/bench/app:v1", f"docker-archive:{packed}:{_NAME}")
            process.run(pull, cwd=work)
            rows = list(_rows(sink.host, address, plain, packed, work))
            runs = _measure(rows, tools, options.runs, sink.forget, clean_environment(work))
    print("\n".join(_table(rows, tools, runs, options)))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    shm = Path("/dev/shm")  # noqa: S108 - a tmpfs leaves the disk out of it
    add("--runs", type=int, default=5, help="median of so many (5)")
    add("--size", type=parse_size, default=1 << 30, help="of all layers, uncompressed (1GiB)")
    add("--work-dir", type=Path, default=shm if shm.is_dir() else None, help="for all files")
    return parser.parse_args()


# --- Rows


def _brolga(*words: str) -> list[str]:
    return [sys.executable, "-m", "brolga", *words]


def _rows(sink: str, registry: str, plain: Path, packed: Path, work: Path) -> Iterator[Row]:
    for title, archive in (("plain", plain), ("compressed", packed)):
        target = f"{sink}/bench/{title}:v1"
        skopeo = ["skopeo", "--insecure-policy", "--tmpdir", str(work), "copy", "--quiet"]
        skopeo += ["--dest-tls-verify=false", f"docker-archive:{archive}", f"docker://{target}"]
        jobs = {
            "brolga": Job(_brolga("push", "--window", "0", "-", target), feed=[archive]),
            "crane": Job(["crane", "push", str(archive), target]),
            "skopeo": Job(skopeo),
        }
        yield Row(f"push, {title}", jobs)
    pipe, source = work / "pipe", f"{registry}/bench/app:v1"
    os.mkfifo(pipe)
    skopeo = ["skopeo", "--insecure-policy", "--tmpdir", str(work), "copy", "--quiet"]
    skopeo += ["--src-tls-verify=false", f"docker://{source}", f"docker-archive:{pipe}:{_NAME}"]
    jobs = {
        "brolga": Job(_brolga("pull", source, f"docker-archive:{pipe}:{_NAME}"), drained=pipe),
        "crane": Job(["crane", "pull", source, str(pipe)], drained=pipe),
        "skopeo": Job(skopeo, drained=pipe),
    }
    yield Row("pull", jobs)


Runs = dict[tuple[str, str], "list[process.Usage] | str"]


def _measure(
    rows: Sequence[Row],
    tools: Sequence[str],
    count: int,
    forget: Callable[[], None],
    env: Mapping[str, str],
) -> Runs:
    """Run each row with each tool, `count` rounds; a failure is the last line of the tool."""
    usages: dict[tuple[str, str], list[process.Usage]] = defaultdict(list)
    failures: dict[tuple[str, str], str] = {}
    for number in range(count):
        for row in rows:
            for tool in tools:
                forget()  # or an image that exists is not sent
                try:
                    usages[row.name, tool].append(_run(row.jobs[tool], env))
                except process.Failed as failed:
                    failures[row.name, tool] = str(failed)
            print(f"{number + 1}/{count} {row.name}", file=sys.stderr, flush=True)
    return {**usages, **failures}


def _run(job: Job, env: Mapping[str, str]) -> process.Usage:
    if job.drained is None:
        return process.run(job.command, feed=job.feed, env=env)
    # skopeo opens the pipe for reading too, so `cat` sees no end, and is killed.
    with subprocess.Popen(["cat", job.drained], stdout=subprocess.DEVNULL) as drain:
        try:
            return process.run(job.command, env=env)
        finally:
            drain.kill()


# --- Inputs


def _plain_archive(work: Path, size: int) -> Path:
    """Write a docker archive of four layers, not compressed, as `docker save` and skopeo do."""
    tree, archive = work / "tree", work / "plain.tar"
    program = str(Path(__file__).with_name("inputs.py"))
    process.run([sys.executable, program, "tree", str(tree), str(size)])
    part, digests = tree.stat().st_size // _LAYERS, []
    with tarfile.open(archive, "w") as out, tree.open("rb") as source:
        for number in range(_LAYERS):
            layer = work / "layer"
            with tarfile.open(layer, "w") as tar:
                info = tarfile.TarInfo(f"part-{number}")
                info.size = part
                tar.addfile(info, source)
            with layer.open("rb") as file:
                digests.append(hashlib.file_digest(file, "sha256").hexdigest())
            out.add(layer, f"{digests[-1]}.tar")
            layer.unlink()
        diff_ids = [f"sha256:{digest}" for digest in digests]
        rootfs = {"type": "layers", "diff_ids": diff_ids}
        config = json.dumps({"architecture": "amd64", "os": "linux", "rootfs": rootfs}).encode()
        name = f"{hashlib.sha256(config).hexdigest()}.json"
        layers = [f"{digest}.tar" for digest in digests]
        saved = [{"Config": name, "RepoTags": [_NAME], "Layers": layers}]
        for path, data in ((name, config), ("manifest.json", json.dumps(saved).encode())):
            info = tarfile.TarInfo(path)
            info.size = len(data)
            out.addfile(info, io.BytesIO(data))
    tree.unlink()
    return archive


# --- Table


def _table(
    rows: Sequence[Row], tools: Sequence[str], runs: Runs, options: argparse.Namespace
) -> Iterator[str]:
    """Yield the lines: medians, and targets."""
    yield (
        f"a docker archive of {_LAYERS} layers, {options.size / _MIB:g} MiB; medians of "
        f"{options.runs}, {os.cpu_count()} cores"
    )
    yield ""
    yield f"{'':26}" + "".join(f"{title:>9}" for title in ("s", "MB/s", "CPU", "memory", "times"))
    for row in rows:
        for tool in tools:
            yield f"{row.name:18}{tool:8}" + _cells(runs[row.name, tool], options.size, runs, row)
    yield ""
    yield _NOTES
    yield ""
    yield from _targets(tools, runs)


def _cells(usages: list[process.Usage] | str, size: int, runs: Runs, row: Row) -> str:
    if isinstance(usages, str):
        return f"  failed: {usages}"
    wall_s, mine = _wall_s(usages), runs[row.name, "brolga"]
    return (
        f"{wall_s:9.2f}{size / wall_s / 1e6:9.0f}{median(usage.cpu_s for usage in usages):9.2f}"
        f"{max(usage.rss for usage in usages) / _MIB:9.0f}"
        + (f"{wall_s / _wall_s(mine):9.2f}" if isinstance(mine, list) else "")
    )


def _targets(tools: Sequence[str], runs: Runs) -> Iterator[str]:
    """Yield the targets of a push, and whether it reaches them."""
    mine = runs["push, plain", "brolga"]
    if isinstance(mine, str):
        return
    for tool in tools[1:]:
        usages = runs["push, plain", tool]
        if isinstance(usages, list):
            times = _wall_s(usages) / _wall_s(mine)
            verdict = "reached" if times >= _FACTOR else "not reached"
            yield f"push, plain, {_FACTOR:g} times as fast as {tool}: {verdict}, {times:.1f}"
    peak = max(usage.rss for usage in mine) / _MIB
    verdict = "reached" if peak < _MEMORY_MIB else "not reached"
    yield f"push, plain, less than {_MEMORY_MIB:g} MiB: {verdict}, {peak:.0f}"


def _wall_s(usages: Sequence[process.Usage]) -> float:
    return median(usage.wall_s for usage in usages)


if __name__ == "__main__":
    main()
