"""Media types of the OCI image-spec 1.1 (media-types.md) and of Docker's format, schema 2.

The tables relate types to each other and to compressions. A compression is detected from the media
type or from the first bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

from brolga.errors import excerpt

# RFC 6838, section 4.2: a type and a subtype of at most 127 characters each, no parameters.
_RESTRICTED_NAME: Final = r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}+"
_MEDIA_TYPE: Final = f"{_RESTRICTED_NAME}/{_RESTRICTED_NAME}"

OCI_DESCRIPTOR: Final = "application/vnd.oci.descriptor.v1+json"
OCI_LAYOUT_HEADER: Final = "application/vnd.oci.layout.header.v1+json"
OCI_INDEX: Final = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
# The config of an artifact that has none (manifest.md, Guidance for an Empty Descriptor).
OCI_EMPTY: Final = "application/vnd.oci.empty.v1+json"
OCTET_STREAM: Final = "application/octet-stream"  # of a blob that only its digest names

OCI_LAYER: Final = "application/vnd.oci.image.layer.v1.tar"
OCI_LAYER_GZIP: Final = "application/vnd.oci.image.layer.v1.tar+gzip"
OCI_LAYER_ZSTD: Final = "application/vnd.oci.image.layer.v1.tar+zstd"

# Deprecated: read, but never written (layer.md, Non-Distributable Layers).
OCI_NONDISTRIBUTABLE_LAYER: Final = "application/vnd.oci.image.layer.nondistributable.v1.tar"
OCI_NONDISTRIBUTABLE_LAYER_GZIP: Final = f"{OCI_NONDISTRIBUTABLE_LAYER}+gzip"
OCI_NONDISTRIBUTABLE_LAYER_ZSTD: Final = f"{OCI_NONDISTRIBUTABLE_LAYER}+zstd"

# Docker's "Image Manifest Version 2, Schema 2", Media Types. It has no zstd.
DOCKER_MANIFEST_LIST: Final = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG: Final = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER: Final = "application/vnd.docker.image.rootfs.diff.tar"
DOCKER_LAYER_GZIP: Final = "application/vnd.docker.image.rootfs.diff.tar.gzip"
DOCKER_FOREIGN_LAYER: Final = "application/vnd.docker.image.rootfs.foreign.diff.tar"
DOCKER_FOREIGN_LAYER_GZIP: Final = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"

# Deprecated by Docker, and refused here.
DOCKER_SCHEMA_1: Final = "application/vnd.docker.distribution.manifest.v1+json"
DOCKER_SCHEMA_1_SIGNED: Final = "application/vnd.docker.distribution.manifest.v1+prettyjws"

# The types that refer to other content.
MANIFEST_TYPES: Final = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
INDEX_TYPES: Final = frozenset({OCI_INDEX, DOCKER_MANIFEST_LIST})
DOCKER_MANIFEST_TYPES: Final = frozenset({DOCKER_MANIFEST, DOCKER_MANIFEST_LIST})
SCHEMA_1_TYPES: Final = frozenset({DOCKER_SCHEMA_1, DOCKER_SCHEMA_1_SIGNED})

# The members of manifests and indexes (manifest.md, image-index.md).
MANIFEST_MEMBERS: Final = frozenset(
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

LAYER_BY_COMPRESSION: Final[Mapping[str, str]] = MappingProxyType(
    {"gzip": OCI_LAYER_GZIP, "zstd": OCI_LAYER_ZSTD, "none": OCI_LAYER}
)

# A stream of any bytes. As in OCI's layer types, the suffix is the compression, and the rest is the
# content: application/gzip would be a gzip file.
STREAM_BY_COMPRESSION: Final[Mapping[str, str]] = MappingProxyType(
    {
        "gzip": "application/octet-stream+gzip",
        "zstd": "application/octet-stream+zstd",
        "none": "application/octet-stream",
    }
)

# The default type of an artifact, as in ORAS.
UNKNOWN_ARTIFACT: Final = "application/vnd.unknown.artifact.v1"

# Docker's media type for each of OCI's. Docker has none for zstd.
DOCKER_BY_OCI: Final[Mapping[str, str]] = MappingProxyType(
    {
        OCI_MANIFEST: DOCKER_MANIFEST,
        OCI_CONFIG: DOCKER_CONFIG,
        OCI_LAYER: DOCKER_LAYER,
        OCI_LAYER_GZIP: DOCKER_LAYER_GZIP,
        OCI_NONDISTRIBUTABLE_LAYER: DOCKER_FOREIGN_LAYER,
        OCI_NONDISTRIBUTABLE_LAYER_GZIP: DOCKER_FOREIGN_LAYER_GZIP,
    }
)

_OCI_BY_DOCKER: Final = {docker: oci for oci, docker in DOCKER_BY_OCI.items()}
_OCI_IMAGE: Final = "application/vnd.oci.image."

# The config of an image that runs; any other belongs to an artifact.
IMAGE_CONFIGS: Final = frozenset({OCI_CONFIG, DOCKER_CONFIG})

COMPRESSION_BY_LAYER: Final[Mapping[str, str]] = MappingProxyType(
    {
        OCI_LAYER: "none",
        OCI_LAYER_GZIP: "gzip",
        OCI_LAYER_ZSTD: "zstd",
        OCI_NONDISTRIBUTABLE_LAYER: "none",
        OCI_NONDISTRIBUTABLE_LAYER_GZIP: "gzip",
        OCI_NONDISTRIBUTABLE_LAYER_ZSTD: "zstd",
        DOCKER_LAYER: "none",
        DOCKER_LAYER_GZIP: "gzip",
        DOCKER_FOREIGN_LAYER: "none",
        DOCKER_FOREIGN_LAYER_GZIP: "gzip",
    }
)

# The suffix of an encrypted layer's media type (containers/ocicrypt, spec).
ENCRYPTED: Final = "+encrypted"

_DISTRIBUTABLE: Final = {OCI_LAYER, OCI_LAYER_GZIP, OCI_LAYER_ZSTD, DOCKER_LAYER, DOCKER_LAYER_GZIP}
# Layers whose bytes are not in the registry, but at the URLs of their descriptors.
NONDISTRIBUTABLE: Final = frozenset(COMPRESSION_BY_LAYER) - _DISTRIBUTABLE


def check_media_type(text: str) -> None:
    """Raise ValueError if `text` is not type/subtype (RFC 6838, section 4.2)."""
    if not re.fullmatch(_MEDIA_TYPE, text):
        raise ValueError(f"media type {excerpt(text)} is not type/subtype as of RFC 6838")


def compression_of_media_type(media_type: str) -> str:
    """Return the compression that a media type declares: gzip, zstd or none.

    Layer types have a table. For any other type the suffix counts (RFC 6839; RFC 8460 for `+gzip`,
    RFC 8878 for `+zstd`).
    """
    suffix = media_type.rpartition("+")[2]
    return COMPRESSION_BY_LAYER.get(media_type) or (
        suffix if suffix in ("gzip", "zstd") else "none"
    )


# The first bytes of compressed streams.
_GZIP: Final = b"\x1f\x8b\x08"  # RFC 1952, section 2.3.1: ID1, ID2, and deflate
_ZSTD: Final = b"\x28\xb5\x2f\xfd"  # RFC 8878, section 3.1.1
_ZSTD_SKIPPABLE: Final = rb"[\x50-\x5f]\x2a\x4d\x18"  # section 3.1.2
_UNSUPPORTED: Final = {
    "xz": b"\xfd7zXZ\x00",  # the .xz file format, section 2.1.1.1
    "bzip2": b"BZh",
    "lz4": b"\x04\x22\x4d\x18",  # LZ4 frame format, Magic Number
}


def detect_compression(head: bytes) -> str:
    """Return `gzip`, `zstd` or `none` for the first 4 bytes of a stream."""
    if head.startswith(_GZIP):
        return "gzip"
    if head.startswith(_ZSTD) or re.match(_ZSTD_SKIPPABLE, head):
        return "zstd"
    return "none"


def detect_unsupported_compression(head: bytes) -> str:
    """Return `xz`, `bzip2`, `lz4` or "" for the first 6 bytes of a stream."""
    return next((name for name, magic in _UNSUPPORTED.items() if head.startswith(magic)), "")


def detect_family(manifest: str, layers: Iterable[str]) -> str:
    """Return a manifest's media type, or OCI's if Docker has no name for one of its layers."""
    if manifest == DOCKER_MANIFEST and any(map(_is_oci_only, layers)):
        return _OCI_BY_DOCKER[manifest]
    return manifest


def convert_media_type(manifest: str, media_type: str) -> str:
    """Return a media type's equivalent in the family of a manifest's type, or itself."""
    family = DOCKER_BY_OCI if manifest == DOCKER_MANIFEST else _OCI_BY_DOCKER
    return family.get(media_type, media_type)


def is_of_family(manifest: str, media_type: str) -> bool:
    """Return whether a media type is of the family of a manifest's type, or of neither family."""
    if manifest == DOCKER_MANIFEST and _is_oci_only(media_type):
        return False
    return convert_media_type(manifest, media_type) == media_type


def _is_oci_only(media_type: str) -> bool:
    return media_type.startswith(_OCI_IMAGE) and media_type not in DOCKER_BY_OCI
