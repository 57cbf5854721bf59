"""auth.py: where credentials come from."""

from __future__ import annotations

import pytest

from brolga.auth import credentials_from_environment
from brolga.wire import Credentials


def test_both_variables_make_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """BROLGA_USERNAME and BROLGA_PASSWORD; the password is never shown."""
    monkeypatch.setenv("BROLGA_USERNAME", "someone")
    monkeypatch.setenv("BROLGA_PASSWORD", "secret: with colon")
    credentials = credentials_from_environment()
    assert credentials == Credentials("someone", "secret: with colon")
    assert "secret" not in repr(credentials)


@pytest.mark.parametrize("present", ["BROLGA_USERNAME", "BROLGA_PASSWORD", None])
@pytest.mark.parametrize("rest", [None, ""])
def test_one_alone_is_none(
    monkeypatch: pytest.MonkeyPatch, present: str | None, rest: str | None
) -> None:
    """Half of a pair, or an empty half, is no credentials."""
    for name in ("BROLGA_USERNAME", "BROLGA_PASSWORD"):
        if value := "x" if name == present else rest:
            monkeypatch.setenv(name, value)
    assert credentials_from_environment() is None


def test_an_empty_half_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that is set to nothing is as good as unset."""
    monkeypatch.setenv("BROLGA_USERNAME", "someone")
    monkeypatch.setenv("BROLGA_PASSWORD", "")
    assert credentials_from_environment() is None
