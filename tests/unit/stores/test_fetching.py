"""fetching: a blob into a file, going on from what an earlier run left."""

from __future__ import annotations

import errno
import os
import threading
from functools import partial
from typing import TYPE_CHECKING

import pytest

from brolga.disk.directory import Directory, UnsafePath
from brolga.disk.partial import open_partial
from brolga.errors import CorruptBlob, DigestMismatch, TransportError
from brolga.images import BlockStream
from brolga.images.blobs import verify_blocks
from brolga.spec.digest import Digest
from brolga.stores.fetching import fetch_file, fetch_into, waits
from brolga.stream.worker import Stop, stop_scope

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from brolga.spec.blob import Prefix
    from brolga.spec.descriptor import Descriptor

DATA = bytes(range(256)) * 5000  # more than one block of the file
DIGEST = Digest.of(DATA)
HALF = len(DATA) // 2
KEPT = "the bytes that came are kept: run it again, and it goes on from there"


class Source:
    """A store of one blob that counts its bytes, and may cut the stream after some of them."""

    mount_source = None

    def __init__(self, data: bytes = DATA, cut_after: int | None = None) -> None:
        self.data = data
        self.cut_after = cut_after
        self.starts: list[int] = []

    def fetch_blob(self, blob: Descriptor | Digest) -> BlockStream:
        return self._open(blob, None)

    def fetch_rest(self, blob: Descriptor | Digest, prefix: Prefix) -> BlockStream:
        return self._open(blob, prefix)

    def fetch_manifest(self, name: str) -> None:
        raise AssertionError

    def _open(self, blob: Descriptor | Digest, prefix: Prefix | None) -> BlockStream:
        start = prefix.size if prefix else 0
        self.starts.append(start)
        digest = blob if isinstance(blob, Digest) else blob.digest
        return BlockStream(verify_blocks(digest, self._blocks(start), prefix))

    def _blocks(self, start: int) -> Iterator[bytes]:
        size = 100_000
        for begin in range(start, len(self.data), size):
            if self.cut_after is not None and begin - start >= self.cut_after:
                raise TransportError("cut", reason="cut")
            yield self.data[begin : begin + size]


class PlainSource(Source):
    """One that cannot go on with a blob."""

    fetch_rest = None  # type: ignore[assignment]


def fail_to_wait(text: str) -> None:
    pytest.fail(text)


def fetch(source: Source, path: Path, digest: Digest = DIGEST) -> None:
    fetch_file(path, source, digest, fail_to_wait)  # type: ignore[arg-type]


def partials(directory: Path) -> list[Path]:
    return sorted(directory.glob(".*.partial"))


def leave(directory: Path, content: bytes) -> Path:
    """Leave a partial file as a killed process does."""
    path = directory / f".file.{DIGEST.encoded[:16]}.partial"
    path.write_bytes(content)
    return path


def test_fetch_file_goes_on_after_a_failure(tmp_path: Path) -> None:
    """The error says so. The name appears at the end."""
    source = Source(cut_after=300_000)
    path = tmp_path / "file"
    with pytest.raises(TransportError) as caught:
        fetch(source, path)
    assert caught.value.__notes__ == [KEPT]
    assert not path.exists()
    assert [each.read_bytes() for each in partials(tmp_path)] == [DATA[:300_000]]
    source.cut_after = None
    fetch(source, path)
    assert source.starts == [0, 300_000]
    assert path.read_bytes() == DATA
    assert partials(tmp_path) == []


def test_fetch_file_without_new_bytes_keeps_the_errors_hint(tmp_path: Path) -> None:
    leave(tmp_path, DATA[:HALF])
    with pytest.raises(TransportError) as caught:
        fetch(Source(cut_after=0), tmp_path / "file")
    assert not hasattr(caught.value, "__notes__")
    assert len(partials(tmp_path)) == 1


def test_fetch_file_that_was_complete_asks_for_nothing(tmp_path: Path) -> None:
    """A process was killed after the last byte, before the file got its name."""
    source = Source()
    leave(tmp_path, DATA)
    fetch(source, tmp_path / "file")
    assert source.starts == []
    assert (tmp_path / "file").read_bytes() == DATA


@pytest.mark.parametrize(
    "left", [b"x" * HALF, DATA + b"x", b"x" * len(DATA)], ids=["damaged", "longer", "whole"]
)
def test_fetch_file_fetches_all_if_what_was_left_is_wrong(tmp_path: Path, left: bytes) -> None:
    source = Source()
    leave(tmp_path, left)
    fetch(source, tmp_path / "file")
    assert source.starts == [len(left), 0]
    assert (tmp_path / "file").read_bytes() == DATA


@pytest.mark.parametrize("left", [b"", DATA[:HALF]], ids=["nothing", "half"])
def test_fetch_file_of_wrong_bytes_leaves_nothing(tmp_path: Path, left: bytes) -> None:
    """Nothing that is wrong is kept for the next run."""
    if left:
        leave(tmp_path, left)
    with pytest.raises(DigestMismatch):
        fetch(Source(DATA[:-1] + b"x"), tmp_path / "file")
    assert list(tmp_path.iterdir()) == []


def test_fetch_file_begins_again_if_the_store_cannot_go_on(tmp_path: Path) -> None:
    leave(tmp_path, DATA[:HALF])
    source = PlainSource()
    fetch(source, tmp_path / "file")
    assert source.starts == [0]
    assert (tmp_path / "file").read_bytes() == DATA


def test_fetch_file_keeps_link_and_permissions(tmp_path: Path) -> None:
    """Those of the file that is replaced: while it is partial, too."""
    (tmp_path / "there").mkdir()
    path = tmp_path / "there/file"
    path.write_bytes(b"before")
    path.chmod(0o600)
    (tmp_path / "link").symlink_to(path)
    with pytest.raises(TransportError):
        fetch(Source(cut_after=HALF), tmp_path / "link")
    assert path.read_bytes() == b"before"
    assert [each.stat().st_mode & 0o777 for each in partials(path.parent)] == [0o600]
    fetch(Source(), tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert path.read_bytes() == DATA
    assert path.stat().st_mode & 0o777 == 0o600


def test_fetch_file_refuses_a_planted_link(tmp_path: Path) -> None:
    """Nobody chooses where the bytes go by a link in a directory that all may write to."""
    (tmp_path / "other").write_bytes(b"mine")
    planted = leave(tmp_path, b"")
    planted.unlink()
    planted.symlink_to(tmp_path / "other")
    with pytest.raises(UnsafePath, match="link"):
        fetch(Source(), tmp_path / "file")
    assert (tmp_path / "other").read_bytes() == b"mine"


def test_fetch_file_writes_a_pipe_as_the_bytes_come(tmp_path: Path) -> None:
    """A name that is no regular file is never replaced."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.append(path.read_bytes()))
    reader.start()
    fetch(Source(), path)
    reader.join()
    assert received == [DATA]
    assert [each.name for each in tmp_path.iterdir()] == ["pipe"]


def test_fetch_file_names_the_file_in_errors(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="none"):
        fetch(Source(), tmp_path / "none/file")
    if os.geteuid():
        tmp_path.chmod(0o500)
        with pytest.raises(PermissionError, match="/file'"):
            fetch(Source(), tmp_path / "file")


def test_fetch_file_to_a_full_disk_names_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not the partial file, which the user has not named."""

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space left on device") as caught:
        fetch(Source(), tmp_path / "file")
    assert caught.value.filename == str(tmp_path / "file")
    assert list(tmp_path.iterdir()) == []


def test_fetch_file_with_the_longest_name(tmp_path: Path) -> None:
    """The partial file has room for its own name."""
    path = tmp_path / ("x" * 255)
    fetch(Source(), path)
    assert path.read_bytes() == DATA


def test_fetch_into_checks_the_size(tmp_path: Path) -> None:
    """More bytes than the descriptor says are no blob of it, even if a store yields them."""
    target, source = tmp_path / "file", Source()
    with open_partial(Directory(tmp_path), tmp_path / "partial", target, list) as file:  # type: ignore[arg-type]
        assert file is not None
        opener = partial(source.fetch_blob, DIGEST)
        with pytest.raises(CorruptBlob, match=f"its descriptor says {HALF}"):
            fetch_into(file, DIGEST, HALF, opener, None)
        assert file.size == 0


@pytest.mark.parametrize("left", [DATA + b"x", b"x" * len(DATA)], ids=["longer", "whole"])
def test_fetch_into_file_that_cannot_be_a_part_begins_again(tmp_path: Path, left: bytes) -> None:
    """If the size is known, no request is wasted."""
    path, source = tmp_path / "partial", Source()
    path.write_bytes(left)
    with open_partial(Directory(tmp_path), path, tmp_path / "file", list) as file:  # type: ignore[arg-type]
        assert file is not None
        blob = partial(source.fetch_blob, DIGEST), partial(source.fetch_rest, DIGEST)
        fetch_into(file, DIGEST, len(DATA), *blob)
        assert source.starts == [0]
    assert path.read_bytes() == DATA


def test_fetch_into_can_be_stopped_while_it_hashes(tmp_path: Path) -> None:
    leave(tmp_path, DATA[:HALF])
    stop = Stop()
    stop.request()
    source = Source()
    with stop_scope(stop), pytest.raises(KeyboardInterrupt):
        fetch(source, tmp_path / "file")
    assert source.starts == []
    assert len(partials(tmp_path)) == 1


def test_waits_says_once_why() -> None:
    texts: list[str] = []
    wait = waits(texts.append)
    assert texts == []
    wait()
    wait()
    assert texts == ["waits for another program, or thread, that fetches the same blob"]
