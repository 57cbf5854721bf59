"""Extract the layers of an image into a directory."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from brolga.errors import BrolgaError, CorruptBlob, DigestMismatch, ExtractionError, LayerError
from brolga.extract.layer import LayerExtraction
from brolga.extract.options import DEFAULT_OPTIONS, ExtractOptions
from brolga.extract.report import Report
from brolga.extract.state import NAME, State, finish, open_state
from brolga.extract.tree import Tree, open_tree
from brolga.images.blobs import verified_blocks
from brolga.images.layer_notes import check_not_encrypted, describe_layer
from brolga.stream.decompression import Limits, decompress
from brolga.tar.entries import read_entries
from brolga.tar.reader import printable_name as printable

if TYPE_CHECKING:
    from brolga.spec.blob import Blob

_UNLIMITED = Limits(size=None, ratio=None)  # `Usage` has the limits of all layers


def extract_layers(
    layers: Sequence[Blob],
    directory: str | os.PathLike[str],
    options: ExtractOptions = DEFAULT_OPTIONS,
) -> None:
    """Extract `layers`, the lowest first, into a new or empty directory.

    The bytes are used while they are verified: if an error is raised, the directory is not complete
    and says so by its file `.brolga-extract`. The same call again goes on at the first incomplete
    layer. Nothing outside of the directory changes, whatever the layers say.

    Raises ExtractionError for a directory that has something else in it, and for what cannot be
    created there. Raises LayerError if an entry is not allowed, or if readers differ on what it
    shows; CorruptBlob for a layer that is not a valid tar, or over the limits; DigestMismatch, and
    what reading the layers raises.
    """
    report = Report(options.on_warning, strict=options.strict)
    check_not_encrypted(layers)
    digests = [str(layer.descriptor.digest) for layer in layers]
    with (
        _hint_of(directory),
        open_tree(directory) as tree,
        open_state(tree, digests, options) as state,
    ):
        for number in range(state.done + 1, len(layers) + 1):
            report.place = describe_layer(number, layers)
            layer = layers[number - 1]
            extraction = LayerExtraction(tree, state, options, report)
            with _error_place(extraction, report.place):
                _extract(layer, extraction, state)
            state.complete_layer()
        _check_selected(tree, options)
        finish(tree)


def _extract(layer: Blob, extraction: LayerExtraction, state: State) -> None:
    """Extract one layer, and verify it."""
    usage, before = state.usage, state.usage.read
    with layer.open() as stream:
        compressed = usage.count_read(verified_blocks(layer, stream))
        blocks = usage.count_written(decompress(compressed, _UNLIMITED))
        extraction.extract(read_entries(blocks))
    if (size := usage.read - before) != layer.descriptor.size:
        raise CorruptBlob(f"{size} bytes, but its descriptor says {layer.descriptor.size}")
    extraction.finish()


@contextmanager
def _error_place(extraction: LayerExtraction, place: str) -> Iterator[None]:
    """Name the layer and the entry in errors."""
    try:
        yield
    except DigestMismatch as error:  # of the layer as a whole
        error.args = (f"{place}: {error}",)
        raise
    except (CorruptBlob, LayerError) as error:
        error.args = (f"{place}{_entry(extraction)}: {error}",)
        raise
    except OSError as error:
        raise ExtractionError(f"{place}{_entry(extraction)}: {error.strerror}") from error


def _entry(extraction: LayerExtraction) -> str:
    return "" if extraction.entry is None else f", entry {printable(extraction.entry)}"


@contextmanager
def _hint_of(directory: str | os.PathLike[str]) -> Iterator[None]:
    """Say in errors what to do about a directory that is not complete."""
    try:
        yield
    except OSError as error:
        raise ExtractionError(f"{os.fspath(directory)}: {error.strerror}") from error
    except BrolgaError as error:
        if not error.hint and (Path(directory) / os.fsdecode(NAME)).exists():
            error.add_note(
                f"{os.fspath(directory)} is not complete: the same command again goes on, and "
                "--clean starts over"
            )
        raise


def _check_selected(tree: Tree, options: ExtractOptions) -> None:
    """Raise LayerError if the image has nothing at a path of `only`."""
    for path in sorted(options.selection.paths):
        if tree.status(path) is None:
            raise LayerError(
                f"the image has nothing at {printable(path)}",
                hint="choose another path, and --clean to delete what is there",
            )
