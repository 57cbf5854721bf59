"""Extract the layers of an image into a directory."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from brolga.errors import CorruptBlob, DigestMismatch, ExtractionError, LayerError
from brolga.extract.layer import LayerExtraction
from brolga.extract.options import DEFAULT_OPTIONS, ExtractOptions
from brolga.extract.report import Report
from brolga.extract.state import NAME, finish, open_state
from brolga.extract.tree import Tree, open_tree
from brolga.images.blobs import BlockStream, verified_blocks
from brolga.images.layer_notes import check_not_encrypted, describe_layer
from brolga.images.layer_streams import open_layers
from brolga.spec.blob import Block, runs_user_code
from brolga.spec.value import Value, field
from brolga.stream.decompression import Limits
from brolga.tar.entries import read_entries
from brolga.tar.reader import printable_name as printable

if TYPE_CHECKING:
    from brolga.spec.blob import Blob
    from brolga.spec.descriptor import Descriptor


def extract_layers(
    layers: Sequence[Blob],
    directory: str | os.PathLike[str],
    options: ExtractOptions = DEFAULT_OPTIONS,
    *,
    on_begin: Callable[[Sequence[Blob]], object] = lambda _layers: None,
) -> None:
    """Extract `layers`, the lowest first, into a new or empty directory.

    The bytes are used while they are verified: if an error is raised, the directory is not complete
    and says so by its file `.brolga-extract`. The same call again goes on at the first incomplete
    layer; `on_begin` is called with the layers that will be read. Nothing outside of the directory
    changes, whatever the layers say.

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
        rest = layers[state.done :]
        on_begin(rest)
        read = state.usage.read = [layer.descriptor.size for layer in layers[: state.done]]
        read += [0] * len(rest)
        # `Usage` has the limits of all layers, but what is read ahead counts there already.
        limits = Limits(None, options.limits.ratio, options.limits.grace)
        counted = [_CountedBlob(layers[at], read, at) for at in range(state.done, len(layers))]
        with closing(open_layers(counted, limits)) as opened:
            for number, blocks in enumerate(opened, state.done + 1):
                report.place = describe_layer(number, layers)
                extraction = LayerExtraction(tree, state, options, report)
                with _error_place(extraction, report.place):
                    extraction.extract(read_entries(state.usage.count_written(blocks)))
                    extraction.finish()
                state.complete_layer()
        _check_selected(tree, options)
        finish(tree)


class _CountedBlob(Value):
    """A blob that is verified while it is read. Its bytes are counted in `read`, at `index`."""

    blob: Blob
    read: list[int] = field(compare=False)
    index: int

    @property
    def descriptor(self) -> Descriptor:
        return self.blob.descriptor

    @property
    def runs_user_code(self) -> bool:
        return runs_user_code(self.blob)

    def open(self) -> BlockStream:
        return BlockStream(self._blocks())

    def _blocks(self) -> Generator[Block, None, None]:
        expected = self.descriptor.size
        with self.blob.open() as stream:
            for block in verified_blocks(self.blob, stream):
                self.read[self.index] += len(block)
                yield block
        if (size := self.read[self.index]) != expected:
            raise CorruptBlob(f"{size} bytes, but its descriptor says {expected}")


@contextmanager
def _error_place(extraction: LayerExtraction, place: str) -> Iterator[None]:
    """Name the layer and the entry in errors."""
    try:
        yield
    except DigestMismatch as error:  # of the layer as a whole
        error.args = (f"{place}: {error}",)
        raise
    except (CorruptBlob, ExtractionError, LayerError) as error:
        error.args = (f"{place}{_entry(extraction)}: {error}",)
        raise
    except OSError as error:
        raise ExtractionError(f"{place}{_entry(extraction)}: {error.strerror}") from error


def _entry(extraction: LayerExtraction) -> str:
    return "" if extraction.entry is None else f", entry {printable(extraction.entry)}"


@contextmanager
def _hint_of(directory: str | os.PathLike[str]) -> Iterator[None]:
    """Say in errors, and interrupts, what to do about a directory that is not complete."""
    try:
        yield
    except OSError as error:
        raise ExtractionError(f"{os.fspath(directory)}: {error.strerror}") from error
    except BaseException as error:
        if not getattr(error, "hint", "") and (Path(directory) / os.fsdecode(NAME)).exists():
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
