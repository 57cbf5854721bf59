"""Layers that try to change what is outside of the directory that they are extracted to.

Each attack is a list of tars, the lowest layer first. `out` is the absolute path of a directory
outside, which is `../../outside` as seen from the directory (tests/guard.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

from tests.attacks import bypasses, paths, types

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ATTACKS", "Layers", "attack"]

Layers: TypeAlias = list[bytes]

_THEMES: Final[dict[str, Callable[[str], dict[str, Layers]]]] = {
    "names": paths.names,
    "links": paths.links,
    "hard links": paths.hard_links,
    "whiteouts": types.whiteouts,
    "kinds": types.kinds,
    "metadata": types.metadata,
    "marker": types.markers,
    "bypasses": bypasses.bypasses,
}

ATTACKS: Final = [f"{theme}: {name}" for theme, make in _THEMES.items() for name in make("/out")]


def attack(name: str, out: str) -> Layers:
    """Return the layers of an attack on the directory `out`."""
    theme, _, rest = name.partition(": ")
    return _THEMES[theme](out)[rest]
