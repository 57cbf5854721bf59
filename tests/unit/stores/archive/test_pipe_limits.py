"""stream_archive: limits of memory, the spool, and slow pipes."""

from __future__ import annotations

import errno
import gzip
import json
import os
from typing import TYPE_CHECKING, Any

import pytest
from tests.tars import entry, symlink, tar
from tests.unit.stores.archive.archives import (
    LAYERS,
    MANIFEST,
    Store,
    blob,
    described,
    docker_new,
    docker_old,
    layers_of,
    oci,
    oci_end,
    oci_manifest,
    sha,
    stream,
    stream_archive,
)

from brolga.errors import CorruptBlob, InvalidManifest, SpoolError, SpoolRequired
from brolga.stores.archive.contents import ArchiveLimits
from brolga.stores.push import push

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.stores.archive.archives import Member


def artifact(*parts: bytes) -> list[Member]:
    """Return an artifact of JSON blobs, which come before their manifest."""
    manifest = oci_manifest(b"{}", list(parts), "application/json")
    return [*map(blob, [b"{}", *parts, manifest]), *oci_end(described(MANIFEST, manifest))]


def test_documents_are_limited_by_number_and_bytes() -> None:
    """Many JSON files that no digest names are not an archive of images."""
    many = [entry(f"{number}.json", b"{}") for number in range(12)]
    with pytest.raises(InvalidManifest, match="more than 10 documents"):
        stream(Store(), *many, limits=ArchiveLimits(documents=10))
    large = [entry(name, b"{" * 3000) for name in "ab"]
    with pytest.raises(InvalidManifest, match="5000 bytes of them"):
        stream(Store(), *large, limits=ArchiveLimits(unnamed_json=5000))


def test_json_beyond_the_limit_is_pushed_as_blob() -> None:
    """JSON that a digest names may be a layer."""
    statement = json.dumps({"a": "b" * 2000}).encode()
    store = Store()
    stream(store, *artifact(statement), limits=ArchiveLimits(other_json=1000))
    assert statement in store.blobs.values()


def test_json_blobs_do_not_displace_documents() -> None:
    """An artifact may have any amount of JSON before its manifest."""
    limits = ArchiveLimits(manifests=20_000, other_json=3000)
    parts = [
        json.dumps({"n": number, "a": "b" * size}).encode()
        for number, size in enumerate([2000] * 5 + [100] * 50)
    ]
    for form in ("", "oci"):
        store = Store()
        stream(store, *artifact(*parts), form=form, limits=limits)
        assert set(parts) <= set(store.blobs.values())
        assert "tag" in store.documents


def test_document_beyond_the_limit_needs_spool(tmp_path: Path) -> None:
    """JSON that looks like manifests may fill the memory for them; the error names --spool."""
    limits = ArchiveLimits(manifests=1500)
    parts = [json.dumps({"schemaVersion": number, "a": "b" * 700}).encode() for number in range(9)]
    store = Store()
    with pytest.raises(SpoolRequired, match=r"is a document of the image.*was full.*--spool"):
        stream(store, *artifact(*parts), limits=limits)
    assert not store.documents
    stream(store, *artifact(*parts), spool=tmp_path, limits=limits)
    assert set(parts) <= set(store.blobs.values())
    assert "tag" in store.documents


def test_spooled_config_is_read() -> None:
    """With a spool, a docker archive finds its config there."""
    limits = ArchiveLimits(manifests=600)
    extra = blob(json.dumps({"rootfs": "b" * 400}).encode())
    with pytest.raises(SpoolRequired, match="--spool"):
        stream(Store(), extra, *docker_new(), form="docker", limits=limits)
    store = Store()
    stream(store, extra, *docker_new(), form="docker", spool=True, limits=limits)
    assert layers_of(store) == LAYERS


def test_files_are_limited() -> None:
    """A tar of many empty files is refused."""
    files = [entry(f"{number}", b"") for number in range(11)]
    with pytest.raises(CorruptBlob, match="more than 10 files"):
        stream(Store(), *files, limits=ArchiveLimits(files=10))


def test_names_are_limited() -> None:
    """A name may have 1 MiB, so the total of names and link targets is limited."""
    limits = ArchiveLimits(name_length=1000)
    for members in ([entry("a" * 400), entry("b" * 601)], [symlink("a", "b" * 999), entry("c")]):
        with pytest.raises(CorruptBlob, match="more than 1000 characters of names"):
            stream(Store(), *members, limits=limits)
    with pytest.raises(InvalidManifest, match="not an archive of images"):
        stream(Store(), *map(entry, "abc"), limits=limits)


class Slow:
    """A source that returns a block at every third call, and None at the others."""

    def __init__(self, data: bytes, size: int) -> None:
        self.pieces = [data[start : start + size] for start in range(0, len(data), size)]
        self.waits: list[float] = []
        self.closed = 0

    def open_blocks(self, block_size: int) -> Slow:
        assert block_size >= len(self.pieces[0])
        return self

    def next_block(self, timeout_s: float) -> memoryview | None:
        self.waits.append(timeout_s)
        if len(self.waits) % 3:
            return None
        return memoryview(self.pieces.pop(0) if self.pieces else b"")

    def close(self) -> None:
        self.closed += 1


@pytest.mark.parametrize("size", [100, 513, 10**6])
def test_slow_pipe_is_waited_for(size: int) -> None:
    """An empty block means that nothing came yet."""
    source = Slow(tar(*docker_old(), entry("pad", bytes(3000))), size)
    store = Store()
    tree = stream_archive(source, store)
    push(store, tree, "tag")
    assert layers_of(store) == LAYERS
    assert source.closed
    assert 1.0 in source.waits


def test_layer_polls_a_slow_pipe_while_it_compresses() -> None:
    """A pass asks without waiting while blocks are being compressed."""
    empty: list[bool] = []

    class Recording(Store):
        def push(self, blob: Any) -> Any:
            with blob.open() as opened:
                empty.extend(not block for block in opened.blocks())
            return blob.descriptor

    layer = tar(entry("a", bytes(3 << 20)))
    packed = gzip.compress(layer, mtime=0)
    for name, data in (("x/layer.tar", layer), (f"{sha(packed)}.tar.gz", b"")):
        empty.clear()
        content = data or packed
        source = Slow(tar(entry(name, content)), 1000 if not data else 1 << 20)
        with pytest.raises(InvalidManifest):
            stream_archive(source, Recording())
        assert True in empty
        assert False in empty


def test_uncompressed_oci_layers_need_spool_or_form(tmp_path: Path) -> None:
    """The error explains the order of files and names --spool."""
    store = Store()
    with pytest.raises(
        SpoolRequired, match=r"came before oci-layout and index\.json.*oci-archive:.*--spool"
    ):
        stream(store, *oci())
    assert not store.documents
    for spool in (True, tmp_path, str(tmp_path)):
        store = Store()
        image = stream(store, *oci(), spool=spool)
        assert layers_of(store) == LAYERS
        assert str(image.digest) == json.loads(oci()[-2][1])["manifests"][0]["digest"]
    assert list(tmp_path.iterdir()) == []


def test_spooled_docker_layers_are_compressed() -> None:
    """With a spool the decision waits for manifest.json."""
    store = Store()
    stream(store, *docker_new(), spool=True)
    assert layers_of(store) == LAYERS
    assert not set(LAYERS) & set(store.blobs.values())


def _unread() -> Any:
    yield pytest.fail("it was read")


def test_missing_spool_directory_raises_before_reading(tmp_path: Path) -> None:
    """The error is a SpoolError."""
    with pytest.raises(SpoolError, match="missing cannot be made"):
        stream_archive(_unread(), Store(), spool=tmp_path / "missing")


def test_full_spool_names_its_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user can choose another directory."""

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", full)
        with pytest.raises(SpoolError, match=f"{tmp_path}.*choose another directory"):
            stream_archive([tar(*docker_new())], Store(), spool=tmp_path)


def test_unknown_options_raise_before_reading() -> None:
    """An unknown compression or form is a ValueError, as for a StreamLayer."""
    with pytest.raises(ValueError, match="lzma"):
        stream_archive(_unread(), Store(), compression="lzma")
    with pytest.raises(ValueError, match="tarball"):
        stream_archive(_unread(), Store(), form="tarball")
