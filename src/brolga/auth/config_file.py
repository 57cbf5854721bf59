"""Read docker's config.json and podman's auth.json: `auths`, `credHelpers`, `credsStore`.

Only the entries for one registry are read, so an invalid entry of another does no harm. Errors name
the file and the place, and never show values.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any, Final, Self, TypeAlias, TypeVar

from brolga.auth.entries import check_credentials, docker_key, keys_covering
from brolga.errors import CredentialsError, excerpt
from brolga.protocol import Credentials
from brolga.spec.value import Value, field

if TYPE_CHECKING:
    from os import PathLike

    from brolga.auth.helpers import Helper
    from brolga.spec.reference import Repository

_MAX_FILE: Final = 1 << 20  # bytes
# Such as osxkeychain, ecr-login or desktop.exe. Only `docker-credential-` and such a name is run.
_HELPER_NAME: Final = "[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}"
_KINDS: Final[dict[type, str]] = {dict: "an object", str: "a string"}

_T = TypeVar("_T")
StrPath: TypeAlias = "str | PathLike[str]"


def docker_path() -> str:
    """Return the path of docker's config.json, which may not exist."""
    directory = os.environ.get("DOCKER_CONFIG") or f"{_home()}/.docker"
    return f"{directory.rstrip('/')}/config.json"


def podman_paths() -> tuple[str, ...]:
    """Return the paths of podman's files, which may not exist (containers-auth.json(5))."""
    # The only file that podman reads if it is set.
    if override := os.environ.get("REGISTRY_AUTH_FILE"):
        return (override,)
    # Root in a container has no XDG_RUNTIME_DIR; podman uses this directory then.
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    primary = f"{runtime.rstrip('/')}/containers" if runtime else f"/run/containers/{os.getuid()}"
    config = os.environ.get("XDG_CONFIG_HOME") or f"{_home()}/.config"
    return f"{primary}/auth.json", f"{config.rstrip('/')}/containers/auth.json"


def display_path(path: StrPath) -> str:
    """Return `path` for messages: printable, with `~` for the home directory."""
    home, text = _home(), os.fspath(path)
    if home and f"{text}/".startswith(f"{home}/"):
        text = f"~{text.removeprefix(home)}"
    return text if text.isprintable() else excerpt(text)


def _home() -> str:
    """Return the home directory without a slash at its end; "" is the root, if there is none."""
    # Without a home the `~` stays: it must not become a directory below the current one.
    home = os.path.expanduser("~")  # noqa: PTH111 - Path.home() raises for such a user
    return home.rstrip("/") if os.path.isabs(home) else ""  # noqa: PTH117 - a str


class ConfigFile(Value):
    """A credentials file: its path, and its JSON object, which is empty for a missing file."""

    path: StrPath
    document: dict[str, Any] = field(repr=False)

    @classmethod
    def read(cls, path: StrPath) -> Self:
        """Read the file; a missing or empty one has no members.

        Raises CredentialsError if it is unreadable, over 1 MiB, or not a JSON object.
        """
        try:
            with open(path, "rb") as file:  # noqa: PTH123 - a str needs no Path
                data = file.read(_MAX_FILE + 1)
        except (FileNotFoundError, NotADirectoryError):
            data = b""
        except OSError as error:
            raise CredentialsError(
                f"{display_path(path)} cannot be read: {error.strerror}; make it readable, or move "
                "it away"
            ) from None
        if len(data) > _MAX_FILE:
            raise CredentialsError(
                f"{display_path(path)} is over {_MAX_FILE >> 20} MiB: it is not a credentials file"
            )
        document, fault = _parse(data)
        # Not in `_parse`'s handler: a decoder's error holds the whole text.
        if fault:
            raise CredentialsError(f"{display_path(path)} {fault}; correct it, or move it away")
        return cls(path, document)

    def helper(self, registry: str) -> Helper | None:
        """Return the helper for the credentials of a canonical `registry`, or None.

        `credHelpers` is read before `credsStore`; an empty name means no helper. Raises
        CredentialsError for an invalid name.
        """
        by_key = self.members("credHelpers")
        key, *_ = [*keys_covering(by_key, registry), docker_key(registry)]
        place = f"credHelpers[{_display_key(key)}]" if key in by_key else "credsStore"
        name = self._typed(str, by_key.get(key, self.document.get("credsStore")), place)
        if not name:
            return None
        if not re.fullmatch(_HELPER_NAME, name):
            raise self._fault(place, "is not the plain name of a credential helper")
        # Imported here, as it imports modules that start processes.
        from brolga.auth.helpers import Helper

        return Helper(name, key)

    def stored(self, repository: Repository) -> Credentials | None:
        """Return the credentials in the file for `repository`, or None.

        The key with the longest path wins; entries without credentials are skipped. Raises
        CredentialsError for an invalid entry.
        """
        auths = self.members("auths")
        keys = keys_covering(auths, repository.registry, repository.path)
        return next(filter(None, map(self._credentials, keys)), None)

    def members(self, name: str) -> dict[str, Any]:
        """Return the object under `name`, empty if it is missing. Raises CredentialsError."""
        return self._typed(dict, self.document.get(name), name)

    def _credentials(self, key: str) -> Credentials | None:
        place = f"auths[{_display_key(key)}]"
        entry = self._typed(dict, self.members("auths")[key], place)

        def text(name: str) -> str:
            return self._typed(str, entry.get(name), f"{place}.{name}")

        username, password = text("username"), text("password")
        if auth := text("auth"):
            username, password = _decode_pair(auth)
            if not username:
                raise self._fault(f"{place}.auth", "is not base64 of username:password")
        identity, registry = text("identitytoken"), text("registrytoken")
        if not (username or identity or registry):
            return None  # docker writes `{}` if a helper has the credentials
        file = display_path(self.path)
        credentials = Credentials(username, password, identity, registry, source=file)
        return check_credentials(
            credentials, f"{file}: {place}", "log in again, or correct the file"
        )

    def _typed(self, kind: type[_T], value: object, place: str) -> _T:
        """Return `value` if it is of `kind`, and an empty value for null, as docker does."""
        if value is None:
            return kind()
        if not isinstance(value, kind):
            raise self._fault(place, f"is not {_KINDS[kind]}")
        return value

    def _fault(self, place: str, problem: str) -> CredentialsError:
        return CredentialsError(f"{display_path(self.path)}: {place} {problem}; correct the file")


def _parse(data: bytes) -> tuple[dict[str, Any], str]:
    """Return the JSON object in `data`, and a description of the problem, or ""."""
    if not data:
        return {}, ""
    import json  # few have such a file

    try:
        text = data.decode("utf-8-sig")
        document = json.loads(text) if text.strip() else {}
    except UnicodeDecodeError as error:
        return {}, f"is not UTF-8 (byte {error.start + 1})"
    except json.JSONDecodeError as error:
        return {}, f"is not JSON (line {error.lineno}, column {error.colno})"
    except (ValueError, RecursionError):  # an endless number, or endless nesting
        return {}, "is not JSON that can be read"
    if not isinstance(document, dict):
        return {}, "is not a JSON object"
    return document, ""


def _decode_pair(auth: str) -> tuple[str, str]:
    """Return the username and password in an `auth`, or two empty strings if it is invalid."""
    from base64 import b64decode

    auth = "".join(auth.split())
    try:
        pair = b64decode(auth + "=" * (-len(auth) % 4), validate=True)
    except ValueError:
        return "", ""
    # Bytes that are not UTF-8 are sent as they are: see Credentials.basic.
    username, colon, password = pair.decode("utf-8", "surrogateescape").partition(":")
    return (username, password.strip("\0")) if colon else ("", "")


def _display_key(key: str) -> str:
    """Return a key for messages, without the password that a URL may hold."""
    return excerpt(re.sub("[^/]*@", "", key))
