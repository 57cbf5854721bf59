"""stream/spool.py: bytes in an unnamed file."""

from __future__ import annotations

import errno
import os
import pickle
from typing import TYPE_CHECKING

import pytest

from brolga.errors import SpoolError
from brolga.stream.spool import Spool, open_spool

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

DATA = b"abcdefghij"


def joined(blocks: Iterable[bytes | memoryview]) -> bytes:
    """Return the bytes of blocks."""
    return b"".join(blocks)


def test_spool_keeps_all_bytes_in_unnamed_file(tmp_path: Path) -> None:
    """The file is deleted when it is made: a killed process leaves nothing."""
    spool = Spool(tmp_path)
    assert not list(tmp_path.iterdir())
    for block in (b"abc", memoryview(b"defg")):
        spool.add(block)
    assert spool.start == 0
    assert joined(spool.read(0)) == b"abcdefg"
    assert joined(spool.read(5)) == b"fg"
    spool.close()


def test_add_continues_after_short_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`pwrite` may write less than it was given (pwrite(2))."""
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: real(fd, bytes(data[:2]), at))
    spool = Spool(tmp_path)
    spool.add(DATA)
    assert joined(spool.read(0)) == DATA
    spool.close()


@pytest.mark.parametrize("given", [True, False])
def test_add_raises_spool_error_if_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: bool
) -> None:
    """One line: which directory is full, and what to do. It is the upload's end."""
    if not os.path.exists("/dev/full"):  # noqa: PTH110 - a device, no path of ours
        pytest.skip("no /dev/full here")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    spool = Spool(tmp_path if given else None)
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, spool._fd)
    os.close(full)
    with pytest.raises(SpoolError) as caught:
        spool.add(DATA)
    assert str(caught.value) == (
        f"the spool in {tmp_path} cannot be written after 0 bytes: No space left on device; "
        "choose another directory with --spool=DIR"
    )
    assert caught.value.side == "local"
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.errno == errno.ENOSPC
    spool.close()


def test_spool_raises_if_directory_is_unusable(tmp_path: Path) -> None:
    """A disk can be full of names too, and a directory be gone."""
    with pytest.raises(SpoolError, match="gone cannot be made: No such file or directory; choose"):
        Spool(tmp_path / "gone")


def test_spool_error_can_be_pickled() -> None:
    """As every error of ours: it may come from another process."""
    again = pickle.loads(pickle.dumps(SpoolError("full")))  # noqa: S301 - our own bytes
    assert (type(again), str(again), again.side) == (SpoolError, "full", "local")


def test_read_raises_spool_error_if_read_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that fails is the spool's failure, not the source's: at which byte, and what to do."""

    def broken(*_: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    spool = Spool(tmp_path)
    spool.add(DATA)
    monkeypatch.setattr(os, "preadv", broken)
    for read in (lambda: joined(spool.read(3)), lambda: spool.read_at(2, 3)):
        with pytest.raises(
            SpoolError, match=f"{tmp_path} cannot be read at byte 3: Input"
        ) as caught:
            read()
        assert isinstance(caught.value.__cause__, OSError)
    spool.close()


def test_read_raises_if_file_was_truncated(tmp_path: Path) -> None:
    """If another process truncates the file, it is an error, not an endless loop."""
    spool = Spool(tmp_path)
    spool.add(DATA)
    os.ftruncate(spool._fd, 4)
    with pytest.raises(SpoolError, match="ends at byte 4"):
        joined(spool.read(0))
    spool.close()


def test_read_after_close_raises() -> None:
    """It may be closed twice; what is read of it then is an error."""
    spool = Spool()
    spool.add(DATA)
    spool.close()
    spool.close()
    with pytest.raises(SpoolError, match="cannot be read"):
        joined(spool.read(0))


def test_read_at_any_offset(tmp_path: Path) -> None:
    """Sections of one spool are read in any order."""
    spool = Spool(tmp_path)
    spool.add(DATA)
    assert bytes(spool.read_at(3, 4)) == b"efg"
    assert bytes(spool.read_at(4, 0)) == b"abcd"


def test_spool_factory_follows_choice(tmp_path: Path) -> None:
    """False means no spool, True the system's directory, a path that directory."""
    assert open_spool(choice=False) is None
    for choice in (True, tmp_path, str(tmp_path)):
        spool = open_spool(choice)
        assert spool is not None
        spool.close()
    with pytest.raises(SpoolError, match="cannot be made"):
        open_spool(tmp_path / "missing")
