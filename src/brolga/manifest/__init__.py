"""Manifests, indexes and image configs: typed views over exact bytes.

Knows the documents of the OCI image-spec 1.1 and of Docker's image manifest version 2, schema 2.
Must not know registries, files, clocks, or what is in a layer.

Strategy: a value is its bytes. What is read and not changed keeps them, and so its digest; what
is changed keeps every member that is not known here. Bytes that two readers could take
differently are refused, and the error names the place (`$.layers[0].size`).
"""

from brolga.descriptor import Descriptor, Platform
from brolga.manifest.config import ImageConfig
from brolga.manifest.document import MAX_SIZE
from brolga.manifest.history import History
from brolga.manifest.image import Manifest
from brolga.manifest.index import Index, parse_manifest

__all__ = [
    "MAX_SIZE",
    "Descriptor",
    "History",
    "ImageConfig",
    "Index",
    "Manifest",
    "Platform",
    "parse_manifest",
]
