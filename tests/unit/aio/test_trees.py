"""aio/trees.py: what the properties of a tree need is read before."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from brolga.aio.calls import CallPool
from brolga.aio.trees import preload
from brolga.errors import NotFound
from brolga.images import Image, ImageIndex, StoredBlob
from brolga.stores.store import open_image

if TYPE_CHECKING:
    from brolga.images import Tree
    from brolga.spec.blob import BlobStream
    from brolga.spec.descriptor import Descriptor


class Registry:
    """Trees by their digests; it records what is read."""

    def __init__(self) -> None:
        self.trees: dict[Any, Tree] = {}
        self.reads: list[str] = []

    def add_image(self, number: int) -> Descriptor:
        image = Image.empty().with_annotations({"number": str(number)})
        return self._add(open_image(image.manifest, partial(self._blob, image)))

    def add_index(self, *children: Descriptor) -> ImageIndex:
        index = ImageIndex.empty()
        listed = index.index.replace(manifests=children)
        index = ImageIndex(listed, self._load)
        self._add(index)
        return index

    def _add(self, tree: Tree) -> Descriptor:
        self.trees[tree.digest] = tree
        return tree.descriptor

    def _load(self, descriptor: Descriptor) -> Tree:
        self.reads.append("manifest")
        if descriptor.digest not in self.trees:
            raise NotFound("no such manifest", method="GET", url="u", status=404)
        return self.trees[descriptor.digest]

    def _blob(self, image: Image, descriptor: Descriptor, _diff_id: Any = None) -> StoredBlob:
        def open_config() -> BlobStream:
            self.reads.append("config")
            return image.config_blob.open()

        return StoredBlob(descriptor, open_config)


def load(tree: Tree, limit: int = 256) -> Any:
    async def main() -> Tree:
        calls = CallPool(2)
        try:
            return await preload(calls, tree, limit)
        finally:
            await calls.close()

    return asyncio.run(main())


def test_index_is_loaded_with_its_images_and_their_configs() -> None:
    """Each is read once, however often it is listed and requested."""
    registry = Registry()
    one, two = registry.add_image(1), registry.add_image(2)
    inner = registry.add_index(two)
    index = load(registry.add_index(one, one, inner.descriptor))
    reads = list(registry.reads)
    assert sorted(reads) == ["config"] * 2 + ["manifest"] * 3
    for child in (index.child(one), index.child(inner.descriptor).child(two)):
        assert child.config.diff_ids == ()
    assert registry.reads == reads


def test_error_of_child_is_raised_when_it_is_requested() -> None:
    """An index may list what the registry has not."""
    registry = Registry()
    one, two = registry.add_image(1), registry.add_image(2)
    index = registry.add_index(one, two)
    del registry.trees[two.digest]
    index = load(index)
    assert index.child(one).platform.architecture == "amd64"
    for _ in range(2):
        with pytest.raises(NotFound):
            index.child(two)
    assert registry.reads.count("manifest") == 2


def test_number_of_children_that_are_read_is_bounded() -> None:
    """What an index lists is the registry's word alone; the rest is read on request."""
    registry = Registry()
    children = [registry.add_image(number) for number in range(5)]
    nested = registry.add_index(registry.add_index(*children).descriptor)
    index = load(nested, 4)
    assert registry.reads.count("manifest") == 1 + 3
    inner = index.child(nested.index.manifests[0])
    assert [child.digest for child in inner.children] == [child.digest for child in children]
    assert registry.reads.count("manifest") == 1 + 5
