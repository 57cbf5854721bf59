"""spool.py: bytes that wait in a file without a name."""

from __future__ import annotations

import errno
import os
import pickle
from typing import TYPE_CHECKING

import pytest

from brolga.errors import SpoolError
from brolga.stream.spool import Spool, spool_factory

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

DATA = b"abcdefghij"


def joined(blocks: Iterable[bytes | memoryview]) -> bytes:
    """Return the bytes of blocks."""
    return b"".join(blocks)


def test_a_spool_keeps_everything_in_a_file_without_a_name(tmp_path: Path) -> None:
    """The file is deleted when it is made: a killed process leaves nothing."""
    spool = Spool(tmp_path)
    assert not list(tmp_path.iterdir())
    for block in (b"abc", memoryview(b"defg")):
        spool.add(block)
    assert spool.start == 0
    assert joined(spool.read(0)) == b"abcdefg"
    assert joined(spool.read(5)) == b"fg"
    spool.close()


def test_a_spool_that_is_short_written_writes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`pwrite` may write less than it was given (pwrite(2))."""
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: real(fd, bytes(data[:2]), at))
    spool = Spool(tmp_path)
    spool.add(DATA)
    assert joined(spool.read(0)) == DATA
    spool.close()


@pytest.mark.parametrize("given", [True, False])
def test_a_spool_on_a_full_disk_says_so(
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


def test_a_spool_that_cannot_be_made_says_where(tmp_path: Path) -> None:
    """A disk can be full of names too, and a directory be gone."""
    with pytest.raises(SpoolError, match="gone cannot be made: No such file or directory; choose"):
        Spool(tmp_path / "gone")


def test_a_failure_of_a_spool_survives_pickling() -> None:
    """As every error of ours: it may come from another process."""
    again = pickle.loads(pickle.dumps(SpoolError("full")))  # noqa: S301 - our own bytes
    assert (type(again), str(again), again.side) == (SpoolError, "full", "local")


def test_a_spool_that_cannot_be_read_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that fails is the spool's failure, not the source's: at which byte, and what to do."""

    def broken(*_: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    spool = Spool(tmp_path)
    spool.add(DATA)
    monkeypatch.setattr(os, "preadv", broken)
    for read in (lambda: joined(spool.read(3)), lambda: spool.read_at(2, 3)):
        with pytest.raises(SpoolError, match=f"{tmp_path} cannot be read at byte 3: Input") as said:
            read()
        assert isinstance(said.value.__cause__, OSError)
    spool.close()


def test_a_spool_that_was_cut_ends(tmp_path: Path) -> None:
    """Whoever cuts the file takes bytes away: an error, and no loop without an end."""
    spool = Spool(tmp_path)
    spool.add(DATA)
    os.ftruncate(spool._fd, 4)
    with pytest.raises(SpoolError, match="ends at byte 4"):
        joined(spool.read(0))
    spool.close()


def test_a_closed_spool_gives_nothing() -> None:
    """It may be closed twice; what is read of it then is an error."""
    spool = Spool()
    spool.add(DATA)
    spool.close()
    spool.close()
    with pytest.raises(SpoolError, match="cannot be read"):
        joined(spool.read(0))


def test_pieces_are_read_anywhere(tmp_path: Path) -> None:
    """Sections of one spool are read in any order."""
    spool = Spool(tmp_path)
    spool.add(DATA)
    assert bytes(spool.read_at(3, 4)) == b"efg"
    assert bytes(spool.read_at(4, 0)) == b"abcd"


def test_a_spool_is_chosen_by_a_directory_or_not(tmp_path: Path) -> None:
    """False is none, True the system's directory, else it is the directory."""
    assert spool_factory(choice=False) is None
    for choice in (True, tmp_path, str(tmp_path)):
        spool = spool_factory(choice)
        assert spool is not None
        spool.close()
    with pytest.raises(SpoolError, match="cannot be made"):
        spool_factory(tmp_path / "missing")
