"""The registry as a process, which can be killed and restarted.

The port stays bound here without a listener: while the registry is down, connections are refused,
and no other program can take the port. Faults and their counts are in a file of the process
(run.py), so they survive it too.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from brolga.errors import BrolgaError
from brolga.testing.faults import Fault, FaultPlan, Kill
from brolga.testing.run import Run

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence
    from typing import Self

    from brolga.testing.registries import Profile


class StartError(BrolgaError):
    """The process ended before it accepted requests; the message is its stderr."""


class RegistryProcess:
    """`brolga registry serve DIRECTORY`, with further arguments; a context manager.

    `plan` and `profile` are those of an `Injector`; a restarted process continues them. After a
    `Kill` of the plan the process is restarted at once, if the fault says so. `address` is
    `127.0.0.1:PORT`, the same after each start. Raises ValueError for an unknown profile.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        arguments: Sequence[str] = (),
        *,
        plan: FaultPlan | None = None,
        profile: Profile | str | None = None,
    ) -> None:
        run = Run.begin(plan, profile)
        self._directory = Path(directory)
        self._records = tempfile.TemporaryDirectory(prefix="brolga-faults-")
        run.record = self._record = Path(self._records.name, "record")
        run.save()
        self._arguments = (*arguments, "--faults", str(self._record))
        self._process: subprocess.Popen[str] | None = None
        self._lock = threading.RLock()
        self._watchers: list[threading.Thread] = []
        self._reservation = socket.socket()
        # Both processes must set it to share the port (socket(7)).
        self._reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._reservation.bind(("127.0.0.1", 0))
        self._port = self._reservation.getsockname()[1]
        self.address = f"127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        """Start the process. Raises as `start` does."""
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Kill the process, and release the port."""
        self.kill()
        for watcher in self._watchers:
            watcher.join()
        self._reservation.close()
        self._records.cleanup()

    @property
    def fired(self) -> tuple[Fault, ...]:
        """The faults that fired, in order, each as often as it did."""
        return tuple(Run.load(self._record).fired)

    @property
    def pending(self) -> tuple[Fault, ...]:
        """The faults that have not fired."""
        return Run.load(self._record).pending

    def start(self) -> None:
        """Start the process if it is not running; wait until it serves. Raises StartError."""
        with self._lock:
            if self._process is not None:
                return
            command = [sys.executable, "-m", "brolga", "registry", "serve", str(self._directory)]
            command += ["--port", str(self._port), *self._arguments]
            with tempfile.TemporaryFile("w+") as stderr:
                self._process = process = subprocess.Popen(  # noqa: S603 - our own command
                    command, stdout=subprocess.PIPE, stderr=stderr, text=True
                )
                is_ready = False
                try:
                    assert process.stdout is not None  # noqa: S101 - a pipe was asked for
                    is_ready = process.stdout.readline().strip() == self.address
                finally:
                    if not is_ready:
                        self.kill()
                if not is_ready:
                    stderr.seek(0)
                    raise StartError(stderr.read().strip() or "the registry did not start")
            watcher = threading.Thread(target=self._watch, args=(process,), daemon=True)
            self._watchers.append(watcher)
            watcher.start()

    def kill(self) -> None:
        """Kill the process (SIGKILL): what it had not written yet is lost."""
        with self._lock:
            process, self._process = self._process, None
            if process is not None:
                process.kill()
                # Reads what is left, closes the pipe and waits.
                process.communicate()

    def restart(self) -> None:
        """Kill and start the process on the same directory and port. Raises as `start` does."""
        with self._lock:
            self.kill()
            self.start()

    def _watch(self, process: subprocess.Popen[str]) -> None:
        """Restart the process if a fault killed it."""
        process.wait()
        with self._lock:
            if self._process is not process:
                return
            self.kill()
            fired = self.fired
            if fired and isinstance(fired[-1], Kill) and fired[-1].comes_back:
                self.start()
