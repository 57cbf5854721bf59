"""The registry's disk: one OCI image layout for each repository.

Knows directories. Must not know HTTP. It takes names and digests only as value types, which
check themselves: no text from the network becomes a part of a path before that.

    DIR/<repository path>/oci-layout
    DIR/<repository path>/index.json
    DIR/<repository path>/blobs/<algorithm>/<encoded>
    DIR/<repository path>/.uploads/<id>

A component of a repository's name cannot begin with a dot (distribution-spec, Pulling
manifests), so `.uploads` is no repository; the layout's own names are refused as components.
A repository exists when its first blob is whole; its index is changed under a lock on its
directory (flock), which holds between processes too.
"""

from __future__ import annotations

import fcntl
import os
import re
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from brolga.errors import BrolgaError, InvalidReference
from brolga.server.index import Index
from brolga.server.session import ProgressCache, Upload, UploadUnknown, Writer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from brolga.descriptor import Descriptor
    from brolga.digest import Digest
    from brolga.reference import Repository

__all__ = ["Blob", "BlobUnknown", "ManifestUnknown", "Repo", "RepositoryUnknown", "Store"]

_UPLOADS = ".uploads"
_LAYOUT_FILE = "oci-layout"
_INDEX_FILE = "index.json"
_BLOBS = "blobs"
_RESERVED = frozenset({_LAYOUT_FILE, _INDEX_FILE, _BLOBS})

# image-spec image-layout.md, oci-layout file
_LAYOUT = '{"imageLayoutVersion":"1.0.0"}\n'

# uuid4().hex, and nothing else: it becomes a file name.
_UPLOAD_ID = re.compile("[0-9a-f]{32}")


class RepositoryUnknown(BrolgaError):
    """Nothing was ever stored in a repository of that name."""


class BlobUnknown(BrolgaError):
    """The repository has no blob of that digest."""


class ManifestUnknown(BrolgaError):
    """The repository has no manifest of that tag or digest."""


class Blob(NamedTuple):
    """A whole blob: its file, and the file's status."""

    digest: Digest
    path: Path
    status: os.stat_result


class Store:
    """A directory of repositories."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._cache = ProgressCache()

    def repo(self, repository: Repository) -> Repo:
        """Return a repository, whether it exists or not.

        Raises InvalidReference where its directory would lie inside another's layout.
        """
        reserved = sorted(_RESERVED.intersection(repository.path.split("/")))
        if reserved:
            raise InvalidReference(
                f"component {reserved[0]!r} of the name is a name of the image layout "
                "in which repositories are stored here"
            )
        return Repo(repository.path, self._root / repository.path, self._cache)


class Repo:
    """One repository: blobs, manifests, tags and uploads."""

    def __init__(self, name: str, path: Path, cache: ProgressCache) -> None:
        self.name = name
        self._path = path
        self._cache = cache

    def start_upload(self) -> Upload:
        """Open a new session."""
        directory = self._path / _UPLOADS
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / uuid.uuid4().hex
        path.touch(exist_ok=False)
        return Upload(path, self._cache)

    def upload(self, upload_id: str) -> Upload:
        """Find a session by the id from its URL. Raises UploadUnknown."""
        if not _UPLOAD_ID.fullmatch(upload_id):
            raise UploadUnknown("no upload has such an id")
        return Upload(self._path / _UPLOADS / upload_id, self._cache)

    def commit(self, writer: Writer, digest: Digest) -> None:
        """Make a blob of a session's bytes. Raises DigestMismatch; nothing is stored then."""
        writer.verify(digest)
        self._create()
        writer.commit(self._blob_path(digest))

    def blob(self, digest: Digest) -> Blob:
        """Find a blob. Raises RepositoryUnknown, BlobUnknown."""
        self.require()
        path = self._blob_path(digest)
        try:
            return Blob(digest, path, path.stat())
        except FileNotFoundError as error:
            raise BlobUnknown(f"no blob {digest} in {self.name}") from error

    def put_manifest(self, body: bytes, descriptor: Descriptor, tag: str | None) -> None:
        """Store a manifest, exactly these bytes, and let a tag name it."""
        self._store(body, descriptor.digest)
        with self._locked():
            index = Index.load(self._index_path)
            index.put(descriptor, tag)
            index.save(self._index_path, self._path / _UPLOADS)

    def manifest_by_tag(self, tag: str) -> tuple[Descriptor, Blob]:
        """Find what a tag names. Raises RepositoryUnknown, ManifestUnknown."""
        return self._manifest(self._index().by_tag(tag), tag)

    def manifest_by_digest(self, digest: Digest) -> tuple[Descriptor, Blob]:
        """Find a manifest by its digest. Raises RepositoryUnknown, ManifestUnknown."""
        return self._manifest(self._index().by_digest(digest), str(digest))

    def tags(self) -> list[str]:
        """Return every name in the index, in no order. Raises RepositoryUnknown."""
        return self._index().tags()

    def require(self) -> None:
        """Raise RepositoryUnknown where nothing was stored yet."""
        if not (self._path / _LAYOUT_FILE).is_file():
            raise RepositoryUnknown(f"no repository {self.name}")

    def _store(self, body: bytes, digest: Digest) -> None:
        with self.start_upload().writer() as writer:
            try:
                writer.expect(digest.algorithm)
                writer.write(body)
                self.commit(writer, digest)
            except BaseException:
                writer.discard()
                raise

    def _index(self) -> Index:
        self.require()
        return Index.load(self._index_path)

    def _manifest(self, found: Descriptor | None, wanted: str) -> tuple[Descriptor, Blob]:
        if found is None:
            raise ManifestUnknown(f"no manifest {wanted} in {self.name}")
        try:
            return found, self.blob(found.digest)
        except BlobUnknown as error:
            raise ManifestUnknown(f"manifest {wanted} of {self.name} has no bytes") from error

    @property
    def _index_path(self) -> Path:
        return self._path / _INDEX_FILE

    def _blob_path(self, digest: Digest) -> Path:
        return self._path / _BLOBS / digest.algorithm / digest.encoded

    def _create(self) -> None:
        """Make the layout; the file that says it is one comes last."""
        layout = self._path / _LAYOUT_FILE
        if layout.is_file():
            return
        (self._path / _BLOBS).mkdir(exist_ok=True)
        with self._locked():
            if not self._index_path.is_file():
                Index.load(self._index_path).save(self._index_path, self._path / _UPLOADS)
            partial = self._path / _UPLOADS / f"{_LAYOUT_FILE}.{uuid.uuid4().hex}"
            partial.write_text(_LAYOUT)
            partial.replace(layout)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep other threads and processes from changing the index."""
        descriptor = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)
