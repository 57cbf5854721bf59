"""brolga extract, of layers that are hostile or damaged: exit codes, and what stderr says."""

from __future__ import annotations

import re
import tarfile
from typing import TYPE_CHECKING

import pytest
from tests.attacks.bombs import zeros_bomb
from tests.cli_images import push_image
from tests.guard import guarded
from tests.tars import entry, link, symlink, tar

from brolga.images import Image, InMemoryBlob, StoredBlob
from brolga.spec.digest import Digest
from brolga.spec.mediatypes import OCI_LAYER, OCI_LAYER_GZIP
from brolga.stream.layer import StreamLayer

if TYPE_CHECKING:
    from pathlib import Path

    from tests.command import Brolga, Outcome
    from tests.registries import EmbeddedRegistry

PLAIN = tar(entry("a", b"1"))


def extract(
    brolga: Brolga, registry: EmbeddedRegistry, directory: Path, *layers: bytes, flags: str = ""
) -> Outcome:
    """Push an image of some layers, and extract it."""
    name = f"{registry.address}/app:v1"
    push_image(name, Image.empty().append(*map(unchecked, layers)))
    return brolga("extract", name, str(directory), *flags.split())


def unchecked(data: bytes, media_type: str = OCI_LAYER) -> StoredBlob:
    """Return a layer of any bytes. Those of a stream are checked when they are pushed."""
    blob = InMemoryBlob(data, media_type)
    return StoredBlob(blob.descriptor, blob.open, diff_id_of=lambda: Digest.of(data))


# Layers, the exit codes, and what stderr has: 6 if the bytes are wrong, 1 if an entry is.
BAD = {
    "dotdot": (tar(entry("../neighbour", b"owned")), 1, "../neighbour"),
    "hard link to the outside": (tar(link("h", "../neighbour")), 1, "entry 'h'"),
    "bare whiteout": (tar(".wh."), 1, ".wh."),
    "whiteout of the parent": (tar("d/.wh..."), 1, "d/.wh..."),
    "file and directory": (tar("a", "a/b"), 1, "a/b"),
    "circle of links": (tar(symlink("a", "b"), symlink("b", "a"), "a/c"), 1, "a/c"),
    "name without an end": (tar("n" * 5000), 6, "5000"),
    "cut short": (tar(entry("big", bytes(3000)))[:2000], 6, "big"),
    "not a tar": (b"no tar at all" * 100, 6, "tar"),
    "control characters": (tar(entry("../\x1b[31mred")), 1, "red"),
}


@pytest.mark.parametrize("name", BAD)
def test_extract_of_bad_layer_fails_and_names_layer_and_entry(
    name: str, brolga: Brolga, registry: EmbeddedRegistry
) -> None:
    """One line on stderr, nothing on stdout, and nothing changed outside."""
    data, code, text = BAD[name]
    with guarded() as guard:
        outcome = extract(brolga, registry, guard.directory, PLAIN, data)
        assert guard.changes() == {}
    assert (outcome.code, outcome.out) == (code, "")
    assert "\x1b" not in outcome.err
    assert re.search(r"layer 2 of 2, sha256:[0-9a-f]{64}", outcome.err)
    assert text in outcome.err.partition("layer 2 of 2")[2]
    assert "Traceback" not in outcome.err


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        ("--max-size 3000000", "3000000 bytes"),
        ("--max-size 3M", "3145728 bytes"),
        ("--max-entries 3", "3 entries"),
    ],
)
def test_extract_of_too_large_layer_is_6(
    flags: str, text: str, brolga: Brolga, registry: EmbeddedRegistry, tmp_path: Path
) -> None:
    """The limits are for the whole image; the first layer is within them."""
    data = tar(*(entry(f"zeros{number}", bytes(900_000)) for number in range(5)))
    outcome = extract(brolga, registry, tmp_path / "d", PLAIN, data, flags=flags)
    assert (outcome.code, outcome.out) == (6, "")
    assert "layer 2 of 2" in outcome.err
    assert text in outcome.err
    assert "zeros" in outcome.err


def test_extract_of_changed_blob_is_6(brolga: Brolga, tmp_path: Path) -> None:
    """A layout whose blob has a valid tar with another digest."""
    layout = tmp_path / "layout"
    image = Image.empty().append(StreamLayer([PLAIN], "none"))
    push_image(f"oci:{layout}:v1", image)
    blobs = list((layout / "blobs" / "sha256").iterdir())
    (blob,) = [path for path in blobs if path.read_bytes() == PLAIN]
    blob.write_bytes(PLAIN.replace(b"1", b"2", 1))
    outcome = brolga("extract", f"oci:{layout}:v1", str(tmp_path / "d"))
    assert (outcome.code, outcome.out) == (6, "")
    assert blob.name in outcome.err
    blob.write_bytes(PLAIN)
    assert brolga("extract", f"oci:{layout}:v1", str(tmp_path / "d")).code == 0
    assert (tmp_path / "d" / "a").read_bytes() == b"1"


@pytest.mark.parametrize("kept", [0.5, 0.99])
def test_extract_of_cut_blob_is_6(kept: float, brolga: Brolga, tmp_path: Path) -> None:
    """A layout whose blob is shorter than its descriptor says."""
    layout = tmp_path / "layout"
    image = Image.empty().append(StreamLayer([tar(entry("a", bytes(100_000)))], "none"))
    push_image(f"oci:{layout}:v1", image)
    blob = max((layout / "blobs" / "sha256").iterdir(), key=lambda path: path.stat().st_size)
    blob.write_bytes(blob.read_bytes()[: int(blob.stat().st_size * kept)])
    outcome = brolga("extract", f"oci:{layout}:v1", str(tmp_path / "d"))
    assert (outcome.code, outcome.out) == (6, "")


def test_extract_warns_of_devices_and_goes_on(
    brolga: Brolga, registry: EmbeddedRegistry, tmp_path: Path
) -> None:
    """The rest is extracted, and the name is printable."""
    device = entry("n\x1b[2J", type=tarfile.CHRTYPE, devmajor=1, devminor=3)
    outcome = extract(brolga, registry, tmp_path / "d", tar(device, entry("a", b"1")))
    assert outcome.code == 0
    assert "\x1b" not in outcome.err
    assert "device" in outcome.err
    assert [path.name for path in (tmp_path / "d").iterdir()] == ["a"]


def test_extract_of_bomb_is_6_and_writes_little(brolga: Brolga, tmp_path: Path) -> None:
    """10 GiB of zeros with --max-size."""
    image = Image.empty().append(unchecked(zeros_bomb(10 << 30), OCI_LAYER_GZIP))
    push_image(f"oci:{tmp_path / 'layout'}:v1", image)
    target = tmp_path / "d"
    outcome = brolga("extract", f"oci:{tmp_path / 'layout'}:v1", str(target), "--max-size", "2M")
    assert (outcome.code, outcome.out) == (6, "")
    assert "zeros" in outcome.err
    assert (target / "zeros").stat().st_size <= 8 << 20
