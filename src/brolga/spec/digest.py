"""Digests: what names a blob by its bytes.

Knows the grammar of the image-spec (descriptor.md, Digests), which algorithms it registers and
which of those can be computed here. Must not know where the bytes come from or go to.

Strategy: a `Digest` checks itself however it is made, so holding one is proof that it is safe in
a URL and in a path. Any algorithm of the grammar can be held and passed on, as the spec asks;
only sha256 and sha512 can be computed. Hashing itself is hashlib's, which releases the GIL for
every block that is worth a thread.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from brolga.errors import DigestMismatch, InvalidDigest, excerpt

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Self

__all__ = ["MAX_DIGEST_LENGTH", "Digest", "Hasher", "Verifier", "hasher"]

# The grammar has no bound. This is the longest file name of common file systems, and an OCI
# layout stores a blob under its `encoded` part (image-layout.md, Blobs); sha512 needs 135.
MAX_DIGEST_LENGTH: Final = 255

# Spelled-out classes, never \w or \d: those match other alphabets. Repeated classes are
# possessive, so that nothing is tried twice; groups are not, as Python before 3.11.5 gets
# possessive groups wrong (python/cpython#106052).
_ALGORITHM: Final = re.compile(r"[a-z0-9]++(?:[+._-][a-z0-9]++)*")
_ENCODED: Final = re.compile(r"[a-zA-Z0-9=_-]++")
_LOWER_HEX: Final = re.compile(r"[0-9a-f]++")

# Length of `encoded` in characters (descriptor.md, Registered algorithms).
_REGISTERED: Final[Mapping[str, int]] = {"sha256": 64, "sha512": 128, "blake3": 64}


class Hasher(Protocol):
    """What is used of a hashlib object."""

    @property
    def name(self) -> str:
        """The algorithm, in hashlib's spelling."""

    def update(self, data: bytes | bytearray | memoryview, /) -> None:
        """Take the next bytes."""

    def hexdigest(self) -> str:
        """Return the hash of the bytes so far in lower-case hexadecimal digits."""

    def copy(self) -> Hasher:
        """Return another one that has taken the same bytes."""


_HASHES: Final[Mapping[str, Callable[[], Hasher]]] = {
    "sha256": hashlib.sha256,
    "sha512": hashlib.sha512,
}


def hasher(algorithm: str = "sha256") -> Hasher:
    """Return a new hashlib object; `Digest.from_hasher` turns it into a digest.

    Raises InvalidDigest for an algorithm that cannot be computed here.
    """
    _check_computable(algorithm)
    return _HASHES[algorithm]()


@dataclass(frozen=True, slots=True, order=True)
class Digest:
    """An algorithm and the hash that it gave for some bytes.

    Raises InvalidDigest for what is outside the grammar (image-spec descriptor.md, Digests).
    """

    algorithm: str
    encoded: str

    def __post_init__(self) -> None:
        """Check both parts against the grammar."""
        # The length first: no later check then sees more than a bounded text.
        length = len(self.algorithm) + 1 + len(self.encoded)
        if length > MAX_DIGEST_LENGTH:
            raise InvalidDigest(
                f"digest of {length} characters: at most {MAX_DIGEST_LENGTH} are taken"
            )
        _check_algorithm(self.algorithm)
        _check_encoded(self.algorithm, self.encoded)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `algorithm:encoded`.

        Raises InvalidDigest, saying which part is wrong (image-spec descriptor.md, Digests).
        """
        algorithm, colon, encoded = text.partition(":")
        if not colon:
            raise InvalidDigest(f"digest {excerpt(text)} has no ':' after an algorithm")
        return cls(algorithm, encoded)

    @classmethod
    def of(cls, data: bytes | bytearray | memoryview, algorithm: str = "sha256") -> Self:
        """Compute the digest of bytes that are in memory.

        Raises InvalidDigest for an algorithm that cannot be computed here.
        """
        state = hasher(algorithm)
        state.update(data)
        return cls.from_hasher(state)

    @classmethod
    def from_hasher(cls, state: Hasher) -> Self:
        """Return the digest of all bytes that a hashlib object has taken so far.

        Raises InvalidDigest for a hash that is not one of `hasher`'s.
        """
        _check_computable(state.name)
        return cls(state.name, state.hexdigest())

    @property
    def is_computable(self) -> bool:
        """Whether bytes can be held against this digest here."""
        return self.algorithm in _HASHES

    def verifier(self) -> Verifier:
        """Return an object that takes bytes in blocks and says whether they are these.

        Raises InvalidDigest for an algorithm that cannot be computed here.
        """
        return Verifier(self)

    def __str__(self) -> str:
        """Return `algorithm:encoded`, which parses back to an equal digest."""
        return f"{self.algorithm}:{self.encoded}"


class Verifier:
    """Bytes in blocks, held against a digest (image-spec descriptor.md, Verification)."""

    __slots__ = ("_expected", "_state")

    def __init__(self, expected: Digest) -> None:
        self._expected = expected
        self._state = hasher(expected.algorithm)

    def update(self, block: bytes | bytearray | memoryview) -> None:
        """Take the next bytes."""
        self._state.update(block)

    def verify(self) -> None:
        """Check that the bytes so far are those of the digest.

        Raises DigestMismatch where they are not.
        """
        actual = Digest.from_hasher(self._state)
        if actual != self._expected:
            raise DigestMismatch(
                f"the bytes hash to {actual}, where {self._expected} was expected",
                expected=str(self._expected),
                actual=str(actual),
            )


def _check_computable(algorithm: str) -> None:
    if algorithm not in _HASHES:
        known = " and ".join(_HASHES)
        raise InvalidDigest(
            f"digest algorithm {excerpt(algorithm)} cannot be computed here: {known} can"
        )


def _check_algorithm(algorithm: str) -> None:
    if not _ALGORITHM.fullmatch(algorithm):
        raise InvalidDigest(
            f"digest algorithm {excerpt(algorithm)} is not lower-case letters and digits, "
            "in parts joined by one of '+._-'"
        )


def _check_encoded(algorithm: str, encoded: str) -> None:
    length = _REGISTERED.get(algorithm)
    if length is None:
        # "Implementations SHOULD allow digests that are unsupported to pass validation if they
        # comply with the above grammar" (descriptor.md, Digests).
        if not _ENCODED.fullmatch(encoded):
            raise InvalidDigest(
                f"digest encoded part {excerpt(encoded)} is not letters, digits and '=_-'"
            )
    elif len(encoded) != length or not _LOWER_HEX.fullmatch(encoded):
        raise InvalidDigest(
            f"digest encoded part {excerpt(encoded)} is not "
            f"the {length} lower-case hexadecimal digits of {algorithm}"
        )
