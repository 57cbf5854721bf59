"""Whether an image or an index is what it says it is.

Knows what must agree: blobs with their descriptors, DiffIDs with uncompressed bytes, counts,
platforms, media types with what the bytes are. Must not know where the blobs are.

Strategy: each blob is read once, in constant memory, and everything that can be told of it is told
by that pass. What is wrong with the image is a `Problem`, and the search goes on; what keeps from
looking (no connection, no permission) is raised. Data that a descriptor embeds needs no check
here: no descriptor can be made whose data does not agree with it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from brolga.errors import (
    CorruptBlob,
    DigestMismatch,
    InvalidDigest,
    InvalidManifest,
    NotFound,
    ProtocolViolation,
)
from brolga.images.image import Image
from brolga.spec.config import ImageConfig, count_layers
from brolga.spec.digest import Digest, hasher
from brolga.spec.json import MAX_SIZE
from brolga.spec.manifest import INDEX_TYPES, MANIFEST_TYPES, mixed_media_types
from brolga.spec.mediatypes import (
    COMPRESSION_BY_LAYER,
    IMAGE_CONFIGS,
    NONDISTRIBUTABLE,
    detect_compression,
)
from brolga.stream.decompression import DEFAULT_LIMITS, Limits, decompress
from brolga.tar.entries import read_entries
from brolga.tar.reader import is_bare_whiteout, printable_name

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

    from brolga.images.index import ImageIndex, Tree
    from brolga.spec.blob import Blob, Block
    from brolga.spec.descriptor import Descriptor, Platform
    from brolga.tar.entries import Entry

__all__ = ["Limits", "Problem", "validate"]

# What is said of a platform twice, in the index and in the config.
_PLATFORM: Final = ("os", "architecture", "variant", "os_version")
# Errors that tell of the image, not of the way to it.
_FLAWS: Final = (
    CorruptBlob,
    DigestMismatch,
    InvalidDigest,
    InvalidManifest,
    NotFound,
    ProtocolViolation,
)


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: where, by digests and the layer's number, and what."""

    place: str
    what: str

    def __str__(self) -> str:
        """Return the problem as one line."""
        return f"{self.place}: {self.what}"


def validate(
    tree: Tree, *, fast: bool = False, limits: Limits = DEFAULT_LIMITS
) -> Iterator[Problem]:
    """Yield all that is wrong with an image, or with an index and all below it.

    `fast` reads manifests and configs alone, no layer. `limits` bound what a layer may grow to.
    Raises what reading raises where that tells nothing of the image, as Unauthorized and
    TransportError, and NotComputed for an image with a layer that is still to be streamed.
    """
    look = _Look(fast, limits)
    todo: deque[Tree] = deque([tree])
    found: dict[Digest, Descriptor | str] = {tree.digest: tree.descriptor}
    while todo:
        tree = todo.popleft()
        if isinstance(tree, Image):
            yield from look.image(tree)
        else:
            yield from _index(tree, look, found, todo)


def _index(
    index: ImageIndex, look: _Look, found: dict[Digest, Descriptor | str], todo: deque[Tree]
) -> Iterator[Problem]:
    """Yield what is wrong with an index's children as such; note them as still to be looked at.

    `found` has what each child is, or why it cannot be read: an index may have one many times over,
    and so may many indexes, and each is read once.
    """
    for number, descriptor in enumerate(index.index.manifests, 1):
        if descriptor.media_type not in MANIFEST_TYPES | INDEX_TYPES:
            continue  # "implementations MUST ignore unknown media types" (image-index.md)
        place = f"index {index.digest}, manifest {number} {descriptor.digest}"
        if descriptor.digest not in found:
            found[descriptor.digest] = _loaded(index, descriptor, todo)
        child = found[descriptor.digest]
        if isinstance(child, str):
            yield Problem(place, child)
            continue
        if (flaw := _differs(descriptor, child.digest, child.size)) is not None:
            yield Problem(place, flaw)
        if child.media_type != descriptor.media_type:
            yield Problem(
                place,
                f"is of the media type {child.media_type}, where the index says "
                f"{descriptor.media_type}",
            )
        if descriptor.platform is not None:
            yield from look.offer(child.digest, descriptor.platform)


def _loaded(index: ImageIndex, descriptor: Descriptor, todo: deque[Tree]) -> Descriptor | str:
    """Read a child, to be looked at later; return what it is, or why it cannot be read."""
    try:
        child = index.child(descriptor)
        found = child.descriptor
    except _FLAWS as error:
        return f"cannot be read: {error}"
    todo.append(child)
    return found


class _Look:
    """One search for problems. It remembers what a blob was found to be."""

    def __init__(self, fast: bool, limits: Limits) -> None:  # noqa: FBT001 - named by its caller
        self._fast = fast
        self._limits = limits
        self._known: dict[tuple[Digest, int, str], _Content] = {}
        self._offers: dict[Digest, dict[Platform, None]] = {}  # what indexes say of an image
        self._platforms: dict[Digest, tuple[str, Platform]] = {}  # what its config says, and where

    def offer(self, digest: Digest, platform: Platform) -> Iterator[Problem]:
        """Yield a problem if an index gives an image a platform that its config does not say.

        If the image is still to be looked at, it comes then.
        """
        offers = self._offers.setdefault(digest, {})
        if platform in offers:
            return
        offers[platform] = None
        if digest in self._platforms:
            yield from self._disagreeing(digest, [platform])

    def _disagreeing(self, digest: Digest, offers: Iterable[Platform]) -> Iterator[Problem]:
        place, own = self._platforms[digest]
        for offered in offers:
            if any(
                len({getattr(offered, name), getattr(own, name)} - {""}) > 1 for name in _PLATFORM
            ):
                yield Problem(place, f"says the platform {own}, where the index says {offered}")

    def image(self, image: Image) -> Iterator[Problem]:
        """Yield what is wrong with an image."""
        manifest = image.manifest
        place = f"image {manifest.digest}"
        for part in dict.fromkeys(mixed_media_types(manifest)):
            yield Problem(
                f"{place}, {part.digest}",
                f"has the media type {part.media_type}, which some tools refuse in a manifest of "
                f"the type {manifest.media_type}",
            )
        config = yield from self._config(image, f"{place}, config {manifest.config.digest}")
        if config is not None:
            where = f"{place}, config {manifest.config.digest}"
            for flaw in _disagreements(config, len(manifest.layers)):
                yield Problem(where, flaw)
            self._platforms[manifest.digest] = where, config.platform
            yield from self._disagreeing(manifest.digest, self._offers.get(manifest.digest, ()))
        if self._fast:
            return
        diff_ids = config.diff_ids if config else ()
        pairs = zip(manifest.layers, image.layers, strict=True)
        for number, (layer, blob) in enumerate(pairs, 1):
            diff_id = diff_ids[number - 1] if number <= len(diff_ids) else None
            for flaw in self._layer(blob, layer, diff_id, is_image=config is not None):
                yield Problem(f"{place}, layer {number} {layer.digest}", flaw)

    def _config(self, image: Image, place: str) -> Generator[Problem, None, ImageConfig | None]:
        """Yield what is wrong with a config's bytes; return it, if it is an image's and right."""
        blob, descriptor = image.config_blob, image.manifest.config
        if descriptor.media_type in IMAGE_CONFIGS:
            try:
                return _read_config(blob, descriptor)
            except _FLAWS as error:
                yield Problem(place, str(error))
        elif not self._fast:
            for flaw in self._content(blob, descriptor, "").flaws:
                yield Problem(place, flaw)
        return None

    def _layer(
        self, blob: Blob, layer: Descriptor, diff_id: Digest | None, *, is_image: bool
    ) -> Iterator[str]:
        """Yield what is wrong with a layer."""
        if layer.media_type in NONDISTRIBUTABLE:
            return  # its bytes are elsewhere
        content = self._content(blob, layer, diff_id.algorithm if diff_id else "sha256")
        promised = COMPRESSION_BY_LAYER.get(layer.media_type)
        if promised is None:  # an artifact's content, or encrypted: what is in it is not known
            yield from content.flaws
            if is_image and content.diff_id == diff_id is not None and not content.inside:
                yield (
                    f"is a tar by its bytes and its DiffID, but its media type {layer.media_type} "
                    "is not a layer's"
                )
            return
        yield from (*content.inside, *content.flaws)
        if content.compression not in {"", promised}:
            yield (
                f"is compressed by {content.compression}, where the media type "
                f"{layer.media_type} says {promised}"
            )
        if diff_id is not None and content.diff_id not in {None, diff_id}:
            yield (
                f"the uncompressed bytes hash to {content.diff_id}, where the config's DiffID is "
                f"{diff_id}"
            )

    def _content(self, blob: Blob, descriptor: Descriptor, algorithm: str) -> _Content:
        """Return what a blob was found to be: a layer, whose DiffID is wanted, or any bytes."""
        key = descriptor.digest, descriptor.size, algorithm
        if key not in self._known:
            try:
                self._known[key] = _examined(blob, descriptor, algorithm, self._limits)
            except _FLAWS as error:
                self._known[key] = _Content((f"cannot be read: {error}",))
        return self._known[key]


@dataclass(frozen=True)
class _Content:
    """What one pass over a blob told: what is wrong with its bytes, and with what is in them."""

    flaws: tuple[str, ...]
    compression: str = ""
    diff_id: Digest | None = None
    inside: tuple[str, ...] = ()


def _read_config(blob: Blob, descriptor: Descriptor) -> ImageConfig:
    """Read a config. Raises CorruptBlob where its bytes are others, InvalidManifest."""
    if descriptor.size > MAX_SIZE:
        raise CorruptBlob(f"has {descriptor.size} bytes, where at most {MAX_SIZE} are read")
    raw = b""
    with blob.open() as stream:
        for block in stream.blocks():
            raw += block
            if len(raw) > descriptor.size:
                break
    if flaw := _differs(descriptor, Digest.of(raw, descriptor.digest.algorithm), len(raw)):
        raise CorruptBlob(flaw)
    return ImageConfig.parse(raw)


def _differs(descriptor: Descriptor, digest: Digest, size: int) -> str | None:
    """Say where bytes are not what a descriptor says, if they are not."""
    if size > descriptor.size:
        return f"has more than the {descriptor.size} bytes that its descriptor says"
    if size < descriptor.size:
        return f"has {size} bytes, where its descriptor says {descriptor.size}"
    if digest != descriptor.digest:
        return f"the bytes hash to {digest}"
    return None


def _disagreements(config: ImageConfig, layers: int) -> Iterator[str]:
    """Yield where a config disagrees with its manifest or itself (config.md)."""
    if len(config.diff_ids) != layers:
        yield f"has {len(config.diff_ids)} DiffIDs, where the manifest has {layers} layers"
    if config.history and (count := count_layers(config.history)) != layers:
        yield f"has a history of {count} layers, where the manifest has {layers}"
    if not (config.platform.os and config.platform.architecture):
        yield "does not say the operating system and the architecture"


def _examined(blob: Blob, descriptor: Descriptor, algorithm: str, limits: Limits) -> _Content:
    """Read a blob to its end; where `algorithm` is not empty, as a layer, for its DiffID."""
    with blob.open() as stream:
        packed = _Summed(stream.blocks(), descriptor.digest.algorithm)
        blocks = iter(packed)
        plain = _Summed(decompress(blocks, limits), algorithm or "sha256")
        found: list[str | None] = []
        if algorithm:
            inside = iter(plain)
            # After the entries what a broken archive has left, for the DiffID all the same.
            found = [_failure(_named(read_entries(inside))), _failure(inside)]
        flaws = [_failure(blocks)]
    if packed.whole:
        flaws.append(_differs(descriptor, packed.digest, packed.size))
    return _Content(
        tuple(filter(None, flaws)),
        detect_compression(packed.head) if packed.head or packed.whole else "",
        plain.digest if plain.whole else None,
        tuple(filter(None, found)),
    )


def _named(layer: Iterable[Entry]) -> Iterator[Entry]:
    """Yield entries. Raises CorruptBlob for a whiteout that names nothing (layer.md, Whiteouts)."""
    for entry in layer:
        if is_bare_whiteout(entry.name):
            raise CorruptBlob(f"the whiteout {printable_name(entry.name)} names nothing")
        yield entry


def _failure(items: Iterable[object]) -> str | None:
    """Go through all items; say why that failed, if it did."""
    try:
        deque(items, maxlen=0)
    except _FLAWS as error:
        return str(error)
    return None


class _Summed:
    """Blocks that go by, counted and hashed. `whole` tells that they came to their end."""

    def __init__(self, blocks: Iterable[Block], algorithm: str) -> None:
        self._blocks = blocks
        self._hash = hasher(algorithm)
        self.size = 0
        self.head = b""
        self.whole = False

    @property
    def digest(self) -> Digest:
        return Digest.from_hasher(self._hash)

    def __iter__(self) -> Iterator[Block]:
        for block in self._blocks:
            self._hash.update(block)
            self.size += len(block)
            if len(self.head) < 4:  # noqa: PLR2004 - what `detect_compression` looks at
                self.head += bytes(block[:4])
            yield block
        self.whole = True
