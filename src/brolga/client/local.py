"""Places on this machine as stores: which layout or archive is read, and which is written.

Knows which class serves which place, and what each cannot do. Must not know registries.
"""

from __future__ import annotations

import os
import stat
import sys
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

from brolga.client.names import as_place
from brolga.errors import ImageNotFound, InvalidReference, NotComputed, SourceError
from brolga.images import ImageIndex
from brolga.stores.location import FORMS, LocalRef

if TYPE_CHECKING:
    from collections.abc import Iterator

    from brolga.images import Tree
    from brolga.spec.index import Index
    from brolga.spec.manifest import Manifest
    from brolga.spec.platform import Platform
    from brolga.spec.reference import Repository
    from brolga.stores.archive import Archive, Images
    from brolga.stores.layout import Layout
    from brolga.stores.location import ImageRef
    from brolga.stores.store import WriteStore
    from brolga.stream.spool import SpoolChoice

__all__ = [
    "check_tags",
    "document_of",
    "documents_of",
    "layout_of",
    "names_of",
    "packs",
    "reading",
    "single_pass",
    "tree_of",
    "writing",
]


def layout_of(place: LocalRef, what: str) -> Layout:
    """Return the layout that a place is. Raises InvalidReference, which says `what` else is not."""
    if place.kind != "oci":
        raise _refused(f"{place} is an archive: {what}")
    return _layout(place)


def tree_of(place: LocalRef, platform: Platform | None = None, *, packed: bool = True) -> Tree:
    """Return the image or index of a place, which is read when it is asked for.

    Layers of an archive that are not compressed are to be, or (not `packed`) stay as they are.
    `platform` chooses one of several images of the place's name.

    Raises ImageNotFound, PlatformNotFound, InvalidLayout, InvalidManifest, SourceError, CorruptBlob.
    """
    if place.kind == "oci":
        return _layout(place).tree(place.name, platform)
    return _archive(place, packed=packed).tree(place.name, platform)


def documents_of(
    place: LocalRef, spool: SpoolChoice, platform: Platform | None = None, *, packed: bool = True
) -> Tree:
    """Do as `tree_of`, for who reads no layer: an archive may come down a pipe then."""
    if not single_pass(place):
        return tree_of(place, platform, packed=packed)
    return _passed_by(place, spool, packed=packed).tree(place.name, platform)


def check_tags(place: LocalRef, *, is_one_each: bool) -> None:
    """Raise ImageNotFound if the images of a layout cannot be copied by their names.

    If `is_one_each`, that is if two have one name, too.
    """
    if place.kind == "oci":
        _layout(place).check_tags(is_one_each=is_one_each)


def names_of(place: LocalRef, spool: SpoolChoice) -> list[str]:
    """Return the names of all images of a place."""
    if single_pass(place):
        return list(_passed_by(place, spool, packed=False).names())
    return list(_layout(place).tags() if place.kind == "oci" else _archive(place).names())


def single_pass(place: LocalRef) -> bool:
    """Whether a place is an archive that is read as it comes: stdin, or another pipe."""
    if place.kind == "oci":
        return False
    try:
        return place.is_pipe or not stat.S_ISREG(os.stat(place.path).st_mode)  # noqa: PTH116 - a str needs no Path
    except OSError:
        return False  # reading it says what is wrong


def packs(target: ImageRef | Repository | str) -> bool:
    """Whether layers that are not compressed are to be, for a place: in Docker's archives not."""
    target = as_place(target) if isinstance(target, str) else target
    return not (isinstance(target, LocalRef) and target.kind == "docker-archive")


@contextmanager
def reading(place: LocalRef) -> Iterator[BinaryIO]:
    """Give the bytes of an archive, which are read once. Raises SourceError."""
    if place.is_pipe:
        if sys.stdin is None or sys.stdin.closed:
            raise SourceError("stdin is closed")
        yield sys.stdin.buffer
        return
    try:
        file = open(place.path, "rb")  # noqa: PTH123, SIM115 - closed below
    except OSError as error:
        raise SourceError(f"cannot open the archive: {error}") from error
    with file:
        yield file


@contextmanager
def writing(place: LocalRef, spool: SpoolChoice) -> Iterator[WriteStore]:
    """Give what takes an image for a place; an archive is there when the block ends well.

    A stream goes into an archive by way of `spool`, as its size stands before it; without one that
    is SpoolRequired.
    """
    if place.kind == "oci":
        with _layout(place).writing() as layout:
            yield layout
        return
    from brolga.stores.archive import open_writer

    with open_writer(place.path, FORMS[place.kind], place.tag, spool=spool) as writer:
        yield writer


def document_of(tree: Tree) -> Manifest | Index:
    """Return the manifest or index of a tree; of a docker archive, it is made by reading it all."""
    if isinstance(tree, ImageIndex):
        return tree.index
    for layer in tree.layers:
        try:
            layer.descriptor  # noqa: B018 - is it known?
        except NotComputed:
            with layer.open() as stream:
                deque(stream.blocks(), maxlen=0)
    return tree.manifest


def _layout(place: LocalRef) -> Layout:
    from brolga.stores.layout import Layout

    return Layout(place.path)


def _archive(place: LocalRef, *, packed: bool = True) -> Archive:
    from brolga.stores.archive import Archive

    if place.is_pipe:
        raise _refused(f"{place} is read once, from stdin, and this needs more")
    if not os.path.lexists(place.path):
        raise ImageNotFound(f"there is no archive {place.path}")
    return Archive(place.path, FORMS[place.kind], compression="gzip" if packed else "none")


def _passed_by(place: LocalRef, spool: SpoolChoice, *, packed: bool) -> Images:
    """Return the images of an archive of which all layers were read, and are gone."""
    from brolga.stores.archive import CompressionOptions, Nowhere, stream_images

    packing = CompressionOptions("gzip" if packed else "none")
    with reading(place) as blocks:
        return stream_images(
            blocks, Nowhere(), form=FORMS[place.kind], spool=spool, compression=packing
        )


def _refused(what: str) -> InvalidReference:
    error = InvalidReference(what)
    error.add_note("copy it to oci:DIR first")
    return error
