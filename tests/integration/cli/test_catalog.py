"""brolga catalog."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.cli_images import push

if TYPE_CHECKING:
    from tests.command import Brolga
    from tests.registries import EmbeddedRegistry


def test_catalog_lists_repositories(brolga: Brolga, registry: EmbeddedRegistry) -> None:
    """By themselves, as REGISTRY/REPO, or as one object."""
    address = registry.address
    assert brolga("catalog", address).out == ""
    for name in ("a", "team/app"):
        push(f"{address}/{name}", "layer")
    outcome = brolga("catalog", address)
    assert (outcome.code, outcome.out, outcome.err) == (0, "a\nteam/app\n", "")
    assert brolga("catalog", "--full-ref", address).out == f"{address}/a\n{address}/team/app\n"
    result = json.loads(brolga("catalog", "--json", address).out)
    assert result == {"registry": address, "repositories": ["a", "team/app"]}


def test_catalog_rejects_invalid_registry(brolga: Brolga) -> None:
    """HOST or HOST:PORT; a path is not part of it."""
    for name in ("nowhere", "http://127.0.0.1:1", "127.0.0.1:1/x"):
        outcome = brolga("catalog", name)
        assert (outcome.code, outcome.out) == (2, "")
