"""stream/command.py: a command's stdout as a source, complete only after exit status 0."""

from __future__ import annotations

import os
import pty
import queue
import signal
import subprocess
import sys
from collections import deque
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import pytest

from brolga.errors import SourceError
from brolga.spec.blob import LayerState
from brolga.stream import command as command_module
from brolga.stream.command import Command, _RunningCommand
from brolga.stream.exit_status import ExitStatusUnknown
from brolga.stream.layer import StreamLayer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from brolga.spec.blob import BlockSource

MIB = 1 << 20
TEST_TIMEOUT_S = 30.0


def shell(script: str) -> Command:
    """Return a shell's script as a source."""
    return Command(["sh", "-c", script])


def read(command: Command) -> bytes:
    """Read a command to its end."""
    with StreamLayer(command, "none").open() as stream:
        return stream.read()


def opened(script: str) -> BlockSource:
    """Run a script that has a trap, or a child, before its first byte; return it at that byte."""
    source = shell(script).open_blocks(1)
    assert source.next_block(TEST_TIMEOUT_S)
    return source


@contextmanager
def as_stdin(fd: int) -> Iterator[None]:
    """Let commands that are run in the block inherit a descriptor, as their stdin."""
    before = os.dup(0)
    os.dup2(fd, 0)
    os.close(fd)
    try:
        yield
    finally:
        os.dup2(before, 0)
        os.close(before)


def test_command_streams_stdout() -> None:
    """All of it, in order, with what it starts itself."""
    assert read(shell("printf a; printf b; (printf c)")) == b"abc"
    assert read(shell("head -c 3000000 /dev/zero")) == bytes(3_000_000)
    assert read(Command(["true"])) == b""


def test_command_inherits_stdin_only_if_it_reads_it() -> None:
    """With `reads_stdin`, the default, it is inherited; without, it is at its end at once."""
    ours, end = os.pipe()
    os.write(end, b"given")
    os.close(end)
    with as_stdin(ours):
        assert read(Command(["cat"], reads_stdin=False)) == b""
        assert read(Command(["cat"])) == b"given"


def test_layer_of_command_is_done_after_exit_0() -> None:
    """Its digests exist once the command has exited with 0; it cannot be opened again."""
    layer = StreamLayer(Command(["printf", "data"]), "none")
    assert layer.source_size is None
    with layer.open() as stream:
        assert not stream.is_reopenable
        assert stream.read() == b"data"
    assert layer.state is LayerState.DONE
    assert layer.uncompressed_size == 4


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("exit 3", "sh exited with 3"),
        ("printf data; exit 1", "sh exited with 1"),
        ("kill -KILL $$", "sh was killed by SIGKILL"),
        ("printf data; kill -SEGV $$", "sh was killed by SIGSEGV"),
        ("kill -40 $$", "sh was killed by signal 40"),
        ("exec >&-; exit 5", "sh exited with 5"),
    ],
)
def test_next_block_raises_after_failing_exit(script: str, message: str) -> None:
    """Only the exit status shows that the output is truncated. No digest exists."""
    layer = StreamLayer(shell(script))
    with layer.open() as stream, pytest.raises(SourceError, match=f"^{message}$"):
        stream.read()
    assert layer.state is LayerState.FAILED


def test_next_block_raises_again_after_failing_exit() -> None:
    """A source that has failed stays so, and one that has ended too."""
    failed, ended = shell("exit 3").open_blocks(MIB), Command(["true"]).open_blocks(MIB)
    for _ in range(2):
        with pytest.raises(SourceError, match="sh exited with 3"):
            failed.next_block(TEST_TIMEOUT_S)
        assert ended.next_block(TEST_TIMEOUT_S) == memoryview(b"")
    for _ in range(2):
        failed.close()
        ended.close()


def test_next_block_returns_none_while_exit_is_awaited() -> None:
    """A command that has closed stdout works on: nothing came, says the source meanwhile."""
    end, start = os.pipe()
    with as_stdin(end):
        source = shell("exec >&-; read line").open_blocks(MIB)
    for timeout_s in (0.01, 0):
        assert source.next_block(timeout_s) is None
    os.write(start, b"go on\n")
    while (block := source.next_block(TEST_TIMEOUT_S)) is None:
        pass
    assert block == memoryview(b"")
    source.close()
    os.close(start)


def test_open_raises_if_command_is_not_found() -> None:
    """Before anything is sent; its arguments, which may be secret, are not shown."""
    with pytest.raises(SourceError, match=r"^cannot run nope: No such file or directory$"):
        StreamLayer(Command(["nope", "s3cret"])).open()
    with pytest.raises(SourceError, match=r"^cannot run /etc: Permission denied$"):
        Command(["/etc"]).open_blocks(MIB)
    with pytest.raises(SourceError, match=r"^cannot run x: embedded null byte$"):
        Command(["x", "a\0b"]).open_blocks(MIB)


def test_command_starts_when_layer_is_opened(tmp_path: Path) -> None:
    """Making the layer starts nothing."""
    file = tmp_path / "ran"
    layer = StreamLayer(Command(["touch", str(file)]))
    assert not file.exists()
    with layer.open() as stream:
        stream.read()
    assert file.exists()


def test_close_terminates_process_group() -> None:
    """SIGTERM goes to its process group, so that its children end too."""
    end, start = os.pipe()
    with as_stdin(start):
        source = opened(
            "exec 3<&0; sleep 1000 & echo; wait"
        )  # sh takes stdin from what is behind &
    source.close()
    with os.fdopen(end, "rb") as pipe:
        assert pipe.read() == b""  # no process has its other end


def test_close_terminates_before_first_block() -> None:
    """And waits until it has."""
    source = shell("sleep 1000").open_blocks(MIB)
    assert isinstance(source, _RunningCommand)
    source.close()
    assert source._ended.get(timeout=TEST_TIMEOUT_S) == -signal.SIGTERM


def test_close_kills_after_terminate_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGKILL, after 5 s of patience."""
    assert command_module.TERMINATE_TIMEOUT_S == 5
    monkeypatch.setattr(command_module, "TERMINATE_TIMEOUT_S", 0.01)
    source = opened("trap '' TERM; echo; while :; do sleep 1000; done")
    assert isinstance(source, _RunningCommand)
    source.close()
    assert source._ended.get(timeout=TEST_TIMEOUT_S) == -signal.SIGKILL


def test_close_kills_if_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second Ctrl-C ends the wait."""

    def interrupted() -> None:
        raise KeyboardInterrupt

    source = opened("trap '' TERM; echo; while :; do sleep 1000; done")
    assert isinstance(source, _RunningCommand)
    with monkeypatch.context() as patch:
        patch.setattr(source._worker, "join", interrupted)
        with pytest.raises(KeyboardInterrupt):
            source.close()
    assert source._ended.get(timeout=TEST_TIMEOUT_S) == -signal.SIGKILL
    source.close()


def test_open_interrupted_leaves_no_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The thread that makes the process is waited for, and ends it."""

    class Interrupted(queue.SimpleQueue[object]):
        def get(self, *_: object, **__: object) -> object:
            raise KeyboardInterrupt

    started: list[_RunningCommand] = []

    class Started(_RunningCommand):
        def __init__(self, arguments: Sequence[str], *, reads_stdin: bool) -> None:
            super().__init__(arguments, reads_stdin=reads_stdin)
            self._started = Interrupted()  # type: ignore[assignment] # a double
            started.append(self)

    monkeypatch.setattr(command_module, "_RunningCommand", Started)
    with pytest.raises(KeyboardInterrupt):
        shell("sleep 1000").open_blocks(MIB)
    assert started[0]._ended.get(timeout=TEST_TIMEOUT_S) == -signal.SIGTERM


def test_send_signal_ignores_ended_process() -> None:
    """Its number may be another's by now."""
    source = Command(["true"]).open_blocks(MIB)
    assert isinstance(source, _RunningCommand)
    assert source.next_block(TEST_TIMEOUT_S) == memoryview(b"")
    source.close()
    source._send_signal(signal.SIGKILL)


_FORK = """
import os, signal, sys
from brolga.stream.command import Command
source = Command(["sh", "-c", "echo; exec sleep 1000"]).open_blocks(1)
source.next_block(30)
child = os.fork()
if child == 0:
    signal.alarm(50)
    source.close()
    sys.exit(0)
assert os.waitpid(child, 0)[1] == 0
assert source._ended.empty()
source.close()
print(source._ended.get())
"""


def test_close_in_forked_child_leaves_command_running() -> None:
    """A forked process has the object, and none of its threads: the command is its parent's."""
    run = [sys.executable, "-W", "ignore", "-c", _FORK]
    done = subprocess.run(run, check=True, capture_output=True)
    assert (done.stdout, done.stderr) == (b"-15\n", b"")


@pytest.mark.parametrize("script", ["printf partial; exit 3", "printf partial; kill -9 $$"])
@pytest.mark.parametrize("is_ignored", [True, False])
def test_next_block_raises_if_exit_status_is_lost(
    script: str,
    is_ignored: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """If SIGCHLD is ignored, or the host waits for all children, its success is unknown."""
    if not is_ignored:
        waitpid = os.waitpid

        def reaped(pid: int, options: int) -> tuple[int, int]:
            waitpid(pid, 0)
            return waitpid(pid, options)

        monkeypatch.setattr(os, "waitpid", reaped)
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN if is_ignored else signal.SIG_DFL)
    layer = StreamLayer(shell(script), "none")
    try:
        with pytest.raises(SourceError, match="sh: it ended, and its exit status is not known"):
            deque(layer.open(), maxlen=0)
    finally:
        signal.signal(signal.SIGCHLD, before)
    assert layer.state is LayerState.FAILED


def test_close_while_sigchld_is_ignored() -> None:
    """Nothing waits for a status that never comes."""
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        source = opened("echo; exec sleep 1000")
        source.close()
    finally:
        signal.signal(signal.SIGCHLD, before)
    assert isinstance(source, _RunningCommand)
    assert isinstance(source._ended.get(timeout=TEST_TIMEOUT_S), ExitStatusUnknown)


_EXIT = """
import os, sys
from brolga.stream.command import Command
from brolga.stream.layer import StreamLayer
stubborn = "trap '' TERM; " if sys.argv[1] == "stubborn" else ""
import brolga.stream.command
brolga.stream.command.TERMINATE_TIMEOUT_S = 0.05
script = stubborn + "echo $$; exec sleep 1000"
kept = [Command(["sh", "-c", script]).open_blocks(1) for _ in range(2)]
for source in kept:
    pid = b""
    while not pid.endswith(b"\\n"):
        pid += bytes(source.next_block(30) or b"")
    sys.stdout.write(pid.decode())
if sys.argv[1] == "error":
    raise SystemExit(3)
"""


@pytest.mark.parametrize("how", ["end", "error", "stubborn"])
def test_open_command_is_stopped_at_exit(how: str) -> None:
    """No orphan runs on, and the ends of its pipes are closed."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _EXIT, how],
        check=False,
        capture_output=True,  # waits until no process has the pipes
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (3 if how == "error" else 0, "")
    pids = [int(line) for line in done.stdout.split()]
    assert len(pids) == 2
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.killpg(pid, 0)


def test_closed_command_is_not_kept_until_exit() -> None:
    """Nor is one that could not be run."""
    before = len(command_module._open_commands)
    assert read(shell("printf a")) == b"a"
    with pytest.raises(SourceError):
        read(Command(["no-such-program"]))
    assert len(command_module._open_commands) == before


def test_command_has_default_sigpipe() -> None:
    """Python ignores SIGPIPE; a command has it as usual."""
    with pytest.raises(SourceError, match="sh was killed by SIGPIPE"):
        read(shell("kill -PIPE $$; echo it was ignored"))


_GROUP = """
import fcntl, os, sys, termios
if os.isatty(0):
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from brolga.stream.command import Command
from brolga.stream.layer import StreamLayer
script = "import os; print(os.getpgrp() == os.getpid(), end='')"
with StreamLayer(Command([sys.executable, "-c", script]), "none").open() as stream:
    print(stream.read().decode())
"""


def test_command_has_own_group_without_terminal() -> None:
    """With one in the foreground it stays in ours: it may ask there, and Ctrl-C reaches it."""
    run = partial(
        subprocess.run,
        [sys.executable, "-c", _GROUP],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert run(stdin=subprocess.DEVNULL).stdout == "True\n"
    master, slave = pty.openpty()
    assert run(stdin=slave).stdout == "False\n"
    os.close(master)
    os.close(slave)
