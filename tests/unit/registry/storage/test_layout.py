from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from brolga.disk.directory import Directory, Sync
from brolga.registry.storage.layout import Layout

if TYPE_CHECKING:
    from pathlib import Path


def layout(root: Path, sync: Sync = Sync.NEVER) -> Layout:
    """Return the layout in a directory of the root."""
    return Layout("a", root / "a", Directory(root, sync))


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note what is synced and renamed, in order, by name."""
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


def test_write_syncs_durable_file_before_rename(tmp_path: Path, events: list[str]) -> None:
    """fsync(2): an explicit fsync() on a file descriptor for the directory is also needed."""
    (tmp_path / "a/.uploads").mkdir(parents=True)
    layout(tmp_path, Sync.ALWAYS).write(tmp_path / "a/x", b"abc")
    assert events[0].startswith("sync blob.")
    assert events[1:] == ["rename", "sync a"]
    assert (tmp_path / "a/x").read_bytes() == b"abc"


def test_make_syncs_new_directories(tmp_path: Path, events: list[str]) -> None:
    """A file is lost with the directory that holds it."""
    tree = Directory(tmp_path, Sync.ALWAYS)
    tree.make(tmp_path / "a/b")
    assert sorted(events) == sorted([f"sync {tmp_path.name}", "sync a"])
    events.clear()
    tree.make(tmp_path / "a/b")
    assert events == []


def test_write_does_not_sync_without_durability(tmp_path: Path, events: list[str]) -> None:
    """By default the registry does not wait for the device."""
    layout(tmp_path).write(tmp_path / "a/x", b"abc")
    layout(tmp_path).tree.link(tmp_path / "a/x", tmp_path / "b/x")
    assert events == ["rename"]
    assert (tmp_path / "b/x").read_bytes() == b"abc"


def test_write_deletes_partial_file_after_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old file stays, and no part of the new one is left."""
    (tmp_path / "a/.uploads").mkdir(parents=True)
    (tmp_path / "a/x").write_bytes(b"old")

    def full(_descriptor: int) -> None:
        raise OSError("full")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="full"):
        layout(tmp_path, Sync.ALWAYS).write(tmp_path / "a/x", b"new")
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["x"]
    assert (tmp_path / "a/x").read_bytes() == b"old"


@pytest.mark.parametrize("gone", [1, 100])
def test_write_retries_if_directory_is_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gone: int
) -> None:
    """A session that ends may delete the empty directory in which another file begins."""
    real, left = Directory.make, [gone]

    def make(self: Directory, path: Path) -> list[Path]:
        new = real(self, path)
        if left[0]:
            left[0] -= 1
            self.prune(path)
        return new

    monkeypatch.setattr(Directory, "make", make)
    if gone == 1:
        layout(tmp_path).write(tmp_path / "a/b/x", b"abc")
        assert (tmp_path / "a/b/x").read_bytes() == b"abc"
    else:
        with pytest.raises(FileNotFoundError):
            layout(tmp_path).write(tmp_path / "a/b/x", b"abc")
