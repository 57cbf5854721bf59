"""An image layout, a directory, as a store of images.

layout   Layout: the store
reading  manifests and blobs, verified
files    where its files are, and who may change them
listing  index.json as a value
naming   which image a name stands for
graph    what can be reached from a manifest
sweep    which blobs are garbage
"""

from brolga.stores.layout.gc import DEFAULT_AGE_S, GCResult
from brolga.stores.layout.layout import Layout

__all__ = ["DEFAULT_AGE_S", "GCResult", "Layout"]
