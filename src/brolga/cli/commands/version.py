"""`brolga version`."""

import click

from brolga._version import __version__
from brolga.cli.click_ext import Verb
from brolga.cli.output import print_result


@click.command("version", cls=Verb)
def command() -> None:
    """Print the version."""
    print_result(__version__)
