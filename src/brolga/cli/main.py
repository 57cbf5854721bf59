"""The command: each verb is a module in `commands`, imported when it is called."""

from __future__ import annotations

import atexit
import gc
import signal
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Final, NamedTuple

import click

from brolga._version import __version__
from brolga.cli.click_ext import VerbGroup, verbosity
from brolga.cli.output import eprint, flush_streams, print_result

if TYPE_CHECKING:
    from types import FrameType


class _Entry(NamedTuple):
    section: str
    line: str
    aliases: tuple[str, ...] = ()


# Each verb with its line in the help. The module of that name defines it as `command`.
_VERBS: Final[dict[str, _Entry]] = {
    "append": _Entry("Images", "Push an image with more layers, in one pass."),
    "copy": _Entry("Images", "Copy an image from SRC to DST, keeping its digest.", ("cp",)),
    "push": _Entry("Images", "Push an image from this machine: a layout or an archive."),
    "pull": _Entry("Images", "Write images to an archive or a layout."),
    "tag": _Entry("Images", "Give an image or index other tags."),
    "delete": _Entry("Images", "Delete an image or index, or a tag."),
    "mutate": _Entry("Images", "Change labels, environment, command and more of an image."),
    "rebase": _Entry("Images", "Put an image on a new base, without building it again."),
    "flatten": _Entry("Images", "Merge the layers of an image into one."),
    "index": _Entry("Images", "List, extend and filter indexes of several platforms."),
    "attach": _Entry("Images", "Attach files to an image, as an artifact that refers to it."),
    "validate": _Entry("Inspection", "Verify an image and everything in it."),
    "export": _Entry("Inspection", "Write the files of an image as a tar."),
    "extract": _Entry("Inspection", "Extract the files of an image into a directory."),
    "digest": _Entry("Inspection", "Print the digest of an image or index."),
    "manifest": _Entry("Inspection", "Print a manifest or index."),
    "config": _Entry("Inspection", "Print an image's config."),
    "blob": _Entry("Inspection", "Print a blob, or write it to a file."),
    "ls": _Entry("Inspection", "List the tags of a repository."),
    "catalog": _Entry("Inspection", "List the repositories of a registry."),
    "referrers": _Entry("Inspection", "List what refers to an image or index."),
    "explain": _Entry("Inspection", "Explain how brolga would push to a repository, and why."),
    "layer": _Entry("Layers", "Stream layers into a registry, and out of it."),
    "layout": _Entry("Layouts", "Maintain an OCI image layout."),
    "auth": _Entry("Registries", "Log in to registries, and show credentials and tokens."),
    "registry": _Entry("Registries", "Run a registry on this machine."),
    "version": _Entry("About brolga", "Print the version."),
}
# Names of docker, skopeo and registries.
_FOREIGN: Final = {
    "gc": "layout gc",
    "inspect": "manifest",
    "load": "push",
    "login": "auth login",
    "logout": "auth logout",
    "save": "pull",
    "serve": "registry serve",
    "tags": "ls",
}
_TRACEBACK: Final = 2  # the number of -v
_IMPORT_SYSTEM: Final = "<frozen importlib._bootstrap>"  # the file name of its code
_IMPORT_POLL_S: Final = 0.005


class _LazyVerbs(VerbGroup):
    """The verbs. A verb's module is imported when it is called, but not to list it."""

    foreign = _FOREIGN

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return sorted(_VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        for name, entry in _VERBS.items():
            if cmd_name in (name, *entry.aliases):
                verb: click.Command = import_module(f"brolga.cli.commands.{name}").command
                return verb
        return None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        names = {name: ", ".join((name, *entry.aliases)) for name, entry in _VERBS.items()}
        width = max(map(len, names.values()))
        for section in dict.fromkeys(entry.section for entry in _VERBS.values()):
            with formatter.section(section):
                formatter.write_dl(
                    [
                        (names[name].ljust(width), entry.line)
                        for name, entry in _VERBS.items()
                        if entry.section == section
                    ]
                )


def _print_version(context: click.Context, _param: click.Parameter, asked: bool) -> None:  # noqa: FBT001 - click's signature
    if asked:
        print_result(__version__)
        context.exit()


@click.command(cls=_LazyVerbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Print the version and exit.",
)
def command() -> None:
    """Stream anything into a container registry: one pass, constant memory, every core.

    Results go to stdout, everything else to stderr. Exit codes: 0 done, 1 other, 2 usage,
    3 not found, 4 not authorised, 5 registry or network, 6 integrity, 7 the source failed.
    """


def main() -> None:
    """Run the command and exit with its code."""
    # Python looks for garbage once more when it ends, among all that was ever loaded.
    atexit.register(gc.disable)
    _raise_on(signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # if ignored, exit statuses are lost
    context: click.Context | None = None
    try:
        with command.make_context("brolga", sys.argv[1:]) as context:
            command.invoke(context)
    except Exception as error:  # noqa: BLE001 - the outermost frame
        from brolga.cli.errors import report

        sys.exit(report(error, traceback=context is not None and verbosity(context) >= _TRACEBACK))
    except KeyboardInterrupt as interrupt:
        eprint(f"brolga: interrupted{_notes(interrupt)}")
        sys.exit(128 + signal.SIGINT)
    except _Stopped as stopped:
        eprint(f"brolga: stopped by {stopped}{_notes(stopped)}")
        raise
    finally:
        flush_streams()


def _notes(error: BaseException) -> str:
    """Return what follows an error on its line: what was kept, for example."""
    return "".join(f"; {note}" for note in getattr(error, "__notes__", ()))


class _Stopped(SystemExit):
    """A signal ends the process; the code is the one that shells use for it."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.code = 128 + number


def _raise_on(*numbers: signal.Signals) -> None:
    """Make signals raise an exception, so that the upload session is cancelled."""
    for number in numbers:
        if signal.getsignal(number) is not signal.SIG_IGN:  # by nohup, for example
            signal.signal(number, _raise_for)


def _raise_for(number: int, frame: FrameType | None) -> None:
    """Raise the exception of a signal, as soon as no module is being imported.

    An import has callbacks of weak references, in which exceptions are lost, and a class that is
    being made wraps them. Modules are imported in the middle of an upload as well.
    """
    if _is_importing(frame):
        signal.signal(signal.SIGALRM, lambda _, frame: _raise_for(number, frame))
        signal.setitimer(signal.ITIMER_REAL, _IMPORT_POLL_S)
    elif number == signal.SIGINT:
        raise KeyboardInterrupt
    else:
        raise _Stopped(number)


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None and frame.f_code.co_filename != _IMPORT_SYSTEM:
        frame = frame.f_back
    return frame is not None
