"""Which blobs of an image layout nobody needs, and which files broken-off writers left.

Knows what a document can refer to, and how old a file is. Must not delete anything.

Strategy: what is needed is found from the index down, generously: whatever in a JSON document looks
like a descriptor keeps the blob of its digest, so that documents of kinds that are not known here
keep what is theirs. Of a document that cannot be read every digest counts that is in its bytes. One
that is damaged is an error: nobody knows what it referred to. The rest is spared while it is young,
as is a session of the registry. What this package left is spared not at all: whoever asks has the
layout alone, so nobody writes it any more.
"""

from __future__ import annotations

import re
import stat
import time
from collections import defaultdict, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from brolga.disk.layout import TEMPORARY_PREFIX
from brolga.errors import InvalidDigest, InvalidManifest
from brolga.spec.digest import Digest
from brolga.spec.json import MAX_SIZE, decode
from brolga.spec.manifest import INDEX_TYPES, MANIFEST_TYPES
from brolga.stores.layout.files import check
from brolga.stores.layout.index import name_of

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Hashable, Iterable, Iterator
    from pathlib import Path

    from brolga.spec.descriptor import Descriptor
    from brolga.spec.index import Index
    from brolga.stores.layout.files import Files
    from brolga.stores.layout.index import LayoutIndex

__all__ = ["DEFAULT_AGE_S", "GCResult", "Sweeping", "left_over", "reached", "unneeded"]

DEFAULT_AGE_S: Final = 3600.0
# The registry keeps a session for a day since it was written, if nobody says otherwise.
_SESSION_AGE_S: Final = 86400.0
_DIGESTS: Final = re.compile(rb"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")
# What is to be done with a blob. Not its media type: a document could name one blob with thousands
# of them, and it would be read as often.
_MANIFEST: Final = "manifest"
_DOCUMENT: Final = "document"
_OTHER: Final = "other"


@dataclass(frozen=True)
class GCResult:
    """What was deleted: `blobs` of `size` bytes, and `scratch` files of writers that broke off.

    `young` blobs that nobody needs were left, for their age. `unread` are the manifests that could
    not be read, each with the reason: all that they mention was left.
    """

    blobs: int
    size: int
    young: int
    scratch: int
    unread: tuple[str, ...] = ()


class Sweeping:
    """What a layout needs, and what of it could not be read (`unread`, by digest)."""

    def __init__(self, files: Files) -> None:
        self.unread: dict[Digest, str] = {}
        self._files = files

    def rooted(self, index: LayoutIndex) -> LayoutIndex:
        """Return the index without images that have no name, but for those that refer to one.

        Raises as `needed`.
        """
        kept = {number for number, entry in enumerate(index.manifests) if name_of(entry)}
        waiting = defaultdict[Digest, set[int]](set)
        for number, entry in enumerate(index.manifests):
            if number not in kept:
                for subject in self._subjects(entry):
                    waiting[subject].add(number)
        roots = deque(index.manifests[number] for number in sorted(kept))
        known = set[tuple[Digest, str]]()
        while roots:
            entry = roots.popleft()
            for digest, _ in reached([(entry.digest, entry.media_type)], self._referred, known):
                more = waiting.pop(digest, set()) - kept
                kept |= more
                roots.extend(index.manifests[number] for number in sorted(more))
        return index.with_entries(index.manifests[number] for number in sorted(kept))

    def needed(self, index: Index) -> set[Digest]:
        """Return the digest of everything that can be reached from an index.

        Raises DigestMismatch for a manifest that is damaged, InvalidManifest for one of more than 4
        MiB.
        """
        roots = [(entry.digest, _kind(entry.media_type)) for entry in index.manifests]
        return {digest for digest, _ in reached(roots, self._referred)}

    def _referred(self, one: tuple[Digest, str]) -> list[tuple[Digest, str]]:
        """Return what a document refers to, with the kinds that it gives."""
        digest, kind = one
        if kind == _OTHER:
            return []
        raw = self._files.read(self._files.blob_path(digest))
        if raw is None:
            return []
        is_manifest = kind == _MANIFEST
        if is_manifest:
            if len(raw) > MAX_SIZE:
                raise InvalidManifest(f"{digest} has more than {MAX_SIZE} bytes, as no manifest")
            check(digest, Digest.of(raw, digest.algorithm), self._files.path)
        try:
            return list(_descriptors(decode(raw)))
        except InvalidManifest as error:
            if is_manifest:
                self.unread[digest] = str(error)
            return [(digest, _DOCUMENT) for digest in _mentioned(raw)]

    def _subjects(self, entry: Descriptor) -> set[Digest]:
        """Return what an image may refer to as its subject."""
        if "json" not in entry.media_type:
            return set()
        raw = self._files.read(self._files.blob_path(entry.digest)) or b"{}"
        try:
            subject = decode(raw).get("subject")
        except InvalidManifest:
            return _mentioned(raw)
        return {digest for digest, _ in _descriptors(subject)}


def unneeded(
    files: Files, wanted: set[Digest], older_than_s: float
) -> tuple[dict[Path, os.stat_result], int]:
    """Return the blobs that are not wanted as they are now, and how many more are too young."""
    old: dict[Path, os.stat_result] = {}
    young = 0
    for path, status in files.scan_blobs():
        digest = _digest(f"{path.parent.name}:{path.name}")
        if digest is None or digest in wanted or not stat.S_ISREG(status.st_mode):
            continue  # what is no blob is not ours
        if _is_old(status, older_than_s):
            old[path] = status
        else:
            young += 1
    return old, young


def left_over(files: Files, older_than_s: float) -> list[Path]:
    """Return the files on their way that nobody may be writing any more.

    A session of the registry is a client's for a day; with `older_than_s` 0 there are no clients.
    """
    idle_s = older_than_s and max(older_than_s, _SESSION_AGE_S)
    return [
        path
        for path, status in files.scan_uploads()
        if path.name.startswith(TEMPORARY_PREFIX) or _is_old(status, idle_s)
    ]


def _mentioned(raw: bytes) -> set[Digest]:
    """Return every digest that is in some bytes."""
    return {Digest.parse(found.decode()) for found in _DIGESTS.findall(raw)}


def _kind(media_type: str) -> str:
    if media_type in MANIFEST_TYPES | INDEX_TYPES:
        return _MANIFEST
    return _DOCUMENT if "json" in media_type else _OTHER


def _descriptors(value: object) -> Iterator[tuple[Digest, str]]:
    """Yield each descriptor in a JSON value, as digest and kind."""
    if isinstance(value, dict):
        digest, media_type = value.get("digest"), value.get("mediaType", "")
        if isinstance(digest, str) and (found := _digest(digest)) is not None:
            yield found, _kind(str(media_type))
    inside: Iterable[object] = ()
    if isinstance(value, dict | list):
        inside = value.values() if isinstance(value, dict) else value
    for item in inside:
        yield from _descriptors(item)


def _digest(text: str) -> Digest | None:
    try:
        return Digest.parse(text)
    except InvalidDigest:
        return None


def _is_old(status: os.stat_result, older_than_s: float) -> bool:
    return status.st_mtime <= time.time() - older_than_s


T = TypeVar("T", bound="Hashable")


def reached(
    roots: Iterable[T], below: Callable[[T], Iterable[T]], known: set[T] | None = None
) -> Iterator[T]:
    """Yield the roots and all below them, each once; `below` is asked after one was taken.

    `known` are those of walks before, which are passed over; those of this one join them.
    """
    todo, seen = deque(roots), set[T]() if known is None else known
    while todo:
        one = todo.popleft()
        if one not in seen:
            seen.add(one)
            yield one
            todo.extend(below(one))
