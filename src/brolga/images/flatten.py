"""One layer of what many show together.

Knows in what order layers are read, and how warnings and errors name them. Must not know where
layers come from, how they are compressed, or how tar is written. `merge` puts them together.
"""

from __future__ import annotations

import warnings
from contextlib import suppress
from typing import TYPE_CHECKING

from brolga.errors import CorruptBlob, LayerError, NotComputed
from brolga.images.changesets import Merge
from brolga.spec.blob import runs_user_code
from brolga.spec.mediatypes import COMPRESSION_BY_LAYER, ENCRYPTED
from brolga.stream.decompression import DEFAULT_LIMITS, Limits, decompress
from brolga.stream.layer import StreamLayer
from brolga.tar.entries import ARCHIVE_END, read_entries

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from brolga.spec.blob import Blob

__all__ = ["LayerWarning", "flattened", "merged_tar"]


class LayerWarning(UserWarning):
    """An entry of a layer on which readers differ; says which one, and what the result shows."""


def flattened(
    layers: Sequence[Blob],
    limits: Limits = DEFAULT_LIMITS,
    *,
    strict: bool = False,
    on_warning: Callable[[str], object] | None = None,
) -> StreamLayer:
    """Return a layer of what all layers show together, made while it is read.

    `layers` has the lowest first. The same layers give the same bytes. `strict` and `on_warning`
    are as `merged_tar` has them. Raises LayerError where one of the layers can be read only once.
    Reading raises what `merged_tar` raises.
    """
    for number, layer in enumerate(layers, 1):
        if isinstance(layer, StreamLayer):
            raise LayerError(
                f"layer {number} of {len(layers)} can be read only once: push the image first, "
                "then flatten what is in the registry"
            )
    merged = merged_tar(tuple(layers), limits, strict=strict, on_warning=on_warning)
    layer = StreamLayer(merged)
    layer.runs_user_code = on_warning is not None or any(map(runs_user_code, layers))
    return layer


def merged_tar(
    layers: Sequence[Blob],
    limits: Limits = DEFAULT_LIMITS,
    *,
    strict: bool = False,
    on_warning: Callable[[str], object] | None = None,
) -> Iterator[bytes]:
    """Yield a tar stream of what all layers show together; `layers` has the lowest first.

    An entry on which readers differ is named to `on_warning`, which is called with one line of
    text; by default that is a LayerWarning. With `strict` it is an error.

    Raises LayerError where the result cannot be told in one pass, CorruptBlob for a layer that is
    no valid tar, and what reading the layers raises.
    """
    merge = Merge(strict=strict)
    for number in range(len(layers), 0, -1):
        layer = layers[number - 1]
        try:
            _check_readable(layer)
            with layer.open() as stream:
                plain = read_entries(decompress(stream.blocks(), limits))
                for block in merge.add(plain, number):
                    yield block
                    _tell(merge.warnings, number, layers, on_warning)
        except (CorruptBlob, LayerError) as error:
            raise type(error)(f"{_place(number, layers)}: {error}") from error
        _tell(merge.warnings, number, layers, on_warning)
    yield from merge.hard_links()
    yield ARCHIVE_END


def _place(number: int, layers: Sequence[Blob]) -> str:
    """Return which layer it is, and its media type if that is not a layer's."""
    descriptor = layers[number - 1].descriptor
    place = f"layer {number} of {len(layers)}, {descriptor.digest}"
    if descriptor.media_type in COMPRESSION_BY_LAYER:
        return place
    return f"{place} of the media type {descriptor.media_type}, which is not a layer's"


def _check_readable(layer: Blob) -> None:
    """Raise LayerError for an encrypted layer."""
    with suppress(NotComputed):
        if layer.descriptor.media_type.endswith(ENCRYPTED):
            raise LayerError(
                "it is encrypted: decrypt the image first, as `skopeo copy --decryption-key` does"
            )


def _tell(
    texts: list[str],
    number: int,
    layers: Sequence[Blob],
    on_warning: Callable[[str], object] | None,
) -> None:
    """Hand warnings of a layer on, and forget them."""
    for text in texts:
        line = f"{_place(number, layers)}: {text}"
        if on_warning is None:
            warnings.warn(line, LayerWarning, stacklevel=3)
        else:
            on_warning(line)
    texts.clear()
