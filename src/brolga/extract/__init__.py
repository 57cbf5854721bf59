"""Extract the layers of an image that is not trusted into a directory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from brolga._lazy import lazy_names

if TYPE_CHECKING:
    from brolga.extract.layers import extract_layers
    from brolga.extract.limits import ExtractLimits
    from brolga.extract.options import ExtractOptions
else:
    __getattr__ = lazy_names(
        __name__,
        {
            "brolga.extract.layers": "extract_layers",
            "brolga.extract.limits": "ExtractLimits",
            "brolga.extract.options": "ExtractOptions",
        },
    )

__all__ = ["ExtractLimits", "ExtractOptions", "extract_layers"]
