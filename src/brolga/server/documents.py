"""What a manifest says: what it needs, what it is about, how it is listed.

Knows the image-spec's manifest.md and image-index.md, and Docker's two of the same shape. Must
not know where manifests are stored.

What refers to nothing that a registry must have (a manifest of another media type) is an empty
`Document`: it is stored and served as it is.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from brolga.descriptor import Descriptor
from brolga.digest import Digest
from brolga.mediatypes import (
    DOCKER_FOREIGN_LAYER_GZIP,
    DOCKER_MANIFEST,
    DOCKER_MANIFEST_LIST,
    OCI_INDEX,
    OCI_MANIFEST,
    OCI_NONDISTRIBUTABLE_LAYER,
    OCI_NONDISTRIBUTABLE_LAYER_GZIP,
    OCI_NONDISTRIBUTABLE_LAYER_ZSTD,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["LIMIT", "Document", "parse", "read", "understand"]

# "Client and registry implementations SHOULD expect to be able to support manifest pushes of
# at least 4 megabytes" (distribution-spec, Pushing manifests)
LIMIT = 4 << 20

_IMAGES = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
_INDEXES = frozenset({OCI_INDEX, DOCKER_MANIFEST_LIST})
_WITH_SUBJECT = frozenset({OCI_MANIFEST, OCI_INDEX})
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


def parse(body: bytes) -> dict[str, Any]:
    """Read a JSON object in which no key comes twice: readers would differ on what it says.

    Raises ValueError.
    """
    try:
        fields = json.loads(body.decode(), object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON: {error}") from error
    if not isinstance(fields, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004 - the text is wrong, not its type
    return fields


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a key comes twice")
    return fields


def understand(media_type: str, fields: Mapping[str, Any]) -> Document:
    """Read a manifest of some media type. Raises ValueError where it is not one of that type."""
    blobs = _blobs(fields) if media_type in _IMAGES else []
    manifests = _list(fields, "manifests") if media_type in _INDEXES else []
    return Document(
        blobs=tuple(blobs),
        manifests=tuple(manifests),
        subject=_subject(media_type, fields),
        artifact_type=_text(fields, "artifactType") or (blobs[0].media_type if blobs else None),
        annotations=_annotations(fields),
    )


def read(media_type: str, body: bytes) -> Document | None:
    """Read a manifest that is stored already; None where another program wrote what is none."""
    try:
        return understand(media_type, parse(body))
    except ValueError:
        return None


def _blobs(fields: Mapping[str, Any]) -> list[Descriptor]:
    """Return an image's config, and its layers without those that are kept elsewhere."""
    config = _descriptor(fields.get("config"), "config")
    layers = _list(fields, "layers")
    return [
        config,
        *(
            layer
            for layer, entry in zip(layers, fields["layers"], strict=True)
            if layer.media_type not in _ELSEWHERE and not entry.get("urls")
        ),
    ]


def _subject(media_type: str, fields: Mapping[str, Any]) -> Digest | None:
    value = fields.get("subject")
    if value is None or media_type not in _WITH_SUBJECT:
        return None
    return _descriptor(value, "subject").digest


def _list(fields: Mapping[str, Any], name: str) -> list[Descriptor]:
    values = fields.get(name)
    if not isinstance(values, list):
        raise ValueError(f"{name} is no list")  # noqa: TRY004 - as above
    return [_descriptor(value, f"{name}[{n}]") for n, value in enumerate(values)]


def _descriptor(value: object, name: str) -> Descriptor:
    """Read a descriptor (image-spec descriptor.md, Properties). Raises ValueError."""
    if not isinstance(value, dict):
        raise ValueError(f"{name} is no descriptor")  # noqa: TRY004 - as above
    try:
        digest = Digest.parse(value["digest"])
        return Descriptor(value["mediaType"], digest, value["size"])
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{name} is no descriptor: {error}") from error


def _text(fields: Mapping[str, Any], name: str) -> str | None:
    value = fields.get(name)
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{name} is no string")
    return value


def _annotations(fields: Mapping[str, Any]) -> dict[str, str]:
    value = fields.get("annotations")
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise ValueError("annotations are no map of strings")
    return value
