"""validate.py: each disagreement is a problem of its own."""

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
from brolga.spec.platform import Platform
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
    """Blobs by their digests; a change there is a change for all readers."""

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


def test_valid_image_has_no_problem(store: Store) -> None:
    """What `crane validate` finds good is good here."""
    assert flaws(store.image([])) == []
    assert flaws(store.image([store.put(A), store.put(B)])) == []
    assert flaws(Image.empty()) == []


def test_mixed_media_types_are_problem(store: Store) -> None:
    """Umoci and skopeo refuse Docker's layers in an OCI manifest, and the other way round."""
    image = store.image([store.put(A), store.put(B, DOCKER_LAYER_GZIP)])
    second = image.manifest.layers[1].digest
    what = f"has the media type {DOCKER_LAYER_GZIP}, which some tools refuse in a manifest of the"
    for fast in (True, False):
        problem = only(image, fast=fast)
        assert problem.place == f"image {image.digest}, {second}"
        assert problem.what == f"{what} type {OCI_MANIFEST}"


@pytest.mark.parametrize("data", [A, tar("a")])
def test_tar_with_other_media_type_is_problem(store: Store, data: bytes) -> None:
    """It is a layer by its bytes and its DiffID; signatures and attestations are not tars."""

    def image(data: bytes, media_type: str, diff_id: Digest) -> Image:
        config = ImageConfig.empty().replace(diff_ids=[diff_id]).raw
        return store.image([store.put(data, media_type)], config)

    assert only(image(data, "text/plain", Digest.of(tar("a")))).what == (
        "is a tar by its bytes and its DiffID, but its media type text/plain is not a layer's"
    )
    assert flaws(image(data, "text/plain", Digest.of(b"other"))) == []
    statement = b'{"_type":"x"}'
    assert flaws(image(statement, "application/vnd.in-toto+json", Digest.of(statement))) == []


def test_image_in_memory_can_be_validated(store: Store) -> None:
    """Appended layers are checked as they will be pushed."""
    top = StoredBlob(
        store.put(B), store.blob(store.put(B)).opener, None, lambda: Digest.of(tar("b"))
    )
    assert flaws(store.image([store.put(A)]).append(top)) == []
    wrong = replace(top, diff_id_of=lambda: Digest.of(b""))
    assert "the uncompressed bytes hash to" in only(store.image([]).append(wrong)).what


def test_unread_stream_raises_not_computed(store: Store) -> None:
    """A stream has no digest before it was read."""
    with pytest.raises(NotComputed):
        flaws(store.image([]).append(StreamLayer([tar("a")])))


def test_problem_is_line_with_number_and_digest_of_layer(store: Store) -> None:
    """Each problem names its place."""
    first, second = store.put(A), store.put(B)
    image = store.image([first, second])
    del store.blobs[second.digest]
    assert str(only(image)) == f"image {image.digest}, layer 2 {second.digest}: no such blob"


def test_blob_with_wrong_bytes_is_problem(store: Store) -> None:
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
        f"has {cut} bytes, but its descriptor says {layers[2].size}",
    ]


def test_wrong_diff_id_is_problem(store: Store) -> None:
    """DiffIDs of the config are the digests of the uncompressed layers (config.md, rootfs)."""
    image = store.image([store.put(A)], diff_ids=[Digest.of(A)])
    assert only(image).what == (
        f"the uncompressed bytes hash to {Digest.of(tar('a'))}, but the config's DiffID is "
        f"{Digest.of(A)}"
    )
    assert flaws(store.image([store.put(A)], diff_ids=[Digest.of(tar("a"), "sha512")])) == []


def test_digest_that_cannot_be_computed_is_problem(store: Store) -> None:
    """Bytes that cannot be verified do not pass as right."""
    blake = Digest("blake3", "0" * 64)
    assert "cannot be computed here" in only(store.image([store.put(A)], diff_ids=[blake])).what
    layer = replace(store.put(A), digest=blake)
    store.blobs[blake] = A
    assert "cannot be computed here" in only(store.image([layer])).what


def test_wrong_number_of_diff_ids_or_history_is_problem(store: Store) -> None:
    """As many DiffIDs as layers, and as entries of a history if there is one."""
    layers = [store.put(A), store.put(B)]
    config = ImageConfig.empty().replace(diff_ids=[Digest.of(tar("a"))])
    for fast in (False, True):
        assert flaws(store.image(layers, config.raw), fast=fast) == [
            "has 1 DiffIDs, but the manifest has 2 layers",
            "has a history of 1 layers, but the manifest has 2",
        ]
    two = ImageConfig.empty().replace(diff_ids=[Digest.of(tar(name)) for name in "ab"])
    history = (History(), History(empty_layer=True), History())
    assert flaws(store.image(layers, two.replace(history=history).raw)) == []
    bare = two.raw.replace(b'"history":[{},{}]', b'"history":[]')
    assert b'"history":[]' in bare
    assert flaws(store.image(layers, bare)) == []


def test_config_without_platform_is_problem(store: Store) -> None:
    """Architecture and os are REQUIRED (config.md, Properties)."""
    config = b'{"architecture":"amd64","rootfs":{"type":"layers","diff_ids":[]}}'
    assert only(store.image([], config)).what == (
        "does not say the operating system and the architecture"
    )


@pytest.mark.parametrize("media_type", [OCI_LAYER, OCI_LAYER_ZSTD])
def test_media_type_of_other_compression_is_problem(store: Store, media_type: str) -> None:
    """A media type that contradicts the first bytes is a problem only here."""
    promised = {OCI_LAYER: "none", OCI_LAYER_ZSTD: "zstd"}[media_type]
    assert only(store.image([store.put(A, media_type)])).what == (
        f"is compressed by gzip, but the media type {media_type} says {promised}"
    )


def test_layer_that_is_not_readable_tar_is_problem(store: Store) -> None:
    """A broken archive does not hide other problems."""
    plain = tar("a")[:700] + b"not a header" * 100
    image = store.image([store.put(gzip.compress(plain, mtime=0))], diff_ids=[Digest.of(b"")])
    broken, other = flaws(image)
    assert broken == "not a valid tar header"
    assert other.startswith(f"the uncompressed bytes hash to {Digest.of(plain)}, but")


def test_empty_blob_is_not_valid_gzip(store: Store) -> None:
    """A gzip stream has at least a header."""
    image = store.image([store.put(b"")], diff_ids=[Digest.of(b"")])
    assert "is compressed by none" in only(image).what


def test_layer_beyond_limits_is_problem(store: Store) -> None:
    """The limits are enforced when layers are read."""
    image = store.image([store.put(gzip.compress(tar("a", 100_000)))])
    (problem,) = validate(image, limits=Limits(size=9999))
    assert "more than 9999 bytes uncompressed" in problem.what


def test_nondistributable_layers_are_skipped(store: Store) -> None:
    """Registries do not hold them (layer.md, Non-Distributable Layers)."""
    layer = store.put(A, OCI_NONDISTRIBUTABLE_LAYER_GZIP)
    image = store.image([layer])
    del store.blobs[layer.digest]
    assert flaws(image) == []


def test_artifact_may_have_any_blobs(store: Store) -> None:
    """Only digests and sizes of an artifact are checked."""
    layer = store.put(b"\x1f\x8b\x08 no gzip", "text/plain")
    image = store.image([layer], b"{}", OCI_EMPTY)
    assert flaws(image) == []
    store.blobs[layer.digest] = b"\x1f\x8b\x08 no GZIP"
    store.blobs[Digest.of(b"{}")] = b"{"
    assert flaws(image, fast=True) == []
    assert flaws(image) == [
        "has 1 bytes, but its descriptor says 2",
        f"the bytes hash to {Digest.of(store.blobs[layer.digest])}",
    ]


@pytest.mark.parametrize(
    ("bytes_", "what"),
    [
        (None, "no such blob"),
        (b"", "has 0 bytes, but its descriptor says"),
        (b"{" * 10_000, "has more than the"),
    ],
)
def test_config_with_wrong_bytes_is_problem(store: Store, bytes_: bytes | None, what: str) -> None:
    """A missing or wrong config says nothing about the layers."""
    image = store.image([store.put(A)])
    config = image.manifest.config.digest
    del store.blobs[config]
    if bytes_ is not None:
        store.blobs[config] = bytes_
    problem = only(image)
    assert problem.place == f"image {image.digest}, config {config}"
    assert problem.what.startswith(what)


def test_invalid_config_is_problem(store: Store) -> None:
    """The document must be one of config.md."""
    assert only(store.image([], b"[]"), fast=True).what == "$: not a JSON object"


def test_config_larger_than_limit_is_not_read(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory does not depend on what a descriptor claims."""
    monkeypatch.setattr(module, "MAX_SIZE", 10)
    image = store.image([])
    size = image.manifest.config.size
    assert only(image).what == f"has {size} bytes, but at most 10 are read"
    assert store.reads == []


def test_fast_reads_no_layer(store: Store) -> None:
    """`fast` reads only manifests and configs."""
    layer = store.put(A)
    image = store.image([layer])
    del store.blobs[layer.digest]
    assert flaws(image, fast=True) == []
    assert store.reads == [image.manifest.config.digest]


def test_layer_of_many_images_is_read_once(store: Store) -> None:
    """The result for a blob is kept."""
    layer = store.put(A)
    images = [store.image([layer], author=name) for name in ("one", "two")]
    images.append(store.image([layer], diff_ids=[Digest.of(b"")]))
    problems = flaws(store.index(*map(store.child, images)))
    assert len(problems) == 1
    assert store.reads.count(layer.digest) == 1


def test_failure_to_read_is_raised(store: Store) -> None:
    """An expired password is not a problem of the image."""
    layer = store.put(A)
    image = store.image([layer])

    def refuse() -> BlockStream:
        raise Unauthorized("login, please", method="GET", url="", status=401)

    blob = StoredBlob(layer, refuse)
    with pytest.raises(Unauthorized):
        flaws(Image(image.manifest, image.config_blob, (blob,)))


def test_blob_that_cannot_be_opened_is_problem(store: Store) -> None:
    """A store may fail when a blob is opened, or when it is read."""
    layer = store.put(A)
    image = store.image([layer])

    def missing() -> BlockStream:
        raise NotFound("no such file", method="GET", url="", status=404)

    broken = Image(image.manifest, image.config_blob, (StoredBlob(layer, missing),))
    assert flaws(broken) == ["cannot be read: no such file"]


# Indexes -----------------------------------------------------------------------------------------


def test_index_is_validated_recursively(store: Store) -> None:
    """Indexes may contain indexes; each problem names its own place."""
    good = store.image([store.put(A)])
    bad = store.image([store.put(B)], diff_ids=[])
    inner = store.index(store.child(bad))
    outer = store.index(store.child(good), store.child(inner))
    assert only(outer).place == f"image {bad.digest}, config {bad.manifest.config.digest}"
    assert flaws(ImageIndex.empty()) == []


def test_missing_child_is_problem(store: Store) -> None:
    """All children of an index exist."""
    missing = Descriptor(OCI_INDEX, Digest.of(b"x"), 1)
    index = store.index(store.child(store.image([])), missing)
    assert str(only(index)) == (
        f"index {index.digest}, manifest 2 {missing.digest}: cannot be read: no such manifest"
    )


def test_child_that_differs_from_descriptor_is_problem(store: Store) -> None:
    """Size, digest and media type are those of the index's descriptor."""
    image = store.image([])
    wanted = Descriptor(OCI_INDEX, Digest.of(b"x"), image.descriptor.size)
    store.trees[wanted.digest] = image
    assert flaws(store.index(wanted)) == [
        f"the bytes hash to {image.digest}",
        f"is of the media type {image.media_type}, but the index says {OCI_INDEX}",
    ]


def test_children_of_unknown_media_types_are_skipped(store: Store) -> None:
    """An index may hold anything; unknown types are ignored (image-index.md)."""
    assert flaws(store.index(Descriptor("text/plain", Digest.of(b"x"), 1))) == []


def test_platform_that_differs_from_config_is_problem(store: Store) -> None:
    """Index and config must agree on a platform; either may leave it out."""
    image = store.image([], ImageConfig.empty(ARM).raw)
    for platform in (None, ARM, Platform("linux", "arm64"), Platform("", "")):
        assert flaws(store.index(store.child(image, platform)), fast=True) == []
    for platform in (Platform("linux", "amd64"), Platform("linux", "arm64", "v7")):
        assert flaws(store.index(store.child(image, platform)), fast=True) == [
            f"says the platform linux/arm64/v8, but the index says {platform}"
        ]


def test_child_of_many_indexes_is_checked_once(store: Store) -> None:
    """Many indexes of the same index cannot multiply the work."""
    image = store.image([])
    tree: Tree = image
    for _ in range(30):
        tree = store.index(store.child(tree), store.child(tree))
    assert flaws(tree) == []
    assert store.reads == [image.manifest.config.digest]


def test_child_with_many_platforms_is_read_once(store: Store) -> None:
    """Each document is read once, however many platforms and indexes it has."""
    image = store.image([])
    tree: Tree = image
    platforms = [Platform("linux", "amd64", f"v{number}") for number in range(9)]
    for _ in range(5):
        tree = store.index(*(store.child(tree, platform) for platform in platforms))
    store.loads.clear()
    assert flaws(tree) == []
    assert len(store.loads) == len(set(store.loads)) == 5
    assert store.reads == [image.manifest.config.digest]


def test_each_platform_of_child_is_compared_once(store: Store) -> None:
    """Before the image is checked, and after."""
    image = store.image([], ImageConfig.empty(ARM).raw)
    wrong = Platform("linux", "amd64")
    inner = store.index(store.child(image, wrong), store.child(image, Platform("linux", "s390x")))
    deeper = store.index(store.child(inner), store.child(image, wrong))
    outer = store.index(store.child(deeper), store.child(image, wrong), store.child(image, ARM))
    assert flaws(outer) == [
        "says the platform linux/arm64/v8, but the index says linux/amd64",
        "says the platform linux/arm64/v8, but the index says linux/s390x",
    ]


def test_unreadable_child_is_loaded_once_and_reported_for_each_index(store: Store) -> None:
    """The problem's place is that of the index."""
    gone = replace(store.child(store.image([])), digest=Digest.of(b"gone"))
    problems = list(validate(store.index(gone, gone)))
    assert [problem.what for problem in problems] == ["cannot be read: no such manifest"] * 2
    assert store.loads == [gone.digest]


def test_whiteout_that_names_nothing_is_problem(store: Store) -> None:
    """`.wh.` alone "is invalid" (layer.md, Whiteouts)."""
    image = store.image([store.put(gzip.compress(tar("d/.wh."), mtime=0))])
    assert flaws(image) == ["the whiteout 'd/.wh.' names nothing"]


@pytest.mark.parametrize(
    ("head", "name"), [(b"\xfd7zXZ\x00", "xz"), (b"BZh91AY", "bzip2"), (b"\x04\x22\x4d\x18", "lz4")]
)
def test_unsupported_compression_is_problem(store: Store, head: bytes, name: str) -> None:
    """It is named, and not reported as a broken tar."""
    data = head + bytes(100)
    layer = store.put(data, OCI_LAYER)
    config = ImageConfig.empty().replace(diff_ids=[Digest.of(data)]).raw
    (what,) = flaws(store.image([layer], config))
    assert what == (
        f"compressed by {name}, which layers do not have (image-spec has gzip and zstd): "
        "the bytes cannot be read as a tar"
    )
