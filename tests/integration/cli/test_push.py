"""brolga push."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from tests.cli_images import push_image
from tests.command import stdin_of
from tests.tars import tar

from brolga.client import Client
from brolga.images import Image
from brolga.stores.layout import Layout
from brolga.stream.layer import StreamLayer

if TYPE_CHECKING:
    from pathlib import Path

    from tests.command import Brolga
    from tests.registries import EmbeddedRegistry

USAGE = "; see brolga push --help\n"


def image(text: str) -> Image:
    return Image.empty().append(StreamLayer([tar(text)]))


@pytest.fixture
def layout(tmp_path: Path) -> str:
    """Write a layout with one image."""
    push_image(f"oci:{tmp_path}/layout:v1", image("a"))
    return f"{tmp_path}/layout"


def test_push_detects_layout_and_archive(
    brolga: Brolga, registry: EmbeddedRegistry, layout: str, tmp_path: Path
) -> None:
    """`PATH`: crane's two kinds, and each with its prefix."""
    name = f"{registry.address}/app:v1"
    digest = Layout(layout).resolve().digest
    with Client() as client:
        client.copy(f"oci:{layout}:v1", f"oci-archive:{tmp_path}/oci.tar")
        client.copy(f"oci:{layout}:v1", f"docker-archive:{tmp_path}/docker.tar")
    for path in (
        layout,
        f"oci:{layout}:v1",
        f"{tmp_path}/oci.tar",
        f"oci-archive:{tmp_path}/oci.tar",
    ):
        outcome = brolga("push", path, name)
        assert (outcome.code, outcome.err) == (0, "")
        assert outcome.out == f"{registry.address}/app@{digest}\n"
    outcome = brolga("push", f"{tmp_path}/docker.tar", name, "--json")
    with Client() as client:
        copy = client.image(name)
        assert copy.manifest.config.digest == client.image(f"oci:{layout}").manifest.config.digest
    full = f"{registry.address}/app@{copy.digest}"
    assert json.loads(outcome.out) == {"ref": full, "digest": str(copy.digest)}


@pytest.mark.parametrize(
    ("name", "tags"),
    [("app", ["1.2", "latest"]), ("app:v1", ["1.2", "latest", "v1"])],
)
def test_push_sets_several_tags(
    brolga: Brolga, registry: EmbeddedRegistry, layout: str, name: str, tags: list[str]
) -> None:
    """`-t` is repeatable; REF's own tag counts, unless it is the default one."""
    repository = f"{registry.address}/app"
    for more in ([], ["--index"]):
        outcome = brolga("push", layout, f"{registry.address}/{name}", *_tag_flags(tags), *more)
        assert (outcome.code, outcome.err) == (0, "")
        with Client() as client:
            assert client.tags(repository) == tags
            digests = {str(client.head(f"{repository}:{tag}").digest) for tag in tags}
        assert {f"{repository}@{digest}\n" for digest in digests} == {outcome.out}


def _tag_flags(tags: list[str]) -> list[str]:
    return [flag for tag in tags if tag != "v1" for flag in ("-t", tag)]


def test_push_rejects_several_tags_of_an_archive(
    brolga: Brolga, layout: str, tmp_path: Path
) -> None:
    """An archive is written under one name."""
    outcome = brolga("push", layout, f"oci-archive:{tmp_path}/a.tar", "-t", "v1")
    assert (outcome.code, outcome.out) == (2, "")
    assert "it is written under one name" in outcome.err


def test_push_chooses_image_or_pushes_index(
    brolga: Brolga, registry: EmbeddedRegistry, layout: str
) -> None:
    """`--index`: "push a collection of images as a single index" (crane push)."""
    name = f"{registry.address}/app:v1"
    push_image(f"oci:{layout}:v2", image("b"))
    outcome = brolga("push", layout, name)
    assert (outcome.code, outcome.out) == (3, "")
    assert outcome.err == (
        f"brolga: local: {layout} has 2 images, and none is named: it has v1, v2; "
        f"push oci:{layout}:NAME, or all of them with --index\n"
    )
    assert brolga("push", "--index", layout, name).code == 0
    with Client() as client:
        assert client.index(name).index.raw == Layout(layout).whole().index.raw


def test_push_image_refs_writes_file(
    brolga: Brolga, registry: EmbeddedRegistry, layout: str, tmp_path: Path
) -> None:
    """`--image-refs`: a "list of the published image references" (crane push)."""
    name = f"{registry.address}/app:v1"
    outcome = brolga("push", layout, name, "--image-refs", f"{tmp_path}/refs")
    assert (tmp_path / "refs").read_text() == outcome.out
    outcome = brolga("push", layout, name, "--image-refs", f"{tmp_path}/none/refs")
    assert (outcome.code, outcome.out) == (1, "")
    assert "No such file or directory; it was pushed anyway: " in outcome.err


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ["--index", "file.tar"],
            "--index is for all images of a layout: name only its directory",
        ),
        (["--index", "oci:dir:v1"], "--index is for all images of a layout"),
        (["oci:dir:"], "'oci:dir:' ends with a colon: a name is wanted behind it; a place is"),
    ],
)
def test_push_rejects_invalid_arguments(brolga: Brolga, arguments: list[str], line: str) -> None:
    """Exit code 2, before any request."""
    outcome = brolga("push", *arguments, "127.0.0.1:1/x")
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith(f"brolga: {line}")


def test_push_reports_missing_image(brolga: Brolga, layout: str, tmp_path: Path) -> None:
    """Exit code 3, with the available names."""
    for path, line in (
        (f"{tmp_path}/none", f"archive {tmp_path}/none does not exist"),
        (f"oci:{tmp_path}/none", f"no image layout at {tmp_path}/none"),
        (f"oci:{layout}:v2", f"{layout} has no image v2: it has v1"),
    ):
        outcome = brolga("push", path, "127.0.0.1:1/x")
        assert (outcome.code, outcome.out, outcome.err) == (3, "", f"brolga: local: {line}\n")


def test_push_rejects_directory_that_is_not_a_layout(brolga: Brolga, tmp_path: Path) -> None:
    """Exit code 6."""
    outcome = brolga("push", str(tmp_path), "127.0.0.1:1/x")
    assert (outcome.code, outcome.out) == (6, "")
    assert outcome.err.startswith(f"brolga: local: {tmp_path} is not a usable image layout")


def test_push_rejects_password_and_archive_on_stdin(brolga: Brolga) -> None:
    """Both would read stdin."""
    with stdin_of(b"") as stdin:
        flags = ["--username", "me", "--password-stdin"]
        outcome = brolga("push", "-", "127.0.0.1:1/x", *flags, stdin=stdin)
    assert outcome.code == 2
    assert "both want stdin" in outcome.err
