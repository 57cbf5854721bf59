"""Where the index of a repository's manifests is kept: a SQLite file beside them, or elsewhere.

Knows SQLite, and what becomes of a file that cannot be used. Must not know what is in it (graph).

    <layout>/.index/manifests-1-<random>.sqlite3

The layout is the truth, so the file may be lost at any time. One that is damaged, or was open when
the machine lost power, is made anew. If the directory cannot be written, or a link is planted
there, the file is in a directory for temporary files; if there is no such directory, the index is
in memory. Each piece of work opens the file and closes it: threads, processes and a second registry
on the directory are alike to it, and no memory is held between two requests. No name is used twice:
SQLite finds the journal of a file by its name, and would undo in a new file what was done in one
that was deleted.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import re
import shutil
import sqlite3
import stat
import tempfile
import threading
import time
import uuid
import weakref
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from brolga.disk.directory import UnsafePath

if TYPE_CHECKING:
    from collections.abc import Callable

    from brolga.server.disk import Disk
    from brolga.server.layout import Layout

__all__ = ["DATABASE", "Databases"]

_T = TypeVar("_T")
_log = logging.getLogger("brolga.server")

DATABASE = ".index"
# The number is the schema's: a registry of another version leaves these files alone.
_FILE = re.compile(r"manifests-1-[0-9a-f]{32}\.sqlite3(?:-journal|-wal|-shm)?")
_END = ".sqlite3"

# How long a file is left that is not the one in use.
_LEFT_S = 3600.0

# How long to wait for another thread or process that changes the file.
_PATIENCE_S = 10.0

# How often the file is looked for again, if another process deleted it or it was damaged.
_TRIES = 5

# The file may be sound, and cannot be used now: another file serves. Any other error is damage.
_UNUSABLE = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_READONLY,
    }
)

_SCHEMA = """
CREATE TABLE boot (id TEXT);
-- Which index.json this was made of, and by whom.
CREATE TABLE source (stamp TEXT, fingerprint BLOB, is_settled INTEGER, writer TEXT);
-- The entries of index.json, in its order; one that is not a valid descriptor has no digest.
CREATE TABLE entry (
    place INTEGER PRIMARY KEY, tag TEXT, folded TEXT, digest TEXT, media_type TEXT, size INTEGER
);
CREATE INDEX entry_tag ON entry (folded, tag);
CREATE INDEX entry_digest ON entry (digest);
-- The manifests that can be reached, as far as they were read. `content_size` is that of their
-- blobs, `listed` what a list of referrers says of one.
CREATE TABLE manifest (
    digest TEXT PRIMARY KEY, is_read INTEGER, media_type TEXT, size INTEGER, content_size INTEGER,
    stored_s REAL, subject TEXT, artifact_type TEXT, listed TEXT
);
CREATE INDEX manifest_subject ON manifest (subject, digest);
-- The manifests of an index.
CREATE TABLE child (
    parent TEXT, digest TEXT, media_type TEXT, size INTEGER, PRIMARY KEY (parent, digest)
) WITHOUT ROWID;
CREATE INDEX child_digest ON child (digest);
PRAGMA user_version = 1;
"""


class _Damaged(sqlite3.DatabaseError):
    """A file that cannot be trusted."""


class Databases:
    """The indexes of the repositories of one registry. `read_only` leaves the layouts alone."""

    def __init__(self, *, read_only: bool = False) -> None:
        self._read_only = read_only
        self._lock = threading.Lock()
        self._elsewhere: Path | None = None
        self._told = False

    def run(self, layout: Layout, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Do some work with the index of a layout; again if a file turns out to be unusable."""
        for _ in range(0 if self._read_only else _TRIES):
            file = None
            try:
                file = _file_in(layout)
                return _run(file, work)
            except sqlite3.Error as error:
                if file is not None and not os.path.lexists(file):
                    continue  # another process found it damaged
                self._tell(layout, error)
                if file is None or _is_unusable(error):
                    break
                # Its journal stays: a process that has the file open may need it.
                with suppress(OSError):
                    layout.disk.unlink(file)
        try:
            return _run(self._file_elsewhere(layout), work)
        except sqlite3.Error as error:
            self._tell(layout, error)
        return _run(None, work)

    def _file_elsewhere(self, layout: Layout) -> Path:
        """Return the index in a directory of our own for temporary files. Raises sqlite3.Error."""
        with self._lock:
            if self._elsewhere is None:
                try:
                    self._elsewhere = Path(tempfile.mkdtemp(prefix="brolga-index-"))
                except OSError as error:
                    raise sqlite3.OperationalError(str(error)) from error
                weakref.finalize(self, shutil.rmtree, self._elsewhere, ignore_errors=True)
        file = self._elsewhere / hashlib.sha256(os.fsencode(layout.path)).hexdigest()
        with suppress(OSError):  # SQLite says what is wrong
            file.touch()
        return file

    def _tell(self, layout: Layout, error: sqlite3.Error) -> None:
        """Log the first time that an index cannot be used; the next ones have the same cause."""
        if not self._told:
            self._told = True
            _log.warning("the index in %s cannot be used: %s", layout.path / DATABASE, error)


def _run(file: Path | None, work: Callable[[sqlite3.Connection], _T]) -> _T:
    """Do some work with the index in a file, or in memory. Raises sqlite3.Error."""
    with closing(_open(file)) as database:
        return work(database)


def _is_unusable(error: sqlite3.Error) -> bool:
    """Return whether a file may be sound, and cannot be used now."""
    if isinstance(error, _Damaged):
        return False
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CANTOPEN) & 0xFF in _UNUSABLE


def _file_in(layout: Layout) -> Path:
    """Return the index that is kept in a layout. Raises sqlite3.Error."""
    directory = layout.path / DATABASE
    try:
        return directory / _current(layout.disk, directory)
    except OSError as error:
        raise sqlite3.OperationalError(str(error)) from error


def _current(disk: Disk, directory: Path) -> str:
    """Return the name of the index, a new one if none is there. Raises UnsafePath, OSError."""
    found: dict[str, os.stat_result] = {}
    for entry in disk.scan(directory):
        if _FILE.fullmatch(entry.name):
            with suppress(FileNotFoundError):
                found[entry.name] = entry.stat(follow_symlinks=False)
    current = min((name for name in found if name.endswith(_END)), default=None)
    if current is None:
        current = f"manifests-1-{uuid.uuid4().hex}{_END}"
        os.close(disk.create(directory / current))
    for name, status in found.items():
        if not name.startswith(current):
            # Two processes made one each, or a process was killed. One that has the file open
            # may need its journal.
            if time.time() - status.st_mtime > _LEFT_S:
                disk.unlink(directory / name)
        elif not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
            raise UnsafePath(directory / name)
    return current


def _open(file: Path | None) -> sqlite3.Connection:
    """Open a file that is there, perhaps empty; None for memory. Raises sqlite3.Error."""
    boot = _boot_id()
    name = "file::memory:" if file is None else f"{file.absolute().as_uri()}?mode=rw"
    database = sqlite3.connect(name, uri=True, timeout=_PATIENCE_S, isolation_level=None)
    try:
        database.execute("PRAGMA trusted_schema = OFF")
        # A file that was open when the machine lost power is not used again, so nothing waits for
        # the device.
        database.execute(f"PRAGMA synchronous = {'OFF' if boot else 'FULL'}")
        if _version(database) == 0:
            _create(database, boot)
        _require_boot(database, boot)
    except BaseException:
        database.close()
        raise
    return database


def _create(database: sqlite3.Connection, boot: str) -> None:
    database.execute("BEGIN IMMEDIATE")
    if _version(database) == 0:  # no other process was faster
        for statement in _SCHEMA.split(";\n"):
            database.execute(statement)
        database.execute("INSERT INTO boot VALUES (?)", (boot,))
    database.execute("COMMIT")


def _require_boot(database: sqlite3.Connection, boot: str) -> None:
    """Raise _Damaged if the tables are of an earlier start of the machine."""
    if database.execute("SELECT id FROM boot").fetchone() != (boot,):
        raise _Damaged("it is of the time before the machine was started")


def _version(database: sqlite3.Connection) -> int:
    return int(database.execute("PRAGMA user_version").fetchone()[0])


@functools.cache
def _boot_id() -> str:
    """Return what the system is called from its start to its end; "" if it has no such name."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    return ""
