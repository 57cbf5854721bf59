"""How an error ends the process: one line, and the exit code that tells its kind.

Knows every error of brolga and of click. Must not know what was being done.
"""

from __future__ import annotations

import traceback as tracebacks
from typing import Final

import click

from brolga import errors
from brolga.cli.output import LostResult, say, say_lines
from brolga.errors import one_line

__all__ = ["report"]

# The error, the side that failed, the exit code, what to do next. The first match counts.
_KINDS: Final[tuple[tuple[type[Exception], str, int, str], ...]] = (
    (errors.InvalidReference, "", 2, "a repository is written like registry.example/team/app"),
    (errors.InvalidDigest, "", 2, ""),
    (errors.InvalidManifest, "registry", 6, ""),  # a verb that reads one of the user's says so
    (errors.InvalidLayout, "local", 6, ""),
    (errors.PlatformNotFound, "registry", 3, "choose another with --platform"),
    (errors.ImageNotFound, "local", 3, ""),
    (errors.TagConflict, "", 1, ""),
    (errors.SourceError, "source", 7, ""),
    (errors.CredentialsError, "local", 4, ""),
    # No verb asks for a digest too early, but of an archive that `docker save` wrote.
    (
        errors.NotComputed,
        "local",
        1,
        "uncompressed layers have no digest yet: copy the image to oci:DIR, and name that",
    ),
    (errors.SpoolRequired, "source", 6, ""),
    (errors.LayerError, "local", 1, ""),
    (errors.NotFound, "registry", 3, "check that the name is right and exists"),
    (
        errors.Unauthorized,
        "registry",
        4,
        "log in with brolga auth login, or give --username, or BROLGA_USERNAME and BROLGA_PASSWORD",
    ),
    (errors.Denied, "registry", 4, "use credentials that are allowed to do this"),
    (errors.RateLimited, "registry", 5, "wait, then try again"),
    (errors.RegistryError, "registry", 5, "try again; if it persists, tell its administrator"),
    (
        errors.DigestMismatch,
        "registry",
        6,
        "try again; if it persists, something on the way changes bytes",
    ),
    (errors.UploadInterrupted, "registry", 5, "push again, or allow more --retries"),
    (errors.StreamNotReplayable, "registry", 5, "use --spool, or a larger --window"),
    (errors.CorruptBlob, "registry", 6, ""),
    (errors.ProtocolViolation, "registry", 5, "check the address"),
    (errors.TransportError, "registry", 5, ""),
    (errors.BrolgaError, "", 1, ""),
    (LostResult, "local", 1, ""),
    (OSError, "local", 1, ""),
)
# How a message of a wrong name begins that is not about the repository in it.
_NO_REPOSITORY: Final = ("tag ", "digest ", "registry ", "a blob ")
# What a message says, and the advice that suits it better than the one of its kind.
_BY_WORDS: Final = {
    "the token server answered": "tell its administrator",
    "name the registry by": "",
    "name the registry in NO_PROXY": "",
    "client certificate": "present one that it trusts with --client-cert",
    "the proxy refused": "check HTTPS_PROXY, HTTP_PROXY and NO_PROXY",
}
# Whose connection was not to be had: the proxy's.
_PROXY: Final = ("by the proxy ", "is not the URL of a proxy")
_BY_STATUS: Final = {
    405: "it does not allow this: ask its administrator",
    411: "a proxy in front of it takes no stream: use --upload-style chunked",
    413: "it, or a proxy in front of it, does not accept a body of this size",
}
_BY_REASON: Final = {
    "certificate": "trust its authority with --ca-cert, or use --insecure",
    # Loopback was asked in plain http before.
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
        say_lines("".join(tracebacks.format_exception(error)).rstrip())
    if isinstance(error, click.ClickException):
        return _click_error(error)
    if isinstance(error, BrokenPipeError):
        return 1  # whoever read stdout has gone, and wants no more of us
    for kind, side, code, advice in _KINDS:
        if isinstance(error, kind):
            _say(getattr(error, "side", "") or side, str(error), _advice(error, advice))
            return code
    _say("", f"unexpected {type(error).__name__}: {error}", "" if traceback else "-vv shows where")
    return 1


def _click_error(error: click.ClickException) -> int:
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        say_lines(error.format_message())
        return error.exit_code
    context = error.ctx if isinstance(error, click.UsageError) else None
    path = context.command_path if context else "brolga"
    _say("", error.format_message().rstrip("."), f"see {path} --help" if context else "")
    return error.exit_code


def _advice(error: Exception, usual: str) -> str:
    if notes := getattr(error, "__notes__", ()):
        return "; ".join(notes)  # by the verb, which knows better
    if isinstance(error, errors.InvalidReference) and str(error).startswith(_NO_REPOSITORY):
        return ""
    if isinstance(error, errors.TransportError):
        usual = _BY_REASON[error.reason]
        if error.reason == "connect" and any(words in str(error) for words in _PROXY):
            usual = _BY_WORDS["the proxy refused"]
    if isinstance(error, errors.NotFound | errors.ProtocolViolation | errors.TransportError):
        return next((advice for words, advice in _BY_WORDS.items() if words in str(error)), usual)
    if isinstance(error, errors.RateLimited) and error.retry_after_s is not None:
        return f"try again in {error.retry_after_s:.0f} s"
    return _BY_STATUS.get(error.status, usual) if isinstance(error, errors.RegistryError) else usual


def _say(side: str, text: str, advice: str) -> None:
    line = one_line(text)
    link = " " if line.endswith("?") else "; "
    say(f"brolga: {f'{side}: ' if side else ''}{line}{f'{link}{advice}' if advice else ''}")
