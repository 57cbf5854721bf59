"""storage.store: the repositories below a directory."""

from __future__ import annotations

import os
from itertools import islice
from typing import TYPE_CHECKING

import pytest

from brolga.disk.directory import Directory
from brolga.registry.storage.store import Store

if TYPE_CHECKING:
    from pathlib import Path

NAMES = ["a", "a-b", "a-b/c", "a.b/c", "a/b", "a/b/c", "a/c", "a0", "b/x/y/z", "b/x/y/z/w", "c"]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Return a store with repositories, and with directories that are not repositories."""
    for name in NAMES:
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
        (tmp_path / name / "oci-layout").write_text("{}")
    for name in ("a/blobs/sha256", ".hidden/x", "empty/deep", "a/.uploads"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "oci-layout").write_text("{}")
    (tmp_path / "empty/deep/oci-layout").unlink()
    (tmp_path / "file").write_text("x")
    (tmp_path / "oci-layout").write_text("{}")
    return Store(tmp_path)


def test_names_are_sorted_as_text(store: Store) -> None:
    """Not in that of directories: '-' and '.' come before '/'."""
    assert list(store.names()) == sorted(NAMES)


@pytest.mark.parametrize("last", [*NAMES, "a/", "a/bb", "b", "zzz", "a-", "b/x/y/z/a"])
def test_names_after_last(store: Store, last: str) -> None:
    """The page after it has what comes after it, whether it is there or not."""
    assert list(store.names(last)) == [name for name in sorted(NAMES) if name > last]


def test_names_scans_only_directories_of_the_page(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Directories before and after the page are not looked into."""
    scanned: list[str] = []
    real = Directory.scan

    def scan(self: Directory, path: Path) -> object:
        scanned.append(str(path.relative_to(tmp_path)))
        return real(self, path)

    monkeypatch.setattr(Directory, "scan", scan)
    assert list(islice(store.names("a/b"), 2)) == ["a/b/c", "a/c"]
    assert scanned == [".", "a", "a/b", "a/b/c"]


def test_names_skips_unreadable_directories(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another user's directory, and one whose file is a link."""
    (tmp_path / "a/c/oci-layout").unlink()
    (tmp_path / "a/c/oci-layout").symlink_to("/etc/passwd")
    scan = Directory.scan

    def refuse(self: Directory, path: Path) -> object:
        if path.name == "a-b":
            raise PermissionError(13, "Permission denied")
        return scan(self, path)

    monkeypatch.setattr(Directory, "scan", refuse)
    expected = [name for name in sorted(NAMES) if name not in {"a-b/c", "a/c"}]
    assert list(store.names()) == expected


def test_directories_yields_children_first(store: Store, tmp_path: Path) -> None:
    """Children come before parents, so that empty directories can be deleted in this order."""
    directories = [os.path.relpath(path, tmp_path) for path in store._directories()]
    assert (
        directories.index("b/x/y/z")
        < directories.index("b/x")
        < directories.index("b")
        < directories.index(".")
    )
    assert "a/blobs" not in directories
    assert len(directories) == len(set(directories))
