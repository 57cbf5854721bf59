"""Layouts and archives in which several images have the same name, or no name."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import starmap
from typing import TYPE_CHECKING

import pytest
from tests.images import AMD64, ARM64
from tests.processes import brolga
from tests.tars import entry, tar

from brolga import Client, Image, ImageNotFound, Layout, Platform, PlatformNotFound, TagConflict
from brolga.spec.index import Index

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from brolga.spec.descriptor import Descriptor
    from brolga.spec.digest import Digest

REF, FULL = "org.opencontainers.image.ref.name", "io.containerd.image.name"
FORMS = ["oci", "oci-archive", "docker-archive"]


def labelled_image(text: str, platform: Platform = AMD64) -> Image:
    """Return an image that differs from others by a label."""
    return Image.empty(platform).with_config(labels={"text": text})


def write_images(
    tmp_path: Path,
    form: str,
    images: Sequence[tuple[Image, str]],
    *,
    full: Sequence[str] = (),
    with_platforms: bool = True,
) -> str:
    """Write a layout or archive of images, each with a name or ""; return its place.

    `full` are the names with a repository; `with_platforms` is whether index.json has platforms.
    """
    layout = Layout(tmp_path / "made")
    entries = []
    for number, (image, name) in enumerate(images):
        layout.push(image.config_blob)
        layout.push_manifest(image.manifest, str(image.digest))
        annotations = {REF: name, FULL: full[number] if full else ""}
        described = image.descriptor.to_dict()
        described["annotations"] = {key: text for key, text in annotations.items() if text}
        if with_platforms:
            described["platform"] = image.platform.to_dict()
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
                "Config": f"{image.manifest.config.digest.encoded}.json",
                "RepoTags": [f"app:{name}"] if name else None,
                "Layers": [],
            }
            for image, name in images
        ]
        configs = {
            f"{image.manifest.config.digest.encoded}.json": image.config.raw for image, _ in images
        }
        files = {**configs, "manifest.json": json.dumps(listed).encode()}
    (tmp_path / "made.tar").write_bytes(tar(*starmap(entry, files.items())))
    return f"{form}:{tmp_path}/made.tar"


def config_of(tree: object) -> Digest:
    """Return the digest of an image's config, which is the same in each form."""
    assert isinstance(tree, Image)
    return tree.config_blob.descriptor.digest


def with_name(form: str, place: str) -> str:
    """Return a place with the name v1 behind it, as the form has it."""
    return f"{place}:app:v1" if form == "docker-archive" else f"{place}:v1"


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["v1", ""])
@pytest.mark.parametrize("with_platforms", [True, False])
def test_platform_selects_among_images_of_one_name(
    form: str, name: str, with_platforms: bool, tmp_path: Path
) -> None:
    """One entry for each platform, as `docker buildx` exports them, with a name or without."""
    images = [labelled_image("a", AMD64), labelled_image("b", ARM64)]
    place = write_images(
        tmp_path, form, [(image, name) for image in images], with_platforms=with_platforms
    )
    place = with_name(form, place) if name else place
    with Client() as client:
        for image in images:
            assert config_of(client.image(place, image.platform)) == config_of(image)
            assert client.config(place, image.platform) == image.config.raw
            assert config_of(client.get(place, platform=image.platform)) == config_of(image)
            if form != "docker-archive":
                assert client.manifest(place, image.platform).digest == image.digest
        for look in (client.get, client.image):
            with pytest.raises(ImageNotFound):
                look(place)
        with pytest.raises(PlatformNotFound, match="it has 'linux/amd64', 'linux/arm64'"):
            client.image(place, Platform("linux", "s390x"))


@pytest.mark.parametrize("form", FORMS)
def test_platform_selects_among_images_of_several_names(form: str, tmp_path: Path) -> None:
    """Each platform has its own name; without a name, the platform decides."""
    images = [(labelled_image("a", AMD64), "v1-amd64"), (labelled_image("b", ARM64), "v1-arm64")]
    place = write_images(tmp_path, form, images)
    with Client() as client:
        assert config_of(client.image(place, ARM64)) == config_of(images[1][0])
        with pytest.raises(ImageNotFound):
            client.image(place)


@pytest.mark.parametrize("form", FORMS)
def test_image_fails_if_two_images_have_one_name_and_platform(form: str, tmp_path: Path) -> None:
    """The choice is the user's."""
    place = with_name(
        form,
        write_images(tmp_path, form, [(labelled_image("a"), "v1"), (labelled_image("b"), "v1")]),
    )
    with Client() as client:
        for platform in (None, AMD64):
            with pytest.raises(ImageNotFound):
                client.image(place, platform)


def test_error_of_two_images_of_one_name_lists_both(tmp_path: Path) -> None:
    """`ctr images export` writes the tag alone, and the whole name beside it."""
    full = ["docker.io/library/app:v1", "docker.io/library/web:v1"]
    place = write_images(
        tmp_path, "oci", [(labelled_image("a"), "v1"), (labelled_image("b"), "v1")], full=full
    )
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
def test_platform_selects_an_index_that_has_it(form: str, tmp_path: Path) -> None:
    """An entry without a platform may be an index."""
    image, other = labelled_image("a", ARM64), labelled_image("b", AMD64)
    layout = Layout(tmp_path / "made")
    with layout.writing():
        for tree in (image, other):
            layout.push(tree.config_blob)
            layout.push_manifest(tree.manifest, str(tree.digest))
        index = Index.new([_child(image)])
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
        (tmp_path / "made.tar").write_bytes(tar(*starmap(entry, files.items())))
        place = f"oci-archive:{tmp_path}/made.tar:v1"
    with Client() as client:
        assert config_of(client.image(place, ARM64)) == config_of(image)
        assert config_of(client.image(place, AMD64)) == config_of(other)


@pytest.mark.parametrize("form", ["oci-archive", "docker-archive"])
def test_copy_selects_a_platform_in_an_archive_from_a_pipe(form: str, tmp_path: Path) -> None:
    """`cat FILE | brolga copy --platform ... FORM:- DST`."""
    images = [labelled_image("a", AMD64), labelled_image("b", ARM64)]
    write_images(tmp_path, form, [(image, "v1") for image in images])
    data = (tmp_path / "made.tar").read_bytes()
    target = f"oci:{tmp_path}/to"
    source = with_name(form, f"{form}:-")
    brolga("copy", "--platform", "linux/arm64", source, f"{target}:one", data=data)
    brolga("copy", "--all-tags", "--platform", "linux/arm64", f"{form}:-", target, data=data)
    with Client() as client:
        assert config_of(client.image(f"{target}:one")) == config_of(images[1])
        assert config_of(client.image(f"{target}:v1")) == config_of(images[1])
    assert b"more than one image" in brolga("copy", source, f"{target}:two", data=data, code=3)


def test_copy_all_tags_copies_nothing_if_two_images_have_one_tag(
    tmp_path: Path,
) -> None:
    """With --platform, one of the two is copied."""
    images = [
        (labelled_image("0"), "v0"),
        (labelled_image("a", AMD64), "v1"),
        (labelled_image("b", ARM64), "v1"),
    ]
    place, target = write_images(tmp_path, "oci", images), f"oci:{tmp_path}/to"
    assert b"has 2 images v1: @1 'linux/amd64', @2 'linux/arm64'" in brolga(
        "copy", "--all-tags", place, target, code=3
    )
    assert not (tmp_path / "to").exists()
    brolga("copy", "--all-tags", "--platform", "linux/arm64", place, target)
    with Client() as client:
        assert config_of(client.image(f"{target}:v1")) == config_of(images[2][0])


def test_copy_all_tags_fails_for_a_layout_without_tags(tmp_path: Path) -> None:
    """Nothing copied is not success."""
    place = write_images(tmp_path, "oci", [(labelled_image("a"), ""), (labelled_image("b"), "")])
    stderr = brolga("copy", "--all-tags", place, f"oci:{tmp_path}/to", code=3)
    assert b"has 2 images, and none has a name" in stderr
    Layout(tmp_path / "empty").push_manifest(Index.new(()), "v1")
    Layout(tmp_path / "empty").delete("v1")
    assert b"1 images, and none has a name" in brolga(
        "copy", "--all-tags", f"oci:{tmp_path}/empty", f"oci:{tmp_path}/to", code=3
    )


def test_push_replaces_a_name_of_two_images_only_without_expected(tmp_path: Path) -> None:
    """A change in place needs one image; a push under the name takes it from both."""
    images = [(labelled_image("a", AMD64), "v1"), (labelled_image("b", ARM64), "v1")]
    place = write_images(tmp_path, "oci", images)
    layout = Layout(tmp_path / "made")
    with pytest.raises(ImageNotFound, match="has 2 images v1"):
        layout.find("v1")
    assert not layout.exists(images[0][0].descriptor, "v1")
    with Client() as client:
        with pytest.raises((ImageNotFound, TagConflict)):
            client.push(f"{place}:v1", labelled_image("c"), expected=images[0][0].digest)
        client.push(f"{place}:v1", images[0][0])
    assert layout.resolve("v1").digest == images[0][0].digest
    assert layout.resolve(str(images[1][0].digest)).digest == images[1][0].digest


def _child(image: Image) -> Descriptor:
    return replace(image.descriptor, platform=image.platform)
