"""Hints in errors for digests of an algorithm that not every registry takes."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from brolga.errors import DigestMismatch, RegistryError
from brolga.spec.digest import CANONICAL

if TYPE_CHECKING:
    from collections.abc import Iterator

_REFUSALS: Final = (400, 404, 405)


def algorithm_hint(algorithm: str) -> str:
    """Return what to do if a registry does not take digests of an algorithm."""
    return f"if the registry does not take {algorithm}, use another registry or oci:DIR"


@contextmanager
def algorithm_hint_on_error(algorithm: str) -> Iterator[None]:
    """Add a hint to a registry's refusal, if not every registry takes the algorithm."""
    try:
        yield
    except (RegistryError, DigestMismatch) as error:
        refusal = error if isinstance(error, RegistryError) else error.__cause__
        is_refusal = isinstance(refusal, RegistryError) and refusal.status in _REFUSALS
        if is_refusal and algorithm != CANONICAL:
            error.add_note(algorithm_hint(algorithm))
        raise
