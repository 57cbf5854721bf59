"""Verbs as processes of their own: pipes, two registries, and a signal in the middle."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import tarfile
from typing import TYPE_CHECKING

import pytest

from brolga.client import Client
from brolga.images import Image
from brolga.registry.server import running
from brolga.stream.layer import StreamLayer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import Embedded

BROLGA = [sys.executable, "-m", "brolga"]
PATIENCE_S = 60


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[str]:
    """Run a second registry."""
    with running(tmp_path / "elsewhere") as address:
        yield address


def tar(name: str, content: bytes) -> bytes:
    """Return an archive with one file."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def brolga(*arguments: str, data: bytes = b"") -> bytes:
    """Run the command with bytes on stdin; return what it prints."""
    done = subprocess.run(
        [*BROLGA, *arguments], input=data, capture_output=True, check=False, timeout=PATIENCE_S
    )
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout


def test_what_was_appended_is_read_back(registry: Embedded, elsewhere: str) -> None:
    """The base in one registry, the result in another: both layers are there, byte for byte."""
    base, name = f"{elsewhere}/base:v1", f"{registry.address}/app:v1"
    below, above = tar("below", os.urandom(3 << 20)), tar("above", os.urandom(3 << 20))
    brolga("append", "-f", "-", "-t", base, "--compression", "none", data=below)
    flags = ["--compression", "none", "--platform", "linux/amd64"]
    printed = brolga("append", "-b", base, "-f", "-", "-t", name, *flags, data=above)
    repository = printed.decode().partition("@")[0]
    assert brolga("digest", "--full-ref", name) == printed
    with Client() as client:
        layers = client.image(name).manifest.layers
    blobs = [brolga("blob", f"{repository}@{layer.digest}") for layer in layers]
    assert blobs == [below, above]


def test_a_repository_goes_to_another_registry(registry: Embedded, elsewhere: str) -> None:
    """`copy --all-tags`: the manifests are the same bytes."""
    source, target = f"{registry.address}/app", f"{elsewhere}/mirror/app"
    with Client() as client:
        for tag in ("v1", "v2"):
            client.push(f"{source}:{tag}", Image.empty().append(StreamLayer([tag.encode()])))
    brolga("copy", "--all-tags", source, target)
    for tag in ("v1", "v2"):
        found = brolga("manifest", f"{target}:{tag}")
        assert found == brolga("manifest", f"{source}:{tag}")
    assert brolga("ls", target) == b"v1\nv2\n"


def test_a_signal_in_the_middle_leaves_nothing(registry: Embedded) -> None:
    """SIGTERM while a source is read: the session is cancelled, and the tag is not there."""
    name = f"{registry.address}/app"
    process = subprocess.Popen(
        [*BROLGA, "append", "-f", "-", "-t", name, "--compression", "none", "--threads", "1"],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None
    # More than what the pipe and the process hold: when it is taken, the upload is under way.
    process.stdin.write(tar("large", bytes(32 << 20))[: 16 << 20])
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, said) == (143, b"brolga: stopped by SIGTERM\n")
    assert registry.uploads("app") == []
    assert registry.blobs("app") == []
