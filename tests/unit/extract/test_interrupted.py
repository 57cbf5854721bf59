"""An extraction that is killed is recognised, and gives the same tree when it is run again."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.file_trees import read_tree
from tests.guard import guarded
from tests.tars import entry, layer, tar

from brolga.errors import BrolgaError, CorruptBlob
from brolga.extract import ExtractOptions, extract_layers
from brolga.images import StoredBlob

if TYPE_CHECKING:
    from collections.abc import Callable

    from brolga.spec.blob import BlobStream

ROOT = Path(__file__).parents[3]


def run_program(what: str) -> tuple[str, str]:
    """Extract in child processes; return what is not as it should be, and stderr."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.killed_extraction", what],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'src'}"},
        check=False,
        capture_output=True,
        text=True,
    )
    return done.stdout, done.stderr


def test_extraction_killed_at_any_step_is_completed_by_next_run() -> None:
    """Content, metadata, links and whiteouts are those of an extraction in one go."""
    assert run_program("killed") == ("", "")


def test_directory_swapped_for_link_at_any_step_leads_nowhere() -> None:
    """Another process that can write into the directory puts links to the outside there."""
    assert run_program("swapped") == ("", "")


def interrupted(directory: Path) -> None:
    """Extract a layer, and fail in a second one."""
    with pytest.raises(CorruptBlob):
        extract_layers([layer(tar(entry("a", b"1"))), layer(b"no tar" * 100)], directory)


def test_interrupt_says_that_directory_is_not_complete(tmp_path: Path) -> None:
    """The command shows it: who presses Ctrl-C learns what to do with the directory."""

    def interrupt() -> BlobStream:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        extract_layers([StoredBlob(layer(tar("a")).descriptor, interrupt)], tmp_path / "d")
    assert [note.partition(":")[0] for note in caught.value.__notes__] == [
        f"{tmp_path / 'd'} is not complete"
    ]


def test_unfinished_extraction_is_not_taken_for_another_image(tmp_path: Path) -> None:
    """Nothing is changed by the other one."""
    interrupted(tmp_path / "d")
    record = tmp_path / "d" / ".brolga-extract"
    before, text = read_tree(tmp_path / "d", record), record.read_bytes()
    with pytest.raises(BrolgaError, match="unfinished extraction"):
        extract_layers([layer(tar("b"))], tmp_path / "d")
    assert (read_tree(tmp_path / "d", record), record.read_bytes()) == (before, text)


def test_clean_starts_over_with_another_image(tmp_path: Path) -> None:
    """What the first one left is gone."""
    interrupted(tmp_path / "d")
    extract_layers([layer(tar("b"))], tmp_path / "d", ExtractOptions(clean=True))
    assert [path.name for path in (tmp_path / "d").iterdir()] == ["b"]


@pytest.mark.parametrize("clean", [False, True])
def test_directory_of_another_program_is_left_alone(clean: bool, tmp_path: Path) -> None:
    """`clean` deletes what an extraction left, and nothing else."""
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "mine").write_bytes(b"mine")
    before = read_tree(tmp_path / "d")
    with pytest.raises(BrolgaError, match="not empty"):
        extract_layers([layer(tar("b"))], tmp_path / "d", ExtractOptions(clean=clean))
    assert read_tree(tmp_path / "d") == before


def test_finished_extraction_is_left_alone(tmp_path: Path) -> None:
    """A directory that was extracted is not an unfinished one: it is not empty."""
    extract_layers([layer(tar(entry("a", b"1")))], tmp_path / "d")
    (tmp_path / "d" / "a").write_bytes(b"changed")
    with pytest.raises(BrolgaError, match="not empty"):
        extract_layers([layer(tar(entry("a", b"1")))], tmp_path / "d")
    assert (tmp_path / "d" / "a").read_bytes() == b"changed"


@pytest.mark.parametrize("planted", ["symlink", "fifo", "hard link", "directory", "device"])
def test_record_planted_by_another_is_not_followed(planted: str) -> None:
    """The name by which an unfinished extraction is recognised is something else."""
    if planted == "device" and os.geteuid() != 0:
        pytest.skip("only root makes devices")
    with guarded() as guard:
        guard.directory.mkdir()
        path = guard.directory / ".brolga-extract"
        make: dict[str, Callable[[], object]] = {
            "symlink": lambda: path.symlink_to(f"{guard.outside}/secret"),
            "fifo": lambda: os.mkfifo(path),
            "hard link": lambda: path.hardlink_to(guard.root / "parent" / "near" / "inner"),
            "directory": path.mkdir,
            "device": lambda: os.mknod(path, 0o20666, os.makedev(1, 3)),
        }
        make[planted]()
        before = read_tree(guard.root)
        for clean in (False, True):
            with pytest.raises(BrolgaError):
                extract_layers([layer(tar("b"))], guard.directory, ExtractOptions(clean=clean))
        assert read_tree(guard.root) == before
