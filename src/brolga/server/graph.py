"""What a repository's manifests are, which of them are about which, and which tags name them.

Knows how manifests refer to one another, and the tables of the index (database). Must not know
HTTP, or how index.json is changed.

A manifest may be reached by way of an index alone: other programs list no more than the root
of an image of several platforms, and clients of registries without the referrers API keep
referrers in an index with a tag. So the graph is walked from index.json down. It is written into
the tables, and is good for one text of index.json. The next one grows from it: a manifest's bytes
never change, so none is read twice, and none is held in memory.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
import uuid
from typing import TYPE_CHECKING, Any, NamedTuple

from brolga.errors import InvalidDigest
from brolga.server import documents
from brolga.server.index import Index, memory_for, read_index
from brolga.spec.descriptor import Descriptor
from brolga.spec.digest import Digest
from brolga.spec.mediatypes import OCI_MANIFEST
from brolga.spec.reference import is_tag

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from brolga.server.documents import Document
    from brolga.server.layout import Layout

__all__ = ["Graph", "Referrer", "Transaction"]

# A file system may give two changes one time. A file is trusted by its status alone when its last
# change is older than this.
_SETTLED_NS = 2_000_000_000

# Manifests that are read before the tables are changed.
_BATCH = 64

_PRUNE = """
WITH RECURSIVE reached (digest) AS (
    SELECT digest FROM entry WHERE digest IS NOT NULL
    UNION SELECT child.digest FROM child JOIN reached ON child.parent = reached.digest
)
DELETE FROM manifest WHERE NOT is_read OR digest NOT IN (SELECT digest FROM reached)
"""
_UNREAD = """
SELECT media_type, digest, size FROM entry
WHERE digest IS NOT NULL AND digest NOT IN (SELECT digest FROM manifest)
UNION SELECT media_type, digest, size FROM child
WHERE digest NOT IN (SELECT digest FROM manifest)
"""
_FOUND = """
SELECT media_type, digest, size FROM (
    SELECT 0 AS rank, place, media_type, digest, size FROM entry WHERE digest = :digest
    UNION ALL SELECT 1, 0, media_type, digest, size FROM child WHERE digest = :digest
) ORDER BY rank, place LIMIT 1
"""
_TAGS = """
SELECT DISTINCT tag, folded FROM entry
WHERE tag IS NOT NULL AND (:last IS NULL OR (folded, tag) > (:folded, :last))
ORDER BY folded, tag LIMIT :most
"""
_REFERRERS = """
SELECT digest, listed FROM manifest
WHERE subject = :subject AND digest > :last AND (:type IS NULL OR artifact_type = :type)
ORDER BY digest
"""


class Referrer(NamedTuple):
    """A manifest that is about another: its digest, and its descriptor in JSON as it is listed."""

    digest: Digest
    listed: str


class Graph:
    """The tables of one layout."""

    def __init__(self, layout: Layout, database: sqlite3.Connection) -> None:
        self._layout = layout
        self._database = database

    def is_current(self) -> bool:
        """Return whether index.json is still the file that the tables were made of, for certain."""
        try:
            status = self._layout.disk.status(self._layout.index)
        except FileNotFoundError:
            status = None
        row = self._database.execute("SELECT stamp, is_settled FROM source").fetchone()
        return bool(row == (_spelled(status), 1))

    def is_made_of(self, fingerprint: bytes) -> bool:
        """Return whether the tables are what a text of index.json says, and are complete."""
        row = self._database.execute("SELECT fingerprint FROM source").fetchone()
        return bool(row == (fingerprint,))

    def update(self) -> bytes:
        """Make the tables what index.json is now; return its fingerprint.

        Another writer may have begun to change them since. Raises BrokenIndex, LayoutBusy.
        """
        status, text = read_index(self._layout.disk, self._layout.index)
        is_settled = status is None or time.time_ns() - status.st_ctime_ns > _SETTLED_NS
        fingerprint = hashlib.sha256(text).digest()
        new = (_spelled(status), fingerprint, is_settled)
        known = self._database.execute("SELECT stamp, fingerprint FROM source").fetchone()
        if known == new[:2] and not is_settled:
            return fingerprint
        condition: tuple[str, object] = ("fingerprint = ?", fingerprint)
        if known is None or known[1] != fingerprint:
            writer = uuid.uuid4().hex
            self._enter(text, writer)
            self._read_new(writer)
            condition = ("writer = ?", writer)
        update = "UPDATE source SET stamp = ?, fingerprint = ?, is_settled = ? WHERE "
        with Transaction(self._database):
            self._database.execute(update + condition[0], (*new, condition[1]))
        return fingerprint

    def record(self, descriptor: Descriptor, document: Document) -> None:
        """Keep what a manifest says that is about to be listed, so that nobody reads it again."""
        with Transaction(self._database):
            self._insert(descriptor, document)

    def tags(self, last: str | None, count: int) -> list[str]:
        """Return at most so many tags after one, in case-insensitive order."""
        values = {"last": last, "folded": (last or "").lower(), "most": count}
        return [row[0] for row in self._database.execute(_TAGS, values)]

    def by_tag(self, tag: str) -> Descriptor | None:
        """Return what a tag names."""
        statement = (
            "SELECT media_type, digest, size FROM entry WHERE folded = ? AND tag = ?"
            " ORDER BY place LIMIT 1"
        )
        return _descriptor(self._database.execute(statement, (tag.lower(), tag)).fetchone())

    def find(self, digest: Digest) -> Descriptor | None:
        """Return a manifest that can be reached, as it was described first."""
        return _descriptor(self._database.execute(_FOUND, {"digest": str(digest)}).fetchone())

    def referrers(self, digest: Digest, artifact_type: str | None, last: str) -> Iterator[Referrer]:
        """Yield the manifests whose subject has a digest, ordered by their own, after `last`."""
        values = {"subject": str(digest), "last": last, "type": artifact_type}
        for found, listed in self._database.execute(_REFERRERS, values):
            yield Referrer(_described((OCI_MANIFEST, found, 0)).digest, listed)

    # --- Inside

    def _enter(self, text: bytes, writer: str) -> None:
        """Write the entries of an index.json. `writer` is who makes the tables from now on.

        Raises BrokenIndex, LayoutBusy.
        """
        database = self._database
        with memory_for(len(text)), Transaction(database):
            index = Index.parse(text, self._layout.index)
            database.execute("DELETE FROM source")
            database.execute("INSERT INTO source (writer) VALUES (?)", (writer,))
            database.execute("DELETE FROM entry")
            database.executemany("INSERT INTO entry VALUES (?, ?, ?, ?, ?, ?)", _rows(index))
            database.execute(_PRUNE)
            database.execute("DELETE FROM child WHERE parent NOT IN (SELECT digest FROM manifest)")

    def _read_new(self, writer: str) -> None:
        """Write what the manifests say that were not read yet, unless another writer has begun.

        Others may read and write the tables meanwhile: this may take long.
        """
        for batch in self._unread():
            found = [(one, self._read(one)) for one in batch]
            with Transaction(self._database):
                writing = self._database.execute("SELECT writer FROM source").fetchone()
                if writing != (writer,):
                    return
                for descriptor, document in found:
                    self._insert(descriptor, document)

    def _unread(self) -> Iterator[list[Descriptor]]:
        """Yield manifests to be read, some at a time; then those that are below them."""
        select = "SELECT media_type, digest, size, rowid FROM unread WHERE rowid > ? LIMIT ?"
        while True:
            self._database.execute("DROP TABLE IF EXISTS unread")
            self._database.execute(f"CREATE TEMP TABLE unread AS {_UNREAD}")
            last = 0
            while rows := self._database.execute(select, (last, _BATCH)).fetchall():
                last = rows[-1][3]
                yield [_described(row) for row in rows]
            if not last:
                return

    def _insert(self, descriptor: Descriptor, document: Document | None) -> None:
        digest, is_read = str(descriptor.digest), document is not None
        document = document or documents.Document()
        subject = str(document.subject) if document.subject else None
        row = (
            *(digest, is_read, descriptor.media_type, descriptor.size),
            *(_sum(document), self._layout.stored_s(descriptor.digest)),
            *(subject, document.artifact_type),
            _listed(descriptor, document) if subject else None,
        )
        marks = ", ".join("?" * len(row))
        self._database.execute(f"INSERT OR REPLACE INTO manifest VALUES ({marks})", row)  # noqa: S608 - no text of anybody's
        self._database.executemany(
            "INSERT OR IGNORE INTO child VALUES (?, ?, ?, ?)",
            ((digest, str(one.digest), one.media_type, one.size) for one in document.manifests),
        )

    def _read(self, descriptor: Descriptor) -> Document | None:
        """Read what a manifest says; None if it cannot be read, or is not a manifest."""
        if not documents.is_known(descriptor.media_type):
            return documents.Document()
        body = self._layout.read(descriptor.digest, documents.LIMIT)
        if body is None or not _is_of(descriptor.digest, body):
            return None
        return documents.read(descriptor.media_type, body)


class Transaction:
    """What is done within it is done as a whole, or not at all; what is read is of one moment."""

    def __init__(self, database: sqlite3.Connection, begin: str = "BEGIN IMMEDIATE") -> None:
        self._database = database
        self._begin = begin

    def __enter__(self) -> None:
        """Begin."""
        self._database.execute(self._begin)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Keep what was done, or forget it after an error."""
        self._database.execute("COMMIT" if kind is None else "ROLLBACK")


def _spelled(status: os.stat_result | None) -> str:
    """Return what changes with a file; "" if it is missing."""
    if status is None:
        return ""
    parts = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    return " ".join(map(str, parts))


def _rows(index: Index) -> Iterator[tuple[object, ...]]:
    for place, (name, descriptor) in enumerate(index.entries()):
        # Another program's layout may have names that are no tags: nobody could ask for them.
        tag = name if name is not None and is_tag(name) else None
        named = (place, tag, None if tag is None else tag.lower())
        if descriptor is None:
            yield (*named, None, None, None)
        else:
            yield (*named, str(descriptor.digest), descriptor.media_type, descriptor.size)


def _descriptor(row: tuple[Any, ...] | None) -> Descriptor | None:
    """Return the descriptor of a row, if there is one and it has one."""
    return None if row is None or row[0] is None else _described(row)


def _described(row: tuple[Any, ...]) -> Descriptor:
    """Return the descriptor of a row. Raises sqlite3.DatabaseError for one that is damaged."""
    try:
        return Descriptor(row[0], Digest.parse(row[1]), row[2])
    except (TypeError, ValueError) as error:
        raise sqlite3.DatabaseError(f"a row is damaged: {error}") from error


def _is_of(digest: Digest, body: bytes) -> bool:
    try:
        return Digest.of(body, digest.algorithm) == digest
    except InvalidDigest:  # of an algorithm that is not computed here
        return True


def _sum(document: Document) -> int:
    return min(sum(blob.size for blob in document.blobs), 2**63 - 1)


def _listed(descriptor: Descriptor, document: Document) -> str:
    listed = descriptor.to_dict()
    if document.artifact_type:
        listed["artifactType"] = document.artifact_type
    if document.annotations:
        listed["annotations"] = dict(document.annotations)
    return json.dumps(listed)
