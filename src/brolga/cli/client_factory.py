"""The client that the flags describe: transport, credentials and uploads."""

from __future__ import annotations

import os
import random
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NoReturn

import click

from brolga.cli.config_file import choose_upload_style
from brolga.cli.output import print_warning

if TYPE_CHECKING:
    from brolga.auth import Keychain
    from brolga.cli.upload_options import UploadFlags
    from brolga.client import Client
    from brolga.protocol import Credentials
    from brolga.spec.reference import Repository


DEFAULT_JOBS: Final = 4
_MAX_PASSWORD: Final = 65536  # bytes
_M_ARENA_MAX: Final = -8  # mallopt(3)
_FILES: Final = ("ca_cert", "client_cert", "client_key")


@dataclass(frozen=True, kw_only=True)
class ConnectionOptions:
    """The flags of the transport and of the credentials."""

    insecure: bool
    ca_cert: str | None
    client_cert: str | None
    client_key: str | None
    timeout: float
    username: str | None = None
    password_stdin: bool = False


def open_client(
    connection: ConnectionOptions,
    *,
    jobs: int = DEFAULT_JOBS,
    registry: str = "",
    upload_opts: UploadFlags | None = None,
    spool: str | bool = False,
) -> Client:
    """Return the client that the flags describe; close it at the end.

    It pushes `jobs` blobs in parallel, as `upload_opts` says, or with `spool` alone. A registry's
    warnings are printed on stderr. If `registry` is given, the credentials of --username and of the
    environment are only for that registry.

    Raises UsageError for an invalid certificate, key, password, proxy or config file.
    """
    from brolga.client import Client, TransportOptions, UploadOptions
    from brolga.protocol import Retry

    files = {name: getattr(connection, name) or None for name in _FILES}
    uploads, retry = UploadOptions(jobs=jobs, spool=spool), None
    if flags := upload_opts:
        use_one_malloc_arena()
        style, _ = choose_upload_style(flags.upload_style)
        uploads = UploadOptions(jobs=jobs, style=style, window=flags.window, spool=flags.spool)
        retry = Retry(
            attempts=flags.retries + 1, max_elapsed_s=flags.retry_time, jitter=random.random
        )
    credentials = _credentials(connection, registry)
    transport = TransportOptions(
        insecure=connection.insecure, timeout_s=connection.timeout, **files
    )
    try:
        return Client(
            credentials=credentials,
            transport=transport,
            uploads=uploads,
            retry=retry,
            on_warning=print_warning,
        )
    except OSError as error:
        given = [f"--{name.replace('_', '-')}" for name, path in files.items() if path]
        if not given:
            raise
        raise click.UsageError(f"{', '.join(given)}: {error}") from error
    except ValueError as error:  # a proxy of the environment
        raise click.UsageError(str(error)) from error


def use_one_malloc_arena() -> bool:
    """Let all threads that start from now on share one arena of glibc; return whether they do.

    By default each thread has its own, and memory freed in one is not used by another. Blocks move
    between threads, which costs 15 to 30 MiB in a push with zstd.
    """
    import ctypes

    try:
        return bool(ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1))
    except (AttributeError, OSError):  # another C library
        return False


@dataclass(frozen=True)
class _RegistryKeychain:
    """Credentials for one registry, and the keychain for the others."""

    registry: str
    credentials: Credentials
    others: Keychain

    def find(self, repository: Repository) -> Credentials | None:
        is_mine = repository.registry == self.registry
        return self.credentials if is_mine else self.others.find(repository)


def _credentials(connection: ConnectionOptions, registry: str) -> Keychain | Credentials:
    """Return the credentials of the flags, else the default keychain."""
    from brolga.auth import default_keychain

    if connection.username is None:
        return default_keychain(registry)
    given = make_credentials(connection.username, read_password(), "--username")
    if not registry:
        return given
    return _RegistryKeychain(registry, given, default_keychain(registry))


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
        _refuse_password("stdin is closed")
    if os.isatty(sys.stdin.fileno()):
        _refuse_password("stdin is a terminal, which would show it: pipe it in")
    line = sys.stdin.buffer.readline(_MAX_PASSWORD)
    password = line.removesuffix(b"\n").removesuffix(b"\r")
    if not password or len(line) == _MAX_PASSWORD:
        _refuse_password("the first line of stdin is " + ("too long" if password else "empty"))
    # The bytes are sent unchanged, whatever their encoding.
    return password.decode("utf-8", "surrogateescape")


def _refuse_password(why: str) -> NoReturn:
    raise click.UsageError(f"--password-stdin: {why}")
