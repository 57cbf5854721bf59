"""Streams as artifacts: an artifact of one blob that is read back as the bytes that were pushed.

image-spec manifest.md, Guidelines for Artifact Usage: an empty config, and one layer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from brolga.errors import InvalidManifest
from brolga.images import Artifact, BlockStream, Image, StreamBlob, TitledBlob
from brolga.images.blobs import uncompressed
from brolga.spec.mediatypes import compression_of_media_type
from brolga.stream.decompression import Limits

if TYPE_CHECKING:
    from collections.abc import Mapping

    from brolga.images import Tree
    from brolga.spec.blob import Blob
    from brolga.stores.location import ImageRef
    from brolga.stream.layer import StreamLayer


def artifact_of(
    stream: StreamLayer, artifact_type: str, title: str, annotations: Mapping[str, str] | None
) -> Artifact:
    """Return the artifact of one stream, which is read when it is pushed."""
    blob: Blob = StreamBlob(stream)
    if title:
        blob = TitledBlob(blob, title)
    return Artifact.of(artifact_type, blob, annotations=annotations)


def open_stream(place: ImageRef, tree: Tree, limits: Limits | None, *, raw: bool) -> BlockStream:
    """Open the only layer of `tree`, decompressed unless `raw`. Raises InvalidManifest."""
    layer, compression = only_layer(place, tree)
    return uncompressed(layer, limits or Limits(size=None), "none" if raw else compression)


def only_layer(place: ImageRef, tree: Tree) -> tuple[Blob, str]:
    """Return the only layer of `tree`, and its compression. Raises InvalidManifest."""
    if not isinstance(tree, Image):
        raise InvalidManifest(
            f"{place} is an index, and a stream is one blob",
            hint="name one of its manifests: brolga index list shows them",
        )
    layers = tree.layers
    if len(layers) != 1:
        raise InvalidManifest(
            f"{place} has {len(layers)} layers, and a stream is one blob",
            hint="use brolga export for the files of an image, brolga blob for one blob",
        )
    return layers[0], compression_of_media_type(tree.manifest.layers[0].media_type)
