"""cli.failures: which error is which exit code and which line."""

from __future__ import annotations

import errno
import inspect

import click
import pytest

from brolga import errors
from brolga.cli.errors import report
from brolga.cli.output import LostResult
from brolga.errors import (
    BrolgaError,
    CorruptBlob,
    CredentialsError,
    Denied,
    DigestMismatch,
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
    RateLimited,
    RegistryError,
    SourceError,
    SpoolError,
    SpoolRequired,
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
NO_PROXY = "check HTTPS_PROXY, HTTP_PROXY and NO_PROXY"
NO_CERT = "present one that it trusts with --client-cert"
NO_TLS = "check that it speaks TLS; plain http beyond loopback needs --insecure"

# error, exit code, the line
ERRORS: list[tuple[Exception, int, str]] = [
    (
        InvalidReference("bad"),
        2,
        "brolga: bad; a repository is written like registry.example/team/app",
    ),
    (InvalidReference("tag '-' is bad"), 2, "brolga: tag '-' is bad"),
    (InvalidReference("a blob is named by its digest"), 2, "brolga: a blob is named by its digest"),
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
        TransportError("the server wants a client certificate", reason="tls"),
        5,
        f"brolga: registry: the server wants a client certificate; {NO_CERT}",
    ),
    (
        TransportError("the proxy refused", reason="connect"),
        5,
        f"brolga: registry: the proxy refused; {NO_PROXY}",
    ),
    (
        TransportError("GET to r.example by the proxy p:1: cannot connect", reason="connect"),
        5,
        f"brolga: registry: GET to r.example by the proxy p:1: cannot connect; {NO_PROXY}",
    ),
    (
        TransportError("ALL_PROXY is not the URL of a proxy", reason="connect"),
        5,
        f"brolga: registry: ALL_PROXY is not the URL of a proxy; {NO_PROXY}",
    ),
    (
        TransportError("name the registry in NO_PROXY to call it directly", reason="connect"),
        5,
        "brolga: registry: name the registry in NO_PROXY to call it directly",
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
    (CorruptBlob("bad"), 6, "brolga: registry: bad"),
    (
        DigestMismatch("bad", expected="a", actual="b"),
        6,
        "brolga: registry: bad; try again; if it persists, something on the way changes bytes",
    ),
    (TagConflict("bad", expected="a", actual="b"), 1, "brolga: bad"),
    (BrolgaError("bad"), 1, "brolga: bad"),
    (LostResult("bad"), 1, "brolga: local: bad"),
    (
        ProtocolViolation("a redirect: name the registry by its address"),
        5,
        "brolga: registry: a redirect: name the registry by its address",
    ),
    (
        ProtocolViolation("the token server answered nonsense"),
        5,
        "brolga: registry: the token server answered nonsense; tell its administrator",
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
def test_each_error_is_an_exit_code_and_one_line(
    capsys: pytest.CaptureFixture[str],
    error: Exception,
    code: int,
    line: str,
) -> None:
    """Which side failed, what happened, and what to do next; nothing on stdout."""
    assert report(error, traceback=False) == code
    assert capsys.readouterr() == ("", line + "\n")


def test_who_raised_it_may_know_the_side(capsys: pytest.CaptureFixture[str]) -> None:
    """A tar that is cut short is the source's, another one the registry's."""
    error = CorruptBlob("bad")
    error.side = "source"
    assert report(error, traceback=False) == 6
    assert capsys.readouterr().err == "brolga: source: bad\n"


def test_the_table_has_every_error() -> None:
    """An error that is new in errors.py gets a line here."""
    tested = {type(error) for error, _, _ in ERRORS}
    assert {item for item in vars(errors).values() if inspect.isclass(item)} <= tested


def test_what_others_wrote_stays_on_one_line_and_out_of_the_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A source's message may hold anything, an escape sequence too."""
    report(SourceError("a\nb\r\n\tc \x1b[2Jd\udcff"), traceback=False)
    assert capsys.readouterr().err == "brolga: source: a b c [2Jd\n"


def test_a_verb_that_knows_better_gives_the_advice(capsys: pytest.CaptureFixture[str]) -> None:
    """In a note of the error (PEP 678), in place of the one that its kind has."""
    error = answered(NotFound, 404)
    error.add_note("do this")
    assert report(error, traceback=False) == 3
    assert capsys.readouterr().err == "brolga: registry: it said no; do this\n"


def test_what_a_registry_does_not_allow_is_not_tried_again(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """405: it has deleting switched off, or is read-only."""
    assert report(answered(RegistryError, 405), traceback=False) == 5
    line = "brolga: registry: it said no; it does not allow this: ask its administrator\n"
    assert capsys.readouterr().err == line


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


def test_a_token_server_that_is_not_found_is_no_wrong_name(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The advice is for the side that failed: the repository's name is not the matter."""
    text = "the token server answered GET https://auth.example/ with 404"
    error = NotFound(text, method="GET", url="https://auth.example/", status=404)
    assert report(error, traceback=False) == 3
    assert capsys.readouterr().err == f"brolga: registry: {text}; tell its administrator\n"


def test_a_reader_that_has_gone_is_told_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """`brolga … | head -0` wants no more of us."""
    assert report(BrokenPipeError(errno.EPIPE, "bad"), traceback=False) == 1
    assert capsys.readouterr() == ("", "")
