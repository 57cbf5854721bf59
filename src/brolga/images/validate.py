"""Validate images and indexes: whether all parts agree with each other.

Each blob is read once, in constant memory. A flaw of the image is a `Problem`, and validation goes
on; a failure to read, such as a missing permission, is raised. Embedded data is not checked here:
a descriptor whose data does not agree cannot be made.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from brolga import errors
from brolga.images.image import Image
from brolga.images.index import ImageIndex, Tree, is_blob
from brolga.spec import mediatypes
from brolga.spec.config import ImageConfig, count_layers
from brolga.spec.digest import Digest, hasher
from brolga.spec.json import MAX_SIZE
from brolga.spec.manifest import mixed_media_types
from brolga.spec.value import Value
from brolga.stream.decompression import DEFAULT_LIMITS, Limits, decompress
from brolga.tar.entries import read_entries
from brolga.tar.reader import check_whiteout

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

    from brolga.spec.blob import Blob, Block
    from brolga.spec.descriptor import Descriptor
    from brolga.spec.platform import Platform

# The fields of a platform that both an index and a config have.
_PLATFORM: Final = ("os", "architecture", "variant", "os_version")
# Errors that are a flaw of the image, not a failure to read it.
_FLAWS: Final = (
    errors.CorruptBlob,
    errors.DigestMismatch,
    errors.InvalidDigest,
    errors.InvalidManifest,
    errors.NotFound,
    errors.ProtocolViolation,
)


class Problem(Value):
    """A flaw: its place, by digests and the layer's number, and what is wrong."""

    place: str
    what: str

    def __str__(self) -> str:
        """Return the problem as one line."""
        return f"{self.place}: {self.what}"


def validate(
    tree: Tree, *, fast: bool = False, limits: Limits = DEFAULT_LIMITS
) -> Iterator[Problem]:
    """Yield the problems of an image, or of an index and everything below it.

    With `fast` only manifests and configs are read, no layers. `limits` bound the uncompressed
    size of a layer. Raises errors of reading that are not a flaw of the image, as Unauthorized and
    TransportError, and NotComputed for an image with a layer that has not been streamed.
    """
    validator = _Validator(tree, limits, fast=fast)
    while validator.queue:
        tree = validator.queue.popleft()
        if isinstance(tree, Image):
            yield from validator.check_image(tree)
        else:
            yield from validator.check_index(tree)


class _Validator:
    """One validation. It reads each manifest and each blob once."""

    def __init__(self, tree: Tree, limits: Limits, *, fast: bool) -> None:
        self._fast = fast
        self._limits = limits
        self.queue: deque[Tree] = deque([tree])
        # What each child is, or why it cannot be read: many indexes may have the same one.
        self._children: dict[Digest, Descriptor | str] = {tree.digest: tree.descriptor}
        self._contents: dict[tuple[Digest, int, str], _Content] = {}
        self._indexed: dict[Digest, dict[Platform, None]] = {}  # an image's platforms in indexes
        self._configured: dict[Digest, tuple[str, Platform]] = {}  # and in its config: the place

    def check_index(self, index: ImageIndex) -> Iterator[Problem]:
        """Yield the problems of an index's entries, and queue the children."""
        for number, descriptor in enumerate(index.index.manifests, 1):
            if is_blob(descriptor):
                continue  # "implementations MUST ignore unknown media types" (image-index.md)
            place = f"index {index.digest}, manifest {number} {descriptor.digest}"
            if descriptor.digest not in self._children:
                self._children[descriptor.digest] = self._load_child(index, descriptor)
            child = self._children[descriptor.digest]
            if isinstance(child, str):
                yield Problem(place, child)
                continue
            if (flaw := _compare(descriptor, child.digest, child.size)) is not None:
                yield Problem(place, flaw)
            if child.media_type != descriptor.media_type:
                yield Problem(
                    place,
                    f"is of the media type {child.media_type}, but the index says "
                    f"{descriptor.media_type}",
                )
            platform, platforms = descriptor.platform, self._indexed.setdefault(child.digest, {})
            if platform is not None and platform not in platforms:
                platforms[platform] = None
                # If the config was not read yet, `check_image` compares them.
                if child.digest in self._configured:
                    yield from self._compare_platforms(child.digest, [platform])

    def _load_child(self, index: ImageIndex, descriptor: Descriptor) -> Descriptor | str:
        try:
            child = index.child(descriptor)
            loaded = child.descriptor
        except _FLAWS as error:
            return f"cannot be read: {error}"
        self.queue.append(child)
        return loaded

    def _compare_platforms(self, digest: Digest, indexed: Iterable[Platform]) -> Iterator[Problem]:
        place, configured = self._configured[digest]
        for platform in indexed:
            if any(
                len({getattr(platform, name), getattr(configured, name)} - {""}) > 1
                for name in _PLATFORM
            ):
                yield Problem(
                    place, f"says the platform {configured}, but the index says {platform}"
                )

    def check_image(self, image: Image) -> Iterator[Problem]:
        """Yield the problems of an image."""
        manifest = image.manifest
        place = f"image {manifest.digest}"
        for part in dict.fromkeys(mixed_media_types(manifest)):
            yield Problem(
                f"{place}, {part.digest}",
                f"has the media type {part.media_type}, which some tools refuse in a manifest of "
                f"the type {manifest.media_type}",
            )
        config_place = f"{place}, config {manifest.config.digest}"
        config = yield from self._check_config(image, config_place)
        if config is not None:
            for flaw in _config_flaws(config, len(manifest.layers)):
                yield Problem(config_place, flaw)
            self._configured[manifest.digest] = config_place, config.platform
            yield from self._compare_platforms(
                manifest.digest, self._indexed.get(manifest.digest, ())
            )
        if self._fast:
            return
        diff_ids = config.diff_ids if config else ()
        pairs = zip(manifest.layers, image.layers, strict=True)
        for number, (layer, blob) in enumerate(pairs, 1):
            diff_id = diff_ids[number - 1] if number <= len(diff_ids) else None
            for flaw in self._layer_flaws(blob, layer, diff_id, is_image=config is not None):
                yield Problem(f"{place}, layer {number} {layer.digest}", flaw)

    def _check_config(
        self, image: Image, place: str
    ) -> Generator[Problem, None, ImageConfig | None]:
        """Yield the problems of a config's bytes; return it if it is a valid image config."""
        blob, descriptor = image.config_blob, image.manifest.config
        if descriptor.media_type in mediatypes.IMAGE_CONFIGS:
            try:
                return _read_config(blob, descriptor)
            except _FLAWS as error:
                yield Problem(place, str(error))
        elif not self._fast:
            for flaw in self._content(blob, descriptor, "").flaws:
                yield Problem(place, flaw)
        return None

    def _layer_flaws(
        self, blob: Blob, layer: Descriptor, diff_id: Digest | None, *, is_image: bool
    ) -> Iterator[str]:
        if layer.media_type in mediatypes.NONDISTRIBUTABLE:
            return  # its bytes are not in the registry
        content = self._content(blob, layer, diff_id.algorithm if diff_id else "sha256")
        declared = mediatypes.COMPRESSION_BY_LAYER.get(layer.media_type)
        if declared is None:  # an artifact's content, or encrypted: unknown inside
            yield from content.flaws
            if is_image and content.diff_id == diff_id is not None and not content.tar_flaws:
                yield (
                    f"is a tar by its bytes and its DiffID, but its media type {layer.media_type} "
                    "is not a layer's"
                )
            return
        yield from (*content.tar_flaws, *content.flaws)
        if content.compression not in {"", declared}:
            yield (
                f"is compressed by {content.compression}, but the media type "
                f"{layer.media_type} says {declared}"
            )
        if diff_id is not None and content.diff_id not in {None, diff_id}:
            yield (
                f"the uncompressed bytes hash to {content.diff_id}, but the config's DiffID is "
                f"{diff_id}"
            )

    def _content(self, blob: Blob, descriptor: Descriptor, algorithm: str) -> _Content:
        key = descriptor.digest, descriptor.size, algorithm
        if key not in self._contents:
            try:
                self._contents[key] = _read_content(blob, descriptor, algorithm, self._limits)
            except _FLAWS as error:
                self._contents[key] = _Content((f"cannot be read: {error}",))
        return self._contents[key]


class _Content(Value):
    """The result of one pass over a blob: the flaws of its bytes, and of the tar in it."""

    flaws: tuple[str, ...]
    compression: str = ""
    diff_id: Digest | None = None
    tar_flaws: tuple[str, ...] = ()


def _read_config(blob: Blob, descriptor: Descriptor) -> ImageConfig:
    """Read a config. Raises CorruptBlob if its bytes are wrong, InvalidManifest."""
    if descriptor.size > MAX_SIZE:
        raise errors.CorruptBlob(f"has {descriptor.size} bytes, but at most {MAX_SIZE} are read")
    raw = b""
    with blob.open() as stream:
        for block in stream:
            raw += block
            if len(raw) > descriptor.size:
                break
    if flaw := _compare(descriptor, Digest.of(raw, descriptor.digest.algorithm), len(raw)):
        raise errors.CorruptBlob(flaw)
    return ImageConfig.parse(raw)


def _compare(descriptor: Descriptor, digest: Digest, size: int) -> str | None:
    """Return the flaw of content that should have a descriptor, or None."""
    if size > descriptor.size:
        return f"has more than the {descriptor.size} bytes that its descriptor says"
    if size < descriptor.size:
        return f"has {size} bytes, but its descriptor says {descriptor.size}"
    if digest != descriptor.digest:
        return f"the bytes hash to {digest}"
    return None


def _config_flaws(config: ImageConfig, layers: int) -> Iterator[str]:
    """Yield how a config disagrees with its manifest or itself (config.md)."""
    if len(config.diff_ids) != layers:
        yield f"has {len(config.diff_ids)} DiffIDs, but the manifest has {layers} layers"
    if config.history and (count := count_layers(config.history)) != layers:
        yield f"has a history of {count} layers, but the manifest has {layers}"
    if not (config.platform.os and config.platform.architecture):
        yield "does not say the operating system and the architecture"


def _read_content(blob: Blob, descriptor: Descriptor, algorithm: str, limits: Limits) -> _Content:
    """Read a blob to its end; with an `algorithm`, for the DiffID of a layer."""
    with blob.open() as stream:
        compressed = _HashedBlocks(stream, descriptor.digest.algorithm)
        blocks = iter(compressed)
        plain = _HashedBlocks(decompress(blocks, limits), algorithm or "sha256")
        tar_flaws: list[str | None] = []
        if algorithm:
            plain_blocks = iter(plain)
            # After the entries, read what a broken archive has left, for the DiffID.
            names = (entry.name for entry in read_entries(plain_blocks))
            tar_flaws = [_exhaust(map(check_whiteout, names)), _exhaust(plain_blocks)]
        flaws = [_exhaust(blocks)]
    if compressed.is_complete:
        flaws.append(_compare(descriptor, compressed.digest, compressed.size))
    is_known = compressed.head or compressed.is_complete
    return _Content(
        tuple(filter(None, flaws)),
        mediatypes.detect_compression(compressed.head) if is_known else "",
        plain.digest if plain.is_complete else None,
        tuple(filter(None, tar_flaws)),
    )


def _exhaust(items: Iterable[object]) -> str | None:
    """Iterate over all items; return the flaw that ended it, or None."""
    try:
        deque(items, maxlen=0)
    except _FLAWS as error:
        return str(error)
    return None


class _HashedBlocks:
    """Blocks, counted and hashed as they are iterated; `is_complete` after the last one."""

    def __init__(self, blocks: Iterable[Block], algorithm: str) -> None:
        self._blocks = blocks
        self._hash = hasher(algorithm)
        self.size = 0
        self.head = b""
        self.is_complete = False

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
        self.is_complete = True
