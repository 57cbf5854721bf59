"""cli.index: lists of what is in an index, and indexes of others."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from tests.unit.cli.images import index, push, pushed

from brolga.client import Client
from brolga.images import Artifact, ImageIndex
from brolga.spec.mediatypes import DOCKER_MANIFEST_LIST, OCI_INDEX
from brolga.spec.platform import Platform

if TYPE_CHECKING:
    from tests.conftest import Embedded
    from tests.unit.cli.conftest import Brolga

AMD64, ARM64 = Platform("linux", "amd64"), Platform("linux", "arm64", "v8")
WINDOWS = Platform("windows", "amd64")


@pytest.fixture
def multi(registry: Embedded) -> str:
    """Push an index of three platforms."""
    name = f"{registry.address}/multi:1"
    index(name, AMD64, ARM64, WINDOWS)
    return name


def read(name: str) -> ImageIndex:
    """Return the index under a name."""
    with Client() as client:
        return client.index(name)


def test_a_list_has_a_line_for_each_image(brolga: Brolga, multi: str) -> None:
    """Platform, digest, size in bytes; the digests stand below one another."""
    outcome = brolga("index", "list", multi)
    assert (outcome.code, outcome.err) == (0, "")
    amd64, arm64, windows = read(multi).index.manifests
    assert outcome.out.splitlines() == [
        f"linux/amd64    {amd64.digest} {amd64.size}",
        f"linux/arm64/v8 {arm64.digest} {arm64.size}",
        f"windows/amd64  {windows.digest} {windows.size}",
    ]


def test_a_list_as_json_has_the_descriptors(brolga: Brolga, multi: str) -> None:
    """One object; nothing that the index says is lost."""
    outcome = brolga("index", "list", "--json", multi)
    found = read(multi).index
    assert json.loads(outcome.out) == {
        "ref": f"{multi.removesuffix(':1')}@{found.digest}",
        "digest": str(found.digest),
        "mediaType": OCI_INDEX,
        "manifests": [one.to_dict() for one in found.manifests],
    }


def test_an_empty_index_has_an_empty_list(brolga: Brolga, registry: Embedded) -> None:
    """Nothing on stdout, and no error."""
    pushed(f"{registry.address}/none:1", ImageIndex.empty())
    outcome = brolga("index", "list", f"{registry.address}/none:1")
    assert (outcome.code, outcome.out, outcome.err) == (0, "", "")


def test_what_has_no_platform_is_a_dash(brolga: Brolga, registry: Embedded, multi: str) -> None:
    """As crane prints it: an index in an index, an artifact."""
    name = f"{registry.address}/multi:2"
    with Client() as client:
        made = Artifact.of("text/x")
        client.push(f"{registry.address}/multi:artifact", made)
    flags = ["-m", f"{multi},{registry.address}/multi:artifact", "--no-flatten", "-t", name]
    assert brolga("index", "append", *flags).code == 0
    nested, artifact = brolga("index", "list", name).out.splitlines()
    assert nested.startswith(f"- {read(multi).digest} ")
    assert artifact.startswith(f"- {made.digest} ")


@pytest.mark.parametrize("verb", [["list"], ["filter", "--platform", "linux"]])
def test_an_image_is_no_index(brolga: Brolga, registry: Embedded, verb: list[str]) -> None:
    """Exit code 2: another name is wanted."""
    name = f"{registry.address}/app:1"
    push(name, "layer")
    outcome = brolga("index", *verb, name)
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err == (
        f"brolga: {name} is an image, not an index; see brolga index {verb[0]} --help\n"
    )


@pytest.mark.parametrize(
    ("flags", "kept"),
    [
        (["--platform", "linux"], (AMD64, ARM64)),
        (["--platform", "linux/arm64,windows/amd64"], (ARM64, WINDOWS)),
        (["--platform", "windows", "--platform", "linux/amd64"], (AMD64, WINDOWS)),
    ],
)
def test_a_filter_keeps_what_matches(
    brolga: Brolga, multi: str, flags: list[str], kept: tuple[Platform, ...]
) -> None:
    """Crane index filter: what a platform leaves out matches all; the order stays."""
    outcome = brolga("index", "filter", multi, *flags, "-t", f"{multi}-less")
    less = read(f"{multi}-less")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out == f"{multi.removesuffix(':1')}@{less.digest}\n"
    assert less.index.platforms == kept
    assert len(read(multi).index.manifests) == 3


def test_a_filter_drops_what_has_no_platform(
    brolga: Brolga, registry: Embedded, multi: str
) -> None:
    """As crane does: nobody can tell that it is wanted."""
    name = f"{registry.address}/multi:2"
    brolga("index", "append", multi, "-m", multi, "--no-flatten", "-t", name)
    assert len(read(name).index.manifests) == 4
    assert brolga("index", "filter", name, "--platform", "linux").code == 0
    assert read(name).index.platforms == (AMD64, ARM64)


def test_a_filter_that_keeps_nothing_is_not_found(brolga: Brolga, multi: str) -> None:
    """An empty index is nobody's wish; the error lists what there is."""
    before = read(multi).digest
    outcome = brolga("index", "filter", multi, "--platform", "plan9")
    assert (outcome.code, outcome.out) == (3, "")
    assert "no image for platform 'plan9'" in outcome.err
    assert "'linux/arm64/v8', 'windows/amd64'" in outcome.err
    assert read(multi).digest == before


def test_a_filter_of_a_digest_goes_beside_it(brolga: Brolga, multi: str) -> None:
    """What is named by digest cannot be changed."""
    name = f"{multi.removesuffix(':1')}@{read(multi).digest}"
    outcome = brolga("index", "filter", name, "--platform", "linux/amd64")
    assert read(outcome.out.strip()).index.platforms == (AMD64,)
    assert len(read(multi).index.manifests) == 3


def test_an_index_is_made_of_images(brolga: Brolga, registry: Embedded) -> None:
    """Platforms are those of the configs; images of other repositories come along."""
    name = f"{registry.address}/made"
    digests = [
        push(f"{registry.address}/one:1", "1", platform=AMD64),
        push(f"{registry.address}/two:1", "2", platform=ARM64),
    ]
    flags = ["-m", f"{registry.address}/one:1", "-m", f"{registry.address}/two:1", "-t", name]
    outcome = brolga("index", "append", *flags)
    made = read(name)
    assert (outcome.code, outcome.out) == (0, f"{name}@{made.digest}\n")
    assert made.index.media_type == OCI_INDEX
    assert made.index.platforms == (AMD64, ARM64)
    assert [str(one.digest) for one in made.index.manifests] == digests
    with Client() as client, client.image(name, ARM64).layers[0].open() as layer:
        assert b"".join(layer.blocks())


def test_an_index_of_docker_s_type_is_made_on_demand(brolga: Brolga, registry: Embedded) -> None:
    """crane: 'empty base index will have Docker media types instead of OCI'."""
    name = f"{registry.address}/app"
    push(f"{name}:1", "1")
    brolga("index", "append", "-m", f"{name}:1", "-t", f"{name}:all", "--docker-empty-base")
    assert read(f"{name}:all").index.media_type == DOCKER_MANIFEST_LIST


def test_what_is_in_an_index_is_appended_as_it_says(
    brolga: Brolga, registry: Embedded, multi: str
) -> None:
    """crane: 'appending an index will append each of its children rather than the index'."""
    name = f"{registry.address}/app"
    push(f"{name}:1", "1", platform=Platform("linux", "riscv64"))
    brolga("index", "append", "-m", f"{name}:1", "-t", f"{name}:all")
    assert brolga("index", "append", f"{name}:all", "-m", multi).code == 0
    appended = read(f"{name}:all").index.manifests
    assert appended[1:] == read(multi).index.manifests
    with Client() as client:
        assert client.image(f"{name}:all", ARM64).platform == ARM64


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["append", "-m", "127.0.0.1:1/x"], "without BASE, the result needs a name"),
        (["append", "-t", "127.0.0.1:1/x"], "Missing option '-m' / '--manifest'"),
        (["filter", "127.0.0.1:1/x"], "Missing option '--platform'"),
        (["filter", "127.0.0.1:1/x", "--platform", ","], "Invalid value for '--platform'"),
        (["append", "-m", "127.0.0.1:1/x", "-t", "nope/Nope"], "path 'nope/Nope'"),
    ],
)
def test_flags_that_make_no_sense_are_usage(
    brolga: Brolga, arguments: list[str], line: str
) -> None:
    """Exit code 2, and nothing was asked."""
    outcome = brolga("index", *arguments)
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith(f"brolga: {line}")
