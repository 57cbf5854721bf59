"""The graph of a repository's manifests in the tables of its database: tags, subjects, children.

A manifest may be reachable through an index only: other programs list just the root of a
multi-platform image, and the referrers tag is an index too. So the graph is walked from index.json
down. The tables describe one text of index.json. The next one reuses them: a manifest's bytes never
change, so none is read twice, and none is held in memory.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from brolga.registry.storage.index import Index, parse_index
from brolga.registry.storage.manifest import Manifest, has_references, read_manifest
from brolga.spec.descriptor import Descriptor
from brolga.spec.digest import Digest
from brolga.spec.json import MAX_SIZE
from brolga.spec.mediatypes import OCI_MANIFEST
from brolga.spec.reference import is_tag

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from brolga.registry.storage.layout import Layout


# A file system may give two changes the same time. The status of a file identifies its contents
# only if its last change is older than this.
_SETTLED_NS: Final = 2_000_000_000

_BATCH: Final = 64  # manifests that are read before each change of the tables

_PRUNE: Final = """
WITH RECURSIVE reached (digest) AS (
    SELECT digest FROM entry WHERE digest IS NOT NULL
    UNION SELECT child.digest FROM child JOIN reached ON child.parent = reached.digest
)
DELETE FROM manifest WHERE NOT is_read OR digest NOT IN (SELECT digest FROM reached)
"""
_UNREAD: Final = """
SELECT media_type, digest, size FROM entry
WHERE digest IS NOT NULL AND digest NOT IN (SELECT digest FROM manifest)
UNION SELECT media_type, digest, size FROM child
WHERE digest NOT IN (SELECT digest FROM manifest)
"""
_FIND: Final = """
SELECT media_type, digest, size FROM (
    SELECT 0 AS rank, place, media_type, digest, size FROM entry WHERE digest = :digest
    UNION ALL SELECT 1, 0, media_type, digest, size FROM child WHERE digest = :digest
) ORDER BY rank, place LIMIT 1
"""
_TAGS: Final = """
SELECT DISTINCT tag, folded FROM entry
WHERE tag IS NOT NULL AND (:last IS NULL OR (folded, tag) > (:folded, :last))
ORDER BY folded, tag LIMIT :count
"""
_REFERRERS: Final = """
SELECT digest, listed FROM manifest
WHERE subject = :subject AND digest > :last AND (:type IS NULL OR artifact_type = :type)
ORDER BY digest
"""


class Referrer(NamedTuple):
    """A manifest with a subject: its digest, and its descriptor as JSON for the list."""

    digest: Digest
    descriptor: str


class Graph:
    """The tables of one layout."""

    def __init__(self, layout: Layout, database: sqlite3.Connection) -> None:
        self._layout = layout
        self._database = database

    def is_current(self) -> bool:
        """Return whether index.json is certainly the file that the tables were made of."""
        try:
            status = self._layout.tree.status(self._layout.index)
        except FileNotFoundError:
            status = None
        row = self._database.execute("SELECT stamp, is_settled FROM source").fetchone()
        return bool(row == (_stamp(status), 1))

    def is_made_of(self, fingerprint: bytes) -> bool:
        """Return whether the tables are complete for a text of index.json."""
        row = self._database.execute("SELECT fingerprint FROM source").fetchone()
        return bool(row == (fingerprint,))

    def update(self) -> bytes:
        """Update the tables from index.json; return its fingerprint.

        Another writer may have changed them since.
        """
        status, text = self._layout.read_index()
        is_settled = status is None or time.time_ns() - status.st_ctime_ns > _SETTLED_NS
        fingerprint = hashlib.sha256(text).digest()
        new = (_stamp(status), fingerprint, is_settled)
        known = self._database.execute("SELECT stamp, fingerprint FROM source").fetchone()
        if known == new[:2] and not is_settled:
            return fingerprint
        condition: tuple[str, object] = ("fingerprint = ?", fingerprint)
        if known is None or known[1] != fingerprint:
            writer = uuid.uuid4().hex
            self._insert_entries(text, writer)
            self._read_new(writer)
            condition = ("writer = ?", writer)
        update = "UPDATE source SET stamp = ?, fingerprint = ?, is_settled = ? WHERE "
        with transaction(self._database):
            self._database.execute(update + condition[0], (*new, condition[1]))
        return fingerprint

    def record(self, descriptor: Descriptor, manifest: Manifest) -> None:
        """Insert a manifest that is about to be listed, so that it need not be read again."""
        with transaction(self._database):
            self._insert(descriptor, manifest)

    def tags(self, last: str | None, count: int) -> list[str]:
        """Return at most `count` tags after `last`, in case-insensitive order."""
        values = {"last": last, "folded": (last or "").lower(), "count": count}
        return [row[0] for row in self._database.execute(_TAGS, values)]

    def by_tag(self, tag: str) -> Descriptor | None:
        """Return the descriptor of a tag."""
        statement = (
            "SELECT media_type, digest, size FROM entry WHERE folded = ? AND tag = ?"
            " ORDER BY place LIMIT 1"
        )
        return _descriptor(self._database.execute(statement, (tag.lower(), tag)).fetchone())

    def find(self, digest: Digest) -> Descriptor | None:
        """Return the first descriptor of a reachable manifest."""
        return _descriptor(self._database.execute(_FIND, {"digest": str(digest)}).fetchone())

    def referrers(self, digest: Digest, artifact_type: str | None, last: str) -> Iterator[Referrer]:
        """Yield the manifests with a subject, ordered by digest, after `last`."""
        values = {"subject": str(digest), "last": last, "type": artifact_type}
        for referrer, listed in self._database.execute(_REFERRERS, values):
            yield Referrer(_parse_row((OCI_MANIFEST, referrer, 0)).digest, listed)

    def _insert_entries(self, text: bytes, writer: str) -> None:
        """Insert the entries of index.json; `writer` owns the tables from now on."""
        database = self._database
        with parse_index(text, self._layout.index) as index, transaction(database):
            database.execute("DELETE FROM source")
            database.execute("INSERT INTO source (writer) VALUES (?)", (writer,))
            database.execute("DELETE FROM entry")
            database.executemany("INSERT INTO entry VALUES (?, ?, ?, ?, ?, ?)", _rows(index))
            database.execute(_PRUNE)
            database.execute("DELETE FROM child WHERE parent NOT IN (SELECT digest FROM manifest)")

    def _read_new(self, writer: str) -> None:
        """Read and insert the unread manifests, unless another writer has begun.

        This may take long: others may read and write the tables in between.
        """
        for batch in self._unread():
            manifests = [(descriptor, self._read(descriptor)) for descriptor in batch]
            with transaction(self._database):
                owner = self._database.execute("SELECT writer FROM source").fetchone()
                if owner != (writer,):
                    return
                for descriptor, manifest in manifests:
                    self._insert(descriptor, manifest)

    def _unread(self) -> Iterator[list[Descriptor]]:
        """Yield batches of unread manifests, then of their children."""
        select = "SELECT media_type, digest, size, rowid FROM unread WHERE rowid > ? LIMIT ?"
        while True:
            self._database.execute("DROP TABLE IF EXISTS unread")
            self._database.execute(f"CREATE TEMP TABLE unread AS {_UNREAD}")
            last = 0
            while rows := self._database.execute(select, (last, _BATCH)).fetchall():
                last = rows[-1][3]
                yield [_parse_row(row) for row in rows]
            if not last:
                return

    def _insert(self, descriptor: Descriptor, manifest: Manifest | None) -> None:
        digest, is_read = str(descriptor.digest), manifest is not None
        manifest = manifest or Manifest()
        content_size = min(sum(blob.size for blob in manifest.blobs), 2**63 - 1)
        subject = str(manifest.subject) if manifest.subject else None
        row = (
            *(digest, is_read, descriptor.media_type, descriptor.size),
            *(content_size, self._layout.blob_mtime_s(descriptor.digest)),
            *(subject, manifest.artifact_type),
            _listed(descriptor, manifest) if subject else None,
        )
        marks = ", ".join("?" * len(row))
        self._database.execute(f"INSERT OR REPLACE INTO manifest VALUES ({marks})", row)  # noqa: S608 - no user input
        self._database.executemany(
            "INSERT OR IGNORE INTO child VALUES (?, ?, ?, ?)",
            (
                (digest, str(child.digest), child.media_type, child.size)
                for child in manifest.manifests
            ),
        )

    def _read(self, descriptor: Descriptor) -> Manifest | None:
        """Read a manifest; None if it cannot be read, or is not valid."""
        if not has_references(descriptor.media_type):
            return Manifest()
        digest = descriptor.digest
        body = self._layout.read_blob(digest, MAX_SIZE)
        if body is None or (digest.is_computable and Digest.of(body, digest.algorithm) != digest):
            return None
        return read_manifest(descriptor.media_type, body)


@contextmanager
def transaction(database: sqlite3.Connection, begin: str = "BEGIN IMMEDIATE") -> Iterator[None]:
    """Run a SQLite transaction; roll it back after an error."""
    database.execute(begin)
    try:
        yield
    except BaseException:
        database.execute("ROLLBACK")
        raise
    database.execute("COMMIT")


def _stamp(status: os.stat_result | None) -> str:
    """Return a text that changes if the file does; "" if it is missing."""
    if status is None:
        return ""
    parts = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    return " ".join(map(str, parts))


def _rows(index: Index) -> Iterator[tuple[object, ...]]:
    for place, (name, descriptor) in enumerate(index.entries()):
        # Another program's layout may have names that are not valid tags.
        tag = name if name is not None and is_tag(name) else None
        named = (place, tag, None if tag is None else tag.lower())
        if descriptor is None:
            yield (*named, None, None, None)
        else:
            yield (*named, str(descriptor.digest), descriptor.media_type, descriptor.size)


def _descriptor(row: tuple[Any, ...] | None) -> Descriptor | None:
    """Return the descriptor of a row, if there is a row and it has one."""
    return None if row is None or row[0] is None else _parse_row(row)


def _parse_row(row: tuple[Any, ...]) -> Descriptor:
    """Return the descriptor of a row. Raises sqlite3.DatabaseError if it is damaged."""
    try:
        return Descriptor(row[0], Digest.parse(row[1]), row[2])
    except (TypeError, ValueError) as error:
        raise sqlite3.DatabaseError(f"a row is damaged: {error}") from error


def _listed(descriptor: Descriptor, manifest: Manifest) -> str:
    fields = descriptor.to_dict()
    if manifest.artifact_type:
        fields["artifactType"] = manifest.artifact_type
    if manifest.annotations:
        fields["annotations"] = dict(manifest.annotations)
    return json.dumps(fields)
