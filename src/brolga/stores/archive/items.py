"""Files of an archive that came by: their bytes are at hand, or went on, or were left.

Knows what can still be had of each as a part of an image (`contents.Item`). Must not know pipes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from brolga.errors import InvalidManifest, SpoolRequired, excerpt
from brolga.images import InMemoryBlob
from brolga.spec.digest import Digest
from brolga.spec.json import MAX_SIZE
from brolga.stores.archive.contents import check_digest, too_large
from brolga.stores.archive.section import check_diff_id, check_size, no_layer
from brolga.stores.archive.sent import SentBlob

if TYPE_CHECKING:
    from brolga.spec.blob import Blob, Layer
    from brolga.spec.descriptor import Descriptor

__all__ = ["Kept", "Passed", "Sent"]


@dataclass(frozen=True)
class Kept:
    """A small file of an archive, whose bytes are at hand."""

    path: str
    kind: str
    content: bytes = field(repr=False)

    def data(self) -> bytes:
        """Return the bytes."""
        return self.content

    def blob(self, descriptor: Descriptor) -> Blob:
        """Return it as the blob that it is. Raises InvalidManifest, DigestMismatch for another."""
        check_size(len(self.content), descriptor)
        actual = Digest.of(self.content, descriptor.digest.algorithm)
        check_digest("a file", actual, descriptor.digest)  # it may have been found by a link
        return InMemoryBlob(self.content, descriptor.media_type, descriptor.digest.algorithm)

    def layer(self, diff_id: Digest) -> Layer:  # noqa: ARG002 - it is none
        """Raise InvalidManifest."""
        raise no_layer(self.path)


@dataclass(frozen=True)
class Sent:
    """A file that went into the target as `descriptor`, compressed on the way where it is a tar.

    `diff_id` is what it was before; None where it went as it is.
    """

    path: str
    kind: str
    size: int
    descriptor: Descriptor
    diff_id: Digest | None = None

    def data(self) -> bytes:
        """Raise InvalidManifest: a document is small, and JSON. Raise SpoolRequired where it is so."""
        if self.kind != "json" or self.size > MAX_SIZE:
            raise too_large(self.path, self.size)
        raise SpoolRequired(
            f"{excerpt(self.path)} is a document of the image, and there was no room left for it "
            "in memory, so that it was sent on as a blob: --spool keeps such files on disk"
        )

    def blob(self, descriptor: Descriptor) -> Blob:
        """Return it as the blob that it is.

        Raises DigestMismatch where a link led here from another's name, SpoolRequired where it is
        compressed now.
        """
        check_size(self.size, descriptor)
        if self.diff_id is not None:
            raise SpoolRequired(
                f"the layer {descriptor.digest} is not compressed and came before oci-layout and "
                "index.json, so it was taken for one of docker save and compressed: say that this "
                "is an OCI archive (oci-archive:), or use --spool"
            )
        check_digest("a file", self.descriptor.digest, descriptor.digest)
        return SentBlob(descriptor)

    def layer(self, diff_id: Digest) -> Layer:
        """Return it as a layer. Raises DigestMismatch where it is known to be another."""
        if self.kind not in {"tar", "gzip", "zstd"}:
            raise no_layer(self.path)
        if self.kind == "tar":
            check_diff_id(self.diff_id or self.descriptor.digest, diff_id)
        return SentBlob(self.descriptor, diff_id)


@dataclass(frozen=True)
class Passed:
    """A file that is nothing an image is made of."""

    path: str
    kind: str
    size: int

    def data(self) -> bytes:
        """Raise InvalidManifest."""
        raise InvalidManifest(f"{excerpt(self.path)} of the archive is no JSON of bounded size")

    def blob(self, descriptor: Descriptor) -> Blob:
        """Raise InvalidManifest: what it is called is no digest."""
        raise InvalidManifest(f"{excerpt(self.path)} of the archive is not {descriptor.digest}")

    def layer(self, diff_id: Digest) -> Layer:  # noqa: ARG002 - it is none
        """Raise InvalidManifest."""
        raise no_layer(self.path)
