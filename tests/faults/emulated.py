"""An emulated registry, and its chunks."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from brolga.testing.registries import PROFILES, Profile

if TYPE_CHECKING:
    from typing import Any

    from tests.faults.conftest import Raw

    from brolga.testing.plugin import BrolgaRegistry


def play(registry: BrolgaRegistry, name: str, **other: Any) -> Profile:
    """Play a registry, with some values of other sizes."""
    profile = replace(PROFILES[name], **other)
    registry.use(profile=profile)
    return profile


def chunk(raw: Raw, location: str, start: int, data: bytes) -> Any:
    """Send a chunk with Content-Range and Content-Length."""
    return raw.patch(location, data, Content_Range=f"{start}-{start + len(data) - 1}")
