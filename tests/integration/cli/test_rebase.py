"""brolga rebase."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.cli_images import index, push, push_image, read, stream

from brolga.client import Client
from brolga.images import ImageIndex
from brolga.spec.platform import Platform

if TYPE_CHECKING:
    from pathlib import Path

    from tests.command import Brolga
    from tests.registries import EmbeddedRegistry

NAME = "org.opencontainers.image.base.name"
DIGEST = "org.opencontainers.image.base.digest"
AMD64, ARM64 = Platform("linux", "amd64"), Platform("linux", "arm64")
USAGE = "see brolga rebase --help\n"


@pytest.fixture
def bases(registry: EmbeddedRegistry) -> str:
    """Push two bases, `:1` and `:2`."""
    name = f"{registry.address}/base"
    push(f"{name}:1", "old")
    push(f"{name}:2", "new", "newer")
    return name


@pytest.fixture
def app(registry: EmbeddedRegistry, bases: str) -> str:
    """Push an image on the first base."""
    name = f"{registry.address}/app:v1"
    with Client() as client:
        base = client.image(f"{bases}:1")
        client.push(name, base.append(stream("app")).with_config(Cmd=["run"]))
    return name


def diff_ids(*names: str) -> list[str]:
    """Return the DiffIDs of images, one after the other."""
    return [str(diff_id) for name in names for diff_id in read(name).config.diff_ids]


def test_rebase_replaces_lower_layers(brolga: Brolga, app: str, bases: str) -> None:
    """Crane rebase: the new base's layers, then those above the old one; annotated."""
    top = diff_ids(app)[1]
    flags = ["--old_base", f"{bases}:1", "--new_base", f"{bases}:2"]
    outcome = brolga("rebase", app, *flags)
    after = read(app)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out == f"{app.removesuffix(':v1')}@{after.digest}\n"
    assert diff_ids(app) == [*diff_ids(f"{bases}:2"), top]
    assert after.config.config["Cmd"] == ("run",)
    assert after.annotations == {NAME: f"{bases}:2", DIGEST: str(read(f"{bases}:2").digest)}


def test_rebase_reads_bases_from_annotations(brolga: Brolga, app: str, bases: str) -> None:
    """annotations.md: base.name and base.digest; after a rebase they are enough."""
    brolga("rebase", app, "--old_base", f"{bases}:1", "--new_base", f"{bases}:1")
    push(f"{bases}:1", "moved on")
    outcome = brolga("rebase", app, "--rebased", f"{app}-new")
    assert (outcome.code, outcome.err) == (0, "")
    assert diff_ids(f"{app}-new")[0] == diff_ids(f"{bases}:1")[0]
    assert diff_ids(app)[0] != diff_ids(f"{bases}:1")[0]


def test_rebase_onto_same_base_changes_nothing(brolga: Brolga, app: str, bases: str) -> None:
    """The digest stays the same; stderr says so."""
    flags = ["--old_base", f"{bases}:1", "--new_base", f"{bases}:1"]
    first = brolga("rebase", app, *flags)
    second = brolga("rebase", app)
    assert first.err == f"{app} is already based on {bases}:1: its layers stay\n"
    assert (second.code, second.out) == (0, first.out)


def test_rebase_finds_old_base_in_its_repository(
    brolga: Brolga, app: str, bases: str, registry: EmbeddedRegistry
) -> None:
    """Even if the new base has another name."""
    brolga("rebase", app, "--old_base", f"{bases}:1", "--new_base", f"{bases}:1")
    other = f"{registry.address}/other/base:9"
    push(other, "other")
    assert brolga("rebase", app, "--new_base", other).code == 0
    assert diff_ids(app)[0] == diff_ids(other)[0]


def test_rebase_chooses_base_of_index_by_platform(
    brolga: Brolga, registry: EmbeddedRegistry
) -> None:
    """The annotation has the index's digest: what the base's name stands for."""
    base, app = f"{registry.address}/multi:1", f"{registry.address}/app:arm"
    digest = index(base, AMD64, ARM64)
    with Client() as client:
        client.push(app, client.image(base, ARM64).append(stream("app")))
    push(f"{registry.address}/multi:2", "new", platform=ARM64)
    outcome = brolga("rebase", app, "--old_base", base, "--new_base", base)
    assert (outcome.code, read(app).annotations[DIGEST]) == (0, digest)
    assert brolga("rebase", app, "--new_base", f"{registry.address}/multi:2").code == 0
    assert diff_ids(app)[0] == diff_ids(f"{registry.address}/multi:2")[0]


def test_rebase_annotates_base_by_digest(brolga: Brolga, app: str, bases: str) -> None:
    """The digest is the name."""
    digest = read(f"{bases}:2").digest
    flags = ["--old_base", f"{bases}:1", "--new_base"]
    brolga("rebase", app, *flags, f"{bases}@{digest}")
    assert read(app).annotations[NAME] == f"{bases}@{digest}"
    brolga("rebase", app, "--old_base", f"{bases}:2", "--new_base", f"{bases}:2@{digest}")
    assert read(app).annotations[NAME] == f"{bases}:2"


@pytest.mark.parametrize(
    ("annotations", "flags", "line"),
    [
        ({}, [], f"the image has no annotation {NAME}: name a base with --new_base"),
        ({NAME: "127.0.0.1:1/x"}, [], f"the image has no annotation {DIGEST}: name its base"),
        ({DIGEST: "x"}, ["--new_base", "127.0.0.1:1/x"], "digest 'x'"),
        ({}, ["--new_base", "127.0.0.1:1/x"], f"the image has no annotation {DIGEST}"),
    ],
)
def test_rebase_requires_base_without_annotations(
    brolga: Brolga,
    app: str,
    annotations: dict[str, str],
    flags: list[str],
    line: str,
) -> None:
    """Exit code 2, and the flag that helps."""
    push_image(app, read(app).with_annotations(annotations))
    outcome = brolga("rebase", app, *flags)
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith(f"brolga: {line}")


def test_rebase_rejects_image_on_another_base(brolga: Brolga, app: str, bases: str) -> None:
    """There is no default."""
    before = read(app).digest
    flags = ["--old_base", f"{bases}:2", "--new_base", f"{bases}:1"]
    outcome = brolga("rebase", app, *flags)
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err.startswith("brolga: local: the image is not built on the old base")
    assert read(app).digest == before


def test_rebase_rejects_index(brolga: Brolga, registry: EmbeddedRegistry) -> None:
    """crane: 'rebasing an index is not yet supported'."""
    name = f"{registry.address}/multi:1"
    push_image(name, ImageIndex.empty())
    outcome = brolga("rebase", name)
    assert outcome.code == 2
    assert outcome.err == (f"brolga: {name} is an index: choose one image with --platform; {USAGE}")


def test_rebase_chooses_nearest_platform(brolga: Brolga, registry: EmbeddedRegistry) -> None:
    """A Windows image is rebased for each patch; an index may leave out a variant."""
    for built, offered in (
        (
            Platform("windows", "amd64", os_version="10.0.1"),
            Platform("windows", "amd64", os_version="10.0.2"),
        ),
        (Platform("linux", "arm64", "v8"), Platform("linux", "arm64")),
    ):
        base, app = f"{registry.address}/multi", f"{registry.address}/app:{built.os}"
        push(f"{base}:1", "old", platform=built)
        with Client() as client:
            client.push(app, client.image(f"{base}:1").append(stream("app")))
        index(f"{base}:2", AMD64, offered)
        outcome = brolga("rebase", app, "--old_base", f"{base}:1", "--new_base", f"{base}:2")
        assert (outcome.code, outcome.err) == (0, "")
        assert read(app).platform == offered


def test_rebase_onto_local_base_removes_name(
    brolga: Brolga, app: str, bases: str, tmp_path: Path
) -> None:
    """The old name beside the new digest would name an image that is not there."""
    layout = f"oci:{tmp_path}/layout:v1"
    brolga("copy", f"{bases}:2", layout)
    brolga("rebase", app, "--old_base", f"{bases}:1", "--new_base", f"{bases}:1")
    assert brolga("rebase", app, "--new_base", layout).code == 0
    assert read(app).annotations == {DIGEST: str(read(f"{bases}:2").digest)}
    again = brolga("rebase", app)
    assert again.code == 2
    assert again.err.startswith(f"brolga: the image has no annotation {NAME}: name a base with")
