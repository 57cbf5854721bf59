"""Verbs as processes of their own: pipes, two registries, and a signal in the middle."""

from __future__ import annotations

import os
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest
from tests.processes import BROLGA, PATIENCE_S, brolga
from tests.tars import entry, tar

from brolga.client import Client
from brolga.images import Image
from brolga.registry.server import running
from brolga.stream.layer import StreamLayer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.registries import EmbeddedRegistry


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[str]:
    """Run a second registry."""
    with running(tmp_path / "elsewhere") as address:
        yield address


def test_append_keeps_both_layers_across_registries(
    registry: EmbeddedRegistry, elsewhere: str
) -> None:
    """The base is in one registry, the result in another."""
    base, name = f"{elsewhere}/base:v1", f"{registry.address}/app:v1"
    below, above = (tar(entry(name, os.urandom(3 << 20))) for name in ("below", "above"))
    brolga("append", "-f", "-", "-t", base, "--compression", "none", data=below)
    flags = ["--compression", "none", "--platform", "linux/amd64"]
    printed = brolga("append", "-b", base, "-f", "-", "-t", name, *flags, data=above)
    repository = printed.decode().partition("@")[0]
    assert brolga("digest", "--full-ref", name) == printed
    with Client() as client:
        layers = client.image(name).manifest.layers
    blobs = [brolga("blob", f"{repository}@{layer.digest}") for layer in layers]
    assert blobs == [below, above]


def test_copy_all_tags_keeps_manifests_across_registries(
    registry: EmbeddedRegistry, elsewhere: str
) -> None:
    """`copy --all-tags`: the manifests are the same bytes."""
    source, target = f"{registry.address}/app", f"{elsewhere}/mirror/app"
    with Client() as client:
        for tag in ("v1", "v2"):
            client.push(f"{source}:{tag}", Image.empty().append(StreamLayer([tag.encode()])))
    brolga("copy", "--all-tags", source, target)
    for tag in ("v1", "v2"):
        copied = brolga("manifest", f"{target}:{tag}")
        assert copied == brolga("manifest", f"{source}:{tag}")
    assert brolga("ls", target) == b"v1\nv2\n"


def test_append_cancels_the_session_on_sigterm(registry: EmbeddedRegistry) -> None:
    """The source is being read: no session is left, no blob, and no tag."""
    name = f"{registry.address}/app"
    process = subprocess.Popen(
        [*BROLGA, "append", "-f", "-", "-t", name, "--compression", "none", "--threads", "1"],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None
    # More than what the pipe and the process hold: when it is taken, the upload is under way.
    process.stdin.write(tar(entry("large", bytes(16 << 20)))[: 16 << 20])
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, stderr) == (143, b"brolga: stopped by SIGTERM\n")
    assert registry.uploads("app") == []
    assert registry.blobs("app") == []
