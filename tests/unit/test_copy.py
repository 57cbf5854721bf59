"""copy: what is put, how often, and in which order."""

from __future__ import annotations

import threading
from contextlib import suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING

import pytest
from tests.unit.archive.archives import Store

from brolga.blob import LayerState
from brolga.copy import push
from brolga.errors import InvalidManifest, RegistryError, SourceError, TagMoved
from brolga.images import Artifact, BytesBlob, Image, ImageIndex, TitledBlob
from brolga.layer import StreamLayer
from brolga.manifest import Index

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from brolga.blob import Blob, BlobStream
    from brolga.descriptor import Descriptor
    from brolga.images import Tree
    from brolga.manifest import Manifest


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


def test_each_document_is_read_and_put_once_children_first() -> None:
    """An index may list a child many times: that is no reason to read it as often."""
    tree, trees, read = nested(12, 8)
    store = Store()
    assert push(store, tree, "all") == tree.descriptor
    names = [str(one.digest) for one in trees]
    assert list(store.documents) == [*names[:-1], "all"]
    assert read == names[-2::-1]


@pytest.mark.parametrize("depth", [17, 2000])
def test_indexes_that_are_nested_too_deep_are_refused(depth: int) -> None:
    """Before anything is sent; no registry and no tool has use for them."""
    store = Store()
    with pytest.raises(InvalidManifest, match="indexes are nested deeper than 16 levels"):
        push(store, nested(depth, 1)[0], "all")
    assert (store.documents, store.blobs) == ({}, {})
    push(store, nested(16, 1)[0], "all")


def from_files(directory: Path, count: int) -> list[StreamLayer]:
    """Return layers of files, which threads of brolga may read."""
    paths = [directory / f"{number}" for number in range(count)]
    for path in paths:
        path.write_bytes(path.name.encode())
    return [StreamLayer(path) for path in paths]


def test_a_failure_stops_what_goes_on_beside_it(tmp_path: Path) -> None:
    """The first one is raised, after every thread has ended."""
    begun = threading.Event()
    stopped: list[BaseException] = []

    class Failing(Store):
        def push(self, blob: Blob, watch: Callable[[], None] = lambda: None) -> Descriptor:
            if blob is first:
                begun.wait()
                raise SourceError("cut")
            begun.set()
            try:
                while True:
                    watch()
            except BaseException as error:
                stopped.append(error)
                raise

    first, second = from_files(tmp_path, 2)
    before = threading.active_count()
    with pytest.raises(SourceError, match="cut"):
        push(Failing(), Image.empty().append(first, second), "v1", jobs=2)
    assert "another part of the push failed" in str(stopped[0])
    assert threading.active_count() == before


def test_a_thread_that_cannot_be_started_ends_the_push(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Those that were started are waited for."""
    start = threading.Thread.start
    started: list[threading.Thread] = []

    def once(thread: threading.Thread) -> None:
        if started:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", once)
    layers = from_files(tmp_path, 2)
    with pytest.raises(RuntimeError, match="can't start"):
        push(Store(), Image.empty().append(*layers), "v1", jobs=2)
    assert not started[0].is_alive()


# --- The user's code runs in the user's thread


class Reading(Store):
    """A store that notes which thread pushes each blob, and reads it."""

    def __init__(self) -> None:
        super().__init__()
        self.by: dict[int, str] = {}

    def push(self, blob: Blob, watch: Callable[[], None] = lambda: None) -> Descriptor:
        self.by[id(blob)] = threading.current_thread().name
        return super().push(blob, watch)


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("jobs", [1, 2, 4])
def test_generators_are_read_by_the_thread_that_pushes(
    count: int, jobs: int, tmp_path: Path
) -> None:
    """However many layers there are: a cursor and a context variable belong to their thread."""
    variable: ContextVar[str] = ContextVar("variable", default="lost")
    variable.set("mine")
    ran: list[tuple[threading.Thread, str]] = []

    def blocks() -> Iterator[bytes]:
        ran.append((threading.current_thread(), variable.get()))
        yield str(len(ran)).encode()

    class Readable:
        def __init__(self) -> None:
            self.blocks = blocks()

        def read(self, _size: int) -> bytes:
            return next(self.blocks, b"")

    own = [StreamLayer(blocks()) for _ in range(count)] + [StreamLayer(Readable())]
    files = from_files(tmp_path, 3)
    artifact = Artifact.of("application/x", *(TitledBlob(one, "a") for one in own))
    store = Reading()
    push(store, artifact, "v1", jobs=jobs)
    push(store, Image.empty().append(*files, StreamLayer(blocks())), "v2", jobs=jobs)
    assert ran == [(threading.current_thread(), "mine")] * (count + 2)
    if jobs > 1:
        assert {store.by[id(file)] for file in files} == {"brolga-push"}


def test_a_blob_of_another_class_is_read_by_the_thread_that_pushes(tmp_path: Path) -> None:
    """Nobody knows what code it runs, unless it says so: `any_thread`."""

    class Own:
        def __init__(self, data: bytes) -> None:
            self._blob = BytesBlob(data, "application/x")
            self.descriptor = self._blob.descriptor

        def open(self) -> BlobStream:
            return self._blob.open()

    class Free(Own):
        any_thread = True

    store = Reading()
    blobs: list[Blob] = [Own(b"a"), Own(b"b"), Free(b"c"), Free(b"d"), *from_files(tmp_path, 2)]
    push(store, Artifact.of("application/x", *blobs), "v1", jobs=2)
    mine = threading.current_thread().name
    assert [store.by[id(blob)] for blob in blobs] == [mine] * 2 + ["brolga-push"] * 4


def test_a_failure_of_a_thread_stops_a_generator(tmp_path: Path) -> None:
    """That failure is raised, not what stopped the other blobs; the next one is not begun."""
    failing, *_ = from_files(tmp_path, 1)
    begun = threading.Event()
    pushed: list[object] = []

    class Failing(Store):
        def push(self, blob: Blob, watch: Callable[[], None] = lambda: None) -> Descriptor:
            if blob is failing:
                begun.wait()
                raise SourceError("cut")
            pushed.append(blob)
            begun.set()
            while True:
                watch()

    first, second = StreamLayer([b"a"]), StreamLayer([b"b"])
    with pytest.raises(SourceError, match="cut"):
        push(Failing(), Image.empty().append(first, failing, second), "v1", jobs=2)
    assert pushed == [first]


def test_a_generator_is_not_begun_after_a_failure(tmp_path: Path) -> None:
    """Nothing of it is read, so that it can be pushed again."""
    failing, *_ = from_files(tmp_path, 1)

    class Failing(Store):
        def push(self, blob: Blob, watch: Callable[[], None] = lambda: None) -> Descriptor:
            if blob is failing:
                raise SourceError("cut")
            if blob is first:
                with suppress(Exception):
                    while True:
                        watch()
            return super().push(blob, watch)

    first, second = StreamLayer([b"a"]), StreamLayer([b"b"])
    with pytest.raises(SourceError, match="cut"):
        push(Failing(), Image.empty().append(first, failing, second), "v1", jobs=2)
    assert second.state is LayerState.FRESH


def test_a_failure_of_a_generator_stops_the_threads(tmp_path: Path) -> None:
    """Each is waited for, and the generator's error is raised."""
    waiting, *_ = from_files(tmp_path, 1)
    begun = threading.Event()

    class Waiting(Store):
        def push(self, blob: Blob, watch: Callable[[], None] = lambda: None) -> Descriptor:
            if blob is waiting:
                begun.set()
                while True:
                    watch()
            begun.wait()
            raise SourceError("the cursor is closed")

    before = threading.active_count()
    with pytest.raises(SourceError, match="the cursor is closed"):
        push(Waiting(), Image.empty().append(StreamLayer([b"a"]), waiting), "v1", jobs=2)
    assert threading.active_count() == before


# --- What is there


class Checking(Store):
    """A store that takes no manifest without its blobs, as registries do; it notes what is put."""

    def __init__(self, status: int = 404) -> None:
        super().__init__()
        self.status = status
        self.put_as: list[str] = []

    def put(self, document: Manifest | Index, name: str) -> None:
        self.put_as.append(name)
        if isinstance(document, Index):
            parts = [str(child.digest) for child in document.manifests]
            known = {str(one.digest) for one in self.documents.values()}
        else:
            parts = [str(one.digest) for one in (document.config, *document.layers)]
            known = set(self.blobs)
        if not known.issuperset(parts):
            raise RegistryError("unknown", method="PUT", url="u", status=self.status)
        super().put(document, name)


def layered(*texts: str) -> Image:
    """Return an image with a layer of each text, none of them read."""
    return Image.empty().append(*(StreamLayer([text.encode()]) for text in texts))


def test_a_tag_that_stands_for_it_already_is_left_alone() -> None:
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
def test_a_blob_that_the_store_has_lost_is_sent_again(status: int) -> None:
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


def test_a_child_that_the_store_has_lost_a_blob_of() -> None:
    """The child is there, so it is not put; the index is, and its children are gone through."""
    store, image = Checking(), layered("a")
    index = ImageIndex(Index.new([]), lambda _: image)
    push(store, image)
    index = index.append(image)
    del store.documents[str(image.digest)]
    store.documents["other"] = image.manifest  # it says that it has it
    push(store, index, "all", recheck=True)
    assert store.put_as[-2:] == [str(image.digest), "all"]


def test_what_is_refused_for_another_reason_is_told_at_once() -> None:
    """Where nothing was taken for granted, another try would be no other."""
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


def test_a_blob_that_is_said_to_be_unknown_is_looked_at_once() -> None:
    """Another client may be uploading the same one: what was sent is sent where it is not there."""
    store, image = Checking(), layered("a")
    put, answers = store.put, [RegistryError("x", method="PUT", url="u", status=400)]
    answers[0].codes = ("DIGEST_INVALID", "MANIFEST_BLOB_UNKNOWN")

    def failing(document: Manifest | Index, name: str) -> None:
        put(document, name)
        if answers:
            raise answers.pop()

    store.put = failing  # type: ignore[method-assign]
    push(store, image, "v1")
    assert store.put_as == ["v1", "v1"]


def test_each_blob_is_asked_for_where_it_is_wanted() -> None:
    """`recheck`: what is damaged is found under a tag that stands for it, too."""
    store, image = Checking(), layered("a")
    push(store, image, "v1")
    store.pushed.clear()
    push(store, image, "v1", recheck=True)
    assert len(store.pushed) == 2


def test_what_has_a_subject_is_always_put() -> None:
    """Only the answer to that says who lists it: a run may have died before it was listed."""
    store, image = Checking(), layered("a")
    artifact = image.with_subject(Image.empty().descriptor)
    for _ in range(2):
        push(store, artifact)
        push(store, artifact, "v1")
    assert store.put_as == 2 * [str(artifact.digest), "v1"]


# --- A tag that moves


def test_a_tag_that_moved_meanwhile_is_not_written() -> None:
    """Whoever changed it in between would lose the change without a word."""
    store, base = Checking(), layered("a")
    push(store, base, "v1")

    def source() -> object:
        yield b"b"
        push(store, other, "v1")

    other, mine = layered("c"), base.append(StreamLayer(source()))  # type: ignore[arg-type]
    with pytest.raises(TagMoved, match=f"v1 moved from {base.digest} to") as caught:
        push(store, mine, "v1", expected=base.digest)
    assert store.documents["v1"] == other.manifest
    assert (caught.value.expected, caught.value.actual) == (str(base.digest), str(other.digest))
    push(store, base.append(StreamLayer([b"d"])), "v1", expected=other.digest)


def test_a_tag_that_is_gone_meanwhile_is_not_made_again() -> None:
    """Who deleted it wanted it so."""
    store, base = Checking(), layered("a")
    push(store, base, "v1")
    del store.documents["v1"]
    changed = base.with_annotations({"a": "b"})
    with pytest.raises(TagMoved, match=rf"v1 \({base.digest}\) was deleted mean") as caught:
        push(store, changed, "v1", expected=base.digest)
    assert caught.value.actual == ""
