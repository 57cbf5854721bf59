"""brolga manifest."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from tests.cli_images import index, push

from brolga.client import Client
from brolga.spec.platform import Platform

if TYPE_CHECKING:
    from tests.command import Brolga
    from tests.registries import EmbeddedRegistry

AMD64, ARM64 = Platform("linux", "amd64"), Platform("linux", "arm64")


def sha256(text: str) -> str:
    """Return the digest of what was printed."""
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def test_manifest_prints_exact_bytes(brolga: Brolga, registry: EmbeddedRegistry) -> None:
    """The digest of what is on stdout is the manifest's: no line end is added."""
    name = f"{registry.address}/a:v1"
    digest = push(name, "layer")
    outcome = brolga("manifest", name)
    assert (outcome.code, outcome.err, sha256(outcome.out)) == (0, "", digest)


def test_manifest_prints_index_or_image_for_platform(
    brolga: Brolga, registry: EmbeddedRegistry
) -> None:
    """`--platform` chooses; crane prints the index where nothing is chosen."""
    name = f"{registry.address}/a"
    digest = index(name, AMD64, ARM64)
    with Client() as client:
        arm = str(client.image(name, ARM64).digest)
    assert sha256(brolga("manifest", name).out) == digest
    assert sha256(brolga("manifest", "--platform", "linux/arm64", name).out) == arm


def test_manifest_reports_missing_image(brolga: Brolga, registry: EmbeddedRegistry) -> None:
    """Exit code 3, and nothing on stdout."""
    push(f"{registry.address}/a:v1", "layer")
    outcome = brolga("manifest", f"{registry.address}/a:v2")
    assert (outcome.code, outcome.out) == (3, "")
    missing = brolga("manifest", f"{registry.address}/a:v1", "--platform", "windows")
    assert (missing.code, missing.out) == (0, brolga("manifest", f"{registry.address}/a:v1").out)
