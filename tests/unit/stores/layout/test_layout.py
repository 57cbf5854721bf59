"""layout: a directory as a store of images, read and written."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

import pytest
from tests.tars import tar

from brolga.errors import (
    CorruptBlob,
    DigestMismatch,
    ImageNotFound,
    InvalidLayout,
    InvalidManifest,
    SourceError,
)
from brolga.images import BlockStream, Image, ImageIndex, InMemoryBlob, StoredBlob
from brolga.images.validate import validate
from brolga.spec.descriptor import Descriptor
from brolga.spec.digest import Digest
from brolga.spec.index import Index
from brolga.spec.mediatypes import OCI_LAYER
from brolga.spec.platform import DEFAULT_PLATFORM, Platform
from brolga.stores.layout import Layout
from brolga.stores.push import push
from brolga.stream.layer import StreamLayer

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from pathlib import Path

    from brolga.images import Tree

ARM64 = Platform("linux", "arm64")
OTHER = Digest.of(b"other")
REF_NAME = "org.opencontainers.image.ref.name"


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """Name a layout that is not there yet."""
    return Layout(tmp_path / "above" / "layout")


def stream(text: str) -> StreamLayer:
    return StreamLayer([tar(text)])


def image(*texts: str, platform: Platform = DEFAULT_PLATFORM) -> Image:
    return Image.empty(platform).append(*map(stream, texts))


def index(layout: Layout) -> ImageIndex:
    """Push an image for each of two platforms; return the index of them."""
    made = ImageIndex.empty()
    for platform in (DEFAULT_PLATFORM, ARM64):
        child = image(str(platform.architecture), platform=platform)
        push(layout, child, str(platform.architecture))
        made = made.append(child)
    return made


def entries(layout: Layout) -> list[tuple[str, str | None]]:
    """Return what index.json lists: digests and names."""
    document = json.loads((layout.path / "index.json").read_bytes())
    return [
        (one["digest"], one.get("annotations", {}).get(REF_NAME)) for one in document["manifests"]
    ]


def blobs(layout: Layout) -> set[str]:
    return {path.name for path in layout.path.glob("blobs/*/*")}


def scratch(layout: Layout) -> list[str]:
    return [path.name for path in (layout.path / ".uploads").iterdir()]


def problems(tree: Tree) -> list[str]:
    return list(map(str, validate(tree)))


def test_push_lists_an_image_of_streams_under_its_tag(layout: Layout) -> None:
    """image-layout.md: `blobs`, `oci-layout` and `index.json`."""
    made = image("a", "b")
    pushed = push(layout, made, "v1")
    assert json.loads((layout.path / "oci-layout").read_bytes()) == {"imageLayoutVersion": "1.0.0"}
    assert entries(layout) == [(str(pushed.digest), "v1")]
    assert blobs(layout) == {
        made.digest.encoded,
        made.manifest.config.digest.encoded,
        *(layer.digest.encoded for layer in made.manifest.layers),
    }
    for path in layout.path.glob("blobs/sha256/*"):
        assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name
    assert scratch(layout) == []
    found = layout.tree("v1")
    assert found.digest == pushed.digest
    assert problems(found) == []
    assert layout.tags() == ("v1",)
    assert repr(layout) == f"Layout('{layout.path}')"


def test_push_lists_an_index_without_its_children(layout: Layout, tmp_path: Path) -> None:
    """What an index refers to is found below it: `oci:DIR` alone then names the index."""
    made = index(layout)
    push(layout, made, "all")
    target = Layout(tmp_path / "target")
    pushed = push(target, layout.tree("all"), "v1", jobs=2)
    assert entries(target) == [(str(made.digest), "v1")]
    assert target.resolve().digest == pushed.digest == made.digest
    found = target.tree()
    assert isinstance(found, ImageIndex)
    assert found.index.raw == made.index.raw
    assert problems(found) == []


def test_push_without_tag_lists_the_digest(layout: Layout) -> None:
    """It can be read by its digest, and `gc` keeps it."""
    made = image("a")
    push(layout, made)
    push(layout, layout.tree())
    assert entries(layout) == [(str(made.digest), None)]
    assert layout.resolve(str(made.digest)).digest == made.digest
    assert layout.fetch_manifest(str(made.digest)).raw == made.manifest.raw
    push(layout, layout.tree(), "v1")
    assert entries(layout) == [(str(made.digest), "v1")]
    push(layout, layout.tree(), "v2")
    push(layout, layout.tree())
    assert entries(layout) == [(str(made.digest), "v1"), (str(made.digest), "v2")]


def test_push_moves_a_tag_and_keeps_the_old_image(layout: Layout) -> None:
    """What a tag named before stays, without it, as in a registry."""
    first, second = image("a"), image("b")
    push(layout, first, "v1")
    push(layout, second, "v1")
    assert entries(layout) == [(str(first.digest), None), (str(second.digest), "v1")]
    layout.tag("v1", "v2")
    layout.tag(str(first.digest), "v1")
    assert entries(layout) == [(str(first.digest), "v1"), (str(second.digest), "v2")]
    layout.tag("v1", "v2")
    assert entries(layout) == [
        (str(first.digest), "v1"),
        (str(second.digest), None),
        (str(first.digest), "v2"),
    ]
    layout.delete("v1")
    assert entries(layout) == [(str(second.digest), None), (str(first.digest), "v2")]
    layout.delete("v2")
    layout.delete(str(second.digest))
    assert entries(layout) == [(str(first.digest), None)]


def test_tree_finds_images_by_number_and_digest(layout: Layout) -> None:
    """`@N` counts the entries of index.json; a digest finds what is below an index too."""
    made = index(layout)
    push(layout, made, "all")
    layout.delete("amd64")
    layout.delete("arm64")
    child = made.index.manifests[0].digest
    assert layout.resolve("@2").digest == made.digest
    layout.delete(str(child))
    assert layout.resolve(str(child)).digest == child
    for name in ("@7", "sha256:none", "@-1", "@", "@x", "@0_0"):
        with pytest.raises(ImageNotFound, match=f"has no image {name}: it has all"):
            layout.resolve(name)


@pytest.mark.parametrize("name", ["v2", str(OTHER)])
def test_tree_lists_the_names_if_one_is_missing(layout: Layout, name: str) -> None:
    """ImageNotFound, with the names in the line and in `available`."""
    push(layout, image("a"), "v1")
    for look in (layout.resolve, layout.tree, lambda name: layout.tag(name, "v3")):
        with pytest.raises(ImageNotFound, match=f"has no image {name}: it has v1$") as found:
            look(name)
        assert found.value.available == ("v1",)


def test_tree_without_name_needs_one_image(layout: Layout) -> None:
    """An empty name is the only image, and of none or several an error that says so."""
    with layout.writing(), pytest.raises(ImageNotFound, match="has no images"):
        layout.resolve()
    push(layout, image("a"))
    push(layout, image("b"))
    with pytest.raises(ImageNotFound, match=r"has 2 images, .*: it has 2 without a name: take @0"):
        layout.resolve()
    for number in range(21):
        layout.tag("@0", f"v{number}")
    with pytest.raises(ImageNotFound, match=r"v19 and 1 more$"):
        layout.resolve()


@pytest.mark.parametrize("change", ["untag", "delete"])
def test_delete_raises_for_a_missing_name(layout: Layout, change: str) -> None:
    """As a registry's 404."""
    with pytest.raises(ImageNotFound, match="no image layout at"):
        layout.delete("v1")
    push(layout, image("a"), "v1")
    with pytest.raises(ImageNotFound):
        layout.delete("v2") if change == "untag" else layout.delete(str(OTHER))


def test_one_image_may_have_many_names(layout: Layout) -> None:
    """A name more is an entry more; one without a name gets it."""
    made = image("a")
    push(layout, made)
    push(layout, made, "v1")
    push(layout, made, "v1")
    layout.tag("v1", "v2")
    layout.tag("v2", "v1")
    assert entries(layout) == [(str(made.digest), "v1"), (str(made.digest), "v2")]
    assert layout.resolve().digest == made.digest


def test_push_and_tag_give_several_names_at_once(layout: Layout) -> None:
    """Each name is an entry."""
    made = image("a")
    push(layout, made, "v1", "v2", "", "v1")
    assert entries(layout) == [(str(made.digest), "v1"), (str(made.digest), "v2")]
    assert layout.tag("v2", "v3", "v4").digest == made.digest
    assert list(layout.tags()) == ["v1", "v2", "v3", "v4"]


# --- What is no layout


def test_missing_layout_raises_image_not_found(layout: Layout) -> None:
    """It is said before anything else; nothing is made."""
    for look in (layout.tags, layout.resolve, layout.gc, lambda: layout.fetch_blob(OTHER)):
        with pytest.raises(ImageNotFound, match=f"no image layout at {layout.path}"):
            look()
    assert not layout.path.exists()
    assert not layout.exists(Descriptor(OCI_LAYER, OTHER, 5))


@pytest.mark.parametrize(
    ("mark", "why"),
    [
        (None, "it has no file oci-layout"),
        ("{}", "does not say version 1"),
        ("[]", "does not say version 1"),
        ('{"imageLayoutVersion":"2.0.0"}', "does not say version 1"),
        ('{"imageLayoutVersion":1}', "does not say version 1"),
        (" " * 5000 + "{}", "does not say version 1"),
    ],
)
def test_other_directory_raises_invalid_layout(tmp_path: Path, mark: str | None, why: str) -> None:
    """`oci-layout` "MUST be a JSON object" with `imageLayoutVersion` (image-layout.md)."""
    if mark is not None:
        (tmp_path / "oci-layout").write_text(mark)
    with pytest.raises(InvalidLayout, match=why) as found:
        Layout(tmp_path).tags()
    assert found.value.side == "local"
    if mark is not None:
        with pytest.raises(InvalidLayout, match=why), Layout(tmp_path).writing():
            pass


def test_writing_completes_an_unfinished_layout(layout: Layout) -> None:
    """Its maker was killed before the file that says that it is one, which comes last."""
    (layout.path / "blobs").mkdir(parents=True)
    with pytest.raises(InvalidLayout, match="it has no file oci-layout"):
        layout.tags()
    push(layout, image("a"), "v1")
    (layout.path / "oci-layout").unlink()
    push(layout, image("b"), "v2")
    assert layout.tags() == ("v1", "v2")


def test_file_raises_invalid_layout(tmp_path: Path) -> None:
    """Neither read nor written over."""
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(
        InvalidLayout, match="it is not a directory; an archive is named oci-archive"
    ):
        Layout(file).tags()
    with pytest.raises(InvalidLayout, match="it is not a directory"), Layout(file).writing():
        pass
    with pytest.raises(ImageNotFound):
        Layout(file / "below").tags()


def test_push_refuses_a_directory_with_other_files(tmp_path: Path) -> None:
    """A mistyped name must not fill a home directory."""
    (tmp_path / "letter.txt").touch()
    with pytest.raises(InvalidLayout, match=r"it has other files, as 'letter.txt'"):
        push(Layout(tmp_path), image("a"), "v1")
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_push_accepts_a_directory_above_layouts(tmp_path: Path) -> None:
    """A registry has the repositories `team` and `team/app`: either may be made first."""
    for name in ("team/app", "team/a/b/c"):
        push(Layout(tmp_path / name), image("below"), "v1")
    push(Layout(tmp_path / "team"), image("above"), "v1")
    assert Layout(tmp_path / "team").tags() == Layout(tmp_path / "team/app").tags() == ("v1",)
    assert Layout(tmp_path / "team").gc(older_than_s=0).blobs == 0
    assert Layout(tmp_path / "team/app").tags() == ("v1",)


@pytest.mark.parametrize("name", ["empty", "a/letter.txt", "link"])
def test_push_refuses_a_directory_above_other_files(tmp_path: Path, name: str) -> None:
    """Nothing but layouts may be below it: another's files stay alone."""
    place = tmp_path / "home"
    push(Layout(place / "app"), image("a"), "v1")
    if name == "link":
        (place / name).symlink_to(place / "app")
    elif name == "empty":
        (place / name).mkdir()
    else:
        (place / name).parent.mkdir()
        (place / name).touch()
    with pytest.raises(InvalidLayout, match="it has other files"):
        push(Layout(place), image("a"), "v1")


def test_broken_index_json_is_a_local_error(layout: Layout) -> None:
    """Which file it is, and which side."""
    with layout.writing():
        pass
    for text in ("no", '{"schemaVersion":2,"manifests":[{"digest":"sha256:../../x"}]}'):
        (layout.path / "index.json").write_text(text)
        with pytest.raises(InvalidManifest, match=f"^{layout.path}: ") as found:
            layout.tags()
        assert found.value.side == "local"
    (layout.path / "index.json").unlink()
    with pytest.raises(InvalidLayout, match=r"has no index.json"):
        layout.tags()


@pytest.mark.parametrize("what", ["index.json", "oci-layout", "blob", "blobs", "sha256"])
def test_link_in_the_place_of_a_file_is_refused(layout: Layout, what: str) -> None:
    """A layout from elsewhere cannot show or change files outside of it."""
    made = image("a")
    push(layout, made, "v1")
    layer = made.manifest.layers[0]
    place = {
        "blob": layout.path / "blobs" / "sha256" / layer.digest.encoded,
        "sha256": layout.path / "blobs" / "sha256",
    }.get(what, layout.path / what)
    place.rename(layout.path.parent / "outside")
    place.symlink_to(layout.path.parent / "outside")
    with pytest.raises(InvalidLayout, match="there is a link"), layout.fetch_blob(layer) as opened:
        layout.tags()
        list(opened.blocks())
    with pytest.raises(InvalidLayout, match="there is a link"):
        layout.push(InMemoryBlob(b"new", OCI_LAYER)) if what in {"blobs", "sha256"} else push(
            layout, Layout(layout.path).tree("v1"), "v2"
        )


def test_link_in_the_place_of_uploads_is_refused(layout: Layout) -> None:
    """What is written goes nowhere else."""
    with layout.writing():
        pass
    (layout.path / ".uploads").rmdir()
    (layout.path / ".uploads").touch()
    with pytest.raises(InvalidLayout, match=r"\.uploads is not a directory"):
        push(layout, image("a"), "v1")
    (layout.path / ".uploads").unlink()
    (layout.path / ".uploads").symlink_to(layout.path.parent)
    with pytest.raises(InvalidLayout, match="there is a link"):
        push(layout, image("a"), "v1")


def test_file_that_cannot_be_opened_raises_os_error(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error of the system stays one."""
    push(layout, image("a"), "v1")

    def denied(*_: object) -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "open", denied)
    with pytest.raises(PermissionError):
        layout.tags()


def test_special_file_in_the_place_of_a_file_is_refused(layout: Layout) -> None:
    """A pipe would be waited for."""
    made = image("a")
    push(layout, made, "v1")
    place = layout.path / "blobs" / "sha256" / made.digest.encoded
    place.unlink()
    os.mkfifo(place)
    with pytest.raises(InvalidLayout, match="no regular file"):
        layout.tree("v1")
    place.unlink()
    blobs = layout.path / "blobs"
    blobs.rename(layout.path / "elsewhere")
    blobs.touch()
    with pytest.raises((InvalidLayout, NotADirectoryError)):
        layout.push(InMemoryBlob(b"new", OCI_LAYER))


# --- Bytes


def blob_file(layout: Layout, digest: Digest) -> Path:
    return layout.path / "blobs" / digest.algorithm / digest.encoded


def damage(layout: Layout, digest: Digest, data: bytes) -> None:
    blob_file(layout, digest).write_bytes(data)


def drain(layout: Layout, descriptor: Descriptor) -> bytes:
    with layout.fetch_blob(descriptor) as opened:
        return b"".join(opened.blocks())


def test_fetch_blob_verifies_the_bytes(layout: Layout) -> None:
    """Other bytes are a DigestMismatch at the end, another size is a CorruptBlob: never silence."""
    described = layout.push(InMemoryBlob(b"abc", OCI_LAYER))
    assert drain(layout, described) == b"abc"
    with layout.fetch_blob(described.digest) as opened:
        assert b"".join(opened.blocks()) == b"abc"
    embedded = Descriptor(OCI_LAYER, Digest.of(b"in"), 2, data=b"in")
    assert drain(layout, embedded) == b"in"
    damage(layout, described.digest, b"abd")
    with pytest.raises(DigestMismatch, match=f"the bytes of {described.digest} in") as found:
        drain(layout, described)
    assert (found.value.side, found.value.__notes__) == (
        "local",
        [f"delete {blob_file(layout, described.digest)} and copy the image there again"],
    )
    blob_file(layout, described.digest).unlink()
    assert layout.push(InMemoryBlob(b"abc", OCI_LAYER)) == described
    assert drain(layout, described) == b"abc"
    damage(layout, described.digest, b"ab")
    with pytest.raises(CorruptBlob, match="has 2 bytes, but its descriptor says 3"):
        drain(layout, described)
    damage(layout, described.digest, b"abcd")
    with pytest.raises(CorruptBlob, match="has more, but its descriptor says 3"):
        drain(layout, described)
    with pytest.raises(CorruptBlob, match=f"blob {OTHER} is missing in"):
        drain(layout, Descriptor(OCI_LAYER, OTHER, 5))
    with pytest.raises(ImageNotFound, match=f"there is no blob {OTHER} in"):
        layout.fetch_blob(OTHER)


def test_push_writes_a_damaged_blob_again(layout: Layout) -> None:
    """One of another size is not there."""
    blob = InMemoryBlob(b"abc", OCI_LAYER)
    described = layout.push(blob)
    damage(layout, described.digest, b"")
    assert layout.push(blob) == described
    assert drain(layout, described) == b"abc"


def test_fetch_manifest_verifies_the_digest(layout: Layout) -> None:
    """Its bytes are what its name says, or it is not read."""
    made = image("a")
    push(layout, made, "v1")
    damage(layout, made.digest, made.manifest.raw + b" ")
    with pytest.raises(DigestMismatch) as found:
        layout.tree("v1")
    assert found.value.side == "local"
    damage(layout, made.digest, b" " * (5 << 20))
    with pytest.raises(InvalidManifest, match="it is not a manifest"):
        layout.tree("v1")
    (layout.path / "blobs" / "sha256" / made.digest.encoded).unlink()
    with pytest.raises(CorruptBlob, match=f"manifest {made.digest} is missing"):
        layout.tree("v1")


class Lie:
    """A blob that is not what it says."""

    def __init__(self, descriptor: Descriptor, data: bytes) -> None:
        self.descriptor = descriptor
        self._data = data

    def open(self) -> object:
        return InMemoryBlob(self._data, OCI_LAYER).open()


@pytest.mark.parametrize(
    ("said", "size", "kind"), [(b"abd", 3, DigestMismatch), (b"abc", 4, CorruptBlob)]
)
def test_push_leaves_nothing_of_a_wrong_blob(
    layout: Layout, said: bytes, size: int, kind: type[Exception]
) -> None:
    """image-layout.md, Blobs: "The content of blobs/<alg>/<encoded> MUST match the digest"."""
    lie = Lie(Descriptor(OCI_LAYER, Digest.of(said), size), b"abc")
    with layout.writing():
        with pytest.raises(kind):
            layout.push(lie)  # type: ignore[arg-type] # a double
        assert blobs(layout) == set()
        assert scratch(layout) == []


def test_push_leaves_nothing_if_the_source_fails(layout: Layout) -> None:
    """There is no blob and no part of one, and the tag has not moved."""
    push(layout, image("a"), "v1")
    before = (entries(layout), blobs(layout))

    def broken() -> Iterator[bytes]:
        yield os.urandom(3 << 20)
        raise ValueError("cut")

    with pytest.raises(SourceError):
        push(layout, Image.empty().append(StreamLayer(broken(), tar=False)), "v1")
    assert (entries(layout), blobs(layout), scratch(layout)) == (*before, [])


def test_push_leaves_nothing_if_it_is_interrupted(layout: Layout) -> None:
    """An error between two blocks is raised, and no file is left."""

    def blocks() -> Generator[bytes, None, None]:
        yield b"a"
        raise KeyboardInterrupt

    described = InMemoryBlob(b"abc", OCI_LAYER).descriptor
    with layout.writing():
        with pytest.raises(KeyboardInterrupt):
            layout.push(StoredBlob(described, lambda: BlockStream(blocks())))
        assert (blobs(layout), scratch(layout)) == (set(), [])


def test_push_does_not_hash_again_what_its_stream_verifies(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stream of another store ends with the error itself."""
    data = InMemoryBlob(b"abc", OCI_LAYER)
    described = data.descriptor
    monkeypatch.setattr("brolga.spec.digest.Digest.verifier", lambda _: pytest.fail("hashed again"))
    assert layout.push(StoredBlob(described, data.open, is_verified=True)) == described


def failing(count: int) -> Iterator[bytes]:
    yield from [b"x"] * count
    raise ValueError("cut")


@pytest.mark.parametrize("count", [0, 1])
@pytest.mark.parametrize("given", ["nothing", "above", "layout"])
def test_a_push_that_fails_leaves_no_new_layout(
    tmp_path: Path, layout: Layout, count: int, given: str
) -> None:
    """What was there before is there after: nothing, or directories with nothing in them."""
    if given != "nothing":
        (layout.path if given == "layout" else layout.path.parent).mkdir(parents=True)
    before = sorted(tmp_path.rglob("*"))
    for _ in range(2):
        with pytest.raises(SourceError):
            push(layout, Image.empty().append(StreamLayer(failing(count), tar=False)), "v1")
        assert sorted(tmp_path.rglob("*")) == before
        with pytest.raises(KeyboardInterrupt), layout.writing():
            raise KeyboardInterrupt
        assert sorted(tmp_path.rglob("*")) == before


def test_failed_push_keeps_a_new_layout_that_is_in_use(layout: Layout) -> None:
    """By a blob, an image, a session of the registry, or another writer."""
    other = Layout(layout.path)
    held = other.writing()
    with pytest.raises(KeyboardInterrupt), layout.writing():
        held.__enter__()
        raise KeyboardInterrupt
    assert other.tags() == ()
    held.__exit__(None, None, None)
    again = Layout(layout.path.parent / "blob")
    with pytest.raises(KeyboardInterrupt), again.writing():
        again.push(InMemoryBlob(b"abc", OCI_LAYER))
        raise KeyboardInterrupt
    assert len(blobs(again)) == 1
    again = Layout(layout.path.parent / "session")
    with pytest.raises(KeyboardInterrupt), again.writing():
        (again.path / ".uploads" / ("a" * 32)).touch()
        raise KeyboardInterrupt
    assert again.tags() == ()


@pytest.mark.parametrize("anew", [False, True])
def test_writing_creates_a_layout_again_if_it_is_rolled_back(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, *, anew: bool
) -> None:
    """Between the look whether it is there and the lock another push may fail, and one begin anew.

    Then the lock is of a directory that is gone, and keeps nobody off.
    """
    other, third = Layout(layout.path).writing(), Layout(layout.path).writing()
    other.__enter__()
    flock = fcntl.flock

    def late(descriptor: int, how: int) -> None:
        monkeypatch.setattr(fcntl, "flock", flock)
        with suppress(KeyboardInterrupt):
            other.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
        if anew:
            third.__enter__()
        flock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with layout.writing():
        if anew:
            with suppress(KeyboardInterrupt):
                third.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
        assert layout.tags() == ()
    assert layout.tags() == ()


def test_failed_pushes_delete_nothing_of_others(tmp_path: Path) -> None:
    """Several threads create and roll back one layout; what was pushed stays."""

    def fail(layout: Layout) -> None:
        with suppress(SourceError):
            push(layout, Image.empty().append(StreamLayer(failing(1), tar=False)), "bad")

    for number in range(20):
        path = tmp_path / str(number) / "layout"
        tasks: list[Callable[[], object]] = [
            partial(push, Layout(path), image("a"), "a"),
            partial(push, Layout(path), image("b"), "b"),
            *(partial(fail, Layout(path)) for _ in range(4)),
        ]
        with ThreadPoolExecutor() as pool:
            for done in [pool.submit(task) for task in tasks]:
                done.result()
        assert set(Layout(path).tags()) == {"a", "b"}


def test_full_disk_raises_os_error_with_the_layout(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OSError with the layout's name: a file on its way would say nothing."""
    with layout.writing():
        pass

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        with pytest.raises(OSError, match="No space left on device") as found:
            layout.push(InMemoryBlob(b"abc", OCI_LAYER))
    assert found.value.filename == str(layout.path)
    assert (blobs(layout), scratch(layout)) == (set(), [])


def test_replaced_file_is_flushed_first(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or a power cut may leave an empty index.json, and with it no image at all (rename(2))."""
    push(layout, image("a"), "v1")
    done: list[str] = []
    replace, fsync = os.replace, os.fsync

    def named(source: str, target: str, **directories: int) -> None:
        done.append(target)
        replace(source, target, **directories)

    def synced(descriptor: int) -> None:
        done.append("sync")
        fsync(descriptor)

    monkeypatch.setattr(os, "replace", named)
    monkeypatch.setattr(os, "fsync", synced)
    described = layout.push(InMemoryBlob(b"abc", OCI_LAYER))
    layout.tag("v1", "v2")
    assert done == [described.digest.encoded, "sync", "index.json"]


def test_push_repeats_short_writes(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """write(2) may take fewer bytes than it is given."""
    whole = os.write
    monkeypatch.setattr(os, "write", lambda file, data: whole(file, data[:2]))
    assert drain(layout, layout.push(InMemoryBlob(b"abcde", OCI_LAYER))) == b"abcde"


def test_push_manifest_raises_if_a_blob_is_missing(layout: Layout) -> None:
    """A reader of the manifest must find all that it refers to."""
    made = image("a")
    push(layout, made, "v1")
    other = Layout(layout.path.parent / "other")
    with pytest.raises(CorruptBlob, match=f"{made.manifest.config.digest} is missing in") as found:
        other.push_manifest(made.manifest, "v1")
    assert found.value.side == "local"
    assert not other.path.exists()
    children = Index.new([made.descriptor])
    with pytest.raises(CorruptBlob, match=f"{made.digest} is missing in"):
        other.push_manifest(children, "v1")


def test_exists_requires_all_below_a_manifest(layout: Layout) -> None:
    """A manifest that is not listed, or lacks a blob, does not count."""
    made = index(layout)
    push(layout, made, "all")
    assert layout.exists(made.descriptor)
    child = made.index.manifests[0]
    layout.delete("amd64")
    layout.delete(str(child.digest))
    assert layout.exists(child)
    layer = next(layout.tree("all").children).manifest.layers[0]  # type: ignore[union-attr] # an image
    (layout.path / "blobs" / "sha256" / layer.digest.encoded).unlink()
    assert not layout.exists(made.descriptor)
    again = Layout(layout.path.parent / "again")
    push(again, image("a"), "v1")
    found = again.resolve("v1")
    again.delete(str(found.digest))
    assert not again.exists(found)
    push(again, image("a"), "v1")
    assert again.tags() == ("v1",)


def test_push_writes_a_damaged_manifest_again(layout: Layout) -> None:
    """The error says "copy the image there again": so that must help."""
    made = index(layout)
    push(layout, made, "all")
    other = Layout(layout.path.parent / "other")
    push(other, layout.tree("all"), "all")
    for digest in (made.digest, made.index.manifests[0].digest):
        raw = blob_file(layout, digest).read_bytes()
        for bad in (raw.replace(b"2", b"3", 1), raw[:-1] + b"]", b""):
            damage(layout, digest, bad)
            assert not layout.exists(made.descriptor)
            push(layout, other.tree("all"), "all")
            assert blob_file(layout, digest).read_bytes() == raw
    assert layout.exists(made.descriptor)


def nested(layout: Layout, count: int, width: int) -> Index:
    """Write `count` indexes, each of which lists the one before `width` times."""
    push(layout, image("a"), "v1")
    below = layout.resolve("v1")
    for _ in range(count):
        made = Index.new([below] * width)
        blob_file(layout, made.digest).write_bytes(made.raw)
        below = made.descriptor
    return Index.new([below])


@pytest.mark.parametrize(("count", "width"), [(1200, 1), (40, 4)])
def test_exists_reads_nested_indexes_once(layout: Layout, count: int, width: int) -> None:
    """However deep they are, and however often one is listed."""
    made = nested(layout, count, width)
    layout.push_manifest(made, "all")
    assert layout.exists(made.descriptor)


def test_whole_returns_index_json_byte_for_byte(layout: Layout) -> None:
    """As crane's `push --index`."""
    index(layout)
    whole = layout.whole()
    assert whole.index.raw == (layout.path / "index.json").read_bytes()
    assert [child.digest for child in whole.children] == [
        entry.digest for entry in whole.index.manifests
    ]


def test_referrers_returns_manifests_by_subject(layout: Layout) -> None:
    """image-layout.md knows no list of them: the manifests say it."""
    made = image("a")
    push(layout, made, "v1")
    note = image("note").with_subject(layout.resolve("v1")).with_annotations({"a": "b"})
    push(layout, note)
    (found,) = layout.referrers(made.digest)
    assert (found.digest, found.annotations) == (note.digest, {"a": "b"})
    assert found.artifact_type == note.manifest.artifact_type != ""
    assert layout.referrers(note.digest) == ()
    list_other(layout)
    assert [one.digest for one in layout.referrers(made.digest)] == [note.digest]


def list_other(layout: Layout) -> None:
    """List in index.json what is no manifest, as another program may."""
    described = layout.push(InMemoryBlob(b"<x/>", "application/xml"))
    document = json.loads((layout.path / "index.json").read_bytes())
    document["manifests"].append(described.to_dict())
    (layout.path / "index.json").write_text(json.dumps(document))


def test_push_keeps_unknown_members_of_index_json(layout: Layout) -> None:
    """Unknown members of index.json and of its entries stay, byte for byte where they can."""
    made = image("a")
    push(layout, made, "v1")
    document = json.loads((layout.path / "index.json").read_bytes())
    document["annotations"] = {"a": "b"}
    document["manifests"][0]["x"] = 1
    document["manifests"][0]["annotations"]["io.example"] = "kept"
    (layout.path / "index.json").write_text(json.dumps(document))
    layout.tag("v1", "v2")
    layout.delete("v1")
    after = json.loads((layout.path / "index.json").read_bytes())
    assert after["annotations"] == {"a": "b"}
    (entry,) = after["manifests"]
    assert (entry["x"], entry["annotations"]) == (1, {REF_NAME: "v2", "io.example": "kept"})
