"""Layouts that brolga shares with skopeo, umoci and buildah."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest
from tests.images import assert_valid, blob_names, digest_of
from tests.killed_writer import contents, killed_layouts
from tests.processes import brolga_text as brolga
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
from brolga.registry.server import running
from brolga.stores.layout import Layout
from brolga.stream.layer import StreamLayer

if TYPE_CHECKING:
    from pathlib import Path

    from tests.real.foreign import DockerRegistry

pytestmark = pytest.mark.real

PLATFORMS = ("linux/amd64", "linux/arm64")


def umoci(*arguments: str) -> None:
    require("umoci")
    subprocess.run(["umoci", *arguments], check=True, capture_output=True)


def test_skopeo_and_umoci_read_our_layout(plain_registry: DockerRegistry, tmp_path: Path) -> None:
    """An index from a registry: the same bytes, named by its tag alone, and unpacked as it was."""
    images = make_image(tmp_path / "images", PLATFORMS)
    name = f"{plain_registry.address}/places/index:v1"
    push(images, name)
    layout = tmp_path / "layout"
    assert brolga("copy", name, f"oci:{layout}:v1") == f"oci:{layout}@{images.digest}\n"
    # Without a tag: there is one image alone, so children have no entries of their own.
    for place in (f"oci:{layout}:v1", f"oci:{layout}"):
        assert digest_of(skopeo("inspect", "--raw", place).encode()) == images.digest
    copy(f"oci:{layout}:v1", f"oci:{tmp_path / 'theirs'}:v1")
    assert blob_names(tmp_path / "theirs") == blob_names(layout) == blob_names(images.directory)

    image = make_image(tmp_path / "image")
    brolga("copy", image.place, f"oci:{layout}:single")
    ours = tree(unpack(layout, "single", tmp_path / "ours"))
    assert ours == tree(unpack(image.directory, "v1", tmp_path / "as-it-was"))


def test_brolga_reads_and_extends_a_layout_of_skopeo(
    plain_registry: DockerRegistry, tmp_path: Path
) -> None:
    """Its images go to a registry with the same digest."""
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
    raw = skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{name}")
    assert digest_of(raw.encode()) == image.digest
    brolga("layout", "gc", "--older-than", "0", layout)
    assert blob_names(layout) == blob_names(image.directory)


def test_buildah_reads_and_writes_a_layout(plain_registry: DockerRegistry, tmp_path: Path) -> None:
    """The same image, from a registry to buildah's store and back, by a layout each way."""
    image = make_image(tmp_path / "image")
    name = f"{plain_registry.address}/places/buildah:v1"
    push(image, name)
    brolga("copy", name, f"oci:{tmp_path}/ours:v1")
    pulled = buildah(tmp_path, "pull", f"oci:{tmp_path}/ours:v1")
    assert pulled == image_id(image)
    buildah(tmp_path, "push", pulled, f"oci:{tmp_path}/theirs:v1")
    back = f"{plain_registry.address}/places/back:v1"
    brolga("push", f"oci:{tmp_path}/theirs:v1", back)
    assert brolga("validate", "--remote", back) == f"PASS: {back}\n"
    config = brolga("config", name)
    assert brolga("config", back) == brolga("config", f"oci:{tmp_path}/theirs:v1") == config


def test_umoci_and_brolga_change_one_layout_in_turn(tmp_path: Path) -> None:
    """A stream becomes a layer of umoci's image, umoci changes that; both collect garbage."""
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
    ours = blob_names(layout)
    umoci("gc", "--layout", str(layout))
    assert blob_names(layout) == ours
    assert brolga("ls", f"oci:{layout}").split() == ["base", "app"]


def test_registry_layout_and_skopeo_share_one_directory(tmp_path: Path) -> None:
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
            assert digest_of(raw.encode()) == image.digest
            assert skopeo("inspect", "--raw", f"oci:{layout}:{tag}") == raw
        listed = json.loads(
            skopeo("list-tags", "--tls-verify=false", f"docker://{address}/team/app")
        )
        assert sorted(listed["Tags"]) == ["copied", "pushed", "tagged"]
        brolga("layout", "gc", "--older-than", "0", layout)
        copy(f"docker://{address}/team/app:copied", f"oci:{tmp_path / 'back'}:v1")
    assert blob_names(tmp_path / "back") == blob_names(image.directory)


@pytest.mark.parametrize("form", ["oci-archive", "docker-archive"])
def test_skopeo_and_brolga_read_each_other_s_archives(
    form: str, plain_registry: DockerRegistry, tmp_path: Path
) -> None:
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


def test_skopeo_reads_the_layout_after_sigkill_of_a_writer(tmp_path: Path) -> None:
    """At any point `skopeo inspect oci:DIR:v1` finds the image before or the one after."""
    require("skopeo")
    # Layouts in which a reader sees the same are read once.
    paths = {contents(path): path for path in killed_layouts(tmp_path)}.values()
    assert len(paths) > 10
    raws = [skopeo("inspect", "--raw", f"oci:{path}:v1") for path in paths]
    for raw, path in zip(raws, paths, strict=True):
        assert raw == Layout(path).fetch_manifest("v1").raw.decode()
    # First the old image, then the index.
    are_indexes = ["manifests" in json.loads(raw) for raw in raws]
    assert are_indexes == sorted(are_indexes)
    assert (are_indexes[0], are_indexes[-1]) == (False, True)
    assert len(set(raws[: are_indexes.index(True)])) == 1


def test_copy_of_large_layers_keeps_their_blobs(
    plain_registry: DockerRegistry, tmp_path: Path
) -> None:
    """From a layout to a registry and back, several blobs at a time."""
    data = [tar(entry(str(number), bytes([number]) * (9 << 20))) for number in range(4)]
    name = f"{plain_registry.address}/places/large:v1"
    with Client(uploads=UploadOptions(jobs=3)) as client:
        layers = [StreamLayer([layer], compression="none") for layer in data]
        client.push(f"oci:{tmp_path}/a:v1", Image.empty().append(*layers))
        client.copy(f"oci:{tmp_path}/a:v1", name)
        client.copy(name, f"oci:{tmp_path}/b:v1")
    assert blob_names(tmp_path / "a") == blob_names(tmp_path / "b")
    assert_valid(Layout(tmp_path / "b").tree())
