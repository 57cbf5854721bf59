"""Any layers, extracted, show what a plain reader shows, and change nothing outside."""

from __future__ import annotations

import os
import stat
import tarfile
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.drawn_layers import STACKS, Drawn, differences, read_by_reference, write_stack
from tests.file_trees import read_tree
from tests.guard import guarded
from tests.layer_readers import NotTold, extract_over
from tests.tars import entry, layer, tar

from brolga.errors import BrolgaError, LayerError
from brolga.extract import ExtractOptions, extract_layers
from brolga.images.flatten import merge_layers
from brolga.spec.mediatypes import OCI_LAYER

if TYPE_CHECKING:
    from pathlib import Path

    from tests.file_trees import Item

FORMS = st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
NOW_NS = 1_700_000_000_000_000_000


def extract(tars: list[bytes], directory: Path, **options: Any) -> list[str]:
    """Extract layers; return the warnings."""
    lines: list[str] = []
    chosen = ExtractOptions(on_warning=lines.append, **options)
    extract_layers([layer(data) for data in tars], directory, chosen)
    return lines


def assert_refused_rightly(text: str, tars: list[bytes]) -> None:
    """Check the reason to refuse what readers that extract layer by layer differ on.

    They need the target of a hard link before the link, even if the link is replaced later.
    """
    if "which is not there" in text or "a directory" in text:
        with pytest.raises(NotTold):
            extract_over(tars)
    else:
        assert any(
            reason in text
            for reason in (
                "comes after a hard link",
                "points to itself",
                "points to what is in it",
                "points to it or to what",
            )
        )


def assert_strict_fails_if_readers_differ(tars: list[bytes], lines: list[str]) -> None:
    """With `strict`, what is a warning of readers without it is an error."""
    with guarded() as guard:
        if any("Readers differ" in line for line in lines):
            with pytest.raises(LayerError, match="Readers differ"):
                extract(tars, guard.directory, strict=True)
        else:
            extract(tars, guard.directory, strict=True)


@settings(max_examples=300, deadline=None)
@given(stack_of=STACKS, form=FORMS)
def test_extract_layers_equals_plain_reader(stack_of: list[list[Drawn]], form: int) -> None:
    """Kinds, content, metadata, and which names are of one file; or there is an error."""
    compare_with_reference(stack_of, form)


def compare_with_reference(stack_of: list[list[Drawn]], form: int) -> None:
    """Extract layers, and compare the directory with what a plain reader shows."""
    if form == tarfile.GNU_FORMAT:
        stack_of = [[drawn._replace(xattr="") for drawn in entries] for entries in stack_of]
    tars = write_stack(stack_of, form)
    with guarded() as guard:
        try:
            reference = read_by_reference(stack_of)
        except NotTold:
            with suppress(LayerError):
                extract(tars, guard.directory)
        else:
            try:
                lines = extract(tars, guard.directory)
            except LayerError as error:
                assert_refused_rightly(str(error), tars)
            else:
                tree = read_tree(guard.directory)
                assert differences(reference, tree, is_root=os.geteuid() == 0) == []
                assert_strict_fails_if_readers_differ(tars, lines)
        assert guard.changes() == {}


@settings(max_examples=200, deadline=None)
@given(stack_of=STACKS, places=st.lists(st.integers(0, 20), min_size=1, max_size=2))
def test_extract_layers_with_only_gives_part(
    stack_of: list[list[Drawn]], places: list[int]
) -> None:
    """The paths and what is below them are there as in the whole, their parents, and no more."""
    tars = write_stack(stack_of)
    with guarded() as guard, guarded() as whole:
        try:
            extract(tars, whole.directory)
        except LayerError:
            return
        tree = read_tree(whole.directory)
        paths = sorted(tree.keys() - {b""})
        if not paths:
            return
        only = {paths[place % len(paths)] for place in places}
        try:
            extract(tars, guard.directory, only=tuple(map(os.fsdecode, only)))
        except LayerError as error:
            assert "hard link" in str(error)  # noqa: PT017 - to what is not among them
            return
        part = read_tree(guard.directory)
        for path in part.keys() | tree.keys():
            if any(path == name or path.startswith(name + b"/") for name in only):
                assert stable(part.get(path)) == stable(tree.get(path)), path
            elif path and path in part:
                assert any(name.startswith(path + b"/") for name in only), path
        assert guard.changes() == {}


def stable(item: Item | None) -> Item | None:
    """Return what an item has in any two directories."""
    if item is None:
        return None
    # A directory without an entry has the time of the run.
    mtime_ns = 0 if item.mtime_ns > NOW_NS and item.kind == stat.S_IFDIR else item.mtime_ns
    return item._replace(mtime_ns=mtime_ns, ctime_ns=0, inode=0, links=0)


@settings(max_examples=200, deadline=None)
@given(stack_of=STACKS, spool=st.booleans())
def test_extract_layers_equals_extracted_export(stack_of: list[list[Drawn]], spool: bool) -> None:
    """The one layer that merge_layers makes of them has the same files."""
    layers = [layer(data) for data in write_stack(stack_of)]
    try:
        merged = b"".join(merge_layers(layers, on_warning=lambda _: None, spool=spool))
        reference = read_by_reference(stack_of)
    except (LayerError, NotTold):
        return
    with guarded() as guard:
        extract([merged], guard.directory)
        assert differences(reference, read_tree(guard.directory), is_root=os.geteuid() == 0) == []


# Names and targets that lead anywhere; OUT is a directory outside.
PARTS = st.sampled_from(["a", "b", "l", "", ".", "..", "secret", "private", ".wh.a", ".wh.secret"])
PATHS = st.one_of(
    st.lists(PARTS, min_size=1, max_size=5).map("/".join),
    st.lists(PARTS, max_size=3).map(lambda parts: "/".join(["OUT", *parts])),
    st.sampled_from(["l", "l/new", "l/secret", "a/l", "../../outside", "../../outside/secret"]),
    st.sampled_from(["l/.wh..wh..opq", "a/.wh..wh..opq", ".wh..wh..opq", ".brolga-extract", "../"]),
)
TYPES = st.sampled_from(
    [
        *(tarfile.SYMTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.REGTYPE, tarfile.DIRTYPE),
        *(tarfile.AREGTYPE, tarfile.CONTTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE),
    ]
)
Hostile = tuple[bytes, str, str, int]
HOSTILE = st.lists(
    st.lists(st.tuples(TYPES, PATHS, PATHS, st.sampled_from([0o777, 0o4755, 0])), max_size=8),
    min_size=1,
    max_size=3,
)


@settings(max_examples=500, deadline=None)
@given(stack_of=HOSTILE, everything=st.booleans())
def test_extract_layers_changes_nothing_outside(
    stack_of: list[list[Hostile]], everything: bool
) -> None:
    """Whatever the names, targets and types; what is not extracted is an error of ours."""
    extract_hostile(stack_of, everything=everything)


def extract_hostile(stack_of: list[list[Hostile]], *, everything: bool) -> None:
    """Extract layers, and check that nothing outside changed."""
    with guarded() as guard:

        def member(kind: bytes, name: str, target: str, mode: int) -> tuple[tarfile.TarInfo, bytes]:
            target, data = target.replace("OUT", guard.outside), b""
            if kind in {tarfile.REGTYPE, tarfile.CONTTYPE}:
                data = b"owned"
            made = entry("x", data, type=kind, linkname=target, mode=mode, devmajor=1, devminor=7)
            made[0].name = name.replace("OUT", guard.outside)
            return made

        tars = [tar(*(member(*drawn) for drawn in entries)) for entries in stack_of]
        options = ExtractOptions(devices=everything, setuid=everything, on_warning=lambda _: None)
        with suppress(BrolgaError):
            extract_layers([layer(data, OCI_LAYER) for data in tars], guard.directory, options)
        assert guard.changes() == {}
