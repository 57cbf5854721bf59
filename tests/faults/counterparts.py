"""The client's row of what it knows about registries, for each kind of registry that is played.

The client knows a registry by its host, and every registry of the tests is 127.0.0.1: here it is
told which one it has before it, so that each row meets its registry.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import pytest

from brolga.protocol.upload.known_registries import KNOWN_REGISTRIES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from brolga.protocol.upload.known_registries import KnownRegistry

__all__ = ["as_hosted", "row_of"]

# Profiles that are of the same kind to the client.
_ROWS: Final = {
    "distribution-3": "distribution",
    "distribution-2.8": "distribution",
    "harbor": "distribution",
    "gitlab": "distribution",
    "docker-hub": "distribution",
    "ggcr": "distribution",
    "nginx": "distribution",
    "no-chunked": "distribution",
    "ecr-public": "ecr",
}


def row_of(name: str) -> KnownRegistry:
    """Return the client's row for a registry of the server's profile `name`."""
    row_name = _ROWS.get(name, name)
    return next(row for row in KNOWN_REGISTRIES if row.name == row_name)


@contextmanager
def as_hosted(name: str) -> Iterator[None]:
    """Let every client take the registries that it meets for those of a profile's host."""
    row = row_of(name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("brolga.protocol.identify_registry", lambda host, shows: row)
        yield
