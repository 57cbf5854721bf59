"""The index of an image layout: which manifests a repository has, and their tags.

Knows index.json (image-spec image-layout.md, index.json file). Must not know HTTP or blobs.

One descriptor for each tag, named by the annotation `org.opencontainers.image.ref.name`, and
one without it for each manifest that has no tag. What it does not know, of the file or of a
descriptor, it hands on as it is: other programs write such directories too. A file that is not
an index is refused, and never written over: somebody may still mend it.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from typing import TYPE_CHECKING, Any

from brolga.descriptor import Descriptor
from brolga.digest import Digest
from brolga.errors import BrolgaError
from brolga.mediatypes import OCI_INDEX

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from pathlib import Path

__all__ = ["REF_NAME", "BrokenIndex", "Index"]

REF_NAME = "org.opencontainers.image.ref.name"

_EMPTY = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX}).encode()


class BrokenIndex(BrolgaError, ValueError):
    """A file index.json that is not an index: another program's mistake, or a damaged disk."""


class Index:
    """An index.json that was read; `put`, `untag` and `remove` change it.

    `fingerprint` tells the text that was read from any other. Raises BrokenIndex.
    """

    def __init__(self, text: bytes = _EMPTY) -> None:
        self.fingerprint = hashlib.sha256(text).digest()
        self._document = _parsed(text)
        # null is how Go writes an empty list: umoci's new layouts have it.
        self._manifests: list[dict[str, Any]] = self._document.get("manifests") or []
        self._document["manifests"] = self._manifests

    @classmethod
    def load(cls, path: Path) -> Index:
        """Read the file; where there is none, the index is empty. Raises BrokenIndex, named."""
        try:
            return cls(path.read_bytes())
        except FileNotFoundError:
            return cls()
        except (BrokenIndex, OSError) as error:
            raise BrokenIndex(f"{path}: {error}") from error

    def text(self) -> bytes:
        """Return what the file should hold."""
        return (json.dumps(self._document, indent=2) + "\n").encode()

    def tags(self) -> list[str]:
        """Return every name given, in no order."""
        return [name for entry in self._manifests if (name := _name(entry)) is not None]

    def descriptors(self) -> Iterator[Descriptor]:
        """Yield every manifest, tagged or not; what is no descriptor is passed over."""
        for entry in self._manifests:
            if (descriptor := _descriptor(entry)) is not None:
                yield descriptor

    def by_tag(self, tag: str) -> Descriptor | None:
        """Return what a tag names."""
        return _first([entry for entry in self._manifests if _name(entry) == tag])

    def by_digest(self, digest: Digest) -> Descriptor | None:
        """Return the manifest of a digest, tagged or not."""
        return _first(self._with_digest(str(digest)))

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
        before = len(self.tags())
        self._release({tag}, keep=None)
        return len(self.tags()) < before

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


def _first(entries: list[dict[str, Any]]) -> Descriptor | None:
    return _descriptor(entries[0]) if entries else None


def _descriptor(entry: dict[str, Any]) -> Descriptor | None:
    try:
        return Descriptor(entry["mediaType"], Digest.parse(entry["digest"]), entry["size"])
    except (KeyError, TypeError, AttributeError, ValueError):
        return None
