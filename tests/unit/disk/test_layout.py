"""disk.layout: the files of an image layout, written atomically and locked."""

from __future__ import annotations

import errno
import fcntl
import json
import os
from typing import TYPE_CHECKING

import pytest

from brolga.disk.directory import Directory, Sync, UnsafePath
from brolga.disk.layout import (
    EMPTY_INDEX,
    LAYOUT_JSON,
    TEMPORARY_PREFIX,
    LayoutDirectory,
)
from brolga.spec.digest import Digest
from brolga.spec.index import Index

if TYPE_CHECKING:
    from pathlib import Path

DIGEST = Digest.of(b"abc")


@pytest.fixture
def layout(tmp_path: Path) -> LayoutDirectory:
    return LayoutDirectory(tmp_path / "layout")


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record what is synced and renamed, in order."""
    events: list[str] = []
    real_replace = os.replace

    def fsync(descriptor: int) -> None:
        events.append(f"sync {os.path.basename(os.readlink(f'/proc/self/fd/{descriptor}'))}")  # noqa: PTH115, PTH119 - /proc's text

    def replace(source: str, target: str, **directories: int) -> None:
        events.append("rename")
        real_replace(source, target, **directories)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    return events


def synced(path: Path, sync: Sync) -> LayoutDirectory:
    return LayoutDirectory(path, Directory(path, sync))


def test_create_writes_valid_files(layout: LayoutDirectory) -> None:
    """image-layout.md: `oci-layout` and `index.json` MUST exist."""
    assert not layout.exists()
    layout.create()
    assert layout.exists()
    assert json.loads(LAYOUT_JSON) == {"imageLayoutVersion": "1.0.0"}
    assert layout.read(layout.marker, 100) == LAYOUT_JSON
    assert layout.read(layout.index, 200) == EMPTY_INDEX == Index.new(()).raw
    assert {path.name for path in layout.path.iterdir()} == {
        "oci-layout",
        "index.json",
        "blobs",
        ".uploads",
    }


def test_create_keeps_an_index(layout: LayoutDirectory) -> None:
    """A layout without its marker is completed."""
    layout.create()
    layout.marker.unlink()
    layout.write(layout.index, b"{}")
    layout.create()
    assert layout.exists()
    assert layout.read(layout.index, 10) == b"{}"


def test_layout_directory_refuses_a_link(layout: LayoutDirectory, tmp_path: Path) -> None:
    """Also above the layout, below the root of the registry."""
    layout.create()
    (tmp_path / "link").symlink_to(layout.path)
    linked = LayoutDirectory(tmp_path / "link", Directory(tmp_path))
    with pytest.raises(UnsafePath):
        linked.exists()
    layout.marker.unlink()
    layout.marker.symlink_to(layout.index)
    with pytest.raises(UnsafePath):
        layout.exists()


def test_blob_path_size_and_touch(layout: LayoutDirectory) -> None:
    assert layout.blob_size(DIGEST) is None
    layout.touch_blob(DIGEST)
    path = layout.blob_path(DIGEST)
    assert path == layout.path / "blobs" / "sha256" / DIGEST.encoded
    layout.write(path, b"abc")
    assert layout.blob_size(DIGEST) == 3
    os.utime(path, (0, 0))
    layout.touch_blob(DIGEST)
    assert path.stat().st_mtime > 0
    assert [found for found, _ in layout.scan_blobs()] == [path]


def test_read_returns_one_byte_more_than_the_limit(layout: LayoutDirectory) -> None:
    """So the caller can see that the file is larger."""
    layout.write(layout.index, b"abcdef")
    assert layout.read(layout.index, 3) == b"abcd"
    assert layout.read(layout.marker, 3) is None


def test_lock_excludes_other_holders(layout: LayoutDirectory) -> None:
    """A second exclusive lock fails or waits, on the layout and on `.uploads`."""
    layout.create()
    without_wait = fcntl.LOCK_EX | fcntl.LOCK_NB
    with layout.lock(), pytest.raises(BlockingIOError), layout.lock(without_wait):
        pytest.fail("it was locked twice")
    with layout.lock_uploads(fcntl.LOCK_SH):
        with layout.lock_uploads(fcntl.LOCK_SH):
            pass
        with pytest.raises(BlockingIOError), layout.lock_uploads(without_wait):
            pytest.fail("it was locked twice")


def test_temporary_file_is_locked_and_deleted(layout: LayoutDirectory) -> None:
    """Another process can see that it is in use, and nothing is left if it is not moved."""
    with layout.temporary_file() as file:
        file.write(b"abc")
        file.write(memoryview(b"de"))
        assert file.size == 5
        [(path, status)] = layout.scan_uploads()
        assert path.name.startswith(TEMPORARY_PREFIX)
        assert status.st_size == 5
        with path.open() as other, pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert list(layout.scan_uploads()) == []


def test_sync_always_flushes_the_file_before_its_rename(tmp_path: Path, events: list[str]) -> None:
    """fsync(2): an explicit fsync() on a file descriptor for the directory is also needed."""
    (tmp_path / ".uploads").mkdir()
    (tmp_path / "there").mkdir()
    synced(tmp_path, Sync.ALWAYS).write(tmp_path / "there/x", b"abc")
    assert events[0].startswith("sync blob.")
    assert events[1:] == ["rename", "sync there"]
    assert (tmp_path / "there/x").read_bytes() == b"abc"


def test_sync_always_flushes_new_directories(tmp_path: Path, events: list[str]) -> None:
    """A file is lost with the directory that holds it."""
    for expected in ([f"sync {tmp_path.name}", "sync a"], []):
        events.clear()
        Directory(tmp_path, Sync.ALWAYS).make(tmp_path / "a/b")
        assert sorted(events) == sorted(expected)


def test_sync_replaced_flushes_only_a_file_that_replaces_another(
    tmp_path: Path, events: list[str]
) -> None:
    """A power cut must not lose both files; a new one can be written again."""
    layout = synced(tmp_path, Sync.REPLACED)
    layout.write(tmp_path / "x", b"abc")
    assert events == ["rename"]
    layout.write(tmp_path / "x", b"def")
    assert [event[:9] for event in events[1:]] == ["sync blob", "rename"]


def test_sync_never_flushes_nothing(tmp_path: Path, events: list[str]) -> None:
    layout = synced(tmp_path, Sync.NEVER)
    for _ in range(2):
        layout.write(tmp_path / "a/x", b"abc")
    layout.tree.link(tmp_path / "a/x", tmp_path / "b/x")
    assert events == ["rename", "rename"]
    assert (tmp_path / "b/x").read_bytes() == b"abc"


def test_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the new file is left, and the error names the layout."""
    (tmp_path / "x").write_bytes(b"old")

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "fsync", full)
    layout = synced(tmp_path, Sync.ALWAYS)
    (tmp_path / ".uploads").mkdir()
    with pytest.raises(OSError, match="full") as caught:
        layout.write(tmp_path / "x", b"new")
    assert caught.value.filename == str(tmp_path)
    assert list(layout.scan_uploads()) == []
    assert (tmp_path / "x").read_bytes() == b"old"


@pytest.mark.parametrize("deletions", [1, 100])
def test_write_repeats_if_its_directory_is_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deletions: int
) -> None:
    """An upload session that ends deletes empty directories."""
    real, left = Directory.make, [deletions]

    def make(self: Directory, path: Path) -> list[Path]:
        new = real(self, path)
        if left[0]:
            left[0] -= 1
            self.prune(path)
        return new

    monkeypatch.setattr(Directory, "make", make)
    layout = LayoutDirectory(tmp_path)
    if deletions == 1:
        layout.write(tmp_path / "a/x", b"abc")
        assert (tmp_path / "a/x").read_bytes() == b"abc"
    else:
        with pytest.raises(FileNotFoundError):
            layout.write(tmp_path / "a/x", b"abc")
