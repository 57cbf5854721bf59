"""Measure brolga's uploads beside what limits them and beside other uploaders: one table.

    python benchmarks/stream.py                         everything, about 15 minutes on 2 cores
    python benchmarks/stream.py --quick                 small inputs, one run: does it all work?
    python benchmarks/stream.py --rows 'tree/*' 'start/*'

One round runs each row once, so that a noisy minute of the machine hits all rows alike. Only
`--work-dir` and `--json` leave files. This process must stay small (see process).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import signal
import sys
import tempfile
from collections import defaultdict
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, NoReturn

import inputs
import kernels
import process
import report
import rows
from options import parse_size
from sink import Sink

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_MIB = 1 << 20
_OF_TREE = frozenset({"read", "memory"})


@dataclass
class Results:
    """The samples by row and label, and the rows that failed."""

    samples: dict[str, dict[str, list[rows.Sample]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )
    failures: dict[str, str] = field(default_factory=dict)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure uploads: one table.", allow_abbrev=False)
    add = parser.add_argument
    add("--size", type=parse_size, help="of each input (1GiB)")
    add("--runs", type=int, help="of each row; medians are printed (5)")
    add("--sample", type=parse_size, help="bytes of the input that codecs alone are given (256MiB)")
    add("--rows", nargs="+", default=["*"], metavar="PATTERN", help="SECTION/ROW, e.g. 'tree/*'")
    add("--quick", action="store_true", help="64MiB, one run, a sample of 32MiB")
    add("--memory-factor", type=int, help="the second memory row streams so many inputs (16)")
    add("--brolga", default=str(Path(sys.executable).with_name("brolga")), help="the command")
    add("--peer-python", default=sys.executable, help="has the packages oras and dxf (this one)")
    add("--work-dir", type=Path, help="keep the inputs here and use them again")
    add("--json", type=Path, metavar="FILE", help="write every sample as well")
    options = parser.parse_args()
    defaults = _defaults(quick=options.quick)
    for name, value in defaults.items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    return options


def _defaults(*, quick: bool) -> dict[str, int]:
    if quick:
        return {"size": 64 * _MIB, "runs": 1, "sample": 32 * _MIB, "memory_factor": 4}
    return {"size": 1024 * _MIB, "runs": 5, "sample": 256 * _MIB, "memory_factor": 16}


def main() -> None:
    """Measure what the options choose and print it."""
    options = _options()
    before = os.getloadavg()[0]
    process.compile_brolga()
    if options.work_dir:
        options.work_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=options.work_dir) as work, Sink() as sink:
        setup = _setup(options, sink, Path(work))
        chosen = _choose(list(rows.every(setup)), options.rows)
        _make_inputs(setup, chosen)
        results = _measure([row for row in chosen if isinstance(row, rows.Row)])
    lines = list(_lines(chosen, results))
    targets = list(report.targets(lines, _starts(results)))
    print("\n".join(_text(options, before, lines, targets)))
    if options.json:
        _write_json(options.json, lines, targets, results)


def _setup(options: argparse.Namespace, sink: Sink, work: Path) -> rows.Setup:
    directory = options.work_dir or work
    return rows.Setup(
        sink=sink,
        inputs={kind: (directory / f"{kind}-{options.size}").resolve() for kind in inputs.kinds()},
        work=work.resolve(),
        size=options.size,
        brolga=options.brolga,
        peer_python=options.peer_python,
        runs=options.runs,
        starts=options.runs * 4,
        sample=options.sample,
        memory_factor=options.memory_factor,
        env=rows.clean_environment(work.resolve()),
    )


def _choose(
    every: Sequence[rows.Row | rows.Skipped], patterns: Sequence[str]
) -> list[rows.Row | rows.Skipped]:
    """Return the rows that match a pattern; exit with all names if no row does."""
    keys = [rows.key(row) for row in every]
    chosen = [
        row
        for row, key in zip(every, keys, strict=True)
        if any(fnmatch(key, pattern) for pattern in patterns)
    ]
    if not chosen:
        raise SystemExit("stream: no such row. The rows are:\n  " + "\n  ".join(keys))
    return chosen


def _make_inputs(setup: rows.Setup, chosen: Sequence[rows.Row | rows.Skipped]) -> None:
    """Write the inputs that the rows read, in a process of its own, and what they prepare."""
    sections = {"tree" if row.section in _OF_TREE else row.section for row in chosen}
    for kind, path in setup.inputs.items():
        if kind in sections and not path.exists():
            _progress(f"making {setup.size >> 20} MiB of {kind}")
            part = setup.work / f"{kind}.part"
            program = str(Path(__file__).with_name("inputs.py"))
            process.run([sys.executable, program, kind, str(part), str(setup.size)])
            part.rename(path)
    for row in chosen:
        if isinstance(row, rows.Row) and row.prepare:
            row.prepare()


def _measure(chosen: Sequence[rows.Row]) -> Results:
    """Run every row once a round until each has had its runs."""
    results = Results()
    rounds = max((row.runs for row in chosen), default=0)
    for number in range(rounds):
        for row in chosen:
            key = rows.key(row)
            if number >= row.runs or key in results.failures:
                continue
            try:
                samples = row.run()
            except (process.Failed, KeyError, OSError, ValueError) as problem:
                results.failures[key] = f"failed: {problem}".replace("\n", " ")
                _progress(f"{number + 1}/{rounds} {key}: {results.failures[key]}")
                continue
            for label, sample in samples.items():
                results.samples[key][label].append(sample)
            _progress(f"{number + 1}/{rounds} {key}")
    return results


def _lines(chosen: Sequence[rows.Row | rows.Skipped], results: Results) -> Iterator[report.Line]:
    """Yield the table's lines in its order."""
    timings: dict[str, kernels.Timing] = {}
    for row in chosen:
        samples = results.samples.get(rows.key(row))
        if isinstance(row, rows.Skipped):
            yield report.Line(row.section, row.name, note=f"skipped: {row.reason}")
        elif note := results.failures.get(rows.key(row)):
            yield report.Line(row.section, row.name, note=note)
        elif not samples:
            continue
        elif row.name == "kernels":
            timings = report.median_timings(samples)
            yield from report.kernel_lines(row.section, timings)
        elif row.section == "start":
            yield report.start_line(row, samples[row.name])
        else:
            limit_s = kernels.limit(timings, *row.limit) if row.limit and timings else None
            bare = results.samples.get(f"{row.section}/{row.bare}".replace(" ", "-"), {})
            yield report.push_line(row, samples[row.name], limit_s, bare.get(row.bare))


def _starts(results: Results) -> dict[str, float]:
    """Return the median seconds of each program that only starts."""
    return {
        label: median(sample.wall_s for sample in runs)
        for key, samples in results.samples.items()
        if key.startswith("start/")
        for label, runs in samples.items()
    }


def _text(
    options: argparse.Namespace,
    load: float,
    lines: Sequence[report.Line],
    targets: Sequence[report.Target],
) -> Iterator[str]:
    """Yield the output: the machine, the table, its legend, the targets."""
    yield f"{_machine()}; {_versions()}"
    yield (
        f"inputs of {options.size / _MIB:g} MiB, medians of {options.runs} (start:"
        f" {options.runs * 4}, memory: 1); plain http to 127.0.0.1; load before the start"
        f" {load:.2f}"
    )
    yield ""
    titles = inputs.kinds() | {
        "read": "the file tree as a blob of the registry, into /dev/null",
        "memory": "the file tree through a pipe, once and many times over",
        "start": "programs that do next to nothing, wall time",
    }
    yield from report.table(lines, titles)
    yield ""
    yield report.LEGEND
    floor = process.floor() / _MIB
    yield f"        (a peak under {floor:.1f} MiB cannot be measured: it is that of this program)"
    yield ""
    yield "Targets"
    yield from (f"  {target}" for target in targets)


def _machine() -> str:
    """Name the processor, its cores and the system."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        found = re.search(r"model name\s*: (.*)", cpuinfo.read_text())
        model = found[1] if found else model
    return f"{model}, {kernels.CORES} cores, {platform.system()} {platform.release()}"


def _versions() -> str:
    """Name the Python and the peers that are on PATH."""
    versions = [f"Python {platform.python_version()}"]
    for command in (["crane", "version"], ["skopeo", "--version"], ["oras", "version"]):
        if shutil.which(command[0]):
            words = process.run(command).stdout.split("\n")[0]
            versions.append(words if command[0] in words else f"{command[0]} {words}")
    return ", ".join(versions)


def _write_json(
    path: Path,
    lines: Sequence[report.Line],
    targets: Sequence[report.Target],
    results: Results,
) -> None:
    """Write the lines, the targets and every sample."""
    samples = {
        key: {label: [asdict(sample) for sample in runs] for label, runs in labels.items()}
        for key, labels in results.samples.items()
    }
    content = {
        "machine": f"{_machine()}; {_versions()}",
        "lines": [asdict(line) for line in lines],
        "targets": [asdict(target) for target in targets],
        "samples": samples,
        "failures": results.failures,
    }
    path.write_text(json.dumps(content, indent=1) + "\n")


def _progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _terminated(*_: object) -> NoReturn:
    sys.exit(143)  # unwinds, so that the sink and the files are removed


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _terminated)
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
