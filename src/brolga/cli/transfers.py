"""The blobs that a command moves: what their events have told, and the lines that show it.

`Transfers` takes each event with its time in seconds, and writes nothing.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import TYPE_CHECKING, Any, Final

from brolga.cli.figures import fit_columns, format_bytes, format_time
from brolga.cli.progress_line import Line, align
from brolga.errors import one_line
from brolga.spec import progress
from brolga.spec.value import replace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from brolga.spec.progress import BlobEvent, ProgressEvent

_WINDOW_S: Final = 5.0  # over which a rate is measured
_NOTE_S: Final = 3.0  # how long a retry is shown at least
_DIGITS: Final = 12  # of a digest, as docker shows it
_REASONS: Final = {
    "cut": "cut",
    "timeout": "stalled",
    "connect": "not connected",
    "response": "answered wrongly",
}


class _Meter:
    """The rate of a number that grows, over the last seconds."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque()

    def add(self, now_s: float, count: int) -> None:
        self._samples.append((now_s, count))
        while len(self._samples) > 2 and now_s - self._samples[1][0] > _WINDOW_S:  # noqa: PLR2004 - a rate has two ends
            self._samples.popleft()

    @property
    def rate(self) -> float:
        if not self._samples:
            return 0.0
        (start_s, start), (end_s, end) = self._samples[0], self._samples[-1]
        return max(0.0, (end - start) / (end_s - start_s)) if end_s > start_s else 0.0


class _Row:
    """One blob. Its `size` is in the same bytes as `read`: of a stream, those of its source."""

    def __init__(self, begun: progress.BlobBegun, now_s: float) -> None:
        self.is_stream = begun.size is None and begun.digest is None
        self.name = one_line(begun.title) or _short_name(begun)
        self.size = begun.source_size if self.is_stream else begun.size
        self.moved = self.read = 0
        self.kept = 0  # bytes that an earlier run has moved
        self.begun_s = now_s
        self.meter = _Meter()
        self.note = ""
        self.note_until_s = 0.0

    def line(self, now_s: float) -> Line:
        if now_s >= self.note_until_s and self.meter.rate:
            self.note = ""
        line = Line(self.name, self.read, self.size, self.meter.rate)
        if self.note:
            return replace(line, rate=None, more=(self.note,))
        sent = (f"{format_bytes(self.moved)} sent",) if self.is_stream else ()
        return replace(line, more=(*line.left, *sent))

    @property
    def sent(self) -> int:
        return max(0, self.moved - self.kept)

    @property
    def done(self) -> int:
        """The bytes of `read` that were moved or read by this run."""
        return self.read if self.is_stream else self.sent

    def result(self, now_s: float) -> str:
        amount = format_bytes(self.sent)
        if self.is_stream:
            amount = f"{format_bytes(self.read)} in, {amount} out,"
        return f"{amount} in {format_time(now_s - self.begun_s)}"


class Transfers:
    """All blobs of one command."""

    def __init__(self, now_s: float) -> None:
        self.begun_s = now_s
        self._rows: dict[int, _Row] = {}  # in flight, by key
        self._meter = _Meter()
        self._counts: Counter[str] = Counter()
        self._planned: tuple[int, int | None] = (0, 0)
        self._ended = 0  # bytes of what has ended
        self._sent = self._read = 0  # of these, what was moved
        self._kept = 0  # what an earlier run has moved

    def note(self, event: ProgressEvent, now_s: float) -> str:
        """Take note of an event; return the line that a log has of it, or ""."""
        if isinstance(event, progress.BlobsPlanned):
            count, size = self._planned
            self._planned = count + event.count, _sum((size, event.size))
            return ""
        if isinstance(event, progress.BlobBegun):
            self._rows[event.key] = _Row(event, now_s)
            self._counts["begun"] += 1
            return ""
        row = self._rows.get(event.key)
        if row is None:  # another thread's event came late
            return ""
        text = _HANDLERS[type(event)](self, row, event, now_s)
        return f"{row.name}: {text}" if text else ""

    def tick(self, now_s: float) -> None:
        """Measure the rates."""
        for row in self._rows.values():
            row.meter.add(now_s, row.read)
        self._meter.add(now_s, self._read + sum(row.done for row in self._rows.values()))

    @property
    def is_empty(self) -> bool:
        """Whether nothing has begun yet."""
        return not self._counts["begun"]

    def lines(self, columns: int, rows: int, now_s: float) -> list[str]:
        """Return at most so many lines: one for each blob in flight, and one for all together."""
        lines = [row.line(now_s) for row in self._rows.values()]
        shown = len(lines) if len(lines) < rows else max(0, rows - 2)
        texts = align([*lines[:shown], self._whole(now_s)], columns)
        if shown < len(lines):
            texts.insert(shown, f"and {len(lines) - shown} more")
        return [fit_columns(text, columns) for text in texts[-max(1, rows) :]]

    def whole(self, now_s: float) -> str:
        """Return the line for all blobs together, for a log."""
        return self._whole(now_s).unaligned

    def _whole(self, now_s: float) -> Line:
        done = self._ended + sum(row.read for row in self._rows.values())
        total = max(self._planned[0], self._counts["begun"])
        ended = self._counts["begun"] - len(self._rows)
        name = f"{ended} of {_count(total, 'blob')}"
        line = Line(name, done, self._size, self._meter.rate)
        retries = self._counts["retried"]
        told = (_count(retries, "retry", "retries"),) if retries else ()
        elapsed = (format_time(now_s - self.begun_s),) if line.whole is None else ()
        return replace(line, more=(*elapsed, *(f"{left} left" for left in line.left), *told))

    def summary(self, now_s: float) -> str:
        """Return the line that says what was moved."""
        counts, elapsed_s = self._counts, now_s - self.begun_s
        blobs, sent = _count(counts["done"], "blob"), format_bytes(self._sent)
        parts = [f"{blobs}: {sent}"]
        if self._read != self._sent:
            parts = [f"{blobs}: {format_bytes(self._read)} in, {sent} out"]
            if self._read and not self._kept:
                parts.append(f"ratio {self._sent / self._read:.2f}")
        parts.append(format_time(elapsed_s))
        if self._read and elapsed_s > 0:
            parts.append(f"{format_bytes(self._read / elapsed_s)}/s")
        words = {
            "skipped": "{} there already",
            "mounted": "{} mounted",
            "failed": "{} not finished",
        }
        parts += [text.format(counts[name]) for name, text in words.items() if counts[name]]
        if self._kept:
            parts.append(f"{format_bytes(self._kept)} kept")
        if counts["retried"]:
            parts.append(_count(counts["retried"], "retry", "retries"))
        return ", ".join(parts)

    @property
    def _size(self) -> int | None:
        """The bytes of all blobs; None if some are not known."""
        count, planned = self._planned
        begun = _sum((self._ended, *(row.size for row in self._rows.values())))
        if begun is None or (planned is None and self._counts["begun"] < count):
            return None
        return max(begun, planned or 0)

    def _move(self, row: _Row, event: progress.BlobMoved, _now_s: float) -> str:
        row.moved, row.read = event.moved, event.read
        if row.size is None and event.size is not None:
            row.size = event.size
        return ""

    def _resume(self, row: _Row, event: progress.BlobResumed, _now_s: float) -> str:
        row.kept = row.moved = event.kept
        self._kept += event.kept
        if not row.is_stream:
            row.read = event.kept
        row.meter = _Meter()
        return f"goes on after {format_bytes(event.kept)}"

    def _retry(self, row: _Row, event: progress.BlobRetried, now_s: float) -> str:
        self._counts["retried"] += 1
        reason, _, status = event.reason.partition(" ")
        what = f"answered {status}" if status else _REASONS.get(reason, reason)
        wait = f" in {event.delay_s:.0f} s" if event.delay_s >= 1 else ""
        row.note = f"{what} after {format_bytes(event.moved)}, going on{wait}"
        row.note_until_s = now_s + event.delay_s + _NOTE_S
        row.meter = _Meter()
        return row.note

    def _finish(self, row: _Row, event: progress.BlobDone, now_s: float) -> str:
        row.moved, row.read = event.moved, event.read
        self._end("done", event, row.read, row)
        return row.result(now_s)

    def _skip(self, row: _Row, event: progress.BlobSkipped, _now_s: float) -> str:
        self._end("skipped", event, row.size or 0)
        return "there already"

    def _mount(self, row: _Row, event: progress.BlobMounted, _now_s: float) -> str:
        self._end("mounted", event, row.size or 0)
        return f"mounted from {event.source}"

    def _fail(self, row: _Row, event: progress.BlobFailed, _now_s: float) -> str:
        row.moved = event.moved
        row.read = row.read if row.is_stream else event.moved
        self._end("failed", event, row.read, row)
        return f"stopped after {format_bytes(event.moved)}"

    def _end(self, how: str, event: BlobEvent, size: int, moved: _Row | None = None) -> None:
        self._counts[how] += 1
        self._ended += size
        if moved is not None:
            self._sent += moved.sent
            self._read += moved.done
        del self._rows[event.key]


_HANDLERS: Final[Mapping[type[ProgressEvent], Callable[[Transfers, _Row, Any, float], str]]] = {
    progress.BlobMoved: Transfers._move,  # noqa: SLF001 - the table of its class
    progress.BlobResumed: Transfers._resume,  # noqa: SLF001
    progress.BlobRetried: Transfers._retry,  # noqa: SLF001
    progress.BlobDone: Transfers._finish,  # noqa: SLF001
    progress.BlobSkipped: Transfers._skip,  # noqa: SLF001
    progress.BlobMounted: Transfers._mount,  # noqa: SLF001
    progress.BlobFailed: Transfers._fail,  # noqa: SLF001
}


def _short_name(begun: progress.BlobBegun) -> str:
    """Return the name of a blob without a title."""
    return begun.digest.encoded[:_DIGITS] if begun.digest else "stream"


def _count(number: int, one: str, several: str = "") -> str:
    return f"{number} {one if number == 1 else several or f'{one}s'}"


def _sum(numbers: Iterable[int | None]) -> int | None:
    """Return the sum, None if one of the numbers is not known."""
    total = 0
    for number in numbers:
        if number is None:
            return None
        total += number
    return total
