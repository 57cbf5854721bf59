"""mediatypes.py: the names, letter by letter, and the table of layers."""

import re
from typing import Any

import pytest

from brolga.spec import mediatypes
from brolga.spec.descriptor import Descriptor
from brolga.spec.digest import Digest

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


def test_all_is_sorted_and_is_what_is_published() -> None:
    """Every constant is exported, and none is missing from the published list."""
    assert mediatypes.__all__ == sorted(mediatypes.__all__)
    assert set(mediatypes.__all__) == {
        "STREAM_BY_COMPRESSION",
        "UNKNOWN_ARTIFACT",
        "compression_of_media_type",
        *PUBLISHED,
        "check_media_type",
        "COMPRESSION_BY_LAYER",
        "DOCKER_BY_OCI",
        "ENCRYPTED",
        "IMAGE_CONFIGS",
        "LAYER_BY_COMPRESSION",
        "NONDISTRIBUTABLE",
    }


@pytest.mark.parametrize(("name", "value"), PUBLISHED.items())
def test_a_media_type_is_spelled_as_it_is_published(name: str, value: str) -> None:
    """'The following media types identify the formats described here' (media-types.md)."""
    assert getattr(mediatypes, name) == value
    assert re.fullmatch(r"application/vnd\.(?:oci|docker)\.[a-z0-9.+]+", value)


@pytest.mark.parametrize("value", PUBLISHED.values())
def test_a_descriptor_takes_every_media_type(value: str) -> None:
    """'Values MUST comply with RFC 6838' (descriptor.md, Properties)."""
    assert Descriptor(value, Digest.of(b""), 0).media_type == value


def test_the_table_names_the_layer_of_each_compression() -> None:
    """'tar', 'tar+gzip' and 'tar+zstd' are the layers of the spec (layer.md)."""
    assert dict(mediatypes.LAYER_BY_COMPRESSION) == {
        "gzip": "application/vnd.oci.image.layer.v1.tar+gzip",
        "zstd": "application/vnd.oci.image.layer.v1.tar+zstd",
        "none": "application/vnd.oci.image.layer.v1.tar",
    }


def test_docker_has_its_own_names_but_none_for_zstd() -> None:
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


def test_a_layer_s_name_says_how_it_is_compressed() -> None:
    """'tar', 'tar+gzip', 'tar+zstd' (layer.md); Docker's end with `.tar` or `.tar.gzip`."""
    layers = {one for one in PUBLISHED.values() if ".tar" in one}
    assert {
        one: re.split("[+.]", one)[-1].replace("tar", "none") for one in layers
    } == mediatypes.COMPRESSION_BY_LAYER


def test_what_is_not_to_be_distributed_says_so_in_its_name() -> None:
    """'nondistributable' of OCI (layer.md), 'foreign' of Docker."""
    named = {name for name in PUBLISHED.values() if "nondistributable" in name or "foreign" in name}
    assert named == mediatypes.NONDISTRIBUTABLE


@pytest.mark.parametrize("table", [mediatypes.LAYER_BY_COMPRESSION, mediatypes.DOCKER_BY_OCI])
def test_no_table_can_be_changed(table: Any) -> None:
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
def test_a_media_type_names_how_the_bytes_are_compressed(media_type: str, compression: str) -> None:
    """By OCI's and Docker's names of layers, or by its suffix (RFC 6839)."""
    assert mediatypes.compression_of_media_type(media_type) == compression
