"""Indexes with children of every kind, and names by sha512: the same from any place to any."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.images import read_blob
from tests.processes import brolga
from tests.tars import tar

from brolga import Client, Image, ImageIndex, Index, InMemoryBlob, Layout, StreamLayer, validate
from brolga.errors import DigestMismatch
from brolga.images.blobs import StoredBlob
from brolga.spec.descriptor import Descriptor
from brolga.spec.digest import Digest
from brolga.spec.manifest import Manifest
from brolga.spec.mediatypes import OCI_LAYER_GZIP, OCI_MANIFEST

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.registries import EmbeddedRegistry

PLACES = ["registry", "oci", "oci-archive"]
CACHE = b'{"layers":[{"blob":"x"}],"records":[]}'
CACHE_TYPE = "application/vnd.buildkit.cacheconfig.v0"


@pytest.fixture
def homes(registry: EmbeddedRegistry, tmp_path: Path) -> dict[str, str]:
    """Name a place of each kind, with a name."""
    return {
        "registry": f"{registry.address}/app:v1",
        "oci": f"oci:{tmp_path}/layout:v1",
        "oci-archive": f"oci-archive:{tmp_path}/oci.tar:v1",
    }


def strong(path: Path) -> Digest:
    """Make a layout whose tag v1 is an index with an image that sha512 names, in all its parts."""
    layer = InMemoryBlob(tar("a"), "application/vnd.oci.image.layer.v1.tar", "sha512")
    made = Image.empty().append(StreamLayer([tar("a")], compression="none"))
    layout = Layout(path)
    with layout.writing():
        layout.push(made.layers[0])
        config = InMemoryBlob(made.config.raw, made.manifest.config.media_type, "sha512")
        for blob in (layer, config):
            layout.push(blob)
        raw = Manifest.new(config.descriptor, [layer.descriptor]).raw
        child = Manifest.parse(raw, OCI_MANIFEST, "sha512")
        layout.push_manifest(child, str(child.digest))
        layout.push_manifest(Index.new([child.descriptor]), "v1")
    return child.digest


def cache(path: Path) -> Index:
    """Make a layout whose tag v1 is a cache of BuildKit: an index of a layer and a config."""
    blobs = [InMemoryBlob(b"layer", OCI_LAYER_GZIP), InMemoryBlob(CACHE, CACHE_TYPE)]
    layout = Layout(path)
    for blob in blobs:
        layout.push(blob)
    index = Index.new([blob.descriptor for blob in blobs])
    layout.push_manifest(index, "v1")
    return index


@pytest.mark.parametrize("source", PLACES)
@pytest.mark.parametrize("target", PLACES)
def test_copy_keeps_sha512_digests_between_all_places(
    source: str, target: str, homes: dict[str, str], tmp_path: Path
) -> None:
    """A manifest is stored under the digest by which it was asked for."""
    digest = strong(tmp_path / "made")
    place = homes[target].replace("v1", "v2") if source == target else homes[target]
    with Client() as client:
        client.copy(f"oci:{tmp_path}/made:v1", homes[source])
        client.copy(homes[source], place)
        assert client.image(place).digest == digest
        copied_index = client.index(place)
        assert [child.digest for child in copied_index.children] == [digest]
        assert list(validate(copied_index)) == []


@pytest.mark.parametrize("target", PLACES)
def test_copy_by_sha512_digest_can_be_read_by_digest_and_tag(
    target: str, homes: dict[str, str], tmp_path: Path
) -> None:
    """The bytes are the same under both names, and the printed name can be read."""
    digest = strong(tmp_path / "made")
    with Client() as client:
        copied = client.copy(f"oci:{tmp_path}/made@{digest}", homes[target])
        assert str(copied.digest) == str(digest)
        assert client.get(homes[target]).descriptor.size == client.get(copied).descriptor.size
        if target != "oci-archive":
            client.tag(copied, "again")
            again = client.manifest(homes[target].replace("v1", "again"))
            assert again.raw == client.manifest(copied).raw


def test_change_of_an_image_with_sha512_digest_gets_a_sha256_digest(tmp_path: Path) -> None:
    """The digest of new bytes is the writer's choice; all registries have sha256."""
    digest = strong(tmp_path / "made")
    with Client() as client:
        image = client.image(f"oci:{tmp_path}/made@{digest}")
        changed = image.with_annotations({"a": "b"})
        assert (image.digest.algorithm, changed.digest.algorithm) == ("sha512", "sha256")
        client.push(f"oci:{tmp_path}/new:v1", changed)
        assert client.head(f"oci:{tmp_path}/new:v1").digest == changed.digest


@pytest.mark.parametrize("target", ["registry", "oci"])
def test_copy_with_referrers_finds_those_of_a_sha512_digest(
    target: str, homes: dict[str, str], tmp_path: Path
) -> None:
    """A subject is a descriptor: its digest is the one by which clients ask for its referrers."""
    digest = strong(tmp_path / "made")
    made = f"oci:{tmp_path}/made"
    with Client() as client:
        subject = client.head(f"{made}@{digest}")
        signature = Image.empty().with_subject(subject)
        client.push(made, signature)
        copied = client.copy(f"{made}@{digest}", homes[target], referrers=True)
        assert copied.digest == digest
        assert [referrer.digest for referrer in client.referrers(copied)] == [signature.digest]


@pytest.mark.parametrize("make", [strong, cache])
def test_gc_keeps_children_of_an_index(make: Callable[[Path], object], tmp_path: Path) -> None:
    """A garbage collection keeps all that can be reached from a name."""
    make(tmp_path / "made")
    layout = Layout(tmp_path / "made")
    layout.push(InMemoryBlob(b"nobody's", "a/b"))
    assert layout.gc(older_than_s=0, dry_run=True).blobs >= 1
    layout.gc(older_than_s=0)
    with Client() as client:
        client.copy(f"oci:{tmp_path}/made:v1", f"oci:{tmp_path}/again:v1")


@pytest.mark.parametrize("source", PLACES)
@pytest.mark.parametrize("target", PLACES)
def test_copy_keeps_an_index_of_blobs_between_all_places(
    source: str, target: str, homes: dict[str, str], tmp_path: Path
) -> None:
    """BuildKit's `--cache-to type=registry` writes an index whose children are blobs."""
    index = cache(tmp_path / "made")
    place = homes[target].replace("v1", "v2") if source == target else homes[target]
    with Client() as client:
        client.copy(f"oci:{tmp_path}/made:v1", homes[source])
        assert client.copy(homes[source], place).digest == index.digest
        copied_index = client.index(place)
        assert [read_blob(blob) for blob in map(copied_index.blob, index.manifests)] == [
            b"layer",
            CACHE,
        ]


@pytest.mark.parametrize("made", [strong, cache])
def test_push_reads_an_index_archive_from_a_pipe(
    made: object, homes: dict[str, str], tmp_path: Path
) -> None:
    """`brolga copy oci:... oci-archive:- | brolga push - REF`."""
    assert callable(made)
    made(tmp_path / "made")
    archive = brolga("copy", f"oci:{tmp_path}/made:v1", "oci-archive:-")
    brolga("push", "-", homes["registry"], data=archive)
    with Client() as client:
        copied_index, index = map(client.index, (homes["registry"], f"oci:{tmp_path}/made:v1"))
        assert copied_index.index.raw == index.index.raw
        assert [read_blob(blob) for blob in copied_index.blobs] == [
            read_blob(blob) for blob in index.blobs
        ]
        assert [child.digest for child in copied_index.children] == [
            child.digest for child in index.children
        ]


def test_copy_fails_if_a_blob_of_an_index_has_other_bytes(
    homes: dict[str, str], tmp_path: Path
) -> None:
    """The bytes must have the digest in the descriptor."""
    index = cache(tmp_path / "made")
    layer = index.manifests[0].digest
    (tmp_path / "made" / "blobs" / "sha256" / layer.encoded).write_bytes(b"LAYER")
    with Client() as client, pytest.raises(DigestMismatch):
        client.copy(f"oci:{tmp_path}/made:v1", homes["registry"])


def test_index_append_takes_blobs_of_an_index(homes: dict[str, str], tmp_path: Path) -> None:
    """`index append -m` takes each child of an index."""
    cache(tmp_path / "made")
    with Client() as client:
        client.push(f"oci:{tmp_path}/made:image", Image.empty())
    brolga(
        "index",
        "append",
        *("-m", f"oci:{tmp_path}/made:image", "-m", f"oci:{tmp_path}/made:v1"),
        *("-t", homes["registry"]),
    )
    with Client() as client:
        copied_index = client.index(homes["registry"])
        assert [read_blob(blob) for blob in copied_index.blobs] == [b"layer", CACHE]
        assert len(list(copied_index.children)) == 1


def test_push_mounts_blobs_of_an_index(registry: EmbeddedRegistry) -> None:
    """Blobs of the same registry are mounted."""
    described = Descriptor(CACHE_TYPE, Digest.of(CACHE), len(CACHE))
    with Client() as client:
        source = client.push_layer(f"{registry.address}/one", InMemoryBlob(CACHE, CACHE_TYPE))
        assert source == described
        blob = StoredBlob(
            described, lambda: client.blob(f"{registry.address}/one@{described.digest}")
        )
        made = ImageIndex.empty().append(blob, described=described)
        client.push(f"{registry.address}/two:v1", made)
        assert [read_blob(blob) for blob in client.index(f"{registry.address}/two:v1").blobs] == [
            CACHE
        ]
