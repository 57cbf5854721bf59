"""Trees that other tests, and pytest itself, could not walk do not stay."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def _remove_tree(tmp_path: Path) -> Iterator[None]:
    """Remove what a test has extracted: a path in it may be too long for one call."""
    yield
    shutil.rmtree(tmp_path, ignore_errors=True)
