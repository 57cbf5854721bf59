"""Pushing an image or an index into a store: what goes first, and what at the same time.

Knows the order that a registry asks for: layers before config before manifest, children before
their index. Must not know which store it is.

Strategy: a tree is laid out as a list of documents, children first. All their layers go at once,
`jobs` at a time, each digest and each layer object once; then the configs, which the layers
complete; then the documents in order. A manifest that the target has is taken for whole, which
saves asking for each blob; where what refers to it is refused as incomplete, that is done all the
same, once. Blobs are pushed by threads, but for those whose bytes come from the user's own code:
the caller's thread pushes them, one by one, and else waits in a way that Ctrl-C interrupts.
Whatever ends the push, each thread is told, stops before its next block (so that its upload is
cancelled as it should be), and is waited for.
"""

from __future__ import annotations

import queue
import threading
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from brolga.errors import BrolgaError, InvalidManifest, NotComputed, RegistryError, TagConflict
from brolga.images import Image
from brolga.images.index import is_blob
from brolga.spec.blob import runs_user_code
from brolga.spec.mediatypes import NONDISTRIBUTABLE
from brolga.stores.store import Foreseeing
from brolga.stream.worker import POLL_INTERVAL_S, Stop, stop_scope

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from brolga.images import Tree
    from brolga.spec.blob import Blob
    from brolga.spec.descriptor import Descriptor
    from brolga.spec.digest import Digest
    from brolga.spec.index import Index
    from brolga.spec.manifest import Manifest
    from brolga.stores.store import WriteStore

__all__ = ["push"]

_THREAD: Final = "brolga-push"
_MAX_DEPTH: Final = 16  # indexes within indexes; no tool makes more than two
# How a manifest is refused that refers to what is not there: MANIFEST_BLOB_UNKNOWN with either,
# and not every registry has a code for it.
_INCOMPLETE: Final = (400, 404)
# docker-registry 2.8 says so for a moment as well, where two clients upload the same blob at once.
_UNKNOWN: Final = "MANIFEST_BLOB_UNKNOWN"


def push(  # noqa: PLR0913 - what goes where, and what is taken for granted
    target: WriteStore,
    tree: Tree,
    name: str = "",
    *,
    jobs: int = 4,
    recheck: bool = False,
    expected: Digest | None = None,
) -> Descriptor:
    """Push an image or an index under `name`, a tag; "" is its digest. Return its descriptor.

    What the target has already is not sent. Where `recheck`, each blob is asked for, below a
    manifest that is there too. `expected` is what the tag must stand for until the end.

    Raises what reading the layers and pushing raise: the first failure, after everything else was
    stopped; InvalidManifest for a tree that is too deep, TagConflict.
    """
    if expected is None and not recheck and _is_done(target, tree, name):
        return tree.descriptor
    documents = _sent(target, tree, name, jobs, recheck=recheck)
    try:
        _put_all(target, documents, expected)
    except RegistryError as error:
        trusted = any(one.there for one in documents)
        if error.status not in _INCOMPLETE or not (trusted or _UNKNOWN in error.codes):
            raise
        _put_all(target, _sent(target, tree, name, jobs, recheck=True), expected)
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

    @property
    def is_done(self) -> bool:
        """Whether it need not be put: one with a subject must, as only that makes it be listed."""
        return self.there and not self.name and _subject(self.tree) is None


def _known(documents: Iterable[_Document]) -> Iterator[Manifest | Index]:
    """Yield those that no stream is still to complete."""
    for one in documents:
        with suppress(NotComputed):
            yield one.content


def _is_done(target: WriteStore, tree: Tree, name: str) -> bool:
    """Tell whether a tag stands for the tree already, so that nothing is left to be done."""
    if not name or _subject(tree) is not None:
        return False
    try:
        return target.exists(tree.descriptor, name)
    except NotComputed:
        return False


def _sent(
    target: WriteStore, tree: Tree, name: str, jobs: int, *, recheck: bool
) -> Sequence[_Document]:
    """Push all blobs of a tree; return its documents, which can be put then, children first."""
    documents = list(_children_first(target, tree, name, set(), recheck=recheck))
    if isinstance(target, Foreseeing):
        target.foresee(_known(documents))
    trees = [one.tree for one in documents if not one.there]
    images = [tree for tree in trees if isinstance(tree, Image)]
    _push_blobs(target, _distinct(blob for tree in trees for blob in _layers(tree)), jobs)
    _push_blobs(target, _distinct(image.config_blob for image in images), jobs)
    return documents


def _put_all(target: WriteStore, documents: Sequence[_Document], expected: Digest | None) -> None:
    for one in documents:
        if one.is_done:
            continue
        if one.name and expected is not None:
            _check_unmoved(target, one.name, expected)
        target.push_manifest(one.content, one.name or str(one.content.digest))


def _check_unmoved(target: WriteStore, tag: str, expected: Digest) -> None:
    """Raise TagConflict where a tag stands for something else than what was read.

    No registry offers a PUT that does both at once: between the two requests it may still move.
    """
    actual = target.named(tag)
    if actual == expected:
        return
    moved = f"moved from {expected} to {actual}" if actual else f"({expected}) was deleted"
    error = TagConflict(
        f"the tag {tag} {moved} meanwhile, and was left so",
        expected=str(expected),
        actual=str(actual or ""),
    )
    if actual:
        error.add_note("run it again: it then changes what the tag stands for now")
    raise error


def _children_first(  # noqa: PLR0913 - a recursion carries what it has seen
    target: WriteStore, tree: Tree, name: str, seen: set[Digest], depth: int = 0, *, recheck: bool
) -> Iterator[_Document]:
    """Yield the documents of a tree, once each, and after what they refer to.

    `seen` are the children so far: indexes that list a child many times, one below the other, would
    be gone through a number of times that grows exponentially. Raises InvalidManifest.
    """
    if depth > _MAX_DEPTH:
        raise InvalidManifest(f"indexes are nested deeper than {_MAX_DEPTH} levels")
    there = False
    if not recheck:
        with suppress(NotComputed):  # a stream is not read yet: nobody can have it
            there = target.exists(tree.descriptor)
    if not there and not isinstance(tree, Image):
        for described in tree.index.manifests:
            if described.digest not in seen and not is_blob(described):
                seen.add(described.digest)
                child = tree.child(described)
                yield from _children_first(target, child, "", seen, depth + 1, recheck=recheck)
    yield _Document(tree, name, there)


def _subject(tree: Tree) -> Descriptor | None:
    return tree.subject if isinstance(tree, Image) else tree.index.subject


def _layers(tree: Tree) -> Iterator[Blob]:
    """Yield the layers of an image, or the blobs that an index lists.

    Foreign ones stay where they are.
    """
    for layer in tree.layers if isinstance(tree, Image) else tree.blobs:
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


def _push_blobs(target: WriteStore, blobs: Sequence[Blob], jobs: int) -> None:
    """Push blobs, `jobs` at a time: those that run the user's code in this thread, one by one."""
    own = [blob for blob in blobs if runs_user_code(blob)]
    others = [blob for blob in blobs if not runs_user_code(blob)]
    if jobs == 1 or not others or len(blobs) == 1:
        for blob in blobs:
            target.push(blob)
        return
    stop = Stop()

    def watch() -> None:
        if stop.requests:
            raise _Stopped("given up: another part of the push failed")

    tasks = [partial(target.push, blob, watch) for blob in others]
    own_tasks = [partial(target.push, blob, watch) for blob in own]
    _run_tasks(tasks, own_tasks, max(1, jobs - bool(own)), stop)


def _run_tasks(
    tasks: Sequence[Callable[[], object]],
    own_tasks: Sequence[Callable[[], object]],
    threads: int,
    stop: Stop,
) -> None:
    """Run `tasks` in threads, and `own_tasks` in this one meanwhile.

    At the first failure ask the threads to stop, wait for them, and raise it. An interrupt while
    they are waited for asks once more, and waits no longer.
    """
    todo: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
    done: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
    for task in tasks:
        todo.put(task)
    workers = [
        threading.Thread(target=_work, args=(todo, done, stop), name=_THREAD, daemon=True)
        for _ in range(min(threads, len(tasks)))
    ]
    try:
        for worker in workers:
            worker.start()
        with suppress(_Stopped):  # a thread has failed: its error is the first in `done`
            for task in own_tasks:
                if stop.requests:
                    break
                task()
        for _ in tasks:
            if error := done.get():
                raise error
    finally:
        stop.request()
        _join(workers, stop)


def _join(workers: Iterable[threading.Thread], stop: Stop) -> None:
    """Wait for the threads that were started. If that is interrupted, ask them to stop once more.

    It waits in slices: see `brolga.stream.worker`.
    """
    try:
        for worker in workers:
            while worker.is_alive():
                worker.join(POLL_INTERVAL_S)
    except BaseException:
        stop.request()
        raise


def _work(
    todo: queue.SimpleQueue[Callable[[], object]],
    done: queue.SimpleQueue[BaseException | None],
    stop: Stop,
) -> None:
    """Do tasks while there are any; tell of each how it ended. A failure stops all others."""
    while not stop.requests and not todo.empty():
        with suppress(queue.Empty):
            task = todo.get_nowait()
            try:
                with stop_scope(stop):
                    task()
            except BaseException as error:  # noqa: BLE001 - handed to the thread that waits
                done.put(error)
                stop.request()
            else:
                done.put(None)


class _Stopped(BrolgaError):
    """Another blob failed: this one is given up."""
