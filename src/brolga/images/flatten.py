"""Flatten layers: make one tar of what all of them show.

The layers are read from the top down. `whiteouts` decides what each of them adds.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import TYPE_CHECKING

from brolga.errors import CorruptBlob, LayerError
from brolga.images.layer_notes import LayerWarning, check_not_encrypted, describe_layer
from brolga.images.layer_streams import MAX_LAYERS, open_layers
from brolga.images.whiteouts import Merge
from brolga.spec.blob import Blob, Block, runs_user_code
from brolga.stream.decompression import DEFAULT_LIMITS, Limits
from brolga.stream.layer import StreamLayer
from brolga.tar.entries import read_entries
from brolga.tar.writer import ARCHIVE_END

if TYPE_CHECKING:
    from brolga.stream.spool import SpoolChoice


def flatten_layers(
    layers: Sequence[Blob],
    limits: Limits = DEFAULT_LIMITS,
    *,
    strict: bool = False,
    on_warning: Callable[[str], object] | None = None,
    spool: SpoolChoice = False,
) -> StreamLayer:
    """Return one layer of what `layers` show together, made while it is read.

    The arguments, and the errors while it is read, are those of `merge_layers`. The same layers
    give the same bytes. Raises LayerError if one of the layers can be read only once.
    """
    for number, layer in enumerate(layers, 1):
        if isinstance(layer, StreamLayer):
            raise LayerError(
                f"layer {number} of {len(layers)} can be read only once: push the image first, "
                "then flatten what is in the registry"
            )
    merged = StreamLayer(
        merge_layers(tuple(layers), limits, strict=strict, on_warning=on_warning, spool=spool)
    )
    merged.runs_user_code = on_warning is not None or any(map(runs_user_code, layers))
    return merged


def merge_layers(  # noqa: PLR0913 - the options of a merge
    layers: Sequence[Blob],
    limits: Limits = DEFAULT_LIMITS,
    *,
    strict: bool = False,
    on_warning: Callable[[str], object] | None = None,
    spool: SpoolChoice = False,
    jobs: int = MAX_LAYERS,
) -> Iterator[Block]:
    """Yield a tar of what `layers`, the lowest first, show together.

    An entry on which readers differ is reported to `on_warning` as one line of text, by default as
    a LayerWarning; with `strict` it is an error. A hard link to a file that a layer above replaces
    or removes needs a `spool` on disk: a directory, or True for that of temporary files. Up to
    `jobs` layers are read at a time, and no more than MAX_LAYERS.

    Raises LayerError if the result is not decided, or a spool is needed; CorruptBlob for a layer
    that is not a valid tar; SpoolError, and what reading the layers raises.
    """
    check_not_encrypted(layers)
    numbers = range(len(layers), 0, -1)
    opened = open_layers(layers[::-1], limits, jobs)
    with closing(Merge(strict=strict, spool=spool)) as merge, closing(opened):
        for number, blocks in zip(numbers, opened, strict=True):
            try:
                for block in merge.add(read_entries(blocks), number):
                    yield block
                    _report(merge.warnings, number, layers, on_warning)
            except (CorruptBlob, LayerError) as error:
                text = f"{describe_layer(number, layers)}: {error}"
                raise type(error)(text, hint=error.hint) from error
            _report(merge.warnings, number, layers, on_warning)
        yield from merge.hard_links()
        yield ARCHIVE_END


def _report(
    texts: list[str],
    number: int,
    layers: Sequence[Blob],
    on_warning: Callable[[str], object] | None,
) -> None:
    """Pass on the warnings of a layer, and clear them."""
    for text in texts:
        line = f"{describe_layer(number, layers)}: {text}"
        if on_warning is None:
            warnings.warn(line, LayerWarning, stacklevel=3)
        else:
            on_warning(line)
    texts.clear()
