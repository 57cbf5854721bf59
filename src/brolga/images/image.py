"""Images as values: lazy and immutable; a change returns another image.

An image is what was read (a manifest, a config, layers) and the changes since. Manifest and config
are computed when they are requested: until a stream was read, they raise NotComputed. An image
without changes has the very bytes that were read.
"""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from functools import reduce
from typing import TYPE_CHECKING, Any

from brolga.errors import BrolgaError, InvalidManifest, LayerError
from brolga.images.blobs import InMemoryBlob, StoredBlob
from brolga.spec import mediatypes
from brolga.spec.config import History, ImageConfig, align_history
from brolga.spec.json import MAX_SIZE, update_members
from brolga.spec.manifest import Manifest, convert_manifest
from brolga.spec.platform import DEFAULT_PLATFORM, Platform
from brolga.spec.value import Value, field, replace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from brolga.spec.blob import Blob, Layer
    from brolga.spec.descriptor import Descriptor
    from brolga.spec.digest import Digest
    from brolga.spec.reference import Repository
    from brolga.stream.spool import SpoolChoice


class _Addition(Value):
    """An appended layer, and its entry in the config's history."""

    layer: Layer
    history: History


class Image(Value, eq=False):
    """A manifest, its config and its layers, read or to be computed (GGCR's `v1.Image`).

    Make one with `Image.empty` or `Client.image`; `append`, `with_config`, `with_annotations`,
    `with_subject`, `rebase` and `flatten` return others. An artifact is an image with another kind
    of config.
    """

    _base: Manifest
    _base_config: Blob
    _base_layers: tuple[Blob, ...]
    _additions: tuple[_Addition, ...] = ()
    _edits: tuple[Callable[[ImageConfig], ImageConfig], ...] = ()
    # The config once it was read, or why it cannot be; shared with the images made from this one.
    _memo: list[ImageConfig | BrolgaError] = field(default_factory=list, repr=False)

    @classmethod
    def empty(cls, platform: Platform = DEFAULT_PLATFORM, *, docker: bool = False) -> Image:
        """Return an image without layers, with OCI's media types or Docker's."""
        media_type = mediatypes.DOCKER_CONFIG if docker else mediatypes.OCI_CONFIG
        config = InMemoryBlob(ImageConfig.empty(platform).raw, media_type)
        manifest = Manifest.new(
            config.descriptor,
            (),
            media_type=mediatypes.DOCKER_MANIFEST if docker else mediatypes.OCI_MANIFEST,
        )
        return cls(manifest, config, ())

    @property
    def layers(self) -> tuple[Blob, ...]:
        """The layers, the lowest first."""
        return (*self._base_layers, *(addition.layer for addition in self._additions))

    @property
    def mount_sources(self) -> set[Repository]:
        """The repositories that have blobs of the image."""
        blobs = (self._base_config, *self.layers)
        return {
            blob.mount_source
            for blob in blobs
            if isinstance(blob, StoredBlob) and blob.mount_source
        }

    @property
    def media_type(self) -> str:
        """The manifest's media type. Docker's becomes OCI's if a layer needs it."""
        read = (layer.media_type for layer in self._base.layers)
        added = (addition.layer.media_type for addition in self._additions)
        return mediatypes.detect_family(self._base.media_type, (*read, *added))

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
        """The config with every change and layer. Raises NotComputed, and as `load_config`."""
        config = reduce(lambda config, edit: edit(config), self._edits, self.load_config())
        return _append_layers(config, self._additions)

    @property
    def config_blob(self) -> Blob:
        """The config as a blob to push. Raises what `config` raises."""
        if not self._additions and not self._edits:
            return self._base_config
        media_type = mediatypes.convert_media_type(self.media_type, self._base.config.media_type)
        return InMemoryBlob(self.config.raw, media_type)

    @property
    def manifest(self) -> Manifest:
        """The manifest with every change and layer. Raises what `config` raises."""
        if not self._additions and not self._edits:
            return self._base
        layers = (*self._base.layers, *(addition.layer.descriptor for addition in self._additions))
        blob = self.config_blob.descriptor
        config = replace(self._base.config, digest=blob.digest, size=blob.size, data=None)
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
        """The platform in the config that was read. Raises what `load_config` raises."""
        return self.load_config().platform

    def load_config(self) -> ImageConfig:
        """Read the stored config, once, and return it without later changes.

        Raises InvalidManifest if it is not an image's config, or has not a DiffID for each layer.
        """
        for config in self._memo:
            if isinstance(config, BrolgaError):
                raise config
            return config
        descriptor, layers = self._base.config, len(self._base_layers)
        if descriptor.size > MAX_SIZE:
            raise InvalidManifest(
                f"config: {descriptor.size} bytes, but at most {MAX_SIZE} are read"
            )
        with self._base_config.open() as stream:
            raw = b"".join(stream)
        try:
            config = ImageConfig.parse(raw)
        except InvalidManifest as error:
            if descriptor.media_type in mediatypes.IMAGE_CONFIGS:
                raise
            raise InvalidManifest(
                f"not an image, but an artifact: its config is {descriptor.media_type}, and cannot "
                f"be read as an image's ({error})"
            ) from error
        if len(config.diff_ids) != layers:
            raise InvalidManifest(
                f"config {descriptor.digest}, $.rootfs.diff_ids: {len(config.diff_ids)} DiffIDs, "
                f"but the manifest has {layers} layers"
            )
        self._memo.append(config)
        return config

    def preload(self) -> None:
        """Read the stored config now: no property does it later. They raise its error, if any."""
        try:
            self.load_config()
        except BrolgaError as error:
            self._memo[:] = [error]

    def append(self, *layers: Layer, created_by: str = "", comment: str = "") -> Image:
        """Return the image with `layers` on top, without reading them.

        `created_by` and `comment` go into the config's history, with SOURCE_DATE_EPOCH or the
        present time. Raises TypeError for an object that is not a layer.
        """
        from inspect import getattr_static  # slow to import

        created = creation_time()
        history = History(created=created, created_by=created_by, comment=comment)
        for layer in layers:
            # A static lookup, since a stream's DiffID is not computed yet.
            names = ("diff_id", "media_type", "open")
            if any(getattr_static(layer, name, None) is None for name in names):
                kind = type(layer).__name__
                raise TypeError(f"a layer is a StreamLayer or a StoredBlob; {kind} is not one")
        added = tuple(_Addition(layer, history) for layer in layers)
        edits = (*self._edits, lambda config: config.replace(created=created)) if added else ()
        return replace(self, _additions=self._additions + added, _edits=edits or self._edits)

    def mutate_config(self, edit: Callable[[ImageConfig], ImageConfig]) -> Image:
        """Return the image with its config changed by `edit`, below appended layers, on demand."""
        self._require_config("it cannot be changed")
        return replace(self, _edits=(*self._edits, edit))

    def with_config(self, **changes: Any) -> Image:  # noqa: ANN401 - any JSON value
        """Return the image with changed Env, Cmd, Labels, … (config.md); None removes a member."""
        return self.mutate_config(lambda config: config.replace(config=changes))

    def with_annotations(self, annotations: Mapping[str, str | None]) -> Image:
        """Return the image with these annotations added to its manifest's; None removes one."""
        updated = update_members(self._base.annotations, annotations)
        return replace(self, _base=self._base.replace(annotations=updated))

    def with_subject(self, subject: Descriptor | None) -> Image:
        """Return the image as a referrer of `subject` (distribution-spec, Referrers)."""
        return replace(self, _base=self._base.replace(subject=subject))

    def rebase(self, old_base: Image, new_base: Image) -> Image:
        """Return the image with the layers of `new_base` in place of those of `old_base`.

        Execution parameters stay; the platform and the lower history are the new base's. Raises
        LayerError if the image is not built on `old_base`, NotComputed if a base has layers that
        have not been streamed.
        """
        self._require_config("it has no base")
        old, new = old_base.config, new_base.config
        count = len(old.diff_ids)
        # Some layers of the old base may have been appended here.
        inside = max(0, count - len(self._base_layers))
        mine = _append_layers(self.load_config(), self._additions[:inside])
        if mine.diff_ids[:count] != old.diff_ids:
            raise LayerError("the image is not built on the old base: its lower layers are others")
        whole, replaced, lower = (
            align_history(config.history, len(config.diff_ids)) for config in (mine, old, new)
        )
        diff_ids = (*new.diff_ids, *mine.diff_ids[count:])
        config = new.replace(
            config={**dict.fromkeys(new.config), **mine.config},
            author=mine.author,
            created=creation_time(),
            diff_ids=diff_ids,
            history=align_history((*lower, *whole[len(replaced) :]), len(diff_ids)),
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
        spool: SpoolChoice = False,
    ) -> Image:
        """Return the image with one layer of what all of its layers show together.

        The layer is a stream, made while it is pushed. An entry on which readers differ is reported
        to `on_warning` as one line of text, by default as a LayerWarning; with `strict` it is a
        LayerError. `spool` is that of `merge_layers`. Reads the config. Raises LayerError if a
        layer can be read only once.
        """
        from brolga.images.flatten import flatten_layers

        self._require_config("its files are not layers to be put together")
        config = self.config.replace(diff_ids=(), history=(), created=creation_time())
        blob = InMemoryBlob(config.raw, self._base.config.media_type)
        base = self._base.replace(config=blob.descriptor, layers=[])
        bare = Image(base, blob, ())
        layer = flatten_layers(self.layers, strict=strict, on_warning=on_warning, spool=spool)
        return bare.append(layer, created_by=created_by)

    def _require_config(self, reason: str) -> None:
        """Do nothing. An artifact raises LayerError, which says the reason."""


def creation_time() -> str:
    """Return SOURCE_DATE_EPOCH, or now, as RFC 3339 in UTC. Raises ValueError if it is wrong."""
    text = os.environ.get("SOURCE_DATE_EPOCH", "")
    if text and not (text.isascii() and text.isdigit()):
        raise ValueError(f"SOURCE_DATE_EPOCH is not a number of seconds: {text[:40]!r}")
    seconds = int(text) if text else int(time.time())
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, ValueError, OSError):
        raise ValueError(f"SOURCE_DATE_EPOCH is out of range: {text[:40]}") from None


def _append_layers(config: ImageConfig, additions: Iterable[_Addition]) -> ImageConfig:
    """Return a config with layers on top. Raises NotComputed."""
    for addition in additions:
        config = config.append(addition.layer.diff_id, addition.history)
    return config
