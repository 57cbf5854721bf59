"""The config file: what holds for a registry each time that it is pushed to.

Knows where the file is, and its grammar. Must not know what a setting does.

    [registry."registry.example:5000"]
    upload-style = "chunked:16MiB"

Strategy: what is not known here is an error, with its place: a setting that is misspelt would be
passed over for ever.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import click

from brolga.cli.upload_options import parse_style
from brolga.errors import InvalidReference, excerpt
from brolga.spec.reference import Repository

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from brolga.cli.upload_options import Style

__all__ = ["upload_styles"]


def upload_styles() -> tuple[Path, dict[str, Style]]:
    """Return the config file's name, and the upload styles in it by their registries' names.

    That is `$BROLGA_CONFIG`, else brolga/config.toml in `$XDG_CONFIG_HOME` or `~/.config`, which
    need not be there. Raises UsageError for a file that is no such config.
    """
    named = os.environ.get("BROLGA_CONFIG")
    home = os.environ.get("XDG_CONFIG_HOME", "")
    if not os.path.isabs(home):  # noqa: PTH117 - a str; such a one is none (XDG Base Directory)
        home = os.path.expanduser("~/.config")  # noqa: PTH111 - it never fails
    path = Path(named) if named else Path(home, "brolga", "config.toml")
    document = _read(path, needed=bool(named))
    try:
        return path, dict(_styles(document))
    except ValueError as error:
        raise click.UsageError(f"{path}: {error}") from error


def _read(path: Path, *, needed: bool) -> dict[str, object]:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        if isinstance(error, FileNotFoundError | NotADirectoryError) and not needed:
            return {}
        raise click.UsageError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:  # of TOML, or of UTF-8
        raise click.UsageError(f"{path} is no TOML: {error}") from error


def _styles(document: dict[str, object]) -> Iterator[tuple[str, Style]]:
    """Yield each registry's name and its style. Raises ValueError, which tells the place."""
    for section, tables in document.items():
        if section != "registry":
            raise ValueError(f"{excerpt(section)} is not known: [registry] is")
        for name, table in _table(tables, "registry"):
            place = f"[registry.{excerpt(name)}]"
            try:
                registry = Repository(name, "any").registry
            except InvalidReference:
                raise ValueError(f"{place}: HOST or HOST:PORT in quotes is wanted") from None
            for key, value in _table(table, place):
                if key != "upload-style":
                    raise ValueError(f"{place} {excerpt(key)} is not known: upload-style is")
                try:
                    yield registry, parse_style(str(value))
                except ValueError as error:
                    raise ValueError(f"{place} {key}: {error}") from None


def _table(value: object, place: str) -> Iterable[tuple[str, object]]:
    if not isinstance(value, dict):
        raise ValueError(f"{place} is no table")  # noqa: TRY004 - of the user's, not of a caller's
    return value.items()
