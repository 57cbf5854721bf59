"""Reading and deleting at registries that differ from the specification."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from tests.faults.conftest import NAME, Raw
from tests.images import digest_of

from brolga.client import Client
from brolga.errors import NotFound
from brolga.images import Artifact, Image, ImageIndex
from brolga.testing.registries import PROFILES

if TYPE_CHECKING:
    from brolga.testing.plugin import BrolgaRegistry


def test_push_continues_after_403_for_missing_at_jfrog(
    brolga_registry: BrolgaRegistry,
) -> None:
    """403 may mean missing: a client without the rights learns it from the write."""
    brolga_registry.use(profile="jfrog")
    image = Image.empty()
    with Client() as client:
        client.push(f"{brolga_registry.repository(NAME)}:v1", image)
        assert client.head(f"{brolga_registry.repository(NAME)}:v1") == image.descriptor


@pytest.mark.parametrize("index", [False, True])
def test_referrers_ignores_subject_of_gitlab(
    brolga_registry: BrolgaRegistry, raw: Raw, *, index: bool
) -> None:
    """The subject is not a list of its referrers (oras-project/oras#2148)."""
    brolga_registry.use(profile=replace(PROFILES["gitlab"], token_s=None))
    tree = ImageIndex.empty().append(Image.empty()) if index else Image.empty()
    name = f"{brolga_registry.repository(NAME)}:v1"
    with Client() as client:
        client.push(name, tree)
        digest = client.head(name).digest
        tag = raw("GET", f"manifests/{str(digest).replace(':', '-')}")
        assert digest_of(tag.body) == str(digest)
        assert client.referrers(name) == ()
        artifact = Artifact.of("application/x", subject=client.head(name))
        client.push(brolga_registry.repository(NAME), artifact)
        assert [referrer.digest for referrer in client.referrers(name)] == [artifact.digest]


def test_client_accepts_json_called_text(brolga_registry: BrolgaRegistry, raw: Raw) -> None:
    """`true` as text/html, and what Go takes for plain text, are answers all the same."""
    brolga_registry.use(profile="quay")
    assert raw("GET", "/v2/").headers["Content-Type"].startswith("text/html")
    registry = brolga_registry.address
    with Client() as client:
        client.push(f"{brolga_registry.repository(NAME)}:v1", Image.empty())
        brolga_registry.use(profile="ggcr")
        for path in ("tags/list", "/v2/_catalog"):
            assert raw("GET", path).headers["Content-Type"].startswith("text/plain")
        assert client.tags(brolga_registry.repository(NAME)) == ["v1"]
        assert list(client.registries.catalog(registry)) == [NAME]


def test_delete_tag_fails_at_distribution_2(brolga_registry: BrolgaRegistry, raw: Raw) -> None:
    """400 DIGEST_INVALID: a manifest is deleted by its digest."""
    name = f"{brolga_registry.repository(NAME)}:v1"
    with Client() as client:
        client.push(name, Image.empty())
        brolga_registry.use(profile="distribution-2.8")
        refused = raw("DELETE", "manifests/v1")
        assert (refused.status, refused.code) == (400, "DIGEST_INVALID")
        client.delete(f"{brolga_registry.repository(NAME)}@{client.head(name).digest}")
        with pytest.raises(NotFound):
            client.head(name)
