"""content.py: regular and sparse files (GNU tar manual, Sparse Formats)."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from tests.extracted import extract, files_in
from tests.tars import entry, tar

from brolga.errors import CorruptBlob
from brolga.extract import ExtractLimits

if TYPE_CHECKING:
    from pathlib import Path

DATA = bytes(range(256)) * 4


def sparse(data: bytes, **records: str) -> bytes:
    """Return a tar of a sparse file, with records of pax."""
    named = {f"GNU.sparse.{key}": text for key, text in records.items()}
    return tar(entry("f", data, pax_headers=named))


def sparse_1(text: bytes, size: str = "4096", data: bytes = b"") -> bytes:
    """Return a tar of a sparse file of version 1.0, whose map is in its data."""
    map_ = text + bytes(-len(text) % 512)
    return sparse(map_ + data, major="1", minor="0", name="f", realsize=size)


WHOLE = bytes(1024) + DATA[:512] + bytes(1024) + DATA[512:1000] + bytes(1048)


@pytest.mark.parametrize(
    "layer",
    [
        sparse(DATA[:1000], size="4096", map="1024,512,2560,488,4096,0"),
        sparse(DATA[:1000], major="0", minor="1", size="4096", map="1024,512,2560,488"),
        sparse_1(b"3\n1024\n512\n2560\n488\n4096\n0\n", data=DATA[:1000]),
    ],
    ids=["0.1 without version", "0.1", "1.0"],
)
def test_sparse_file_has_its_holes(tmp_path: Path, layer: bytes) -> None:
    extract(tmp_path, layer)
    assert files_in(tmp_path) == {"f": WHOLE}


@pytest.mark.parametrize("form", ["gnu", "0.0", "0.1", "1.0"])
def test_sparse_file_of_gnu_tar(tmp_path: Path, form: str) -> None:
    """A file of many parts, so that GNU's header goes on in further blocks."""
    if not shutil.which("tar"):
        pytest.skip("GNU tar is not there")
    source = tmp_path / "f"
    with source.open("wb") as file:
        for part in range(40):
            file.seek(part << 17)
            file.write(bytes([part + 1]) * 5000)
        file.truncate(6 << 20)
    flags = ["--format=gnu"] if form == "gnu" else [f"--sparse-version={form}", "--format=pax"]
    command = ["tar", "-S", *flags, "-C", str(tmp_path), "-cf", str(tmp_path / "t"), "f"]
    subprocess.run(command, check=True)
    extract(tmp_path / "root", (tmp_path / "t").read_bytes())
    assert (tmp_path / "root/f").read_bytes() == source.read_bytes()
    assert (tmp_path / "root/f").stat().st_blocks <= source.stat().st_blocks


def test_sparse_file_of_version_0_0_repeats_records(tmp_path: Path) -> None:
    lines = ("GNU.sparse.size=4", "GNU.sparse.numblocks=1", "GNU.sparse.offset=2")
    records = b"".join(_record(text) for text in (*lines, "GNU.sparse.numbytes=2"))
    header = entry("x", records, type=b"x")
    layer = tar(header, entry("f", b"ab"), form=0)
    extract(tmp_path, layer)
    assert files_in(tmp_path) == {"f": b"\0\0ab"}


def _record(text: str) -> bytes:
    length = len(text) + 4
    return f"{length} {text}\n".encode()


def test_hole_larger_than_disk_takes_no_space_and_counts(tmp_path: Path) -> None:
    layer = sparse_1(b"0\n", size=str(1 << 36))
    extract(tmp_path / "root", layer, limits=ExtractLimits(ratio=None))
    status = (tmp_path / "root/f").stat()
    assert (status.st_size, status.st_blocks < 64) == (1 << 36, True)
    with pytest.raises(CorruptBlob, match=r"entry 'f': more than 1073741824 bytes uncompressed"):
        extract(tmp_path / "limited", layer, limits=ExtractLimits(size=1 << 30))
    with pytest.raises(CorruptBlob, match=r"entry 'f': .*more than 200 for each"):
        extract(tmp_path / "default", layer)


@pytest.mark.parametrize(
    ("layer", "text"),
    [
        (sparse(b"ab", map="0,1,0,1", size="4"), "overlap"),
        (sparse(b"ab", map="0,1,1,1", size="4"), "odd size"),
        (sparse(b"ab", map="3,2", size="4"), "beyond its end"),
        (sparse(b"ab", map="0,3", size="4"), "more or less data"),
        (sparse(b"ab", map="0,1", size="4"), "more or less data"),
        (sparse(b"ab", map="0", size="4"), "without a size"),
        (sparse(b"ab", map="0,x", size="4"), "not of numbers"),
        (sparse(b"ab", map="0,2"), "not of numbers"),
        (sparse(b"", map="0,0", size=str(2**63)), "beyond its end"),
        (sparse_1(b"1\n0\n"), "cut short"),
        (sparse_1(b"x\n"), "not of numbers"),
        (sparse_1(b"-1\n"), "not of numbers"),
        (sparse_1(b""), "cut short"),
        (sparse_1(b"9" * 600), "cut short"),
        (sparse_1(b"2\n0\n1\n", data=b"a"), "cut short"),
    ],
    ids=range(15),
)
def test_sparse_file_with_map_that_is_not_valid_is_error(
    tmp_path: Path, layer: bytes, text: str
) -> None:
    with pytest.raises(CorruptBlob, match=rf"entry 'f': .*{text}"):
        extract(tmp_path, layer)


def test_map_has_maximum_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("brolga.extract.content._MAX_MAP", 1024)
    with pytest.raises(CorruptBlob, match="cut short, or too long"):
        extract(tmp_path, sparse_1(b"1000\n" + b"0\n" * 2000, data=b""))


def test_short_writes_are_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr("os.write", lambda descriptor, data: write(descriptor, data[:100]))
    extract(tmp_path, tar(entry("a", DATA)))
    assert (tmp_path / "a").read_bytes() == DATA
