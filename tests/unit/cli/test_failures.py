"""cli.failures: which error is which exit code and which line."""

from __future__ import annotations

import errno
import inspect

import click
import pytest

from brolga import errors
from brolga.cli import failures
from brolga.cli.failures import report
from brolga.errors import (
    BrolgaError,
    Denied,
    DigestMismatch,
    InvalidDigest,
    InvalidReference,
    LayerError,
    NotComputed,
    NotFound,
    ProtocolViolation,
    RateLimited,
    RegistryError,
    SourceError,
    StreamConsumed,
    TransportFailed,
    Unauthorized,
    UploadInterrupted,
)


def answered(kind: type[RegistryError], status: int) -> RegistryError:
    """Make an error of a registry's answer."""
    return kind("it said no", method="POST", url="https://r.example/v2/", status=status)


def limited(retry_after_s: float) -> RateLimited:
    """Make an error of a registry that says how long to wait."""
    error = RateLimited("slow down", method="POST", url="https://r.example/v2/", status=429)
    error.retry_after_s = retry_after_s
    return error


CREDENTIALS = "set BROLGA_USERNAME and BROLGA_PASSWORD to credentials that it knows"

# error, exit code, the line
ERRORS: list[tuple[Exception, int, str]] = [
    (
        InvalidReference("bad"),
        2,
        "brolga: bad; a repository is written like registry.example/team/app",
    ),
    (InvalidDigest("bad"), 2, "brolga: bad"),
    (SourceError("bad"), 7, "brolga: source: bad; nothing was pushed"),
    (LayerError("bad"), 1, "brolga: local: bad"),
    (NotComputed("bad"), 1, "brolga: local: bad"),
    (StreamConsumed("bad"), 1, "brolga: local: bad"),
    (
        answered(NotFound, 404),
        3,
        "brolga: registry: it said no; check the repository's name, and that it exists",
    ),
    (
        answered(Unauthorized, 401),
        4,
        f"brolga: registry: it said no; {CREDENTIALS}",
    ),
    (
        answered(Denied, 403),
        4,
        "brolga: registry: it said no; use credentials that may push there",
    ),
    (answered(RateLimited, 429), 5, "brolga: registry: it said no; wait, then push again"),
    (limited(30), 5, "brolga: registry: slow down; push again in 30 s"),
    (
        answered(RegistryError, 500),
        5,
        "brolga: registry: it said no; try again; if it stays, tell whoever runs the registry",
    ),
    (
        answered(RegistryError, 413),
        5,
        "brolga: registry: it said no; it, or a proxy in front of it, takes no body of this size",
    ),
    (
        ProtocolViolation("bad"),
        5,
        "brolga: registry: bad; check its address: is it an OCI registry?",
    ),
    (
        TransportFailed("bad", reason="certificate"),
        5,
        "brolga: registry: bad; name its authority with --ca-cert, or use --insecure",
    ),
    (
        TransportFailed("bad", reason="tls"),
        5,
        "brolga: registry: bad; if it speaks plain http, use --insecure",
    ),
    (
        TransportFailed("bad", reason="connect"),
        5,
        "brolga: registry: bad; check the address, and that the registry is running",
    ),
    (
        TransportFailed("bad", reason="timeout"),
        5,
        "brolga: registry: bad; check the network, or raise --timeout",
    ),
    (TransportFailed("bad", reason="cut"), 5, "brolga: registry: bad; try again"),
    (
        UploadInterrupted("bad", sent=2, acknowledged=1),
        5,
        "brolga: registry: bad; push again",
    ),
    (
        DigestMismatch("bad", expected="a", actual="b"),
        6,
        "brolga: registry: bad; push again; if it stays, something on the way changes bytes",
    ),
    (BrolgaError("bad"), 1, "brolga: bad"),
    (OSError(errno.EIO, "bad"), 1, "brolga: local: [Errno 5] bad"),
    (RuntimeError("bad"), 1, "brolga: unexpected RuntimeError: bad; -vv shows where"),
    (click.UsageError("bad."), 2, "brolga: bad"),
    (click.ClickException("bad"), 1, "brolga: bad"),
]


@pytest.mark.parametrize(("error", "code", "line"), ERRORS, ids=repr)
def test_each_error_is_an_exit_code_and_one_line(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
    code: int,
    line: str,
) -> None:
    """Which side failed, what happened, and what to do next; nothing on stdout."""
    monkeypatch.setattr(failures, "_drop_stdout", lambda: None)
    assert report(error, traceback=False) == code
    assert capsys.readouterr() == ("", line + "\n")


def test_the_table_has_every_error() -> None:
    """An error that is new in errors.py gets a line here."""
    tested = {type(error) for error, _, _ in ERRORS}
    assert {item for item in vars(errors).values() if inspect.isclass(item)} <= tested


def test_what_others_wrote_stays_on_one_line_and_out_of_the_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A source's message may hold anything, an escape sequence too."""
    report(SourceError("a\nb\r\n\tc \x1b[2Jd\udcff"), traceback=False)
    assert capsys.readouterr().err == "brolga: source: a b c [2Jd; nothing was pushed\n"


def test_an_exit_is_its_code(capsys: pytest.CaptureFixture[str]) -> None:
    """Click ends a --help so."""
    assert report(click.exceptions.Exit(3), traceback=True) == 3
    assert capsys.readouterr() == ("", "")


def test_an_unexpected_error_does_not_advise_what_was_done(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With the traceback shown, the line need not tell how to see it."""
    assert report(RuntimeError("bad"), traceback=True) == 1
    assert capsys.readouterr().err.endswith("brolga: unexpected RuntimeError: bad\n")


def test_a_process_without_stdout_has_none_to_drop(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Python has none where the descriptor was closed at the start."""
    monkeypatch.setattr("sys.stdout", None)
    assert report(OSError(errno.EIO, "bad"), traceback=False) == 1
    assert capsys.readouterr().err == "brolga: local: [Errno 5] bad\n"
