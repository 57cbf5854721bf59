"""The registry as a process of its own, which can be killed and started again.

Knows processes, and the command that runs the registry. Must not know what it serves.

The port is bound here for as long as the process may come back, and nobody listens on it: while
the registry is down, connections are refused, and no other program can take the port.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO, TYPE_CHECKING

from brolga.errors import BrolgaError

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence
    from typing import Self

__all__ = ["NotStarted", "RegistryProcess"]


class NotStarted(BrolgaError):
    """The process ended before it took requests; the message is what it said."""


class RegistryProcess:
    """`brolga registry serve DIRECTORY`, with further arguments; a context manager.

    `address` is `127.0.0.1:PORT`, the same after each start.
    """

    def __init__(self, directory: str | os.PathLike[str], arguments: Sequence[str] = ()) -> None:
        self._directory = Path(directory)
        self._arguments = tuple(arguments)
        self._process: subprocess.Popen[str] | None = None
        self._place = socket.socket()
        # Both must say so for the process to share the port with this one (socket(7)).
        self._place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._place.bind(("127.0.0.1", 0))
        self._port = self._place.getsockname()[1]
        self.address = f"127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        """Start it. Raises what `start` raises."""
        try:
            self.start()
        except BaseException:
            self._place.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Kill it, and give the port back."""
        self.kill()
        self._place.close()

    def start(self) -> None:
        """Start it where it does not run, and return when it takes requests.

        Raises NotStarted, OSError.
        """
        if self._process is not None:
            return
        command = [sys.executable, "-m", "brolga", "registry", "serve", str(self._directory)]
        command += ["--port", str(self._port), *self._arguments]
        with tempfile.TemporaryFile("w+") as said:
            process = subprocess.Popen(  # noqa: S603 - our own command
                command, stdout=subprocess.PIPE, stderr=said, text=True
            )
            self._process = process
            try:
                self._await_address(process, said)
            except BaseException:
                self.kill()
                raise

    def kill(self) -> None:
        """Kill it (SIGKILL): what it had not written yet is lost."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            # Reads what is left, closes the pipe and waits.
            process.communicate()

    def restart(self) -> None:
        """Kill it, and start it again on the same directory and port. Raises as `start` does."""
        self.kill()
        self.start()

    def _await_address(self, process: subprocess.Popen[str], said: IO[str]) -> None:
        assert process.stdout is not None  # noqa: S101 - a pipe was asked for
        if process.stdout.readline().strip() != self.address:
            process.kill()
            process.wait()
            said.seek(0)
            raise NotStarted(said.read().strip() or "the registry did not start")
