"""The files of an archive: their names, their kinds, and the images that names choose.

Nothing is ever written under a name of an archive, but two readers must not see two files in one
name. So names are normalized, those that lead out of the archive are refused, and links are
followed within it, a bounded number of them.
"""

from __future__ import annotations

import re
from collections import deque
from contextlib import contextmanager, suppress
from functools import cached_property
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
from brolga.images import BlockStream
from brolga.images.blobs import verify_blocks
from brolga.spec.descriptor import Descriptor
from brolga.spec.digest import Digest
from brolga.spec.index import select_best
from brolga.spec.json import MAX_SIZE
from brolga.spec.mediatypes import OCI_LAYER, OCI_LAYER_GZIP, OCI_LAYER_ZSTD, detect_compression
from brolga.spec.value import Value
from brolga.stores.names import join_first, number_of
from brolga.tar.entries import read_entries
from brolga.tar.reader import is_header, printable_name

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Hashable, Iterable, Iterator, Mapping

    from brolga.spec.blob import Blob, Block, Layer, Prefix
    from brolga.spec.platform import Platform
    from brolga.tar.entries import Entry


T = TypeVar("T", bound="Hashable")

_HEAD_SIZE: Final = 512  # bytes of a file that show its kind
_MAX_LINKS: Final = 16  # in a chain
# The names that Docker, skopeo and crane form from a sha256, and the kinds that they are given to.
_DIGEST_NAMES: Final = (
    (r"([0-9a-f]{64})\.json", {"json"}),
    (r"([0-9a-f]{64})\.tar", {"tar"}),
    (r"([0-9a-f]{64})\.tar\.(?:gz|zst)", {"gzip", "zstd"}),
    (r"sha256:([0-9a-f]{64})", {"json"}),
)
_BLOB: Final = r"blobs/([^/]+)/([^/]+)"


class ArchiveLimits(Value):
    """What is kept in memory of an archive that is read.

    `name_length` is the total of all names and link targets, in characters. A pipe's documents are
    limited by number and by bytes: JSON whose name is not a digest (as index.json), JSON that looks
    like a manifest or config, and other JSON.
    """

    files: int = 100_000
    name_length: int = 16 << 20
    documents: int = 10_000
    unnamed_json: int = 8 << 20
    manifests: int = 20 << 20
    other_json: int = 4 << 20


# A layer's media type by the kind of its file.
LAYER_BY_KIND: Final = {"tar": OCI_LAYER, "gzip": OCI_LAYER_GZIP, "zstd": OCI_LAYER_ZSTD}
_UNKNOWN_TYPE: Final = "application/octet-stream"  # until a manifest gives the type


@contextmanager
def source_errors() -> Iterator[None]:
    """Mark errors about an archive as errors of the source, unless they have a side already."""
    try:
        yield
    except (CorruptBlob, DigestMismatch, InvalidManifest, ImageNotFound) as error:
        error.side = error.side or "source"
        raise


def verify_data(
    digest: Digest, data: Iterable[memoryview], prefix: Prefix | None = None
) -> Generator[bytes, None, None]:
    """Yield the data of a file. Raises DigestMismatch at the end if it has another digest."""
    with source_errors():
        yield from verify_blocks(digest, data, prefix)


class ArchiveEntry(Protocol):
    """A file of an archive."""

    @property
    def kind(self) -> str:
        """What the file is, as `detect_kind` returns it."""

    def data(self) -> bytes:
        """Return the bytes of a document. Raises InvalidManifest if it is too large."""

    def blob(self, descriptor: Descriptor) -> Blob:
        """Return the file as a blob, byte for byte. Raises InvalidManifest if its size differs."""

    def layer(self, diff_id: Digest) -> Layer:
        """Return the file as the layer `diff_id`, to be compressed if it is not."""


class TarFile(Value):
    """A regular file of a tar as it comes; a blob, read once, if its name claims a `digest`.

    `data` must be read before the next file. It begins at `start` in the tar.
    """

    path: str
    kind: str
    size: int
    digest: Digest | None
    data: Iterator[memoryview]
    start: int
    is_duplicate: bool

    @property
    def descriptor(self) -> Descriptor:
        """The descriptor of a file whose name claims a digest."""
        assert self.digest  # noqa: S101 - for mypy
        return Descriptor(LAYER_BY_KIND.get(self.kind, _UNKNOWN_TYPE), self.digest, self.size)

    @cached_property
    def _blocks(self) -> Generator[bytes, None, None]:
        return verify_data(self.descriptor.digest, self.data)

    def open(self) -> BlockStream:
        """Open the bytes, which are verified. Another call returns the rest of them."""
        return BlockStream(self._blocks)

    def finish(self) -> None:
        """Read and verify the bytes that no store has read."""
        deque(self._blocks, maxlen=0)


class Contents:
    """The files of an archive, by name."""

    def __init__(self, limits: ArchiveLimits | None = None) -> None:
        self._limits = limits or ArchiveLimits()
        self._entries: dict[str, ArchiveEntry] = {}
        self._links: dict[str, str] = {}
        self._name_length = 0

    def __contains__(self, path: object) -> bool:
        """Return whether the archive has a file or a link of this name."""
        return path in self._entries or path in self._links

    def read_files(self, blocks: Iterable[Block]) -> Iterator[TarFile]:
        """Yield the regular files of a tar, whose names are recorded; add its links."""
        for entry in read_entries(blocks, needs_end=True):
            path = _entry_path(entry)
            if entry.is_directory:
                continue
            is_duplicate = path in self
            self._reserve_name(path)
            if entry.link:
                self._link(path, entry)
            elif entry.is_file:
                head, data = _peek(entry.data)
                kind = detect_kind(head)
                digest = digest_from_name(path, kind)
                yield TarFile(path, kind, entry.size, digest, data, entry.start, is_duplicate)

    def _reserve_name(self, path: str) -> None:
        """Count a name. A blob may come twice: its digest says that both are the same."""
        if path in self and not re.fullmatch(_BLOB, path):
            raise CorruptBlob(f"the archive has two files {excerpt(path)}: readers differ on them")
        if len(self._entries) + len(self._links) >= self._limits.files:
            raise CorruptBlob(f"the archive has more than {self._limits.files} files")
        self._name_length += len(path)
        if self._name_length > self._limits.name_length:
            raise CorruptBlob(
                f"the archive has more than {self._limits.name_length} characters of names"
            )

    def add(self, path: str, entry: ArchiveEntry) -> None:
        """Add a file."""
        self._entries[path] = entry

    def _link(self, path: str, entry: Entry) -> None:
        """Add a symbolic or hard link. A link that leads out of the archive leads nowhere."""
        target = entry.link.decode("utf-8", "surrogateescape")
        if not entry.is_hard_link:
            target = f"{dirname(path)}/{target}" if not target.startswith("/") else ".."
        target = normpath(target.lstrip("/"))
        self._name_length += len(target)
        self._links[path] = "" if target.startswith("..") else target

    def find(self, path: str, referrer: str) -> ArchiveEntry:
        """Return the file of a name, which may be a link. An error says that `referrer` has it."""
        name = normpath(path.removeprefix("./"))
        for _ in range(_MAX_LINKS):
            if name in self._entries:
                return self._entries[name]
            if name not in self._links:
                raise InvalidManifest(
                    f"{referrer} names {excerpt(path)}, which is not in the archive"
                )
            name = self._links[name]
        raise InvalidManifest(f"{referrer} names {excerpt(path)}, a link that leads to no file")

    def read(self, path: str) -> bytes:
        """Return a document's bytes. Raises InvalidManifest if it is missing or too large."""
        return self.find(path, "the archive's form").data()


def _entry_path(entry: Entry) -> str:
    """Return an entry's name as a path below the archive's root, "" for the root."""
    name = entry.name.decode("utf-8", "surrogateescape")
    if name.startswith("/") or ".." in name.split("/"):
        raise CorruptBlob(
            f"an archive with a name that leads out of it: {printable_name(entry.name)}"
        )
    path = normpath(name)
    return "" if path == "." else path


def detect_kind(head: bytes) -> str:
    """Return the kind of a file by its first 512 bytes: json, tar, gzip, zstd or other."""
    compression = detect_compression(head[:4])
    if compression != "none":
        return compression
    if len(head) == _HEAD_SIZE and (not any(head) or is_header(head)):
        return "tar"
    return "json" if head.lstrip().startswith((b"{", b"[")) else "other"


def _peek(data: Iterator[memoryview]) -> tuple[bytes, Iterator[memoryview]]:
    """Return the first 512 bytes of an entry, and all of its bytes."""
    pieces: list[memoryview] = []
    for piece in data:
        pieces.append(piece)
        if sum(map(len, pieces)) >= _HEAD_SIZE:
            break
    return b"".join(pieces)[:_HEAD_SIZE], chain(pieces, data)


def digest_from_name(path: str, kind: str) -> Digest | None:
    """Return the digest that a file's name claims for its bytes, None if it claims none."""
    if blob := re.fullmatch(_BLOB, path):
        with suppress(InvalidDigest):
            return Digest(*blob.groups())
    for pattern, kinds in _DIGEST_NAMES:
        if (match := re.fullmatch(pattern, path)) and kind in kinds:
            return Digest("sha256", match[1])
    return None


def blob_path(digest: Digest) -> str:
    """Return the path of a blob in an OCI layout (image-layout.md, Blobs)."""
    return f"blobs/{digest.algorithm}/{digest.encoded}"


class Names(Value):
    """The names of an image: its `tags`, and the `others`, as its file or digest."""

    tags: tuple[str, ...]
    others: tuple[str, ...] = ()

    @property
    def shown(self) -> tuple[str, ...]:
        """The names in a list of images."""
        return self.tags or self.others[:1]


def choose(
    offered: Mapping[T, Names],
    name: str,
    platforms: Callable[[T], Iterable[Platform]],
    platform: Platform | None = None,
) -> T:
    """Return the image of a name: `@N` is the Nth image, "" the only one.

    A name may be cut before a slash, if that is unambiguous, and `:latest` may be left out. Of
    several images, `platform` chooses one by the `platforms` of each.
    """
    if (number := number_of(name)) is not None and number < len(offered):
        return list(offered)[number]
    wanted = {name, f"{name}:latest"}
    suffixes = tuple(f"/{text}" for text in wanted)
    known = {image: names.tags + names.others for image, names in offered.items()}
    matches = [
        image for image, names in known.items() if not name or wanted.intersection(names)
    ] or [
        image
        for image, names in known.items()
        if any(full_name.endswith(suffixes) for full_name in names)
    ]
    if len(matches) > 1 and platform is not None:
        offers = ((image, offer) for image in matches for offer in platforms(image))
        matches = list(select_best(offers, platform, "the archive"))
    if len(matches) == 1:
        return matches[0]
    if not offered:
        raise ImageNotFound("the archive has no images")
    shown = tuple(text for names in offered.values() for text in names.shown)
    listed = join_first(map(excerpt, shown), len(shown))
    count = "more than one" if matches else "no"
    reason = f"the archive has {count} image {excerpt(name)}" if name else "say which image"
    raise ImageNotFound(f"{reason}: it has {listed}", available=shown)


def check_digest(part: str, actual: Digest, expected: Digest, how: str = "") -> None:
    """Raise DigestMismatch if a part of an archive, hashed after `how`, has another digest."""
    if actual != expected:
        raise DigestMismatch(
            f"{part} of the archive is {actual}{how}, but {expected} was expected",
            expected=str(expected),
            actual=str(actual),
            side="source",
        )


def document_too_large(path: str, size: int) -> InvalidManifest:
    """Return the error for a document that is larger than any manifest."""
    return InvalidManifest(f"{excerpt(path)} has {size} bytes, but a document has {MAX_SIZE}")
