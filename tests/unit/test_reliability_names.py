"""docs/reliability.md: each promise names a test that holds it, and that test exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reliability.md"
NAMED = re.compile(r"`((?:tests/)?[\w/]+\.py)::(\w+)`")
ROW = re.compile(r"\|(?! *-)(.+)\|")


def _named() -> list[tuple[str, str]]:
    return sorted(set(NAMED.findall(PAGE.read_text())))


@pytest.mark.parametrize(("file", "test"), _named(), ids="::".join)
def test_a_named_test_exists(file: str, test: str) -> None:
    """A promise without its test is a wish."""
    assert file.startswith("tests/")
    tree = ast.parse((ROOT / file).read_text())
    defined = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    assert test in defined


def test_each_promise_names_a_test() -> None:
    """Every row of every table, but for their heads."""
    text = PAGE.read_text()
    rows = [row for row in text.splitlines() if ROW.fullmatch(row)]
    heads = [
        row
        for row, after in zip(text.splitlines(), text.splitlines()[1:], strict=False)
        if ROW.fullmatch(row) and after.startswith("|-")
    ]
    promises = [row for row in rows if row not in heads]
    assert len(promises) > 20
    for row in promises:
        assert NAMED.search(row), row
