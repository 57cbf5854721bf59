"""Journals of uploads: files in a directory, by which a later run goes on with an upload.

A line is written without fsync: it survives the process, and a power cut costs at most the session.
No byte is trusted: the digests of what was read are compared, and the registry's is at the end.
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from brolga.disk.directory import UnsafePath
from brolga.errors import StateError
from brolga.protocol.upload.journal import Record
from brolga.protocol.upload.session import UploadSession
from brolga.spec.descriptor import Descriptor
from brolga.spec.digest import Digest, hasher

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from brolga.spec.blob import Block
    from brolga.spec.reference import Repository

INTERVAL: Final = 8 << 20  # bytes from one digest of what was read to the next
EXPIRY_S: Final = 7 * 24 * 3600  # the same as docker-registry keeps a session
_NAME: Final = "upload-"  # the directory may have files of others
_VERSION: Final = 1
_MAX_SIZE: Final = 64 << 20  # bytes of a journal: for a blob of 5 TiB


class FileJournal:
    """A `protocol.upload.journal.Journal` in a file, which no other upload uses meanwhile.

    Its lines are JSON objects: first what it is about; then sessions and digests, the last of which
    count. `keeps_blob` says whether the descriptor stays when the upload is done.
    """

    def __init__(
        self, path: Path, fd: int, subject: Mapping[str, Any], *, keeps_blob: bool
    ) -> None:
        self.past = Record()
        self._path = path
        self._fd = fd
        self._keeps_blob = keeps_blob
        self._subject = subject
        self._known: dict[int, str] = {}  # digests of an earlier run, by offset
        self._read: dict[int, str] = {}  # and of this one
        self._hasher = hasher()
        self._offset = self._confirmed = 0
        self._differs_at: int | None = None
        self._load()
        self._last = self.past

    @property
    def differs(self) -> bool:
        """Whether a byte that was read is not what an earlier run has read."""
        return self._differs_at is not None

    def confirms(self, size: int) -> bool:
        """Return whether the first `size` bytes, which were read, are those of an earlier run.

        The digests say so for all but the last bytes, fewer than `INTERVAL`.
        """
        if self._differs_at is not None and self._differs_at <= size:
            return False
        return size < self._confirmed + INTERVAL and self._confirmed > 0

    def watch(self, blocks: Iterable[Block]) -> Iterator[Block]:
        """Yield the blocks of the one pass over the stream; compare and record their digests."""
        for block in blocks:
            rest = memoryview(block)
            while rest:
                part = rest[: INTERVAL - self._offset % INTERVAL]
                self._hasher.update(part)
                self._offset += len(part)
                rest = rest[len(part) :]
                if self._offset % INTERVAL == 0:
                    self._compare()
            yield block

    def record(self, record: Record) -> None:
        """Record the state of the upload. When it is done, no session is kept."""
        if record == self._last:
            return
        is_done = record.session is None and record.descriptor is not None
        self._last = Record() if is_done and not self._keeps_blob else record
        if is_done:
            self._rewrite(_entry(self._last))
        else:
            self._append(_entry(self._last))

    def close(self) -> None:
        """Let other uploads use the file; delete it if nothing is recorded."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            if self._last == Record():
                self._path.unlink(missing_ok=True)
            os.close(fd)  # and with it the lock

    def _compare(self) -> None:
        offset, digest = self._offset, self._hasher.hexdigest()
        self._read[offset] = digest
        known = self._known.pop(offset, None)
        if known == digest:
            self._confirmed = offset
            return
        if known is not None and self._differs_at is None:
            self._differs_at = offset
        self._append({"offset": offset, "digest": digest})

    def _load(self) -> None:
        """Read what an earlier run has recorded, if it is about the same upload."""
        size = os.fstat(self._fd).st_size
        text = b"" if size > _MAX_SIZE else os.pread(self._fd, size, 0)
        lines = text.split(b"\n")
        if lines.pop():  # the last line was not written as a whole
            os.ftruncate(self._fd, size - len(text.rpartition(b"\n")[2]))
        entries = [entry for line in lines if (entry := _parse(line))]
        if not entries or entries[0] != self._subject:
            self._rewrite()
            return
        for entry in entries[1:]:
            if "offset" in entry:
                self._known[entry["offset"]] = entry.get("digest", "")
            else:
                self.past = _record(entry)

    def _append(self, *entries: Mapping[str, Any]) -> None:
        """Write lines at the end. An upload does not fail if its journal cannot be written."""
        lines = "".join(f"{json.dumps(entry)}\n" for entry in entries)
        with suppress(OSError):
            os.write(self._fd, lines.encode())

    def _rewrite(self, *entries: Mapping[str, Any]) -> None:
        with suppress(OSError):
            os.ftruncate(self._fd, 0)
        digests = ({"offset": offset, "digest": text} for offset, text in self._read.items())
        self._append(self._subject, *digests, *entries)


def open_journal(
    directory: Path, repository: Repository, source: str, *, keeps_blob: bool
) -> FileJournal | None:
    """Open the journal of a source's upload to a repository; None if another upload has it open.

    Journals that are too old are deleted. Raises StateError.
    """
    subject = {
        "registry": repository.registry,
        "repository": repository.path,
        "source": source,
        "version": _VERSION,
    }
    name = Digest.of(json.dumps(subject).encode()).encoded
    path = directory / f"{_NAME}{name}"
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        _delete_old(directory)
        fd = _lock(path)
        if fd is None:
            return None
        return FileJournal(path, fd, subject, keeps_blob=keeps_blob)
    except OSError as error:
        raise StateError(
            f"the state directory {directory} cannot be used: {error.strerror}",
            hint="choose another one with --state DIR",
        ) from error


def _lock(path: Path) -> int | None:
    """Open and lock a journal, a new one if there is none; None if another upload has it."""
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    while True:
        fd = os.open(path, flags, 0o600)
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
                raise UnsafePath(path)
            os.fchmod(fd, 0o600)  # a Location may hold a secret
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with suppress(FileNotFoundError):  # the holder before may have deleted it
                if os.path.samestat(status, path.stat()):
                    held, fd = fd, -1
                    return held
        except BlockingIOError:
            return None
        finally:
            if fd >= 0:
                os.close(fd)


def _delete_old(directory: Path) -> None:
    """Delete the journals that no upload has and that were not written to for too long."""
    oldest = time.time() - EXPIRY_S
    for path in directory.glob(f"{_NAME}*"):
        with suppress(OSError):
            if path.lstat().st_mtime < oldest and (fd := _lock(path)) is not None:
                path.unlink()
                os.close(fd)


def _entry(record: Record) -> Mapping[str, Any]:
    session, blob = record.session, record.descriptor
    return {
        "session": session and [session.url, session.acknowledged, session.redirected_from],
        "blob": blob and [blob.media_type, str(blob.digest), blob.size],
    }


def _record(entry: Mapping[str, Any]) -> Record:
    """Return the record of an entry; an empty one if it is not valid."""
    try:
        session, blob = entry["session"], entry["blob"]
        if blob is not None:
            media_type, digest, size = blob
            blob = Descriptor(media_type, Digest.parse(digest), size)
        if session is not None:
            url, acknowledged, redirected_from = session
            session = UploadSession(str(url), int(acknowledged), str(redirected_from))
    except (KeyError, TypeError, ValueError):
        return Record()
    return Record(session, blob)


def _parse(line: bytes) -> Mapping[str, Any] | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None
