"""Images and indexes whose properties read nothing: all that they need is read before."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Final

from brolga.aio.calls import CallPool, Kind
from brolga.errors import BrolgaError
from brolga.images import Image
from brolga.images.index import is_blob

if TYPE_CHECKING:
    from brolga.images import ImageIndex, Tree
    from brolga.spec.descriptor import Descriptor
    from brolga.spec.digest import Digest

_MAX_CHILDREN: Final = 256  # in all: what an index lists is the registry's word alone


async def preload(calls: CallPool, tree: Tree, limit: int = _MAX_CHILDREN) -> Tree:
    """Return a tree with its configs and its first `limit` children read. No layer is read.

    An error of a config or child is kept, and raised when that is requested.
    """
    if isinstance(tree, Image):
        await calls.run(Kind.REQUEST, tree.preload)
        return tree
    children = {child.digest: child for child in tree.index.manifests if not is_blob(child)}
    first = list(children.values())[:limit]
    left = (limit - len(first)) // max(1, len(first))
    loaded = await asyncio.gather(*(_load_child(calls, tree, child, left) for child in first))
    return tree.with_loaded(dict(loaded))


async def _load_child(
    calls: CallPool, index: ImageIndex, described: Descriptor, limit: int
) -> tuple[Digest, Tree | BrolgaError]:
    try:
        child = await calls.run(Kind.REQUEST, partial(index.child, described))
    except BrolgaError as error:
        return described.digest, error
    return described.digest, await preload(calls, child, limit)
