"""Signals in the middle of an upload: real ones, to a real process, at two registries.

The API does not show what is left behind: the tests look at the registry's disk.
"""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.processes import feed, finish, start_brolga, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.real.foreign import DockerRegistry

pytestmark = pytest.mark.real

MIB = 1 << 20
SENT = 8 * MIB
ENDS = [
    pytest.param(signal.SIGTERM, 143, "brolga: stopped by SIGTERM\n", id="SIGTERM"),
    pytest.param(signal.SIGINT, 130, "brolga: interrupted\n", id="SIGINT"),
]
STYLES = {"streamed": [], "chunked": ["--upload-style", "chunked:1MiB"]}
WINDOWS = {"with a window": [], "without one": ["--window", "0"]}


@dataclass(frozen=True)
class Target:
    """A registry, and the files of its open uploads and of its blobs."""

    address: str
    buffer: int
    uploads: Callable[[], list[Path]]
    blobs: Callable[[], list[Path]]

    def has(self, count: int) -> bool:
        """Return whether so many bytes have arrived, but for what the registry's buffer holds."""
        return sum(map(_size, self.uploads())) >= count - self.buffer


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:  # it was moved or deleted meanwhile
        return 0


@pytest.fixture(params=["embedded", "docker-registry"])
def target(request: pytest.FixtureRequest) -> Target:
    """Run a registry of each kind, with nothing in it."""
    if request.param == "embedded":
        embedded = request.getfixturevalue("registry")
        return Target(
            embedded.address, MIB, lambda: embedded.uploads("x"), lambda: embedded.blobs("x")
        )
    return _docker(request.getfixturevalue("own_registry"))


def _docker(registry: DockerRegistry) -> Target:
    return Target(
        registry.address,
        1 << 16,
        lambda: list(registry.storage.rglob("_uploads/*/data")),
        lambda: list(registry.storage.rglob("blobs/**/data")),
    )


@contextmanager
def pushing(
    target: Target, *arguments: str, arriving: int = SENT
) -> Iterator[subprocess.Popen[bytes]]:
    """Run `brolga layer push` until it waits for more; kill it if the test leaves it running."""
    push = ["layer", "push", "--compression", "none", f"{target.address}/x", *arguments]
    with start_brolga(*push) as process:
        if "--" not in arguments:
            feed(process, os.urandom(SENT))
        wait_until(lambda: target.has(arriving) and _sleeps(process.pid))
        yield process


def _sleeps(pid: int) -> bool:
    """Return whether each thread of a process waits for something (proc(5), stat)."""
    tasks = Path(f"/proc/{pid}/task").glob("*/stat")
    return all(task.read_text().rpartition(")")[2].split()[0] == "S" for task in tasks)


@pytest.mark.parametrize("flags", WINDOWS.values(), ids=WINDOWS)
@pytest.mark.parametrize(("number", "code", "line"), ENDS)
def test_layer_push_cancels_the_session_on_a_signal(
    target: Target, number: signal.Signals, code: int, line: str, flags: list[str]
) -> None:
    """distribution-spec, Canceling: the registry keeps nothing of what was sent; no blob either.

    The push waits for its source here.
    """
    with pushing(target, *flags) as process:
        process.send_signal(number)
        assert finish(process) == (code, "", line)
    assert target.uploads() == []
    assert target.blobs() == []


@pytest.mark.parametrize(("number", "code", "line"), ENDS)
def test_layer_push_cancels_the_session_on_a_signal_between_chunks(
    target: Target, number: signal.Signals, code: int, line: str
) -> None:
    """It is where the last answer said: distribution 2.8 accepts a DELETE nowhere else."""
    last = 1  # it waits for more, or for the end: it may be the last one
    flags = ["-v", "--upload-style", "chunked:1MiB"]
    with pushing(target, *flags, arriving=SENT - last * MIB) as process:
        assert process.stderr is not None
        answered = (text for text in process.stderr if b": 202, 1048576 bytes sent" in text)
        assert len(list(islice(answered, SENT // MIB - last))) == SENT // MIB - last
        wait_until(lambda: _sleeps(process.pid))
        process.send_signal(number)
        ended, out, err = finish(process)
    assert (ended, out) == (code, "")
    assert err.endswith(line)
    assert target.uploads() == []
    assert target.blobs() == []


@contextmanager
def stopped_under_a_patch(
    registry: DockerRegistry, *flags: str
) -> Iterator[subprocess.Popen[bytes]]:
    """Push until a PATCH waits for a registry that stands still; give the push."""
    running = registry._process
    assert running is not None
    with pushing(_docker(registry), "-v", *flags, arriving=SENT - MIB) as process:
        running.send_signal(signal.SIGSTOP)
        try:
            feed(process, bytes(2 * MIB))
            wait_until(lambda: _sleeps(process.pid))
            yield process
        finally:
            running.send_signal(signal.SIGCONT)


@pytest.mark.parametrize("flags", STYLES.values(), ids=STYLES)
@pytest.mark.parametrize(("number", "code", "line"), ENDS)
def test_layer_push_waits_for_the_patch_response_on_a_signal(
    own_registry: DockerRegistry, number: signal.Signals, code: int, line: str, flags: list[str]
) -> None:
    """docker-registry 2.8 accepts a DELETE only under the Location of that response."""
    with stopped_under_a_patch(own_registry, *flags) as process:
        process.send_signal(number)
        wait_until(lambda: _sleeps(process.pid))
        assert own_registry._process is not None
        own_registry._process.send_signal(signal.SIGCONT)
        ended, out, err = finish(process)
    assert (ended, out) == (code, "")
    assert err.endswith(line)
    target = _docker(own_registry)
    assert target.uploads() == []
    assert target.blobs() == []


@pytest.mark.parametrize("flags", STYLES.values(), ids=STYLES)
def test_layer_push_ends_at_once_on_a_second_signal(
    own_registry: DockerRegistry, flags: list[str]
) -> None:
    """The registry stands still, and is not called again."""
    with stopped_under_a_patch(own_registry, *flags) as process:
        process.send_signal(signal.SIGINT)
        wait_until(lambda: _sleeps(process.pid))
        process.send_signal(signal.SIGTERM)
        ended, out, err = finish(process)
    assert (ended, out) == (143, "")
    assert err.endswith("brolga: stopped by SIGTERM\n")
    assert "DELETE" not in err
    assert _docker(own_registry).blobs() == []


@pytest.mark.parametrize(("number", "code", "line"), ENDS)
def test_layer_push_leaves_no_spool_on_a_signal(
    target: Target, number: signal.Signals, code: int, line: str, tmp_path: Path
) -> None:
    """The file has no name at any time: even SIGKILL would leave none."""
    directory = tmp_path / "spool"
    directory.mkdir()
    with pushing(target, f"--spool={directory}") as process:
        assert list(directory.iterdir()) == []
        process.send_signal(number)
        assert finish(process) == (code, "", line)
    assert list(directory.iterdir()) == []
    assert target.uploads() == []


@pytest.mark.parametrize(("number", "code", "line"), ENDS)
def test_layer_push_ends_its_command_on_a_signal(
    target: Target, number: signal.Signals, code: int, line: str
) -> None:
    """`brolga layer push REPO -- COMMAND`: the command does not go on."""
    script = f"head -c {SENT} /dev/urandom; exec sleep 1000"
    with pushing(target, "--", "sh", "-c", script) as process:
        process.send_signal(number)
        assert finish(process) == (code, "", line)
        # It had our stdin; without a reader, a write fails.
        with pytest.raises(BrokenPipeError):
            feed(process, b"x")
    assert target.uploads() == []
    assert target.blobs() == []


_ON_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, "-m", "brolga", *sys.argv[1:]])
"""


def test_layer_push_and_its_command_end_on_ctrl_c(target: Target) -> None:
    """The terminal signals its whole foreground, the command among it; exit code 130."""
    script = f"head -c {SENT} /dev/urandom; sleep 1000"
    push = ["layer", "push", "--compression", "none", f"{target.address}/x"]
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", _ON_TERMINAL, *push, "--", "sh", "-c", script],
        stdin=slave,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    os.close(slave)
    with process:
        try:
            wait_until(lambda: target.has(SENT) and _sleeps(process.pid))
            os.write(master, b"\x03")
            code, out, err = finish(process)
        finally:
            process.kill()
            os.close(master)
    assert (code, out) == (130, "")
    assert err.endswith("brolga: interrupted\n")
    assert target.uploads() == []
    assert target.blobs() == []
