"""cli.catalog: the repositories of a registry."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.unit.cli.images import push

if TYPE_CHECKING:
    from tests.conftest import Embedded
    from tests.unit.cli.conftest import Brolga


def test_repositories_are_listed_one_a_line(brolga: Brolga, registry: Embedded) -> None:
    """By themselves, as REGISTRY/REPO, or as one object."""
    address = registry.address
    assert brolga("catalog", address).out == ""
    for name in ("a", "team/app"):
        push(f"{address}/{name}", "layer")
    outcome = brolga("catalog", address)
    assert (outcome.code, outcome.out, outcome.err) == (0, "a\nteam/app\n", "")
    assert brolga("catalog", "--full-ref", address).out == f"{address}/a\n{address}/team/app\n"
    found = json.loads(brolga("catalog", "--json", address).out)
    assert found == {"registry": address, "repositories": ["a", "team/app"]}


def test_what_is_no_registry_is_usage(brolga: Brolga) -> None:
    """HOST or HOST:PORT; a path is not part of it."""
    for name in ("nowhere", "http://127.0.0.1:1", "127.0.0.1:1/x"):
        outcome = brolga("catalog", name)
        assert (outcome.code, outcome.out) == (2, "")
