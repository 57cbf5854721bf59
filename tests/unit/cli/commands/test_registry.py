"""brolga registry serve."""

from __future__ import annotations

import builtins
import socket
import subprocess
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from brolga.cli.commands.registry import command as registry
from brolga.registry import server
from brolga.registry.options import Options

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.command import Brolga
    from tests.conftest import Authority


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Stand in for the server: note what it is asked for, and be ready at once."""
    calls: list[Any] = []

    def serve(
        directory: Path, host: str, port: int, on_ready: Any, options: Options, **_: Any
    ) -> None:
        calls.append((directory, host, port, directory.is_dir(), options))
        on_ready("127.0.0.1:1234")

    monkeypatch.setattr(server, "serve", serve)
    return calls


def test_serve_prints_only_the_address_to_stdout(served: list[Any], tmp_path: Path) -> None:
    """Stdout carries the result alone; the rest is on stderr."""
    result = CliRunner().invoke(registry, ["serve", str(tmp_path), "--port", "0"])
    assert result.exit_code == 0
    assert result.stdout == "127.0.0.1:1234\n"
    assert result.stderr == f"registry: storing in {tmp_path}\n"
    assert served == [(tmp_path, "127.0.0.1", 0, True, Options())]


def test_serve_without_directory_uses_a_temporary_one(served: list[Any]) -> None:
    """Without DIR, what is pushed is deleted at the end, and the command says so."""
    result = CliRunner().invoke(registry, ["serve"])
    [(directory, _, port, existed, _)] = served
    assert port == 5000
    assert existed
    assert not directory.exists()
    assert result.stderr == f"registry: storing in {directory}, deleted at the end\n"


def test_serve_maps_every_flag_to_an_option(served: list[Any], tmp_path: Path) -> None:
    """What the flags say is what the registry is run with."""
    for name in ("users", "cert", "key"):
        (tmp_path / name).write_text("")
    flags = (
        f"--read-only --htpasswd {tmp_path}/users --allow-anonymous --tls-cert {tmp_path}/cert "
        f"--tls-key {tmp_path}/key --max-upload 10GiB --max-chunk 1MiB --upload-expiry 7d "
        "--durable --sparse"
    )
    result = CliRunner().invoke(registry, ["serve", str(tmp_path), *flags.split()])
    assert result.exit_code == 0
    assert served[0][-1] == Options(
        read_only=True,
        htpasswd=tmp_path / "users",
        allow_anonymous=True,
        tls_cert=tmp_path / "cert",
        tls_key=tmp_path / "key",
        max_upload=10 << 30,
        max_chunk=1 << 20,
        upload_expiry_s=7 * 24 * 3600,
        durable=True,
        sparse=True,
    )


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("30m", 1800), ("12h", 43200), ("1d", 86400)]
)
def test_time_type_converts_units(served: list[Any], text: str, seconds: int) -> None:
    """A number, and s, m, h or d behind it."""
    CliRunner().invoke(registry, ["serve", "--upload-expiry", text])
    assert served[0][-1].upload_expiry_s == seconds


@pytest.mark.parametrize("text", ["0", "-1", "1w", "1.5h", "soon"])
def test_time_type_rejects_invalid_time(text: str) -> None:
    """An invalid time is a usage error."""
    result = CliRunner().invoke(registry, ["serve", "--upload-expiry", text])
    assert result.exit_code == 2
    assert "is not a valid time: use a number with suffix s, m, h or d" in result.stderr


def test_serve_rejects_key_without_certificate(tmp_path: Path) -> None:
    """What does not belong together is a mistake of usage."""
    (tmp_path / "key").write_text("")
    flags = ["serve", str(tmp_path), "--tls-key", str(tmp_path / "key")]
    result = CliRunner().invoke(registry, flags)
    assert result.exit_code == 2
    assert "--tls-key: a TLS key needs its certificate" in result.stderr


def test_serve_rejects_invalid_certificate(tmp_path: Path) -> None:
    """The flag whose file is wrong is named."""
    (tmp_path / "cert").write_text("no PEM")
    flags = ["serve", str(tmp_path), "--port", "0", "--tls-cert", str(tmp_path / "cert")]
    result = CliRunner().invoke(registry, flags)
    assert result.exit_code == 2
    assert "Error: --tls-cert, --tls-key: " in result.stderr


def test_serve_rejects_invalid_password_file(tmp_path: Path) -> None:
    """The line that cannot be used is named."""
    (tmp_path / "users").write_text("\nme:plain\n")
    flags = ["serve", str(tmp_path), "--port", "0", "--htpasswd", str(tmp_path / "users")]
    result = CliRunner().invoke(registry, flags)
    assert result.exit_code == 2
    assert "Error: --htpasswd: " in result.stderr
    assert "line 2: not NAME:HASH with a bcrypt hash" in result.stderr


def test_serve_names_missing_bcrypt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What is imported at its first use is missed in the same words."""
    monkeypatch.setitem(sys.modules, "bcrypt", None)
    (tmp_path / "users").write_text("")
    flags = ["serve", str(tmp_path), "--port", "0", "--htpasswd", str(tmp_path / "users")]
    result = CliRunner().invoke(registry, flags)
    assert result.exit_code == 1
    assert result.stderr == "Error: the registry needs bcrypt: pip install 'brolga[server]'\n"


def test_serve_names_missing_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the server's packages are missing, one line says how to get them."""
    monkeypatch.setitem(sys.modules, "brolga.registry.server", None)
    real = builtins.__import__

    def missing(name: str, *arguments: Any, **named: Any) -> Any:
        if name == "brolga.registry.server":
            raise ModuleNotFoundError("No module named 'uvicorn'", name="uvicorn")
        return real(name, *arguments, **named)

    monkeypatch.setattr(builtins, "__import__", missing)
    result = CliRunner().invoke(registry, ["serve"])
    assert result.exit_code == 1
    assert result.stderr == "Error: the registry needs uvicorn: pip install 'brolga[server]'\n"


def test_serve_raises_other_import_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module of ours that is missing is not the extra's fault."""
    monkeypatch.setitem(sys.modules, "brolga.registry.server", None)
    result = CliRunner().invoke(registry, ["serve"])
    assert isinstance(result.exception, ModuleNotFoundError)


def test_serve_rejects_binary_password_file(tmp_path: Path) -> None:
    """It is a mistake of usage, as any other file that cannot be used."""
    (tmp_path / "users").write_bytes(b"\xff\xfe\n")
    flags = ["serve", str(tmp_path), "--port", "0", "--htpasswd", str(tmp_path / "users")]
    result = CliRunner().invoke(registry, flags)
    assert result.exit_code == 2
    assert "Error: --htpasswd: " in result.stderr
    assert "line 1: not UTF-8" in result.stderr


def test_serve_rejects_encrypted_key(tmp_path: Path, authority: Authority) -> None:
    """The error says what to do, and the terminal is not asked for a password."""
    cert, key = authority.certificate()
    secret = tmp_path / "secret.key"
    command = ["openssl", "pkey", "-in", str(key), "-aes256", "-passout", "pass:x"]
    subprocess.run([*command, "-out", str(secret)], check=True, capture_output=True)
    flags = ["serve", str(tmp_path / "store"), "--port", "0"]
    flags += ["--tls-cert", str(cert), "--tls-key", str(secret)]
    result = CliRunner().invoke(registry, flags)
    assert result.exit_code == 2
    assert f"the key in {secret} is encrypted" in result.stderr
    assert f"openssl pkey -in {secret}" in result.stderr


@pytest.mark.parametrize(
    ("files", "why"),
    [
        (("here.pem", None), "here.pem has no private key in PEM form; name the file"),
        (("here.pem", "here.pem"), "here.pem has no private key in PEM form\n"),
        (("here.key", "here.key"), "here.key has no certificate in PEM form"),
        (("here.pem", "elsewhere.key"), "elsewhere.key is not that of "),
        (("broken", "here.key"), "broken and its key cannot be used: "),
    ],
)
def test_serve_rejects_unusable_tls_files(
    tmp_path: Path, authority: Authority, files: tuple[str, str | None], why: str
) -> None:
    """The error names the file and the problem."""
    broken = authority.directory / "broken"
    broken.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    flags = [
        "serve",
        str(tmp_path),
        "--port",
        "0",
        "--tls-cert",
        str(authority.directory / files[0]),
    ]
    if files[1]:
        flags += ["--tls-key", str(authority.directory / files[1])]
    result = CliRunner().invoke(registry, flags)
    assert result.exit_code == 2
    assert "Error: --tls-cert, --tls-key: " in result.stderr
    assert why in result.stderr


@pytest.mark.parametrize(
    ("flag", "options"),
    [
        ("--max-upload", partial(Options, max_upload=0)),
        ("--max-chunk", partial(Options, max_chunk=0)),
    ],
)
def test_serve_rejects_maximum_of_zero(flag: str, options: Callable[[], Options]) -> None:
    """A bound under which nothing can be pushed is a mistake."""
    result = CliRunner().invoke(registry, ["serve", flag, "0"])
    assert result.exit_code == 2
    assert f"'{flag}': nothing can be pushed" in result.stderr
    with pytest.raises(ValueError, match="nothing can be pushed"):
        options()


def test_serve_rejects_file_as_directory(brolga: Brolga, tmp_path: Path) -> None:
    """No message says that anything is stored."""
    file = tmp_path / "file"
    file.write_text("")
    outcome = brolga("registry", "serve", str(file), "--port", "0")
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err.startswith(f"brolga: cannot serve {file} on 127.0.0.1:0: ")
    assert outcome.err.count("\n") == 1


def test_serve_reports_port_in_use(brolga: Brolga, tmp_path: Path) -> None:
    """The error says how to choose another."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        outcome = brolga("registry", "serve", str(tmp_path / "new"), "--port", str(port))
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err == (
        f"brolga: port {port} on 127.0.0.1 is in use: "
        "choose another with --port, or 0 for a free one\n"
    )


def test_serve_rejects_missing_htpasswd_file(brolga: Brolga, tmp_path: Path) -> None:
    """Exit code 2, one line, and nothing is served."""
    outcome = brolga("registry", "serve", str(tmp_path), "--htpasswd", str(tmp_path / "users"))
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith("brolga: Invalid value for '--htpasswd': ")
    assert outcome.err.count("\n") == 1


def test_serve_rejects_public_host_without_htpasswd(brolga: Brolga, tmp_path: Path) -> None:
    """A public address requires --htpasswd or --allow-anonymous."""
    outcome = brolga("registry", "serve", str(tmp_path), "--host", "192.0.2.1")
    assert (outcome.code, outcome.out) == (2, "")
    assert "--host: 192.0.2.1 can be reached from outside" in outcome.err
    assert "--htpasswd or --allow-anonymous" in outcome.err


def test_serve_rejects_invalid_size(brolga: Brolga, tmp_path: Path) -> None:
    """Exit code 2."""
    outcome = brolga("registry", "serve", str(tmp_path), "--max-upload", "much")
    assert outcome.code == 2
    assert "invalid size 'much'" in outcome.err
