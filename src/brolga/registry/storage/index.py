"""index.json of an image layout: which manifests a repository has, and their tags.

Each tag has one descriptor, named by the annotation `org.opencontainers.image.ref.name`; a manifest
without a tag has one without it. Unknown members of the file and of its descriptors are kept: other
programs write such directories too. A file that is not an index is never overwritten.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from brolga.disk.layout import EMPTY_INDEX, REF_NAME
from brolga.registry.storage.layout import BrokenIndex, LayoutBusy
from brolga.spec.descriptor import Descriptor
from brolga.spec.digest import Digest

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from pathlib import Path


# An index takes about twelve times its size in memory while it is read or changed.
_LARGE: Final = 4 << 20
_large_index_lock = threading.Lock()


class Index:
    """A parsed index.json; `put`, `untag` and `remove` change it. Raises BrokenIndex."""

    def __init__(self, text: bytes = EMPTY_INDEX, path: Path | None = None) -> None:
        try:
            members = json.loads(text.decode())
        except (ValueError, RecursionError) as error:
            raise BrokenIndex(f"{path}: not JSON: {error}") from error
        if not isinstance(members, dict):
            raise BrokenIndex(f"{path}: not a JSON object")
        # Go writes null for an empty list: new layouts of umoci have it.
        manifests = [] if members.get("manifests") is None else members["manifests"]
        members.pop("manifests", None)
        if not isinstance(manifests, list) or not all(isinstance(item, dict) for item in manifests):
            raise BrokenIndex(f"{path}: its manifests are not a list of objects")
        self._members: dict[str, Any] = members
        self._manifests: list[dict[str, Any]] = manifests

    def text(self) -> bytes:
        """Return the file's new contents: a line for each entry."""
        members = {name: json.dumps(value) for name, value in self._members.items()}
        entries = ",\n    ".join(map(json.dumps, self._manifests))
        members["manifests"] = f"[\n    {entries}\n  ]" if entries else "[]"
        lines = ",\n".join(f"  {json.dumps(name)}: {text}" for name, text in members.items())
        return f"{{\n{lines}\n}}\n".encode()

    def entries(self) -> Iterator[tuple[str | None, Descriptor | None]]:
        """Yield the name and the descriptor of each entry, None for a missing one."""
        for entry in self._manifests:
            yield _name(entry), _descriptor(entry)

    def put(self, descriptor: Descriptor, tags: Sequence[str] = ()) -> None:
        """Add a manifest. The manifest that had a tag before stays, without the tag."""
        digest = str(descriptor.digest)
        self._release(frozenset(tags), keep=digest)
        entries = [entry for entry in self._manifests if entry.get("digest") == digest]
        untagged = [entry for entry in entries if _name(entry) is None]
        if not tags:
            entry = (untagged or entries or [self._append()])[0]
            entry.update(descriptor.to_dict())
        named = {_name(entry): entry for entry in reversed(entries)}
        for tag in tags:
            # A tag takes the entry without a name.
            entry = named.get(tag) or (untagged.pop() if untagged else self._append())
            entry.update(descriptor.to_dict())
            entry["annotations"] = {**_annotations(entry), REF_NAME: tag}

    def untag(self, tag: str) -> bool:
        """Remove a tag; its manifest stays. Return whether the tag existed."""
        is_tagged = tag in map(_name, self._manifests)
        self._release({tag}, keep=None)
        return is_tagged

    def remove(self, digest: Digest) -> bool:
        """Remove a manifest and its tags. Return whether it was listed."""
        before = len(self._manifests)
        self._manifests[:] = [e for e in self._manifests if e.get("digest") != str(digest)]
        return len(self._manifests) < before

    def _append(self) -> dict[str, Any]:
        self._manifests.append({})
        return self._manifests[-1]

    def _release(self, tags: Collection[str], keep: str | None) -> None:
        """Remove tags from manifests of digests other than `keep`; each manifest stays listed."""
        counts = Counter(str(entry.get("digest")) for entry in self._manifests)
        kept: list[dict[str, Any]] = []
        for entry in self._manifests:
            digest = str(entry.get("digest"))
            if _name(entry) in tags and digest != keep:
                if counts[digest] > 1:
                    counts[digest] -= 1
                    continue
                annotations = _annotations(entry)
                del annotations[REF_NAME]
                entry["annotations"] = annotations
            kept.append(entry)
        self._manifests[:] = kept


@contextmanager
def parse_index(text: bytes, path: Path | None = None) -> Iterator[Index]:
    """Parse an index; only one large one may be in memory at a time. Raises BrokenIndex.

    Raises LayoutBusy instead of waiting: a thread that waits serves no other client.
    """
    if len(text) <= _LARGE:
        yield Index(text, path)
        return
    if not _large_index_lock.acquire(blocking=False):
        raise LayoutBusy("another large index.json is being read")
    try:
        yield Index(text, path)
    finally:
        _large_index_lock.release()


def _annotations(entry: dict[str, Any]) -> dict[str, Any]:
    """Return a copy of the annotations; other programs write null for an empty map."""
    annotations = entry.get("annotations")
    return dict(annotations) if isinstance(annotations, dict) else {}


def _name(entry: dict[str, Any]) -> str | None:
    name = _annotations(entry).get(REF_NAME)
    return name if isinstance(name, str) else None


def _descriptor(entry: dict[str, Any]) -> Descriptor | None:
    try:
        return Descriptor(entry["mediaType"], Digest.parse(entry["digest"]), entry["size"])
    except (KeyError, TypeError, AttributeError, ValueError):
        return None
