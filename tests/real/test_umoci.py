"""umoci unpacks a flattened image as it unpacks all of its layers."""

from __future__ import annotations

import hashlib
import json
import shutil
import stat
import subprocess
from typing import TYPE_CHECKING

import pytest
from tests.tars import entry, link, merged, symlink, tar

from brolga.spec.mediatypes import OCI_LAYER

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path


def layout(directory: Path, tars: Sequence[bytes]) -> None:
    """Write an OCI layout with one image, whose tag is `latest`."""
    blobs = directory / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def put(data: bytes, media_type: str) -> dict[str, object]:
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}

    def document(value: object, media_type: str) -> dict[str, object]:
        return put(json.dumps(value).encode(), f"application/vnd.oci.image.{media_type}.v1+json")

    layers = [put(data, OCI_LAYER) for data in tars]
    rootfs = {"type": "layers", "diff_ids": [layer["digest"] for layer in layers]}
    config = document(
        {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": rootfs}, "config"
    )
    manifest = document({"schemaVersion": 2, "config": config, "layers": layers}, "manifest")
    manifest["annotations"] = {"org.opencontainers.image.ref.name": "latest"}
    (directory / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [manifest]}))
    (directory / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')


def unpacked(directory: Path, tars: Sequence[bytes]) -> dict[str, tuple[object, ...]]:
    """Let umoci unpack an image; return what is there: by name kind, mode, time and content."""
    layout(directory / "layout", tars)
    bundle = directory / "bundle"
    command = [
        "umoci",
        "unpack",
        "--rootless",
        "--image",
        str(directory / "layout:latest"),
        str(bundle),
    ]
    subprocess.run(command, check=True, capture_output=True)
    return dict(_walked(bundle / "rootfs"))


def _walked(root: Path) -> Iterable[tuple[str, tuple[object, ...]]]:
    inodes: dict[int, str] = {}
    for path in sorted(root.rglob("*")):
        name, status = str(path.relative_to(root)), path.lstat()
        first = inodes.setdefault(status.st_ino, name)
        content = (
            str(path.readlink())
            if path.is_symlink()
            else path.read_bytes()
            if stat.S_ISREG(status.st_mode)
            else b""
        )
        yield name, (status.st_mode, int(status.st_mtime), first, content)


STACKS: dict[str, Sequence[bytes]] = {
    "whiteouts": [tar("d/", "d/a", "d/b", "e/", "e/f"), tar("d/.wh.a", ".wh.e"), tar("e/", "e/g")],
    "opaque": [tar("d/", "d/a", "d/e/", "d/e/f"), tar("d/", "d/.wh..wh..opq", "d/new")],
    "kinds": [tar("d/", "d/a", "f"), tar("d", "f/", "f/a"), tar("d/", "d/b")],
    "metadata": [
        tar(entry("d/", mode=0o700, mtime=1), entry("d/a", b"1", mode=0o644, mtime=2)),
        tar(entry("d/", mode=0o755, mtime=3), entry("d/b", b"2", mode=0o4711, mtime=4)),
        tar(entry("d/b", b"3", mode=0o600, mtime=5), entry("d/", mode=0o750, mtime=6)),
    ],
    "links": [
        tar(entry("a", b"1"), link("b", "a"), symlink("s", "a")),
        tar("d/", link("d/c", "b"), entry("x", b"2"), link("y", "x")),
        tar(".wh.s", symlink("t", "../x"), entry("y", b"3")),
    ],
    "hidden targets": [
        tar(
            entry("a", b"1", mode=0o640, mtime=7), link("b", "a"), link("c", "b"), symlink("s", "a")
        ),
        tar(link("d", "a"), link("t", "s"), entry("x", b"2"), link("y", "x")),
        tar(entry("a", b"3"), ".wh.s", "x/", "x/f"),
        tar(".wh.b"),
    ],
    "names": [tar("./", "./d/", "./d/a"), tar(entry("/d/a", b"new"), "d//b"), tar("n" * 200)],
}


@pytest.mark.real
@pytest.mark.skipif(shutil.which("umoci") is None, reason="the umoci program is not on PATH")
@pytest.mark.parametrize("name", STACKS)
def test_umoci_unpacks_flattened_image_alike(name: str, tmp_path: Path) -> None:
    """A foreign reader sees the same in the one layer as in all of them."""
    stack = STACKS[name]
    assert unpacked(tmp_path / "one", [merged(*stack, spool=True)]) == unpacked(
        tmp_path / "all", stack
    )
