"""How an error ends the process: one line on stderr, and an exit code."""

from __future__ import annotations

from traceback import format_exception
from typing import Final, NamedTuple

import click

from brolga import errors
from brolga.cli.output import OutputError, eprint, eprint_lines
from brolga.errors import one_line


class _Kind(NamedTuple):
    code: int
    side: str = ""
    hint: str = ""


# The first match counts. An error's own side and hint take precedence.
_KINDS: Final[dict[type[Exception], _Kind]] = {
    errors.InvalidReference: _Kind(2),
    errors.InvalidDigest: _Kind(2),
    errors.InvalidManifest: _Kind(6, "registry"),
    errors.InvalidLayout: _Kind(6, "local"),
    errors.PlatformNotFound: _Kind(3, "registry", "choose another with --platform"),
    errors.ImageNotFound: _Kind(3, "local"),
    errors.TagConflict: _Kind(1),
    errors.SourceError: _Kind(7, "source"),
    errors.CredentialsError: _Kind(4, "local"),
    # Only an image of an archive that `docker save` wrote has no digest yet.
    errors.NotComputed: _Kind(
        1,
        "local",
        "uncompressed layers have no digest yet: copy the image to oci:DIR, and name that",
    ),
    errors.SpoolRequired: _Kind(6, "source"),
    errors.LayerError: _Kind(1, "local"),
    errors.NotFound: _Kind(3, "registry", "check that the name is right and exists"),
    errors.Unauthorized: _Kind(
        4,
        "registry",
        "log in with brolga auth login, or give --username, or BROLGA_USERNAME and BROLGA_PASSWORD",
    ),
    errors.Denied: _Kind(4, "registry", "use credentials that are allowed to do this"),
    errors.RateLimited: _Kind(5, "registry", "wait, then try again"),
    errors.RegistryError: _Kind(5, "registry", "try again; if it persists, tell its administrator"),
    errors.DigestMismatch: _Kind(
        6, "registry", "try again; if it persists, something on the way changes bytes"
    ),
    errors.UploadInterrupted: _Kind(5, "registry", "push again, or allow more --retries"),
    errors.StreamNotReplayable: _Kind(5, "registry", "use --spool, or a larger --window"),
    errors.CorruptBlob: _Kind(6, "registry"),
    errors.RangeNotSupported: _Kind(5, "registry", "read the whole blob, which needs no ranges"),
    errors.ProtocolViolation: _Kind(5, "registry", "check the address"),
    errors.TransportError: _Kind(5, "registry"),
    errors.BrolgaError: _Kind(1),
    OutputError: _Kind(1, "local"),
    OSError: _Kind(1, "local"),
}
_HINT_BY_STATUS: Final = {
    405: "it does not allow this: ask its administrator",
    411: "a proxy in front of it takes no stream: use --upload-style chunked",
    413: "it, or a proxy in front of it, does not accept a body of this size",
}
_HINT_BY_REASON: Final = {
    "certificate": "trust its authority with --ca-cert, or use --insecure",
    # On loopback, plain http was tried before.
    "tls": "check that it speaks TLS; plain http beyond loopback needs --insecure",
    "connect": "check the address, and that the registry is running",
    "timeout": "check the network, or raise --timeout",
    "cut": "try again",
}


def report(error: Exception, *, traceback: bool) -> int:
    """Print `error` as one line on stderr, with its traceback if asked; return the exit code."""
    if isinstance(error, click.exceptions.Exit):
        return error.exit_code
    if traceback:
        eprint_lines("".join(format_exception(error)).rstrip())
    if isinstance(error, click.ClickException):
        return _report_click_error(error)
    if isinstance(error, BrokenPipeError):
        return 1  # the reader of stdout is gone
    for cls, kind in _KINDS.items():
        if isinstance(error, cls):
            hint = "; ".join(getattr(error, "__notes__", ())) or _hint(error, kind.hint)
            _print_error(getattr(error, "side", "") or kind.side, str(error), hint)
            return kind.code
    hint = "" if traceback else "-vv shows where"
    _print_error("", f"unexpected {type(error).__name__}: {error}", hint)
    return 1


def _report_click_error(error: click.ClickException) -> int:
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        eprint_lines(error.format_message())
        return error.exit_code
    context = error.ctx if isinstance(error, click.UsageError) else None
    hint = f"see {context.command_path} --help" if context else ""
    _print_error("", error.format_message().rstrip("."), hint)
    return error.exit_code


def _hint(error: Exception, default: str) -> str:
    """Return the hint for an error without one."""
    if isinstance(error, errors.TransportError):
        return _HINT_BY_REASON[error.reason]
    if isinstance(error, errors.RateLimited) and error.retry_after_s is not None:
        return f"try again in {error.retry_after_s:.0f} s"
    if isinstance(error, errors.RegistryError):
        return _HINT_BY_STATUS.get(error.status, default)
    return default


def _print_error(side: str, text: str, hint: str) -> None:
    line = one_line(f"{side}: {text}" if side else text)
    separator = " " if line.endswith("?") else "; "
    eprint(f"brolga: {line}{f'{separator}{hint}' if hint else ''}")
