"""registry.storage.database: its file may be missing, damaged, unwritable or planted."""

from __future__ import annotations

import functools
import logging
import os
import shutil
import sqlite3
import tempfile
import threading
from typing import TYPE_CHECKING, Any

import pytest

from brolga.disk.directory import Directory
from brolga.disk.layout import DATABASE
from brolga.registry.storage import database
from brolga.registry.storage.database import Databases
from brolga.registry.storage.store import Store
from brolga.spec.descriptor import Descriptor
from brolga.spec.digest import Digest
from brolga.spec.mediatypes import OCI_MANIFEST
from brolga.spec.reference import Repository

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from brolga.registry.storage.repository import Repo

BODY = b'{"schemaVersion":2}'
MANIFEST = Descriptor(OCI_MANIFEST, Digest.of(BODY), len(BODY))


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    """Return a repository of one tag."""
    repo = Store(tmp_path).repo(Repository("localhost", "a/b"))
    repo.manifests.put(BODY, MANIFEST, ["v1"])
    assert repo.manifests.tags() == ["v1"]
    return repo


@pytest.fixture
def file(repo: Repo, tmp_path: Path) -> Path:
    """Return the file of the index."""
    (path,) = (tmp_path / "a/b" / DATABASE).iterdir()
    return path


def zero(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[4096:8192] = bytes(4096)
    path.write_bytes(data)


def drop(path: Path) -> None:
    other = sqlite3.connect(path)
    other.execute("DROP TABLE entry")
    other.close()


def mistype(path: Path) -> None:
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("UPDATE entry SET digest = 'wrong'")
    other.close()


def age(path: Path) -> None:
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("UPDATE boot SET id = 'another'")
    other.close()


DAMAGE: dict[str, Callable[[Path], object]] = {
    "missing": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_bytes(b"no database" * 1000),
    "short": lambda path: os.truncate(path, 5000),
    "a page of zeros": zero,
    "a table that is missing": drop,
    "a row that is damaged": mistype,
    "written before the machine was started": age,
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_run_replaces_untrusted_file(
    repo: Repo, file: Path, damage: Callable[[Path], object]
) -> None:
    """The layout is the truth, and all that is needed."""
    damage(file)
    assert repo.manifests.tags() == ["v1"]
    stored = repo.manifests.by_tag("v1")
    stored.file.close()
    assert stored.descriptor == MANIFEST
    assert len(list(file.parent.iterdir())) == 1


@pytest.mark.parametrize("planted", ["link", "hard link", "fifo", "link to directory", "directory"])
def test_run_ignores_planted_file(
    repo: Repo, file: Path, tmp_path: Path, planted: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The index is kept elsewhere, and what the link leads to is not written."""
    outside = tmp_path / ".outside"
    outside.mkdir()
    other = outside / file.name
    file.rename(other)
    before = other.read_bytes()

    if planted == "link":
        file.symlink_to(other)
    elif planted == "hard link":
        file.hardlink_to(other)
    elif planted == "fifo":
        os.mkfifo(file)
    elif planted == "directory":
        file.mkdir()
    else:
        file.parent.rmdir()
        file.parent.symlink_to(outside)
    repo.manifests.put(BODY, MANIFEST, ["v2"])
    for _ in range(2):
        assert repo.manifests.tags() == ["v1", "v2"]
    assert other.read_bytes() == before
    assert [path.name for path in outside.iterdir()] == [file.name]
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_run_uses_temporary_file_if_layout_is_not_writable(
    repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that is read-only serves: the index is in a directory for temporary files."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(elsewhere))

    def refuse(_self: Directory, _path: Path) -> list[Path]:
        raise OSError(30, "Read-only file system")

    shutil.rmtree(tmp_path / "a/b" / DATABASE)
    monkeypatch.setattr(Directory, "make", refuse)
    assert repo.manifests.tags() == ["v1"]
    (directory,) = elsewhere.iterdir()
    assert len(list(directory.iterdir())) == 1
    assert repo.manifests.has(MANIFEST.digest)


def test_run_leaves_the_layout_alone_if_read_only(repo: Repo, tmp_path: Path) -> None:
    """`--read-only` changes nothing in the directory."""
    for path in (tmp_path / "a/b" / DATABASE).iterdir():
        path.unlink()
    store = Store(tmp_path, read_only=True)
    assert store.repo(Repository("localhost", "a/b")).manifests.tags() == ["v1"]
    assert list((tmp_path / "a/b" / DATABASE).iterdir()) == []
    assert repo.manifests.tags() == ["v1"]


def test_run_uses_memory_without_temporary_directory(
    repo: Repo, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then the index is in memory, for one request at a time."""

    def refuse(*_: object, **_more: object) -> str:
        raise OSError(28, "No space left on device")

    shutil.rmtree(file.parent)
    monkeypatch.setattr(tempfile, "mkdtemp", refuse)
    monkeypatch.setattr(Directory, "make", refuse)
    for _ in range(2):
        assert repo.manifests.tags() == ["v1"]


def test_run_uses_temporary_file_if_file_is_locked(
    repo: Repo, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program that keeps the file locked blocks no request, and keeps its file."""
    monkeypatch.setattr(database, "_LOCK_TIMEOUT_S", 0)
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    repo.manifests.put(BODY, MANIFEST, ["v2"])
    assert repo.manifests.tags() == ["v1", "v2"]
    other.execute("ROLLBACK")
    other.close()
    assert file.is_file()
    assert repo.manifests.tags() == ["v1", "v2"]


def test_temporary_files_are_deleted_with_the_registry(
    repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is left in the directory for temporary files."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(elsewhere))
    databases = Databases(read_only=True)
    databases.run(repo.layout, lambda _: None)
    assert len(list(elsewhere.iterdir())) == 1
    del databases
    assert list(elsewhere.iterdir()) == []


def test_run_from_many_threads_and_stores(tmp_path: Path, repo: Repo, file: Path) -> None:
    """Two registries on one directory, and a file that is deleted all the time."""
    errors: list[BaseException] = []
    stop = threading.Event()

    def ask() -> None:
        mine = Store(tmp_path).repo(Repository("localhost", "a/b"))
        try:
            for _ in range(40):
                assert mine.manifests.tags() == ["v1"]
        except BaseException as error:  # noqa: BLE001 - told below
            errors.append(error)

    def delete() -> None:
        while not stop.wait(0.005):
            for path in file.parent.glob("*.sqlite3"):
                path.unlink(missing_ok=True)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    deleter = threading.Thread(target=delete)
    for thread in (*threads, deleter):
        thread.start()
    for thread in threads:
        thread.join()
    stop.set()
    deleter.join()
    assert errors == []


class Interleaved(sqlite3.Connection):
    """A connection that lets another one do something before the statement `at`."""

    at = 0
    other: Callable[[], object]

    def execute(self, *arguments: Any) -> sqlite3.Cursor:
        kind = type(self)
        kind.at -= 1
        if kind.at == -1:
            kind.other()
        return super().execute(*arguments)


@pytest.mark.parametrize("other", ["opens it", "deletes it", "deletes it and opens it"])
@pytest.mark.parametrize("at", range(48))
def test_run_with_another_process_between_any_two_statements(
    repo: Repo,
    file: Path,
    caplog: pytest.LogCaptureFixture,
    other: str,
    at: int,
) -> None:
    """Two processes make the index at one time, or one finds it damaged that the other uses."""
    connect, patience = sqlite3.connect, pytest.MonkeyPatch()
    repository = Repository("localhost", "a/b")

    def interfere() -> None:
        patience.setattr(sqlite3, "connect", connect)
        patience.setattr(database, "_LOCK_TIMEOUT_S", 0)
        if "deletes" in other:
            for path in file.parent.glob("*.sqlite3"):
                path.unlink()
        if "opens" in other:
            assert Store(file.parents[3]).repo(repository).manifests.tags() == ["v1"]
        patience.undo()

    Interleaved.at, Interleaved.other = at, staticmethod(interfere)
    file.unlink()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sqlite3, "connect", functools.partial(connect, factory=Interleaved))
        assert repo.manifests.tags() == ["v1"]
    assert Interleaved.at < 0
    assert repo.manifests.tags() == ["v1"]
    # The other one waits for the end of a transaction, which does not come here before it is done.
    messages = [record.getMessage() for record in caplog.records]
    assert [message for message in messages if not message.endswith("database is locked")] == []
    assert len(list(file.parent.glob("*.sqlite3"))) == 1


def test_file_names_are_not_reused(repo: Repo, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is deleted before it is opened is not made under its name.

    SQLite finds a journal by the name of its file; a process with the old file open has one.
    """
    connect, names = sqlite3.connect, [file.name]

    def delete_first(path: str, **options: Any) -> sqlite3.Connection:
        file.unlink(missing_ok=True)
        opened: sqlite3.Connection = connect(path, **options)
        return opened

    monkeypatch.setattr(sqlite3, "connect", delete_first)
    assert repo.manifests.tags() == ["v1"]
    assert not file.exists()
    names += [path.name for path in file.parent.glob("*.sqlite3")]
    assert len(names) == 2


def test_run_deletes_unused_files(repo: Repo, file: Path) -> None:
    """Two registries that make the index at one time; and a journal whose file is gone."""
    first = file.with_name(f"manifests-1-{0:032x}.sqlite3")
    orphan = file.with_name(f"manifests-1-{1:032x}.sqlite3-journal")
    foreign = file.with_name("manifests-2.sqlite3")
    for path in (first, orphan, foreign):
        path.touch()
    assert repo.manifests.tags() == ["v1"]
    # Another process may be using it.
    assert sorted(file.parent.iterdir()) == sorted([first, orphan, foreign, file])
    for path in (orphan, foreign, file):
        os.utime(path, (1, 1))
    assert repo.manifests.tags() == ["v1"]
    assert sorted(file.parent.iterdir()) == [first, foreign]
