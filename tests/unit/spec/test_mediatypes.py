"""mediatypes.py: the published names, the tables, and the families of media types."""

import re
from typing import Any

import pytest

from brolga.spec import mediatypes
from brolga.spec.descriptor import Descriptor
from brolga.spec.digest import Digest
from brolga.spec.manifest import Manifest, convert_manifest, mixed_media_types
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
    convert_media_type,
    detect_family,
)

# Quoted from media-types.md of image-spec 1.1 and from Docker's manifest-v2-2.md.
PUBLISHED = {
    "OCI_DESCRIPTOR": "application/vnd.oci.descriptor.v1+json",
    "OCI_LAYOUT_HEADER": "application/vnd.oci.layout.header.v1+json",
    "OCI_INDEX": "application/vnd.oci.image.index.v1+json",
    "OCI_MANIFEST": "application/vnd.oci.image.manifest.v1+json",
    "OCI_CONFIG": "application/vnd.oci.image.config.v1+json",
    "OCI_LAYER": "application/vnd.oci.image.layer.v1.tar",
    "OCI_LAYER_GZIP": "application/vnd.oci.image.layer.v1.tar+gzip",
    "OCI_LAYER_ZSTD": "application/vnd.oci.image.layer.v1.tar+zstd",
    "OCI_EMPTY": "application/vnd.oci.empty.v1+json",
    "OCI_NONDISTRIBUTABLE_LAYER": "application/vnd.oci.image.layer.nondistributable.v1.tar",
    "OCI_NONDISTRIBUTABLE_LAYER_GZIP": (
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
    ),
    "OCI_NONDISTRIBUTABLE_LAYER_ZSTD": (
        "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd"
    ),
    "DOCKER_MANIFEST": "application/vnd.docker.distribution.manifest.v2+json",
    "DOCKER_MANIFEST_LIST": "application/vnd.docker.distribution.manifest.list.v2+json",
    "DOCKER_CONFIG": "application/vnd.docker.container.image.v1+json",
    "DOCKER_LAYER": "application/vnd.docker.image.rootfs.diff.tar",
    "DOCKER_LAYER_GZIP": "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "DOCKER_FOREIGN_LAYER": "application/vnd.docker.image.rootfs.foreign.diff.tar",
    "DOCKER_FOREIGN_LAYER_GZIP": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
    "DOCKER_SCHEMA_1": "application/vnd.docker.distribution.manifest.v1+json",
    "DOCKER_SCHEMA_1_SIGNED": "application/vnd.docker.distribution.manifest.v1+prettyjws",
}


def test_constants_are_those_published() -> None:
    """Every media type is a constant, and no other one is."""
    constants = {
        name: value
        for name, value in vars(mediatypes).items()
        if not name.startswith("_") and isinstance(value, str) and "/vnd." in value
    }
    assert constants == {**PUBLISHED, "UNKNOWN_ARTIFACT": "application/vnd.unknown.artifact.v1"}


@pytest.mark.parametrize(("name", "value"), PUBLISHED.items())
def test_constant_has_published_value(name: str, value: str) -> None:
    """'The following media types identify the formats described here' (media-types.md)."""
    assert getattr(mediatypes, name) == value
    assert re.fullmatch(r"application/vnd\.(?:oci|docker)\.[a-z0-9.+]+", value)


@pytest.mark.parametrize("value", PUBLISHED.values())
def test_descriptor_accepts_every_media_type(value: str) -> None:
    """'Values MUST comply with RFC 6838' (descriptor.md, Properties)."""
    assert Descriptor(value, Digest.of(b""), 0).media_type == value


def test_layer_by_compression_has_layers_of_spec() -> None:
    """'tar', 'tar+gzip' and 'tar+zstd' are the layers of the spec (layer.md)."""
    assert dict(mediatypes.LAYER_BY_COMPRESSION) == {
        "gzip": "application/vnd.oci.image.layer.v1.tar+gzip",
        "zstd": "application/vnd.oci.image.layer.v1.tar+zstd",
        "none": "application/vnd.oci.image.layer.v1.tar",
    }


def test_docker_by_oci_has_no_zstd() -> None:
    """Docker's "Image Manifest Version 2, Schema 2", Media Types."""
    names = dict(mediatypes.DOCKER_BY_OCI)
    assert names == {
        getattr(mediatypes, f"OCI_{oci}"): getattr(mediatypes, f"DOCKER_{docker}")
        for oci, docker in (
            ("MANIFEST", "MANIFEST"),
            ("CONFIG", "CONFIG"),
            ("LAYER", "LAYER"),
            ("LAYER_GZIP", "LAYER_GZIP"),
            ("NONDISTRIBUTABLE_LAYER", "FOREIGN_LAYER"),
            ("NONDISTRIBUTABLE_LAYER_GZIP", "FOREIGN_LAYER_GZIP"),
        )
    }
    assert {mediatypes.OCI_CONFIG, mediatypes.DOCKER_CONFIG} == mediatypes.IMAGE_CONFIGS


def test_compression_by_layer_agrees_with_suffix() -> None:
    """'tar', 'tar+gzip', 'tar+zstd' (layer.md); Docker's end with `.tar` or `.tar.gzip`."""
    layers = {media_type for media_type in PUBLISHED.values() if ".tar" in media_type}
    assert {
        media_type: re.split("[+.]", media_type)[-1].replace("tar", "none") for media_type in layers
    } == mediatypes.COMPRESSION_BY_LAYER


def test_nondistributable_layers_are_named_so() -> None:
    """'nondistributable' of OCI (layer.md), 'foreign' of Docker."""
    named = {name for name in PUBLISHED.values() if "nondistributable" in name or "foreign" in name}
    assert named == mediatypes.NONDISTRIBUTABLE


@pytest.mark.parametrize("table", [mediatypes.LAYER_BY_COMPRESSION, mediatypes.DOCKER_BY_OCI])
def test_tables_are_read_only(table: Any) -> None:
    """One importer cannot change what another pushes."""
    with pytest.raises(TypeError):
        table["gzip"] = "x"


@pytest.mark.parametrize(
    ("media_type", "compression"),
    [
        *mediatypes.COMPRESSION_BY_LAYER.items(),
        *((name, how) for how, name in mediatypes.STREAM_BY_COMPRESSION.items()),
        ("application/sql+zstd", "zstd"),
        ("application/gzip", "none"),  # a file that is a gzip file
        ("application/zstd", "none"),
        ("application/spdx+json", "none"),
        ("gzip/x", "none"),
    ],
)
def test_compression_of_media_type_uses_table_or_suffix(media_type: str, compression: str) -> None:
    """By OCI's and Docker's names of layers, or by its suffix (RFC 6839)."""
    assert mediatypes.compression_of_media_type(media_type) == compression


# Families ----------------------------------------------------------------------------------------

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
def test_convert_manifest_renames_layers_or_changes_to_oci(
    kind: tuple[str, str], layers: list[str], wanted: tuple[str, str], names: tuple[str, ...]
) -> None:
    """If Docker has no name for a layer, the image becomes OCI's, as in containers/image."""
    manifest = made(kind)
    parts = [part(layer) for layer in layers]
    changed = convert_manifest(manifest, manifest.config, parts)
    assert types(changed) == (wanted, names)
    assert detect_family(kind[0], layers) == wanted[0]
    assert [layer.digest for layer in changed.layers] == [part.digest for part in parts]
    assert all(layer.annotations == {"a": "b"} for layer in changed.layers)
    assert list(mixed_media_types(changed)) == []


def test_convert_manifest_of_one_family_keeps_bytes() -> None:
    """A manifest that is not changed keeps its digest."""
    for kind, layer in ((DOCKER, DOCKER_LAYER), (OCI, OCI_LAYER)):
        manifest = made(kind, layer, OTHER)
        assert convert_manifest(manifest, manifest.config, manifest.layers) is manifest
        assert convert_media_type(manifest.media_type, layer) == layer


def test_mixed_media_types_yields_parts_of_other_family() -> None:
    """An artifact's parts may be of any type."""
    mixed = made((DOCKER_MANIFEST, OCI_CONFIG), OCI_LAYER_GZIP, DOCKER_LAYER, OCI_LAYER_ZSTD, OTHER)
    assert [part.media_type for part in mixed_media_types(mixed)] == [
        OCI_CONFIG,
        OCI_LAYER_GZIP,
        OCI_LAYER_ZSTD,
    ]
    mixed = made((OCI_MANIFEST, DOCKER_CONFIG), DOCKER_LAYER, OCI_LAYER, OTHER)
    assert [part.media_type for part in mixed_media_types(mixed)] == [DOCKER_CONFIG, DOCKER_LAYER]
    assert list(mixed_media_types(made((OCI_MANIFEST, OCI_EMPTY), DOCKER_LAYER))) == []
