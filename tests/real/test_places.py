"""Layouts that skopeo and umoci read and write, and ours, are one and the same thing."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from tests.killing import killed_layouts
from tests.real.foreign import (
    buildah,
    copy,
    image_id,
    make_image,
    push,
    require,
    skopeo,
    tree,
    unpack,
)
from tests.tars import entry, tar

from brolga.client import Client, UploadOptions
from brolga.images import Image
from brolga.images.validate import validate
from brolga.registry.server import running
from brolga.stores.layout import Layout
from brolga.stream.layer import StreamLayer

if TYPE_CHECKING:
    from pathlib import Path

    from tests.real.foreign import DockerRegistry

pytestmark = pytest.mark.real

PLATFORMS = ("linux/amd64", "linux/arm64")


def brolga(*arguments: str | Path) -> str:
    """Run the command; return what it prints."""
    done = subprocess.run(
        [sys.executable, "-m", "brolga", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def umoci(*arguments: str) -> None:
    require("umoci")
    subprocess.run(["umoci", *arguments], check=True, capture_output=True)


def digest_of(raw: str) -> str:
    return f"sha256:{hashlib.sha256(raw.encode()).hexdigest()}"


def blobs(path: Path) -> set[str]:
    return {blob.name for blob in path.glob("blobs/sha256/*")}


def test_skopeo_and_umoci_read_what_is_written_into_a_layout(
    plain_registry: DockerRegistry, tmp_path: Path
) -> None:
    """An index from a registry: the same bytes, named by its tag alone, and unpacked as it was."""
    images = make_image(tmp_path / "images", PLATFORMS)
    name = f"{plain_registry.address}/places/index:v1"
    push(images, name)
    layout = tmp_path / "layout"
    assert brolga("copy", name, f"oci:{layout}:v1") == f"oci:{layout}@{images.digest}\n"
    # Without a tag: there is one image alone, so children have no entries of their own.
    for place in (f"oci:{layout}:v1", f"oci:{layout}"):
        assert digest_of(skopeo("inspect", "--raw", place)) == images.digest
    copy(f"oci:{layout}:v1", f"oci:{tmp_path / 'theirs'}:v1")
    assert blobs(tmp_path / "theirs") == blobs(layout) == blobs(images.directory)

    image = make_image(tmp_path / "image")
    brolga("copy", image.place, f"oci:{layout}:single")
    ours = tree(unpack(layout, "single", tmp_path / "ours"))
    assert ours == tree(unpack(image.directory, "v1", tmp_path / "as-it-was"))


def test_what_skopeo_writes_is_read(plain_registry: DockerRegistry, tmp_path: Path) -> None:
    """Into its layout beside what it has, and from there to a registry, with the same digest."""
    image = make_image(tmp_path / "image", PLATFORMS)
    layout = tmp_path / "layout"
    copy(image.place, f"oci:{layout}:theirs")
    assert brolga("ls", f"oci:{layout}") == "theirs\n"
    brolga("tag", f"oci:{layout}:theirs", "ours")
    copy(image.place, f"oci:{layout}:more")
    assert brolga("ls", f"oci:{layout}").split() == ["theirs", "ours", "more"]
    assert brolga("validate", "--remote", f"oci:{layout}:more") == f"PASS: oci:{layout}:more\n"
    name = f"{plain_registry.address}/places/theirs:v1"
    assert brolga("push", f"oci:{layout}:ours", name).endswith(f"@{image.digest}\n")
    assert digest_of(skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{name}")) == (
        image.digest
    )
    brolga("layout", "gc", "--older-than", "0", layout)
    assert blobs(layout) == blobs(image.directory)


def test_buildah_reads_and_writes_a_layout(plain_registry: DockerRegistry, tmp_path: Path) -> None:
    """The same image, from a registry to buildah's store and back, by a layout each way."""
    image = make_image(tmp_path / "image")
    name = f"{plain_registry.address}/places/buildah:v1"
    push(image, name)
    brolga("copy", name, f"oci:{tmp_path}/ours:v1")
    found = buildah(tmp_path, "pull", f"oci:{tmp_path}/ours:v1")
    assert found == image_id(image)
    buildah(tmp_path, "push", found, f"oci:{tmp_path}/theirs:v1")
    back = f"{plain_registry.address}/places/back:v1"
    brolga("push", f"oci:{tmp_path}/theirs:v1", back)
    assert brolga("validate", "--remote", back) == f"PASS: {back}\n"
    config = brolga("config", name)
    assert brolga("config", back) == brolga("config", f"oci:{tmp_path}/theirs:v1") == config


def test_umoci_and_brolga_change_one_layout_in_turn(tmp_path: Path) -> None:
    """An image of umoci's gets a layer from a stream; its next change comes on top; both sweep."""
    layout = tmp_path / "layout"
    umoci("init", "--layout", str(layout))
    umoci("new", "--image", f"{layout}:base")
    with Client() as client:
        base = client.image(f"oci:{layout}:base")
        layer = StreamLayer([tar(entry("app/hello", b"hello\n", mode=0o644))])
        client.push(f"oci:{layout}:app", base.append(layer, created_by="the test"))
    umoci("config", "--image", f"{layout}:app", "--config.env", "A=b")
    rootfs = unpack(layout, "app", tmp_path / "bundle")
    assert (rootfs / "app/hello").read_text() == "hello\n"
    assert json.loads(brolga("config", f"oci:{layout}:app"))["config"]["Env"] == ["A=b"]
    assert brolga("validate", "--remote", f"oci:{layout}:app") == f"PASS: oci:{layout}:app\n"
    brolga("layout", "gc", "--older-than", "0", "--untagged", layout)
    ours = blobs(layout)
    umoci("gc", "--layout", str(layout))
    assert blobs(layout) == ours
    assert brolga("ls", f"oci:{layout}").split() == ["base", "app"]


def test_one_directory_for_a_registry_a_layout_and_skopeo(tmp_path: Path) -> None:
    """`registry serve DIR` and `oci:DIR/team/app`: what one writes the others read at once."""
    image = make_image(tmp_path / "image", PLATFORMS)
    root = tmp_path / "root"
    layout = root / "team" / "app"
    with running(root) as address:
        push(image, f"{address}/team/app:pushed")
        brolga("copy", f"oci:{layout}:pushed", f"oci:{layout}:tagged")
        brolga("copy", image.place, f"oci:{layout}:copied")
        for tag in ("pushed", "tagged", "copied"):
            raw = skopeo(
                "inspect", "--raw", "--tls-verify=false", f"docker://{address}/team/app:{tag}"
            )
            assert digest_of(raw) == image.digest
            assert skopeo("inspect", "--raw", f"oci:{layout}:{tag}") == raw
        listed = json.loads(
            skopeo("list-tags", "--tls-verify=false", f"docker://{address}/team/app")
        )
        assert sorted(listed["Tags"]) == ["copied", "pushed", "tagged"]
        brolga("layout", "gc", "--older-than", "0", layout)
        copy(f"docker://{address}/team/app:copied", f"oci:{tmp_path / 'back'}:v1")
    assert blobs(tmp_path / "back") == blobs(image.directory)


@pytest.mark.parametrize("form", ["oci-archive", "docker-archive"])
def test_archives_go_to_and_fro(form: str, plain_registry: DockerRegistry, tmp_path: Path) -> None:
    """What `brolga pull` and `copy` write skopeo takes, and the other way round."""
    image = make_image(tmp_path / "image")
    ours, theirs = (f"{form}:{tmp_path / name}.tar:localhost/app:v1" for name in ("a", "b"))
    brolga("copy", image.place, ours)
    skopeo("copy", "--quiet", ours, f"oci:{tmp_path / 'theirs'}:v1")
    skopeo("copy", "--quiet", image.place, theirs)
    # What is read from docker's has docker's media types, which umoci does not know.
    name = f"{plain_registry.address}/places/{form}:v1"
    brolga("copy", theirs, name)
    copy(f"docker://{name}", f"oci:{tmp_path / 'ours'}:v1", "--format", "oci")
    expected = tree(unpack(image.directory, "v1", tmp_path / "as-it-was"))
    for name in ("ours", "theirs"):
        assert tree(unpack(tmp_path / name, "v1", tmp_path / f"{name}-bundle")) == expected


def test_skopeo_reads_whatever_a_killed_writer_leaves(tmp_path: Path) -> None:
    """SIGKILL at any point: `skopeo inspect oci:DIR:v1` finds the image before or the one after."""
    require("skopeo")
    paths = killed_layouts(tmp_path)
    raws = [skopeo("inspect", "--raw", f"oci:{path}:v1") for path in paths]
    assert all(
        raw == Layout(path).fetch_manifest("v1").raw.decode()
        for raw, path in zip(raws, paths, strict=True)
    )
    # The image before, then the index: each writer's own, with the time in it.
    kinds = ["manifests" in json.loads(raw) for raw in raws]
    assert kinds == sorted(kinds)
    assert (kinds[0], kinds[-1]) == (False, True)
    assert len(set(raws[: kinds.index(True)])) == 1


def test_a_large_layer_goes_straight_through(
    plain_registry: DockerRegistry, tmp_path: Path
) -> None:
    """From a layout to a registry and back, several blobs at a time."""
    data = [tar(entry(str(number), bytes([number]) * (9 << 20))) for number in range(4)]
    name = f"{plain_registry.address}/places/large:v1"
    with Client(uploads=UploadOptions(jobs=3)) as client:
        layers = [StreamLayer([one], compression="none") for one in data]
        client.push(f"oci:{tmp_path}/a:v1", Image.empty().append(*layers))
        client.copy(f"oci:{tmp_path}/a:v1", name)
        client.copy(name, f"oci:{tmp_path}/b:v1")
    assert blobs(tmp_path / "a") == blobs(tmp_path / "b")
    assert list(validate(Layout(tmp_path / "b").tree())) == []
