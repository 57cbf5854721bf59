"""cli.validate: what is said of an image, and the exit code."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from tests.tars import tar
from tests.unit.cli.images import index, pushed
from tests.unit.stores.archive.archives import docker_old

from brolga.client import Client
from brolga.images import Image
from brolga.spec.platform import Platform
from brolga.stream.layer import StreamLayer

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Embedded
    from tests.unit.cli.conftest import Brolga

AMD64, ARM64 = Platform("linux", "amd64"), Platform("linux", "arm64")


def test_a_right_image_passes(brolga: Brolga, registry: Embedded) -> None:
    """Crane: `PASS: REF`."""
    name = f"{registry.address}/app:v1"
    pushed(name, Image.empty().append(StreamLayer([tar("a")])))
    for flags in ([], ["--fast"]):
        outcome = brolga("validate", "--remote", name, *flags)
        assert (outcome.code, outcome.out, outcome.err) == (0, f"PASS: {name}\n", "")


def test_json_of_a_right_image(brolga: Brolga, registry: Embedded) -> None:
    """ref, digest, valid, problems."""
    name = f"{registry.address}/app"
    digest = pushed(name, Image.empty().append(StreamLayer([tar("a")])))
    outcome = brolga("validate", "--json", "--remote", name)
    assert (outcome.code, outcome.err) == (0, "")
    assert json.loads(outcome.out) == {
        "ref": f"{name}@{digest}",
        "digest": digest,
        "valid": True,
        "problems": [],
    }


def test_what_docker_save_writes_is_checked_as_it_is(brolga: Brolga, tmp_path: Path) -> None:
    """Its layers are not compressed: they are, on their way, by the verbs that push them."""
    saved = tmp_path / "saved.tar"
    saved.write_bytes(tar(*docker_old((tar("a"),))))
    outcome = brolga("validate", "--tarball", str(saved))
    assert (outcome.code, outcome.out, outcome.err) == (0, f"PASS: {saved}\n", "")
    flat = f"oci:{tmp_path}/flat:v1"
    assert brolga("flatten", f"docker-archive:{saved}", "-t", flat).code == 0
    assert brolga("validate", "--tarball", flat).code == 0


def test_what_needs_its_digest_says_where_to_copy_it(brolga: Brolga, tmp_path: Path) -> None:
    """docs/places.md: an index lists what is known, and such layers get gzip's on their way."""
    saved, made = tmp_path / "saved.tar", f"oci:{tmp_path}/made:v1"
    saved.write_bytes(tar(*docker_old((tar("a"),))))
    outcome = brolga("index", "append", "-m", f"docker-archive:{saved}", "-t", made)
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err.endswith("copy the image to oci:DIR, and name that\n")
    layout = f"oci:{tmp_path}/layout:v1"
    assert brolga("copy", f"docker-archive:{saved}", layout).code == 0
    assert brolga("index", "append", "-m", layout, "-t", made).code == 0


@pytest.fixture
def broken(registry: Embedded) -> str:
    """Push an image whose layers are no tars, and whose history is short."""
    name = f"{registry.address}/app:v1"
    layers = [StreamLayer([text]) for text in (b"no tar", b"none either")]
    pushed(name, Image.empty().append(*layers).mutate_config(lambda config: config))
    return name


def test_each_problem_is_a_line(brolga: Brolga, broken: str) -> None:
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


def test_json_has_every_problem(brolga: Brolga, broken: str) -> None:
    """Place and what; nothing else is on stdout."""
    outcome = brolga("validate", "--remote", broken, "--json")
    found = json.loads(outcome.out)
    assert (outcome.code, found["valid"], len(found["problems"])) == (6, False, 2)
    assert set(found["problems"][0]) == {"place", "what"}


def test_an_index_or_one_image_of_it(brolga: Brolga, registry: Embedded) -> None:
    """Of an index all that it has is read, with `--platform` that image alone."""
    name = f"{registry.address}/multi"
    index(name, AMD64, ARM64)  # their layers are no tars
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
def test_what_makes_no_sense_is_usage(brolga: Brolga, arguments: list[str], line: str) -> None:
    """Exit code 2, and nothing was asked."""
    outcome = brolga("validate", *arguments)
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith(f"brolga: {line}")


def test_what_is_not_there_is_not_found(brolga: Brolga, registry: Embedded) -> None:
    """Exit code 3: that is no problem of an image."""
    assert brolga("validate", "--remote", f"{registry.address}/none").code == 3
