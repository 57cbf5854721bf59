"""The files of an image layout: where each is, how it comes to be, and who may change what.

Knows image-spec image-layout.md, rename and flock. Must not know what is in the files.

    <path>/oci-layout
    <path>/index.json
    <path>/blobs/<algorithm>/<encoded>
    <path>/.uploads/                     files on their way, each under a name of its own
    <path>/.index/                       the embedded registry's index, which nobody needs here

Strategy: several processes share the directory, the embedded registry among them. What is written
is moved to its place when it is whole, so that a reader, and whoever comes after a `kill -9`, finds
each file as it was or as it shall be; what takes the place of another is on the device first. Where
the power fails, a new blob may be empty: its size tells, and the next push writes it anew. Two
locks, both of the kernel's: who changes index.json holds the directory (flock), as the registry
does; who writes shares `.uploads`, and who sweeps has it alone. A link in the place of a file or a
directory is refused (directory).
"""

from __future__ import annotations

import fcntl
import os
import stat
import uuid
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Final

from brolga.disk.directory import Directory, UnsafePath
from brolga.errors import DigestMismatch, ImageNotFound, InvalidLayout, InvalidManifest
from brolga.spec.index import Index
from brolga.spec.json import MAX_SIZE, decode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from brolga.spec.blob import Block
    from brolga.spec.digest import Digest

__all__ = ["SCRATCH", "Files", "check"]

# image-layout.md, oci-layout file.
_MARK: Final = b'{"imageLayoutVersion":"1.0.0"}\n'
_MARK_LIMIT: Final = 4096  # bytes
# `.index` is the registry's.
_OURS: Final = frozenset({"oci-layout", "index.json", "blobs", ".uploads", ".index"})
# What a blob on its way is called: no session of the registry has such a name.
SCRATCH: Final = "blob."
# Another writer may take its new layout back while this one finds it.
_TRIES: Final = 10
_LINK: Final = "there is a link, or no regular file, in the place of a file of the layout"


class Files:
    """The directory of one image layout, `path`, which need not be there."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.index = path / "index.json"
        self.uploads = path / ".uploads"
        self.blobs = path / "blobs"
        self._mark = path / "oci-layout"
        self._tree = Directory(path)

    def require(self) -> None:
        """Raise NoSuchImage where nothing is, InvalidLayout where it is no image layout."""
        try:
            status = self.path.stat()
        except (FileNotFoundError, NotADirectoryError):
            raise ImageNotFound(f"there is no image layout at {self.path}") from None
        if not stat.S_ISDIR(status.st_mode):
            raise self._wrong("it is no directory; an archive is named oci-archive:FILE")
        mark = self.read(self._mark, _MARK_LIMIT)
        if mark is None:
            raise self._wrong("it has no file oci-layout")
        version = _version(mark)
        if not (isinstance(version, str) and version.startswith("1.")):
            raise self._wrong("its file oci-layout does not say version 1")

    def create(self) -> list[Path] | None:
        """Make the layout where it is not there; the file that says it is one comes last.

        Return the directories that it and those above it are, so far as they were made, the inner
        ones first; None where it was there. Raises InvalidLayout for a directory with files of
        others; layouts below it are none, as a registry has them.
        """
        if self.is_there():
            self.require()
            return None
        if self.path.exists() and not self.path.is_dir():
            raise self._wrong("it is no directory; an archive is named oci-archive:FILE")
        made = [one for one in (self.path, *self.path.parents) if not one.exists()]
        self.path.mkdir(parents=True, exist_ok=True)
        for name in sorted(set(os.listdir(self.path)) - _OURS):  # noqa: PTH208 - names alone
            if not _has_layouts(self.path / name):
                raise self._wrong(
                    f"it has other files, as {name!r}; name an empty directory, or a new one"
                )
        self._directory(self.blobs)
        with self.locked():
            if not os.path.lexists(self.index):
                self.write([Index.new(()).raw], lambda _: self.index)
            self.write([_MARK], lambda _: self._mark)
        return made

    def is_there(self) -> bool:
        """Whether there is a file that says that this is a layout."""
        return os.path.lexists(self._mark)

    def blob(self, digest: Digest) -> Path:
        """Return the place of a blob, whether it is there or not."""
        return self.blobs / digest.algorithm / digest.encoded

    def size(self, digest: Digest) -> int | None:
        """Return how many bytes a blob has, None where it is not there. Raises InvalidLayout."""
        try:
            with self._safe():
                return self._tree.status(self.blob(digest)).st_size
        except (FileNotFoundError, NotADirectoryError):
            return None

    def renew(self, digest: Digest) -> None:
        """Make a blob young: who sweeps by age leaves it to whoever counts on it now."""
        with suppress(OSError):  # another user's: it is as old as it is
            self._tree.touch(self.blob(digest))

    def open(self, path: Path) -> int:
        """Open a file of the layout to be read. Raises FileNotFoundError, InvalidLayout."""
        with self._safe():
            return self._tree.open(path)

    def stored(self) -> Iterator[tuple[Path, os.stat_result]]:
        """Yield each file that may be a blob, as it is now. Raises InvalidLayout."""
        for algorithm in list(self._scan(self.blobs)):
            if algorithm.is_dir(follow_symlinks=False):
                inside = self.blobs / algorithm.name
                for entry in self._scan(inside):
                    with suppress(FileNotFoundError):  # the registry has deleted it meanwhile
                        yield inside / entry.name, entry.stat(follow_symlinks=False)

    def on_their_way(self) -> Iterator[tuple[Path, os.stat_result]]:
        """Yield each file on its way, as it is now. Raises InvalidLayout."""
        for entry in self._scan(self.uploads):
            with suppress(FileNotFoundError):
                yield self.uploads / entry.name, entry.stat(follow_symlinks=False)

    def delete(self, path: Path, seen: os.stat_result) -> bool:
        """Delete a file, unless it was written anew since it was `seen`: a client counts on it."""
        try:
            status = self._tree.status(path)
        except OSError:
            return False
        if (status.st_ino, status.st_mtime_ns) != (seen.st_ino, seen.st_mtime_ns):
            return False
        return self._tree.unlink(path)

    def discard(self, path: Path, *, dry: bool) -> bool:
        """Delete a file on its way, unless somebody holds it. Return whether it is gone.

        With `dry` nothing goes: return whether it would.
        """
        try:
            descriptor = self._tree.open(path)
        except OSError:  # gone meanwhile, or none of ours
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not dry:
                self._tree.unlink(path)
        except OSError:
            return False
        finally:
            os.close(descriptor)
        return True

    def _scan(self, path: Path) -> Iterator[os.DirEntry[str]]:
        with self._safe():
            yield from self._tree.scan(path)

    def read(self, path: Path, limit: int = MAX_SIZE) -> bytes | None:
        """Return a small file's bytes, one more than `limit` at most; None where it is not there.

        Raises InvalidLayout.
        """
        try:
            descriptor = self.open(path)
        except FileNotFoundError:
            return None
        with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor has no path
            return file.read(limit + 1)

    def write(self, blocks: Iterable[Block], place: Callable[[int], Path]) -> None:
        """Write a file and move it to its place, at once and whole.

        `place` is asked for it when all is written, and told the number of bytes; where it or
        `blocks` raises, nothing is left. Raises OSError, with the layout's name in it.
        """
        scratch = self._directory(self.uploads) / f"{SCRATCH}{uuid.uuid4().hex}"
        with self._named():
            descriptor = self._tree.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)  # the registry expires no file that is held
            size = 0
            for block in blocks:
                with self._named():
                    size += _write(descriptor, block)
            target = place(size)
            self._directory(target.parent)
            with self._named():
                if os.path.lexists(target):
                    os.fsync(descriptor)  # else a power cut could leave neither of the two
                self._tree.replace(scratch, target)
        except BaseException:
            self._tree.unlink(scratch)
            raise
        finally:
            os.close(descriptor)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Be the one who changes index.json, among threads and processes."""
        with self._held(self.path, fcntl.LOCK_EX):
            yield

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Keep off who sweeps, while blobs are there that no index names yet."""
        with self._held(self._directory(self.uploads), fcntl.LOCK_SH):
            yield

    @contextmanager
    def making(self) -> Iterator[None]:
        """Do as `writing`, and make the layout where it is not there.

        Where an error ends it, what was made here goes again, unless somebody has used it.
        """
        made: list[Path] | None = None
        tries = _TRIES
        try:
            with ExitStack() as stack:
                while True:
                    try:
                        new = self.create()
                        made = made if new is None else new
                        stack.enter_context(self.writing())
                        if not self.is_there():
                            self.require()
                        break
                    except (FileNotFoundError, FileExistsError, ImageNotFound, InvalidLayout):
                        stack.close()
                        tries -= 1
                        if not tries:
                            raise
                yield
        except BaseException:
            if made is not None:
                self._take_back(made)
            raise

    def _take_back(self, made: list[Path]) -> None:
        """Take away a layout in which nothing is, and directories; whoever holds it keeps it."""
        alone = self._held(self.uploads, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with suppress(OSError, InvalidLayout), alone, self.locked():
            is_used = any(self.stored()) or any(self.on_their_way())
            if not is_used and self.read(self.index) == Index.new(()).raw:
                self._mark.unlink()
                self.index.unlink()
                inside = [self.blobs / one.name for one in self._scan(self.blobs)]
                for directory in (*inside, self.blobs, self.uploads, *made):
                    directory.rmdir()

    @contextmanager
    def sweeping(self, waiting: Callable[[], None]) -> Iterator[None]:
        """Be alone: wait for those who write, keep off new ones. `waiting` is told of the wait."""
        uploads = self._directory(self.uploads)
        with ExitStack() as stack:
            try:
                stack.enter_context(self._held(uploads, fcntl.LOCK_EX | fcntl.LOCK_NB))
            except BlockingIOError:
                waiting()
                stack.enter_context(self._held(uploads, fcntl.LOCK_EX))
            yield

    def _directory(self, path: Path) -> Path:
        """Return a directory inside, made where it is not there. Raises InvalidLayout."""
        if path != self.path:
            with self._named():
                self._tree.make(path)
        return path

    @contextmanager
    def _safe(self) -> Iterator[None]:
        """Say of a link, and of what else is no file, that it is refused. Raises InvalidLayout."""
        try:
            yield
        except UnsafePath as error:
            raise self._wrong(f"{_LINK}: {error.filename}") from error

    @contextmanager
    def _held(self, directory: Path, operation: int) -> Iterator[None]:
        """Hold a lock on a directory of the layout. Raises as Directory.locked, InvalidLayout."""
        with self._safe(), self._tree.locked(directory, operation):
            yield

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Give an error of the system the layout's name: that of a file on its way says nothing."""
        try:
            yield
        except UnsafePath as error:
            raise self._wrong(f"{_LINK}: {error.filename}") from error
        except NotADirectoryError as error:  # a file where a directory must be
            raise self._wrong(f"{error.filename} is no directory") from error
        except OSError as error:
            raise OSError(error.errno, error.strerror, os.fspath(self.path)) from error

    def _wrong(self, why: str) -> InvalidLayout:
        error = InvalidLayout(f"{self.path} is no image layout that can be used: {why}")
        error.side = "local"
        return error


def _has_layouts(path: Path) -> bool:
    """Tell whether a directory is a layout, or has nothing but such: `team/app` beside `team`."""
    if path.is_symlink() or not path.is_dir():
        return False
    if (path / "oci-layout").is_file():
        return True
    inside = list(path.iterdir())
    return bool(inside) and all(map(_has_layouts, inside))


def _write(descriptor: int, block: Block) -> int:
    with memoryview(block) as view:
        done = 0
        while done < len(view):
            done += os.write(descriptor, view[done:])
        return done


def _version(mark: bytes) -> object:
    with suppress(InvalidManifest):
        return decode(mark, _MARK_LIMIT).get("imageLayoutVersion")
    return None


def check(expected: Digest, actual: Digest, where: Path | None = None) -> None:
    """Raise DigestMismatch where bytes are others; `where` is the layout that they are in."""
    if actual != expected:
        place = f" in {where}" if where else ""
        raise DigestMismatch(
            f"the bytes of {expected}{place} hash to {actual}",
            expected=str(expected),
            actual=str(actual),
        )
