"""Reading of an image layout's manifests and blobs, which are verified while they are read."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, TypeVar

from brolga.errors import BrolgaError, CorruptBlob, DigestMismatch, InvalidManifest
from brolga.spec.digest import Digest, hasher
from brolga.spec.index import parse_manifest
from brolga.spec.json import MAX_SIZE
from brolga.stores.layout.files import check_digest

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

    from brolga.spec.descriptor import Descriptor
    from brolga.spec.index import Index
    from brolga.spec.manifest import Manifest
    from brolga.stores.layout.files import Files


_BLOCK_SIZE: Final = 1 << 20  # bytes
_DAMAGED: Final = "copy the image there again"

E = TypeVar("E", bound=BrolgaError)


def read_manifest(files: Files, digest: Digest) -> Manifest | Index:
    """Read a manifest or index. Raises CorruptBlob, DigestMismatch, InvalidManifest."""
    raw = files.read(files.blob_path(digest))
    if raw is None:
        raise local(CorruptBlob(f"manifest {digest} is missing in {files.path}"))
    with here(files.path):
        if len(raw) > MAX_SIZE:
            raise InvalidManifest(f"{digest} has more than {MAX_SIZE} bytes: it is not a manifest")
        check_digest(digest, Digest.of(raw, digest.algorithm), files.path)
        return parse_manifest(raw, algorithm=digest.algorithm)


def read_blob(files: Files, descriptor: Descriptor) -> Generator[bytes, None, None]:
    """Yield the bytes of a blob. Raises CorruptBlob, DigestMismatch."""
    path = files.blob_path(descriptor.digest)
    try:
        file = files.tree.open(path)
    except FileNotFoundError:
        missing = CorruptBlob(f"blob {descriptor.digest} is missing in {files.path}")
        raise local(missing) from None
    state, size = hasher(descriptor.digest.algorithm), 0
    try:
        while size <= descriptor.size and (block := os.read(file, _BLOCK_SIZE)):
            state.update(block)
            size += len(block)
            yield block
    finally:
        os.close(file)
    if size != descriptor.size:
        what = "more" if size > descriptor.size else f"{size} bytes"
        raise local(
            CorruptBlob(
                f"blob {descriptor.digest} in {files.path} has {what}, where its descriptor "
                f"says {descriptor.size}"
            )
        )
    try:
        check_digest(descriptor.digest, Digest.from_hasher(state), files.path)
    except DigestMismatch as error:
        # A blob of the right size is not written again, because a push does not read it.
        raise local(error, f"delete {path} and {_DAMAGED}") from None


def local(error: E, advice: str = _DAMAGED) -> E:
    """Mark an error as one of this machine; add what to do."""
    error.side = "local"
    error.add_note(advice)
    return error


@contextmanager
def here(path: Path) -> Iterator[None]:
    """Add the layout's path to the error of a document that cannot be read."""
    try:
        yield
    except InvalidManifest as error:
        raise local(InvalidManifest(f"{path}: {error}")) from error
    except DigestMismatch as error:
        raise local(error) from None
