"""Fixtures: a home directory, and files below it."""

from __future__ import annotations

import json
import traceback
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


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
def configure(home: Path) -> Callable[..., Path]:
    """Return what writes JSON, or any text, to a file below the home directory."""

    def configure(document: Any, path: str = ".docker/config.json") -> Path:
        file = home / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(document if isinstance(document, str) else json.dumps(document))
        return file

    return configure


@pytest.fixture
def error_text() -> Callable[[BaseException], str]:
    """Return a function of all text of an error: message, attributes, traceback."""

    def error_text(error: BaseException) -> str:
        parts = [str(error), repr(error), repr(error.args), repr(vars(error))]
        return "\n".join([*parts, *traceback.format_exception(error)])

    return error_text
