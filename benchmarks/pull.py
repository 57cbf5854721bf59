"""Measure reads of blobs and images beside other tools, over fast and slow links; one table.

    python benchmarks/pull.py                       everything, about 40 minutes on 2 cores
    python benchmarks/pull.py --runs 1 --size 64MiB --memory-size 0    does it all work?
    python benchmarks/pull.py --rows 'plain/*' '*/blob/*'

All tools read from one docker-registry; slow links are proxies of ours in front of it (slow_proxy).
A round runs each row once, so that a noisy minute hits all alike. A row whose time a rate decides
is run once. Files are in memory if there is a /dev/shm, but for the large ones of `--memory-size`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
from collections import defaultdict
from contextlib import ExitStack
from fnmatch import fnmatch
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, NoReturn

import docker_registry
import process
import pull_rows
import pull_targets
import slow_proxy
from options import parse_size
from rows import clean_environment

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pull_rows import Row

_MIB = 1 << 20
_NOTES = """\
s       median wall time of a process from start to exit
MB/s    10^6 bytes of the image's blobs per second
CPU     user + system time of the process; registry and proxy use the same cores
times   the tool's wall time / brolga's: more is better for brolga
blob    into /dev/null; pull: into an OCI layout; export: a tar into /dev/null; extract: files in a
        directory, for which umoci alone reads a layout. curl verifies nothing, oras-py neither.
links   a rate is that of each connection, a round trip also delays its beginning
memory  the highest peak of all runs, MiB"""


def main() -> None:
    """Measure what the options choose, and print it."""
    options = _options()
    before = os.getloadavg()[0]
    process.compile_brolga()
    with ExitStack() as stack:
        enter = stack.enter_context
        work = Path(enter(tempfile.TemporaryDirectory(prefix="bench-pull-", dir=options.work_dir)))
        disk = Path(enter(tempfile.TemporaryDirectory(prefix="bench-pull-", dir=options.disk)))
        layers = _make_images(work, options.size, options.memory_size)
        registry = enter(docker_registry.running(work / "registry"))
        addresses = {}
        for link in pull_rows.LINKS:
            proxy = slow_proxy.running(registry, rate=link.rate, round_trip_s=link.round_trip_s)
            addresses[link.name] = enter(proxy) if link.is_slow else registry
        setup = pull_rows.Setup(
            addresses, layers, work / "output", disk / "output", options.brolga, options.peer_python
        )
        chosen = _choose(list(pull_rows.every(setup)), options.rows)
        if any(row.task == "extract" for row in chosen):
            pull_rows.prepare(setup)
        usages, failures = _measure(chosen, options.runs, clean_environment(work))
    if options.json:
        options.json.write_text(json.dumps(_samples(usages), indent=1) + "\n")
    for line in _table(chosen, usages, failures, options, before):
        print(line)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    shm = Path("/dev/shm")  # noqa: S108 - a tmpfs leaves the disk out of it
    add("--runs", type=int, default=5, help="median of so many (5)")
    add("--size", type=parse_size, default=1 << 30, help="of a blob, of an image's files (1GiB)")
    size = "of the blob of the last rows, 0 for none (16GiB); what is pulled is written to --disk"
    add("--memory-size", type=_size_or_0, default=16 << 30, help=size)
    add("--rows", nargs="+", default=["*"], metavar="PATTERN", help="LINK/TASK/TOOL, '*/blob/*'")
    add("--brolga", default=str(Path(sys.executable).with_name("brolga")), help="the command")
    add("--peer-python", default=sys.executable, help="has the packages oras and dxf (this one)")
    add("--work-dir", type=Path, default=shm if shm.is_dir() else None, help="for all files")
    add("--disk", type=Path, help="for the pull of --memory-size (that of temporary files)")
    add("--json", type=Path, metavar="FILE", help="write every sample as well")
    return parser.parse_args()


def _size_or_0(text: str) -> int:
    return 0 if text == "0" else parse_size(text)


def _make_images(
    work: Path, size: int, memory_size: int
) -> Mapping[str, Sequence[tuple[str, int]]]:
    """Write the registry's directory, by programs of their own: this one must stay small."""
    here, tree = Path(__file__).parent, work / "tree"
    process.run([sys.executable, str(here / "inputs.py"), "tree", str(tree), str(size)])
    command = [sys.executable, str(here / "pull_images.py"), str(tree), str(work / "registry")]
    made = process.run([*command, pull_rows.NAME, str(memory_size)])
    tree.unlink()
    layers: Mapping[str, Sequence[tuple[str, int]]] = json.loads(made.stdout)
    return layers


def _choose(every: Sequence[Row], patterns: Sequence[str]) -> list[Row]:
    """Return the rows that match a pattern; exit with all names if no row does."""
    chosen = [row for row in every if any(fnmatch(row.key, pattern) for pattern in patterns)]
    if not chosen:
        names = "\n  ".join(row.key for row in every)
        raise SystemExit(f"pull: no such row. The rows are:\n  {names}")
    return chosen


def _measure(
    chosen: Sequence[Row], runs: int, env: Mapping[str, str]
) -> tuple[pull_targets.Usages, dict[Row, str]]:
    """Run every row once a round until each has had its runs."""
    usages: dict[Row, list[process.Usage]] = defaultdict(list)
    failures: dict[Row, str] = {}
    for number in range(runs):
        for row in chosen:
            if row in failures or (row.once and number):
                continue
            try:
                usages[row].append(_run(row, env))
                told = f"{usages[row][-1].wall_s:.2f} s"
            except process.Failed as failed:
                told = failures[row] = f"failed: {failed}"
            print(f"{number + 1}/{runs} {row.key}: {told}", file=sys.stderr, flush=True)
    return usages, failures


def _run(row: Row, env: Mapping[str, str]) -> process.Usage:
    """Run a tool once; remove what it wrote. Raises process.Failed."""
    try:
        return process.run(row.command, env=env, discard=True)
    finally:
        if row.output:
            shutil.rmtree(row.output, ignore_errors=True)


def _table(
    chosen: Sequence[Row],
    usages: pull_targets.Usages,
    failures: Mapping[Row, str],
    options: argparse.Namespace,
    load: float,
) -> Iterator[str]:
    """Yield the lines: medians, and targets."""
    yield (
        f"{options.size / _MIB:g} MiB of files in a docker-registry; medians of {options.runs}, "
        f"with a rate 1; {os.cpu_count()} cores, load before {load:.2f}"
    )
    yield ""
    yield f"{'':46}" + "".join(f"{title:>9}" for title in ("s", "MB/s", "CPU", "memory", "times"))
    task = ""
    mine: Sequence[process.Usage] = ()
    for row in chosen:
        if row.tool == "brolga" or row.title != task:
            mine = usages.get(row, ())
        title, task = (row.title if row.title != task else ""), row.title
        cells = f"  {failures[row]}" if row in failures else _cells(row, usages[row], mine)
        yield f"{title:32}{row.tool:14}{cells}"
    yield ""
    yield _NOTES
    yield f"        (a peak under {process.floor() / _MIB:.0f} MiB cannot be measured)"
    yield ""
    yield from pull_targets.targets(usages)


def _cells(row: Row, usages: Sequence[process.Usage], mine: Sequence[process.Usage]) -> str:
    wall_s = median(usage.wall_s for usage in usages)
    times = wall_s / median(usage.wall_s for usage in mine) if mine else None
    return (
        f"{wall_s:9.2f}{row.size / wall_s / 1e6:9.0f}{median(u.cpu_s for u in usages):9.2f}"
        f"{max(usage.rss for usage in usages) / _MIB:9.0f}"
        + (f"{times:9.2f}" if times and row.tool != "brolga" else "")
    )


def _samples(usages: pull_targets.Usages) -> dict[str, list[dict[str, float]]]:
    return {
        row.key: [{"wall_s": u.wall_s, "cpu_s": u.cpu_s, "rss": u.rss} for u in runs]
        for row, runs in usages.items()
    }


def _terminated(*_: object) -> NoReturn:
    sys.exit(143)  # unwinds, so that the registry, the proxies and the files are removed


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _terminated)
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
