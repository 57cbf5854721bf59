"""The database of a repository, and a process that is killed while it writes it."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from brolga.disk.layout import DATABASE
from brolga.registry.storage.store import Store
from brolga.spec.descriptor import Descriptor
from brolga.spec.digest import Digest
from brolga.spec.mediatypes import OCI_MANIFEST
from brolga.spec.reference import Repository

if TYPE_CHECKING:
    from pathlib import Path

_KILLED = """
import os, sys
from pathlib import Path
from brolga.spec.reference import Repository
from brolga.registry.storage.graph import Graph
from brolga.registry.storage.store import Store
at = int(sys.argv[2])
def insert(self, descriptor, document, real=Graph._insert):
    global at
    real(self, descriptor, document)
    at -= 1
    if at < 0:
        os.kill(os.getpid(), 9)
Graph._insert = insert
Store(Path(sys.argv[1])).repo(Repository("localhost", "a/b")).manifests.tags()
"""


@pytest.mark.parametrize("at", [0, 1, 70])
def test_update_of_the_database_continues_after_kill(tmp_path: Path, at: int) -> None:
    """A process that is killed while it writes the tables leaves them usable."""
    repo = Store(tmp_path).repo(Repository("localhost", "a/b"))
    for number in range(100):
        body = b'{"schemaVersion":2,"n":%d}' % number
        descriptor = Descriptor(OCI_MANIFEST, Digest.of(body), len(body))
        repo.manifests.put(body, descriptor, [f"t{number:02}"])
    (file,) = (tmp_path / "a/b" / DATABASE).iterdir()
    file.unlink()
    process = subprocess.run([sys.executable, "-c", _KILLED, str(tmp_path), str(at)], check=False)
    assert process.returncode == -9
    assert repo.manifests.tags() == [f"t{number:02}" for number in range(100)]
