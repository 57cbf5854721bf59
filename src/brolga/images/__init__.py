"""Images and indexes as values: read lazily, never changed, made from one another.

view      Image: manifest, config and layers in step
index     ImageIndex: images for several platforms
blobs     blobs that can be read again
artifact  Artifact: files with a type of their own
flatten   one layer of what all of them show
"""

from brolga.images.artifact import Artifact, StreamBlob, TitledBlob
from brolga.images.blobs import BlockStream, InMemoryBlob, StoredBlob
from brolga.images.image import Image, created_now
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
    "created_now",
]
