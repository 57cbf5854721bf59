"""hard_links.py: links whose targets are hidden show what they showed, with a spool."""

from __future__ import annotations

import io
import random
import tarfile
from typing import TYPE_CHECKING

import pytest
from tests.tars import DIR, LNK, REG, SYM, entry, layer, link, listed, merged, symlink, tar

from brolga import LayerError
from brolga.errors import CorruptBlob, SpoolError
from brolga.images.flatten import flatten_layers, merge_layers
from brolga.stream import spool
from brolga.stream.spool import Spool

if TYPE_CHECKING:
    from pathlib import Path


def shown(*tars: bytes) -> dict[str, tuple[bytes, bytes]]:
    return listed(merged(*tars, spool=True, on_warning=print))


A1 = entry("a", b"1")


@pytest.mark.parametrize(
    ("upper", "there"),
    [
        (tar(entry("a", b"2")), {"a": (REG, b"2")}),
        (tar(symlink("a", "x")), {"a": (SYM, b"x")}),
        (tar(".wh.a"), {}),
        (tar("a/"), {"a": (DIR, b"")}),
        (tar("a/x"), {"a": (DIR, b""), "a/x": (REG, b"")}),
    ],
    ids=["file", "symlink", "whiteout", "directory", "implied"],
)
def test_link_to_replaced_target_is_file(
    upper: bytes, there: dict[str, tuple[bytes, bytes]]
) -> None:
    """Each layer is applied over those below: what the link shows stays (layer.md)."""
    out = shown(tar(A1, link("b", "a")), upper)
    assert out == {**there, "b": (REG, b"1")}


def test_first_link_to_replaced_target_is_file_and_others_are_links_to_it() -> None:
    """They are one file still, from whichever layer."""
    lower = tar(A1, link("b", "a"), link("c", "a"), link("d", "c"))
    out = shown(lower, tar(link("e", "d"), link("f", "a")), tar(".wh.a"))
    assert out == {
        "f": (REG, b"1"),
        "b": (LNK, b"f"),
        "c": (LNK, b"f"),
        "d": (LNK, b"c"),
        "e": (LNK, b"d"),
    }


def test_link_to_replaced_target_has_its_metadata() -> None:
    """A hard link is another name of the same file, whose mode, owner and time it has."""
    records = {"SCHILY.xattr.user.x": "y"}
    file = entry("a", b"1", mode=0o4711, mtime=5, uid=3, pax_headers=records)
    out = merged(tar(file, link("b", "a")), tar("a"), spool=True)
    with tarfile.open(fileobj=io.BytesIO(out)) as archive:
        b = archive.getmember("b")
    assert (b.type, b.mode, b.mtime, b.uid, b.pax_headers) == (REG, 0o4711, 5, 3, records)


def test_link_sees_target_of_its_own_layer_or_the_next_below() -> None:
    """A link shows what was there when its layer was applied, not what came later."""
    out = shown(
        tar(entry("a", b"1"), "x"),
        tar(link("b", "a")),
        tar(entry("a", b"2"), link("c", "a")),
        tar(link("d", "a"), ".wh.x"),
        tar(entry("a", b"3")),
    )
    assert out == {
        "a": (REG, b"3"),
        "b": (REG, b"1"),
        "d": (REG, b"2"),
        "c": (LNK, b"d"),
    }


def test_link_through_hidden_link_leads_to_file() -> None:
    """Both names are of one file, also if one of them is hidden."""
    lower = tar(A1, link("t", "a"), link("b", "t"))
    assert shown(lower, tar(".wh.t")) == {"a": (REG, b"1"), "b": (LNK, b"a")}
    assert shown(lower, tar(".wh.t", ".wh.a")) == {"b": (REG, b"1")}
    assert shown(lower, tar("t"), tar(".wh.a")) == {"t": (REG, b""), "b": (REG, b"1")}


def test_link_through_hidden_link_of_lower_layer_leads_to_file() -> None:
    """The hidden link shows what was there when its own layer was applied."""
    lower = tar(A1), tar(link("t", "a"), "x"), tar(entry("a", b"2")), tar(link("b", "t"))
    hide_link, hide_both = tar(".wh.t"), tar(".wh.t", ".wh.a")
    assert shown(*lower, hide_link)["b"] == (REG, b"1")
    assert shown(*lower, hide_both)["b"] == (REG, b"1")
    low = tar(A1, link("t", "a")), tar(link("b", "t"))
    assert shown(*low, hide_link) == {"a": (REG, b"1"), "b": (LNK, b"a")}
    lowest = tar(A1), tar(link("t", "a")), tar(link("b", "t"))
    assert shown(*lowest, hide_link) == {"a": (REG, b"1"), "b": (LNK, b"a")}


@pytest.mark.parametrize(
    "lower",
    [
        (tar(A1), tar(".wh.a", link("b", "a"))),
        (tar(A1), tar(".wh.a"), tar(link("b", "a"))),
        (tar(A1), tar("a/"), tar(link("b", "a"))),
        (tar("d/", "d/a"), tar("d/.wh..wh..opq", link("b", "d/a"))),
        (tar("a/"), tar(link("b", "a"))),
        (tar("a/", link("b", "a")),),
        (tar(link("b", "a")),),
    ],
)
def test_link_to_target_that_was_gone_before_is_error(lower: tuple[bytes, ...]) -> None:
    """No reader could make such a link, whatever comes above."""
    for upper in (tar(entry("a", b"2"), ".wh.d"), tar(".wh.a", "d")):
        with pytest.raises(LayerError, match=r"'b' points to '(d/)?a', which is not there"):
            shown(*lower, upper)


def test_replaced_link_to_hidden_target_needs_no_content() -> None:
    """The last entry of a name counts."""
    lower = tar(A1, link("b", "a"), link("c", "a"), entry("b", b"new"))
    assert shown(lower, tar(".wh.a")) == {"b": (REG, b"new"), "c": (REG, b"1")}


def test_last_hidden_file_of_a_name_counts() -> None:
    """Readers overwrite the first."""
    lower = tar(A1, entry("a", b"2"), link("b", "a"))
    assert shown(lower, tar(".wh.a")) == {"b": (REG, b"2")}


def test_hidden_link_before_its_target_is_error_if_it_is_needed() -> None:
    """Readers differ on what it shows."""
    lower = tar(A1, link("t", "a"), entry("a", b"2"))
    assert shown(lower, tar(".wh.t")) == {"a": (REG, b"2")}
    with pytest.raises(LayerError, match="'a' comes after a hard link that points to it"):
        shown(lower, tar(link("b", "t")), tar(".wh.t"))
    with pytest.raises(LayerError, match="'t' points to itself"):
        shown(tar(link("t", "t")), tar(link("b", "t")), tar(".wh.t"))


def test_link_to_hidden_symbolic_link_is_symbolic_link() -> None:
    """It is another name of the symbolic link itself."""
    lower = tar(symlink("a", "x"), link("b", "a"), link("c", "a"))
    assert shown(lower, tar(entry("a", b"2"))) == {
        "a": (REG, b"2"),
        "b": (SYM, b"x"),
        "c": (LNK, b"b"),
    }


@pytest.mark.parametrize("size", [511, 512, 513, 3_000_000])
def test_content_of_hidden_files_is_kept_in_spool(size: int, tmp_path: Path) -> None:
    """Each file has its own place in it, whatever the names."""
    contents = {name: random.Random(name).randbytes(size) for name in ("c", "BZh", "n" * 300)}
    files = [entry(name, data) for name, data in contents.items()]
    links = [link(f"to-{name}", name) for name in contents]
    layers = [layer(tar(*files, *links)), layer(tar(".wh..wh..opq", "x")), layer(tar("y"))]
    assert listed(b"".join(merge_layers(layers, spool=tmp_path))).keys() == {"x", "y"}
    layers[1] = layer(tar(*(f".wh.{name}" for name in contents)))
    out = listed(b"".join(merge_layers(layers, spool=str(tmp_path))))
    assert out == {"y": (REG, b"")} | {f"to-{name}": (REG, data) for name, data in contents.items()}


def test_same_layers_give_same_bytes_with_spool() -> None:
    """The names of a layer are a set, whose order differs from one process to the next."""
    numbers = range(20)
    files, links = [f"f{n}" for n in numbers], [link(f"l{n}", f"f{n}") for n in numbers]
    out = merged(tar(*files, *links), tar(*(f".wh.f{n}" for n in numbers)), spool=True)
    assert list(listed(out)) == sorted(f"l{n}" for n in numbers)


def test_spool_in_missing_directory_is_error() -> None:
    """The error names the directory; without hidden files no spool is made."""
    lower = tar(A1, link("b", "a"))
    assert merged(lower, spool=False) == b"".join(merge_layers([layer(lower)], spool="/none"))
    with pytest.raises(SpoolError, match="the spool in /none cannot be made"):
        list(merge_layers([layer(lower), layer(tar("a"))], spool="/none"))


@pytest.mark.parametrize("upper", [tar(entry("a", b"2")), b"no tar"])
def test_spool_is_closed_with_each_layer_and_after_error(
    upper: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is free again."""
    spools: list[Spool] = []

    def make(choice: bool) -> Spool:
        spools.append(Spool(None))
        assert all(made._fd < 0 for made in spools[:-1])
        return spools[-1]

    monkeypatch.setattr(spool, "make_spool", make)
    lowest = tar(A1, link("b", "a")) if upper != b"no tar" else upper
    layers = [layer(lowest), layer(tar(A1, link("c", "a"))), layer(tar(entry("a", b"3")))]
    try:
        list(merge_layers(layers, spool=True))
    except CorruptBlob:
        assert lowest == b"no tar"
    assert len(spools) == 1 + (lowest != b"no tar")
    assert all(made._fd < 0 for made in spools)
    stopped = merge_layers(layers[1:], spool=True)
    for _ in zip(range(3), stopped, strict=False):
        pass
    stopped.close()  # type: ignore[attr-defined] # it is a generator
    assert all(made._fd < 0 for made in spools)


def test_hint_of_error_without_spool_names_it() -> None:
    """What to do next; the layer is named too."""
    with pytest.raises(LayerError, match=r"layer 1 of 2, .*'b' points to 'a', which a") as caught:
        merged(tar(A1, link("b", "a")), tar("a"))
    assert "--spool" in caught.value.hint


def test_flatten_layers_takes_spool() -> None:
    """The flattened layer has the file."""
    flat = flatten_layers([layer(tar(A1, link("b", "a"))), layer(tar(".wh.a"))], spool=True)
    with flat.open() as stream:
        assert len(stream.read()) > 0
