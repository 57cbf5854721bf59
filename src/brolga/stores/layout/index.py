"""The index.json of an image layout as a value: its images and their names.

Each name is one entry (`org.opencontainers.image.ref.name`), and each image without a name one
more. A name that moves to another image leaves the old image there, without it. Members that are
not known here stay as they are.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, ClassVar

from brolga.disk.layout import FULL_NAME, MAX_INDEX_SIZE, REF_NAME
from brolga.errors import ImageNotFound, excerpt
from brolga.spec.digest import Digest
from brolga.spec.index import Index
from brolga.spec.json import encode, error_at, reuse_originals
from brolga.spec.value import replace
from brolga.stores.names import digest_of, join_first, number_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from pathlib import Path
    from typing import Self

    from brolga.spec.descriptor import Descriptor


class LayoutIndex(Index):
    """An index.json, which may be larger than a manifest. Raises InvalidManifest."""

    __slots__ = ()

    max_size: ClassVar[int] = MAX_INDEX_SIZE

    def with_entries(self, entries: Iterable[Descriptor]) -> Self:
        """Return the index with other entries, which are not parsed again."""
        entries = tuple(entries)
        if entries == self.manifests:
            return self
        originals = reuse_originals(entries, self.manifests, self._document["manifests"])
        document = {**self._document, "manifests": originals}
        raw = encode(document)
        if len(raw) > self.max_size:
            raise error_at("$", f"{len(raw)} bytes, but at most {self.max_size} are read")
        changed = object.__new__(type(self))
        for name in ("media_type", "artifact_type", "subject", "annotations", "algorithm"):
            changed._set(**{name: getattr(self, name)})
        changed._set(raw=raw, digest=Digest.of(raw), _document=document, manifests=entries)
        return changed

    @property
    def names(self) -> tuple[str, ...]:
        """Every name once, in the index's order."""
        return tuple(dict.fromkeys(filter(None, map(name_of, self.manifests))))

    def add(self, image: Descriptor, name: str) -> Self:
        """Return the index with an image, under `name` unless it is ""."""
        entries = list(self.manifests)
        if name:
            entries = _release_tag(entries, name, image.digest)
        numbers = [number for number, entry in enumerate(entries) if entry.digest == image.digest]
        known_names = [name_of(entries[number]) for number in numbers]
        if numbers and (not name or name in known_names):
            return self.with_entries(entries)
        if "" in known_names:
            number = numbers[known_names.index("")]
            entries[number] = _with_name(entries[number], name)
        else:
            entries.append(_with_name(image, name))
        return self.with_entries(entries)

    def remove_tag(self, name: str) -> Self:
        """Return the index without a name; its image stays."""
        return self.with_entries(_release_tag(list(self.manifests), name, None))

    def remove_manifest(self, digest: Digest) -> Self:
        """Return the index without an image and its names."""
        return self.with_entries(entry for entry in self.manifests if entry.digest != digest)

    def remove_untagged(self, digests: Collection[Digest]) -> Self:
        """Return the index without those images of `digests` that have no name."""
        return self.with_entries(
            entry for entry in self.manifests if name_of(entry) or entry.digest not in digests
        )

    def candidates(self, name: str) -> tuple[Descriptor, ...]:
        """Return the entries of a name, one for each digest; "" is the name of all entries.

        A name may have its repository, if a tool wrote it so.
        """
        if (number := number_of(name)) is not None:
            return self.manifests[number : number + 1]
        digest = digest_of(name)
        first: dict[Digest, Descriptor] = {}
        for entry in self.manifests:
            if digest is None:
                matches = not name or name in {name_of(entry), _full_name_of(entry)}
            else:
                matches = entry.digest == digest
            if matches:
                first.setdefault(entry.digest, entry)
        return tuple(first.values())

    def ambiguous_name(
        self, path: Path, name: str, entries: Sequence[Descriptor], platform: str = ""
    ) -> ImageNotFound:
        """Return the error for a name of several images, which says how to name each."""
        if not name:
            return self.image_not_found(path, name)
        digests = [entry.digest for entry in self.manifests]
        details = (
            [f"@{digests.index(entry.digest)}"]
            + [excerpt(text) for text in (_full_name_of(entry), str(entry.platform or "")) if text]
            for entry in entries
        )
        suffix = f" for {excerpt(platform)}" if platform else ""
        listed = join_first(map(" ".join, details), len(entries))
        return ImageNotFound(
            f"{path} has {len(entries)} images {name}{suffix}: {listed}",
            hint="name one by its number or its digest, or choose it by --platform",
        )

    def image_not_found(self, path: Path, name: str) -> ImageNotFound:
        """Return the error for a name that does not exist, which lists those that do."""
        count = len(self.manifests)
        if not count:
            return ImageNotFound(f"{path} has no images")
        available = self.names
        listed = join_first(available, len(available))
        there = f"it has {listed}" if listed else f"it has {count} without a name: take @0"
        lack = f"no image {name}" if name else f"{count} images, and none is named"
        return ImageNotFound(f"{path} has {lack}: {there}", available=available)


def name_of(entry: Descriptor) -> str:
    """Return the name of an entry, "" if it has none."""
    return entry.annotations.get(REF_NAME, "")


def _full_name_of(entry: Descriptor) -> str:
    """Return the name of an entry with its repository, "" if it has none."""
    return entry.annotations.get(FULL_NAME, "")


def _release_tag(entries: list[Descriptor], name: str, keep: Digest | None) -> list[Descriptor]:
    """Remove a name from all images but `keep`; an image that loses its last entry keeps one."""
    count = Counter(entry.digest for entry in entries)
    kept: list[Descriptor] = []
    for entry in entries:
        if name_of(entry) != name or entry.digest == keep:
            kept.append(entry)
        elif count[entry.digest] > 1:
            count[entry.digest] -= 1
        else:
            kept.append(_with_name(entry, ""))
    return kept


def _with_name(entry: Descriptor, name: str) -> Descriptor:
    annotations = {key: text for key, text in entry.annotations.items() if key != REF_NAME}
    return replace(entry, annotations={**annotations, **({REF_NAME: name} if name else {})})
