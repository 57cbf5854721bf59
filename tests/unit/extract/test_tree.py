"""tree.py and openat2.py: nothing is reached through a link."""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.extracted import extract, files_in
from tests.tars import entry, symlink, tar

from brolga.extract import openat2
from brolga.extract.tree import open_tree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from brolga.extract.openat2 import Opener


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.fixture(params=["openat2", "steps"])
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Opener:
    """Return each way to open a directory."""
    if request.param == "steps":
        return openat2.open_by_steps
    directory = os.open(tmp_path, os.O_RDONLY)
    found = openat2.find_opener(directory)
    os.close(directory)
    if found is openat2.open_by_steps:
        pytest.skip("this kernel has no openat2(2)")
    return found


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "file").touch()
    (tmp_path / "out").symlink_to("/")
    (tmp_path / "a/in").symlink_to("b")
    os.mkfifo(tmp_path / "a/fifo")
    descriptor = os.open(tmp_path, os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


def test_opener_opens_directory(opener: Opener, directory: int, tmp_path: Path) -> None:
    descriptor = opener(directory, b"a/b")
    assert os.path.samestat(os.fstat(descriptor), (tmp_path / "a/b").stat())
    os.close(descriptor)


@pytest.mark.parametrize("path", ["out", "out/etc", "a/in", "a/in/x", "file", "a/fifo", "file/x"])
def test_opener_refuses_link_and_file(opener: Opener, directory: int, path: str) -> None:
    with pytest.raises(OSError, match=r"levels of symbolic links|Not a directory") as caught:
        opener(directory, path.encode())
    assert caught.value.errno in {errno.ELOOP, errno.ENOTDIR}


def test_opener_of_missing_path_fails_and_leaves_nothing_open(
    opener: Opener, directory: int
) -> None:
    before = open_descriptors()
    with pytest.raises(FileNotFoundError):
        opener(directory, b"a/b/c")
    assert open_descriptors() == before


def test_path_too_long_for_one_call_is_opened_by_steps(opener: Opener, directory: int) -> None:
    parent = directory
    for _ in range(20):
        os.mkdir(b"n" * 250, dir_fd=parent)
        inner = os.open(b"n" * 250, os.O_RDONLY, dir_fd=parent)
        if parent != directory:
            os.close(parent)
        parent = inner
    descriptor = opener(directory, b"/".join([b"n" * 250] * 20))
    assert os.path.samestat(os.fstat(descriptor), os.fstat(parent))
    os.close(descriptor)
    os.close(parent)


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.EPERM], ids=["kernel", "seccomp"])
def test_kernel_without_openat2_has_steps(
    directory: int, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """An old kernel has no such call, and a sandbox may forbid it."""
    monkeypatch.setattr(ctypes, "CDLL", _failing(code))
    assert openat2.find_opener(directory) is openat2.open_by_steps


def test_rename_in_the_middle_of_openat2_is_repeated_by_steps(
    directory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Openat2(2): EAGAIN, if the kernel cannot tell whether a path stays below."""
    monkeypatch.setattr(ctypes, "CDLL", _failing(errno.EAGAIN))
    descriptor = openat2.find_opener(directory)(directory, b"a/b")
    assert stat.S_ISDIR(os.fstat(descriptor).st_mode)
    os.close(descriptor)


def _failing(code: int) -> Callable[..., object]:
    class Library:
        def __init__(self, *_: object, **__: object) -> None:
            pass

        def syscall(self, *_: object) -> int:
            ctypes.set_errno(code)
            return -1

    return Library


# Trees -------------------------------------------------------------------------------------------


def test_tree_of_more_directories_than_may_be_open(tmp_path: Path) -> None:
    names = [f"d{number}/e{number}/f" for number in range(100)]
    before = open_descriptors()
    extract(tmp_path, tar(*names), tar(*(f"{name}2" for name in names)))
    assert len(files_in(tmp_path)) == 400
    assert open_descriptors() == before


def test_directories_deeper_than_one_path_are_removed(tmp_path: Path) -> None:
    """A path of 4096 bytes has up to 2048 directories."""
    deep = "d/" * 2000
    extract(tmp_path, tar(f"{deep}x"), tar(".wh.d", "e"))
    assert files_in(tmp_path) == {"e": b""}


def test_removal_does_not_follow_links(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").touch()
    links = tar(symlink("l", str(outside)), symlink("d/l", str(outside)))
    extract(tmp_path / "root", links, tar(".wh.l", ".wh.d"))
    assert files_in(tmp_path / "root") == {}
    assert files_in(outside) == {"file": b""}


@pytest.mark.parametrize("mode", [0o000, 0o111, 0o444, 0o555])
def test_directory_closed_to_its_owner_is_opened_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int
) -> None:
    """A user needs its rights to write into it; root does not."""
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    below = tar(
        entry("./", mode=mode), entry("d/", mode=mode), "d/a", entry("e/", mode=mode), "e/f"
    )
    extract(tmp_path / "root", below, tar("d/b", "d/.wh.a", ".wh.e"))
    assert stat.S_IMODE((tmp_path / "root").stat().st_mode) == mode
    (tmp_path / "root").chmod(0o755)
    assert stat.S_IMODE((tmp_path / "root/d").stat().st_mode) == mode
    (tmp_path / "root/d").chmod(0o755)
    assert files_in(tmp_path / "root") == {"d": None, "d/b": b""}


def test_status_of_what_is_behind_a_link_is_none(tmp_path: Path) -> None:
    (tmp_path / "l").symlink_to("/")
    with open_tree(tmp_path) as tree:
        assert tree.status(b"l/etc") is None
        assert tree.status(b"no/etc") is None
        link = tree.status(b"l")
        assert link is not None
        assert stat.S_ISLNK(link.st_mode)
