"""auth/login.py: storing and erasing credentials."""

from __future__ import annotations

import errno
import json
import os
from base64 import b64encode
from typing import TYPE_CHECKING

import pytest

from brolga.auth import ConfigFiles, erase, save
from brolga.errors import CredentialsError, InvalidReference
from brolga.protocol import Credentials
from brolga.spec.reference import Repository

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_SECRET = "s3cr3t-value"  # noqa: S105 - what must not be shown
_SOMEONE = Credentials("someone", _SECRET)
_AUTH = b64encode(f"someone:{_SECRET}".encode()).decode()


def _stored(registry: str) -> Credentials | None:
    return ConfigFiles().find(Repository(registry, "team/app"))


def _mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_save_creates_file(home: Path) -> None:
    """File mode 0600, directory 0700 when created; nothing else is left but the lock."""
    assert save("registry.example", _SOMEONE) == "~/.docker/config.json"
    directory = home / ".docker"
    assert json.loads((directory / "config.json").read_text()) == {
        "auths": {"registry.example": {"auth": _AUTH}}
    }
    assert sorted(path.name for path in directory.iterdir()) == ["config.json", "config.json.lock"]
    assert _mode(directory) == 0o700
    assert _mode(directory / "config.json") == _mode(directory / "config.json.lock") == 0o600
    assert _stored("registry.example") == _SOMEONE


def test_save_uses_docker_config(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Docker reads $DOCKER_CONFIG/config.json then."""
    monkeypatch.setenv("DOCKER_CONFIG", str(home / "made/here"))
    assert save("registry.example", _SOMEONE) == "~/made/here/config.json"
    assert _mode(home / "made/here") == 0o700
    assert _stored("registry.example") == _SOMEONE


@pytest.mark.parametrize("registry", ["docker.io", "index.docker.io"])
def test_save_uses_docker_hub_key(configure: Callable[..., Path], registry: str) -> None:
    """Docker Hub's key is `https://index.docker.io/v1/`."""
    path = configure({})
    save(registry, _SOMEONE)
    assert json.loads(path.read_text())["auths"] == {"https://index.docker.io/v1/": {"auth": _AUTH}}
    assert _stored("docker.io") == _SOMEONE
    assert erase(registry) == "~/.docker/config.json"
    assert json.loads(path.read_text()) == {"auths": {}}


def test_save_identity_token(configure: Callable[..., Path]) -> None:
    """`identitytoken`, and no password beside it."""
    path = configure({})
    save("registry.example", Credentials("someone", "password", identity_token=_SECRET))
    assert json.loads(path.read_text())["auths"] == {"registry.example": {"identitytoken": _SECRET}}


def test_save_bytes_that_are_not_utf8(home: Path) -> None:
    """What the environment holds beside UTF-8 comes back as it went in."""
    credentials = Credentials("someone", "\udcff")
    save("registry.example", credentials)
    assert _stored("registry.example") == credentials


def test_save_keeps_other_members_in_order(configure: Callable[..., Path]) -> None:
    """Unknown members of the file, and of the entry, are kept in their order."""
    before = {
        "zeta": {"b": [1, 2.5, None, True], "a": "é"},
        "auths": {
            "z.example": {"auth": "x"},
            "registry.example": {"email": "x@y.example", "auth": "old", "identitytoken": "old"},
            "a.example": {},
        },
        "alpha": "end",
    }
    path = configure(before)
    path.chmod(0o644)
    save("registry.example", _SOMEONE)
    before["auths"]["registry.example"] = {"email": "x@y.example", "auth": _AUTH}  # type: ignore[index] # it is a dict
    assert path.read_text() == json.dumps(before, indent="\t")
    assert _mode(path) == 0o600
    assert erase("registry.example") == "~/.docker/config.json"
    del before["auths"]["registry.example"]  # type: ignore[attr-defined] # it is a dict
    assert path.read_text() == json.dumps(before, indent="\t")


def test_save_replaces_invalid_entry(configure: Callable[..., Path]) -> None:
    """A login mends a broken entry."""
    configure({"auths": {"registry.example": 7}})
    save("registry.example", _SOMEONE)
    assert _stored("registry.example") == _SOMEONE


@pytest.mark.parametrize("exists", [True, False])
def test_save_keeps_symbolic_link(home: Path, configure: Callable[..., Path], exists: bool) -> None:
    """A config.json that is a link, dangling or not: what it leads to is written."""
    target = home / "dotfiles/docker.json"
    if exists:
        configure({"kept": 1}, "dotfiles/docker.json")
    link = home / ".docker/config.json"
    link.parent.mkdir()
    link.symlink_to(target)
    save("registry.example", _SOMEONE)
    assert link.is_symlink()
    assert json.loads(target.read_text()).get("kept") == (1 if exists else None)
    assert _mode(target) == 0o600
    assert _stored("registry.example") == _SOMEONE


def test_erase_without_entry_does_not_write(home: Path, configure: Callable[..., Path]) -> None:
    """Nothing to erase: no file, no directory and no lock is made, the file is not touched."""
    assert erase("registry.example") is None
    assert list(home.iterdir()) == []
    path = configure('{ "auths": {"other.example": {}} }')
    assert erase("registry.example") is None
    assert path.read_text() == '{ "auths": {"other.example": {}} }'


def test_save_does_not_replace_invalid_file(configure: Callable[..., Path]) -> None:
    """What brolga cannot read it does not overwrite."""
    for text in ("{", '{"auths": []}'):
        path = configure(text)
        with pytest.raises(CredentialsError, match=r"^~/\.docker/config\.json"):
            save("registry.example", _SOMEONE)
        assert path.read_text() == text


@pytest.mark.parametrize(
    ("credentials", "words"),
    [
        (Credentials(registry_token=_SECRET), "without username and identity token"),
        (Credentials("", _SECRET), "without username and identity token"),
        (Credentials("some:one", _SECRET), "a username with a colon"),
        (Credentials("someone", f"{_SECRET}\n"), "the login has a control character"),
    ],
)
def test_save_rejects_credentials_that_cannot_be_stored(
    home: Path, error_text: Callable[[BaseException], str], credentials: Credentials, words: str
) -> None:
    """RFC 7617: 'a user-id containing a colon character is invalid'."""
    with pytest.raises(CredentialsError, match=words) as caught:
        save("registry.example", credentials)
    assert _SECRET not in error_text(caught.value)
    assert list(home.iterdir()) == []


@pytest.mark.parametrize("registry", ["", "registry", "a b", "registry.example/team"])
def test_save_and_erase_reject_invalid_registry(home: Path, registry: str) -> None:
    """A registry is `host` or `host:port`, as in a reference."""
    with pytest.raises(InvalidReference, match="registry"):
        save(registry, _SOMEONE)
    with pytest.raises(InvalidReference, match="registry"):
        erase(registry)


def test_save_raises_if_directory_cannot_be_made(
    home: Path, monkeypatch: pytest.MonkeyPatch, error_text: Callable[[BaseException], str]
) -> None:
    """One clear error names the file and what to do."""
    (home / "file").touch()
    monkeypatch.setenv("DOCKER_CONFIG", str(home / "file"))
    with pytest.raises(
        CredentialsError,
        match=r"^~/file/config\.json cannot be written: File exists; check the permissions",
    ) as caught:
        save("registry.example", _SOMEONE)
    assert _SECRET not in error_text(caught.value)


def test_save_on_full_disk_leaves_file_unchanged(
    configure: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    error_text: Callable[[BaseException], str],
) -> None:
    """Written in one step: a failure on the way leaves the old file, and nothing beside it."""
    path = configure({"kept": 1})

    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CredentialsError, match="No space left on device") as caught:
        save("registry.example", _SOMEONE)
    assert json.loads(path.read_text()) == {"kept": 1}
    assert sorted(each.name for each in path.parent.iterdir()) == [
        "config.json",
        "config.json.lock",
    ]
    everything = error_text(caught.value)
    assert _SECRET not in everything
    assert _AUTH not in everything
