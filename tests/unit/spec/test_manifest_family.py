"""manifest/family.py: the media types of a manifest are OCI's, or Docker's."""

from __future__ import annotations

import pytest

from brolga.spec.descriptor import Descriptor
from brolga.spec.digest import Digest
from brolga.spec.manifest import (
    Manifest,
    convert_manifest,
    convert_media_type,
    detect_family,
    mixed_media_types,
)
from brolga.spec.mediatypes import (
    DOCKER_CONFIG,
    DOCKER_FOREIGN_LAYER,
    DOCKER_LAYER,
    DOCKER_LAYER_GZIP,
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_EMPTY,
    OCI_LAYER,
    OCI_LAYER_GZIP,
    OCI_LAYER_ZSTD,
    OCI_MANIFEST,
    OCI_NONDISTRIBUTABLE_LAYER,
    OCI_NONDISTRIBUTABLE_LAYER_ZSTD,
)

OTHER = "application/wasm"
DOCKER, OCI = (DOCKER_MANIFEST, DOCKER_CONFIG), (OCI_MANIFEST, OCI_CONFIG)


def part(media_type: str) -> Descriptor:
    """Return a descriptor with something that must stay."""
    return Descriptor(media_type, Digest.of(media_type.encode()), 1, {"a": "b"})


def made(kind: tuple[str, str], *layers: str) -> Manifest:
    """Return a manifest of a type, with a config and layers of some types."""
    media_type, config = kind
    layered = map(part, layers)
    return Manifest.new(part(config), layered, media_type=media_type, artifact_type=OTHER)


def types(manifest: Manifest) -> tuple[tuple[str, str], tuple[str, ...]]:
    """Return all media types of a manifest."""
    layers = tuple(layer.media_type for layer in manifest.layers)
    return (manifest.media_type, manifest.config.media_type), layers


@pytest.mark.parametrize(
    ("kind", "layers", "wanted", "names"),
    [
        (OCI, [DOCKER_LAYER_GZIP, OCI_LAYER_ZSTD], OCI, (OCI_LAYER_GZIP, OCI_LAYER_ZSTD)),
        (OCI, [DOCKER_FOREIGN_LAYER, OTHER], OCI, (OCI_NONDISTRIBUTABLE_LAYER, OTHER)),
        ((OCI_MANIFEST, DOCKER_CONFIG), [DOCKER_LAYER], OCI, (OCI_LAYER,)),
        (DOCKER, [OCI_LAYER_GZIP, DOCKER_LAYER], DOCKER, (DOCKER_LAYER_GZIP, DOCKER_LAYER)),
        (DOCKER, [DOCKER_LAYER, OTHER], DOCKER, (DOCKER_LAYER, OTHER)),
        (DOCKER, [DOCKER_LAYER, OCI_LAYER_ZSTD], OCI, (OCI_LAYER, OCI_LAYER_ZSTD)),
        (DOCKER, [OCI_NONDISTRIBUTABLE_LAYER_ZSTD], OCI, (OCI_NONDISTRIBUTABLE_LAYER_ZSTD,)),
        (DOCKER, [f"{OCI_LAYER_GZIP}+encrypted"], OCI, (f"{OCI_LAYER_GZIP}+encrypted",)),
    ],
)
def test_layers_take_the_names_of_their_manifest_s_family(
    kind: tuple[str, str], layers: list[str], wanted: tuple[str, str], names: tuple[str, ...]
) -> None:
    """What Docker has no name for makes the image OCI's, as containers/image converts it."""
    manifest = made(kind)
    parts = [part(layer) for layer in layers]
    changed = convert_manifest(manifest, manifest.config, parts)
    assert types(changed) == (wanted, names)
    assert detect_family(kind[0], layers) == wanted[0]
    assert [layer.digest for layer in changed.layers] == [one.digest for one in parts]
    assert all(layer.annotations == {"a": "b"} for layer in changed.layers)
    assert list(mixed_media_types(changed)) == []


def test_a_manifest_of_one_family_keeps_its_bytes() -> None:
    """What is not changed keeps its digest."""
    for kind, layer in ((DOCKER, DOCKER_LAYER), (OCI, OCI_LAYER)):
        manifest = made(kind, layer, OTHER)
        assert convert_manifest(manifest, manifest.config, manifest.layers) is manifest
        assert convert_media_type(manifest.media_type, layer) == layer


def test_strangers_are_the_parts_of_the_other_family() -> None:
    """An artifact's may be of any type."""
    mixed = made((DOCKER_MANIFEST, OCI_CONFIG), OCI_LAYER_GZIP, DOCKER_LAYER, OCI_LAYER_ZSTD, OTHER)
    assert [one.media_type for one in mixed_media_types(mixed)] == [
        OCI_CONFIG,
        OCI_LAYER_GZIP,
        OCI_LAYER_ZSTD,
    ]
    mixed = made((OCI_MANIFEST, DOCKER_CONFIG), DOCKER_LAYER, OCI_LAYER, OTHER)
    assert [one.media_type for one in mixed_media_types(mixed)] == [DOCKER_CONFIG, DOCKER_LAYER]
    assert list(mixed_media_types(made((OCI_MANIFEST, OCI_EMPTY), DOCKER_LAYER))) == []
