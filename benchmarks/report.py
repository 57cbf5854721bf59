"""Turn samples into the table and the list of targets."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

import kernels

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rows import Row, Sample

_MIB = 1 << 20
_WIDTH = 24
_COLUMNS = ("wall", "speed", "CPU", "sink", "feed", "memory", "ratio", "wall /", "wall /")
_UNITS = ("s/GiB", "MB/s", "s/GiB", "s/GiB", "s/GiB", "MiB", "", "limit", "bare")

LEGEND = """\
wall    median time from start to exit of a whole process; of kernels, in one process
speed   10^6 bytes of uncompressed input per second
CPU     user + system time of that process; sink and feed: the registry that discards, and the
        `cat` that fills the pipe, which share the cores with it
memory  the highest peak resident size of all runs; MiB = 2^20 bytes
ratio   bytes that reached the registry / bytes of input
limit   max(serial sha256, CPU of read + sha256 in + codec + sha256 out + socket write / cores)
bare    the bare loop: a program that only reads a pipe, hashes, compresses, hashes and sends, in
        threads, or that only receives and hashes; with the same feeder, registry and cores"""

# How much slower a push from a pipe, or a read, may be than the bare loop, a push of a file than
# `oras blob push`; how much faster than crane; how much memory; how long `version` may take.
_BARE_FACTORS = {
    "brolga gzip pipe": 1.15,
    "brolga zstd pipe": 1.15,
    "brolga none pipe": 1.25,
    "brolga blob": 1.2,
}
_ORAS_FACTOR = 1.0
_CRANE_FACTOR = 3.8
_MEMORY_MIB = 96.0  # README.md
_START_MS = 150.0


@dataclass(frozen=True)
class Line:
    """One line of the table: medians, per GiB of input; None is printed as a dash."""

    section: str
    label: str
    wall_s: float | None = None
    speed_mb_s: float | None = None
    cpu_s: float | None = None
    sink_s: float | None = None
    feed_s: float | None = None
    memory_mib: float | None = None
    ratio: float | None = None
    times_limit: float | None = None
    times_bare: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Target:
    """A target; `missed` is by how much (0.1 is 10 %), None if not measured."""

    text: str
    missed: float | None
    detail: str

    def __str__(self) -> str:
        """Return one line."""
        if self.missed is None:
            return f"{self.text:52} not measured"
        verdict = "reached" if self.missed <= 0 else f"short by {self.missed:.0%}"
        return f"{self.text:52} {verdict:14} {self.detail}"


def push_line(
    row: Row, samples: Sequence[Sample], limit_s: float | None, bare: Sequence[Sample] | None
) -> Line:
    """Return the line of a row whose samples moved bytes; `bare` are those of its bare loop."""
    bare_s = (
        median(sample.wall_s for sample in bare) / (bare[0].bytes_in / kernels.GIB)
        if bare
        else None
    )
    size = samples[0].bytes_in / kernels.GIB
    wall_s = median(sample.wall_s for sample in samples) / size
    return Line(
        row.section,
        row.name,
        wall_s,
        kernels.GIB / wall_s / 1e6,
        median(sample.cpu_s for sample in samples) / size,
        median(sample.sink_cpu_s for sample in samples) / size,
        median(sample.feed_cpu_s for sample in samples) / size or None,
        max(sample.rss for sample in samples) / _MIB,
        median(sample.bytes_out for sample in samples) / samples[0].bytes_in,
        wall_s / limit_s if limit_s else None,
        wall_s / bare_s if bare_s else None,
    )


def start_line(row: Row, samples: Sequence[Sample]) -> Line:
    """Return the line of a program that only starts: its wall time is the note."""
    milliseconds = 1000 * median(sample.wall_s for sample in samples)
    memory = max(sample.rss for sample in samples) / _MIB
    return Line(row.section, row.name, memory_mib=memory, note=f"{milliseconds:.0f} ms")


def median_timings(samples: Mapping[str, Sequence[Sample]]) -> dict[str, kernels.Timing]:
    """Return each kernel's medians."""
    return {
        label: kernels.Timing(
            median(sample.wall_s for sample in runs),
            median(sample.cpu_s for sample in runs),
            runs[0].bytes_out / runs[0].bytes_in,
        )
        for label, runs in samples.items()
    }


def kernel_lines(section: str, timings: Mapping[str, kernels.Timing]) -> Iterator[Line]:
    """Yield the kernels of one input, then the limits that follow from them."""
    for label, timing in timings.items():
        speed = kernels.GIB / timing.wall_s / 1e6
        ratio = timing.ratio if "core" in label else None
        yield Line(section, label, timing.wall_s, speed, timing.cpu_s, ratio=ratio)
    for compression in kernels.LIMIT_CODECS:
        for read in ("pipe", "file"):
            limit_s = kernels.limit(timings, compression, f"{read} read")
            label = f"LIMIT {compression} {read}"
            yield Line(section, label, limit_s, kernels.GIB / limit_s / 1e6)


def table(lines: Sequence[Line], titles: Mapping[str, str]) -> Iterator[str]:
    """Yield the table's text lines, a title before each section."""
    yield f"{'':{_WIDTH}}" + "".join(f"{name:>8}" for name in _COLUMNS)
    yield f"{'':{_WIDTH}}" + "".join(f"{unit:>8}" for unit in _UNITS)
    section = ""
    for line in lines:
        if line.section != section:
            section = line.section
            yield ""
            yield f"{section}: {titles.get(section, '')}"
        yield f"  {line.label:{_WIDTH - 2}}{_cells(line)}".rstrip()


def _cells(line: Line) -> str:
    if line.note and line.memory_mib is None:
        return f"  {line.note}"
    cells = [
        line.note or _cell(line.wall_s, 2),
        _cell(line.speed_mb_s, 0),
        *(_cell(value, 2) for value in (line.cpu_s, line.sink_s, line.feed_s)),
        _cell(line.memory_mib, 1),
        _cell(line.ratio, 3),
        _cell(line.times_limit, 2),
        _cell(line.times_bare, 2),
    ]
    return "".join(f"{cell:>8}" for cell in cells)


def _cell(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def targets(lines: Sequence[Line], starts: Mapping[str, float]) -> Iterator[Target]:
    """Yield the targets; `starts` are seconds by program."""
    for label, factor in _BARE_FACTORS.items():
        yield _bare_target(lines, label, factor)
    yield _oras_target(lines)
    yield _crane_target(lines)
    memory = [line for line in lines if line.section == "memory" and line.memory_mib]
    for line in memory:
        yield _memory_target(line)
    version = starts.get("brolga version")
    detail = "" if version is None else f"{1000 * version:.0f} ms"
    missed = None if version is None else 1000 * version / _START_MS - 1
    yield Target(f"`brolga version` under {_START_MS:.0f} ms", missed, detail)


def _bare_target(lines: Sequence[Line], label: str, factor: float) -> Target:
    """Judge the worst of the rows of one name, and count the others."""
    text = f"{label}: wall within {factor} x the bare loop"
    rows = {
        line.section: line.times_bare
        for line in lines
        if line.label == label and line.times_bare is not None
    }
    if not rows:
        return Target(text, None, "")
    worst = max(rows, key=lambda name: rows[name])
    good = sum(times <= factor for times in rows.values())
    detail = f"{good} of {len(rows)} rows; the worst {rows[worst]:.2f} x ({worst})"
    return Target(text, rows[worst] / factor - 1, detail)


def _oras_target(lines: Sequence[Line]) -> Target:
    text = "brolga none file: not slower than `oras blob push`"
    walls = {line.label: line.wall_s for line in lines if line.section == "tree"}
    ours, oras = walls.get("brolga none file"), walls.get("oras blob none file")
    if not ours or not oras:
        return Target(text, None, "")
    return Target(text, ours / oras / _ORAS_FACTOR - 1, f"{ours:.2f} s against {oras:.2f} s")


def _crane_target(lines: Sequence[Line]) -> Target:
    text = f"file tree: at least {_CRANE_FACTOR:.1f} x faster than crane"
    speeds = {line.label: line.speed_mb_s for line in lines if line.section == "tree"}
    ours, crane = speeds.get("brolga gzip pipe"), speeds.get("crane gzip pipe")
    if not ours or not crane:
        return Target(text, None, "")
    detail = f"{ours / crane:.1f} x ({ours:.0f} MB/s against {crane:.0f}), both gzip from a pipe"
    return Target(text, 1 - ours / crane / _CRANE_FACTOR, detail)


def _memory_target(line: Line) -> Target:
    memory = line.memory_mib or 0.0
    text = f"{line.label.removeprefix('brolga ')}: peak memory under {_MEMORY_MIB:.0f} MiB"
    return Target(text, memory / _MEMORY_MIB - 1, f"{memory:.1f} MiB")
