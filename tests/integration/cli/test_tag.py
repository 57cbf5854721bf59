"""brolga tag."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.cli_images import push

from brolga.client import Client

if TYPE_CHECKING:
    from tests.command import Brolga
    from tests.registries import EmbeddedRegistry

    from brolga.testing.plugin import BrolgaRegistry


def test_tag_adds_or_moves_tag(brolga: Brolga, registry: EmbeddedRegistry) -> None:
    """`REPO@DIGEST`; the first name stays."""
    repository = f"{registry.address}/a"
    first, second = push(f"{repository}:v1", "layer"), push(f"{repository}:v2", "another")
    outcome = brolga("tag", f"{repository}:v1", "latest")
    assert (outcome.code, outcome.out, outcome.err) == (0, f"{repository}@{first}\n", "")
    moved = json.loads(brolga("tag", "--json", f"{repository}@{second}", "latest").out)
    assert moved == {
        "ref": f"{repository}@{second}",
        "tag": "latest",
        "tags": ["latest"],
        "digest": second,
    }
    with Client() as client:
        assert str(client.head(f"{repository}:latest").digest) == second
        assert str(client.head(f"{repository}:v1").digest) == first


def test_tag_sets_several_tags_with_one_request(
    brolga: Brolga, brolga_registry: BrolgaRegistry
) -> None:
    """The embedded registry knows the parameters of end-7b."""
    repository = brolga_registry.repository("a")
    digest = push(f"{repository}:1.2.3", "layer")
    brolga_registry.use()
    outcome = brolga("tag", "--json", f"{repository}:1.2.3", "1.2", "1", "latest")
    assert json.loads(outcome.out)["tags"] == ["1.2", "1", "latest"]
    puts = [request for request in brolga_registry.requests if request.method == "PUT"]
    assert [request.query for request in puts] == ["tag=1.2&tag=1&tag=latest"]
    with Client() as client:
        assert {str(client.head(f"{repository}:{tag}").digest) for tag in ("1.2", "1")} == {digest}


def test_tag_rejects_invalid_tag(brolga: Brolga) -> None:
    """A tag only, not a reference: exit code 2, before any request."""
    for tag in ("a/b", "a:b", "", "-"):
        outcome = brolga("tag", "127.0.0.1:1/x", "--", tag)
        assert (outcome.code, outcome.out) == (2, "")


def test_tag_reports_missing_image(brolga: Brolga, registry: EmbeddedRegistry) -> None:
    """Exit code 3."""
    assert brolga("tag", f"{registry.address}/a", "v1").code == 3
