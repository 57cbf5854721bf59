"""The index of an image layout: which manifests a repository has, and their tags.

Knows index.json (image-spec image-layout.md, index.json file). Must not know HTTP or blobs.

One descriptor for each tag, named by the annotation `org.opencontainers.image.ref.name`, and
one without it for each manifest that has no tag. What it does not know, of the file or of a
descriptor, it hands on as it is: other programs write such directories too.
"""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any

from brolga.descriptor import Descriptor
from brolga.digest import Digest
from brolga.mediatypes import OCI_INDEX

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["REF_NAME", "Index"]

REF_NAME = "org.opencontainers.image.ref.name"


class Index:
    """An index.json that was read; `put` changes it, `save` writes it."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._document = document
        self._manifests: list[dict[str, Any]] = document.setdefault("manifests", [])

    @classmethod
    def load(cls, path: Path) -> Index:
        """Read the file; where there is none, the index is empty. Raises ValueError."""
        try:
            text = path.read_bytes()
        except FileNotFoundError:
            return cls({"schemaVersion": 2, "mediaType": OCI_INDEX})
        return cls(json.loads(text))

    def save(self, path: Path, scratch: Path) -> None:
        """Replace the file at once and whole, by way of a file in `scratch` beside it."""
        partial = scratch / f"{path.name}.{uuid.uuid4().hex}"
        partial.write_text(json.dumps(self._document, indent=2) + "\n")
        partial.replace(path)

    def tags(self) -> list[str]:
        """Return every name given, in no order."""
        return [name for entry in self._manifests if (name := _name(entry)) is not None]

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

    def _slot(self, digest: str, tag: str | None) -> dict[str, Any]:
        """Return the entry to write into, a new one where none fits."""
        if tag is not None:
            self._release(tag, digest)
        same = self._with_digest(digest)
        for name in (tag, None):
            for entry in same:
                if _name(entry) == name:
                    return entry
        if tag is None and same:
            return same[0]
        self._manifests.append({})
        return self._manifests[-1]

    def _release(self, tag: str, digest: str) -> None:
        """Take a tag from manifests of other digests; none of them is lost."""
        for entry in [entry for entry in self._manifests if _name(entry) == tag]:
            if entry["digest"] == digest:
                continue
            if len(self._with_digest(entry["digest"])) > 1:
                self._manifests.remove(entry)
            else:
                annotations = _annotations(entry)
                del annotations[REF_NAME]
                entry["annotations"] = annotations

    def _with_digest(self, digest: str) -> list[dict[str, Any]]:
        return [entry for entry in self._manifests if entry.get("digest") == digest]


def _annotations(entry: dict[str, Any]) -> dict[str, Any]:
    """Return a copy; other programs write null for none."""
    return dict(entry.get("annotations") or {})


def _name(entry: dict[str, Any]) -> str | None:
    name = _annotations(entry).get(REF_NAME)
    return name if isinstance(name, str) else None


def _first(entries: list[dict[str, Any]]) -> Descriptor | None:
    if not entries:
        return None
    entry = entries[0]
    return Descriptor(entry["mediaType"], Digest.parse(entry["digest"]), entry["size"])
