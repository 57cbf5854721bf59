"""client: places on this machine, wherever a name is taken."""

from __future__ import annotations

import io
import os
import sys
from typing import TYPE_CHECKING

import pytest
from tests.tars import tar

import brolga
from brolga.client import Client, UploadOptions
from brolga.errors import (
    CorruptBlob,
    ImageNotFound,
    InvalidManifest,
    InvalidReference,
    LayerError,
    SourceError,
)
from brolga.images import Image, ImageIndex
from brolga.images.validate import validate
from brolga.spec.digest import Digest
from brolga.spec.platform import DEFAULT_PLATFORM, Platform
from brolga.stores.archive import ArchiveStream
from brolga.stores.layout import Layout
from brolga.stores.location import LocalRef, parse_image_ref
from brolga.stream.layer import StreamLayer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from brolga.spec.descriptor import Descriptor
    from brolga.stores.location import ImageRef

ARM64 = Platform("linux", "arm64")
OTHER = Digest.of(b"other")


@pytest.fixture
def client() -> Iterator[Client]:
    with Client(uploads=UploadOptions(spool=True)) as client:
        yield client


@pytest.fixture
def place(client: Client, tmp_path: Path) -> str:
    """Write an image into a layout."""
    client.push(f"oci:{tmp_path}/layout:v1", image("a"))
    return f"oci:{tmp_path}/layout:v1"


def image(text: str, platform: Platform = DEFAULT_PLATFORM) -> Image:
    return Image.empty(platform).append(StreamLayer([tar(text)]))


def test_push_and_get_without_a_registry(tmp_path: Path) -> None:
    """`brolga.push` and `brolga.image` take a place as they take a reference."""
    pushed = brolga.push(f"oci:{tmp_path}/layout:v1", image("a"))
    assert str(pushed) == f"oci:{tmp_path}/layout@{pushed.digest}"
    assert brolga.image(f"oci:{tmp_path}/layout").digest == pushed.digest
    layer = brolga.push_layer(f"oci:{tmp_path}/layout", StreamLayer([b"alone"]))
    assert Layout(tmp_path / "layout").push(brolga.InMemoryBlob(b"x", "a/b")).size == 1
    with Client() as client, client.blob(f"oci:{tmp_path}/layout@{layer.digest}") as stream:
        assert sum(map(len, stream.blocks())) == layer.size


def test_reading_methods_of_a_layout(client: Client, place: str) -> None:
    """Each way to read, by a text or a value, by tag and by digest."""
    local = parse_image_ref(place)
    assert isinstance(local, LocalRef)
    digest = client.head(place).digest
    by_digest = local.with_digest(digest)
    assert client.get(local).digest == client.image(by_digest).digest == digest
    assert client.manifest(place).digest == digest
    assert client.tags(f"oci:{local.path}") == client.tags(LocalRef("oci", local.path)) == ["v1"]
    assert client.referrers(place) == ()


def test_image_chooses_the_platform_of_an_index(client: Client, tmp_path: Path) -> None:
    """`manifest` and `copy` with a platform; `index` is one or an error."""
    made = ImageIndex.empty()
    for platform in (DEFAULT_PLATFORM, ARM64):
        child = image(str(platform), platform)
        client.push(f"oci:{tmp_path}/layout", child)
        made = made.append(child)
    client.push(f"oci:{tmp_path}/layout:all", made)
    found = client.manifest(f"oci:{tmp_path}/layout:all", ARM64)
    assert found.digest == made.index.manifests[1].digest
    assert client.index(f"oci:{tmp_path}/layout:all").index.raw == made.index.raw
    archive = f"oci-archive:{tmp_path}/a.tar"
    assert client.copy(f"oci:{tmp_path}/layout:all", archive, platform=ARM64).digest == found.digest
    with (tmp_path / "all.tar").open("wb"):
        client.copy(f"oci:{tmp_path}/layout:all", f"oci-archive:{tmp_path}/all.tar")
    with (tmp_path / "all.tar").open("rb") as blocks:
        pushed = client.copy(ArchiveStream(blocks), f"oci:{tmp_path}/b", platform=ARM64)
    assert pushed.digest == found.digest


def test_manifest_of_a_docker_archive_reads_its_layers(client: Client, tmp_path: Path) -> None:
    """Where its layers are not compressed, their digests are those that a push will give."""
    layer = StreamLayer([tar("a")], "none")
    client.push(f"docker-archive:{tmp_path}/a.tar:a:v1", Image.empty().append(layer))
    described = client.head(f"docker-archive:{tmp_path}/a.tar")
    assert client.copy(f"docker-archive:{tmp_path}/a.tar", f"oci:{tmp_path}/b").digest == (
        described.digest
    )
    assert client.tags(f"docker-archive:{tmp_path}/a.tar") == ["docker.io/library/a:v1"]


@pytest.mark.parametrize("kind", ["oci-archive", "docker-archive"])
def test_push_of_a_stream_into_an_archive_needs_a_spool(tmp_path: Path, kind: str) -> None:
    """Nothing is written to a disk unless `spool` says so: the error says what to do."""
    place = f"{kind}:{tmp_path}/a.tar:a:v1"
    with Client() as without, pytest.raises(LayerError, match=r"--spool .* or write to oci:DIR"):
        without.push(place, image("a"))
    assert list(tmp_path.iterdir()) == []
    with Client(uploads=UploadOptions(spool=tmp_path)) as client:
        client.push(place, image("a"))


def test_copy_between_docker_archives_keeps_layers(tmp_path: Path) -> None:
    """From one into another nothing is compressed, so nothing must wait."""
    saved, piped = f"docker-archive:{tmp_path}/a.tar:a:v1", f"docker-archive:{tmp_path}/b.tar:a:v1"
    layer = StreamLayer([tar("a")], "none")
    with Client(uploads=UploadOptions(spool=True)) as client:
        client.push(saved, Image.empty().append(layer))
    with Client() as client, (tmp_path / "a.tar").open("rb") as file:
        client.copy(saved, f"docker-archive:{tmp_path}/c.tar:a:v1")
        client.copy(ArchiveStream(file, compression="none"), piped)
        assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()
        assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "c.tar").read_bytes()
        with pytest.raises(LayerError, match="--spool"):
            client.copy(saved, f"oci-archive:{tmp_path}/d.tar")


def test_tag_and_delete_in_a_layout(client: Client, place: str) -> None:
    """`tag` and `delete`: by name the name, by digest the image."""
    digest = client.head(place).digest
    home = LocalRef("oci", place.split(":")[1])
    assert client.tag(place, "v2") == home.with_digest(digest)
    client.delete(place)
    assert client.tags(home) == ["v2"]
    client.delete(home.with_digest(digest))
    assert client.tags(home) == []
    with pytest.raises(ImageNotFound):
        client.delete(place)


def test_push_and_copy_write_several_tags(client: Client, place: str, tmp_path: Path) -> None:
    """That of the place, if it has one, and the others."""
    tree, home = client.get(place), f"oci:{tmp_path}/b"
    assert client.push(f"{home}:v1", tree, tags=["v2", "v3"]).digest == tree.digest
    assert client.tags(home) == ["v1", "v2", "v3"]
    client.copy(place, home, tags=["v4"])
    client.tag(f"{home}:v4", "v5", "v6")
    assert client.tags(home) == ["v1", "v2", "v3", "v4", "v5", "v6"]
    client.push_mutated(place, f"{home}:v7", lambda image: image, tags=["v8"])
    assert client.tags(home)[-2:] == ["v7", "v8"]


def test_push_rejects_several_tags_of_an_archive(
    client: Client, place: str, tmp_path: Path
) -> None:
    """It is written under one name."""
    archive = f"oci-archive:{tmp_path}/b.tar:v1"
    with pytest.raises(InvalidReference, match="is an archive: it is written under one name"):
        client.push(archive, client.get(place), tags=["v2"])
    assert list(tmp_path.glob("b.tar")) == []


@pytest.mark.parametrize("tag", ["", "@0", str(OTHER)])
def test_tag_rejects_a_number_or_digest(client: Client, place: str, tag: str) -> None:
    """Such a tag could not be used."""
    for tags in ([tag], ["v2", tag]):
        with pytest.raises(InvalidReference, match="cannot be a new name"):
            client.tag(place, *tags)
        with pytest.raises(InvalidReference, match="cannot be a new name"):
            client.push(place, client.get(place), tags=tags)
    assert "v2" not in client.tags(place.rpartition(":")[0])


def test_push_rejects_a_place_with_another_digest(
    client: Client, place: str, tmp_path: Path
) -> None:
    """As in a registry."""
    tree = client.get(place)
    assert client.push(f"oci:{tmp_path}/b@{tree.digest}", tree).digest == tree.digest
    with pytest.raises(InvalidReference, match="names another manifest than this one"):
        client.push(f"oci:{tmp_path}/b@{OTHER}", tree)
    with pytest.raises(InvalidReference, match="a number names what is there already") as found:
        client.push(f"oci:{tmp_path}/b:@0", tree)
    assert found.value.__notes__ == ["give the image a name"]
    with pytest.raises(InvalidReference, match="a blob is named by its digest"):
        client.blob(place)
    with pytest.raises(InvalidReference, match="a blob is named by its digest"):
        client.blob("localhost:5000/app:v1")


def test_write_images_writes_several_images(client: Client, tmp_path: Path) -> None:
    """Each under its name; "" is its digest."""
    images = [("v1", image("a")), ("", image("b"))]
    saved: list[ImageRef] = client.write_images(f"oci:{tmp_path}/layout", images)
    assert [one.digest for one in saved] == [one.digest for _, one in images]
    assert client.tags(f"oci:{tmp_path}/layout") == ["v1"]
    images = [("localhost:5000/a:v1", image("a")), ("localhost:5000/b:v1", image("b"))]
    saved = client.write_images(f"docker-archive:{tmp_path}/a.tar", images)
    assert [str(one) for one in saved] == [
        f"docker-archive:{tmp_path}/a.tar:{name}" for name, _ in images
    ]
    assert client.tags(f"docker-archive:{tmp_path}/a.tar") == [name for name, _ in images]


@pytest.mark.parametrize("kind", ["oci", "oci-archive"])
def test_tags_lists_every_name(client: Client, tmp_path: Path, kind: str) -> None:
    """In a layout and in the archive of one; an image that has none by its digest, or not."""
    one, other = image("a"), image("b")
    client.write_images(f"{kind}:{tmp_path}/x", [("v1", one), ("v2", one), ("", other)])
    unnamed = [str(other.digest)] if kind == "oci-archive" else []
    assert client.tags(f"{kind}:{tmp_path}/x") == ["v1", "v2", *unnamed]


USES = {
    "tag": lambda client, place: client.tag(place, "v2"),
    "delete": lambda client, place: client.delete(place),
    "blob": lambda client, place: client.blob(place),
    "referrers": lambda client, place: client.referrers(place),
    "push_layer": lambda client, place: client.push_layer(place, StreamLayer([b""])),
    "copy": lambda client, place: client.copy(place, "oci:x", referrers=True),
}


@pytest.mark.parametrize("use", USES)
def test_archive_rejects_uses_with_a_reason(client: Client, use: str) -> None:
    """Before it is opened."""
    with pytest.raises(InvalidReference, match=r"oci-archive:a\.tar is an archive: ") as found:
        USES[use](client, "oci-archive:a.tar")
    assert found.value.__notes__ == ["copy it to oci:DIR first"]


def test_get_rejects_a_pipe(
    client: Client, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only `copy` accepts it; other methods read a source more than once."""
    with pytest.raises(InvalidReference, match="is read once, from stdin, and this needs more"):
        client.get("oci-archive:-")
    client.copy(place, f"oci-archive:{tmp_path}/a.tar")
    data = (tmp_path / "a.tar").read_bytes()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    copied = client.copy("oci-archive:-", f"oci:{tmp_path}/b:v1")
    assert copied.digest == client.head(place).digest
    for closed in (None, io.TextIOWrapper(io.BytesIO())):
        if closed is not None:
            closed.close()
        monkeypatch.setattr(sys, "stdin", closed)
        with pytest.raises(SourceError, match="stdin is closed"):
            client.copy("oci-archive:-", f"oci:{tmp_path}/b:v1")


@pytest.mark.parametrize("platform", [None, ARM64])
def test_push_mutated_reads_an_archive_from_a_pipe(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, platform: Platform | None
) -> None:
    """Its layers go on as they come, and new ones on top of them; of an index, of one image."""
    whole = ImageIndex.empty()
    for one in (DEFAULT_PLATFORM, ARM64):
        child = image(str(one), one)
        client.push(f"oci:{tmp_path}/layout", child)
        whole = whole.append(child)
    client.push(f"oci:{tmp_path}/layout:all", whole)
    client.copy(f"oci:{tmp_path}/layout:all", f"oci-archive:{tmp_path}/a.tar:v1")
    made: list[Digest | None] = []
    for source in (f"oci-archive:{tmp_path}/a.tar", "oci-archive:-"):
        data = (tmp_path / "a.tar").read_bytes()
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        target = f"oci:{tmp_path}/b{len(made)}"
        pushed = client.push_mutated(
            source, target, lambda base: base.append(StreamLayer([tar("new")])), platform
        )
        assert list(validate(client.get(pushed))) == []
        made.append(pushed.digest)
    assert made[0] == made[1]
    assert client.image(f"oci:{tmp_path}/b1").platform == (platform or DEFAULT_PLATFORM)


def test_a_push_that_fails_leaves_no_new_layout(client: Client, tmp_path: Path) -> None:
    """Neither of a stream, nor of an archive that is none."""
    fails = StreamLayer(iter([b"x", 1]), tar=False)  # type: ignore[arg-type] # no bytes
    with pytest.raises((SourceError, TypeError)):
        client.push(f"oci:{tmp_path}/a/b:v1", Image.empty().append(fails))
    with pytest.raises(CorruptBlob):
        client.copy(ArchiveStream([b"no tar"]), f"oci:{tmp_path}/a/b:v1")
    assert list(tmp_path.iterdir()) == []


def test_copy_stops_at_referrers_too_deep(
    client: Client, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A registry may list the image itself as a referrer, or ever more referrers."""
    digest = client.head(place).digest
    told: list[Descriptor] = [client.head(place)]
    monkeypatch.setattr(Layout, "referrers", lambda *_: tuple(told))
    copied = client.copy(place, f"oci:{tmp_path}/b:v1", referrers=True)
    assert copied.digest == digest

    def more(*_: object) -> tuple[Descriptor, ...]:
        name = client.push(LocalRef("oci", str(tmp_path / "layout")), image(str(len(told))))
        told.append(client.head(name))
        return (told[-1],)

    monkeypatch.setattr(Layout, "referrers", more)
    with pytest.raises(InvalidManifest, match="17 deep: no more is read"):
        client.copy(place, f"oci:{tmp_path}/b:v1", referrers=True)


def test_copy_copies_each_referrer_once(client: Client, tmp_path: Path) -> None:
    """An image that is listed twice is read once; referrers of referrers are copied."""
    home = f"oci:{tmp_path}/a"
    child = image("child")
    client.push(home, child)
    note = image("note").with_subject(child.descriptor)
    client.push(home, note)
    reply = image("reply").with_subject(note.descriptor)
    client.push(home, reply)
    made = ImageIndex.empty().append(child).append(child, ARM64)
    client.push(f"{home}:all", made)
    client.copy(f"{home}:all", f"oci:{tmp_path}/b:all", referrers=True)
    for one, other in ((child, note), (note, reply)):
        found = client.referrers(f"oci:{tmp_path}/b@{one.digest}")
        assert [each.digest for each in found] == [other.digest]


def test_copy_raises_source_error_if_an_archive_cannot_be_opened(
    client: Client, tmp_path: Path
) -> None:
    """A directory is not an archive, and a missing file is ImageNotFound."""
    with pytest.raises(SourceError, match="cannot open the archive"):
        client.copy(f"oci-archive:{tmp_path}", f"oci:{tmp_path}/b:v1")
    with pytest.raises(ImageNotFound, match=r"archive .* does not exist"):
        client.copy(f"oci-archive:{tmp_path}/a.tar", f"oci:{tmp_path}/b:v1")


def test_get_raises_source_error_for_a_named_pipe(client: Client, tmp_path: Path) -> None:
    """A pipe can be read only once, and the layers of an image are read later."""
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(SourceError, match="not a regular file: it cannot be read in place"):
        client.get(f"docker-archive:{tmp_path}/fifo")
    with pytest.raises(InvalidReference, match="is read once, from stdin"):
        client.get("docker-archive:-")


def test_referrers_raises_image_not_found_for_a_digest_that_a_layout_lacks(
    client: Client, tmp_path: Path
) -> None:
    """A mistyped digest is an error, not an image without referrers."""
    client.push(f"oci:{tmp_path}/a:v1", Image.empty())
    with pytest.raises(ImageNotFound):
        client.referrers(f"oci:{tmp_path}/a@{OTHER}")


def test_push_accepts_a_repository(client: Client) -> None:
    """A name without a prefix is in a registry."""
    with pytest.raises(InvalidReference, match="a repository is wanted here"):
        client.tags("localhost:5000/app:v1")
