"""Reading of an image layout's manifests and blobs, which are verified while they are read."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from brolga.errors import CorruptBlob, DigestMismatch, InvalidManifest
from brolga.spec.digest import Digest, hasher
from brolga.spec.index import parse_manifest
from brolga.spec.json import MAX_SIZE

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

    from brolga.spec.blob import Prefix
    from brolga.spec.descriptor import Descriptor
    from brolga.spec.index import Index
    from brolga.spec.manifest import Manifest
    from brolga.stores.layout.files import Files


_BLOCK_SIZE: Final = 1 << 20  # bytes
DAMAGED: Final = "copy the image there again"  # the hint of most errors


def read_manifest(files: Files, digest: Digest) -> Manifest | Index:
    """Read a manifest or index. Raises CorruptBlob, DigestMismatch, InvalidManifest."""
    raw = files.read(files.blob_path(digest))
    if raw is None:
        raise missing(f"manifest {digest}", files.path)
    with manifest_errors(files.path):
        verify_manifest(raw, digest, files.path)
        return parse_manifest(raw, algorithm=digest.algorithm)


def verify_manifest(raw: bytes, digest: Digest, path: Path) -> None:
    """Raise InvalidManifest if the bytes are too many, DigestMismatch if they are wrong."""
    if len(raw) > MAX_SIZE:
        raise InvalidManifest(f"{digest} has more than {MAX_SIZE} bytes: it is not a manifest")
    _check_digest(Digest.of(raw, digest.algorithm), digest, path, DAMAGED)


def read_blob(
    files: Files, descriptor: Descriptor, prefix: Prefix | None = None
) -> Generator[bytes, None, None]:
    """Yield the bytes of a blob after `prefix`. Raises CorruptBlob, DigestMismatch."""
    state = prefix.state.copy() if prefix else hasher(descriptor.digest.algorithm)
    size = prefix.size if prefix else 0
    with _opened(files, descriptor.digest) as file:
        os.lseek(file, size, os.SEEK_SET)
        while size <= descriptor.size and (block := os.read(file, _BLOCK_SIZE)):
            state.update(block)
            size += len(block)
            yield block
    _check_size(files, descriptor, size)
    # A blob of the right size is not written again, because a push does not read it.
    hint = f"delete {files.blob_path(descriptor.digest)} and {DAMAGED}"
    _check_digest(Digest.from_hasher(state), descriptor.digest, files.path, hint)


def read_range(
    files: Files, descriptor: Descriptor, start: int, stop: int
) -> Generator[bytes, None, None]:
    """Yield a blob's bytes from `start` up to `stop`, not verified. Raises CorruptBlob."""
    with _opened(files, descriptor.digest) as file:
        _check_size(files, descriptor, os.fstat(file).st_size)
        while start < stop and (block := os.pread(file, min(_BLOCK_SIZE, stop - start), start)):
            start += len(block)
            yield block


@contextmanager
def _opened(files: Files, digest: Digest) -> Iterator[int]:
    """Open the file of a blob. Raises CorruptBlob if it is missing."""
    try:
        file = files.tree.open(files.blob_path(digest))
    except FileNotFoundError:
        raise missing(f"blob {digest}", files.path) from None
    try:
        yield file
    finally:
        os.close(file)


def _check_size(files: Files, descriptor: Descriptor, size: int) -> None:
    if size != descriptor.size:
        actual = "more" if size > descriptor.size else f"{size} bytes"
        raise CorruptBlob(
            f"blob {descriptor.digest} in {files.path} has {actual}, but its descriptor says "
            f"{descriptor.size}",
            side="local",
            hint=DAMAGED,
        )


def missing(subject: str, path: Path) -> CorruptBlob:
    """Return the error for a manifest or blob that is referred to and not there."""
    return CorruptBlob(f"{subject} is missing in {path}", side="local", hint=DAMAGED)


def _check_digest(actual: Digest, expected: Digest, path: Path, hint: str) -> None:
    if actual != expected:
        raise DigestMismatch(
            f"the bytes of {expected} in {path} hash to {actual}",
            expected=str(expected),
            actual=str(actual),
            side="local",
            hint=hint,
        )


@contextmanager
def manifest_errors(path: Path) -> Iterator[None]:
    """Add the layout's path to the error of a document that is not valid."""
    try:
        yield
    except InvalidManifest as error:
        raise InvalidManifest(f"{path}: {error}", side="local", hint=DAMAGED) from error
