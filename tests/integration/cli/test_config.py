"""brolga config."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.cli_images import index, push, read

from brolga.client import Client
from brolga.spec.platform import Platform

if TYPE_CHECKING:
    from tests.command import Brolga
    from tests.registries import EmbeddedRegistry

AMD64, ARM64 = Platform("linux", "amd64"), Platform("linux", "arm64")


def test_config_prints_exact_bytes(brolga: Brolga, registry: EmbeddedRegistry) -> None:
    """No line end is added."""
    name = f"{registry.address}/a"
    push(name, "layer")
    outcome = brolga("config", name)
    assert (outcome.code, outcome.err, outcome.out.encode()) == (0, "", read(name).config.raw)


def test_config_chooses_image_of_index(brolga: Brolga, registry: EmbeddedRegistry) -> None:
    """`--platform`, else linux/amd64, as crane does."""
    name = f"{registry.address}/a"
    index(name, ARM64, AMD64)
    with Client() as client:
        arm, amd = (client.image(name, one).config.raw.decode() for one in (ARM64, AMD64))
    assert brolga("config", "--platform", "linux/arm64", name).out == arm
    assert brolga("config", name).out == amd
    missing = brolga("config", "--platform", "linux/s390x", name)
    assert (missing.code, missing.out) == (3, "")
