"""The targets of benchmarks/pull.py, and whether they are reached."""

from __future__ import annotations

from collections import defaultdict
from statistics import median
from typing import TYPE_CHECKING

from pull_rows import CONNECTIONS, LIMITS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from process import Usage
    from pull_rows import Row

    Usages = Mapping[Row, Sequence[Usage]]
    Tools = Mapping[str, float]

_MIB = 1 << 20
_BARE_FACTOR = 1.2
_ONE_FACTOR = 3.0
_SHARE = 0.9
_MEMORY_MIB = 96.0


def targets(usages: Usages) -> Iterator[str]:
    """Yield a line for each target that was measured."""
    walls: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)
    for row, runs in usages.items():
        walls[row.link.name, row.task][row.tool] = median(usage.wall_s for usage in runs)
    for (link, task), tools in walls.items():
        if "brolga" in tools:
            # A pull moves the bytes of `blob`, and its limits are those.
            limits = walls.get((link, "blob"), {})
            yield from _of_limits(f"{link}: {task}", tools["brolga"], limits, task)
            yield from _of_peers(f"{link}: {task}", tools)
    peaks = [
        (max(usage.rss for usage in runs) / _MIB, row.title)
        for row, runs in usages.items()
        if row.tool == "brolga"
    ]
    if peaks:
        worst, title = max(peaks)
        yield _line(
            f"memory under {_MEMORY_MIB:g} MiB", worst / _MEMORY_MIB, f"{worst:.0f}, {title}"
        )


def _of_limits(title: str, mine: float, limits: Tools, task: str) -> Iterator[str]:
    """Compare with the bare loop, with one curl and with several."""
    if task not in {"blob", "pull"}:
        return
    bare, one, several = (limits.get(name) for name in LIMITS)
    if title.startswith("plain") and bare:
        text = f"{title} within {_BARE_FACTOR} x recv + sha256"
        yield _line(text, mine / bare / _BARE_FACTOR, f"{mine / bare:.2f} x")
    if "MB/s" in title and one and several:
        text = f"{title} at least {_ONE_FACTOR:g} x one connection"
        yield _line(text, _ONE_FACTOR * mine / one, f"{one / mine:.2f} x")
        text = f"{title} at least {_SHARE} of {CONNECTIONS} x curl"
        yield _line(text, _SHARE * mine / several, f"{several / mine:.2f}")


def _of_peers(title: str, tools: Tools) -> Iterator[str]:
    peers = {tool: wall_s for tool, wall_s in tools.items() if tool not in {*LIMITS, "brolga"}}
    if peers:
        best = min(peers, key=lambda tool: peers[tool])
        times = peers[best] / tools["brolga"]
        yield _line(f"{title} faster than every peer", 1 / times, f"{times:.2f} x, {best}")


def _line(text: str, used: float, detail: str) -> str:
    """Return one line; `used` is the share of what is allowed."""
    verdict = "reached" if used <= 1 else f"short by {used - 1:.0%}"
    return f"{text:58} {verdict:14} {detail}"
