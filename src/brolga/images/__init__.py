"""Images and indexes as values: read lazily, immutable, made from one another."""

from brolga.images.artifact import Artifact, StreamBlob, TitledBlob
from brolga.images.blobs import BlockStream, InMemoryBlob, StoredBlob
from brolga.images.image import Image, creation_time
from brolga.images.index import ImageIndex, Tree

__all__ = [
    "Artifact",
    "BlockStream",
    "Image",
    "ImageIndex",
    "InMemoryBlob",
    "StoredBlob",
    "StreamBlob",
    "TitledBlob",
    "Tree",
    "creation_time",
]
