"""brolga index list, filter, append."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from tests.cli_images import index, push, push_image

from brolga.client import Client
from brolga.images import Artifact, ImageIndex
from brolga.spec.mediatypes import DOCKER_MANIFEST_LIST, OCI_INDEX
from brolga.spec.platform import Platform

if TYPE_CHECKING:
    from tests.command import Brolga
    from tests.registries import EmbeddedRegistry

AMD64, ARM64 = Platform("linux", "amd64"), Platform("linux", "arm64", "v8")
WINDOWS = Platform("windows", "amd64")


@pytest.fixture
def multi(registry: EmbeddedRegistry) -> str:
    """Push an index of three platforms."""
    name = f"{registry.address}/multi:1"
    index(name, AMD64, ARM64, WINDOWS)
    return name


def read(name: str) -> ImageIndex:
    """Return the index under a name."""
    with Client() as client:
        return client.index(name)


def test_list_prints_line_for_each_image(brolga: Brolga, multi: str) -> None:
    """Platform, digest, size in bytes; the digests stand below one another."""
    outcome = brolga("index", "list", multi)
    assert (outcome.code, outcome.err) == (0, "")
    amd64, arm64, windows = read(multi).index.manifests
    assert outcome.out.splitlines() == [
        f"linux/amd64    {amd64.digest} {amd64.size}",
        f"linux/arm64/v8 {arm64.digest} {arm64.size}",
        f"windows/amd64  {windows.digest} {windows.size}",
    ]


def test_list_prints_descriptors_as_json(brolga: Brolga, multi: str) -> None:
    """One object, with all members of the descriptors."""
    outcome = brolga("index", "list", "--json", multi)
    images = read(multi).index
    assert json.loads(outcome.out) == {
        "ref": f"{multi.removesuffix(':1')}@{images.digest}",
        "digest": str(images.digest),
        "mediaType": OCI_INDEX,
        "manifests": [entry.to_dict() for entry in images.manifests],
    }


def test_list_prints_nothing_for_empty_index(brolga: Brolga, registry: EmbeddedRegistry) -> None:
    """Nothing on stdout, and no error."""
    push_image(f"{registry.address}/none:1", ImageIndex.empty())
    outcome = brolga("index", "list", f"{registry.address}/none:1")
    assert (outcome.code, outcome.out, outcome.err) == (0, "", "")


def test_list_prints_dash_without_platform(
    brolga: Brolga, registry: EmbeddedRegistry, multi: str
) -> None:
    """As crane prints it: an index in an index, an artifact."""
    name = f"{registry.address}/multi:2"
    with Client() as client:
        new_artifact = Artifact.of("text/x")
        client.push(f"{registry.address}/multi:artifact", new_artifact)
    flags = ["-m", f"{multi},{registry.address}/multi:artifact", "--no-flatten", "-t", name]
    assert brolga("index", "append", *flags).code == 0
    nested, artifact = brolga("index", "list", name).out.splitlines()
    assert nested.startswith(f"- {read(multi).digest} ")
    assert artifact.startswith(f"- {new_artifact.digest} ")


@pytest.mark.parametrize("verb", [["list"], ["filter", "--platform", "linux"]])
def test_list_rejects_image(brolga: Brolga, registry: EmbeddedRegistry, verb: list[str]) -> None:
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
def test_filter_keeps_matching_platforms(
    brolga: Brolga, multi: str, flags: list[str], kept: tuple[Platform, ...]
) -> None:
    """Crane index filter: what a platform leaves out matches all; the order stays."""
    outcome = brolga("index", "filter", multi, *flags, "-t", f"{multi}-less")
    less = read(f"{multi}-less")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out == f"{multi.removesuffix(':1')}@{less.digest}\n"
    assert less.index.platforms == kept
    assert len(read(multi).index.manifests) == 3


def test_filter_drops_entries_without_platform(
    brolga: Brolga, registry: EmbeddedRegistry, multi: str
) -> None:
    """As crane does."""
    name = f"{registry.address}/multi:2"
    brolga("index", "append", multi, "-m", multi, "--no-flatten", "-t", name)
    assert len(read(name).index.manifests) == 4
    assert brolga("index", "filter", name, "--platform", "linux").code == 0
    assert read(name).index.platforms == (AMD64, ARM64)


def test_filter_fails_if_nothing_matches(brolga: Brolga, multi: str) -> None:
    """An empty index would be useless; the error lists the platforms."""
    before = read(multi).digest
    outcome = brolga("index", "filter", multi, "--platform", "plan9")
    assert (outcome.code, outcome.out) == (3, "")
    assert "no image for platform 'plan9'" in outcome.err
    assert "'linux/arm64/v8', 'windows/amd64'" in outcome.err
    assert read(multi).digest == before


def test_filter_of_digest_pushes_by_digest(brolga: Brolga, multi: str) -> None:
    """A digest cannot be changed in place."""
    name = f"{multi.removesuffix(':1')}@{read(multi).digest}"
    outcome = brolga("index", "filter", name, "--platform", "linux/amd64")
    assert read(outcome.out.strip()).index.platforms == (AMD64,)
    assert len(read(multi).index.manifests) == 3


def test_append_makes_index_of_images(brolga: Brolga, registry: EmbeddedRegistry) -> None:
    """Platforms come from the configs; images of other repositories are copied."""
    name = f"{registry.address}/made"
    digests = [
        push(f"{registry.address}/one:1", "1", platform=AMD64),
        push(f"{registry.address}/two:1", "2", platform=ARM64),
    ]
    flags = ["-m", f"{registry.address}/one:1", "-m", f"{registry.address}/two:1", "-t", name]
    outcome = brolga("index", "append", *flags)
    images = read(name)
    assert (outcome.code, outcome.out) == (0, f"{name}@{images.digest}\n")
    assert images.index.media_type == OCI_INDEX
    assert images.index.platforms == (AMD64, ARM64)
    assert [str(entry.digest) for entry in images.index.manifests] == digests
    with Client() as client, client.image(name, ARM64).layers[0].open() as layer:
        assert b"".join(layer.blocks())


def test_append_makes_index_of_docker_type(brolga: Brolga, registry: EmbeddedRegistry) -> None:
    """crane: 'empty base index will have Docker media types instead of OCI'."""
    name = f"{registry.address}/app"
    push(f"{name}:1", "1")
    brolga("index", "append", "-m", f"{name}:1", "-t", f"{name}:all", "--docker-empty-base")
    assert read(f"{name}:all").index.media_type == DOCKER_MANIFEST_LIST


def test_append_appends_children_of_index(
    brolga: Brolga, registry: EmbeddedRegistry, multi: str
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
def test_index_rejects_invalid_flags(brolga: Brolga, arguments: list[str], line: str) -> None:
    """Exit code 2, before any request."""
    outcome = brolga("index", *arguments)
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith(f"brolga: {line}")
