"""A push that is killed (SIGKILL) and started again with the same state directory."""

from __future__ import annotations

import random
import subprocess
from typing import TYPE_CHECKING

from tests.faults.conftest import NAME
from tests.images import digest_of
from tests.processes import BROLGA, PATIENCE_S, start_brolga, wait_until

from brolga.testing.faults import FaultPlan, Stall

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from brolga.testing.plugin import BrolgaRegistry

MIB = 1 << 20
SIZE = 48 * MIB
DATA = random.Random(12).randbytes(SIZE)
FLAGS = ("--compression", "none", "--no-tar")


def push(registry: BrolgaRegistry, state: Path, *arguments: str | Path) -> list[str | Path]:
    """Return the arguments of a push."""
    repository = registry.repository(NAME)
    return ["layer", "push", *FLAGS, "--state", state, repository, *arguments]


def push_and_kill(
    registry: BrolgaRegistry, arguments: Sequence[str | Path], stops: Sequence[int]
) -> None:
    """Kill a push each time when the registry has got so many bytes of a PATCH."""
    registry.use(faults=FaultPlan(*(Stall(nth=nth, at=at) for nth, at in enumerate(stops, 1))))
    for left in reversed(range(len(stops))):
        with start_brolga(*arguments) as process:
            wait_until(lambda: len(registry.pending) == left)  # noqa: B023 - called at once
            process.kill()
            process.wait(PATIENCE_S)


def finish_push(arguments: Sequence[str | Path], data: bytes = b"") -> None:
    """Push to the end."""
    subprocess.run([*BROLGA, *arguments], check=True, input=data, timeout=PATIENCE_S)


def received(registry: BrolgaRegistry) -> int:
    """Return how many bytes of the blob came in all."""
    return sum(each.received for each in registry.requests if each.method in {"PATCH", "PUT"})


def posts(registry: BrolgaRegistry) -> int:
    """Return how many sessions were opened."""
    return sum(each.kind == "POST upload" for each in registry.requests)


def test_push_of_file_killed_twice_sends_each_byte_once(
    brolga_registry: BrolgaRegistry, tmp_path: Path
) -> None:
    """The third run ends in the session of the first one."""
    source = tmp_path / "data"
    source.write_bytes(DATA)
    arguments = push(brolga_registry, tmp_path / "state", source)
    push_and_kill(brolga_registry, arguments, [20 * MIB, 15 * MIB + 7])
    finish_push(arguments)
    assert brolga_registry.blobs(NAME) == {digest_of(DATA): DATA}
    assert posts(brolga_registry) == 1
    assert SIZE <= received(brolga_registry) <= SIZE * 1.1
    assert brolga_registry.uploads(NAME) == {}
