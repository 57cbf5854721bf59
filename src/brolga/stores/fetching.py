"""Fetching a blob into a file, which goes on from the bytes that an earlier run left there."""

from __future__ import annotations

import os
import stat
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from brolga.disk.directory import Directory, UnsafePath
from brolga.disk.files import write_all
from brolga.disk.partial import open_partial
from brolga.errors import CorruptBlob, DigestMismatch
from brolga.spec.blob import Prefix
from brolga.spec.digest import Digest, hasher
from brolga.stores.store import Resumes
from brolga.stream.worker import current_stop, sleep

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from brolga.disk.partial import PartialFile
    from brolga.spec.blob import BlobStream, Block
    from brolga.spec.descriptor import Descriptor
    from brolga.stores.store import Fetcher

    Opener = Callable[[], BlobStream]
    OpenRest = Callable[[Prefix], BlobStream] | None


_WAITING: Final = "waits for another program, or thread, that fetches the same blob"
_KEPT: Final = "the bytes that came are kept: run it again, and it goes on from there"
_SMALL: Final = 4 << 20  # bytes: for less, a thread does not pay
_AHEAD: Final = 2 << 20  # bytes: one block, while another is written
_POLL_S: Final = 0.1
_WRONG: Final = (CorruptBlob, DigestMismatch)
_PERMISSIONS: Final = 0o777
# Room for the rest of the partial file's name, of 255 bytes in most file systems.
_MAX_NAME: Final = 200
_DIGEST_LENGTH: Final = 16  # digits that tell the blobs of one file name apart


def waits(on_wait: Callable[[str], object]) -> Callable[[], None]:
    """Return a function that sleeps a moment, and at first calls `on_wait` with a text."""

    def naps() -> Iterator[None]:
        on_wait(_WAITING)
        while True:
            sleep(_POLL_S)
            yield

    return partial(next, naps())


def fetch_into(
    file: PartialFile, digest: Digest, size: int | None, opener: Opener, open_rest: OpenRest
) -> None:
    """Append the bytes of a blob that a partial file lacks.

    What is there is hashed, and `open_rest` opens the rest, which verifies the whole. If that is
    wrong, the bytes that were there may be the reason: then all is fetched again, once. The file is
    empty after CorruptBlob or DigestMismatch. After another error it stays, to be continued.
    """
    with _note_what_stays(file):
        prefix = _hash(file, digest, size)
        if prefix is not None:
            if Digest.from_hasher(prefix.state) == digest:
                return
            if open_rest is not None:
                with suppress(*_WRONG):
                    _append(file, digest, size, partial(open_rest, prefix))
                    return
            file.truncate()
        try:
            _append(file, digest, size, opener)
        except _WRONG:
            file.truncate()
            raise


def fetch_file(
    path: str | os.PathLike[str],
    source: Fetcher,
    blob: Descriptor | Digest,
    on_wait: Callable[[str], object],
) -> None:
    """Fetch a blob into a file, which has its name only when it is complete and verified.

    Until then its bytes are in a partial file beside it, with which the next call for the same blob
    goes on. A link stays, and a file that is replaced leaves its permissions. What is not a regular
    file, such as a pipe, is written as the bytes come. Raises OSError, and what the stream raises.
    """
    digest, size = (blob, None) if isinstance(blob, Digest) else (blob.digest, blob.size)
    opener = partial(source.fetch_blob, blob)
    open_rest = partial(source.fetch_rest, blob) if isinstance(source, Resumes) else None
    target = Path(os.path.realpath(path))
    try:
        status = target.stat()
    except FileNotFoundError:
        target.parent.stat()  # raises FileNotFoundError for the directory
    else:
        if not stat.S_ISREG(status.st_mode):
            _write_through(target, opener)
            return
    name = os.fsdecode(os.fsencode(target.name)[:_MAX_NAME])
    temporary = target.with_name(f".{name}.{digest.encoded[:_DIGEST_LENGTH]}.partial")
    tree = Directory(target.parent)
    errors = partial(_name_in_errors, target)
    with open_partial(tree, temporary, target, waits(on_wait), errors) as file:
        if file is not None:
            if target.exists():
                file.set_mode(target.stat().st_mode & _PERMISSIONS)
            fetch_into(file, digest, size, opener, open_rest)
            file.move(target)


def _hash(file: PartialFile, digest: Digest, size: int | None) -> Prefix | None:
    """Hash the bytes that are there; None if there are none, or too many, and none then."""
    if size is not None and file.size > size:
        file.truncate()
    if not file.size:
        return None
    state = hasher(digest.algorithm)
    for block in file.blocks():
        current_stop().check()
        state.update(block)
    prefix = Prefix(file.size, state)
    if file.size == size and Digest.from_hasher(state) != digest:
        file.truncate()
        return None
    return prefix


def _append(file: PartialFile, digest: Digest, size: int | None, opener: Opener) -> None:
    """Write a blob's bytes while another thread receives and verifies the next ones."""
    if size is not None and size <= _SMALL:
        blocks = _blocks(opener)
    else:
        from brolga.stream.read_ahead import read_ahead

        blocks = read_ahead(partial(_blocks, opener), limit=_AHEAD)
    with closing(blocks):
        for block in blocks:
            file.write(block)
    if size not in {None, file.size}:
        raise CorruptBlob(f"blob {digest} has {file.size} bytes, but its descriptor says {size}")


def _blocks(opener: Opener) -> Generator[Block, None, None]:
    with opener() as stream:
        yield from stream


@contextmanager
def _note_what_stays(file: PartialFile) -> Iterator[None]:
    """Say in a note of an error that the next run need not fetch these bytes."""
    before = file.size
    try:
        yield
    except BaseException as error:
        if file.size > before:
            error.add_note(_KEPT)
        raise


def _write_through(target: Path, opener: Opener) -> None:
    with opener() as stream, target.open("wb", buffering=0) as file:
        for block in stream:
            write_all(file.fileno(), block)


@contextmanager
def _name_in_errors(target: Path) -> Iterator[None]:
    """Give an OSError the name of the file instead of a partial file's."""
    try:
        yield
    except UnsafePath:  # it names what is in the way
        raise
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, os.fspath(target)) from error
