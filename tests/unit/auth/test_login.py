"""auth/login.py: storing and erasing credentials."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
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


def _found(registry: str) -> Credentials | None:
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
    assert _found("registry.example") == _SOMEONE


def test_save_uses_docker_config(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Docker reads $DOCKER_CONFIG/config.json then."""
    monkeypatch.setenv("DOCKER_CONFIG", str(home / "made/here"))
    assert save("registry.example", _SOMEONE) == "~/made/here/config.json"
    assert _mode(home / "made/here") == 0o700
    assert _found("registry.example") == _SOMEONE


@pytest.mark.parametrize("registry", ["docker.io", "index.docker.io"])
def test_save_uses_docker_hub_key(configure: Callable[..., Path], registry: str) -> None:
    """Docker Hub's key is `https://index.docker.io/v1/`."""
    path = configure({})
    save(registry, _SOMEONE)
    assert json.loads(path.read_text())["auths"] == {"https://index.docker.io/v1/": {"auth": _AUTH}}
    assert _found("docker.io") == _SOMEONE
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
    assert _found("registry.example") == credentials


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
    assert _found("registry.example") == _SOMEONE


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
    assert _found("registry.example") == _SOMEONE


def test_concurrent_saves_lose_no_entry(home: Path) -> None:
    """Two that store at the same time both find their credentials afterwards."""
    code = (
        "import sys; from brolga.auth import save; from brolga.protocol import Credentials\n"
        "for i in range(10): save(f'{sys.argv[1]}{i}.example', Credentials('someone', 'x'))"
    )
    others = [subprocess.Popen([sys.executable, "-c", code, name]) for name in ("a", "b")]
    registries = [f"t{i}.example" for i in range(40)]
    with ThreadPoolExecutor(8) as pool:
        assert len(list(pool.map(lambda name: save(name, _SOMEONE), registries))) == len(registries)
    assert [other.wait() for other in others] == [0, 0]
    kept = json.loads((home / ".docker/config.json").read_text())["auths"]
    assert sorted(kept) == sorted(
        [*registries, *(f"{name}{i}.example" for name in "ab" for i in range(10))]
    )


@pytest.mark.parametrize(
    "document", [{"credsStore": "it"}, {"credHelpers": {"registry.example": "it"}}]
)
def test_save_uses_helper(
    install: Callable[..., Path], configure: Callable[..., Path], document: dict[str, object]
) -> None:
    """CredHelpers[registry], else credsStore: the file then holds no secret."""
    program = install("it")
    path = configure(document)
    assert save("registry.example", _SOMEONE) == "docker-credential-it"
    assert json.loads(path.read_text()) == document
    found = _found("registry.example")
    assert found == _SOMEONE
    assert found.source == "docker-credential-it"
    calls = program.with_name("calls.txt").read_text().splitlines()
    assert [call.split()[0] for call in calls] == ["store", "get"]
    assert erase("registry.example") == "docker-credential-it"
    assert _found("registry.example") is None
    assert erase("registry.example") is None


def test_save_in_helper_removes_password_from_file(
    install: Callable[..., Path], configure: Callable[..., Path]
) -> None:
    """An older password in plain text does not outlive a login that is stored safely."""
    install("it")
    path = configure({"credsStore": "it", "auths": {"registry.example": {"auth": _AUTH}, "x": {}}})
    save("registry.example", Credentials("someone", "new"))
    assert json.loads(path.read_text()) == {"credsStore": "it", "auths": {"x": {}}}


def test_erase_removes_from_file_and_helper(
    install: Callable[..., Path], configure: Callable[..., Path]
) -> None:
    """From helper and file; every spelling of the registry is removed."""
    install("it")
    path = configure({"credsStore": "it"})
    save("registry.example", _SOMEONE)
    auths = {
        "registry.example": {"auth": _AUTH},
        "https://registry.example/v1/": {"auth": _AUTH},
        "registry.example/team": {"auth": _AUTH},
        "other.example": {"auth": _AUTH},
    }
    configure({"credsStore": "it", "auths": auths})
    assert erase("registry.example") == "~/.docker/config.json and docker-credential-it"
    left = json.loads(path.read_text())["auths"]
    assert sorted(left) == ["other.example", "registry.example/team"]


def test_erase_empty_entry(install: Callable[..., Path], configure: Callable[..., Path]) -> None:
    """Docker's `{}` beside a helper's credentials is removed, and does not count as a place."""
    install("it")
    path = configure({"credsStore": "it", "auths": {"registry.example": {}}})
    assert erase("registry.example") is None
    assert json.loads(path.read_text())["auths"] == {}


def test_erase_without_entry_does_not_write(home: Path, configure: Callable[..., Path]) -> None:
    """Nothing to erase: no file, no directory and no lock is made, the file is not touched."""
    assert erase("registry.example") is None
    assert list(home.iterdir()) == []
    path = configure('{ "auths": {"other.example": {}} }')
    assert erase("registry.example") is None
    assert path.read_text() == '{ "auths": {"other.example": {}} }'


def test_erase_from_file_if_helper_fails(
    install: Callable[..., Path], configure: Callable[..., Path]
) -> None:
    """The file first: what is in plain text goes, and then the helper's failure is told."""
    install("it", "#!/bin/sh\nexit 1\n")
    path = configure({"credsStore": "it", "auths": {"registry.example": {"auth": _AUTH}}})
    with pytest.raises(CredentialsError, match="docker-credential-it get ended with status 1"):
        erase("registry.example")
    assert json.loads(path.read_text())["auths"] == {}


def test_save_raises_if_helper_fails(
    install: Callable[..., Path], configure: Callable[..., Path]
) -> None:
    """Where the safe place fails, the secret does not go to the unsafe one."""
    install("it", "#!/bin/sh\nexit 1\n")
    path = configure({"credsStore": "it"})
    with pytest.raises(CredentialsError, match="docker-credential-it store ended with status 1"):
        save("registry.example", _SOMEONE)
    assert json.loads(path.read_text()) == {"credsStore": "it"}


def test_save_raises_if_helper_is_slow(
    install: Callable[..., Path], configure: Callable[..., Path]
) -> None:
    """Storing and erasing bound a helper's time too."""
    install("it", "#!/bin/sh\nexec sleep 600\n")
    configure({"credsStore": "it"})
    with pytest.raises(CredentialsError, match=r"store did not end within 0\.1 s"):
        save("registry.example", _SOMEONE, helper_timeout_s=0.1)
    with pytest.raises(CredentialsError, match=r"get did not end within 0\.1 s"):
        erase("registry.example", helper_timeout_s=0.1)


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
    home: Path, told: Callable[[BaseException], str], credentials: Credentials, words: str
) -> None:
    """RFC 7617: 'a user-id containing a colon character is invalid'."""
    with pytest.raises(CredentialsError, match=words) as caught:
        save("registry.example", credentials)
    assert _SECRET not in told(caught.value)
    assert list(home.iterdir()) == []


@pytest.mark.parametrize("registry", ["", "registry", "a b", "registry.example/team"])
def test_save_and_erase_reject_invalid_registry(home: Path, registry: str) -> None:
    """A registry is `host` or `host:port`, as in a reference."""
    with pytest.raises(InvalidReference, match="registry"):
        save(registry, _SOMEONE)
    with pytest.raises(InvalidReference, match="registry"):
        erase(registry)


def test_save_raises_if_directory_cannot_be_made(
    home: Path, monkeypatch: pytest.MonkeyPatch, told: Callable[[BaseException], str]
) -> None:
    """One clear error names the file and what to do."""
    (home / "file").touch()
    monkeypatch.setenv("DOCKER_CONFIG", str(home / "file"))
    with pytest.raises(
        CredentialsError,
        match=r"^~/file/config\.json cannot be written: File exists; check the permissions",
    ) as caught:
        save("registry.example", _SOMEONE)
    assert _SECRET not in told(caught.value)


def test_save_on_full_disk_leaves_file_unchanged(
    configure: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    told: Callable[[BaseException], str],
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
    everything = told(caught.value)
    assert _SECRET not in everything
    assert _AUTH not in everything
