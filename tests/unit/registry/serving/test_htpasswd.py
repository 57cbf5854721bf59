from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from brolga.registry.serving import htpasswd
from brolga.registry.serving.htpasswd import Htpasswd, InvalidHtpasswd

if TYPE_CHECKING:
    from pathlib import Path

bcrypt = pytest.importorskip("bcrypt")


@pytest.fixture
def users(tmp_path: Path) -> Htpasswd:
    """Return a file of one user, whose password is longer than bcrypt reads."""
    hashed = bcrypt.hashpw(b"x" * 72, bcrypt.gensalt(4)).decode()
    path = tmp_path / "htpasswd"
    path.write_text(f"ann:{hashed}\n")
    return Htpasswd(path)


def test_check_truncates_long_password(users: Htpasswd) -> None:
    """Only the first 72 bytes count, as in `htpasswd -B`."""
    assert users.check("ann", "x" * 100)
    assert not users.check("ann", "x" * 71)


def test_remembers_only_correct_passwords(users: Htpasswd) -> None:
    """A right password is hashed once, a wrong one each time."""
    for name, password in (("ann", "wrong"), ("nobody", "x" * 72)):
        assert not users.check(name, password)
        assert not users.remembers(name, password)
    assert not users.remembers("ann", "x" * 72)
    assert users.check("ann", "x" * 72)
    assert users.remembers("ann", "x" * 72)
    assert not users.remembers("an", "n:" + "x" * 72)


def test_cache_contains_no_password(users: Htpasswd) -> None:
    """The cache does not reveal the passwords."""
    users.check("ann", "x" * 72)
    assert all(b"x" * 8 not in entry for entry in users._cache)


def test_cache_is_bounded(users: Htpasswd, monkeypatch: pytest.MonkeyPatch) -> None:
    """Passwords that are right in many spellings take no memory without end."""
    monkeypatch.setattr(htpasswd, "_MAX_CACHED", 3)
    for n in range(10):
        assert users.check("ann", "x" * (72 + n))
        assert len(users._cache) <= 3


def test_load_rejects_binary_file(users: Htpasswd, caplog: pytest.LogCaptureFixture) -> None:
    """A file that becomes invalid while it is used changes nothing, and is logged once."""
    users._path.write_bytes(b"ann:\xff\n")
    with pytest.raises(InvalidHtpasswd, match="line 1: not UTF-8"):
        Htpasswd(users._path)
    for _ in range(3):
        assert users.check("ann", "x" * 72)
        assert users.remembers("ann", "x" * 72)
        assert not users.check("ann", "wrong")
    assert caplog.text.count("line 1: not UTF-8") == 1


def test_check_accepts_name_outside_ascii(tmp_path: Path) -> None:
    """RFC 7617, section 2.1: user-ids and passwords are in UTF-8."""
    hashed = bcrypt.hashpw("\u00e9".encode(), bcrypt.gensalt(4)).decode()
    path = tmp_path / "htpasswd"
    path.write_text(f"\u00e4nn:{hashed}\r\n", encoding="utf-8")
    assert Htpasswd(path).check("\u00e4nn", "\u00e9")


def test_check_takes_as_long_for_every_wrong_password(tmp_path: Path) -> None:
    """The time does not tell which names are in the file: bcrypt's cost adds up to the same."""
    path = tmp_path / "htpasswd"
    costs = {"cheap": 4, "dear": 8}
    entries = (
        f"{name}:{bcrypt.hashpw(b'right', bcrypt.gensalt(cost)).decode()}\n"
        for name, cost in costs.items()
    )
    path.write_text("".join(entries))
    users = Htpasswd(path)
    spent: list[int] = []

    def matches(password: bytes, hashed_password: bytes) -> bool:
        spent.append(2 ** int(hashed_password.split(b"$")[2]))
        return bool(bcrypt.checkpw(password, hashed_password))

    users._matches = matches
    totals = {}
    for name in ("cheap", "dear", "nobody"):
        spent.clear()
        assert not users.check(name, "wrong")
        totals[name] = sum(spent)
    assert max(totals.values()) < 1.1 * min(totals.values())
    for name in costs:
        assert users.check(name, "right")
