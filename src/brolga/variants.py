"""CPU architectures and their variants: which names mean one CPU, and which variant to prefer.

Knows the names in use (image-spec image-index.md, "Platform Variants") and how containerd reads
them (github.com/containerd/platforms, database.go and compare.go). Must not know images.

Strategy: two names are compared in one form, in which the default variant of an architecture is
not written for arm64 and amd64, and is written for arm, as containerd has it.
"""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["normalized", "preference"]

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


def normalized(architecture: str, variant: str) -> tuple[str, str]:
    """Return an architecture and a variant in the form in which equal CPUs have equal names.

    arm64/v8 is arm64, amd64/v1 is amd64, and arm is arm/v7.
    """
    name, level = architecture.lower(), variant.lower().removesuffix(".0")
    name, level = _WITH_VARIANT.get(name, (_ALIASES.get(name, name), level))
    if name in _DEFAULTS and level.isdecimal():
        level = f"v{level}"
    level = level or _DEFAULTS.get(name, "")
    return name, "" if name in _UNWRITTEN and level == _DEFAULTS[name] else level


def preference(architecture: str, variant: str) -> tuple[int, int, int]:
    """Return how well a CPU suits who asks for an architecture alone: the larger, the better.

    The default variant comes first; then older ones, the newest of them first, for their programs
    run on the default one; then newer ones, the oldest first; then variants of another kind.
    """
    name, level = normalized(architecture, variant)
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
