"""Stores of images: a registry, a layout on disk, an archive; and copying between them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from brolga._lazy import lazy_names

if TYPE_CHECKING:
    from brolga.stores.copy import Copier
    from brolga.stores.registry import RegistryStore
    from brolga.stores.store import NullStore, OnePassStore, complete_manifest, read_tree
else:
    __getattr__ = lazy_names(
        __name__,
        {
            "brolga.stores.copy": "Copier",
            "brolga.stores.registry": "RegistryStore",
            "brolga.stores.store": "NullStore OnePassStore complete_manifest read_tree",
        },
    )

__all__ = [
    "DEFAULT_JOBS",
    "Copier",
    "NullStore",
    "OnePassStore",
    "RegistryStore",
    "complete_manifest",
    "read_tree",
]

DEFAULT_JOBS: Final = 4  # blobs that are pushed at a time
