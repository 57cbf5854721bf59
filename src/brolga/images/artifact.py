"""Artifacts: files of any kind in a registry, with a type of their own.

An artifact is an image whose config is the empty object (manifest.md, Guidelines for Artifact
Usage). Its blobs can be streams, which are read when they are pushed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Self

from brolga.errors import LayerError
from brolga.images.blobs import InMemoryBlob
from brolga.images.image import Image, creation_time
from brolga.spec.manifest import Manifest
from brolga.spec.mediatypes import OCI_EMPTY
from brolga.spec.value import replace

if TYPE_CHECKING:
    from collections.abc import Mapping

    from brolga.spec.blob import Blob
    from brolga.spec.descriptor import Descriptor

_EMPTY: Final = InMemoryBlob(b"{}", OCI_EMPTY)
_CREATED: Final = "org.opencontainers.image.created"


class Artifact(Image, eq=False):
    """A manifest of blobs with a type of its own: an SBOM, a signature, a model."""

    @classmethod
    def of(
        cls,
        artifact_type: str,
        *blobs: Blob,
        annotations: Mapping[str, str] | None = None,
        subject: Descriptor | None = None,
    ) -> Self:
        """Return an artifact of blobs, without reading them.

        "If the artifact does not need layers, a single layer SHOULD be included with a non-zero
        size" (manifest.md): without blobs that is the empty object. If `annotations` have no
        creation time, it is SOURCE_DATE_EPOCH or now.
        """
        manifest = Manifest.new(
            _EMPTY.descriptor,
            (),
            annotations={_CREATED: creation_time(), **(annotations or {})},
            subject=subject,
            artifact_type=artifact_type,
        )
        return cls(manifest, _EMPTY, blobs or (_EMPTY,))

    @property
    def manifest(self) -> Manifest:
        """The manifest with every blob. Raises NotComputed if one has not been read."""
        return self._base.replace(layers=[blob.descriptor for blob in self._base_layers])

    def append(self, *blobs: Blob, created_by: str = "", comment: str = "") -> Artifact:
        """Return the artifact with more blobs, without reading them.

        They replace the empty object of an artifact without blobs. Raises LayerError for
        `created_by` or `comment`: an artifact keeps no history.
        """
        if created_by or comment:
            self._require_config("it keeps no history")
        old = () if self._base_layers == (_EMPTY,) else self._base_layers
        return replace(self, _base_layers=(*old, *blobs) or (_EMPTY,))

    def _require_config(self, reason: str) -> None:
        raise LayerError(f"an artifact has no image config: {reason}")
