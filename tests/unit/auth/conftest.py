"""Fixtures: a home directory, and credential helpers as real programs on PATH."""

from __future__ import annotations

import json
import os
import sys
import traceback
from typing import TYPE_CHECKING, Any

import pytest

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
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a home directory, and remove variables that lead elsewhere."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(home / "run"))
    for name in ("DOCKER_CONFIG", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name)
    return home


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


@pytest.fixture
def configure(home: Path) -> Callable[..., Path]:
    """Return what writes JSON, or any text, to a file below the home directory."""

    def configure(document: Any, path: str = ".docker/config.json") -> Path:
        file = home / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(document if isinstance(document, str) else json.dumps(document))
        return file

    return configure


@pytest.fixture
def told() -> Callable[[BaseException], str]:
    """Return a function of all text of an error: message, attributes, traceback."""

    def told(error: BaseException) -> str:
        parts = [str(error), repr(error), repr(error.args), repr(vars(error))]
        return "\n".join([*parts, *traceback.format_exception(error)])

    return told
