"""History: how each layer of an image came to be.

Knows the entries of config.md, `history`, and how they are counted against the layers. Must not
know the rest of a config.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from brolga.members import Members, frozen, hashable, read_flag, read_text, reduced, thawed

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

__all__ = ["History", "aligned", "count_layers"]

_MEMBERS: Final = frozenset({"created", "created_by", "author", "comment", "empty_layer"})


@dataclass(frozen=True, slots=True)
class History:
    """One step of an image's making. `empty_layer` tells that it made no layer.

    `created` is a time as of RFC 3339, as it was written. `extra` holds members that the spec
    does not define (config.md, Properties).
    """

    created: str = ""
    created_by: str = ""
    author: str = ""
    comment: str = ""
    empty_layer: bool = False
    extra: Mapping[str, object] = field(default_factory=dict, kw_only=True)

    def __hash__(self) -> int:
        """Hash every field: a set of many entries stays fast."""
        texts = (self.created, self.created_by, self.author, self.comment)
        return hash((texts, self.empty_layer, hashable(self.extra)))

    def __post_init__(self) -> None:
        """Keep a read-only copy."""
        object.__setattr__(self, "extra", frozen(self.extra))

    @classmethod
    def from_dict(cls, value: object, where: str = "$") -> Self:
        """Read an entry. Raises InvalidManifest, naming the place."""
        members = Members(value, where)
        members.refuse_look_alikes(_MEMBERS, alone=False)
        return cls(
            members.get("created", read_text, ""),
            members.get("created_by", read_text, ""),
            members.get("author", read_text, ""),
            members.get("comment", read_text, ""),
            members.get("empty_layer", read_flag, default=False),
            extra=members.unknown(_MEMBERS),
        )

    def to_dict(self) -> dict[str, object]:
        """Return the members by their JSON names, ready for json. What is empty is absent."""
        optional = {
            "created": self.created,
            "created_by": self.created_by,
            "author": self.author,
            "comment": self.comment,
            "empty_layer": self.empty_layer,
        }
        return {**{name: item for name, item in optional.items() if item}, **thawed(self.extra)}

    def __reduce__(self) -> tuple[object, ...]:
        """Rebuild the entry from its fields."""
        return reduced(self)


def count_layers(history: tuple[History, ...]) -> int:
    """Return for how many layers there is an entry."""
    return sum(not entry.empty_layer for entry in history)


def aligned(history: tuple[History, ...], layers: int) -> tuple[History, ...]:
    """Return a history with an entry for each of so many layers, and no more.

    Docker refuses an image whose counts differ. Layers are matched from the first on: those that
    lack an entry get an empty one at the end. Of too many entries none is dropped: the last ones
    are marked as `empty_layer`.
    """
    surplus = count_layers(history) - layers
    if surplus < 0:
        return (*history, *(History(),) * -surplus)
    entries = list(history)
    for i in reversed(range(len(entries))):
        if surplus and not entries[i].empty_layer:
            entries[i] = replace(entries[i], empty_layer=True)
            surplus -= 1
    return tuple(entries)
