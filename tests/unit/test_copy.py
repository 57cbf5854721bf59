"""copy: what is put, how often, and in which order."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
from tests.unit.archive.archives import Store

from brolga.copy import push
from brolga.errors import InvalidManifest, SourceError
from brolga.images import Image, ImageIndex
from brolga.layer import StreamLayer
from brolga.manifest import Index

if TYPE_CHECKING:
    from collections.abc import Callable

    from brolga.blob import Blob
    from brolga.descriptor import Descriptor
    from brolga.images import Tree


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


def test_a_failure_stops_what_goes_on_beside_it() -> None:
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

    first, second = (StreamLayer([data]) for data in (b"a", b"b"))
    before = threading.active_count()
    with pytest.raises(SourceError, match="cut"):
        push(Failing(), Image.empty().append(first, second), "v1", jobs=2)
    assert "another part of the push failed" in str(stopped[0])
    assert threading.active_count() == before


def test_a_thread_that_cannot_be_started_ends_the_push(monkeypatch: pytest.MonkeyPatch) -> None:
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
