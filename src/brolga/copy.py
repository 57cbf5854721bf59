"""Pushing an image or an index into a store: what goes first, and what at the same time.

Knows the order that a registry asks for: layers before config before manifest, children before
their index. Must not know which store it is.

Strategy: a tree is laid out as a list of documents, children first. All their layers go at once,
`jobs` at a time, each digest and each layer object once; then the configs, which the layers
complete; then the documents in order. Blobs are pushed by threads. The caller's thread only waits,
in a way that Ctrl-C interrupts; whatever ends the push, each thread is told, stops before its next
block (so that its upload is cancelled as it should be), and is waited for.
"""

from __future__ import annotations

import queue
import threading
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from brolga.errors import BrolgaError, InvalidManifest, NotComputed
from brolga.images import Image
from brolga.mediatypes import NONDISTRIBUTABLE
from brolga.store import Foreseeing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from brolga.blob import Blob
    from brolga.descriptor import Descriptor
    from brolga.digest import Digest
    from brolga.images import Tree
    from brolga.manifest import Index, Manifest
    from brolga.store import Target

__all__ = ["push"]

_THREAD: Final = "brolga-push"
_MAX_DEPTH: Final = 16  # indexes within indexes; no tool makes more than two


def push(target: Target, tree: Tree, name: str = "", *, jobs: int = 4) -> Descriptor:
    """Push an image or an index under `name`, a tag; "" is its digest. Return its descriptor.

    What the target has already is not sent. Raises what reading the layers and pushing raise: the
    first failure, after everything else was stopped; InvalidManifest for a tree that is too deep.
    """
    documents = list(_children_first(target, tree, name, set()))
    if isinstance(target, Foreseeing):
        target.foresee(_known(documents))
    images = [one.tree for one in documents if isinstance(one.tree, Image) and not one.there]
    _push_blobs(target, _distinct(blob for image in images for blob in _layers(image)), jobs)
    _push_blobs(target, _distinct(image.config_blob for image in images), jobs)
    for one in documents:
        target.put(one.content, one.name or str(one.content.digest))
    return tree.descriptor


@dataclass(frozen=True)
class _Document:
    """A manifest to be put under a name; where it is `there` already, so is all below it."""

    tree: Tree
    name: str
    there: bool

    @property
    def content(self) -> Manifest | Index:
        """The manifest or index. Raises NotComputed where a layer of it was not read yet."""
        return self.tree.manifest if isinstance(self.tree, Image) else self.tree.index


def _known(documents: Iterable[_Document]) -> Iterator[Manifest | Index]:
    """Yield those that no stream is still to complete."""
    for one in documents:
        with suppress(NotComputed):
            yield one.content


def _children_first(
    target: Target, tree: Tree, name: str, seen: set[Digest], depth: int = 0
) -> Iterator[_Document]:
    """Yield what of a tree is to be put, once each, and after what it refers to.

    `seen` are the children so far: indexes that list a child many times, one below the other, would
    be gone through a number of times that grows exponentially. Raises InvalidManifest.
    """
    if depth > _MAX_DEPTH:
        raise InvalidManifest(f"indexes are nested deeper than {_MAX_DEPTH} levels")
    there = False
    with suppress(NotComputed):  # a stream is not read yet: nobody can have it
        there = target.holds(tree.descriptor)
    if there and not name:
        return
    if not there and not isinstance(tree, Image):
        for described in tree.index.manifests:
            if described.digest not in seen:
                seen.add(described.digest)
                child = tree.child(described)
                yield from _children_first(target, child, "", seen, depth + 1)
    yield _Document(tree, name, there)


def _layers(image: Image) -> Iterator[Blob]:
    """Yield the layers that belong into a registry: foreign ones stay where they are."""
    for layer in image.layers:
        try:
            media_type = layer.descriptor.media_type
        except NotComputed:
            media_type = ""
        if media_type not in NONDISTRIBUTABLE:
            yield layer


def _distinct(blobs: Iterable[Blob]) -> list[Blob]:
    """Return each object once, and each digest that is known already once."""
    found: dict[object, Blob] = {}
    for blob in blobs:
        try:
            found.setdefault(blob.descriptor.digest, blob)
        except NotComputed:
            found.setdefault(id(blob), blob)
    return list(found.values())


def _push_blobs(target: Target, blobs: Sequence[Blob], jobs: int) -> None:
    if len(blobs) <= 1 or jobs == 1:
        for blob in blobs:
            target.push(blob)
    else:
        stop = threading.Event()

        def watch() -> None:
            if stop.is_set():
                raise _Stopped("given up: another part of the push failed")

        _all([partial(target.push, blob, watch) for blob in blobs], jobs, stop)


def _all(tasks: Sequence[Callable[[], object]], jobs: int, stop: threading.Event) -> None:
    """Do all tasks, `jobs` at a time. At the first failure set `stop`, wait, and raise it."""
    todo: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
    done: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
    for task in tasks:
        todo.put(task)
    count = min(jobs, len(tasks))
    threads = [
        threading.Thread(target=_work, args=(todo, done, stop), name=_THREAD, daemon=True)
        for _ in range(count)
    ]
    try:
        for thread in threads:
            thread.start()
        for _ in tasks:
            if error := done.get():
                raise error
    finally:
        stop.set()
        for thread in threads:
            if thread.ident is not None:
                thread.join()


def _work(
    todo: queue.SimpleQueue[Callable[[], object]],
    done: queue.SimpleQueue[BaseException | None],
    stop: threading.Event,
) -> None:
    """Do tasks while there are any; tell of each how it ended."""
    while not stop.is_set() and not todo.empty():
        with suppress(queue.Empty):
            task = todo.get_nowait()
            try:
                task()
            except BaseException as error:  # noqa: BLE001 - handed to the thread that waits
                done.put(error)
            else:
                done.put(None)


class _Stopped(BrolgaError):
    """Another blob failed: this one is given up."""
