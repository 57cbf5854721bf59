"""Stores of images: a registry, a layout on disk, an archive; and copying between them."""
