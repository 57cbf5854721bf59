"""Types of flags: times and platforms.

Knows how they are written. Must not know which flag has one.
"""

from __future__ import annotations

import csv
import math
from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from brolga.spec.platform import Platform

__all__ = [
    "ChosenPlatformType",
    "PlatformType",
    "SecondsType",
    "WholePlatformType",
    "items",
    "names",
    "pairs",
    "platforms",
]

_MAX_TIMEOUT_S: Final = 86400


class SecondsType(click.ParamType):  # type: ignore[type-arg] # not generic before click 8.4
    """A time of up to a day, in seconds."""

    name = "seconds"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the seconds; a usage error for what is not such a time."""
        try:
            seconds = float(str(value))
        except ValueError:
            seconds = math.nan
        if not 0 < seconds <= _MAX_TIMEOUT_S:  # NaN is neither
            self.fail(f"{value!r} is not a time in seconds, of at most a day", param, ctx)
        return seconds


class PlatformType(click.ParamType):  # type: ignore[type-arg] # not generic before click 8.4
    """A platform as an image index names it (image-spec, image-index.md)."""

    name = "platform"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> object:
        """Return the platform; a usage error for what is none."""
        from brolga.spec.platform import Platform

        if isinstance(value, Platform):
            return value
        try:
            return Platform.parse(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class WholePlatformType(PlatformType):
    """A platform that an image gets: not a part of one, to choose by."""

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> object:
        """Return the platform; a usage error for one without architecture."""
        platform = super().convert(value, param, ctx)
        if not getattr(platform, "architecture", ""):
            self.fail(f"{value!s} is not OS/ARCH, and an image has both", param, ctx)
        return platform


class ChosenPlatformType(PlatformType):
    """A platform to choose, or `all`: how crane says that none is chosen."""

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> object:
        """Return the platform, None for `all`."""
        return None if value == "all" else super().convert(value, param, ctx)


def items(
    context: click.Context, param: click.Parameter, given: tuple[str, ...]
) -> list[str] | None:
    """Return the items of lists with commas, `a,"b,c"`; None where the flag was not given."""
    return [item for text in given for item in _split(context, param, text)] if given else None


def names(context: click.Context, param: click.Parameter, given: tuple[str, ...]) -> list[str]:
    """Return the items of lists with commas, none of them empty."""
    found = items(context, param, given) or []
    if "" in found:
        raise click.BadParameter(f"{','.join(given)!r} has an empty item", context, param)
    return found


def pairs(context: click.Context, param: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    """Return pairs, one in each value, whatever it holds: `PATH=/a,/b`."""
    found = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not (key and equals):
            raise click.BadParameter(f"{text!r} is not KEY=VALUE", context, param)
        found[key] = value
    return found


def platforms(
    context: click.Context, param: click.Parameter, given: tuple[str, ...]
) -> list[Platform]:
    """Return the platforms of lists with commas."""
    from brolga.spec.platform import Platform

    try:
        return [Platform.parse(text) for text in items(context, param, given) or ()]
    except ValueError as error:
        raise click.BadParameter(str(error), context, param) from error


def _split(context: click.Context, param: click.Parameter, text: str) -> list[str]:
    try:
        lines = list(csv.reader([text], strict=True))
    except csv.Error as error:
        raise click.BadParameter(
            f'{text!r} is not a list: write an item that has quotes or commas as "…"',
            context,
            param,
        ) from error
    return lines[0] if lines else []
