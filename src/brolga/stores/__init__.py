"""Stores of images: a registry, a layout on disk, an archive; and copying between them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from brolga._lazy import lazy_names

if TYPE_CHECKING:
    from brolga.stores.copy import Copier
    from brolga.stores.progress import ProgressReporter, report_push, report_read
    from brolga.stores.registry import RegistryStore
    from brolga.stores.store import NullStore, OnePassStore, complete_manifest, read_tree
else:
    __getattr__ = lazy_names(
        __name__,
        {
            "brolga.stores.copy": "Copier",
            "brolga.stores.progress": "ProgressReporter report_push report_read",
            "brolga.stores.registry": "RegistryStore",
            "brolga.stores.store": "NullStore OnePassStore complete_manifest read_tree",
        },
    )

__all__ = [
    "DEFAULT_JOBS",
    "Copier",
    "NullStore",
    "OnePassStore",
    "ProgressReporter",
    "RegistryStore",
    "complete_manifest",
    "read_tree",
    "report_push",
    "report_read",
]

DEFAULT_JOBS: Final = 4  # blobs that are pushed at a time
