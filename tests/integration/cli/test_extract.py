"""brolga extract."""

from __future__ import annotations

import json
import os
import stat
from typing import TYPE_CHECKING

import pytest
from tests.cli_images import index, push_image
from tests.extracted import files_in
from tests.tars import entry, symlink, tar

from brolga.images import Image
from brolga.spec.platform import Platform
from brolga.stream.layer import StreamLayer

if TYPE_CHECKING:
    from pathlib import Path

    from tests.command import Brolga
    from tests.registries import EmbeddedRegistry

LAYERS = (
    tar(entry("a", b"below"), "gone", entry("d/run", mode=0o4755), symlink("lib", "d")),
    tar(entry("a", b"above"), ".wh.gone", entry("null", type=b"3", devmajor=1, devminor=3)),
)


def push_layers(name: str, *tars: bytes) -> str:
    """Push an image of layers; return its digest."""
    return push_image(name, Image.empty().append(*(StreamLayer([data]) for data in tars)))


@pytest.fixture
def app(registry: EmbeddedRegistry) -> str:
    """Push an image of two layers, the upper one hides a file of the lower."""
    name = f"{registry.address}/app"
    push_layers(name, *LAYERS)
    return name


def test_extract_writes_files_of_all_layers_and_prints_digest(
    brolga: Brolga, app: str, tmp_path: Path
) -> None:
    """What is left out is named on stderr."""
    target = tmp_path / "new/root"
    outcome = brolga("extract", app, str(target))
    assert (outcome.code, outcome.out) == (0, brolga("digest", app).out)
    assert files_in(target) == {"a": b"above", "d": None, "d/run": b"", "lib": "d"}
    assert stat.S_IMODE((target / "d/run").stat().st_mode) == 0o755
    first, second = outcome.err.splitlines()
    assert first.startswith(f"warning: {app}: layer 1 of 2, sha256:")
    assert first.endswith("the setuid and setgid bits and capabilities of 'd/run' are left out")
    assert second.endswith("'null' is a device node: it is left out")


def test_extract_prints_json(brolga: Brolga, app: str, tmp_path: Path) -> None:
    outcome = brolga("extract", "--json", app, str(tmp_path / "root"))
    printed = json.loads(outcome.out)
    assert printed.keys() == {"digest", "mediaType", "size"}
    assert printed["digest"] == brolga("digest", app).out.strip()


def test_extract_writes_selected_paths_alone(brolga: Brolga, app: str, tmp_path: Path) -> None:
    target = tmp_path / "root"
    outcome = brolga("extract", "--only", "/d", "--only", "a", "--setuid", app, str(target))
    assert (outcome.code, outcome.err) == (0, "")
    assert files_in(target) == {"a": b"above", "d": None, "d/run": b""}
    assert stat.S_IMODE((target / "d/run").stat().st_mode) == 0o4755


def test_extract_chooses_platform(
    brolga: Brolga, registry: EmbeddedRegistry, tmp_path: Path
) -> None:
    name = f"{registry.address}/index"
    index(name, Platform("linux", "amd64"), Platform("linux", "arm64"))
    outcome = brolga("extract", "--platform", "linux/s390x", name, str(tmp_path / "root"))
    assert outcome.code == 3
    assert not (tmp_path / "root").exists()


def test_extract_of_missing_image_makes_no_directory(
    brolga: Brolga, registry: EmbeddedRegistry, tmp_path: Path
) -> None:
    outcome = brolga("extract", f"{registry.address}/missing", str(tmp_path / "root"))
    assert outcome.code == 3
    assert not (tmp_path / "root").exists()


def test_extract_refuses_directory_with_files(brolga: Brolga, app: str, tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    outcome = brolga("extract", app, str(tmp_path))
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err == (
        "brolga: local: the directory is not empty, and there is no unfinished extraction in it; "
        "choose an empty or a new directory\n"
    )
    assert (tmp_path / "mine").exists()


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (["--max-size", "1K"], "more than 1024 bytes uncompressed"),
        (["--max-entries", "2"], "entry 'd/run': more than 2 entries"),
    ],
    ids=["size", "entries"],
)
def test_extract_over_limit_says_that_directory_is_not_complete(
    brolga: Brolga, app: str, tmp_path: Path, flags: list[str], text: str
) -> None:
    target = tmp_path / "root"
    outcome = brolga("extract", *flags, app, str(target))
    assert (outcome.code, outcome.out) == (6, "")
    assert outcome.err.startswith("brolga: registry: layer 1 of 2, sha256:")
    assert text in outcome.err
    assert f"{target} is not complete: the same command again goes on" in outcome.err
    assert brolga("extract", app, str(target)).code == 0
    assert files_in(target)["a"] == b"above"


def test_extract_names_entry_on_which_readers_differ(
    brolga: Brolga, registry: EmbeddedRegistry, tmp_path: Path
) -> None:
    name = f"{registry.address}/app"
    push_layers(name, LAYERS[0], tar("lib/x"))
    outcome = brolga("extract", "--strict", name, str(tmp_path / "root"))
    assert outcome.code == 1
    assert "layer 2 of 2" in outcome.err
    assert "entry 'lib/x': 'lib' is a symbolic link to 'd' in a layer below" in outcome.err


def test_extract_cleans_unfinished_extraction_of_another_image(
    brolga: Brolga, app: str, registry: EmbeddedRegistry, tmp_path: Path
) -> None:
    broken, target = f"{registry.address}/broken", tmp_path / "root"
    push_layers(broken, LAYERS[0], b"not a tar")
    assert brolga("extract", broken, str(target)).code == 6
    outcome = brolga("extract", app, str(target))
    assert outcome.code == 1
    assert "unfinished extraction of another image" in outcome.err
    assert brolga("extract", "--clean", app, str(target)).code == 0
    assert files_in(target).keys() == {"a", "d", "d/run", "lib"}


def test_extract_gives_files_to_mapped_owner(brolga: Brolga, app: str, tmp_path: Path) -> None:
    """A user may name only itself."""
    owner = f"{os.getuid()}:{os.getgid()}"
    assert brolga("extract", "--map-owner", owner, app, str(tmp_path / "root")).code == 0
    status = (tmp_path / "root/lib").lstat()
    assert f"{status.st_uid}:{status.st_gid}" == owner


@pytest.mark.parametrize("owner", ["root", "1", "1:", "-1:2", "1:2:3"])
def test_extract_refuses_owner_that_is_not_two_numbers(
    brolga: Brolga, app: str, tmp_path: Path, owner: str
) -> None:
    outcome = brolga("extract", f"--map-owner={owner}", app, str(tmp_path / "root"))
    assert outcome.code == 2
    assert "is not UID:GID, two numbers" in outcome.err


def test_extract_reads_layouts_and_archives(brolga: Brolga, app: str, tmp_path: Path) -> None:
    for number, place in enumerate(
        ("oci:{}/lay:v1", "oci-archive:{}/o.tar", "docker-archive:{}/d")
    ):
        local = place.format(tmp_path)
        assert brolga("copy", app, local).code == 0
        target = tmp_path / f"root{number}"
        assert brolga("extract", local, str(target)).code == 0
        assert files_in(target)["a"] == b"above"
