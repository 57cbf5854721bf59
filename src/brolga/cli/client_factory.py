"""The client that the flags describe: transport, credentials and uploads."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Final

import click

from brolga.cli.output import print_warning
from brolga.spec.value import Value
from brolga.stores import DEFAULT_JOBS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager

    from brolga.auth import Keychain
    from brolga.cli.options import ConnectionOptions, UploadFlags
    from brolga.client import Client
    from brolga.protocol import Credentials
    from brolga.spec.progress import ProgressEvent
    from brolga.spec.reference import Repository
    from brolga.stores.location import ImageRef


_MAX_PASSWORD: Final = 65536  # bytes
# Of mallopt(3): M_ARENA_MAX, M_TRIM_THRESHOLD and M_MMAP_THRESHOLD, the last two in bytes.
_MALLOC_OPTIONS: Final = {-8: 1, -1: 8 << 20, -3: 32 << 20}
_FILES: Final = ("ca_cert", "client_cert", "client_key")


@contextmanager
def open_client(  # noqa: PLR0913 - the groups of flags
    connection: ConnectionOptions,
    *,
    jobs: int | None = None,
    target: ImageRef | Repository | None = None,
    upload_opts: UploadFlags | None = None,
    spool: str | bool = False,
    progress: str = "none",
) -> Iterator[Client]:
    """Open the client that the flags describe, and close it at the end.

    It moves `jobs` blobs in parallel, and pushes as `upload_opts` says, or with `spool` alone. A
    verb that moves large blobs gives one of the first two, and malloc is tuned for it. A registry's
    warnings are printed on stderr, and `progress` as its flag says. If `target` is given, the
    credentials of --username and of the environment are only for its registry.

    Raises UsageError for an invalid certificate, key, password, proxy or config file.
    """
    from brolga.client import TransportOptions, UploadOptions
    from brolga.client.client import jitter
    from brolga.protocol import Retry

    if upload_opts or jobs:
        tune_malloc()
    jobs = jobs or DEFAULT_JOBS
    files = {name: getattr(connection, name) or None for name in _FILES}
    uploads, retry = UploadOptions(jobs=jobs, spool=spool), None
    if upload_opts:
        from brolga.cli.config_file import choose_upload_style

        style, _ = choose_upload_style(upload_opts.upload_style)
        uploads = UploadOptions(
            jobs=jobs,
            style=style,
            window=upload_opts.window,
            spool=upload_opts.spool,
            state=upload_opts.state,
        )
        retry = Retry(
            attempts=upload_opts.retries + 1,
            max_elapsed_s=upload_opts.retry_time,
            jitter=jitter,
        )
    credentials = _credentials(connection, target)
    transport = TransportOptions(
        insecure=connection.insecure, timeout_s=connection.timeout, **files
    )
    with (
        _show_progress(progress) as emit,
        _make_client(
            files,
            credentials=credentials,
            transport=transport,
            uploads=uploads,
            retry=retry,
            on_warning=print_warning,
            progress=emit,
        ) as client,
    ):
        yield client


def _show_progress(
    how: str,
) -> AbstractContextManager[Callable[[ProgressEvent], object] | None]:
    """Show progress if it is wanted and can be seen; what does that is loaded only then."""
    has_terminal = sys.stderr is not None and sys.stderr.isatty()
    if how == "none" or (how == "auto" and not has_terminal):
        return nullcontext()
    from brolga.cli.progress import show_progress

    return show_progress(how)


def _make_client(files: Mapping[str, str | None], **options: Any) -> Client:  # noqa: ANN401 - those of `Client`
    """Return a client. Raises UsageError if one of the files or a proxy is not valid."""
    from brolga.client import Client

    try:
        return Client(**options)
    except OSError as error:
        flags = [f"--{name.replace('_', '-')}" for name, path in files.items() if path]
        if not flags:
            raise
        raise click.UsageError(f"{', '.join(flags)}: {error}") from error
    except ValueError as error:  # a proxy of the environment
        raise click.UsageError(str(error)) from error


def tune_malloc() -> bool:
    """Let new threads share one arena of glibc, which keeps freed blocks; return whether they do.

    By default each thread has an arena, and memory freed in one is not used by another. Blocks move
    between threads, which costs 15 to 30 MiB in a push with zstd, and up to 60 MiB in a read over
    several connections. Also, freed blocks go back to the
    kernel and are fetched again, which takes 3 % of the CPU time of a push without compression.
    """
    import ctypes

    try:
        mallopt = ctypes.CDLL(None).mallopt
        return all(mallopt(option, value) for option, value in _MALLOC_OPTIONS.items())
    except (AttributeError, OSError):  # another C library
        return False


class _RegistryKeychain(Value):
    """Credentials for one registry, and the keychain for the others."""

    registry: str
    credentials: Credentials
    others: Keychain

    def find(self, repository: Repository) -> Credentials | None:
        is_mine = repository.registry == self.registry
        return self.credentials if is_mine else self.others.find(repository)


def _credentials(
    connection: ConnectionOptions, target: ImageRef | Repository | None
) -> Keychain | Credentials:
    """Return the credentials of the flags, else the default keychain."""
    from brolga.auth import default_keychain
    from brolga.stores.location import registry_of

    registry = registry_of(target) if target else ""
    if connection.username is None:
        return default_keychain(registry)
    credentials = make_credentials(connection.username, read_password(), "--username")
    if not registry:
        return credentials
    return _RegistryKeychain(registry, credentials, default_keychain(registry))


def make_credentials(username: str, password: str, source: str) -> Credentials:
    """Return credentials of the user. Raises UsageError if no header can contain them."""
    from brolga.auth.entries import describe_problem
    from brolga.protocol import Credentials

    credentials = Credentials(username, password, source=source)
    if problem := describe_problem(credentials):
        raise click.UsageError(f"there is {problem}")
    return credentials


def read_password() -> str:
    """Return the first line of stdin, without its line ending. Raises UsageError."""
    if sys.stdin is None or sys.stdin.closed:
        raise click.UsageError("--password-stdin: stdin is closed")
    if os.isatty(sys.stdin.fileno()):
        raise click.UsageError(
            "--password-stdin: stdin is a terminal, which would show it: pipe it in"
        )
    line = sys.stdin.buffer.readline(_MAX_PASSWORD)
    password = line.removesuffix(b"\n").removesuffix(b"\r")
    if not password or len(line) == _MAX_PASSWORD:
        problem = "too long" if password else "empty"
        raise click.UsageError(f"--password-stdin: the first line of stdin is {problem}")
    # The bytes are sent unchanged, whatever their encoding.
    return password.decode("utf-8", "surrogateescape")
