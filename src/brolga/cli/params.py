"""Parameter types and callbacks of click: seconds, platforms, lists and pairs."""

import csv
import math
from typing import Final

import click

from brolga.spec.platform import Platform

_MAX_TIMEOUT_S: Final = 86400


class SecondsType(click.ParamType):  # type: ignore[type-arg] # not generic before click 8.4
    """A time of up to a day, in seconds."""

    name = "seconds"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the seconds. Raises BadParameter."""
        try:
            seconds = float(str(value))
        except ValueError:
            seconds = math.nan
        if not 0 < seconds <= _MAX_TIMEOUT_S:  # false for NaN
            self.fail(f"{value!r} is not a time in seconds, of at most a day", param, ctx)
        return seconds


class PlatformType(click.ParamType):  # type: ignore[type-arg] # not generic before click 8.4
    """A platform as an image index has it (image-spec, image-index.md)."""

    name = "platform"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> object:
        """Return the platform. Raises BadParameter."""
        if isinstance(value, Platform):
            return value
        try:
            return Platform.parse(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class ImagePlatformType(PlatformType):
    """The platform of an image, which needs an architecture."""

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> object:
        """Return the platform. Raises BadParameter."""
        platform = super().convert(value, param, ctx)
        if not getattr(platform, "architecture", ""):
            self.fail(f"{value!s} is not OS/ARCH, and an image has both", param, ctx)
        return platform


class PlatformChoiceType(PlatformType):
    """A platform to choose, or `all` for no choice, as in crane."""

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> object:
        """Return the platform, or None for `all`. Raises BadParameter."""
        return None if value == "all" else super().convert(value, param, ctx)


def split_items(
    context: click.Context, param: click.Parameter, values: tuple[str, ...]
) -> list[str] | None:
    """Return the items of comma-separated lists, `a,"b,c"`; None if the flag was not given."""
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


def parse_platforms(
    context: click.Context, param: click.Parameter, values: tuple[str, ...]
) -> list[Platform]:
    """Return the platforms of comma-separated lists."""
    try:
        return [Platform.parse(text) for text in split_items(context, param, values) or ()]
    except ValueError as error:
        raise click.BadParameter(str(error), context, param) from error
