"""The file that records an extraction: it is written first, and deleted last.

An extraction that was interrupted goes on at its first incomplete layer. The file has one JSON
object a line: what is extracted, each complete layer, and what the directories of lower layers had
before the layer under way changed them.
"""

from __future__ import annotations

import fcntl
import os
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from brolga.errors import ExtractionError
from brolga.extract.content import write_all
from brolga.extract.limits import Usage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from brolga.extract.options import ExtractOptions
    from brolga.extract.tree import Tree

NAME: Final = b".brolga-extract"
_VERSION: Final = 1
_FLAGS: Final = os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class State:
    """The record of one extraction. `done` layers are complete; `usage` counts what they took.

    `directories` maps paths to the mode and the time, in nanoseconds, that directories had; a
    directory without a time was made for what is in it.
    """

    def __init__(self, descriptor: int, usage: Usage) -> None:
        self._descriptor = descriptor
        self.usage = usage
        self.done = 0
        self.directories: dict[bytes, tuple[int, int | None]] = {}

    def restore(self, lines: Iterable[dict[str, Any]]) -> None:
        """Take what an earlier process wrote."""
        usage = self.usage
        for line in lines:
            try:
                if "layer" in line:
                    self.done = line["layer"]
                    usage.written, usage.entries = line["usage"]
                    self.directories.clear()
                else:
                    self.directories[os.fsencode(line["path"])] = line["mode"], line["mtime"]
            except (KeyError, TypeError, ValueError) as error:
                raise _damaged_error() from error

    def record_directory(self, path: bytes, mode: int, mtime_ns: int | None) -> None:
        """Record what a directory has, before it is changed or made."""
        self.directories[path] = mode, mtime_ns
        self.append({"path": os.fsdecode(path), "mode": mode, "mtime": mtime_ns})

    def complete_layer(self) -> None:
        """Record that a layer is complete."""
        self.done += 1
        self.directories.clear()
        usage = [self.usage.written, self.usage.entries]
        self.append({"layer": self.done, "usage": usage})

    def append(self, line: dict[str, Any]) -> None:
        """Write a line."""
        write_all(self._descriptor, _encode(line))


@contextmanager
def open_state(tree: Tree, layers: Sequence[str], options: ExtractOptions) -> Iterator[State]:
    """Begin or continue an extraction; the file stays unless `finish` deletes it.

    Raises ExtractionError if the directory has anything else in it, or if another process is at it.
    """
    head = {
        "version": _VERSION,
        "layers": list(layers),
        "only": sorted(map(os.fsdecode, options.selection.paths)),
        "devices": options.devices,
        "setuid": options.setuid,
        "owner": list(options.map_owner or ()),
    }
    descriptor = _open(tree)
    try:
        _lock(descriptor)
        if options.clean:
            tree.empty(b"", {NAME})
            os.ftruncate(descriptor, 0)
        state = State(descriptor, Usage(options.limits))
        lines = _read(descriptor)
        found = next(lines, None)
        if found is None:
            state.append(head)
        else:
            _check(found, head)
            state.restore(lines)
        yield state
    finally:
        os.close(descriptor)


def finish(tree: Tree) -> None:
    """Delete the file. The directory keeps its mode and times."""
    status = os.fstat(tree.root)
    tree.make_usable(b"")
    os.unlink(NAME, dir_fd=tree.root)
    os.fchmod(tree.root, stat.S_IMODE(status.st_mode))
    os.utime(tree.root, ns=(status.st_atime_ns, status.st_mtime_ns))


def _open(tree: Tree) -> int:
    """Open the file, or create it in an empty directory."""
    try:
        descriptor = os.open(NAME, _FLAGS, dir_fd=tree.root)
    except FileNotFoundError:
        with os.scandir(tree.root) as entries:
            if any(entries):
                raise ExtractionError(
                    "the directory is not empty, and there is no unfinished extraction in it",
                    hint="choose an empty or a new directory",
                ) from None
        return os.open(NAME, _FLAGS | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=tree.root)
    if os.fstat(descriptor).st_uid != os.geteuid():
        os.close(descriptor)  # with --map-owner, the directory is the other user's
        raise ExtractionError("the record of the extraction belongs to another user")
    return descriptor


def _lock(descriptor: int) -> None:
    """Lock the file until it is closed. Raises ExtractionError if that is not possible."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise ExtractionError("another process extracts into the directory") from error
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
        raise ExtractionError("the record of the extraction is not a regular file with one name")


def _encode(line: dict[str, Any]) -> bytes:
    import json

    return json.dumps(line).encode() + b"\n"


def _read(descriptor: int) -> Iterator[dict[str, Any]]:
    """Yield the lines. The last one is cut off if a kill left it incomplete."""
    import json

    with open(descriptor, "rb", closefd=False) as file:
        size = 0
        for line in file:
            if not line.endswith(b"\n"):
                os.ftruncate(descriptor, size)
                return
            size += len(line)
            try:
                yield dict(json.loads(line))
            except (ValueError, TypeError) as error:
                raise _damaged_error() from error


def _damaged_error() -> ExtractionError:
    return ExtractionError("the record of the extraction is damaged", hint="--clean starts over")


def _check(found: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Raise ExtractionError if what was begun is not what is wanted."""
    if found == wanted:
        return
    what = "of another image" if found.get("layers") != wanted["layers"] else "with other options"
    raise ExtractionError(
        f"the directory has an unfinished extraction {what}",
        hint="choose another directory, or --clean to delete what is there",
    )
