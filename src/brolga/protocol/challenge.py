"""What a registry asks for before it lets us in, and the token that a token server gives.

Knows the grammar of WWW-Authenticate (RFC 9110, section 11) and the token protocol's answer
(distribution, Token Authentication). Must not know who asks, or for what.

Strategy: both come from the network. They are read to a bound, and what cannot be sent back in a
header is no token.
"""

from __future__ import annotations

import json
import re
from typing import Final, NamedTuple

from brolga.errors import ProtocolViolation

__all__ = ["Token", "parse_challenges", "parse_token"]

_MAX_CHALLENGE: Final = 8192  # characters
_MAX_TOKEN: Final = 65536  # characters
# "expires_in: … for compatibility with older clients, a token should never be returned with less
# than 60 seconds to live" and 60 where it is absent (Token Authentication, Token Response Fields).
_LIFETIME_S: Final = 60.0
_LONGEST_S: Final = 86400.0
# RFC 9110, section 11.2: a parameter, a scheme, or what is neither (a token68, garbage). Repeated
# classes are possessive, so that nothing is tried twice; groups are not, as Python before 3.11.5
# gets possessive groups wrong (python/cpython#106052).
_CHALLENGE_PART: Final = re.compile(
    r"""
      (?P<name>[A-Za-z0-9_-]++)\s*+=\s*+(?:"(?P<quoted>(?:[^"\\]++|\\.)*)"|(?P<plain>[^\s,"]++))
    | (?P<scheme>[A-Za-z0-9!#$%&'*+.^_`|~-]++)(?=[\s,]|$)
    | [^\s,]++
    """,
    re.VERBOSE | re.DOTALL,
)
_TOKEN: Final = re.compile(r"[!-~]++")


class Token(NamedTuple):
    """A bearer token, and how many seconds it lives from when it was asked for."""

    text: str
    lifetime_s: float


def parse_challenges(header: str) -> dict[str, dict[str, str]]:
    """Return a WWW-Authenticate header's challenges: parameters by scheme, both in lower case.

    Where a scheme comes twice, the first counts (RFC 9110, section 11.6.1).
    """
    challenges: dict[str, dict[str, str]] = {}
    params: dict[str, str] = {}
    for part in _CHALLENGE_PART.finditer(header[:_MAX_CHALLENGE]):
        if part["scheme"]:
            params = {}
            challenges.setdefault(part["scheme"].lower(), params)
        elif part["name"]:
            quoted = part["quoted"]
            value = part["plain"] if quoted is None else re.sub(r"(?s)\\(.)", r"\1", quoted)
            params.setdefault(part["name"].lower(), value)
    return challenges


def parse_token(body: bytes) -> Token:
    """Return the token of a token server's answer, under either of its two names.

    Raises ProtocolViolation where there is none that can go into a header.
    """
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        document = None
    if isinstance(document, dict):
        text = document.get("token") or document.get("access_token")
        # It goes into a header: nothing but visible ASCII, and not without an end.
        if isinstance(text, str) and len(text) <= _MAX_TOKEN and _TOKEN.fullmatch(text):
            return Token(text, _lifetime_s(document.get("expires_in")))
    raise ProtocolViolation("the token server answered without a usable token")


def _lifetime_s(said: object) -> float:
    if isinstance(said, int | float) and said > 0:
        return float(min(said, _LONGEST_S))
    return _LIFETIME_S
