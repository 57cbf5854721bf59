"""The files of an image layout, as the client uses them: `disk.layout` with the client's errors.

A link in the place of a file or directory is an InvalidLayout, and an OSError of a write names the
layout instead of a temporary file. After a power cut a new blob may be empty: its size is wrong
then, and the next push writes it again.
"""

from __future__ import annotations

import fcntl
import os
import stat
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Final

from brolga.disk import layout as disk_layout
from brolga.disk.directory import UnsafePath
from brolga.disk.layout import LayoutDirectory
from brolga.errors import DigestMismatch, ImageNotFound, InvalidLayout, InvalidManifest
from brolga.spec.json import MAX_SIZE, decode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from brolga.spec.blob import Block
    from brolga.spec.digest import Digest

__all__ = ["Files", "check"]

_MAX_MARKER_SIZE: Final = 4096  # bytes
_OWN_NAMES: Final = frozenset(
    {
        disk_layout.LAYOUT_FILE,
        disk_layout.INDEX_FILE,
        disk_layout.BLOBS,
        disk_layout.UPLOADS,
        disk_layout.DATABASE,
    }
)
# Another writer may roll back its new layout while this one opens it.
_TRIES: Final = 10
_LINK: Final = "there is a link, or no regular file, in the place of a file of the layout"


class Files:
    """The directory of one image layout, `path`, which need not exist.

    Methods raise InvalidLayout for a link in the place of a file or directory.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._layout = LayoutDirectory(path)
        self._tree = self._layout.tree
        self.index = self._layout.index

    def require(self) -> None:
        """Raise ImageNotFound if nothing is there, InvalidLayout if it is not an image layout."""
        try:
            status = self.path.stat()
        except (FileNotFoundError, NotADirectoryError):
            raise ImageNotFound(f"there is no image layout at {self.path}") from None
        if not stat.S_ISDIR(status.st_mode):
            raise self._invalid("it is not a directory; an archive is named oci-archive:FILE")
        marker = self.read(self._layout.marker, _MAX_MARKER_SIZE)
        if marker is None:
            raise self._invalid("it has no file oci-layout")
        version = None
        with suppress(InvalidManifest):
            version = decode(marker, _MAX_MARKER_SIZE).get("imageLayoutVersion")
        if not (isinstance(version, str) and version.startswith("1.")):
            raise self._invalid("its file oci-layout does not say version 1")

    def create(self) -> list[Path] | None:
        """Create the layout if it does not exist.

        Return the layout and its parents that are new, the innermost first; None if the layout
        exists. Raises InvalidLayout for a directory with other files. Layouts below it do not
        count: a registry has such directories.
        """
        if self.exists():
            self.require()
            return None
        if self.path.exists() and not self.path.is_dir():
            raise self._invalid("it is not a directory; an archive is named oci-archive:FILE")
        new = [directory for directory in (self.path, *self.path.parents) if not directory.exists()]
        self.path.mkdir(parents=True, exist_ok=True)
        for name in sorted(set(os.listdir(self.path)) - _OWN_NAMES):  # noqa: PTH208 - names alone
            if not _has_layouts(self.path / name):
                raise self._invalid(
                    f"it has other files, as {name!r}; name an empty directory, or a new one"
                )
        with self._write_errors():
            self._layout.create()
        return new

    def exists(self) -> bool:
        """Return whether the directory is an image layout."""
        with self._link_errors():
            return self._layout.exists()

    def blob_path(self, digest: Digest) -> Path:
        """Return the path of a blob, whether it exists or not."""
        return self._layout.blob_path(digest)

    def touch(self, digest: Digest) -> None:
        """Set the times of a blob to now, so that garbage collection by age keeps it."""
        self._layout.touch_blob(digest)

    def size(self, digest: Digest) -> int | None:
        """Return the size of a blob, None if it is missing."""
        with self._link_errors():
            return self._layout.blob_size(digest)

    def open(self, path: Path) -> int:
        """Open a file of the layout for reading. Raises FileNotFoundError."""
        with self._link_errors():
            return self._tree.open(path)

    def read(self, path: Path, limit: int = MAX_SIZE) -> bytes | None:
        """Return a small file's bytes, at most `limit` and one more; None if it is missing."""
        try:
            with self._link_errors():
                return self._layout.read(path, limit)
        except FileNotFoundError:
            return None

    def scan_blobs(self) -> Iterator[tuple[Path, os.stat_result]]:
        """Yield the path and status of each file that may be a blob."""
        with self._link_errors():
            yield from self._layout.scan_blobs()

    def scan_uploads(self) -> Iterator[tuple[Path, os.stat_result]]:
        """Yield the path and status of each temporary file."""
        with self._link_errors():
            yield from self._layout.scan_uploads()

    def delete_unchanged(self, path: Path, seen: os.stat_result) -> bool:
        """Delete a file unless it was written or touched since it was `seen`."""
        try:
            status = self._tree.status(path)
        except OSError:
            return False
        if (status.st_ino, status.st_mtime_ns) != (seen.st_ino, seen.st_mtime_ns):
            return False
        return self._tree.unlink(path)

    def delete_unlocked(self, path: Path, *, dry_run: bool) -> bool:
        """Delete a temporary file unless another process holds it. Return whether it is deleted.

        With `dry_run`, return whether it would be.
        """
        try:
            descriptor = self._tree.open(path)
        except OSError:  # deleted meanwhile, or a link
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not dry_run:
                self._tree.unlink(path)
        except OSError:
            return False
        finally:
            os.close(descriptor)
        return True

    def write(self, blocks: Iterable[Block], path: Callable[[int], Path]) -> None:
        """Write a file and move it to its path, atomically.

        `path` is called with the size after the last block. If it or `blocks` raises, nothing is
        left. Raises OSError with the layout's name.
        """
        with self._write_errors():
            file = self._layout.temporary_file()
        with file:
            for block in blocks:
                with self._write_errors():
                    file.write(block)
            target = path(file.size)
            with self._write_errors():
                file.move(target)

    def locked(self) -> AbstractContextManager[None]:
        """Lock index.json against other threads and processes."""
        return self._held(self._layout.lock())

    def writing(self) -> AbstractContextManager[None]:
        """Keep `gc` from deleting blobs that no index lists yet."""
        return self._lock_uploads(fcntl.LOCK_SH)

    @contextmanager
    def sweeping(self, waiting: Callable[[], None]) -> Iterator[None]:
        """Wait for all writers and keep off new ones. `waiting` is called before a wait."""
        with ExitStack() as stack:
            try:
                stack.enter_context(self._lock_uploads(fcntl.LOCK_EX | fcntl.LOCK_NB))
            except BlockingIOError:
                waiting()
                stack.enter_context(self._lock_uploads(fcntl.LOCK_EX))
            yield

    @contextmanager
    def create_or_open(self) -> Iterator[None]:
        """Like `writing`, but create the layout if it does not exist.

        If an error ends it, what was created here is deleted unless another process has used it.
        """
        new: list[Path] | None = None
        tries = _TRIES
        try:
            with ExitStack() as stack:
                while True:
                    try:
                        created = self.create()
                        new = new if created is None else created
                        stack.enter_context(self.writing())
                        if not self.exists():
                            self.require()
                        break
                    except (FileNotFoundError, FileExistsError, ImageNotFound, InvalidLayout):
                        stack.close()
                        tries -= 1
                        if not tries:
                            raise
                yield
        except BaseException:
            if new is not None:
                self._rollback(new)
            raise

    def _rollback(self, new: list[Path]) -> None:
        """Delete an empty layout and new directories, unless another process holds it."""
        alone = self._held(self._layout.lock_uploads(fcntl.LOCK_EX | fcntl.LOCK_NB))
        with suppress(OSError, InvalidLayout), alone, self.locked():
            is_used = any(self.scan_blobs()) or any(self.scan_uploads())
            if not is_used and self.read(self.index) == disk_layout.EMPTY_INDEX:
                self._layout.marker.unlink()
                self.index.unlink()
                blobs = self._layout.blobs
                inside = [blobs / entry.name for entry in self._tree.scan(blobs)]
                for directory in (*inside, blobs, self._layout.uploads, *new):
                    directory.rmdir()

    def _lock_uploads(self, operation: int) -> AbstractContextManager[None]:
        with self._write_errors():
            self._tree.make(self._layout.uploads)
        return self._held(self._layout.lock_uploads(operation))

    @contextmanager
    def _held(self, lock: AbstractContextManager[None]) -> Iterator[None]:
        with self._link_errors(), lock:
            yield

    @contextmanager
    def _link_errors(self) -> Iterator[None]:
        """Raise InvalidLayout for a link, or another file that is not a regular one."""
        try:
            yield
        except UnsafePath as error:
            raise self._invalid(f"{_LINK}: {error.filename}") from error

    @contextmanager
    def _write_errors(self) -> Iterator[None]:
        """Give an OSError the layout's name instead of a temporary file's."""
        try:
            with self._link_errors():
                yield
        except NotADirectoryError as error:
            raise self._invalid(f"{error.filename} is not a directory") from error
        except OSError as error:
            raise OSError(error.errno, error.strerror, os.fspath(self.path)) from error

    def _invalid(self, why: str) -> InvalidLayout:
        return InvalidLayout(f"{self.path} is not a usable image layout: {why}", side="local")


def _has_layouts(path: Path) -> bool:
    """Return whether a directory is a layout, or holds only such, as `team/app` beside `team`."""
    if path.is_symlink() or not path.is_dir():
        return False
    if (path / disk_layout.LAYOUT_FILE).is_file():
        return True
    inside = list(path.iterdir())
    return bool(inside) and all(map(_has_layouts, inside))


def check(expected: Digest, actual: Digest, where: Path | None = None) -> None:
    """Raise DigestMismatch if the digests differ; `where` is the layout that has the bytes."""
    if actual != expected:
        place = f" in {where}" if where else ""
        raise DigestMismatch(
            f"the bytes of {expected}{place} hash to {actual}",
            expected=str(expected),
            actual=str(actual),
        )
