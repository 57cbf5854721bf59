"""Directories that layers are extracted into, and what is in them."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from tests.tars import layer

from brolga.extract import ExtractOptions, extract_layers

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["extract", "files_in"]


def extract(directory: Path, *tars: bytes, **options: object) -> list[str]:
    """Extract layers, the lowest first; return the warnings."""
    warnings: list[str] = []
    chosen = ExtractOptions(on_warning=warnings.append, **options)  # type: ignore[arg-type]
    extract_layers([layer(data) for data in tars], directory, chosen)
    return warnings


def files_in(directory: Path) -> dict[str, object]:
    """Return what is below a directory: contents of files, targets of links, None otherwise."""
    found: dict[str, object] = {}
    for parent, directories, names in os.walk(directory):
        for name in (*directories, *names):
            path = directory / parent / name
            mode = path.lstat().st_mode
            shown: object = None
            if stat.S_ISLNK(mode):
                shown = str(path.readlink())
            elif stat.S_ISREG(mode):
                shown = path.read_bytes()
            found[str(path.relative_to(directory))] = shown
    return found
