"""One layer shows what all of them show, whatever they are; no bytes are read in two ways."""

from __future__ import annotations

import io
import random
import tarfile
import zlib
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.formats import DECOMPRESS

from brolga import LayerError, StreamLayer
from brolga.decompression import UNLIMITED, decompressed
from brolga.errors import CorruptBlob
from brolga.images import BytesBlob
from brolga.images.flatten import merged_tar
from brolga.mediatypes import OCI_LAYER

if TYPE_CHECKING:
    from collections.abc import Sequence

# A tree of files, as a dict: by name what is there. A directory's content has longer names.
Tree = dict[str, tuple[bytes, str, int]]

FILE, LINK, SYMLINK, DIRECTORY = (
    tarfile.REGTYPE,
    tarfile.LNKTYPE,
    tarfile.SYMTYPE,
    tarfile.DIRTYPE,
)

# A directory that no entry tells of.
IMPLIED = (DIRECTORY, "", -1)

# Few names, so that layers meet; most of those that have others below them are directories.
PLACES = ["a", "b", "c", "a/a", "a/b", "b/a", "a/a/a", "b/a/a"]
NAMES = st.sampled_from(PLACES)
SPELLINGS = st.sampled_from(["{}", "./{}", "/{}"])
KINDS = st.sampled_from([FILE, SYMLINK, DIRECTORY])
WHITEOUTS = st.sampled_from(
    [".wh.a", ".wh.b", "a/.wh.a", "a/.wh.b", "b/.wh.a", "a/.wh..wh..opq", ".wh..wh..opq"]
)
ENTRIES = st.one_of(
    st.tuples(st.just(FILE), st.sampled_from(["c", "a/b", "a/a/a", "b/a"]), st.just("")),
    st.tuples(st.just(DIRECTORY), st.sampled_from(["a", "b", "a/a"]), st.just("")),
    st.tuples(KINDS, NAMES, st.just("")),
    st.tuples(st.just(LINK), NAMES, NAMES),
    st.tuples(st.just(FILE), WHITEOUTS, st.just("")),
)
LAYERS = st.lists(ENTRIES, max_size=6)
STACKS = st.lists(LAYERS, min_size=1, max_size=4)


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


class NotTold(Exception):
    """The layers cannot be extracted, or not in one way."""


def remove(tree: Tree, name: str) -> None:
    for other in [other for other in tree if other == name or other.startswith(f"{name}/")]:
        del tree[other]


def extracted(tree: Tree, data: bytes) -> Tree:
    """Apply a layer to a tree, in the plainest way (layer.md, Applying Changesets).

    Whiteouts first, as they apply to lower layers only; then the entries in their order. Raises
    NotTold where a parent is none, a link's target is not there, or one name has two kinds.
    """
    tree = dict(tree)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        members = [(one.name.removeprefix("./").lstrip("/"), one) for one in archive]
        contents = {id(one): _content(archive, one) for _, one in members}
    marks = [name for name, _ in members if "/.wh." in f"/{name}"]
    for mark in marks:
        hide(tree, mark)
    kinds: dict[str, bool] = {}
    targets: set[str] = set()
    for name, one in members:
        if name not in marks:
            if name in targets:
                raise NotTold
            folders = [name[:at] for at in range(len(name)) if name[at] == "/"]
            for place in [*folders, name]:
                is_folder = place != name or one.isdir()
                if kinds.setdefault(place, is_folder) != is_folder:
                    raise NotTold
            for folder in folders:
                if tree.get(folder, (b"",))[0] != DIRECTORY:
                    put(tree, folder, IMPLIED)
            targets |= {one.linkname} if one.islnk() else set()
            put(tree, name, linked(tree, one) or (one.type, contents[id(one)], one.mode))
    return tree


def hide(tree: Tree, mark: str) -> None:
    folder, _, last = mark.rpartition("/")
    inside = f"{folder}/" if folder else ""
    if last == ".wh..wh..opq":
        for other in [other for other in tree if other.startswith(inside)]:
            del tree[other]
    else:
        remove(tree, inside + last[4:])


def put(tree: Tree, name: str, value: tuple[bytes, str, int]) -> None:
    """Put something in the place of what is there; two directories become one."""
    if not value[0] == DIRECTORY == tree.get(name, IMPLIED)[0]:
        remove(tree, name)
    tree[name] = value


def linked(tree: Tree, one: tarfile.TarInfo) -> tuple[bytes, str, int] | None:
    """Return what a hard link stands for; None for all else."""
    if not one.islnk():
        return None
    name = one.name.removeprefix("./").lstrip("/")
    value = tree.get(one.linkname, IMPLIED)
    if value[0] == DIRECTORY or f"{one.linkname}/".startswith(f"{name}/"):
        raise NotTold
    return value


def without_traces(tree: Tree) -> Tree:
    """Leave out directories that no entry tells of and that have nothing in them any more."""
    return {
        name: value
        for name, value in tree.items()
        if value != IMPLIED
        or any(other.startswith(f"{name}/") and tree[other] != IMPLIED for other in tree)
    }


def _content(archive: tarfile.TarFile, one: tarfile.TarInfo) -> str:
    file = archive.extractfile(one) if one.isreg() else None
    return file.read().decode() if file else one.linkname


def shown(tars: Sequence[bytes]) -> Tree:
    tree: Tree = {}
    for data in tars:
        tree = extracted(tree, data)
    return tree


@settings(max_examples=600, deadline=None)
@given(stack=STACKS, spelling=SPELLINGS)
def test_the_merged_layer_shows_what_the_layers_show(
    stack: list[list[tuple[bytes, str, str]]], spelling: str
) -> None:
    """Extracting the one layer gives the same tree as extracting all, or there is an error."""
    tars = [written(layer, number, spelling) for number, layer in enumerate(stack)]
    layers = [BytesBlob(data, OCI_LAYER) for data in tars]
    try:
        out = b"".join(merged_tar(layers))
    except LayerError as error:
        reason = str(error)
        if "both a directory" in reason or "not there" in reason:
            with pytest.raises(NotTold):
                shown(tars)
        else:
            assert "a layer above replaces" in reason or "comes after" in reason
        return
    assert b"".join(merged_tar(layers)) == out
    assert b".wh." not in out
    try:
        wanted = shown(tars)
    except NotTold:
        return  # what makes it so was hidden
    assert without_traces(extracted({}, out)) == without_traces(wanted)


@settings(max_examples=100, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 3000), min_size=1, max_size=5),
    cuts=st.lists(st.integers(1, 4000), min_size=1, max_size=30),
    name=st.sampled_from(["gzip", "zstd"]),
    seed=st.integers(0, 99),
)
def test_what_was_packed_comes_out_however_it_is_cut(
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
    assert b"".join(decompressed([*blocks, packed[at:]], UNLIMITED)) == b"".join(parts)


@settings(max_examples=200, deadline=None)
@given(at=st.integers(0, 400), change=st.integers(1, 255), name=st.sampled_from(["gzip", "zstd"]))
def test_a_changed_byte_is_an_error_or_changes_nothing(at: int, change: int, name: str) -> None:
    """Whatever is wrong is CorruptBlob; gzip's checksum covers all of the data."""
    data = bytes(b // 32 for b in random.Random(1).randbytes(600))
    with StreamLayer([data], name, threads=1).open() as stream:
        packed = bytearray(stream.read())
    packed[at % len(packed)] ^= change
    try:
        out = b"".join(decompressed([bytes(packed)], UNLIMITED))
    except CorruptBlob:
        return
    if bytes(packed[:3]) == b"\x1f\x8b\x08":
        assert out == data == zlib.decompress(packed, 31)
    elif name == "zstd" and bytes(packed[:4]) == b"\x28\xb5\x2f\xfd":
        assert out == DECOMPRESS["zstd"](bytes(packed))
    else:
        assert out == packed or packed[0] >> 4 == 5
