"""brolga pull."""

from __future__ import annotations

import json
import sys
import tarfile
from typing import TYPE_CHECKING

import pytest
from tests.cli_images import index, push, push_image

from brolga.client import Client
from brolga.images import Image, ImageIndex
from brolga.spec.platform import Platform
from brolga.stores.layout import Layout
from brolga.stream.layer import StreamLayer

if TYPE_CHECKING:
    from pathlib import Path

    from tests.command import Brolga
    from tests.registries import EmbeddedRegistry

AMD64, ARM64 = Platform("linux", "amd64"), Platform("linux", "arm64")


def tags(path: Path) -> list[list[str] | None]:
    """Return the names of the images of a docker archive."""
    with tarfile.open(path) as archive:
        manifest = archive.extractfile("manifest.json")
        assert manifest is not None
        return [one["RepoTags"] for one in json.loads(manifest.read())]


def test_pull_writes_docker_archive_by_default(
    brolga: Brolga, registry: EmbeddedRegistry, tmp_path: Path
) -> None:
    """`--format tarball`: each image with its name; by digest it has none."""
    name = f"{registry.address}/a:v1"
    digest = push(name, "layer")
    path = tmp_path / "a.tar"
    outcome = brolga("pull", name, str(path))
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out == f"docker-archive:{path}:{name}\n"
    assert tags(path) == [[name]]
    outcome = brolga("pull", f"{registry.address}/a@{digest}", str(path), "--json")
    assert json.loads(outcome.out) == {
        "images": [{"ref": f"docker-archive:{path}", "digest": None}]
    }
    assert tags(path) == [None]


def test_pull_writes_layout(brolga: Brolga, registry: EmbeddedRegistry, tmp_path: Path) -> None:
    """`--format oci`: by its tag; `--annotate-ref`: by its whole name. It keeps what it has."""
    name = f"{registry.address}/a:v1"
    digest = index(name, AMD64, ARM64)
    layout = tmp_path / "layout"
    outcome = brolga("pull", "--format", "oci", name, str(layout))
    assert outcome.out == f"oci:{layout}@{digest}\n"
    assert brolga("pull", "--format", "oci", "--annotate-ref", name, str(layout)).code == 0
    assert brolga("pull", f"{registry.address}/a@{digest}", f"oci:{layout}:mine").code == 0
    assert Layout(layout).tags() == ("v1", name, "mine")
    assert {str(Layout(layout).resolve(tag).digest) for tag in ("v1", name, "mine")} == {digest}


def test_pull_chooses_image_of_index(
    brolga: Brolga, registry: EmbeddedRegistry, tmp_path: Path
) -> None:
    """Of linux/amd64, or as `--platform` says; a layout then gets that one too."""
    name = f"{registry.address}/a:v1"
    index(name, AMD64, ARM64)
    with Client() as client:
        for flags, platform in (([], AMD64), (["--platform", "linux/arm64"], ARM64)):
            assert brolga("pull", *flags, name, f"{tmp_path}/a.tar").code == 0
            assert client.image(f"docker-archive:{tmp_path}/a.tar").platform == platform
        flags = ["--platform", "linux/arm64"]
        assert brolga("pull", *flags, name, f"oci:{tmp_path}/layout").code == 0
        assert client.head(f"oci:{tmp_path}/layout:v1") == client.image(name, ARM64).descriptor


def test_pull_reads_local_places(brolga: Brolga, tmp_path: Path) -> None:
    """The name is kept if the format allows it."""
    place = f"oci:{tmp_path}/layout:v1"
    push_image(place, Image.empty().append(StreamLayer([b""])))
    brolga("pull", place, f"docker-archive:{tmp_path}/a.tar")
    assert tags(tmp_path / "a.tar") == [None]
    brolga("pull", place, f"docker-archive:{tmp_path}/a.tar:localhost:5000/a:v2")
    assert tags(tmp_path / "a.tar") == [["localhost:5000/a:v2"]]
    brolga("pull", f"docker-archive:{tmp_path}/a.tar:localhost:5000/a:v2", f"{tmp_path}/b.tar")
    assert tags(tmp_path / "b.tar") == [["localhost:5000/a:v2"]]
    brolga("pull", place, f"oci:{tmp_path}/other")
    assert Layout(tmp_path / "other").tags() == ("v1",)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--format", "legacy", "127.0.0.1:1/x", "a.tar"], "--format legacy is not supported"),
        (
            ["127.0.0.1:1/x", "127.0.0.1:1/y", "oci:d:v1"],
            "oci:d:v1 is the name of one image, but 2",
        ),
        (["--json", "127.0.0.1:1/x", "-"], "--json: stdout is for the archive, and nothing else"),
        (["127.0.0.1:1/x"], "give both REF and PATH; 127.0.0.1:1/x is only one of them; see"),
        ([], "Missing argument 'PATH'; see"),
        (["--format", "tarball", "127.0.0.1:1/x", "/"], "/ is a directory, not a file"),
        (["127.0.0.1:1/x", "/no/a.tar"], "/no/a.tar: directory /no does not exist; see"),
        (["127.0.0.1:1/x", "oci-archive:/"], "/ is a directory, not a file"),
    ],
)
def test_pull_rejects_invalid_arguments(brolga: Brolga, arguments: list[str], line: str) -> None:
    """Exit code 2, before any request."""
    outcome = brolga("pull", *arguments)
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith(f"brolga: {line}")


def test_pull_rejects_closed_stdout(
    brolga: Brolga, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error comes before anything is read."""
    monkeypatch.setattr(sys, "stdout", None)
    assert brolga("pull", f"oci:{tmp_path}/none", "-").code == 2


def test_pull_reports_missing_image(
    brolga: Brolga, registry: EmbeddedRegistry, tmp_path: Path
) -> None:
    """Exit code 3, and no file is created."""
    outcome = brolga("pull", f"{registry.address}/a", f"{tmp_path}/a.tar")
    assert (outcome.code, outcome.out) == (3, "")
    assert not (tmp_path / "a.tar").exists()


@pytest.mark.parametrize("place", ["oci", "oci-archive:"])
def test_pull_rejects_two_images_with_one_name(
    brolga: Brolga, registry: EmbeddedRegistry, tmp_path: Path, place: str
) -> None:
    """An error before anything is read; the hint says how to name both."""
    refs = [f"{registry.address}/{name}:1" for name in ("app", "sk")]
    target = tmp_path / "made"
    path = [f"{place}{target}"] if place.endswith(":") else ["--format", "oci", str(target)]
    outcome = brolga("pull", *refs, *path)
    assert (outcome.code, outcome.out) == (2, "")
    assert f"{refs[0]} and {refs[1]} would both be named 1: --annotate-ref" in outcome.err
    assert not target.exists()
    digests = [push(ref, ref) for ref in refs]
    assert brolga("pull", "--annotate-ref", *refs, *path).code == 0
    place = place if place.endswith(":") else "oci:"
    with Client() as client:
        assert client.tags(f"{place}{target}") == refs
        pulled = [client.head(f"{place}{target}:{ref}").digest for ref in refs]
    assert list(map(str, pulled)) == digests
    assert brolga("pull", refs[0], refs[0], *path).code == 0


@pytest.mark.parametrize("exists", [False, True])
def test_pull_to_a_directory_writes_a_layout(
    brolga: Brolga, registry: EmbeddedRegistry, tmp_path: Path, *, exists: bool
) -> None:
    """A name that ends with a slash is a directory, as is one that exists."""
    name = f"{registry.address}/a:v1"
    digest = index(name, AMD64, ARM64)
    path = tmp_path / "layout"
    if exists:
        path.mkdir()
    outcome = brolga("pull", name, f"{path}" if exists else f"{path}/")
    assert (outcome.code, outcome.err) == (0, "")
    assert str(Layout(path).resolve("v1").digest) == digest


def test_pull_to_a_directory_with_other_files_changes_nothing(
    brolga: Brolga, tmp_path: Path
) -> None:
    """Exit code 6, before any request."""
    (tmp_path / "notes").touch()
    outcome = brolga("pull", "127.0.0.1:1/x", str(tmp_path))
    assert (outcome.code, outcome.out) == (6, "")
    assert "it has other files, as 'notes'; name an empty directory, or a new one" in outcome.err
    assert [path.name for path in tmp_path.iterdir()] == ["notes"]


def test_pull_of_several_platforms_writes_an_index_of_them(
    brolga: Brolga, registry: EmbeddedRegistry, tmp_path: Path
) -> None:
    """It has a digest of its own; `--all-platforms` and `all` keep the whole index."""
    name = f"{registry.address}/a:v1"
    digest = index(name, AMD64, ARM64, Platform("linux", "s390x"))
    flags = ["--platform", "linux/arm64", "--platform", "linux/amd64"]
    assert brolga("pull", *flags, name, f"{tmp_path}/some/").code == 0
    some = Layout(tmp_path / "some").tree("v1")
    assert isinstance(some, ImageIndex)
    assert some.index.platforms == (AMD64, ARM64)
    for number, flag in enumerate((["--all-platforms"], ["--platform", "all"])):
        assert brolga("pull", *flag, name, f"{tmp_path}/{number}/").code == 0
        assert str(Layout(tmp_path / f"{number}").resolve("v1").digest) == digest
    flags = ["--platform", "linux/arm64", "--platform", "plan9/mips"]
    outcome = brolga("pull", *flags, name, f"{tmp_path}/none/")
    assert outcome.code == 3
    assert "plan9/mips" in outcome.err
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (
            ["--all-platforms", "--platform", "linux/amd64", "127.0.0.1:1/x", "oci:d"],
            "--platform and --all-platforms contradict one another",
        ),
        (
            ["--all-platforms", "127.0.0.1:1/x", "a.tar"],
            "--all-platforms: a docker archive has no index; pull to oci:DIR",
        ),
        (
            ["--platform", "linux/amd64", "--platform", "linux/arm64", "127.0.0.1:1/x", "a.tar"],
            "a docker archive has no index: give one --platform",
        ),
    ],
    ids=["both", "all", "several"],
)
def test_pull_rejects_platforms_that_have_no_place(
    brolga: Brolga, flags: list[str], line: str
) -> None:
    """Exit code 2, before any request."""
    outcome = brolga("pull", *flags)
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith(f"brolga: {line}")
