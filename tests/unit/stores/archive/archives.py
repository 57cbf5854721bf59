"""Archives as other tools write them, and a store in memory."""

from __future__ import annotations

import gzip
import hashlib
import json
import tarfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.tars import entry, symlink, tar

from brolga.errors import NotComputed
from brolga.spec.config import ImageConfig
from brolga.spec.digest import Digest
from brolga.spec.manifest import Manifest
from brolga.stores.archive import ArchiveStream
from brolga.stores.push import push

if TYPE_CHECKING:
    from brolga.images import Tree
    from brolga.spec.blob import Blob
    from brolga.spec.descriptor import Descriptor
    from brolga.spec.index import Index
    from brolga.spec.platform import Platform
    from brolga.stores.store import WriteStore
    from brolga.stream.sources import Source

Member = tuple[tarfile.TarInfo, bytes]

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
REF = "org.opencontainers.image.ref.name"
LAYERS = (tar(entry("a", b"a" * 5000)), tar(entry("b", b"b" * 100)))
"""Two layers, not compressed."""


@dataclass
class Store:
    """A store in memory that records the digests that were `pushed`, and those that were `read`."""

    blobs: dict[str, bytes] = field(default_factory=dict)
    documents: dict[str, Manifest | Index] = field(default_factory=dict)
    pushed: list[str] = field(default_factory=list)
    read: list[str] = field(default_factory=list)

    def push(self, blob: Blob) -> Descriptor:
        try:
            known = str(blob.descriptor.digest)
        except NotComputed:
            known = ""
        if known not in self.blobs:
            with blob.open() as stream:
                data = b"".join(bytes(block) for block in stream.blocks())
            known = str(blob.descriptor.digest)
            assert known == str(Digest.of(data, blob.descriptor.digest.algorithm))
            assert blob.descriptor.size == len(data)
            self.read.append(known)
            self.blobs[known] = data
        self.pushed.append(known)
        return blob.descriptor

    def exists(self, descriptor: Descriptor, tag: str = "") -> bool:
        if tag:
            found = self.find(tag)
            return found is not None and found.digest == descriptor.digest
        return any(one.digest == descriptor.digest for one in self.documents.values())

    def find(self, tag: str) -> Descriptor | None:
        return self.documents[tag].descriptor if tag in self.documents else None

    def push_manifest(self, manifest: Manifest | Index, *names: str) -> None:
        self.documents.update(dict.fromkeys(names, manifest))


def stream_archive(
    source: Source,
    target: WriteStore,
    *,
    form: str = "",
    name: str = "",
    platform: Platform | None = None,
    **options: Any,
) -> Tree:
    """Stream an archive into a store; return one of its images."""
    return ArchiveStream(source, form, **options).stream_into(target).tree(name, platform)


def stream(store: Store, *members: Member, **options: Any) -> Tree:
    """Stream an archive into a store, and push the rest of its image as `tag`.

    The blocks of 700 bytes fit no border of the tar.
    """
    data = tar(*members)
    blocks = [data[start : start + 700] for start in range(0, len(data), 700)]
    tree = stream_archive(blocks, store, **options)
    push(store, tree, "tag")
    return tree


def layers_of(store: Store, name: str = "tag") -> tuple[bytes, ...]:
    """Return the uncompressed layers of an image, after checks of its media types and DiffIDs."""
    manifest = store.documents[name]
    assert isinstance(manifest, Manifest)
    diff_ids = ImageConfig.parse(store.blobs[str(manifest.config.digest)]).diff_ids
    layers = []
    for layer in manifest.layers:
        data = store.blobs[str(layer.digest)]
        is_gzip = data.startswith(b"\x1f\x8b")
        assert layer.media_type.endswith("gzip") == is_gzip
        assert layer.size == len(data)
        layers.append(gzip.decompress(data) if is_gzip else data)
    assert diff_ids == tuple(map(Digest.of, layers))
    return tuple(layers)


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def described(media_type: str, data: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": f"sha256:{sha(data)}", "size": len(data)}


def config(layers: tuple[bytes, ...] = LAYERS, **members: object) -> bytes:
    """Return a config with spaces, which brolga never writes."""
    return json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{sha(one)}" for one in layers]},
            **members,
        },
        indent=1,
    ).encode()


def manifest_json(*images: tuple[str, list[str], list[str]]) -> Member:
    document = [
        {"Config": name, "RepoTags": tags or None, "Layers": layers}
        for name, tags, layers in images
    ]
    return entry("manifest.json", json.dumps(document).encode())


def docker_old(layers: tuple[bytes, ...] = LAYERS, tag: str = "app:v1") -> list[Member]:
    """Docker before 25: a directory for each layer, and a link for a repeated layer."""
    members: list[Member] = [entry(f"{sha(config(layers))}.json", config(layers))]
    first: dict[bytes, str] = {}
    names = []
    for number, layer in enumerate(layers):
        directory = f"{number:064x}"
        names.append(f"{directory}/layer.tar")
        members += [
            entry(f"{directory}/"),
            entry(f"{directory}/VERSION", b"1.0"),
            entry(f"{directory}/json", b'{"id":"x"}'),
            symlink(names[-1], f"../{first[layer]}/layer.tar")
            if layer in first
            else entry(names[-1], layer),
        ]
        first.setdefault(layer, directory)
    return [
        *members,
        manifest_json((f"{sha(config(layers))}.json", [tag], names)),
        entry("repositories", b'{"app":{"v1":"x"}}'),
    ]


def docker_new(layers: tuple[bytes, ...] = LAYERS, tag: str = "app:v1") -> list[Member]:
    """Docker 25 and later: an OCI layout with uncompressed layers, and manifest.json."""
    raw = config(layers)
    return [
        *oci(layers, tag.rpartition(":")[2]),
        manifest_json(
            (f"blobs/sha256/{sha(raw)}", [tag], [f"blobs/sha256/{sha(one)}" for one in layers])
        ),
    ]


def skopeo(layers: tuple[bytes, ...] = LAYERS, tag: str = "app:v1") -> list[Member]:
    """Skopeo and podman: layers named by their digest, and old names as links to them."""
    raw = config(layers)
    files = {f"{sha(one)}.tar": one for one in layers}
    return [
        *(entry(name, data) for name, data in files.items()),
        entry(f"{sha(raw)}.json", raw),
        *(symlink(f"{n:064x}/layer.tar", f"../{name}") for n, name in enumerate(files)),
        manifest_json((f"{sha(raw)}.json", [tag], [f"{sha(one)}.tar" for one in layers])),
    ]


def crane(layers: tuple[bytes, ...] = LAYERS, tag: str = "app:v1") -> list[Member]:
    """Crane: compressed layers named by their digest."""
    raw = config(layers)
    packed = [gzip.compress(one, mtime=0) for one in layers]
    return [
        entry(f"sha256:{sha(raw)}", raw),
        *(entry(f"{sha(one)}.tar.gz", one) for one in packed),
        manifest_json((f"sha256:{sha(raw)}", [tag], [f"{sha(one)}.tar.gz" for one in packed])),
    ]


def blob(data: bytes) -> Member:
    return entry(f"blobs/sha256/{sha(data)}", data)


def oci(
    layers: tuple[bytes, ...] = LAYERS, name: str = "v1", *, packed: bool = False
) -> list[Member]:
    """Return an image layout of one image, blobs first; its layers are gzip if `packed`."""
    parts = [gzip.compress(one, mtime=0) if packed else one for one in layers]
    raw, manifest = config(layers), oci_manifest(config(layers), parts)
    index = {**described(MANIFEST, manifest), "annotations": {REF: name}}
    return [*map(blob, dict.fromkeys([raw, *parts, manifest])), *oci_end(index)]


def oci_manifest(raw: bytes, parts: list[bytes], media_type: str = "") -> bytes:
    def kind(data: bytes) -> str:
        return media_type or (f"{LAYER}+gzip" if data.startswith(b"\x1f\x8b") else LAYER)

    return json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": described(CONFIG, raw),
            "layers": [described(kind(one), one) for one in parts],
        }
    ).encode()


def oci_index(*manifests: dict[str, Any]) -> bytes:
    return json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}).encode()


def oci_end(*manifests: dict[str, Any]) -> list[Member]:
    return [
        entry("index.json", oci_index(*manifests)),
        entry("oci-layout", b'{"imageLayoutVersion": "1.0.0"}'),
    ]


DOCKER_FORMS = {"old": docker_old, "new": docker_new, "skopeo": skopeo, "crane": crane}
