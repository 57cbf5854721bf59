"""`brolga version`."""

import click

from brolga._version import __version__

__all__ = ["command"]


@click.command("version")
def command() -> None:
    """Print the version."""
    click.echo(__version__)
