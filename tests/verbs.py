"""The verbs of the command."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from brolga.cli.main import command

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["verbs"]


def verbs() -> Iterator[str]:
    """Give each verb, and each verb of a group: `copy`, `auth login`."""
    context = click.Context(command)
    for name in command.list_commands(context):
        verb = command.get_command(context, name)
        if isinstance(verb, click.Group):
            yield from (f"{name} {each}" for each in verb.list_commands(context))
        else:
            yield name
