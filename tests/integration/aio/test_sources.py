"""Asynchronous sources of the libraries that give them."""

from __future__ import annotations

import asyncio
import io
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import aiofiles
import aiohttp
import httpx
import pytest
from starlette.datastructures import UploadFile
from tests.raw_server import Peer, serve_script
from tests.registries import fetch_blob

from brolga import SourceError, StreamLayer
from brolga.aio import AsyncClient

if TYPE_CHECKING:
    from pathlib import Path

    from tests.registries import EmbeddedRegistry

DATA = bytes(range(256)) * 12_345  # 3 MiB and a bit: not a whole number of blocks


def serve_data(peer: Peer) -> None:
    """Answer with the data; the target /short is cut before its end."""
    while head := peer.head():
        length = len(DATA) + ("/short" in head[0])
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % length + DATA)
        if "/short" in head[0]:
            return


async def by_httpx(stack: AsyncExitStack, url: str, _path: Path) -> Any:
    client = await stack.enter_async_context(httpx.AsyncClient())
    response = await stack.enter_async_context(client.stream("GET", url))
    return response.aiter_raw()


async def by_aiohttp(stack: AsyncExitStack, url: str, _path: Path) -> Any:
    session = await stack.enter_async_context(aiohttp.ClientSession())
    response = await stack.enter_async_context(session.get(url))
    return response.content


async def by_aiofiles(stack: AsyncExitStack, _url: str, path: Path) -> Any:
    return await stack.enter_async_context(aiofiles.open(path, "rb"))


async def by_connection(stack: AsyncExitStack, url: str, _path: Path) -> Any:
    host, _, port = url.removeprefix("http://").partition("/")[0].rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    stack.callback(writer.close)
    writer.write(b"GET / HTTP/1.1\r\n\r\n")
    await reader.readuntil(b"\r\n\r\n")
    writer.write_eof()
    return reader


async def by_process(stack: AsyncExitStack, _url: str, path: Path) -> Any:
    process = await asyncio.create_subprocess_exec("cat", path, stdout=asyncio.subprocess.PIPE)
    stack.push_async_callback(process.wait)
    return process.stdout


async def by_upload(_stack: AsyncExitStack, _url: str, _path: Path) -> Any:
    return UploadFile(io.BytesIO(DATA))


KINDS = [by_httpx, by_aiohttp, by_aiofiles, by_connection, by_process, by_upload]


@pytest.mark.parametrize("kind", KINDS)
def test_push_layer_stores_what_a_library_gives(
    registry: EmbeddedRegistry, tmp_path: Path, kind: Any
) -> None:
    """Each is read by its `read` or by iteration, to the same blob."""
    path = tmp_path / "data"
    path.write_bytes(DATA)

    async def main(address: str) -> None:
        async with AsyncClient() as client, AsyncExitStack() as stack:
            layer = StreamLayer(await kind(stack, f"http://{address}/", path), "none")
            await client.push_layer(f"{registry.address}/x", layer)
        assert fetch_blob(registry.address, "x", layer.digest) == DATA

    with serve_script(serve_data) as address:
        asyncio.run(main(address))


@pytest.mark.parametrize("kind", [by_httpx, by_aiohttp])
def test_response_that_is_cut_is_source_error(
    registry: EmbeddedRegistry, tmp_path: Path, kind: Any
) -> None:
    """Nothing is committed, and no session is left."""

    async def main(address: str) -> None:
        async with AsyncClient() as client, AsyncExitStack() as stack:
            layer = StreamLayer(await kind(stack, f"http://{address}/short", tmp_path), "none")
            with pytest.raises(SourceError, match="the source failed after"):
                await client.push_layer(f"{registry.address}/x", layer)

    with serve_script(serve_data) as address:
        asyncio.run(main(address))
    assert registry.uploads("x") == registry.blobs("x") == []
