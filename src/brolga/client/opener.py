"""Opens repositories, layouts and archives as stores, by their names."""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from brolga import stores
from brolga.errors import ImageNotFound, InvalidReference, SourceError
from brolga.spec.reference import Repository
from brolga.spec.value import Value
from brolga.stores import location

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from typing_extensions import TypeIs

    from brolga.client.registries import Registries
    from brolga.stores.layout import Layout
    from brolga.stores.location import ImageRef, LocalRef
    from brolga.stores.progress import ProgressReporter
    from brolga.stores.store import OnePassStore, ReadStore, Store, WriteStore


_COPY_FIRST: Final = "copy it to oci:DIR first"
# What is done in a store: the actions for a registry's token, and why an archive cannot do it.
_USES: Final = {
    "blob": ("pull", "its blobs are read with their image alone"),
    "referrers": ("pull", "it has no referrers"),
    "push": ("pull,push", "a layer alone is not an image"),
    "tag": ("pull,push", "it is written as a whole"),
    "delete": ("pull,push,delete", "it is written as a whole"),
}


class StoreOpener(Value):
    """Opens places as stores. `on_warning` and `progress` are as `Layout` has them."""

    registries: Registries
    on_warning: Callable[[str, str], object]
    progress: ProgressReporter | None = None

    def open(self, place: ImageRef | Repository, use: str) -> Store:
        """Open a repository or a layout, for a `use` in `_USES`."""
        self.check(place, use)
        home = location.home_of(place)
        if isinstance(home, Repository):
            return self.registries.open(home, _USES[use][0])
        return self._layout(home)

    def check(self, place: ImageRef | Repository, use: str) -> None:
        """Raise InvalidReference for an archive, in which a `use` is not possible."""
        if location.is_archive(place):
            raise InvalidReference(f"{place} is an archive: {_USES[use][1]}", hint=_COPY_FIRST)

    def open_source(
        self, place: ImageRef | Repository, *, compress_layers: bool = True
    ) -> ReadStore | OnePassStore:
        """Open a place for reading: a `OnePassStore` if it is an archive on a pipe.

        `compress_layers` says whether uncompressed layers of an archive become gzip.
        """
        home = location.home_of(place)
        if isinstance(home, Repository):
            return self.registries.open(home, "pull")
        if not location.is_archive(home):
            return self._layout(home)
        from brolga.stores.archive import Archive, ArchiveStream

        form, compression = location.FORMS[home.kind], "gzip" if compress_layers else "none"
        if _is_pipe(home):
            spool = self.registries.uploads.spool
            return ArchiveStream(home.path, form, spool=spool, compression=compression)
        if not os.path.lexists(home.path):
            raise ImageNotFound(f"archive {home.path} does not exist")
        return Archive(home.path, form, compression=compression)

    @contextmanager
    def open_target(
        self, place: ImageRef | Repository, mount_sources: Collection[Repository | None] = ()
    ) -> Iterator[WriteStore]:
        """Open a place for writing. An archive is there when the block ends without an error.

        An archive needs a spool for a stream, whose size it must know first.
        """
        home = location.home_of(place)
        if isinstance(home, Repository):
            yield self.registries.open_target(home, mount_sources)
        elif not location.is_archive(home):
            with self._layout(home).writing() as layout:
                yield layout
        else:
            from brolga.stores.archive import open_writer

            form, tag = location.FORMS[home.kind], location.tag_to_write(place)
            spool = self.registries.uploads.spool
            with open_writer(home.path, form, tag, spool=spool, progress=self.progress) as writer:
                yield writer

    def open_rereadable(self, place: ImageRef, *, compress_layers: bool) -> ReadStore:
        """Open a place that can be read several times. Raises InvalidReference, SourceError."""
        store = self.open_source(place, compress_layers=compress_layers)
        if _is_one_pass(store):
            if not location.is_pipe(place):
                raise SourceError("the archive is not a regular file: it cannot be read in place")
            raise InvalidReference(
                f"{place} is read once, from stdin, and this needs more", hint=_COPY_FIRST
            )
        return store

    def open_manifests(
        self, place: ImageRef | Repository, *, compress_layers: bool = True
    ) -> ReadStore:
        """Open a place to read manifests alone: an archive may be read from a pipe for that."""
        store = self.open_source(place, compress_layers=compress_layers)
        return store.stream_into(stores.NullStore()) if _is_one_pass(store) else store

    def _layout(self, home: LocalRef) -> Layout:
        from brolga.stores.layout import Layout

        return Layout(home.path, self.on_warning, progress=self.progress)


def _is_one_pass(store: ReadStore | OnePassStore) -> TypeIs[OnePassStore]:
    return not isinstance(store, stores.RegistryStore) and isinstance(store, stores.OnePassStore)


def _is_pipe(place: LocalRef) -> bool:
    try:
        return place.is_pipe or not stat.S_ISREG(os.stat(place.path).st_mode)  # noqa: PTH116 - a str needs no Path
    except OSError:
        return False  # opening it raises the error
