"""layout: an index.json with many names."""

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
from brolga.stores.copy import push
from brolga.stores.layout import Layout
from brolga.stores.layout import index as listing_module
from brolga.stores.layout.index import LayoutIndex, entered, forgotten, unnamed

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


def test_an_index_larger_than_a_manifest_is_read_and_changed(tmp_path: Path) -> None:
    """No registry takes an index.json: the bound of a manifest is not its bound."""
    layout = Layout(tmp_path)
    image = Image.empty()
    push(layout, image, "first")
    assert fill(layout, image, COUNT) > MAX_SIZE
    assert len(layout.tags()) == COUNT
    layout.push_manifest(image.manifest, "new")
    layout.tag("new", "newer")
    layout.untag("v0")
    assert len(Layout(tmp_path).tags()) == COUNT + 1
    assert layout.named("v1") == image.digest
    assert layout.gc(older_than_s=0, untagged=True).blobs == 0
    assert layout.resolve("newer").digest == image.digest


def test_an_unchanged_index_is_parsed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What this object wrote or read is known as long as the file has the same bytes."""
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


def test_another_program_changes_the_index(tmp_path: Path) -> None:
    """The file is the truth, whatever this object has read before."""
    layout, other = Layout(tmp_path), Layout(tmp_path)
    push(layout, Image.empty(), "first")
    assert layout.tags() == other.tags() == ("first",)
    other.tag("first", "second")
    assert layout.tags() == ("first", "second")
    layout.untag("first")
    assert other.tags() == ("second",)


def test_an_index_does_not_grow_beyond_what_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written can be read again."""
    monkeypatch.setattr(listing_module.LayoutIndex, "max_size", 200)
    described = Descriptor(OCI_MANIFEST, Digest.of(b"a"), 1)
    with pytest.raises(InvalidManifest, match="at most 200 are read"):
        entered(LayoutIndex(LayoutIndex.new(()).raw), described, "a" * 100)


def test_a_changed_index_is_what_its_bytes_say() -> None:
    """The value that was made of the old one, and the one that is read, are the same."""
    described = Descriptor(OCI_MANIFEST, Digest.of(b"a"), 1)
    other = Descriptor(OCI_MANIFEST, Digest.of(b"b"), 1, extra={"x": 1})
    index = LayoutIndex(LayoutIndex.new([other]).raw)
    for step in (
        entered(index, described, "v1"),
        entered(entered(index, described, "v1"), other, "v1"),
        unnamed(entered(index, described, "v1"), "v1"),
        forgotten(entered(index, described, "v1"), other.digest),
    ):
        read = LayoutIndex(step.raw, OCI_INDEX)
        assert read == step
        assert read.manifests == step.manifests
        assert (read.digest, read.annotations) == (step.digest, step.annotations)


def test_one_name_many_times_costs_one_walk(monkeypatch: pytest.MonkeyPatch) -> None:
    """An index.json of another program's may give one name to everything in it."""
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
    assert len(unnamed(index, "same").manifests) == 300
    assert compared < 10 * len(entries)
