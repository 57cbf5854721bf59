"""What errors and warnings say about a layer."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from brolga.errors import LayerError, NotComputed
from brolga.spec.mediatypes import COMPRESSION_BY_LAYER, ENCRYPTED

if TYPE_CHECKING:
    from brolga.spec.blob import Blob


class LayerWarning(UserWarning):
    """An entry of a layer on which readers differ, and what the result shows."""


def describe_layer(number: int, layers: Sequence[Blob]) -> str:
    """Return the place of a layer, and its media type if that is not a layer's."""
    descriptor = layers[number - 1].descriptor
    place = f"layer {number} of {len(layers)}, {descriptor.digest}"
    if descriptor.media_type in COMPRESSION_BY_LAYER:
        return place
    return f"{place} of the media type {descriptor.media_type}, which is not a layer's"


def check_not_encrypted(layers: Sequence[Blob]) -> None:
    """Raise LayerError if a layer is encrypted."""
    for number, layer in enumerate(layers, 1):
        with suppress(NotComputed):
            if layer.descriptor.media_type.endswith(ENCRYPTED):
                raise LayerError(
                    f"{describe_layer(number, layers)}: it is encrypted: decrypt the image first, "
                    "as `skopeo copy --decryption-key` does"
                )
