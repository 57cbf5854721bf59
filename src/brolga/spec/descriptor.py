"""Descriptors: a digest together with what it takes to fetch it safely.

Knows the properties of the image-spec (descriptor.md, Properties; image-index.md, platform), and
their JSON names. Must not know what the described bytes mean, nor where they are stored.

Strategy: values that check themselves however they are made and cannot be changed afterwards;
what a document says beyond the spec stays with them in `extra`.
"""

from __future__ import annotations

import binascii
import functools
import re
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from brolga.errors import excerpt
from brolga.spec.digest import Digest
from brolga.spec.json import (
    Members,
    freeze,
    hashable,
    parse_member,
    read_artifact_type,
    read_digest,
    read_media_type,
    read_strings,
    read_text,
    reduced,
    thaw,
)
from brolga.spec.mediatypes import check_media_type

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

__all__ = ["DEFAULT_PLATFORM", "Descriptor", "Platform", "normalize_variant", "variant_preference"]

# "size: int64" (descriptor.md, Properties).
_MAX_SIZE: Final = 2**63 - 1

_WORD: Final = "[A-Za-z0-9._-]++"
_PLATFORM: Final = re.compile(
    f"(?P<os>{_WORD})(?:/(?P<architecture>{_WORD})(?:/(?P<variant>{_WORD}))?)?"
    f"(?::(?P<os_version>{_WORD}))?"
)


def _whole_size(size: object) -> int:
    # Not isinstance: True is an int.
    if type(size) is not int or not 0 <= size <= _MAX_SIZE:
        raise ValueError(
            f"size {excerpt(str(size))} is not a whole number of bytes, 0 to 2**63 - 1"
        )
    return size


def _check_data(data: bytes, digest: Digest, size: int) -> None:
    """Raise ValueError where embedded data is not what its descriptor says."""
    if len(data) != size:
        raise ValueError(f"the embedded data has {len(data)} bytes where size is {size}")
    if Digest.of(data, digest.algorithm) != digest:
        raise ValueError(f"the embedded data is not what {digest} names")


def _read_size(value: object, where: str) -> int:
    return parse_member(_whole_size, value, where)


def _read_data(digest: Digest, size: int, value: object, where: str) -> bytes:
    """Return the bytes of a base 64 string, where they are what a digest and a size say."""
    text = read_text(value, where)

    def decode(text: str) -> bytes:
        data = binascii.a2b_base64(text, strict_mode=True)
        if data:
            _check_data(data, digest, size)
        return data

    return parse_member(decode, text, where)


@dataclass(frozen=True, slots=True)
class Platform:
    """What an image needs to run: an operating system, a CPU, and their variants.

    Empty is what is not said. `extra` holds members that the spec does not define
    (image-index.md, platform).
    """

    os: str
    architecture: str
    variant: str = ""
    os_version: str = ""
    os_features: tuple[str, ...] = ()
    extra: Mapping[str, object] = field(default_factory=dict, kw_only=True)

    def __post_init__(self) -> None:
        """Keep read-only copies."""
        object.__setattr__(self, "os_features", tuple(self.os_features))
        object.__setattr__(self, "extra", freeze(self.extra))

    def __hash__(self) -> int:
        """Hash every field: a set of many platforms stays fast."""
        words = (self.os, self.architecture, self.variant, self.os_version, self.os_features)
        return hash((words, hashable(self.extra)))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `os[/architecture[/variant]][:os.version]`, as `linux/arm64/v8`.

        Raises ValueError.
        """
        found = _PLATFORM.fullmatch(text)
        if not found:
            raise ValueError(
                f"platform {excerpt(text)} is not OS[/ARCHITECTURE[/VARIANT]][:OS.VERSION]"
            )
        return cls(
            found["os"],
            found["architecture"] or "",
            found["variant"] or "",
            found["os_version"] or "",
        )

    @classmethod
    def from_dict(cls, value: object, where: str = "$") -> Self:
        """Read the object of a descriptor (image-index.md, platform). Raises InvalidManifest."""
        members = Members(value, where)
        members.reject_case_variants(_PLATFORM_MEMBERS)
        return cls(
            members.get("os", read_text, ""),
            members.get("architecture", read_text, ""),
            members.get("variant", read_text, ""),
            members.get("os.version", read_text, ""),
            members.each("os.features", read_text),
            extra=members.unknown(_PLATFORM_MEMBERS),
        )

    def matches(self, wanted: Platform) -> bool:
        """Return whether this is a platform as wanted: what `wanted` leaves empty matches all.

        Names of one CPU are equal: arm64/v8 is arm64, amd64/v1 is amd64, arm/v7 is arm.
        """
        return (
            all(getattr(wanted, name) in {"", getattr(self, name)} for name in ("os", "os_version"))
            and (not wanted.architecture or self.cpu[0] == wanted.cpu[0])
            and (not wanted.variant or self.cpu == wanted.cpu)
            and set(wanted.os_features) <= set(self.os_features)
        )

    @property
    def cpu(self) -> tuple[str, str]:
        """The architecture and the variant, in the form in which equal CPUs have equal names."""
        return normalize_variant(self.architecture, self.variant)

    def to_dict(self) -> dict[str, object]:
        """Return the members by their JSON names, ready for json."""
        optional = {
            "os.version": self.os_version,
            "os.features": list(self.os_features),
            "variant": self.variant,
        }
        return {
            "architecture": self.architecture,
            "os": self.os,
            **{name: value for name, value in optional.items() if value},
            **thaw(self.extra),
        }

    def __reduce__(self) -> tuple[object, ...]:
        """Rebuild the platform from its fields."""
        return reduced(self)

    def __str__(self) -> str:
        """Return the text that `parse` reads."""
        text = "/".join(part for part in (self.os, self.architecture, self.variant) if part)
        return f"{text}:{self.os_version}" if self.os_version else text


_PLATFORM_MEMBERS: Final = frozenset({"os", "architecture", "variant", "os.version", "os.features"})

# What crane and docker take where nothing is said.
DEFAULT_PLATFORM: Final = Platform("linux", "amd64")


@dataclass(frozen=True, slots=True)
class Descriptor:
    """The media type, digest and size in bytes of a blob or manifest.

    `data` is the content itself, where it is embedded; it is held against size and digest.
    `extra` holds members that the spec does not define. Mappings are copied, and can be read
    only. Raises ValueError for a media type outside RFC 6838, for a size that is no int64 from 0,
    for annotations that are not strings, and for data that is not what the digest says
    (image-spec descriptor.md, Properties; annotations.md, Rules).
    """

    media_type: str
    digest: Digest
    size: int
    annotations: Mapping[str, str] = field(default_factory=dict)
    platform: Platform | None = field(default=None, kw_only=True)
    artifact_type: str = field(default="", kw_only=True)
    urls: tuple[str, ...] = field(default=(), kw_only=True)
    data: bytes | None = field(default=None, repr=False, kw_only=True)
    extra: Mapping[str, object] = field(default_factory=dict, kw_only=True)

    def __hash__(self) -> int:
        """Hash every field that can tell two apart.

        A layout lists one image under many names, which differ in an annotation alone: with equal
        hashes, a set of them would compare each with each.
        """
        about = (self.platform, self.artifact_type, self.urls)
        named = (hashable(self.annotations), hashable(self.extra))
        return hash((self.media_type, self.digest, self.size, about, named))

    def __post_init__(self) -> None:
        """Check each property, and keep read-only copies of the mappings."""
        check_media_type(self.media_type)
        _whole_size(self.size)
        annotations = dict(self.annotations)
        for text in (*annotations, *annotations.values()):
            # The type in front is a promise; what JSON brought may break it.
            if type(text) is not str:
                raise ValueError(f"annotation {excerpt(repr(text))} is not a string")
        if self.artifact_type:
            check_media_type(self.artifact_type)
        if taken := self.extra.keys() & _DESCRIPTOR_MEMBERS:
            raise ValueError(f"extra holds {min(taken)!r}, which is a property of its own")
        object.__setattr__(self, "annotations", MappingProxyType(annotations))
        object.__setattr__(self, "urls", tuple(self.urls))
        object.__setattr__(self, "extra", freeze(self.extra))
        # As writers do, who leave out what is empty.
        object.__setattr__(self, "data", self.data or None)
        if self.data is not None:
            _check_data(self.data, self.digest, self.size)

    @classmethod
    def from_dict(cls, value: object, where: str = "$") -> Self:
        """Read a descriptor from JSON's object (descriptor.md, Properties).

        Raises InvalidManifest, whose message begins with the place: `where` is the object's.
        """
        members = Members(value, where)
        members.reject_case_variants(_DESCRIPTOR_MEMBERS)
        media_type = members.need("mediaType", read_media_type)
        digest = members.need("digest", read_digest)
        size = members.need("size", _read_size)
        return cls(
            media_type,
            digest,
            size,
            members.get("annotations", read_strings, dict[str, str]()),
            platform=members.get("platform", Platform.from_dict, None),
            artifact_type=members.get("artifactType", read_artifact_type, ""),
            urls=members.each("urls", read_text),
            data=members.get("data", functools.partial(_read_data, digest, size), None),
            extra=members.unknown(_DESCRIPTOR_MEMBERS),
        )

    def __reduce__(self) -> tuple[object, ...]:
        """Rebuild the descriptor from its fields."""
        return reduced(self)

    def to_dict(self) -> dict[str, object]:
        """Return the properties by their JSON names, ready for json.

        What is empty is absent, as `annotations` must be (annotations.md, Rules).
        """
        optional = {
            "urls": list(self.urls),
            "annotations": dict(self.annotations),
            "data": binascii.b2a_base64(self.data or b"", newline=False).decode(),
            "platform": self.platform.to_dict() if self.platform else None,
            "artifactType": self.artifact_type,
        }
        return {
            "mediaType": self.media_type,
            "digest": str(self.digest),
            "size": self.size,
            **{name: value for name, value in optional.items() if value},
            **thaw(self.extra),
        }


_DESCRIPTOR_MEMBERS: Final = frozenset(
    {
        "mediaType",
        "digest",
        "size",
        "urls",
        "annotations",
        "data",
        "platform",
        "artifactType",
    }
)


# Other names of an architecture: Go's name of it.
_ALIASES: Final[Mapping[str, str]] = MappingProxyType(
    {"x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64"}
)
# Names that say the variant as well, whatever else is said of it.
_WITH_VARIANT: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {"i386": ("386", ""), "armhf": ("arm", "v7"), "armel": ("arm", "v6")}
)
# The variant that an architecture without one has.
_DEFAULTS: Final[Mapping[str, str]] = MappingProxyType({"amd64": "v1", "arm64": "v8", "arm": "v7"})
# Those that the one form leaves out.
_UNWRITTEN: Final = frozenset({"amd64", "arm64"})
_LEVEL: Final = re.compile(r"v([0-9]{1,3})(?:\.([0-9]{1,3}))?")


def normalize_variant(architecture: str, variant: str) -> tuple[str, str]:
    """Return an architecture and a variant in the form in which equal CPUs have equal names.

    arm64/v8 is arm64, amd64/v1 is amd64, and arm is arm/v7.
    """
    name, level = architecture.lower(), variant.lower().removesuffix(".0")
    name, level = _WITH_VARIANT.get(name, (_ALIASES.get(name, name), level))
    if name in _DEFAULTS and level.isdecimal():
        level = f"v{level}"
    level = level or _DEFAULTS.get(name, "")
    return name, "" if name in _UNWRITTEN and level == _DEFAULTS[name] else level


def variant_preference(architecture: str, variant: str) -> tuple[int, int, int]:
    """Return how well a CPU suits who asks for an architecture alone: the larger, the better.

    The default variant comes first; then older ones, the newest of them first, for their programs
    run on the default one; then newer ones, the oldest first; then variants of another kind.
    """
    name, level = normalize_variant(architecture, variant)
    default = _DEFAULTS.get(name, "")
    number, wanted = _number(level or default), _number(default)
    if (level or default) == default:
        return 3, 0, 0
    if number is None or wanted is None:
        return 0, 0, 0
    if number < wanted:
        return 2, *number
    return 1, -number[0], -number[1]


def _number(variant: str) -> tuple[int, int] | None:
    found = _LEVEL.fullmatch(variant)
    return (int(found[1]), int(found[2] or 0)) if found else None
