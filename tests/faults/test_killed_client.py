"""A push that is killed (SIGKILL) and started again with the same state directory."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
from contextlib import nullcontext
from typing import TYPE_CHECKING

import pytest
from tests.faults.conftest import NAME
from tests.images import digest_of
from tests.processes import BROLGA, PATIENCE_S, brolga, feed, start_brolga, wait_until
from tests.tars import entry, tar

from brolga.aio import AsyncClient
from brolga.client import Client, UploadOptions
from brolga.errors import Denied
from brolga.images import Image
from brolga.stores.journal import INTERVAL
from brolga.stream.layer import StreamLayer
from brolga.testing.faults import Answer, FaultPlan, Stall

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path
    from subprocess import Popen

    from brolga.testing.faults import Fault
    from brolga.testing.plugin import BrolgaRegistry

MIB = 1 << 20
DATA = random.Random(12).randbytes(24 * MIB)
MOST = len(DATA) * 1.1
FLAGS = ("--compression", "none", "--no-tar")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Provide a file."""
    path = tmp_path / "data"
    path.write_bytes(DATA)
    return path


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Provide the path of a state directory, which does not exist yet."""
    return tmp_path / "state"


def push(registry: BrolgaRegistry, state: Path, *arguments: str | Path) -> list[str | Path]:
    """Return the arguments of a push."""
    repository = registry.repository(NAME)
    return ["layer", "push", *FLAGS, "--state", state, repository, *arguments]


def stop(
    registry: BrolgaRegistry,
    arguments: Sequence[str | Path],
    *faults: Fault,
    data: bytes = b"",
    kill: str = "kill",
) -> None:
    """Run a command once for each fault, and kill it when the fault strikes."""
    registry.use(faults=FaultPlan(*faults), profile=registry.profile)
    for left in reversed(range(len(faults))):
        with start_brolga(*arguments) as process:
            feed(process, data)
            wait_until(lambda: len(registry.pending) == left)  # noqa: B023 - called at once
            _end(process, kill)


def _end(process: Popen[bytes], kill: str) -> None:
    getattr(process, kill)()
    process.communicate(timeout=PATIENCE_S)


def finish(arguments: Sequence[str | Path], data: bytes = b"") -> None:
    """Run a command to its end."""
    subprocess.run([*BROLGA, *arguments], check=True, input=data, timeout=PATIENCE_S)


def received(registry: BrolgaRegistry) -> int:
    """Return how many bytes of blobs came in all."""
    return sum(each.received for each in registry.requests if "upload" in each.kind)


def posts(registry: BrolgaRegistry) -> int:
    """Return how many sessions were opened."""
    return sum(each.kind == "POST upload" for each in registry.requests)


def assert_pushed(registry: BrolgaRegistry, data: bytes = DATA, sessions: int = 1) -> None:
    """Assert that the blob is there, and that it took so many sessions, none of which is left."""
    assert registry.blobs(NAME) == {digest_of(data): data}
    assert posts(registry) == sessions
    assert registry.uploads(NAME) == {}


def test_push_of_file_killed_twice_sends_each_byte_once(
    brolga_registry: BrolgaRegistry, source: Path, state: Path
) -> None:
    """The third run ends in the session of the first one."""
    arguments = push(brolga_registry, state, source)
    stop(brolga_registry, arguments, Stall(at=10 * MIB), Stall(nth=2, at=9 * MIB + 7))
    finish(arguments)
    assert_pushed(brolga_registry)
    assert len(DATA) <= received(brolga_registry) <= MOST
    (journal,) = state.iterdir()
    assert "uploads" not in journal.read_text()  # no Location is kept


@pytest.mark.parametrize("at", [0, 5 * MIB], ids=["nothing", "less than an interval"])
def test_push_killed_early_begins_a_session_whose_bytes_are_known(
    brolga_registry: BrolgaRegistry, source: Path, state: Path, at: int
) -> None:
    """A session with bytes that no digest confirms is cancelled."""
    arguments = push(brolga_registry, state, source)
    stop(brolga_registry, arguments, Stall(at=at))
    finish(arguments)
    assert_pushed(brolga_registry, sessions=1 if at == 0 else 2)
    assert received(brolga_registry) <= len(DATA) + INTERVAL


def test_push_killed_while_the_put_is_answered_sends_nothing_again(
    brolga_registry: BrolgaRegistry, source: Path, state: Path
) -> None:
    """The blob is there: the next run reads the file, and finds it."""
    arguments = push(brolga_registry, state, source)
    stop(brolga_registry, arguments, Stall(on="PUT upload", at=None))
    finish(arguments)
    finish(arguments)
    assert_pushed(brolga_registry)
    assert received(brolga_registry) == len(DATA)


def test_push_of_file_that_changed_begins_anew(
    brolga_registry: BrolgaRegistry, source: Path, state: Path
) -> None:
    """A byte differs, and neither size nor time says so: its digest does."""
    arguments = push(brolga_registry, state, source)
    stop(brolga_registry, arguments, Stall(at=12 * MIB))
    status = source.stat()
    other = bytes([DATA[0] ^ 1]) + DATA[1:]
    with source.open("r+b") as file:
        file.write(other[:1])
    os.utime(source, ns=(status.st_atime_ns, status.st_mtime_ns))
    finish(arguments)
    assert_pushed(brolga_registry, other, sessions=2)


def test_push_of_file_that_grew_is_another_source(
    brolga_registry: BrolgaRegistry, source: Path, state: Path
) -> None:
    """The session of the other bytes is left to its journal."""
    arguments = push(brolga_registry, state, source)
    stop(brolga_registry, arguments, Stall(at=12 * MIB))
    with source.open("ab") as file:
        file.write(b"more")
    finish(arguments)
    assert brolga_registry.blobs(NAME) == {digest_of(DATA + b"more"): DATA + b"more"}
    assert len(brolga_registry.uploads(NAME)) == 1


def test_push_of_stdin_with_spool_goes_on_if_it_gets_the_same_bytes(
    brolga_registry: BrolgaRegistry, state: Path
) -> None:
    """A pipe has no beginning to go back to: the same bytes have to come again."""
    arguments = push(brolga_registry, state, "--spool")
    stop(brolga_registry, arguments, Stall(at=12 * MIB), data=DATA[: 18 * MIB])
    finish(arguments, DATA)
    assert_pushed(brolga_registry)
    assert received(brolga_registry) <= MOST


def test_push_of_stdin_with_spool_begins_anew_if_it_gets_other_bytes(
    brolga_registry: BrolgaRegistry, state: Path
) -> None:
    """They are in the spool, and go into a new session."""
    arguments = push(brolga_registry, state, "--spool")
    stop(brolga_registry, arguments, Stall(at=12 * MIB), data=DATA[: 18 * MIB])
    finish(arguments, DATA[::-1])
    assert_pushed(brolga_registry, DATA[::-1], sessions=2)


def test_push_of_command_with_spool_goes_on(
    brolga_registry: BrolgaRegistry, source: Path, state: Path
) -> None:
    """The command is run again."""
    code = "import sys; sys.stdout.buffer.write(open(sys.argv[1], 'rb').read())"
    command: list[str | Path] = ["--", sys.executable, "-c", code, source]
    arguments = push(brolga_registry, state, "--spool", *command)
    stop(brolga_registry, arguments, Stall(at=12 * MIB))
    finish(arguments)
    assert_pushed(brolga_registry)
    assert received(brolga_registry) <= MOST
    assert str(source) not in "".join(path.read_text() for path in state.iterdir())


@pytest.mark.parametrize("arguments", [[], ["--", "true"]], ids=["stdin", "command"])
def test_push_with_state_of_what_is_read_once_needs_a_spool(
    brolga_registry: BrolgaRegistry, state: Path, arguments: list[str]
) -> None:
    """Otherwise a later run could not begin anew."""
    error = brolga(*push(brolga_registry, state, *arguments), code=6)
    assert b"the source can be read only once" in error
    assert posts(brolga_registry) == 0


def test_push_of_generator_with_spool_goes_on(
    brolga_registry: BrolgaRegistry, state: Path, tmp_path: Path
) -> None:
    """Nothing is known of the source but its bytes, and they are compared."""
    repository = brolga_registry.repository(NAME)
    uploads = UploadOptions(state=state, spool=tmp_path)

    def pieces(count: int) -> Iterator[bytes]:
        for start in range(0, count * MIB, MIB):
            yield DATA[start : start + MIB]
        if count * MIB < len(DATA):
            raise KeyboardInterrupt

    for count in (12, 24):
        layer = StreamLayer(pieces(count), compression="none", tar=False)
        with (
            Client(uploads=uploads) as client,
            pytest.raises(KeyboardInterrupt) if count == 12 else nullcontext(),
        ):
            client.push_layer(repository, layer)
    assert_pushed(brolga_registry)
    assert received(brolga_registry) <= MOST


@pytest.mark.parametrize("kill", ["terminate", "kill"])
def test_push_of_image_killed_in_its_second_layer_keeps_the_first(
    brolga_registry: BrolgaRegistry, source: Path, state: Path, kill: str
) -> None:
    """What was pushed whole is found by its digest, and what was not is gone on with."""
    first = source.with_name("first")
    first.write_bytes(tar(entry("data", DATA[::-1])))
    source.write_bytes(tar(entry("data", DATA)))
    layers = ("-f", first, "-f", source)
    target = f"{brolga_registry.repository(NAME)}:v1"
    arguments: list[str | Path] = ["append", "--compression", "none", "--state", state, *layers]
    arguments += ["-t", target, "-j", "1"]
    stop(brolga_registry, arguments, Stall(nth=2, at=12 * MIB), kill=kill)
    finish(arguments)
    blobs = brolga_registry.blobs(NAME)
    assert {digest_of(path.read_bytes()) for path in (first, source)} <= blobs.keys()
    assert received(brolga_registry) <= 2 * MOST
    assert brolga_registry.uploads(NAME) == {}


@pytest.mark.parametrize("kind", ["PUT", "PATCH"])
def test_push_of_layout_killed_in_a_blob_goes_on(
    brolga_registry: BrolgaRegistry, source: Path, state: Path, kind: str
) -> None:
    """A blob whose digest is known goes on as well, also one that began as a single PUT."""
    layout = f"oci:{source.with_name('layout')}:v1"
    layer = StreamLayer(source, compression="none", tar=False)
    with Client() as client:
        client.push(layout, Image.empty().append(layer))
    target = f"{brolga_registry.repository(NAME)}:v1"
    style = "put" if kind == "PUT" else "streamed"
    arguments: list[str | Path] = [
        "push",
        "--upload-style",
        style,
        "--state",
        state,
        layout,
        target,
    ]
    stop(brolga_registry, arguments, Stall(on=f"{kind} upload", at=12 * MIB))
    finish(arguments)
    assert brolga_registry.blobs(NAME)[digest_of(DATA)] == DATA
    assert received(brolga_registry) <= MOST
    assert list(state.iterdir()) == []


@pytest.mark.parametrize(
    "brolga_registry",
    ["distribution-3", "distribution-2.8", "harbor", "ghcr", "quay", "zot", "jfrog", "ggcr"],
    indirect=True,
)
def test_push_killed_on_each_profile_ends_in_the_blob(
    brolga_registry: BrolgaRegistry, source: Path, state: Path
) -> None:
    """In the session of the first run, or in another one where that is not safe."""
    arguments = push(brolga_registry, state, source)
    stop(brolga_registry, arguments, Stall(at=12 * MIB))
    finish(arguments)
    assert brolga_registry.blobs(NAME) == {digest_of(DATA): DATA}
    assert received(brolga_registry) <= len(DATA) + 13 * MIB


def test_two_pushes_of_one_file_at_a_time_both_succeed(
    brolga_registry: BrolgaRegistry, source: Path, state: Path
) -> None:
    """Only the first one uses the journal, and only it goes on later."""
    arguments = push(brolga_registry, state, source)
    brolga_registry.use(faults=FaultPlan(Stall(at=12 * MIB)))
    with start_brolga(*arguments) as process:
        wait_until(lambda: not brolga_registry.pending)
        finish(arguments)
        _end(process, "kill")
    assert brolga_registry.blobs(NAME) == {digest_of(DATA): DATA}
    assert posts(brolga_registry) == 2


def test_push_of_image_leaves_the_session_of_a_layer_if_another_fails(
    brolga_registry: BrolgaRegistry, source: Path, state: Path
) -> None:
    """What was sent of the one is not lost because the other was refused."""
    repository = brolga_registry.repository(NAME)
    refused = source.with_name("refused")
    refused.write_bytes(DATA[::-1])
    layers = [StreamLayer(path, compression="none", tar=False) for path in (source, refused)]
    faults = FaultPlan(Stall(at=12 * MIB), Answer(nth=2, status=403, at=1))
    brolga_registry.use(faults=faults)
    with Client(state=state) as client, pytest.raises(Denied):
        client.push(f"{repository}:v1", Image.empty().append(*layers))
    assert len(brolga_registry.uploads(NAME)) == 1
    assert len(list(state.iterdir())) == 1


def test_client_with_state_goes_on_with_the_upload_of_another(
    brolga_registry: BrolgaRegistry, source: Path, state: Path
) -> None:
    """`Client(state=...)` is what --state is."""
    arguments = push(brolga_registry, state, source)
    stop(brolga_registry, arguments, Stall(at=12 * MIB), kill="terminate")
    layer = StreamLayer(source, compression="none", tar=False)
    with Client(state=state) as client:
        client.push_layer(brolga_registry.repository(NAME), layer)
    assert_pushed(brolga_registry)
    assert received(brolga_registry) <= MOST


def test_cancelled_push_of_an_asynchronous_client_goes_on_in_the_next_one(
    brolga_registry: BrolgaRegistry, source: Path, state: Path
) -> None:
    """A task that is cancelled leaves its session."""
    repository = brolga_registry.repository(NAME)
    brolga_registry.use(faults=FaultPlan(Stall(at=12 * MIB)))

    async def push_layer(*, cancel: bool) -> None:
        layer = StreamLayer(source, compression="none", tar=False)
        async with AsyncClient(state=state) as client:
            task = asyncio.create_task(client.push_layer(repository, layer))
            if cancel:
                await asyncio.to_thread(wait_until, lambda: not brolga_registry.pending)
                task.cancel()
            with pytest.raises(asyncio.CancelledError) if cancel else nullcontext():
                await task

    asyncio.run(push_layer(cancel=True))
    asyncio.run(push_layer(cancel=False))
    assert_pushed(brolga_registry)
    assert received(brolga_registry) <= MOST
