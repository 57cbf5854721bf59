"""Lists: each MUST of the distribution-spec 1.1, by its sentence."""

from __future__ import annotations

import json

import pytest
from tests.unit.registry.conftest import Registry, put_manifest


def tags(registry: Registry, query: str = "") -> tuple[list[str], str | None]:
    """Return a page of tags, and the Link that leads on."""
    answer = registry("GET", f"/v2/a/b/tags/list{query}")
    assert answer.status == 200
    document = json.loads(answer.body)
    assert document["name"] == "a/b"
    return document["tags"], answer.headers.get("link")


def test_tags_are_sorted(registry: Registry) -> None:
    """If the list is not empty, the tags MUST be in lexical order (case-insensitive)."""
    for tag in ("v2", "V10", "a", "B", "_", "v10"):
        put_manifest(registry, tag)
    assert tags(registry) == (["_", "a", "B", "V10", "v10", "v2"], None)


def test_tags_of_unknown_repository_is_404(registry: Registry) -> None:
    """Assuming a repository is found, this request MUST return a `200 OK` response code."""
    answer = registry("GET", "/v2/a/b/tags/list")
    assert (answer.status, answer.code) == (404, "NAME_UNKNOWN")
    registry.push(b"x")
    assert tags(registry) == ([], None)


def test_tags_in_pages(registry: Registry) -> None:
    """The `Link` header MUST be set according to RFC5988 with the Relation Type `rel="next"`."""
    for tag in ("c", "A", "b", "D"):
        put_manifest(registry, tag)
    page, link = tags(registry, "?n=2")
    assert page == ["A", "b"]
    assert link == '</v2/a/b/tags/list?n=2&last=b>; rel="next"'
    assert tags(registry, "?n=2&last=b") == (["c", "D"], None)
    # "`<tagname>` will not be included in the results"; it need not exist.
    assert tags(registry, "?last=bb") == (["c", "D"], None)
    assert tags(registry, "?n=9")[0] == ["A", "b", "c", "D"]
    assert tags(registry, "?last=zzz") == ([], None)


def test_tags_page_of_zero_is_empty(registry: Registry) -> None:
    """When `n` is zero, this endpoint MUST return an empty list, and MUST NOT include a `Link`."""
    put_manifest(registry, "v1")
    assert tags(registry, "?n=0") == ([], None)


@pytest.mark.parametrize("n", ["-1", "x", "", "1.5", "\u0663", "9" * 5000])
def test_invalid_page_size_is_rejected(registry: Registry, n: str) -> None:
    """`<int>` is an integer specifying the number of tags requested."""
    registry.push(b"x")
    answer = registry("GET", f"/v2/a/b/tags/list?n={n}")
    assert (answer.status, answer.code) == (400, "UNSUPPORTED")


def test_tags_skips_invalid_tags(registry: Registry) -> None:
    """Another program's layout may name a manifest by an invalid tag."""
    put_manifest(registry, "v1")
    path = registry.root / "a/b/index.json"
    path.write_text(path.read_text().replace('"v1"', '"docker.io/library/x:v1"'))
    assert tags(registry) == ([], None)
