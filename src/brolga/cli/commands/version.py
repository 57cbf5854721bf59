"""`brolga version`."""

from brolga._version import __version__
from brolga.cli.click_ext import verb
from brolga.cli.output import print_result


@verb("version")
def command() -> None:
    """Print the version."""
    print_result(__version__)
