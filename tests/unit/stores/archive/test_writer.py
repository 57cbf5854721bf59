"""writer.py: an image into a tar in one pass; what failed is never a whole archive."""

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.tars import entry, tar
from tests.unit.stores.archive.archives import (
    INDEX,
    LAYERS,
    MANIFEST,
    REF,
    Store,
    blob,
    config,
    described,
    docker_new,
    docker_old,
    oci,
    oci_end,
    oci_index,
    oci_manifest,
    sha,
    stream_archive,
)

from brolga.errors import (
    BrolgaError,
    DigestMismatch,
    InvalidManifest,
    InvalidReference,
    LayerError,
    SourceError,
)
from brolga.images import Artifact, Image, ImageIndex, InMemoryBlob, StoredBlob
from brolga.images.blobs import BlockStream
from brolga.spec.descriptor import Descriptor
from brolga.spec.digest import Digest
from brolga.stores.archive import Archive, Writer, open_writer
from brolga.stores.push import push
from brolga.stream.layer import StreamLayer

if TYPE_CHECKING:
    from collections.abc import Generator

    from brolga.images import Tree
    from brolga.spec.blob import Blob

GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"


@pytest.fixture
def image() -> Tree:
    """Return an image of an OCI archive, as read from a store."""
    return kept(*oci(packed=True))


def kept(*members: Any) -> Tree:
    """Return the tree of an archive with its blobs in memory."""
    store = Store()
    stream = stream_archive([tar(*members)], store, form="oci")
    store.blobs.update({})
    return _readable(store, stream)


def _readable(store: Store, tree: Tree) -> Tree:
    from dataclasses import replace as with_

    if not isinstance(tree, Image):
        load = tree._load
        return with_(tree, _load=lambda one: _readable(store, load(one)))

    def again(one: Any) -> Any:
        descriptor = one.descriptor
        if str(descriptor.digest) not in store.blobs:
            return one

        def opened() -> BlockStream:
            data = store.blobs[str(descriptor.digest)]
            return BlockStream(block for block in (data[:100], b"", data[100:]))

        return StoredBlob(descriptor, opened)

    return with_(tree, _base_layers=tuple(map(again, tree.layers)))


def written(tree: Tree, form: str, name: str = "", **options: Any) -> bytes:
    out = io.BytesIO()
    with Writer(out, form, name, **options) as writer:
        push(writer, tree, "", jobs=1)
    return out.getvalue()


def listing(data: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {one.name: archive.extractfile(one).read() for one in archive}  # type: ignore[union-attr]


def test_docker_archive_equals_that_of_crane(image: Tree) -> None:
    """Layers as they are, by their digest; the config by its own; then manifest.json."""
    files = listing(written(image, "docker", "example.com/app:v1"))
    packed = [gzip.compress(one, mtime=0) for one in LAYERS]
    names = [f"{sha(one)}.tar.gz" for one in packed]
    assert list(files) == [*names, f"sha256:{sha(config())}", "manifest.json"]
    assert files[names[0]] == packed[0]
    assert files[f"sha256:{sha(config())}"] == config()
    assert json.loads(files["manifest.json"]) == [
        {
            "Config": f"sha256:{sha(config())}",
            "RepoTags": ["example.com/app:v1"],
            "Layers": names,
        }
    ]


@pytest.mark.parametrize(
    ("name", "tags"),
    [
        ("", None),
        ("app", ["docker.io/library/app:latest"]),
        (f"example.com/app@{Digest.of(b'')}", None),
        (f"example.com/app:v1@{Digest.of(b'')}", ["example.com/app:v1"]),
    ],
)
def test_docker_archive_needs_a_tag_in_its_name(
    name: str, tags: list[str] | None, image: Tree
) -> None:
    """RepoTags are references with a tag; one by digest has none there."""
    files = listing(written(image, "docker", name))
    assert json.loads(files["manifest.json"])[0]["RepoTags"] == tags


def test_docker_archive_names_layers_by_compression() -> None:
    """Readers look into a layer; its name is for people."""
    files = listing(written(kept(*oci()), "docker"))
    assert [name for name in files if name.endswith(".tar")] == [f"{sha(x)}.tar" for x in LAYERS]


def test_oci_archive_is_an_image_layout(image: Tree) -> None:
    """oci-layout says what it is, the manifest what comes, index.json is last (image-layout.md)."""
    files = listing(written(image, "oci", "v1"))
    manifest = f"blobs/sha256/{image.digest.encoded}"
    assert list(files)[:2] == ["oci-layout", manifest]
    assert list(files)[-1] == "index.json"
    assert json.loads(files["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    (one,) = json.loads(files["index.json"])["manifests"]
    assert one["annotations"] == {REF: "v1"}
    assert one["digest"] == str(image.digest)
    for name, data in files.items():
        assert not name.startswith("blobs/") or name == f"blobs/sha256/{sha(data)}"
    (one,) = json.loads(listing(written(image, "oci"))["index.json"])["manifests"]
    assert "annotations" not in one


def index_members() -> list[Any]:
    """Write an index of two images, which share a layer."""
    layers = [gzip.compress(one, mtime=0) for one in LAYERS]
    configs = [config(LAYERS, author=author) for author in "ab"]
    manifests = [oci_manifest(one, layers) for one in configs]
    index = oci_index(*(described(MANIFEST, one) for one in manifests))
    members = [*map(blob, [*layers, *configs, *manifests, index])]
    return [*members, *oci_end(described(INDEX, index))]


def test_docker_archive_rejects_an_index() -> None:
    """One entry in index.json, its children below it; a docker archive has no place for it."""
    index = kept(*index_members())
    files = listing(written(index, "oci", "v1"))
    (one,) = json.loads(files["index.json"])["manifests"]
    assert one["digest"] == str(index.digest)
    assert len(files) == 9
    out = io.BytesIO()
    with pytest.raises(InvalidManifest, match="--platform"), Writer(out, "docker") as writer:
        push(writer, index, "", jobs=1)
    assert out.getvalue() == b""


def test_archive_lists_several_images_and_names() -> None:
    """Each `push_manifest` adds one; its name counts if the writer has none."""
    one, other = kept(*oci(packed=True)), kept(*oci(LAYERS[:1], packed=True))
    for form in ("docker", "oci"):
        out = io.BytesIO()
        with Writer(out, form) as writer:
            push(writer, one, "example.com/a:v1", jobs=1)
            push(writer, one, "example.com/a:v2", jobs=1)
            push(writer, other, "", jobs=1)
        files = listing(out.getvalue())
        if form == "docker":
            tags = [image["RepoTags"] for image in json.loads(files["manifest.json"])]
            assert tags == [["example.com/a:v1", "example.com/a:v2"], None]
        else:
            found = [x.get("annotations", {}) for x in json.loads(files["index.json"])["manifests"]]
            assert found == [{REF: "example.com/a:v1"}, {REF: "example.com/a:v2"}, {}]


def test_name_stands_for_its_last_manifest() -> None:
    """As in a registry; two images of one name could not be told apart."""
    one, other = kept(*oci(packed=True)), kept(*oci(LAYERS[:1], packed=True))
    for form, first in (("docker", "app:v1"), ("oci", "docker.io/library/app:v1")):
        out = io.BytesIO()
        with Writer(out, form) as writer:
            push(writer, one, first, jobs=1)
            push(writer, other, "docker.io/library/app:v1", jobs=1)
        files = listing(out.getvalue())
        if form == "docker":
            tags = [image["RepoTags"] for image in json.loads(files["manifest.json"])]
            assert tags == [None, ["docker.io/library/app:v1"]]
        else:
            found = [x.get("annotations", {}) for x in json.loads(files["index.json"])["manifests"]]
            assert found == [{}, {REF: "docker.io/library/app:v1"}]


@pytest.mark.parametrize(("name", "names"), [("", ["one", "all"]), ("x", ["x"])])
def test_child_of_an_index_is_listed_if_it_has_a_name(name: str, names: list[str]) -> None:
    """An image that was pushed under a name can be read by it."""
    one = kept(*oci(packed=True))
    out = io.BytesIO()
    with Writer(out, "oci", name) as writer:
        push(writer, one, "" if name else "one", jobs=1)
        push(writer, ImageIndex.empty().append(one), "" if name else "all", jobs=1)
    found = json.loads(listing(out.getvalue())["index.json"])["manifests"]
    assert [entry["annotations"][REF] for entry in found] == names


def test_same_image_gives_the_same_archive(image: Tree) -> None:
    """Reproducible: no time, no owner, no order but the push's."""
    for form in ("docker", "oci"):
        assert written(image, form, "a:b") == written(kept(*oci(packed=True)), form, "a:b")


def test_writer_is_thread_safe(image: Tree) -> None:
    """Files do not mix, and a blob that two push is one file."""
    out = io.BytesIO()
    with Writer(out, "oci") as writer:
        threads = [threading.Thread(target=push, args=(writer, image, "")) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    files = listing(out.getvalue())
    assert len(files) == 6
    assert all(sha(data) == name[13:] for name, data in files.items() if name.startswith("blobs"))


def test_archive_reads_what_writer_writes(tmp_path: Path, image: Tree) -> None:
    """Both forms, from a file and from a pipe: the same layers, and in OCI's form the digest."""
    for form in ("docker", "oci"):
        data = written(image, form, "example.com/app:v1")
        (tmp_path / form).write_bytes(data)
        store = Store()
        with Archive(tmp_path / form) as archive:
            assert archive.tags() == ("example.com/app:v1",)
            push(store, archive.tree("app:v1"), "file")
        push(store, stream_archive([data], store), "pipe")
        assert store.documents["file"].digest == store.documents["pipe"].digest
        assert (store.documents["file"].digest == image.digest) == (form == "oci")


def test_push_of_a_stream_needs_a_spool(tmp_path: Path) -> None:
    """A tar has a file's size in front of it: the error names --spool, which has room for it."""
    data = b"x" * 3_000_000
    with pytest.raises(LayerError, match="--spool"):
        written(Image.empty().append(StreamLayer([data])), "docker")
    for spool in (True, tmp_path, str(tmp_path)):
        stream, twin = StreamLayer([data]), StreamLayer([data])
        tree = Image.empty().append(stream, twin, stream)
        files = listing(written(tree, "oci", spool=spool))
        name = f"blobs/sha256/{stream.digest.encoded}"
        assert gzip.decompress(files[name]) == data
        assert len([one for one in files if one.startswith("blobs")]) == 3
    assert list(tmp_path.iterdir()) == []


def test_writer_takes_blobs_of_a_stream_archive() -> None:
    """`docker save | brolga copy`: what is not to be compressed needs no spool."""
    for members, spool in (
        (docker_new(), False),
        (oci(packed=True), False),
        (docker_old(), True),
    ):
        out = io.BytesIO()
        with Writer(out, "oci", "v1", spool=spool) as writer:
            tree = stream_archive([tar(*members)], writer, compression="none")
            push(writer, tree, "", jobs=1)
        store = Store()
        push(store, stream_archive([out.getvalue()], store, form="oci"), "tag")
        assert len(store.documents) == 1


def test_large_files_have_a_pax_header() -> None:
    """8 GiB and more do not fit into a header's digits."""

    class Counting:
        size = 0

        def write(self, data: memoryview) -> int:
            self.size += len(data)
            return len(data)

        def flush(self) -> None:
            pass

    size = 9 << 30
    block = memoryview(bytes(1 << 26))
    large = Descriptor(GZIP, Digest.of(b"not looked at"), size)
    out = Counting()
    writer = Writer(out, "oci")  # type: ignore[arg-type]
    blocks = (block for _ in range(size // len(block)))
    blob = StoredBlob(large, lambda: BlockStream(blocks), is_verified=True)
    writer.push(blob)
    assert out.size == size + (3 + 2) * 512  # its headers, and oci-layout


class Piecemeal(io.RawIOBase):
    """A raw file that takes 1000 bytes at a time, and none now and then."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int | None:
        self.taken.append(bytes(data[:1000]))
        return len(self.taken[-1])


def test_writer_repeats_short_writes(image: Tree) -> None:
    """`write` of a raw file returns how much it took."""
    with Piecemeal() as out:
        with Writer(out, "docker") as writer:  # type: ignore[arg-type]
            push(writer, image, "", jobs=1)
        assert b"".join(out.taken) == written(image, "docker")


# --- What fails


class Odd:
    """A blob that gives other bytes than it says."""

    def __init__(self, said: bytes, given: list[bytes | Exception]) -> None:
        self.descriptor = Descriptor(GZIP, Digest.of(said), len(said))
        self._given = given

    def open(self) -> BlockStream:
        return BlockStream(self._blocks())

    def _blocks(self) -> Generator[bytes, None, None]:
        for one in self._given:
            if isinstance(one, Exception):
                raise one
            yield one


@pytest.mark.parametrize(
    ("given", "kind", "words"),
    [
        ([b"ab"], DigestMismatch, "was expected"),
        ([b"abcd"], SourceError, "longer than the 3"),
        ([b"abx"], DigestMismatch, "was expected"),
        ([b"a", SourceError("cut")], SourceError, "cut"),
    ],
)
def test_writer_writes_no_end_after_a_failure(
    given: list[Any], kind: type[Exception], words: str, image: Tree
) -> None:
    """No documents and no end are written, even if the error is suppressed."""
    for form in ("docker", "oci"):
        out = io.BytesIO()
        with pytest.raises(kind, match=words), Writer(out, form) as writer:
            writer.push(Odd(b"abc", given))
        data = out.getvalue()
        out = io.BytesIO()
        with pytest.raises(LayerError, match="a part of it"), Writer(out, form) as writer:
            push(writer, image, "", jobs=1)
            with pytest.raises(kind):
                writer.push(Odd(b"abc", given))
        for broken in (data, out.getvalue()):
            with pytest.raises(BrolgaError):
                stream_archive([broken], Store())


def test_push_verifies_the_size_of_a_stored_blob() -> None:
    """A header with another size would break the tar, and all bytes are verified."""
    large = Descriptor(GZIP, Digest.of(b"ab"), 3)
    writer = Writer(io.BytesIO(), "oci")
    with pytest.raises(SourceError, match="ended 1 bytes before the 3"):
        writer.push(StoredBlob(large, lambda: BlockStream(x for x in [b"ab"])))
    with pytest.raises(DigestMismatch):
        Writer(io.BytesIO(), "oci").push(StoredBlob(large, InMemoryBlob(b"abd", GZIP).open))
    with pytest.raises(LayerError, match="the archive is broken"):
        writer.push(InMemoryBlob(b"", GZIP))


def test_push_does_not_hash_a_verified_blob_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its stream ends with the error itself; the archive is broken then as well."""
    described = InMemoryBlob(b"ab", GZIP).descriptor

    def wrong() -> Generator[bytes, None, None]:
        yield b"ax"
        verifier = described.digest.verifier()
        verifier.update(b"ax")
        verifier.verify()

    right = (block for block in [b"ab"])
    blob = StoredBlob(described, lambda: BlockStream(right), is_verified=True)
    with monkeypatch.context() as patched:
        patched.setattr("brolga.spec.digest.Digest.verifier", lambda _: pytest.fail("hashed again"))
        assert Writer(io.BytesIO(), "oci").push(blob) == described
    writer = Writer(io.BytesIO(), "oci")
    with pytest.raises(DigestMismatch):
        writer.push(StoredBlob(described, lambda: BlockStream(wrong()), is_verified=True))
    with pytest.raises(LayerError, match="the archive is broken"), writer:
        pass


def test_writer_raises_if_no_image_was_pushed() -> None:
    """Leaving without a `put` is an error."""
    with pytest.raises(LayerError, match="no image"), Writer(io.BytesIO(), "oci"):
        pass


def test_push_manifest_requires_its_blobs(image: Tree) -> None:
    """A manifest is refused if a blob of it was not written."""
    assert isinstance(image, Image)
    writer = Writer(io.BytesIO(), "oci")
    with pytest.raises(InvalidManifest, match="which was not written"):
        writer.push_manifest(image.manifest, "")
    assert not writer.exists(image.descriptor)


def test_oci_archive_leaves_out_foreign_layers() -> None:
    """A docker archive needs them, because docker load would look for them."""
    foreign = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
    manifest = json.loads(oci_manifest(config(()), []))
    manifest["layers"] = [described(foreign, b"elsewhere")]
    raw = json.dumps(manifest).encode()
    tree = kept(blob(raw), blob(config(())), *oci_end(described(MANIFEST, raw)))
    assert len(listing(written(tree, "oci"))) == 4
    with pytest.raises(InvalidManifest, match="not written"):
        written(tree, "docker")


def test_docker_archive_rejects_an_artifact() -> None:
    """It has no config that docker could load."""
    artifact = Artifact.of("application/x", InMemoryBlob(b"x", "application/x"))
    assert len(listing(written(artifact, "oci"))) == 5
    with pytest.raises(InvalidManifest, match="an artifact"):
        written(artifact, "docker")


def test_writer_rejects_unknown_form_and_invalid_name() -> None:
    """Before anything is written."""
    with pytest.raises(ValueError, match="tarball"):
        Writer(io.BytesIO(), "tarball")
    with pytest.raises(InvalidReference):
        Writer(io.BytesIO(), "docker", "No Name")


@pytest.mark.parametrize("known", [True, False])
def test_push_raises_what_reading_a_blob_raises(*, known: bool) -> None:
    """A push that is given up ends with the error of its stream, whether its size is known."""

    def blocks() -> Generator[bytes, None, None]:
        yield b"x"
        raise SourceError("stopped")

    data = InMemoryBlob(b"xyz", "application/x")
    blob: Blob = (
        StoredBlob(data.descriptor, lambda: BlockStream(blocks()))
        if known
        else StreamLayer(blocks(), tar=False)
    )
    out = io.BytesIO()
    with pytest.raises(SourceError, match="stopped"), Writer(out, "oci", spool=True) as writer:
        writer.push(blob)


# --- Files


def test_open_writer_replaces_a_file_at_the_end(
    tmp_path: Path, image: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until then, and after an error, the old file is there."""
    file = tmp_path / "a.tar"
    with pytest.raises(SourceError), open_writer(file, "oci") as writer:
        push(writer, image, "")
        raise SourceError("late")
    assert list(tmp_path.iterdir()) == []
    file.write_bytes(b"before")
    with open_writer(str(file), "oci", "v1") as writer:
        push(writer, image, "", jobs=1)
        assert file.read_bytes() == b"before"
    assert file.read_bytes() == written(image, "oci", "v1")
    assert [one.name for one in tmp_path.iterdir()] == ["a.tar"]
    synced: list[int] = []
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", lambda _: synced.append(file.stat().st_ino))
        before = file.stat().st_ino
        with open_writer(file, "oci", "v1") as writer:
            push(writer, image, "", jobs=1)
    assert synced == [before]
    umask = os.umask(0)
    os.umask(umask)
    assert file.stat().st_mode & 0o777 == 0o666 & ~umask
    with pytest.raises(OSError, match="missing"), open_writer(tmp_path / "missing/a", "oci"):
        pytest.fail("there is no such directory")


def test_full_disk_error_names_the_archive(
    tmp_path: Path, image: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the temporary file nor the error of its close is named."""
    file = tmp_path / "a.tar"
    with pytest.raises(OSError, match="No space left") as found, open_writer(file, "oci") as writer:
        monkeypatch.setattr(writer, "_out", Path("/dev/full").open("wb", buffering=0))  # noqa: SIM115 - closed below
        try:
            push(writer, image, "", jobs=1)
        finally:
            writer._out.close()
    assert found.value.filename == str(file)
    assert list(tmp_path.iterdir()) == []
    full = Path("/dev/full").open("wb", buffering=0)  # noqa: SIM115 - closed by `with`
    with pytest.raises(OSError, match="No space left") as found, full:
        Writer(full, "oci").push(InMemoryBlob(b"x", GZIP))
    assert found.value.filename == "/dev/full"


def test_writer_raises_layer_error_if_the_reader_stops() -> None:
    """`brolga pull REF - | head`: the archive is not complete."""
    ours, theirs = os.pipe()
    os.close(ours)
    out = open(theirs, "wb", buffering=0)  # noqa: PTH123, SIM115 - a descriptor has no path
    with out, pytest.raises(LayerError, match="incomplete: the reader of a pipe stopped early"):
        Writer(out, "oci", where="a pipe").push(InMemoryBlob(b"x", GZIP))


def test_writer_keeps_an_os_error_without_errno() -> None:
    """A file object of the user's may raise what it likes."""

    class Odd(io.BytesIO):
        def write(self, _: object) -> int:
            raise io.UnsupportedOperation("no")

    with pytest.raises(io.UnsupportedOperation):
        Writer(Odd(), "oci").push(InMemoryBlob(b"x", GZIP))


def test_open_writer_raises_if_stdout_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python has None for a stdout that was closed before it began."""
    closed = io.TextIOWrapper(io.BytesIO())
    closed.close()
    for stdout in (None, closed):
        monkeypatch.setattr("sys.stdout", stdout)
        writer = open_writer("-", "oci")
        with pytest.raises(OSError, match="cannot write the archive: 'stdout'"), writer:
            pytest.fail("nothing can be written")


def test_open_writer_writes_to_a_device(image: Tree) -> None:
    """Nothing takes the place of a device or a named pipe."""
    with open_writer("/dev/null", "oci") as writer:
        push(writer, image, "", jobs=1)
    assert not os.path.isfile("/dev/null")  # noqa: PTH113 - it needs no Path


def test_open_writer_writes_dash_to_stdout(capfdbinary: Any, image: Tree) -> None:
    """`-` is a pipe, in one pass."""
    with open_writer("-", "docker", "a:b", spool=True) as writer:
        push(writer, image, "", jobs=1)
    assert capfdbinary.readouterr().out == written(image, "docker", "a:b")


def test_entry_of_the_archive_has_plain_metadata() -> None:
    """Mode 0644, root's, of no time: the same everywhere."""
    data = written(kept(*oci(packed=True)), "docker")
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for one in archive:
            assert (one.mode, one.uid, one.gid, one.mtime, one.uname) == (0o644, 0, 0, 0, "")
    assert entry("a")[0].size == 0
