"""Pushes to docker-registry 2.8 that are killed, and started again with the same state."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
from tests.images import digest_of
from tests.processes import brolga, feed, finish, start_brolga, wait_until
from tests.registries import fetch_blob

if TYPE_CHECKING:
    from pathlib import Path

    from tests.real.cutting import Proxy
    from tests.real.foreign import DockerRegistry

pytestmark = pytest.mark.real

MB = 1_000_000
DATA = random.Random(28).randbytes(40 * MB)
FIRST = 25 * MB
ARRIVED = 20 * MB


def push(front: Proxy, repository: str, state: Path) -> list[str | Path]:
    """Return the arguments of a push of stdin."""
    flags = ["--compression", "none", "--no-tar", "--spool", "--state", str(state)]
    return ["layer", "push", *flags, f"{front.address}/{repository}:v1"]


def arrived(registry: DockerRegistry, repository: str) -> int:
    """Return how many bytes the only session has."""
    place = registry.storage / f"docker/registry/v2/repositories/{repository}/_uploads"
    return sum(path.stat().st_size for path in place.glob("*/data"))


def requests(front: Proxy, count: int) -> list[str]:
    """Return the methods of the first requests for uploads."""
    return [seen.method for seen in front.requests() if "/blobs/uploads/" in seen.path][:count]


@pytest.mark.parametrize(
    ("kill", "expected"),
    [
        ("terminate", ["POST", "PATCH", "GET", "PATCH", "PUT"]),
        ("kill", ["POST", "PATCH", "GET", "DELETE", "POST", "PATCH", "PUT"]),
    ],
)
def test_push_that_is_killed_ends_in_the_blob(
    plain_registry: DockerRegistry, front: Proxy, tmp_path: Path, kill: str, expected: list[str]
) -> None:
    """2.8 ends a session that was cut when it is asked.

    A process that can still end its request in order has the newest Location: 2.8 takes no other.
    """
    repository = f"killed/{kill}"
    arguments = push(front, repository, tmp_path / "state")
    with start_brolga(*arguments) as process:
        feed(process, DATA[:FIRST])
        wait_until(lambda: arrived(plain_registry, repository) >= ARRIVED)
        getattr(process, kill)()
        code, _, _ = finish(process)
    assert code != 0
    assert requests(front, 2) == expected[:2]
    brolga(*arguments, data=DATA)
    assert requests(front, len(expected)) == expected
    assert fetch_blob(plain_registry.address, repository, digest_of(DATA)) == DATA
