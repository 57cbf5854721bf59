"""The tokens that a registry gave, by scope.

Knows for what a token does, and how long. Must not know how one is asked for.

Strategy: a client may live for months and see thousands of repositories. Tokens that have expired
are dropped whenever one is added, and of those that live the newest are kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Tokens"]

_MAX_TOKENS: Final = 256  # each of them may have 64 KiB


class _Kept(NamedTuple):
    grants: frozenset[tuple[str, str]]
    said: str
    until: float


class Tokens:
    """A table of Authorization headers by scope. Threads may share one."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, ...], _Kept] = {}

    def __len__(self) -> int:
        """Return how many are kept."""
        return len(self._kept)

    def find(self, scope: tuple[str, ...], now: float) -> str:
        """Return the header of a token that does for `scope` at `now`, "" if there is none."""
        kept = self._kept.get(scope)
        if kept is not None and now < kept.until:
            return kept.said
        wanted = _grants(scope)
        for kept in list(self._kept.values()):
            if now < kept.until and wanted <= kept.grants:  # a token to push can pull
                return kept.said
        return ""

    def keep(self, scope: tuple[str, ...], said: str, until: float, now: float) -> None:
        """Keep a token's header until then; drop what has expired, and the oldest of too many."""
        kept = {known: one for known, one in list(self._kept.items()) if now < one.until}
        kept.pop(scope, None)
        kept[scope] = _Kept(_grants(scope), said, until)
        excess = len(kept) - _MAX_TOKENS
        self._kept = dict(list(kept.items())[excess:]) if excess > 0 else kept

    def forget(self, scope: tuple[str, ...], refused: str) -> None:
        """Drop a token that was refused, and all others that would do for `scope`.

        They may have died with it: the registry's key was changed, or this machine slept. If the
        refused one is not here any more, another thread has seen to that.
        """
        table = list(self._kept.items())
        if all(one.said != refused for _, one in table):
            return
        wanted = _grants(scope)
        self._kept = {
            known: one for known, one in table if one.said != refused and not wanted <= one.grants
        }


def _grants(scope: Sequence[str]) -> frozenset[tuple[str, str]]:
    """Return what a scope allows, as pairs of a resource and one action."""
    return frozenset(
        (resource, action)
        for resource, _, actions in (part.rpartition(":") for part in scope)
        for action in actions.split(",")
    )
