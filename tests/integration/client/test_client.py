"""client.py: which flow does what, and with which credentials and schemes."""

from __future__ import annotations

import gc
import gzip
import threading
from base64 import b64encode
from typing import TYPE_CHECKING

import pytest
from tests.raw_server import Peer, refusing_port, serve_script

import brolga
from brolga.client import Client, TransportOptions, UploadOptions, push_layer
from brolga.errors import (
    InvalidManifest,
    InvalidReference,
    SourceError,
    StreamConsumed,
    TransportError,
    Unauthorized,
)
from brolga.images import InMemoryBlob, StoredBlob
from brolga.protocol import Credentials
from brolga.registry.server import running
from brolga.spec.blob import LayerState
from brolga.spec.reference import Repository
from brolga.stream.layer import StreamLayer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Authority
    from tests.registries import EmbeddedRegistry


def basic(username: str, password: str) -> str:
    """Return a Basic Authorization header (RFC 7617)."""
    return "Basic " + b64encode(f"{username}:{password}".encode()).decode()


class _Locked:
    """A registry behind Basic authentication; it keeps what Authorization each call had."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def __call__(self, peer: Peer) -> None:
        while head := peer.head():
            (authorization,) = peer.header("authorization", head) or [""]
            self.seen.append(authorization)
            if authorization == basic("someone", "secret"):
                peer.answer(418)
            else:
                peer.answer(401, b"", 'WWW-Authenticate: Basic realm="x"')


def test_push_layer_returns_the_descriptor(registry: EmbeddedRegistry) -> None:
    """One pass: the blob is there, and the layer's figures exist from then on."""
    layer = StreamLayer([b"data"])
    with Client() as client:
        descriptor = client.push_layer(f"{registry.address}/x", layer)
    assert descriptor == layer.descriptor
    (blob,) = registry.blobs("x")
    assert blob.name == descriptor.digest.encoded
    assert gzip.decompress(blob.read_bytes()) == b"data"
    assert registry.uploads("x") == []


def test_push_layer_without_a_client(registry: EmbeddedRegistry) -> None:
    """`brolga.push_layer(repository, layer)`, with a client of its own that it closes."""
    repository = Repository.parse(f"{registry.address}/x")
    layer = brolga.StreamLayer([])
    assert push_layer(repository, layer) == layer.descriptor
    gc.collect()  # an open socket says so now


def test_functions_use_the_credentials_of_the_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`push_layer`, `push`, `image`: the environment, then docker's and podman's files."""
    monkeypatch.setenv("BROLGA_USERNAME", "someone")
    monkeypatch.setenv("BROLGA_PASSWORD", "secret")
    calls: list[Callable[[str], object]] = [
        lambda name: push_layer(name, StreamLayer([b"data"])),
        lambda name: brolga.push(name, brolga.Image.empty()),
        brolga.image,
    ]
    for call in calls:
        with serve_script(_Locked()) as address, pytest.raises(brolga.RegistryError, match="418"):
            call(f"{address}/x")


def test_image_keeps_its_connections_open(registry: EmbeddedRegistry) -> None:
    """Its layers are read by connections that are closed when no part of it is left."""
    name = f"{registry.address}/x"
    pushed = brolga.push(name, brolga.Image.empty().append(StreamLayer([b"data"])))
    image = brolga.image(name, brolga.Platform("linux", "amd64"))
    assert image.digest == pushed.digest
    (layer,) = image.layers
    with layer.open() as stream:
        del image, layer
        gc.collect()
        assert gzip.decompress(b"".join(stream.blocks())) == b"data"
    del stream
    gc.collect()  # an open socket says so now


def test_push_to_a_digest_requires_that_digest(registry: EmbeddedRegistry) -> None:
    """Another manifest is refused, and one whose digest is not computed yet."""
    empty = brolga.Image.empty()
    right, wrong = f"{registry.address}/x@{empty.digest}", f"{registry.address}/x@sha256:{64 * 'a'}"
    with Client() as client:
        assert str(client.push(right, empty)) == right
        with pytest.raises(InvalidReference, match=f"{empty.digest}"):
            client.push(wrong, empty)
        with pytest.raises(brolga.NotComputed):
            client.push(wrong, empty.append(StreamLayer([b"data"])))


@pytest.mark.parametrize("part", ["config", "layer"])
@pytest.mark.parametrize(("tag", "recheck"), [("v2", False), ("v1", True)])
def test_push_repairs_a_lost_blob(
    registry: EmbeddedRegistry, part: str, tag: str, *, recheck: bool
) -> None:
    """A second push sends it if the registry refuses the manifest, or with verify_existing."""
    name = f"{registry.address}/x"
    with Client() as client:
        client.push(f"{name}-kept:v1", brolga.Image.empty().append(StreamLayer([b"data"])))
        kept = client.image(f"{name}-kept:v1")
        client.copy(f"{name}-kept:v1", f"{name}:v1")
        blob = kept.manifest.config if part == "config" else kept.manifest.layers[0]
        client.delete_blob(f"{name}@{blob.digest}")
        client.push(f"{name}:{tag}", kept, verify_existing=recheck)
        with client.blob(f"{name}@{blob.digest}") as stream:
            assert sum(map(len, stream.blocks())) == blob.size


def test_push_repairs_an_index_with_a_lost_blob(registry: EmbeddedRegistry) -> None:
    """What its images refer to is checked as well."""
    name = f"{registry.address}/x"
    with Client() as client:
        image = brolga.Image.empty().append(StreamLayer([b"data"]))
        client.push(f"{name}-kept", image)
        kept = client.image(f"{name}-kept:latest")
        client.push(f"{name}-kept:all", brolga.ImageIndex.empty().append(kept))
        client.copy(f"{name}-kept:all", f"{name}:all")
        client.delete_blob(f"{name}@{image.manifest.config.digest}")
        client.copy(f"{name}-kept:all", f"{name}:all", verify_existing=True)
        assert client.image(f"{name}:all").config.platform.os == "linux"


def test_push_mounts_a_stream_in_a_second_repository(registry: EmbeddedRegistry) -> None:
    """The bytes cannot be read again, but the registry has them."""
    layer = StreamLayer([b"data"])
    with Client() as client:
        client.push_layer(f"{registry.address}/a", layer)
        client.push_layer(f"{registry.address}/a", layer)
        image = brolga.Image.empty().append(layer)
        client.push(f"{registry.address}/b", image)
        assert client.image(f"{registry.address}/b").digest == image.digest


def test_push_of_a_consumed_stream_names_its_repository(
    registry: EmbeddedRegistry, tmp_path: Path
) -> None:
    """No mount leads to another registry, or to a layout."""
    layer = StreamLayer([b"data"])
    image = brolga.Image.empty().append(layer)
    with running(tmp_path / "second") as second, Client() as client:
        client.push(f"{registry.address}/a", image)
        with pytest.raises(StreamConsumed) as caught:
            client.push(f"{second}/b", image)
    assert caught.value.__notes__ == [
        f"it went to {registry.address}/a: push an image that is read from there"
    ]


def test_push_uploads_without_the_right_to_mount() -> None:
    """A token server may refuse the scope of both: the push itself is allowed."""
    image = brolga.Image.empty()
    config = image.manifest.config
    asked: list[str] = []

    def script(peer: Peer) -> None:
        while request := peer.head():
            method, path, _ = request[0].split()
            asked.append(f"{method} {path.partition('?')[0]}")
            if path.startswith("/token?"):
                peer.answer(*((401, b"") if path.count("scope=") > 1 else (200, b'{"token":"t"}')))
            elif not peer.header("authorization", request):
                realm = f'Bearer realm="http://{address}/token",service="x"'
                peer.answer(401, b"", f"WWW-Authenticate: {realm}")
            elif "/blobs/" in path:
                peer.answer(200, b"", f"Docker-Content-Digest: {config.digest}")
            elif method == "PUT":
                (length,) = map(int, peer.header("content-length", request))
                while len(peer.arrived) < length:
                    peer.receive()
                peer.arrived = b""
                peer.answer(201)
            else:
                peer.answer(404)

    with serve_script(script) as address, Client() as client:
        home = Repository.parse(f"{address}/base")
        moved = StoredBlob(config, InMemoryBlob(b"{}", config.media_type).open, home)
        client.push(f"{address}/app", brolga.Image(image.manifest, moved, ()))
    assert asked.count("GET /token") == 2
    assert f"HEAD /v2/app/blobs/{config.digest}" in asked
    assert not [one for one in asked if one.startswith("POST")]


def test_get_names_an_invalid_manifest() -> None:
    """The error names it, and says that the registry's side is wrong."""

    def script(peer: Peer) -> None:
        while peer.head():
            peer.answer(200, b"[]", "Content-Type: application/vnd.oci.image.manifest.v1+json")

    with (
        serve_script(script) as address,
        Client() as client,
        pytest.raises(InvalidManifest, match="/x:v1 is not a valid manifest: ") as caught,
    ):
        client.get(f"{address}/x:v1")
    assert "push it again" in caught.value.__notes__[0]


def test_tag_returns_tag_and_digest(registry: EmbeddedRegistry) -> None:
    """The new name, by both."""
    with Client() as client:
        pushed = client.push(f"{registry.address}/x:v1", brolga.Image.empty())
        tagged = client.tag(f"{registry.address}/x:v1", "v2")
    assert str(tagged) == f"{registry.address}/x:v2@{pushed.digest}"


def test_push_layer_rejects_an_invalid_name_before_reading() -> None:
    """InvalidReference, and the layer is as fresh as before."""
    layer = StreamLayer([b"data"])
    with Client() as client, pytest.raises(InvalidReference):
        client.push_layer("registry.example/Nope", layer)
    assert layer.state is LayerState.FRESH


def test_push_layer_sends_nothing_if_the_source_fails_at_once(tmp_path: Path) -> None:
    """No connection is tried: the port would refuse it."""
    layer = StreamLayer(tmp_path / "missing")
    with Client() as client, pytest.raises(SourceError, match="No such file"):
        client.push_layer(f"127.0.0.1:{refusing_port()}/x", layer)


def test_push_layer_consumes_the_layer_if_no_registry_answers() -> None:
    """A stream is opened once; the second push says what ended the first."""
    layer = StreamLayer([b"data"])
    repository = f"127.0.0.1:{refusing_port()}/x"
    with Client() as client:
        with pytest.raises(TransportError) as first:
            client.push_layer(repository, layer)
        with pytest.raises(StreamConsumed) as second:
            client.push_layer(repository, layer)
    assert layer.state is LayerState.FAILED
    assert second.value.__cause__ is first.value


def test_credentials_are_sent_after_a_challenge() -> None:
    """And not before."""
    credentials = Credentials("someone", "secret")
    locked = _Locked()
    with (
        serve_script(locked) as address,
        Client(credentials=credentials) as client,
        pytest.raises(brolga.RegistryError, match="418"),
    ):
        client.push_layer(f"{address}/x", StreamLayer([b"data"]))
    authorization = basic("someone", "secret")
    assert locked.seen.index(authorization) == len([seen for seen in locked.seen if not seen])
    assert set(locked.seen) == {"", authorization}


def test_client_ignores_credentials_in_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Credentials go where the caller sends them: the command's environment is the command's."""
    monkeypatch.setenv("BROLGA_USERNAME", "someone")
    monkeypatch.setenv("BROLGA_PASSWORD", "secret")
    locked = _Locked()
    with serve_script(locked) as address, Client() as client, pytest.raises(Unauthorized):
        client.push_layer(f"{address}/x", StreamLayer([b"data"]))
    assert set(locked.seen) == {""}


@pytest.mark.parametrize(
    "credentials", [None, Credentials("someone", "wrong")], ids=["none", "wrong"]
)
def test_missing_and_wrong_credentials_raise_unauthorized(credentials: Credentials | None) -> None:
    """And nothing of the layer was sent."""
    layer = StreamLayer([b"data"])
    with (
        serve_script(_Locked()) as address,
        Client(credentials=credentials) as client,
        pytest.raises(Unauthorized),
    ):
        client.push_layer(f"{address}/x", layer)
    assert layer.state is LayerState.FAILED


def test_plain_http_needs_loopback_or_insecure(monkeypatch: pytest.MonkeyPatch) -> None:
    """A registry elsewhere is spoken to by TLS alone, or plainly with `insecure`."""
    asked: list[str] = []

    def refuse(_self: object, flow: object) -> None:
        call = next(flow)  # type: ignore[call-overload]
        while True:
            asked.append(call.url)
            call = flow.throw(TransportError("", reason="connect"))  # type: ignore[attr-defined]

    monkeypatch.setattr("brolga.transport.Transport.run", refuse)
    for host, insecure in (("registry.example", False), ("registry.example", True)):
        with (
            Client(transport=TransportOptions(insecure=insecure)) as client,
            pytest.raises(TransportError),
        ):
            client.push_layer(f"{host}/x", StreamLayer([]))
    with Client() as client, pytest.raises(TransportError):
        client.push_layer("localhost:5000/x", StreamLayer([]))
    assert asked == [
        "https://registry.example/v2/",
        "https://registry.example/v2/",
        "http://registry.example/v2/",
        "http://localhost:5000/v2/",
    ]


def test_ca_cert_is_trusted(authority: Authority) -> None:
    """`ca_cert` is a PEM file of further authorities."""

    def script(peer: Peer) -> None:
        peer.head()
        peer.answer(418)

    with (
        serve_script(script, tls=authority.server_context()) as address,
        Client(transport=TransportOptions(ca_cert=authority.ca_cert)) as client,
        pytest.raises(brolga.RegistryError, match="418"),
    ):
        client.push_layer(f"{address}/x", StreamLayer([]))


def test_client_is_thread_safe(registry: EmbeddedRegistry) -> None:
    """Each thread gets the digest of its own layer, and no socket is left open."""
    data = [str(number).encode() * 300_000 for number in range(8)]
    layers = [StreamLayer([piece], threads=1) for piece in data]
    with Client() as client:
        workers = [
            threading.Thread(target=client.push_layer, args=(f"{registry.address}/x", layer))
            for layer in layers
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    gc.collect()
    stored = {blob.name: gzip.decompress(blob.read_bytes()) for blob in registry.blobs("x")}
    assert stored == {
        layer.digest.encoded: piece for layer, piece in zip(layers, data, strict=True)
    }
    assert registry.uploads("x") == []


def test_iter_tags_yields_pages() -> None:
    """The next page is requested only when it is needed."""
    asked: list[str] = []

    def script(peer: Peer) -> None:
        while head := peer.head():
            path = head[0].split()[1]
            asked.append(path)
            member = "tags" if "tags" in path else "repositories"
            names = b'{"%s": ["a%d"]}' % (member.encode(), len(asked))
            peer.answer(
                200, names, *([] if "last" in path else [f'Link: <{path}&last=1>; rel="next"'])
            )

    with serve_script(script) as address, Client() as client:
        for names in (client.iter_tags(f"{address}/x"), client.registries.catalog(address)):
            before = len(asked)
            first = next(names)
            count = len(asked)
            assert first == f"a{count}"
            assert count - before in {1, 2}  # the API check may come before it
            assert list(names) == [f"a{count + 1}"]
            assert len(asked) == count + 1


@pytest.mark.parametrize("uploads", [1, 4])
def test_buffer_gives_a_one_pass_stream_the_whole_window(uploads: int) -> None:
    """Also during several uploads, because its bytes cannot be read again."""
    settings = UploadOptions(window=8)
    for is_reopenable, start in ((False, 8), (True, 16 - 8 // uploads)):
        keep = settings.buffer(uploads, is_reopenable=is_reopenable)
        for byte in range(16):
            keep.add(bytes([byte]))
        assert keep.start == start
