"""The command: verbs in click, results on stdout, all else on stderr.

Knows which verbs there are and how the process ends. Must not know how anything is done: each
verb is a module, loaded when it is called, and so is what it needs.
"""

from __future__ import annotations

import signal
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Final, NoReturn

import click

from brolga._version import __version__

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["command", "main"]

# A verb and its line in the help. The module of its name has its click command as `command`.
_VERBS: Final = {
    "layer": "Stream layers into a registry.",
    "registry": "Run a registry on this machine.",
    "version": "Print the version.",
}
_TRACEBACK: Final = 2  # -v so many times


class _Verbs(click.Group):
    """A group that loads a verb's module when it is called, and not to list the verbs."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return sorted(_VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        if cmd_name not in _VERBS:
            return None
        verb: click.Command = import_module(f"brolga.cli.{cmd_name}").command
        return verb

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        with formatter.section("Commands"):
            formatter.write_dl(sorted(_VERBS.items()))


@click.command(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "--version", message="%(version)s")
@click.option("-v", "--verbose", count=True, help="-vv: show an error's traceback.")
def command(verbose: int) -> None:
    """Stream anything into a container registry: one pass, constant memory, every core.

    Results go to stdout, everything else to stderr. Exit codes: 0 done, 1 other, 2 usage,
    3 not found, 4 not authorised, 5 registry or network, 6 integrity, 7 the source failed.
    """


def main() -> None:
    """Run the command; exit with the code that tells what happened."""
    _end_well_at(signal.SIGTERM, signal.SIGHUP)
    verbose = 0
    try:
        with command.make_context("brolga", sys.argv[1:]) as context:
            verbose = context.params["verbose"]
            command.invoke(context)
            if sys.stdout is not None:
                sys.stdout.flush()
    except Exception as error:  # noqa: BLE001 - the outermost frame
        from brolga.cli.failures import report

        sys.exit(report(error, traceback=verbose >= _TRACEBACK))
    except KeyboardInterrupt:
        click.echo("brolga: interrupted", err=True)
        sys.exit(128 + signal.SIGINT)
    except _Stopped as stopped:
        click.echo(f"brolga: stopped by {stopped}", err=True)
        raise


class _Stopped(SystemExit):
    """A signal asks for the end; its code is the one that a shell gives to such an end."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.code = 128 + number


def _end_well_at(*numbers: signal.Signals) -> None:
    """Make a signal end the process as an exception does: the upload session is cancelled."""

    def stop(number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001 - the signature
        raise _Stopped(number)

    for number in numbers:
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup's, say
            signal.signal(number, stop)
