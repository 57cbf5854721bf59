"""An artifact as a value: files of any kind in a registry, with a type of their own.

Knows the image manifest's guidance for artifacts (manifest.md, Guidelines for Artifact Usage) and
how oras names files. Must not know where files come from, or what is in them.

Strategy: an artifact is an image whose config is the empty object. Its manifest is made of what its
blobs say when it is asked for, so that they can be streams, which are read when they are pushed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from brolga.images.blobs import BytesBlob
from brolga.images.view import Image, created_now
from brolga.manifest import Manifest
from brolga.mediatypes import OCI_EMPTY

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

    from brolga.descriptor import Descriptor
    from brolga.layer import Blob, BlobStream

__all__ = ["Artifact", "TitledBlob"]

_EMPTY: Final = BytesBlob(b"{}", OCI_EMPTY)
_TITLE: Final = "org.opencontainers.image.title"
_CREATED: Final = "org.opencontainers.image.created"


@dataclass(frozen=True)
class TitledBlob:
    """A blob with the name of a file, under which oras stores it when it pulls."""

    blob: Blob
    title: str

    @property
    def descriptor(self) -> Descriptor:
        """The blob's descriptor, and its title. Raises NotComputed as the blob does."""
        descriptor = self.blob.descriptor
        return replace(descriptor, annotations={**descriptor.annotations, _TITLE: self.title})

    def open(self) -> BlobStream:
        """Open the bytes for reading."""
        return self.blob.open()


@dataclass(frozen=True, eq=False)
class Artifact(Image):
    """A manifest of blobs with a type of its own: an SBOM, a signature, a model."""

    @classmethod
    def of(
        cls,
        artifact_type: str,
        *blobs: Blob,
        annotations: Mapping[str, str] | None = None,
        subject: Descriptor | None = None,
    ) -> Self:
        """Return the artifact of some blobs; nothing of them is read.

        "If the artifact does not need layers, a single layer SHOULD be included with a non-zero
        size" (manifest.md): without blobs that is the empty object. It was created at the time of
        SOURCE_DATE_EPOCH, or now, where `annotations` do not tell. Raises InvalidManifest for a
        type that is none.
        """
        manifest = Manifest.new(
            _EMPTY.descriptor,
            (),
            annotations={_CREATED: created_now(), **(annotations or {})},
            subject=subject,
            artifact_type=artifact_type,
        )
        return cls(manifest, _EMPTY, blobs or (_EMPTY,))

    @property
    def manifest(self) -> Manifest:
        """The manifest with every blob. Raises NotComputed where one has not been read."""
        return self._base.replace(layers=[blob.descriptor for blob in self._base_layers])
