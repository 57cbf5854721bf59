"""Foreign readers of layers with links, and of the same layers after flatten."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.real.foreign import mounted, require, tree, unpack
from tests.tars import entry, symlink, tar

from brolga import Client, Image, StreamLayer
from brolga.extract import ExtractOptions

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

LIB = (entry("usr/", mode=0o755), entry("usr/lib/", mode=0o755), entry("usr/lib/libc.so", b"libc"))
BASE = tar(*LIB, symlink("lib", "usr/lib"))
NEW = entry("lib/new.so", b"new")

# Layers that all readers show alike.
ALIKE = {
    "a link and what is below it in one layer": [tar(*LIB, symlink("lib", "usr/lib"), NEW)],
    "the same with an absolute link": [tar(*LIB, symlink("lib", "/usr/lib"), NEW)],
    "a whiteout through a link of its layer": [
        tar(*LIB),
        tar(entry("usr/", mode=0o755), symlink("l", "usr"), "l/.wh.lib"),
    ],
    "an entry for the directory": [BASE, tar(entry("lib/", mode=0o755), NEW)],
    "a link over a directory": [
        tar(*LIB, entry("lib/", mode=0o755), NEW),
        tar(symlink("lib", "x")),
    ],
    "a link in the place of a file": [tar(*LIB, "lib"), tar(symlink("lib", "usr"))],
}
# Layers that overlayfs shows in one way, and who extracts a layer over those below in another.
DIFFER = {
    "a file below a link": [BASE, tar(NEW)],
    "a file below an absolute link": [tar(*LIB, symlink("lib", "/usr/lib")), tar(NEW)],
    "an opaque whiteout below a link": [BASE, tar("lib/.wh..wh..opq")],
    "a link between": [BASE, tar(entry("lib/a")), tar(symlink("lib", "usr")), tar(entry("lib/b"))],
}


def flattened(directory: Path, layers: Sequence[bytes]) -> tuple[Path, list[str]]:
    """Write an image to a layout, as `all` and flattened as `one`; return that and the warnings."""
    layout, warnings = directory / "layout", list[str]()
    with Client() as client:
        image = Image.empty().append(*(StreamLayer([data]) for data in layers))
        client.push(f"oci:{layout}:all", image)
        flat = client.image(f"oci:{layout}:all").flatten(on_warning=warnings.append)
        client.push(f"oci:{layout}:one", flat)
    return layout, warnings


@pytest.mark.parametrize("name", ALIKE)
def test_flatten_shows_the_same_files_in_umoci_and_buildah(name: str, tmp_path: Path) -> None:
    """Buildah with vfs and with overlayfs; without a warning."""
    require("umoci", "buildah")
    layout, warnings = flattened(tmp_path, ALIKE[name])
    assert warnings == []
    shown = {
        tag: [
            tree(unpack(layout, tag, tmp_path / tag)),
            mounted(layout, tag, tmp_path / "vfs", "vfs"),
        ]
        for tag in ("all", "one")
    }
    assert shown["one"] == shown["all"]
    overlay = mounted(layout, "all", tmp_path / "stacked", "overlay")
    assert overlay == shown["all"][0] == shown["all"][1]


@pytest.mark.parametrize("name", [*ALIKE, *DIFFER])
def test_extract_shows_the_same_files_as_overlayfs(name: str, tmp_path: Path) -> None:
    """`buildah mount` with overlayfs, of the layers and of the flattened one."""
    require("buildah")
    layout, _ = flattened(tmp_path, (ALIKE | DIFFER)[name])
    overlay = mounted(layout, "all", tmp_path / "stacked", "overlay")
    options = ExtractOptions(on_warning=lambda _: None)
    for tag in ("all", "one"):
        with Client() as client:
            client.extract(f"oci:{layout}:{tag}", tmp_path / tag, options=options)
        assert tree(tmp_path / tag) == overlay


@pytest.mark.parametrize("name", DIFFER)
def test_flatten_warns_and_agrees_with_overlayfs_if_readers_differ(
    name: str, tmp_path: Path
) -> None:
    """`buildah mount` with overlayfs; umoci unpacks something else of the layers."""
    require("umoci", "buildah")
    layout, warnings = flattened(tmp_path, DIFFER[name])
    assert warnings != []
    overlay = mounted(layout, "all", tmp_path / "stacked", "overlay")
    assert mounted(layout, "one", tmp_path / "stacked", "overlay") == overlay
    assert tree(unpack(layout, "one", tmp_path / "one")) == overlay
    assert tree(unpack(layout, "all", tmp_path / "all")) != overlay
