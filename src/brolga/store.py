"""What every store of images can do, as protocols of a few methods.

Knows the words alone. Must not know any store: a repository of a registry is one.

Strategy: who copies asks for no more than it needs, so that it is written once for all stores.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from brolga.descriptor import Descriptor
    from brolga.layer import Blob
    from brolga.manifest import Index, Manifest

__all__ = ["Target"]


class Target(Protocol):
    """A store that takes blobs and manifests. Threads may share one."""

    def push(self, blob: Blob, watch: Callable[[], None] = ...) -> Descriptor:
        """Take a blob, whose bytes are read where the store does not have them; describe it.

        `watch` is called before each block; what it raises ends the push as a failure of the
        blob's source does.
        """

    def holds(self, descriptor: Descriptor) -> bool:
        """Tell whether a manifest is there already, and so what it refers to."""

    def put(self, document: Manifest | Index, name: str) -> None:
        """Take a manifest under `name`, a tag or its digest. What it refers to is there."""
