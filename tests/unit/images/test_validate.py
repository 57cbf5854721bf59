"""validate.py: whatever does not agree is told, each thing on a line of its own."""

from __future__ import annotations

import gzip
import io
import tarfile
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pytest

from brolga import Descriptor, Digest, NotComputed, NotFound, StreamLayer, Unauthorized
from brolga.images import BlockStream, Image, ImageIndex, StoredBlob
from brolga.images import validate as module
from brolga.images.validate import Problem, validate
from brolga.spec.config import History, ImageConfig
from brolga.spec.descriptor import Platform
from brolga.spec.index import Index
from brolga.spec.manifest import Manifest
from brolga.spec.mediatypes import (
    DOCKER_LAYER_GZIP,
    OCI_CONFIG,
    OCI_EMPTY,
    OCI_INDEX,
    OCI_LAYER,
    OCI_LAYER_GZIP,
    OCI_LAYER_ZSTD,
    OCI_MANIFEST,
    OCI_NONDISTRIBUTABLE_LAYER_GZIP,
)
from brolga.stream.decompression import Limits

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from brolga.images import Tree

ARM = Platform("linux", "arm64", "v8")


def tar(name: str, size: int = 10) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        info = tarfile.TarInfo(name)
        info.size = size
        archive.addfile(info, io.BytesIO(bytes(size)))
    return out.getvalue()


A, B = gzip.compress(tar("a"), mtime=0), gzip.compress(tar("b"), mtime=0)


@dataclass
class Store:
    """Blobs by their digests; what is changed there is changed for all who read."""

    blobs: dict[Digest, bytes] = field(default_factory=dict)
    trees: dict[Digest, Tree] = field(default_factory=dict)
    reads: list[Digest] = field(default_factory=list)
    loads: list[Digest] = field(default_factory=list)

    def put(self, data: bytes, media_type: str = OCI_LAYER_GZIP) -> Descriptor:
        digest = Digest.of(data)
        self.blobs[digest] = data
        return Descriptor(media_type, digest, len(data))

    def blob(self, descriptor: Descriptor) -> StoredBlob:
        def blocks() -> Iterator[bytes]:
            self.reads.append(descriptor.digest)
            if descriptor.digest not in self.blobs:
                raise NotFound("no such blob", method="GET", url="", status=404)
            data = self.blobs[descriptor.digest]
            for at in range(0, len(data), 3):
                yield data[at : at + 3]

        return StoredBlob(descriptor, lambda: BlockStream(x for x in blocks()))

    def image(
        self,
        layers: Sequence[Descriptor],
        config: bytes | None = None,
        config_type: str = OCI_CONFIG,
        **changes: object,
    ) -> Image:
        """Make an image as it should be, but for what is given."""
        if config is None:
            plain = [gzip.decompress(self.blobs[layer.digest]) for layer in layers]
            members = {"diff_ids": [Digest.of(data) for data in plain], **changes}
            config = ImageConfig.empty().replace(**members).raw  # type: ignore[arg-type] # as given
        described = self.put(config, config_type)
        manifest = Manifest.new(described, layers, artifact_type="a/b")
        return Image(manifest, self.blob(described), tuple(map(self.blob, layers)))

    def index(self, *children: Descriptor) -> ImageIndex:
        def load(descriptor: Descriptor) -> Tree:
            self.loads.append(descriptor.digest)
            if descriptor.digest not in self.trees:
                raise NotFound("no such manifest", method="GET", url="", status=404)
            return self.trees[descriptor.digest]

        return ImageIndex(Index.new(children), load)

    def child(self, tree: Tree, platform: Platform | None = None) -> Descriptor:
        self.trees[tree.digest] = tree
        return replace(tree.descriptor, platform=platform)


@pytest.fixture
def store() -> Store:
    return Store()


def flaws(tree: Tree, *, fast: bool = False) -> list[str]:
    return [problem.what for problem in validate(tree, fast=fast)]


def only(tree: Tree, *, fast: bool = False) -> Problem:
    (problem,) = validate(tree, fast=fast)
    return problem


def test_an_image_that_is_right_has_no_problem(store: Store) -> None:
    """What `crane validate` finds good is good here."""
    assert flaws(store.image([])) == []
    assert flaws(store.image([store.put(A), store.put(B)])) == []
    assert flaws(Image.empty()) == []


def test_media_types_of_two_families_are_told(store: Store) -> None:
    """Umoci and skopeo refuse Docker's layers in an OCI manifest, and the other way round."""
    image = store.image([store.put(A), store.put(B, DOCKER_LAYER_GZIP)])
    second = image.manifest.layers[1].digest
    what = f"has the media type {DOCKER_LAYER_GZIP}, which some tools refuse in a manifest of the"
    for fast in (True, False):
        problem = only(image, fast=fast)
        assert problem.place == f"image {image.digest}, {second}"
        assert problem.what == f"{what} type {OCI_MANIFEST}"


@pytest.mark.parametrize("data", [A, tar("a")])
def test_a_layer_that_no_tool_would_unpack_is_told(store: Store, data: bytes) -> None:
    """It is one by its bytes and its DiffID; signatures and attestations are not tars."""

    def image(data: bytes, media_type: str, diff_id: Digest) -> Image:
        config = ImageConfig.empty().replace(diff_ids=[diff_id]).raw
        return store.image([store.put(data, media_type)], config)

    assert only(image(data, "text/plain", Digest.of(tar("a")))).what == (
        "is a tar by its bytes and its DiffID, but its media type text/plain is not a layer's"
    )
    assert flaws(image(data, "text/plain", Digest.of(b"other"))) == []
    statement = b'{"_type":"x"}'
    assert flaws(image(statement, "application/vnd.in-toto+json", Digest.of(statement))) == []


def test_an_image_in_memory_is_validated_as_others(store: Store) -> None:
    """Layers that were put on top are looked at as they will be pushed."""
    top = StoredBlob(
        store.put(B), store.blob(store.put(B)).opener, None, lambda: Digest.of(tar("b"))
    )
    assert flaws(store.image([store.put(A)]).append(top)) == []
    wrong = replace(top, diff_id_of=lambda: Digest.of(b""))
    assert "the uncompressed bytes hash to" in only(store.image([]).append(wrong)).what


def test_an_unread_stream_cannot_be_validated(store: Store) -> None:
    """Nothing is known of a stream before it was read."""
    with pytest.raises(NotComputed):
        flaws(store.image([]).append(StreamLayer([tar("a")])))


def test_a_problem_is_a_line_with_the_layers_number_and_digest(store: Store) -> None:
    """Each problem says where it is."""
    first, second = store.put(A), store.put(B)
    image = store.image([first, second])
    del store.blobs[second.digest]
    assert str(only(image)) == f"image {image.digest}, layer 2 {second.digest}: no such blob"


def test_blobs_whose_bytes_are_others(store: Store) -> None:
    """Every blob has the size and the digest that its descriptor says."""
    layers = [store.put(gzip.compress(tar(name), mtime=0)) for name in "abc"]
    image = store.image(layers)
    a, b, c = (layer.digest for layer in layers)
    other = bytearray(store.blobs[a])
    other[4] ^= 1  # gzip's time
    store.blobs[a] = bytes(other)
    store.blobs[b] += gzip.compress(b"", mtime=0)
    store.blobs[c] = store.blobs[c][:-1]
    cut, size = layers[2].size - 1, len(tar("c"))
    assert flaws(image) == [
        f"the bytes hash to {Digest.of(bytes(other))}",
        f"has more than the {layers[1].size} bytes that its descriptor says",
        (
            f"the gzip stream is cut short: it ends in the middle after {cut} bytes, "
            f"{size} uncompressed"
        ),
        f"has {cut} bytes, where its descriptor says {layers[2].size}",
    ]


def test_a_diff_id_is_the_digest_of_the_uncompressed_bytes(store: Store) -> None:
    """DiffIDs of the config equal what the layers are (config.md, rootfs)."""
    image = store.image([store.put(A)], diff_ids=[Digest.of(A)])
    assert only(image).what == (
        f"the uncompressed bytes hash to {Digest.of(tar('a'))}, where the config's DiffID is "
        f"{Digest.of(A)}"
    )
    assert flaws(store.image([store.put(A)], diff_ids=[Digest.of(tar("a"), "sha512")])) == []


def test_digests_that_cannot_be_computed_are_told(store: Store) -> None:
    """What cannot be verified is not taken for right."""
    blake = Digest("blake3", "0" * 64)
    assert "cannot be computed here" in only(store.image([store.put(A)], diff_ids=[blake])).what
    layer = replace(store.put(A), digest=blake)
    store.blobs[blake] = A
    assert "cannot be computed here" in only(store.image([layer])).what


def test_counts_agree(store: Store) -> None:
    """As many layers as DiffIDs, and as entries of a history that is there."""
    layers = [store.put(A), store.put(B)]
    one = ImageConfig.empty().replace(diff_ids=[Digest.of(tar("a"))])
    for fast in (False, True):
        assert flaws(store.image(layers, one.raw), fast=fast) == [
            "has 1 DiffIDs, where the manifest has 2 layers",
            "has a history of 1 layers, where the manifest has 2",
        ]
    two = ImageConfig.empty().replace(diff_ids=[Digest.of(tar(name)) for name in "ab"])
    history = (History(), History(empty_layer=True), History())
    assert flaws(store.image(layers, two.replace(history=history).raw)) == []
    bare = two.raw.replace(b'"history":[{},{}]', b'"history":[]')
    assert b'"history":[]' in bare
    assert flaws(store.image(layers, bare)) == []


def test_a_config_says_its_platform(store: Store) -> None:
    """Architecture and os are REQUIRED (config.md, Properties)."""
    config = b'{"architecture":"amd64","rootfs":{"type":"layers","diff_ids":[]}}'
    assert only(store.image([], config)).what == (
        "does not say the operating system and the architecture"
    )


@pytest.mark.parametrize("media_type", [OCI_LAYER, OCI_LAYER_ZSTD])
def test_the_media_type_agrees_with_the_bytes(store: Store, media_type: str) -> None:
    """A media type that contradicts the first bytes is an error here, and here alone."""
    promised = {OCI_LAYER: "none", OCI_LAYER_ZSTD: "zstd"}[media_type]
    assert only(store.image([store.put(A, media_type)])).what == (
        f"is compressed by gzip, where the media type {media_type} says {promised}"
    )


def test_a_layer_is_a_tar_that_can_be_read(store: Store) -> None:
    """What is broken in an archive does not hide what else is wrong."""
    plain = tar("a")[:700] + b"not a header" * 100
    image = store.image([store.put(gzip.compress(plain, mtime=0))], diff_ids=[Digest.of(b"")])
    broken, other = flaws(image)
    assert broken == "not a valid tar header"
    assert other.startswith(f"the uncompressed bytes hash to {Digest.of(plain)}, where")


def test_an_empty_blob_is_no_gzip(store: Store) -> None:
    """A gzip stream has a header at the least."""
    image = store.image([store.put(b"")], diff_ids=[Digest.of(b"")])
    assert "is compressed by none" in only(image).what


def test_a_bomb_is_a_problem(store: Store) -> None:
    """The limits hold where layers are looked at."""
    image = store.image([store.put(gzip.compress(tar("a", 100_000)))])
    (problem,) = validate(image, limits=Limits(size=9999))
    assert "more than 9999 bytes uncompressed" in problem.what


def test_layers_whose_bytes_are_elsewhere_are_passed_over(store: Store) -> None:
    """Registries do not hold them (layer.md, Non-Distributable Layers)."""
    layer = store.put(A, OCI_NONDISTRIBUTABLE_LAYER_GZIP)
    image = store.image([layer])
    del store.blobs[layer.digest]
    assert flaws(image) == []


def test_an_artifact_has_blobs_of_any_kind(store: Store) -> None:
    """Of an artifact, digests and sizes must be right, and no more."""
    layer = store.put(b"\x1f\x8b\x08 no gzip", "text/plain")
    image = store.image([layer], b"{}", OCI_EMPTY)
    assert flaws(image) == []
    store.blobs[layer.digest] = b"\x1f\x8b\x08 no GZIP"
    store.blobs[Digest.of(b"{}")] = b"{"
    assert flaws(image, fast=True) == []
    assert flaws(image) == [
        "has 1 bytes, where its descriptor says 2",
        f"the bytes hash to {Digest.of(store.blobs[layer.digest])}",
    ]


@pytest.mark.parametrize(
    ("bytes_", "what"),
    [
        (None, "no such blob"),
        (b"", "has 0 bytes, where its descriptor says"),
        (b"{" * 10_000, "has more than the"),
    ],
)
def test_a_config_whose_bytes_are_others(store: Store, bytes_: bytes | None, what: str) -> None:
    """A config that is not there, or another, says nothing of the layers."""
    image = store.image([store.put(A)])
    config = image.manifest.config.digest
    del store.blobs[config]
    if bytes_ is not None:
        store.blobs[config] = bytes_
    problem = only(image)
    assert problem.place == f"image {image.digest}, config {config}"
    assert problem.what.startswith(what)


def test_a_config_that_is_none(store: Store) -> None:
    """The document must be one of config.md."""
    assert only(store.image([], b"[]"), fast=True).what == "$: not a JSON object"


def test_a_config_of_any_size_is_not_read(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is not what a descriptor claims."""
    monkeypatch.setattr(module, "MAX_SIZE", 10)
    image = store.image([])
    size = image.manifest.config.size
    assert only(image).what == f"has {size} bytes, where at most 10 are read"
    assert store.reads == []


def test_fast_reads_no_layer(store: Store) -> None:
    """`fast` looks at manifests and configs alone."""
    layer = store.put(A)
    image = store.image([layer])
    del store.blobs[layer.digest]
    assert flaws(image, fast=True) == []
    assert store.reads == [image.manifest.config.digest]


def test_a_layer_of_many_images_is_read_once(store: Store) -> None:
    """What is known of a blob is not asked for again."""
    layer = store.put(A)
    images = [store.image([layer], author=name) for name in ("one", "two")]
    images.append(store.image([layer], diff_ids=[Digest.of(b"")]))
    found = flaws(store.index(*map(store.child, images)))
    assert len(found) == 1
    assert store.reads.count(layer.digest) == 1


def test_what_keeps_from_looking_is_raised(store: Store) -> None:
    """An expired password is no problem of the image."""
    layer = store.put(A)
    image = store.image([layer])

    def refuse() -> BlockStream:
        raise Unauthorized("who are you?", method="GET", url="", status=401)

    blob = StoredBlob(layer, refuse)
    with pytest.raises(Unauthorized):
        flaws(Image(image.manifest, image.config_blob, (blob,)))


def test_a_blob_that_cannot_be_opened_is_told(store: Store) -> None:
    """A store may find out when a blob is opened, or when it is read."""
    layer = store.put(A)
    image = store.image([layer])

    def missing() -> BlockStream:
        raise NotFound("no such file", method="GET", url="", status=404)

    broken = Image(image.manifest, image.config_blob, (StoredBlob(layer, missing),))
    assert flaws(broken) == ["cannot be read: no such file"]


# Indexes -----------------------------------------------------------------------------------------


def test_an_index_and_all_below_it(store: Store) -> None:
    """Indexes may hold indexes; what is wrong below is told with its own place."""
    good = store.image([store.put(A)])
    bad = store.image([store.put(B)], diff_ids=[])
    inner = store.index(store.child(bad))
    outer = store.index(store.child(good), store.child(inner))
    assert only(outer).place == f"image {bad.digest}, config {bad.manifest.config.digest}"
    assert flaws(ImageIndex.empty()) == []


def test_a_child_that_is_not_there(store: Store) -> None:
    """All children of an index exist."""
    missing = Descriptor(OCI_INDEX, Digest.of(b"x"), 1)
    index = store.index(store.child(store.image([])), missing)
    assert str(only(index)) == (
        f"index {index.digest}, manifest 2 {missing.digest}: cannot be read: no such manifest"
    )


def test_a_child_that_is_another(store: Store) -> None:
    """Size, digest and media type are those of the index's descriptor."""
    image = store.image([])
    wanted = Descriptor(OCI_INDEX, Digest.of(b"x"), image.descriptor.size)
    store.trees[wanted.digest] = image
    assert flaws(store.index(wanted)) == [
        f"the bytes hash to {image.digest}",
        f"is of the media type {image.media_type}, where the index says {OCI_INDEX}",
    ]


def test_children_of_unknown_media_types_are_passed_over(store: Store) -> None:
    """An index may hold anything; what is not known is ignored (image-index.md)."""
    assert flaws(store.index(Descriptor("text/plain", Digest.of(b"x"), 1))) == []


def test_platforms_agree(store: Store) -> None:
    """What the index says of a platform, the config says too; either may be silent."""
    image = store.image([], ImageConfig.empty(ARM).raw)
    for platform in (None, ARM, Platform("linux", "arm64"), Platform("", "")):
        assert flaws(store.index(store.child(image, platform)), fast=True) == []
    for platform in (Platform("linux", "amd64"), Platform("linux", "arm64", "v7")):
        assert flaws(store.index(store.child(image, platform)), fast=True) == [
            f"says the platform linux/arm64/v8, where the index says {platform}"
        ]


def test_a_child_that_comes_many_times_is_looked_at_once(store: Store) -> None:
    """Indexes of the same index many times over cannot multiply the work."""
    image = store.image([])
    tree: Tree = image
    for _ in range(30):
        tree = store.index(store.child(tree), store.child(tree))
    assert flaws(tree) == []
    assert store.reads == [image.manifest.config.digest]


def test_a_child_with_many_platforms_is_read_once(store: Store) -> None:
    """Each document is read once, however many platforms indexes give it on however many ways."""
    image = store.image([])
    tree: Tree = image
    platforms = [Platform("linux", "amd64", f"v{number}") for number in range(9)]
    for _ in range(5):
        tree = store.index(*(store.child(tree, platform) for platform in platforms))
    store.loads.clear()
    assert flaws(tree) == []
    assert len(store.loads) == len(set(store.loads)) == 5
    assert store.reads == [image.manifest.config.digest]


def test_each_platform_that_indexes_give_an_image_is_compared_once(store: Store) -> None:
    """Before the image was looked at, and after."""
    image = store.image([], ImageConfig.empty(ARM).raw)
    wrong = Platform("linux", "amd64")
    inner = store.index(store.child(image, wrong), store.child(image, Platform("linux", "s390x")))
    deeper = store.index(store.child(inner), store.child(image, wrong))
    outer = store.index(store.child(deeper), store.child(image, wrong), store.child(image, ARM))
    assert flaws(outer) == [
        "says the platform linux/arm64/v8, where the index says linux/amd64",
        "says the platform linux/arm64/v8, where the index says linux/s390x",
    ]


def test_a_child_that_cannot_be_read_is_asked_for_once_and_told_each_time(store: Store) -> None:
    """The place of the problem is the index's."""
    gone = replace(store.child(store.image([])), digest=Digest.of(b"gone"))
    problems = list(validate(store.index(gone, gone)))
    assert [problem.what for problem in problems] == ["cannot be read: no such manifest"] * 2
    assert store.loads == [gone.digest]


def test_a_whiteout_that_names_nothing_is_told(store: Store) -> None:
    """`.wh.` alone "is invalid" (layer.md, Whiteouts)."""
    image = store.image([store.put(gzip.compress(tar("d/.wh."), mtime=0))])
    assert flaws(image) == ["the whiteout 'd/.wh.' names nothing"]


@pytest.mark.parametrize(
    ("head", "name"), [(b"\xfd7zXZ\x00", "xz"), (b"BZh91AY", "bzip2"), (b"\x04\x22\x4d\x18", "lz4")]
)
def test_a_layer_in_a_compression_that_layers_have_not_is_told(
    store: Store, head: bytes, name: str
) -> None:
    """It is named, rather than taken for a broken tar."""
    data = head + bytes(100)
    layer = store.put(data, OCI_LAYER)
    config = ImageConfig.empty().replace(diff_ids=[Digest.of(data)]).raw
    (what,) = flaws(store.image([layer], config))
    assert what == (
        f"compressed by {name}, which no layer is (image-spec has gzip and zstd): "
        "the bytes cannot be read as a tar"
    )
