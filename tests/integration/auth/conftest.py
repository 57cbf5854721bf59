"""Fixtures: credential helpers as real programs on PATH."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest
from tests.unit.auth.conftest import configure, error_text, home  # noqa: F401 - fixtures

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# Keeps credentials in a file beside itself, as a helper does: errors go to stdout. It notes each
# call in calls.txt: its arguments and its stdin.
_KEEPER = """#!{python} -IS
import json, pathlib, sys
here = pathlib.Path(__file__).parent
kept = here / (pathlib.Path(__file__).name + ".json")
entries = json.loads(kept.read_text()) if kept.exists() else {{}}
text = sys.stdin.read()
with open(here / "calls.txt", "a") as calls:
    print(*sys.argv[1:], text, file=calls)
action, = sys.argv[1:]
if action == "store":
    entry = json.loads(text)
    entries[entry["ServerURL"]] = entry
elif action == "list":
    print(json.dumps({{key: entry["Username"] for key, entry in entries.items()}}))
elif text not in entries:
    print("credentials not found in native keychain")
    sys.exit(1)
elif action == "get":
    print(json.dumps(entries[text]))
else:
    del entries[text]
kept.write_text(json.dumps(entries))
"""


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a directory that is the first one on PATH."""
    directory = tmp_path / "bin"
    directory.mkdir()
    monkeypatch.setenv("PATH", str(directory), prepend=os.pathsep)
    return directory


@pytest.fixture
def install(programs: Path) -> Callable[..., Path]:
    """Return what puts a helper on PATH: a script, or one that keeps credentials in a file."""

    def install(name: str, script: str = _KEEPER.format(python=sys.executable)) -> Path:
        path = programs / f"docker-credential-{name}"
        path.write_text(script)
        path.chmod(0o755)
        return path

    return install
