"""Drawn layers: those that all readers understand, with what a plain reader shows of them; others.

Of each layer there are two tars. The plain reader (tests/layer_readers.py) gets one whose modes
are numbers of entries, so that its result tells which entry each path comes from. The other has the
metadata that was drawn, and is extracted.
"""

from __future__ import annotations

import io
import stat
import tarfile
from typing import TYPE_CHECKING, Final, NamedTuple

from hypothesis import strategies as st
from tests.layer_readers import stack, without_traces

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.file_trees import Item

__all__ = [
    "NAMES",
    "STACKS",
    "Drawn",
    "Reference",
    "differences",
    "read_by_reference",
    "write_stack",
]

FILE, LINK, SYMLINK, DIRECTORY, FIFO = (
    tarfile.REGTYPE,
    tarfile.LNKTYPE,
    tarfile.SYMTYPE,
    tarfile.DIRTYPE,
    tarfile.FIFOTYPE,
)
KINDS: Final = {
    FILE: stat.S_IFREG,
    SYMLINK: stat.S_IFLNK,
    DIRECTORY: stat.S_IFDIR,
    FIFO: stat.S_IFIFO,
}
_PER_LAYER: Final = 16  # entries, at most; numbers stay below 0o755, which the reader uses itself

# A name of 255 bytes, in a pax header or in GNU's; bytes that are not UTF-8; spaces and newlines.
LONG: Final = "l" * 255
ODD: Final = "\udcff \n\u00fc"


class Drawn(NamedTuple):
    """An entry. `name` is a path without a slash in front."""

    kind: bytes
    name: str
    target: str = ""
    mode: int = 0o755
    mtime: int = 0
    size: int = 3
    xattr: str = ""
    owner: int = 0


class Shown(NamedTuple):
    """An entry that a path comes from."""

    entry: Drawn
    content: bytes
    number: int


class Reference(NamedTuple):
    """What a plain reader shows.

    `shown` has the entry that each path shows, None for a directory without one. `traces` are
    directories without an entry and with nothing in them, on which readers differ.
    """

    shown: dict[str, Shown | None]
    traces: set[str]


class Metadata(NamedTuple):
    mode: int
    mtime: int
    size: int
    xattr: str
    owner: int


# Few names, so that layers meet; most of those that have others below them are directories.
PLACES: Final = ["a", "b", "c", "a/a", "a/b", "b/a", "a/a/a", "b/a/a", LONG, f"b/{ODD}"]
NAMES = st.sampled_from(PLACES)
TARGETS = st.sampled_from(["a", "b", "/b", "../b", "b/a", "c", "a/../b", "d/../b", "d", "../../c"])
WHITEOUTS = st.sampled_from(
    [".wh.a", ".wh.b", "a/.wh.a", "a/.wh.b", "b/.wh.a", "a/.wh..wh..opq", ".wh..wh..opq"]
)
METADATA = st.builds(
    Metadata,
    mode=st.sampled_from([0o755, 0o644, 0o700, 0o555, 0o400, 0o1777, 0]),
    mtime=st.sampled_from([0, 1, 1_000_000_000, 2**33]),
    size=st.sampled_from([3, 0, 511, 512, 70_000]),
    xattr=st.sampled_from(["", "", "value", "\u00fc"]),
    owner=st.sampled_from([0, 1000, 2**31]),
)


def _entries(kind: bytes, names: Sequence[str], targets: st.SearchStrategy[str]) -> _Strategy:
    return st.tuples(st.sampled_from(names), targets, METADATA).map(
        lambda drawn: Drawn(kind, drawn[0], drawn[1], *drawn[2])
    )


_Strategy = st.SearchStrategy[Drawn]
NONE = st.just("")
ENTRIES: Final = st.one_of(
    _entries(FILE, ["c", "a/b", "a/a/a", "b/a", LONG, f"b/{ODD}"], NONE),
    _entries(DIRECTORY, ["a", "b", "a/a"], NONE),
    *(_entries(kind, PLACES, NONE) for kind in (FILE, SYMLINK, DIRECTORY)),
    _entries(FIFO, ["c", "a/b"], NONE),
    _entries(SYMLINK, ["a", "b", "a/a", "b/a"], TARGETS),
    _entries(LINK, PLACES, NAMES),
    WHITEOUTS.map(lambda name: Drawn(FILE, name, size=0)),
)
STACKS: Final = st.lists(st.lists(ENTRIES, max_size=6), min_size=1, max_size=4)


def write_stack(stack_of: Sequence[Sequence[Drawn]], form: int = tarfile.PAX_FORMAT) -> list[bytes]:
    """Write the layers as they are extracted."""
    return [_write(layer, number, form, labels=False) for number, layer in enumerate(stack_of)]


def read_by_reference(stack_of: Sequence[Sequence[Drawn]]) -> Reference:
    """Return what a plain reader shows. Raises NotTold if readers differ within one layer."""
    tars = [
        _write(layer, number, tarfile.PAX_FORMAT, labels=True)
        for number, layer in enumerate(stack_of)
    ]
    tree = stack(tars)
    shown: dict[str, Shown | None] = {}
    for path, (_, _, number) in without_traces(tree).items():
        layer, place = divmod(number, _PER_LAYER)
        if number < 0 or layer >= len(stack_of):
            shown[path] = None
        else:
            entry = stack_of[layer][place]
            shown[path] = Shown(entry, _content(entry, layer, place), number)
    return Reference(shown, tree.keys() - shown.keys())


def differences(reference: Reference, tree: Mapping[bytes, Item], *, is_root: bool) -> list[str]:
    """Return what a directory has otherwise than the reference, but for the directory itself."""
    texts, inodes = [], dict[int, int]()
    for path, wanted in reference.shown.items():
        item = tree.get(path.encode("utf-8", "surrogateescape"))
        if item is None:
            texts.append(f"{path!r} is missing, wanted {wanted}")
        elif wanted is None:
            texts += [] if item.kind == stat.S_IFDIR else [f"{path!r} is not a directory"]
        else:
            texts += _compare(path, wanted, item, is_root=is_root)
            if (
                item.kind == stat.S_IFREG
                and inodes.setdefault(wanted.number, item.inode) != item.inode
            ):
                texts.append(f"{path!r} is not another name of the same file")
    if len(set(inodes.values())) != len(inodes):
        texts.append(f"names of different files are of one file: {inodes}")
    for name, item in tree.items():
        path = name.decode("utf-8", "surrogateescape")
        is_trace = path in reference.traces and item.kind == stat.S_IFDIR
        if path and path not in reference.shown and not is_trace:
            texts.append(f"{path!r} is there: {item}")
    return texts


def _compare(path: str, wanted: Shown, item: Item, *, is_root: bool) -> list[str]:
    entry = wanted.entry
    pairs: dict[str, tuple[object, object]] = {"kind": (KINDS[entry.kind], item.kind)}
    pairs["mtime"] = (entry.mtime, item.mtime_ns / 1e9)
    if is_root:
        pairs["owner"] = ((entry.owner, entry.owner), item.owner)
    if entry.kind != SYMLINK:
        pairs["mode"] = (oct(entry.mode), oct(item.mode))
        if entry.kind != FIFO:
            value = (("user.test", entry.xattr.encode()),) if entry.xattr else ()
            pairs["xattrs"] = (value, item.xattrs)
    if entry.kind in {FILE, SYMLINK}:
        pairs["content"] = (wanted.content, item.content)
    return [
        f"{path!r} has the {what} {found!r:.200}, wanted {want!r:.200}"
        for what, (want, found) in pairs.items()
        if want != found
    ]


def _content(entry: Drawn, layer: int, place: int) -> bytes:
    """Return the bytes of a file or the target of a link, which no other entry has."""
    label = b"%d.%d" % (layer, place)
    if entry.kind == SYMLINK:
        return entry.target.encode() or label
    return label * (entry.size // len(label)) if entry.kind == FILE else b""


def _write(layer: Sequence[Drawn], number: int, form: int, *, labels: bool) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for place, entry in enumerate(layer):
            info, data = tarfile.TarInfo(entry.name), _content(entry, number, place)
            info.type, info.mode, info.mtime = entry.kind, entry.mode, entry.mtime
            info.linkname = data.decode() if entry.kind == SYMLINK else entry.target
            info.size = len(data) if entry.kind == FILE else 0
            info.uid = info.gid = entry.owner
            if labels:
                info.mode = number * _PER_LAYER + place
            if entry.xattr and form == tarfile.PAX_FORMAT and entry.kind != LINK:
                info.pax_headers = {"SCHILY.xattr.user.test": entry.xattr}
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()
