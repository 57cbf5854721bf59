"""sound.py: what credentials may consist of."""

from __future__ import annotations

import pytest

from brolga.auth.validation import check, describe_problem
from brolga.errors import CredentialsError
from brolga.protocol import Credentials


@pytest.mark.parametrize(
    "credentials",
    [
        Credentials(),
        Credentials("someone", " secret: with \u00e4 and \udcff "),
        Credentials("someone", "", "a.b-c~d+e/f="),
        Credentials("", "", "", "a b"),
    ],
)
def test_what_registries_take(credentials: Credentials) -> None:
    """Text of any language, and the bytes beside UTF-8 that the environment may hold (PEP 383)."""
    assert describe_problem(credentials) == ""
    assert check(credentials, "here", "do that") is credentials


@pytest.mark.parametrize(
    ("credentials", "what"),
    [
        (Credentials("a\nb", "secret"), "a control character (a line break?) in the username"),
        (Credentials("a", "secret\n"), "a control character (a line break?) in the password"),
        (Credentials("a", "sec\x7fret"), "a control character (a line break?) in the password"),
        (Credentials("a", "secret\0"), "a control character (a line break?) in the password"),
        (Credentials("a\ud800", "x"), "half a character (a lone surrogate) in the username"),
        (Credentials("a", "\udfff"), "half a character (a lone surrogate) in the password"),
        (
            Credentials("", "", "x\r\n"),
            "a character in the identity token that is not printable ASCII",
        ),
        (
            Credentials("", "", "", "x\u00e4"),
            "a character in the token that is not printable ASCII",
        ),
    ],
)
def test_what_no_registry_could_be_told(credentials: Credentials, what: str) -> None:
    """RFC 7617, section 2: no control characters; RFC 6749, appendix A: tokens are printable ASCII.

    The message says which part, and never what it is.
    """
    assert describe_problem(credentials) == what
    with pytest.raises(CredentialsError) as caught:
        check(credentials, "the file", "log in again")
    assert str(caught.value) == f"the file has {what}; log in again"
