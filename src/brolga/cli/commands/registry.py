"""`brolga registry`: the embedded registry as a command.

Knows flags, streams and exit codes. Must not import the server before it is asked to run: it is
an extra, and `brolga version` must not wait for it.
"""

from __future__ import annotations

import errno
import re
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from brolga.cli.click_ext import VerbGroup
from brolga.cli.output import eprint, print_result
from brolga.cli.upload_options import SizeType
from brolga.errors import BrolgaError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from brolga.server.options import Options

__all__ = ["command"]

# What the extra brings, by the names that an import error has.
_EXTRA = frozenset({"starlette", "uvicorn", "anyio", "bcrypt", "h11", "httptools"})

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)

_TIME = re.compile("([0-9]{1,9})([smhd]?)")
_UNITS_S = {"": 1, "s": 1, "m": 60, "h": 60 * 60, "d": 24 * 60 * 60}


class _RoomType(SizeType):
    """A size in bytes that something fits in."""

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """Return the size; a usage error for what is none, and for nothing."""
        return super().convert(value, param, ctx) or self.fail("nothing can be pushed", param, ctx)


class _Time(click.ParamType):  # type: ignore[type-arg] # not generic before click 8.4
    """A time, in seconds or another unit."""

    name = "time"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the seconds; a usage error for what is no time."""
        match = _TIME.fullmatch(str(value))
        if match is None or not int(match[1]):
            self.fail(f"{value!r} is not a valid time: a number, then s, m, h or d", param, ctx)
        return float(int(match[1]) * _UNITS_S[match[2]])


@click.group("registry", cls=VerbGroup)
def command() -> None:
    """Run a registry on this machine."""


@command.command()
@click.argument("directory", metavar="[DIR]", required=False, type=click.Path(path_type=Path))
@click.option("--port", default=5000, show_default=True, type=click.IntRange(0, 65535))
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--read-only", is_flag=True, help="Refuse what would change anything.")
@click.option(
    "--htpasswd", metavar="FILE", type=_FILE, help="Who may use it: `htpasswd -B` makes the file."
)
@click.option(
    "--allow-anonymous", is_flag=True, help="Serve others than this machine without --htpasswd."
)
@click.option(
    "--allow-host",
    metavar="NAME",
    multiple=True,
    help="A name of this machine that clients use, where neither a password nor TLS protects "
    "against pages of other sites; repeatable. Addresses, names without a dot, and names below "
    "localhost and internal need none.",
)
@click.option("--tls-cert", metavar="FILE", type=_FILE, help="Serve https with this certificate.")
@click.option("--tls-key", metavar="FILE", type=_FILE, help="Its key, where in another file.")
@click.option(
    "--max-upload",
    metavar="SIZE",
    type=_RoomType(),
    help="Bytes of a blob at most: 10GiB.  [default: 256GiB]",
)
@click.option(
    "--upload-expiry",
    "upload_expiry_s",
    metavar="TIME",
    type=_Time(),
    help="Delete uploads that stood still for so long: 30m, 12h, 7d.  [default: 1d]",
)
@click.option("--durable", is_flag=True, help="Wait for the disk before anything is acknowledged.")
@click.option("--sparse", is_flag=True, help="Take images and indexes of which parts are missing.")
# What `RegistryProcess` wrote down of its faults.
@click.option("--faults", hidden=True, type=_FILE)
def serve(directory: Path | None, port: int, host: str, **chosen: object) -> None:
    """Serve a registry from DIR, an OCI image layout for each repository.

    Prints HOST:PORT once it takes requests. Without DIR, what is pushed is kept in a temporary
    directory and deleted at the end. Port 0 is a free one. Without --htpasswd it listens
    only on loopback addresses, unless --allow-anonymous is given.
    """
    with _explained_extra():
        from brolga.server.running import serve as run

        options = _options(chosen)
        with _directory(directory) as (place, lifetime), _explained(place, host, port):

            def announce(address: str) -> None:
                eprint(f"registry: storing in {place}{lifetime}")
                print_result(address)

            run(place, host, port, on_ready=announce, options=options)


@contextmanager
def _explained_extra() -> Iterator[None]:
    """Say how to get what is missing; some of it is imported when it is first needed."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in _EXTRA:
            raise
        raise click.ClickException(
            f"the registry needs {error.name}: pip install 'brolga[server]'"
        ) from error


def _options(chosen: dict[str, object]) -> Options:
    """Return what was chosen; the rest is as `Options` has it. Raises UsageError."""
    from brolga.server.options import Options

    fields: dict[str, Any] = {name: value for name, value in chosen.items() if value is not None}
    if (record := fields.pop("faults", None)) is not None:
        from brolga.server.injection import Injector

        fields["injector"] = Injector.recorded(record)
    try:
        return Options(**fields)
    except ValueError as error:
        raise click.UsageError(f"--tls-key: {error}") from error


@contextmanager
def _directory(directory: Path | None) -> Iterator[tuple[Path, str]]:
    """Give the directory to serve, and what is to be said of how long it stays."""
    if directory is not None:
        yield directory, ""
        return
    with tempfile.TemporaryDirectory(prefix="brolga-registry-") as temporary:
        yield Path(temporary), ", deleted at the end"


@contextmanager
def _explained(place: Path, host: str, port: int) -> Iterator[None]:
    """Turn what can go wrong at the start into one line."""
    from brolga.server.htpasswd import InvalidHtpasswd
    from brolga.server.tls import InvalidTls

    try:
        yield
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise click.ClickException(
                f"port {port} on {host} is in use: choose another with --port, or 0 for a free one"
            ) from error
        raise click.ClickException(f"cannot serve {place} on {host}:{port}: {error}") from error
    except BrolgaError as error:
        if isinstance(error, InvalidHtpasswd):
            raise click.UsageError(f"--htpasswd: {error}") from error
        if isinstance(error, InvalidTls):
            raise click.UsageError(f"--tls-cert, --tls-key: {error}") from error
        raise click.UsageError(f"--host: {error} (--htpasswd or --allow-anonymous)") from error
