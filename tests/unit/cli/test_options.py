"""cli.options, cli.connection: flags that verbs share, and the client that they make."""

from __future__ import annotations

import io
import json
import os
import pty
import random
from base64 import b64encode
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import pytest
from tests.raw_server import Peer, serve_script

from brolga import client as client_module
from brolga.auth import Chain
from brolga.cli import client_factory as connection_module
from brolga.cli.click_ext import Verb
from brolga.cli.client_factory import Connection, open_client
from brolga.cli.options import platform_flag, registry_flags
from brolga.cli.output import warn
from brolga.client import TransportOptions, UploadOptions
from brolga.protocol import Credentials, Retry
from brolga.spec.platform import Platform
from brolga.spec.reference import Repository
from brolga.stream import layer as layer_module

if TYPE_CHECKING:
    from tests.unit.cli.conftest import Brolga

NOWHERE = "127.0.0.1:1/x"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Write a source."""
    path = tmp_path / "source"
    path.write_bytes(b"data")
    return path


def stdin_of(data: bytes) -> io.TextIOWrapper:
    """Make a stdin with a descriptor that is no terminal, and these bytes."""
    end, start = os.pipe()
    os.write(start, data)
    os.close(start)
    return os.fdopen(end)


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
        (["--window", "32MB"], "Invalid value for '--window': '32MB' is no size: bytes, or a"),
        (["--window", "-1"], "Invalid value for '--window': '-1' is no size"),
        (["--spool=/no/where"], "--spool: /no/where is no directory"),
        (["--spool=/dev/null"], "--spool: /dev/null is no directory"),
        (["--upload-style", "slow"], "Invalid value for '--upload-style': 'slow' is not an upload"),
        (["--upload-style", "chunked:0"], "Invalid value for '--upload-style': 'chunked:0' has"),
        (["--retries", "-1"], "Invalid value for '--retries': -1 is not in the range x>=0"),
    ],
)
def test_flags_that_make_no_sense_are_usage(
    brolga: Brolga, source: Path, flags: list[str], line: str
) -> None:
    """Exit code 2, and nothing was tried."""
    outcome = brolga("layer", "push", *flags, NOWHERE, str(source))
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith(f"brolga: {line}")
    assert outcome.err.endswith("see brolga layer push --help\n")


@pytest.mark.parametrize("flags", [["--password", "s3cret"], ["--password=s3cret"], ["--password"]])
def test_there_is_no_password_flag_and_it_says_why(brolga: Brolga, flags: list[str]) -> None:
    """Credentials on a command line: read from stdin. The secret is not shown again."""
    outcome = brolga("layer", "push", NOWHERE, *flags)
    assert outcome.code == 2
    assert outcome.err.startswith("brolga: there is no --password: anyone who lists the processes")
    assert "--password-stdin" in outcome.err
    assert "s3cret" not in outcome.err
    assert "--password " not in brolga("layer", "push", "--help").out


def test_a_key_belongs_to_a_certificate(brolga: Brolga, source: Path) -> None:
    """A key alone is nothing to show."""
    outcome = brolga("layer", "push", "--client-key", str(source), NOWHERE, str(source))
    assert (outcome.code, outcome.err) == (
        2,
        "brolga: --client-key needs --client-cert; see brolga layer push --help\n",
    )


@pytest.mark.parametrize(
    ("data", "password"),
    [
        (b"s3cret", b"s3cret"),
        (b"s3cret\nmore\n", b"s3cret"),
        (b" two words \r\n", b" two words "),
        (b"\xff\xc3\xa9\n", b"\xff\xc3\xa9"),
    ],
)
def test_the_password_is_the_first_line_of_stdin(
    brolga: Brolga, monkeypatch: pytest.MonkeyPatch, source: Path, data: bytes, password: bytes
) -> None:
    """Without its line end; its own bytes go out. The flags go before the environment."""
    monkeypatch.setenv("BROLGA_USERNAME", "someone")
    monkeypatch.setenv("BROLGA_PASSWORD", "else")
    seen: list[str] = []

    def script(peer: Peer) -> None:
        peer.head()
        peer.answer(401, b"", 'WWW-Authenticate: Basic realm="x"')
        while head := peer.head():
            seen.extend(peer.header("authorization", head))
            peer.answer(418)

    with serve_script(script) as address, stdin_of(data) as stdin:
        flags = ["--username", "me", "--password-stdin"]
        brolga("layer", "push", *flags, f"{address}/x", str(source), stdin=stdin)
    assert seen[0] == "Basic " + b64encode(b"me:" + password).decode()


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "the first line of stdin is empty"),
        (b"\r\nx\n", "the first line of stdin is empty"),
        (b"x" * 65536, "the first line of stdin is too long"),
    ],
)
def test_a_password_that_is_none_is_usage(
    brolga: Brolga, source: Path, data: bytes, why: str
) -> None:
    """An empty password would go out as anonymous, or be refused for another reason."""
    arguments = ["layer", "push", "-u", "me", "--password-stdin", NOWHERE, str(source)]
    with stdin_of(data) as stdin:
        outcome = brolga(*arguments, stdin=stdin)
    assert outcome.code == 2
    assert outcome.err == f"brolga: --password-stdin: {why}; see brolga layer push --help\n"


def test_a_password_is_not_typed_into_a_terminal(brolga: Brolga, source: Path) -> None:
    """The terminal would show it."""
    arguments = ["layer", "push", "-u", "me", "--password-stdin", NOWHERE, str(source)]
    master, slave = pty.openpty()
    with os.fdopen(slave) as stdin:
        outcome = brolga(*arguments, stdin=stdin)
    os.close(master)
    assert outcome.code == 2
    assert "--password-stdin: stdin is a terminal" in outcome.err


def test_a_closed_stdin_has_no_password(
    brolga: Brolga, monkeypatch: pytest.MonkeyPatch, source: Path
) -> None:
    """Python has none where it was closed at the start, and a closed one where it was later."""
    arguments = ["layer", "push", "-u", "me", "--password-stdin", NOWHERE, str(source)]
    closed = io.TextIOWrapper(io.BytesIO())
    closed.close()
    assert "--password-stdin: stdin is closed" in brolga(*arguments, stdin=closed).err
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(click.UsageError, match="stdin is closed"):
        connection_module.password_from_stdin()


def test_only_what_was_given_goes_to_the_client(
    monkeypatch: pytest.MonkeyPatch, brolga: Brolga, source: Path
) -> None:
    """A certificate of the client's is passed on where there is one."""
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
        "uploads": UploadOptions(style={}),
        "on_warning": warn,
        "retry": Retry(attempts=5, jitter=random.random),
    }
    given = TransportOptions(ca_cert=path, client_cert=path, client_key=path)
    assert calls[1] == {**calls[0], "transport": given}
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
        (["--retries", "0"], {"retry": Retry(attempts=1, jitter=random.random)}),
        (["--retry-time=9"], {"retry": Retry(max_elapsed_s=9.0, jitter=random.random)}),
        (["--retries=9"], {"retry": Retry(attempts=10, jitter=random.random)}),
    ],
)
def test_how_uploads_go_out_is_told_to_the_client(
    monkeypatch: pytest.MonkeyPatch,
    brolga: Brolga,
    source: Path,
    flags: list[str],
    named: dict[str, Any],
) -> None:
    """A flag each; `--spool REPO` is a flag and a repository, wherever it stands."""
    calls: list[dict[str, Any]] = []

    def client(**named: Any) -> None:
        calls.append(named)
        raise OSError("no further")

    monkeypatch.setattr(client_module, "Client", client)
    brolga("layer", "push", *flags, NOWHERE, str(source))
    brolga("layer", "push", NOWHERE, str(source), *flags)
    for call in calls:
        told = {**asdict(call["uploads"]), "retry": call["retry"]}
        assert {name: told[name] for name in named} == named
    assert len(calls) == 2


@pytest.mark.parametrize("verb", ["append", "attach", "copy", "mutate", "rebase"])
def test_every_verb_that_pushes_can_be_told_how(brolga: Brolga, verb: str) -> None:
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


def test_what_else_the_client_refuses_is_usage(
    monkeypatch: pytest.MonkeyPatch, brolga: Brolga, source: Path
) -> None:
    """A proxy in the environment that is no URL, say."""

    def client(**_named: Any) -> None:
        raise ValueError("HTTPS_PROXY is not the URL of a proxy")

    monkeypatch.setattr(client_module, "Client", client)
    outcome = brolga("layer", "push", NOWHERE, str(source))
    assert (outcome.code, outcome.err) == (
        2,
        "brolga: HTTPS_PROXY is not the URL of a proxy; see brolga layer push --help\n",
    )


def test_a_verb_gets_its_connection_as_one_value(capsys: pytest.CaptureFixture[str]) -> None:
    """Its own flags stand before those of the connection in the help."""

    @click.command(cls=Verb)
    @click.option("--own", is_flag=True)
    @registry_flags
    def verb(*, own: bool, connection: Connection) -> None:
        """Do it."""
        with open_client(connection) as client:
            click.echo(f"{own} {connection.timeout} {type(client).__name__}")

    verb.main(["--own", "--timeout", "5"], standalone_mode=False)
    assert capsys.readouterr().out == "True 5.0 Client\n"
    verb.main(["--help"], standalone_mode=False)
    text = capsys.readouterr().out
    assert "  Do it." in text
    assert text.index("--own") < text.index("--insecure") < text.index("--password-stdin")


def test_the_help_knows_the_default_of_threads(brolga: Brolga) -> None:
    """One a core, and no more than the library takes by itself."""
    text = " ".join(brolga("layer", "push", "--help").out.split())
    assert (
        f"How many threads compress; default: one per core, at most {layer_module.MAX_THREADS}."
        in text
    )
    assert "PEM file of authorities to trust besides the system's." in text


def test_a_platform_is_read_where_it_is_given(capsys: pytest.CaptureFixture[str]) -> None:
    """OS/ARCH[/VARIANT], as an image index has it (image-spec, image-index.md, platform)."""

    @click.command(cls=Verb)
    @platform_flag
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


def test_all_is_no_platform(capsys: pytest.CaptureFixture[str]) -> None:
    """Crane's word for "as it is": `--platform all`."""

    @click.command(cls=Verb)
    @platform_flag
    def verb(*, platform: Platform | None) -> None:
        click.echo(repr(platform))

    verb.main(["--platform", "all"], standalone_mode=False)
    assert capsys.readouterr().out == "None\n"


def test_credentials_of_docker_s_file_are_found(brolga: Brolga, source: Path) -> None:
    """Without flags and environment: docker's config.json, then podman's files."""
    seen: list[str] = []

    def script(peer: Peer) -> None:
        while head := peer.head():
            given = peer.header("authorization", head)
            seen.extend(given)
            peer.answer(418 if given else 401, b"", 'WWW-Authenticate: Basic realm="x"')

    with serve_script(script) as address:
        file = Path(os.environ["DOCKER_CONFIG"]) / "config.json"
        file.parent.mkdir(exist_ok=True)
        auth = b64encode(b"me:s3cret").decode()
        file.write_text(json.dumps({"auths": {address: {"auth": auth}}}))
        try:
            brolga("layer", "push", f"{address}/x", str(source))
        finally:
            file.unlink()
    assert set(seen) == {f"Basic {auth}"}


def test_the_flags_credentials_go_to_the_registry_that_is_named_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A password for where a copy goes is none of the business of where it comes from."""
    monkeypatch.setenv("BROLGA_USERNAME", "someone")
    monkeypatch.setenv("BROLGA_PASSWORD", "else")
    connection = Connection(
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
        keychain = connection_module._credentials(connection, "a.example")
    assert not isinstance(keychain, Credentials)
    assert keychain.find(Repository("a.example", "x")) == Credentials("me", "s3cret")
    assert keychain.find(Repository("b.example", "x")) is None
    monkeypatch.setenv("BROLGA_REGISTRY", "b.example")
    assert keychain.find(Repository("b.example", "x")) == Credentials("someone", "else")


def test_a_warning_of_a_registry_is_a_line(
    brolga: Brolga, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`Warning: 299 - "text"` (distribution-spec, Warnings): "clients SHOULD report it"."""

    def script(peer: Peer) -> None:
        while peer.head():
            peer.answer(418, b"", 'Warning: 299 - "this registry ends soon"')

    with serve_script(script) as address:
        outcome = brolga("layer", "push", f"{address}/x", str(source))
    assert outcome.err.startswith(f"warning: {address}: this registry ends soon\nbrolga: ")


def test_how_many_blobs_go_at_a_time_is_the_client_s(monkeypatch: pytest.MonkeyPatch) -> None:
    """`--jobs`, 4 where nothing is said."""
    made: list[int] = []
    monkeypatch.setattr(client_module, "Client", lambda **named: made.append(named["uploads"].jobs))
    connection = Connection(
        insecure=False, ca_cert=None, client_cert=None, client_key=None, timeout=1.0
    )
    open_client(connection)
    open_client(connection, jobs=7)
    assert made == [4, 7]
