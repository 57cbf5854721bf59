"""limits.py and options.py: what an image may take."""

from __future__ import annotations

import gzip
import threading
from typing import TYPE_CHECKING

import pytest
from tests.extracted import extract, files_in
from tests.tars import entry, layer, tar

from brolga.errors import CorruptBlob, DigestMismatch, LayerError
from brolga.extract import ExtractLimits, ExtractOptions, extract_layers
from brolga.images import StoredBlob
from brolga.spec.value import replace

if TYPE_CHECKING:
    from pathlib import Path

    from brolga.spec.blob import Blob, BlobStream

LAYERS = tar(entry("a", bytes(5000))), tar(entry("d/b", bytes(5000)))


@pytest.mark.parametrize(
    ("limits", "text"),
    [
        (ExtractLimits(size=15_000), "layer 2 of 2, .*more than 15000 bytes uncompressed"),
        (ExtractLimits(entries=1), "layer 2 of 2, .*entry 'd/b': more than 1 entries"),
        (ExtractLimits(path=2), "layer 2 of 2, .*entry 'd/b': a path of 3 bytes, more than the"),
        (ExtractLimits(ratio=20, grace=100), "layer 1 of 2, .*more than 20 for each"),
    ],
    ids=["size", "entries", "path", "ratio"],
)
def test_layers_over_limit_are_error(tmp_path: Path, limits: ExtractLimits, text: str) -> None:
    with pytest.raises(CorruptBlob, match=text):
        extract(tmp_path, *map(gzip.compress, LAYERS), limits=limits)


@pytest.mark.parametrize(
    "limits",
    [ExtractLimits(size=None, ratio=None, entries=None), ExtractLimits(size=20_480, entries=2)],
    ids=["unlimited", "equal"],
)
def test_layers_within_limits_are_extracted(tmp_path: Path, limits: ExtractLimits) -> None:
    extract(tmp_path, *map(gzip.compress, LAYERS), limits=limits)
    assert files_in(tmp_path).keys() == {"a", "d", "d/b"}


@pytest.mark.parametrize("path", ["../a", "a/../b"])
def test_selection_that_leads_upwards_is_error(path: str) -> None:
    with pytest.raises(LayerError, match="leads upwards"):
        ExtractOptions(only=(path,))


def blob(data: bytes, *, as_if: bytes, size: int | None = None) -> Blob:
    """Return a blob whose descriptor is another's."""
    descriptor = layer(as_if).descriptor
    descriptor = replace(descriptor, size=len(data) if size is None else size)
    return StoredBlob(descriptor, layer(data).open)


def test_layer_with_wrong_digest_is_error_and_directory_is_not_complete(tmp_path: Path) -> None:
    """The bytes are used before the end, at which the digest is known."""
    with pytest.raises(DigestMismatch, match=r"^layer 1 of 1, sha256:") as caught:
        extract_layers([blob(LAYERS[0], as_if=LAYERS[1])], tmp_path)
    assert any("is not complete" in note for note in caught.value.__notes__)
    assert (tmp_path / ".brolga-extract").exists()


def test_layer_with_wrong_size_is_error(tmp_path: Path) -> None:
    with pytest.raises(CorruptBlob, match="10240 bytes, but its descriptor says 10239"):
        extract_layers([blob(LAYERS[0], as_if=LAYERS[0], size=10239)], tmp_path)


class UserBlob:
    """A blob of the user's code, which runs in the thread that calls."""

    descriptor = layer(LAYERS[0]).descriptor

    def open(self) -> BlobStream:
        self.thread = threading.current_thread()
        return layer(LAYERS[0]).open()


def test_layer_of_user_is_read_in_thread_that_calls(tmp_path: Path) -> None:
    blob = UserBlob()
    extract_layers([blob], tmp_path)
    assert blob.thread is threading.current_thread()
    assert files_in(tmp_path).keys() == {"a"}


def test_encrypted_layer_is_error(tmp_path: Path) -> None:
    media_type = "application/vnd.oci.image.layer.v1.tar+encrypted"
    with pytest.raises(LayerError, match="it is encrypted"):
        extract_layers([layer(b"", media_type)], tmp_path)
