"""The client for asyncio: the methods of `brolga.Client`, which never block the event loop."""

from brolga.aio.client import AsyncClient, AsyncRegistries
from brolga.aio.seekable import AsyncSeekableBlob
from brolga.aio.streams import AsyncBlobStream

__all__ = ["AsyncBlobStream", "AsyncClient", "AsyncRegistries", "AsyncSeekableBlob"]
