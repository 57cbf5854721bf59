"""layout: blobs that come from another store, and what a failed push leaves of them."""

from __future__ import annotations

import errno
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

import pytest

from brolga.errors import DigestMismatch, TransportError
from brolga.images import BlockStream, Image, StoredBlob
from brolga.images.blobs import verify_blocks
from brolga.spec.descriptor import Descriptor
from brolga.spec.digest import Digest
from brolga.spec.mediatypes import OCI_LAYER
from brolga.stores.layout import GCResult, Layout
from brolga.stores.push import push

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from brolga.spec.blob import Prefix

DATA = bytes(range(256)) * 100
DESCRIPTOR = Descriptor(OCI_LAYER, Digest.of(DATA), len(DATA))
HALF = len(DATA) // 2


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "layout")


def stored(blocks: Callable[[int], Iterable[bytes]], *, resumes: bool = True) -> StoredBlob:
    """Return a blob of a store; `blocks` yields its bytes from an offset on."""

    def open_rest(prefix: Prefix) -> BlockStream:
        return BlockStream(verify_blocks(DESCRIPTOR.digest, blocks(prefix.size), prefix))

    def opener() -> BlockStream:
        return BlockStream(verify_blocks(DESCRIPTOR.digest, blocks(0)))

    rest = open_rest if resumes else None
    return StoredBlob(DESCRIPTOR, opener, open_rest=rest, is_verified=True)


def cut(start: int) -> Iterator[bytes]:
    yield DATA[start:HALF]
    raise TransportError("cut", reason="cut")


def rest(start: int) -> list[bytes]:
    return [DATA[start:]]


def partial_path(layout: Layout) -> Path:
    return layout.path / ".uploads" / f"partial.sha256-{DESCRIPTOR.digest.encoded}"


def content(layout: Layout) -> bytes:
    with layout.fetch_blob(DESCRIPTOR) as stream:
        return stream.read()


def test_push_of_a_stored_blob_goes_on_after_a_failure(layout: Layout) -> None:
    """The bytes stay in `.uploads`, even of a layout that is new."""
    with pytest.raises(TransportError):
        layout.push(stored(cut))
    assert partial_path(layout).read_bytes() == DATA[:HALF]
    starts = []

    def counted(start: int) -> list[bytes]:
        starts.append(start)
        return rest(start)

    layout.push(stored(counted))
    assert starts == [HALF]
    assert content(layout) == DATA
    assert not partial_path(layout).exists()


def test_push_of_a_stored_blob_that_brings_nothing_leaves_no_layout(layout: Layout) -> None:
    with pytest.raises(TransportError):
        layout.push(stored(lambda start: cut(start + HALF)))
    assert not layout.path.exists()


def test_push_of_wrong_bytes_leaves_no_layout(layout: Layout) -> None:
    """Bytes that do not match are of no use for the next push."""
    with pytest.raises(DigestMismatch):
        layout.push(stored(lambda _: [b"x" * len(DATA)]))
    assert not layout.path.exists()


def test_push_of_a_blob_whose_store_cannot_go_on_begins_again(layout: Layout) -> None:
    with pytest.raises(TransportError):
        layout.push(stored(cut, resumes=False))
    layout.push(stored(rest, resumes=False))
    assert content(layout) == DATA


def test_push_of_one_blob_by_two_threads_fetches_it_once(tmp_path: Path) -> None:
    """The second waits for the first, whose store is slow, and says so."""
    waiting = threading.Event()
    opened: list[int] = []
    texts: list[tuple[str, str]] = []

    def slow(start: int) -> Iterator[bytes]:
        opened.append(start)
        assert waiting.wait(60)
        yield DATA[start:]

    def warn(name: str, text: str) -> None:
        texts.append((name, text))
        waiting.set()

    layout = Layout(tmp_path / "layout", warn)
    with ThreadPoolExecutor() as pool:
        for done in [pool.submit(partial(layout.push, stored(slow))) for _ in range(2)]:
            assert done.result() == DESCRIPTOR
    assert opened == [0]
    assert texts == [("layout", "waits for another program, or thread, that fetches the same blob")]
    assert content(layout) == DATA


def test_push_of_a_blob_that_comes_meanwhile_fetches_nothing(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process completes it between the first look and the lock of the partial file."""
    with layout.writing():
        partial_path(layout).write_bytes(DATA[:HALF])
    real_partial_blob = layout._files.partial_blob

    def complete(digest: Digest, wait: Callable[[], None]) -> object:
        layout._files.write(layout._files.blob_path(digest), DATA)
        return real_partial_blob(digest, wait)

    monkeypatch.setattr(layout._files, "partial_blob", complete)
    layout.push(stored(lambda _: pytest.fail("it was fetched")))
    assert not partial_path(layout).exists()
    assert content(layout) == DATA


def test_push_to_a_full_disk_names_the_layout_and_keeps_the_bytes(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once there is room, the next push goes on."""
    real_write = os.write

    def full(descriptor: int, block: memoryview) -> int:
        if os.fstat(descriptor).st_size >= HALF:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real_write(descriptor, block[:HALF])

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        with pytest.raises(OSError, match="No space left on device") as found:
            layout.push(stored(rest))
    assert found.value.filename == str(layout.path)
    assert partial_path(layout).read_bytes() == DATA[:HALF]
    layout.push(stored(rest))
    assert content(layout) == DATA


def test_gc_keeps_a_partial_blob_for_a_day(layout: Layout) -> None:
    """As an upload session of the registry; with an age of 0 no run is to go on with it."""
    push(layout, Image.empty(), "v1")
    path = partial_path(layout)
    for age_s, kept in ((7200, True), (90000, False)):
        path.write_bytes(DATA[:HALF])
        os.utime(path, (time.time() - age_s,) * 2)
        assert layout.gc() == GCResult(0, 0, 0, not kept)
        assert path.exists() == kept
    path.write_bytes(DATA[:HALF])
    assert layout.gc(older_than_s=0) == GCResult(0, 0, 0, 1)


def test_push_of_an_old_partial_blob_makes_it_young(layout: Layout) -> None:
    """Or a collection by age would delete it before a manifest refers to it."""
    with layout.writing():
        partial_path(layout).write_bytes(DATA)
        os.utime(partial_path(layout), (0, 0))
        layout.push(stored(lambda _: pytest.fail("it was fetched")))
    assert layout._files.blob_path(DESCRIPTOR.digest).stat().st_mtime > 0
