"""Layers, images and indexes that tests push, and their digests."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from tests.tars import tar

from brolga.client import Client
from brolga.images import Image, ImageIndex
from brolga.images.validate import validate
from brolga.spec.platform import DEFAULT_PLATFORM, Platform
from brolga.stream.layer import StreamLayer

if TYPE_CHECKING:
    from pathlib import Path

    from brolga.images import Tree
    from brolga.spec.blob import Blob

__all__ = [
    "AMD64",
    "ARM64",
    "assert_valid",
    "blob_names",
    "digest_of",
    "image_of",
    "layer_of",
    "push_index",
    "read_blob",
]

AMD64, ARM64 = DEFAULT_PLATFORM, Platform("linux", "arm64")


def digest_of(data: bytes, algorithm: str = "sha256") -> str:
    """Return a digest, computed without brolga."""
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


def layer_of(*names: str) -> StreamLayer:
    """Return a layer with empty files of these names."""
    return StreamLayer([tar(*names)])


def image_of(*names: str, platform: Platform = AMD64) -> Image:
    """Return an image that has a layer with one empty file for each name."""
    return Image.empty(platform).append(*map(layer_of, names))


def push_index(place: str, *platforms: Platform) -> ImageIndex:
    """Push an index of images for these platforms, by default two; return it."""
    index = ImageIndex.empty()
    with Client() as client:
        for platform in platforms or (AMD64, ARM64):
            image = image_of(platform.architecture or "", platform=platform)
            client.push(place, image)
            index = index.append(image)
        client.push(place, index)
    return index


def blob_names(layout: Path) -> set[str]:
    """Return the names of the blobs in an image layout."""
    return {path.name for path in layout.glob("blobs/*/*")}


def read_blob(blob: Blob) -> bytes:
    """Return the bytes of a blob."""
    with blob.open() as stream:
        return b"".join(map(bytes, stream.blocks()))


def assert_valid(tree: Tree) -> None:
    """Assert that each digest, size and DiffID of an image or index is right."""
    assert list(validate(tree)) == []
