"""How the bytes of an upload go out, as flags and the config file say it.

Knows sizes, upload styles and how both are written. Must not know registries, or any verb.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Sending", "SizeType", "StyleType", "parse_style", "shown_size", "wish_of"]

_UNITS: Final = {None: 0, "K": 10, "M": 20, "G": 30}  # powers of two
_SIZE: Final = re.compile(r"([0-9]{1,18})(?:([KMG])(?:iB)?)?")
_CHUNKED: Final = "chunked"
_STYLES: Final = ("auto", "streamed", "put", _CHUNKED)


@dataclass(frozen=True, kw_only=True)
class Sending:
    """What the flags say about how uploads go out, and what is kept meanwhile.

    `window` in bytes; `spool` is a directory, True for the system's, False for none. `upload_style`
    is None where the flag was not given. `retry_time` is in seconds.
    """

    window: int
    spool: str | bool
    upload_style: Style | None
    retries: int
    retry_time: float


@dataclass(frozen=True)
class Style:
    """An upload style, as it was written and as `Client` takes it."""

    text: str
    wish: str


def wish_of(sending: Sending, registry: str) -> tuple[str | Mapping[str, str], str]:
    """Return the `upload_style` of a `Client`, and who said so of `registry`, "" for nobody.

    The flag wins over the config file. Raises UsageError for a config file that is none.
    """
    if sending.upload_style is not None:
        return sending.upload_style.wish, f"--upload-style {sending.upload_style.text}"
    from brolga.cli.config_file import upload_styles

    path, styles = upload_styles()
    wishes = {name: style.wish for name, style in styles.items()}
    mine = styles.get(registry)
    return wishes, f'upload-style = "{mine.text}" in {path}' if mine else ""


def parse_size(text: str) -> int:
    """Return a size in bytes. Raises ValueError."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no size: bytes, or a number with K, M or G behind it")
    return int(match[1]) << _UNITS[match[2]]


def parse_style(text: str) -> Style:
    """Return an upload style: auto, streamed, put or chunked[:SIZE]. Raises ValueError."""
    if text in _STYLES:
        return Style(text, text)
    name, _, size = text.partition(":")
    if name != _CHUNKED:
        raise ValueError(f"{text!r} is not an upload style: {', '.join(_STYLES)}[:SIZE]")
    if not (chunk := parse_size(size)):
        raise ValueError(f"{text!r} has chunks of no bytes")
    return Style(text, f"{_CHUNKED}:{chunk}")


def shown_size(size: int) -> str:
    """Return a size as it is written here."""
    for unit in "GMK":
        count, rest = divmod(size, 1 << _UNITS[unit])
        if count and not rest:
            return f"{count} {unit}iB"
    return f"{size} bytes"


class SizeType(click.ParamType):  # type: ignore[type-arg] # not generic before click 8.4
    """A size in bytes."""

    name = "size"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """Return the size; a usage error for what is none."""
        try:
            return parse_size(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class StyleType(click.ParamType):  # type: ignore[type-arg] # not generic before click 8.4
    """An upload style."""

    name = "style"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> Style:
        """Return the style; a usage error for what is none."""
        try:
            return value if isinstance(value, Style) else parse_style(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)
