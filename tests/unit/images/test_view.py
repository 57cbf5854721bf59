"""view.py and index.py: images and indexes as values."""

from __future__ import annotations

import pytest

from brolga.descriptor import Platform
from brolga.errors import LayerError, NotComputed
from brolga.images import Artifact, BytesBlob, Image, ImageIndex, created_now
from brolga.layer import StreamLayer
from brolga.manifest import Manifest
from brolga.mediatypes import (
    DOCKER_LAYER_GZIP,
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER_GZIP,
    OCI_LAYER_ZSTD,
    OCI_MANIFEST,
)

ARM64 = Platform("linux", "arm64")


def read(*layers: StreamLayer) -> None:
    """Read streams to their ends, as a push does."""
    for layer in layers:
        with layer.open() as stream:
            for _ in stream.with_heartbeats():
                pass


@pytest.fixture(autouse=True)
def _still(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the time stand still."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")


def test_a_change_makes_another_image_and_computes_nothing() -> None:
    """The first one stays; what is to be streamed has no digest before it is read."""
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


def test_an_image_to_which_nothing_was_done_has_the_bytes_that_were_read() -> None:
    """Its digest is what others know it by."""
    image = Image.empty()
    assert image.append() is not image
    assert image.append().digest == image.digest
    assert image.with_annotations({}).digest == image.digest
    assert image.homes == set()


def test_a_subject_and_annotations() -> None:
    """They are the manifest's, and go into it."""
    subject = Image.empty().descriptor
    image = Image.empty(ARM64).with_subject(subject).with_annotations({"a": "b"})
    assert image.subject == image.manifest.subject == subject
    assert image.annotations == image.manifest.annotations == {"a": "b"}
    assert image.with_subject(None).subject is None


def test_docker_s_images_get_docker_s_layers() -> None:
    """A manifest has types of one kind; Docker has no name for zstd, so OCI's stays."""
    layers = [StreamLayer([b"a"]), StreamLayer([b"b"], "zstd")]
    image = Image.empty(docker=True).append(*layers)
    read(*layers)
    types = [one.media_type for one in image.manifest.layers]
    assert image.media_type == DOCKER_MANIFEST
    assert types == [DOCKER_LAYER_GZIP, OCI_LAYER_ZSTD]
    plain = StreamLayer([b"a"])
    oci = Image.empty().append(plain)
    read(plain)
    assert oci.media_type == OCI_MANIFEST
    assert oci.manifest.layers[0].media_type == OCI_LAYER_GZIP


def test_a_config_without_an_end_is_not_read() -> None:
    """Memory is not taken by a size that a registry claims."""
    config = BytesBlob(bytes((8 << 20) + 1), OCI_CONFIG)
    image = Image(Manifest.new(config.descriptor, ()), config, ())
    with pytest.raises(LayerError, match="the config has 8388609 bytes, more than 8388608"):
        image.config  # noqa: B018 - it raises


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("yesterday", "no number of seconds: 'yesterday'"),
        ("-1", "no number of seconds"),
        ("1e3", "no number of seconds"),
        ("\u0661", "no number of seconds"),
        ("9" * 19, "out of range"),
    ],
)
def test_a_time_that_is_none(monkeypatch: pytest.MonkeyPatch, text: str, words: str) -> None:
    """SOURCE_DATE_EPOCH is a number of seconds (reproducible-builds.org)."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", text)
    with pytest.raises(ValueError, match=words):
        created_now()


def test_the_time_of_now(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the variable, or with an empty one."""
    monkeypatch.setattr("time.time", lambda: 86400.5)
    for text in (None, ""):
        if text is None:
            monkeypatch.delenv("SOURCE_DATE_EPOCH")
        else:
            monkeypatch.setenv("SOURCE_DATE_EPOCH", text)
        assert created_now() == "1970-01-02T00:00:00Z"


def test_an_index_of_values() -> None:
    """Platforms are those of the configs; an artifact and an index have none."""
    image, artifact = Image.empty(ARM64), Artifact.of("application/vnd.example")
    inner = ImageIndex.empty().append(image)
    index = ImageIndex.empty().append(image).append(artifact).append(inner)
    assert index.index.media_type == OCI_INDEX
    assert [one.platform for one in index.index.manifests] == [ARM64, None, None]
    assert list(index.children) == [image, artifact, inner]
    assert index.image(ARM64) is image
    assert index.homes == set()
    assert index.filter(lambda one: one.platform == ARM64).index.platforms == (ARM64,)
    other = index.filter(lambda one: one.digest == inner.digest)
    assert other.child(inner.descriptor) is inner


def test_an_empty_index_has_no_child() -> None:
    """There is nobody to ask."""
    with pytest.raises(KeyError, match="an empty index has no child sha256:"):
        ImageIndex.empty().child(Image.empty().descriptor)
