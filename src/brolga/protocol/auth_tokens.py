"""Parse WWW-Authenticate and the responses of token servers, and cache tokens by scope.

Both come from the network: they are read up to a limit, and a token must fit into a header.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from brolga.errors import ProtocolViolation

_MAX_CHALLENGE: Final = 8192  # characters
_MAX_TOKEN: Final = 65536  # characters
_MAX_TOKENS: Final = 256
# "expires_in: … for compatibility with older clients, a token should never be returned with less
# than 60 seconds to live" and 60 if it is missing (Token Authentication, Token Response Fields).
_DEFAULT_LIFETIME_S: Final = 60.0
_MAX_LIFETIME_S: Final = 86400.0
# RFC 9110, section 11.2: a parameter, a scheme, or neither (a token68, garbage). Repeated classes
# are possessive, so that nothing is tried twice; groups are not, as Python before 3.11.5 gets
# possessive groups wrong (python/cpython#106052).
_CHALLENGE_PART: Final = r"""(?xs)
      (?P<name>[A-Za-z0-9_-]++)\s*+=\s*+(?:"(?P<quoted>(?:[^"\\]++|\\.)*)"|(?P<plain>[^\s,"]++))
    | (?P<scheme>[A-Za-z0-9!#$%&'*+.^_`|~-]++)(?=[\s,]|$)
    | [^\s,]++
    """
_VISIBLE: Final = r"[!-~]++"
# A token is renewed in the last part of its life, which is at most so many seconds.
_RENEW_FRACTION: Final = 0.2
_MAX_RENEW_S: Final = 10.0


class Token(NamedTuple):
    """A bearer token, and its lifetime from when it was requested."""

    text: str
    lifetime_s: float

    @property
    def renewed_after_s(self) -> float:
        """How long to use the token before a new one is requested."""
        return self.lifetime_s - min(self.lifetime_s * _RENEW_FRACTION, _MAX_RENEW_S)


def parse_challenges(header: str) -> dict[str, dict[str, str]]:
    """Return the parameters of the first challenge of each scheme; names are in lower case."""
    challenges: dict[str, dict[str, str]] = {}
    params: dict[str, str] = {}
    for part in re.finditer(_CHALLENGE_PART, header[:_MAX_CHALLENGE]):
        if part["scheme"]:
            params = {}
            challenges.setdefault(part["scheme"].lower(), params)
        elif part["name"]:
            quoted = part["quoted"]
            value = part["plain"] if quoted is None else re.sub(r"(?s)\\(.)", r"\1", quoted)
            params.setdefault(part["name"].lower(), value)
    return challenges


def parse_token(body: bytes) -> Token:
    """Return the token of a token server. Raises ProtocolViolation if it does not fit a header."""
    import json

    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        document = None
    if isinstance(document, dict):
        text = document.get("token") or document.get("access_token")
        if isinstance(text, str) and len(text) <= _MAX_TOKEN and re.fullmatch(_VISIBLE, text):
            lifetime_s = document.get("expires_in")
            if not isinstance(lifetime_s, int | float) or not lifetime_s > 0:
                lifetime_s = _DEFAULT_LIFETIME_S
            return Token(text, float(min(lifetime_s, _MAX_LIFETIME_S)))
    raise ProtocolViolation(
        "the token server answered without a usable token", hint="tell its administrator"
    )


class _Entry(NamedTuple):
    grants: frozenset[tuple[str, str]]
    header: str
    expires: float


class TokenCache:
    """The newest Authorization headers by scope, without expired ones. Threads may share it."""

    def __init__(self) -> None:
        self._entries: dict[tuple[str, ...], _Entry] = {}

    def get(self, scope: tuple[str, ...], now: float) -> str:
        """Return the header of a valid token that covers `scope`, or ""."""
        entry = self._entries.get(scope)
        if entry is not None and now < entry.expires:
            return entry.header
        required = _grants(scope)
        for entry in list(self._entries.values()):
            if now < entry.expires and required <= entry.grants:  # a token to push can pull
                return entry.header
        return ""

    def store(self, scope: tuple[str, ...], header: str, expires: float, now: float) -> None:
        """Add a token's header; drop what has expired, and the oldest beyond the limit."""
        entries = {key: entry for key, entry in list(self._entries.items()) if now < entry.expires}
        entries.pop(scope, None)
        entries[scope] = _Entry(_grants(scope), header, expires)
        excess = max(0, len(entries) - _MAX_TOKENS)
        self._entries = dict(list(entries.items())[excess:])

    def discard(self, scope: tuple[str, ...], refused: str) -> None:
        """Drop a token that was refused, and all others that cover `scope`.

        They may be invalid too: the registry changed its key, or this machine slept. If the
        refused token is gone, another thread has done this already.
        """
        entries = list(self._entries.items())
        if all(entry.header != refused for _, entry in entries):
            return
        required = _grants(scope)
        self._entries = {
            key: entry
            for key, entry in entries
            if entry.header != refused and not required <= entry.grants
        }


def _grants(scope: Sequence[str]) -> frozenset[tuple[str, str]]:
    """Return what a scope allows, as pairs of a resource and one action."""
    return frozenset(
        (resource, action)
        for resource, _, actions in (part.rpartition(":") for part in scope)
        for action in actions.split(",")
    )
