"""stream/exit_status.py: the exit status of a child process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from brolga.stream.exit_status import ExitStatusUnknown, wait_for_exit

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def ignored_sigchld() -> Iterator[None]:
    """Ignore SIGCHLD: "it shall not be possible to wait for the children" (POSIX, sigaction)."""
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, before)


@pytest.mark.parametrize(
    ("script", "status"), [("exit 0", 0), ("exit 3", 3), ("kill -9 $$", -signal.SIGKILL)]
)
def test_wait_for_exit_returns_the_exit_status(script: str, status: int) -> None:
    """As `subprocess` has it: negative for a signal. Asked again, it is the same."""
    process = subprocess.Popen(["sh", "-c", script])
    assert wait_for_exit(process) == status
    assert wait_for_exit(process, 0) == status
    assert process.returncode == status


def test_wait_for_exit_raises_timeout_error_while_the_process_runs() -> None:
    """The process is left alone."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        with pytest.raises(TimeoutError):
            wait_for_exit(process, 0.01)
        assert process.returncode is None


@pytest.mark.usefixtures("ignored_sigchld")
def test_wait_for_exit_raises_if_sigchld_is_ignored() -> None:
    """The kernel keeps none then: `subprocess` would report 0."""
    process = subprocess.Popen(["sh", "-c", "exit 3"])
    with pytest.raises(ExitStatusUnknown, match="SIGCHLD is ignored"):
        wait_for_exit(process)
    assert process.returncode  # so that no signal goes to a process that is not ours


def test_wait_for_exit_raises_if_host_waits_for_all_children() -> None:
    """A call of waitpid(-1), as in an init process, takes the status away."""
    process = subprocess.Popen(["sh", "-c", "exit 3"])
    assert os.waitpid(-1, 0)[0] == process.pid
    with pytest.raises(ExitStatusUnknown, match="waits for all children"):
        wait_for_exit(process)


def test_popen_reports_0_if_status_is_lost() -> None:
    """The reason for this module. This test fails if Python changes it."""
    process = subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"])
    os.waitpid(-1, 0)
    assert process.wait() == 0
