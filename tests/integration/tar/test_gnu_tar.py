"""tar: the output of GNU tar in each of its formats."""

from __future__ import annotations

import hashlib
import io
import shutil
import subprocess
import tarfile
from typing import TYPE_CHECKING

import pytest
from tests.tars import merged
from tests.unit.tar.sources import watched

from brolga.errors import CorruptBlob

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(shutil.which("tar") is None, reason="tar is not on PATH")


@pytest.mark.parametrize(
    "flags",
    [
        "--format=v7",
        "--format=ustar",
        "--format=oldgnu",
        "--format=gnu --sparse",
        "--format=pax",
        *(f"--format=pax --sparse --sparse-version={version}" for version in ("0.0", "0.1", "1.0")),
    ],
)
def test_output_of_gnu_tar_is_complete_and_its_prefixes_are_not(flags: str, tmp_path: Path) -> None:
    """GNU tar in each of its formats, with a sparse file whose map needs more blocks."""
    tree = tmp_path / "tree"
    (tree / "b").mkdir(parents=True)
    (tree / "b" / "text").write_text("text" * 1000)
    (tree / "link").symlink_to("b/text")
    (tree / "hard").hardlink_to(tree / "b" / "text")
    with (tree / "sparse").open("wb") as file:
        for number in range(40):
            file.seek(number << 17)
            file.write(b"data")
    command = ["tar", "-C", str(tree), *flags.split(), "-cf", "-", "."]
    done = subprocess.run(command, capture_output=True, check=True)
    assert watched(done.stdout) == done.stdout
    end = len(done.stdout.rstrip(b"\0"))
    for length in (512, end // 2, end - end % 512):
        with pytest.raises(CorruptBlob, match="the source is a tar cut short"):
            watched(done.stdout[:length])


@pytest.mark.parametrize(
    "form", ["gnu", "pax --sparse-version=0.0", "pax --sparse-version=0.1", "pax"]
)
@pytest.mark.parametrize("parts", [2, 60])
def test_sparse_files_stay_sparse(form: str, parts: int, tmp_path: Path) -> None:
    """A hole takes no bytes, and the content is the same."""
    with (tmp_path / "sparse").open("wb") as file:
        for part in range(parts):
            file.seek(part << 20)
            file.write(b"part %d" % part + bytes(4090))
        file.truncate(parts << 24 if parts == 2 else parts << 20)
    command = ["tar", "-C", str(tmp_path), "-cS", *f"--format={form}".split(), "sparse"]
    data = subprocess.run(command, check=True, capture_output=True).stdout
    out = merged(data)
    assert len(out) < 1 << 20
    unpacked = tmp_path / "out"
    unpacked.mkdir()
    subprocess.run(["tar", "-C", unpacked, "-x"], input=out, check=True)
    assert _sum(unpacked / "sparse") == _sum(tmp_path / "sparse")
    with tarfile.open(fileobj=io.BytesIO(out)) as archive:
        (member,) = archive
        assert (member.name, member.size) == ("sparse", (tmp_path / "sparse").stat().st_size)


def _sum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
