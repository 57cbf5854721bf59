"""state.py: an extraction that was interrupted goes on."""

from __future__ import annotations

import fcntl
import json
import os
import stat
from typing import TYPE_CHECKING

import pytest
from tests.extracted import extract, files_in
from tests.tars import entry, layer, link, symlink, tar

from brolga.errors import CorruptBlob, ExtractionError
from brolga.extract import ExtractLimits, ExtractOptions, extract_layers
from brolga.images import BlockStream, StoredBlob

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from brolga.spec.blob import Blob

RECORD = ".brolga-extract"
BELOW = tar(entry("d/", mode=0o500, mtime=5), entry("d/a", b"below"), "d/gone", symlink("l", "d"))
ABOVE = tar(
    "d/.wh.gone",
    entry("d/b", b"above"),
    link("d/c", "d/a"),
    entry("n/m", b"n"),
    entry("e/", mode=0o700, mtime=7),
    entry("e/x", b"x"),
)


class Cut(Exception):
    """A layer is not read further."""


def cut(data: bytes, size: int) -> Blob:
    """Return a layer that fails after some bytes."""

    def blocks() -> Iterator[bytes]:
        yield data[:size]
        raise Cut

    return StoredBlob(layer(data).descriptor, lambda: BlockStream(iter(blocks())))  # type: ignore[arg-type]


def attributes(directory: Path) -> dict[str, tuple[int, float]]:
    """Return modes and times, except the times of directories without an entry."""
    found = {}
    for name in ("d", "d/a", "d/b", "n", "n/m", "e", "e/x"):
        status = (directory / name).stat()
        found[name] = stat.S_IMODE(status.st_mode), status.st_mtime if name != "n" else 0
    return found


@pytest.mark.parametrize("size", range(512, len(ABOVE), 512))
def test_extraction_that_was_cut_goes_on_to_same_result(tmp_path: Path, size: int) -> None:
    """A layer that is applied again gives the same, directories of the layer below included."""
    whole, root = tmp_path / "whole", tmp_path / "root"
    extract(whole, BELOW, ABOVE)
    for _ in range(2):
        with pytest.raises(Cut):
            extract_layers([layer(BELOW), cut(ABOVE, size)], root)
        assert (root / RECORD).exists()
    extract(root, BELOW, ABOVE)
    assert files_in(root) == files_in(whole)
    assert attributes(root) == attributes(whole)
    assert (root / "d/a").samefile(root / "d/c")


def test_complete_layers_are_not_read_again(tmp_path: Path) -> None:
    with pytest.raises(Cut):
        extract_layers([layer(BELOW), cut(ABOVE, 512)], tmp_path)
    extract_layers([cut(BELOW, 0), layer(ABOVE)], tmp_path)
    assert files_in(tmp_path)["d/b"] == b"above"


def test_limits_count_what_was_extracted_before(tmp_path: Path) -> None:
    options = ExtractOptions(limits=ExtractLimits(entries=9))
    with pytest.raises(Cut):
        extract_layers([layer(BELOW), cut(ABOVE, 512)], tmp_path, options)
    with pytest.raises(CorruptBlob, match="more than 9 entries"):
        extract_layers([layer(BELOW), layer(ABOVE)], tmp_path, options)


def test_line_that_a_kill_cut_is_ignored(tmp_path: Path) -> None:
    with pytest.raises(Cut):
        extract_layers([layer(BELOW), cut(ABOVE, 512)], tmp_path)
    with (tmp_path / RECORD).open("ab") as record:
        record.write(b'{"layer": 2, "us')
    extract(tmp_path, BELOW, ABOVE)
    assert files_in(tmp_path)["d/b"] == b"above"


@pytest.mark.parametrize(
    ("tars", "options", "text"),
    [
        ((BELOW, BELOW), {}, "of another image"),
        ((BELOW, ABOVE), {"only": ("d",)}, "with other options"),
        ((BELOW, ABOVE), {"setuid": True}, "with other options"),
    ],
    ids=["image", "only", "setuid"],
)
def test_unfinished_extraction_of_something_else_is_error_and_can_be_cleaned(
    tmp_path: Path, tars: tuple[bytes, bytes], options: dict[str, object], text: str
) -> None:
    with pytest.raises(Cut):
        extract_layers([layer(BELOW), cut(ABOVE, 512)], tmp_path)
    with pytest.raises(ExtractionError, match=f"unfinished extraction {text}") as caught:
        extract(tmp_path, *tars, **options)
    assert "--clean" in caught.value.hint
    (tmp_path / "stray").write_bytes(b"")
    extract(tmp_path, *tars, clean=True, **options)
    assert "stray" not in files_in(tmp_path)
    assert RECORD not in files_in(tmp_path)


def test_directory_with_other_files_is_left_alone(tmp_path: Path) -> None:
    """Even with `clean`: it deletes what an extraction left, nothing else."""
    (tmp_path / "mine").write_bytes(b"data")
    for clean in (False, True):
        with pytest.raises(ExtractionError, match="the directory is not empty"):
            extract(tmp_path, BELOW, clean=clean)
    assert files_in(tmp_path) == {"mine": b"data"}


def test_file_in_place_of_directory_is_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ExtractionError, match="File exists"):
        extract(tmp_path / "file", BELOW)


@pytest.mark.parametrize("text", ["[1]\n", "not JSON\n", "3\n"], ids=range(3))
def test_damaged_record_is_error(tmp_path: Path, text: str) -> None:
    (tmp_path / RECORD).write_text(text)
    with pytest.raises(ExtractionError, match="record of the extraction is damaged"):
        extract(tmp_path, BELOW)


@pytest.mark.parametrize(
    "line", [{"layer": 1}, {"layer": 1, "usage": 3}, {"path": 1}, {}], ids=range(4)
)
def test_damaged_line_of_record_is_error(tmp_path: Path, line: dict[str, object]) -> None:
    with pytest.raises(Cut):
        extract_layers([layer(BELOW), cut(ABOVE, 512)], tmp_path)
    with (tmp_path / RECORD).open("a") as record:
        record.write(json.dumps(line) + "\n")
    with pytest.raises(ExtractionError, match="record of the extraction is damaged"):
        extract(tmp_path, BELOW, ABOVE)


def test_record_with_another_name_is_not_written(tmp_path: Path) -> None:
    """Somebody may have put it there as a link."""
    outside, root = tmp_path / "outside", tmp_path / "root"
    outside.write_bytes(b"data")
    root.mkdir()
    (root / RECORD).hardlink_to(outside)
    with pytest.raises(ExtractionError, match="not a regular file with one name"):
        extract(root, BELOW, clean=True)
    (root / RECORD).unlink()
    (root / RECORD).symlink_to(outside)
    with pytest.raises(ExtractionError, match="symbolic links"):
        extract(root, BELOW, clean=True)
    assert outside.read_bytes() == b"data"


@pytest.mark.skipif(os.geteuid() != 0, reason="chown(2) needs root")
def test_record_of_another_user_is_refused(tmp_path: Path) -> None:
    """With `map_owner`, the directory is the other user's, who can put a record there."""
    (tmp_path / RECORD).touch()
    os.chown(tmp_path / RECORD, 1000, 1000)
    with pytest.raises(ExtractionError, match="belongs to another user"):
        extract(tmp_path, BELOW, clean=True)


def test_second_process_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Cut):
        extract_layers([cut(BELOW, 512)], tmp_path)
    descriptor = os.open(tmp_path / RECORD, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with pytest.raises(ExtractionError, match="another process extracts into the directory"):
        extract(tmp_path, BELOW)
    os.close(descriptor)


def test_record_has_no_more_than_names_and_numbers(tmp_path: Path) -> None:
    """One JSON object a line, so that a script can tell which image it was."""
    with pytest.raises(Cut):
        extract_layers([layer(BELOW), cut(ABOVE, 512)], tmp_path)
    head, *lines = map(json.loads, (tmp_path / RECORD).read_text().splitlines())
    assert head["layers"] == [str(layer(data).descriptor.digest) for data in (BELOW, ABOVE)]
    assert {"layer": 1, "usage": [len(BELOW), 4]} in lines
    assert stat.S_IMODE((tmp_path / RECORD).stat().st_mode) == 0o600


def test_layers_that_will_be_read_are_told(tmp_path: Path) -> None:
    told: list[Blob] = []
    layers = [layer(BELOW), cut(ABOVE, 512)]
    with pytest.raises(Cut):
        extract_layers(layers, tmp_path, on_begin=told.extend)
    assert told == layers
    told.clear()
    extract_layers([layers[0], layer(ABOVE)], tmp_path, on_begin=told.extend)
    assert told == [layer(ABOVE)]
