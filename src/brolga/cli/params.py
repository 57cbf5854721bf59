"""Values of options: sizes, times, styles, platforms, lists and pairs."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import click

from brolga.spec.value import Value

if TYPE_CHECKING:
    from brolga.spec.platform import Platform

_MAX_TIMEOUT_S: Final = 86400
_SIZE: Final = r"([0-9]{1,18})(?:([KMG])(?:iB)?)?"
_SIZE_BITS: Final = {None: 0, "K": 10, "M": 20, "G": 30}
_DURATION: Final = r"([0-9]{1,9})([smhd]?)"
_CHUNKED: Final = "chunked"
_STYLES: Final = ("auto", "streamed", "put", _CHUNKED)
_UNITS_S: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


class Parsed(click.ParamType):  # type: ignore[type-arg] # not generic before click 8.4
    """A type of options whose text a function parses; its ValueError is a usage error."""

    name = "text"

    def __init__(self, parse: Callable[[str], object]) -> None:
        self._parse = parse

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> object:
        """Return the value. Raises BadParameter."""
        if not isinstance(value, str):  # click converts default values too
            return value
        try:
            return self._parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def parse_size(text: str) -> int:
    """Return a size in bytes. Raises ValueError."""
    match = re.fullmatch(_SIZE, text)
    if match is None:
        raise ValueError(f"invalid size {text!r}: use bytes, or a number with suffix K, M or G")
    return int(match[1]) << _SIZE_BITS[match[2]]


def format_size(size: int) -> str:
    """Return a size as text, in the largest unit that divides it."""
    for unit in "GMK":
        count, rest = divmod(size, 1 << _SIZE_BITS[unit])
        if count and not rest:
            return f"{count} {unit}iB"
    return f"{size} bytes"


def parse_seconds(text: str) -> float:
    """Return a time of up to a day, in seconds. Raises ValueError."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= _MAX_TIMEOUT_S:  # false for NaN
        raise ValueError(f"{text!r} is not a time in seconds, of at most a day")
    return seconds


def parse_duration(text: str, minimum: int = 0) -> float:
    """Return the seconds of a time with a unit, such as 12h. Raises ValueError."""
    match = re.fullmatch(_DURATION, text)
    if match is None or int(match[1]) < minimum:
        raise ValueError(f"{text!r} is not a valid time: use a number with suffix s, m, h or d")
    return float(int(match[1]) * _UNITS_S[match[2]])


class UploadStyle(Value):
    """An upload style: the text that the user wrote, and the value that `Client` takes."""

    text: str
    value: str


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


def parse_image_platform(text: str) -> Platform:
    """Return the platform of an image, which needs an architecture. Raises ValueError."""
    from brolga.spec.platform import Platform

    platform = Platform.parse(text)
    if not platform.architecture:
        raise ValueError(f"{text} is not OS/ARCH, and an image has both")
    return platform


def parse_platform_choice(text: str) -> Platform | None:
    """Return a platform to choose, or None for `all`, as in crane. Raises ValueError."""
    from brolga.spec.platform import Platform

    return None if text == "all" else Platform.parse(text)


def parse_media_type(text: str) -> str:
    """Return a media type. Raises ValueError if it is not valid."""
    from brolga.spec.mediatypes import check_media_type

    check_media_type(text)
    return text


def split_items(
    context: click.Context, param: click.Parameter, values: tuple[str, ...]
) -> list[str] | None:
    """Return the items of comma-separated lists, `a,"b,c"`; None if the flag was not given."""
    import csv

    items: list[str] = []
    for text in values:
        try:
            items += next(csv.reader([text], strict=True), [])
        except csv.Error as error:
            raise click.BadParameter(
                f'{text!r} is not a list: write an item that has quotes or commas as "…"',
                context,
                param,
            ) from error
    return items if values else None


def split_names(
    context: click.Context, param: click.Parameter, values: tuple[str, ...]
) -> list[str]:
    """Return the items of comma-separated lists. Raises BadParameter for an empty item."""
    items = split_items(context, param, values) or []
    if "" in items:
        raise click.BadParameter(f"{','.join(values)!r} has an empty item", context, param)
    return items


def parse_platforms(
    context: click.Context, param: click.Parameter, values: tuple[str, ...]
) -> list[Platform]:
    """Return the platforms of comma-separated lists."""
    from brolga.spec.platform import Platform

    try:
        return [Platform.parse(text) for text in split_items(context, param, values) or ()]
    except ValueError as error:
        raise click.BadParameter(str(error), context, param) from error


def parse_pairs(
    context: click.Context, param: click.Parameter, values: tuple[str, ...]
) -> dict[str, str]:
    """Return KEY=VALUE pairs, one for each value; commas are part of the value."""
    pairs = {}
    for text in values:
        key, equals, value = text.partition("=")
        if not (key and equals):
            raise click.BadParameter(f"{text!r} is not KEY=VALUE", context, param)
        pairs[key] = value
    return pairs
