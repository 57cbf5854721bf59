"""stores/journal.py: what a later run finds of an upload."""

from __future__ import annotations

import fcntl
import os
import random
import stat
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from brolga.errors import StateError
from brolga.protocol.upload.journal import Record
from brolga.protocol.upload.session import UploadSession
from brolga.spec.descriptor import Descriptor
from brolga.spec.digest import Digest
from brolga.spec.reference import Repository
from brolga.stores import journal as journals
from brolga.stores.journal import EXPIRY_S, INTERVAL, FileJournal, open_journal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

REPOSITORY = Repository("registry.example", "team/app")
SESSION = UploadSession("https://registry.example/uploads/1?_state=a", 5)
BLOB = Descriptor("application/octet-stream", Digest.of(b"blob"), 4)
MIB = 1 << 20
DATA = random.Random(3).randbytes(2 * INTERVAL + MIB)


def opened(
    directory: Path, source: str = "file 1", *, keeps_blob: bool = True, data: bytes = b""
) -> FileJournal:
    """Open a journal that no other upload has open, and read some bytes."""
    journal = open_journal(directory, REPOSITORY, source, keeps_blob=keeps_blob)
    assert journal is not None
    read(journal, data)
    return journal


def read(journal: FileJournal, data: bytes) -> None:
    """Read bytes in blocks, and a heartbeat."""
    blocks = [data[start : start + 3 * MIB] for start in range(0, len(data), 3 * MIB)]
    assert list(journal.watch([b"", *blocks])) == [b"", *blocks]


def left(directory: Path, record: Record, data: bytes = DATA, source: str = "file 1") -> None:
    """Leave what a run that was killed leaves."""
    with closing(opened(directory, source, data=data)) as journal:
        journal.record(record)


@pytest.mark.parametrize(
    "record",
    [Record(SESSION), Record(SESSION._replace(redirected_from="a.example"), BLOB)],
    ids=["session", "session and blob"],
)
def test_journal_has_the_last_record_of_an_earlier_run(tmp_path: Path, record: Record) -> None:
    """Records of the same state are written once."""
    with closing(opened(tmp_path)) as journal:
        assert journal.past == Record()
        journal.record(Record(UploadSession("https://registry.example/other")))
        journal.record(record)
        journal.record(record)
    (path,) = tmp_path.iterdir()
    assert len(path.read_text().splitlines()) == 3
    assert opened(tmp_path).past == record


@pytest.mark.parametrize(
    ("read_size", "size", "is_confirmed"),
    [
        (0, 0, False),
        (INTERVAL - 1, INTERVAL - 1, False),
        (INTERVAL, INTERVAL, True),
        (INTERVAL + MIB, INTERVAL + MIB, True),
        (INTERVAL, 2 * INTERVAL, False),
        (2 * INTERVAL, INTERVAL + MIB, True),
        (len(DATA), len(DATA), True),
    ],
)
def test_journal_confirms_bytes_whose_digests_are_as_before(
    tmp_path: Path, read_size: int, size: int, *, is_confirmed: bool
) -> None:
    """But for the last ones, fewer than an interval."""
    left(tmp_path, Record(SESSION))
    with closing(opened(tmp_path, data=DATA[:read_size])) as journal:
        assert journal.confirms(size) is is_confirmed
        assert not journal.differs


def test_journal_says_where_bytes_differ(tmp_path: Path) -> None:
    """What comes before is confirmed."""
    left(tmp_path, Record(SESSION))
    changed = bytearray(DATA)
    changed[INTERVAL + 1] ^= 1
    with closing(opened(tmp_path, data=bytes(changed))) as journal:
        assert journal.differs
        assert journal.confirms(2 * INTERVAL - 1)
        assert not journal.confirms(2 * INTERVAL)
    with closing(opened(tmp_path, data=bytes(changed))) as journal:  # the last run counts
        assert journal.confirms(len(changed))


def test_journal_without_an_earlier_run_confirms_nothing(tmp_path: Path) -> None:
    """There is no digest to compare with."""
    with closing(opened(tmp_path, data=DATA)) as journal:
        assert not journal.confirms(INTERVAL)


def test_journal_of_another_source_or_repository_is_not_used(tmp_path: Path) -> None:
    """Each has its own."""
    left(tmp_path, Record(SESSION))
    other = Repository("registry.example", "team/other")
    assert opened(tmp_path, "file 2").past == Record()
    with_other = open_journal(tmp_path, other, "file 1", keeps_blob=True)
    assert with_other is not None
    assert with_other.past == Record()


def test_journal_that_another_upload_has_open_is_not_used(tmp_path: Path) -> None:
    """The upload goes without one."""
    with closing(opened(tmp_path)):
        assert open_journal(tmp_path, REPOSITORY, "file 1", keeps_blob=True) is None
    opened(tmp_path).close()


@pytest.mark.parametrize(("keeps_blob", "lines"), [(True, 4), (False, 0)])
def test_journal_of_a_finished_upload_has_no_session(
    tmp_path: Path, *, keeps_blob: bool, lines: int
) -> None:
    """The blob of a stream is known by it; one whose digest is known needs none."""
    with closing(opened(tmp_path, keeps_blob=keeps_blob, data=DATA)) as journal:
        journal.record(Record(SESSION))
        journal.record(Record(SESSION, BLOB))
        journal.record(Record(None, BLOB))
    text = "".join(path.read_text() for path in tmp_path.iterdir())
    assert len(text.splitlines()) == lines
    assert SESSION.url not in text
    with closing(opened(tmp_path, data=DATA)) as journal:
        assert journal.past == Record(None, BLOB if keeps_blob else None)
        assert journal.confirms(len(DATA)) is keeps_blob


def test_journal_of_a_cancelled_upload_is_deleted(tmp_path: Path) -> None:
    """There is nothing to go on with."""
    with closing(opened(tmp_path, data=DATA)) as journal:
        journal.record(Record(SESSION))
        journal.record(Record())
    assert not list(tmp_path.iterdir())
    journal.close()


def test_journal_is_the_users_alone(tmp_path: Path) -> None:
    """A Location may hold a secret."""
    directory = tmp_path / "new" / "state"
    with closing(opened(directory)) as journal:
        journal.record(Record(SESSION))
    (path,) = directory.iterdir()
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    path.chmod(0o644)
    opened(directory).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_old_journals_are_deleted(tmp_path: Path) -> None:
    """Their sessions are gone; files of others stay, and so does what is in use."""
    left(tmp_path, Record(SESSION), source="old")
    left(tmp_path, Record(SESSION), source="new")
    (tmp_path / "other").touch()
    with closing(opened(tmp_path, "in use")) as used:
        used.record(Record(SESSION))
        new, old, in_use = (
            next(path for path in tmp_path.iterdir() if f'"{name}"' in path.read_text())
            for name in ("new", "old", "in use")
        )
        for path in (old, in_use, tmp_path / "other"):
            age = path.stat().st_mtime - EXPIRY_S - 60
            os.utime(path, (age, age))
        opened(tmp_path, "another").close()
    assert sorted(tmp_path.iterdir()) == sorted([new, in_use, tmp_path / "other"])


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"not JSON\n",
        b"[]\n",
        b'{"registry": "another"}\n',
    ],
    ids=["empty", "not JSON", "no object", "another subject"],
)
def test_journal_with_another_first_line_is_begun_anew(tmp_path: Path, damage: bytes) -> None:
    """Nothing of it counts."""
    left(tmp_path, Record(SESSION))
    (path,) = tmp_path.iterdir()
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([damage, *lines[1:]]))
    with closing(opened(tmp_path, data=DATA)) as journal:
        assert journal.past == Record()
        assert not journal.confirms(INTERVAL)


@pytest.mark.parametrize(
    ("line", "past"),
    [
        (b'{"session": ["https://a.exa', Record(SESSION)),
        (b"\x00\x00\n", Record(SESSION)),
        (b'{"session": ["a", 1]}\n', Record()),
        (b'{"session": ["a", "b", "c"], "blob": null}\n', Record()),
        (b'{"session": null, "blob": ["a", "sha256:b", 1]}\n', Record()),
    ],
    ids=["torn", "not JSON", "no blob", "no number", "no digest"],
)
def test_damaged_line_of_a_journal_is_passed_over(
    tmp_path: Path, line: bytes, past: Record
) -> None:
    """A power cut may leave anything; what is written next is whole."""
    left(tmp_path, Record(SESSION))
    (path,) = tmp_path.iterdir()
    with path.open("ab") as file:
        file.write(line)
    with closing(opened(tmp_path)) as journal:
        assert journal.past == past
        journal.record(Record(SESSION, BLOB))
    assert opened(tmp_path).past == Record(SESSION, BLOB)


def test_journal_that_is_too_large_is_begun_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is read into memory."""
    left(tmp_path, Record(SESSION))
    monkeypatch.setattr(journals, "_MAX_SIZE", 10)
    with closing(opened(tmp_path)) as journal:
        assert journal.past == Record()


def test_upload_goes_on_if_its_journal_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk costs what a later run could save, not this one."""

    def fail(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with closing(opened(tmp_path)) as journal:
        monkeypatch.setattr(os, "write", fail)
        monkeypatch.setattr(os, "ftruncate", fail)
        read(journal, DATA)
        journal.record(Record(SESSION))
        journal.record(Record(None, BLOB))


@pytest.fixture(params=["link", "fifo", "directory", "file"])
def unusable(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """Provide a state directory in which something else has the journal's name."""
    directory = tmp_path / "state"
    opened(directory).close()
    with closing(opened(directory)) as journal:
        journal.record(Record(SESSION))
    (path,) = directory.iterdir()
    path.unlink()
    if request.param == "link":
        path.symlink_to(tmp_path / "target")
    elif request.param == "fifo":
        os.mkfifo(path)
    elif request.param == "directory":
        path.mkdir()
    else:
        directory.rmdir()
        directory.touch()
    yield directory
    assert not (tmp_path / "target").exists()


def test_open_journal_raises_if_the_directory_cannot_be_used(unusable: Path) -> None:
    """The error names it and says what to do."""
    with pytest.raises(
        StateError, match=f"the state directory {unusable} cannot be used"
    ) as caught:
        opened(unusable)
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.hint == "choose another one with --state DIR"


def test_journal_of_another_user_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It could name any Location."""
    left(tmp_path, Record(SESSION))
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(StateError):
        opened(tmp_path)


@pytest.mark.parametrize("is_replaced", [False, True])
def test_journal_that_was_deleted_before_it_was_locked_is_opened_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_replaced: bool
) -> None:
    """The upload before had it, and ended."""
    left(tmp_path, Record(SESSION))
    (path,) = tmp_path.iterdir()
    lock = fcntl.flock

    def delete_first(fd: int, operation: int) -> None:
        monkeypatch.setattr(fcntl, "flock", lock)
        path.unlink()
        if is_replaced:
            path.touch()
        lock(fd, operation)

    monkeypatch.setattr(fcntl, "flock", delete_first)
    with closing(opened(tmp_path)) as journal:
        assert journal.past == Record()
        assert path.exists()
