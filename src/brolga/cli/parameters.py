"""Types of flags: times and platforms.

Knows how they are written. Must not know which flag has one.
"""

from __future__ import annotations

import math
from typing import Final

import click

__all__ = ["ChosenPlatformType", "PlatformType", "SecondsType", "WholePlatformType"]

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
        from brolga.descriptor import Platform

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
