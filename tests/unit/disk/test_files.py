"""disk.files: complete reads and writes, and files that are replaced atomically."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from brolga.disk.files import atomic_file, read_at, write_all

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(params=["without a name", "with a name"])
def directory(
    tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """Return a directory, with and without files that have no name (O_TMPFILE)."""
    if request.param == "with a name":
        monkeypatch.delattr(os, "O_TMPFILE")
    return tmp_path


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_atomic_file_replaces_at_the_end(directory: Path) -> None:
    """Until then the old file is there, if any."""
    place = directory / "a.tar"
    for data in (b"one", b"two"):
        before = place.read_bytes() if place.exists() else None
        with atomic_file(place) as file:
            file.write(data)
            assert (place.read_bytes() if place.exists() else None) == before
        assert place.read_bytes() == data
        assert names(directory) == ["a.tar"]


def test_atomic_file_keeps_the_old_file_after_an_error(directory: Path) -> None:
    """And leaves no temporary file."""
    place = directory / "a.tar"
    for before in ([], ["a.tar"]):
        with pytest.raises(KeyboardInterrupt), atomic_file(place) as file:
            file.write(b"half")
            raise KeyboardInterrupt
        assert names(directory) == before
        place.write_bytes(b"whole")
    assert place.read_bytes() == b"whole"


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o666])
def test_atomic_file_keeps_permissions(directory: Path, mode: int) -> None:
    """A private archive stays private while it is written."""
    place = directory / "a.tar"
    place.touch()
    place.chmod(mode)
    with atomic_file(place) as file:
        assert os.fstat(file.fileno()).st_mode & 0o777 == mode
    assert place.stat().st_mode & 0o777 == mode


def test_atomic_file_applies_the_umask(directory: Path) -> None:
    """As open(2) does."""
    before = os.umask(0o027)
    try:
        with atomic_file(directory / "a.tar"):
            pass
    finally:
        os.umask(before)
    assert (directory / "a.tar").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("is_there", [True, False])
def test_atomic_file_replaces_the_target_of_a_link(directory: Path, is_there: bool) -> None:
    """The link itself stays."""
    (directory / "there").mkdir()
    target, link = directory / "there" / "b.tar", directory / "a.tar"
    if is_there:
        target.write_bytes(b"before")
    link.symlink_to("there/b.tar")
    with atomic_file(link) as file:
        file.write(b"after")
    assert link.is_symlink()
    assert target.read_bytes() == b"after"
    assert names(directory) == ["a.tar", "there"]
    assert names(directory / "there") == ["b.tar"]


@pytest.mark.parametrize("name", [255 * "n", 85 * "語"], ids=["letters", "three-bytes"])
def test_atomic_file_may_have_the_longest_name(directory: Path, name: str) -> None:
    """Its temporary name is no longer."""
    with atomic_file(directory / name) as file:
        file.write(b"data")
    assert names(directory) == [name]


def test_atomic_file_error_names_the_path(directory: Path) -> None:
    """Not the temporary file's."""
    place = directory / "missing" / "a.tar"
    with pytest.raises(FileNotFoundError) as found, atomic_file(place):
        pytest.fail("there is no such directory")
    assert found.value.filename == str(place)


def test_atomic_file_leaves_nothing_after_a_kill(tmp_path: Path) -> None:
    """The file has no name yet."""
    try:
        os.close(os.open(tmp_path, os.O_WRONLY | os.O_TMPFILE))
    except OSError:
        pytest.skip("this file system has no files without a name")
    code = (
        "import os, sys, pathlib; from brolga.disk.files import atomic_file\n"
        "with atomic_file(pathlib.Path(sys.argv[1])) as file:\n"
        "    file.write(b'x'); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "a.tar"], check=False)
    assert done.returncode == -9
    assert names(tmp_path) == []


def test_read_at_repeats_short_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """preadv(2) may return fewer bytes; only the end of the file ends the read."""
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    real = os.preadv

    def short(descriptor: int, buffers: list[memoryview], offset: int) -> int:
        return real(descriptor, [buffers[0][:3]], offset)

    monkeypatch.setattr(os, "preadv", short)
    with path.open("rb") as file:
        assert bytes(read_at(file.fileno(), 8, 1)) == b"12345678"
        assert bytes(read_at(file.fileno(), 8, 5)) == b"56789"
        assert bytes(read_at(file.fileno(), 8, 50)) == b""


def test_write_all_repeats_short_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """write(2) may write fewer bytes."""
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:3]))
    with (tmp_path / "file").open("wb") as file:
        write_all(file.fileno(), b"0123456789")
    assert (tmp_path / "file").read_bytes() == b"0123456789"
