"""The index of an image layout: which manifests a repository has, and their tags.

Knows index.json (image-spec image-layout.md, index.json file). Must not know HTTP or blobs.

One descriptor for each tag, named by the annotation `org.opencontainers.image.ref.name`, and
one without it for each manifest that has no tag. What it does not know, of the file or of a
descriptor, it hands on as it is: other programs write such directories too.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from brolga.descriptor import Descriptor
from brolga.digest import Digest
from brolga.mediatypes import OCI_INDEX

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["REF_NAME", "Index"]

REF_NAME = "org.opencontainers.image.ref.name"

_EMPTY = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX}).encode()


class Index:
    """An index.json that was read; `put`, `untag` and `remove` change it.

    `fingerprint` tells the text that was read from any other.
    """

    def __init__(self, text: bytes = _EMPTY) -> None:
        self.fingerprint = hashlib.sha256(text).digest()
        self._document: dict[str, Any] = json.loads(text)
        self._manifests: list[dict[str, Any]] = self._document.setdefault("manifests", [])

    @classmethod
    def load(cls, path: Path) -> Index:
        """Read the file; where there is none, the index is empty. Raises ValueError."""
        try:
            return cls(path.read_bytes())
        except FileNotFoundError:
            return cls()

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

    def put(self, descriptor: Descriptor, tag: str | None) -> None:
        """Enter a manifest. What a tag named before stays, without it."""
        digest = str(descriptor.digest)
        entry = self._slot(digest, tag)
        entry.update(descriptor.to_dict())
        if tag is not None:
            entry["annotations"] = {**_annotations(entry), REF_NAME: tag}

    def untag(self, tag: str) -> bool:
        """Take a tag away; its manifest stays. False where there is no such tag."""
        before = len(self.tags())
        self._release(tag, keep=None)
        return len(self.tags()) < before

    def remove(self, digest: Digest) -> bool:
        """Forget a manifest and the tags that name it. False where it is not there."""
        gone = self._with_digest(str(digest))
        for entry in gone:
            self._manifests.remove(entry)
        return bool(gone)

    def _slot(self, digest: str, tag: str | None) -> dict[str, Any]:
        """Return the entry to write into, a new one where none fits."""
        if tag is not None:
            self._release(tag, keep=digest)
        same = self._with_digest(digest)
        for name in (tag, None):
            for entry in same:
                if _name(entry) == name:
                    return entry
        if tag is None and same:
            return same[0]
        self._manifests.append({})
        return self._manifests[-1]

    def _release(self, tag: str, keep: str | None) -> None:
        """Take a tag from manifests of digests other than `keep`; none of them is lost."""
        for entry in [entry for entry in self._manifests if _name(entry) == tag]:
            digest = entry.get("digest")
            if digest == keep:
                continue
            if len(self._with_digest(digest)) > 1:
                self._manifests.remove(entry)
            else:
                annotations = _annotations(entry)
                del annotations[REF_NAME]
                entry["annotations"] = annotations

    def _with_digest(self, digest: str | None) -> list[dict[str, Any]]:
        return [entry for entry in self._manifests if entry.get("digest") == digest]


def _annotations(entry: dict[str, Any]) -> dict[str, Any]:
    """Return a copy; other programs write null for none."""
    return dict(entry.get("annotations") or {})


def _name(entry: dict[str, Any]) -> str | None:
    name = _annotations(entry).get(REF_NAME)
    return name if isinstance(name, str) else None


def _first(entries: list[dict[str, Any]]) -> Descriptor | None:
    return _descriptor(entries[0]) if entries else None


def _descriptor(entry: dict[str, Any]) -> Descriptor | None:
    try:
        return Descriptor(entry["mediaType"], Digest.parse(entry["digest"]), entry["size"])
    except (KeyError, TypeError, AttributeError, ValueError):
        return None
