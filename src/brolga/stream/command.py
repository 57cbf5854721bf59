"""A command as a source: what it writes to stdout, of which it must make a good end.

Knows processes, their exit status, and how they are stopped. Must not know what the bytes are for.

Strategy: the pipe is a source as any other (`sources`), but its end counts only once the command
has exited with 0. One thread of ours makes the process and waits for it, since a signal's handler
may raise in the owner's thread between any two bytecodes, and would lose the process there.

The command has a process group of its own, so that what it started is stopped with it. Where a
terminal is at hand it stays in ours: another group could not ask there for a password, and Ctrl-C
would not reach it.
"""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
from contextlib import suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import IO, TYPE_CHECKING, ClassVar, Final, cast

from brolga.errors import SourceError
from brolga.stream.child_process import ExitStatusUnknown, wait_for_exit
from brolga.stream.sources import open_source
from brolga.stream.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Sequence
    from io import FileIO

    from brolga.spec.blob import BlockSource

__all__ = ["Command"]

TERMINATE_TIMEOUT_S: Final = 5.0  # from SIGTERM to SIGKILL
_TICK_S: Final = 0.05  # between looks whether it is to stop


@dataclass(frozen=True)
class Command:
    """A program and its arguments, whose stdout is a source: `StreamLayer(Command(["tar", …]))`.

    It runs when the layer is opened, with the stdin, stderr, directory and environment of this
    process; without `reads_stdin` its stdin is empty. Its end counts only where its exit status is
    0. Whoever closes the stream before that ends it: SIGTERM, then SIGKILL after 5 s, to all that
    it started.

    Raises TypeError for one string, ValueError for no program.
    """

    runs_user_code: ClassVar = False

    arguments: Sequence[str] = field(repr=False)
    reads_stdin: bool = True

    def __post_init__(self) -> None:
        """Refuse what is no command."""
        if isinstance(self.arguments, str):
            raise TypeError("a command is a list of the program and its arguments, not one string")
        if not self.arguments:
            raise ValueError("a command has a program to run")

    def __repr__(self) -> str:
        """Show the program alone: the arguments may hold secrets."""
        return f"<Command {self.arguments[0]}>"

    def open_blocks(self, block_size: int) -> BlockSource:
        """Run it. Raises SourceError where it cannot be run."""
        running = _Running(self.arguments, reads_stdin=self.reads_stdin)
        _open_commands.add(running)
        try:
            running.start(block_size)
        except BaseException:
            running.close()
            raise
        return running


class _Running:
    """A command that runs, as blocks (`sources.BlockSource`)."""

    def __init__(self, arguments: Sequence[str], *, reads_stdin: bool) -> None:
        self._name = arguments[0]  # the others may hold secrets
        self._process = _Process(arguments, reads_stdin=reads_stdin)
        self._worker = Worker("brolga-command", self._process.run)
        self._blocks: BlockSource | None = None
        self._status: int | ExitStatusUnknown | None = None

    def start(self, block_size: int) -> None:
        self._worker.start()
        pipe = self._process.started.get()
        if isinstance(pipe, Exception):
            why = pipe.strerror if isinstance(pipe, OSError) else pipe
            raise SourceError(f"cannot run {self._name}: {why}") from pipe
        self._blocks = open_source(pipe, block_size)

    def next_block(self, timeout_s: float) -> memoryview | None:
        """Return the next block; the empty one once the command has exited with 0.

        Raises SourceError where it ended otherwise.
        """
        assert self._blocks is not None  # noqa: S101 - `start` opened it
        block = self._blocks.next_block(timeout_s)
        if block is None or block:
            return block
        if self._status is None:
            self._process.may_end.put(None)
            try:
                self._status = self._process.ended.get(block=timeout_s > 0, timeout=timeout_s)
            except Empty:
                return None
        if isinstance(self._status, ExitStatusUnknown):
            raise _status_unknown(self._name, self._status)
        if self._status:
            raise SourceError(f"{self._name} {_told(self._status)}")
        return block

    def ask_to_end(self) -> None:
        """Ask the command to end, and do not wait for it."""
        if self._worker.is_here:
            self._process.stop()

    def close(self) -> None:
        """End the command where it runs still, and wait for it. Idempotent.

        Where this is interrupted, the command is not waited for any more, but killed.
        """
        if not self._worker.is_here:
            return  # it is the parent's
        try:
            self._process.stop()
            if self._blocks is not None:
                self._blocks.close()
            self._process.hang_up()
            if self._worker.join():
                self._process.hang_up()  # where it was being started still
        except BaseException:
            self._process.send(signal.SIGKILL)
            raise
        _open_commands.discard(self)


_open_commands: Final[set[_Running]] = set()


@atexit.register
def _stop_open_commands() -> None:
    """End the commands that are still open at exit, as closing their streams does."""
    commands = list(_open_commands)
    for command in commands:
        command.ask_to_end()
    for command in commands:
        command.close()


class _Process:
    """The process, and what the thread does that makes it, ends it and waits for it."""

    def __init__(self, arguments: Sequence[str], *, reads_stdin: bool) -> None:
        self._arguments = arguments
        self._stdin = None if reads_stdin else subprocess.DEVNULL
        self._process: subprocess.Popen[bytes] | None = None
        self._has_group = not _has_terminal()
        self._stopped = False
        self.started: SimpleQueue[FileIO | Exception] = SimpleQueue()
        self.may_end: SimpleQueue[None] = SimpleQueue()
        self.ended: SimpleQueue[int | ExitStatusUnknown] = SimpleQueue()

    def run(self) -> None:
        try:
            # It gives the command back what Python ignores: SIGPIPE.
            process = subprocess.Popen(  # noqa: S603 - a command of the user's own, and no shell
                self._arguments,
                bufsize=0,
                stdin=self._stdin,
                stdout=subprocess.PIPE,
                process_group=0 if self._has_group else None,
            )
        except Exception as error:  # noqa: BLE001 - raised where the command is opened
            self.started.put(error)
            return
        self._process = process
        self.started.put(cast("FileIO", process.stdout))
        # Until it has been waited for, its number, and so its group's, is nobody else's.
        self.may_end.get()
        try:
            self.ended.put(self._wait(process))
        except ExitStatusUnknown as error:
            self.ended.put(error)

    def stop(self) -> None:
        self._stopped = True
        self.may_end.put(None)

    def hang_up(self) -> None:
        """Close the pipe: whoever writes to it still is told."""
        if self._process is not None:
            cast("IO[bytes]", self._process.stdout).close()

    def send(self, number: signal.Signals) -> None:
        """Send a signal to what runs still."""
        process = self._process
        if process is not None and process.returncode is None:
            with suppress(ProcessLookupError, PermissionError):  # it has ended just now
                (os.killpg if self._has_group else os.kill)(process.pid, number)

    def _wait(self, process: subprocess.Popen[bytes]) -> int:
        """Wait for the end; once it is to stop, make one."""
        while not self._stopped:
            with suppress(TimeoutError):
                return wait_for_exit(process, _TICK_S)
        self.send(signal.SIGTERM)
        with suppress(TimeoutError):
            return wait_for_exit(process, TERMINATE_TIMEOUT_S)
        self.send(signal.SIGKILL)
        return wait_for_exit(process)


def _has_terminal() -> bool:
    """Tell whether this process is in the foreground of a terminal."""
    try:
        terminal = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    finally:
        os.close(terminal)


def _told(status: int) -> str:
    """Tell how a process ended that did not exit with 0."""
    if status > 0:
        return f"exited with {status}"
    try:
        return f"was killed by {signal.Signals(-status).name}"
    except ValueError:  # a real-time signal
        return f"was killed by signal {-status}"


def _status_unknown(name: str, cause: ExitStatusUnknown) -> SourceError:
    error = SourceError(f"{name}: {cause}")
    error.add_note(
        "its output is not used, as it may have failed: give SIGCHLD its default action, and wait "
        "for each child by its own number"
    )
    return error
