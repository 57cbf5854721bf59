"""The password file: who may use the registry.

Knows Apache's format, with bcrypt hashes alone (`htpasswd -B`). Must not know HTTP.

The file is read again when it has changed, so that a user who is taken out of it is out. What
cannot be read then changes nothing: the users of before may go on, and the log says so once. A
password that was right is remembered, as a keyed hash, until then: bcrypt is slow on purpose.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import secrets
from typing import TYPE_CHECKING

from brolga.errors import BrolgaError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["Htpasswd", "InvalidHtpasswd"]

_log = logging.getLogger("brolga.server")

_BCRYPT = re.compile(r"\$2[aby]\$(?:0[4-9]|[12][0-9]|3[01])\$[./A-Za-z0-9]{53}")

# bcrypt takes no more; htpasswd cuts off the rest as well.
_LONGEST = 72

# A name that is not in the file takes as long as a password that is wrong, and each of those as
# long as the dearest entry: nobody's hash, of its cost.
_NOBODY = "$2b$%02d$abcdefghijklmnopqrstuuIn0vGzZrJ6TqGfYs8sNl3cV1o6oWlXe"

_REMEMBERED = 1024
_COST = 10  # of an empty file


class InvalidHtpasswd(BrolgaError, ValueError):
    """A password file with an entry that cannot be used."""


class Htpasswd:
    """A password file, as it is now. Raises InvalidHtpasswd, OSError where it cannot be read."""

    def __init__(self, path: Path) -> None:
        import bcrypt

        self._matches = bcrypt.checkpw
        self._path = path
        self._key = secrets.token_bytes(32)
        self._load()

    def remembers(self, name: str, password: str) -> bool:
        """Whether the password was right before, and the file is the same."""
        return self._keyed(name, password) in self._right and self._stamp == _stamp(self._path)

    def check(self, name: str, password: str) -> bool:
        """Whether the password is right. Takes a tenth of a second of a core, or what it costs.

        The time that a wrong one takes does not depend on the name.
        """
        self._refresh()
        given = password.encode()[:_LONGEST]
        known = self._users.get(name)
        right = known is not None and self._matches(given, known)
        if not right and (known is None or _cost(known) < self._cost):
            self._matches(given, (_NOBODY % self._cost).encode())
        if right:
            if len(self._right) >= _REMEMBERED:
                self._right.clear()
            self._right.add(self._keyed(name, password))
        return right

    def _refresh(self) -> None:
        """Read the file again if it has changed; keep what was read where it cannot be."""
        if self._stamp == _stamp(self._path):
            return
        try:
            self._load()
        except (InvalidHtpasswd, OSError) as error:
            _log.error("the password file cannot be read again, its users stay: %s", error)

    def _load(self) -> None:
        # Also of a file that cannot be read: it is tried once.
        self._stamp = _stamp(self._path)
        self._users = _parse(self._path.read_bytes(), self._path)
        self._cost = max(map(_cost, self._users.values()), default=_COST)
        self._right: set[bytes] = set()

    def _keyed(self, name: str, password: str) -> bytes:
        text = f"{name}:{password}".encode()
        return hmac.digest(self._key, text, hashlib.sha256)


def _cost(hashed: bytes) -> int:
    """Return how many times, as a power of two, bcrypt hashes: `$2b$COST$...`."""
    return int(hashed.split(b"$")[2])


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """Tell a file from its next version; None where it is not there."""
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
