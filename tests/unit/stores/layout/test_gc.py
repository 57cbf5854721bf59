"""stores.layout.gc: blobs that no image needs are deleted, while other processes write."""

from __future__ import annotations

import fcntl
import json
import os
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from tests.tars import tar

from brolga.disk.directory import Directory
from brolga.errors import DigestMismatch, InvalidLayout, InvalidManifest
from brolga.images import Image, ImageIndex, InMemoryBlob
from brolga.images.validate import validate
from brolga.spec.index import Index
from brolga.spec.mediatypes import OCI_INDEX, OCI_LAYER
from brolga.stores.layout import GCResult, Layout
from brolga.stores.layout.files import Files
from brolga.stores.layout.gc import find_garbage
from brolga.stores.push import push
from brolga.stream.layer import StreamLayer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from brolga.spec.descriptor import Descriptor
    from brolga.spec.digest import Digest

NOTHING = GCResult(0, 0, 0, 0)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "layout")


def image(text: str) -> Image:
    return Image.empty().append(StreamLayer([tar(text)]))


def place(layout: Layout, digest: Digest) -> Path:
    return layout.path / "blobs" / digest.algorithm / digest.encoded


def blobs(layout: Layout) -> set[str]:
    return {path.name for path in layout.path.glob("blobs/*/*")}


def parts(layout: Layout, name: str) -> set[str]:
    """Return the blobs of an image."""
    manifest = layout.fetch_manifest(name)
    assert not isinstance(manifest, Index)
    return {one.digest.encoded for one in (manifest.config, *manifest.layers)} | {
        manifest.digest.encoded
    }


def write(layout: Layout, media_type: str, document: object) -> Descriptor:
    """Push a document as a blob that no image refers to."""
    return layout.push(InMemoryBlob(json.dumps(document).encode(), media_type))


def enter(layout: Layout, *descriptors: Descriptor) -> None:
    """Write an index.json of these descriptors."""
    index = Index.new(descriptors)
    (layout.path / "index.json").write_bytes(index.raw)


def test_gc_deletes_unreferenced_blobs(layout: Layout) -> None:
    """All blobs of a deleted image go, except those that another image has too."""
    push(layout, image("a"), "v1")
    kept = parts(layout, "v1")
    made = layout.tree("v1")
    assert isinstance(made, Image)
    push(layout, made.append(StreamLayer([tar("b")])), "v2")
    gone = parts(layout, "v2") - kept
    assert len(gone) == 3
    layout.delete(str(layout.resolve("v2").digest))
    size = sum((layout.path / "blobs" / "sha256" / name).stat().st_size for name in gone)
    dry = layout.gc(older_than_s=0, dry_run=True)
    assert (dry, blobs(layout)) == (GCResult(3, size, 0, 0), kept | gone)
    assert layout.gc(older_than_s=0) == dry
    assert blobs(layout) == kept
    assert list(validate(layout.tree("v1"))) == []
    assert layout.gc(older_than_s=0) == NOTHING


def test_gc_keeps_all_below_an_index(layout: Layout) -> None:
    """Its images, an index in it, and their blobs."""
    child = image("a")
    push(layout, child)
    inner = ImageIndex.empty().append(child)
    push(layout, inner)
    push(layout, ImageIndex.empty().append(inner), "all")
    before = blobs(layout)
    assert [child.digest for child in layout.whole().index.manifests] == [
        layout.resolve("all").digest
    ]
    assert layout.gc(older_than_s=0) == NOTHING
    assert blobs(layout) == before


def test_gc_keeps_recent_blobs(layout: Layout) -> None:
    """A client of a registry on the directory holds no lock, and may refer to them soon."""
    push(layout, image("a"), "v1")
    young, old = (layout.push(InMemoryBlob(data, OCI_LAYER)) for data in (b"young", b"old"))
    os.utime(place(layout, old.digest), (0, 0))
    assert layout.gc() == GCResult(1, 3, 1, 0)
    assert place(layout, young.digest).exists()
    # A push of the same blob makes it recent.
    os.utime(place(layout, young.digest), (0, 0))
    layout.push(InMemoryBlob(b"young", OCI_LAYER))
    assert layout.gc() == GCResult(0, 0, 1, 0)


def test_gc_untagged_deletes_images_without_a_name(layout: Layout) -> None:
    """Unless they refer to one that stays: its signatures, and theirs."""
    push(layout, image("old"), "v1")
    old = parts(layout, "v1")
    made = image("a")
    push(layout, made, "v1")
    note = image("note").with_subject(made.descriptor)
    push(layout, note)
    push(layout, image("note on the note").with_subject(note.descriptor))
    before = blobs(layout)
    assert layout.gc(older_than_s=0) == NOTHING
    assert layout.gc(older_than_s=0, untagged=True, dry_run=True).blobs == len(old)
    assert len(layout.whole().index.manifests) == 4
    assert layout.gc(older_than_s=0, untagged=True).blobs == len(old)
    assert blobs(layout) == before - old
    assert len(layout.whole().index.manifests) == 3


def test_gc_keeps_blobs_of_unknown_documents(layout: Layout) -> None:
    """Whatever looks like a descriptor keeps its blob."""
    data = layout.push(InMemoryBlob(b"data", "application/octet-stream"))
    deep = write(layout, "application/json", {"digest": str(data.digest)})
    new = write(
        layout,
        "application/vnd.example.new+json",
        {"blobs": [{"x": {"mediaType": "application/json", "digest": str(deep.digest)}}]},
    )
    broken = layout.push(InMemoryBlob(b"{", "application/json"))
    absent = InMemoryBlob(b"absent", "application/json").descriptor
    strange = write(layout, "application/json", [{"digest": "no"}, {"digest": 1}])
    enter(layout, new, broken, absent, strange)
    assert layout.gc(older_than_s=0) == NOTHING


def test_gc_deletes_nothing_if_a_manifest_is_damaged(layout: Layout) -> None:
    """Its references are unknown."""
    made = image("a")
    push(layout, made, "v1")
    layout.push(InMemoryBlob(b"x", OCI_LAYER))
    file = place(layout, made.digest)
    for damaged in (made.manifest.raw + b" ", b"no"):
        file.write_bytes(damaged)
        with pytest.raises(DigestMismatch) as found:
            layout.gc(older_than_s=0)
        assert found.value.side == "local"
    file.write_bytes(b" " * (5 << 20))
    with pytest.raises(InvalidManifest, match="more than 4194304 bytes"):
        layout.gc(older_than_s=0)
    assert place(layout, InMemoryBlob(b"x", OCI_LAYER).descriptor.digest).exists()


def nested(depth: int) -> object:
    value: object = {}
    for _ in range(depth):
        value = {"a": value}
    return value


STRANGE: dict[str, dict[str, object]] = {
    "no number": {"x": float("nan")},
    "deep": {"x": nested(70)},
    "no text": {"artifactType": "a/b\ud800"},
}
READABLE: dict[str, dict[str, object]] = {
    "two kinds of layers": {"Layers": []},
    "an old version": {"schemaVersion": 1},
}


def strange(layout: Layout, members: dict[str, object]) -> tuple[Digest, Digest]:
    """Add an odd manifest with a layer and a subject; return its digest and the layer's."""
    made = layout.tree("v1")
    assert isinstance(made, Image)
    alone = layout.push(InMemoryBlob(b"layer", OCI_LAYER))
    document = {
        **json.loads(made.manifest.raw),
        "layers": [alone.to_dict()],
        "subject": made.descriptor.to_dict(),
        **members,
    }
    raw = json.dumps(document).encode()
    described = layout.push(InMemoryBlob(raw, made.manifest.media_type))
    layout.push(InMemoryBlob(b"nobody's", OCI_LAYER))
    enter(layout, *layout.whole().index.manifests, described)
    return described.digest, alone.digest


@pytest.mark.parametrize("kind", [*STRANGE, *READABLE])
def test_gc_keeps_blobs_that_an_unparsable_manifest_mentions(layout: Layout, kind: str) -> None:
    """A client of a registry may push one. It is reported, and other blobs are deleted."""
    push(layout, image("a"), "v1")
    digest, layer = strange(layout, {**STRANGE, **READABLE}[kind])
    for untagged in (False, True):  # it mentions an image that stays, and may be its signature
        result = layout.gc(older_than_s=0, untagged=untagged)
        assert result.blobs == (not untagged)
        assert place(layout, digest).exists()
        assert place(layout, layer).exists()
        if kind in STRANGE:
            assert [one.partition(": ")[0] for one in result.unread] == [str(digest)]
        else:
            assert result.unread == ()


@pytest.mark.parametrize("kind", [*STRANGE, *READABLE])
def test_referrers_skip_unparsable_manifests(layout: Layout, kind: str) -> None:
    """An unparsable manifest hides no other."""
    made = image("a")
    push(layout, made, "v1")
    note = image("note").with_subject(made.descriptor)
    push(layout, note)
    digest, _ = strange(layout, {**STRANGE, **READABLE}[kind])
    warnings: list[tuple[str, str]] = []
    found = Layout(layout.path, lambda *said: warnings.append(said)).referrers(made.digest)
    assert [one.digest for one in found] == [note.digest]
    ((name, warning),) = warnings
    assert (name, warning.startswith(f"{digest} is passed over: ")) == (layout.path.name, True)
    assert layout.referrers(made.digest) == found


def test_gc_keeps_files_that_are_not_blobs(layout: Layout) -> None:
    """Other files below blobs/, links and directories stay."""
    push(layout, image("a"), "v1")
    directory = layout.path / "blobs" / "sha256"
    (directory / "notes.txt").touch()
    (directory / ("0" * 64)).mkdir()
    (directory / ("1" * 64)).symlink_to("/nonexistent")
    assert layout.gc(older_than_s=0) == NOTHING


def test_gc_deletes_stale_temporary_files(layout: Layout) -> None:
    """Files of brolga at once; a session of the registry after a day, unless it is locked.

    With an age of 0 no client can resume a session.
    """
    push(layout, image("a"), "v1")
    uploads = layout.path / ".uploads"
    ours, young, old, held = (uploads / name for name in ("blob.1", "a" * 32, "b" * 32, "c" * 32))
    for path in (ours, young, old, held):
        path.touch()
    for path in (old, held):
        os.utime(path, (0, 0))
    (uploads / "link").symlink_to("/nonexistent")
    os.utime(uploads / "link", (0, 0), follow_symlinks=False)
    with held.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert layout.gc(dry_run=True) == GCResult(0, 0, 0, 2)
        assert layout.gc() == GCResult(0, 0, 0, 2)
    assert {path.name for path in uploads.iterdir()} == {young.name, held.name, "link"}
    hours = time.time() - 7200
    os.utime(young, (hours, hours))
    assert layout.gc() == GCResult(0, 0, 0, 1)  # the one that was held
    assert layout.gc(older_than_s=0) == GCResult(0, 0, 0, 1)
    assert not young.exists()


def test_gc_waits_for_a_push(layout: Layout) -> None:
    """Blobs of any age are kept until their image is in the index."""
    waits, swept = threading.Event(), []

    def sweep() -> None:
        swept.append(Layout(layout.path).gc(older_than_s=0, waiting=waits.set))

    with layout.writing():
        blob = layout.push(InMemoryBlob(b"x" * 100, OCI_LAYER))
        thread = threading.Thread(target=sweep)
        thread.start()
        assert waits.wait(30)
        push(layout, image("a"), "v1")
        assert place(layout, blob.digest).exists()
        assert swept == []
    thread.join(30)
    assert swept == [GCResult(1, 100, 0, 0)]
    assert list(validate(layout.tree("v1"))) == []


def test_push_waits_for_gc(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """A blob that a push finds is still there when its image is added."""
    push(layout, image("a"), "v1")
    blob = InMemoryBlob(b"x", OCI_LAYER)
    layout.push(blob)
    began, pushed = threading.Event(), threading.Event()

    def write() -> None:
        began.set()
        Layout(layout.path).push(blob)
        pushed.set()

    thread = threading.Thread(target=write)
    unlink = Directory.unlink

    def deleted(self: Directory, path: Path) -> bool:
        thread.start()
        assert began.wait(30)
        assert not pushed.is_set()
        return unlink(self, path)

    with monkeypatch.context() as patched:
        patched.setattr(Directory, "unlink", deleted)
        assert layout.gc(older_than_s=0).blobs == 1
    thread.join(30)
    assert place(layout, blob.descriptor.digest).exists()


@contextmanager
def deleted_meanwhile(path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Delete a file between its listing and its status."""
    opened = os.open

    def race(name: object, *arguments: object, **more: object) -> int:
        if name == path.name:
            path.unlink()
        return opened(name, *arguments, **more)  # type: ignore[arg-type] # whatever it was given

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", race)
        yield


def test_gc_ignores_files_deleted_meanwhile(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The registry finishes an upload while the files are listed."""
    push(layout, image("a"), "v1")
    session = layout.path / ".uploads" / ("a" * 32)
    session.touch()
    os.utime(session, (0, 0))
    with deleted_meanwhile(session, monkeypatch):
        assert layout.gc() == NOTHING
    lone = layout.push(InMemoryBlob(b"abc", "text/plain"))
    blob = layout.path / "blobs" / "sha256" / lone.digest.encoded
    session.touch()
    scan = Directory.scan

    def gone(self: Directory, path: Path) -> Iterator[os.DirEntry[str]]:
        for entry in scan(self, path):
            if path / entry.name in {session, blob}:
                (path / entry.name).unlink(missing_ok=True)
            yield entry

    with monkeypatch.context() as patched:
        patched.setattr(Directory, "scan", gone)
        assert layout.gc(older_than_s=0) == NOTHING


def test_gc_keeps_a_blob_touched_meanwhile(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """A registry that has it touches it: its client was told that it exists."""
    push(layout, image("a"), "v1")
    old = layout.push(InMemoryBlob(b"old", OCI_LAYER))
    file = place(layout, old.digest)
    os.utime(file, (0, 0))

    def find_and_touch(*arguments: Any) -> object:
        found = find_garbage(*arguments)
        os.utime(file)
        return found

    with monkeypatch.context() as patched:
        patched.setattr("brolga.stores.layout.layout.find_garbage", find_and_touch)
        assert layout.gc() == NOTHING
    assert file.exists()


def test_gc_untagged_deletes_an_entry_that_is_not_a_manifest(layout: Layout) -> None:
    """index.json may list anything."""
    push(layout, image("a"), "v1")
    described = layout.push(InMemoryBlob(b"<x/>", "application/xml"))
    file = layout.path / "index.json"
    document = json.loads(file.read_bytes())
    document["manifests"].append(described.to_dict())
    file.write_text(json.dumps(document))
    assert layout.gc(older_than_s=0).blobs == 0
    assert layout.gc(older_than_s=0, untagged=True).blobs == 1
    assert layout.tags() == ("v1",)


def test_gc_reads_index_json_without_media_type(layout: Layout) -> None:
    """As image-spec 1.0 has it."""
    push(layout, image("a"), "v1")
    file = layout.path / "index.json"
    document = json.loads(file.read_bytes())
    assert document.pop("mediaType") == OCI_INDEX
    file.write_text(json.dumps(document))
    assert layout.gc(older_than_s=0) == NOTHING
    assert layout.tags() == ("v1",)


def test_gc_reads_a_document_once_for_all_its_media_types(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A document may name one blob with thousands of media types."""
    data = layout.push(InMemoryBlob(b"data", "application/octet-stream"))
    inner = write(layout, "application/json", {"digest": str(data.digest)})
    named = [
        {"mediaType": f"application/v{number}+json", "digest": str(inner.digest)}
        for number in range(50)
    ]
    enter(layout, write(layout, "application/json", {"blobs": named}))
    reads: list[Path] = []
    read = Files.read

    def counted(files: Files, path: Path, *limit: int) -> bytes | None:
        reads.append(path)
        return read(files, path, *limit)

    monkeypatch.setattr(Files, "read", counted)
    assert layout.gc(older_than_s=0) == NOTHING
    assert reads.count(place(layout, inner.digest)) == 1


@pytest.mark.parametrize("planted", ["blobs", "blobs/sha256", ".uploads"])
def test_gc_deletes_nothing_behind_a_link(layout: Layout, tmp_path: Path, planted: str) -> None:
    """A layout from elsewhere may have a link to a directory of the user's.

    google/go-containerregistry#2306: the files there are not its blobs.
    """
    push(layout, image("a"), "v1")
    outside = tmp_path / "outside"
    (layout.path / planted).rename(outside)
    (layout.path / planted).symlink_to(outside)
    for name in (f"sha256/{'a' * 64}", "a" * 64, "blob.x"):
        (outside / name).parent.mkdir(exist_ok=True)
        (outside / name).write_bytes(b"mine")
        os.utime(outside / name, (0, 0))
    before = {path: path.stat() for path in outside.rglob("*") if path.is_file()}
    with pytest.raises(InvalidLayout, match="link"):
        layout.gc(older_than_s=0, untagged=True)
    assert {path: path.stat() for path in outside.rglob("*") if path.is_file()} == before


def test_gc_ignores_a_link_beside_sha256(layout: Layout, tmp_path: Path) -> None:
    """A link below blobs/ is not an algorithm."""
    push(layout, image("a"), "v1")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / ("a" * 128)).write_bytes(b"mine")
    os.utime(outside / ("a" * 128), (0, 0))
    (layout.path / "blobs/sha512").symlink_to(outside)
    assert layout.gc(older_than_s=0).blobs == 0
    assert (outside / ("a" * 128)).exists()
