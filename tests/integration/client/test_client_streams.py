"""Client.push_stream and pull_stream: a stream that a name keeps, and the same bytes back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.tars import tar

import brolga
from brolga import Client, InvalidManifest, NotComputed, SourceError, StreamLayer
from brolga.images import Artifact, StreamBlob

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.registries import EmbeddedRegistry

DATA = b"some bytes to stream\n" * 1000


@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
@pytest.mark.parametrize("data", [DATA, b"", tar("a")])
def test_pull_stream_returns_the_bytes_of_push_stream(
    registry: EmbeddedRegistry, compression: str, data: bytes
) -> None:
    """By the tag, and by the name that is returned."""
    name = f"{registry.address}/x:v1"
    stream = StreamLayer(iter([data]), compression)
    with Client() as client:
        pushed = client.push_stream(name, stream, title="a", annotations={"k": "v"})
        image = client.image(name)
        assert isinstance(image, brolga.Image)
        assert image.annotations["k"] == "v"
        assert image.manifest.layers[0].media_type == stream.stream_media_type
        assert image.manifest.layers[0].annotations["org.opencontainers.image.title"] == "a"
        for place in (name, pushed):
            with client.pull_stream(place) as found:
                assert found.read() == data
        with client.pull_stream(pushed, raw=True) as found:
            assert len(found.read()) == stream.size


def test_push_stream_without_a_client(registry: EmbeddedRegistry) -> None:
    """With the credentials that the command uses."""
    name = f"{registry.address}/x:v1"
    brolga.push_stream(name, StreamLayer(iter([DATA])), artifact_type="application/x")
    with Client() as client:
        assert client.manifest(name).artifact_type == "application/x"


def test_push_stream_keeps_the_tag_if_the_stream_fails(registry: EmbeddedRegistry) -> None:
    """The manifest goes last."""

    def failing() -> Iterator[bytes]:
        yield DATA
        raise OSError("the disk is on fire")

    name = f"{registry.address}/x:v1"
    with Client() as client:
        before = client.push_stream(name, StreamLayer(iter([DATA])))
        with pytest.raises(SourceError, match="on fire"):
            client.push_stream(name, StreamLayer(failing()))
        assert client.head(name).digest == before.digest


def test_media_type_of_a_stream_is_not_computed_before_its_end() -> None:
    """Whether it is a whole tar shows there."""
    layer = StreamLayer(iter([tar("a")]), "none")
    blob = StreamBlob(layer)
    with pytest.raises(NotComputed):
        _ = layer.stream_media_type
    with pytest.raises(NotComputed):
        _ = blob.descriptor
    with blob.open() as stream:
        list(stream.blocks())
    assert blob.descriptor.media_type == "application/vnd.oci.image.layer.v1.tar"


def test_pull_stream_rejects_an_artifact_of_two_blobs(registry: EmbeddedRegistry) -> None:
    """The error names the verbs that read it."""
    name = f"{registry.address}/x:v1"
    blobs = [StreamBlob(StreamLayer(iter([data]))) for data in (b"a", b"b")]
    with Client() as client:
        client.push(name, Artifact.of("application/x", *blobs))
        with pytest.raises(InvalidManifest, match="has 2 layers, and a stream is one blob"):
            client.pull_stream(name)
