"""stores.progress: the events of a blob, from its begin to its end."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from tests.protocol.driver import make_access

from brolga.errors import TransportError
from brolga.images import (
    BlockStream,
    Image,
    InMemoryBlob,
    StoredBlob,
    StreamBlob,
    TitledBlob,
)
from brolga.spec.blob import Prefix
from brolga.spec.descriptor import Descriptor
from brolga.spec.digest import Digest
from brolga.spec.mediatypes import OCI_LAYER
from brolga.spec.progress import (
    BlobBegun,
    BlobDone,
    BlobEvent,
    BlobFailed,
    BlobMoved,
    BlobResumed,
    BlobRetried,
    BlobSkipped,
    BlobsPlanned,
)
from brolga.stores.archive import Archive, Writer
from brolga.stores.layout import Layout
from brolga.stores.progress import BlobReport, ProgressReporter, report_push, report_read
from brolga.stores.push import push
from brolga.stream.layer import StreamLayer

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable
    from pathlib import Path

    from brolga.spec.blob import Block
    from brolga.spec.progress import ProgressEvent

STEP = 1 << 18
DATA = bytes(3 * STEP)
DIGEST = Digest.of(DATA)
BLOB = Descriptor(OCI_LAYER, DIGEST, len(DATA))
TITLE = "org.opencontainers.image.title"


class Reported(ProgressReporter):
    """A reporter that keeps the events."""

    def __init__(self) -> None:
        self.events: list[ProgressEvent] = []
        super().__init__(self.events.append)

    @property
    def kinds(self) -> list[str]:
        return [f"{type(event).__name__.removeprefix('Blob')}" for event in self.events]


def blocks(*sizes: int) -> Generator[Block, None, None]:
    yield from (bytes(size) for size in sizes)


def prefix_of(size: int) -> Prefix:
    state = hashlib.sha256(DATA[:size])
    return Prefix(size, state)


def begun(event: ProgressEvent) -> BlobBegun:
    assert isinstance(event, BlobBegun)
    return event


def test_report_of_read_has_all_events_of_blob() -> None:
    """It begins with the first block that is asked for, not when the blob is opened."""
    progress = Reported()
    report = report_read(progress, BLOB)
    stream = report.read(blocks(STEP, 10, STEP - 10, STEP))
    assert progress.events == []
    assert sum(map(len, stream)) == len(DATA)
    assert progress.events == [
        BlobBegun(1, "read", DIGEST, OCI_LAYER, len(DATA), None, ""),
        BlobMoved(1, STEP, STEP, len(DATA)),
        BlobMoved(1, 2 * STEP, 2 * STEP, len(DATA)),
        BlobMoved(1, 3 * STEP, 3 * STEP, len(DATA)),
        BlobDone(1, DIGEST, len(DATA), len(DATA)),
    ]


def test_report_of_read_begins_after_prefix() -> None:
    """What an earlier run has read does not move again."""
    progress = Reported()
    list(report_read(progress, BLOB).read(blocks(STEP), start=2 * STEP))
    assert progress.events[1:3] == [
        BlobResumed(1, 2 * STEP),
        BlobMoved(1, 3 * STEP, 3 * STEP, len(DATA)),
    ]


def test_report_of_digest_has_size_that_is_known_later() -> None:
    """The response says it."""
    progress = Reported()
    report = report_read(progress, DIGEST)
    stream = report.read(blocks(STEP, 2 * STEP))
    next(stream)
    report.note_size(len(DATA))
    list(stream)
    assert progress.events == [
        BlobBegun(1, "read", DIGEST, "", None, None, ""),
        BlobMoved(1, STEP, STEP, None),
        BlobMoved(1, 3 * STEP, 3 * STEP, len(DATA)),
        BlobDone(1, DIGEST, len(DATA), len(DATA)),
    ]


@pytest.mark.parametrize(("read", "end"), [(3, "Done"), (2, "Failed")])
def test_report_of_reader_that_stops_depends_on_size(read: int, end: str) -> None:
    """A reader that stops at the size has all bytes, verified; one that stops before has not."""
    progress = Reported()
    stream = report_read(progress, BLOB).read(blocks(STEP, STEP, STEP))
    for _ in range(read):
        next(stream)
    stream.close()
    assert progress.kinds[-1] == end


def test_report_of_failed_read_ends_with_failure() -> None:
    """The error goes on to the reader."""

    def broken() -> Generator[Block, None, None]:
        yield bytes(STEP)
        raise ValueError("broken")

    progress = Reported()
    with pytest.raises(ValueError, match="broken"):
        list(report_read(progress, BLOB).read(broken()))
    assert progress.events[-1] == BlobFailed(1, STEP)


def test_report_of_read_closes_blocks() -> None:
    """With its own generator: they may have a connection."""
    closed = []

    def source() -> Generator[Block, None, None]:
        try:
            yield b"x"
        finally:
            closed.append(True)

    stream = report_read(Reported(), BLOB).read(source())
    next(stream)
    stream.close()
    assert closed == [True]


def test_read_within_push_is_the_same_blob() -> None:
    """Of a copy, what is retried in reading belongs to the blob that is pushed."""
    progress = Reported()
    blob = StoredBlob(BLOB, InMemoryBlob(DATA, OCI_LAYER).open)
    with report_push(progress, blob) as push_report:
        read_report = report_read(progress, BLOB)
        read_report.watch(make_access()).on_retry("cut", 0.5)
        list(push_report.count(read_report.read(blocks(STEP))))
        push_report.watch(make_access()).on_retry("status 503", 2.0)
    assert progress.events[1:] == [
        BlobRetried(1, "cut", 0, 0.5),
        BlobMoved(1, STEP, STEP, len(DATA)),
        BlobRetried(1, "status 503", STEP, 2.0),
        BlobDone(1, DIGEST, len(DATA), len(DATA)),
    ]
    list(report_read(progress, BLOB).read(blocks()))
    assert begun(progress.events[5]).key == 2


def test_report_of_stream_has_bytes_of_source(tmp_path: Path) -> None:
    """The digest is known at the end; the name is that of the file, or a title."""
    file = tmp_path / "app.tar"
    file.write_bytes(DATA)
    for wrap, name in ((StreamBlob, "app.tar"), (lambda b: TitledBlob(StreamBlob(b), "x"), "x")):
        progress, layer = Reported(), StreamLayer(file, tar=False)
        with report_push(progress, wrap(layer)) as report, layer.open() as stream:
            for _ in report.count(stream.blocks()):
                pass
        assert progress.events == [
            BlobBegun(1, "push", None, "", None, len(DATA), name),
            BlobDone(1, layer.digest, layer.size, len(DATA)),
        ]


def test_report_moves_back_if_bytes_are_sent_again() -> None:
    """From the offset that the registry has."""
    progress = Reported()
    with report_push(progress, StreamBlob(StreamLayer([b""]))) as report:
        list(report.count(blocks(STEP, STEP)))
        list(report.count(blocks(STEP), start=0))
        list(report.count(blocks(), start=2 * STEP))  # no earlier run has moved these
    assert "Resumed" not in progress.kinds
    assert [event.moved for event in progress.events if isinstance(event, BlobMoved)] == [
        STEP,
        2 * STEP,
        0,
        STEP,
        2 * STEP,
    ]


def test_report_of_upload_that_goes_on_has_bytes_of_earlier_run() -> None:
    """They were read again, to be compared, and are not sent."""
    progress = Reported()
    with report_push(progress, StreamBlob(StreamLayer([b""]))) as report:
        list(report.count(blocks(STEP, STEP)))
        report.watch(make_access()).on_resume(2 * STEP)
        list(report.count(blocks(STEP), start=2 * STEP))
    assert progress.events[3:5] == [BlobResumed(1, 2 * STEP), BlobMoved(1, 3 * STEP, 0, None)]


def test_report_is_silent_without_reporter() -> None:
    """Nothing is wrapped, so that nothing is slower."""
    with report_push(None, InMemoryBlob(DATA, OCI_LAYER)) as report:
        report.skip()
        report.mount(make_access().registry)  # type: ignore[arg-type] # it is not looked at
        report.note_size(1)
        source, access = iter([b"x"]), make_access()
        assert report.count(source) is source
        assert report.watch(access) is access
    assert isinstance(report_read(None, BLOB), BlobReport)
    stream = blocks(1)
    assert report_read(None, BLOB).read(stream) is stream


def kinds_by_key(events: Iterable[ProgressEvent]) -> dict[int, list[str]]:
    result: dict[int, list[str]] = {}
    for event in events:
        if isinstance(event, BlobEvent):
            result.setdefault(event.key, []).append(type(event).__name__.removeprefix("Blob"))
    return result


def test_push_into_layout_reports_each_blob(tmp_path: Path) -> None:
    """Layer and config, and what is there already."""
    image = Image.empty().append(StreamLayer([DATA], "none", tar=False))
    progress = Reported()
    layout = Layout(tmp_path / "layout", progress=progress)
    push(layout, image, "v1")
    plans = [event for event in progress.events if isinstance(event, BlobsPlanned)]
    assert [(plan.count, plan.size is None) for plan in plans] == [(1, True), (1, False)]
    assert kinds_by_key(progress.events) == {1: ["Begun", "Moved", "Done"], 2: ["Begun", "Done"]}
    progress.events.clear()
    push(layout, layout.tree("v1"), "v2", verify_existing=True)
    assert set(map(tuple, kinds_by_key(progress.events).values())) == {("Begun", "Skipped")}


def test_push_into_layout_that_goes_on_counts_from_there(tmp_path: Path) -> None:
    """What an earlier run has left does not move again."""

    def opener(start: int, stop: int | None = None) -> BlockStream:
        return BlockStream(iter_steps(start, stop))

    def iter_steps(start: int, stop: int | None) -> Generator[Block, None, None]:
        for offset in range(start, stop or len(DATA), STEP):
            yield DATA[offset : offset + STEP]
        if stop is not None:
            raise TransportError("cut", reason="cut")

    progress = Reported()
    layout = Layout(tmp_path / "layout", progress=progress)
    blob = StoredBlob(BLOB, lambda: opener(0, 2 * STEP), is_verified=True)
    with pytest.raises(TransportError):
        layout.push(blob)
    assert progress.events[-1] == BlobFailed(1, 2 * STEP)
    progress.events.clear()
    layout.push(replace(blob, open_rest=lambda prefix: opener(prefix.size)))
    assert progress.events[1:] == [
        BlobResumed(2, 2 * STEP),
        BlobMoved(2, 3 * STEP, 3 * STEP, len(DATA)),
        BlobDone(2, DIGEST, len(DATA), len(DATA)),
    ]
    progress.events.clear()
    with layout.fetch_rest(BLOB, prefix_of(STEP)) as stream:
        stream.read()
    assert progress.events[1] == BlobResumed(3, STEP)


def test_read_of_layout_reports_blob(tmp_path: Path) -> None:
    """As from a registry."""
    push(Layout(tmp_path), Image.empty().append(StreamLayer([DATA], "none", tar=False)), "v1")
    progress = Reported()
    image = Layout(tmp_path, progress=progress).tree("v1")
    assert isinstance(image, Image)
    (layer,) = image.layers
    with layer.open() as stream:
        stream.read()
    assert (progress.kinds[0], progress.kinds[-1]) == ("Begun", "Done")


def test_push_into_archive_reports_each_blob(tmp_path: Path) -> None:
    """A stream is written to a spool first; a digest that comes again is skipped."""
    progress, file = Reported(), tmp_path / "a.tar"
    with file.open("wb") as out, Writer(out, "oci", "v1", spool=True, progress=progress) as writer:
        push(writer, Image.empty().append(StreamLayer([DATA], "none", tar=False)))
        writer.push(InMemoryBlob(DATA, OCI_LAYER))
    found = kinds_by_key(progress.events)
    assert ["Begun", "Moved", "Done"] in found.values()
    assert found[max(found)] == ["Begun", "Skipped"]
    assert isinstance(Archive(file).tree(), Image)


def test_blob_has_no_event_after_its_end() -> None:
    """The block of the report ends after it, and other threads may be late."""
    progress = Reported()
    with report_push(progress, InMemoryBlob(DATA, OCI_LAYER)) as report:
        report.skip()
        report.watch(make_access()).on_retry("cut", 0.5)
    assert progress.events[1:] == [BlobSkipped(1)]
