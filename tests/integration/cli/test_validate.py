"""brolga validate."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from tests.cli_images import index, push_image
from tests.tars import tar
from tests.unit.stores.archive.archives import docker_old

from brolga.client import Client
from brolga.images import Image
from brolga.spec.platform import Platform
from brolga.stream.layer import StreamLayer

if TYPE_CHECKING:
    from pathlib import Path

    from tests.command import Brolga
    from tests.registries import EmbeddedRegistry

AMD64, ARM64 = Platform("linux", "amd64"), Platform("linux", "arm64")


def test_validate_passes_valid_image(brolga: Brolga, registry: EmbeddedRegistry) -> None:
    """Crane: `PASS: REF`."""
    name = f"{registry.address}/app:v1"
    push_image(name, Image.empty().append(StreamLayer([tar("a")])))
    for flags in ([], ["--fast"]):
        outcome = brolga("validate", "--remote", name, *flags)
        assert (outcome.code, outcome.out, outcome.err) == (0, f"PASS: {name}\n", "")


def test_validate_prints_json_of_valid_image(brolga: Brolga, registry: EmbeddedRegistry) -> None:
    """ref, digest, valid, problems."""
    name = f"{registry.address}/app"
    digest = push_image(name, Image.empty().append(StreamLayer([tar("a")])))
    outcome = brolga("validate", "--json", "--remote", name)
    assert (outcome.code, outcome.err) == (0, "")
    assert json.loads(outcome.out) == {
        "ref": f"{name}@{digest}",
        "digest": digest,
        "valid": True,
        "problems": [],
    }


def test_validate_checks_docker_archive(brolga: Brolga, tmp_path: Path) -> None:
    """Its layers are not compressed; only a push compresses them."""
    saved = tmp_path / "saved.tar"
    saved.write_bytes(tar(*docker_old((tar("a"),))))
    outcome = brolga("validate", "--tarball", str(saved))
    assert (outcome.code, outcome.out, outcome.err) == (0, f"PASS: {saved}\n", "")
    flat = f"oci:{tmp_path}/flat:v1"
    assert brolga("flatten", f"docker-archive:{saved}", "-t", flat).code == 0
    assert brolga("validate", "--tarball", flat).code == 0


def test_verb_hints_at_copy_if_digest_is_not_computed(brolga: Brolga, tmp_path: Path) -> None:
    """docs/places.md: an index lists what is known, and such layers get gzip's on their way."""
    saved, target = tmp_path / "saved.tar", f"oci:{tmp_path}/made:v1"
    saved.write_bytes(tar(*docker_old((tar("a"),))))
    outcome = brolga("index", "append", "-m", f"docker-archive:{saved}", "-t", target)
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err.endswith("copy the image to oci:DIR, and name that\n")
    layout = f"oci:{tmp_path}/layout:v1"
    assert brolga("copy", f"docker-archive:{saved}", layout).code == 0
    assert brolga("index", "append", "-m", layout, "-t", target).code == 0


@pytest.fixture
def broken(registry: EmbeddedRegistry) -> str:
    """Push an image whose layers are not tars, and whose history is short."""
    name = f"{registry.address}/app:v1"
    layers = [StreamLayer([text]) for text in (b"no tar", b"none either")]
    push_image(name, Image.empty().append(*layers).mutate_config(lambda config: config))
    return name


def test_validate_prints_line_for_each_problem(brolga: Brolga, broken: str) -> None:
    """Crane: `FAIL: REF: …`; the exit code is that of integrity, and stderr has one line."""
    outcome = brolga("validate", "--remote", broken)
    lines = outcome.out.splitlines()
    assert outcome.code == 6
    assert len(lines) == 2
    for number, line in enumerate(lines, 1):
        assert line.startswith(f"FAIL: {broken}: image sha256:")
        assert f", layer {number} sha256:" in line
    advice = "push it again with --recheck"
    assert outcome.err == f"brolga: registry: {broken} is not valid; {advice}\n"
    assert brolga("validate", "--fast", "--remote", broken).code == 0


def test_validate_prints_problems_as_json(brolga: Brolga, broken: str) -> None:
    """Place and what; nothing else is on stdout."""
    outcome = brolga("validate", "--remote", broken, "--json")
    result = json.loads(outcome.out)
    assert (outcome.code, result["valid"], len(result["problems"])) == (6, False, 2)
    assert set(result["problems"][0]) == {"place", "what"}


def test_validate_checks_index_or_image_for_platform(
    brolga: Brolga, registry: EmbeddedRegistry
) -> None:
    """Of an index all that it has is read, with `--platform` that image alone."""
    name = f"{registry.address}/multi"
    index(name, AMD64, ARM64)  # their layers are not tars
    whole = brolga("validate", "--remote", name)
    one = brolga("validate", "--remote", name, "--platform", "linux/arm64")
    assert (whole.out.count("FAIL: "), one.out.count("FAIL: ")) == (2, 1)
    with Client() as client:
        digest = client.image(name, ARM64).digest
    assert str(digest) in one.out
    missing = brolga("validate", "--remote", name, "--platform", "linux/s390x")
    assert (missing.code, missing.out) == (3, "")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "give either --remote REF or --tarball PATH"),
        (["--remote", "127.0.0.1:1/a:b:c"], "tag 'b:c'"),
        (["127.0.0.1:1/a"], ""),
    ],
)
def test_validate_rejects_invalid_arguments(
    brolga: Brolga, arguments: list[str], line: str
) -> None:
    """Exit code 2, before any request."""
    outcome = brolga("validate", *arguments)
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith(f"brolga: {line}")


def test_validate_reports_missing_image(brolga: Brolga, registry: EmbeddedRegistry) -> None:
    """Exit code 3, not 6."""
    assert brolga("validate", "--remote", f"{registry.address}/none").code == 3
