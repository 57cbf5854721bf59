"""copy: what is put, how often, and in which order."""

from __future__ import annotations

import itertools
import os
import threading
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import pytest
from tests.unit.stores.archive.archives import Store

from brolga.errors import InvalidManifest, LayerError, RegistryError, SourceError, TagConflict
from brolga.images import (
    Artifact,
    BlockStream,
    Image,
    ImageIndex,
    InMemoryBlob,
    StoredBlob,
    StreamBlob,
    TitledBlob,
)
from brolga.spec.blob import LayerState, Rereadable
from brolga.spec.digest import Digest
from brolga.spec.index import Index
from brolga.stores.push import _join, _run_tasks, push
from brolga.stores.store import PushedBlob
from brolga.stream.layer import StreamLayer
from brolga.stream.worker import Stop, current_stop, sleep, stop_scope

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

    from brolga.images import Tree
    from brolga.spec.blob import Blob, BlobStream
    from brolga.spec.descriptor import Descriptor
    from brolga.spec.manifest import Manifest


class Endless:
    """A blob of the library's own, without an end."""

    runs_user_code = False
    descriptor = Image.empty().descriptor
    diff_id = descriptor.digest
    media_type = descriptor.media_type

    def open(self) -> BlockStream:
        """Open the bytes."""
        return BlockStream(byte for byte in itertools.repeat(b"x"))


def read(blob: Blob) -> Descriptor:
    """Read a blob to its end."""
    with blob.open() as stream:
        for _ in stream.blocks():
            pass
    return blob.descriptor


def shown(blob: object) -> object:
    """Return what a blob that can be cancelled stands for."""
    return getattr(blob, "blob", blob)


def nested(depth: int, width: int) -> tuple[Tree, list[Tree], list[str]]:
    """Return an index in which each lists the one below `width` times, all of it, and what is read.

    The innermost is an image.
    """
    trees: list[Tree] = [Image.empty()]
    read: list[str] = []

    def load(descriptor: Descriptor) -> Tree:
        read.append(str(descriptor.digest))
        return next(tree for tree in trees if tree.digest == descriptor.digest)

    for _ in range(depth):
        trees.append(ImageIndex(Index.new([trees[-1].descriptor] * width), load))
    return trees[-1], trees, read


def test_push_puts_each_document_once_children_first() -> None:
    """An index may list a child many times: that is no reason to read it as often."""
    tree, trees, read = nested(12, 8)
    store = Store()
    assert push(store, tree, "all") == tree.descriptor
    names = [str(one.digest) for one in trees]
    assert list(store.documents) == [*names[:-1], "all"]
    assert read == names[-2::-1]


@pytest.mark.parametrize("depth", [17, 2000])
def test_push_rejects_indexes_nested_too_deep(depth: int) -> None:
    """Before anything is sent; no registry and no tool has use for them."""
    store = Store()
    with pytest.raises(InvalidManifest, match="indexes are nested deeper than 16 levels"):
        push(store, nested(depth, 1)[0], "all")
    assert (store.documents, store.blobs) == ({}, {})
    push(store, nested(16, 1)[0], "all")


def test_push_stops_other_blobs_after_a_failure() -> None:
    """The first one is raised, after every thread has ended."""
    begun = threading.Event()
    stopped: list[BaseException] = []

    class Failing(Store):
        def push(self, blob: Blob) -> Descriptor:
            if shown(blob) is first:
                begun.wait()
                raise SourceError("cut")
            begun.set()
            try:
                return read(blob)
            except BaseException as error:
                stopped.append(error)
                raise

    first, second = StreamLayer([b"a"]), Endless()
    before = threading.active_count()
    with pytest.raises(SourceError, match="cut"):
        push(Failing(), Image.empty().append(first, second), "v1", jobs=2)
    assert "another part of the push failed" in str(stopped[0])
    assert threading.active_count() == before


def test_push_reads_the_users_code_in_the_callers_thread() -> None:
    """A generator may hold a database cursor, or read a context variable; others go on beside."""
    threads: dict[str, list[threading.Thread]] = {"own": [], "other": []}
    other_begun = threading.Event()

    class Noting(Store):
        def push(self, blob: Blob) -> Descriptor:
            if shown(blob) is other:
                threads["other"].append(threading.current_thread())
                other_begun.set()
            return super().push(blob)

    def rows() -> Iterator[bytes]:
        threads["own"].append(threading.current_thread())
        assert other_begun.wait(30)  # it is pushed at the same time
        yield b"row"

    own = [StreamLayer(rows()), StreamLayer(rows())]
    other = StreamLayer([b"x"])
    push(Noting(), Image.empty().append(own[0], other, own[1]), "v1", jobs=2)
    assert threads["own"] == [threading.current_thread()] * 2
    assert threads["other"] != [threading.current_thread()]


def test_push_raises_the_failure_of_a_thread_while_the_users_code_is_read() -> None:
    """The stream of the caller's thread is given up before its next block."""

    class Failing(Store):
        def push(self, blob: Blob) -> Descriptor:
            if shown(blob) is other:
                raise SourceError("cut")
            return read(blob)

    def rows() -> Iterator[bytes]:
        while True:
            yield b"row"

    other = StreamLayer([b"x"])
    with pytest.raises(SourceError, match="cut"):
        push(Failing(), Image.empty().append(StreamLayer(rows()), other), "v1", jobs=2)


def test_push_stops_the_threads_if_the_users_code_fails() -> None:
    """Its error is raised, after every thread has ended."""
    begun = threading.Event()
    stopped: list[BaseException] = []

    class Watching(Store):
        def push(self, blob: Blob) -> Descriptor:
            if shown(blob) is not other:
                return super().push(blob)
            begun.set()
            try:
                return read(blob)
            except BaseException as error:
                stopped.append(error)
                raise

    def rows() -> Iterator[bytes]:
        assert begun.wait(30)
        yield b"row"
        raise KeyboardInterrupt

    other = Endless()
    with pytest.raises(KeyboardInterrupt):
        push(Watching(), Image.empty().append(StreamLayer(rows()), other), "v1", jobs=2)
    assert "another part of the push failed" in str(stopped[0])


def test_push_wakes_waiting_threads_after_a_failure() -> None:
    """A thread may wait for its registry: it is not asked whether it has a next block."""
    waiting, ended = threading.Event(), threading.Event()

    def wait() -> None:
        waiting.set()
        try:
            sleep(3600.0)
        finally:
            ended.set()

    def fail() -> None:
        assert waiting.wait(30)
        raise RegistryError("refused", method="PUT", url="u", status=500)

    with pytest.raises(RegistryError, match="refused"):
        _run_tasks([wait, fail], [], 2, Stop())
    assert ended.is_set()


def test_push_lets_other_threads_cancel_their_sessions_after_a_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A thread that was asked twice makes no more requests (`Stop`): a failure asks once."""
    waiting, joining = threading.Event(), threading.Event()
    requests: list[int] = []

    def join(*arguments: Any) -> None:
        joining.set()
        _join(*arguments)

    def wait() -> None:
        waiting.set()
        try:
            sleep(3600.0)
        finally:
            assert joining.wait(30)
            requests.append(current_stop().requests)

    def fail() -> None:
        assert waiting.wait(30)
        raise SourceError("cut")

    monkeypatch.setattr("brolga.stores.push._join", join)
    with pytest.raises(SourceError, match="cut"):
        _run_tasks([wait, fail], [], 2, Stop())
    assert requests == [1]


def test_push_stops_its_threads_if_it_is_asked_to_stop() -> None:
    """The caller's thread waits for them, and they see the request."""
    stop, begun = Stop(), threading.Semaphore(0)

    class Waiting(Store):
        def push(self, blob: Blob) -> Descriptor:
            begun.release()
            sleep(3600.0)
            raise AssertionError

    def request() -> None:
        for _ in range(2):
            assert begun.acquire(timeout=30)
        stop.request()

    thread = threading.Thread(target=request)
    thread.start()
    image = Image.empty().append(StreamLayer([b"a"]), StreamLayer([b"b"]))
    with stop_scope(stop), pytest.raises(KeyboardInterrupt):
        push(Waiting(), image, "v1", jobs=2)
    thread.join()


def test_push_of_silent_stream_ends_if_it_is_asked_to_stop() -> None:
    """A local store waits for nothing but its source."""
    stop = Stop()

    class Reading(Store):
        def push(self, blob: Blob) -> Descriptor:
            stop.request()
            return read(blob)

    end, start = os.pipe()
    with open(end, "rb", buffering=0) as source, open(start, "wb"), stop_scope(stop):  # noqa: PTH123 - descriptors
        layer = StreamLayer(source)
        with pytest.raises(KeyboardInterrupt):
            push(Reading(), Image.empty().append(layer), "v1")
    assert layer.state is LayerState.FAILED


def test_push_starts_no_generator_after_a_failure() -> None:
    """Nothing of it is read, so that it can be pushed again."""

    class Failing(Store):
        def push(self, blob: Blob) -> Descriptor:
            if shown(blob) is failing:
                raise SourceError("cut")
            return read(blob)

    first, second = StreamLayer(itertools.repeat(b"a")), StreamLayer(iter([b"b"]))
    failing = StreamLayer([b"x"])
    with pytest.raises(SourceError, match="cut"):
        push(Failing(), Image.empty().append(first, failing, second), "v1", jobs=2)
    assert second.state is LayerState.FRESH


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("jobs", [1, 2, 4])
def test_push_runs_a_generator_in_the_context_of_the_caller(count: int, jobs: int) -> None:
    """However many layers and artifacts there are."""
    variable: ContextVar[str] = ContextVar("variable", default="lost")
    variable.set("mine")
    ran: list[tuple[threading.Thread, str]] = []

    def blocks() -> Iterator[bytes]:
        ran.append((threading.current_thread(), variable.get()))
        yield str(len(ran)).encode()

    own = [TitledBlob(StreamLayer(blocks()), "a") for _ in range(count)]
    others = [StreamLayer([bytes([number])]) for number in range(3)]
    push(Store(), Artifact.of("application/x", *own, *others), "v1", jobs=jobs)
    stream = StreamBlob(StreamLayer(blocks()))
    push(Store(), Artifact.of("application/x", stream, *[StreamLayer([b"z"])] * 2), "v2", jobs=jobs)
    assert ran == [(threading.current_thread(), "mine")] * (count + 1)


def test_push_raises_if_a_thread_cannot_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that were started are waited for."""
    start = threading.Thread.start
    started: list[threading.Thread] = []

    def once(thread: threading.Thread) -> None:
        if started:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", once)
    layers = (StreamLayer([data]) for data in (b"a", b"b"))
    with pytest.raises(RuntimeError, match="can't start"):
        push(Store(), Image.empty().append(*layers), "v1", jobs=2)
    assert not started[0].is_alive()


class Cancelling(Store):
    """A store that fails one blob, when another one has begun to be read."""

    def __init__(self, other: object) -> None:
        super().__init__()
        self.begun = threading.Event()
        self.other = other
        self.errors: list[BaseException] = []

    def push(self, blob: Blob) -> Descriptor:
        if blob.descriptor.digest == Digest.of(b"failing"):
            assert self.begun.wait(30)
            raise SourceError("cut")
        try:
            with blob.open() as stream:
                if isinstance(stream, BlockStream):
                    stream.start()
                self.begun.set()
                for _ in stream.blocks():
                    pass
        except BaseException as error:
            self.errors.append(error)
            raise
        return blob.descriptor


def test_push_cancels_a_blob_of_a_store_before_its_next_block() -> None:
    """Its stream is still one whose first block can be read ahead, and it is closed."""
    closed: list[bool] = []

    def blocks() -> Generator[bytes, None, None]:
        try:
            while True:
                yield b"x"
        finally:
            closed.append(True)

    described = InMemoryBlob(b"endless", "application/x").descriptor
    endless = StoredBlob(described, lambda: BlockStream(blocks()))
    failing = InMemoryBlob(b"failing", "application/x")
    store = Cancelling(endless)
    with pytest.raises(SourceError, match="cut"):
        push(store, Artifact.of("application/x", endless, failing), "v1", jobs=2)
    assert "another part of the push failed" in str(store.errors[0])
    assert closed == [True]


@pytest.mark.parametrize("can_repeat", [True, False])
def test_push_wraps_a_stream_so_that_it_can_still_be_repeated(
    tmp_path: Path, *, can_repeat: bool
) -> None:
    """An upload that fails reads a file again: the wrapper says whether it can, and does."""
    file = tmp_path / "a"
    file.write_bytes(b"abc")
    seen: list[tuple[bool, bytes]] = []

    class Repeating(Store):
        def push(self, blob: Blob) -> Descriptor:
            if shown(blob) is not layer:
                return super().push(blob)
            with blob.open() as stream:
                assert stream.read(2) == b"ab"
                rest = b"".join(map(bytes, stream))
                assert rest == b"c"
                again = b""
                if isinstance(stream, Rereadable) and stream.is_reopenable:
                    again = b"".join(map(bytes, stream.reread()))
                seen.append((getattr(stream, "is_reopenable", False), again))
            return blob.descriptor

    layer = StreamLayer(file if can_repeat else [b"abc"], "none", tar=False)
    push(Repeating(), Image.empty().append(layer, StreamLayer([b"x"])), "v1", jobs=2)
    assert seen == [(can_repeat, b"abc" if can_repeat else b"")]


def test_push_skips_what_was_pushed_before() -> None:
    """A source that is read once has pushed its blobs to the target; another store lacks them."""
    store, other = Store(), Store()
    config = Image.empty().append(StreamLayer([b"x"]))
    push(store, config, "v1")
    layers = [PushedBlob(one, store) for one in config.manifest.layers]
    image = Image(config.manifest, config.config_blob, tuple(layers))
    store.pushed.clear()
    push(store, image, "v2", verify_existing=True)
    assert store.pushed == [str(image.manifest.config.digest)]
    with pytest.raises(LayerError, match="cannot be read again"):
        push(other, image, "v1")


def test_push_gives_a_serial_target_one_blob_at_a_time() -> None:
    """An archive is one stream: the same image gives the same bytes."""
    threads: set[threading.Thread] = set()

    class Serial(Store):
        is_serial = True

        def push(self, blob: Blob) -> Descriptor:
            threads.add(threading.current_thread())
            return super().push(blob)

    push(
        Serial(), Image.empty().append(*(StreamLayer([bytes([n])]) for n in range(3))), "v1", jobs=3
    )
    assert threads == {threading.current_thread()}


# --- What is there


class Checking(Store):
    """A store that takes no manifest without its blobs, as registries do; it notes what is put."""

    def __init__(self, status: int = 404) -> None:
        super().__init__()
        self.status = status
        self.put_as: list[str] = []

    def push_manifest(self, manifest: Manifest | Index, *names: str) -> None:
        self.put_as += names
        if isinstance(manifest, Index):
            parts = [str(child.digest) for child in manifest.manifests]
            known = {str(one.digest) for one in self.documents.values()}
        else:
            parts = [str(one.digest) for one in (manifest.config, *manifest.layers)]
            known = set(self.blobs)
        if not known.issuperset(parts):
            raise RegistryError("unknown", method="PUT", url="u", status=self.status)
        super().push_manifest(manifest, *names)


def layered(*texts: str) -> Image:
    """Return an image with a layer of each text, none of them read."""
    return Image.empty().append(*(StreamLayer([text.encode()]) for text in texts))


def test_push_does_nothing_if_the_tag_is_up_to_date() -> None:
    """Nothing is put and no blob is asked for."""
    store, image = Checking(), layered("a")
    push(store, image, "v1")
    store.put_as.clear()
    store.pushed.clear()
    assert push(store, image, "v1") == image.descriptor
    assert (store.put_as, store.pushed) == ([], [])
    push(store, image, "v2")
    assert (store.put_as, store.pushed) == (["v2"], [])


@pytest.mark.parametrize("status", [400, 404])
def test_push_sends_lost_blobs_after_an_incomplete_manifest(status: int) -> None:
    """A manifest that is there is taken for whole, until the store says that it is not."""
    store, image = Checking(status), layered("a", "b")
    push(store, image, "v1")
    lost = str(image.manifest.layers[0].digest)
    kept = Image(image.manifest, image.config_blob, tuple(map(Again, image.manifest.layers)))
    del store.blobs[lost]
    store.put_as.clear()
    push(store, kept, "v2")
    assert store.put_as == ["v2", "v2"]
    assert lost in store.blobs


class Again:
    """A layer whose bytes can be read as often as needed: those of the text `a`."""

    def __init__(self, descriptor: Descriptor) -> None:
        self.descriptor = descriptor

    def open(self) -> BlobStream:
        """Open a new stream of the same bytes."""
        return StreamLayer([b"a"]).open()


def test_push_sends_lost_blobs_of_a_child() -> None:
    """The child is there, so it is not put; the index is, and its children are gone through."""
    store, image = Checking(), layered("a")
    index = ImageIndex(Index.new([]), lambda _: image)
    push(store, image)
    index = index.append(image)
    del store.documents[str(image.digest)]
    store.documents["other"] = image.manifest  # it says that it has it
    push(store, index, "all", verify_existing=True)
    assert store.put_as[-2:] == [str(image.digest), "all"]


def test_push_raises_other_refusals_at_once() -> None:
    """If no manifest was assumed complete, a second push would be the same."""
    store = Checking()
    image = layered("a")
    store.blobs = Forgetful()
    with pytest.raises(RegistryError):
        push(store, image, "v1")
    assert store.put_as == ["v1"]
    store.status = 500
    store.documents["v0"] = image.manifest
    with pytest.raises(RegistryError):
        push(store, image, "v1")
    assert store.put_as == ["v1", "v1"]


class Forgetful(dict[str, bytes]):
    """What keeps nothing."""

    def __setitem__(self, key: str, value: bytes) -> None:
        """Keep nothing."""


def test_push_checks_blobs_once_after_manifest_blob_unknown() -> None:
    """Another client may be uploading the same one: what was sent is sent where it is not there."""
    store, image = Checking(), layered("a")
    put, answers = store.push_manifest, [RegistryError("x", method="PUT", url="u", status=400)]
    answers[0].codes = ("DIGEST_INVALID", "MANIFEST_BLOB_UNKNOWN")

    def failing(document: Manifest | Index, name: str) -> None:
        put(document, name)
        if answers:
            raise answers.pop()

    store.push_manifest = failing  # type: ignore[method-assign, assignment]
    push(store, image, "v1")
    assert store.put_as == ["v1", "v1"]


def test_push_with_verify_existing_checks_every_blob() -> None:
    """`verify_existing`: what is damaged is found under a tag that stands for it, too."""
    store, image = Checking(), layered("a")
    push(store, image, "v1")
    store.pushed.clear()
    push(store, image, "v1", verify_existing=True)
    assert len(store.pushed) == 2


def test_push_always_puts_a_manifest_with_a_subject() -> None:
    """Only the answer to that says who lists it: a run may have died before it was listed."""
    store, image = Checking(), layered("a")
    artifact = image.with_subject(Image.empty().descriptor)
    for _ in range(2):
        push(store, artifact)
        push(store, artifact, "v1")
    assert store.put_as == 2 * [str(artifact.digest), "v1"]


# --- A tag that moves


def test_push_raises_tag_conflict_if_the_tag_moved() -> None:
    """Else the other client's change would be lost."""
    store, base = Checking(), layered("a")
    push(store, base, "v1")

    def source() -> object:
        yield b"b"
        push(store, other, "v1")

    other, mine = layered("c"), base.append(StreamLayer(source()))  # type: ignore[arg-type]
    with pytest.raises(TagConflict, match=f"v1 moved from {base.digest} to") as caught:
        push(store, mine, "v1", expected=base.digest)
    assert store.documents["v1"] == other.manifest
    assert (caught.value.expected, caught.value.actual) == (str(base.digest), str(other.digest))
    push(store, base.append(StreamLayer([b"d"])), "v1", expected=other.digest)


def test_push_raises_tag_conflict_if_the_tag_was_deleted() -> None:
    """The deletion was intended."""
    store, base = Checking(), layered("a")
    push(store, base, "v1")
    del store.documents["v1"]
    changed = base.with_annotations({"a": "b"})
    with pytest.raises(TagConflict, match=rf"v1 \({base.digest}\) was deleted mean") as caught:
        push(store, changed, "v1", expected=base.digest)
    assert caught.value.actual == ""


def test_push_tells_what_stopped_threads_kept() -> None:
    """Their notes go to the error that is raised: that of the thread that failed first."""
    begun = threading.Event()

    def wait() -> None:
        begun.set()
        try:
            sleep(3600.0)
        except KeyboardInterrupt as interrupt:
            interrupt.add_note("kept")
            raise

    def fail() -> None:
        assert begun.wait(30)
        raise SourceError("cut")

    with pytest.raises(SourceError, match="cut") as caught:
        _run_tasks([wait, wait, fail], [], 3, Stop())
    assert caught.value.__notes__ == ["kept"]
