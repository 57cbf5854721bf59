"""Layers that are cut short, changed, too large, or too many: errors that name entry and layer."""

from __future__ import annotations

import gzip
import zlib
from typing import TYPE_CHECKING

import pytest
from tests.attacks.bombs import zeros_bomb
from tests.attacks.sparse import sparse_file
from tests.guard import guarded
from tests.tars import entry, layer, symlink, tar

from brolga.errors import BrolgaError, CorruptBlob, DigestMismatch
from brolga.extract import ExtractLimits, ExtractOptions, extract_layers
from brolga.images import InMemoryBlob
from brolga.images.blobs import BlockStream, StoredBlob
from brolga.spec.descriptor import Descriptor
from brolga.spec.digest import Digest
from brolga.spec.mediatypes import OCI_LAYER, OCI_LAYER_GZIP, OCI_LAYER_ZSTD
from brolga.stream.compression import ZSTD_MODULES, import_first

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from brolga.spec.blob import Block

LOWER = tar("lower")
DATA = tar("d/", entry("d/file", bytes(range(256)) * 64), symlink("l", "d"))


def zstd(data: bytes) -> bytes:
    packed: bytes = import_first(*ZSTD_MODULES).compress(data)
    return packed


COMPRESS = {"gzip": gzip.compress, "zstd": zstd}
PACKED = {"gzip": gzip.compress(DATA, mtime=0), "zstd": zstd(DATA), "none": DATA}
TYPES = {"gzip": OCI_LAYER_GZIP, "zstd": OCI_LAYER_ZSTD, "none": OCI_LAYER}


def extract(directory: Path, upper: bytes, media_type: str = OCI_LAYER) -> None:
    """Extract a layer over another one."""
    extract_layers([layer(LOWER), layer(upper, media_type)], directory)


@pytest.mark.parametrize("kept", [1, 9, 100, -9, -1])
@pytest.mark.parametrize("name", ["gzip", "zstd"])
def test_layer_that_is_cut_short_is_error(name: str, kept: int, tmp_path: Path) -> None:
    """Even if the tar in it is complete."""
    with pytest.raises(CorruptBlob, match=r"layer 2 of 2, sha256:"):
        extract(tmp_path / "d", PACKED[name][:kept], TYPES[name])


@pytest.mark.parametrize("kept", [100, 512 + 100, 1024, 1024 + 512 + 5])
def test_tar_that_is_cut_short_is_error(kept: int, tmp_path: Path) -> None:
    """In a header, or in the data of an entry."""
    with pytest.raises(CorruptBlob, match=r"layer 2 of 2, sha256:"):
        extract(tmp_path / "d", DATA[: kept if kept % 512 else kept + 1])


@pytest.mark.parametrize("name", ["gzip", "zstd", "none"])
def test_layer_with_other_bytes_behind_it_is_error(name: str, tmp_path: Path) -> None:
    """They are not skipped: another reader might take them for a second layer."""
    with pytest.raises(CorruptBlob, match=r"layer 2 of 2, sha256:"):
        data = DATA.rstrip(b"\0") + bytes(512) if name == "none" else PACKED[name]
        extract(tmp_path / "d", data + b"other bytes" * 100, TYPES[name])


@pytest.mark.parametrize("name", ["gzip", "zstd", "none"])
def test_changed_byte_is_error(name: str, tmp_path: Path) -> None:
    """In the middle of a stored blob: its digest is not what it was."""
    data = bytearray(PACKED[name])
    data[len(data) // 2] ^= 1
    blob = stored(bytes(data), len(data), Digest.of(PACKED[name]), TYPES[name])
    with pytest.raises((CorruptBlob, DigestMismatch), match=r"layer 1 of 1|sha256:"):
        extract_layers([blob], tmp_path / "d")
    with pytest.raises(BrolgaError):  # nor does another run take it for complete
        extract_layers([blob], tmp_path / "d")


def stored(data: bytes, size: int, digest: Digest, media_type: str = OCI_LAYER) -> StoredBlob:
    """Return a blob of a store that does not verify."""

    def blocks() -> Generator[Block, None, None]:
        for start in range(0, len(data), 1000):
            yield data[start : start + 1000]

    descriptor = Descriptor(media_type, digest, size)
    return StoredBlob(descriptor, lambda: BlockStream(blocks()))


@pytest.mark.parametrize(
    ("size", "digest"),
    [
        pytest.param(len(DATA), Digest.of(b"other"), id="digest"),
        pytest.param(len(DATA) - 1, Digest.of(DATA), id="smaller"),
        pytest.param(len(DATA) + 1, Digest.of(DATA), id="larger"),
    ],
)
def test_layer_that_is_not_its_descriptor_is_error(
    size: int, digest: Digest, tmp_path: Path
) -> None:
    """The tar is valid, and the store does not verify."""
    with pytest.raises((DigestMismatch, CorruptBlob), match=r"layer 1 of 1|sha256:"):
        extract_layers([stored(DATA, size, digest)], tmp_path / "d")


class CountedBlob(InMemoryBlob):
    """A blob that counts the bytes that are read of it."""

    def open(self) -> BlockStream:
        def blocks() -> Generator[Block, None, None]:
            for start in range(0, len(self.data), 1 << 14):
                READ.append(min(1 << 14, len(self.data) - start))
                yield self.data[start : start + (1 << 14)]

        return BlockStream(blocks())


READ: list[int] = []


@pytest.mark.parametrize(
    ("limits", "text"),
    [
        (ExtractLimits(size=1 << 20), "more than 1048576 bytes"),
        (ExtractLimits(ratio=100, grace=1 << 20), "more than 100 for each"),
    ],
    ids=["size", "ratio"],
)
@pytest.mark.parametrize("name", ["gzip", "zstd"])
def test_bomb_of_zeros_is_stopped_at_limit(
    name: str, limits: ExtractLimits, text: str, tmp_path: Path
) -> None:
    """10 GiB of zeros in 10 MiB, or in 1 MiB: little of it is read and written."""
    READ.clear()
    blob = CountedBlob(zeros_bomb(10 << 30, COMPRESS[name]), TYPES[name])
    with pytest.raises(CorruptBlob, match=rf"layer 1 of 1.*zeros.*{text}"):
        extract_layers([blob], tmp_path / "d", ExtractOptions(limits=limits))
    written = sum(path.lstat().st_size for path in (tmp_path / "d").rglob("*"))
    assert written <= 8 << 20
    assert sum(READ) <= 4 << 20


def test_limit_of_size_counts_all_layers(tmp_path: Path) -> None:
    """Two layers of 600 KiB are more than 1 MiB."""
    layers = [layer(tar(entry(name, bytes(600 << 10)))) for name in ("a", "b")]
    options = ExtractOptions(limits=ExtractLimits(size=1 << 20))
    with pytest.raises(CorruptBlob, match=r"layer 2 of 2.*more than 1048576 bytes"):
        extract_layers(layers, tmp_path / "d", options)


def test_limit_of_size_counts_holes(tmp_path: Path) -> None:
    """A sparse file of 1 EiB has no data at all."""
    data = sparse_file("holes", 1 << 60, [(1 << 60, b"")])
    with pytest.raises(CorruptBlob, match=r"layer 1 of 1.*holes"):
        extract_layers([layer(data)], tmp_path / "d")


def test_limit_of_entries_counts_all_layers(tmp_path: Path) -> None:
    """Whiteouts and repeated names are entries as well."""
    layers = [layer(tar(*["a"] * 60)), layer(tar(*[".wh.a"] * 60))]
    options = ExtractOptions(limits=ExtractLimits(entries=100))
    with pytest.raises(CorruptBlob, match=r"layer 2 of 2.*more than 100 entries"):
        extract_layers(layers, tmp_path / "d", options)


@pytest.mark.parametrize(
    "make",
    [
        lambda name: tar(entry(name)),
        lambda name: tar(entry(f"{name}/")),
        lambda name: tar(symlink("l", name)),
        lambda name: tar(symlink("l", name), entry("l/x")),
    ],
    ids=["file", "directory", "target", "through a link"],
)
@pytest.mark.parametrize(
    "name",
    ["n" * 256, "d/" * 2047 + "nn", "d/" * 2048, "n" * 5000],
    ids=["name", "4096", "depth", "length"],
)
def test_too_long_name_is_error_of_layer(make: Callable[[str], bytes], name: str) -> None:
    """A name of more than 255 bytes, a path of 4096 and more: no traceback, and nothing else."""
    try:
        with guarded() as guard:
            extract_layers([layer(make(name))], guard.directory)
    except BrolgaError as error:
        text = str(error)
    else:
        text = "layer 1 of 1: bytes" if len(name) <= 4096 else ""
    assert "layer 1 of 1" in text
    assert any(part in text for part in ("nnn", "d/d", "bytes", "entry 'l"))


def test_tree_of_depth_2000_is_removed_by_whiteout() -> None:
    """Neither Python's stack nor the number of open files bounds it."""
    path = "d/" * 2000
    layers = [tar(path, f"{path}f"), tar("x", ".wh.d")]
    with guarded() as guard:
        extract_layers([layer(data) for data in layers], guard.directory)
        assert [path.name for path in guard.directory.iterdir()] == ["x"]


def test_encrypted_layer_is_error(tmp_path: Path) -> None:
    """It cannot be read."""
    media_type = "application/vnd.oci.image.layer.v1.tar+gzip+encrypted"
    with pytest.raises(BrolgaError, match="encrypted"):
        extract(tmp_path / "d", PACKED["gzip"], media_type)


def test_checksum_of_gzip_is_checked(tmp_path: Path) -> None:
    """The CRC of the last member is wrong, the tar in it is complete."""
    data = bytearray(PACKED["gzip"])
    data[-8:-4] = (zlib.crc32(DATA) ^ 1).to_bytes(4, "little")
    with pytest.raises(CorruptBlob, match="layer 2 of 2"):
        extract(tmp_path / "d", bytes(data), OCI_LAYER_GZIP)
