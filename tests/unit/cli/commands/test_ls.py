"""cli.ls: the tags of a repository."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.unit.cli.images import push

if TYPE_CHECKING:
    from tests.conftest import Embedded
    from tests.unit.cli.conftest import Brolga


def test_tags_are_listed_one_a_line(brolga: Brolga, registry: Embedded) -> None:
    """By themselves, as REPO:TAG, or as one object."""
    repository = f"{registry.address}/a/b"
    for tag in ("v1", "v2"):
        push(f"{repository}:{tag}", "layer")
    outcome = brolga("ls", repository)
    assert (outcome.code, outcome.out, outcome.err) == (0, "v1\nv2\n", "")
    assert brolga("ls", "--full-ref", repository).out == f"{repository}:v1\n{repository}:v2\n"
    found = json.loads(brolga("ls", "--json", repository).out)
    assert found == {"repository": repository, "tags": ["v1", "v2"]}


def test_tags_made_of_digests_can_be_left_out(brolga: Brolga, registry: Embedded) -> None:
    """Those of the referrers tag schema, and cosign's: `sha256-…`, `sha256-….sig`."""
    repository = f"{registry.address}/a"
    for tag in ("sha256-1", f"sha512-{64 * 'a'}", f"sha256-{64 * 'a'}.sig", "sha256", "v1"):
        push(f"{repository}:{tag}", "layer")
    assert brolga("ls", repository).out.count("\n") == 5
    for flag in ("-O", "--omit-digest-tags"):
        assert brolga("ls", flag, repository).out == "sha256\nv1\n"


def test_what_is_no_repository_is_usage_or_not_found(brolga: Brolga, registry: Embedded) -> None:
    """Exit codes 2 and 3."""
    assert brolga("ls", f"{registry.address}/a:v1").code == 2
    outcome = brolga("ls", f"{registry.address}/a")
    assert (outcome.code, outcome.out) == (3, "")
