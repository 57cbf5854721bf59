"""Which blobs of an image layout nobody needs, and which files broken-off writers left.

Knows what a document can refer to, and how old a file is. Must not delete anything.

Strategy: what is needed is found from the index down, generously: whatever in a JSON document looks
like a descriptor keeps the blob of its digest, so that documents of kinds that are not known here
keep what is theirs. What cannot be read is an error: nobody knows what it refers to. The rest is
spared while it is young, as is a session of the registry. What this package left is spared not at
all: whoever asks has the layout alone, so nobody writes it any more.
"""

from __future__ import annotations

import fcntl
import os
import stat
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from brolga.digest import Digest
from brolga.errors import InvalidDigest, InvalidManifest
from brolga.layout.files import SCRATCH, check
from brolga.layout.listing import name_of
from brolga.manifest.document import decode
from brolga.manifest.root import INDEX_TYPES, MANIFEST_TYPES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from brolga.descriptor import Descriptor
    from brolga.layout.files import Files
    from brolga.manifest import Index

__all__ = ["DEFAULT_AGE_S", "Swept", "discard", "left_over", "needed", "rooted", "unneeded"]

DEFAULT_AGE_S: Final = 3600.0


@dataclass(frozen=True)
class Swept:
    """What was deleted: `blobs` of `size` bytes, and `scratch` files of writers that broke off.

    `young` blobs that nobody needs were left, for their age.
    """

    blobs: int
    size: int
    young: int
    scratch: int


def rooted(files: Files, index: Index) -> Index:
    """Return the index without images that have no name, but for those that refer to one that has.

    Raises as `needed`.
    """
    kept = [entry for entry in index.manifests if name_of(entry)]
    others = [entry for entry in index.manifests if not name_of(entry)]
    while True:
        known = needed(files, index.replace(manifests=kept))
        more = [one for one in others if one not in kept and _subject(files, one) in known]
        if not more:
            return index.replace(manifests=[one for one in index.manifests if one in kept])
        kept += more


def needed(files: Files, index: Index) -> set[Digest]:
    """Return the digest of everything that can be reached from an index.

    Raises InvalidManifest, DigestMismatch for a manifest that cannot be read.
    """
    found: set[tuple[Digest, bool]] = set()
    todo = [(entry.digest, entry.media_type) for entry in index.manifests]
    while todo:
        digest, media_type = todo.pop()
        readable = "json" in media_type
        if (digest, readable) not in found:
            found.add((digest, readable))
            todo.extend(_referred(files, digest, media_type) if readable else ())
    return {digest for digest, _ in found}


def unneeded(files: Files, wanted: set[Digest], older_than_s: float) -> tuple[dict[Path, int], int]:
    """Return the blobs that are not wanted with their sizes, and how many more are too young."""
    old: dict[Path, int] = {}
    young = 0
    for path in files.blobs.glob("*/*"):
        digest = _digest(f"{path.parent.name}:{path.name}")
        status = _status(path)
        if digest is None or digest in wanted or not status or not stat.S_ISREG(status.st_mode):
            continue  # what is no blob is not ours
        if _is_old(status, older_than_s):
            old[path] = status.st_size
        else:
            young += 1
    return old, young


def left_over(files: Files, older_than_s: float) -> list[Path]:
    """Return the files on their way that nobody may be writing any more."""
    return [
        path
        for path in files.uploads.iterdir()
        if path.name.startswith(SCRATCH)
        or ((status := _status(path)) is not None and _is_old(status, older_than_s))
    ]


def discard(path: Path, *, dry: bool) -> bool:
    """Delete a file on its way, unless somebody holds it; with `dry` tell whether it would go."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:  # gone meanwhile, or none of ours
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not dry:
            path.unlink(missing_ok=True)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def _referred(files: Files, digest: Digest, media_type: str) -> list[tuple[Digest, str]]:
    """Return what a document refers to, with the media types that it gives."""
    raw = files.read(files.blob(digest))
    if raw is None:
        return []
    if media_type in MANIFEST_TYPES | INDEX_TYPES:
        document = decode(raw)  # one that is too large is none
        check(digest, Digest.of(raw, digest.algorithm), files.path)
        return list(_descriptors(document))
    with suppress(InvalidManifest):
        return list(_descriptors(decode(raw)))
    return []


def _descriptors(value: object) -> Iterator[tuple[Digest, str]]:
    """Yield each descriptor in a JSON value, as digest and media type."""
    if isinstance(value, dict):
        digest, media_type = value.get("digest"), value.get("mediaType", "")
        if isinstance(digest, str) and (found := _digest(digest)) is not None:
            yield found, str(media_type)
    inside: Iterable[object] = ()
    if isinstance(value, dict | list):
        inside = value.values() if isinstance(value, dict) else value
    for item in inside:
        yield from _descriptors(item)


def _subject(files: Files, entry: Descriptor) -> Digest | None:
    if "json" not in entry.media_type:
        return None
    raw = files.read(files.blob(entry.digest)) or b"{}"
    subject = decode(raw).get("subject")
    return next((digest for digest, _ in _descriptors(subject)), None)


def _digest(text: str) -> Digest | None:
    try:
        return Digest.parse(text)
    except InvalidDigest:
        return None


def _status(path: Path) -> os.stat_result | None:
    """Return what a file is; None where the registry has deleted it meanwhile."""
    with suppress(FileNotFoundError):
        return path.lstat()
    return None


def _is_old(status: os.stat_result, older_than_s: float) -> bool:
    return status.st_mtime <= time.time() - older_than_s
