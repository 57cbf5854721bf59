"""Pulls through a proxy that cuts connections, by commands that are killed and run again."""

from __future__ import annotations

import hashlib
import os
import random
from typing import TYPE_CHECKING

import pytest
from tests.processes import brolga, start_brolga, wait_until
from tests.real.cutting import Fault

from brolga import Client, Image, StreamLayer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.real.cutting import Proxy
    from tests.real.foreign import DockerRegistry

pytestmark = pytest.mark.real

MIB = 1 << 20
# A run by hand: BROLGA_PULL_MIB=1024.
SIZE = int(os.environ.get("BROLGA_PULL_MIB", "128")) * MIB
# What two kills may cost: parts that were ahead of the reader, or only what a socket holds.
PARTS = 102 * MIB
SOCKETS = 24 * MIB
NOISE = random.Random(3).randbytes(MIB)


def blocks() -> Iterator[bytes]:
    """Give `SIZE` bytes, of which no two MiB are equal."""
    for number in range(SIZE // MIB):
        yield b"%012d" % number + NOISE[12:]


@pytest.fixture
def name(plain_registry: DockerRegistry, front: Proxy) -> Iterator[str]:
    """Push an image of one layer past the proxy, which cuts each connection. Delete the layer."""
    home = f"{plain_registry.address}/killed"
    front.arm(Fault(act="cut", direction="down", offset=SIZE // 20, times=1 << 30))
    with Client() as client:
        layer = StreamLayer(blocks(), "none", tar=False)
        client.push(f"{home}:v1", Image.empty().append(layer))
        yield f"{front.address}/killed@{layer.descriptor.digest}"
        client.delete_blob(f"{home}@{layer.descriptor.digest}")


def kill_at(front: Proxy, total: int, *command: str | Path) -> None:
    """Run a command; kill it when so many bytes have been passed on to it and those before."""
    front.hold("down", total)
    with start_brolga(*command) as process:
        wait_until(lambda: front.passed("down") >= total or process.poll() is not None)
        assert process.poll() is None
        process.kill()
        process.wait()
    front.release()


def test_blob_that_is_killed_twice_is_not_fetched_again(
    front: Proxy, name: str, tmp_path: Path
) -> None:
    """`blob -o` is killed after a third and two thirds: of 1 GiB at most 1.1 GiB are fetched."""
    file = tmp_path / "blob"
    kill_at(front, SIZE // 3, "blob", name, "-o", file)
    kill_at(front, 2 * SIZE // 3, "blob", name, "-o", file)
    assert not file.exists()
    brolga("blob", name, "-o", file)
    with file.open("rb") as content:
        assert name.endswith(hashlib.file_digest(content, "sha256").hexdigest())
    assert front.passed("down") <= SIZE + PARTS


def test_pull_by_one_connection_that_is_killed_twice_is_not_fetched_again(
    front: Proxy, name: str, tmp_path: Path
) -> None:
    """`pull --jobs 1` into a layout has no parts: a kill costs what the sockets hold."""
    image = name.partition("@")[0] + ":v1"
    command = ["pull", "--jobs", "1", image, f"oci:{tmp_path}"]
    kill_at(front, SIZE // 3, *command)
    kill_at(front, 2 * SIZE // 3, *command)
    brolga(*command)
    assert (tmp_path / "blobs/sha256" / name[-64:]).stat().st_size == SIZE
    assert front.passed("down") <= SIZE + SOCKETS
