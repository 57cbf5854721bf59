"""The names that a client is called with: as a text, or read already.

Knows which kind of name a call wants. Must not know what is done with it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from brolga.errors import InvalidReference
from brolga.spec.reference import Reference, Repository
from brolga.stores.location import LocalRef, parse_image_ref, parse_repository_ref

if TYPE_CHECKING:
    from brolga.spec.digest import Digest
    from brolga.stores.location import ImageRef

__all__ = ["as_blob", "as_home", "as_place", "as_reference", "as_repository", "named"]


def as_repository(name: Repository | str) -> Repository:
    """Return a repository. Raises InvalidReference."""
    return Repository.parse(name) if isinstance(name, str) else name


def as_reference(name: Reference | str) -> Reference:
    """Return a reference. Raises InvalidReference."""
    return Reference.parse(name) if isinstance(name, str) else name


def as_place(name: ImageRef | str) -> ImageRef:
    """Return a place, of a registry or on this machine. Raises InvalidReference."""
    return parse_image_ref(name) if isinstance(name, str) else name


def as_home(name: Repository | LocalRef | str) -> Repository | LocalRef:
    """Return a repository, or a layout or archive as a whole. Raises InvalidReference."""
    return parse_repository_ref(name) if isinstance(name, str) else name


def named(home: Repository | LocalRef, name: str) -> ImageRef:
    """Return the place of a name in a repository, a layout or an archive. Raises as parsing."""
    return replace(home, name=name) if isinstance(home, LocalRef) else Reference(home, name)


def as_blob(reference: Reference) -> tuple[Repository, Digest]:
    """Return where a blob is, and its digest. Raises InvalidReference where there is none."""
    if reference.digest is None:
        raise InvalidReference("a blob is named by its digest: REPO@sha256:...")
    return reference.repository, reference.digest
