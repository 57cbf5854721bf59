"""What can be reached from somewhere: one walk for all who ask.

Knows nothing of layouts.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator

__all__ = ["reached"]

T = TypeVar("T", bound="Hashable")


def reached(
    roots: Iterable[T], below: Callable[[T], Iterable[T]], known: set[T] | None = None
) -> Iterator[T]:
    """Yield the roots and all below them, each once; `below` is asked after one was taken.

    `known` are those of walks before, which are passed over; those of this one join them.
    """
    todo, seen = deque(roots), set[T]() if known is None else known
    while todo:
        one = todo.popleft()
        if one not in seen:
            seen.add(one)
            yield one
            todo.extend(below(one))
