"""file.py: an archive in a file is read where it is, as often as it is wanted."""

from __future__ import annotations

import gzip
import json
import os
import tarfile
from typing import TYPE_CHECKING

import pytest
from tests.tars import entry, symlink, tar
from tests.unit.stores.archive.archives import (
    LAYERS,
    Store,
    blob,
    config,
    crane,
    docker_new,
    docker_old,
    manifest_json,
    oci,
    sha,
    skopeo,
)

from brolga.errors import (
    CorruptBlob,
    DigestMismatch,
    ImageNotFound,
    InvalidManifest,
    NotComputed,
    SourceError,
)
from brolga.images import Image, StoredBlob
from brolga.spec.blob import Prefix
from brolga.spec.descriptor import Descriptor
from brolga.spec.digest import Digest, hasher
from brolga.spec.index import Index
from brolga.spec.manifest import Manifest
from brolga.stores.archive import Archive
from brolga.stores.push import push
from brolga.stores.store import read_tree
from brolga.stream.layer import LayerStream

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.stores.archive.archives import Member

FORMS = {"old": docker_old, "new": docker_new, "skopeo": skopeo, "crane": crane}


def written(path: Path, *members: Member) -> Path:
    file = path / "archive.tar"
    file.write_bytes(tar(*members))
    return file


def image_of(archive: Archive, name: str = "") -> Image:
    tree = archive.tree(name)
    assert isinstance(tree, Image)
    return tree


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("compression", ["gzip", "none", "zstd"])
def test_archive_reads_each_docker_form(name: str, compression: str, tmp_path: Path) -> None:
    """Config bytes exact, layers compressed on the way, or as they are."""
    store = Store()
    with Archive(written(tmp_path, *FORMS[name]()), compression=compression) as archive:
        assert archive.mount_source is None
        assert archive.tags() == ("app:v1",)
        image = image_of(archive)
        push(store, image, "tag", jobs=2)
        assert image.config_blob.open().read() == config()
        diff_ids = [layer.diff_id for layer in image.layers]  # type: ignore[attr-defined]
    assert diff_ids == [Digest.of(layer) for layer in LAYERS]
    manifest = store.documents["tag"]
    assert isinstance(manifest, Manifest)
    assert [one.digest for one in manifest.layers] == [
        layer.descriptor.digest for layer in image.layers
    ]
    suffix = "gzip" if name == "crane" else {"none": "tar"}.get(compression, compression)
    assert {one.media_type.rpartition(".")[2].rpartition("+")[2] for one in manifest.layers} == {
        suffix
    }
    if compression == "none" and name != "crane":
        assert set(LAYERS) <= set(store.blobs.values())


def test_archive_pushes_repeated_layer_once(tmp_path: Path) -> None:
    """By a link, or by its name: it is one file of the archive."""
    layers = (LAYERS[0], LAYERS[1], LAYERS[0])
    for members in (docker_old(layers), docker_new(layers), skopeo(layers)):
        store = Store()
        with Archive(written(tmp_path, *members)) as archive:
            push(store, archive.tree(), "tag")
        assert len(store.read) == 3  # two layers, a config


def test_layers_of_an_archive_can_be_read_again(tmp_path: Path) -> None:
    """Each tree has streams of its own, and an upload that failed reads them once more."""
    with Archive(written(tmp_path, *docker_old())) as archive:
        for _ in range(2):
            (first, _) = image_of(archive).layers
            with first.open() as stream:
                assert isinstance(stream, LayerStream)
                assert stream.is_reopenable
                once = bytes(stream.read())
                assert b"".join(map(bytes, stream.reread())) == once
            assert gzip.decompress(once) == LAYERS[0]


def test_archive_skips_data(tmp_path: Path) -> None:
    """The headers are read once: an archive of holes costs nothing to open."""
    file = tmp_path / "archive.tar"
    with (
        file.open("wb") as out,
        tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as it,
    ):
        info = tarfile.TarInfo("blobs/sha256/" + "0" * 64)
        info.size = 1 << 40
        # The header alone: from Python 3.13 on, addfile refuses a file whose data it is not given.
        header = info.tobuf(tarfile.PAX_FORMAT)
        out.write(header)
        out.seek(info.size, os.SEEK_CUR)
        it.offset += len(header) + info.size
        for member, data in docker_old():
            it.addfile(member, __import__("io").BytesIO(data))
    assert file.stat().st_size > 1 << 40
    with Archive(file) as archive:
        assert archive.tags() == ("app:v1",)
        assert image_of(archive).layers


def test_oci_archive_fetches_manifests_and_blobs(tmp_path: Path) -> None:
    """`fetch_manifest` and `fetch_blob`, by name and by digest, verified."""
    members = oci(packed=True)
    (described,) = json.loads(members[-2][1])["manifests"]
    with Archive(written(tmp_path, *members)) as archive:
        assert archive.tags() == ("v1",)
        digest = described["digest"]
        for name in ("", "v1", digest, "@0"):
            document = archive.fetch_manifest(name)
            assert isinstance(document, Manifest)
            assert str(document.digest) == digest
        for tree in (archive.tree("v1"), read_tree(archive, "v1")):
            store = Store()
            push(store, tree, "tag")
            assert str(store.documents["tag"].digest) == digest
        layer = image_of(archive).layers[0]
        assert layer.diff_id == Digest.of(LAYERS[0])  # type: ignore[attr-defined]
        with archive.fetch_blob(layer.descriptor) as stream:
            data = b"".join(map(bytes, stream.blocks()))
        assert gzip.decompress(data) == LAYERS[0]
        unknown = Descriptor("application/x", Digest.of(b"x"), 1)
        with pytest.raises(InvalidManifest, match="no file of the digest"):
            archive.fetch_blob(unknown)
        with pytest.raises(ImageNotFound, match="no image 'sha256:"):
            archive.fetch_manifest(str(Digest.of(b"x")))


def test_docker_archive_raises_not_computed_before_compression(tmp_path: Path) -> None:
    """Its manifest is known if its layers are compressed; its blobs have the names of files."""
    with Archive(written(tmp_path, *crane())) as archive:
        document = archive.fetch_manifest("app:v1")
        assert isinstance(document, Manifest)
        with archive.fetch_blob(document.config) as stream:
            assert b"".join(map(bytes, stream.blocks())) == config()
    with Archive(written(tmp_path, *docker_old())) as archive, pytest.raises(NotComputed):
        archive.fetch_manifest("")


def test_archive_takes_the_form(tmp_path: Path) -> None:
    """`docker save` 25 is both: as an OCI archive its layers stay as they are."""
    file = written(tmp_path, *docker_new())
    with Archive(file, "oci") as archive:
        assert archive.tags() == ("v1",)
        document = archive.fetch_manifest("v1")
        assert isinstance(document, Manifest)
        assert [str(one.digest) for one in document.layers] == [
            f"sha256:{sha(layer)}" for layer in LAYERS
        ]
    with Archive(file, "docker") as archive:
        assert archive.tags() == ("app:v1",)
    with pytest.raises(ValueError, match="tarball"):
        Archive(file, "tarball")


def test_archive_reads_an_index(tmp_path: Path) -> None:
    """An index's document is the index."""
    from tests.unit.stores.archive.archives import (
        INDEX,
        MANIFEST,
        described,
        oci_end,
        oci_index,
        oci_manifest,
    )

    manifest = oci_manifest(b"{}", [])
    index = oci_index(described(MANIFEST, manifest))
    members = [*map(blob, [b"{}", manifest, index]), *oci_end(described(INDEX, index))]
    with Archive(written(tmp_path, *members)) as archive:
        document = archive.fetch_manifest("")
        assert isinstance(document, Index)
        assert archive.tags() == (f"sha256:{sha(index)}",)
        (child,) = archive.tree().children  # type: ignore[union-attr]
        assert isinstance(child, Image)


def test_tags_names_images_without_tags(tmp_path: Path) -> None:
    """An image without a tag is named by its config."""
    raw = config(())
    members = [
        entry("c.json", raw),
        manifest_json(("c.json", [], []), ("c.json", ["a:b", "c:d"], [])),
    ]
    with Archive(written(tmp_path, *members)) as archive:
        assert archive.tags() == ("c.json", "a:b", "c:d")


# --- What is wrong


def refused(file: Path, kind: type[Exception], words: str) -> None:
    """Check that an archive opens, and has no image that can be had."""
    with Archive(file) as archive, pytest.raises(kind, match=words):
        archive.tree()


def test_wrong_bytes_raise_digest_mismatch_when_read(tmp_path: Path) -> None:
    """A layer, a blob, a config and a manifest: each is held against its digest."""
    raw = config(LAYERS[:1])
    wrong_layer = [
        entry("x.tar", LAYERS[1]),
        entry("c.json", raw),
        manifest_json(("c.json", ["a:v1"], ["x.tar"])),
    ]
    store = Store()
    for compression, words in (("gzip", "uncompressed, but"), ("none", "was expected")):
        with Archive(written(tmp_path, *wrong_layer), compression=compression) as archive:
            tree = archive.tree()
            with pytest.raises(DigestMismatch, match=words):
                push(store, tree, "tag")
    wrong_config = [entry(f"{sha(b'x')}.json", raw), manifest_json((f"{sha(b'x')}.json", [], []))]
    refused(written(tmp_path, *wrong_config), DigestMismatch, "the config")
    members = oci(packed=True)
    (described,) = json.loads(members[-2][1])["manifests"]
    name = f"blobs/{described['digest'].replace(':', '/')}"
    kept = [one for one in members if one[0].name != name]
    file = written(tmp_path, *kept, entry(name, b"{}"))
    refused(file, DigestMismatch, "a manifest of the archive")
    assert not store.documents


def test_blob_of_wrong_size_is_refused_before_reading(tmp_path: Path) -> None:
    """A config of 5 MiB is too large."""
    large = b"{" + b" " * (5 << 20) + b"}"
    members = [entry("c.json", large), manifest_json(("c.json", [], []))]
    refused(written(tmp_path, *members), InvalidManifest, r"'c\.json' has 5242882 bytes")


def test_layer_rejects_other_kinds_of_file(tmp_path: Path) -> None:
    """Neither a tar nor a compressed one."""
    members = [
        entry("x", b"?"),
        entry("c.json", config(LAYERS[:1])),
        manifest_json(("c.json", [], ["x"])),
    ]
    refused(written(tmp_path, *members), InvalidManifest, "neither a tar")


def test_compressed_layer_without_digest_in_its_name(tmp_path: Path) -> None:
    """It is pushed as it is, and has a digest after it was read."""
    packed = gzip.compress(LAYERS[0])
    members = [
        entry("x/layer.tar", packed),
        symlink("y", "x/layer.tar"),
        entry("c.json", config(LAYERS[:1])),
        manifest_json(("c.json", [], ["y"])),
    ]
    store = Store()
    with Archive(written(tmp_path, *members)) as archive:
        push(store, archive.tree(), "tag")
    assert packed in store.blobs.values()


@pytest.mark.parametrize("size", [0, 100, 512, 1000, 5000, -2048, -1024])
def test_truncated_file_is_refused(size: int, tmp_path: Path) -> None:
    """Before anything of it is read."""
    file = written(tmp_path, *docker_old())
    data = file.read_bytes().rstrip(b"\0")
    data += bytes(-len(data) % 512 + 1024)
    file.write_bytes(data[:size])
    with pytest.raises(CorruptBlob):
        Archive(file)


def test_file_that_is_not_an_archive_is_refused(tmp_path: Path) -> None:
    """A compressed file cannot be read in place; what else it may be, its message says."""
    file = tmp_path / "archive"
    with pytest.raises(SourceError, match="cannot open the archive"):
        Archive(file)
    file.write_bytes(gzip.compress(tar("a")))
    with pytest.raises(CorruptBlob, match="gzip -dc"):
        Archive(file)
    file.write_bytes(tar("a"))
    with Archive(file) as archive, pytest.raises(InvalidManifest, match=r"neither manifest\.json"):
        archive.tree()
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for odd in (pipe, tmp_path):
        with pytest.raises(SourceError, match="not a regular file"):
            Archive(odd)


def test_file_that_shrinks_raises_source_error(tmp_path: Path) -> None:
    """It was whole when it was opened."""
    file = written(tmp_path, *docker_old())
    with Archive(file) as archive:
        image = image_of(archive)
        os.truncate(file, 3000)
        with pytest.raises(SourceError, match="it was longer before"):
            push(Store(), image, "tag")


def test_closed_archive_raises_source_error(tmp_path: Path) -> None:
    """An error, and no bytes of another file that has the number now."""
    archive = Archive(written(tmp_path, *docker_old()))
    archive.close()
    archive.close()
    with pytest.raises(SourceError, match="it is closed"):
        archive.tree()


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    """As in a pipe; blobs of one digest are one."""
    with pytest.raises(CorruptBlob, match="two files 'a'"):
        Archive(written(tmp_path, entry("a", b""), entry("a", b"")))
    members = oci()
    with Archive(written(tmp_path, *members[:2], entry("d/"), *members)) as archive:
        push(Store(), archive.tree(), "tag")


@pytest.mark.parametrize("known", [0, 1, 5])
def test_blob_of_an_archive_goes_on_after_a_prefix(tmp_path: Path, known: int) -> None:
    """What a copy into a layout has already is not read again, and counts for the digest."""
    with Archive(written(tmp_path, *skopeo()), compression="none") as archive:
        for layer in image_of(archive).layers:
            assert isinstance(layer, StoredBlob)
            assert layer.open_rest is not None
            with layer.open() as stream:
                data = stream.read()
            prefix = Prefix(known, hasher("sha256"))
            prefix.state.update(data[:known])
            with layer.open_rest(prefix) as stream:
                assert stream.read() == data[known:]
            wrong = Prefix(known, hasher("sha256"))
            wrong.state.update(b"x" * (known + 1))
            with layer.open_rest(wrong) as stream, pytest.raises(DigestMismatch):
                stream.read()
