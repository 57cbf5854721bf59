"""The SQLite file that indexes a repository's manifests (graph.py has its contents).

    <layout>/.index/manifests-1-<random>.sqlite3

The layout is the truth, so the file may be lost at any time. A damaged file, or one of an earlier
boot, is made anew. If the layout cannot be written, the file is in a temporary directory, or else
in memory. Each use opens the file and closes it, so threads, processes and a second registry may
share it. No name is used twice: SQLite would apply the journal of a deleted file to a new one.
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
from typing import TYPE_CHECKING, Final, TypeVar

from brolga.disk.directory import Directory, UnsafePath
from brolga.disk.layout import DATABASE

if TYPE_CHECKING:
    from collections.abc import Callable

    from brolga.registry.storage.layout import Layout


_T = TypeVar("_T")
_log = logging.getLogger("brolga.registry")

# The number is the schema's: a registry of another version ignores these files.
_FILE: Final = re.compile(r"manifests-1-[0-9a-f]{32}\.sqlite3(?:-journal|-wal|-shm)?")
_SUFFIX: Final = ".sqlite3"

_KEEP_UNUSED_S: Final = 3600.0
_LOCK_TIMEOUT_S: Final = 10.0
_MAX_ATTEMPTS: Final = 5  # if another process deleted the file, or it was damaged

# The file may be sound but cannot be used now: another file serves. Any other error is damage.
_UNAVAILABLE: Final = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_READONLY,
    }
)

_SCHEMA: Final = """
CREATE TABLE boot (id TEXT);
-- Which index.json the tables were made of, and by which writer.
CREATE TABLE source (stamp TEXT, fingerprint BLOB, is_settled INTEGER, writer TEXT);
-- The entries of index.json, in its order; an invalid descriptor has no digest.
CREATE TABLE entry (
    place INTEGER PRIMARY KEY, tag TEXT, folded TEXT, digest TEXT, media_type TEXT, size INTEGER
);
CREATE INDEX entry_tag ON entry (folded, tag);
CREATE INDEX entry_digest ON entry (digest);
-- The reachable manifests that were read. `content_size` is the size of their blobs, `listed` the
-- descriptor in a list of referrers.
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


class _DamagedError(sqlite3.DatabaseError):
    """The file cannot be trusted."""


class Databases:
    """The databases of one registry. With `read_only`, none is written into a layout."""

    def __init__(self, *, read_only: bool = False) -> None:
        self._read_only = read_only
        self._lock = threading.Lock()
        self._temporary: Path | None = None
        self._has_warned = False

    def run(self, layout: Layout, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Run `work` with a layout's database; again if its file is unusable."""
        for _ in range(0 if self._read_only else _MAX_ATTEMPTS):
            file = None
            try:
                file = _find_or_create(layout.tree, layout.path / DATABASE)
                return _run(file, work)
            except sqlite3.Error as error:
                if file is not None and not os.path.lexists(file):
                    continue  # another process found it damaged and deleted it
                self._warn(layout, error)
                if file is None or _is_unavailable(error):
                    break
                # Its journal stays: a process that has the file open may need it.
                with suppress(OSError):
                    layout.tree.unlink(file)
        try:
            return _run(self._temporary_file(layout), work)
        except sqlite3.Error as error:
            self._warn(layout, error)
        return _run(None, work)

    def _temporary_file(self, layout: Layout) -> Path:
        """Return the database in a temporary directory. Raises sqlite3.Error."""
        with self._lock:
            if self._temporary is None:
                try:
                    self._temporary = Path(tempfile.mkdtemp(prefix="brolga-index-"))
                except OSError as error:
                    raise sqlite3.OperationalError(str(error)) from error
                weakref.finalize(self, shutil.rmtree, self._temporary, ignore_errors=True)
        file = self._temporary / hashlib.sha256(os.fsencode(layout.path)).hexdigest()
        with suppress(OSError):  # SQLite reports the error
            file.touch()
        return file

    def _warn(self, layout: Layout, error: sqlite3.Error) -> None:
        """Log the first database that cannot be used; the next ones have the same cause."""
        if not self._has_warned:
            self._has_warned = True
            _log.warning("the index in %s cannot be used: %s", layout.path / DATABASE, error)


def _run(file: Path | None, work: Callable[[sqlite3.Connection], _T]) -> _T:
    """Run `work` with a database in a file, or in memory. Raises sqlite3.Error."""
    with closing(_open(file)) as database:
        return work(database)


def _is_unavailable(error: sqlite3.Error) -> bool:
    """Return whether the file may be sound but cannot be used now."""
    if isinstance(error, _DamagedError):
        return False
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CANTOPEN) & 0xFF in _UNAVAILABLE


def _find_or_create(tree: Directory, directory: Path) -> Path:
    """Return the path of the database; create it if needed. Raises sqlite3.Error."""
    files: dict[str, os.stat_result] = {}
    try:
        for entry in tree.scan(directory):
            if _FILE.fullmatch(entry.name):
                with suppress(FileNotFoundError):
                    files[entry.name] = entry.stat(follow_symlinks=False)
        current = min((name for name in files if name.endswith(_SUFFIX)), default=None)
        if current is None:
            current = f"manifests-1-{uuid.uuid4().hex}{_SUFFIX}"
            os.close(tree.create(directory / current))
        for name, status in files.items():
            if not name.startswith(current):
                # Two processes made one each, or a process was killed. A process that has the file
                # open may need its journal.
                if time.time() - status.st_mtime > _KEEP_UNUSED_S:
                    tree.unlink(directory / name)
            elif not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
                raise UnsafePath(directory / name)
    except OSError as error:
        raise sqlite3.OperationalError(str(error)) from error
    return directory / current


def _open(file: Path | None) -> sqlite3.Connection:
    """Open an existing file, perhaps empty; None is memory. Raises sqlite3.Error."""
    boot = _boot_id()
    name = "file::memory:" if file is None else f"{file.absolute().as_uri()}?mode=rw"
    database = sqlite3.connect(name, uri=True, timeout=_LOCK_TIMEOUT_S, isolation_level=None)
    try:
        database.execute("PRAGMA trusted_schema = OFF")
        # A file of an earlier boot is not used again, so nothing waits for the device.
        database.execute(f"PRAGMA synchronous = {'OFF' if boot else 'FULL'}")
        if _version(database) == 0:
            database.execute("BEGIN IMMEDIATE")
            if _version(database) == 0:  # no other process was faster
                for statement in _SCHEMA.split(";\n"):
                    database.execute(statement)
                database.execute("INSERT INTO boot VALUES (?)", (boot,))
            database.execute("COMMIT")
        tables_boot = database.execute("SELECT id FROM boot").fetchone()
    except BaseException:
        database.close()
        raise
    if tables_boot != (boot,):
        database.close()
        raise _DamagedError("it is of the time before the machine was started")
    return database


def _version(database: sqlite3.Connection) -> int:
    return int(database.execute("PRAGMA user_version").fetchone()[0])


@functools.cache
def _boot_id() -> str:
    """Return the id of the current boot; "" if the system has none."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    return ""
