"""The connection that flags describe: the way to a registry, who asks, and the client for both.

Knows stdin as the place of a password, and where credentials are looked for. Must not know any
verb, how a flag is written, or how a registry is spoken to.
"""

from __future__ import annotations

import os
import random
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NoReturn

import click

from brolga.cli.malloc import share_one_heap
from brolga.cli.output import warn
from brolga.cli.upload_options import wish_of

if TYPE_CHECKING:
    from brolga.auth import Keychain
    from brolga.cli.upload_options import Sending
    from brolga.client import Client, UploadOptions
    from brolga.protocol import Credentials, Retry
    from brolga.spec.reference import Repository

__all__ = ["JOBS", "Connection", "Way", "given_credentials", "open_client", "password_from_stdin"]

JOBS: Final = 4
_MAX_PASSWORD: Final = 65536  # bytes
_FILES: Final = ("ca_cert", "client_cert", "client_key")


@dataclass(frozen=True, kw_only=True)
class Way:
    """What the flags say about the connection to a registry."""

    insecure: bool
    ca_cert: str | None
    client_cert: str | None
    client_key: str | None
    timeout: float


@dataclass(frozen=True, kw_only=True)
class Connection(Way):
    """What the flags say about the connection to a registry, and who asks."""

    username: str | None = None
    password_stdin: bool = False


def open_client(
    connection: Connection,
    *,
    jobs: int = JOBS,
    registry: str = "",
    sending: Sending | None = None,
    spool: str | bool = False,
) -> Client:
    """Make the client that the flags describe; close it at the end.

    It pushes `jobs` blobs at a time, as `sending` says, or with `spool` alone. What a registry
    warns of is shown on stderr. A verb that speaks to several registries says which `registry`
    the credentials of --username, or of the environment, are for: others do not get them.

    Raises UsageError for a file that holds no certificate or key, for a missing password, for a
    proxy of the environment that is none, and for a config file that is none.
    """
    from brolga.client import Client, TransportOptions, UploadOptions

    files = {name: getattr(connection, name) or None for name in _FILES}
    uploads, retry = UploadOptions(jobs=jobs, spool=spool), None
    if sending:
        share_one_heap()
        uploads, retry = _uploads(sending, jobs)
    credentials = _credentials(connection, registry)
    options = TransportOptions(insecure=connection.insecure, timeout_s=connection.timeout, **files)
    try:
        return Client(
            credentials=credentials,
            transport=options,
            uploads=uploads,
            retry=retry,
            on_warning=warn,
        )
    except OSError as error:
        given = [f"--{name.replace('_', '-')}" for name, path in files.items() if path]
        if not given:
            raise
        raise click.UsageError(f"{', '.join(given)}: {error}") from error
    except ValueError as error:  # the environment's proxies
        raise click.UsageError(str(error)) from error


def _uploads(sending: Sending, jobs: int) -> tuple[UploadOptions, Retry]:
    """Return the options that the flags and the config file say."""
    from brolga.client import UploadOptions
    from brolga.protocol import Retry

    style, _ = wish_of(sending, "")
    retry = Retry(
        attempts=sending.retries + 1, max_elapsed_s=sending.retry_time, jitter=random.random
    )
    return UploadOptions(jobs=jobs, style=style, window=sending.window, spool=sending.spool), retry


@dataclass(frozen=True)
class _For:
    """A keychain: credentials for one registry, and whom to ask for those of the others."""

    registry: str
    credentials: Credentials
    others: Keychain

    def find(self, repository: Repository) -> Credentials | None:
        mine = repository.registry == self.registry
        return self.credentials if mine else self.others.find(repository)


def _credentials(connection: Connection, registry: str) -> Keychain | Credentials:
    """Return the credentials of the flags, else who is asked for those of a repository."""
    from brolga.auth import default_keychain

    if connection.username is None:
        return default_keychain(registry)
    given = given_credentials(connection.username, password_from_stdin(), "--username")
    return _For(registry, given, default_keychain(registry)) if registry else given


def given_credentials(username: str, password: str, origin: str) -> Credentials:
    """Return what the user gave. Raises UsageError for what no registry could be told."""
    from brolga.auth.entries import describe_problem
    from brolga.protocol import Credentials

    given = Credentials(username, password, origin=origin)
    if what := describe_problem(given):
        raise click.UsageError(f"there is {what}")
    return given


def password_from_stdin() -> str:
    """Return the first line of stdin, without its end."""
    if sys.stdin is None or sys.stdin.closed:
        _no_password("stdin is closed")
    if os.isatty(sys.stdin.fileno()):
        _no_password("stdin is a terminal, which would show it: pipe it in")
    line = sys.stdin.buffer.readline(_MAX_PASSWORD)
    password = line.removesuffix(b"\n").removesuffix(b"\r")
    if not password or len(line) == _MAX_PASSWORD:
        _no_password("the first line of stdin is " + ("too long" if password else "empty"))
    # Its own bytes go out, whatever their encoding.
    return password.decode("utf-8", "surrogateescape")


def _no_password(why: str) -> NoReturn:
    raise click.UsageError(f"--password-stdin: {why}")
