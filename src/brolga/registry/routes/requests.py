"""The parts of a request: the names and digests in its URL, and its body.

All text of a URL passes the value types here before it reaches the storage. A body is written in a
worker thread while the rest of it arrives: one batch is written and one is filled, whatever the
size of the body.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Final

from brolga.errors import InvalidDigest, InvalidReference
from brolga.registry.errors import BodyStalled, BodyTooLong
from brolga.spec.digest import Digest, hasher
from brolga.spec.reference import Reference, Repository

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from starlette.requests import Request

    from brolga.registry.storage.repository import Repo
    from brolga.registry.storage.store import Store


_HOST: Final = "localhost"  # any host will do: the registry ignores the one by which it was called

# Large enough that a thread's wake-up does not matter, small enough for the cache.
_BATCH: Final = 1 << 20

# What must arrive of a body within the idle time: little enough for a slow line or a slow source,
# too much for a client that only wants to hold the connection.
_MIN_PROGRESS: Final = 64 << 10


def store(request: Request) -> Store:
    """Return the registry's store."""
    value: Store = request.app.state.store
    return value


def repo(request: Request) -> Repo:
    """Return the repository in the path. Raises InvalidReference."""
    return store(request).repo(Repository(_HOST, request.path_params["name"]))


def mount_source(request: Request) -> Repo | None:
    """Return the repository in `?from=`; None if it is missing or not a valid name."""
    try:
        return store(request).repo(Repository(_HOST, request.query_params["from"]))
    except (KeyError, InvalidReference):
        return None


def parse_digest(text: str) -> Digest:
    """Parse a digest of a supported algorithm (image-spec descriptor.md, Digests)."""
    digest = Digest.parse(text)
    hasher(digest.algorithm)
    return digest


def digest_parameter(request: Request, name: str = "digest") -> Digest:
    """Return the digest in a query parameter. Raises InvalidDigest, also if it is missing."""
    text = request.query_params.get(name)
    if text is None:
        raise InvalidDigest(f"?{name}= is missing: the digest of the whole blob")
    return parse_digest(text)


def tag_parameters(request: Request) -> list[str]:
    """Return each `?tag=`, once (distribution-spec, Pushing Manifests). Raises InvalidReference."""
    tags = list(dict.fromkeys(request.query_params.getlist("tag")))
    for tag in tags:
        Reference(Repository(_HOST, "x"), tag)
    return tags


def digest_or_tag(request: Request) -> tuple[Digest | None, str | None]:
    """Return the path's reference, as either a digest or a tag.

    "`<reference>` MUST be either (a) the digest of the manifest or (b) a tag" (distribution-spec,
    Pulling manifests). Raises InvalidDigest, InvalidReference.
    """
    text = request.path_params["reference"]
    # No tag has a colon, and every digest has one.
    if ":" in text:
        return parse_digest(text), None
    return None, Reference(Repository(_HOST, request.path_params["name"]), text).tag


def is_repository_name(text: str) -> bool:
    """Return whether a text is a valid repository name (distribution-spec, Pulling manifests)."""
    try:
        Repository(_HOST, text)
    except InvalidReference:
        return False
    return True


async def limit_body(
    blocks: AsyncGenerator[bytes, None], limit: int | None, idle_s: float
) -> AsyncGenerator[bytes, None]:
    """Yield the blocks of a body, within bounds.

    Raises BodyTooLong over `limit` bytes, and BodyStalled if the next 64 KiB, or the rest, take
    longer than `idle_s`. Only the time spent waiting for the client counts.
    """
    clock = asyncio.get_running_loop().time
    size, recent, waited_s = 0, 0, 0.0
    async with aclosing(blocks):
        while True:
            begin = clock()
            try:
                async with asyncio.timeout(idle_s - waited_s):
                    block = await anext(blocks, None)
            except TimeoutError as error:
                progress = f"{recent} bytes" if recent else "nothing"
                raise BodyStalled(f"{progress} came in {idle_s:g} seconds: too slow") from error
            if block is None:
                return
            waited_s += clock() - begin
            size += len(block)
            recent += len(block)
            if recent >= _MIN_PROGRESS:
                recent, waited_s = 0, 0.0
            if limit is not None and size > limit:
                raise BodyTooLong(f"no more than {limit} bytes are accepted")
            yield block


async def write_body(
    blocks: AsyncGenerator[bytes, None], write: Callable[[bytearray], object]
) -> None:
    """Write a body in order, in a worker thread.

    If the body breaks off, what has arrived is written before the error is raised. After an error
    of `write`, nothing more is written.
    """
    batch = bytearray()
    in_flight: asyncio.Future[object] | None = None
    loop = asyncio.get_running_loop()
    async with aclosing(blocks):
        try:
            async for block in blocks:
                batch += block
                if len(batch) >= _BATCH:
                    if in_flight is not None:
                        await in_flight
                    in_flight = loop.run_in_executor(None, write, batch)
                    batch = bytearray()
        finally:
            if in_flight is not None:
                await in_flight
            if batch:
                await asyncio.to_thread(write, batch)
