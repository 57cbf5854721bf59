"""A command as a source: its stdout, which is complete only if the command exits with 0.

A worker thread starts the process and waits for it: a signal handler may raise in the owner's
thread between any two bytecodes, and would lose the process there. The command has a process group
of its own, so that its children are stopped with it. With a terminal it stays in this process's
group: else it could not ask for a password there, and Ctrl-C would not reach it.
"""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import IO, TYPE_CHECKING, ClassVar, Final, cast

from brolga.errors import SourceError
from brolga.spec.digest import Digest
from brolga.spec.value import Value, field
from brolga.stream.exit_status import ExitStatusUnknown, wait_for_exit
from brolga.stream.sources import open_source
from brolga.stream.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Sequence
    from io import FileIO

    from brolga.spec.blob import BlockSource

TERMINATE_TIMEOUT_S: Final = 5.0  # from SIGTERM to SIGKILL
_POLL_INTERVAL_S: Final = 0.05  # between checks whether to stop


class Command(Value):
    """A program and its arguments, whose stdout is a source: `StreamLayer(Command(["tar", …]))`.

    It runs when the layer is opened, with the stdin, stderr, directory and environment of this
    process; without `reads_stdin` its stdin is empty. An exit status other than 0 is an error.
    Closing the stream early sends SIGTERM, and SIGKILL after 5 s, to the command and its children.

    Raises TypeError for a single string, ValueError for an empty list.
    """

    runs_user_code: ClassVar = False

    arguments: Sequence[str] = field(repr=False)
    reads_stdin: bool = True

    def __post_init__(self) -> None:
        """Check the arguments."""
        if isinstance(self.arguments, str):
            raise TypeError("a command is a list of the program and its arguments, not one string")
        if not self.arguments:
            raise ValueError("a command has a program to run")

    def __repr__(self) -> str:
        """Show only the program: the arguments may hold secrets."""
        return f"<Command {self.arguments[0]}>"

    @property
    def identity(self) -> str:
        """What another run of the command has in common: the arguments, which may hold secrets."""
        return f"command {Digest.of(repr(list(self.arguments)).encode())}"

    def open_blocks(self, block_size: int) -> BlockSource:
        """Start the command. Raises SourceError if it cannot be run."""
        running = _RunningCommand(self.arguments, reads_stdin=self.reads_stdin)
        _open_commands.add(running)
        try:
            running.start(block_size)
        except BaseException:
            running.close()
            raise
        return running


class _RunningCommand:
    """A running command as a `BlockSource`. A worker starts the process and waits for it."""

    def __init__(self, arguments: Sequence[str], *, reads_stdin: bool) -> None:
        self._arguments = arguments
        self._name = arguments[0]  # the others may hold secrets
        self._stdin = None if reads_stdin else subprocess.DEVNULL
        self._has_group = not _has_terminal()
        self._process: subprocess.Popen[bytes] | None = None
        self._worker = Worker("brolga-command", self._run)
        self._blocks: BlockSource | None = None
        self._status: int | ExitStatusUnknown | None = None
        self._stopped = False
        self._started: SimpleQueue[FileIO | Exception] = SimpleQueue()
        self._may_end: SimpleQueue[None] = SimpleQueue()
        self._ended: SimpleQueue[int | ExitStatusUnknown] = SimpleQueue()

    def start(self, block_size: int) -> None:
        self._worker.start()
        pipe = self._started.get()
        if isinstance(pipe, Exception):
            why = pipe.strerror if isinstance(pipe, OSError) else pipe
            raise SourceError(f"cannot run {self._name}: {why}") from pipe
        self._blocks = open_source(pipe, block_size)

    def next_block(self, timeout_s: float) -> memoryview | None:
        """Return the next block, the empty one once the command has exited with 0.

        Raises SourceError for any other end.
        """
        assert self._blocks is not None  # noqa: S101 - `start` opened it
        block = self._blocks.next_block(timeout_s)
        if block is None or block:
            return block
        if self._status is None:
            self._may_end.put(None)
            try:
                self._status = self._ended.get(block=timeout_s > 0, timeout=timeout_s)
            except Empty:
                return None
        if isinstance(self._status, ExitStatusUnknown):
            raise SourceError(
                f"{self._name}: {self._status}",
                hint="its output is not used, as it may have failed: give SIGCHLD its default "
                "action, and wait for each child by its own number",
            )
        if self._status:
            raise SourceError(f"{self._name} {_describe_status(self._status)}")
        return block

    def terminate(self) -> None:
        """Ask the command to end, without waiting for it."""
        if self._worker.is_in_this_process:
            self._stopped = True
            self._may_end.put(None)

    def close(self) -> None:
        """End the command if it still runs, and wait for it. Idempotent.

        An interrupt kills the command and ends the wait.
        """
        if not self._worker.is_in_this_process:
            return  # it belongs to the parent process
        try:
            self.terminate()
            if self._blocks is not None:
                self._blocks.close()
            self._close_pipe()
            if self._worker.join():
                self._close_pipe()  # if it was still starting
        except BaseException:
            self._send_signal(signal.SIGKILL)
            raise
        _open_commands.discard(self)

    def _close_pipe(self) -> None:
        """Close the pipe: a process that still writes to it gets SIGPIPE."""
        if self._process is not None:
            cast("IO[bytes]", self._process.stdout).close()

    def _send_signal(self, number: signal.Signals) -> None:
        """Send a signal, unless the process has ended."""
        process = self._process
        if process is not None and process.returncode is None:
            with suppress(ProcessLookupError, PermissionError):  # it has just ended
                (os.killpg if self._has_group else os.kill)(process.pid, number)

    def _run(self) -> None:
        """Start the process and wait for its end, in the worker thread."""
        try:
            # Popen restores SIGPIPE, which Python ignores.
            process = self._process = subprocess.Popen(  # noqa: S603 - the user's own command, without a shell
                self._arguments,
                bufsize=0,
                stdin=self._stdin,
                stdout=subprocess.PIPE,
                process_group=0 if self._has_group else None,
            )
        except Exception as error:  # noqa: BLE001 - `start` raises it
            self._started.put(error)
            return
        self._started.put(cast("FileIO", process.stdout))
        # Its process and group numbers are not reused before it has been waited for.
        self._may_end.get()
        try:
            self._ended.put(self._wait(process))
        except ExitStatusUnknown as error:
            self._ended.put(error)

    def _wait(self, process: subprocess.Popen[bytes]) -> int:
        """Wait for the end; after `terminate`, end the process."""
        while not self._stopped:
            with suppress(TimeoutError):
                return wait_for_exit(process, _POLL_INTERVAL_S)
        self._send_signal(signal.SIGTERM)
        with suppress(TimeoutError):
            return wait_for_exit(process, TERMINATE_TIMEOUT_S)
        self._send_signal(signal.SIGKILL)
        return wait_for_exit(process)


_open_commands: Final[set[_RunningCommand]] = set()


@atexit.register
def _stop_open_commands() -> None:
    commands = list(_open_commands)
    for command in commands:
        command.terminate()
    for command in commands:
        command.close()


def _has_terminal() -> bool:
    """Return whether this process is in the foreground of a terminal."""
    try:
        terminal = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    finally:
        os.close(terminal)


def _describe_status(status: int) -> str:
    if status > 0:
        return f"exited with {status}"
    try:
        return f"was killed by {signal.Signals(-status).name}"
    except ValueError:  # a real-time signal
        return f"was killed by signal {-status}"
