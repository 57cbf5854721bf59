"""auth/keychain.py: the sources of credentials and their order."""

from __future__ import annotations

from base64 import b64encode
from typing import TYPE_CHECKING

import pytest

from brolga.auth import (
    Chain,
    ConfigFiles,
    Environment,
    default_keychain,
)
from brolga.errors import CredentialsError
from brolga.protocol import Credentials
from brolga.spec.reference import Repository

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_APP = Repository.parse("registry.example/team/app")


def _auth(username: str, password: str) -> dict[str, str]:
    return {"auth": b64encode(f"{username}:{password}".encode()).decode()}


class _Double:
    def __init__(self, found: Credentials | None) -> None:
        self.found = found
        self.asked = 0

    def find(self, repository: Repository) -> Credentials | None:
        self.asked += 1
        return self.found


def test_environment_finds_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """BROLGA_USERNAME and BROLGA_PASSWORD; the password is never shown."""
    monkeypatch.setenv("BROLGA_USERNAME", "someone")
    monkeypatch.setenv("BROLGA_PASSWORD", "secret: with colon")
    credentials = Environment().find(_APP)
    assert credentials == Credentials("someone", "secret: with colon")
    assert credentials is not None
    assert credentials.source == "BROLGA_USERNAME"
    assert "secret" not in repr(credentials)


@pytest.mark.parametrize(
    ("named", "registry", "repository", "found"),
    [
        ("", "", "registry.example/x", True),
        ("", "registry.example", "registry.example/x", True),
        ("", "registry.example", "other.example/x", False),
        ("", "registry.example", "registry.example:5000/x", False),
        ("registry.example", "", "registry.example/x", True),
        ("registry.example", "", "other.example/x", False),
        ("other.example", "registry.example", "other.example/x", True),
        ("other.example", "registry.example", "registry.example/x", False),
        ("index.docker.io", "", "alpine", True),
        ("https://index.docker.io/v1/", "", "alpine", True),
    ],
)
def test_environment_is_for_one_registry(
    monkeypatch: pytest.MonkeyPatch, named: str, registry: str, repository: str, *, found: bool
) -> None:
    """BROLGA_REGISTRY limits the password to one registry."""
    monkeypatch.setenv("BROLGA_USERNAME", "someone")
    monkeypatch.setenv("BROLGA_PASSWORD", "secret")
    monkeypatch.setenv("BROLGA_REGISTRY", named)
    keychain = default_keychain(registry)
    assert (keychain.find(Repository.parse(repository)) is not None) is found


def test_environment_rejects_invalid_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Anonymous access would hide it, and sending them to all registries would leak them."""
    monkeypatch.setenv("BROLGA_REGISTRY", "not a host")
    with pytest.raises(CredentialsError, match=r"^BROLGA_REGISTRY: .*; write registry.example or"):
        Environment().find(_APP)


def test_environment_rejects_line_break(
    monkeypatch: pytest.MonkeyPatch, error_text: Callable[[BaseException], str]
) -> None:
    """RFC 7617: 'The user-id and password MUST NOT contain any control characters'."""
    monkeypatch.setenv("BROLGA_USERNAME", "someone")
    monkeypatch.setenv("BROLGA_PASSWORD", "s3cr3t\n")
    with pytest.raises(CredentialsError, match=r"^the environment .* in the password; ") as caught:
        Environment().find(_APP)
    assert "s3cr3t" not in error_text(caught.value)


@pytest.mark.parametrize("present", ["BROLGA_USERNAME", "BROLGA_PASSWORD", None])
@pytest.mark.parametrize("rest", [None, ""])
def test_environment_needs_both_variables(
    monkeypatch: pytest.MonkeyPatch, present: str | None, rest: str | None
) -> None:
    """Half of a pair, or an empty half, is ignored."""
    for name in ("BROLGA_USERNAME", "BROLGA_PASSWORD"):
        value = "x" if name == present else rest
        if value is not None:
            monkeypatch.setenv(name, value)
    assert Environment().find(_APP) is None


def test_chain_returns_first_credentials() -> None:
    """A chain stops at the first keychain that finds credentials."""
    nothing, first, second = _Double(None), _Double(Credentials("a", "b")), _Double(None)
    assert Chain(nothing, first, second).find(_APP) is first.found
    assert (nothing.asked, first.asked, second.asked) == (1, 1, 0)


def test_chain_returns_none_without_credentials() -> None:
    """None is anonymous."""
    assert Chain().find(_APP) is None
    assert Chain(_Double(None), _Double(None)).find(_APP) is None


def test_default_keychain_uses_environment_then_files(
    monkeypatch: pytest.MonkeyPatch, configure: Callable[..., Path]
) -> None:
    """What the user sets for this one command goes before what is stored."""
    configure({"auths": {"registry.example": _auth("stored", "secret")}})
    found = default_keychain().find(_APP)
    assert found == Credentials("stored", "secret")
    monkeypatch.setenv("BROLGA_USERNAME", "someone")
    monkeypatch.setenv("BROLGA_PASSWORD", "secret")
    assert default_keychain().find(_APP) == Credentials("someone", "secret")


def test_default_keychain_returns_none_without_configuration(home: Path) -> None:
    """A file that is not there is nothing."""
    assert default_keychain().find(_APP) is None


def test_config_files_prefer_docker(configure: Callable[..., Path]) -> None:
    """Docker's config.json, then podman's two files; each origin shows its file."""
    files = [".docker/config.json", "run/containers/auth.json", ".config/containers/auth.json"]
    for name in reversed(files):
        configure({"auths": {"registry.example": _auth(name, "secret")}}, name)
    for name in files:
        found = ConfigFiles().find(_APP)
        assert found == Credentials(name, "secret")
        assert found.source == f"~/{name}"
        configure({}, name)
    assert ConfigFiles().find(_APP) is None


def test_config_files_do_not_read_files_after_match(configure: Callable[..., Path]) -> None:
    """Only an invalid file that is needed is an error."""
    configure({"auths": {"registry.example": _auth("someone", "secret")}})
    configure("{", "run/containers/auth.json")
    assert ConfigFiles().find(_APP) == Credentials("someone", "secret")
    with pytest.raises(CredentialsError, match=r"~/run/containers/auth\.json is not JSON"):
        ConfigFiles().find(Repository.parse("other.example/app"))


def test_config_files_reads_given_paths(tmp_path: Path, configure: Callable[..., Path]) -> None:
    """`paths` are read in place of what the environment names; no paths are no files."""
    configure({"auths": {"registry.example": _auth("someone", "secret")}})
    other = configure({"auths": {"registry.example": _auth("other", "secret")}}, "other.json")
    assert ConfigFiles((other,)).find(_APP) == Credentials("other", "secret")
    assert ConfigFiles(()).find(_APP) is None
