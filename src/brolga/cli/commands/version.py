"""`brolga version`."""

import click

from brolga._version import __version__
from brolga.cli.click_ext import Verb
from brolga.cli.output import result

__all__ = ["command"]


@click.command("version", cls=Verb)
def command() -> None:
    """Print the version."""
    result(__version__)
