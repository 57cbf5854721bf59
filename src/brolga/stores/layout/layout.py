"""An image layout, a directory, as a store of images (image-spec image-layout.md)."""

from __future__ import annotations

import os
from collections import Counter
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from brolga.disk.layout import MAX_INDEX_SIZE
from brolga.errors import (
    CorruptBlob,
    DigestMismatch,
    ImageNotFound,
    InvalidLayout,
    InvalidManifest,
    NotComputed,
)
from brolga.images import BlockStream, ImageIndex, InMemoryBlob, StoredBlob
from brolga.spec.descriptor import Descriptor
from brolga.spec.digest import Digest
from brolga.spec.index import Index, select_best
from brolga.spec.mediatypes import (
    INDEX_TYPES,
    MANIFEST_TYPES,
    NONDISTRIBUTABLE,
    OCI_INDEX,
    OCTET_STREAM,
)
from brolga.stores.layout import reading
from brolga.stores.layout.files import Files
from brolga.stores.layout.gc import (
    DEFAULT_AGE_S,
    GCResult,
    Reachability,
    find_garbage,
    stale_files,
    walk,
)
from brolga.stores.layout.index import LayoutIndex, name_of
from brolga.stores.layout.writing import fetch_blob, has_blob, write_stream
from brolga.stores.names import digest_of
from brolga.stores.progress import report_push, report_read
from brolga.stores.store import offered_platforms, read_tree, stored_blob

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Self

    from brolga.images import Tree
    from brolga.spec.blob import Blob, BlobStream, Prefix
    from brolga.spec.manifest import Manifest
    from brolga.spec.platform import Platform
    from brolga.stores.progress import ProgressReporter


class Layout:
    """An image layout, as a `store.Store`. Threads and processes may share one.

    The first push creates it. `on_warning` gets its name and a text if something is ignored.
    What happens to its blobs is reported to `progress`.
    """

    mount_source: Final = None

    def __init__(
        self,
        path: str | os.PathLike[str],
        on_warning: Callable[[str, str], object] = lambda _name, _text: None,
        *,
        progress: ProgressReporter | None = None,
    ) -> None:
        self.path = Path(path)
        self.progress = progress
        self._files = Files(self.path)
        self._warn = on_warning
        self._last: LayoutIndex | None = None  # as it was read or written last
        self._listed: set[Digest] = set()  # by this object, without a name

    def __repr__(self) -> str:
        """Show the path."""
        return f"{type(self).__name__}({os.fspath(self.path)!r})"

    # --- Reading

    def tags(self) -> tuple[str, ...]:
        """Return the names of its images, in the order of index.json."""
        return self._index().names

    def check_tags(self, *, unique: bool) -> None:
        """Raise ImageNotFound if no image has a name; if `unique`, also if two have the same."""
        index = self._index()
        images = {(name_of(entry), entry.digest): None for entry in index.manifests}
        counts = Counter(name for name, _ in images if name)
        if index.manifests and not counts:
            count = len(index.manifests)
            raise ImageNotFound(
                f"{self.path} has {count} images, and none has a name",
                hint="copy each by its number, as oci:DIR:@0",
            )
        for name, count in counts.items():
            if unique and count > 1:
                raise index.ambiguous_name(self.path, name, index.candidates(name))

    def resolve(self, name: str = "", platform: Platform | None = None) -> Descriptor:
        """Return the descriptor of a manifest or index, which is read and verified."""
        return self.fetch_manifest(str(self._entry(name, platform).digest)).descriptor

    def _entry(self, name: str, platform: Platform | None = None) -> Descriptor:
        """Return the entry of a name: a tag, a digest, `@N` for the Nth image, "" for the only."""
        index = self._index()
        entries = index.candidates(name)
        if len(entries) > 1 and platform is not None:
            offers = (
                (entry, offer)
                for entry in entries
                for offer in offered_platforms(entry, self._load)
            )
            entries = select_best(offers, platform, str(self.path))
        if not entries:
            if (digest := digest_of(name)) and self._files.blob_size(digest) is not None:
                return self.fetch_manifest(name).descriptor
            raise index.image_not_found(self.path, name)
        if len(entries) > 1:
            raise index.ambiguous_name(self.path, name, entries, str(platform or ""))
        return entries[0]

    def fetch_manifest(self, name: str) -> Manifest | Index:
        """Read the manifest or index of a tag or digest."""
        return reading.read_manifest(self._files, digest_of(name) or self._entry(name).digest)

    def fetch_blob(self, blob: Descriptor | Digest) -> BlobStream:
        """Open a blob. Its bytes are verified while they are read."""
        if isinstance(blob, Digest):
            blob = self.resolve_blob(blob)
        if blob.data is not None:
            return InMemoryBlob(blob.data, blob.media_type).open()
        report = report_read(self.progress, blob)
        return BlockStream(report.read(reading.read_blob(self._files, blob)))

    def fetch_rest(self, blob: Descriptor | Digest, prefix: Prefix) -> BlobStream:
        """Open the bytes of a blob after a prefix. They are verified together with it."""
        if isinstance(blob, Digest):
            blob = self.resolve_blob(blob)
        report = report_read(self.progress, blob)
        blocks = reading.read_blob(self._files, blob, prefix)
        return BlockStream(report.read(blocks, prefix.size))

    def resolve_blob(self, digest: Digest) -> Descriptor:
        """Return the descriptor of a blob. Raises ImageNotFound."""
        self._files.require()
        size = self._files.blob_size(digest)
        if size is None:
            raise ImageNotFound(f"there is no blob {digest} in {self.path}")
        return Descriptor(OCTET_STREAM, digest, size)

    def read_range(self, blob: Descriptor, start: int, stop: int) -> BlobStream:
        """Open the bytes of a blob from `start` to `stop`. They are not verified."""
        return BlockStream(reading.read_range(self._files, blob, start, stop))

    def tree(self, name: str = "", platform: Platform | None = None) -> Tree:
        """Return the image or index of a name, as `resolve` finds it. No blob is read yet."""
        return self._load(self._entry(name, platform))

    def whole(self) -> ImageIndex:
        """Return all its images as one index: index.json, byte for byte."""
        return ImageIndex(self._index(), self._load, _open=partial(stored_blob, self))

    def referrers(self, digest: Digest, artifact_type: str = "") -> tuple[Descriptor, ...]:
        """Return the manifests of index.json whose subject is `digest`; warn of unreadable ones."""
        referring = {}
        for entry in self._index().manifests:
            if entry.media_type not in MANIFEST_TYPES | INDEX_TYPES:
                continue  # an unknown one "MUST NOT generate an error" (image-index.md)
            try:
                document = self.fetch_manifest(str(entry.digest))
            except InvalidManifest as error:
                self._warn(self.path.name, f"{entry.digest} is passed over: {error}")
                continue
            if document.subject is not None and document.subject.digest == digest:
                referrer = document.as_referrer
                if artifact_type in {"", referrer.artifact_type}:
                    referring[entry.digest] = referrer
        return tuple(referring.values())

    # --- Writing

    @contextmanager
    def writing(self) -> Iterator[Self]:
        """Create the layout if it does not exist, and keep `gc` out until the block ends.

        If the block raises, a layout that was created here is removed unless something is in it.
        """
        with self._files.create_or_open():
            yield self

    def push(self, blob: Blob) -> Descriptor:
        """Take a blob; return its descriptor.

        If reading the bytes of a stream fails, nothing is left. Those of a stored blob stay, and
        the next push of it goes on with them, unless they are wrong.
        """
        with report_push(self.progress, blob) as report, self.writing():
            try:
                known = blob.descriptor
            except NotComputed:
                return write_stream(self._files, blob, report)
            if has_blob(self._files, known):
                report.skip()
            elif isinstance(blob, StoredBlob) and blob.is_verified:
                fetch_blob(self._files, blob, report, partial(self._warn, self.path.name))
            else:
                write_stream(self._files, blob, report, known.digest)
            self._files.touch_blob(known.digest)
            return known

    def exists(self, descriptor: Descriptor, tag: str = "") -> bool:
        """Return whether a manifest is listed (as `tag`), and all that it refers to is there."""
        if not self._files.exists():
            return False
        if tag and {entry.digest for entry in self._index().candidates(tag)} != {descriptor.digest}:
            return False
        try:
            return self._missing([descriptor]) is None and self._is_listed(descriptor.digest)
        except (CorruptBlob, DigestMismatch, InvalidManifest):
            return False  # a damaged one is written again

    def find(self, tag: str) -> Descriptor | None:
        """Return what a tag stands for; None if the tag does not exist."""
        if not self._files.exists():
            return None
        entries = (index := self._index()).candidates(tag)
        if len(entries) > 1:
            raise index.ambiguous_name(self.path, tag, entries)
        return entries[0] if entries else None

    def push_manifest(self, manifest: Manifest | Index, *names: str) -> None:
        """Take a manifest under tags or its digest. The children of an index need no entry."""
        with self.writing(), self._files.lock():
            if lost := self._missing(_parts(manifest)):
                raise reading.missing(str(lost), self.path)
            self._files.write(self._files.blob_path(manifest.digest), manifest.raw)
            changed = index = self._index()
            tags = [name for name in names if not digest_of(name)]
            if not tags and all(entry.digest != manifest.digest for entry in index.manifests):
                self._listed.add(manifest.digest)
            for tag in tags or [""]:
                changed = changed.add(manifest.descriptor, tag)
            if isinstance(manifest, Index):
                below = {child.digest for child in manifest.manifests} & self._listed
                changed = changed.remove_untagged(below)
            self._save(index, changed)

    def tag(self, name: str, *tags: str) -> Descriptor:
        """Give an image other names, in one step; return its descriptor. Raises as `resolve`."""
        with self._changing() as index:
            changed, entry = index, self._entry(name)
            for tag in tags:
                changed = changed.add(entry, tag)
            self._save(index, changed)
            return entry

    def delete(self, name: str) -> None:
        """Remove a tag; or, by digest or number, an image with its names. `gc` frees its bytes."""
        with self._changing() as index:
            if name and digest_of(name) is None and not name.startswith("@"):
                if name not in index.names:
                    raise index.image_not_found(self.path, name)
                changed = index.remove_tag(name)
            else:
                digest = self._entry(name).digest
                if all(entry.digest != digest for entry in index.manifests):
                    raise index.image_not_found(self.path, name)
                changed = index.remove_manifest(digest)
            self._save(index, changed)

    def gc(
        self,
        *,
        older_than_s: float = DEFAULT_AGE_S,
        untagged: bool = False,
        dry_run: bool = False,
        waiting: Callable[[], None] = lambda: None,
    ) -> GCResult:
        """Delete blobs that no image of the index refers to, and files of interrupted writers.

        It waits for pushes into the layout to end, and calls `waiting` first. A blob younger than
        `older_than_s` seconds is kept: a client of a registry on this directory may be about to
        refer to it. With `untagged`, images without a name are deleted as well, except those that
        refer to one that is kept. With `dry_run` nothing is deleted.

        If a manifest cannot be parsed, all that it mentions is kept (`GCResult.unread`); a damaged
        one is an error, because what it refers to is unknown.
        """
        self._files.require()
        with self._files.sweeping(waiting), self._files.lock(), reading.manifest_errors(self.path):
            index = self._index()
            reachability = Reachability(self._files)
            after = reachability.reachable_roots(index) if untagged else index
            needed = reachability.reachable_digests(after)
            garbage, too_recent = find_garbage(self._files, needed, older_than_s)
            if not dry_run:
                self._save(index, after)
                delete = self._files.delete_unchanged
                garbage = {path: seen for path, seen in garbage.items() if delete(path, seen)}
            scratch = sum(
                self._files.delete_unlocked(path, dry_run=dry_run)
                for path in stale_files(self._files, older_than_s)
            )
        unread = tuple(f"{digest}: {reason}" for digest, reason in reachability.unread.items())
        size = sum(status.st_size for status in garbage.values())
        return GCResult(len(garbage), size, too_recent, scratch, unread)

    # --- Inside

    def _load(self, entry: Descriptor) -> Tree:
        return read_tree(self, str(entry.digest))

    def _index(self) -> LayoutIndex:
        """Read index.json; the same text is not parsed twice."""
        self._files.require()
        raw = self._files.read(self._files.index, MAX_INDEX_SIZE)
        if raw is None:
            raise InvalidLayout(
                f"{self.path} has no index.json", side="local", hint=reading.DAMAGED
            )
        known = self._last
        if known is None or known.raw != raw:
            with reading.manifest_errors(self.path):
                self._last = known = LayoutIndex.parse(raw, OCI_INDEX)
        return known

    @contextmanager
    def _changing(self) -> Iterator[LayoutIndex]:
        """Lock a layout that exists; yield its index."""
        self._files.require()
        with self._files.writing(), self._files.lock():
            yield self._index()

    def _save(self, before: LayoutIndex, after: LayoutIndex) -> None:
        if after.raw != before.raw:
            self._files.write(self._files.index, after.raw)
            self._last = after

    def _missing(self, wanted: Iterable[Descriptor]) -> Digest | None:
        """Return the first missing blob of these, and of all below those that are manifests."""

        def below(descriptor: Descriptor) -> Iterable[Descriptor]:
            is_root = descriptor.media_type in MANIFEST_TYPES | INDEX_TYPES
            return _parts(self.fetch_manifest(str(descriptor.digest))) if is_root else ()

        missing = (blob.digest for blob in walk(wanted, below) if not has_blob(self._files, blob))
        return next(missing, None)

    def _is_listed(self, digest: Digest) -> bool:
        """Return whether the index names a manifest, or an index below it does."""

        def below(descriptor: Descriptor) -> Iterable[Descriptor]:
            if descriptor.media_type not in INDEX_TYPES or not has_blob(self._files, descriptor):
                return ()
            document = self.fetch_manifest(str(descriptor.digest))
            return document.manifests if isinstance(document, Index) else ()

        # The index's own entries come first: most are found without reading a manifest.
        return any(entry.digest == digest for entry in walk(self._index().manifests, below))


def _parts(manifest: Manifest | Index) -> Iterator[Descriptor]:
    """Yield what a manifest refers to, except for foreign layers, which are kept elsewhere."""
    if isinstance(manifest, Index):
        yield from manifest.manifests
    else:
        yield manifest.config
        for layer in manifest.layers:
            if layer.media_type not in NONDISTRIBUTABLE:
                yield layer
