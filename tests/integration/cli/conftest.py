"""Fixtures of the command against an embedded registry."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.cli_images import push
from tests.command import brolga, restore_signal_handlers  # noqa: F401 - fixtures

if TYPE_CHECKING:
    from tests.registries import EmbeddedRegistry


@pytest.fixture
def app(registry: EmbeddedRegistry) -> str:
    """Push an image of one layer; return its name."""
    name = f"{registry.address}/app:v1"
    push(name, "layer")
    return name
