"""store: how what a store has is read as a tree."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest

from brolga.errors import InvalidManifest
from brolga.images import Image, ImageIndex
from brolga.spec.index import Index
from brolga.spec.mediatypes import DOCKER_MANIFEST, DOCKER_SCHEMA_1_SIGNED
from brolga.stores.store import NullStore, read_tree
from brolga.stream.layer import StreamLayer

if TYPE_CHECKING:
    from brolga.spec.blob import BlobStream
    from brolga.spec.descriptor import Descriptor
    from brolga.spec.digest import Digest
    from brolga.spec.manifest import Manifest

IMAGE = Image.empty()
CHILD = IMAGE.descriptor


@dataclass
class Listing:
    """A store with an image, and an index that describes it in some way."""

    described: Descriptor
    mount_source = None

    def fetch_manifest(self, name: str) -> Manifest | Index:
        """Read either of them."""
        return Index.new([self.described]) if name == "all" else IMAGE.manifest

    def fetch_blob(self, blob: Descriptor | Digest) -> BlobStream:
        """Read no blob."""
        raise AssertionError(blob)


def read(described: Descriptor) -> Image | ImageIndex:
    """Read the only child of an index that describes it so."""
    tree = read_tree(Listing(described), "all")
    assert isinstance(tree, ImageIndex)
    return tree.child(described)


def test_child_has_the_descriptor_of_its_index() -> None:
    """The descriptor's size and media type are the child's."""
    assert read(CHILD).digest == CHILD.digest


@pytest.mark.parametrize(
    ("described", "what"),
    [
        (replace(CHILD, size=CHILD.size + 1), f"the size {CHILD.size}, and {CHILD.size + 1} in"),
        (
            replace(CHILD, media_type=DOCKER_MANIFEST),
            f"the mediaType {CHILD.media_type}, and {DOCKER_MANIFEST} in",
        ),
    ],
)
def test_child_raises_if_its_descriptor_is_wrong(described: Descriptor, what: str) -> None:
    """A size that is not the descriptor's, a media type that two readers take differently.

    (CVE-2021-41190, for the second.)
    """
    with pytest.raises(InvalidManifest, match=re.escape(f"{CHILD.digest} has {what} the index")):
        read(described)


def test_child_of_another_media_type_is_a_blob() -> None:
    """'Encountering an unknown `mediaType` MUST NOT generate an error' (image-index.md)."""
    described = replace(CHILD, media_type="application/vnd.example.config+json")
    tree = read_tree(Listing(described), "all")
    assert isinstance(tree, ImageIndex)
    assert [blob.descriptor for blob in tree.blobs] == [described]
    assert list(tree.children) == []
    with pytest.raises(InvalidManifest) as caught:
        tree.child(described)
    assert str(caught.value) == (
        f"the index has {CHILD.digest}, which is neither an image nor an index but "
        "'application/vnd.example.config+json'"
    )


@pytest.mark.parametrize(
    "media_type",
    [DOCKER_SCHEMA_1_SIGNED, "application/vnd.oci.artifact.manifest.v1+json"],
)
def test_blob_raises_for_a_deprecated_manifest(media_type: str) -> None:
    """What it refers to is unknown, so a copy would not be complete."""
    tree = read_tree(Listing(replace(CHILD, media_type=media_type)), "all")
    assert isinstance(tree, ImageIndex)
    with pytest.raises(InvalidManifest, match="deprecated: it cannot be read or copied") as caught:
        list(tree.blobs)
    assert caught.value.__notes__ == ["leave it out with brolga index filter"]


def test_null_store_reads_and_keeps_nothing() -> None:
    """A blob is verified by being read; no manifest and no tag is there afterwards."""
    store = NullStore()
    layer = StreamLayer([b"data"])
    assert store.push(layer) == layer.descriptor
    store.push_manifest(IMAGE.manifest, "v1")
    assert not store.exists(CHILD)
    assert store.find("v1") is None
