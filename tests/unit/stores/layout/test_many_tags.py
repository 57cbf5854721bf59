"""stores.layout.index: an index.json with many names."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from brolga.errors import InvalidManifest
from brolga.images import Image
from brolga.spec.descriptor import Descriptor
from brolga.spec.digest import Digest
from brolga.spec.json import MAX_SIZE
from brolga.spec.mediatypes import OCI_INDEX, OCI_MANIFEST
from brolga.stores.layout import Layout
from brolga.stores.layout.index import LayoutIndex
from brolga.stores.push import push

if TYPE_CHECKING:
    from pathlib import Path

REF_NAME = "org.opencontainers.image.ref.name"
COUNT = 4_000


def fill(layout: Layout, image: Image, count: int) -> int:
    """List one image under many names; return the size of index.json."""
    described = image.descriptor.to_dict()
    entries = [
        {**described, "annotations": {REF_NAME: f"v{n}", "pad": "x" * 1000}} for n in range(count)
    ]
    raw = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).encode()
    (layout.path / "index.json").write_bytes(raw)
    return len(raw)


def test_index_json_may_be_larger_than_a_manifest(tmp_path: Path) -> None:
    """No registry reads index.json, so the limit of a manifest is not its limit."""
    layout = Layout(tmp_path)
    image = Image.empty()
    push(layout, image, "first")
    assert fill(layout, image, COUNT) > MAX_SIZE
    assert len(layout.tags()) == COUNT
    layout.push_manifest(image.manifest, "new")
    layout.tag("new", "newer")
    layout.delete("v0")
    assert len(Layout(tmp_path).tags()) == COUNT + 1
    found = layout.find("v1")
    assert found is not None
    assert found.digest == image.digest
    assert layout.gc(older_than_s=0, untagged=True).blobs == 0
    assert layout.resolve("newer").digest == image.digest


def test_index_json_is_parsed_once_until_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last text that was read or written is not parsed again."""
    layout = Layout(tmp_path)
    push(layout, Image.empty(), "first")
    parsed: list[int] = []
    real = json.loads

    def loads(text: str, **options: Any) -> Any:
        parsed.append(len(text))
        return real(text, **options)

    fill(layout, Image.empty(), 50)
    monkeypatch.setattr(json, "loads", loads)
    for number in range(10):
        layout.tag("v0", f"w{number}")
        assert f"w{number}" in layout.tags()
    assert sum(size > 5000 for size in parsed) == 1


def test_changes_by_another_program_are_read(tmp_path: Path) -> None:
    """The file is read again each time."""
    layout, other = Layout(tmp_path), Layout(tmp_path)
    push(layout, Image.empty(), "first")
    assert layout.tags() == other.tags() == ("first",)
    other.tag("first", "second")
    assert layout.tags() == ("first", "second")
    layout.delete("first")
    assert other.tags() == ("second",)


def test_add_refuses_an_index_beyond_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written can be read again."""
    monkeypatch.setattr(LayoutIndex, "max_size", 200)
    described = Descriptor(OCI_MANIFEST, Digest.of(b"a"), 1)
    with pytest.raises(InvalidManifest, match="at most 200 are read"):
        LayoutIndex(LayoutIndex.new(()).raw).add(described, "a" * 100)


def test_changed_index_equals_its_parsed_bytes() -> None:
    """The value made from the old one equals the parsed value."""
    described = Descriptor(OCI_MANIFEST, Digest.of(b"a"), 1)
    other = Descriptor(OCI_MANIFEST, Digest.of(b"b"), 1, extra={"x": 1})
    index = LayoutIndex(LayoutIndex.new([other]).raw)
    for step in (
        index.add(described, "v1"),
        index.add(described, "v1").add(other, "v1"),
        index.add(described, "v1").remove_tag("v1"),
        index.add(described, "v1").remove_manifest(other.digest),
    ):
        read = LayoutIndex(step.raw, OCI_INDEX)
        assert read == step
        assert read.manifests == step.manifests
        assert (read.digest, read.annotations) == (step.digest, step.annotations)


def test_remove_tag_compares_few_digests(monkeypatch: pytest.MonkeyPatch) -> None:
    """An index.json may give one name to all its entries."""
    compared = 0
    real = Digest.__eq__

    def equal(self: Digest, other: object) -> bool:
        nonlocal compared
        compared += 1
        return real(self, other)

    entries = [
        Descriptor(OCI_MANIFEST, Digest.of(b"%d" % (n // 2)), 1, {REF_NAME: "same", "n": str(n)})
        for n in range(600)
    ]
    index = LayoutIndex(LayoutIndex.new(entries).raw)
    monkeypatch.setattr(Digest, "__eq__", equal)
    assert len(index.remove_tag("same").manifests) == 300
    assert compared < 10 * len(entries)
