"""brolga ls."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.cli_images import push

if TYPE_CHECKING:
    from tests.command import Brolga
    from tests.registries import EmbeddedRegistry


def test_ls_lists_tags(brolga: Brolga, registry: EmbeddedRegistry) -> None:
    """By themselves, as REPO:TAG, or as one object."""
    repository = f"{registry.address}/a/b"
    for tag in ("v1", "v2"):
        push(f"{repository}:{tag}", "layer")
    outcome = brolga("ls", repository)
    assert (outcome.code, outcome.out, outcome.err) == (0, "v1\nv2\n", "")
    assert brolga("ls", "--full-ref", repository).out == f"{repository}:v1\n{repository}:v2\n"
    result = json.loads(brolga("ls", "--json", repository).out)
    assert result == {"repository": repository, "tags": ["v1", "v2"]}


def test_ls_omits_digest_tags(brolga: Brolga, registry: EmbeddedRegistry) -> None:
    """Those of the referrers tag schema, and cosign's: `sha256-…`, `sha256-….sig`."""
    repository = f"{registry.address}/a"
    for tag in ("sha256-1", f"sha512-{64 * 'a'}", f"sha256-{64 * 'a'}.sig", "sha256", "v1"):
        push(f"{repository}:{tag}", "layer")
    assert brolga("ls", repository).out.count("\n") == 5
    for flag in ("-O", "--omit-digest-tags"):
        assert brolga("ls", flag, repository).out == "sha256\nv1\n"


def test_ls_rejects_invalid_or_missing_repository(
    brolga: Brolga, registry: EmbeddedRegistry
) -> None:
    """Exit codes 2 and 3."""
    assert brolga("ls", f"{registry.address}/a:v1").code == 2
    outcome = brolga("ls", f"{registry.address}/a")
    assert (outcome.code, outcome.out) == (3, "")
