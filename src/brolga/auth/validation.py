"""What credentials may consist of.

Knows what HTTP can carry of them. Must not know where they come from.

Strategy: a flaw is told by the part that has it, never by its text. A password with a line break is
one that was copied with the end of its line; a token with one would end the header that it goes in.
Bytes beside UTF-8 are no flaw in a name or a password: they go out as they are.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from brolga.errors import CredentialsError

if TYPE_CHECKING:
    from brolga.protocol import Credentials

__all__ = ["check", "describe_problem"]

# "The user-id and password MUST NOT contain any control characters" (RFC 7617, section 2).
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
# What stands for no byte (PEP 383) and is no character.
_LONE: Final = re.compile("[\ud800-\udc7f\udd00-\udfff]")
# RFC 6749, appendix A.12 and A.17: 1*VSCHAR.
_TOKEN: Final = re.compile("[ -~]*")


def describe_problem(credentials: Credentials) -> str:
    """Return what no registry could be told of credentials, or an empty text."""
    for name, text in (("username", credentials.username), ("password", credentials.password)):
        if _CONTROL.search(text):
            return f"a control character (a line break?) in the {name}"
        if _LONE.search(text):
            return f"half a character (a lone surrogate) in the {name}"
    tokens = ("identity token", credentials.identity_token), ("token", credentials.registry_token)
    for name, text in tokens:
        if not _TOKEN.fullmatch(text):
            return f"a character in the {name} that is not printable ASCII"
    return ""


def check(credentials: Credentials, place: str, remedy: str) -> Credentials:
    """Return the credentials. Raises CredentialsError, with their `place`, for a flaw in them."""
    if what := describe_problem(credentials):
        raise CredentialsError(f"{place} has {what}; {remedy}")
    return credentials
