"""Docker's config.json and podman's auth.json, as they are read.

Knows where the files are and what their members mean: `auths`, `credHelpers`, `credsStore`. Must
not know how a helper is run, or how a file is written.

Strategy: a file that is not there is an empty one. Of a file that is, only what is needed for one
registry is looked at, so that a broken entry of another registry stops nobody. What is wrong is
told with its file and place; values are never shown.
"""

from __future__ import annotations

import base64
import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from brolga.auth.config_keys import covering, docker_key, of_registry
from brolga.auth.validation import check
from brolga.errors import CredentialsError, excerpt
from brolga.protocol import Credentials

if TYPE_CHECKING:
    from typing import Self

    from brolga.auth.helpers import Helper
    from brolga.spec.reference import Repository

__all__ = ["HELPER_TIMEOUT_S", "ConfigFile", "docker_path", "podman_paths", "shown"]

HELPER_TIMEOUT_S: Final = 30.0
_MAX_FILE: Final = 1 << 20  # bytes
# Real names: osxkeychain, secretservice, pass, ecr-login, acr-env, desktop.exe. Whatever a file
# says, nothing but `docker-credential-` and such a name is run.
_HELPER_NAME: Final = re.compile("[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
_KINDS: Final[dict[type, str]] = {dict: "an object", str: "a string"}

_T = TypeVar("_T")


def docker_path() -> Path:
    """Return where docker's config.json is, or would be."""
    directory = os.environ.get("DOCKER_CONFIG")
    return (Path(directory) if directory else _home() / ".docker") / "config.json"


def podman_paths() -> tuple[Path, ...]:
    """Return where podman's files are, or would be (containers-auth.json(5)).

    REGISTRY_AUTH_FILE names the one file that podman then reads.
    """
    if override := os.environ.get("REGISTRY_AUTH_FILE"):
        return (Path(override),)
    # Root in a container has no XDG_RUNTIME_DIR; podman then takes a directory of its own.
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    primary = Path(runtime, "containers") if runtime else Path(f"/run/containers/{os.getuid()}")
    config = Path(os.environ.get("XDG_CONFIG_HOME") or _home() / ".config")
    return primary / "auth.json", config / "containers" / "auth.json"


def shown(path: Path) -> str:
    """Return `path` as a message shows it: `~` for the home directory, printable."""
    home = _home()
    is_below = path.is_relative_to(home) and home != Path("/")
    text = str(Path("~") / path.relative_to(home) if is_below else path)
    return text if text.isprintable() else excerpt(text)


def _home() -> Path:
    # A user that has no home keeps the `~`: it must not become a directory below this one.
    home = os.path.expanduser("~")  # noqa: PTH111 - Path.home() raises for such a user
    return Path(home if os.path.isabs(home) else "/")  # noqa: PTH117 - a str


@dataclass(frozen=True)
class ConfigFile:
    """One file of credentials: where it is, and the JSON object in it, empty where it is not."""

    path: Path
    document: dict[str, Any] = field(repr=False)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the file; one that is not there, or is empty, has no members.

        Raises CredentialsError where it cannot be read, is over 1 MiB, or is no JSON object.
        """
        try:
            with path.open("rb") as file:
                data = file.read(_MAX_FILE + 1)
        except (FileNotFoundError, NotADirectoryError):
            data = b""
        except OSError as error:
            raise CredentialsError(
                f"{shown(path)} cannot be read: {error.strerror}; make it readable, or move it away"
            ) from None
        if len(data) > _MAX_FILE:
            raise CredentialsError(
                f"{shown(path)} is over {_MAX_FILE >> 20} MiB: it is no file of credentials"
            )
        document, fault = _parsed(data)
        # Outside the handler that saw it: a decoder's error holds the whole text.
        if fault:
            raise CredentialsError(f"{shown(path)} {fault}; correct it, or move it away")
        return cls(path, document)

    def helper(self, registry: str, *, timeout_s: float = HELPER_TIMEOUT_S) -> Helper | None:
        """Return the helper that keeps the credentials of a canonical `registry`, or None.

        That is the one in `credHelpers`, else `credsStore`; an empty name means none. Raises
        CredentialsError where the name is not a plain one.
        """
        by_key = self.members("credHelpers")
        key, *_ = [*of_registry(by_key, registry), docker_key(registry)]
        place = f"credHelpers[{_shown_key(key)}]" if key in by_key else "credsStore"
        name = self._typed(str, by_key.get(key, self.document.get("credsStore")), place)
        if not name:
            return None
        if not _HELPER_NAME.fullmatch(name):
            raise self._fault(place, "is not the plain name of a credential helper")
        # Here: it imports what starts processes.
        from brolga.auth.helpers import Helper

        return Helper(name, key, timeout_s)

    def stored(self, repository: Repository) -> Credentials | None:
        """Return the credentials that the file itself has for `repository`, or None.

        The key with the longest path wins; entries without credentials are passed over. Raises
        CredentialsError where an entry is not what it should be.
        """
        auths = self.members("auths")
        found = map(self._credentials, covering(auths, repository.registry, repository.path))
        return next(filter(None, found), None)

    def members(self, name: str) -> dict[str, Any]:
        """Return the object under `name`; empty where there is none.

        Raises CredentialsError where it is no object.
        """
        return self._typed(dict, self.document.get(name), name)

    def _credentials(self, key: str) -> Credentials | None:
        place = f"auths[{_shown_key(key)}]"
        entry = self._typed(dict, self.members("auths")[key], place)

        def text(name: str) -> str:
            return self._typed(str, entry.get(name), f"{place}.{name}")

        username, password = text("username"), text("password")
        if auth := text("auth"):
            username, password = _pair(auth)
            if not username:
                raise self._fault(f"{place}.auth", "is not base64 of username:password")
        identity, registry = text("identitytoken"), text("registrytoken")
        if not (username or identity or registry):
            return None  # `{}` is what docker leaves where a helper has the credentials
        found = Credentials(username, password, identity, registry, origin=shown(self.path))
        return check(found, f"{shown(self.path)}: {place}", "log in again, or correct the file")

    def _typed(self, kind: type[_T], value: object, place: str) -> _T:
        """Return `value` if it is of `kind`, an empty one for null, as docker reads it."""
        if value is None:
            return kind()
        if not isinstance(value, kind):
            raise self._fault(place, f"is not {_KINDS[kind]}")
        return value

    def _fault(self, place: str, what: str) -> CredentialsError:
        return CredentialsError(f"{shown(self.path)}: {place} {what}; correct the file")


def _parsed(data: bytes) -> tuple[dict[str, Any], str]:
    """Return the object in a file's bytes, and what is wrong with them, or empty."""
    try:
        text = data.decode("utf-8-sig")
        document = json.loads(text) if text.strip() else {}
    except UnicodeDecodeError as error:
        return {}, f"is not UTF-8 (byte {error.start + 1})"
    except json.JSONDecodeError as error:
        return {}, f"is not JSON (line {error.lineno}, column {error.colno})"
    except (ValueError, RecursionError):  # a number of thousands of digits; nesting without end
        return {}, "is not JSON that can be read"
    if not isinstance(document, dict):
        return {}, "is not a JSON object"
    return document, ""


def _pair(auth: str) -> tuple[str, str]:
    """Return the username and password in an `auth`; two empty texts where it is wrong."""
    auth = "".join(auth.split())
    try:
        pair = base64.b64decode(auth + "=" * (-len(auth) % 4), validate=True)
    except ValueError:
        return "", ""
    # The bytes that do not read as UTF-8 go out again as they are: see Credentials.basic.
    username, colon, password = pair.decode("utf-8", "surrogateescape").partition(":")
    return (username, password.strip("\0")) if colon else ("", "")


def _shown_key(key: str) -> str:
    """Return a key as a message shows it; a URL may hold a password."""
    return excerpt(re.sub("[^/]*@", "", key))
