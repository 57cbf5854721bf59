"""The whole of wire/: it knows conversations, and nothing that could make a call or wait."""

import ast
from pathlib import Path

import pytest

import brolga.protocol

MODULES = sorted(Path(brolga.protocol.__file__).parent.glob("*.py"))
FORBIDDEN = {"asyncio", "http", "httpcore2", "os", "select", "socket", "ssl", "threading", "time"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_no_module_can_open_a_socket_or_sleep(path: Path) -> None:
    """Sans-IO (sans-io.readthedocs.io): no I/O in a protocol's implementation."""
    imported: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            imported |= {name.name.partition(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").partition(".")[0])
    assert not imported & FORBIDDEN
