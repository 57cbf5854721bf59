"""What a source, a layer and a blob have in common when they are pushed again."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING

import pytest

from brolga._version import __version__
from brolga.images import InMemoryBlob, StreamBlob
from brolga.images.described import TitledBlob
from brolga.spec.blob import UNKNOWN_SOURCE, source_identity
from brolga.spec.digest import Digest
from brolga.stores.archive.entries import CheckedLayer
from brolga.stream import sources
from brolga.stream.command import Command
from brolga.stream.layer import StreamLayer
from brolga.stream.sources import identify_source

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Provide a file."""
    path = tmp_path / "data"
    path.write_bytes(b"data")
    return path


def test_identity_of_a_file_changes_with_the_file(path: Path) -> None:
    """Its size, its time and its inode; open or not, but for the position."""
    seen = [identify_source(path)]
    with path.open("rb") as file:
        assert identify_source(file) == identify_source(str(path)) == seen[0]
        file.read(1)
        seen.append(identify_source(file))
    os.utime(path, ns=(1, 1))
    seen.append(identify_source(path))
    path.write_bytes(b"other data")
    os.utime(path, ns=(1, 1))
    seen.append(identify_source(path))
    path.rename(path.with_name("old"))
    path.write_bytes(b"other data")
    os.utime(path, ns=(1, 1))
    seen.append(identify_source(path))
    assert len(set(seen)) == len(seen)


def test_identity_of_a_file_that_vanishes_is_that_of_its_path(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opening it reports the error."""
    missing = identify_source(path.with_name("missing"))
    assert missing == f"path {path.with_name('missing')}"
    real = sources._regular_file

    def delete_after(source: sources.Source) -> object:
        found = real(source)
        path.unlink()
        return found

    monkeypatch.setattr(sources, "_regular_file", delete_after)
    assert identify_source(path) == f"path {path}"


def test_identity_of_a_command_is_of_its_arguments_and_hides_them() -> None:
    """They may hold secrets."""
    identity = identify_source(Command(["curl", "--user", "me:secret"]))
    assert identity == identify_source(Command(("curl", "--user", "me:secret")))
    assert identity != identify_source(Command(["curl", "--user me:secret"]))
    assert "secret" not in identity


@pytest.mark.parametrize("source", [io.BytesIO(b"data"), [b"data"]], ids=["object", "iterable"])
def test_identity_of_other_sources_is_the_same(source: io.BytesIO | list[bytes]) -> None:
    """Nothing is known of them but their bytes."""
    assert identify_source(source) == UNKNOWN_SOURCE


def test_identity_of_a_layer_has_what_makes_its_bytes(path: Path) -> None:
    """Another compression or level, or version of brolga, makes others."""
    layer = StreamLayer(path)
    assert layer.source_identity == f"{identify_source(path)} gzip 1 sha256 brolga {__version__}"
    others = [
        StreamLayer(path, "gzip", 2),
        StreamLayer(path, "zstd", 1),
        StreamLayer(path, digest_algorithm="sha512"),
    ]
    assert len({layer.source_identity, *(other.source_identity for other in others)}) == 4
    assert source_identity(StreamBlob(layer)) == layer.source_identity
    assert source_identity(TitledBlob(layer, "data")) == layer.source_identity


def test_identity_of_a_checked_layer_is_its_diff_id_if_that_is_known(path: Path) -> None:
    """Whatever the archive is called."""
    layer = CheckedLayer(path)
    assert layer.source_identity == StreamLayer(path).source_identity
    layer.expected = Digest.of(b"data")
    assert layer.source_identity.startswith(f"tar {layer.expected} gzip 1 ")


def test_identity_of_a_known_blob_is_its_digest() -> None:
    """Wherever it is read from."""
    blob = InMemoryBlob(b"data", "text/plain")
    assert source_identity(blob) == str(Digest.of(b"data"))
