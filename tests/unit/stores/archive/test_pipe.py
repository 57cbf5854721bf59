"""pipe.py: an archive goes into a store in one pass, or says why it cannot."""

from __future__ import annotations

import errno
import gzip
import json
import os
import random
from typing import TYPE_CHECKING, Any

import pytest
from tests.tars import entry, link, symlink, tar
from tests.unit.stores.archive.archives import (
    CONFIG,
    INDEX,
    LAYER,
    LAYERS,
    MANIFEST,
    REF,
    Store,
    blob,
    config,
    crane,
    described,
    docker_new,
    docker_old,
    manifest_json,
    oci,
    oci_end,
    oci_index,
    oci_manifest,
    sha,
    skopeo,
)

from brolga.errors import (
    BrolgaError,
    CorruptBlob,
    DigestMismatch,
    ImageNotFound,
    InvalidManifest,
    LayerError,
    NotComputed,
    SourceError,
    SpoolError,
    SpoolRequired,
)
from brolga.images import Image, ImageIndex
from brolga.spec.config import ImageConfig
from brolga.spec.descriptor import Descriptor
from brolga.spec.digest import Digest
from brolga.spec.manifest import Manifest
from brolga.stores.archive import Known, items, pipe, stream_archive
from brolga.stores.archive import contents as contents_module
from brolga.stores.copy import push

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.unit.stores.archive.archives import Member

    from brolga.images import Tree

SPARSE = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}
FORMS = {"old": docker_old, "new": docker_new, "skopeo": skopeo, "crane": crane}


def streamed(store: Store, *members: Member, **options: Any) -> Tree:
    """Stream an archive, in blocks that fit nothing, and push what is left of its image."""
    data = tar(*members)
    blocks = [data[start : start + 700] for start in range(0, len(data), 700)]
    tree = stream_archive(blocks, store, **options)
    push(Known(store), tree, "tag")
    return tree


def unpacked(store: Store, name: str = "tag") -> tuple[bytes, ...]:
    """Return the layers of the image that a store has under a name, uncompressed."""
    manifest = store.documents[name]
    assert isinstance(manifest, Manifest)
    config = ImageConfig.parse(store.blobs[str(manifest.config.digest)])
    parts = [store.blobs[str(layer.digest)] for layer in manifest.layers]
    for layer, part in zip(manifest.layers, parts, strict=True):
        assert layer.media_type.endswith("gzip") == part.startswith(b"\x1f\x8b")
        assert layer.size == len(part)
    plain = tuple(gzip.decompress(one) if one[:2] == b"\x1f\x8b" else one for one in parts)
    assert config.diff_ids == tuple(map(Digest.of, plain))
    return plain


# --- Docker's form


@pytest.mark.parametrize("name", FORMS)
def test_each_form_of_docker_s_goes_in_one_pass(name: str) -> None:
    """Config bytes exact, layers compressed on the way, or as they are; Docker's media types."""
    store = Store()
    image = streamed(store, *FORMS[name]())
    assert isinstance(image, Image)
    assert unpacked(store) == LAYERS
    manifest = image.manifest
    assert store.blobs[str(manifest.config.digest)] == config()
    assert manifest.media_type == "application/vnd.docker.distribution.manifest.v2+json"
    assert {one.media_type for one in manifest.layers} == {
        "application/vnd.docker.image.rootfs.diff.tar.gzip"
    }
    assert [layer.diff_id for layer in image.layers] == list(image.config.diff_ids)  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", FORMS)
def test_documents_may_come_first(name: str) -> None:
    """Nothing says in which order a writer puts the files of an archive."""
    store = Store()
    streamed(store, *reversed(FORMS[name]()))
    assert unpacked(store) == LAYERS


@pytest.mark.parametrize("name", ["old", "new", "skopeo"])
def test_a_layer_that_comes_twice_is_sent_once(name: str) -> None:
    """`docker save` writes a link to the other one, or names one blob twice."""
    layers = (LAYERS[0], LAYERS[1], LAYERS[0])
    store = Store()
    streamed(store, *FORMS[name](layers))
    assert unpacked(store) == layers
    assert len(store.read) == 3  # two layers, a config


def test_what_was_sent_costs_no_further_request() -> None:
    """`Known` answers for what went by; of the rest only the config is pushed."""
    store = Store()
    streamed(store, *docker_old())
    layers, pushed = 2, len(store.pushed)
    assert pushed == layers + 1


def test_the_compression_is_chosen() -> None:
    """Docker has no media type for zstd: then the image is one of OCI's."""
    store = Store()
    image = streamed(store, *docker_old(), compression="zstd", level=1, threads=1)
    assert isinstance(image, Image)
    assert image.media_type == MANIFEST
    assert {one.media_type for one in image.manifest.layers} == {f"{LAYER}+zstd"}
    assert image.manifest.config.media_type == CONFIG


@pytest.mark.parametrize("name", FORMS)
def test_without_compression_layers_keep_their_digest(name: str) -> None:
    """Then a file that is named by it is no stream: a store that has it reads nothing."""
    store = Store()
    streamed(store, *FORMS[name](), compression="none")
    assert unpacked(store) == LAYERS
    again = Store(dict(store.blobs))
    streamed(again, *FORMS[name](), compression="none")
    assert len(again.read) == (2 if name == "old" else 0)


def test_a_wrong_compression_is_told_before_anything_is_read() -> None:
    """ValueError, as of a StreamLayer."""
    with pytest.raises(ValueError, match="lzma"):
        stream_archive(_unread(), Store(), compression="lzma")
    with pytest.raises(ValueError, match="tarball"):
        stream_archive(_unread(), Store(), form="tarball")


def _unread() -> Any:
    yield pytest.fail("it was read")


def test_a_compressed_layer_without_a_digest_for_a_name_goes_as_it_is() -> None:
    """Old names may hold compressed layers: docker load looks into them too."""
    raw, packed = config(LAYERS[:1]), gzip.compress(LAYERS[0])
    store = Store()
    streamed(
        store,
        entry("x/layer.tar", packed),
        entry("config.json", raw),
        manifest_json(("config.json", [], ["x/layer.tar"])),
    )
    assert unpacked(store) == LAYERS[:1]
    assert packed in store.blobs.values()


def test_an_empty_layer_is_a_tar() -> None:
    """Docker's empty layer is 1024 zeros: no magic tells that it is a tar."""
    layers = (bytes(1024), LAYERS[0])
    store = Store()
    streamed(store, *docker_old(layers))
    assert unpacked(store) == layers


def test_links_are_followed_within_the_archive() -> None:
    """A hard link names a path from the root, a symbolic link one beside it."""
    raw = config((*LAYERS[:1], *LAYERS[:1], *LAYERS[:1]))
    store = Store()
    streamed(
        store,
        entry("./d/layer.tar", LAYERS[0]),
        link("hard", "./d/layer.tar"),
        symlink("d/soft", "../hard"),
        entry("c.json", raw),
        manifest_json(("c.json", [], ["d/layer.tar", "./hard", "d/soft"])),
    )
    assert unpacked(store) == LAYERS[:1] * 3


def test_names_choose_one_of_several() -> None:
    """Where nothing chooses, the error lists the names, and nothing has got one."""
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
        streamed(store, *archive, name=name)
        assert unpacked(store) == (LAYERS[layer],)
    for name in ("", "c", "v1", "@2", "latest"):
        store = Store()
        with pytest.raises(
            ImageNotFound, match=r"'example.com/a:v1', 'example.com/a:v2', 'example.com/b:latest'"
        ) as caught:
            streamed(store, *archive, name=name)
        names = ("example.com/a:v1", "example.com/a:v2", "example.com/b:latest")
        assert caught.value.available == names
        assert not store.documents


def test_a_name_that_several_have_chooses_none() -> None:
    """The end of a name will do where it is the end of one name alone."""
    raw = config(LAYERS[:1])
    images = [(f"{n}.json", [f"host{n}/app:v1"], ["a.tar"]) for n in range(30)]
    archive = [
        entry("a.tar", LAYERS[0]),
        *(entry(name, raw) for name, _, _ in images),
        manifest_json(*images),
    ]
    with pytest.raises(ImageNotFound, match="'host19/app:v1' and 10 more"):
        streamed(Store(), *archive, name="app:v1")
    with pytest.raises(ImageNotFound, match="the archive has no images"):
        streamed(Store(), manifest_json())


def test_extended_headers_in_a_row_are_bounded() -> None:
    """A bomb in headers: each may be 1 MiB, and readers differ on two of one type."""
    with_header = tar(entry("a", pax_headers={"k": "v" * 700_000}))
    size = int(with_header[124:135], 8)
    one = with_header[: 512 + size + -size % 512]
    stack = b"".join(one.replace(b"k=", b"%c=" % letter) for letter in b"abcdef")
    with pytest.raises(CorruptBlob, match="two extended headers of the type 'x'"):
        stream_archive([stack, with_header], Store())


def test_docker_with_containerd_s_store_keeps_the_manifest() -> None:
    """`docker save` has the registry's manifest then, below an index of platforms it has not."""
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
    image = streamed(store, *members)
    assert str(image.digest) == f"sha256:{sha(manifest)}"
    assert unpacked(store) == LAYERS
    with pytest.raises(InvalidManifest, match="not in the archive"):
        streamed(Store(), *members, form="oci")


@pytest.mark.parametrize("index", [b'{"manifests": 1}', b'{"schemaVersion":2,"manifest":null}'])
def test_docker_s_index_json_may_be_wrong(index: bytes) -> None:
    """Docker 25.0 wrote one that is none; manifest.json tells all (moby/moby#47210)."""
    members = [one for one in docker_new() if one[0].name != "index.json"]
    store = Store()
    streamed(store, *members, entry("index.json", index))
    assert unpacked(store) == LAYERS


def test_another_manifest_is_not_taken_for_it() -> None:
    """The manifest of `docker save` 25 says that the layers are not compressed: they are now."""
    store = Store()
    image = streamed(store, *docker_new())
    (described_,) = json.loads(docker_new()[-3][1])["manifests"]
    assert str(image.digest) != described_["digest"]


# --- The OCI form


@pytest.mark.parametrize("form", ["", "oci"])
def test_an_oci_archive_keeps_its_digests(form: str) -> None:
    """Exact digests are to be kept; what the store has is not read again."""
    members = oci(packed=True)
    store = Store()
    image = streamed(store, *members, form=form)
    assert str(image.digest) == json.loads(members[-2][1])["manifests"][0]["digest"]
    assert unpacked(store) == LAYERS
    assert isinstance(image, Image)
    again = Store(dict(store.blobs))
    streamed(again, *reversed(members), form=form)
    assert again.read == []


def test_layers_that_are_not_compressed_stay_so_where_the_form_is_told() -> None:
    """`oci-archive:` says that a tar below blobs/ is to be left as it is, in any archive."""
    for members in (oci(), docker_new()):
        store = Store()
        image = streamed(store, *members, form="oci")
        assert unpacked(store) == LAYERS
        assert set(LAYERS) <= set(store.blobs.values())
        assert isinstance(image, Image)


def test_layers_that_are_not_compressed_need_a_spool_where_nothing_tells(tmp_path: Path) -> None:
    """No silent buffering: the error says which order it was, and to use --spool."""
    store = Store()
    with pytest.raises(
        SpoolRequired, match=r"came before oci-layout and index\.json.*oci-archive:.*--spool"
    ):
        streamed(store, *oci())
    assert not store.documents
    for spool in (True, tmp_path, str(tmp_path)):
        store = Store()
        image = streamed(store, *oci(), spool=spool)
        assert unpacked(store) == LAYERS
        assert str(image.digest) == json.loads(oci()[-2][1])["manifests"][0]["digest"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("first", ["index.json", "oci-layout"])
def test_an_index_in_front_tells_the_form(first: str) -> None:
    """No writer of Docker's form puts it there: layers that are not compressed stay as they are."""
    members = sorted(oci(), key=lambda member: member[0].name != first)
    store = Store()
    image = streamed(store, *members)
    assert unpacked(store) == LAYERS
    assert str(image.digest) == f"sha256:{sha(oci_manifest(config(), list(LAYERS)))}"


def test_docker_s_form_is_read_where_its_index_comes_first() -> None:
    """What manifest.json says counts, whatever came first: the layers are not compressed then."""
    members = sorted(docker_new(), key=lambda member: member[0].name != "index.json")
    store = Store()
    streamed(store, *members)
    assert unpacked(store) == LAYERS


def test_what_was_spooled_is_compressed_where_it_was_docker_s() -> None:
    """With a spool nothing is guessed: manifest.json comes, and tells."""
    store = Store()
    streamed(store, *docker_new(), spool=True)
    assert unpacked(store) == LAYERS
    assert not set(LAYERS) & set(store.blobs.values())


def test_a_directory_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    """It is the spool's failure, and told before anything is read."""
    with pytest.raises(SpoolError, match="missing cannot be made"):
        stream_archive(_unread(), Store(), spool=tmp_path / "missing")


def test_an_index_of_indexes_with_attestations() -> None:
    """buildx: platforms, and attestations of unknown/unknown whose layers are JSON."""
    statement = json.dumps({"_type": "https://in-toto.io/Statement/v0.1"}).encode()
    empty = config(())
    attestation = oci_manifest(empty, [statement], "application/vnd.in-toto+json")
    packed = [gzip.compress(one, mtime=0) for one in LAYERS]
    manifest = oci_manifest(config(), packed)
    inner = oci_index(described(MANIFEST, manifest), described(MANIFEST, attestation))
    outer = oci_index(described(INDEX, inner), described(INDEX, inner))
    store = Store()
    index = streamed(
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


def test_names_of_an_oci_archive_choose() -> None:
    """By ref.name, by containerd's whole name, by digest; one image may have several."""
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
        image = streamed(Store(), *archive, form="oci", name=name)
        assert str(image.digest) == f"sha256:{sha(wanted)}"
    with pytest.raises(ImageNotFound, match=r"say which image: it has 'a', 'b', 'host/app:c'$"):
        streamed(Store(), *archive, form="oci")


def test_an_artifact_of_any_bytes() -> None:
    """Blobs of unknown content go as they are, large JSON among them, however it is hashed."""
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
    streamed(
        store,
        *map(blob, [large, odd, b"", b"{}", raw]),
        entry(f"blobs/{digest.replace(':', '/')}", strong),
        entry(f"blobs/{small_digest.replace(':', '/')}", small),
        *oci_end(described(MANIFEST, raw)),
    )
    assert {large, odd, b"", b"{}", strong, small} == set(store.blobs.values())


def test_layers_that_are_elsewhere_and_data_that_is_embedded() -> None:
    """A foreign layer is in no archive (layer.md); `data` is the blob itself (descriptor.md)."""
    foreign = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
    manifest = json.loads(oci_manifest(b"{}", []))
    manifest["config"]["data"] = "e30="
    manifest["layers"] = [described(foreign, b"elsewhere")]
    raw = json.dumps(manifest).encode()
    store = Store()
    image = streamed(store, blob(raw), *oci_end(described(MANIFEST, raw)))
    assert list(store.blobs.values()) == [b"{}"]
    assert isinstance(image, Image)
    with pytest.raises(InvalidManifest, match="where its URLs say"):
        image.layers[0].open()


# --- What is wrong with an archive


def old(**changes: Any) -> list[Member]:
    """Return an archive of one layer, with other parts."""
    raw = changes.get("config", config(LAYERS[:1]))
    parts = {
        "layer": [entry("x/layer.tar", LAYERS[0])],
        "json": [entry("c.json", raw)],
        "manifest": [manifest_json(("c.json", ["a:v1"], ["x/layer.tar"]))],
    } | changes
    return [*parts["layer"], *parts["json"], *parts["manifest"]]


WRONG: dict[str, tuple[list[Member], type[BrolgaError], str]] = {
    "another layer": (
        old(layer=[entry("x/layer.tar", LAYERS[1])]),
        DigestMismatch,
        f"sha256:{sha(LAYERS[1])} uncompressed, where sha256:{sha(LAYERS[0])}",
    ),
    "another layer by its name": (
        [entry(f"{sha(LAYERS[0])}.tar", LAYERS[1])],
        DigestMismatch,
        "uncompressed, where",
    ),
    "another blob": (
        [entry(f"blobs/sha256/{sha(b'x')}", gzip.compress(b"y"))],
        DigestMismatch,
        "was expected",
    ),
    "another document": (
        [entry(f"blobs/sha256/{sha(b'x')}", b"{}")],
        DigestMismatch,
        "was expected",
    ),
    "another config by its name": (
        [entry(f"{sha(b'x')}.json", b"{}")],
        DigestMismatch,
        "was expected",
    ),
    "an empty config by its name": (
        old(
            json=[entry(f"{sha(b'x')}.json", b"")],
            manifest=[manifest_json((f"{sha(b'x')}.json", [], []))],
        ),
        InvalidManifest,
        "no JSON",
    ),
    "no layer there": (old(layer=[]), InvalidManifest, "'x/layer.tar', which is not in"),
    "no config there": (old(json=[]), InvalidManifest, "'c.json', which is not in the archive"),
    "a path out of it": (
        old(manifest=[manifest_json(("../../etc/passwd", [], []))]),
        InvalidManifest,
        "which is not in",
    ),
    "a layer too many": (
        old(manifest=[manifest_json(("c.json", [], ["x/layer.tar"] * 2))]),
        InvalidManifest,
        "has 2 layers of 'c.json', which has 1",
    ),
    "a layer that is none": (
        old(layer=[entry("x/layer.tar", b"no tar")]),
        InvalidManifest,
        "neither a tar",
    ),
    "a layer that is none, by a digest": (
        old(
            layer=[blob(b"no tar" * 200)],
            manifest=[manifest_json(("c.json", [], [f"blobs/sha256/{sha(b'no tar' * 200)}"]))],
        ),
        InvalidManifest,
        "neither a tar",
    ),
    "a layer that is JSON": (
        old(layer=[entry("x/layer.tar", b"{}")]),
        InvalidManifest,
        "neither a tar",
    ),
    "a config that is a layer": (
        old(manifest=[manifest_json(("x/layer.tar", [], []))]),
        InvalidManifest,
        "bytes, where a document has",
    ),
    "a config that is none": (old(config=b"{}"), InvalidManifest, "rootfs"),
    "a manifest.json that is none": (
        [entry("manifest.json", b"[")],
        InvalidManifest,
        r"manifest\.json: \$: not JSON",
    ),
    "a manifest.json of two": (
        [entry("manifest.json", b'[],"a":[]')],
        InvalidManifest,
        "more than one",
    ),
    "a manifest.json of other letters": (
        [entry("manifest.json", b'[{"config":"x"}]')],
        InvalidManifest,
        "two meanings",
    ),
    "a large manifest.json": (
        [entry("manifest.json", b"[" + b" " * (4 << 20) + b"]")],
        InvalidManifest,
        "'manifest.json' has 4194306 bytes",
    ),
    "a large document": (
        old(json=[entry("c.json", b"{" + b" " * (4 << 20) + b"}")]),
        InvalidManifest,
        "no JSON of bounded size",
    ),
    "a link in a circle": (
        old(layer=[symlink("x/layer.tar", "../y"), symlink("y", "x/layer.tar")]),
        InvalidManifest,
        "a link that leads to no file",
    ),
    "a link out of it": (
        old(layer=[symlink("x/layer.tar", "../../y")]),
        InvalidManifest,
        "not in the archive",
    ),
    "a link to the root": (
        old(layer=[symlink("x/layer.tar", "/etc/passwd")]),
        InvalidManifest,
        "not in the archive",
    ),
    "a name out of it": ([entry("a/../../b", b"x")], CorruptBlob, r"leads out of it: 'a/\.\./"),
    "a name at the root": ([entry("/b", b"x")], CorruptBlob, "leads out of it"),
    "two files of one name": (
        [*old()[:2], entry("./c.json", b"{}")],
        CorruptBlob,
        r"two files 'c\.json'",
    ),
    "a file and a link of one name": (
        [entry("a", b""), symlink("a", "b")],
        CorruptBlob,
        "two files 'a'",
    ),
    "a blob twice, once wrong": (
        [blob(b"xyz"), entry(f"blobs/sha256/{sha(b'xyz')}", b"abc")],
        DigestMismatch,
        "was expected",
    ),
    "a sparse file": (
        old(layer=[entry("x/layer.tar", LAYERS[0], pax_headers=SPARSE)]),
        InvalidManifest,
        "not in the archive",
    ),
    "headers without end": (
        [entry("b", pax_headers={"comment": "v" * 1_100_000})],
        CorruptBlob,
        "an extended tar header of",
    ),
    "a blob that claims a digest that is none": (
        [blob(b"x"), entry("blobs/sha256/odd", b"y"), *oci_end()],
        ImageNotFound,
        "the archive has no images",
    ),
    "neither form": ([entry("a", b"")], InvalidManifest, "neither manifest.json nor index.json"),
    "nothing at all": ([], InvalidManifest, "neither manifest.json nor index.json"),
    "an index that names nothing there": (
        oci_end(described(MANIFEST, b"x")),
        InvalidManifest,
        "the index names 'blobs/sha256/",
    ),
    "a manifest that names nothing there": (
        [blob(oci_manifest(b"{}", [])), *oci_end(described(MANIFEST, oci_manifest(b"{}", [])))],
        InvalidManifest,
        "a manifest names 'blobs/sha256/",
    ),
    "a child that names nothing there": (
        [
            blob(oci_index(described(MANIFEST, b"x"))),
            *oci_end(described(INDEX, oci_index(described(MANIFEST, b"x")))),
        ],
        InvalidManifest,
        "the index names",
    ),
    "another layout": (
        [entry("index.json", oci_index()), entry("oci-layout", b'{"imageLayoutVersion":"2"}')],
        InvalidManifest,
        "version '2'",
    ),
    "a manifest that is a layer": (
        [blob(LAYERS[0]), *oci_end(described(MANIFEST, LAYERS[0]))],
        InvalidManifest,
        "bytes, where a document has",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_told_and_nothing_is_tagged(name: str) -> None:
    """Each a clear typed error, and no name is put."""
    members, kind, words = WRONG[name]
    store = Store()
    with pytest.raises(kind, match=words) as caught:
        streamed(store, *members)
    assert not store.documents
    assert caught.value.side == "source"


def test_a_blob_of_another_size_than_its_manifest_says() -> None:
    """A size is held against the blob too, as a registry does."""
    for data, part in ((b"{}", "config"), (gzip.compress(b""), "layers")):
        manifest = json.loads(oci_manifest(b"{}", [gzip.compress(b"")] if part == "layers" else []))
        wrong = manifest["config"] if part == "config" else manifest["layers"][0]
        wrong["size"] += 1
        raw = json.dumps(manifest).encode()
        with pytest.raises(InvalidManifest, match=rf"has {len(data)} bytes of"):
            streamed(
                Store(),
                *map(blob, dict.fromkeys([b"{}", data, raw])),
                *oci_end(described(MANIFEST, raw)),
            )


@pytest.mark.parametrize(("form", "words"), [("docker", "manifest.json"), ("oci", "index.json")])
def test_a_form_that_is_told_must_be_there(form: str, words: str) -> None:
    """The error says which file is missing."""
    with pytest.raises(InvalidManifest, match=rf"(?i)no {form}.* {words} is missing"):
        streamed(Store(), entry("a", b""), form=form)


def test_files_that_an_oci_archive_does_not_name_are_passed_by() -> None:
    """Where the form is told, a tar beside the blobs is nothing of the image's."""
    extra = [entry("x/layer.tar", LAYERS[0]), entry("y.gz", gzip.compress(b"")), entry("z", b"")]
    store = Store()
    streamed(store, *extra, *oci(), entry("blobs/sha256/none", LAYERS[0]), form="oci")
    assert len(store.read) == 3


def test_a_file_that_was_passed_by_is_no_blob() -> None:
    """Whatever asks for it is told so."""
    passed = items.Passed("blobs/sha256/x", "other", 1)
    with pytest.raises(InvalidManifest, match="is not sha256:"):
        passed.blob(Descriptor("application/x", Digest.of(b"x"), 1))


def test_a_blob_may_come_twice() -> None:
    """What its digest names is the same each time; it is held against it each time."""
    members = oci(packed=True)
    store = Store()
    streamed(store, *members[:2], *members)
    assert unpacked(store) == LAYERS


@pytest.mark.parametrize("name", [*FORMS, "oci"])
def test_an_archive_cut_anywhere_is_refused(name: str) -> None:
    """A tar without its end is not whole, even where all files seem to be there."""
    data = tar(*(oci(packed=True) if name == "oci" else FORMS[name]()))
    end = len(data.rstrip(b"\0"))
    whole = end + -end % 512 + 1024
    for size in [0, 1, 511, 512, 700, *range(1024, whole, 512)]:
        store = Store()
        with pytest.raises(BrolgaError) as caught:
            stream_archive([data[:size]] if size else [], store)
        assert isinstance(caught.value, CorruptBlob), caught.value
        assert not store.documents
    stream_archive([data[:whole]], Store())


@pytest.mark.parametrize(
    "data",
    [b"x" * 2000, gzip.compress(tar("a")), b"\0" * 512 + b"x" * 512],
    ids=["no tar", "gzip", "no header"],
)
def test_what_is_no_tar_is_refused(data: bytes) -> None:
    """A broken tar is CorruptBlob; one that is compressed as a whole is told what to do."""
    words = "gzip -dc" if data.startswith(b"\x1f\x8b") else "tar"
    with pytest.raises(CorruptBlob, match=words):
        stream_archive([data], Store())


def test_documents_are_kept_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store of JSON is no archive of images: memory is bounded by count and by bytes."""
    many = [entry(f"{number}.json", b"{}") for number in range(12)]
    monkeypatch.setattr(pipe, "_MAX_DOCUMENTS", 10)
    with pytest.raises(InvalidManifest, match="more than 10 documents"):
        streamed(Store(), *many)
    monkeypatch.setitem(pipe._ROOM, "unnamed", 5000)
    with pytest.raises(InvalidManifest, match="5000 bytes of them"):
        streamed(Store(), entry("a", b"{" * 3000), entry("b", b"{" * 3000))


def test_json_beyond_the_bounds_is_a_blob_like_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is named by its digest it may be a layer; only a document cannot be had of it."""
    monkeypatch.setitem(pipe._ROOM, "other", 1000)
    statement = json.dumps({"a": "b" * 2000}).encode()
    manifest = oci_manifest(b"{}", [statement], "application/json")
    store = Store()
    streamed(
        store, *map(blob, [b"{}", statement, manifest]), *oci_end(described(MANIFEST, manifest))
    )
    assert statement in store.blobs.values()


def artifact(*parts: bytes) -> list[Member]:
    """Write an artifact of JSON blobs, which come before their manifest."""
    manifest = oci_manifest(b"{}", list(parts), "application/json")
    return [*map(blob, [b"{}", *parts, manifest]), *oci_end(described(MANIFEST, manifest))]


def test_blobs_of_json_take_no_room_of_the_documents(monkeypatch: pytest.MonkeyPatch) -> None:
    """An artifact may be as much JSON as it likes, before its manifest, in any sizes."""
    monkeypatch.setitem(pipe._ROOM, "signed", 20_000)
    monkeypatch.setitem(pipe._ROOM, "other", 3000)
    parts = [
        json.dumps({"n": number, "a": "b" * size}).encode()
        for number, size in enumerate([2000] * 5 + [100] * 50)
    ]
    for form in ("", "oci"):
        store = Store()
        streamed(store, *artifact(*parts), form=form)
        assert set(parts) <= set(store.blobs.values())
        assert "tag" in store.documents


def test_a_document_without_room_needs_a_spool(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Blobs that look like documents may leave no room for one: an error, which names --spool."""
    monkeypatch.setitem(pipe._ROOM, "signed", 1500)
    parts = [json.dumps({"schemaVersion": number, "a": "b" * 700}).encode() for number in range(9)]
    store = Store()
    with pytest.raises(SpoolRequired, match=r"is a document of the image.*no room left.*--spool"):
        streamed(store, *artifact(*parts))
    assert not store.documents
    streamed(store, *artifact(*parts), spool=tmp_path)
    assert set(parts) <= set(store.blobs.values())
    assert "tag" in store.documents


def test_a_config_that_waited_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a spool, Docker's form finds its config there too."""
    monkeypatch.setitem(pipe._ROOM, "signed", 600)
    extra = blob(json.dumps({"rootfs": "b" * 400}).encode())
    with pytest.raises(SpoolRequired, match="--spool"):
        streamed(Store(), extra, *docker_new(), form="docker")
    store = Store()
    streamed(store, extra, *docker_new(), form="docker", spool=True)
    assert unpacked(store) == LAYERS


def test_files_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tar of nothing but names is bounded too."""
    monkeypatch.setattr(contents_module, "_MAX_FILES", 10)
    with pytest.raises(CorruptBlob, match="more than 10 files"):
        streamed(Store(), *[entry(f"{number}", b"") for number in range(11)])


def test_names_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name may have a mebibyte: all of them, and what links lead to, are kept within a bound."""
    monkeypatch.setattr("brolga.stores.archive.contents._MAX_NAMES", 1000)
    for members in ([entry("a" * 400), entry("b" * 601)], [symlink("a", "b" * 999), entry("c")]):
        with pytest.raises(CorruptBlob, match="more than 1000 characters of names"):
            stream_archive([tar(*members)], Store())
    with pytest.raises(InvalidManifest, match="not an archive of images"):
        stream_archive([tar(*map(entry, "abc"))], Store())


def test_a_link_does_not_make_one_blob_another() -> None:
    """What is said to be sent was: "content ... MUST match the digest" (image-layout.md, Blobs).

    A layer and a config, each under the name of another, which is a link to it.
    """
    raw, other = config(LAYERS[:1]), config(LAYERS[1:])
    packed = [gzip.compress(bytes(500) + one, 0, mtime=0) for one in (b"a", b"b")]
    manifest = oci_manifest(raw, packed[:1])
    for parts in (
        [blob(packed[1]), symlink(f"blobs/sha256/{sha(packed[0])}", sha(packed[1])), blob(raw)],
        [blob(packed[0]), symlink(f"blobs/sha256/{sha(raw)}", sha(other)), blob(other)],
    ):
        store = Store()
        with pytest.raises(DigestMismatch, match="a file of the archive is") as found:
            stream_archive(
                [tar(*parts, blob(manifest), *oci_end(described(MANIFEST, manifest)))], store
            )
        assert found.value.side == "source"


def test_a_full_spool_names_its_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file without a name says nothing: the directory can be changed."""

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", full)
        with pytest.raises(SpoolError, match=f"{tmp_path}.*choose another directory"):
            stream_archive([tar(*docker_new())], Store(), spool=tmp_path)


def test_a_failing_source_is_a_source_error() -> None:
    """The archive's side failed, and nothing is tagged."""

    def blocks() -> Any:
        yield tar(*docker_old())[:3000]
        raise OSError("gone")

    with pytest.raises(SourceError, match="gone"):
        stream_archive(blocks(), Store())


def test_a_failing_target_ends_it() -> None:
    """What the store raises is raised; the source is closed."""
    closed = []

    def blocks() -> Any:
        try:
            yield tar(*docker_old())
        finally:
            closed.append(True)

    class Full(Store):
        def push(self, blob: Any, watch: Callable[[], None] = lambda: None) -> Any:
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        stream_archive(blocks(), Full())
    assert closed


def test_sent_blobs_say_so() -> None:
    """Their bytes came down a pipe: they cannot be read, or sent elsewhere, from the tree."""
    tree = stream_archive([tar(*oci(packed=True))], Store())
    assert isinstance(tree, Image)
    with pytest.raises(LayerError, match="came down a pipe"):
        tree.layers[0].open()
    with pytest.raises(NotComputed):
        _ = tree.layers[0].diff_id  # type: ignore[attr-defined]
    assert tree.layers[0].media_type == f"{LAYER}+gzip"  # type: ignore[attr-defined]
    with pytest.raises(LayerError, match="came down a pipe"):
        push(Store(), tree, "elsewhere")


# --- Waiting for a pipe


class Slow:
    """A source that opens itself: it gives blocks, and None where nothing came in time."""

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
def test_a_slow_pipe_is_waited_for(size: int) -> None:
    """An empty block says that nothing came: it is nothing of the archive."""
    source = Slow(tar(*docker_old(), entry("pad", bytes(3000))), size)
    store = Store()
    tree = stream_archive(source, store)
    push(Known(store), tree, "tag")
    assert unpacked(store) == LAYERS
    assert source.closed
    assert 1.0 in source.waits


def test_a_layer_does_not_wait_for_the_pipe_while_it_has_work() -> None:
    """A pass asks without waiting while blocks are under way, and is told that nothing came."""
    heard: list[bool] = []

    class Hearing(Store):
        def push(self, blob: Any, watch: Callable[[], None] = lambda: None) -> Any:
            with blob.open() as stream:
                heard.extend(not block for block in stream.blocks())
            return blob.descriptor

    layer = tar(entry("a", bytes(3 << 20)))
    packed = gzip.compress(layer, mtime=0)
    for name, data in (("x/layer.tar", layer), (f"{sha(packed)}.tar.gz", b"")):
        heard.clear()
        content = data or packed
        stream = Slow(tar(entry(name, content)), 1000 if not data else 1 << 20)
        with pytest.raises(InvalidManifest):
            stream_archive(stream, Hearing())
        assert True in heard
        assert False in heard
