from __future__ import annotations

import builtins
import sys
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from brolga.cli.registry import command as registry
from brolga.server import running

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Stand in for the server: note what it is asked for, and be ready at once."""
    calls: list[Any] = []

    def serve(directory: Path, host: str, port: int, on_ready: Any) -> None:
        calls.append((directory, host, port, directory.is_dir()))
        on_ready("127.0.0.1:1234")

    monkeypatch.setattr(running, "serve", serve)
    return calls


def test_the_address_is_all_of_stdout(served: list[Any], tmp_path: Path) -> None:
    """Stdout carries the result alone; the rest is on stderr."""
    result = CliRunner().invoke(registry, ["serve", str(tmp_path), "--port", "0"])
    assert result.exit_code == 0
    assert result.stdout == "127.0.0.1:1234\n"
    assert result.stderr == f"registry: storing in {tmp_path}\n"
    assert served == [(tmp_path, "127.0.0.1", 0, True)]


def test_a_temporary_directory(served: list[Any]) -> None:
    """Without DIR, what is pushed is deleted at the end, and the command says so."""
    result = CliRunner().invoke(registry, ["serve"])
    [(directory, _, port, existed)] = served
    assert port == 5000
    assert existed
    assert not directory.exists()
    assert result.stderr == f"registry: storing in {directory}, deleted at the end\n"


def test_beyond_loopback(tmp_path: Path) -> None:
    """An address that others can reach is a mistake of usage."""
    result = CliRunner().invoke(registry, ["serve", str(tmp_path), "--host", "192.0.2.1"])
    assert result.exit_code == 2
    assert "can be reached from outside" in result.stderr


def test_a_directory_that_is_a_file(tmp_path: Path) -> None:
    """What the system refuses is one line."""
    (tmp_path / "x").write_text("")
    result = CliRunner().invoke(registry, ["serve", str(tmp_path / "x"), "--port", "0"])
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1].startswith(f"Error: cannot serve {tmp_path / 'x'} on ")


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the server's packages are missing, one line says how to get them."""
    monkeypatch.setitem(sys.modules, "brolga.server.running", None)
    real = builtins.__import__

    def missing(name: str, *arguments: Any, **named: Any) -> Any:
        if name == "brolga.server.running":
            raise ModuleNotFoundError("No module named 'uvicorn'", name="uvicorn")
        return real(name, *arguments, **named)

    monkeypatch.setattr(builtins, "__import__", missing)
    result = CliRunner().invoke(registry, ["serve"])
    assert result.exit_code == 1
    assert result.stderr == "Error: the registry needs uvicorn: pip install 'brolga[server]'\n"


def test_another_import_error_is_a_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module of ours that is missing is not the extra's fault."""
    monkeypatch.setitem(sys.modules, "brolga.server.running", None)
    result = CliRunner().invoke(registry, ["serve"])
    assert isinstance(result.exception, ModuleNotFoundError)
