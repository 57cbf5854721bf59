"""stream_archive: an archive goes into a store in one pass."""

from __future__ import annotations

import gzip
import json
import random

import pytest
from tests.tars import entry, link, symlink
from tests.unit.stores.archive.archives import (
    CONFIG,
    DOCKER_FORMS,
    INDEX,
    LAYER,
    LAYERS,
    MANIFEST,
    REF,
    Store,
    blob,
    config,
    described,
    docker_new,
    docker_old,
    layers_of,
    manifest_json,
    oci,
    oci_end,
    oci_index,
    oci_manifest,
    sha,
    stream,
)

from brolga.errors import ImageNotFound, InvalidManifest
from brolga.images import Image, ImageIndex
from brolga.spec.digest import Digest


@pytest.mark.parametrize("name", DOCKER_FORMS)
def test_stream_archive_reads_each_docker_form(name: str) -> None:
    """Config bytes are kept, layers are compressed or kept, media types are Docker's."""
    store = Store()
    image = stream(store, *DOCKER_FORMS[name]())
    assert isinstance(image, Image)
    assert layers_of(store) == LAYERS
    manifest = image.manifest
    assert store.blobs[str(manifest.config.digest)] == config()
    assert manifest.media_type == "application/vnd.docker.distribution.manifest.v2+json"
    assert {one.media_type for one in manifest.layers} == {
        "application/vnd.docker.image.rootfs.diff.tar.gzip"
    }
    assert [layer.diff_id for layer in image.layers] == list(image.config.diff_ids)  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", DOCKER_FORMS)
def test_stream_archive_reads_documents_before_layers(name: str) -> None:
    """The files of an archive may come in any order."""
    store = Store()
    stream(store, *reversed(DOCKER_FORMS[name]()))
    assert layers_of(store) == LAYERS


@pytest.mark.parametrize("name", ["old", "new", "skopeo"])
def test_stream_archive_pushes_repeated_layer_once(name: str) -> None:
    """`docker save` writes a link to the other layer, or names one blob twice."""
    layers = (LAYERS[0], LAYERS[1], LAYERS[0])
    store = Store()
    stream(store, *DOCKER_FORMS[name](layers))
    assert layers_of(store) == layers
    assert len(store.read) == 3  # two layers, a config


def test_known_store_skips_pushed_blobs() -> None:
    """Of the blobs, only the config is pushed again through `Known`."""
    store = Store()
    stream(store, *docker_old())
    layers, pushed = 2, len(store.pushed)
    assert pushed == layers + 1


def test_zstd_makes_an_oci_image() -> None:
    """Docker has no media type for zstd."""
    store = Store()
    image = stream(store, *docker_old(), compression="zstd", level=1, threads=1)
    assert isinstance(image, Image)
    assert image.media_type == MANIFEST
    assert {one.media_type for one in image.manifest.layers} == {f"{LAYER}+zstd"}
    assert image.manifest.config.media_type == CONFIG


@pytest.mark.parametrize("name", DOCKER_FORMS)
def test_compression_none_keeps_layer_digests(name: str) -> None:
    """A store that has a layer named by its digest does not read it."""
    store = Store()
    stream(store, *DOCKER_FORMS[name](), compression="none")
    assert layers_of(store) == LAYERS
    again = Store(dict(store.blobs))
    stream(again, *DOCKER_FORMS[name](), compression="none")
    assert len(again.read) == (2 if name == "old" else 0)


def test_compressed_layer_with_plain_name_is_kept() -> None:
    """Old file names may hold compressed layers: docker load accepts them too."""
    raw, packed = config(LAYERS[:1]), gzip.compress(LAYERS[0])
    store = Store()
    stream(
        store,
        entry("x/layer.tar", packed),
        entry("config.json", raw),
        manifest_json(("config.json", [], ["x/layer.tar"])),
    )
    assert layers_of(store) == LAYERS[:1]
    assert packed in store.blobs.values()


def test_empty_layer_is_read_as_tar() -> None:
    """Docker's empty layer is 1024 zeros, without a tar header."""
    layers = (bytes(1024), LAYERS[0])
    store = Store()
    stream(store, *docker_old(layers))
    assert layers_of(store) == layers


def test_links_are_followed() -> None:
    """A hard link names a path from the root, a symbolic link one relative to itself."""
    raw = config((*LAYERS[:1], *LAYERS[:1], *LAYERS[:1]))
    store = Store()
    stream(
        store,
        entry("./d/layer.tar", LAYERS[0]),
        link("hard", "./d/layer.tar"),
        symlink("d/soft", "../hard"),
        entry("c.json", raw),
        manifest_json(("c.json", [], ["d/layer.tar", "./hard", "d/soft"])),
    )
    assert layers_of(store) == LAYERS[:1] * 3


def test_docker_names_choose_an_image() -> None:
    """If no name fits, the error lists the names, and no tag is set."""
    one, other = config(LAYERS[:1]), config(LAYERS[1:])
    archive = [
        entry("a.tar", LAYERS[0]),
        entry("b.tar", LAYERS[1]),
        entry("a.json", one),
        entry(f"{sha(other)}.json", other),
        manifest_json(
            ("a.json", ["example.com/a:v1", "example.com/a:v2"], ["a.tar"]),
            (f"{sha(other)}.json", ["example.com/b:latest"], ["b.tar"]),
        ),
    ]
    for name, layer in {
        "example.com/a:v1": 0,
        "a:v2": 0,
        "example.com/b": 1,
        "b": 1,
        "@1": 1,
        "a.json": 0,
        f"sha256:{sha(other)}": 1,
    }.items():
        store = Store()
        stream(store, *archive, name=name)
        assert layers_of(store) == (LAYERS[layer],)
    for name in ("", "c", "v1", "@2", "latest"):
        store = Store()
        with pytest.raises(
            ImageNotFound, match=r"'example.com/a:v1', 'example.com/a:v2', 'example.com/b:latest'"
        ) as caught:
            stream(store, *archive, name=name)
        names = ("example.com/a:v1", "example.com/a:v2", "example.com/b:latest")
        assert caught.value.available == names
        assert not store.documents


def test_ambiguous_name_raises_and_lists_names() -> None:
    """The end of a name chooses an image only if it fits one."""
    raw = config(LAYERS[:1])
    images = [(f"{n}.json", [f"host{n}/app:v1"], ["a.tar"]) for n in range(30)]
    archive = [
        entry("a.tar", LAYERS[0]),
        *(entry(name, raw) for name, _, _ in images),
        manifest_json(*images),
    ]
    with pytest.raises(ImageNotFound, match="'host19/app:v1' and 10 more"):
        stream(Store(), *archive, name="app:v1")
    with pytest.raises(ImageNotFound, match="the archive has no images"):
        stream(Store(), manifest_json())


def test_docker_with_containerd_store_keeps_manifest() -> None:
    """`docker save` includes the registry's manifest, and an index of other platforms."""
    packed = [gzip.compress(one, mtime=0) for one in LAYERS]
    manifest = oci_manifest(config(), packed)
    missing = described(MANIFEST, b"another platform's")
    other = oci_manifest(config(author="x"), packed)
    inner = oci_index(*(described(MANIFEST, one) for one in (manifest, other, other)), missing)
    paths = [f"blobs/sha256/{sha(one)}" for one in packed]
    members = [
        *map(blob, [*packed, config(), other, manifest, inner]),
        *oci_end(described(INDEX, inner))[:1],  # oci-layout is not missed
        manifest_json((f"blobs/sha256/{sha(config())}", ["app:v1"], paths)),
    ]
    store = Store()
    image = stream(store, *members)
    assert str(image.digest) == f"sha256:{sha(manifest)}"
    assert layers_of(store) == LAYERS
    with pytest.raises(InvalidManifest, match="not in the archive"):
        stream(Store(), *members, form="oci")


@pytest.mark.parametrize("index", [b'{"manifests": 1}', b'{"schemaVersion":2,"manifest":null}'])
def test_docker_archive_ignores_invalid_index_json(index: bytes) -> None:
    """Docker 25.0 wrote one; manifest.json is sufficient (moby/moby#47210)."""
    members = [one for one in docker_new() if one[0].name != "index.json"]
    store = Store()
    stream(store, *members, entry("index.json", index))
    assert layers_of(store) == LAYERS


def test_manifest_of_uncompressed_layers_is_replaced() -> None:
    """The manifest of `docker save` 25 lists uncompressed layers, which are compressed here."""
    store = Store()
    image = stream(store, *docker_new())
    (described_,) = json.loads(docker_new()[-3][1])["manifests"]
    assert str(image.digest) != described_["digest"]


@pytest.mark.parametrize("form", ["", "oci"])
def test_oci_archive_keeps_digests(form: str) -> None:
    """A store that has the blobs reads none of them again."""
    members = oci(packed=True)
    store = Store()
    image = stream(store, *members, form=form)
    assert str(image.digest) == json.loads(members[-2][1])["manifests"][0]["digest"]
    assert layers_of(store) == LAYERS
    assert isinstance(image, Image)
    again = Store(dict(store.blobs))
    stream(again, *reversed(members), form=form)
    assert again.read == []


def test_form_oci_keeps_uncompressed_layers() -> None:
    """With `form="oci"` a tar below blobs/ is pushed as it is, in any archive."""
    for members in (oci(), docker_new()):
        store = Store()
        image = stream(store, *members, form="oci")
        assert layers_of(store) == LAYERS
        assert set(LAYERS) <= set(store.blobs.values())
        assert isinstance(image, Image)


@pytest.mark.parametrize("first", ["index.json", "oci-layout"])
def test_oci_files_first_keep_uncompressed_layers(first: str) -> None:
    """Docker never writes index.json or oci-layout first."""
    members = sorted(oci(), key=lambda member: member[0].name != first)
    store = Store()
    image = stream(store, *members)
    assert layers_of(store) == LAYERS
    assert str(image.digest) == f"sha256:{sha(oci_manifest(config(), list(LAYERS)))}"


def test_manifest_json_wins_if_index_comes_first() -> None:
    """Uncompressed layers were pushed as they are by then."""
    members = sorted(docker_new(), key=lambda member: member[0].name != "index.json")
    store = Store()
    stream(store, *members)
    assert layers_of(store) == LAYERS


def test_oci_index_with_attestations() -> None:
    """Buildx writes attestations of unknown/unknown whose layers are JSON."""
    statement = json.dumps({"_type": "https://in-toto.io/Statement/v0.1"}).encode()
    empty = config(())
    attestation = oci_manifest(empty, [statement], "application/vnd.in-toto+json")
    packed = [gzip.compress(one, mtime=0) for one in LAYERS]
    manifest = oci_manifest(config(), packed)
    inner = oci_index(described(MANIFEST, manifest), described(MANIFEST, attestation))
    outer = oci_index(described(INDEX, inner), described(INDEX, inner))
    store = Store()
    index = stream(
        store,
        *map(blob, [statement, empty, attestation, config(), *packed, manifest, inner, outer]),
        *oci_end({**described(INDEX, outer), "annotations": {REF: "v1"}}),
    )
    assert isinstance(index, ImageIndex)
    assert str(index.digest) == f"sha256:{sha(outer)}"
    assert {sha(statement), sha(packed[0])} <= {name[7:] for name in store.blobs}
    assert {str(one.digest)[7:] for one in store.documents.values()} == {
        sha(one) for one in (manifest, attestation, inner, outer)
    }


def test_oci_names_choose_an_image() -> None:
    """ref.name, containerd's full name and the digest name an image."""
    one, other = (oci_manifest(config(part), list(part)) for part in (LAYERS[:1], LAYERS[1:]))
    whole = "io.containerd.image.name"
    archive = [
        *map(blob, [*LAYERS, config(LAYERS[:1]), config(LAYERS[1:]), one, other]),
        *oci_end(
            {**described(MANIFEST, one), "annotations": {REF: "a"}},
            {**described(MANIFEST, one), "annotations": {REF: "b"}},
            {**described(MANIFEST, other), "annotations": {whole: "host/app:c", REF: "c"}},
        ),
    ]
    names = {"a": one, "b": one, "c": other, "app:c": other, f"sha256:{sha(one)}": one, "@1": other}
    for name, wanted in names.items():
        image = stream(Store(), *archive, form="oci", name=name)
        assert str(image.digest) == f"sha256:{sha(wanted)}"
    with pytest.raises(ImageNotFound, match=r"say which image: it has 'a', 'b', 'host/app:c'$"):
        stream(Store(), *archive, form="oci")


def test_artifact_blobs_of_any_content_are_kept() -> None:
    """Also large JSON, and blobs named by sha512."""
    large = b"{" + b" " * (5 << 20) + b"}"
    odd = random.Random(1).randbytes(900)
    strong = b"named by a stronger hash"
    digest = str(Digest.of(strong, "sha512"))
    small = b'{"small": 1}'
    small_digest = str(Digest.of(small, "sha512"))
    manifest = json.loads(oci_manifest(b"{}", [large, odd, b""], "application/x-any"))
    for data, name in ((strong, digest), (small, small_digest)):
        part = {"mediaType": "application/x-any", "digest": name, "size": len(data)}
        manifest["layers"].append(part)
    raw = json.dumps(manifest).encode()
    store = Store()
    stream(
        store,
        *map(blob, [large, odd, b"", b"{}", raw]),
        entry(f"blobs/{digest.replace(':', '/')}", strong),
        entry(f"blobs/{small_digest.replace(':', '/')}", small),
        *oci_end(described(MANIFEST, raw)),
    )
    assert {large, odd, b"", b"{}", strong, small} == set(store.blobs.values())


def test_foreign_layers_and_embedded_data_need_no_file() -> None:
    """An archive has no foreign layer (layer.md); `data` is the blob itself (descriptor.md)."""
    foreign = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
    manifest = json.loads(oci_manifest(b"{}", []))
    manifest["config"]["data"] = "e30="
    manifest["layers"] = [described(foreign, b"elsewhere")]
    raw = json.dumps(manifest).encode()
    store = Store()
    image = stream(store, blob(raw), *oci_end(described(MANIFEST, raw)))
    assert list(store.blobs.values()) == [b"{}"]
    assert isinstance(image, Image)
    with pytest.raises(InvalidManifest, match="it is at its URLs"):
        image.layers[0].open()


def test_form_oci_ignores_files_outside_blobs() -> None:
    """A tar beside the blobs is not a part of the image."""
    extra = [entry("x/layer.tar", LAYERS[0]), entry("y.gz", gzip.compress(b"")), entry("z", b"")]
    store = Store()
    stream(store, *extra, *oci(), entry("blobs/sha256/none", LAYERS[0]), form="oci")
    assert len(store.read) == 3


def test_repeated_blob_is_verified_each_time() -> None:
    """A blob may come twice, because its digest names the same bytes."""
    members = oci(packed=True)
    store = Store()
    stream(store, *members[:2], *members)
    assert layers_of(store) == LAYERS
