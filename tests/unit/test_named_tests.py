"""docs/reliability.md and docs/security.md: each promise names a test, and that test exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "docs" / "reliability.md", ROOT / "docs" / "security.md"]
NAMED = re.compile(r"`((?:tests/)?[\w/]+\.py)::(\w+)`")
ROW = re.compile(r"\|(?! *-)(.+)\|")
TRUST = re.compile(r"\| party \| trusted with \|\n(\|.*\n)*")  # who is trusted is no promise


def _named() -> list[tuple[str, str]]:
    return sorted({name for page in PAGES for name in NAMED.findall(page.read_text())})


@pytest.mark.parametrize(("file", "test"), _named(), ids="::".join)
def test_a_named_test_exists(file: str, test: str) -> None:
    """A promise without its test is a wish."""
    assert file.startswith("tests/")
    tree = ast.parse((ROOT / file).read_text())
    functions = ast.FunctionDef | ast.AsyncFunctionDef
    defined = {node.name for node in ast.walk(tree) if isinstance(node, functions)}
    assert test in defined


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_each_promise_names_a_test(page: Path) -> None:
    """Every row of every table, but for their heads."""
    text = TRUST.sub("", page.read_text())
    rows = [row for row in text.splitlines() if ROW.fullmatch(row)]
    heads = [
        row
        for row, after in zip(text.splitlines(), text.splitlines()[1:], strict=False)
        if ROW.fullmatch(row) and after.startswith("|-")
    ]
    promises = [row for row in rows if row not in heads]
    for row in promises:
        assert NAMED.search(row), row
