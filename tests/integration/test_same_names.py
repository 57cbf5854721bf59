"""Layouts and archives in which several images have one name, or none: none is taken in silence."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from brolga import Client, Image, ImageNotFound, Layout, Platform, PlatformNotFound, TagConflict
from brolga.spec.index import Index

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from brolga.spec.descriptor import Descriptor
    from brolga.spec.digest import Digest

REF, FULL = "org.opencontainers.image.ref.name", "io.containerd.image.name"
AMD64, ARM64 = Platform("linux", "amd64"), Platform("linux", "arm64")
FORMS = ["oci", "oci-archive", "docker-archive"]
PATIENCE_S = 120


def image(text: str, platform: Platform = AMD64) -> Image:
    """Return an image that differs from others by a label."""
    return Image.empty(platform).with_config(labels={"text": text})


def made(
    tmp_path: Path,
    form: str,
    images: Sequence[tuple[Image, str]],
    *,
    full: Sequence[str] = (),
    tells_platforms: bool = True,
) -> str:
    """Write a layout or archive of images, each with a name or ""; return its place.

    `full` are the names with a repository; `tells_platforms` is whether index.json has platforms.
    """
    layout = Layout(tmp_path / "made")
    entries = []
    for number, (one, name) in enumerate(images):
        layout.push(one.config_blob)
        layout.push_manifest(one.manifest, str(one.digest))
        annotations = {REF: name, FULL: full[number] if full else ""}
        described = one.descriptor.to_dict()
        described["annotations"] = {key: text for key, text in annotations.items() if text}
        if tells_platforms:
            described["platform"] = one.platform.to_dict()
        entries.append(described)
    index = tmp_path / "made" / "index.json"
    index.write_bytes(json.dumps({"schemaVersion": 2, "manifests": entries}).encode())
    if form == "oci":
        return f"oci:{tmp_path}/made"
    files = {
        str(path.relative_to(tmp_path / "made")): path.read_bytes()
        for path in sorted((tmp_path / "made").rglob("*"))
        if path.is_file()
    }
    if form == "docker-archive":
        listed = [
            {
                "Config": f"{one.manifest.config.digest.encoded}.json",
                "RepoTags": [f"app:{name}"] if name else None,
                "Layers": [],
            }
            for one, name in images
        ]
        configs = {
            f"{one.manifest.config.digest.encoded}.json": one.config.raw for one, _ in images
        }
        files = {**configs, "manifest.json": json.dumps(listed).encode()}
    (tmp_path / "made.tar").write_bytes(packed(files))
    return f"{form}:{tmp_path}/made.tar"


def packed(files: Mapping[str, bytes]) -> bytes:
    """Return a tar of some files."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def config_of(tree: object) -> Digest:
    """Return what an image is in each form."""
    assert isinstance(tree, Image)
    return tree.config_blob.descriptor.digest


def named(form: str, place: str) -> str:
    """Return a place with the name v1 behind it, as the form has it."""
    return f"{place}:app:v1" if form == "docker-archive" else f"{place}:v1"


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["v1", ""])
@pytest.mark.parametrize("tells", [True, False])
def test_a_platform_chooses_among_images_of_one_name(
    form: str, name: str, tells: bool, tmp_path: Path
) -> None:
    """One entry a platform, as `docker buildx` and others export them, with a name or without."""
    images = [image("a", AMD64), image("b", ARM64)]
    place = made(tmp_path, form, [(one, name) for one in images], tells_platforms=tells)
    place = named(form, place) if name else place
    with Client() as client:
        for one in images:
            assert config_of(client.image(place, one.platform)) == config_of(one)
            assert client.config(place, one.platform) == one.config.raw
            assert config_of(client.get(place, platform=one.platform)) == config_of(one)
            if form != "docker-archive":
                assert client.manifest(place, one.platform).digest == one.digest
        for look in (client.get, client.image):
            with pytest.raises(ImageNotFound):
                look(place)
        with pytest.raises(PlatformNotFound, match="it has 'linux/amd64', 'linux/arm64'"):
            client.image(place, Platform("linux", "s390x"))


@pytest.mark.parametrize("form", FORMS)
def test_names_that_differ_by_platform_are_chosen_by_platform_too(
    form: str, tmp_path: Path
) -> None:
    """One name a platform: without a name, the platform says which."""
    images = [(image("a", AMD64), "v1-amd64"), (image("b", ARM64), "v1-arm64")]
    place = made(tmp_path, form, images)
    with Client() as client:
        assert config_of(client.image(place, ARM64)) == config_of(images[1][0])
        with pytest.raises(ImageNotFound):
            client.image(place)


@pytest.mark.parametrize("form", FORMS)
def test_two_images_of_one_name_and_platform_are_an_error(form: str, tmp_path: Path) -> None:
    """The choice is the user's."""
    place = named(form, made(tmp_path, form, [(image("a"), "v1"), (image("b"), "v1")]))
    with Client() as client:
        for platform in (None, AMD64):
            with pytest.raises(ImageNotFound):
                client.image(place, platform)


def test_the_error_names_both_images(tmp_path: Path) -> None:
    """`ctr images export` writes the tag alone, and the whole name beside it."""
    full = ["docker.io/library/app:v1", "docker.io/library/web:v1"]
    place = made(tmp_path, "oci", [(image("a"), "v1"), (image("b"), "v1")], full=full)
    with Client() as client:
        with pytest.raises(ImageNotFound) as caught:
            client.head(f"{place}:v1")
        assert str(caught.value) == (
            f"{tmp_path}/made has 2 images v1: @0 'docker.io/library/app:v1' 'linux/amd64', "
            "@1 'docker.io/library/web:v1' 'linux/amd64'"
        )
        assert caught.value.__notes__ == [
            "name one by its number or its digest, or choose it by --platform"
        ]
        for number, name in enumerate(full):
            found = client.head(f"{place}:{name}").digest
            assert found == client.head(f"{place}:@{number}").digest


@pytest.mark.parametrize("form", ["oci", "oci-archive"])
def test_an_index_is_chosen_for_the_platforms_that_it_has(form: str, tmp_path: Path) -> None:
    """An entry without a platform may be an index."""
    one, other = image("a", ARM64), image("b", AMD64)
    layout = Layout(tmp_path / "made")
    with layout.writing():
        for tree in (one, other):
            layout.push(tree.config_blob)
            layout.push_manifest(tree.manifest, str(tree.digest))
        index = Index.new([_child(one)])
        layout.push_manifest(index, "v1")
    path = tmp_path / "made" / "index.json"
    entries = [
        {**index.descriptor.to_dict(), "annotations": {REF: "v1"}},
        {**other.descriptor.to_dict(), "annotations": {REF: "v1"}},
    ]
    path.write_bytes(json.dumps({"schemaVersion": 2, "manifests": entries}).encode())
    place = f"oci:{tmp_path}/made:v1"
    if form == "oci-archive":
        names = sorted((tmp_path / "made").rglob("*"))
        files = {
            str(p.relative_to(tmp_path / "made")): p.read_bytes() for p in names if p.is_file()
        }
        (tmp_path / "made.tar").write_bytes(packed(files))
        place = f"oci-archive:{tmp_path}/made.tar:v1"
    with Client() as client:
        assert config_of(client.image(place, ARM64)) == config_of(one)
        assert config_of(client.image(place, AMD64)) == config_of(other)


@pytest.mark.parametrize("form", ["oci-archive", "docker-archive"])
def test_a_platform_chooses_in_an_archive_that_comes_down_a_pipe(form: str, tmp_path: Path) -> None:
    """`cat FILE | brolga copy --platform ... FORM:- DST`."""
    images = [image("a", AMD64), image("b", ARM64)]
    made(tmp_path, form, [(one, "v1") for one in images])
    data = (tmp_path / "made.tar").read_bytes()
    target = f"oci:{tmp_path}/to"
    source = named(form, f"{form}:-")
    run("copy", "--platform", "linux/arm64", source, f"{target}:one", data=data)
    run("copy", "--all-tags", "--platform", "linux/arm64", f"{form}:-", target, data=data)
    with Client() as client:
        assert config_of(client.image(f"{target}:one")) == config_of(images[1])
        assert config_of(client.image(f"{target}:v1")) == config_of(images[1])
    assert b"more than one image" in run("copy", source, f"{target}:two", data=data, code=3)


def test_all_tags_of_a_layout_with_two_images_of_one_tag_are_not_copied_in_part(
    tmp_path: Path,
) -> None:
    """They are refused before anything is copied; a platform chooses."""
    images = [(image("0"), "v0"), (image("a", AMD64), "v1"), (image("b", ARM64), "v1")]
    place, target = made(tmp_path, "oci", images), f"oci:{tmp_path}/to"
    assert b"has 2 images v1: @1 'linux/amd64', @2 'linux/arm64'" in run(
        "copy", "--all-tags", place, target, code=3
    )
    assert not (tmp_path / "to").exists()
    run("copy", "--all-tags", "--platform", "linux/arm64", place, target)
    with Client() as client:
        assert config_of(client.image(f"{target}:v1")) == config_of(images[2][0])


def test_all_tags_of_a_layout_without_tags_are_an_error(tmp_path: Path) -> None:
    """Nothing copied is not success."""
    place = made(tmp_path, "oci", [(image("a"), ""), (image("b"), "")])
    said = run("copy", "--all-tags", place, f"oci:{tmp_path}/to", code=3)
    assert b"has 2 images, and none has a name" in said
    Layout(tmp_path / "empty").push_manifest(Index.new(()), "v1")
    Layout(tmp_path / "empty").delete("v1")
    assert b"1 images, and none has a name" in run(
        "copy", "--all-tags", f"oci:{tmp_path}/empty", f"oci:{tmp_path}/to", code=3
    )


def test_a_name_that_two_images_have_is_not_taken_from_one_in_silence(tmp_path: Path) -> None:
    """A change in place needs one image; a push under the name takes it from both, as a tag."""
    images = [(image("a", AMD64), "v1"), (image("b", ARM64), "v1")]
    place = made(tmp_path, "oci", images)
    layout = Layout(tmp_path / "made")
    with pytest.raises(ImageNotFound, match="has 2 images v1"):
        layout.find("v1")
    assert not layout.exists(images[0][0].descriptor, "v1")
    with Client() as client:
        with pytest.raises((ImageNotFound, TagConflict)):
            client.push(f"{place}:v1", image("c"), expected=images[0][0].digest)
        client.push(f"{place}:v1", images[0][0])
    assert layout.resolve("v1").digest == images[0][0].digest
    assert layout.resolve(str(images[1][0].digest)).digest == images[1][0].digest


def _child(one: Image) -> Descriptor:
    return replace(one.descriptor, platform=one.platform)


def run(*arguments: str, data: bytes = b"", code: int = 0) -> bytes:
    """Run the command with bytes on stdin; return what it prints, of an error what it says."""
    done = subprocess.run(
        [sys.executable, "-m", "brolga", *arguments],
        input=data,
        capture_output=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert done.returncode == code, done.stderr
    return done.stderr if code else done.stdout
