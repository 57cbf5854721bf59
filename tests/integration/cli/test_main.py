"""The command as a process: closed streams, imports and exit codes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest

from brolga import __version__

needs_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")


def python_m_brolga(argument: str, stdout: int | IO[str]) -> subprocess.CompletedProcess[str]:
    """Run the command as a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "brolga", argument],
        text=True,
        check=False,
        stdout=stdout,
        stderr=subprocess.PIPE,
    )


def test_python_m_brolga_runs_command() -> None:
    """`python -m brolga` and `brolga` are one."""
    done = python_m_brolga("version", stdout=subprocess.PIPE)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{__version__}\n", "")


def test_help_does_not_import_verbs() -> None:
    """`brolga --help` must not be slow."""
    code = (
        "import sys; sys.argv = ['brolga', '--help']\n"
        "from brolga.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'brolga.cli.commands.layer', 'brolga.client', 'h11', 'uvicorn', 'ssl'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"


def test_main_prints_nothing_if_reader_of_stdout_is_gone() -> None:
    """`brolga … | head -0`: quiet, and not a success."""
    end, start = os.pipe()
    os.close(end)
    try:
        done = python_m_brolga("version", stdout=start)
    finally:
        os.close(start)
    assert (done.returncode, done.stderr) == (1, "")


@needs_full
def test_main_prints_one_line_if_stdout_is_full() -> None:
    """Exit code 1, and the side is local."""
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = python_m_brolga("version", stdout=full)
    assert done.returncode == 1
    assert done.stderr == "brolga: local: stdout cannot be written: No space left on device\n"


@pytest.mark.parametrize("arguments", ["version", "--version"])
def test_main_fails_if_stdout_is_closed(arguments: str) -> None:
    """A closed stdout is an error."""
    command = f"exec {sys.executable} -m brolga {arguments} >&-"
    done = subprocess.run(["sh", "-c", command], check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "brolga: local: stdout cannot be written: it is closed\n"


@pytest.mark.parametrize("stderr", ["2>&-", pytest.param("2>/dev/full", marks=needs_full)])
@pytest.mark.parametrize(
    ("arguments", "code"),
    [("version", 0), ("nope", 2), ("-vv nope", 2), ("layer push -vv 127.0.0.1:1/x /nowhere", 7)],
)
def test_main_keeps_exit_code_if_stderr_fails(stderr: str, arguments: str, code: int) -> None:
    """Python itself would change it to 120."""
    command = f"exec {sys.executable} -m brolga {arguments} <&- {stderr}"
    done = subprocess.run(["sh", "-c", command], check=False, stdout=subprocess.PIPE)
    assert done.returncode == code


@needs_full
def test_main_prints_one_line_if_help_cannot_be_written() -> None:
    """Python does not fail again when it exits."""
    command = f"exec {sys.executable} -m brolga --help >/dev/full"
    done = subprocess.run(["sh", "-c", command], check=False, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (
        1,
        "brolga: local: [Errno 28] No space left on device\n",
    )
