"""disk.directory: files below a directory, opened without following links."""

from __future__ import annotations

import fcntl
import os
import socket
from typing import TYPE_CHECKING

import pytest

from brolga.disk.directory import Directory, UnsafePath

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SECRET = b"secret"


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """Return a directory beside the root, with a file in it."""
    path = tmp_path / "outside"
    path.mkdir()
    (path / "file").write_bytes(SECRET)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Directory:
    """Return an empty directory."""
    (tmp_path / "root").mkdir()
    return Directory(tmp_path / "root")


USES: dict[str, Callable[[Directory, Path], object]] = {
    "open to read": lambda root, path: root.open(path),
    "open to write": lambda root, path: root.open(path, os.O_WRONLY),
    "open to create": lambda root, path: root.open(path, os.O_WRONLY | os.O_CREAT),
    "status": lambda root, path: root.status(path),
    "is_file": lambda root, path: root.is_file(path),
    "link": lambda root, path: root.link(path, root.root / "new"),
}
INSIDE: dict[str, Callable[[Directory, Path], object]] = {
    **USES,
    "create": lambda root, path: root.create(path),
    "touch": lambda root, path: root.touch(path),
    "unlink": lambda root, path: root.unlink(path),
    "replace": lambda root, path: root.replace(path, root.root / "new"),
    "replace to": lambda root, path: root.replace(root.root / "own", path),
    "link to": lambda root, path: root.link(root.root / "own", path),
    "make": lambda root, path: root.make(path / "new"),
    "scan": lambda root, path: list(root.scan(path.parent)),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_link_to_a_file_is_refused(
    root: Directory, outside: Path, use: Callable[[Directory, Path], object]
) -> None:
    """open(2), O_NOFOLLOW: if the trailing component is a symbolic link, the open fails."""
    place = root.root / "file"
    place.symlink_to(outside / "file")
    with pytest.raises(UnsafePath, match="there is a link"):
        use(root, place)
    assert (outside / "file").read_bytes() == SECRET
    assert [path.name for path in outside.iterdir()] == ["file"]


@pytest.mark.parametrize("use", INSIDE.values(), ids=INSIDE)
@pytest.mark.parametrize("deep", [False, True])
def test_link_to_a_directory_is_refused(
    root: Directory, outside: Path, use: Callable[[Directory, Path], object], *, deep: bool
) -> None:
    """A link at any depth of the path is refused."""
    (root.root / "own").write_bytes(b"own")
    (outside / "inner").mkdir()
    (outside / "inner" / "file").write_bytes(SECRET)
    before = (outside / "inner" / "file").stat()
    (root.root / "planted").symlink_to(outside if deep else outside / "inner")
    place = root.root / "planted" / ("inner/file" if deep else "file")
    with pytest.raises(UnsafePath):
        use(root, place)
    assert (outside / "inner" / "file").stat() == before
    assert (root.root / "own").read_bytes() == b"own"


@pytest.mark.parametrize("use", USES.values(), ids=USES)
@pytest.mark.parametrize("kind", ["fifo", "socket", "directory"])
def test_special_file_is_refused_without_waiting(
    root: Directory, use: Callable[[Directory, Path], object], kind: str
) -> None:
    """Opening a FIFO without a reader or writer would block."""
    place = root.root / "x"
    if kind == "fifo":
        os.mkfifo(place)
    elif kind == "directory":
        place.mkdir()
    else:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(os.path.relpath(place))
    with pytest.raises((UnsafePath, IsADirectoryError)):
        use(root, place)


def test_file_with_two_names_is_not_opened_for_writing(root: Directory, outside: Path) -> None:
    """A hard link to a file elsewhere can only be read."""
    (root.root / "file").hardlink_to(outside / "file")
    descriptor = root.open(root.root / "file")
    os.close(descriptor)
    with pytest.raises(UnsafePath):
        root.open(root.root / "file", os.O_RDWR)


def test_root_may_be_a_link(tmp_path: Path, outside: Path) -> None:
    """The root is the user's choice."""
    (tmp_path / "named").symlink_to(outside)
    root = Directory(tmp_path / "named")
    with os.fdopen(root.open(root.root / "file"), "rb") as file:
        assert file.read() == SECRET


def test_make_returns_new_directories(tmp_path: Path) -> None:
    """The root is created too, and existing directories are kept."""
    root = Directory(tmp_path / "a/b")
    made = root.make(root.root / "c/d")
    assert sorted(made) == [tmp_path / one for one in ("a", "a/b", "a/b/c", "a/b/c/d")]
    assert root.make(root.root / "c/d") == []
    (root.root / "file").touch()
    with pytest.raises(NotADirectoryError):
        root.make(root.root / "file/x")


def test_make_repeats_if_a_directory_is_deleted(
    root: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session that ends deletes empty directories."""
    real, left = os.mkdir, [2]

    def mkdir(name: str, dir_fd: int) -> None:
        real(name, dir_fd=dir_fd)
        if name == "a" and left[0]:
            left[0] -= 1
            os.rmdir(name, dir_fd=dir_fd)

    monkeypatch.setattr(os, "mkdir", mkdir)
    assert root.make(root.root / "a/b")[-1] == root.root / "a/b"
    root.prune(root.root / "a/b")
    left[0] = 1000
    with pytest.raises(FileNotFoundError):
        root.make(root.root / "a/c/d")


def test_prune_deletes_empty_directories(root: Directory, outside: Path) -> None:
    """It stops at the first that is not empty, and at the root."""
    root.make(root.root / "a/b/c")
    (root.root / "a/file").touch()
    root.prune(root.root / "a/b/c")
    assert [path.name for path in (root.root / "a").iterdir()] == ["file"]
    (root.root / "a/file").unlink()
    (root.root / "a/link").symlink_to(outside)
    (outside / "empty").mkdir()
    root.prune(root.root / "a/link/empty")
    assert (outside / "empty").is_dir()
    root.prune(root.root)
    assert root.root.is_dir()


def test_prune_keeps_a_locked_directory(root: Directory) -> None:
    """The holder of the lock is about to create a file there."""
    path = root.root / "a/b"
    root.make(path / "c")
    with root.opened(path) as descriptor:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        root.prune(path / "c")
    assert list(path.iterdir()) == []
    root.prune(path)
    assert list(root.root.iterdir()) == []


def test_prune_keeps_a_directory_that_replaced_another(
    root: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lock on a deleted directory does not cover the new one of its name."""
    path, real = root.root / "a", fcntl.flock

    def flock(descriptor: int, operation: int) -> None:
        path.rename(root.root / "old")
        path.mkdir()
        real(descriptor, operation)

    root.make(path)
    monkeypatch.setattr(fcntl, "flock", flock)
    root.prune(path)
    assert path.is_dir()


def test_missing_files(root: Directory) -> None:
    """Each method has its own result or error for a missing file."""
    missing = root.root / "a/b"
    assert not root.is_file(missing)
    assert not root.unlink(missing)
    assert list(root.scan(missing)) == []
    root.prune(missing)
    (root.root / "a").touch()
    assert not root.is_file(missing)
    for use in (root.open, root.status, root.touch):
        with pytest.raises(NotADirectoryError):
            use(missing)
