"""image.py, index.py and artifact.py: images, indexes and artifacts as values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn, cast

import pytest

from brolga.errors import InvalidManifest, LayerError, NotComputed, NotFound
from brolga.images import (
    Artifact,
    BlockStream,
    Image,
    ImageIndex,
    InMemoryBlob,
    StoredBlob,
    creation_time,
)
from brolga.spec.config import ImageConfig
from brolga.spec.digest import Digest
from brolga.spec.json import MAX_SIZE
from brolga.spec.manifest import Manifest, mixed_media_types
from brolga.spec.mediatypes import (
    DOCKER_LAYER_GZIP,
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER,
    OCI_LAYER_GZIP,
    OCI_LAYER_ZSTD,
    OCI_MANIFEST,
)
from brolga.spec.platform import Platform
from brolga.stream.layer import StreamLayer

if TYPE_CHECKING:
    from collections.abc import Callable

ARM64 = Platform("linux", "arm64")


def read(*layers: StreamLayer) -> None:
    """Read streams to their ends, as a push does."""
    for layer in layers:
        with layer.open() as stream:
            for _ in stream.blocks():
                pass


def test_append_returns_new_image_without_reading() -> None:
    """The first image stays; a layer to be streamed has no digest before it is read."""
    empty = Image.empty(ARM64)
    layer = StreamLayer([b"data"])
    image = empty.append(layer, created_by="me", comment="why").with_config(Cmd=["run"])
    assert empty.layers == ()
    assert image.layers == (layer,)
    assert image.platform == ARM64
    for name in ("config", "config_blob", "manifest", "descriptor", "digest"):
        with pytest.raises(NotComputed):
            getattr(image, name)
    read(layer)
    assert image.config.diff_ids == (layer.diff_id,)
    assert image.config.config["Cmd"] == ("run",)
    (entry,) = image.config.history
    assert (entry.created, entry.created_by, entry.comment) == ("1970-01-01T00:00:00Z", "me", "why")
    assert image.manifest.config.digest == image.config_blob.descriptor.digest
    assert image.descriptor.digest == image.digest == image.manifest.digest


def test_image_without_changes_keeps_its_bytes() -> None:
    """Its digest is the one that others know."""
    image = Image.empty()
    assert image.append() is not image
    assert image.append().digest == image.digest
    assert image.with_annotations({}).digest == image.digest
    assert image.mount_sources == set()


def test_with_subject_and_with_annotations_change_manifest() -> None:
    """They are the manifest's, and go into it."""
    subject = Image.empty().descriptor
    image = Image.empty(ARM64).with_subject(subject).with_annotations({"a": "b"})
    assert image.subject == image.manifest.subject == subject
    assert image.annotations == image.manifest.annotations == {"a": "b"}
    assert image.with_subject(None).subject is None


def test_append_converts_media_types_to_one_family() -> None:
    """Docker has no name for zstd: an image with such a layer becomes OCI's."""
    layer, zstd = StreamLayer([b"a"]), StreamLayer([b"b"], "zstd")
    image = Image.empty(docker=True).append(layer)
    mixed = image.append(zstd)
    assert (image.media_type, mixed.media_type) == (DOCKER_MANIFEST, OCI_MANIFEST)
    read(layer, zstd)
    assert [layer.media_type for layer in image.manifest.layers] == [DOCKER_LAYER_GZIP]
    assert image.manifest.media_type == DOCKER_MANIFEST
    assert [layer.media_type for layer in mixed.manifest.layers] == [OCI_LAYER_GZIP, OCI_LAYER_ZSTD]
    assert mixed.manifest.media_type == OCI_MANIFEST
    assert mixed.manifest.config == mixed.config_blob.descriptor
    assert mixed.manifest.config.media_type == OCI_CONFIG


@pytest.mark.parametrize("docker", [True, False])
@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_rebase_converts_media_types_to_one_family(docker: bool, compression: str) -> None:
    """The layers of the new base get names of the image's family, or all get OCI's."""
    old, top, new = (StreamLayer([b"old"]), StreamLayer([b"top"]), StreamLayer([b"new"]))
    base, new_base = (
        Image.empty(docker=kind).append(layer) for kind, layer in ((docker, old), (not docker, new))
    )
    zstd = StreamLayer([b"newer"], compression)
    new_base, image = new_base.append(zstd), base.append(top)
    read(old, top, new, zstd)
    manifest = image.rebase(base, new_base).manifest
    is_docker = docker and compression == "gzip"
    assert manifest.media_type == (DOCKER_MANIFEST if is_docker else OCI_MANIFEST)
    assert list(mixed_media_types(manifest)) == []
    assert [layer.digest for layer in manifest.layers] == [new.digest, zstd.digest, top.digest]


def test_rebase_accepts_appended_layers_of_old_base() -> None:
    """An image made in this process is as good as one that was read."""
    a, b, c, d = (StreamLayer([text]) for text in (b"a", b"b", b"c", b"d"))
    base, new_base = Image.empty().append(a), Image.empty(ARM64).append(c)
    image = Image.empty().append(a).append(b).with_config(Cmd=["run"])
    read(a, b, c)
    rebased = image.append(d).rebase(base, new_base)
    assert rebased.layers == (c, b, d)
    read(d)
    assert rebased.config.diff_ids == (c.diff_id, b.diff_id, d.diff_id)
    assert [layer.digest for layer in rebased.manifest.layers] == [c.digest, b.digest, d.digest]
    assert (rebased.platform, rebased.config.config["Cmd"]) == (ARM64, ("run",))
    with pytest.raises(LayerError, match="not built on the old base"):
        image.rebase(new_base, base)


@pytest.mark.parametrize("count", [0, 2])
def test_config_rejects_other_number_of_diff_ids(count: int) -> None:
    """'diff_ids: an array of layer content hashes, in order from first to last' (config.md)."""
    below = InMemoryBlob(b"layer", OCI_LAYER_GZIP)
    config = ImageConfig.empty().replace(diff_ids=[Digest.of(b"%d" % i) for i in range(count)])
    blob = InMemoryBlob(config.raw, OCI_CONFIG)
    image = Image(Manifest.new(blob.descriptor, [below.descriptor]), blob, (below,))
    top = StreamLayer([b"top"])
    read(top)
    for change in (
        lambda: image.append(top).manifest,
        lambda: image.with_config(Cmd=["a"]).digest,
        image.flatten,
        lambda: image.rebase(image, Image.empty()),
        lambda: Image.empty().rebase(Image.empty(), image),
    ):
        with pytest.raises(InvalidManifest) as caught:
            change()
        assert str(caught.value) == (
            f"config {config.digest}, $.rootfs.diff_ids: {count} DiffIDs, but the manifest has "
            "1 layers"
        )


@pytest.mark.parametrize("what", [b"abc", InMemoryBlob(b"abc", OCI_LAYER), "a.tar", None])
def test_append_rejects_object_that_is_not_layer(what: Any) -> None:
    """The error comes from `append`, not from the push."""
    with pytest.raises(TypeError, match=f"StoredBlob; {type(what).__name__} is not one"):
        Image.empty().append(what)


def test_config_is_read_once_for_derived_images() -> None:
    """A change costs no request."""
    image, opened = Image.empty(), []
    config = image.config_blob

    def opener() -> BlockStream:
        opened.append(1)
        stream = config.open()
        assert isinstance(stream, BlockStream)
        return stream

    image = Image(image.manifest, StoredBlob(config.descriptor, opener), ())
    assert image.platform == image.with_config(Cmd=["a"]).append().config.platform
    assert opened == [1]


def test_load_config_returns_stored_config_without_changes() -> None:
    """It can be read before a stream that was appended."""
    image = Image.empty(ARM64).with_config(Cmd=["a"]).append(StreamLayer([b"a"]))
    assert image.load_config() == Image.empty(ARM64).config
    with pytest.raises(NotComputed):
        _ = image.config


def test_preload_reads_config_for_later() -> None:
    """Also for the images that are made from it."""
    reads = []

    def open_config() -> BlockStream:
        reads.append("config")
        return cast("BlockStream", empty.config_blob.open())

    empty = Image.empty()
    config = StoredBlob(empty.config_blob.descriptor, open_config)
    image = Image(empty.manifest, config, ())
    image.preload()
    image.preload()
    assert image.with_config(Cmd=["run"]).config.config == {"Cmd": ("run",)}
    assert reads == ["config"]


def test_preload_keeps_error_for_config() -> None:
    """The image can be used as far as its config is not needed."""

    def fail() -> NoReturn:
        reads.append("config")
        raise NotFound("gone", method="GET", url="u", status=404)

    reads: list[str] = []
    empty = Image.empty()
    image = Image(empty.manifest, StoredBlob(empty.config_blob.descriptor, fail), ())
    image.preload()
    for _ in range(2):
        with pytest.raises(NotFound):
            _ = image.config
    assert reads == ["config"]


def test_config_larger_than_limit_is_not_read() -> None:
    """Memory does not depend on a size that a registry claims."""
    config = InMemoryBlob(bytes(MAX_SIZE + 1), OCI_CONFIG)
    image = Image(Manifest.new(config.descriptor, ()), config, ())
    with pytest.raises(InvalidManifest, match="config: 4194305 bytes, but at most 4194304 are"):
        _ = image.config


def test_with_annotations_removes_none() -> None:
    """None removes an annotation, as in `with_config`; a missing one is ignored."""
    for tree in (Image.empty(), ImageIndex.empty()):
        changed = tree.with_annotations({"a": "b", "c": "d"}).with_annotations({"a": None})
        root = changed.manifest if isinstance(changed, Image) else changed.index
        assert root.annotations == {"c": "d"}
        assert tree.with_annotations({"a": None}).digest == tree.digest


def test_index_with_subject() -> None:
    """'subject' of image-index.md."""
    subject = Image.empty().descriptor
    index = ImageIndex.empty().with_subject(subject)
    assert index.index.subject == subject
    assert index.with_subject(None).digest == ImageIndex.empty().digest


def test_artifact_appends_blobs_and_rejects_config_changes() -> None:
    """Its blobs are not layers of a file system; an impossible operation fails at once."""
    a, b = InMemoryBlob(b"a", "text/plain"), StreamLayer([b"b"])
    artifact = Artifact.of("application/vnd.example").append(a).append(b)
    assert artifact.layers == (a, b)
    read(b)
    assert artifact.manifest.layers == (a.descriptor, b.descriptor)
    assert artifact.with_annotations({"a": "b"}).manifest.annotations["a"] == "b"
    assert Artifact.of("application/vnd.example").append().digest == (
        Artifact.of("application/vnd.example").digest
    )
    changes: tuple[Callable[[], object], ...] = (
        lambda: artifact.with_config(Cmd=["a"]),
        artifact.flatten,
        lambda: artifact.rebase(artifact, artifact),
        lambda: artifact.append(created_by="me"),
    )
    for change in changes:
        with pytest.raises(LayerError, match="an artifact has no image config: "):
            change()


def test_config_error_says_image_is_artifact() -> None:
    """Its config is any bytes: "$.rootfs: is missing" alone would not tell why."""
    artifact = Artifact.of("application/vnd.example")
    image = Image(artifact.manifest, artifact.config_blob, artifact.layers)
    assert image.with_annotations({"a": "b"}).manifest.annotations["a"] == "b"
    with pytest.raises(InvalidManifest, match=r"not an image, but an artifact: its config is app"):
        _ = image.with_config(Cmd=["a"]).config


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("yesterday", "not a number of seconds: 'yesterday'"),
        ("-1", "not a number of seconds"),
        ("1e3", "not a number of seconds"),
        ("\u0661", "not a number of seconds"),
        ("9" * 19, "out of range"),
    ],
)
def test_creation_time_rejects_invalid_source_date_epoch(
    monkeypatch: pytest.MonkeyPatch, text: str, words: str
) -> None:
    """SOURCE_DATE_EPOCH is a number of seconds (reproducible-builds.org)."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", text)
    with pytest.raises(ValueError, match=words):
        creation_time()


def test_creation_time_is_now_without_source_date_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the variable, or with an empty one."""
    monkeypatch.setattr("time.time", lambda: 86400.5)
    for text in (None, ""):
        if text is None:
            monkeypatch.delenv("SOURCE_DATE_EPOCH")
        else:
            monkeypatch.setenv("SOURCE_DATE_EPOCH", text)
        assert creation_time() == "1970-01-02T00:00:00Z"


def test_index_append_takes_platform_of_config() -> None:
    """Platforms are those of the configs; an artifact and an index have none."""
    image, artifact = Image.empty(ARM64), Artifact.of("application/vnd.example")
    inner = ImageIndex.empty().append(image)
    index = ImageIndex.empty().append(image).append(artifact).append(inner)
    assert index.index.media_type == OCI_INDEX
    assert [child.platform for child in index.index.manifests] == [ARM64, None, None]
    assert list(index.children) == [image, artifact, inner]
    assert index.image(ARM64) is image
    assert index.mount_sources == set()
    assert index.filter(lambda child: child.platform == ARM64).index.platforms == (ARM64,)
    other = index.filter(lambda child: child.digest == inner.digest)
    assert other.child(inner.descriptor) is inner


def test_empty_index_has_no_child() -> None:
    """Without a loader, a child is a KeyError."""
    with pytest.raises(KeyError, match="an empty index has no child sha256:"):
        ImageIndex.empty().child(Image.empty().descriptor)
