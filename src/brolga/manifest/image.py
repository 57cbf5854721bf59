"""Image manifests: one config, and layers in their order.

Knows manifest.md of the OCI image-spec 1.1 and Docker's image manifest version 2, schema 2.
Must not know what a config or a layer holds: an artifact's may be any bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from brolga.descriptor import Descriptor
from brolga.manifest.document import as_read, encode
from brolga.manifest.root import MANIFEST_TYPES, Root
from brolga.mediatypes import OCI_EMPTY, OCI_MANIFEST
from brolga.members import wrong

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import EllipsisType
    from typing import Self

__all__ = ["Manifest"]


@dataclass(frozen=True, slots=True)
class Manifest(Root):
    """The manifest of one image or artifact: a typed view over its exact bytes.

    `artifact_type` is what referrers are listed by: `artifactType`, else the config's media type
    (distribution-spec, Listing Referrers). Raises InvalidManifest.
    """

    config: Descriptor = field(init=False, compare=False, repr=False)
    layers: tuple[Descriptor, ...] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        """Read the bytes."""
        members = self._open(MANIFEST_TYPES, "an image manifest")
        config = members.need("config", Descriptor.from_dict)
        if "layers" not in self._document:
            raise wrong("$.layers", "is missing")
        self._set(
            config=config,
            # null is how Go writes an empty list.
            layers=members.each("layers", Descriptor.from_dict),
            artifact_type=self.artifact_type or config.media_type,
        )

    @classmethod
    def parse(cls, raw: bytes, media_type: str = "", algorithm: str = "sha256") -> Self:
        """Read a manifest; `media_type` is the Content-Type that it came with, if any.

        `algorithm` is that of the digest that names it. Raises InvalidManifest, and InvalidDigest
        for an algorithm that cannot be computed here.
        """
        return cls(raw, media_type, algorithm)

    @classmethod
    def new(  # noqa: PLR0913 - the members of a manifest
        cls,
        config: Descriptor,
        layers: Iterable[Descriptor],
        *,
        media_type: str = OCI_MANIFEST,
        annotations: Mapping[str, str] | None = None,
        subject: Descriptor | None = None,
        artifact_type: str = "",
    ) -> Self:
        """Write a manifest. Raises InvalidManifest.

        "`artifactType` MUST be set when `config.mediaType` is set to the empty value"
        (manifest.md, Image Manifest Property Descriptions).
        """
        if config.media_type == OCI_EMPTY and not artifact_type:
            raise wrong("$.artifactType", "is missing; an artifact without a config needs it")
        members: dict[str, object] = {
            "schemaVersion": 2,
            "mediaType": media_type,
            "artifactType": artifact_type or None,
            "config": config.to_dict(),
            "layers": [layer.to_dict() for layer in layers],
            "subject": subject.to_dict() if subject else None,
            "annotations": dict(annotations or {}) or None,
        }
        return cls(encode({name: item for name, item in members.items() if item is not None}))

    def replace(  # noqa: PLR0913 - the members of a manifest
        self,
        *,
        config: Descriptor | None = None,
        layers: Iterable[Descriptor] | None = None,
        annotations: Mapping[str, str] | None = None,
        subject: Descriptor | EllipsisType | None = ...,
        media_type: str | None = None,
        artifact_type: str | None = None,
    ) -> Self:
        """Return a manifest with other members; what is not given stays, unknown members too.

        Layers that stay keep their JSON as it is. Empty annotations and an empty artifact type
        take the member away, as None does with the subject. Where nothing changes the bytes
        stay. Raises InvalidManifest.
        """
        changes = self._shared(media_type, artifact_type, annotations, subject)
        if config is not None and config != self.config:
            changes["config"] = config.to_dict()
        if layers is not None and (wanted := tuple(layers)) != self.layers:
            changes["layers"] = as_read(wanted, self.layers, self._document["layers"])
        return self._changed(changes)
