"""protocol: no module imports what could open a socket or wait."""

import ast
from pathlib import Path

import pytest

import brolga.protocol

ROOT = Path(brolga.protocol.__file__).parent
MODULES = sorted(ROOT.rglob("*.py"))
FORBIDDEN = {"asyncio", "http", "h11", "os", "select", "socket", "ssl", "threading", "time"}
ALLOWED = {"http.HTTPStatus"}  # an enum of numbers


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_module_imports_no_io(path: Path) -> None:
    """Sans-IO (sans-io.readthedocs.io): no I/O in a protocol's implementation."""
    imported: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            imported |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported |= {f"{node.module}.{name.name}" for name in node.names}
    assert not {name.partition(".")[0] for name in imported - ALLOWED} & FORBIDDEN
