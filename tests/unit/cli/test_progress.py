"""cli.progress: lines that a terminal redraws, and lines for a log."""

from __future__ import annotations

import io
import os
import re
import threading
from typing import TYPE_CHECKING

import pytest
from tests.screen import Screen, open_terminal, set_terminal_size

from brolga.cli import progress as progress_module
from brolga.cli.output import eprint
from brolga.cli.progress import show_progress
from brolga.spec.digest import Digest
from brolga.spec.progress import BlobBegun, BlobDone, BlobMoved, BlobRetried, BlobSkipped

if TYPE_CHECKING:
    from collections.abc import Callable

    from brolga.spec.progress import ProgressEvent

    Emit = Callable[[ProgressEvent], object]

MB = 10**6
DIGEST = Digest.parse(f"sha256:{64 * '1'}")
BEGUN = BlobBegun(1, "push", DIGEST, "", 100 * MB, None, "a.tar")
HALF = BlobMoved(1, 50 * MB, 50 * MB, None)
CUT = BlobRetried(1, "cut", 50 * MB, 0.5)
DONE = BlobDone(1, DIGEST, 100 * MB, 100 * MB)
SUMMARY = "1 blob: 100.0 MB, 0:00:00"


def stopped_clock() -> float:
    """Return one time: no rate can be measured."""
    return 0.0


@pytest.fixture(autouse=True)
def _terminal_type(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a terminal that can move its cursor."""
    monkeypatch.setenv("TERM", "xterm")


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at the events without a pause."""
    monkeypatch.setattr(progress_module, "_TICK_S", 0.001)


class _Reader:
    """What a terminal shows, read from its other side."""

    def __init__(self, number: int, columns: int = 80, rows: int = 24) -> None:
        self._number = number
        self.screen = Screen(columns, rows)

    def wait_for(self, pattern: str) -> list[str]:
        """Read until the screen has the text, and is drawn to its end; return the lines."""
        raw = ""
        while not (re.search(pattern, self.screen.text) and raw.endswith(("A", "\r\n"))):
            raw = os.read(self._number, 65536).decode()
            self.screen.write(raw.replace("\r\n", "\n"))
        return self.screen.text.split("\n")


@pytest.mark.usefixtures("fast")
def test_show_progress_draws_lines_below_empty_one_on_terminal() -> None:
    """The cursor waits on the empty line; the summary is all that is left."""
    with open_terminal() as (out, number):
        reader = _Reader(number)
        with show_progress("auto", out, stopped_clock) as emit:
            emit(BEGUN)
            emit(HALF)
            first, blob, whole = reader.wait_for("50.0")
            assert first == ""
            assert blob.startswith("a.tar             [====")
            assert "]   50%   50.0 of 100.0 MB" in blob
            assert whole.startswith("0 of 1 blob       [====")
            assert (reader.screen.row, reader.screen.column) == (0, 0)
            emit(CUT)
            told = reader.wait_for("cut")
            assert "  cut after 50.0 MB, going on" in told[1]
            emit(DONE)
        assert reader.wait_for("1 blob:") == [f"{SUMMARY}, 1 retry"]


@pytest.mark.usefixtures("fast")
def test_messages_do_not_tear_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """They stay above the lines, which are drawn again below."""
    with open_terminal() as (out, number):
        monkeypatch.setattr("sys.stderr", out)
        reader = _Reader(number)
        with show_progress("auto", clock=stopped_clock) as emit:
            emit(BEGUN)
            reader.wait_for("a.tar")
            eprint("warning: a mirror")
            assert reader.wait_for(r"mirror\n\na\.tar .*\n0 of 1")[0] == "warning: a mirror"
            out.write("tar: from another program\n")  # which knows nothing of the lines
            out.flush()
            lines = reader.wait_for(r"program\n\na\.tar .*\n0 of 1")
            assert lines[:2] == ["warning: a mirror", "tar: from another program"]
            assert len(lines) == 5
            emit(BlobSkipped(1))
        lines = reader.wait_for("there already")
        assert lines[2:] == ["0 blobs: 0 B, 0:00:00, 1 there already"]


@pytest.mark.usefixtures("fast")
def test_lines_fit_after_resize() -> None:
    """The size is asked for each time."""
    with open_terminal(60, 10) as (out, number):
        reader = _Reader(number, 60, 10)
        with show_progress("auto", out, stopped_clock) as emit:
            for key in range(1, 20):
                emit(BlobBegun(key, "push", DIGEST, "", MB, None, "漢字" * 99))
            assert len(reader.wait_for("and 13 more")) == 9
            set_terminal_size(number, 20, 5)
            lines = reader.wait_for("and 18 more")
            assert len(lines) == 4
            assert max(map(len, lines)) < 20


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize("size", [(0, 0), (1, 1), (2, 3)])
def test_lines_are_drawn_on_terminal_of_any_size(size: tuple[int, int]) -> None:
    """A new pseudo-terminal has 0 columns, and does not say how many it has."""
    with open_terminal(*size) as (out, number):
        with show_progress("auto", out, stopped_clock) as emit:
            emit(BEGUN)
            os.read(number, 65536)
            emit(DONE)
        seen = ""
        while SUMMARY not in seen:
            seen += os.read(number, 65536).decode()


def test_show_progress_writes_nothing_if_nothing_moves() -> None:
    """A push of what is there already is silent."""
    out = io.StringIO()
    with show_progress("plain", out):
        pass
    assert out.getvalue() == ""


def test_show_progress_plain_writes_line_for_each_end_and_retry() -> None:
    """For logs: whole lines, and no control characters."""
    out = io.StringIO()
    with show_progress("plain", out, stopped_clock) as emit:
        for event in (BEGUN, HALF, CUT, DONE):
            emit(event)
    assert out.getvalue().splitlines() == [
        "a.tar: cut after 50.0 MB, going on",
        "a.tar: 100.0 MB in 0:00:00",
        f"{SUMMARY}, 1 retry",
    ]


def test_show_progress_draws_nothing_on_dumb_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """It gets a log: it does not know the escape sequences (terminfo's `dumb`)."""
    monkeypatch.setenv("TERM", "dumb")
    out = io.StringIO()
    with show_progress("auto", out, stopped_clock) as emit:
        emit(BEGUN)
        emit(DONE)
    assert out.getvalue() == f"a.tar: 100.0 MB in 0:00:00\n{SUMMARY}\n"


@pytest.mark.usefixtures("fast")
def test_show_progress_plain_writes_whole_every_few_seconds() -> None:
    """A clock that is ahead takes the place of the wait."""
    out, times, written = io.StringIO(), iter(range(0, 60000, 2)), threading.Event()

    class Out(io.StringIO):
        def write(self, text: str) -> int:
            count = super().write(text)
            if self.getvalue().count("0 of 1 blob") == 2:
                written.set()
            return count

    out = Out()
    with show_progress("plain", out, lambda: float(next(times))) as emit:
        emit(BEGUN)
        assert written.wait(30)
    assert out.getvalue().startswith("0 of 1 blob  0%  0.0 of 100.0 MB  0 B/s\n")


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_show_progress_sums_up_after_error(error: type[BaseException]) -> None:
    """The error is printed on its own line."""
    with open_terminal() as (out, number):
        with pytest.raises(error), show_progress("auto", out, stopped_clock) as emit:
            emit(BEGUN)
            raise error
        assert _Reader(number).wait_for("0 blobs").pop() == "0 blobs: 0 B, 0:00:00"


def test_show_progress_ignores_failure_of_stderr() -> None:
    """The blobs move on without progress."""
    end, start = os.pipe()
    os.close(end)
    out = os.fdopen(start, "w", buffering=1)
    with show_progress("plain", out) as emit:
        emit(BEGUN)
        emit(DONE)
    with pytest.raises(BrokenPipeError):
        out.close()


@pytest.mark.usefixtures("fast")
def test_show_progress_survives_loss_of_terminal() -> None:
    """Its size cannot be asked any more."""
    out = io.StringIO()
    out.fileno = lambda: -1  # type: ignore[method-assign]
    with show_progress("auto", out, stopped_clock) as emit:
        emit(BEGUN)
        emit(DONE)
    assert out.getvalue().endswith(f"{SUMMARY}\n")


def test_show_progress_writes_nothing_without_stderr(monkeypatch: pytest.MonkeyPatch) -> None:
    """`sys.stderr` is None if the descriptor was closed when Python started."""
    monkeypatch.setattr("sys.stderr", None)
    with show_progress("plain") as emit:
        emit(BEGUN)


def test_show_progress_leaves_no_thread() -> None:
    """The thread ends with the block."""
    with show_progress("plain", io.StringIO()):
        assert "brolga-progress" in {thread.name for thread in threading.enumerate()}
    assert "brolga-progress" not in {thread.name for thread in threading.enumerate()}
