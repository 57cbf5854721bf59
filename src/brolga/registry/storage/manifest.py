"""What the registry reads in a manifest (image-spec manifest.md, image-index.md; Docker's two).

A manifest of another media type refers to nothing: it is an empty `Manifest`, stored and served as
it is. One of the four known types is accepted only if no other reader can read it differently.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from brolga.spec import mediatypes
from brolga.spec.descriptor import Descriptor
from brolga.spec.json import Members, decode, read_artifact_type, read_string_map

if TYPE_CHECKING:
    from collections.abc import Mapping

    from brolga.spec.digest import Digest


_WITH_REFERENCES: Final = mediatypes.MANIFEST_TYPES | mediatypes.INDEX_TYPES
_WITH_SUBJECT: Final = _WITH_REFERENCES - mediatypes.DOCKER_MANIFEST_TYPES
_KNOWN: Final = _WITH_REFERENCES | mediatypes.SCHEMA_1_TYPES
# layer.md, Non-Distributable Layers: a registry may never receive them.
_NONDISTRIBUTABLE: Final = mediatypes.NONDISTRIBUTABLE - {mediatypes.DOCKER_FOREIGN_LAYER}


@dataclass(frozen=True, slots=True)
class Manifest:
    """The references of a manifest.

    `blobs` and `manifests` must be in the repository too; `artifact_type` is the one under which
    it is listed as a referrer (distribution-spec, Listing Referrers).
    """

    blobs: tuple[Descriptor, ...] = ()
    manifests: tuple[Descriptor, ...] = ()
    subject: Digest | None = None
    artifact_type: str | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)


def detect_media_type(fields: Mapping[str, Any], content_type: str) -> str:
    """Return the media type on which header and manifest agree. Raises ValueError.

    "If a manifest includes a `mediaType` field, clients MUST set the `Content-Type` header to
    the value specified by the `mediaType` field" (distribution-spec, Pushing Manifests).
    """
    # "The registry SHOULD ignore parameters on the `Content-Type` header" (ibid.); media types
    # ignore case (RFC 9110, section 8.3.1).
    header = content_type.partition(";")[0].strip().lower()
    media_type = fields.get("mediaType", header)
    if not isinstance(media_type, str) or not media_type:
        raise ValueError("neither a Content-Type nor a mediaType that is a string")
    if header and header != media_type.lower():
        raise ValueError(f"the Content-Type is {header!r} and the mediaType {media_type!r}")
    if media_type != media_type.lower() and media_type.lower() in _KNOWN:
        raise ValueError(f"the mediaType {media_type!r} is written {media_type.lower()!r}")
    if media_type in mediatypes.SCHEMA_1_TYPES:
        raise ValueError("Docker's image manifest of schema 1 is not taken: push schema 2 or OCI")
    return media_type


def parse_manifest(media_type: str, fields: Mapping[str, Any]) -> Manifest:
    """Parse a manifest of a media type. Raises ValueError if it is not valid for that type."""
    if not has_references(media_type):
        return Manifest()
    _check_kind(media_type, fields)
    blobs = _blobs(fields) if media_type in mediatypes.MANIFEST_TYPES else []
    manifests = _list(fields, "manifests") if media_type in mediatypes.INDEX_TYPES else ()
    members = Members(fields, "$")
    subject = members.get("subject", Descriptor.from_dict, None)
    artifact_type = members.get("artifactType", read_artifact_type, "")
    return Manifest(
        blobs=tuple(blobs),
        manifests=manifests,
        subject=subject.digest if subject and media_type in _WITH_SUBJECT else None,
        artifact_type=artifact_type or (blobs[0].media_type if blobs else None),
        annotations=members.get("annotations", read_string_map, dict[str, str]()),
    )


def _check_kind(media_type: str, fields: Mapping[str, Any]) -> None:
    """Reject what another reader could read as a manifest of another kind."""
    Members(fields, "$").reject_case_variants(mediatypes.MANIFEST_MEMBERS)
    version = fields.get("schemaVersion")
    # "This REQUIRED property [...] MUST be `2`" (manifest.md, image-index.md); True is an int too.
    if type(version) is not int or version != 2:  # noqa: PLR2004 - as quoted
        raise ValueError("schemaVersion is not the number 2")
    if media_type in mediatypes.DOCKER_MANIFEST_TYPES and "mediaType" not in fields:
        raise ValueError(f"mediaType is missing: Docker's format needs it to be {media_type!r}")
    # "implementations SHOULD [...] return an error" for both at once (CVE-2021-41190).
    others = ("config", "layers") if media_type in mediatypes.INDEX_TYPES else ("manifests",)
    for name in (*others, "fsLayers"):
        if fields.get(name) is not None:
            raise ValueError(f"{name} stands in a manifest of type {media_type}")


def has_references(media_type: str) -> bool:
    """Return whether a manifest of this media type can refer to anything."""
    return media_type in _WITH_REFERENCES


def read_manifest(media_type: str, body: bytes) -> Manifest | None:
    """Read a stored manifest; None if another program wrote one that is not valid."""
    try:
        return parse_manifest(media_type, decode(body))
    except ValueError:
        return None


def _blobs(fields: Mapping[str, Any]) -> list[Descriptor]:
    """Return an image's config, and its layers without those that a registry may lack."""
    config = Members(fields, "$").need("config", Descriptor.from_dict)
    layers = _list(fields, "layers")
    stored = (x for x in layers if x.media_type not in _NONDISTRIBUTABLE and not x.urls)
    return [config, *stored]


def _list(fields: Mapping[str, Any], name: str) -> tuple[Descriptor, ...]:
    """Return the descriptors of a required list (null is missing)."""
    if fields.get(name) is None:
        raise ValueError(f"{name} is missing")
    return Members(fields, "$").each(name, Descriptor.from_dict)
