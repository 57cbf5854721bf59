"""The flags that verbs share, and what each verb gets of them.

Knows flags. Must not know any verb, or what is done with a flag's value.

Strategy: `registry_flags` adds the flags of a connection to a verb and hands them over as one
value, a `Connection`. `layer_flags` does the same for how layers are made, as a `Making`,
`upload_flags` for how they go out, as a `Sending`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from functools import wraps
from typing import TYPE_CHECKING, Any, Final

import click

from brolga.cli.click_ext import MAY_BE_EMPTY
from brolga.cli.client_factory import JOBS, Connection, Way
from brolga.cli.params import ChosenPlatformType, SecondsType
from brolga.cli.upload_options import Sending, SizeType, StyleType

if TYPE_CHECKING:
    from collections.abc import Callable

    Function = Callable[..., Any]

__all__ = [
    "Making",
    "Sending",
    "jobs_flag",
    "json_flag",
    "layer_flags",
    "platform_flag",
    "recheck_flag",
    "registry_flags",
    "registry_flags_but_u",
    "spool_flag",
    "strict_flag",
    "upload_flags",
    "way_flags",
]

_RETRY_TIME_S: Final = 3600
_RETRIES: Final = 4


@dataclass(frozen=True, kw_only=True)
class Making:
    """What the flags say about how a layer is made, and whether that is shown."""

    compression: str
    media_type: str | None
    threads: int | None
    progress: str


def _refuse_password(_context: click.Context, _param: click.Parameter, given: str | None) -> None:
    if given is not None:
        raise click.UsageError(
            "there is no --password: anyone who lists the processes could read it; "
            "write it to stdin, with --password-stdin"
        )


_FILE: Final = click.Path(exists=True, dir_okay=False)
_WAY_FLAGS: Final = (
    click.option(
        "--insecure", is_flag=True, help="Allow plain http, and TLS without verification."
    ),
    click.option(
        "--ca-cert", type=_FILE, help="PEM file of authorities to trust besides the system's."
    ),
    click.option("--client-cert", type=_FILE, help="PEM certificate to present to the registry."),
    click.option(
        "--client-key", type=_FILE, help="The certificate's PEM key; default: in the same file."
    ),
    click.option(
        "--timeout",
        type=SecondsType(),
        default=60.0,
        show_default=True,
        metavar="SECONDS",
        help="How long to wait for a connection, for a block to be sent, and for an answer; an "
        "upload's answer has 15 times as long.",
    ),
    click.option(
        "--password",
        hidden=True,
        is_flag=False,
        flag_value="",
        type=MAY_BE_EMPTY,
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
            help="Log in as NAME; needs --password-stdin. Default: the credentials of the "
            "environment, docker or podman.",
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
        help="How many threads compress; default: one per core, at most 5.",
    ),
    click.option(
        "--progress",
        type=click.Choice(["auto", "plain", "none"]),
        default="auto",
        show_default=True,
        help="auto: a status line if stderr is a terminal. plain: a line every few seconds.",
    ),
)


def _spool(_context: click.Context, _param: click.Parameter, value: str | None) -> str | bool:
    """Return the directory of a spool, True for the system's, False for none."""
    if value and not os.path.isdir(value):  # noqa: PTH112 - Path's raises where a parent is closed
        raise click.UsageError(f"--spool: {value} is no directory")
    return False if value is None else value or True


def _spool_flag(text: str) -> Function:
    return click.option(
        "--spool",
        is_flag=False,
        flag_value="",
        default=None,
        type=MAY_BE_EMPTY,
        metavar="[=DIR]",
        callback=_spool,
        help=text,
    )


_UPLOAD_FLAGS: Final = (
    click.option(
        "--window",
        type=SizeType(),
        metavar="SIZE",
        default="32MiB",
        show_default=True,
        help="How much of an upload to keep in memory (512K, 32M, 1G), to send it again if the "
        "connection fails.",
    ),
    _spool_flag(
        "Keep all of it instead, in a file without a name in DIR; default: where temporary files "
        "are."
    ),
    click.option(
        "--upload-style",
        type=StyleType(),
        metavar="STYLE",
        help="auto, streamed, put, or chunked[:SIZE]; default: as the config file says, else auto.",
    ),
    click.option(
        "--retries",
        type=click.IntRange(0),
        metavar="N",
        default=_RETRIES,
        show_default=True,
        help="How many times in a row to retry a request or an upload.",
    ),
    click.option(
        "--retry-time",
        type=SecondsType(),
        metavar="SECONDS",
        default=_RETRY_TIME_S,
        show_default=True,
        help="Give an upload up when its failures have held it up for so long in all.",
    ),
)
jobs_flag = click.option(
    "-j",
    "--jobs",
    type=click.IntRange(1),
    metavar="N",
    default=JOBS,
    show_default=True,
    help="How many blobs to push in parallel.",
)
recheck_flag = click.option(
    "--recheck",
    is_flag=True,
    help="Ask for each blob, though the manifest is there: mends what the registry has lost.",
)
json_flag = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
platform_flag = click.option(
    "--platform",
    type=ChosenPlatformType(),
    metavar="OS/ARCH[/VARIANT]",
    help="The image to choose if there is an index of several.",
)
strict_flag = click.option(
    "--strict",
    is_flag=True,
    help="Fail if readers differ on what the layers show; without it they are named on stderr.",
)


def registry_flags(verb: Function) -> Function:
    """Give a verb the flags of a connection; it gets them as `connection`."""
    return _connected(verb, *_WAY_FLAGS, *_who_flags("-u", "--username"))


def registry_flags_but_u(verb: Function) -> Function:
    """Do as `registry_flags` for a verb whose own -u is something else: crane's `mutate`."""
    return _connected(verb, *_WAY_FLAGS, *_who_flags("--username"))


def way_flags(verb: Function) -> Function:
    """Do as `registry_flags` for a verb that asks by itself who calls."""
    return _connected(verb, *_WAY_FLAGS, kind=Way)


def _connected(verb: Function, *flags: Function, kind: type = Connection) -> Function:
    def connection(**params: Any) -> Connection:  # noqa: ANN401 - the parameters of any verb
        return _checked(Connection(**params))

    return _as_one(verb, "connection", kind, connection, flags)


def layer_flags(verb: Function) -> Function:
    """Give a verb the flags of how a layer is made; it gets them as `making`."""
    return _as_one(verb, "making", Making, Making, _LAYER_FLAGS)


spool_flag = _spool_flag(
    "Let what an archive cannot take in one pass wait in a file without a name in DIR; default: "
    "where temporary files are."
)


def upload_flags(verb: Function) -> Function:
    """Give a verb the flags of how uploads go out; it gets them as `sending`."""
    return _as_one(verb, "sending", Sending, Sending, _UPLOAD_FLAGS)


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
    if ":" in (connection.username or ""):
        raise click.UsageError("--username: a name cannot have a colon")  # RFC 7617, section 2
    if connection.client_key and not connection.client_cert:
        raise click.UsageError("--client-key needs --client-cert")
    return connection
