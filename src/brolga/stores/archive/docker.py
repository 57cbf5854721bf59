"""Docker's form of an archive: `manifest.json`, and the files that it names as images.

Knows what `docker save` wrote through the years, and what skopeo and crane write. Must not know
where the files are.

Strategy: the config is taken byte by byte, and names the layers by their DiffIDs. Layers that are
not compressed are compressed on the way, so the manifest is told when they were read. Where the
archive has a manifest of the same config and the very blobs that it names (Docker with containerd's
store), it is that one.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from brolga.disk.layout import INDEX_FILE
from brolga.errors import InvalidManifest, excerpt
from brolga.images import Image, InMemoryBlob
from brolga.spec.config import ImageConfig
from brolga.spec.digest import Digest
from brolga.spec.json import Members, decode, encode, read_text, wrong
from brolga.spec.manifest import Manifest, convert_manifest
from brolga.spec.mediatypes import (
    DOCKER_CONFIG,
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_LAYER_ZSTD,
    OCI_MANIFEST,
)
from brolga.stores.archive.contents import Names, check_digest, choose, claimed
from brolga.stores.archive.oci import Layout

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from brolga.spec.blob import Layer
    from brolga.spec.descriptor import Platform
    from brolga.stores.archive.contents import Contents

__all__ = ["MANIFEST", "SavedImage", "docker_image", "manifest_json", "saved_images"]

MANIFEST: Final = "manifest.json"
_MEMBERS: Final = frozenset({"Config", "RepoTags", "Layers"})


@dataclass(frozen=True)
class SavedImage:
    """What manifest.json says of an image: the names of its files, and its own."""

    config: str
    tags: tuple[str, ...]
    layers: tuple[str, ...]

    @property
    def names(self) -> Names:
        """How it can be named: by its tags, the name of its config, and its digest."""
        digest = claimed(self.config, "json")
        return Names(self.tags, (self.config, *([str(digest)] if digest else ())))

    @classmethod
    def from_dict(cls, value: object, where: str) -> SavedImage:
        """Read an object of manifest.json. Raises InvalidManifest."""
        members = Members(value, where)
        members.reject_case_variants(_MEMBERS)
        return cls(
            members.need("Config", read_text),
            members.each("RepoTags", read_text),
            members.each("Layers", read_text),
        )


def saved_images(contents: Contents) -> dict[SavedImage, Names]:
    """Read manifest.json: the images, and the names that each has. Raises InvalidManifest."""
    if MANIFEST not in contents:
        raise InvalidManifest(
            "no docker archive: manifest.json is missing (Docker before 1.10 wrote none)"
        )
    raw = contents.read(MANIFEST)
    try:
        # Documents are objects; this one is an array.
        document = decode(b'{"images":%b}' % raw, len(raw) + 16)
        if document.keys() != {"images"}:
            raise wrong("$", "more than one array")
        images = Members(document, "$").each("images", SavedImage.from_dict)
    except InvalidManifest as error:
        raise InvalidManifest(f"manifest.json: {error}") from error
    return {image: image.names for image in images}


def docker_image(contents: Contents, name: str, platform: Platform | None = None) -> Image:
    """Return an image of the archive; "" is the only one. `platform` chooses one of several.

    Raises ImageNotFound where there are more, PlatformNotFound, InvalidManifest where something is not
    there, and DigestMismatch where something is not what it is named.
    """

    def platforms(saved: SavedImage) -> tuple[Platform, ...]:
        return (ImageConfig.parse(contents.find(saved.config, MANIFEST).data()).platform,)

    saved = choose(saved_images(contents), name, platforms, platform)
    raw = contents.find(saved.config, MANIFEST).data()
    _check_config(saved.config, raw)
    original = _original(contents, Digest.of(raw))
    if original is not None:
        return original
    config = ImageConfig.parse(raw)
    if len(config.diff_ids) != len(saved.layers):
        raise InvalidManifest(
            f"manifest.json has {len(saved.layers)} layers of {excerpt(saved.config)}, which has "
            f"{len(config.diff_ids)}"
        )
    layers = _layers(contents, saved.layers, config.diff_ids)
    is_oci = any(layer.media_type == OCI_LAYER_ZSTD for layer in layers)  # Docker has no name of it
    blob = InMemoryBlob(raw, OCI_CONFIG if is_oci else DOCKER_CONFIG)
    media_type = OCI_MANIFEST if is_oci else DOCKER_MANIFEST
    return _SavedImage(Manifest.new(blob.descriptor, (), media_type=media_type), blob, layers)


def manifest_json(images: Iterable[SavedImage]) -> bytes:
    """Write manifest.json, as Docker and crane do."""
    documents: Iterator[dict[str, object]] = (
        {"Config": image.config, "RepoTags": list(image.tags) or None, "Layers": list(image.layers)}
        for image in images
    )
    return b"[" + b",".join(map(encode, documents)) + b"]"


class _SavedImage(Image):
    """An image whose config is told, and whose layers are described once they were read."""

    @property
    def manifest(self) -> Manifest:
        """The manifest with every layer. Raises NotComputed where one has not been read."""
        layers = [layer.descriptor for layer in self._base_layers]
        read = Image(
            convert_manifest(self._base, self._base.config, layers),
            self._base_config,
            self._base_layers,
            self._additions,
            self._edits,
            self._memo,
        )
        return read.manifest


def _original(contents: Contents, config: Digest) -> Image | None:
    """Return the image as its registry had it, where the archive is an OCI layout as well."""
    if INDEX_FILE in contents:
        # Docker 25.0 wrote an index.json that is none (moby/moby#47210); it is not needed.
        with suppress(InvalidManifest):
            return Layout(contents).manifest_of(config)
    return None


def _layers(
    contents: Contents, paths: tuple[str, ...], diff_ids: tuple[Digest, ...]
) -> tuple[Layer, ...]:
    """Return the layers; a file that is named twice is one layer twice."""
    found: dict[object, Layer] = {}
    layers = []
    for path, diff_id in zip(paths, diff_ids, strict=True):
        item = contents.find(path, MANIFEST)
        key = id(item), diff_id
        if key not in found:
            found[key] = item.layer(diff_id)
        layers.append(found[key])
    return tuple(layers)


def _check_config(path: str, raw: bytes) -> None:
    if (expected := claimed(path, "json")) is not None:
        check_digest(f"the config {excerpt(path)}", Digest.of(raw, expected.algorithm), expected)
