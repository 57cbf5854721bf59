"""Blobs with a descriptor of their own: a stream of any bytes, and a file with a name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from brolga.spec.blob import Blob, BlobStream, digest_algorithm, runs_user_code, source_identity
from brolga.spec.value import Value, replace

if TYPE_CHECKING:
    from brolga.spec.descriptor import Descriptor
    from brolga.stream.layer import StreamLayer

_TITLE: Final = "org.opencontainers.image.title"


class _DescribedBlob(Value):
    """A blob with a descriptor of its own."""

    blob: Blob

    @property
    def runs_user_code(self) -> bool:
        """Whether reading calls the user's Python code."""
        return runs_user_code(self.blob)

    @property
    def digest_algorithm(self) -> str:
        """The algorithm of the digest."""
        return digest_algorithm(self.blob)

    @property
    def source_identity(self) -> str:
        """What is the same if the blob is pushed again."""
        return source_identity(self.blob)

    def open(self) -> BlobStream:
        """Open the bytes for reading."""
        return self.blob.open()


class TitledBlob(_DescribedBlob):
    """A blob with a file name, under which oras stores it when it pulls."""

    title: str

    @property
    def descriptor(self) -> Descriptor:
        """The blob's descriptor with the title. Raises NotComputed as the blob does."""
        descriptor = self.blob.descriptor
        return replace(descriptor, annotations={**descriptor.annotations, _TITLE: self.title})


class StreamBlob(_DescribedBlob):
    """A stream of any bytes as a blob, with a layer's media type only if it is a tar."""

    blob: StreamLayer

    @property
    def descriptor(self) -> Descriptor:
        """The stream's descriptor. Raises NotComputed until the stream was read."""
        return replace(self.blob.descriptor, media_type=self.blob.stream_media_type)
