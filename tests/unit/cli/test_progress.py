"""cli.progress: how far a stream has come, as a line."""

from __future__ import annotations

import io
import os
import pty
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

import pytest

from brolga.cli import progress as progress_module
from brolga.cli.progress import line, shown
from brolga.spec.blob import Progress
from brolga.stream.layer import StreamLayer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MIB = 1 << 20


@pytest.mark.parametrize(
    ("read", "written", "total", "elapsed_s", "text"),
    [
        (0, 0, None, 0.0, "0 B in  0 B out  ratio -  0 MB/s  0:00:00"),
        (1023, 1, None, 1.0, "1023 B in  1 B out  ratio 0.00  0 MB/s  0:00:01"),
        (4 * MIB, MIB, None, 2.0, "4.0 MiB in  1.0 MiB out  ratio 0.25  2 MB/s  0:00:02"),
        (
            3 << 40,
            5 << 50,
            None,
            3661.0,
            "3.0 TiB in  5.0 PiB out  ratio 1706.67  901 MB/s  1:01:01",
        ),
        (
            MIB,
            MIB,
            4 * MIB,
            10.0,
            "1.0 MiB in  1.0 MiB out  ratio 1.00  0 MB/s  0:00:10  25% of 4.0 MiB, 0:00:30 left",
        ),
        (0, 0, MIB, 0.0, "0 B in  0 B out  ratio -  0 MB/s  0:00:00  0% of 1.0 MiB, 0:00:00 left"),
        # A file that grew while it was read.
        (
            2 * MIB,
            MIB,
            MIB,
            1.0,
            "2.0 MiB in  1.0 MiB out  ratio 0.50  2 MB/s  0:00:01  100% of 1.0 MiB, 0:00:00 left",
        ),
    ],
)
def test_the_line_is_a_function_of_the_figures(
    read: int, written: int, total: int | None, elapsed_s: float, text: str
) -> None:
    """Bytes in, bytes out, ratio, rate, time; share and time left where the size is known."""
    assert line(Progress(read, written), total, elapsed_s) == text


def test_layers_are_summed_up(tmp_path: Path) -> None:
    """An image's layers go at once: one line tells of all of them."""
    files = [tmp_path / name for name in "ab"]
    for file in files:
        file.write_bytes(b"x" * MIB)
    layers = [StreamLayer(file, "none") for file in files]
    with layers[0].open() as stream:
        stream.read()
    out = io.StringIO()
    with shown(layers, "plain", out):
        pass
    assert out.getvalue().startswith("1.0 MiB in  1.0 MiB out  ratio 1.00  ")
    assert "  50% of 2.0 MiB, " in out.getvalue()


def test_a_total_needs_every_size(tmp_path: Path) -> None:
    """A pipe among the sources: nobody knows how much will come."""
    file = tmp_path / "file"
    file.write_bytes(b"data")
    out = io.StringIO()
    with shown([StreamLayer(file), StreamLayer([b"data"])], "plain", out):
        pass
    assert " of " not in out.getvalue()


@pytest.fixture
def layer() -> StreamLayer:
    """Make a layer that nobody reads."""
    return StreamLayer([b"data"])


@contextmanager
def terminal() -> Iterator[tuple[TextIO, int]]:
    """Make a pseudo-terminal; give the side that is written to, and the other's number."""
    master, slave = pty.openpty()
    with os.fdopen(slave, "w") as out:
        try:
            yield out, master
        finally:
            os.close(master)


class _Signalling(io.StringIO):
    """A stream that tells when it was written to."""

    def __init__(self) -> None:
        super().__init__()
        self.written = threading.Event()

    def write(self, text: str) -> int:
        count = super().write(text)
        self.written.set()
        return count


@pytest.mark.parametrize("how", ["auto", "none"])
def test_nothing_is_shown_where_stderr_is_no_terminal(layer: StreamLayer, how: str) -> None:
    """Nothing at all, not even an empty line."""
    out = io.StringIO()
    with shown([layer], how, out):
        pass
    assert out.getvalue() == ""


def test_plain_is_a_line_every_few_seconds_anywhere(
    monkeypatch: pytest.MonkeyPatch, layer: StreamLayer
) -> None:
    """For logs: whole lines, and no control characters."""
    monkeypatch.setitem(progress_module._LOOK_S, "plain", 0.001)
    out = _Signalling()
    with shown([layer], "plain", out):
        assert out.written.wait(30)
    lines = out.getvalue().splitlines(keepends=True)
    assert len(lines) >= 2
    for text in lines:
        assert text.startswith("0 B in  0 B out  ratio -")
        assert text.endswith("\n")
        assert text.strip().isprintable()


def test_auto_is_one_line_that_changes_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, layer: StreamLayer
) -> None:
    """Each look begins with a return and an erase; the end is a new line."""
    monkeypatch.setitem(progress_module._LOOK_S, "auto", 0.001)
    with terminal() as (out, master):
        with shown([layer], "auto", out):
            first = os.read(master, 1024)  # waits for the first look
        last = b""
        while b"\n" not in last:
            last += os.read(master, 1024)
    assert first.startswith(b"\r\x1b[K0 B in")
    assert b"\n" not in first
    assert last.count(b"\n") == 1
    assert last.endswith(b"\r\n")


def test_a_line_is_cut_to_the_terminal(monkeypatch: pytest.MonkeyPatch, layer: StreamLayer) -> None:
    """A line that wraps would not be erased."""
    monkeypatch.setattr(progress_module, "_columns", lambda _terminal: 10)
    with terminal() as (out, master):
        with shown([layer], "auto", out):
            pass
        assert os.read(master, 1024) == b"\r\x1b[K0 B in  0\r\n"


def test_a_terminal_without_a_size_has_a_usual_one() -> None:
    """A fresh pseudo-terminal says 0 columns."""
    with terminal() as (out, _):
        assert progress_module._columns(out) == 80


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_leaves_the_line_ended(layer: StreamLayer, error: type[BaseException]) -> None:
    """What is printed next, the error, begins a line of its own."""
    with terminal() as (out, master):
        with pytest.raises(error), shown([layer], "auto", out):
            raise error
        assert os.read(master, 1024).endswith(b"\r\n")


def test_a_stderr_that_takes_no_more_does_not_fail_the_push(layer: StreamLayer) -> None:
    """The stream goes on unseen."""
    end, start = os.pipe()
    os.close(end)
    out = os.fdopen(start, "w", buffering=1)
    with shown([layer], "plain", out):
        pass
    with pytest.raises(BrokenPipeError):
        out.close()


def test_no_stderr_shows_nothing(monkeypatch: pytest.MonkeyPatch, layer: StreamLayer) -> None:
    """Python has none where the descriptor was closed at the start."""
    monkeypatch.setattr("sys.stderr", None)
    with shown([layer], "plain"):
        pass


def test_no_thread_is_left(layer: StreamLayer) -> None:
    """The one that looks ends with the block."""
    with shown([layer], "plain", io.StringIO()):
        assert "brolga-progress" in {thread.name for thread in threading.enumerate()}
    assert "brolga-progress" not in {thread.name for thread in threading.enumerate()}
