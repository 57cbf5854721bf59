"""Upload styles, of the flag and of the config file. An unknown setting is an error.

[registry."registry.example:5000"]
upload-style = "chunked:16MiB"
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping

import click

from brolga.cli.params import UploadStyle, parse_style
from brolga.errors import InvalidReference, excerpt
from brolga.spec.reference import Repository


def choose_upload_style(
    flag: UploadStyle | None, registry: str = ""
) -> tuple[str | Mapping[str, str], str]:
    """Return the `upload_style` of a `Client`, and what set the one of `registry`, or "".

    The flag wins over the config file. Raises UsageError if the config file is not valid.
    """
    if flag is not None:
        return flag.value, f"--upload-style {flag.text}"
    path, styles = read_upload_styles()
    style = styles.get(registry)
    values = {name: style.value for name, style in styles.items()}
    return values, f'upload-style = "{style.text}" in {path}' if style else ""


def read_upload_styles() -> tuple[str, dict[str, UploadStyle]]:
    """Return the name of the config file, and its upload styles by registry.

    The file is `$BROLGA_CONFIG`, else brolga/config.toml in `$XDG_CONFIG_HOME` or `~/.config`; only
    the first one must exist. Raises UsageError if it is not valid.
    """
    explicit = os.environ.get("BROLGA_CONFIG")
    home = os.environ.get("XDG_CONFIG_HOME", "")
    if not os.path.isabs(home):  # noqa: PTH117 - a str; ignore a relative one (XDG Base Directory)
        home = os.path.expanduser("~/.config")  # noqa: PTH111 - it never fails
    path = explicit or f"{home}/brolga/config.toml"
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - a str
            data = file.read()
    except OSError as error:
        if isinstance(error, FileNotFoundError | NotADirectoryError) and not explicit:
            return path, {}
        raise click.UsageError(f"{path} cannot be read: {error.strerror}") from error
    import tomllib  # few have a config file

    try:
        document = tomllib.loads(data.decode())
    except ValueError as error:  # of TOML, or of UTF-8
        raise click.UsageError(f"{path} is not valid TOML: {error}") from error
    try:
        return path, dict(_parse_styles(document))
    except ValueError as error:
        raise click.UsageError(f"{path}: {error}") from error


def _parse_styles(document: dict[str, object]) -> Iterator[tuple[str, UploadStyle]]:
    """Yield each registry and its style. Raises ValueError, which names the place."""
    for section, tables in document.items():
        if section != "registry":
            raise ValueError(f"unknown section {excerpt(section)}: use [registry]")
        for name, table in _items_of(tables, "registry"):
            place = f"[registry.{excerpt(name)}]"
            try:
                registry = Repository(name, "any").registry
            except InvalidReference:
                raise ValueError(f"{place} must be HOST or HOST:PORT in quotes") from None
            for key, value in _items_of(table, place):
                if key != "upload-style":
                    raise ValueError(f"{place} has unknown key {excerpt(key)}: use upload-style")
                try:
                    yield registry, parse_style(str(value))
                except ValueError as error:
                    raise ValueError(f"{place} {key}: {error}") from None


def _items_of(value: object, place: str) -> Iterable[tuple[str, object]]:
    if not isinstance(value, dict):
        raise ValueError(f"{place} is not a table")  # noqa: TRY004 - the user's error, not a caller's
    return value.items()
