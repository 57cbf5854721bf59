"""Any layers, flattened, show the same as before; no bytes are read in two ways."""

from __future__ import annotations

import io
import random
import tarfile
import zlib
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.formats import DECOMPRESS
from tests.layer_readers import NoTarget, NotTold, extract_over, stack, without_traces

from brolga import LayerError, StreamLayer
from brolga.errors import CorruptBlob
from brolga.images import InMemoryBlob
from brolga.images.flatten import merge_layers
from brolga.spec.mediatypes import OCI_LAYER
from brolga.stream.decompression import Limits, decompress

if TYPE_CHECKING:
    from collections.abc import Sequence

FILE, LINK, SYMLINK, DIRECTORY = (
    tarfile.REGTYPE,
    tarfile.LNKTYPE,
    tarfile.SYMTYPE,
    tarfile.DIRTYPE,
)

# Few names, so that layers meet; most of those that have others below them are directories.
PLACES = ["a", "b", "c", "a/a", "a/b", "b/a", "a/a/a", "b/a/a"]
NAMES = st.sampled_from(PLACES)
SPELLINGS = st.sampled_from(["{}", "./{}", "/{}"])
KINDS = st.sampled_from([FILE, SYMLINK, DIRECTORY])
TARGETS = st.sampled_from(["a", "b", "/b", "../b", "b/a", "c", "a/../b", "d/../b", "d"])
WHITEOUTS = st.sampled_from(
    [".wh.a", ".wh.b", "a/.wh.a", "a/.wh.b", "b/.wh.a", "a/.wh..wh..opq", ".wh..wh..opq"]
)
ENTRIES = st.one_of(
    st.tuples(st.just(FILE), st.sampled_from(["c", "a/b", "a/a/a", "b/a"]), st.just("")),
    st.tuples(st.just(DIRECTORY), st.sampled_from(["a", "b", "a/a"]), st.just("")),
    st.tuples(KINDS, NAMES, st.just("")),
    st.tuples(st.just(SYMLINK), st.sampled_from(["a", "b", "a/a", "b/a"]), TARGETS),
    st.tuples(st.just(LINK), NAMES, NAMES),
    st.tuples(st.just(FILE), WHITEOUTS, st.just("")),
)
LAYERS = st.lists(ENTRIES, max_size=6)
STACKS = st.lists(LAYERS, min_size=1, max_size=4)


@st.composite
def linked_stacks(draw: st.DrawFn) -> list[list[tuple[bytes, str, str]]]:
    """Draw layers with hard links to files that are there; other layers replace and remove them."""
    files, there, layers = ["a", "b", "c", "d", "e/f"], set[str](), []
    for _ in range(draw(st.integers(2, 4))):
        layer, below = [], sorted(there)
        for _ in range(draw(st.integers(1, 5))):
            kind = draw(st.sampled_from([LINK, LINK, b"whiteout", FILE, SYMLINK, DIRECTORY]))
            if kind == b"whiteout" and below:
                hidden = draw(st.sampled_from(below))
                folder, slash, last = hidden.rpartition("/")
                layer.append((FILE, f"{folder}{slash}.wh.{last}", ""))
                there.discard(hidden)
            elif kind == LINK and there:
                name = draw(st.sampled_from(files))
                layer.append((LINK, name, draw(st.sampled_from(sorted(there)))))
                there.add(name)
            elif kind == DIRECTORY:
                layer.append((DIRECTORY, draw(st.sampled_from(["a", "e"])), ""))
            else:
                name = draw(st.sampled_from(files))
                layer.append((kind if kind == SYMLINK else FILE, name, ""))
                there.add(name)
        layers.append(layer)
    return layers


def written(layer: Sequence[tuple[bytes, str, str]], number: int, spelling: str) -> bytes:
    """Write a layer; each entry's content and mode tell which one it is."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for place, (kind, name, target) in enumerate(layer):
            info = tarfile.TarInfo(spelling.format(name))
            data = b"%d.%d" % (number, place) if kind == FILE else b""
            info.type, info.size = kind, len(data)
            info.mode = number * 8 + place
            info.linkname = target or (f"{number}.{place}" if kind == SYMLINK else "")
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


@settings(max_examples=1000, deadline=None)
@given(stack_of=STACKS, spelling=SPELLINGS)
def test_merge_layers_equals_overlayfs_and_warns_where_readers_differ(
    stack_of: list[list[tuple[bytes, str, str]]], spelling: str
) -> None:
    """The one layer shows what the layers show, or there is an error.

    Without a warning, a reader that extracts each layer over those below sees the same.
    """
    tars = [written(layer, number, spelling) for number, layer in enumerate(stack_of)]
    layers = [InMemoryBlob(data, OCI_LAYER) for data in tars]
    lines: list[str] = []
    try:
        out = b"".join(merge_layers(layers, on_warning=lines.append))
    except LayerError as error:
        reason = str(error)
        if any(text in reason for text in ("both a directory", "not there", "more than 40")):
            with pytest.raises(NotTold):
                stack(tars)
        else:
            assert any(
                text in reason for text in ("a layer above replaces", "comes after", "itself")
            )
        return
    assert b".wh." not in out
    assert extract_over([out]) == stack([out])
    try:
        wanted = stack(tars)
    except NotTold:
        return  # what makes it so was hidden
    assert without_traces(stack([out])) == without_traces(wanted)
    if lines:
        with pytest.raises(LayerError, match="Readers differ"):
            list(merge_layers(layers, strict=True))
    else:
        assert b"".join(merge_layers(layers, strict=True)) == out
        with suppress(NoTarget):  # of a hard link that its own layer replaces again
            assert without_traces(extract_over(tars)) == without_traces(wanted)


@settings(max_examples=1000, deadline=None)
@given(stack_of=st.one_of(linked_stacks(), linked_stacks(), STACKS))
def test_merge_layers_with_spool_equals_overlayfs_whatever_hard_links_need(
    stack_of: list[list[tuple[bytes, str, str]]],
) -> None:
    """Whatever needs no spool is the same without one; the rest shows what the layers show."""
    tars = [written(layer, number, "{}") for number, layer in enumerate(stack_of)]
    layers = [InMemoryBlob(data, OCI_LAYER) for data in tars]
    out, reason = tried(layers, spool=True)
    if reason:
        assert "a layer above replaces" not in reason
        with pytest.raises(NotTold):
            stack(tars)
        return
    with suppress(NotTold):
        assert without_traces(stack([out])) == without_traces(stack(tars))
    assert tried(layers, spool=True) == (out, "")
    without, reason = tried(layers, spool=False)
    assert without == out or "a layer above replaces" in reason


def tried(layers: Sequence[InMemoryBlob], *, spool: bool) -> tuple[bytes, str]:
    """Return what the layers show, or why they cannot be merged."""
    try:
        return b"".join(merge_layers(layers, on_warning=str, spool=spool)), ""
    except LayerError as error:
        return b"", str(error)


@settings(max_examples=100, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 3000), min_size=1, max_size=5),
    cuts=st.lists(st.integers(1, 4000), min_size=1, max_size=30),
    name=st.sampled_from(["gzip", "zstd"]),
    seed=st.integers(0, 99),
)
def test_decompress_accepts_any_cut_into_blocks(
    sizes: list[int], cuts: list[int], name: str, seed: int
) -> None:
    """Members and blocks may begin and end anywhere."""
    parts = [bytes(b // 32 for b in random.Random(seed).randbytes(size)) for size in sizes]
    packed = b""
    for part in parts:
        with StreamLayer([part], name, threads=1).open() as stream:
            packed += stream.read()
    blocks, at = [], 0
    for cut in cuts:
        blocks.append(packed[at : at + cut])
        at += cut
    assert b"".join(decompress([*blocks, packed[at:]], Limits(None, None))) == b"".join(parts)


@settings(max_examples=200, deadline=None)
@given(at=st.integers(0, 400), change=st.integers(1, 255), name=st.sampled_from(["gzip", "zstd"]))
def test_changed_byte_raises_corrupt_blob_or_changes_nothing(
    at: int, change: int, name: str
) -> None:
    """Any flaw is CorruptBlob; gzip's checksum covers all of the data."""
    data = bytes(b // 32 for b in random.Random(1).randbytes(600))
    with StreamLayer([data], name, threads=1).open() as stream:
        packed = bytearray(stream.read())
    packed[at % len(packed)] ^= change
    try:
        out = b"".join(decompress([bytes(packed)], Limits(None, None)))
    except CorruptBlob:
        return
    if bytes(packed[:3]) == b"\x1f\x8b\x08":
        assert out == data == zlib.decompress(packed, 31)
    elif name == "zstd" and bytes(packed[:4]) == b"\x28\xb5\x2f\xfd":
        assert out == DECOMPRESS["zstd"](bytes(packed))
    else:
        assert out == packed or packed[0] >> 4 == 5
