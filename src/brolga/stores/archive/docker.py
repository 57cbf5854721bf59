"""Docker's archive: `manifest.json`, and the files that it names as images.

The config is kept byte for byte, and names the layers by their DiffIDs. Layers that are not
compressed are compressed on the way, so the manifest exists after they are read. If the archive
also has a manifest of the same config and all its blobs (Docker with containerd's store), that
manifest is used.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

from brolga.disk.layout import INDEX_FILE
from brolga.errors import InvalidManifest, excerpt
from brolga.images import Image, InMemoryBlob
from brolga.spec import mediatypes
from brolga.spec.config import ImageConfig
from brolga.spec.digest import Digest
from brolga.spec.json import Members, decode, encode, error_at, read_string
from brolga.spec.manifest import Manifest, convert_manifest
from brolga.spec.value import Value
from brolga.stores.archive.contents import Names, check_digest, choose, digest_from_name
from brolga.stores.archive.oci import ArchiveLayout

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from brolga.spec.blob import Layer
    from brolga.spec.platform import Platform
    from brolga.stores.archive.contents import Contents


MANIFEST: Final = "manifest.json"
_MEMBERS: Final = frozenset({"Config", "RepoTags", "Layers"})


class ManifestItem(Value):
    """An image in manifest.json: the names of its files, and its tags."""

    config: str
    tags: tuple[str, ...]
    layers: tuple[str, ...]

    @property
    def names(self) -> Names:
        """The names of the image: its tags, the name of its config, and its digest."""
        digest = digest_from_name(self.config, "json")
        return Names(self.tags, (self.config, *([str(digest)] if digest else ())))

    @classmethod
    def from_dict(cls, value: object, where: str) -> ManifestItem:
        """Read an object of manifest.json. Raises InvalidManifest."""
        members = Members(value, where)
        members.reject_case_variants(_MEMBERS)
        return cls(
            members.need("Config", read_string),
            members.each("RepoTags", read_string),
            members.each("Layers", read_string),
        )


def read_manifest_json(contents: Contents) -> dict[ManifestItem, Names]:
    """Read the images of manifest.json, and the names of each. Raises InvalidManifest."""
    if MANIFEST not in contents:
        raise InvalidManifest(
            "not a docker archive: manifest.json is missing (Docker before 1.10 wrote none)"
        )
    raw = contents.read(MANIFEST)
    try:
        # `decode` reads objects, and manifest.json is an array.
        document = decode(b'{"images":%b}' % raw, len(raw) + 16)
        if document.keys() != {"images"}:
            raise error_at("$", "more than one array")
        items = Members(document, "$").each("images", ManifestItem.from_dict)
    except InvalidManifest as error:
        raise InvalidManifest(f"manifest.json: {error}") from error
    return {item: item.names for item in items}


def encode_manifest_json(items: Iterable[ManifestItem]) -> bytes:
    """Return manifest.json as Docker and crane write it."""
    documents: Iterator[dict[str, object]] = (
        {"Config": item.config, "RepoTags": list(item.tags) or None, "Layers": list(item.layers)}
        for item in items
    )
    return b"[" + b",".join(map(encode, documents)) + b"]"


def docker_image(contents: Contents, name: str, platform: Platform | None = None) -> Image:
    """Return an image of the archive; "" is the only one. `platform` chooses one of several."""

    def platforms(item: ManifestItem) -> tuple[Platform, ...]:
        return (ImageConfig.parse(contents.find(item.config, MANIFEST).data()).platform,)

    item = choose(read_manifest_json(contents), name, platforms, platform)
    raw = contents.find(item.config, MANIFEST).data()
    if (expected := digest_from_name(item.config, "json")) is not None:
        actual = Digest.of(raw, expected.algorithm)
        check_digest(f"the config {excerpt(item.config)}", actual, expected)
    if INDEX_FILE in contents:
        # Docker 25.0 wrote an invalid index.json (moby/moby#47210); it is not needed.
        with suppress(InvalidManifest):
            original = ArchiveLayout(contents).manifest_of(Digest.of(raw))
            if original is not None:
                return original
    config = ImageConfig.parse(raw)
    if len(config.diff_ids) != len(item.layers):
        raise InvalidManifest(
            f"manifest.json has {len(item.layers)} layers of {excerpt(item.config)}, which has "
            f"{len(config.diff_ids)}"
        )
    layers = _layers(contents, item.layers, config.diff_ids)
    # Docker has no media type for zstd.
    is_oci = any(layer.media_type == mediatypes.OCI_LAYER_ZSTD for layer in layers)
    blob = InMemoryBlob(raw, mediatypes.OCI_CONFIG if is_oci else mediatypes.DOCKER_CONFIG)
    media_type = mediatypes.OCI_MANIFEST if is_oci else mediatypes.DOCKER_MANIFEST
    return _DockerImage(Manifest.new(blob.descriptor, (), media_type=media_type), blob, layers)


class _DockerImage(Image):
    """An image with a known config, whose layers have descriptors once they are read."""

    @property
    def manifest(self) -> Manifest:
        """The manifest with every layer. Raises NotComputed until all layers are read."""
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


def _layers(
    contents: Contents, paths: tuple[str, ...], diff_ids: tuple[Digest, ...]
) -> tuple[Layer, ...]:
    """Return the layers; a file that is named twice is one layer twice."""
    known: dict[object, Layer] = {}
    layers = []
    for path, diff_id in zip(paths, diff_ids, strict=True):
        entry = contents.find(path, MANIFEST)
        key = id(entry), diff_id
        if key not in known:
            known[key] = entry.layer(diff_id)
        layers.append(known[key])
    return tuple(layers)
