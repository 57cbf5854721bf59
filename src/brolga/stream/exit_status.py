"""Wait for the exit status of a child process.

`subprocess` reports 0 if the exit status is lost. It is lost if SIGCHLD is ignored, which a program
inherits over exec, or if another part of this process calls waitpid(-1) first (waitpid(2)).
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import subprocess

_FIRST_DELAY_S: Final = 0.0005
_MAX_DELAY_S: Final = 0.05
_UNKNOWN: Final = 255


class ExitStatusUnknown(Exception):
    """A child process has ended, but its exit status is lost."""

    def __init__(self) -> None:
        super().__init__(
            "it ended, and its exit status is not known: SIGCHLD is ignored, or another part of "
            "this process waits for all children"
        )


def wait_for_exit(process: subprocess.Popen[bytes], timeout_s: float | None = None) -> int:
    """Wait for the end of a child process; return its exit status, negative for a signal.

    Only one thread may wait for a process. Raises ExitStatusUnknown if the status is lost,
    TimeoutError if the process still runs after `timeout_s` seconds.
    """
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    delay_s = _FIRST_DELAY_S
    while (status := _exit_status(process)) is None:
        if deadline is not None:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise TimeoutError
            delay_s = min(delay_s, left_s)
        time.sleep(delay_s)
        delay_s = min(2 * delay_s, _MAX_DELAY_S)
    return status


def _exit_status(process: subprocess.Popen[bytes]) -> int | None:
    if process.returncode is not None:
        return process.returncode
    try:
        pid, status = os.waitpid(process.pid, os.WNOHANG)
    except ChildProcessError:
        process.returncode = _UNKNOWN  # its number may belong to another process now: no signal
        raise ExitStatusUnknown from None
    if not pid:
        return None
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode
