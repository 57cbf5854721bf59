"""What went into a store on its way: a blob of which nothing but the name is left.

Knows the protocols of blobs and stores. Must not know archives.

Strategy: such a blob says of itself that it is in a store, and `Known` is that store once more,
which believes it. Whoever pushes a tree of them asks nothing of the store that was answered before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from brolga.errors import LayerError, NotComputed
from brolga.stores.store import go_on

if TYPE_CHECKING:
    from collections.abc import Callable

    from brolga.spec.blob import Blob
    from brolga.spec.descriptor import Descriptor
    from brolga.spec.digest import Digest
    from brolga.spec.index import Index
    from brolga.spec.manifest import Manifest
    from brolga.stores.store import WriteStore

__all__ = ["Known", "Nowhere", "SentBlob"]


@dataclass(frozen=True)
class SentBlob:
    """A blob that went by, into a store: it can be named there, and not be read again."""

    descriptor: Descriptor
    known_diff_id: Digest | None = None

    @property
    def media_type(self) -> str:
        """The media type of the bytes."""
        return self.descriptor.media_type

    @property
    def diff_id(self) -> Digest:
        """The digest of the uncompressed bytes. Raises NotComputed where nobody told it."""
        if self.known_diff_id is None:
            raise NotComputed(f"the DiffID of {self.descriptor.digest} is not known here")
        return self.known_diff_id

    def open(self) -> NoReturn:
        """Raise LayerError: the bytes came down a pipe, and are gone."""
        raise LayerError(
            f"the bytes of {self.descriptor.digest} came down a pipe and went where they were "
            "meant to go; they are not there any more, and cannot be read again here"
        )


class Nowhere:
    """A store that keeps nothing: what goes by is read to its end, and so held against its name."""

    def push(self, blob: Blob, watch: Callable[[], None] = go_on) -> Descriptor:
        """Read a blob; describe it."""
        with blob.open() as stream:
            for _ in stream.blocks():
                watch()
        return blob.descriptor

    def exists(self, descriptor: Descriptor, name: str = "") -> bool:  # noqa: ARG002 - whatever it is
        """Have nothing."""
        return False

    def named(self, tag: str) -> Digest | None:
        """Know no tag."""

    def push_manifest(self, document: Manifest | Index, name: str) -> None:
        """Take nothing."""


@dataclass(frozen=True)
class Known:
    """A store that blobs were streamed into: it is not asked for those, and takes the rest."""

    target: WriteStore

    def push(self, blob: Blob, watch: Callable[[], None] = go_on) -> Descriptor:
        """Take a blob; one that was sent before costs no request."""
        if isinstance(blob, SentBlob):
            return blob.descriptor
        return self.target.push(blob, watch)

    def exists(self, descriptor: Descriptor, name: str = "") -> bool:
        """Ask the store whether a manifest is there."""
        return self.target.exists(descriptor, name)

    def named(self, tag: str) -> Digest | None:
        """Ask the store what a tag stands for."""
        return self.target.named(tag)

    def push_manifest(self, document: Manifest | Index, name: str) -> None:
        """Give the store a manifest."""
        self.target.push_manifest(document, name)
