"""Options that verbs share, as decorators; a group of options reaches a verb as one value."""

from __future__ import annotations

import os
from collections.abc import Callable, Container
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, Final

import click

from brolga.cli.click_ext import MAY_BE_EMPTY
from brolga.cli.params import (
    Parsed,
    UploadStyle,
    parse_pairs,
    parse_platform_choice,
    parse_seconds,
    parse_size,
    parse_style,
)
from brolga.spec.value import Value, field_names
from brolga.stores import DEFAULT_JOBS

if TYPE_CHECKING:
    from brolga.spec.platform import Platform

Function = Callable[..., Any]


class ConnectionOptions(Value, kw_only=True):
    """The flags of the transport and of the credentials.

    Raises UsageError if flags contradict one another.
    """

    insecure: bool
    ca_cert: str | None
    client_cert: str | None
    client_key: str | None
    timeout: float
    username: str | None = None
    password_stdin: bool = False

    def __post_init__(self) -> None:
        """Check the combination."""
        if self.username is not None and not self.password_stdin:
            raise click.UsageError("--username needs --password-stdin")
        if self.password_stdin and self.username is None:
            raise click.UsageError("--password-stdin needs --username")
        if ":" in (self.username or ""):
            raise click.UsageError("--username: a name cannot have a colon")  # RFC 7617, section 2
        if self.client_key and not self.client_cert:
            raise click.UsageError("--client-key needs --client-cert")


class LayerOptions(Value, kw_only=True):
    """The flags of a new layer."""

    compression: str
    media_type: str | None = None
    threads: int | None = None
    digest_algorithm: str = "sha256"


class UploadFlags(Value, kw_only=True):
    """The flags of uploads.

    `window` is in bytes; `spool` is a directory, True for the system's, or False; `state` is a
    directory. `upload_style` is None if the flag was not given. `retry_time` is in seconds.
    """

    window: int
    spool: str | bool
    state: str | None
    upload_style: UploadStyle | None
    retries: int
    retry_time: float


class PlatformChoice(Value, kw_only=True):
    """The flags that choose among the images of an index. Raises UsageError for a contradiction."""

    platforms: tuple[Platform | None, ...]
    all_platforms: bool

    def __post_init__(self) -> None:
        """Check the combination."""
        if self.all_platforms and any(self.platforms):
            raise click.UsageError("--platform and --all-platforms contradict one another")

    @property
    def chosen(self) -> tuple[Platform, ...]:
        """The platforms to choose; all if there are none."""
        return () if None in self.platforms else tuple(filter(None, self.platforms))

    def only(self, reason: str) -> Platform | None:
        """Return the one platform, or None. Raises UsageError with the `reason` for several."""
        if len(self.chosen) > 1:
            raise click.UsageError(f"{reason}: give one --platform")
        return self.chosen[0] if self.chosen else None


def _group(name: str, cls: type[Value], *options: Function, own: Container[str] = ()) -> Function:
    """Return a decorator: the verb gets `options` as a `cls`, except its `own` parameters."""
    names = [name for name in field_names(cls) if name not in own]

    def add_options(verb: Function) -> Function:
        @wraps(verb)
        def grouped(**params: Any) -> object:  # noqa: ANN401 - the parameters of any verb
            value = cls(**{each: params.pop(each) for each in names})
            return verb(**{name: value}, **params)

        for option in reversed(options):
            grouped = option(grouped)
        return grouped

    return add_options


def _refuse_password(_context: click.Context, _param: click.Parameter, value: str | None) -> None:
    if value is not None:
        raise click.UsageError(
            "there is no --password: anyone who lists the processes could read it; "
            "write it to stdin, with --password-stdin"
        )


_FILE: Final = click.Path(exists=True, dir_okay=False)
_TRANSPORT_OPTIONS: Final = (
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
        type=Parsed(parse_seconds),
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


def _parse_spool(_context: click.Context, _param: click.Parameter, value: str | None) -> str | bool:
    """Return the directory of a spool, True for the system's, or False."""
    if value and not os.path.isdir(value):  # noqa: PTH112 - Path's raises if a parent is closed
        raise click.UsageError(f"--spool: {value} is not a directory")
    return False if value is None else value or True


_spool_option: Final = partial(
    click.option,
    "--spool",
    is_flag=False,
    flag_value="",
    default=None,
    type=MAY_BE_EMPTY,
    metavar="[=DIR]",
    callback=_parse_spool,
)
upload = _group(
    "upload_opts",
    UploadFlags,
    click.option(
        "--window",
        type=Parsed(parse_size),
        metavar="SIZE",
        default="32MiB",
        show_default=True,
        help="How much of an upload to keep in memory (512K, 32M, 1G), to send it again if the "
        "connection fails.",
    ),
    _spool_option(
        help="Keep all of an upload in an unnamed file in DIR instead; default: the directory for "
        "temporary files."
    ),
    click.option(
        "--state",
        type=click.Path(file_okay=False),
        metavar="DIR",
        help="Record uploads in DIR: the same command goes on with one that was killed. A SOURCE "
        "that is read only once needs --spool.",
    ),
    click.option(
        "--upload-style",
        type=Parsed(parse_style),
        metavar="STYLE",
        help="auto, streamed, put, or chunked[:SIZE]; default: as the config file says, else auto.",
    ),
    click.option(
        "--retries",
        type=click.IntRange(0),
        metavar="N",
        default=4,
        show_default=True,
        help="How many times in a row to retry a request or an upload.",
    ),
    click.option(
        "--retry-time",
        type=Parsed(parse_seconds),
        metavar="SECONDS",
        default=3600,
        show_default=True,
        help="Abort an upload after its failures have cost this much time in total.",
    ),
)
layer = _group(
    "layer_opts",
    LayerOptions,
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
        "--digest-algorithm",
        type=click.Choice(["sha256", "sha512"]),
        default="sha256",
        show_default=True,
        help="The algorithm of the layer's digest; not every registry takes sha512.",
    ),
)
progress = click.option(
    "--progress",
    type=click.Choice(["auto", "plain", "none"]),
    default="auto",
    show_default=True,
    help="auto: a line for each blob if stderr is a terminal. plain: lines for a log.",
)
spool = _spool_option(
    help="Keep data that does not fit into an archive in one pass in an unnamed file in DIR; "
    "default: the directory for temporary files."
)
spool_hidden = _spool_option(
    help="Keep files that hard links need, though a layer above hides them, in an unnamed file in "
    "DIR; default: the directory for temporary files."
)
annotation: Final = partial(
    click.option,
    "-a",
    "--annotation",
    "annotations",
    multiple=True,
    callback=parse_pairs,
    metavar="KEY=VALUE",
)
jobs = click.option(
    "-j",
    "--jobs",
    type=click.IntRange(1),
    metavar="N",
    default=DEFAULT_JOBS,
    show_default=True,
    help="How many blobs to move at a time, and over how many connections to read them.",
)
recheck = click.option(
    "--recheck",
    is_flag=True,
    help="Check each blob even if the manifest exists: repairs a repository that has lost some.",
)
output = click.option(
    "-o", "--output", metavar="FILE", default="-", help="Where to write it; default: stdout, -."
)
json_output = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
platform = click.option(
    "--platform",
    type=Parsed(parse_platform_choice),
    metavar="OS/ARCH[/VARIANT]",
    help="The image to choose if there is an index of several.",
)
platforms = _group(
    "choice",
    PlatformChoice,
    click.option(
        "--platform",
        "platforms",
        type=Parsed(parse_platform_choice),
        multiple=True,
        metavar="OS/ARCH[/VARIANT]",
        help="The image to choose if there is an index of several; repeatable: then the result is "
        "an index of those images, with a digest of its own.",
    ),
    click.option(
        "--all-platforms",
        is_flag=True,
        help="All of an index; the default, except for a docker archive.",
    ),
)
strict = click.option(
    "--strict",
    is_flag=True,
    help="Fail if readers differ on what the layers show; by default, print it on stderr.",
)
tag = click.option(
    "-t",
    "--tag",
    metavar="REF",
    help="The name of the result; default: REF, or no tag if that is a digest.",
)


def _connection(*short: str) -> Function:
    username = click.option(
        *short,
        "--username",
        metavar="NAME",
        help="Log in as NAME; needs --password-stdin. Default: the credentials of the "
        "environment, docker or podman.",
    )
    password = click.option(
        "--password-stdin", is_flag=True, help="Read the password from the first line of stdin."
    )
    return _group("connection", ConnectionOptions, *_TRANSPORT_OPTIONS, username, password)


connection = _connection("-u")
connection_without_u = _connection()  # for `mutate`, whose -u is another option, as in crane
# For a verb with its own credentials.
transport = _group(
    "connection", ConnectionOptions, *_TRANSPORT_OPTIONS, own={"username", "password_stdin"}
)
