"""The index of an image layout: which manifests a repository has, and their tags.

Knows index.json (image-spec image-layout.md, index.json file). Must not know HTTP or blobs.

One descriptor for each tag, named by the annotation `org.opencontainers.image.ref.name`, and
one without it for each manifest that has no tag. What it does not know, of the file or of a
descriptor, it hands on as it is: other programs write such directories too. A file that is not
an index is refused, and never written over: somebody may still mend it.
"""

from __future__ import annotations

import json
import os
import threading
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from brolga.errors import BrolgaError
from brolga.server.layout import LayoutBusy
from brolga.spec.descriptor import Descriptor
from brolga.spec.digest import Digest
from brolga.spec.mediatypes import OCI_INDEX

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from pathlib import Path

    from brolga.server.disk import Disk

__all__ = ["MAX_INDEX_SIZE", "REF_NAME", "BrokenIndex", "Index", "memory_for", "read_index"]

# About 200,000 tags, which take some hundred MiB of memory while one of them is changed.
MAX_INDEX_SIZE = 64 << 20

# An index takes about twelve times its size in memory while it is read or changed.
_LARGE = 4 << 20
_one_large = threading.Lock()

REF_NAME = "org.opencontainers.image.ref.name"

_EMPTY = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX}).encode()


class BrokenIndex(BrolgaError, ValueError):
    """A file index.json that is not an index: another program's mistake, or a damaged disk."""


class Index:
    """An index.json that was read; `put`, `untag` and `remove` change it.

    Raises BrokenIndex.
    """

    def __init__(self, text: bytes = _EMPTY) -> None:
        self._document = _parsed(text)
        # null is how Go writes an empty list: umoci's new layouts have it.
        self._manifests: list[dict[str, Any]] = self._document.get("manifests") or []
        self._document["manifests"] = self._manifests

    @classmethod
    def parse(cls, text: bytes, path: Path) -> Index:
        """Read the text of a file. Raises BrokenIndex, named."""
        try:
            return cls(text)
        except BrokenIndex as error:
            raise BrokenIndex(f"{path}: {error}") from error

    def text(self) -> bytes:
        """Return what the file should hold: a line for each entry."""
        members = {
            name: json.dumps(value) for name, value in self._document.items() if name != "manifests"
        }
        entries = ",\n    ".join(map(json.dumps, self._manifests))
        members["manifests"] = f"[\n    {entries}\n  ]" if entries else "[]"
        lines = ",\n".join(f"  {json.dumps(name)}: {text}" for name, text in members.items())
        return f"{{\n{lines}\n}}\n".encode()

    def entries(self) -> Iterator[tuple[str | None, Descriptor | None]]:
        """Yield the name and the descriptor of each entry, None for what it has not."""
        for entry in self._manifests:
            yield _name(entry), _descriptor(entry)

    def names(self) -> list[str]:
        """Return every name given, in the order of the entries."""
        return [name for entry in self._manifests if (name := _name(entry)) is not None]

    def put(self, descriptor: Descriptor, tags: Sequence[str] = ()) -> None:
        """Enter a manifest. What a tag named before stays, without it."""
        digest = str(descriptor.digest)
        self._release(frozenset(tags), keep=digest)
        mine = self._with_digest(digest)
        if not tags:
            entry = min(mine, key=_is_named) if mine else self._new()
            entry.update(descriptor.to_dict())
        named = {_name(entry): entry for entry in reversed(mine)}
        free = [entry for entry in mine if not _is_named(entry)]
        for tag in tags:
            # A tag takes the entry that has none.
            entry = named.get(tag) or (free.pop() if free else self._new())
            entry.update(descriptor.to_dict())
            entry["annotations"] = {**_annotations(entry), REF_NAME: tag}

    def untag(self, tag: str) -> bool:
        """Take a tag away; its manifest stays. False where there is no such tag."""
        before = len(self.names())
        self._release({tag}, keep=None)
        return len(self.names()) < before

    def remove(self, digest: Digest) -> bool:
        """Forget a manifest and the tags that name it. False where it is not there."""
        before = len(self._manifests)
        self._manifests[:] = [one for one in self._manifests if one.get("digest") != str(digest)]
        return len(self._manifests) < before

    def _new(self) -> dict[str, Any]:
        self._manifests.append({})
        return self._manifests[-1]

    def _release(self, tags: Collection[str], keep: str | None) -> None:
        """Take tags from manifests of digests other than `keep`; none of them is lost."""
        left = Counter(str(entry.get("digest")) for entry in self._manifests)
        kept: list[dict[str, Any]] = []
        for entry in self._manifests:
            digest = str(entry.get("digest"))
            if _name(entry) in tags and digest != keep:
                if left[digest] > 1:
                    left[digest] -= 1
                    continue
                annotations = _annotations(entry)
                del annotations[REF_NAME]
                entry["annotations"] = annotations
            kept.append(entry)
        self._manifests[:] = kept

    def _with_digest(self, digest: str) -> list[dict[str, Any]]:
        return [entry for entry in self._manifests if entry.get("digest") == digest]


def read_index(disk: Disk, path: Path) -> tuple[os.stat_result | None, bytes]:
    """Return the status of index.json, None if it is missing, and its text. Raises BrokenIndex."""
    try:
        with disk.reader(path) as file:
            status, text = os.fstat(file.fileno()), file.read(MAX_INDEX_SIZE + 1)
    except FileNotFoundError:
        return None, _EMPTY
    except OSError as error:
        raise BrokenIndex(f"{path}: {error}") from error
    if len(text) > MAX_INDEX_SIZE:
        raise BrokenIndex(f"{path}: more than {MAX_INDEX_SIZE} bytes")
    return status, text


@contextmanager
def memory_for(size: int) -> Iterator[None]:
    """Keep other threads from holding a large index in memory too; a small one is no matter.

    Raises LayoutBusy instead of waiting: a thread that waits serves nobody.
    """
    if size <= _LARGE:
        yield
        return
    if not _one_large.acquire(blocking=False):
        raise LayoutBusy("another large index.json is being read")
    try:
        yield
    finally:
        _one_large.release()


def _parsed(text: bytes) -> dict[str, Any]:
    """Read an object whose manifests, if any, are objects. Raises BrokenIndex."""
    try:
        document = json.loads(text.decode())
    except (ValueError, RecursionError) as error:
        raise BrokenIndex(f"not JSON: {error}") from error
    if not isinstance(document, dict):
        raise BrokenIndex("not a JSON object")
    manifests = document.get("manifests")
    if manifests is None:
        return document
    if not isinstance(manifests, list) or not all(isinstance(one, dict) for one in manifests):
        raise BrokenIndex("its manifests are not a list of objects")
    return document


def _annotations(entry: dict[str, Any]) -> dict[str, Any]:
    """Return a copy; other programs write null for none."""
    annotations = entry.get("annotations")
    return dict(annotations) if isinstance(annotations, dict) else {}


def _name(entry: dict[str, Any]) -> str | None:
    name = _annotations(entry).get(REF_NAME)
    return name if isinstance(name, str) else None


def _is_named(entry: dict[str, Any]) -> bool:
    return _name(entry) is not None


def _descriptor(entry: dict[str, Any]) -> Descriptor | None:
    try:
        return Descriptor(entry["mediaType"], Digest.parse(entry["digest"]), entry["size"])
    except (KeyError, TypeError, AttributeError, ValueError):
        return None
