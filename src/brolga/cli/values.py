"""Values of flags that are lists or pairs, read as crane reads them.

Knows commas, quotes and `KEY=VALUE`. Must not know any verb.

Strategy: click callbacks for flags that may come several times. Each takes the values as they were
given and returns them in one: a list, or a dict in which the last of two equal keys counts.
"""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from brolga.descriptor import Platform

__all__ = ["items", "pairs", "platforms", "variables"]


def items(
    context: click.Context, param: click.Parameter, given: tuple[str, ...]
) -> list[str] | None:
    """Return the items of lists with commas, `a,"b,c"`; None where the flag was not given."""
    return [item for text in given for item in _split(context, param, text)] if given else None


def pairs(context: click.Context, param: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    """Return pairs, several in one value where it has several `=`: `a=b,c=d`, but `a=b,c`."""
    texts = (
        text
        for value in given
        for text in ([value] if value.count("=") == 1 else _split(context, param, value))
    )
    return dict(_cut(context, param, texts))


def variables(
    context: click.Context, param: click.Parameter, given: tuple[str, ...]
) -> dict[str, str]:
    """Return pairs, one in each value, whatever it holds: `PATH=/a,/b`."""
    return dict(_cut(context, param, given))


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
            f'{text!r} is no list: write an item with quotes or line breaks as "…"', context, param
        ) from error
    return lines[0] if lines else []


def _cut(
    context: click.Context, param: click.Parameter, texts: Iterable[str]
) -> Iterator[tuple[str, str]]:
    for text in texts:
        key, equals, value = text.partition("=")
        if not (key and equals):
            raise click.BadParameter(f"{text!r} is not KEY=VALUE", context, param)
        yield key, value
