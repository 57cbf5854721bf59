"""disk.partial: a file that one writer leaves to the next."""

from __future__ import annotations

import errno
import fcntl
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from brolga.disk.directory import Directory, UnsafePath
from brolga.disk.partial import PartialFile, open_partial

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    Open = Callable[..., AbstractContextManager[PartialFile | None]]


@pytest.fixture
def partial(tmp_path: Path) -> Path:
    return tmp_path / "tree/uploads/partial"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "tree/blobs/target"


@pytest.fixture
def opened(tmp_path: Path, partial: Path, target: Path) -> Open:
    """Return what opens the partial file; it does not wait unless a test says how."""

    def no_wait() -> None:
        pytest.fail("it waited")

    def open_it(wait: Callable[[], None] = no_wait) -> AbstractContextManager[PartialFile | None]:
        return open_partial(Directory(tmp_path / "tree"), partial, target, wait)

    return open_it


def content(file: PartialFile) -> bytes:
    return b"".join(file.blocks())


def test_partial_file_stays_for_the_next_writer(opened: Open, partial: Path, target: Path) -> None:
    """Until it is complete it has no other name; then it is moved."""
    with opened() as file:
        assert file is not None
        file.write(b"abc")
    assert partial.read_bytes() == b"abc"
    with opened() as file:
        assert file is not None
        assert file.size == 3
        assert content(file) == b"abc"
        file.write(memoryview(b"de"))
        assert content(file) == b"abcde"
        assert not target.exists()
        file.move(target)
        file.delete()
    assert target.read_bytes() == b"abcde"
    assert not partial.exists()


def test_partial_file_is_locked(opened: Open, partial: Path) -> None:
    """So `gc` and other writers see that it is in use; not any more after the end."""
    with opened() as file:
        assert file is not None
        file.write(b"abc")
        with partial.open() as other, pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_SH | fcntl.LOCK_NB)
    with partial.open() as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_partial_file_that_is_empty_is_deleted(opened: Open, partial: Path) -> None:
    """Also after an error."""
    with pytest.raises(KeyError), opened():
        assert partial.exists()
        raise KeyError
    assert not partial.exists()


def test_partial_file_that_was_truncated_is_deleted(opened: Open, partial: Path) -> None:
    with opened() as file:
        assert file is not None
        file.write(b"abc")
        file.truncate()
        assert file.size == 0
        file.write(b"d")
        assert content(file) == b"d"
        file.truncate()
    assert not partial.exists()


def test_partial_file_may_be_deleted(opened: Open, partial: Path) -> None:
    with opened() as file:
        assert file is not None
        file.write(b"abc")
        file.delete()
        assert not partial.exists()


def test_partial_file_of_a_writer_that_moves_it_is_done(opened: Open, target: Path) -> None:
    """The second writer gets nothing to do, and the file is not opened again."""
    with opened() as first:
        assert first is not None
        first.write(b"abc")

        def finish() -> None:
            first.move(target)
            os.close(first._descriptor)

        with opened(finish) as second:
            assert second is None
        first._descriptor = os.open(os.devnull, os.O_RDONLY)
    assert target.read_bytes() == b"abc"


@pytest.mark.parametrize("deletes", [False, True])
def test_partial_file_of_a_writer_that_ends_is_continued(opened: Open, *, deletes: bool) -> None:
    """After a failure of the first; if that deleted it, the second one begins."""
    first = opened()
    file = first.__enter__()
    assert file is not None
    file.write(b"abc")
    waits = []

    def end() -> None:
        waits.append(1)
        if len(waits) == 2:
            if deletes:
                file.delete()
            first.__exit__(None, None, None)

    with opened(end) as second:
        assert second is not None
        assert content(second) == (b"" if deletes else b"abc")
    assert len(waits) == 2


def test_partial_file_of_another_user_is_not_continued(
    opened: Open, partial: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That user could change the bytes after they were verified."""
    with opened() as file:
        assert file is not None
        file.write(b"abc")
    before = partial.stat().st_ino
    with partial.open(), monkeypatch.context() as patch:  # open: so that the number is not reused
        user = os.geteuid()
        patch.setattr(os, "geteuid", lambda: user + 1)
        with opened() as file:
            assert file is not None
            assert file.size == 0
            file.write(b"d")
            assert partial.stat().st_ino != before


def test_partial_file_that_is_read_only_is_replaced(
    opened: Open, partial: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is opened for reading, to wait for its lock. Root opens it for writing."""
    with opened() as file:
        assert file is not None
        file.write(b"abc")
    real_open = Directory.open

    def refuse(self: Directory, path: Path, flags: int = os.O_RDONLY) -> int:
        if path == partial and flags & (os.O_RDWR | os.O_CREAT) == os.O_RDWR:
            raise PermissionError(errno.EACCES, "no", str(path))
        return real_open(self, path, flags)

    monkeypatch.setattr(Directory, "open", refuse)
    with opened() as file:
        assert file is not None
        assert file.size == 0


def make_link(path: Path) -> None:
    path.symlink_to("/etc/passwd")


def make_hard_link(path: Path) -> None:
    path.with_name("other").write_bytes(b"mine")
    path.hardlink_to(path.with_name("other"))


@pytest.mark.parametrize(
    "make", [make_link, make_hard_link, os.mkfifo], ids=lambda make: make.__name__
)
def test_partial_file_that_is_no_file_of_its_own_is_refused(
    opened: Open, partial: Path, make: Callable[[Path], None]
) -> None:
    """Nothing is written through it, and nothing blocks."""
    partial.parent.mkdir(parents=True)
    make(partial)
    with pytest.raises(UnsafePath), opened():
        pytest.fail("it was opened")


def test_partial_file_that_vanishes_is_opened_again(
    opened: Open, partial: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another writer may move it between the two calls that look for it."""
    partial.parent.mkdir(parents=True)
    partial.write_bytes(b"abc")
    real_open = Directory.open

    def vanish(self: Directory, path: Path, flags: int = os.O_RDONLY) -> int:
        if not flags & os.O_CREAT:
            partial.unlink(missing_ok=True)
        return real_open(self, path, flags)

    monkeypatch.setattr(Directory, "open", vanish)
    with opened() as file:
        assert file is not None
        assert file.size == 0


def test_partial_file_that_shrinks_while_it_is_read_is_an_error(
    opened: Open, partial: Path
) -> None:
    with opened() as file:
        assert file is not None
        file.write(b"abc")
        os.truncate(partial, 0)
        with pytest.raises(OSError, match="shorter"):
            content(file)


def test_partial_file_errors_get_the_name_that_is_wanted(
    tmp_path: Path, partial: Path, target: Path
) -> None:
    """`errors` is around each access to the disk."""

    @contextmanager
    def errors() -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise KeyError(error.errno) from error

    partial.parent.parent.mkdir()
    partial.parent.write_bytes(b"")
    opened = open_partial(Directory(tmp_path / "tree"), partial, target, lambda: None, errors)
    with pytest.raises(KeyError, match=str(errno.ENOTDIR)), opened:
        pytest.fail("it was opened")


def test_partial_file_gets_permissions(
    opened: Open, partial: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some file systems have none to set: then those that it has are right."""
    with opened() as file:
        assert file is not None
        file.set_mode(0o600)
        assert partial.stat().st_mode & 0o777 == 0o600
        monkeypatch.setattr(os, "fchmod", lambda *_: pytest.fail("they were set"))
        file.set_mode(0o600)
