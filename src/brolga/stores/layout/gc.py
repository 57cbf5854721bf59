"""Finds the blobs of an image layout that no image needs, and the files that stopped writers left.

Whatever looks like a descriptor in a JSON document keeps the blob of its digest, so documents of
unknown kinds keep their blobs. If a document cannot be parsed, every digest in its bytes counts. A
damaged manifest is an error, because its references are unknown.
"""

from __future__ import annotations

import re
import stat
import time
from collections import defaultdict, deque
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar

from brolga.disk.layout import TEMPORARY_PREFIX
from brolga.errors import InvalidDigest, InvalidManifest
from brolga.spec.digest import Digest
from brolga.spec.json import decode
from brolga.spec.mediatypes import INDEX_TYPES, MANIFEST_TYPES
from brolga.spec.value import Value
from brolga.stores.layout.index import name_of
from brolga.stores.layout.reading import verify_manifest

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Hashable, Iterable, Iterator
    from pathlib import Path

    from brolga.spec.descriptor import Descriptor
    from brolga.spec.index import Index
    from brolga.stores.layout.files import Files
    from brolga.stores.layout.index import LayoutIndex


DEFAULT_AGE_S: Final = 3600.0
# The registry keeps an upload session for a day after its last write, by default.
_SESSION_AGE_S: Final = 86400.0
_DIGESTS: Final = rb"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}"
# How a blob is read. Not its media type: a document could name one blob with thousands of them,
# and it would be read as often.
_MANIFEST: Final = "manifest"
_DOCUMENT: Final = "document"
_OTHER: Final = "other"

Node: TypeAlias = "tuple[Digest, str]"  # and how it is read
T = TypeVar("T", bound="Hashable")


class GCResult(Value):
    """What was deleted: `blobs` of `size` bytes, and `scratch` files of writers that stopped.

    `young` blobs are not needed but too recent to delete. `unread` are the manifests that cannot be
    parsed, each with the reason: the blobs that they mention are kept.
    """

    blobs: int
    size: int
    young: int
    scratch: int
    unread: tuple[str, ...] = ()


class Reachability:
    """Follows references between blobs. `unread` has the error of each manifest not parsed."""

    def __init__(self, files: Files) -> None:
        self.files = files
        self.unread: dict[Digest, str] = {}

    def reachable_roots(self, index: LayoutIndex) -> LayoutIndex:
        """Return the index without unnamed images, unless they refer to one that stays."""
        kept = {number for number, entry in enumerate(index.manifests) if name_of(entry)}
        referrers = defaultdict[Digest, set[int]](set)  # unnamed entries, by subject
        for number, entry in enumerate(index.manifests):
            if number not in kept:
                for subject in self._subjects(entry):
                    referrers[subject].add(number)
        todo = deque(index.manifests[number] for number in sorted(kept))
        seen = set[Node]()
        while todo:
            entry = todo.popleft()
            for digest, _ in walk([(entry.digest, entry.media_type)], self._references, seen):
                new = referrers.pop(digest, set()) - kept
                kept |= new
                todo.extend(index.manifests[number] for number in sorted(new))
        return index.with_entries(index.manifests[number] for number in sorted(kept))

    def reachable_digests(self, index: Index) -> set[Digest]:
        """Return the digest of everything that an index refers to, at any depth."""
        roots = [(entry.digest, _kind(entry.media_type)) for entry in index.manifests]
        return {digest for digest, _ in walk(roots, self._references)}

    def _references(self, node: Node) -> list[Node]:
        digest, kind = node
        if kind == _OTHER:
            return []
        raw = self.files.read(self.files.blob_path(digest))
        if raw is None:
            return []
        is_manifest = kind == _MANIFEST
        if is_manifest:
            verify_manifest(raw, digest, self.files.path)
        try:
            return list(_find_descriptors(decode(raw)))
        except InvalidManifest as error:
            if is_manifest:
                self.unread[digest] = str(error)
            return [(mentioned, _DOCUMENT) for mentioned in _find_digests(raw)]

    def _subjects(self, entry: Descriptor) -> set[Digest]:
        """Return the digests that may be the subject of an image."""
        if "json" not in entry.media_type:
            return set()
        raw = self.files.read(self.files.blob_path(entry.digest)) or b"{}"
        try:
            subject = decode(raw).get("subject")
        except InvalidManifest:
            return _find_digests(raw)
        return {digest for digest, _ in _find_descriptors(subject)}


def find_garbage(
    files: Files, needed: set[Digest], older_than_s: float
) -> tuple[dict[Path, os.stat_result], int]:
    """Return the blobs that are not needed, and how many more are too recent to delete."""
    garbage: dict[Path, os.stat_result] = {}
    too_recent = 0
    for path, status in files.scan_blobs():
        digest = _parse_digest(f"{path.parent.name}:{path.name}")
        if digest is None or digest in needed or not stat.S_ISREG(status.st_mode):
            continue  # a file that is not a blob stays
        if _is_old(status, older_than_s):
            garbage[path] = status
        else:
            too_recent += 1
    return garbage, too_recent


def stale_files(files: Files, older_than_s: float) -> list[Path]:
    """Return the temporary files and upload sessions that are not in use.

    The caller holds the lock that keeps off writers, so no temporary file is in use. A client may
    resume a session for a day, unless `older_than_s` is 0.
    """
    idle_s = older_than_s and max(older_than_s, _SESSION_AGE_S)
    return [
        path
        for path, status in files.scan_uploads()
        if path.name.startswith(TEMPORARY_PREFIX) or _is_old(status, idle_s)
    ]


def walk(
    roots: Iterable[T], children: Callable[[T], Iterable[T]], seen: set[T] | None = None
) -> Iterator[T]:
    """Yield the roots and all nodes below them, each once, and `children` after their parent.

    Nodes of `seen` are skipped, and those of this walk are added to it.
    """
    todo, seen = deque(roots), set[T]() if seen is None else seen
    while todo:
        node = todo.popleft()
        if node not in seen:
            seen.add(node)
            yield node
            todo.extend(children(node))


def _find_digests(raw: bytes) -> set[Digest]:
    return {Digest.parse(match.decode()) for match in re.findall(_DIGESTS, raw)}


def _find_descriptors(value: object) -> Iterator[Node]:
    """Yield each object of a JSON value that looks like a descriptor."""
    children: Iterable[object] = ()
    if isinstance(value, dict):
        digest, media_type = value.get("digest"), value.get("mediaType", "")
        if isinstance(digest, str) and (parsed := _parse_digest(digest)) is not None:
            yield parsed, _kind(str(media_type))
        children = value.values()
    elif isinstance(value, list):
        children = value
    for child in children:
        yield from _find_descriptors(child)


def _kind(media_type: str) -> str:
    if media_type in MANIFEST_TYPES | INDEX_TYPES:
        return _MANIFEST
    return _DOCUMENT if "json" in media_type else _OTHER


def _parse_digest(text: str) -> Digest | None:
    try:
        return Digest.parse(text)
    except InvalidDigest:
        return None


def _is_old(status: os.stat_result, older_than_s: float) -> bool:
    return status.st_mtime <= time.time() - older_than_s
