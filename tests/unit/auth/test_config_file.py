"""auth/config_file.py: docker's config.json and podman's auth.json."""

from __future__ import annotations

import json
import os
from base64 import b64encode
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from brolga.auth.config_file import ConfigFile, display_path, docker_path, podman_paths
from brolga.errors import CredentialsError
from brolga.protocol import Credentials
from brolga.spec.reference import Repository

if TYPE_CHECKING:
    from collections.abc import Callable

_SECRET = "s3cr3t-value"  # noqa: S105 - what must not be shown
_APP = Repository.parse("registry.example/team/app")


def _base64(text: str | bytes) -> str:
    return b64encode(text.encode() if isinstance(text, str) else text).decode()


def _stored(document: dict[str, Any], repository: Repository = _APP) -> Credentials | None:
    return ConfigFile(Path("/etc/config.json"), document).stored(repository)


def test_docker_path(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """$DOCKER_CONFIG/config.json, else ~/.docker/config.json; an empty variable is ignored."""
    assert docker_path() == str(home / ".docker/config.json")
    monkeypatch.setenv("DOCKER_CONFIG", "")
    assert docker_path() == str(home / ".docker/config.json")
    monkeypatch.setenv("DOCKER_CONFIG", "/else/where")
    assert docker_path() == "/else/where/config.json"


def test_podman_paths(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """containers-auth.json(5): the runtime directory, then the one of the configuration."""
    assert podman_paths() == (
        str(home / "run/containers/auth.json"),
        str(home / ".config/containers/auth.json"),
    )
    monkeypatch.setenv("XDG_CONFIG_HOME", "/config")
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert podman_paths() == (
        f"/run/containers/{os.getuid()}/auth.json",
        "/config/containers/auth.json",
    )
    monkeypatch.setenv("REGISTRY_AUTH_FILE", "/the/one.json")
    assert podman_paths() == ("/the/one.json",)


def test_paths_without_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown home is the root, never a directory named `~` below the current one."""
    monkeypatch.delenv("DOCKER_CONFIG")
    monkeypatch.setenv("HOME", "relative")
    assert docker_path() == "/.docker/config.json"
    assert display_path(Path("/etc/config.json")) == "/etc/config.json"


def test_display_path(home: Path) -> None:
    """The home directory is `~`; what a terminal would obey is escaped."""
    assert display_path(home / ".docker/config.json") == "~/.docker/config.json"
    assert display_path(Path("/etc/config.json")) == "/etc/config.json"
    assert display_path(Path("/etc/\x1b[2Jconfig.json")) == r"'/etc/\x1b[2Jconfig.json'"


@pytest.mark.parametrize("text", ["", " \n", "{}", '{"auths": null}', '{"auths": {}}', "\ufeff{}"])
def test_stored_returns_none_without_credentials(configure: Callable[..., Path], text: str) -> None:
    """Docker reads an empty file as an empty configuration."""
    config = ConfigFile.read(configure(text))
    assert config.stored(_APP) is None
    assert config.helper("registry.example") is None


def test_read_missing_file(home: Path) -> None:
    """A missing file has no members, and so has a path below a file."""
    assert ConfigFile.read(home / "config.json").document == {}
    (home / "file").touch()
    assert ConfigFile.read(home / "file/config.json").document == {}


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"auth": _base64("someone:secret")}, Credentials("someone", "secret")),
        ({"auth": _base64("someone:a:b")}, Credentials("someone", "a:b")),
        ({"auth": _base64("someone:secret\0\0")}, Credentials("someone", "secret")),
        ({"auth": _base64("u:pw").rstrip("=")}, Credentials("u", "pw")),
        ({"auth": _base64("u:pw")[:4] + "\n" + _base64("u:pw")[4:]}, Credentials("u", "pw")),
        ({"auth": _base64(b"u:\xff\xfe")}, Credentials("u", "\udcff\udcfe")),
        ({"auth": _base64("someone:")}, Credentials("someone")),
        ({"username": "someone", "password": "secret"}, Credentials("someone", "secret")),
        ({"username": "a", "password": "b", "auth": _base64("c:d")}, Credentials("c", "d")),
        ({"auth": "", "identitytoken": _SECRET}, Credentials(identity_token=_SECRET)),
        (
            {"auth": _base64("00000000-0000-0000-0000-000000000000:"), "identitytoken": _SECRET},
            Credentials("00000000-0000-0000-0000-000000000000", identity_token=_SECRET),
        ),
        ({"registrytoken": _SECRET, "email": "x@y.example"}, Credentials(registry_token=_SECRET)),
        ({"auth": None, "username": "u", "password": None}, Credentials("u")),
        ({}, None),
        (None, None),
        ({"password": "alone"}, None),
    ],
)
def test_stored_parses_entry(entry: Any, expected: Credentials | None) -> None:
    """`auth` is base64 of username:password and goes before the two; tokens stand beside them."""
    credentials = _stored({"auths": {"registry.example": entry}})
    assert credentials == expected
    assert credentials is None or credentials.source == "/etc/config.json"


def test_stored_keeps_bytes_that_are_not_utf8() -> None:
    """What was stored as bytes is sent as the same bytes."""
    auth = _base64(b"u:\xff\xfe")
    credentials = _stored({"auths": {"registry.example": {"auth": auth}}})
    assert credentials is not None
    assert credentials.basic == f"Basic {auth}"


def test_stored_skips_empty_entry() -> None:
    """Docker leaves `{}` if a helper has the credentials."""
    auths = {"registry.example/team": {}, "https://registry.example": {"username": "someone"}}
    assert _stored({"auths": auths}) == Credentials("someone")


def test_stored_ignores_invalid_entry_of_other_registry() -> None:
    """Only what is needed for one registry is looked at."""
    auths = {"other.example": 7, "registry.example": {"username": "someone"}}
    assert _stored({"auths": auths, "credHelpers": {"other.example": 7}}) == Credentials("someone")


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (f"{{\n  '{_SECRET}': 1}}", "is not JSON (line 2, column 3)"),
        (f'{{"auths": "{_SECRET}', "is not JSON (line 1, column 11)"),
        (f'["{_SECRET}"]', "is not a JSON object"),
        ("7", "is not a JSON object"),
        ('{"auths": ' + "[" * 100_000, "is not JSON that can be read"),
        ('{"auths": ' + "7" * 10_000 + "}", "is not JSON that can be read"),
        (" " * (1 << 20) + "{}", "is over 1 MiB"),
        (json.dumps({"auths": [_SECRET]}), "auths is not an object"),
        (
            json.dumps({"auths": {"registry.example": _SECRET}}),
            "auths['registry.example'] is not an object",
        ),
        (
            json.dumps({"auths": {"registry.example": {"auth": [_SECRET]}}}),
            "auths['registry.example'].auth is not a string",
        ),
        (
            json.dumps({"auths": {"registry.example": {"identitytoken": {_SECRET: 1}}}}),
            "auths['registry.example'].identitytoken is not a string",
        ),
        (
            json.dumps({"auths": {"registry.example": {"auth": f"{_SECRET}!"}}}),
            "auths['registry.example'].auth is not base64 of username:password",
        ),
        (
            json.dumps({"auths": {"registry.example": {"auth": f"{_SECRET}é"}}}),
            "auths['registry.example'].auth is not base64 of username:password",
        ),
        (
            json.dumps({"auths": {"registry.example": {"auth": _base64(_SECRET)}}}),
            "auths['registry.example'].auth is not base64 of username:password",
        ),
        (
            json.dumps({"auths": {"registry.example": {"auth": _base64(f":{_SECRET}")}}}),
            "auths['registry.example'].auth is not base64 of username:password",
        ),
        (
            json.dumps({"auths": {"registry.example": {"auth": _base64(f"u:{_SECRET}\n")}}}),
            "auths['registry.example'] has a control character (a line break?) in the password",
        ),
        (
            json.dumps({"auths": {"registry.example": {"registrytoken": f"{_SECRET}\r\nX: y"}}}),
            "auths['registry.example'] has a character in the token that is not printable ASCII",
        ),
        (
            json.dumps({"auths": {"registry.example/\x1b/": []}}),
            r"auths['registry.example/\x1b/'] is not an object",
        ),
        (json.dumps({"credHelpers": [_SECRET]}), "credHelpers is not an object"),
        (json.dumps({"credsStore": [_SECRET]}), "credsStore is not a string"),
        (
            json.dumps({"credHelpers": {"registry.example": {_SECRET: 1}}}),
            "credHelpers['registry.example'] is not a string",
        ),
    ],
)
def test_invalid_file_is_reported_with_place(
    configure: Callable[..., Path],
    error_text: Callable[[BaseException], str],
    text: str,
    place: str,
) -> None:
    """The error names the file and the place, and holds no secret."""
    path = configure(text)
    with pytest.raises(CredentialsError) as caught:
        _ask(path)
    message = str(caught.value)
    assert "~/.docker/config.json" in message
    assert place in message
    assert "\n" not in message
    assert message.isprintable()
    everything = error_text(caught.value)
    assert _SECRET not in everything
    assert _base64(_SECRET) not in everything
    assert caught.value.__context__ is None


def _ask(path: Path) -> None:
    config = ConfigFile.read(path)
    config.helper("registry.example")
    config.stored(_APP)


def test_error_hides_password_in_key(error_text: Callable[[BaseException], str]) -> None:
    """A key that is a URL may hold a user and a password."""
    document = {"auths": {"https://registry.example/u:s3cr3t-value@x/": 7}}
    with pytest.raises(CredentialsError) as caught:
        _stored(document)
    assert "auths['https://registry.example/x/'] is not an object" in str(caught.value)
    assert _SECRET not in error_text(caught.value)


def test_read_rejects_file_that_is_not_utf8(
    home: Path, error_text: Callable[[BaseException], str]
) -> None:
    """JSON is UTF-8 (RFC 8259, section 8.1)."""
    path = home / "config.json"
    path.write_bytes(b'{"s3cr3t-value": "\xff"}')
    with pytest.raises(CredentialsError, match=r"is not UTF-8 \(byte 19\)") as caught:
        ConfigFile.read(path)
    assert _SECRET not in error_text(caught.value)


def test_read_raises_for_unreadable_file(home: Path) -> None:
    """A directory in its place, or a link without end: the system's words and what to do."""
    with pytest.raises(CredentialsError, match="~ cannot be read: Is a directory; make it"):
        ConfigFile.read(home)
    loop = home / "config.json"
    loop.symlink_to(loop)
    with pytest.raises(CredentialsError, match=r"~/config\.json cannot be read: Too many levels"):
        ConfigFile.read(loop)


def test_repr_omits_document(configure: Callable[..., Path]) -> None:
    """A file's secrets are not in its repr."""
    config = ConfigFile.read(configure({"auths": {"registry.example": {"password": _SECRET}}}))
    assert _SECRET not in repr(config)


@pytest.mark.parametrize(
    ("document", "name", "key"),
    [
        ({"credsStore": "pass"}, "pass", "registry.example"),
        ({"credHelpers": {"registry.example": "ecr-login"}}, "ecr-login", "registry.example"),
        (
            {"credsStore": "pass", "credHelpers": {"registry.example": "desktop.exe"}},
            "desktop.exe",
            "registry.example",
        ),
        (
            {"credsStore": "pass", "credHelpers": {"other.example": "x"}},
            "pass",
            "registry.example",
        ),
        (
            {"credHelpers": {"https://registry.example": "x", "registry.example": "y"}},
            "y",
            "registry.example",
        ),
        (
            {"credHelpers": {"https://registry.example": "x"}},
            "x",
            "https://registry.example",
        ),
    ],
)
def test_helper_prefers_cred_helpers(document: dict[str, Any], name: str, key: str) -> None:
    """CredHelpers by registry go before credsStore; the helper is given the key as written."""
    helper = ConfigFile(Path("config.json"), document).helper("registry.example")
    assert helper is not None
    assert (helper.name, helper.key) == (name, key)


@pytest.mark.parametrize(
    ("document", "key"),
    [
        ({"credsStore": "x"}, "https://index.docker.io/v1/"),
        ({"credHelpers": {"https://index.docker.io/v1/": "x"}}, "https://index.docker.io/v1/"),
        ({"credHelpers": {"docker.io": "x"}}, "docker.io"),
    ],
)
def test_helper_uses_docker_hub_key(document: dict[str, Any], key: str) -> None:
    """Docker asks with its URL of old, podman with `docker.io` as its file says."""
    helper = ConfigFile(Path("config.json"), document).helper("docker.io")
    assert helper is not None
    assert helper.key == key


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"credsStore": ""},
        {"credsStore": None, "credHelpers": None},
        {"credsStore": "pass", "credHelpers": {"registry.example": ""}},
        {"credHelpers": {"registry.example/team": "pass"}},
    ],
)
def test_helper_returns_none_for_empty_name(document: dict[str, Any]) -> None:
    """An empty name in credHelpers takes the registry out of credsStore, as it does for docker."""
    assert ConfigFile(Path("config.json"), document).helper("registry.example") is None


@pytest.mark.parametrize(
    "name",
    ["../evil", "/bin/sh", "a/b", "a b", "-x", ".x", "pass;id", "pass\n", "é", "x" * 65, "a\0b"],
)
def test_helper_rejects_invalid_name(name: str) -> None:
    """Only `docker-credential-<name>` with a plain name is run, never a path from the file."""
    config = ConfigFile(Path("/etc/config.json"), {"credsStore": name})
    with pytest.raises(
        CredentialsError,
        match=r"^/etc/config\.json: credsStore is not the plain name of a credential helper; ",
    ):
        config.helper("registry.example")
