"""cli.digest: the digest that a name stands for."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.unit.cli.images import index, push

from brolga.client import Client
from brolga.spec.platform import Platform

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Embedded
    from tests.unit.cli.conftest import Brolga

AMD64, ARM64 = Platform("linux", "amd64"), Platform("linux", "arm64")


def test_the_digest_is_printed_alone_or_with_its_repository(
    brolga: Brolga, registry: Embedded
) -> None:
    """`--full-ref`: REPO@DIGEST."""
    repository = f"{registry.address}/a"
    digest = push(f"{repository}:v1", "layer")
    outcome = brolga("digest", f"{repository}:v1")
    assert (outcome.code, outcome.out, outcome.err) == (0, f"{digest}\n", "")
    full = f"{repository}@{digest}"
    assert brolga("digest", "--full-ref", f"{repository}:v1").out == f"{full}\n"
    with Client() as client:
        found = client.head(full)
    assert json.loads(brolga("digest", "--json", full).out) == {
        "ref": full,
        "digest": digest,
        "mediaType": found.media_type,
        "size": found.size,
    }


def test_of_an_index_it_is_the_index_s_or_an_image_s(brolga: Brolga, registry: Embedded) -> None:
    """`--platform` chooses."""
    name = f"{registry.address}/a"
    digest = index(name, AMD64, ARM64)
    with Client() as client:
        arm = client.image(name, ARM64).digest
    assert brolga("digest", name).out == f"{digest}\n"
    assert brolga("digest", "--platform", "linux/arm64", name).out == f"{arm}\n"


def test_what_is_not_there_is_not_found(brolga: Brolga, registry: Embedded) -> None:
    """Exit code 3."""
    outcome = brolga("digest", f"{registry.address}/a")
    assert (outcome.code, outcome.out) == (3, "")


def test_what_is_no_name_is_usage(brolga: Brolga) -> None:
    """Exit code 2."""
    assert brolga("digest", "A").code == 2


def test_an_archive_has_digests_too(brolga: Brolga, registry: Embedded, tmp_path: Path) -> None:
    """Crane: `digest --tarball PATH [TAG]`; a layout's directory is one as well."""
    name, file, layout = f"{registry.address}/a:v1", tmp_path / "a.tar", tmp_path / "layout"
    digest = push(name, "layer")
    brolga("copy", name, f"oci-archive:{file}:v1")
    brolga("copy", name, f"oci:{layout}:v1")
    for flags in (["--tarball", str(file)], ["--tarball", str(layout), "v1"]):
        assert brolga("digest", *flags).out == f"{digest}\n"
    full = brolga("digest", "--full-ref", "--tarball", str(file), "v1")
    assert (full.code, full.out) == (0, f"{file}@{digest}\n")
    assert brolga("digest", "--tarball", str(file), "v2").code == 3


def test_without_a_name_there_is_nothing_to_look_for(brolga: Brolga) -> None:
    """Exit code 2, in click's words."""
    assert brolga("digest").err == "brolga: Missing argument 'REF'; see brolga digest --help\n"
