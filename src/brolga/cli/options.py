"""The flags that verbs share, and the client that they make.

Knows flags, stdin as the place of a password, and where credentials are looked for. Must not know
any verb, or how a registry is spoken to.

Strategy: `registry_flags` adds the flags of a connection to a verb and hands them over as one
value, a `Connection`; `open_client` makes the client of it. `layer_flags` does the same for how
layers are made, as a `Making`, `upload_flags` for how they go out, as a `Sending`.
"""

from __future__ import annotations

import math
import os
import random
import sys
from dataclasses import dataclass, fields
from functools import wraps
from typing import TYPE_CHECKING, Any, Final, NoReturn

import click

from brolga.cli.output import warn
from brolga.cli.sending import Sending, SizeType, StyleType, chunks_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from brolga.auth import Keychain
    from brolga.client import Client
    from brolga.reference import Repository
    from brolga.wire import Credentials

    Function = Callable[..., Any]

__all__ = [
    "Connection",
    "Making",
    "PlatformType",
    "Sending",
    "WholePlatformType",
    "given_credentials",
    "jobs_flag",
    "json_flag",
    "layer_flags",
    "open_client",
    "password_from_stdin",
    "platform_flag",
    "recheck_flag",
    "registry_flags",
    "registry_flags_but_u",
    "upload_flags",
    "way_flags",
]

_JOBS: Final = 4
_RETRIES: Final = 4
_MAX_TIMEOUT_S: Final = 86400
_MAX_PASSWORD: Final = 65536  # bytes


@dataclass(frozen=True, kw_only=True)
class _Way:
    insecure: bool
    ca_cert: str | None
    client_cert: str | None
    client_key: str | None
    timeout: float


@dataclass(frozen=True, kw_only=True)
class Connection(_Way):
    """What the flags say about the way to a registry, and who asks."""

    username: str | None = None
    password_stdin: bool = False


@dataclass(frozen=True, kw_only=True)
class Making:
    """What the flags say about how a layer is made, and whether that is shown."""

    compression: str
    media_type: str | None
    threads: int | None
    progress: str


class _Seconds(click.ParamType):  # type: ignore[type-arg] # not generic before click 8.4
    """A time of up to a day, in seconds."""

    name = "seconds"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        try:
            seconds = float(str(value))
        except ValueError:
            seconds = math.nan
        if not 0 < seconds <= _MAX_TIMEOUT_S:  # NaN is neither
            self.fail(f"{value!r} is no time of up to a day, in seconds", param, ctx)
        return seconds


class PlatformType(click.ParamType):  # type: ignore[type-arg] # not generic before click 8.4
    """A platform as an image index names it (image-spec, image-index.md)."""

    name = "platform"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> object:
        """Return the platform; a usage error for what is none."""
        from brolga.descriptor import Platform

        if isinstance(value, Platform):
            return value
        try:
            return Platform.parse(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class WholePlatformType(PlatformType):
    """A platform that an image gets: not a part of one, to choose by."""

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> object:
        """Return the platform; a usage error for one without architecture."""
        platform = super().convert(value, param, ctx)
        if not getattr(platform, "architecture", ""):
            self.fail(f"{value!s} is no OS/ARCH, and an image has both", param, ctx)
        return platform


class _Choice(PlatformType):
    """A platform to choose, or `all`: how crane says that none is chosen."""

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> object:
        return None if value == "all" else super().convert(value, param, ctx)


def _refuse_password(_context: click.Context, _param: click.Parameter, given: str | None) -> None:
    if given is not None:
        raise click.UsageError(
            "there is no --password: whoever lists the processes would read it; "
            "write it to stdin, with --password-stdin"
        )


_FILE: Final = click.Path(exists=True, dir_okay=False)
_WAY_FLAGS: Final = (
    click.option(
        "--insecure", is_flag=True, help="Allow plain http, and TLS without verification."
    ),
    click.option("--ca-cert", type=_FILE, help="PEM authorities to trust beside the system's."),
    click.option("--client-cert", type=_FILE, help="PEM certificate to show to the registry."),
    click.option(
        "--client-key", type=_FILE, help="Its PEM key; default: in the certificate's file."
    ),
    click.option(
        "--timeout",
        type=_Seconds(),
        default=60.0,
        show_default=True,
        metavar="SECONDS",
        help="To connect, to send a block, to answer.",
    ),
    click.option(
        "--password",
        hidden=True,
        is_flag=False,
        flag_value="",
        expose_value=False,
        is_eager=True,
        callback=_refuse_password,
    ),
)


def _who_flags(*names: str) -> tuple[Function, ...]:
    """Return the flags that say who asks; `names` are those of --username."""
    return (
        click.option(
            *names,
            metavar="NAME",
            help="Needs --password-stdin; default: the credentials that the environment, docker or "
            "podman has.",
        ),
        click.option(
            "--password-stdin", is_flag=True, help="Read the password from the first line of stdin."
        ),
    )


_LAYER_FLAGS: Final = (
    click.option(
        "--compression",
        default="gzip",
        show_default=True,
        metavar="NAME[:LEVEL]",
        help="gzip (levels 1 to 9, default 1), zstd (1 to 22, default 3) or none.",
    ),
    click.option(
        "--media-type",
        metavar="TYPE",
        help="The layer's media type; default: OCI's for the compression.",
    ),
    click.option(
        "--threads",
        type=click.IntRange(1),
        metavar="N",
        help="Compressing threads; default: one a core, at most 5.",
    ),
    click.option(
        "--progress",
        type=click.Choice(["auto", "plain", "none"]),
        default="auto",
        show_default=True,
        help="auto: a status line where stderr is a terminal. plain: a line every few seconds.",
    ),
)

_UPLOAD_FLAGS: Final = (
    click.option(
        "--window",
        type=SizeType(),
        metavar="SIZE",
        default="32MiB",
        show_default=True,
        help="How much of an upload is kept in memory (512K, 32M, 1G), to go out again when the "
        "connection fails.",
    ),
    click.option(
        "--spool",
        is_flag=False,
        flag_value="",
        default=None,
        metavar="[=DIR]",
        help="Keep all of it instead, in a file without a name in DIR; default: where temporary "
        "files are.",
    ),
    click.option(
        "--upload-style",
        type=StyleType(),
        metavar="STYLE",
        help="auto, streamed, or chunked[:SIZE]; default: as the config file says, else auto.",
    ),
    click.option(
        "--retries",
        type=click.IntRange(0),
        metavar="N",
        default=_RETRIES,
        show_default=True,
        help="How often in a row a request or an upload may fail and be tried again.",
    ),
)
jobs_flag = click.option(
    "-j",
    "--jobs",
    type=click.IntRange(1),
    metavar="N",
    default=_JOBS,
    show_default=True,
    help="Blobs that are pushed at a time.",
)
recheck_flag = click.option(
    "--recheck",
    is_flag=True,
    help="Ask for each blob, though the manifest is there: mends what the registry has lost.",
)
json_flag = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
platform_flag = click.option(
    "--platform",
    type=_Choice(),
    metavar="OS/ARCH[/VARIANT]",
    help="The platform to choose where an index has several.",
)


def registry_flags(verb: Function) -> Function:
    """Give a verb the flags of a connection; it gets them as `connection`."""
    return _connected(verb, *_WAY_FLAGS, *_who_flags("-u", "--username"))


def registry_flags_but_u(verb: Function) -> Function:
    """Do as `registry_flags` for a verb whose own -u is something else: crane's `mutate`."""
    return _connected(verb, *_WAY_FLAGS, *_who_flags("--username"))


def way_flags(verb: Function) -> Function:
    """Do as `registry_flags` for a verb that asks by itself who calls."""
    return _connected(verb, *_WAY_FLAGS, kind=_Way)


def _connected(verb: Function, *flags: Function, kind: type = Connection) -> Function:
    def connection(**params: Any) -> Connection:  # noqa: ANN401 - the parameters of any verb
        return _checked(Connection(**params))

    return _as_one(verb, "connection", kind, connection, flags)


def layer_flags(verb: Function) -> Function:
    """Give a verb the flags of how a layer is made; it gets them as `making`."""
    return _as_one(verb, "making", Making, Making, _LAYER_FLAGS)


def upload_flags(verb: Function) -> Function:
    """Give a verb the flags of how uploads go out; it gets them as `sending`."""

    def sending(*, spool: str | None, **params: Any) -> Sending:  # noqa: ANN401 - the parameters of any verb
        if spool and not os.path.isdir(spool):  # noqa: PTH112 - Path's raises where a parent is closed
            raise click.UsageError(f"--spool: {spool} is no directory")
        return Sending(spool=False if spool is None else spool or True, **params)

    return _as_one(verb, "sending", Sending, sending, _UPLOAD_FLAGS)


def _as_one(
    verb: Function, name: str, kind: type, make: Function, flags: tuple[Function, ...]
) -> Function:
    """Give a verb `flags`; it gets what `make` makes of them, by the fields of `kind`."""

    @wraps(verb)
    def called(**params: Any) -> object:  # noqa: ANN401 - the parameters of any verb
        own = {field.name: params.pop(field.name) for field in fields(kind) if field.name in params}
        return verb(**{name: make(**own)}, **params)

    for flag in reversed(flags):
        called = flag(called)
    return called


def _checked(connection: Connection) -> Connection:
    """Raise UsageError for flags that need each other."""
    if connection.username is not None and not connection.password_stdin:
        raise click.UsageError("--username needs --password-stdin")
    if connection.password_stdin and connection.username is None:
        raise click.UsageError("--password-stdin needs --username")
    if connection.username == "" or ":" in (connection.username or ""):
        raise click.UsageError("--username: a name without colon is wanted")  # RFC 7617, section 2
    if connection.client_key and not connection.client_cert:
        raise click.UsageError("--client-key needs --client-cert")
    return connection


def open_client(
    connection: Connection,
    *,
    jobs: int = _JOBS,
    registry: str = "",
    sending: Sending | None = None,
) -> Client:
    """Make the client that the flags describe; close it at the end.

    It pushes `jobs` blobs at a time, as `sending` says. What a registry warns of is shown on
    stderr. A verb that speaks to several registries says which `registry` the credentials of
    --username, or of the environment, are for: others do not get them.

    Raises UsageError for a file that holds no certificate or key, for a missing password, for a
    proxy of the environment that is none, and for a config file that is none.
    """
    from brolga.client import Client

    files = {"ca_cert": connection.ca_cert} | {
        name: value
        for name in ("client_cert", "client_key")
        if (value := getattr(connection, name))
    }
    uploads = _uploads(sending) if sending else {}
    credentials = _credentials(connection, registry)
    try:
        return Client(
            credentials=credentials,
            insecure=connection.insecure,
            timeout_s=connection.timeout,
            jobs=jobs,
            on_warning=warn,
            **files,
            **uploads,
        )
    except OSError as error:
        given = [f"--{name.replace('_', '-')}" for name, path in files.items() if path]
        if not given:
            raise
        raise click.UsageError(f"{', '.join(given)}: {error}") from error
    except ValueError as error:  # the environment's proxies
        raise click.UsageError(str(error)) from error


def _uploads(sending: Sending) -> dict[str, Any]:
    """Return what the client is told of uploads."""
    from brolga.wire import Retry

    chunk, _ = chunks_of(sending, "")
    retry = Retry(attempts=sending.retries + 1, chance=random.random)
    return {"chunk": chunk, "window": sending.window, "spool": sending.spool, "retry": retry}


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
    from brolga.auth.sound import flaw
    from brolga.wire import Credentials

    given = Credentials(username, password, origin=origin)
    if what := flaw(given):
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
