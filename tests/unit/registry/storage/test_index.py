from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from brolga.disk.directory import Directory
from brolga.disk.layout import EMPTY_INDEX, REF_NAME
from brolga.registry.storage import index as index_module
from brolga.registry.storage import layout
from brolga.registry.storage.index import Index, parse_index
from brolga.registry.storage.layout import BrokenIndex, Layout, LayoutBusy
from brolga.spec.descriptor import Descriptor
from brolga.spec.digest import Digest
from brolga.spec.mediatypes import OCI_INDEX, OCI_MANIFEST

if TYPE_CHECKING:
    from pathlib import Path

A = Descriptor(OCI_MANIFEST, Digest.of(b"a"), 1)
B = Descriptor(OCI_MANIFEST, Digest.of(b"b"), 1)


def empty() -> Index:
    """Return an index of nothing."""
    return Index()


def load(path: Path) -> Index:
    """Read a file."""
    return Index(Layout("", path.parent, Directory(path.parent)).read_index()[1], path)


def by_tag(index: Index, tag: str) -> Descriptor | None:
    """Return what the first entry of a name describes."""
    return next((descriptor for name, descriptor in index.entries() if name == tag), None)


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
        index.put(descriptor, [] if tag is None else [tag])
    assert entries(index) == expected


def test_read_index_of_missing_file_is_empty(tmp_path: Path) -> None:
    """A new repository's index says what it is."""
    index = load(tmp_path / "index.json")
    assert json.loads(index.text()) == {
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [],
    }


def test_put_keeps_unknown_fields(tmp_path: Path) -> None:
    """Unknown fields that another program wrote are kept."""
    platform = {"os": "linux", "architecture": "arm64"}
    entry = {**A.to_dict(), "platform": platform, "annotations": {REF_NAME: "x", "k": "v"}}
    nulls = {**B.to_dict(), "annotations": None}
    path = tmp_path / "index.json"
    path.write_text(json.dumps({"schemaVersion": 2, "x-y": 1, "manifests": [entry, nulls]}))
    index = load(path)
    index.put(B, ["x"])
    written = json.loads(index.text())
    assert written["x-y"] == 1
    assert written["manifests"][0] == {**entry, "annotations": {"k": "v"}}
    assert written["manifests"][1]["annotations"] == {REF_NAME: "x"}
    assert by_tag(Index(index.text()), "x") == B


def test_untag() -> None:
    """A tag goes; its manifest stays, as one entry."""
    index = empty()
    index.put(A, ["x"])
    index.put(A, ["y"])
    assert index.untag("x")
    assert entries(index) == [("A", "y")]
    assert index.untag("y")
    assert entries(index) == [("A", None)]
    assert not index.untag("y")


def test_remove() -> None:
    """A manifest goes with each of its tags."""
    index = empty()
    index.put(A, ["x"])
    index.put(A, ["y"])
    index.put(B, ["z"])
    assert index.remove(A.digest)
    assert entries(index) == [("B", "z")]
    assert not index.remove(A.digest)


@pytest.mark.parametrize(
    "wrong", [{"size": -1}, {"digest": "x"}, {"digest": None}, {"mediaType": 7}, {"size": None}]
)
def test_entries_skips_invalid_descriptor(wrong: dict[str, Any]) -> None:
    """Another program's mistake hides itself, and nothing else."""
    bad = {**A.to_dict(), **wrong, "annotations": {REF_NAME: "x"}}
    text = json.dumps({"schemaVersion": 2, "manifests": [bad, {}, B.to_dict()]}).encode()
    index = Index(text)
    assert [descriptor for _, descriptor in index.entries()] == [None, None, B]
    assert by_tag(index, "x") is None
    # A tag can be given to another all the same.
    index.put(B, ["x"])
    assert by_tag(index, "x") == B


def test_put_with_several_tags() -> None:
    """Each takes its own entry, the one without a tag, or a new one; others lose it."""
    index = empty()
    index.put(B, ["x", "y"])
    index.put(A)
    index.put(A, ["z"])
    index.put(A, ["x", "y", "z", "w"])
    assert sorted(entries(index), key=str) == [
        ("A", "w"), ("A", "x"), ("A", "y"), ("A", "z"), ("B", None),
    ]  # fmt: skip


def test_put_many_tags_takes_one_pass() -> None:
    """A push with many tags looks at each entry once, however many there are of both."""
    index = empty()
    looked_at = 0

    class Entry(dict[str, Any]):
        def get(self, key: str, default: Any = None) -> Any:
            nonlocal looked_at
            looked_at += 1
            return super().get(key, default)

    index._manifests[:] = [
        Entry(B.to_dict() | {"annotations": {REF_NAME: f"t{n}"}}) for n in range(500)
    ]
    index.put(A, [f"t{n}" for n in range(500)])
    assert {name for name, _ in index.entries() if name} == {f"t{n}" for n in range(500)}
    assert looked_at < 500 * 20


@pytest.mark.parametrize("text", [b'{"manifests":null}', b"{}", b'{"manifests":[]}'])
def test_parse_index_without_manifests(text: bytes) -> None:
    """Go writes null for an empty list: `umoci init` makes such a layout."""
    index = Index(text)
    assert list(index.entries()) == []
    index.put(A, ["x"])
    assert by_tag(Index(index.text()), "x") == A


@pytest.mark.parametrize("annotations", [None, [], "x", 7, {"a": 1}, {REF_NAME: None}])
def test_put_replaces_null_annotations(annotations: Any) -> None:
    """An entry with an invalid name has no tag."""
    index = Index(json.dumps({"manifests": [A.to_dict() | {"annotations": annotations}]}).encode())
    assert [name for name, _ in index.entries()] == [None]
    index.put(A, ["x"])
    assert entries(index) == [("A", "x")]


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"\xff", b"[]", b"null", b'"x"', b'{"manifests":{}}', b'{"manifests":"x"}',
     b'{"manifests":0}', b'{"manifests":false}', b'{"manifests":[null]}', b'{"manifests":[[]]}',
     b"[" * 100_000],
)  # fmt: skip
def test_parse_rejects_invalid_index(tmp_path: Path, text: bytes) -> None:
    """It is one kind of error, which names the file."""
    path = tmp_path / "index.json"
    path.write_bytes(text)
    with pytest.raises(BrokenIndex, match=r"index\.json: "):
        load(path)


def test_read_index_rejects_directory(tmp_path: Path) -> None:
    """A file that the system cannot read is a broken index too."""
    (tmp_path / "index.json").mkdir()
    with pytest.raises(BrokenIndex, match="no regular file"):
        load(tmp_path / "index.json")


def test_read_index_rejects_index_over_the_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another program's file takes no memory without a bound."""
    monkeypatch.setattr(layout, "MAX_INDEX_SIZE", 100)
    (tmp_path / "index.json").write_bytes(b'{"manifests": []}' + b" " * 100)
    with pytest.raises(BrokenIndex, match="more than 100 bytes"):
        load(tmp_path / "index.json")


def test_text_has_a_line_for_each_entry() -> None:
    """A change of one tag is a change of one line."""
    index = empty()
    index.put(A, ["x"])
    index.put(B, ["y"])
    lines = index.text().decode().splitlines()
    assert [line.count("digest") for line in lines] == [0, 0, 0, 0, 1, 1, 0, 0]
    assert json.loads(Index(index.text()).text()) == json.loads(index.text())


def test_parse_index_admits_one_large_index(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second large one is rejected, so that its thread serves other clients meanwhile."""
    monkeypatch.setattr(index_module, "_LARGE", len(EMPTY_INDEX))
    large = EMPTY_INDEX + b" "
    with (
        parse_index(large),
        parse_index(EMPTY_INDEX),
        pytest.raises(LayoutBusy),
        parse_index(large),
    ):
        raise AssertionError
    with parse_index(large):
        pass
