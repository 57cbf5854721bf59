"""The files of an image layout as the client uses them: `disk.layout` with the client's errors.

After a power cut a new blob may be empty. Its size is wrong then, and the next push writes it
again.
"""

from __future__ import annotations

import fcntl
import os
import stat
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Final

from brolga.disk.directory import Directory
from brolga.disk.layout import EMPTY_INDEX, LAYOUT_FILE, LAYOUT_NAMES, LayoutDirectory
from brolga.errors import ImageNotFound, InvalidLayout, InvalidManifest
from brolga.spec.json import decode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path


_MAX_MARKER_SIZE: Final = 4096  # bytes
# Another writer may roll back its new layout while this one opens it.
_TRIES: Final = 10


class Files(LayoutDirectory):
    """The directory of one image layout, `path`, which need not exist.

    Methods raise InvalidLayout for a link in the place of a file or directory.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, Directory(path, unsafe_path=self._unsafe_path))

    def require(self) -> None:
        """Raise ImageNotFound if nothing is there, InvalidLayout if it is not an image layout."""
        try:
            status = self.path.stat()
        except (FileNotFoundError, NotADirectoryError):
            raise ImageNotFound(f"no image layout at {self.path}") from None
        if not stat.S_ISDIR(status.st_mode):
            raise self._invalid("it is not a directory; an archive is named oci-archive:FILE")
        marker = self.read(self.marker, _MAX_MARKER_SIZE)
        if marker is None:
            raise self._invalid("it has no file oci-layout")
        version = None
        with suppress(InvalidManifest):
            version = decode(marker, _MAX_MARKER_SIZE).get("imageLayoutVersion")
        if not (isinstance(version, str) and version.startswith("1.")):
            raise self._invalid("its file oci-layout does not say version 1")

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
                        created = self._create_if_missing()
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

    def _create_if_missing(self) -> list[Path] | None:
        """Return the layout and its new parents, the innermost first; None if it existed.

        Layouts may be below it: a registry has such directories.
        """
        if self.exists():
            self.require()
            return None
        if self.path.exists() and not self.path.is_dir():
            raise self._invalid("it is not a directory; an archive is named oci-archive:FILE")
        new = [directory for directory in (self.path, *self.path.parents) if not directory.exists()]
        self.path.mkdir(parents=True, exist_ok=True)
        for name in sorted(set(os.listdir(self.path)) - LAYOUT_NAMES):  # noqa: PTH208 - names alone
            if not _has_layouts(self.path / name):
                raise self._invalid(
                    f"it has other files, as {name!r}; name an empty directory, or a new one"
                )
        with self.write_errors():
            self.create()
        return new

    def _rollback(self, new: list[Path]) -> None:
        """Delete an empty layout and new directories, unless another process holds it."""
        alone = self.lock_uploads(fcntl.LOCK_EX | fcntl.LOCK_NB)
        with suppress(OSError, InvalidLayout), alone, self.lock():
            is_used = any(self.scan_blobs()) or any(self.scan_uploads())
            if not is_used and self.read(self.index) == EMPTY_INDEX:
                self.marker.unlink()
                self.index.unlink()
                inside = [self.blobs / entry.name for entry in self.tree.scan(self.blobs)]
                for directory in (*inside, self.blobs, self.uploads, *new):
                    directory.rmdir()

    def writing(self) -> AbstractContextManager[None]:
        """Keep `gc` from deleting blobs that no index lists yet."""
        return self._make_and_lock_uploads(fcntl.LOCK_SH)

    @contextmanager
    def sweeping(self, waiting: Callable[[], None]) -> Iterator[None]:
        """Wait for all writers and keep off new ones. `waiting` is called before a wait."""
        with ExitStack() as stack:
            try:
                stack.enter_context(self._make_and_lock_uploads(fcntl.LOCK_EX | fcntl.LOCK_NB))
            except BlockingIOError:
                waiting()
                stack.enter_context(self._make_and_lock_uploads(fcntl.LOCK_EX))
            yield

    def _make_and_lock_uploads(self, operation: int) -> AbstractContextManager[None]:
        with self.write_errors():
            self.tree.make(self.uploads)
        return self.lock_uploads(operation)

    def delete_unchanged(self, path: Path, seen: os.stat_result) -> bool:
        """Delete a file unless it was written or touched since it was `seen`."""
        try:
            status = self.tree.status(path)
        except (OSError, InvalidLayout):
            return False
        if (status.st_ino, status.st_mtime_ns) != (seen.st_ino, seen.st_mtime_ns):
            return False
        return self.tree.unlink(path)

    def delete_unlocked(self, path: Path, *, dry_run: bool) -> bool:
        """Delete a file that no process has locked; return whether it is, or would be, deleted."""
        try:
            descriptor = self.tree.open(path)
        except (OSError, InvalidLayout):  # deleted meanwhile, or a link
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not dry_run:
                self.tree.unlink(path)
        except (OSError, InvalidLayout):
            return False
        finally:
            os.close(descriptor)
        return True

    @contextmanager
    def write_errors(self) -> Iterator[None]:
        """Also raise InvalidLayout for a file in the place of a directory."""
        try:
            with super().write_errors():
                yield
        except NotADirectoryError as error:
            raise self._invalid(f"{error.filename} is not a directory") from error

    def _unsafe_path(self, path: Path) -> InvalidLayout:
        return self._invalid(
            f"there is a link, or no regular file, in the place of a file of the layout: {path}"
        )

    def _invalid(self, reason: str) -> InvalidLayout:
        return InvalidLayout(f"{self.path} is not a usable image layout: {reason}", side="local")


def _has_layouts(path: Path) -> bool:
    """Return whether a directory is a layout, or holds only such, as `team/app` beside `team`."""
    if path.is_symlink() or not path.is_dir():
        return False
    if (path / LAYOUT_FILE).is_file():
        return True
    inside = list(path.iterdir())
    return bool(inside) and all(map(_has_layouts, inside))
