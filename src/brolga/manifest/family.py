"""Families of media types: a manifest's parts have OCI's names, or Docker's, and never both.

Knows which names mean the same. Must not know what is in a layer, or which tool refuses what.

Strategy: parts take the names of their manifest's family. Docker's has none for some (zstd): an
image with one of those is OCI's as a whole, so that no reader meets a name that it does not expect.
"""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from brolga.mediatypes import DOCKER_BY_OCI, DOCKER_MANIFEST, IMAGE_CONFIGS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from brolga.descriptor import Descriptor
    from brolga.manifest.image import Manifest

__all__ = ["family_of", "in_family", "in_one_family", "strangers"]

_OCI_BY_DOCKER: Final[Mapping[str, str]] = MappingProxyType(
    {docker: oci for oci, docker in DOCKER_BY_OCI.items()}
)
_OCI_IMAGE: Final = "application/vnd.oci.image."


def family_of(manifest: str, layers: Iterable[str]) -> str:
    """Return the media type of a manifest with layers of some media types: its own, or OCI's."""
    if manifest == DOCKER_MANIFEST and any(map(_is_oci_only, layers)):
        return _OCI_BY_DOCKER[manifest]
    return manifest


def in_family(manifest: str, media_type: str) -> str:
    """Return the name that a media type has in the family of a manifest's; its own without one."""
    return _names(manifest).get(media_type, media_type)


def in_one_family(manifest: Manifest, config: Descriptor, layers: Iterable[Descriptor]) -> Manifest:
    """Return a manifest with this config and these layers, all of one family."""
    layers = tuple(layers)
    family = family_of(manifest.media_type, (layer.media_type for layer in layers))

    def renamed(part: Descriptor) -> Descriptor:
        return replace(part, media_type=in_family(family, part.media_type))

    return manifest.replace(
        media_type=family, config=renamed(config), layers=[renamed(layer) for layer in layers]
    )


def strangers(manifest: Manifest) -> Iterator[Descriptor]:
    """Yield the parts of an image whose media types belong to the other family.

    An artifact's parts may be of any type.
    """
    if manifest.config.media_type not in IMAGE_CONFIGS:
        return
    names = _names(manifest.media_type)
    for part in (manifest.config, *manifest.layers):
        if part.media_type in names or (
            manifest.media_type == DOCKER_MANIFEST and _is_oci_only(part.media_type)
        ):
            yield part


def _names(manifest: str) -> Mapping[str, str]:
    """Return the names of a manifest's family, by those of the other one."""
    return DOCKER_BY_OCI if manifest == DOCKER_MANIFEST else _OCI_BY_DOCKER


def _is_oci_only(media_type: str) -> bool:
    return media_type.startswith(_OCI_IMAGE) and media_type not in DOCKER_BY_OCI
