"""An image as a value: lazy, immutable, changed by making another.

Knows manifests, configs and layers, and how the three stay in step. Must not know where an image
comes from or goes to.

Strategy: an image is what was read (a manifest, a config, layers) and what was done to it since.
Nothing is computed when it is changed. Its manifest and config are made when they are asked for,
from what the layers say then: where a stream has not been read yet, they say NotComputed. An image
to which nothing was done has the very bytes that were read.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import reduce
from inspect import getattr_static
from typing import TYPE_CHECKING, Any

from brolga.errors import InvalidManifest, LayerError
from brolga.images.blobs import InMemoryBlob, StoredBlob
from brolga.spec.config import History, ImageConfig, align_history
from brolga.spec.descriptor import DEFAULT_PLATFORM, Descriptor, Platform
from brolga.spec.json import MAX_SIZE
from brolga.spec.manifest import Manifest, convert_manifest, convert_media_type, detect_family
from brolga.spec.mediatypes import (
    DOCKER_CONFIG,
    DOCKER_MANIFEST,
    IMAGE_CONFIGS,
    OCI_CONFIG,
    OCI_MANIFEST,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from brolga.spec.blob import Blob, Layer
    from brolga.spec.digest import Digest
    from brolga.spec.reference import Repository

__all__ = ["Image", "created_now"]


@dataclass(frozen=True)
class _Addition:
    """A layer on top of what was read, and what the config's history says of it."""

    layer: Layer
    history: History


@dataclass(frozen=True, eq=False)
class Image:
    """An image: a manifest, its config and its layers, or the recipe for them (GGCR's `v1.Image`).

    Make one with `Image.empty` or `Client.image`, and others from it by `append`, `with_config`,
    `with_annotations`, `with_subject`, `rebase` and `flatten`. An artifact is an image whose config
    is something else.
    """

    _base: Manifest
    _base_config: Blob
    _base_layers: tuple[Blob, ...]
    _additions: tuple[_Addition, ...] = ()
    _edits: tuple[Callable[[ImageConfig], ImageConfig], ...] = ()
    # The config once it was read, shared with the images that are made of this one.
    _memo: list[ImageConfig] = field(default_factory=list, repr=False)

    @classmethod
    def empty(cls, platform: Platform = DEFAULT_PLATFORM, *, docker: bool = False) -> Image:
        """Return an image without layers, of OCI's media types or of Docker's."""
        media_type = DOCKER_CONFIG if docker else OCI_CONFIG
        config = InMemoryBlob(ImageConfig.empty(platform).raw, media_type)
        manifest = Manifest.new(
            config.descriptor, (), media_type=DOCKER_MANIFEST if docker else OCI_MANIFEST
        )
        return cls(manifest, config, ())

    @property
    def layers(self) -> tuple[Blob, ...]:
        """The layers, the lowest first."""
        return (*self._base_layers, *(one.layer for one in self._additions))

    @property
    def mount_sources(self) -> set[Repository]:
        """The repositories that blobs of the image are in."""
        blobs = (self._base_config, *self.layers)
        return {
            blob.mount_source
            for blob in blobs
            if isinstance(blob, StoredBlob) and blob.mount_source
        }

    @property
    def media_type(self) -> str:
        """The manifest's media type: Docker's, until a layer has no name in Docker's family."""
        read = (layer.media_type for layer in self._base.layers)
        added = (one.layer.media_type for one in self._additions)
        return detect_family(self._base.media_type, (*read, *added))

    @property
    def annotations(self) -> Mapping[str, str]:
        """The manifest's annotations."""
        return self._base.annotations

    @property
    def subject(self) -> Descriptor | None:
        """The manifest that this one refers to."""
        return self._base.subject

    @property
    def config(self) -> ImageConfig:
        """The config as it is with every layer (image-spec config.md).

        Raises NotComputed where a layer's stream has not been read, InvalidManifest where the
        config is not an image's, or has DiffIDs for more or fewer layers than there are.
        """
        config = reduce(lambda config, edit: edit(config), self._edits, self._config_read)
        return _append_layers(config, self._additions)

    @property
    def config_blob(self) -> Blob:
        """The config as a blob to be pushed. Raises as `config`."""
        if not self._additions and not self._edits:
            return self._base_config
        media_type = convert_media_type(self.media_type, self._base.config.media_type)
        return InMemoryBlob(self.config.raw, media_type)

    @property
    def manifest(self) -> Manifest:
        """The manifest with every layer (image-spec manifest.md). Raises as `config`."""
        if not self._additions and not self._edits:
            return self._base
        layers = (*self._base.layers, *(one.layer.descriptor for one in self._additions))
        config = replace(self._base.config, **_place(self.config_blob.descriptor))
        return convert_manifest(self._base, config, layers)

    @property
    def descriptor(self) -> Descriptor:
        """The manifest's media type, digest and size. Raises NotComputed too early."""
        return self.manifest.descriptor

    @property
    def digest(self) -> Digest:
        """The manifest's digest. Raises NotComputed too early."""
        return self.manifest.digest

    @property
    def platform(self) -> Platform:
        """What the image runs on, as the config that was read says. Raises InvalidManifest."""
        return self._config_read.platform

    def append(self, *layers: Layer, created_by: str = "", comment: str = "") -> Image:
        """Return the image with `layers` on top; nothing of them is read.

        `created_by` and `comment` go into the config's history, with the time of
        SOURCE_DATE_EPOCH, or of now. Raises TypeError for what is not a layer.
        """
        created = created_now()
        history = History(created=created, created_by=created_by, comment=comment)
        for layer in layers:
            _check_layer(layer)
        added = tuple(_Addition(layer, history) for layer in layers)
        edits = (*self._edits, lambda config: config.replace(created=created)) if added else ()
        return replace(self, _additions=self._additions + added, _edits=edits or self._edits)

    def mutate_config(self, edit: Callable[[ImageConfig], ImageConfig]) -> Image:
        """Return the image with its config changed by `edit`, which is called when that is read.

        Layers that were appended come on top of what it returns.
        """
        return replace(self, _edits=(*self._edits, edit))

    def with_config(self, **changes: Any) -> Image:  # noqa: ANN401 - any JSON value
        """Return the image with members of its config's `config` changed: Env, Cmd, Labels, ….

        Names are those of image-spec config.md; None takes a member away.
        """
        return self.mutate_config(lambda config: config.replace(config=changes))

    def with_annotations(self, annotations: Mapping[str, str | None]) -> Image:
        """Return the image with these annotations added to its manifest's; None takes one away."""
        changed = self._base.replace(
            annotations=update_annotations(self._base.annotations, annotations)
        )
        return replace(self, _base=changed)

    def with_subject(self, subject: Descriptor | None) -> Image:
        """Return the image as one that refers to `subject` (distribution-spec, Referrers)."""
        return replace(self, _base=self._base.replace(subject=subject))

    def rebase(self, old_base: Image, new_base: Image) -> Image:
        """Return the image with the layers of `new_base` in place of `old_base`'s.

        The container's config stays; platform and lower history are the new base's. The three
        configs are read, to compare DiffIDs. Raises LayerError where the image is not built on
        `old_base`, NotComputed where layers of a base are still to be streamed.
        """
        theirs, under = old_base.config, new_base.config
        count = len(theirs.diff_ids)
        # Layers of the old base may have been appended here.
        inside = max(0, count - len(self._base_layers))
        mine = _append_layers(self._config_read, self._additions[:inside])
        if mine.diff_ids[:count] != theirs.diff_ids:
            raise LayerError("the image is not built on the old base: its lower layers are others")
        config = under.replace(
            config={**dict.fromkeys(under.config), **mine.config},
            author=mine.author,
            created=created_now(),
            diff_ids=(*under.diff_ids, *mine.diff_ids[count:]),
            history=_rebase_history(under, mine, theirs),
        )
        described = (*new_base.manifest.layers, *self._base.layers[count:])
        blob = InMemoryBlob(config.raw, self._base.config.media_type)
        base = convert_manifest(self._base, blob.descriptor, described)
        return replace(
            self,
            _base=base,
            _base_config=replace(blob, media_type=base.config.media_type),
            _base_layers=(*new_base.layers, *self._base_layers[count:]),
            _additions=self._additions[inside:],
            _memo=[config],
        )

    def flatten(
        self,
        created_by: str = "brolga flatten",
        *,
        strict: bool = False,
        on_warning: Callable[[str], object] | None = None,
    ) -> Image:
        """Return the image with one layer, which holds what all of them show together.

        The layer is a stream: it is made while it is pushed. An entry on which readers differ is
        named to `on_warning`, which is called with one line of text while the layer is read; by
        default that is a LayerWarning. With `strict` it is a LayerError. The config is read. Raises
        LayerError where a layer can be read only once.
        """
        from brolga.images.flatten import flattened

        config = self.config.replace(diff_ids=(), history=(), created=created_now())
        blob = InMemoryBlob(config.raw, self._base.config.media_type)
        base = self._base.replace(config=blob.descriptor, layers=[])
        bare = Image(base, blob, ())
        layer = flattened(self.layers, strict=strict, on_warning=on_warning)
        return bare.append(layer, created_by=created_by)

    @property
    def _config_read(self) -> ImageConfig:
        """The config as it was read. Raises InvalidManifest where it cannot be the image's."""
        if not self._memo:
            self._memo.append(self._read_config())
        return self._memo[0]

    def _read_config(self) -> ImageConfig:
        described, layers = self._base.config, len(self._base_layers)
        if described.size > MAX_SIZE:
            raise InvalidManifest(
                f"config: {described.size} bytes, where at most {MAX_SIZE} are read"
            )
        with self._base_config.open() as stream:
            raw = b"".join(stream.blocks())
        try:
            config = ImageConfig.parse(raw)
        except InvalidManifest as error:
            if described.media_type in IMAGE_CONFIGS:
                raise
            raise InvalidManifest(
                f"not an image, but an artifact: its config is {described.media_type}, and cannot "
                f"be read as an image's ({error})"
            ) from error
        if len(config.diff_ids) != layers:
            raise InvalidManifest(
                f"config {described.digest}, $.rootfs.diff_ids: {len(config.diff_ids)} DiffIDs, "
                f"where the manifest has {layers} layers"
            )
        return config


def created_now() -> str:
    """Return SOURCE_DATE_EPOCH, or the time of now, as RFC 3339 in UTC.

    Raises ValueError where SOURCE_DATE_EPOCH is not a number of seconds.
    """
    text = os.environ.get("SOURCE_DATE_EPOCH", "")
    if text and not (text.isascii() and text.isdigit()):
        raise ValueError(f"SOURCE_DATE_EPOCH is not a number of seconds: {text[:40]!r}")
    seconds = int(text) if text else int(time.time())
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, ValueError, OSError):
        raise ValueError(f"SOURCE_DATE_EPOCH is out of range: {text[:40]}") from None


def update_annotations(
    annotations: Mapping[str, str], changes: Mapping[str, str | None]
) -> dict[str, str]:
    """Return annotations with changes; None takes one away."""
    changed = {**annotations, **changes}
    return {name: text for name, text in changed.items() if text is not None}


def _check_layer(layer: object) -> None:
    # Without asking for them: a stream's DiffID is not computed yet.
    if any(getattr_static(layer, name, None) is None for name in ("diff_id", "media_type", "open")):
        kind = type(layer).__name__
        raise TypeError(f"a layer is a StreamLayer or a StoredBlob; {kind} is not one")


def _append_layers(config: ImageConfig, additions: Iterable[_Addition]) -> ImageConfig:
    """Return a config with layers on top. Raises NotComputed."""
    return reduce(lambda last, one: last.append(one.layer.diff_id, one.history), additions, config)


def _rebase_history(
    under: ImageConfig, mine: ImageConfig, theirs: ImageConfig
) -> tuple[History, ...]:
    """Return the history of a new base, and of an image above its old one: `theirs`.

    Each is brought in step with its layers first: a base may have none.
    """
    new, whole, old = (
        align_history(config.history, len(config.diff_ids)) for config in (under, mine, theirs)
    )
    layers = len(under.diff_ids) + len(mine.diff_ids) - len(theirs.diff_ids)
    return align_history((*new, *whole[len(old) :]), layers)


def _place(descriptor: Descriptor) -> dict[str, Any]:
    """Return what of a descriptor changes with the bytes."""
    return {"digest": descriptor.digest, "size": descriptor.size, "data": None}
