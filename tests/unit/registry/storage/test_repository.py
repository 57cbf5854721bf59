from __future__ import annotations

import asyncio
import errno
import fcntl
import functools
import json
import os
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from brolga.disk.directory import Directory
from brolga.errors import DigestMismatch, InvalidReference
from brolga.registry.storage import repository
from brolga.registry.storage.layout import Layout, LayoutBusy, RepositoryUnknown
from brolga.registry.storage.manifest_store import ManifestUnknown
from brolga.registry.storage.repository import BlobUnknown, Repo
from brolga.registry.storage.store import Store
from brolga.registry.storage.uploads import Upload, UploadUnknown
from brolga.spec.descriptor import Descriptor
from brolga.spec.digest import Digest
from brolga.spec.mediatypes import OCI_MANIFEST
from brolga.spec.reference import Repository

if TYPE_CHECKING:
    from pathlib import Path

BODY = b'{"schemaVersion":2}'
MANIFEST = Descriptor(OCI_MANIFEST, Digest.of(BODY), len(BODY))


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    """Return a repository that does not exist yet."""
    return Store(tmp_path).repo(Repository("localhost", "a/b"))


def push(repo: Repo, data: bytes) -> Digest:
    """Push a blob in one piece."""
    digest = Digest.of(data)
    with repo.start_upload().writer() as writer:
        writer.write(data)
        repo.commit(writer, digest)
    asyncio.run(repo.create())
    return digest


def test_create_writes_an_image_layout(repo: Repo, tmp_path: Path) -> None:
    """image-layout.md: the "oci-layout" file MUST exist, index.json too, and a directory blobs."""
    digest = push(repo, b"abc")
    assert json.loads((tmp_path / "a/b/oci-layout").read_bytes()) == {"imageLayoutVersion": "1.0.0"}
    assert json.loads((tmp_path / "a/b/index.json").read_bytes())["schemaVersion"] == 2
    assert (tmp_path / "a/b/blobs/sha256" / digest.encoded).read_bytes() == b"abc"
    assert list((tmp_path / "a/b/.uploads").iterdir()) == []


def test_create_completes_partial_layout(repo: Repo, tmp_path: Path) -> None:
    """Killed between two files of a new layout, the next push completes it."""
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/index.json").write_text('{"schemaVersion":2,"manifests":[],"kept":1}')
    with pytest.raises(RepositoryUnknown):
        repo.manifests.tags()
    push(repo, b"abc")
    assert repo.manifests.tags() == []
    assert json.loads((tmp_path / "a/b/index.json").read_bytes())["kept"] == 1


@pytest.mark.parametrize("path", ["blobs", "a/blobs", "blobs/sha256/x", "index.json", "oci-layout"])
def test_repo_rejects_reserved_components(tmp_path: Path, path: str) -> None:
    """A repository cannot lie inside another's layout."""
    with pytest.raises(InvalidReference, match="image layout"):
        Store(tmp_path).repo(Repository("localhost", path))


@pytest.mark.parametrize(
    "wrong", ["", ".", "..", "a" * 31, "A" * 32, "../x", "a" * 32 + "\n", "g" * 32, "\u0660" * 32]
)
def test_upload_rejects_invalid_id(repo: Repo, wrong: str) -> None:
    """An id from the network is held against the grammar before it is a file's name."""
    with pytest.raises(UploadUnknown):
        repo.upload(wrong)


def test_commit_of_wrong_bytes_creates_no_repository(repo: Repo) -> None:
    """A repository exists when its first blob is whole."""
    with repo.start_upload().writer() as writer, pytest.raises(DigestMismatch):
        repo.commit(writer, Digest.of(b"other"))
    with pytest.raises(RepositoryUnknown):
        repo.layout.require()


def test_missing_items_raise(repo: Repo) -> None:
    """Each kind of absence has its own error."""
    with pytest.raises(RepositoryUnknown):
        repo.blob(Digest.of(b"x"))
    push(repo, b"abc")
    with pytest.raises(BlobUnknown):
        repo.blob(Digest.of(b"x"))
    with pytest.raises(ManifestUnknown):
        repo.manifests.by_tag("x")
    with pytest.raises(ManifestUnknown):
        repo.manifests.by_digest(Digest.of(b"abc"))


def test_by_tag_raises_without_bytes(repo: Repo, tmp_path: Path) -> None:
    """An index may list a manifest that another program deleted."""
    repo.manifests.put(BODY, MANIFEST, ["x"])
    descriptor, file = repo.manifests.by_tag("x")
    with file:
        assert descriptor == MANIFEST
        assert file.read() == BODY
    (tmp_path / "a/b/blobs/sha256" / MANIFEST.digest.encoded).unlink()
    with pytest.raises(ManifestUnknown, match="no bytes"):
        repo.manifests.by_tag("x")


def test_put_leaves_nothing_after_error(
    repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk during a manifest's push leaves no stray file."""

    def full(_self: Directory, _descriptor: int, _source: Path, _target: Path) -> None:
        raise OSError("full")

    monkeypatch.setattr(Directory, "move", full)
    with pytest.raises(OSError, match="full"):
        repo.manifests.put(BODY, MANIFEST, ["x"])
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


def test_put_from_many_threads_keeps_all_tags(repo: Repo, tmp_path: Path) -> None:
    """The index is read, changed and replaced under a lock: no change is lost.

    Each thread has a store of its own, as each process has.
    """

    async def tag(number: int) -> None:
        mine = Store(tmp_path).repo(Repository("localhost", "a/b"))
        for step in range(5):
            body = b'{"n":%d}' % number
            descriptor = Descriptor(OCI_MANIFEST, Digest.of(body), len(body))
            tags = [f"t{number}-{step}"]
            await mine.write(functools.partial(mine.manifests.put, body, descriptor, tags))

    threads = [threading.Thread(target=asyncio.run, args=(tag(n),)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(repo.manifests.tags()) == 40
    assert len(set(repo.manifests.tags())) == 40


def test_remove_empty_keeps_locked_directory(repo: Repo, tmp_path: Path) -> None:
    """A first push fails while another one holds the lock: both would lock a directory each."""
    other = Store(tmp_path).repo(Repository("localhost", "a/b"))
    repo.layout.tree.make(repo.layout.uploads)
    with repo.layout.lock():
        before = (tmp_path / "a/b").stat()
        with pytest.raises(LayoutBusy):
            other.manifests.put(BODY, MANIFEST, ["x"])
        assert os.path.samestat(before, (tmp_path / "a/b").stat())
        with pytest.raises(LayoutBusy):
            other.manifests.put(BODY, MANIFEST, ["x"])


def test_upload_survives_restart(repo: Repo, tmp_path: Path) -> None:
    """A session is its file: another store of the same directory has it."""
    upload = repo.start_upload()
    with upload.writer() as writer:
        writer.write(b"abc")
    again = Store(tmp_path).repo(Repository("localhost", "a/b")).upload(upload.id)
    assert isinstance(again, Upload)
    assert again.size() == 3


def test_expire_deletes_old_sessions(tmp_path: Path) -> None:
    """The server SHOULD eventually timeout unfinished uploads: those written to lately go on."""
    store = Store(tmp_path)
    old, new, busy = (store.repo(Repository("localhost", "a/b")).start_upload() for _ in range(3))
    left = tmp_path / "a/b/.uploads/index.json.partial"
    left.touch()
    elsewhere = store.repo(Repository("localhost", "a/b/c")).start_upload()
    for path in (old.path, busy.path, left, elsewhere.path):
        os.utime(path, (1, 1))
    with busy.writer():
        store.expire(3600)
        assert sorted(tmp_path.rglob(".uploads/*")) == sorted([new.path, busy.path])
    store.expire(3600)
    assert not busy.path.exists()


def test_expire_continues_after_invalid_session(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A foreign directory, another user's file: each is told of, and the others still expire."""
    store = Store(tmp_path)
    old = [store.repo(Repository("localhost", name)).start_upload() for name in "abc"]
    foreign = tmp_path / "a/.uploads/0"
    foreign.mkdir()
    real = Directory.open

    def refuse(self: Directory, path: Path, flags: int) -> int:
        if path == old[1].path:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(self, path, flags)

    monkeypatch.setattr(Directory, "open", refuse)
    for path in (foreign, *(upload.path for upload in old)):
        os.utime(path, (1, 1))
    store.expire(3600)
    assert [upload.path.exists() for upload in old] == [False, True, False]
    assert foreign.is_dir()
    assert str(foreign) in caplog.text
    assert str(old[1].path) in caplog.text


def test_commit_sets_mtime_to_now(repo: Repo, tmp_path: Path) -> None:
    """Garbage collection by age keeps a new blob of an old session."""
    upload = repo.start_upload()
    with upload.writer() as writer:
        writer.write(b"abc")
    os.utime(upload.path, (1, 1))
    digest = Digest.of(b"abc")
    with upload.writer() as writer:
        repo.commit(writer, digest)
    assert (tmp_path / "a/b/blobs/sha256" / digest.encoded).stat().st_mtime > 1_000_000


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_locked_raises_if_directory_was_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """A lock on a directory that was deleted and made again is not valid."""
    layout = Layout("a/b", tmp_path / "a/b", Directory(tmp_path))
    real = fcntl.flock

    def flock(descriptor: int, how: int) -> None:
        layout.path.rmdir()
        real(descriptor, how)

    if when == "meanwhile":
        layout.path.mkdir(parents=True)
        monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(LayoutBusy, match="was taken away"), layout.lock():
        raise AssertionError


def test_write_waits_for_the_lock(
    repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another program's lock is tried again, and not for ever."""
    push(repo, b"abc")
    other = Layout("a/b", tmp_path / "a/b", Directory(tmp_path))
    tries = 0

    def work() -> int:
        nonlocal tries
        tries += 1
        if tries == 3:
            held.close()
        with other.lock():
            return tries

    held = ExitStack()
    held.enter_context(other.lock())
    assert asyncio.run(repo.write(work)) == 3
    monkeypatch.setattr(repository, "WRITE_TIMEOUT_S", -1.0)
    with other.lock(), pytest.raises(LayoutBusy, match="lock of a/b"):
        asyncio.run(repo.write(work))


def test_write_times_out(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change that waits behind another one times out as well."""
    monkeypatch.setattr(repository, "WRITE_TIMEOUT_S", 0.05)
    release = threading.Event()

    async def main() -> None:
        first = asyncio.create_task(repo.write(lambda: release.wait(10)))
        await asyncio.sleep(0)
        with pytest.raises(LayoutBusy, match="take too long"):
            await repo.write(lambda: None)
        release.set()
        assert await first

    asyncio.run(main())


def test_names_lists_repositories(tmp_path: Path) -> None:
    """A repository is a directory with the file that says so, wherever it lies."""
    store = Store(tmp_path)
    for name in ("a", "a/b", "c/d/e"):
        push(store.repo(Repository("localhost", name)), b"abc")
    store.repo(Repository("localhost", "begun")).start_upload()
    # A layout of another program's at the root has no name.
    (tmp_path / "oci-layout").write_text("{}")
    (tmp_path / "a/blobs/oci-layout").write_text("{}")
    assert sorted(store.names()) == ["a", "a/b", "c/d/e"]


def test_durable_store_syncs_file_and_directories(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each directory that is new, from the root on, is on the device before a blob is there."""
    synced: set[str] = set()

    def fsync(descriptor: int) -> None:
        synced.add(os.readlink(f"/proc/self/fd/{descriptor}"))  # noqa: PTH115 - /proc's text

    monkeypatch.setattr(os, "fsync", fsync)
    push(Store(tmp_path, durable=True).repo(Repository("localhost", "a/b")), b"abc")
    expected = {tmp_path, tmp_path / "a", tmp_path / "a/b", tmp_path / "a/b/blobs"}
    assert {str(path) for path in (*expected, tmp_path / "a/b/blobs/sha256")} <= synced


def test_mount_returns_false_without_hard_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without hard links a blob is not mounted, and the attempt leaves no file."""
    store = Store(tmp_path)
    source = store.repo(Repository("localhost", "source"))
    target = store.repo(Repository("localhost", "target"))
    digest = push(source, b"abc")

    def refuse(*_: object, **_directories: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    with monkeypatch.context() as patch:
        patch.setattr(os, "link", refuse)
        assert not target.mount(digest, source)
    assert not (tmp_path / "target").exists()
    with pytest.raises(RepositoryUnknown):
        target.layout.require()
    assert target.mount(digest, source)
    assert target.mount(digest, source)


def test_mount_of_blob_stored_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two mounts of the same blob at once both succeed."""
    store = Store(tmp_path)
    source = store.repo(Repository("localhost", "source"))
    target = store.repo(Repository("localhost", "target"))
    digest = push(source, b"abc")
    real = Directory.link

    def late(self: Directory, source: Path, target: Path) -> None:
        real(self, source, target)
        real(self, source, target)

    monkeypatch.setattr(Directory, "link", late)
    assert target.mount(digest, source)
    asyncio.run(target.create())
    with target.blob(digest) as file:
        assert file.read() == b"abc"
