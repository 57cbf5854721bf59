from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from brolga.descriptor import Descriptor
from brolga.digest import Digest
from brolga.mediatypes import OCI_INDEX, OCI_MANIFEST
from brolga.server.index import REF_NAME, Index

if TYPE_CHECKING:
    from pathlib import Path

A = Descriptor(OCI_MANIFEST, Digest.of(b"a"), 1)
B = Descriptor(OCI_MANIFEST, Digest.of(b"b"), 1)


def empty() -> Index:
    """Return an index of nothing."""
    return Index({"schemaVersion": 2})


def entries(index: Index) -> list[tuple[str, str | None]]:
    """Return which manifests are listed, with their tags."""
    names = {str(A.digest): "A", str(B.digest): "B"}
    return [
        (names[entry["digest"]], entry.get("annotations", {}).get(REF_NAME))
        for entry in index._manifests
    ]


@pytest.mark.parametrize(
    ("puts", "expected"),
    [
        ([(A, "x")], [("A", "x")]),
        ([(A, None)], [("A", None)]),
        ([(A, "x"), (A, "x")], [("A", "x")]),
        ([(A, None), (A, None)], [("A", None)]),
        ([(A, "x"), (A, "y")], [("A", "x"), ("A", "y")]),
        # A tag takes the entry that had none.
        ([(A, None), (A, "x")], [("A", "x")]),
        # By digest once more: it is there already.
        ([(A, "x"), (A, None)], [("A", "x")]),
        # A tag that moves leaves its manifest reachable by digest ...
        ([(A, "x"), (B, "x")], [("A", None), ("B", "x")]),
        # ... unless another tag still names it.
        ([(A, "x"), (A, "y"), (B, "x")], [("A", "y"), ("B", "x")]),
        ([(A, "x"), (B, "x"), (A, "x")], [("A", "x"), ("B", None)]),
    ],
)
def test_put(puts: list[tuple[Descriptor, str | None]], expected: list[Any]) -> None:
    """One entry for each tag, and one for each manifest that has none."""
    index = empty()
    for descriptor, tag in puts:
        index.put(descriptor, tag)
    assert entries(index) == expected


def test_lookup() -> None:
    """A manifest is found by its tag and by its digest."""
    index = empty()
    index.put(A, "x")
    index.put(B, None)
    assert index.by_tag("x") == A
    assert index.by_tag("y") is None
    assert index.by_digest(B.digest) == B
    assert index.by_digest(Digest.of(b"c")) is None
    assert index.tags() == ["x"]


def test_an_index_that_is_not_there_is_empty(tmp_path: Path) -> None:
    """A new repository's index says what it is."""
    index = Index.load(tmp_path / "index.json")
    index.save(tmp_path / "index.json", tmp_path)
    assert json.loads((tmp_path / "index.json").read_bytes()) == {
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [],
    }
    assert [p.name for p in tmp_path.iterdir()] == ["index.json"]


def test_unknown_fields_survive(tmp_path: Path) -> None:
    """What another program wrote is handed on as it is."""
    platform = {"os": "linux", "architecture": "arm64"}
    entry = {**A.to_dict(), "platform": platform, "annotations": {REF_NAME: "x", "k": "v"}}
    nulls = {**B.to_dict(), "annotations": None}
    path = tmp_path / "index.json"
    path.write_text(json.dumps({"schemaVersion": 2, "x-y": 1, "manifests": [entry, nulls]}))
    index = Index.load(path)
    index.put(B, "x")
    index.save(path, tmp_path)
    written = json.loads(path.read_bytes())
    assert written["x-y"] == 1
    assert written["manifests"][0] == {**entry, "annotations": {"k": "v"}}
    assert written["manifests"][1]["annotations"] == {REF_NAME: "x"}
    assert Index.load(path).by_tag("x") == B
