"""Indexes with children of every kind, and names by sha512: the same from any place to any."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
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

    from tests.conftest import Embedded

PLACES = ["registry", "oci", "oci-archive"]
PATIENCE_S = 120
CACHE = b'{"layers":[{"blob":"x"}],"records":[]}'
CACHE_TYPE = "application/vnd.buildkit.cacheconfig.v0"


@pytest.fixture
def homes(registry: Embedded, tmp_path: Path) -> dict[str, str]:
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
def test_what_sha512_names_keeps_its_name_from_any_place_to_any(
    source: str, target: str, homes: dict[str, str], tmp_path: Path
) -> None:
    """A document is stored under the digest by which it was asked for."""
    digest = strong(tmp_path / "made")
    place = homes[target].replace("v1", "v2") if source == target else homes[target]
    with Client() as client:
        client.copy(f"oci:{tmp_path}/made:v1", homes[source])
        client.copy(homes[source], place)
        assert client.image(place).digest == digest
        found = client.index(place)
        assert [child.digest for child in found.children] == [digest]
        assert list(validate(found)) == []


@pytest.mark.parametrize("target", PLACES)
def test_an_image_that_is_asked_for_by_sha512_is_there_under_it(
    target: str, homes: dict[str, str], tmp_path: Path
) -> None:
    """Under the tag as well, with the same bytes; and the printed name can be read."""
    digest = strong(tmp_path / "made")
    with Client() as client:
        copied = client.copy(f"oci:{tmp_path}/made@{digest}", homes[target])
        assert str(copied.digest) == str(digest)
        assert client.get(homes[target]).descriptor.size == client.get(copied).descriptor.size
        if target != "oci-archive":
            client.tag(copied, "again")
            again = client.manifest(homes[target].replace("v1", "again"))
            assert again.raw == client.manifest(copied).raw


def test_what_is_made_of_an_image_that_sha512_names_has_the_usual_digest(tmp_path: Path) -> None:
    """The digest of new bytes is for whoever makes them to choose; all registries have sha256."""
    digest = strong(tmp_path / "made")
    with Client() as client:
        image = client.image(f"oci:{tmp_path}/made@{digest}")
        changed = image.with_annotations({"a": "b"})
        assert (image.digest.algorithm, changed.digest.algorithm) == ("sha512", "sha256")
        client.push(f"oci:{tmp_path}/new:v1", changed)
        assert client.head(f"oci:{tmp_path}/new:v1").digest == changed.digest


@pytest.mark.parametrize("target", ["registry", "oci"])
def test_what_refers_to_a_name_by_sha512_is_copied_with_it(
    target: str, homes: dict[str, str], tmp_path: Path
) -> None:
    """A subject is a descriptor: its digest is the one by which others ask for it."""
    digest = strong(tmp_path / "made")
    made = f"oci:{tmp_path}/made"
    with Client() as client:
        subject = client.head(f"{made}@{digest}")
        signature = Image.empty().with_subject(subject)
        client.push(made, signature)
        copied = client.copy(f"{made}@{digest}", homes[target], referrers=True)
        assert copied.digest == digest
        assert [one.digest for one in client.referrers(copied)] == [signature.digest]


@pytest.mark.parametrize("make", [strong, cache])
def test_gc_keeps_what_such_an_index_lists(make: Callable[[Path], object], tmp_path: Path) -> None:
    """What can be reached from a name stays."""
    make(tmp_path / "made")
    layout = Layout(tmp_path / "made")
    layout.push(InMemoryBlob(b"nobody's", "a/b"))
    assert layout.gc(older_than_s=0, dry_run=True).blobs >= 1
    layout.gc(older_than_s=0)
    with Client() as client:
        client.copy(f"oci:{tmp_path}/made:v1", f"oci:{tmp_path}/again:v1")


@pytest.mark.parametrize("source", PLACES)
@pytest.mark.parametrize("target", PLACES)
def test_an_index_of_blobs_is_copied_from_any_place_to_any(
    source: str, target: str, homes: dict[str, str], tmp_path: Path
) -> None:
    """BuildKit's `--cache-to type=registry` writes an index whose children are blobs."""
    index = cache(tmp_path / "made")
    place = homes[target].replace("v1", "v2") if source == target else homes[target]
    with Client() as client:
        client.copy(f"oci:{tmp_path}/made:v1", homes[source])
        assert client.copy(homes[source], place).digest == index.digest
        found = client.index(place)
        assert [read(blob) for blob in map(found.blob, index.manifests)] == [b"layer", CACHE]


@pytest.mark.parametrize("made", [strong, cache])
def test_an_archive_of_such_an_index_goes_through_a_pipe(
    made: object, homes: dict[str, str], tmp_path: Path
) -> None:
    """`brolga copy oci:... oci-archive:- | brolga push - REF`."""
    assert callable(made)
    made(tmp_path / "made")
    archive = run("copy", f"oci:{tmp_path}/made:v1", "oci-archive:-")
    run("push", "-", homes["registry"], data=archive)
    with Client() as client:
        found, index = (client.index(one) for one in (homes["registry"], f"oci:{tmp_path}/made:v1"))
        assert found.index.raw == index.index.raw
        assert [read(blob) for blob in found.blobs] == [read(blob) for blob in index.blobs]
        assert [one.digest for one in found.children] == [one.digest for one in index.children]


def test_a_blob_of_an_index_is_verified(homes: dict[str, str], tmp_path: Path) -> None:
    """Bytes that are not those of the digest are not copied."""
    index = cache(tmp_path / "made")
    layer = index.manifests[0].digest
    (tmp_path / "made" / "blobs" / "sha256" / layer.encoded).write_bytes(b"LAYER")
    with Client() as client, pytest.raises(DigestMismatch):
        client.copy(f"oci:{tmp_path}/made:v1", homes["registry"])


def test_blobs_of_an_index_go_with_an_index_that_is_extended(
    homes: dict[str, str], tmp_path: Path
) -> None:
    """`index append -m` of an index takes each of its children."""
    cache(tmp_path / "made")
    with Client() as client:
        client.push(f"oci:{tmp_path}/made:image", Image.empty())
    run(
        "index",
        "append",
        *("-m", f"oci:{tmp_path}/made:image", "-m", f"oci:{tmp_path}/made:v1"),
        *("-t", homes["registry"]),
    )
    with Client() as client:
        found = client.index(homes["registry"])
        assert [read(blob) for blob in found.blobs] == [b"layer", CACHE]
        assert len(list(found.children)) == 1


def test_an_index_of_blobs_of_other_repositories_takes_them_over(registry: Embedded) -> None:
    """Blobs of the registry itself are mounted."""
    described = Descriptor(CACHE_TYPE, Digest.of(CACHE), len(CACHE))
    with Client() as client:
        source = client.push_layer(f"{registry.address}/one", InMemoryBlob(CACHE, CACHE_TYPE))
        assert source == described
        blob = StoredBlob(
            described, lambda: client.blob(f"{registry.address}/one@{described.digest}")
        )
        made = ImageIndex.empty().append(blob, described=described)
        client.push(f"{registry.address}/two:v1", made)
        assert [read(one) for one in client.index(f"{registry.address}/two:v1").blobs] == [CACHE]


def read(blob: object) -> bytes:
    """Return a blob's bytes."""
    assert hasattr(blob, "open")
    with blob.open() as stream:
        return b"".join(map(bytes, stream.blocks()))


def run(*arguments: str, data: bytes = b"") -> bytes:
    """Run the command with bytes on stdin; return what it prints."""
    done = subprocess.run(
        [sys.executable, "-m", "brolga", *arguments],
        input=data,
        capture_output=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
