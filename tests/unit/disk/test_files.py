"""archive/place.py: a file that takes its place when it is whole."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from brolga.disk.files import atomic_file

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(params=["without a name", "with a name"])
def directory(
    tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """Return a directory on a file system that has files without a name, or not."""
    if request.param == "with a name":
        monkeypatch.delattr(os, "O_TMPFILE")
    return tmp_path


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_it_takes_its_place_at_the_end(directory: Path) -> None:
    """Until then there is what was there before."""
    place = directory / "a.tar"
    for data in (b"one", b"two"):
        before = place.read_bytes() if place.exists() else None
        with atomic_file(place) as file:
            file.write(data)
            assert (place.read_bytes() if place.exists() else None) == before
        assert place.read_bytes() == data
        assert names(directory) == ["a.tar"]


def test_an_error_leaves_what_was_there(directory: Path) -> None:
    """And nothing beside it."""
    place = directory / "a.tar"
    for before in ([], ["a.tar"]):
        with pytest.raises(KeyboardInterrupt), atomic_file(place) as file:
            file.write(b"half")
            raise KeyboardInterrupt
        assert names(directory) == before
        place.write_bytes(b"whole")
    assert place.read_bytes() == b"whole"


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o666])
def test_a_file_that_was_there_keeps_its_permissions(directory: Path, mode: int) -> None:
    """A private archive stays private, while it is written too."""
    place = directory / "a.tar"
    place.touch()
    place.chmod(mode)
    with atomic_file(place) as file:
        assert os.fstat(file.fileno()).st_mode & 0o777 == mode
    assert place.stat().st_mode & 0o777 == mode


def test_a_new_file_has_what_the_umask_leaves(directory: Path) -> None:
    """As open(2) makes it."""
    before = os.umask(0o027)
    try:
        with atomic_file(directory / "a.tar"):
            pass
    finally:
        os.umask(before)
    assert (directory / "a.tar").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("is_there", [True, False])
def test_a_link_is_written_through(directory: Path, is_there: bool) -> None:
    """It stays a link; what it leads to is new."""
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


def test_what_cannot_be_made_names_the_place(directory: Path) -> None:
    """Not the name that it would have had on its way."""
    place = directory / "missing" / "a.tar"
    with pytest.raises(FileNotFoundError) as found, atomic_file(place):
        pytest.fail("there is no such directory")
    assert found.value.filename == str(place)


def test_a_killed_process_leaves_nothing(tmp_path: Path) -> None:
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
