"""Values of flags that are lists, as crane reads them, or pairs.

Knows commas, quotes and `KEY=VALUE`. Must not know any verb.

Strategy: click callbacks for flags that may come several times. Each takes the values as they were
given and returns them in one: a list, or a dict in which the last of two equal keys counts.
"""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from brolga.descriptor import Platform

__all__ = ["items", "names", "pairs", "platforms"]


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
    from brolga.descriptor import Platform

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
