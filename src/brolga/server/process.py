"""The registry as a process of its own, which can be killed and started again.

Knows processes, and the command that runs the registry. Must not know what it serves.

The port is bound here for as long as the process may come back, and nobody listens on it: while
the registry is down, connections are refused, and no other program can take the port. Faults and
their counts are in a file that the process keeps (`injection`), so they outlive it too.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import IO, TYPE_CHECKING

from brolga.errors import BrolgaError
from brolga.server.faults import Kill
from brolga.server.injection import read_record, write_record
from brolga.server.profiles import profile_named

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence
    from typing import Self

    from brolga.server.faults import Fault, FaultPlan
    from brolga.server.profiles import Profile

__all__ = ["NotStarted", "RegistryProcess"]


class NotStarted(BrolgaError):
    """The process ended before it took requests; the message is what it said."""


class RegistryProcess:
    """`brolga registry serve DIRECTORY`, with further arguments; a context manager.

    `plan` is what goes wrong, and `profile` which registry it plays, as `Injector` has them. Both
    outlive the process: started again, it goes on where the last one was. One that a `Kill` of the
    plan ended is started again at once, where the fault says so.

    `address` is `127.0.0.1:PORT`, the same after each start. Raises ValueError for a profile that
    is not known.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        arguments: Sequence[str] = (),
        *,
        plan: FaultPlan | None = None,
        profile: Profile | str | None = None,
    ) -> None:
        if isinstance(profile, str):
            profile = profile_named(profile)
        self._directory = Path(directory)
        self._records = tempfile.TemporaryDirectory(prefix="brolga-faults-")
        self._record = Path(self._records.name, "record")
        write_record(self._record, plan, profile)
        self._arguments = (*arguments, "--faults", str(self._record))
        self._process: subprocess.Popen[str] | None = None
        self._lock = threading.RLock()
        self._watchers: list[threading.Thread] = []
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
            self._close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Kill it, and give the port back."""
        self._close()

    @property
    def struck(self) -> tuple[Fault, ...]:
        """The faults that struck, in order, each as often as it did."""
        return tuple(read_record(self._record).struck)

    @property
    def pending(self) -> tuple[Fault, ...]:
        """The faults that have not struck."""
        return read_record(self._record).pending

    def start(self) -> None:
        """Start it where it does not run, and return when it takes requests.

        Raises NotStarted, OSError.
        """
        with self._lock:
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
            watcher = threading.Thread(target=self._watch, args=(process,), daemon=True)
            self._watchers.append(watcher)
            watcher.start()

    def kill(self) -> None:
        """Kill it (SIGKILL): what it had not written yet is lost."""
        with self._lock:
            process, self._process = self._process, None
            if process is not None:
                process.kill()
                # Reads what is left, closes the pipe and waits.
                process.communicate()

    def restart(self) -> None:
        """Kill it, and start it again on the same directory and port. Raises as `start` does."""
        with self._lock:
            self.kill()
            self.start()

    def _watch(self, process: subprocess.Popen[str]) -> None:
        """Start it again where a fault killed it."""
        process.wait()
        with self._lock:
            if self._process is not process:
                return
            self.kill()
            struck = self.struck
            if struck and isinstance(struck[-1], Kill) and struck[-1].comes_back:
                self.start()

    def _close(self) -> None:
        self.kill()
        for watcher in self._watchers:
            watcher.join()
        self._place.close()
        self._records.cleanup()

    def _await_address(self, process: subprocess.Popen[str], said: IO[str]) -> None:
        assert process.stdout is not None  # noqa: S101 - a pipe was asked for
        if process.stdout.readline().strip() != self.address:
            process.kill()
            process.wait()
            said.seek(0)
            raise NotStarted(said.read().strip() or "the registry did not start")
