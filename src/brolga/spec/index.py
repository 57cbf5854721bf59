"""Indexes: manifests for several platforms under one name (image-index.md).

Includes Docker's manifest list. A platform is chosen as crane does, a variant as containerd does.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from itertools import takewhile
from typing import Final, Self, TypeVar, Unpack

from brolga.errors import PlatformNotFound, excerpt
from brolga.spec.descriptor import Descriptor
from brolga.spec.json import decode, error_at, reuse_originals
from brolga.spec.manifest import Manifest, ManifestBase, SharedMembers, detect_media_type
from brolga.spec.mediatypes import DOCKER_CONFIG, INDEX_TYPES, MANIFEST_TYPES, OCI_CONFIG, OCI_INDEX
from brolga.spec.platform import DEFAULT_PLATFORM, Platform, variant_preference
from brolga.spec.value import field

T = TypeVar("T", bound="Hashable")

# The platform that buildx gives to attestations.
_UNKNOWN: Final = "unknown"
# "This is the value of the config descriptor `mediaType` when the descriptor references an
# image manifest" (descriptor.md, artifactType); any other type is an artifact.
_IMAGE_ARTIFACT_TYPES: Final = frozenset({"", OCI_CONFIG, DOCKER_CONFIG})
_MAX_LISTED: Final = 20  # platforms in an error message


class Index(ManifestBase):
    """An index or Docker manifest list: a typed view of its exact bytes. Raises InvalidManifest."""

    manifests: tuple[Descriptor, ...] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        """Decode the bytes."""
        members = self._decode(INDEX_TYPES, "an index")
        if "manifests" not in self._document:
            raise error_at("$.manifests", "is missing")
        self._set(manifests=members.each("manifests", Descriptor.from_dict))

    @classmethod
    def new(cls, manifests: Iterable[Descriptor], **shared: Unpack[SharedMembers]) -> Self:
        """Return a new index, of OCI's media type by default. Raises InvalidManifest."""
        parts = {"manifests": [manifest.to_dict() for manifest in manifests]}
        return cls._encode(OCI_INDEX, parts, shared)

    def replace(
        self, *, manifests: Iterable[Descriptor] | None = None, **shared: Unpack[SharedMembers]
    ) -> Self:
        """Return an index with some members replaced, by the rules of `Manifest.replace`."""
        changes: dict[str, object] = {}
        if manifests is not None and (manifests := tuple(manifests)) != self.manifests:
            changes["manifests"] = reuse_originals(
                manifests, self.manifests, self._document["manifests"]
            )
        return self._replace(changes, shared)

    @property
    def platforms(self) -> tuple[Platform, ...]:
        """The platforms that `select` finds, in the index's order."""
        return tuple(platform for _, platform in self._images())

    def select(self, platform: Platform) -> Descriptor:
        """Return the image, or nested index, that suits a platform best: the first of several.

        "If multiple manifests match a client or runtime's requirements, the first matching entry
        SHOULD be used" (image-index.md). Without a variant in `platform` the default one is best,
        as in containerd: amd64 before amd64/v3, arm/v7 before arm/v5. A child without a platform
        counts as linux/amd64, as in crane; attestations and artifacts do not count. Raises
        PlatformNotFound.
        """
        return select_best(self._images(), platform)[0]

    def select_nearest(self, platform: Platform) -> Descriptor:
        """Return the image to build on for the platform of a config, which has all details.

        A variant or version that the index leaves out matches. Of several versions of the operating
        system, the one with the most leading parts in common is chosen: Windows images are rebuilt
        for each patch. Raises PlatformNotFound.
        """
        candidates = [
            (_similarity(offered, platform), child)
            for child, offered in self._images()
            if (offered.os, offered.cpu[0]) == (platform.os, platform.cpu[0])
            and (not offered.variant or not platform.variant or offered.cpu == platform.cpu)
        ]
        if not candidates:
            raise _not_found(self.platforms, platform, "this index")
        return max(candidates, key=lambda candidate: candidate[0])[1]

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
    offers: Iterable[tuple[T, Platform]], platform: Platform, origin: str = "this index"
) -> tuple[T, ...]:
    """Return the items that suit a platform best. Raises PlatformNotFound, which names `origin`."""
    offers = list(offers)
    matches = [
        (_suitability(offered, platform), item)
        for item, offered in offers
        if offered.matches(platform)
    ]
    if not matches:
        raise _not_found([offered for _, offered in offers], platform, origin)
    best = max(suitability for suitability, _ in matches)
    return tuple(dict.fromkeys(item for suitability, item in matches if suitability == best))


def _not_found(offered: Iterable[Platform], platform: Platform, origin: str) -> PlatformNotFound:
    available = tuple(map(str, offered))
    listed = ", ".join(excerpt(text) for text in available[:_MAX_LISTED]) or "no image at all"
    more = f" and {len(available) - _MAX_LISTED} more" if len(available) > _MAX_LISTED else ""
    return PlatformNotFound(
        f"no image for platform {excerpt(str(platform))} in {origin}: it has {listed}{more}",
        available=available,
    )


def _suitability(offered: Platform, wanted: Platform) -> tuple[int, int, int]:
    """Return how well a variant suits a platform that matches: larger is better."""
    if wanted.variant or not wanted.architecture:
        return 0, 0, 0  # the variant is equal, or any is allowed
    return variant_preference(offered.architecture, offered.variant)


def _similarity(offered: Platform, wanted: Platform) -> tuple[bool, tuple[int, int, int], int]:
    """Return how similar two platforms of one architecture are: larger is more."""
    versions = (offered.os_version.split("."), wanted.os_version.split("."))
    common = takewhile(lambda pair: pair[0] == pair[1], zip(*versions, strict=False))
    return offered.cpu == wanted.cpu, _suitability(offered, wanted), len(list(common))


def parse_manifest(raw: bytes, media_type: str = "", algorithm: str = "sha256") -> Manifest | Index:
    """Parse an image manifest or an index, with the arguments and errors of `Manifest.parse`."""
    kind = detect_media_type(decode(raw), media_type)
    document = Index if kind in INDEX_TYPES else Manifest
    return document(raw, media_type, algorithm)
