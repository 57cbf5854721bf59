"""An image layout, a directory, as a store of images."""

from brolga.stores.layout.gc import DEFAULT_AGE_S, GCResult
from brolga.stores.layout.layout import Layout

__all__ = ["DEFAULT_AGE_S", "GCResult", "Layout"]
