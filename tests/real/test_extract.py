"""brolga extract beside umoci, skopeo and tar, on trees of this machine."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.file_trees import Item, link_groups, read_tree
from tests.real.foreign import require, skopeo
from tests.tars import entry, link, symlink, tar

from brolga import Client, Image, StreamLayer
from brolga.extract import ExtractOptions

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = pytest.mark.real

# What every Debian has: programs with hard links, links and setuid bits, many small files.
PARTS = ("/etc", "/usr/bin", "/usr/lib/python3", "/usr/share/doc", "/usr/share/zoneinfo")
MAX_FILES = 1500
MAX_SIZE = 60 << 20


@pytest.fixture(scope="module")
def machine_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy a part of this machine's tree, with its hard links; add links and xattrs."""
    root = tmp_path_factory.mktemp("machine") / "root"
    root.mkdir()
    for part in PARTS:
        _copy(Path(part), root / part.lstrip("/"))
    made = root / "made"
    made.mkdir()
    (made / "file").write_bytes(b"file")
    for number in range(5):
        (made / f"hard{number}").hardlink_to(made / "file")
        (made / f"link{number}").symlink_to("file")
    os.setxattr(made / "file", "user.test", b"\xff\n=")  # umoci drops an empty one
    os.setxattr(made, "user.test", b"directory")
    with (made / "sparse").open("wb") as file:
        file.seek(10 << 20)
        file.write(b"end")
    (made / ("n" * 250)).touch()
    (made / "odd \n\u00fc").touch()
    os.mkfifo(made / "fifo")
    (made / "read-only").mkdir()
    (made / "read-only" / "file").write_bytes(b"1")
    (made / "read-only").chmod(0o555)
    return root


def _copy(source: Path, target: Path) -> None:
    """Copy what this user can read of a directory, up to a number of files and bytes."""
    copied: dict[int, Path] = {}
    left = MAX_SIZE
    target.mkdir(parents=True)
    for directory, names, files in os.walk(source):
        names.sort()
        new = target / Path(directory).relative_to(source)
        new.mkdir(exist_ok=True)
        for name in sorted(files):
            path, status = Path(directory, name), Path(directory, name).lstat()
            if len(copied) >= MAX_FILES or not os.access(path, os.R_OK, follow_symlinks=False):
                continue
            if status.st_ino in copied:
                (new / name).hardlink_to(copied[status.st_ino])
            elif stat.S_ISLNK(status.st_mode):
                (new / name).symlink_to(path.readlink())
            elif stat.S_ISREG(status.st_mode) and status.st_size <= left:
                shutil.copy2(path, new / name, follow_symlinks=False)
                copied[status.st_ino] = new / name
                left -= status.st_size


def pack(root: Path, *names: str, exclude: str = "") -> bytes:
    """Return what GNU tar makes of some names."""
    command = ["tar", "-C", str(root), "--xattrs", "--xattrs-include=*", "--format=posix", "-S"]
    command += ["--sort=name", *([f"--exclude={exclude}"] if exclude else []), "-c", *names]
    return subprocess.run(command, check=True, capture_output=True).stdout


@pytest.fixture(scope="module")
def image(machine_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a layout with the tree as an image of three layers, by gzip and zstd."""
    layout = tmp_path_factory.mktemp("image") / "layout"
    layers = [
        StreamLayer([pack(machine_tree, "./etc", "./usr/bin")], "gzip"),
        StreamLayer([pack(machine_tree, "./usr", exclude="./usr/bin")], "gzip"),
        StreamLayer([pack(machine_tree, "./made")], "gzip"),
    ]
    with Client() as client:
        client.push(f"oci:{layout}:v1", Image.empty().append(*layers))
    return layout


def comparable(root: Path) -> dict[bytes, Item]:
    """Read a tree, without what two extractions have otherwise; the root is left out."""
    tree = read_tree(root)
    del tree[b""]
    return {path: _comparable(item) for path, item in tree.items()}


def _comparable(item: Item) -> Item:
    # umoci notes the owners there if it is not root.
    xattrs = tuple(pair for pair in item.xattrs if pair[0] != "user.rootlesscontainers")
    seconds = item.mtime_ns // 10**9
    return item._replace(xattrs=xattrs, mtime_ns=seconds, ctime_ns=0, inode=0, links=0)


def assert_alike(found: Path, wanted: Path) -> None:
    """Compare two directories file by file."""
    ours, theirs = comparable(found), comparable(wanted)
    assert ours.keys() == theirs.keys()
    assert {path: item for path, item in ours.items() if item != theirs[path]} == {}
    assert link_groups(read_tree(found)) == link_groups(read_tree(wanted))


def extracted(image: Path, directory: Path) -> Path:
    """Extract an image with everything that umoci and tar extract too."""
    with Client() as client:
        client.extract(
            f"oci:{image}:v1", directory, options=ExtractOptions(setuid=True, devices=True)
        )
    return directory


def unpacked(image: Path, bundle: Path) -> Path:
    """Unpack an image with umoci, as root with owners."""
    rootless = [] if os.geteuid() == 0 else ["--rootless"]
    command = ["umoci", "unpack", *rootless, "--image", f"{image}:v1", str(bundle)]
    subprocess.run(command, check=True, capture_output=True)
    return bundle / "rootfs"


def test_extract_equals_umoci_unpack(image: Path, tmp_path: Path) -> None:
    """Content, modes, owners, times, xattrs and hard links of every file."""
    require("umoci")
    assert_alike(extracted(image, tmp_path / "ours"), unpacked(image, tmp_path / "bundle"))


def test_extract_equals_tar_of_layers(image: Path, tmp_path: Path) -> None:
    """`skopeo copy` to a directory, then each layer by GNU tar."""
    require("skopeo", "tar")
    skopeo("copy", "--quiet", f"oci:{image}:v1", f"dir:{tmp_path / 'dir'}")
    with Client() as client:
        layers = client.image(f"oci:{image}:v1").layers
    (tmp_path / "theirs").mkdir()
    for layer in layers:
        blob = tmp_path / "dir" / str(layer.descriptor.digest).partition(":")[2]
        command = ["tar", "-C", str(tmp_path / "theirs"), "--xattrs", "--xattrs-include=*", "-P"]
        subprocess.run([*command, "-xpzf", str(blob)], check=True, capture_output=True)
    assert_alike(extracted(image, tmp_path / "ours"), tmp_path / "theirs")


# Layers on which all readers agree, with whiteouts.
STACKS: dict[str, Sequence[bytes]] = {
    "whiteouts": [tar("d/", "d/a", "d/b", "e/", "e/f"), tar("d/.wh.a", ".wh.e"), tar("e/", "e/g")],
    "opaque": [tar("d/", "d/a", "d/e/", "d/e/f"), tar("d/", "d/.wh..wh..opq", "d/new")],
    "opaque behind a new file": [tar("d/", "d/a"), tar("d/", "d/new", "d/.wh..wh..opq")],
    "kinds": [tar("d/", "d/a", "f"), tar("d", "f/", "f/a"), tar("d/", "d/b")],
    "metadata": [
        tar(entry("d/", mode=0o700, mtime=1), entry("d/a", b"1", mode=0o644, mtime=2)),
        tar(entry("d/", mode=0o755, mtime=3), entry("d/b", b"2", mode=0o4711, mtime=4)),
        tar(entry("d/b", b"3", mode=0o600, mtime=5), entry("d/", mode=0o750, mtime=6)),
    ],
    "links": [
        tar(entry("a", b"1"), link("b", "a"), symlink("s", "a"), link("t", "s")),
        tar("d/", link("d/c", "b"), entry("x", b"2"), link("y", "x")),
        tar(".wh.s", symlink("u", "../x"), entry("y", b"3"), ".wh.a"),
    ],
    "names": [tar("./", "./d/", "./d/a"), tar(entry("/d/a", b"new"), "d//b"), tar("n" * 200)],
    "GNU": [tar(entry("d" * 150, b"1"), link("l" * 150, "d" * 150), form=tarfile.GNU_FORMAT)],
}


@pytest.mark.parametrize("name", STACKS)
def test_extract_applies_whiteouts_as_umoci(name: str, tmp_path: Path) -> None:
    """Each layer over those below."""
    require("umoci")
    layers = [StreamLayer([data]) for data in STACKS[name]]
    with Client() as client:
        client.push(f"oci:{tmp_path / 'layout'}:v1", Image.empty().append(*layers))
    ours = extracted(tmp_path / "layout", tmp_path / "ours")
    assert_alike(ours, unpacked(tmp_path / "layout", tmp_path / "bundle"))
