"""auth/login.py: credentials in helpers, and concurrent processes."""

from __future__ import annotations

import json
import subprocess
import sys
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from brolga.auth import ConfigFiles, erase, save
from brolga.errors import CredentialsError
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
    stored = _stored("registry.example")
    assert stored == _SOMEONE
    assert stored.source == "docker-credential-it"
    calls = program.with_name("calls.txt").read_text().splitlines()
    assert [call.split()[0] for call in calls] == ["store", "get"]
    assert erase("registry.example") == "docker-credential-it"
    assert _stored("registry.example") is None
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


def test_erase_from_file_if_helper_fails(
    install: Callable[..., Path], configure: Callable[..., Path]
) -> None:
    """The file first: what is in plain text goes, and then the helper's failure is raised."""
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
    install: Callable[..., Path], configure: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Storing and erasing bound a helper's time too."""
    monkeypatch.setattr("brolga.auth.helpers._TIMEOUT_S", 0.1)
    install("it", "#!/bin/sh\nexec sleep 600\n")
    configure({"credsStore": "it"})
    with pytest.raises(CredentialsError, match=r"store did not end within 0\.1 s"):
        save("registry.example", _SOMEONE)
    with pytest.raises(CredentialsError, match=r"get did not end within 0\.1 s"):
        erase("registry.example")
