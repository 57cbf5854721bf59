"""Pushing an image or an index to a store: in which order, and what at the same time.

All layers of a tree are pushed, `jobs` at a time; then the configs, which the layers complete; then
the manifests, children before their index. A manifest that the target has is assumed to be
complete; if what refers to it is refused as incomplete, all blobs are pushed after all, once.
"""

from __future__ import annotations

import queue
import threading
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final, cast

from brolga.errors import InvalidManifest, NotComputed, RegistryError, TagConflict
from brolga.images import BlockStream, Image, InMemoryBlob, StoredBlob
from brolga.images.index import is_blob
from brolga.spec.blob import (
    BlockReader,
    Rereadable,
    digest_algorithm,
    runs_user_code,
    source_identity,
)
from brolga.spec.mediatypes import NONDISTRIBUTABLE
from brolga.spec.value import Value, replace
from brolga.stores import DEFAULT_JOBS
from brolga.stores.store import Preannounces, PushedBlob
from brolga.stream.worker import POLL_INTERVAL_S, Stop, current_stop, stop_scope

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
    from types import TracebackType

    from brolga.images import Tree
    from brolga.spec.blob import Blob, BlobStream, Block
    from brolga.spec.descriptor import Descriptor
    from brolga.spec.digest import Digest
    from brolga.spec.index import Index
    from brolga.spec.manifest import Manifest
    from brolga.stores.store import WriteStore


_THREAD: Final = "brolga-push"
_GIVEN_UP: Final = "given up: another part of the push failed"
_MAX_DEPTH: Final = 16  # indexes within indexes; no tool makes more than two
# The statuses of a manifest that refers to a missing blob: MANIFEST_BLOB_UNKNOWN with either, and
# not every registry sends a code.
_INCOMPLETE: Final = (400, 404)
# docker-registry 2.8 sends it for a moment as well, if two clients upload the same blob at once.
_UNKNOWN: Final = "MANIFEST_BLOB_UNKNOWN"


def push(
    target: WriteStore,
    tree: Tree,
    *tags: str,
    jobs: int = DEFAULT_JOBS,
    verify_existing: bool = False,
    expected: Digest | None = None,
) -> Descriptor:
    """Push an image or an index under tags; without one by its digest. Return its descriptor.

    What the target has already is not sent. With `verify_existing`, every blob is checked, also
    below a manifest that is there. `expected` is what the first tag must stand for until the end.

    Raises the first failure, after everything else was stopped; TagConflict.
    """
    tags = tuple(filter(None, dict.fromkeys(tags)))
    if expected is None and not verify_existing and _is_up_to_date(target, tree, tags):
        return tree.descriptor
    if getattr(target, "is_serial", False):
        jobs = 1
    documents = _push_blobs_of(target, tree, tags, jobs, verify_existing=verify_existing)
    try:
        _push_manifests(target, documents, expected)
    except RegistryError as error:
        trusted = any(document.exists for document in documents)
        if error.status not in _INCOMPLETE or not (trusted or _UNKNOWN in error.codes):
            raise
        documents = _push_blobs_of(target, tree, tags, jobs, verify_existing=True)
        _push_manifests(target, documents, expected)
    return tree.descriptor


class _Document(Value):
    """A manifest to push under tags, if any. If it `exists` already, so does all below it."""

    tree: Tree
    tags: tuple[str, ...]
    exists: bool

    @property
    def content(self) -> Manifest | Index:
        """The manifest or index. Raises NotComputed if a layer of it was not read yet."""
        return self.tree.manifest if isinstance(self.tree, Image) else self.tree.index


def _complete_manifests(documents: Iterable[_Document]) -> Iterator[Manifest | Index]:
    """Yield the manifests that are complete before their streams are read."""
    for document in documents:
        with suppress(NotComputed):
            yield document.content


def _is_up_to_date(target: WriteStore, tree: Tree, tags: Sequence[str]) -> bool:
    """Return whether all tags stand for the tree already."""
    if not tags or _subject(tree) is not None:
        return False
    try:
        return all(target.exists(tree.descriptor, tag) for tag in tags)
    except NotComputed:
        return False


def _push_blobs_of(
    target: WriteStore, tree: Tree, tags: tuple[str, ...], jobs: int, *, verify_existing: bool
) -> Sequence[_Document]:
    """Push all blobs of a tree; return its documents, which can be pushed then, children first."""
    documents = list(_children_first(target, tree, tags, set(), verify_existing=verify_existing))
    if isinstance(target, Preannounces):
        target.announce(_complete_manifests(documents))
    trees = [document.tree for document in documents if not document.exists]
    images = [tree for tree in trees if isinstance(tree, Image)]
    _push_blobs(target, (blob for tree in trees for blob in _layers(tree)), jobs)
    _push_blobs(target, (image.config_blob for image in images), jobs)
    return documents


def _push_manifests(
    target: WriteStore, documents: Sequence[_Document], expected: Digest | None
) -> None:
    for document in documents:
        content, tags = document.content, document.tags
        if document.exists and not tags and content.subject is None:
            continue  # one with a subject is pushed again, to be listed as a referrer
        if tags and expected is not None:
            _check_unmoved(target, tags[0], expected)
        target.push_manifest(content, *(tags or [str(content.digest)]))


def _check_unmoved(target: WriteStore, tag: str, expected: Digest) -> None:
    """Raise TagConflict if a tag stands for something else than what was read.

    No registry offers a conditional PUT: between the two requests the tag may still move.
    """
    descriptor = target.find(tag)
    actual = descriptor and descriptor.digest
    if actual == expected:
        return
    moved = f"moved from {expected} to {actual}" if actual else f"({expected}) was deleted"
    raise TagConflict(
        f"the tag {tag} {moved} meanwhile, and was left so",
        expected=str(expected),
        actual=str(actual or ""),
        hint="run it again: it then changes what the tag stands for now" if actual else "",
    )


def _children_first(  # noqa: PLR0913 - a recursion carries what it has seen
    target: WriteStore,
    tree: Tree,
    tags: tuple[str, ...],
    seen: set[Digest],
    depth: int = 0,
    *,
    verify_existing: bool,
) -> Iterator[_Document]:
    """Yield the documents of a tree, once each, and after what they refer to.

    `seen` has the children so far: if nested indexes list a child many times, the number of visits
    would grow exponentially. Raises InvalidManifest.
    """
    if depth > _MAX_DEPTH:
        raise InvalidManifest(f"indexes are nested deeper than {_MAX_DEPTH} levels")
    exists = False
    if not verify_existing:
        with suppress(NotComputed):  # a stream that is not read yet
            exists = target.exists(tree.descriptor)
    if not exists and not isinstance(tree, Image):
        for described in tree.index.manifests:
            if described.digest not in seen and not is_blob(described):
                seen.add(described.digest)
                child = tree.child(described)
                yield from _children_first(
                    target, child, (), seen, depth + 1, verify_existing=verify_existing
                )
    yield _Document(tree, tags, exists)


def _subject(tree: Tree) -> Descriptor | None:
    return tree.subject if isinstance(tree, Image) else tree.index.subject


def _layers(tree: Tree) -> Iterator[Blob]:
    """Yield the layers of an image, or the blobs of an index, except for foreign ones."""
    for layer in tree.layers if isinstance(tree, Image) else tree.blobs:
        try:
            media_type = layer.descriptor.media_type
        except NotComputed:
            media_type = ""
        if media_type not in NONDISTRIBUTABLE:
            yield layer


def _distinct(blobs: Iterable[Blob]) -> list[Blob]:
    """Return each object once, and each digest that is known already once."""
    distinct: dict[object, Blob] = {}
    for blob in blobs:
        try:
            distinct.setdefault(blob.descriptor.digest, blob)
        except NotComputed:
            distinct.setdefault(id(blob), blob)
    return list(distinct.values())


def _push_blobs(target: WriteStore, blobs: Iterable[Blob], jobs: int) -> None:
    """Push blobs, `jobs` at a time: those that run the user's code in this thread, one by one."""
    blobs = _distinct(
        blob for blob in blobs if not (isinstance(blob, PushedBlob) and blob.store is target)
    )
    own = [blob for blob in blobs if runs_user_code(blob)]
    others = [blob for blob in blobs if not runs_user_code(blob)]
    if (progress := getattr(target, "progress", None)) is not None:
        progress.plan(blobs)
    if jobs == 1 or not others or len(blobs) == 1:
        for blob in blobs:
            target.push(blob)
        return
    stop = Stop(current_stop(), _GIVEN_UP)
    tasks, own_tasks = (
        [partial(target.push, _cancellable(blob, stop)) for blob in group]
        for group in (others, own)
    )
    _run_tasks(tasks, own_tasks, max(1, jobs - bool(own)), stop)


def _cancellable(blob: Blob, stop: Stop) -> Blob:
    """Return a blob whose streams raise `_Stopped` before their next block after a request."""
    if isinstance(blob, InMemoryBlob):
        return blob
    if isinstance(blob, StoredBlob):
        open_rest = blob.open_rest and partial(_open_until, stop, blob.open_rest)
        return replace(blob, opener=partial(_open_until, stop, blob.opener), open_rest=open_rest)
    return _CancellableBlob(blob, stop)


def _open_until(stop: Stop, opener: Callable[..., BlobStream], *arguments: object) -> BlockStream:
    return BlockStream(_blocks_until(stop, partial(opener, *arguments)))


def _blocks_until(stop: Stop, opener: Callable[[], BlobStream]) -> Generator[bytes, None, None]:
    with opener() as stream:
        for block in stream.blocks():
            _check(stop)
            yield cast("bytes", block)  # no reader needs more than a buffer


def _check(stop: Stop) -> None:
    if stop.requests:
        raise _Stopped(_GIVEN_UP)


class _CancellableBlob(Value):
    """A blob that is streamed, and can be cancelled."""

    blob: Blob
    stop: Stop

    @property
    def descriptor(self) -> Descriptor:
        return self.blob.descriptor

    @property
    def digest_algorithm(self) -> str:
        return digest_algorithm(self.blob)

    @property
    def source_identity(self) -> str:
        return source_identity(self.blob)

    def open(self) -> _CancellableStream:
        return _CancellableStream(self.blob.open(), self.stop)


class _CancellableStream(BlockReader):
    """A stream that can be cancelled, and reread if its own stream can."""

    def __init__(self, stream: BlobStream, stop: Stop) -> None:
        self._stream = stream
        self._stop = stop
        self._blocks = stream.blocks()
        self.is_reopenable = False
        if isinstance(stream, Rereadable):
            self.is_reopenable, self.reread = stream.is_reopenable, stream.reread

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stream.__exit__(kind, error, traceback)

    def close(self) -> None:
        self.__exit__(None, None, None)

    def _next(self) -> Block | None:
        block = self._take_rest() or next(self._blocks, None)
        _check(self._stop)
        return block


def _run_tasks(
    tasks: Sequence[Callable[[], object]],
    own_tasks: Sequence[Callable[[], object]],
    threads: int,
    stop: Stop,
) -> None:
    """Run `tasks` in threads, and `own_tasks` in this one meanwhile.

    At the first failure ask the threads to stop, wait for them, and raise it. An interrupt while
    they are waited for asks once more, and waits no longer. The error gets the notes of the others:
    what was kept of their blobs, for example.
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
            stop.request_once()  # a second request would keep a thread from cancelling its session
            _join(workers, stop)
    except BaseException as first:
        _copy_notes(done, first)
        raise


def _copy_notes(done: queue.SimpleQueue[BaseException | None], first: BaseException) -> None:
    """Add the notes of the threads that were asked to stop to the error that is the reason."""
    while not done.empty():
        error = done.get_nowait()
        if isinstance(error, _Stopped | KeyboardInterrupt):
            for note in getattr(error, "__notes__", ()):
                if note not in getattr(first, "__notes__", ()):
                    first.add_note(note)


def _join(workers: Iterable[threading.Thread], stop: Stop) -> None:
    """Wait for the threads, in slices. If that is interrupted, ask them to stop once more."""
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
    """Do tasks while there are any; report how each ended. A failure stops all others."""
    while not stop.requests and not todo.empty():
        with suppress(queue.Empty):
            task = todo.get_nowait()
            try:
                with stop_scope(stop):
                    task()
            except BaseException as error:  # noqa: BLE001 - handed to the thread that waits
                done.put(error)
                stop.request_once()
            else:
                done.put(None)


class _Stopped(KeyboardInterrupt):
    """Another blob failed: this one is given up, as after an interrupt."""
