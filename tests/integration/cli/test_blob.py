"""brolga blob."""

from __future__ import annotations

import gzip
import hashlib
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from tests.cli_images import push, read
from tests.raw_server import Peer, serve_script

if TYPE_CHECKING:
    from pathlib import Path

    from tests.command import Brolga
    from tests.registries import EmbeddedRegistry

RIGHT = f"sha256:{hashlib.sha256(b'right').hexdigest()}"
BLOB = [sys.executable, "-m", "brolga", "blob"]


def test_blob_prints_bytes(registry: EmbeddedRegistry) -> None:
    """As they are stored."""
    name = f"{registry.address}/a"
    push(name, "layer")
    (layer,) = read(name).manifest.layers
    done = subprocess.run([*BLOB, f"{name}@{layer.digest}"], capture_output=True, check=True)
    assert gzip.decompress(done.stdout) == b"layer"
    assert done.stderr == b""


def test_blob_reports_wrong_byte_after_output(brolga: Brolga) -> None:
    """Exit code 6, and the error says that the output must not be used."""
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


def test_blob_without_output_does_not_mention_it(
    brolga: Brolga, registry: EmbeddedRegistry
) -> None:
    """Exit code 3."""
    push(f"{registry.address}/a", "layer")
    outcome = brolga("blob", f"{registry.address}/a@{RIGHT}")
    assert (outcome.code, outcome.out) == (3, "")
    assert "stdout got" not in outcome.err


def test_blob_requires_digest(brolga: Brolga) -> None:
    """Exit code 2, before any request."""
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
def test_blob_reports_failing_stdout(registry: EmbeddedRegistry, stdout: str, line: str) -> None:
    """A reader that is gone causes no message; a closed stdout is a local error."""
    name = f"{registry.address}/a"
    push(name, "layer")
    (layer,) = read(name).manifest.layers
    command = f"{sys.executable} -m brolga blob {name}@{layer.digest} {stdout}"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("", line)


def test_blob_writes_a_file(brolga: Brolga, registry: EmbeddedRegistry, tmp_path: Path) -> None:
    """`-o`: it prints nothing, and nothing else is left."""
    name = f"{registry.address}/a"
    push(name, "layer")
    (layer,) = read(name).manifest.layers
    path = tmp_path / "file"
    outcome = brolga("blob", f"{name}@{layer.digest}", "-o", str(path))
    assert (outcome.code, outcome.out, outcome.err) == (0, "", "")
    assert gzip.decompress(path.read_bytes()) == b"layer"
    assert not list(tmp_path.glob(".*"))


def test_blob_of_a_layout_writes_a_file(brolga: Brolga, tmp_path: Path) -> None:
    """What is left of an earlier run counts there, too."""
    push(f"oci:{tmp_path}/layout:v1", "layer")
    (layer,) = read(f"oci:{tmp_path}/layout:v1").manifest.layers
    left = tmp_path / f".file.{layer.digest.encoded[:16]}.partial"
    blob = tmp_path / "layout/blobs/sha256" / layer.digest.encoded
    left.write_bytes(blob.read_bytes()[:5])
    assert (
        brolga("blob", f"oci:{tmp_path}/layout@{layer.digest}", "-o", f"{tmp_path}/file").code == 0
    )
    assert (tmp_path / "file").read_bytes() == blob.read_bytes()
    assert not left.exists()


def test_blob_with_wrong_bytes_writes_no_file(brolga: Brolga, tmp_path: Path) -> None:
    """Exit code 6, and nothing is left to go on with."""

    def script(peer: Peer) -> None:
        while head := peer.head():
            peer.answer(200, b"" if head[0].startswith("GET /v2/ ") else b"wrong")

    with serve_script(script) as address:
        outcome = brolga("blob", f"{address}/x@{RIGHT}", "-o", str(tmp_path / "file"))
    assert (outcome.code, outcome.out) == (6, "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("output", ["/", "/none/file"])
def test_blob_rejects_invalid_output(brolga: Brolga, output: str) -> None:
    """Exit code 2, before any request."""
    assert brolga("blob", f"127.0.0.1:1/x@{RIGHT}", "-o", output).code == 2
