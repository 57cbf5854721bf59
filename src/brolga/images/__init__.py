"""Images and indexes as values: read lazily, immutable, made from one another."""

from __future__ import annotations

from typing import TYPE_CHECKING

from brolga._lazy import lazy_names

if TYPE_CHECKING:
    from brolga.images.artifact import Artifact
    from brolga.images.blobs import (
        BlockStream,
        InMemoryBlob,
        StoredBlob,
        uncompressed,
    )
    from brolga.images.described import StreamBlob, TitledBlob
    from brolga.images.image import Image, creation_time
    from brolga.images.index import ImageIndex, Tree, choose, image_of
    from brolga.images.seekable import RangeOptions, SeekableBlob
else:
    __getattr__ = lazy_names(
        __name__,
        {
            "brolga.images.artifact": "Artifact",
            "brolga.images.blobs": "BlockStream InMemoryBlob StoredBlob uncompressed",
            "brolga.images.described": "StreamBlob TitledBlob",
            "brolga.images.image": "Image creation_time",
            "brolga.images.index": "ImageIndex Tree choose image_of",
            "brolga.images.seekable": "RangeOptions SeekableBlob",
        },
    )

__all__ = [
    "Artifact",
    "BlockStream",
    "Image",
    "ImageIndex",
    "InMemoryBlob",
    "RangeOptions",
    "SeekableBlob",
    "StoredBlob",
    "StreamBlob",
    "TitledBlob",
    "Tree",
    "choose",
    "creation_time",
    "image_of",
    "uncompressed",
]
