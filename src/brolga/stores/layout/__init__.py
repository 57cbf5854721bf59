"""An image layout, a directory, as a store of images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from brolga._lazy import lazy_names

if TYPE_CHECKING:
    from brolga.stores.layout.gc import DEFAULT_AGE_S, GCResult
    from brolga.stores.layout.layout import Layout
else:
    __getattr__ = lazy_names(
        __name__,
        {
            "brolga.stores.layout.gc": "DEFAULT_AGE_S GCResult",
            "brolga.stores.layout.layout": "Layout",
        },
    )

__all__ = [
    "DEFAULT_AGE_S",
    "GCResult",
    "Layout",
]
