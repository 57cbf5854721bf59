"""Stores of images: a registry, a layout on disk, an archive; and copying between them."""

from typing import Final

DEFAULT_JOBS: Final = 4  # blobs that are pushed at a time
