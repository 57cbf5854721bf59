"""Layers that nobody vouches for change nothing outside of the directory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pytest
from tests.attacks.corpus import ATTACKS, attack
from tests.attacks.running import run_attack

from brolga.extract import openat2

ROOT = Path(__file__).parents[3]


@pytest.fixture(params=["openat2", "O_NOFOLLOW"])
def _opener(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Open directories by one call of Linux, or by one for each part of a path."""

    def fail() -> NoReturn:
        raise OSError

    if request.param == "O_NOFOLLOW":
        monkeypatch.setattr(openat2, "_make_openat2", fail)


@pytest.mark.parametrize("everything", [False, True], ids=["default", "devices and setuid"])
@pytest.mark.usefixtures("_opener")
@pytest.mark.parametrize("name", ATTACKS)
def test_attack_changes_nothing_outside(name: str, everything: bool) -> None:
    """Neither content nor mode, owner, times, xattrs, inodes and numbers of links."""
    assert run_attack(name, everything=everything) == {}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_attacks_as_ordinary_user_change_nothing_outside() -> None:
    """The same, and the drawn layers, in a process of the user 65534."""
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'src'}"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.attacks.running"],
        cwd=ROOT,
        env=environment,
        check=False,
        capture_output=True,
        text=True,
    )
    assert (done.stdout, done.returncode) == ("", 0), done.stderr


def test_attacks_differ() -> None:
    """Each is written as its name says: no two have the same bytes."""
    stacks = [tuple(attack(name, "/out")) for name in ATTACKS]
    same = {stack: name for name, stack in zip(ATTACKS, stacks, strict=True)}
    assert sorted(set(ATTACKS) - set(same.values())) == []
