"""The files of an archive: their names, what they begin as, and what can be had of them.

Knows how a name in a tar is read, which names are digests, and what a file's first bytes tell. Must
not know which file is what of an image.

Strategy: nothing is ever written under a name of an archive, but two readers must not take one name
for two files. So names are brought to one form, those that lead out of the archive are refused, and
links are followed within it, a bounded number of them.
"""

from __future__ import annotations

import re
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain
from posixpath import dirname, normpath
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from brolga.errors import (
    CorruptBlob,
    DigestMismatch,
    ImageNotFound,
    InvalidDigest,
    InvalidManifest,
    excerpt,
)
from brolga.spec.digest import Digest
from brolga.spec.index import select_best
from brolga.spec.json import MAX_SIZE
from brolga.spec.mediatypes import detect_compression
from brolga.tar.reader import is_header, printable_name

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping

    from brolga.spec.blob import Blob, Layer
    from brolga.spec.descriptor import Descriptor, Platform
    from brolga.tar.entries import Entry

__all__ = [
    "Contents",
    "Item",
    "Names",
    "blob_path",
    "check_digest",
    "choose",
    "claimed",
    "kind_of",
    "of_the_source",
    "path_of",
    "peeked",
    "too_large",
]

T = TypeVar("T", bound="Hashable")

_HEAD_SIZE: Final = 512  # bytes of a file that tell what it is
_MAX_FILES: Final = 100_000
_MAX_NAMES: Final = 16 << 20  # characters of all of them, links included
_MAX_LINKS: Final = 16  # that lead from one to the next
_MAX_LISTED: Final = 20  # names in an error's line
# How Docker, skopeo and crane name files by their sha256, by what must be in them.
_NAMED: Final = (
    (re.compile(r"([0-9a-f]{64})\.json"), {"json"}),
    (re.compile(r"([0-9a-f]{64})\.tar"), {"tar"}),
    (re.compile(r"([0-9a-f]{64})\.tar\.(?:gz|zst)"), {"gzip", "zstd"}),
    (re.compile(r"sha256:([0-9a-f]{64})"), {"json"}),
)
_NUMBER: Final = re.compile("@[0-9]{1,9}")
_BLOB: Final = re.compile(r"blobs/([^/]+)/([^/]+)")


@contextmanager
def of_the_source() -> Iterator[None]:
    """Say of what is wrong with an archive that it is the source that fails, and no registry."""
    try:
        yield
    except (CorruptBlob, DigestMismatch, InvalidManifest, ImageNotFound) as error:
        error.side = error.side or "source"
        raise


class Item(Protocol):
    """A file of an archive; `kind` is as `kind_of` says."""

    @property
    def kind(self) -> str:
        """What it begins as."""

    def data(self) -> bytes:
        """Return its bytes, as of a document. Raises InvalidManifest where they are too many."""

    def blob(self, descriptor: Descriptor) -> Blob:
        """Return it as the blob that it is, byte by byte. Raises InvalidManifest where it is not.

        That is by its size; a wrong byte is found where it is read.
        """

    def layer(self, diff_id: Digest) -> Layer:
        """Return it as a layer of the uncompressed bytes `diff_id`, compressed where it is not.

        Raises DigestMismatch where it is known to be another, InvalidManifest where it is none.
        """


class Contents:
    """The files of an archive, by name."""

    def __init__(self) -> None:
        self._items: dict[str, Item] = {}
        self._links: dict[str, str] = {}
        self._named = 0  # characters

    def __contains__(self, path: object) -> bool:
        """Whether there is a file, or a link, of this name."""
        return path in self._items or path in self._links

    def claim(self, path: str) -> None:
        """Take a name for one file. Raises CorruptBlob where another has it, or they are too many.

        Two blobs of one digest may come twice: they are the same.
        """
        if path in self and not _BLOB.fullmatch(path):
            raise CorruptBlob(f"the archive has two files {excerpt(path)}: readers differ on them")
        if len(self._items) + len(self._links) >= _MAX_FILES:
            raise CorruptBlob(f"the archive has more than {_MAX_FILES} files")
        self._named += len(path)
        if self._named > _MAX_NAMES:
            raise CorruptBlob(f"the archive has more than {_MAX_NAMES} characters of names")

    def add(self, path: str, item: Item) -> None:
        """Keep a file."""
        self._items[path] = item

    def link(self, path: str, entry: Entry) -> None:
        """Keep a symbolic or hard link; where it leads out of the archive, it leads nowhere."""
        target = entry.link.decode("utf-8", "surrogateescape")
        if not entry.is_hard_link:
            target = f"{dirname(path)}/{target}" if not target.startswith("/") else ".."
        target = normpath(target.lstrip("/"))
        self._named += len(target)
        self._links[path] = "" if target.startswith("..") else target

    def find(self, path: str, wanted: str) -> Item:
        """Return the file of a name, by links too. Raises InvalidManifest, which says what it is.

        `wanted` says of which image or document it is a part.
        """
        name = normpath(path.removeprefix("./"))
        for _ in range(_MAX_LINKS):
            if name in self._items:
                return self._items[name]
            if name not in self._links:
                raise InvalidManifest(
                    f"{wanted} names {excerpt(path)}, which is not in the archive"
                )
            name = self._links[name]
        raise InvalidManifest(f"{wanted} names {excerpt(path)}, a link that leads to no file")

    def read(self, path: str) -> bytes:
        """Return a document's bytes. Raises InvalidManifest where it is not there, or too large."""
        return self.find(path, "the archive's form").data()

    def blob(self, digest: Digest, wanted: str) -> Item:
        """Return the blob of a digest, as an OCI layout names it. Raises InvalidManifest."""
        return self.find(blob_path(digest), wanted)


def path_of(entry: Entry) -> str:
    """Return an entry's name as a path below the archive's root; "" is the root.

    Raises CorruptBlob for one that leads out of it.
    """
    name = entry.name.decode("utf-8", "surrogateescape")
    if name.startswith("/") or ".." in name.split("/"):
        raise CorruptBlob(
            f"an archive with a name that leads out of it: {printable_name(entry.name)}"
        )
    path = normpath(name)
    return "" if path == "." else path


def kind_of(head: bytes) -> str:
    """Return what a file is by its first 512 bytes: json, tar, gzip, zstd, other.

    A tar may be empty: zeros.
    """
    compression = detect_compression(head[:4])
    if compression != "none":
        return compression
    if len(head) == _HEAD_SIZE:
        if not any(head):
            return "tar"
        if is_header(head):
            return "tar"
    return "json" if head.lstrip().startswith((b"{", b"[")) else "other"


def peeked(data: Iterator[memoryview]) -> tuple[bytes, Iterator[memoryview]]:
    """Return the first bytes of an entry, and all of them."""
    pieces: list[memoryview] = []
    for piece in data:
        pieces.append(piece)
        if sum(map(len, pieces)) >= _HEAD_SIZE:
            break
    return b"".join(pieces)[:_HEAD_SIZE], chain(pieces, data)


def claimed(path: str, kind: str) -> Digest | None:
    """Return the digest that a file's name says its bytes have, by the form that its kind has."""
    if blob := _BLOB.fullmatch(path):
        with suppress(InvalidDigest):
            return Digest(*blob.groups())
    for name, kinds in _NAMED:
        if (found := name.fullmatch(path)) and kind in kinds:
            return Digest("sha256", found[1])
    return None


def blob_path(digest: Digest) -> str:
    """Return where an OCI layout has a blob (image-layout.md, Blobs)."""
    return f"blobs/{digest.algorithm}/{digest.encoded}"


@dataclass(frozen=True)
class Names:
    """How an image can be named: by its `tags`, and by what it has anyway (a file, a digest)."""

    tags: tuple[str, ...]
    others: tuple[str, ...] = ()

    @property
    def all(self) -> tuple[str, ...]:
        """Every one."""
        return self.tags + self.others

    @property
    def shown(self) -> tuple[str, ...]:
        """Those that a list of images has."""
        return self.tags or self.others[:1]


def choose(
    offered: Mapping[T, Names],
    name: str,
    platforms: Callable[[T], Iterable[Platform]],
    platform: Platform | None = None,
) -> T:
    """Return what has a name; `@N` is the Nth of all, "" the only one.

    The end of a name will do, after a slash, where no other ends so; a tag may be left out where it
    is `latest`. Of several, `platform` chooses one by the `platforms` of each. Raises ImageNotFound,
    which lists the names, and PlatformNotFound.
    """
    if _NUMBER.fullmatch(name) and int(name[1:]) < len(offered):
        return list(offered)[int(name[1:])]
    wanted = {name, f"{name}:latest"}
    whole = [one for one, names in offered.items() if not name or wanted.intersection(names.all)]
    ends = tuple(f"/{end}" for end in wanted)
    found = whole or [one for one, names in offered.items() if _ends(names.all, ends)]
    if len(found) > 1 and platform is not None:
        offers = ((one, offer) for one in found for offer in platforms(one))
        found = list(select_best(offers, platform, "the archive"))
    if len(found) == 1:
        return found[0]
    raise _no_such(offered, name, is_several=bool(found))


def _no_such(offered: Mapping[T, Names], name: str, *, is_several: bool) -> ImageNotFound:
    if not offered:
        return ImageNotFound("the archive has no images")
    shown = tuple(one for names in offered.values() for one in names.shown)
    listed = ", ".join(map(excerpt, shown[:_MAX_LISTED]))
    more = f" and {len(shown) - _MAX_LISTED} more" if len(shown) > _MAX_LISTED else ""
    count = "more than one" if is_several else "no"
    what = f"the archive has {count} image {excerpt(name)}" if name else "say which image"
    return ImageNotFound(f"{what}: it has {listed}{more}", available=shown)


def _ends(names: tuple[str, ...], ends: tuple[str, ...]) -> bool:
    return any(name.endswith(ends) for name in names)


def check_digest(what: str, actual: Digest, expected: Digest, how: str = "") -> None:
    """Raise DigestMismatch where a part of an archive is not what it is named.

    `how` is what was done to it before it was hashed.
    """
    if actual != expected:
        error = DigestMismatch(
            f"{what} of the archive is {actual}{how}, where {expected} was expected",
            expected=str(expected),
            actual=str(actual),
        )
        error.side = "source"
        raise error


def too_large(path: str, size: int) -> InvalidManifest:
    """Return the error for a document that nobody reads."""
    return InvalidManifest(f"{excerpt(path)} has {size} bytes, where a document has {MAX_SIZE}")
