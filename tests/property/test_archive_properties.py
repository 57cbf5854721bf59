"""Archives: what is written can be read, and a broken archive never becomes an image."""

from __future__ import annotations

import io
import json
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.tars import entry, tar
from tests.unit.stores.archive.archives import (
    Store,
    config,
    crane,
    docker_new,
    docker_old,
    oci,
    sha,
    skopeo,
    stream_archive,
)

from brolga.errors import BrolgaError
from brolga.images import Image, InMemoryBlob
from brolga.spec.digest import Digest
from brolga.spec.manifest import Manifest
from brolga.stores.archive import Archive, Writer
from brolga.stores.push import push
from brolga.tar.entries import read_entries

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.unit.stores.archive.archives import Member

SETTINGS = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
FORMS: tuple[Callable[..., list[Member]], ...] = (docker_old, docker_new, skopeo, crane, oci)

contents = st.binary(max_size=2000)
layers = st.lists(contents.map(lambda data: tar(entry("a", data))), max_size=4, unique=True).map(
    tuple
)
forms = st.sampled_from(FORMS)


def cut(data: bytes, sizes: list[int]) -> Iterator[bytes]:
    """Yield data in blocks of these sizes, then the rest."""
    for size in sizes:
        yield data[:size]
        data = data[size:]
    yield data


def saved(store: Store) -> tuple[list[str], bytes]:
    """Return the DiffIDs and the config of the image `tag` of a store."""
    manifest = store.documents["tag"]
    assert isinstance(manifest, Manifest)
    raw = store.blobs[str(manifest.config.digest)]
    for layer in manifest.layers:
        assert len(store.blobs[str(layer.digest)]) == layer.size
    return json.loads(raw)["rootfs"]["diff_ids"], raw


@SETTINGS
@given(
    forms, layers, st.randoms(use_true_random=False), st.lists(st.integers(1, 3000)), st.booleans()
)
def test_image_does_not_depend_on_order_or_blocks(
    form: Callable[..., list[Member]],
    parts: tuple[bytes, ...],
    chance: Any,
    sizes: list[int],
    spool: bool,
) -> None:
    """The image is the same for any order of the files and any blocks of the pipe.

    Except if oci-layout or index.json comes before a layer, and manifest.json after it, which
    Docker never writes: such layers are not compressed.
    """
    members = form(parts)
    chance.shuffle(members)
    store = Store()
    named_form = "oci" if form is oci else ""
    tree = stream_archive(cut(tar(*members), sizes), store, form=named_form, spool=spool)
    push(store, tree, "tag")
    assert saved(store) == ([f"sha256:{sha(one)}" for one in parts], config(parts))

    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, "archive")
        file.write_bytes(tar(*members))
        again = Store()
        with Archive(file, named_form) as archive:
            push(again, archive.tree(), "tag")
    assert saved(again) == saved(store)
    order = [info.name for info, _ in members]
    marks = (order.index(name) for name in ("index.json", "oci-layout") if name in order)
    if form is not docker_new or order.index("manifest.json") < min(marks):
        assert again.documents["tag"].raw == store.documents["tag"].raw


@SETTINGS
@given(forms, layers.filter(bool), st.data())
def test_flipped_byte_never_makes_a_wrong_image(
    form: Callable[..., list[Member]], parts: tuple[bytes, ...], data: st.DataObject
) -> None:
    """It raises a BrolgaError, or the layers are the same."""
    raw = bytearray(tar(*form(parts)))
    place = data.draw(st.integers(0, len(raw) - 1))
    raw[place] ^= 1 << data.draw(st.integers(0, 7))
    store = Store()
    try:
        tree = stream_archive([bytes(raw)], store, form="oci" if form is oci else "")
        push(store, tree, "tag")
    except BrolgaError:
        assert not store.documents
    else:
        diff_ids, _ = saved(store)
        assert set(diff_ids) <= {f"sha256:{sha(one)}" for one in parts}


@SETTINGS
@given(forms, layers, st.data())
def test_truncated_archive_raises(
    form: Callable[..., list[Member]], parts: tuple[bytes, ...], data: st.DataObject
) -> None:
    """No tag is set, wherever the pipe ends."""
    raw = tar(*form(parts)).rstrip(b"\0")
    size = data.draw(st.integers(0, len(raw)))
    store = Store()
    try:
        stream_archive([raw[:size]] if size else [], store)
    except BrolgaError:
        assert not store.documents
    else:
        raise AssertionError("a truncated archive was accepted")


@SETTINGS
@given(st.binary(max_size=5000))
def test_random_bytes_raise_brolga_error(data: bytes) -> None:
    """A pipe may have any bytes."""
    for blocks in ([data], [tar(entry("manifest.json", data))], [tar(entry("index.json", data))]):
        try:
            stream_archive(blocks, Store())
        except BrolgaError:
            continue
        raise AssertionError("random bytes were accepted")


@SETTINGS
@given(st.lists(contents, max_size=4, unique=True), st.sampled_from(["docker", "oci"]))
def test_written_archive_is_reproducible_and_readable(parts: list[bytes], form: str) -> None:
    """Each write of the same blobs has the same bytes, and no name twice."""
    plain = [tar(entry("a", part)) for part in parts]
    blobs = [InMemoryBlob(one, "application/vnd.oci.image.layer.v1.tar") for one in plain]
    empty = Image.empty()
    settled = empty.mutate_config(lambda it: it.replace(diff_ids=map(Digest.of, plain)))
    image = Image(
        empty.manifest.replace(
            config=settled.config_blob.descriptor, layers=[one.descriptor for one in blobs]
        ),
        settled.config_blob,
        tuple(blobs),
    )
    written = []
    for _ in range(2):
        out = io.BytesIO()
        with Writer(out, form, "example.com/a:b") as writer:
            push(writer, image, "", jobs=1)
        written.append(out.getvalue())
    assert written[0] == written[1]
    with tarfile.open(fileobj=io.BytesIO(written[0])) as archive:
        assert len(archive.getnames()) == len(set(archive.getnames()))
    store = Store()
    push(store, stream_archive([written[0]], store, compression="none"), "tag")
    assert saved(store)[0] == [f"sha256:{sha(one)}" for one in plain]


@SETTINGS
@given(
    st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 3000)), max_size=8), st.integers(1, 900)
)
def test_entries_are_the_same_with_and_without_skip(
    wanted: list[tuple[int, int]], block_size: int
) -> None:
    """`skip` is called with the bytes that are not read; `start` is the offset of the data."""
    data = tar(*(entry(f"{n}", bytes([n]) * size) for n, (size, _) in enumerate(wanted)))

    class Skipping:
        at = 0

        def __iter__(self) -> Iterator[bytes]:
            while self.at < len(data):
                start, self.at = self.at, min(self.at + block_size, len(data))
                yield data[start : self.at]

        def skip(self, size: int) -> None:
            self.at += size

    for blocks in (Skipping(), [data]):
        for number, one in enumerate(read_entries(blocks, needs_end=True)):
            size, read = wanted[number]
            assert data[one.start : one.start + size] == bytes([number]) * size
            taken = 0
            while taken < min(size, read):
                taken += len(next(one.data))
