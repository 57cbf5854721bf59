"""What a manifest says: what it needs, what it is about, how it is listed.

Knows the image-spec's manifest.md and image-index.md, and Docker's two of the same shape. Must
not know where manifests are stored.

What refers to nothing that a registry must have (a manifest of another media type) is an empty
`Document`: it is stored and served as it is. One of the four types is taken only if no reader can
see something else in it: what is stored here is read by other programs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from brolga.server.strict import parse
from brolga.spec.descriptor import Descriptor
from brolga.spec.json import Members, read_artifact_type, read_string_map
from brolga.spec.mediatypes import (
    DOCKER_FOREIGN_LAYER_GZIP,
    DOCKER_MANIFEST,
    DOCKER_MANIFEST_LIST,
    DOCKER_SCHEMA_1,
    DOCKER_SCHEMA_1_SIGNED,
    OCI_INDEX,
    OCI_MANIFEST,
    OCI_NONDISTRIBUTABLE_LAYER,
    OCI_NONDISTRIBUTABLE_LAYER_GZIP,
    OCI_NONDISTRIBUTABLE_LAYER_ZSTD,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from brolga.spec.digest import Digest

__all__ = ["LIMIT", "Document", "is_known", "media_type_of", "read", "understand"]

# "Client and registry implementations SHOULD expect to be able to support manifest pushes of
# at least 4 megabytes" (distribution-spec, Pushing manifests)
LIMIT = 4 << 20

_IMAGES = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
_INDEXES = frozenset({OCI_INDEX, DOCKER_MANIFEST_LIST})
_WITH_SUBJECT = frozenset({OCI_MANIFEST, OCI_INDEX})
_DOCKERS = frozenset({DOCKER_MANIFEST, DOCKER_MANIFEST_LIST})
_SCHEMA_1 = frozenset({DOCKER_SCHEMA_1, DOCKER_SCHEMA_1_SIGNED})
_KNOWN = _IMAGES | _INDEXES | _SCHEMA_1
# The members of both kinds, which no other member may be taken for.
_MEMBERS = frozenset(
    {
        "schemaVersion",
        "mediaType",
        "artifactType",
        "config",
        "layers",
        "manifests",
        "subject",
        "annotations",
    }
)
# layer.md, Non-Distributable Layers: a registry may never be given them.
_ELSEWHERE = frozenset(
    {
        DOCKER_FOREIGN_LAYER_GZIP,
        OCI_NONDISTRIBUTABLE_LAYER,
        OCI_NONDISTRIBUTABLE_LAYER_GZIP,
        OCI_NONDISTRIBUTABLE_LAYER_ZSTD,
    }
)


@dataclass(frozen=True, slots=True)
class Document:
    """A manifest as the registry sees it.

    `blobs` and `manifests` are what must be in the repository with it; `artifact_type` is the
    one under which it is listed as a referrer (distribution-spec, Listing Referrers).
    """

    blobs: tuple[Descriptor, ...] = ()
    manifests: tuple[Descriptor, ...] = ()
    subject: Digest | None = None
    artifact_type: str | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)


def media_type_of(fields: Mapping[str, Any], content_type: str) -> str:
    """Return the one media type that header and manifest agree on. Raises ValueError.

    "If a manifest includes a `mediaType` field, clients MUST set the `Content-Type` header to
    the value specified by the `mediaType` field" (distribution-spec, Pushing Manifests).
    """
    # "The registry SHOULD ignore parameters on the `Content-Type` header" (ibid.); media types
    # ignore case (RFC 9110, section 8.3.1).
    sent = content_type.partition(";")[0].strip().lower()
    said = fields.get("mediaType", sent)
    if not isinstance(said, str) or not said:
        raise ValueError("neither a Content-Type nor a mediaType that is a string")
    if sent and sent != said.lower():
        raise ValueError(f"the Content-Type is {sent!r} and the mediaType {said!r}")
    if said != said.lower() and said.lower() in _KNOWN:
        raise ValueError(f"the mediaType {said!r} is written {said.lower()!r}")
    if said in _SCHEMA_1:
        raise ValueError("Docker's image manifest of schema 1 is not taken: push schema 2 or OCI")
    return said


def understand(media_type: str, fields: Mapping[str, Any]) -> Document:
    """Read a manifest of some media type. Raises ValueError where it is not one of that type."""
    if media_type not in _IMAGES | _INDEXES:
        return Document()
    _check_kind(media_type, fields)
    blobs = _blobs(fields) if media_type in _IMAGES else []
    manifests = _list(fields, "manifests") if media_type in _INDEXES else ()
    members = Members(fields, "$")
    subject = members.get("subject", Descriptor.from_dict, None)
    artifact_type = members.get("artifactType", read_artifact_type, "")
    return Document(
        blobs=tuple(blobs),
        manifests=manifests,
        subject=subject.digest if subject and media_type in _WITH_SUBJECT else None,
        artifact_type=artifact_type or (blobs[0].media_type if blobs else None),
        annotations=members.get("annotations", read_string_map, dict[str, str]()),
    )


def _check_kind(media_type: str, fields: Mapping[str, Any]) -> None:
    """Refuse what could be read as a manifest of another kind, or by another name."""
    Members(fields, "$").reject_case_variants(_MEMBERS)
    version = fields.get("schemaVersion")
    # "This REQUIRED property [...] MUST be `2`" (manifest.md, image-index.md); True is an int too.
    if type(version) is not int or version != 2:  # noqa: PLR2004 - as quoted
        raise ValueError("schemaVersion is not the number 2")
    if media_type in _DOCKERS and "mediaType" not in fields:
        raise ValueError(f"mediaType is missing: Docker's format needs it to be {media_type!r}")
    # "implementations SHOULD [...] return an error" for both at once (CVE-2021-41190).
    others = ("config", "layers") if media_type in _INDEXES else ("manifests",)
    for name in (*others, "fsLayers"):
        if fields.get(name) is not None:
            raise ValueError(f"{name} stands in a manifest of type {media_type}")


def is_known(media_type: str) -> bool:
    """Return whether a manifest of this media type can refer to anything."""
    return media_type in _IMAGES | _INDEXES


def read(media_type: str, body: bytes) -> Document | None:
    """Read a manifest that is stored already; None where another program wrote what is none."""
    try:
        return understand(media_type, parse(body))
    except ValueError:
        return None


def _blobs(fields: Mapping[str, Any]) -> list[Descriptor]:
    """Return an image's config, and its layers without those that are kept elsewhere."""
    config = Members(fields, "$").need("config", Descriptor.from_dict)
    layers = _list(fields, "layers")
    kept = [one for one in layers if one.media_type not in _ELSEWHERE and not one.urls]
    return [config, *kept]


def _list(fields: Mapping[str, Any], name: str) -> tuple[Descriptor, ...]:
    """Return the descriptors of a list, which must be there (null is none)."""
    if fields.get(name) is None:
        raise ValueError(f"{name} is missing")
    return Members(fields, "$").each(name, Descriptor.from_dict)
