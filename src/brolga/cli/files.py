"""Files that a verb writes: one appears under its name when it is whole, and not before."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["replace_file"]


@contextmanager
def replace_file(target: Path) -> Iterator[Callable[[bytes | memoryview], object]]:
    """Give what writes to a file, which takes the place of `target` if the block ends well."""
    if target.exists() and not target.is_file():  # a pipe, /dev/null
        with target.open("wb") as file:
            yield file.write
        return
    new = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        file = new.open("xb")
    except OSError as error:
        raise click.ClickException(f"{target} cannot be written: {error.strerror}") from error
    try:
        with file:
            yield file.write
        new.replace(target)
    except BaseException:
        new.unlink()
        raise
