"""Platforms: what an image needs to run, and which names of a CPU mean the same one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, Self

from brolga.errors import excerpt
from brolga.spec.json import Members, freeze, hash_value, read_string, reduce_value, thaw
from brolga.spec.value import Value, field

_WORD: Final = "[A-Za-z0-9._-]++"
_PLATFORM: Final = (
    f"(?P<os>{_WORD})(?:/(?P<architecture>{_WORD})(?:/(?P<variant>{_WORD}))?)?"
    f"(?::(?P<os_version>{_WORD}))?"
)
PLATFORM_MEMBERS: Final = ("architecture", "os", "os.version", "os.features", "variant")

# Other names of an architecture, and Go's name.
_ALIASES: Final = {"x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64"}
# Names that imply the variant, and override any other.
_WITH_VARIANT: Final = {"i386": ("386", ""), "armhf": ("arm", "v7"), "armel": ("arm", "v6")}
_DEFAULT_VARIANTS: Final = {"amd64": "v1", "arm64": "v8", "arm": "v7"}
# Architectures whose default variant the normal form leaves out.
_IMPLIED_VARIANT: Final = frozenset({"amd64", "arm64"})
_VARIANT_NUMBER: Final = r"v([0-9]{1,3})(?:\.([0-9]{1,3}))?"


class Platform(Value):
    """What an image needs to run: an operating system, a CPU, and their variants.

    An empty field is not specified. `extra` holds members that the spec does not define
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

    __hash__ = hash_value
    __reduce__ = reduce_value

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse `os[/architecture[/variant]][:os.version]`. Raises ValueError."""
        match = re.fullmatch(_PLATFORM, text)
        if not match:
            raise ValueError(
                f"platform {excerpt(text)} is not OS[/ARCHITECTURE[/VARIANT]][:OS.VERSION]"
            )
        os, architecture, variant, os_version = match.groups("")
        return cls(os, architecture, variant, os_version)

    @classmethod
    def from_dict(cls, value: object, path: str = "$") -> Self:
        """Read the object of a descriptor (image-index.md, platform). Raises InvalidManifest."""
        members = Members(value, path)
        members.reject_case_variants(frozenset(PLATFORM_MEMBERS))
        return cls.from_members(members, members.unknown(frozenset(PLATFORM_MEMBERS)))

    @classmethod
    def from_members(cls, members: Members, extra: Mapping[str, object] | None = None) -> Self:
        """Read the members of an object that may have others, as a config has."""
        return cls(
            members.get("os", read_string, ""),
            members.get("architecture", read_string, ""),
            members.get("variant", read_string, ""),
            members.get("os.version", read_string, ""),
            members.each("os.features", read_string),
            extra=extra or {},
        )

    def matches(self, wanted: Platform) -> bool:
        """Return whether this platform has all that `wanted` specifies, by any name of a CPU."""
        return (
            all(getattr(wanted, name) in {"", getattr(self, name)} for name in ("os", "os_version"))
            and (not wanted.architecture or self.cpu[0] == wanted.cpu[0])
            and (not wanted.variant or self.cpu == wanted.cpu)
            and set(wanted.os_features) <= set(self.os_features)
        )

    @property
    def cpu(self) -> tuple[str, str]:
        """The architecture and variant, normalized: equal CPUs have equal names."""
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

    def __str__(self) -> str:
        """Return the text that `parse` reads."""
        text = "/".join(part for part in (self.os, self.architecture, self.variant) if part)
        return f"{text}:{self.os_version}" if self.os_version else text


# crane and docker have the same default.
DEFAULT_PLATFORM: Final = Platform("linux", "amd64")


def normalize_variant(architecture: str, variant: str) -> tuple[str, str]:
    """Return equal names for equal CPUs: arm64 for arm64/v8, amd64 for amd64/v1, arm/v7 for arm."""
    name, level = architecture.lower(), variant.lower().removesuffix(".0")
    name, level = _WITH_VARIANT.get(name, (_ALIASES.get(name, name), level))
    if name in _DEFAULT_VARIANTS and level.isdecimal():
        level = f"v{level}"
    level = level or _DEFAULT_VARIANTS.get(name, "")
    implied = name in _IMPLIED_VARIANT and level == _DEFAULT_VARIANTS[name]
    return name, "" if implied else level


def variant_preference(architecture: str, variant: str) -> tuple[int, int, int]:
    """Return how well a CPU suits a request for its architecture alone: larger is better.

    The default variant is best; then older ones, the newest first, since the default CPU runs
    their programs; then newer ones, the oldest first; then variants of another kind.
    """
    name, level = normalize_variant(architecture, variant)
    default = _DEFAULT_VARIANTS.get(name, "")
    level = level or default
    if level == default:
        return 3, 0, 0
    number, default_number = _variant_number(level), _variant_number(default)
    if number is None or default_number is None:
        return 0, 0, 0
    if number < default_number:
        return 2, *number
    return 1, -number[0], -number[1]


def _variant_number(variant: str) -> tuple[int, int] | None:
    match = re.fullmatch(_VARIANT_NUMBER, variant)
    return (int(match[1]), int(match[2] or 0)) if match else None
