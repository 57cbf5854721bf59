"""brolga digest."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.cli_images import index, push

from brolga.client import Client
from brolga.spec.platform import Platform

if TYPE_CHECKING:
    from pathlib import Path

    from tests.command import Brolga
    from tests.registries import EmbeddedRegistry

AMD64, ARM64 = Platform("linux", "amd64"), Platform("linux", "arm64")


def test_digest_prints_digest_or_full_ref(brolga: Brolga, registry: EmbeddedRegistry) -> None:
    """`--full-ref`: REPO@DIGEST."""
    repository = f"{registry.address}/a"
    digest = push(f"{repository}:v1", "layer")
    outcome = brolga("digest", f"{repository}:v1")
    assert (outcome.code, outcome.out, outcome.err) == (0, f"{digest}\n", "")
    full = f"{repository}@{digest}"
    assert brolga("digest", "--full-ref", f"{repository}:v1").out == f"{full}\n"
    with Client() as client:
        descriptor = client.head(full)
    assert json.loads(brolga("digest", "--json", full).out) == {
        "ref": full,
        "digest": digest,
        "mediaType": descriptor.media_type,
        "size": descriptor.size,
    }


def test_digest_of_index_or_image_for_platform(brolga: Brolga, registry: EmbeddedRegistry) -> None:
    """`--platform` chooses."""
    name = f"{registry.address}/a"
    digest = index(name, AMD64, ARM64)
    with Client() as client:
        arm = client.image(name, ARM64).digest
    assert brolga("digest", name).out == f"{digest}\n"
    assert brolga("digest", "--platform", "linux/arm64", name).out == f"{arm}\n"


def test_digest_reports_missing_image(brolga: Brolga, registry: EmbeddedRegistry) -> None:
    """Exit code 3."""
    outcome = brolga("digest", f"{registry.address}/a")
    assert (outcome.code, outcome.out) == (3, "")


def test_digest_rejects_invalid_name(brolga: Brolga) -> None:
    """Exit code 2."""
    assert brolga("digest", "A").code == 2


def test_digest_reads_archive_and_layout(
    brolga: Brolga, registry: EmbeddedRegistry, tmp_path: Path
) -> None:
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


def test_digest_requires_name(brolga: Brolga) -> None:
    """Exit code 2, in click's words."""
    assert brolga("digest").err == "brolga: Missing argument 'REF'; see brolga digest --help\n"
