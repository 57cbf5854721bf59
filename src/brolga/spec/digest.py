"""Digests: names of content by its hash (image-spec, descriptor.md, Digests).

A `Digest` checks itself on every construction, so it is safe in a URL and in a path. Any algorithm
of the grammar can be held and passed on, as the spec asks; only sha256 and sha512 can be computed.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, Protocol, Self

from brolga.errors import DigestMismatch, InvalidDigest, excerpt
from brolga.spec.value import Value

if TYPE_CHECKING:
    from collections.abc import Mapping

# The grammar has no bound. This is the longest file name of common file systems, and an OCI
# layout stores a blob under its `encoded` part (image-layout.md, Blobs); sha512 needs 135.
MAX_DIGEST_LENGTH: Final = 255

# Spelled-out classes, not \w or \d, which match other alphabets. Repeated classes are possessive,
# to avoid backtracking; groups are not, as Python before 3.11.5 gets possessive groups wrong
# (python/cpython#106052).
_ALGORITHM: Final = r"[a-z0-9]++(?:[+._-][a-z0-9]++)*"
_ENCODED: Final = r"[a-zA-Z0-9=_-]++"
_LOWER_HEX: Final = r"[0-9a-f]++"
_COMPUTABLE: Final = ("sha256", "sha512")

# "Implementations MUST implement SHA-256 digest verification" (descriptor.md, SHA-256): the
# algorithm of a digest for which the user has chosen none.
CANONICAL: Final = "sha256"

# Length of `encoded` in characters (descriptor.md, Registered algorithms).
_REGISTERED: Final[Mapping[str, int]] = {"sha256": 64, "sha512": 128, "blake3": 64}


class Hasher(Protocol):
    """The methods of a hashlib object that brolga uses."""

    @property
    def name(self) -> str:
        """The algorithm, in hashlib's spelling."""

    def update(self, data: bytes | bytearray | memoryview, /) -> None:
        """Hash the next bytes."""

    def hexdigest(self) -> str:
        """Return the hash of the bytes so far in lower-case hexadecimal digits."""

    def copy(self) -> Hasher:
        """Return a copy of the present state."""


def hasher(algorithm: str = CANONICAL) -> Hasher:
    """Return a new hashlib object. Raises InvalidDigest if it cannot compute the algorithm."""
    import hashlib

    check_computable(algorithm)
    return hashlib.new(algorithm)


class Digest(Value, order=True):
    """An algorithm and a hash (descriptor.md, Digests). Raises InvalidDigest if it is not valid."""

    algorithm: str
    encoded: str

    def __post_init__(self) -> None:
        """Check both parts against the grammar."""
        # The length first, to bound the text that later checks see.
        length = len(self.algorithm) + 1 + len(self.encoded)
        if length > MAX_DIGEST_LENGTH:
            raise InvalidDigest(
                f"digest of {length} characters: at most {MAX_DIGEST_LENGTH} are taken"
            )
        if not re.fullmatch(_ALGORITHM, self.algorithm):
            raise InvalidDigest(
                f"digest algorithm {excerpt(self.algorithm)} is not lower-case letters and digits, "
                "in parts joined by one of '+._-'"
            )
        encoded, size = self.encoded, _REGISTERED.get(self.algorithm)
        if size is None:
            # "Implementations SHOULD allow digests that are unsupported to pass validation if they
            # comply with the above grammar" (descriptor.md, Digests).
            if not re.fullmatch(_ENCODED, encoded):
                raise InvalidDigest(
                    f"digest encoded part {excerpt(encoded)} is not letters, digits and '=_-'"
                )
        elif len(encoded) != size or not re.fullmatch(_LOWER_HEX, encoded):
            raise InvalidDigest(
                f"digest encoded part {excerpt(encoded)} is not "
                f"the {size} lower-case hexadecimal digits of {self.algorithm}"
            )

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse `algorithm:encoded`. Raises InvalidDigest, which names the wrong part."""
        algorithm, colon, encoded = text.partition(":")
        if not colon:
            raise InvalidDigest(f"digest {excerpt(text)} has no ':' after an algorithm")
        return cls(algorithm, encoded)

    @classmethod
    def of(cls, data: bytes | bytearray | memoryview, algorithm: str = CANONICAL) -> Self:
        """Compute the digest of bytes. Raises InvalidDigest as `hasher` does."""
        state = hasher(algorithm)
        state.update(data)
        return cls.from_hasher(state)

    @classmethod
    def from_hasher(cls, state: Hasher) -> Self:
        """Return the digest of all bytes that an object of `hasher` has hashed so far."""
        check_computable(state.name)
        return cls(state.name, state.hexdigest())

    @property
    def is_computable(self) -> bool:
        """Whether bytes can be verified against this digest here."""
        return self.algorithm in _COMPUTABLE

    def verifier(self, state: Hasher | None = None) -> Verifier:
        """Return an object that verifies blocks of bytes. Raises InvalidDigest as `hasher` does.

        If the first bytes were hashed before, `state` is their hash. It is not changed.
        """
        return Verifier(self, state)

    def __str__(self) -> str:
        """Return `algorithm:encoded`, which parses back to an equal digest."""
        return f"{self.algorithm}:{self.encoded}"


class Verifier:
    """Verifies bytes, in blocks, against a digest (image-spec descriptor.md, Verification)."""

    __slots__ = ("_expected", "_state")

    def __init__(self, expected: Digest, state: Hasher | None = None) -> None:
        self._expected = expected
        self._state = hasher(expected.algorithm) if state is None else state.copy()

    def update(self, block: bytes | bytearray | memoryview) -> None:
        """Hash the next bytes."""
        self._state.update(block)

    def verify(self) -> None:
        """Raise DigestMismatch if the bytes so far do not have the digest."""
        actual = Digest.from_hasher(self._state)
        if actual != self._expected:
            raise DigestMismatch(
                f"the bytes hash to {actual}, where {self._expected} was expected",
                expected=self._expected,
                actual=actual,
            )


def check_computable(algorithm: str) -> None:
    """Raise InvalidDigest if digests of an algorithm cannot be computed here."""
    if algorithm not in _COMPUTABLE:
        known = " and ".join(_COMPUTABLE)
        raise InvalidDigest(
            f"digest algorithm {excerpt(algorithm)} cannot be computed here: {known} can"
        )
