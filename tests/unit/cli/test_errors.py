"""cli.errors: the exit code and the line of each error."""

from __future__ import annotations

import errno
import inspect

import click
import pytest

from brolga import errors
from brolga.cli.errors import report
from brolga.cli.output import OutputError
from brolga.errors import (
    BrolgaError,
    CorruptBlob,
    CredentialsError,
    Denied,
    DigestMismatch,
    ExtractionError,
    ImageNotFound,
    InvalidDigest,
    InvalidLayout,
    InvalidManifest,
    InvalidReference,
    LayerError,
    NotComputed,
    NotFound,
    PlatformNotFound,
    ProtocolViolation,
    RangeNotSupported,
    RateLimited,
    RegistryError,
    SourceError,
    SpoolError,
    SpoolRequired,
    StateError,
    StreamConsumed,
    StreamNotReplayable,
    TagConflict,
    TransportError,
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


CREDENTIALS = (
    "log in with brolga auth login, or give --username, or BROLGA_USERNAME and BROLGA_PASSWORD"
)

NO_DIGEST = "uncompressed layers have no digest yet: copy the image to oci:DIR, and name that"
NO_TLS = "check that it speaks TLS; plain http beyond loopback needs --insecure"

# error, exit code, the line
ERRORS: list[tuple[Exception, int, str]] = [
    (InvalidReference("bad"), 2, "brolga: bad"),
    (InvalidReference("bad", hint="do this"), 2, "brolga: bad; do this"),
    (InvalidDigest("bad"), 2, "brolga: bad"),
    (InvalidManifest("bad"), 6, "brolga: registry: bad"),
    (InvalidLayout("bad"), 6, "brolga: local: bad"),
    (PlatformNotFound("bad"), 3, "brolga: registry: bad; choose another with --platform"),
    (ImageNotFound("bad"), 3, "brolga: local: bad"),
    (SourceError("bad"), 7, "brolga: source: bad"),
    (CredentialsError("bad"), 4, "brolga: local: bad"),
    (LayerError("bad"), 1, "brolga: local: bad"),
    (SpoolRequired("bad"), 6, "brolga: source: bad"),
    (
        NotComputed("bad"),
        1,
        f"brolga: local: bad; {NO_DIGEST}",
    ),
    (StreamConsumed("bad"), 1, "brolga: local: bad"),
    (
        answered(NotFound, 404),
        3,
        "brolga: registry: it said no; check that the name is right and exists",
    ),
    (
        answered(Unauthorized, 401),
        4,
        f"brolga: registry: it said no; {CREDENTIALS}",
    ),
    (
        answered(Denied, 403),
        4,
        "brolga: registry: it said no; use credentials that are allowed to do this",
    ),
    (answered(RateLimited, 429), 5, "brolga: registry: it said no; wait, then try again"),
    (limited(30), 5, "brolga: registry: slow down; try again in 30 s"),
    (
        answered(RegistryError, 500),
        5,
        "brolga: registry: it said no; try again; if it persists, tell its administrator",
    ),
    (
        answered(RegistryError, 411),
        5,
        (
            "brolga: registry: it said no; a proxy in front of it takes no stream: use "
            "--upload-style chunked"
        ),
    ),
    (
        answered(RegistryError, 413),
        5,
        (
            "brolga: registry: it said no; it, or a proxy in front of it, does not accept a body "
            "of this size"
        ),
    ),
    (
        ProtocolViolation("bad"),
        5,
        "brolga: registry: bad; check the address",
    ),
    (
        RangeNotSupported("bad"),
        5,
        "brolga: registry: bad; read the whole blob, which needs no ranges",
    ),
    (
        TransportError("bad", reason="certificate"),
        5,
        "brolga: registry: bad; trust its authority with --ca-cert, or use --insecure",
    ),
    (
        TransportError("bad", reason="tls"),
        5,
        f"brolga: registry: bad; {NO_TLS}",
    ),
    (
        TransportError("bad", reason="connect"),
        5,
        "brolga: registry: bad; check the address, and that the registry is running",
    ),
    (
        TransportError("bad", reason="timeout"),
        5,
        "brolga: registry: bad; check the network, or raise --timeout",
    ),
    (
        TransportError("bad", reason="connect", hint="check the proxy"),
        5,
        "brolga: registry: bad; check the proxy",
    ),
    (TransportError("bad", reason="cut"), 5, "brolga: registry: bad; try again"),
    (
        UploadInterrupted("bad", sent=2, acknowledged=1),
        5,
        "brolga: registry: bad; push again, or allow more --retries",
    ),
    (
        StreamNotReplayable("bad", sent=3, acknowledged=1, kept=1),
        5,
        "brolga: registry: bad; use --spool, or a larger --window",
    ),
    (SpoolError("bad"), 1, "brolga: local: bad"),
    (ExtractionError("bad"), 1, "brolga: local: bad"),
    (StateError("bad"), 1, "brolga: local: bad"),
    (CorruptBlob("bad"), 6, "brolga: registry: bad"),
    (
        DigestMismatch("bad", expected="a", actual="b"),
        6,
        "brolga: registry: bad; try again; if it persists, something on the way changes bytes",
    ),
    (TagConflict("bad", expected="a", actual="b"), 1, "brolga: bad"),
    (BrolgaError("bad"), 1, "brolga: bad"),
    (OutputError("bad"), 1, "brolga: local: bad"),
    (
        ProtocolViolation("bad", hint="name the registry by its address"),
        5,
        "brolga: registry: bad; name the registry by its address",
    ),
    (OSError(errno.EIO, "bad"), 1, "brolga: local: [Errno 5] bad"),
    (RuntimeError("bad"), 1, "brolga: unexpected RuntimeError: bad; -vv shows where"),
    (click.UsageError("bad."), 2, "brolga: bad"),
    (
        click.UsageError(
            "bad. Did you mean 'good'?", click.Context(click.Command("x"), info_name="brolga")
        ),
        2,
        "brolga: bad. Did you mean 'good'? see brolga --help",
    ),
    (click.ClickException("bad"), 1, "brolga: bad"),
]


@pytest.mark.parametrize(("error", "code", "line"), ERRORS, ids=repr)
def test_report_prints_line_and_returns_exit_code(
    capsys: pytest.CaptureFixture[str],
    error: Exception,
    code: int,
    line: str,
) -> None:
    """Which side failed, what happened, and what to do next; nothing on stdout."""
    assert report(error, traceback=False) == code
    assert capsys.readouterr() == ("", line + "\n")


def test_report_prefers_side_of_error(capsys: pytest.CaptureFixture[str]) -> None:
    """A tar that is cut short comes from the source, another one from the registry."""
    assert report(CorruptBlob("bad", side="source"), traceback=False) == 6
    assert capsys.readouterr().err == "brolga: source: bad\n"


def test_errors_covers_every_error_class() -> None:
    """A new error class needs a row here."""
    tested = {type(error) for error, _, _ in ERRORS}
    defined = {
        item
        for item in vars(errors).values()
        if inspect.isclass(item) and issubclass(item, BrolgaError)
    }
    assert defined <= tested


def test_report_prints_untrusted_text_on_one_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A source's message may hold anything, an escape sequence too."""
    report(SourceError("a\nb\r\n\tc \x1b[2Jd\udcff"), traceback=False)
    assert capsys.readouterr().err == "brolga: source: a b c [2Jd\n"


def test_report_prefers_note_to_hint_of_class(capsys: pytest.CaptureFixture[str]) -> None:
    """A note (PEP 678) replaces the hint of the error's class."""
    error = answered(NotFound, 404)
    error.add_note("do this")
    assert report(error, traceback=False) == 3
    assert capsys.readouterr().err == "brolga: registry: it said no; do this\n"


def test_report_does_not_suggest_retry_after_405(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """405: it has deleting switched off, or is read-only."""
    assert report(answered(RegistryError, 405), traceback=False) == 5
    line = "brolga: registry: it said no; it does not allow this: ask its administrator\n"
    assert capsys.readouterr().err == line


def test_report_returns_code_of_click_exit(capsys: pytest.CaptureFixture[str]) -> None:
    """Click raises it after --help."""
    assert report(click.exceptions.Exit(3), traceback=True) == 3
    assert capsys.readouterr() == ("", "")


def test_report_of_unexpected_error_has_no_hint_with_traceback(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The traceback is shown already."""
    assert report(RuntimeError("bad"), traceback=True) == 1
    assert capsys.readouterr().err.endswith("brolga: unexpected RuntimeError: bad\n")


def test_report_prints_nothing_for_broken_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    """`brolga … | head -0` wants no more of us."""
    assert report(BrokenPipeError(errno.EPIPE, "bad"), traceback=False) == 1
    assert capsys.readouterr() == ("", "")
