"""`brolga registry`: the embedded registry as a command.

Knows flags, streams and exit codes. Must not import the server before it is asked to run: it is
an extra, and `brolga version` must not wait for it.
"""

from __future__ import annotations

import errno
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from brolga.cli.output import result, say
from brolga.cli.verbs import Verbs
from brolga.errors import BrolgaError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["command"]

# What the extra brings, by the names that an import error has.
_EXTRA = frozenset({"starlette", "uvicorn", "anyio", "h11", "httptools", "uvloop"})


@click.group("registry", cls=Verbs)
def command() -> None:
    """Run a registry on this machine."""


@command.command()
@click.argument("directory", metavar="[DIR]", required=False, type=click.Path(path_type=Path))
@click.option("--port", default=5000, show_default=True, type=click.IntRange(0, 65535))
@click.option("--host", default="127.0.0.1", show_default=True, help="A loopback address.")
def serve(directory: Path | None, port: int, host: str) -> None:
    """Serve a registry from DIR, an OCI image layout for each repository.

    Prints HOST:PORT once it takes requests. Without DIR, what is pushed is kept in a temporary
    directory and deleted at the end. Port 0 is a free one.
    """
    run = _server()
    with _directory(directory) as (place, lifetime), _explained(place, host, port):

        def announce(address: str) -> None:
            say(f"registry: storing in {place}{lifetime}")
            result(address)

        run(place, host, port, on_ready=announce)


def _server() -> Callable[..., None]:
    try:
        from brolga.server.running import serve as run
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in _EXTRA:
            raise
        raise click.ClickException(
            f"the registry needs {error.name}: pip install 'brolga[server]'"
        ) from error
    return run


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
    try:
        yield
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise click.ClickException(
                f"port {port} on {host} is in use: choose another with --port, or 0 for a free one"
            ) from error
        raise click.ClickException(f"cannot serve {place} on {host}:{port}: {error}") from error
    except BrolgaError as error:
        raise click.UsageError(f"--host: {error}") from error
