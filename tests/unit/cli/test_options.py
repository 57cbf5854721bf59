"""cli.options, cli.client_factory: shared flags, and the client that they describe."""

from __future__ import annotations

import io
import os
import pty
from contextlib import nullcontext
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click
import pytest
from tests.command import stdin_of

from brolga import client as client_module
from brolga.auth import Chain
from brolga.cli import client_factory as connection_module
from brolga.cli import options
from brolga.cli.click_ext import Verb
from brolga.cli.client_factory import open_client
from brolga.cli.options import ConnectionOptions
from brolga.cli.output import print_warning
from brolga.client import TransportOptions, UploadOptions
from brolga.client.client import jitter
from brolga.protocol import Credentials, Retry
from brolga.spec.platform import Platform
from brolga.spec.reference import Repository
from brolga.stream import layer as layer_module

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

    from tests.command import Brolga

NOWHERE = "127.0.0.1:1/x"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Write a source."""
    path = tmp_path / "source"
    path.write_bytes(b"data")
    return path


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["-u", "me"], "--username needs --password-stdin"),
        (["--password-stdin"], "--password-stdin needs --username"),
        (["-u", "a:b", "--password-stdin"], "--username: a name cannot have a colon"),
        (["-u", "", "--password-stdin"], "Invalid value for '-u' / '--username'"),
        (["--timeout", "nan"], "Invalid value for '--timeout': 'nan' is not a time in seconds"),
        (["--timeout", "inf"], "Invalid value for '--timeout': 'inf' is not a time in seconds"),
        (["--timeout", "-1"], "Invalid value for '--timeout': '-1' is not a time in seconds"),
        (["--timeout", "86401"], "Invalid value for '--timeout': '86401' is not a time"),
        (["--timeout", "soon"], "Invalid value for '--timeout': 'soon' is not a time"),
        (["--window", "32MB"], "Invalid value for '--window': invalid size '32MB': use bytes"),
        (["--window", "-1"], "Invalid value for '--window': invalid size '-1'"),
        (["--spool=/no/where"], "--spool: /no/where is not a directory"),
        (["--spool=/dev/null"], "--spool: /dev/null is not a directory"),
        (["--upload-style", "slow"], "Invalid value for '--upload-style': 'slow' is not an upload"),
        (
            ["--upload-style", "chunked:0"],
            "Invalid value for '--upload-style': invalid upload style",
        ),
        (["--retries", "-1"], "Invalid value for '--retries': -1 is not in the range x>=0"),
    ],
)
def test_push_rejects_invalid_flags(
    brolga: Brolga, source: Path, flags: list[str], line: str
) -> None:
    """Exit code 2, before any request."""
    outcome = brolga("layer", "push", *flags, NOWHERE, str(source))
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith(f"brolga: {line}")
    assert outcome.err.endswith("see brolga layer push --help\n")


@pytest.mark.parametrize("flags", [["--password", "s3cret"], ["--password=s3cret"], ["--password"]])
def test_password_flag_is_rejected_without_showing_it(brolga: Brolga, flags: list[str]) -> None:
    """The error names --password-stdin, and does not contain the secret."""
    outcome = brolga("layer", "push", NOWHERE, *flags)
    assert outcome.code == 2
    assert outcome.err.startswith("brolga: there is no --password: anyone who lists the processes")
    assert "--password-stdin" in outcome.err
    assert "s3cret" not in outcome.err
    assert "--password " not in brolga("layer", "push", "--help").out


def test_client_key_requires_client_cert(brolga: Brolga, source: Path) -> None:
    """A key alone cannot be presented."""
    outcome = brolga("layer", "push", "--client-key", str(source), NOWHERE, str(source))
    assert (outcome.code, outcome.err) == (
        2,
        "brolga: --client-key needs --client-cert; see brolga layer push --help\n",
    )


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "the first line of stdin is empty"),
        (b"\r\nx\n", "the first line of stdin is empty"),
        (b"x" * 65536, "the first line of stdin is too long"),
    ],
)
def test_password_stdin_rejects_empty_or_long_line(
    brolga: Brolga, source: Path, data: bytes, why: str
) -> None:
    """An empty password would be sent as anonymous, or be refused for another reason."""
    arguments = ["layer", "push", "-u", "me", "--password-stdin", NOWHERE, str(source)]
    with stdin_of(data) as stdin:
        outcome = brolga(*arguments, stdin=stdin)
    assert outcome.code == 2
    assert outcome.err == f"brolga: --password-stdin: {why}; see brolga layer push --help\n"


def test_password_stdin_rejects_terminal(brolga: Brolga, source: Path) -> None:
    """The terminal would show it."""
    arguments = ["layer", "push", "-u", "me", "--password-stdin", NOWHERE, str(source)]
    master, slave = pty.openpty()
    with os.fdopen(slave) as stdin:
        outcome = brolga(*arguments, stdin=stdin)
    os.close(master)
    assert outcome.code == 2
    assert "--password-stdin: stdin is a terminal" in outcome.err


def test_password_stdin_rejects_closed_stdin(
    brolga: Brolga, monkeypatch: pytest.MonkeyPatch, source: Path
) -> None:
    """`sys.stdin` is None if it was closed before Python started, else a closed file."""
    arguments = ["layer", "push", "-u", "me", "--password-stdin", NOWHERE, str(source)]
    closed = io.TextIOWrapper(io.BytesIO())
    closed.close()
    assert "--password-stdin: stdin is closed" in brolga(*arguments, stdin=closed).err
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(click.UsageError, match="stdin is closed"):
        connection_module.read_password()


def test_open_client_passes_transport_flags(
    monkeypatch: pytest.MonkeyPatch, brolga: Brolga, source: Path
) -> None:
    """A client certificate is passed on if it is given."""
    calls: list[dict[str, Any]] = []

    def client(**named: Any) -> None:
        calls.append(named)
        raise OSError("bad file")

    monkeypatch.setattr(client_module, "Client", client)
    path = str(source)
    push = ["layer", "push", NOWHERE, path]
    plain = brolga(*push)
    full = brolga(*push, "--ca-cert", path, "--client-cert", path, "--client-key", path)
    assert isinstance(calls[0].pop("credentials"), Chain)
    assert isinstance(calls[1].pop("credentials"), Chain)
    assert calls[0] == {
        "transport": TransportOptions(),
        "uploads": UploadOptions(jobs=4, style={}, window=32 << 20, spool=False),
        "on_warning": print_warning,
        "retry": Retry(attempts=5, jitter=jitter),
        "progress": None,
    }
    transport = TransportOptions(ca_cert=path, client_cert=path, client_key=path)
    assert calls[1] == {**calls[0], "transport": transport}
    assert (plain.code, plain.err) == (1, "brolga: local: bad file\n")
    assert full.err == (
        "brolga: --ca-cert, --client-cert, --client-key: bad file; see brolga layer push --help\n"
    )


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--window", "1G"], {"window": 1 << 30}),
        (["--window=0"], {"window": 0}),
        (["--spool"], {"spool": True}),
        (["--spool="], {"spool": True}),
        (["--spool=."], {"spool": "."}),
        (["--upload-style", "auto"], {"style": "auto"}),
        (["--upload-style", "put"], {"style": "put"}),
        (["--upload-style", "streamed"], {"style": "streamed"}),
        (["--upload-style", "chunked"], {"style": "chunked"}),
        (["--upload-style=chunked:5MiB"], {"style": "chunked:5242880"}),
        (["--retries", "0"], {"retry": Retry(attempts=1, jitter=jitter)}),
        (["--retry-time=9"], {"retry": Retry(max_elapsed_s=9.0, jitter=jitter)}),
        (["--retries=9"], {"retry": Retry(attempts=10, jitter=jitter)}),
    ],
)
def test_open_client_passes_upload_flags(
    monkeypatch: pytest.MonkeyPatch,
    brolga: Brolga,
    source: Path,
    flags: list[str],
    named: dict[str, Any],
) -> None:
    """In `--spool REPO`, REPO is not the flag's value, in any position."""
    calls: list[dict[str, Any]] = []

    def client(**named: Any) -> None:
        calls.append(named)
        raise OSError("no further")

    monkeypatch.setattr(client_module, "Client", client)
    brolga("layer", "push", *flags, NOWHERE, str(source))
    brolga("layer", "push", NOWHERE, str(source), *flags)
    for call in calls:
        settings = {**asdict(call["uploads"]), "retry": call["retry"]}
        assert {name: settings[name] for name in named} == named
    assert len(calls) == 2


@pytest.mark.parametrize("verb", ["append", "attach", "copy", "mutate", "rebase"])
def test_help_of_pushing_verb_lists_upload_flags(brolga: Brolga, verb: str) -> None:
    """The flags of uploads are the same everywhere."""
    text = brolga(verb, "--help").out
    for flag in (
        "--window SIZE",
        "--spool [=DIR]",
        "--upload-style STYLE",
        "--retries N",
        "--retry-time SECONDS",
    ):
        assert f"  {flag} " in text


def test_open_client_turns_value_error_into_usage_error(
    monkeypatch: pytest.MonkeyPatch, brolga: Brolga, source: Path
) -> None:
    """For example a proxy of the environment that is not a URL."""

    def client(**_named: Any) -> None:
        raise ValueError("HTTPS_PROXY is not the URL of a proxy")

    monkeypatch.setattr(client_module, "Client", client)
    outcome = brolga("layer", "push", NOWHERE, str(source))
    assert (outcome.code, outcome.err) == (
        2,
        "brolga: HTTPS_PROXY is not the URL of a proxy; see brolga layer push --help\n",
    )


def test_connection_passes_one_value_to_verb(capsys: pytest.CaptureFixture[str]) -> None:
    """In the help, the verb's own flags come first."""

    @click.command(cls=Verb)
    @click.option("--own", is_flag=True)
    @options.connection
    def verb(*, own: bool, connection: ConnectionOptions) -> None:
        """Do it."""
        with open_client(connection) as client:
            click.echo(f"{own} {connection.timeout} {type(client).__name__}")

    verb.main(["--own", "--timeout", "5"], standalone_mode=False)
    assert capsys.readouterr().out == "True 5.0 Client\n"
    verb.main(["--help"], standalone_mode=False)
    text = capsys.readouterr().out
    assert "  Do it." in text
    assert text.index("--own") < text.index("--insecure") < text.index("--password-stdin")


def test_help_states_default_of_threads(brolga: Brolga) -> None:
    """The same as the library's default."""
    text = " ".join(brolga("layer", "push", "--help").out.split())
    assert (
        f"How many threads compress; default: one per core, at most {layer_module.MAX_THREADS}."
        in text
    )
    assert "PEM file of authorities to trust besides the system's." in text


def test_platform_parses_value(capsys: pytest.CaptureFixture[str]) -> None:
    """OS/ARCH[/VARIANT], as an image index has it (image-spec, image-index.md, platform)."""

    @click.command(cls=Verb)
    @options.platform
    def verb(*, platform: Platform | None) -> None:
        click.echo(repr(platform))

    verb.main(["--platform", "linux/arm64/v8"], standalone_mode=False)
    assert capsys.readouterr().out == f"{Platform('linux', 'arm64', 'v8')!r}\n"
    verb.main([], standalone_mode=False, default_map={"platform": Platform("linux", "amd64")})
    assert capsys.readouterr().out == f"{Platform('linux', 'amd64')!r}\n"
    verb.main([], standalone_mode=False)
    assert capsys.readouterr().out == "None\n"
    with pytest.raises(click.BadParameter, match="platform 'a b'"):
        verb.main(["--platform", "a b"], standalone_mode=False)


def test_platform_all_means_no_choice(capsys: pytest.CaptureFixture[str]) -> None:
    """Crane's word for "as it is": `--platform all`."""

    @click.command(cls=Verb)
    @options.platform
    def verb(*, platform: Platform | None) -> None:
        click.echo(repr(platform))

    verb.main(["--platform", "all"], standalone_mode=False)
    assert capsys.readouterr().out == "None\n"


def test_credentials_of_flags_are_only_for_named_registry(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The source registry of a copy does not get the password for the target."""
    monkeypatch.setenv("BROLGA_USERNAME", "someone")
    monkeypatch.setenv("BROLGA_PASSWORD", "else")
    connection = ConnectionOptions(
        insecure=False,
        ca_cert=None,
        client_cert=None,
        client_key=None,
        timeout=1.0,
        username="me",
        password_stdin=True,
    )
    with stdin_of(b"s3cret\n") as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        keychain = connection_module._credentials(connection, Repository("a.example", "x"))
    assert not isinstance(keychain, Credentials)
    assert keychain.find(Repository("a.example", "x")) == Credentials("me", "s3cret")
    assert keychain.find(Repository("b.example", "x")) is None
    monkeypatch.setenv("BROLGA_REGISTRY", "b.example")
    assert keychain.find(Repository("b.example", "x")) == Credentials("someone", "else")


def test_open_client_passes_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    """`--jobs`, by default 4."""
    jobs: list[int] = []

    def client(**named: Any) -> AbstractContextManager[None]:
        jobs.append(named["uploads"].jobs)
        return nullcontext()

    monkeypatch.setattr(client_module, "Client", client)
    connection = ConnectionOptions(
        insecure=False, ca_cert=None, client_cert=None, client_key=None, timeout=1.0
    )
    with open_client(connection), open_client(connection, jobs=7):
        pass
    assert jobs == [4, 7]
