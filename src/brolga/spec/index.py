"""Indexes: manifests for several platforms under one name.

Knows image-index.md of the OCI image-spec 1.1 and Docker's manifest list, how crane chooses from
one, and containerd among variants. Must not know what a child manifest holds, nor which machine
this is.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import takewhile
from typing import TYPE_CHECKING, Final, TypeVar

from brolga.errors import PlatformNotFound, excerpt
from brolga.spec.descriptor import DEFAULT_PLATFORM, Descriptor, variant_preference
from brolga.spec.json import decode, encode, reuse_originals, wrong
from brolga.spec.manifest import (
    INDEX_TYPES,
    MANIFEST_TYPES,
    Manifest,
    ManifestBase,
    detect_media_type,
)
from brolga.spec.mediatypes import DOCKER_CONFIG, OCI_CONFIG, OCI_INDEX

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator, Mapping
    from types import EllipsisType
    from typing import Self

    from brolga.spec.descriptor import Platform

__all__ = ["Index", "parse_manifest", "select_best"]

T = TypeVar("T", bound="Hashable")

# buildx gives it to the attestations that it puts beside the images.
_UNKNOWN: Final = "unknown"
# "This is the value of the config descriptor `mediaType` when the descriptor references an
# image manifest" (descriptor.md, artifactType); the others are no images.
_IMAGE_ARTIFACT_TYPES: Final = frozenset({"", OCI_CONFIG, DOCKER_CONFIG})
_MAX_LISTED: Final = 20  # platforms in an error's line


@dataclass(frozen=True, slots=True)
class Index(ManifestBase):
    """An index or Docker manifest list: a typed view over its exact bytes.

    Raises InvalidManifest.
    """

    manifests: tuple[Descriptor, ...] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        """Read the bytes."""
        members = self._open(INDEX_TYPES, "an index")
        if "manifests" not in self._document:
            raise wrong("$.manifests", "is missing")
        self._set(manifests=members.each("manifests", Descriptor.from_dict))

    @classmethod
    def parse(cls, raw: bytes, media_type: str = "", algorithm: str = "sha256") -> Self:
        """Read an index; `media_type` is the Content-Type that it came with, if any.

        `algorithm` is that of the digest that names it. Raises InvalidManifest, and InvalidDigest
        for an algorithm that cannot be computed here.
        """
        return cls(raw, media_type, algorithm)

    @classmethod
    def new(
        cls,
        manifests: Iterable[Descriptor],
        *,
        media_type: str = OCI_INDEX,
        annotations: Mapping[str, str] | None = None,
        subject: Descriptor | None = None,
        artifact_type: str = "",
    ) -> Self:
        """Write an index. Raises InvalidManifest."""
        members: dict[str, object] = {
            "schemaVersion": 2,
            "mediaType": media_type,
            "artifactType": artifact_type or None,
            "manifests": [manifest.to_dict() for manifest in manifests],
            "subject": subject.to_dict() if subject else None,
            "annotations": dict(annotations or {}) or None,
        }
        return cls(encode({name: item for name, item in members.items() if item is not None}))

    def replace(
        self,
        *,
        manifests: Iterable[Descriptor] | None = None,
        annotations: Mapping[str, str] | None = None,
        subject: Descriptor | EllipsisType | None = ...,
        media_type: str | None = None,
        artifact_type: str | None = None,
    ) -> Self:
        """Return an index with other members, by the rules of `Manifest.replace`."""
        changes = self._shared(media_type, artifact_type, annotations, subject)
        if manifests is not None and (wanted := tuple(manifests)) != self.manifests:
            changes["manifests"] = reuse_originals(
                wanted, self.manifests, self._document["manifests"]
            )
        return self._changed(changes)

    @property
    def platforms(self) -> tuple[Platform, ...]:
        """The platforms that `select` finds, in the index's order."""
        return tuple(platform for _, platform in self._images())

    def select(self, platform: Platform) -> Descriptor:
        """Return the image, or nested index, for a platform: the first of those that suit it best.

        "If multiple manifests match a client or runtime's requirements, the first matching entry
        SHOULD be used" (image-index.md). If no variant is wanted, the default one is best, as for
        containerd: amd64 comes before amd64/v3, and arm/v7 before arm/v5. A child without a
        platform counts as linux/amd64, as for crane; attestations and artifacts do not count.
        Raises PlatformNotFound.
        """
        return self.select_all(platform)[0]

    def select_all(self, platform: Platform) -> tuple[Descriptor, ...]:
        """Return each image, or nested index, that suits a platform best, in the index's order.

        There is at least one. Raises PlatformNotFound.
        """
        return select_best(self._images(), platform)

    def select_nearest(self, platform: Platform) -> Descriptor:
        """Return the image to build on for a platform that a config tells, in all its details.

        What the index leaves out, a variant or a version, is no obstacle. Of several versions of
        the operating system, the one with the most leading parts in common is taken: Windows
        images are rebuilt for each patch. Raises PlatformNotFound.
        """
        found = [
            (_likeness(offered, platform), child)
            for child, offered in self._images()
            if (offered.os, offered.cpu[0]) == (platform.os, platform.cpu[0])
            and (not offered.variant or not platform.variant or offered.cpu == platform.cpu)
        ]
        if not found:
            raise _no_such(self.platforms, platform, "this index")
        return max(found, key=lambda one: one[0])[1]

    def _images(self) -> Iterator[tuple[Descriptor, Platform]]:
        for child in self.manifests:
            platform = child.platform or DEFAULT_PLATFORM
            if (
                child.media_type in MANIFEST_TYPES | INDEX_TYPES
                and child.artifact_type in _IMAGE_ARTIFACT_TYPES
                and platform.os != _UNKNOWN
            ):
                yield child, platform


def select_best(
    offers: Iterable[tuple[T, Platform]], platform: Platform, where: str = "this index"
) -> tuple[T, ...]:
    """Return those of some offers that suit a platform best, in their order, each once.

    There is at least one. Raises PlatformNotFound, which says `where` there is none.
    """
    offers = list(offers)
    found = [
        (_suitability(offered, platform), one)
        for one, offered in offers
        if offered.matches(platform)
    ]
    if not found:
        raise _no_such([offered for _, offered in offers], platform, where)
    best = max(suitability for suitability, _ in found)
    return tuple(dict.fromkeys(one for suitability, one in found if suitability == best))


def _no_such(offered: Iterable[Platform], platform: Platform, where: str) -> PlatformNotFound:
    """Return the error for a platform that is not there, with those that are."""
    available = tuple(map(str, offered))
    listed = ", ".join(excerpt(text) for text in available[:_MAX_LISTED]) or "no image at all"
    more = f" and {len(available) - _MAX_LISTED} more" if len(available) > _MAX_LISTED else ""
    return PlatformNotFound(
        f"no image for platform {excerpt(str(platform))} in {where}: it has {listed}{more}",
        available=available,
    )


def _suitability(offered: Platform, wanted: Platform) -> tuple[int, int, int]:
    """Return how well a variant suits a platform that matches: the larger, the better."""
    if wanted.variant or not wanted.architecture:
        return 0, 0, 0  # it is the variant, or any is wanted
    return variant_preference(offered.architecture, offered.variant)


def _likeness(offered: Platform, wanted: Platform) -> tuple[bool, tuple[int, int, int], int]:
    """Return how much alike two platforms of one architecture are: the larger, the more."""
    versions = (offered.os_version.split("."), wanted.os_version.split("."))
    common = takewhile(lambda pair: pair[0] == pair[1], zip(*versions, strict=False))
    return offered.cpu == wanted.cpu, _suitability(offered, wanted), len(list(common))


def parse_manifest(raw: bytes, media_type: str = "", algorithm: str = "sha256") -> Manifest | Index:
    """Read an image manifest or an index, whichever it is.

    `media_type` is the Content-Type that it came with, if any; `algorithm` is that of the digest
    that names it. Raises InvalidManifest, and InvalidDigest for an algorithm that cannot be
    computed here.
    """
    kind = detect_media_type(decode(raw), media_type)
    document = Index if kind in INDEX_TYPES else Manifest
    return document(raw, media_type, algorithm)
