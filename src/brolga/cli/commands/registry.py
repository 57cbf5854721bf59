"""`brolga registry`: the embedded registry as a command. It needs an extra, imported lazily."""

from __future__ import annotations

import errno
import tempfile
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from brolga.cli.click_ext import VerbGroup
from brolga.cli.output import eprint, print_result
from brolga.cli.params import Parsed, parse_duration, parse_size
from brolga.errors import BrolgaError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from starlette.middleware import Middleware


# The packages of the extra, as an import error names them.
_EXTRA = frozenset({"starlette", "uvicorn", "anyio", "bcrypt", "h11", "httptools"})

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


def _parse_max_upload(text: str) -> int:
    if size := parse_size(text):
        return size
    raise ValueError("nothing can be pushed")


@click.group("registry", cls=VerbGroup)
def command() -> None:
    """Run a registry on this machine."""


@command.command()
@click.argument("directory", metavar="[DIR]", required=False, type=click.Path(path_type=Path))
@click.option("--port", default=5000, show_default=True, type=click.IntRange(0, 65535))
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--read-only", is_flag=True, help="Refuse every request that changes anything.")
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
    help="A name of this machine that clients use, if neither a password nor TLS protects "
    "against pages of other sites; repeatable. Addresses, names without a dot, and names below "
    "localhost and internal need none.",
)
@click.option("--tls-cert", metavar="FILE", type=_FILE, help="Serve https with this certificate.")
@click.option("--tls-key", metavar="FILE", type=_FILE, help="Its key, if it is in another file.")
@click.option(
    "--max-upload",
    metavar="SIZE",
    type=Parsed(_parse_max_upload),
    help="Bytes of a blob at most: 10GiB.  [default: 256GiB]",
)
@click.option(
    "--max-chunk",
    metavar="SIZE",
    type=Parsed(_parse_max_upload),
    help="Bytes of one request of an upload at most, which clients are told; default: no limit.",
)
@click.option(
    "--upload-expiry",
    "upload_expiry_s",
    metavar="TIME",
    type=Parsed(partial(parse_duration, minimum=1)),
    help="Delete uploads that stood still for so long: 30m, 12h, 7d.  [default: 1d]",
)
@click.option("--durable", is_flag=True, help="Wait for the disk before anything is acknowledged.")
@click.option("--sparse", is_flag=True, help="Take images and indexes of which parts are missing.")
# The record of a `RegistryProcess` with faults.
@click.option("--faults", hidden=True, type=_FILE)
def serve(
    directory: Path | None, port: int, host: str, faults: Path | None, **values: object
) -> None:
    """Serve a registry from DIR, an OCI image layout for each repository.

    Prints HOST:PORT once it takes requests. Without DIR, images are kept in a temporary
    directory and deleted at the end. Port 0 is a free one. Without --htpasswd it listens
    only on loopback addresses, unless --allow-anonymous is given.
    """
    with _hint_at_extra():
        from brolga.registry.options import Options
        from brolga.registry.server import serve as run

        middleware: Sequence[Middleware] = ()
        if faults is not None:
            from brolga.testing.injector import Injector
            from brolga.testing.middleware import fault_middleware

            middleware = fault_middleware(Injector.from_record(faults))
        fields: dict[str, Any] = {
            name: value for name, value in values.items() if value is not None
        }
        try:
            options = Options(**fields)
        except ValueError as error:
            raise click.UsageError(f"--tls-key: {error}") from error
        with _open_directory(directory) as (place, note), _report_start_errors(place, host, port):

            def announce(address: str) -> None:
                eprint(f"registry: storing in {place}{note}")
                print_result(address)

            run(place, host, port, on_ready=announce, options=options, middleware=middleware)


@contextmanager
def _hint_at_extra() -> Iterator[None]:
    """Say how to install a missing package; some are imported when they are first needed."""
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in _EXTRA:
            raise
        message = f"the registry needs {package}: pip install 'brolga[server]'"
        raise click.ClickException(message) from error


@contextmanager
def _open_directory(directory: Path | None) -> Iterator[tuple[Path, str]]:
    """Yield the directory to serve, and a note if it is temporary."""
    if directory is not None:
        yield directory, ""
        return
    with tempfile.TemporaryDirectory(prefix="brolga-registry-") as temporary:
        yield Path(temporary), ", deleted at the end"


@contextmanager
def _report_start_errors(place: Path, host: str, port: int) -> Iterator[None]:
    """Turn errors of the start into one line, with the flags that they concern."""
    from brolga.registry.serving.htpasswd import InvalidHtpasswd
    from brolga.registry.serving.server import InvalidTls

    try:
        yield
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise click.ClickException(
                f"port {port} on {host} is in use: choose another with --port, or 0 for a free one"
            ) from error
        raise click.ClickException(f"cannot serve {place} on {host}:{port}: {error}") from error
    except InvalidHtpasswd as error:
        raise click.UsageError(f"--htpasswd: {error}") from error
    except InvalidTls as error:
        raise click.UsageError(f"--tls-cert, --tls-key: {error}") from error
    except BrolgaError as error:
        raise click.UsageError(f"--host: {error} (--htpasswd or --allow-anonymous)") from error
