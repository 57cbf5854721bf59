"""The htpasswd file: the users of the registry. Only bcrypt hashes are supported (`htpasswd -B`).

The file is read again when it changes, so that removed users lose access. If it cannot be read
then, the previous users stay, and the log says so once. A correct password is cached as a keyed
hash until the file changes: bcrypt is slow on purpose.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import secrets
from typing import TYPE_CHECKING, Final

from brolga.errors import BrolgaError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


_log = logging.getLogger("brolga.registry")

_BCRYPT: Final = re.compile(r"\$2[aby]\$(?:0[4-9]|[12][0-9]|3[01])\$[./A-Za-z0-9]{53}")

_MAX_PASSWORD: Final = 72  # bcrypt accepts no more; htpasswd cuts off the rest as well

# An unknown name must take as long as a wrong password, and each of those as long as the most
# expensive entry: this hash fits no password.
_DUMMY_HASH: Final = "$2b$%02d$abcdefghijklmnopqrstuuIn0vGzZrJ6TqGfYs8sNl3cV1o6oWlXe"

_MAX_CACHED: Final = 1024
_DEFAULT_COST: Final = 10  # for an empty file


class InvalidHtpasswd(BrolgaError, ValueError):
    """A password file with an entry that cannot be used."""


class Htpasswd:
    """The current contents of a password file. Raises InvalidHtpasswd, OSError."""

    def __init__(self, path: Path) -> None:
        import bcrypt

        self._matches = bcrypt.checkpw
        self._path = path
        self._key = secrets.token_bytes(32)
        self._load()

    def remembers(self, name: str, password: str) -> bool:
        """Return whether the password was right before, and the file has not changed."""
        return self._keyed_hash(name, password) in self._cache and self._stamp == _stamp(self._path)

    def check(self, name: str, password: str) -> bool:
        """Return whether the password is right. The time for a wrong one depends on no name."""
        if self._stamp != _stamp(self._path):
            try:
                self._load()
            except (InvalidHtpasswd, OSError) as error:
                _log.error("the password file cannot be read again, its users stay: %s", error)
        encoded = password.encode()[:_MAX_PASSWORD]
        hashed = self._users.get(name)
        is_right = hashed is not None and self._matches(encoded, hashed)
        if not is_right and (hashed is None or _cost(hashed) < self._cost):
            self._matches(encoded, (_DUMMY_HASH % self._cost).encode())
        if is_right:
            if len(self._cache) >= _MAX_CACHED:
                self._cache.clear()
            self._cache.add(self._keyed_hash(name, password))
        return is_right

    def _load(self) -> None:
        # First: a file that cannot be read is tried once.
        self._stamp = _stamp(self._path)
        self._users = _parse(self._path.read_bytes(), self._path)
        self._cost = max(map(_cost, self._users.values()), default=_DEFAULT_COST)
        self._cache: set[bytes] = set()

    def _keyed_hash(self, name: str, password: str) -> bytes:
        return hmac.digest(self._key, f"{name}:{password}".encode(), hashlib.sha256)


def _cost(hashed: bytes) -> int:
    """Return the cost of a bcrypt hash: `$2b$COST$...`."""
    return int(hashed.split(b"$")[2])


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """Return a value that changes with the file; None if it is missing."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


def _parse(text: bytes, path: Path) -> Mapping[str, bytes]:
    users: dict[str, bytes] = {}
    for number, line in enumerate(text.splitlines(), 1):
        try:
            entry = line.decode().strip()
        except UnicodeDecodeError as error:
            raise InvalidHtpasswd(f"{path}, line {number}: not UTF-8") from error
        if not entry or entry.startswith("#"):
            continue
        name, _, hashed = entry.partition(":")
        if not name or not _BCRYPT.fullmatch(hashed):
            raise InvalidHtpasswd(
                f"{path}, line {number}: not NAME:HASH with a bcrypt hash; `htpasswd -B` makes one"
            )
        users[name] = hashed.encode()
    return users
