"""cli.blob: the bytes of a blob."""

from __future__ import annotations

import gzip
import hashlib
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from tests.raw_server import Peer, serve_script
from tests.unit.cli.images import push, read

if TYPE_CHECKING:
    from tests.conftest import Embedded
    from tests.unit.cli.conftest import Brolga

RIGHT = f"sha256:{hashlib.sha256(b'right').hexdigest()}"
BLOB = [sys.executable, "-m", "brolga", "blob"]


def test_its_bytes_are_printed(registry: Embedded) -> None:
    """As they are stored."""
    name = f"{registry.address}/a"
    push(name, "layer")
    (layer,) = read(name).manifest.layers
    done = subprocess.run([*BLOB, f"{name}@{layer.digest}"], capture_output=True, check=True)
    assert gzip.decompress(done.stdout) == b"layer"
    assert done.stderr == b""


def test_a_wrong_byte_is_told_after_what_was_printed(brolga: Brolga) -> None:
    """Exit code 6: what is on stdout cannot be taken back, so the line says not to use it."""
    size = 1 << 21

    def script(peer: Peer) -> None:
        while head := peer.head():
            peer.answer(200, b"" if head[0].startswith("GET /v2/ ") else b"x" * size)

    with serve_script(script) as address:
        outcome = brolga("blob", f"{address}/x@{RIGHT}")
    printed = len(outcome.out)
    assert outcome.code == 6
    assert 0 < printed < size  # never the last block
    assert outcome.err.startswith("brolga: registry: ")
    assert outcome.err.endswith(
        f"; stdout got {printed} bytes, which must not be used; try again\n"
    )


def test_what_printed_nothing_says_nothing_of_it(brolga: Brolga, registry: Embedded) -> None:
    """Exit code 3."""
    push(f"{registry.address}/a", "layer")
    outcome = brolga("blob", f"{registry.address}/a@{RIGHT}")
    assert (outcome.code, outcome.out) == (3, "")
    assert "stdout got" not in outcome.err


def test_a_blob_is_named_by_digest(brolga: Brolga) -> None:
    """Exit code 2, and nothing was asked."""
    outcome = brolga("blob", "127.0.0.1:1/x:v1")
    assert outcome.code == 2
    assert outcome.err.startswith("brolga: a blob is named by its digest: REPO@sha256:...")


@pytest.mark.parametrize(
    ("stdout", "line"),
    [
        ("| head -c 0", ""),
        (">&-", "brolga: local: stdout cannot be written: it is closed\n"),
    ],
)
def test_a_stdout_that_takes_nothing(registry: Embedded, stdout: str, line: str) -> None:
    """A reader that has enough is told nothing; a closed stdout is an error of this side."""
    name = f"{registry.address}/a"
    push(name, "layer")
    (layer,) = read(name).manifest.layers
    command = f"{sys.executable} -m brolga blob {name}@{layer.digest} {stdout}"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("", line)
