"""How uploads are sent, as the flags say it: sizes and upload styles."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

import click

_UNITS: Final = {None: 0, "K": 10, "M": 20, "G": 30}  # powers of two
_SIZE: Final = re.compile(r"([0-9]{1,18})(?:([KMG])(?:iB)?)?")
_CHUNKED: Final = "chunked"
_STYLES: Final = ("auto", "streamed", "put", _CHUNKED)


@dataclass(frozen=True, kw_only=True)
class UploadFlags:
    """The flags of uploads.

    `window` is in bytes; `spool` is a directory, True for the system's, or False. `upload_style`
    is None if the flag was not given. `retry_time` is in seconds.
    """

    window: int
    spool: str | bool
    upload_style: UploadStyle | None
    retries: int
    retry_time: float


@dataclass(frozen=True)
class UploadStyle:
    """An upload style: the text that the user wrote, and the value that `Client` takes."""

    text: str
    value: str


def parse_size(text: str) -> int:
    """Return a size in bytes. Raises ValueError."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError(f"invalid size {text!r}: use bytes, or a number with suffix K, M or G")
    return int(match[1]) << _UNITS[match[2]]


def parse_style(text: str) -> UploadStyle:
    """Return an upload style: auto, streamed, put or chunked[:SIZE]. Raises ValueError."""
    if text in _STYLES:
        return UploadStyle(text, text)
    name, _, size = text.partition(":")
    if name != _CHUNKED:
        raise ValueError(f"{text!r} is not an upload style: {', '.join(_STYLES)}[:SIZE]")
    if not (chunk := parse_size(size)):
        raise ValueError(f"invalid upload style {text!r}: a chunk has at least one byte")
    return UploadStyle(text, f"{_CHUNKED}:{chunk}")


def format_size(size: int) -> str:
    """Return a size as text, in the largest unit that divides it."""
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
        """Return the size. Raises BadParameter."""
        try:
            return parse_size(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class StyleType(click.ParamType):  # type: ignore[type-arg] # not generic before click 8.4
    """An upload style."""

    name = "style"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> UploadStyle:
        """Return the style. Raises BadParameter."""
        try:
            return value if isinstance(value, UploadStyle) else parse_style(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)
