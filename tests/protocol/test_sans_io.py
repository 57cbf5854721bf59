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


def test_the_public_names_are_these() -> None:
    """What drivers and clients build on."""
    names = [
        "Access",
        "Body",
        "BodyFailed",
        "Call",
        "Credentials",
        "Flow",
        "Patience",
        "Profile",
        "ReadFlow",
        "Receipt",
        "Registry",
        "Reply",
        "Retry",
        "Session",
        "Stored",
        "Style",
        "add_referrer",
        "check_login",
        "delete_blob",
        "delete_manifest",
        "enter",
        "find_manifest",
        "get_manifest",
        "has_blob",
        "head_manifest",
        "list_referrers",
        "list_repositories",
        "list_tags",
        "mount_blob",
        "profile_of",
        "put_manifest",
        "read_blob",
        "remove_referrer",
        "upload_bytes",
        "upload_stream",
    ]
    assert brolga.protocol.__all__ == names
