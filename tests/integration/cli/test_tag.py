"""brolga tag."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.cli_images import push

from brolga.client import Client

if TYPE_CHECKING:
    from tests.command import Brolga
    from tests.registries import EmbeddedRegistry


def test_tag_adds_or_moves_tag(brolga: Brolga, registry: EmbeddedRegistry) -> None:
    """`REPO@DIGEST`; the first name stays."""
    repository = f"{registry.address}/a"
    first, second = push(f"{repository}:v1", "layer"), push(f"{repository}:v2", "another")
    outcome = brolga("tag", f"{repository}:v1", "latest")
    assert (outcome.code, outcome.out, outcome.err) == (0, f"{repository}@{first}\n", "")
    moved = json.loads(brolga("tag", "--json", f"{repository}@{second}", "latest").out)
    assert moved == {"ref": f"{repository}@{second}", "tag": "latest", "digest": second}
    with Client() as client:
        assert str(client.head(f"{repository}:latest").digest) == second
        assert str(client.head(f"{repository}:v1").digest) == first


def test_tag_rejects_invalid_tag(brolga: Brolga) -> None:
    """A tag only, not a reference: exit code 2, before any request."""
    for tag in ("a/b", "a:b", "", "-"):
        outcome = brolga("tag", "127.0.0.1:1/x", "--", tag)
        assert (outcome.code, outcome.out) == (2, "")


def test_tag_reports_missing_image(brolga: Brolga, registry: EmbeddedRegistry) -> None:
    """Exit code 3."""
    assert brolga("tag", f"{registry.address}/a", "v1").code == 3
