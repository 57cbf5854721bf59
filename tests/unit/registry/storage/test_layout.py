from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from brolga.registry.storage.layout import Disk

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note what is synced and renamed, in order, by name."""
    noted: list[str] = []
    real_replace = os.replace

    def fsync(descriptor: int) -> None:
        noted.append(f"sync {os.path.basename(os.readlink(f'/proc/self/fd/{descriptor}'))}")  # noqa: PTH115, PTH119 - /proc's text

    def replace(source: str, target: str, **directories: int) -> None:
        noted.append("rename")
        real_replace(source, target, **directories)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    return noted


def test_write_syncs_durable_file_before_rename(tmp_path: Path, events: list[str]) -> None:
    """fsync(2): an explicit fsync() on a file descriptor for the directory is also needed."""
    (tmp_path / "scratch").mkdir()
    (tmp_path / "there").mkdir()
    Disk(tmp_path, durable=True).write(tmp_path / "there/x", b"abc", tmp_path / "scratch")
    assert events[0].startswith("sync x.")
    assert events[1:] == ["rename", "sync there"]
    assert (tmp_path / "there/x").read_bytes() == b"abc"


def test_make_syncs_new_directories(tmp_path: Path, events: list[str]) -> None:
    """A file is lost with the directory that holds it."""
    Disk(tmp_path, durable=True).make(tmp_path / "a/b")
    assert sorted(events) == sorted([f"sync {tmp_path.name}", "sync a"])
    events.clear()
    Disk(tmp_path, durable=True).make(tmp_path / "a/b")
    assert events == []


def test_write_does_not_sync_without_durability(tmp_path: Path, events: list[str]) -> None:
    """What nobody asked for costs nothing."""
    disk = Disk(tmp_path)
    disk.write(tmp_path / "a/x", b"abc", tmp_path / "scratch")
    disk.link(tmp_path / "a/x", tmp_path / "b/x")
    assert events == ["rename"]
    assert (tmp_path / "b/x").read_bytes() == b"abc"


def test_write_deletes_partial_file_after_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was there before stays, and no part of the new is left."""
    (tmp_path / "x").write_bytes(b"old")

    def full(_descriptor: int) -> None:
        raise OSError("full")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="full"):
        Disk(tmp_path, durable=True).write(tmp_path / "x", b"new", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    assert (tmp_path / "x").read_bytes() == b"old"


@pytest.mark.parametrize("gone", [1, 100])
def test_create_retries_if_directory_is_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gone: int
) -> None:
    """A session that ends takes the empty directory away in which another file begins."""
    real, left = Disk.make, [gone]

    def make(self: Disk, path: Path) -> list[Path]:
        made = real(self, path)
        if left[0]:
            left[0] -= 1
            self.prune(path)
        return made

    monkeypatch.setattr(Disk, "make", make)
    disk = Disk(tmp_path)
    if gone == 1:
        disk.write(tmp_path / "a/x", b"abc", tmp_path / "scratch")
        assert (tmp_path / "a/x").read_bytes() == b"abc"
    else:
        with pytest.raises(FileNotFoundError):
            disk.write(tmp_path / "a/x", b"abc", tmp_path / "scratch")
