"""The asynchronous client against the embedded registry, a layout and an archive."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import TYPE_CHECKING, Any

import pytest
from tests.raw_server import Peer, serve_script
from tests.registries import ScriptedRegistry, fetch_blob

import brolga
from brolga import Image, ImageIndex, Platform, StreamLayer
from brolga.aio import AsyncClient
from brolga.client import UploadOptions
from brolga.errors import (
    InvalidManifest,
    NotFound,
    PlatformNotFound,
    RegistryError,
    StreamConsumed,
)
from brolga.protocol import Credentials
from brolga.stores.archive import ArchiveStream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine
    from pathlib import Path

    from tests.registries import EmbeddedRegistry

PATIENCE_S = 120.0
DATA = bytes(range(256)) * 20_000  # 5 MB


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(coroutine, PATIENCE_S))


async def blocks(data: bytes = DATA, size: int = 70_001) -> AsyncIterator[bytes]:
    """Yield data in odd pieces."""
    for start in range(0, len(data), size):
        await asyncio.sleep(0)
        yield data[start : start + size]


async def image_of(*layers: bytes, platform: Platform | None = None) -> Image:
    image = Image.empty(platform) if platform else Image.empty()
    return image.append(*(StreamLayer(blocks(layer), "none") for layer in layers))


def test_push_layer_stores_what_an_asynchronous_source_gives(registry: EmbeddedRegistry) -> None:
    """Digest, DiffID and size are those of the stored blob."""

    async def main() -> None:
        async with AsyncClient() as client:
            layer = StreamLayer(blocks(), "none")
            descriptor = await client.push_layer(f"{registry.address}/x", layer)
        assert layer.descriptor == descriptor
        assert fetch_blob(registry.address, "x", descriptor.digest) == DATA
        assert registry.uploads("x") == []

    run(main())


@pytest.mark.parametrize("jobs", [1, 3])
def test_push_of_image_and_back(registry: EmbeddedRegistry, jobs: int) -> None:
    """The layers go at the same time; properties of the image need no further request."""

    async def main() -> None:
        place = f"{registry.address}/x:v1"
        async with AsyncClient(uploads=UploadOptions(jobs=jobs)) as client:
            pushed = await client.push(place, await image_of(b"a", b"b", DATA))
            image = await client.image(place)
            assert pushed.digest == image.digest
            assert (await client.head(place)).digest == image.digest
            assert await client.manifest(place) == image.manifest
            assert await client.config(place) == image.config.raw
            diff_ids = [layer.diff_id for layer in image.layers]  # type: ignore[attr-defined] # stored
            assert tuple(diff_ids) == image.config.diff_ids
            assert await client.tags(f"{registry.address}/x") == ["v1"]
            with pytest.raises(InvalidManifest, match="not an index"):
                await client.index(place)

    run(main())


def test_blob_is_read_by_iteration_and_as_a_file(registry: EmbeddedRegistry) -> None:
    """With `async with` or without."""

    async def main() -> None:
        async with AsyncClient() as client:
            layer = StreamLayer(blocks(), "none")
            await client.push_layer(f"{registry.address}/x", layer)
            place = f"{registry.address}/x@{layer.digest}"
            assert b"".join([bytes(block) async for block in client.blob(place)]) == DATA
            async with client.blob(place) as stream:
                assert await stream.read(1000) == DATA[:1000]
                assert await stream.read() == DATA[1000:]
            async for block in client.blob(place):
                assert DATA.startswith(bytes(block))
                break
            async with client.blob(place):
                pass  # closed before it is read

    run(main())


def test_blob_is_read_at_any_position(registry: EmbeddedRegistry) -> None:
    """It is opened by the first call, and closed with the block."""

    async def main() -> None:
        async with AsyncClient() as client:
            layer = StreamLayer(blocks(), "none")
            await client.push_layer(f"{registry.address}/x", layer)
            place = f"{registry.address}/x@{layer.digest}"
            async with client.open_blob(place) as file:
                assert await file.seek(-10, os.SEEK_END) == len(DATA) - 10
                assert await file.read(1000) == DATA[-10:]
                assert await file.seek(1000) == await file.tell() == 1000
                assert await file.read(2_000_000) == DATA[1000:2_001_000]
                assert await file.read() == DATA[2_001_000:]
            with pytest.raises(ValueError, match="closed"):
                await file.read()
            async with client.open_blob(f"{registry.address}/x", layer.descriptor) as file:
                pass  # closed before it is opened
            file = client.open_blob(place, verify=True)
            reads = await asyncio.gather(*(file.read(1000) for _ in range(3)))
            assert b"".join(reads) == DATA[:3000]  # one after the other
            await file.close()
            await file.close()

    run(main())


def test_blob_that_does_not_exist_is_not_found(registry: EmbeddedRegistry) -> None:
    """The first read raises it."""

    async def main() -> None:
        place = f"{registry.address}/x@sha256:{64 * '0'}"
        async with AsyncClient() as client:
            with pytest.raises(NotFound):
                await client.blob(place).read()
            async with client.blob(place) as stream:
                with pytest.raises(NotFound):
                    async for _ in stream:
                        raise AssertionError

    run(main())


def test_stream_is_pushed_and_pulled_back(registry: EmbeddedRegistry) -> None:
    """The bytes are decompressed again."""

    async def main() -> None:
        place = f"{registry.address}/x:monday"
        async with AsyncClient() as client:
            await client.push_stream(place, StreamLayer(blocks(), "zstd"), title="dump")
            async with client.pull_stream(place) as stream:
                assert await stream.read() == DATA

    run(main())


def test_blob_of_one_registry_is_source_of_another(registry: EmbeddedRegistry) -> None:
    """A push waits for the blob, and does not keep it waiting: also with one job."""

    async def main() -> None:
        async with AsyncClient(uploads=UploadOptions(jobs=1)) as client:
            first = StreamLayer(blocks(), "none")
            await client.push_layer(f"{registry.address}/one", first)
            stream = client.blob(f"{registry.address}/one@{first.digest}")
            second = StreamLayer(stream, "none")
            await client.push_layer(f"{registry.address}/two", second)
            assert second.digest == first.digest
            await stream.close()

    run(main())


def test_source_may_make_requests_with_its_own_client(registry: EmbeddedRegistry) -> None:
    """They are counted apart from the push that waits for them."""

    async def main() -> None:
        async with AsyncClient(uploads=UploadOptions(jobs=1)) as client:
            await client.push(f"{registry.address}/x:v1", await image_of(b"a"))

            async def source() -> AsyncIterator[bytes]:
                yield str(await client.head(f"{registry.address}/x:v1")).encode()

            await client.push_layer(f"{registry.address}/x", StreamLayer(source()))

    run(main())


def test_children_of_index_are_read_with_it(registry: EmbeddedRegistry) -> None:
    """Their configs too; a child that is missing raises its error when it is requested."""
    amd64, arm64 = Platform("linux", "amd64"), Platform("linux", "arm64")

    async def main() -> None:
        home, place = f"{registry.address}/x", f"{registry.address}/x:all"
        async with AsyncClient() as client:
            index = ImageIndex.empty()
            for platform in (amd64, arm64):
                image = await image_of(str(platform).encode(), platform=platform)
                name = await client.push(f"{home}:{platform.architecture}", image)
                index = index.append(await client.image(name, platform), platform)
            await client.push(place, index)
            both = await client.index(place)
            assert [child.digest for child in both.children] == [
                child.digest for child in index.children
            ]
            assert both.image(arm64).config.platform == arm64
            assert (await client.image(place, arm64)).platform == arm64
            assert isinstance(await client.get(place), ImageIndex)
            with pytest.raises(PlatformNotFound):
                await client.image(place, Platform("linux", "s390x"))
            await client.push(f"{home}:copy", both)  # unchanged
            await client.delete(f"{home}@{both.image(arm64).digest}")
            left = await client.index(place)
            assert left.image(amd64).config.platform == amd64
            for _ in range(2):
                with pytest.raises(NotFound):
                    left.image(arm64)

    run(main())


def test_artifact_has_no_image_config(registry: EmbeddedRegistry) -> None:
    """Its error is that of the blocking client."""

    async def main() -> None:
        async with AsyncClient() as client:
            await client.push_stream(f"{registry.address}/x:v1", StreamLayer(blocks()))
            artifact = await client.image(f"{registry.address}/x:v1")
            for _ in range(2):
                with pytest.raises(InvalidManifest, match="not an image, but an artifact"):
                    _ = artifact.config

    run(main())


def test_names_are_iterated_page_by_page(registry: EmbeddedRegistry) -> None:
    """Tags and the catalog; leaving the loop early stops it."""

    async def main() -> None:
        home = f"{registry.address}/x"
        async with AsyncClient() as client:
            await client.push(f"{home}:v0", await image_of(b"a"))
            for number in range(1, 5):
                await client.tag(f"{home}:v0", f"v{number}")
            assert [tag async for tag in client.iter_tags(home)] == [f"v{n}" for n in range(5)]
            async for tag in client.iter_tags(home):
                assert tag == "v0"
                break
            catalog = client.registries.catalog(registry.address)
            assert [name async for name in catalog] == ["x"]

    run(main())


def test_registries_are_explained(registry: EmbeddedRegistry) -> None:
    """The methods about a registry as a whole."""

    async def main() -> None:
        async with AsyncClient() as client:
            explanation = await client.registries.explain(f"{registry.address}/x")
            assert explanation.profile == "brolga"
            assert await client.registries.authorization(f"{registry.address}/x") == ""
            credentials = Credentials("user", "secret")
            assert not await client.registries.check_login(registry.address, credentials)

    run(main())


def test_copy_between_stores(registry: EmbeddedRegistry, tmp_path: Path) -> None:
    """Registry, layout and archive; each tag is copied when it is requested."""

    async def main() -> None:
        home = f"{registry.address}/x"
        layout, archive = f"oci:{tmp_path}/layout", f"oci-archive:{tmp_path}/all.tar"
        async with AsyncClient() as client:
            pushed = await client.push(f"{home}:v1", await image_of(b"a", b"b"))
            await client.tag(f"{home}:v1", "v2")
            copies = client.copy_all(home, layout)
            assert (await anext(copies))[0] == "v1"
            assert await client.tags(layout) == ["v1"]
            assert [tag async for tag, _ in copies] == ["v2"]
            copied = await client.copy(f"{layout}:v2", f"{home}:v3")
            assert copied.digest == pushed.digest
            await client.copy(f"{home}:v3", f"{archive}:v3")
            data = (tmp_path / "all.tar").read_bytes()
            again = await client.copy(ArchiveStream(blocks(data)), f"{home}:v4")
            assert again.digest == pushed.digest
            written = await client.write_images(layout, [("v5", await image_of(b"c"))])
            assert (await client.head(written[0])).digest == written[0].digest
            changed = await client.push_mutated(
                f"{home}:v1", f"{home}:v6", lambda image: image.with_config(Cmd=["run"])
            )
            assert (await client.image(changed)).config.config["Cmd"] == ("run",)
            assert await client.referrers(changed) == ()
            layer = (await client.image(changed)).layers[0].descriptor
            await client.delete_blob(f"{home}@{layer.digest}")

    run(main())


def test_error_of_source_is_raised_and_leaves_no_session(registry: EmbeddedRegistry) -> None:
    """Nothing of it is committed, and the layer cannot be pushed again."""

    async def source() -> AsyncIterator[bytes]:
        yield bytes(1 << 21)
        raise OSError("cut")

    async def main() -> None:
        async with AsyncClient() as client:
            layer = StreamLayer(source(), "none")
            with pytest.raises(brolga.SourceError, match="failed after 2097152 bytes: OSError"):
                await client.push_layer(f"{registry.address}/x", layer)
            with pytest.raises(StreamConsumed):
                await client.push_layer(f"{registry.address}/x", layer)

    run(main())
    assert registry.uploads("x") == registry.blobs("x") == []


def test_many_requests_at_a_time_stay_within_jobs() -> None:
    """For 1,000 requests, no more connections are opened than `jobs`."""
    connections, heads, lock = 0, 0, threading.Lock()

    def script(peer: Peer) -> None:
        nonlocal connections, heads
        with lock:
            connections += 1
        while head := peer.head():
            if head[0].startswith("HEAD"):
                with lock:
                    heads += 1
                kind = "Content-Type: application/vnd.oci.image.manifest.v1+json"
                digest = f"Docker-Content-Digest: sha256:{64 * 'a'}"
                answer = f"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n{kind}\r\n{digest}\r\n\r\n"
                peer.send(answer.encode())
            else:
                peer.answer(200)

    async def main(address: str) -> None:
        async with AsyncClient(uploads=UploadOptions(jobs=3)) as client:
            found = await asyncio.gather(
                *(client.head(f"{address}/x:v{number}") for number in range(1000))
            )
            assert {str(descriptor.digest) for descriptor in found} == {f"sha256:{64 * 'a'}"}

    with serve_script(script) as address:
        run(main(address))
    assert heads == 1000
    assert connections <= 3


def test_warning_is_reported_in_event_loop() -> None:
    """The callback may use what belongs to the loop."""
    warnings: list[tuple[str, threading.Thread]] = []

    def intercept(peer: Peer, head: list[str]) -> bool:
        if not head[0].startswith("DELETE"):
            return False
        peer.answer(500, b"", 'Warning: 299 - "old"')
        return True

    def on_warning(_host: str, text: str) -> None:
        warnings.append((text, threading.current_thread()))

    async def main(address: str) -> None:
        retry = brolga.Retry(attempts=1)
        async with AsyncClient(on_warning=on_warning, retry=retry) as client:
            with pytest.raises(RegistryError):
                await client.delete_blob(f"{address}/x@sha256:{64 * 'a'}")
            await asyncio.sleep(0)

    with serve_script(ScriptedRegistry(intercept)) as address:
        run(main(address))
    assert warnings == [("old", threading.current_thread())]
