"""How an error ends the process: one line, and the exit code that tells its kind.

Knows every error of brolga and of click. Must not know what was being done.
"""

from __future__ import annotations

import os
import sys
import traceback as tracebacks
from typing import Final

import click

from brolga.errors import (
    BrolgaError,
    Denied,
    DigestMismatch,
    InvalidDigest,
    InvalidReference,
    LayerError,
    NotFound,
    ProtocolViolation,
    RateLimited,
    RegistryError,
    SourceError,
    TransportFailed,
    Unauthorized,
    UploadInterrupted,
)

__all__ = ["report"]

# The error, the side that failed, the exit code, what to do next. The first match counts.
_KINDS: Final[tuple[tuple[type[Exception], str, int, str], ...]] = (
    (InvalidReference, "", 2, "a repository is written like registry.example/team/app"),
    (InvalidDigest, "", 2, ""),
    (SourceError, "source", 7, "nothing was pushed"),
    (LayerError, "local", 1, ""),
    (NotFound, "registry", 3, "check the repository's name, and that it exists"),
    (
        Unauthorized,
        "registry",
        4,
        "set BROLGA_USERNAME and BROLGA_PASSWORD to credentials that it knows",
    ),
    (Denied, "registry", 4, "use credentials that may push there"),
    (RateLimited, "registry", 5, "wait, then push again"),
    (RegistryError, "registry", 5, "try again; if it stays, tell whoever runs the registry"),
    (DigestMismatch, "registry", 6, "push again; if it stays, something on the way changes bytes"),
    (UploadInterrupted, "registry", 5, "push again"),
    (ProtocolViolation, "registry", 5, "check its address: is it an OCI registry?"),
    (TransportFailed, "registry", 5, ""),
    (BrolgaError, "", 1, ""),
    (OSError, "local", 1, ""),
)
_BY_STATUS: Final = {
    413: "it, or a proxy in front of it, takes no body of this size",
}
_BY_REASON: Final = {
    "certificate": "name its authority with --ca-cert, or use --insecure",
    "tls": "if it speaks plain http, use --insecure",
    "connect": "check the address, and that the registry is running",
    "timeout": "check the network, or raise --timeout",
    "cut": "try again",
}


def report(error: Exception, *, traceback: bool) -> int:
    """Print `error` as one line on stderr, with its traceback if asked; return the exit code."""
    if isinstance(error, click.exceptions.Exit):
        return error.exit_code
    if traceback:
        tracebacks.print_exception(error)
    if isinstance(error, click.ClickException):
        return _click_error(error)
    if isinstance(error, OSError):
        _drop_stdout()
    if isinstance(error, BrokenPipeError):
        return 1  # whoever read stdout has gone, and wants no more of us
    for kind, side, code, advice in _KINDS:
        if isinstance(error, kind):
            _say(side, str(error), _advice(error) or advice)
            return code
    _say("", f"unexpected {type(error).__name__}: {error}", "" if traceback else "-vv shows where")
    return 1


def _drop_stdout() -> None:
    """Forget what could not be written: Python would try again at its end, and fail aloud."""
    if sys.stdout is not None:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)


def _click_error(error: click.ClickException) -> int:
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        click.echo(error.format_message(), err=True)
        return error.exit_code
    context = error.ctx if isinstance(error, click.UsageError) else None
    path = context.command_path if context else "brolga"
    _say("", error.format_message().rstrip("."), f"see {path} --help" if context else "")
    return error.exit_code


def _advice(error: Exception) -> str:
    if isinstance(error, TransportFailed):
        return _BY_REASON[error.reason]
    if isinstance(error, RateLimited) and error.retry_after_s is not None:
        return f"push again in {error.retry_after_s:.0f} s"
    return _BY_STATUS.get(error.status, "") if isinstance(error, RegistryError) else ""


def _say(side: str, text: str, advice: str) -> None:
    start = f"brolga: {side}: " if side else "brolga: "
    # One line, and nothing in it that a terminal would obey.
    line = " ".join("".join(map(_printable, text)).split())
    click.echo(f"{start}{line}{'; ' if advice else ''}{advice}", err=True)


def _printable(letter: str) -> str:
    return letter if letter.isprintable() else " "
