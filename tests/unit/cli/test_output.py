"""cli.output: results, messages, and streams that fail."""

from __future__ import annotations

import errno
import io
import logging
import os
import sys

import pytest

from brolga.cli.output import (
    OutputError,
    draw_on,
    eprint,
    flush_streams,
    log_to_stderr,
    print_lines,
    print_result,
    print_warning,
    write_bytes,
)


class _Full(io.StringIO):
    """A stream that takes no more, and has no descriptor's buffer to lose."""

    def __init__(self, number: int = errno.ENOSPC) -> None:
        super().__init__()
        self.number = number

    def write(self, _text: str) -> int:
        raise OSError(self.number, os.strerror(self.number))


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_print_result_prints_line_or_json(capsys: pytest.CaptureFixture[str]) -> None:
    """A text line, or with --json its fields."""
    print_result("line", {"a": 1})
    print_result("line", {"a": 1}, as_json=True)
    assert capsys.readouterr() == ('line\n{"a": 1}\n', "")


@pytest.mark.parametrize(("done", "end"), [("", ""), ("it was done: x", "; it was done: x")])
def test_print_result_raises_if_stdout_fails(
    monkeypatch: pytest.MonkeyPatch, done: str, end: str
) -> None:
    """The error contains the reason, and what was done."""
    monkeypatch.setattr("sys.stdout", _Full())
    with pytest.raises(OutputError) as caught:
        print_result("line", done=done)
    assert str(caught.value) == f"stdout cannot be written: No space left on device{end}"
    monkeypatch.setattr("sys.stdout", None)
    with pytest.raises(OutputError) as caught:
        print_result("line", done=done)
    assert str(caught.value) == f"stdout cannot be written: it is closed{end}"


def test_print_result_raises_broken_pipe_only_if_nothing_was_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`brolga version | head -0` is quiet; a push whose digest was not read is not."""
    monkeypatch.setattr("sys.stdout", _Full(errno.EPIPE))
    with pytest.raises(BrokenPipeError):
        print_result("line")
    with pytest.raises(OutputError, match=r"Broken pipe; it was pushed$"):
        print_result("line", done="it was pushed")


def test_print_lines_prints_one_result_per_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is printed for an empty list."""
    print_lines(iter(()))
    print_lines(["a", "b"])
    assert capsys.readouterr() == ("a\nb\n", "")


def test_write_bytes_does_not_change_bytes(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    """No line end, no encoding."""
    write_bytes(b"\xff\r\n")
    write_bytes(memoryview(b"\x00"))
    assert capsysbinary.readouterr() == (b"\xff\r\n\x00", b"")


class _FullRaw(io.RawIOBase):
    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def writable(self) -> bool:
        return True

    def write(self, _data: object) -> int:
        raise OSError(self.number, os.strerror(self.number))


def test_write_bytes_raises_if_stdout_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """OutputError with the reason, or BrokenPipeError if the reader is gone."""
    for number, kind in ((errno.ENOSPC, OutputError), (errno.EPIPE, BrokenPipeError)):
        monkeypatch.setattr("sys.stdout", io.TextIOWrapper(_FullRaw(number)))  # type: ignore[type-var]
        with pytest.raises(kind, match=os.strerror(number)):
            write_bytes(b"data")
    monkeypatch.setattr("sys.stdout", None)
    with pytest.raises(OutputError, match="it is closed"):
        write_bytes(b"data")


def test_print_warning_prints_untrusted_text_on_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It cannot control the terminal."""
    for out in (_Terminal(), io.StringIO()):
        monkeypatch.setattr("sys.stderr", out)
        print_warning("r.example", "ends\nsoon \x1b[2J")
        assert out.getvalue() == "warning: r.example: ends soon [2J\n"
    monkeypatch.setattr("sys.stderr", None)
    print_warning("r.example", "unseen")


@pytest.mark.parametrize("is_terminal", [True, False])
def test_messages_erase_what_is_drawn_on_terminal(
    monkeypatch: pytest.MonkeyPatch, is_terminal: bool
) -> None:
    """Results too, if they go to the same terminal."""
    out = _Terminal() if is_terminal else io.StringIO()
    monkeypatch.setattr("sys.stderr", out)
    monkeypatch.setattr("sys.stdout", out)
    with draw_on(out):
        eprint("error")
        print_warning("r.example", "old")
        print_result("result")
    eprint("end")
    clear = "\r\x1b[J" if is_terminal else ""
    assert out.getvalue() == (f"{clear}error\n{clear}warning: r.example: old\n{clear}result\nend\n")


def test_eprint_ignores_failure_of_stderr(monkeypatch: pytest.MonkeyPatch) -> None:
    """The exit code still reports the outcome."""
    for stream in (_Full(), None):
        monkeypatch.setattr("sys.stderr", stream)
        eprint("line")


def test_write_bytes_escapes_document_on_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal must not be controlled by it. A pipe gets the bytes unchanged."""
    data = b'{"a":\t"\x1b[2J\xc2\x9b\xe2\x80\xae\x7f \xff"}\n'
    for is_terminal in (False, True):
        buffer = io.BytesIO()
        stream = io.TextIOWrapper(buffer)
        monkeypatch.setattr(stream, "isatty", lambda shown=is_terminal: shown)
        monkeypatch.setattr(sys, "stdout", stream)
        write_bytes(memoryview(data))
        shown = b'{"a":\t"\\u001b[2J\\u009b\\u202e\\u007f \xef\xbf\xbd"}\n'
        assert buffer.getvalue() == (shown if is_terminal else data)


def test_print_result_and_eprint_replace_control_characters(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each character is replaced by a space, so columns stay."""
    print_result("a\x1b   b\nc")
    print_result("", {"a": "\x1b\x7f\u202e"}, as_json=True)
    eprint("a\x1b\nb")
    assert capsys.readouterr() == ('a    b c\n{"a": "\\u001b\\u007f\\u202e"}\n', "a  b\n")


def test_flush_streams_discards_what_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python would try again when it exits, and exit with 120."""
    end, start = os.pipe()
    os.close(end)
    with os.fdopen(start, "w") as out:
        out.write("lost")
        monkeypatch.setattr("sys.stdout", out)
        monkeypatch.setattr("sys.stderr", None)
        flush_streams()
        out.write("to nowhere")
        out.flush()


def test_log_to_stderr_erases_what_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """With -v, progress is drawn below the log."""
    out = _Terminal()
    monkeypatch.setattr("sys.stderr", out)
    with draw_on(out), log_to_stderr():
        logging.getLogger("brolga.x").debug("seen")
    assert out.getvalue() == "\r\x1b[Jbrolga.x: seen\n"


def test_log_to_stderr_prints_nothing_without_stderr(monkeypatch: pytest.MonkeyPatch) -> None:
    """-v must not make the command fail."""
    monkeypatch.setattr("sys.stderr", None)
    assert sys.stderr is None
    with log_to_stderr():
        logging.getLogger("brolga.x").debug("unseen")
