"""Media types: the names of what a registry stores.

Knows the names of the OCI image-spec 1.1 (media-types.md) and of Docker's image manifest
version 2, schema 2, which registries still serve. Must not know the documents behind the names.

Strategy: plain constants, the pattern of every type, and tables: from a compression's name to the
layer that it makes and back, and from OCI's names to Docker's.
"""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from brolga.errors import excerpt

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "COMPRESSION_BY_LAYER",
    "DOCKER_BY_OCI",
    "DOCKER_CONFIG",
    "DOCKER_FOREIGN_LAYER",
    "DOCKER_FOREIGN_LAYER_GZIP",
    "DOCKER_LAYER",
    "DOCKER_LAYER_GZIP",
    "DOCKER_MANIFEST",
    "DOCKER_MANIFEST_LIST",
    "DOCKER_SCHEMA_1",
    "DOCKER_SCHEMA_1_SIGNED",
    "ENCRYPTED",
    "IMAGE_CONFIGS",
    "LAYER_BY_COMPRESSION",
    "NONDISTRIBUTABLE",
    "OCI_CONFIG",
    "OCI_DESCRIPTOR",
    "OCI_EMPTY",
    "OCI_INDEX",
    "OCI_LAYER",
    "OCI_LAYER_GZIP",
    "OCI_LAYER_ZSTD",
    "OCI_LAYOUT_HEADER",
    "OCI_MANIFEST",
    "OCI_NONDISTRIBUTABLE_LAYER",
    "OCI_NONDISTRIBUTABLE_LAYER_GZIP",
    "OCI_NONDISTRIBUTABLE_LAYER_ZSTD",
    "STREAM_BY_COMPRESSION",
    "UNKNOWN_ARTIFACT",
    "check_media_type",
    "compression_of_media_type",
    "detect_compression",
    "detect_unsupported_compression",
]

# RFC 6838, section 4.2: a type and a subtype of at most 127 characters each, no parameters.
_RESTRICTED_NAME: Final = r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}+"
_MEDIA_TYPE: Final = re.compile(f"{_RESTRICTED_NAME}/{_RESTRICTED_NAME}")

_SUFFIXES: Final = frozenset({"gzip", "zstd"})

OCI_DESCRIPTOR: Final = "application/vnd.oci.descriptor.v1+json"
OCI_LAYOUT_HEADER: Final = "application/vnd.oci.layout.header.v1+json"
OCI_INDEX: Final = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
# The config of an artifact that has none (manifest.md, Guidance for an Empty Descriptor).
OCI_EMPTY: Final = "application/vnd.oci.empty.v1+json"

OCI_LAYER: Final = "application/vnd.oci.image.layer.v1.tar"
OCI_LAYER_GZIP: Final = "application/vnd.oci.image.layer.v1.tar+gzip"
OCI_LAYER_ZSTD: Final = "application/vnd.oci.image.layer.v1.tar+zstd"

# Deprecated, to be read and never written (layer.md, Non-Distributable Layers).
OCI_NONDISTRIBUTABLE_LAYER: Final = "application/vnd.oci.image.layer.nondistributable.v1.tar"
OCI_NONDISTRIBUTABLE_LAYER_GZIP: Final = (
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
)
OCI_NONDISTRIBUTABLE_LAYER_ZSTD: Final = (
    "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd"
)

# Docker's "Image Manifest Version 2, Schema 2", Media Types. It has no zstd.
DOCKER_MANIFEST_LIST: Final = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG: Final = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER: Final = "application/vnd.docker.image.rootfs.diff.tar"
DOCKER_LAYER_GZIP: Final = "application/vnd.docker.image.rootfs.diff.tar.gzip"
DOCKER_FOREIGN_LAYER: Final = "application/vnd.docker.image.rootfs.foreign.diff.tar"
DOCKER_FOREIGN_LAYER_GZIP: Final = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"

# Given up by Docker itself; named here to be recognised and refused.
DOCKER_SCHEMA_1: Final = "application/vnd.docker.distribution.manifest.v1+json"
DOCKER_SCHEMA_1_SIGNED: Final = "application/vnd.docker.distribution.manifest.v1+prettyjws"

LAYER_BY_COMPRESSION: Final[Mapping[str, str]] = MappingProxyType(
    {"gzip": OCI_LAYER_GZIP, "zstd": OCI_LAYER_ZSTD, "none": OCI_LAYER}
)

# A stream of any bytes. As in OCI's names of layers, the suffix says how the bytes are compressed,
# and what stands before it what is in them: application/gzip would be a file that is a gzip file.
STREAM_BY_COMPRESSION: Final[Mapping[str, str]] = MappingProxyType(
    {
        "gzip": "application/octet-stream+gzip",
        "zstd": "application/octet-stream+zstd",
        "none": "application/octet-stream",
    }
)

# The type of an artifact of which nobody says what it is; ORAS has the same default.
UNKNOWN_ARTIFACT: Final = "application/vnd.unknown.artifact.v1"

# The same thing in Docker's family of media types. It has no name for zstd.
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

# The config of an image that runs; any other belongs to an artifact.
IMAGE_CONFIGS: Final = frozenset({OCI_CONFIG, DOCKER_CONFIG})

# How the bytes of a layer are compressed, as its media type says.
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

# How the media type of an encrypted layer ends (containers/ocicrypt, spec).
ENCRYPTED: Final = "+encrypted"

# Layers whose bytes are elsewhere, by the URLs of their descriptors.
NONDISTRIBUTABLE: Final = frozenset(
    {
        OCI_NONDISTRIBUTABLE_LAYER,
        OCI_NONDISTRIBUTABLE_LAYER_GZIP,
        OCI_NONDISTRIBUTABLE_LAYER_ZSTD,
        DOCKER_FOREIGN_LAYER,
        DOCKER_FOREIGN_LAYER_GZIP,
    }
)


def check_media_type(text: str) -> None:
    """Raise ValueError where `text` is not type/subtype (RFC 6838, section 4.2)."""
    if not _MEDIA_TYPE.fullmatch(text):
        raise ValueError(f"media type {excerpt(text)} is not type/subtype as of RFC 6838")


def compression_of_media_type(media_type: str) -> str:
    """Return how bytes are compressed, as their media type says: gzip, zstd or none.

    Types of layers have their own table. For any other type the suffix counts (RFC 6839; RFC 8460
    for `+gzip`, RFC 8878 for `+zstd`).
    """
    suffix = media_type.rpartition("+")[2]
    return COMPRESSION_BY_LAYER.get(media_type) or (suffix if suffix in _SUFFIXES else "none")


# The first bytes of compressed streams.
_GZIP: Final = b"\x1f\x8b\x08"  # RFC 1952, section 2.3.1: ID1, ID2, and deflate
_ZSTD: Final = b"\x28\xb5\x2f\xfd"  # RFC 8878, section 3.1.1
_ZSTD_SKIPPABLE: Final = re.compile(rb"[\x50-\x5f]\x2a\x4d\x18")  # section 3.1.2
_UNREAD: Final = {
    "xz": b"\xfd7zXZ\x00",  # the .xz file format, section 2.1.1.1
    "bzip2": b"BZh",
    "lz4": b"\x04\x22\x4d\x18",  # LZ4 frame format, Magic Number
}


def detect_compression(head: bytes) -> str:
    """Return `gzip`, `zstd` or `none`, as the first 4 bytes of a stream tell."""
    if head.startswith(_GZIP):
        return "gzip"
    if head.startswith(_ZSTD) or _ZSTD_SKIPPABLE.match(head):
        return "zstd"
    return "none"


def detect_unsupported_compression(head: bytes) -> str:
    """Return `xz`, `bzip2`, `lz4` or "", as the first 6 bytes tell: layers have none of them."""
    return next((name for name, magic in _UNREAD.items() if head.startswith(magic)), "")
