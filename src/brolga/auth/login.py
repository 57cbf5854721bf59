"""What a login writes and a logout takes away.

Knows how docker's config.json is changed without loss: under a lock, in one step, by its owner
alone readable. Must not know how credentials are asked for.

Strategy: a helper that docker's config names for the registry gets the credentials, else the file.
The file is read, changed and replaced while a lock file beside it is held, so that two processes
do not lose each other's entries. A link to the file stays one: what it leads to is replaced.
"""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from brolga.auth.config_file import HELPER_TIMEOUT_S, ConfigFile, docker_path, shown
from brolga.auth.config_keys import docker_key, of_registry
from brolga.auth.validation import check
from brolga.errors import CredentialsError
from brolga.spec.reference import Repository

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from brolga.protocol import Credentials

__all__ = ["erase", "save"]

_SECRET_MEMBERS: Final = ("auth", "username", "password", "identitytoken", "registrytoken")


def save(
    registry: str, credentials: Credentials, *, helper_timeout_s: float = HELPER_TIMEOUT_S
) -> str:
    """Store the credentials of a registry as docker does; return where they are now.

    That is the helper in docker's config.json for the registry, else that file. An identity token
    goes before a password. A helper has `helper_timeout_s` seconds to answer.

    Raises CredentialsError where that fails or they cannot be stored, InvalidReference.
    """
    registry = _canonical(registry)
    entry = _entry(credentials)
    path = docker_path()
    helper = ConfigFile.read(path).helper(registry, timeout_s=helper_timeout_s)
    if helper:
        helper.store(credentials)
        _forget(path, registry)  # an older password, in plain text
        return helper.program
    _change(path, lambda config: _with_entry(config, docker_key(registry), entry))
    return shown(path)


def erase(registry: str, *, helper_timeout_s: float = HELPER_TIMEOUT_S) -> str | None:
    """Remove the credentials of a registry; return where they were, or None for nowhere.

    Both docker's config.json and its helper for the registry lose them; podman's files are not
    touched. A helper has `helper_timeout_s` seconds for each answer.

    Raises CredentialsError where that fails, InvalidReference.
    """
    registry = _canonical(registry)
    path = docker_path()
    helper = ConfigFile.read(path).helper(registry, timeout_s=helper_timeout_s)
    # The file first: a broken helper does not keep what is in plain text.
    places = [shown(path)] if _forget(path, registry) else []
    if helper and helper.erase():
        places.append(helper.program)
    return " and ".join(places) or None


def _canonical(registry: str) -> str:
    return Repository(registry, "any").registry


def _entry(credentials: Credentials) -> dict[str, str]:
    """Return the members of an entry in `auths`. Raises CredentialsError."""
    check(credentials, "the login", "give it without")
    if credentials.identity_token:
        return {"identitytoken": credentials.identity_token}
    if not credentials.username:
        raise CredentialsError(
            "credentials without username and identity token cannot be stored; give one of them"
        )
    if ":" in credentials.username:  # RFC 7617, section 2
        raise CredentialsError("a username with a colon cannot be stored; registries know none")
    return {"auth": credentials.basic.removeprefix("Basic ")}


def _with_entry(config: ConfigFile, key: str, entry: dict[str, str]) -> dict[str, Any]:
    auths = config.members("auths")
    old = auths.get(key)
    kept = (
        {name: value for name, value in old.items() if name not in _SECRET_MEMBERS}
        if isinstance(old, dict)
        else {}
    )
    return {**config.document, "auths": {**auths, key: {**kept, **entry}}}


def _forget(path: Path, registry: str) -> bool:
    """Remove a registry's entries from the file; return whether one had something in it."""
    auths = ConfigFile.read(path).members("auths")
    doomed = of_registry(auths, registry)
    if doomed:
        _change(path, lambda config: _without(config, registry))
    return any(auths[key] for key in doomed)


def _without(config: ConfigFile, registry: str) -> dict[str, Any]:
    auths = config.members("auths")
    doomed = of_registry(auths, registry)
    kept = {key: entry for key, entry in auths.items() if key not in doomed}
    return {**config.document, "auths": kept}


def _change(path: Path, change: Callable[[ConfigFile], dict[str, Any]]) -> None:
    """Replace the file by what `change` makes of it, while nobody else does.

    Raises CredentialsError where it cannot be read or written.
    """
    try:
        with _locked(Path(os.path.realpath(path))) as target:
            _replace(target, json.dumps(change(ConfigFile.read(path)), indent="\t").encode())
    except OSError as error:
        raise CredentialsError(
            f"{shown(path)} cannot be written: {error.strerror}; "
            "check the rights and the space of its directory"
        ) from None


@contextmanager
def _locked(target: Path) -> Iterator[Path]:
    """Hold the lock of a file, making its directory where there is none."""
    import fcntl

    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # It stays: whoever removed it could remove another one's lock.
    lock = os.open(target.with_name(f"{target.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield target
    finally:
        os.close(lock)


def _replace(target: Path, data: bytes) -> None:
    """Put `data` in the place of a file in one step, readable by its owner alone."""
    import tempfile

    fd, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)  # mode 0600
    try:
        with open(fd, "wb") as file:  # noqa: PTH123 - a descriptor
            file.write(data)
            file.flush()
            os.fsync(fd)
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink()
        raise
    directory = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(directory)  # else the rename may be lost with the power
    finally:
        os.close(directory)
