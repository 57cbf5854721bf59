"""Store and erase credentials as docker does, in a helper or in config.json.

The file is read, changed and replaced while a lock file beside it is held, so concurrent processes
do not lose each other's entries. A symbolic link stays one: its target is replaced.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from brolga.auth.config_file import ConfigFile, display_path, docker_path
from brolga.auth.entries import check_credentials, docker_key, keys_covering
from brolga.errors import CredentialsError
from brolga.spec.reference import Repository

if TYPE_CHECKING:
    from collections.abc import Callable

    from brolga.protocol import Credentials

_SECRET_MEMBERS: Final = ("auth", "username", "password", "identitytoken", "registrytoken")


def save(registry: str, credentials: Credentials) -> str:
    """Store the credentials of a registry as docker does; return the place.

    That is the helper in docker's config.json for the registry, else that file. An identity token
    takes precedence over a password.

    Raises CredentialsError if they cannot be stored, InvalidReference.
    """
    registry = Repository(registry, "any").registry
    entry = _entry(credentials)
    path, key = docker_path(), docker_key(registry)
    helper = ConfigFile.read(path).helper(registry)
    if helper:
        helper.store(credentials)
        _remove_entries(path, registry)  # an older password, in plain text
        return helper.program

    def with_entry(auths: dict[str, Any]) -> dict[str, Any]:
        old = auths[key] if isinstance(auths.get(key), dict) else {}
        kept = {name: value for name, value in old.items() if name not in _SECRET_MEMBERS}
        return {**auths, key: {**kept, **entry}}

    _change_auths(path, with_entry)
    return display_path(path)


def erase(registry: str) -> str | None:
    """Remove the credentials of a registry; return the places, or None without any.

    They are removed from docker's config.json and its helper for the registry, not from podman's
    files.

    Raises CredentialsError if that fails, InvalidReference.
    """
    registry = Repository(registry, "any").registry
    path = docker_path()
    helper = ConfigFile.read(path).helper(registry)
    # The file first, so that a failing helper leaves no plain text behind.
    places = [display_path(path)] if _remove_entries(path, registry) else []
    if helper and helper.erase():
        places.append(helper.program)
    return " and ".join(places) or None


def _entry(credentials: Credentials) -> dict[str, str]:
    check_credentials(credentials, "the login", "give it without")
    if credentials.identity_token:
        return {"identitytoken": credentials.identity_token}
    if not credentials.username:
        raise CredentialsError(
            "credentials without username and identity token cannot be stored; give one of them"
        )
    if ":" in credentials.username:  # RFC 7617, section 2
        raise CredentialsError("a username with a colon cannot be stored; registries have none")
    return {"auth": credentials.basic.removeprefix("Basic ")}


def _remove_entries(path: str, registry: str) -> bool:
    """Remove a registry's entries from the file; return whether one of them was not empty."""

    def without_entries(auths: dict[str, Any]) -> dict[str, Any]:
        removed = keys_covering(auths, registry)
        return {key: entry for key, entry in auths.items() if key not in removed}

    auths = ConfigFile.read(path).members("auths")
    keys = keys_covering(auths, registry)
    if keys:
        _change_auths(path, without_entries)
    return any(auths[key] for key in keys)


def _change_auths(path: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Replace the file's `auths` by the result of `change`, under a lock."""
    import fcntl

    target = Path(os.path.realpath(path))
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # It is not removed: that could remove another process's lock.
        lock = os.open(target.with_name(f"{target.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            config = ConfigFile.read(path)
            document = {**config.document, "auths": change(config.members("auths"))}
            _replace(target, json.dumps(document, indent="\t").encode())
        finally:
            os.close(lock)
    except OSError as error:
        raise CredentialsError(
            f"{display_path(path)} cannot be written: {error.strerror}; "
            "check the permissions and the free space of its directory"
        ) from None


def _replace(target: Path, data: bytes) -> None:
    """Replace a file atomically, readable only by its owner."""
    from brolga.disk.files import atomic_file, write_all

    with atomic_file(target, mode=0o600) as file:
        write_all(file.fileno(), data)
        os.fsync(file.fileno())
    directory = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(directory)  # else a power failure may undo the rename
    finally:
        os.close(directory)
