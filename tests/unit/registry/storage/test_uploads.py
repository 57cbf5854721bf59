from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from brolga.disk.directory import Directory
from brolga.errors import DigestMismatch
from brolga.registry.storage.uploads import HashCache, Upload, UploadBusy, UploadUnknown
from brolga.spec.digest import Digest

if TYPE_CHECKING:
    from pathlib import Path

    from brolga.spec.digest import Hasher

ABC = Digest.of(b"abcdef")


class Spy:
    """Counts the bytes that are hashed."""

    def __init__(self, inner: Hasher) -> None:
        self.inner = inner
        self.count = 0

    @property
    def name(self) -> str:
        """The algorithm."""
        return self.inner.name

    def update(self, data: bytes | bytearray | memoryview, /) -> None:
        """Count, and hash."""
        self.count += len(data)
        self.inner.update(data)

    def hexdigest(self) -> str:
        """Return the hash."""
        return self.inner.hexdigest()

    def copy(self) -> Spy:
        """Return another."""
        return Spy(self.inner.copy())


@pytest.fixture
def upload(tmp_path: Path) -> Upload:
    """Return an empty session."""
    path = tmp_path / "session"
    path.touch()
    return Upload(path, HashCache(), Directory(path.parent))


def append(upload: Upload, data: bytes) -> None:
    """Write with a writer of its own."""
    with upload.writer() as writer:
        writer.write(data)


def commit(upload: Upload, digest: Digest, target: Path) -> None:
    """Finish a session."""
    with upload.writer() as writer:
        writer.verify(digest)
        writer.commit(target)


def test_size_is_the_size_of_the_file(upload: Upload) -> None:
    """Bytes of one writer after another are appended, and counted."""
    append(upload, b"abc")
    assert upload.size() == 3
    append(upload, b"def")
    assert upload.path.read_bytes() == b"abcdef"


def test_commit_moves_the_file(upload: Upload, tmp_path: Path) -> None:
    """A finished session's file is moved, and the session is gone."""
    append(upload, b"abcdef")
    commit(upload, ABC, tmp_path / "blobs" / "x")
    assert (tmp_path / "blobs" / "x").read_bytes() == b"abcdef"
    with pytest.raises(UploadUnknown):
        upload.size()
    with pytest.raises(UploadUnknown):
        upload.writer()


def test_writer_continues_cached_hash(upload: Upload) -> None:
    """Between two requests the hash is kept: the file is not read again."""
    append(upload, b"abc")
    with upload.writer() as writer:
        assert writer._hasher is not None
        spy = Spy(writer._hasher)
        writer._hasher = spy
        writer.write(b"def")
        writer.verify(ABC)
    assert spy.count == 3


def test_verify_recomputes_lost_hash(upload: Upload, tmp_path: Path) -> None:
    """After a restart the file is all there is, and it is enough."""
    append(upload, b"abc")
    restarted = Upload(upload.path, HashCache(), Directory(upload.path.parent))
    append(restarted, b"def")
    commit(restarted, ABC, tmp_path / "x")
    assert (tmp_path / "x").exists()


def test_verify_ignores_hash_of_changed_file(upload: Upload, tmp_path: Path) -> None:
    """A file that another process has changed is hashed again."""
    append(upload, b"abc")
    upload.path.write_bytes(b"abcde")
    append(upload, b"f")
    commit(upload, ABC, tmp_path / "x")
    assert (tmp_path / "x").exists()


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_verify_with_another_algorithm(upload: Upload, tmp_path: Path, algorithm: str) -> None:
    """The client says at the end what it hashes with; the bytes are hashed with that."""
    append(upload, b"abcdef")
    commit(upload, Digest.of(b"abcdef", algorithm), tmp_path / "x")
    assert (tmp_path / "x").exists()


def test_use_algorithm_hashes_once(upload: Upload) -> None:
    """If the algorithm is known at the start, the file is not read again."""
    with upload.writer() as writer:
        writer.use_algorithm("sha512")
        writer.write(b"abcdef")
        upload.path.write_bytes(b"xxxxxx")
        writer.verify(Digest.of(b"abcdef", "sha512"))


def test_writer_keeps_algorithm_of_the_session(upload: Upload) -> None:
    """The algorithm given at the start of a session hashes its first bytes."""
    with upload.writer() as writer:
        writer.use_algorithm("sha512")
    with upload.writer() as writer:
        writer.write(b"abcdef")
        upload.path.write_bytes(b"xxxxxx")
        writer.verify(Digest.of(b"abcdef", "sha512"))


def test_verify_ends_session_of_wrong_bytes(upload: Upload, tmp_path: Path) -> None:
    """A digest that does not fit stores nothing and deletes the bytes."""
    append(upload, b"abcdeF")
    with pytest.raises(DigestMismatch) as caught:
        commit(upload, ABC, tmp_path / "x")
    assert caught.value.expected == str(ABC)
    assert caught.value.actual == str(Digest.of(b"abcdeF"))
    assert list(tmp_path.iterdir()) == []


def test_writer_raises_if_busy(upload: Upload) -> None:
    """A second writer is refused until the first has let go."""
    with upload.writer():
        with pytest.raises(UploadBusy):
            upload.writer()
        # The lock is on the file: it holds between processes, and whatever they remember.
        with pytest.raises(UploadBusy):
            Upload(upload.path, HashCache(), Directory(upload.path.parent)).writer()
    append(upload, b"abc")


@pytest.mark.parametrize("replaced", [False, True])
def test_writer_raises_if_session_finished_before_the_lock(
    upload: Upload, monkeypatch: pytest.MonkeyPatch, *, replaced: bool
) -> None:
    """A writer that opened the file before it was renamed, and locks it afterwards, is too late."""
    real = Directory.open

    def late(self: Directory, path: Path, flags: int) -> int:
        descriptor = real(self, path, flags)
        path.rename(path.with_name("blob"))
        if replaced:
            path.write_bytes(b"")
        return descriptor

    monkeypatch.setattr(Directory, "open", late)
    with pytest.raises(UploadUnknown):
        upload.writer()


def test_write_keeps_size_and_hash_after_full_disk(
    upload: Upload, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a write that stopped half-way, the session goes on from the file's size."""
    real = os.write
    left = [2, 1]

    def write(descriptor: int, data: memoryview) -> int:
        if not left:
            raise OSError(errno.ENOSPC, "full")
        return real(descriptor, data[: left.pop(0)])

    with upload.writer() as writer:
        monkeypatch.setattr(os, "write", write)
        with pytest.raises(OSError, match="full"):
            writer.write(b"abcdef")
        monkeypatch.undo()
        assert writer.size == upload.size() == 3
        writer.write(b"def")
        writer.verify(ABC)
        writer.commit(tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == b"abcdef"


def test_truncate_drops_last_bytes(upload: Upload, tmp_path: Path) -> None:
    """Dropped bytes are neither in the file nor in the hash, and later bytes follow."""
    with upload.writer() as writer:
        writer.write(b"abc")
        writer.write(b"xyz")
        writer.truncate(3)
    append(upload, b"def")
    commit(upload, ABC, tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == b"abcdef"


def test_hash_cache_drops_the_oldest(tmp_path: Path) -> None:
    """Sessions without end take no memory without end; the forgotten go on all the same."""
    cache = HashCache(limit=2)
    uploads = [Upload(tmp_path / str(i), cache, Directory(tmp_path)) for i in range(4)]
    for upload in uploads:
        upload.path.touch()
        append(upload, b"abcdef")
    assert len(cache._hashers) == 2
    commit(uploads[0], ABC, tmp_path / "x")
    commit(uploads[3], ABC, tmp_path / "x")


def test_discard_removes_session_from_cache(upload: Upload) -> None:
    """Nothing of a cancelled session stays, in memory neither."""
    with upload.writer() as writer:
        writer.write(b"abc")
        writer.discard()
    assert not upload.cache._hashers
    assert not upload.path.exists()
