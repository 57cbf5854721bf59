"""flatten.py: one layer shows what all of them show together."""

from __future__ import annotations

import gzip
import hashlib
import io
import random
import tarfile
from typing import TYPE_CHECKING

import pytest
from tests.formats import DECOMPRESS
from tests.tars import (
    DIR,
    LNK,
    REG,
    SYM,
    entry,
    layer,
    link,
    listed,
    merged,
    names,
    single,
    symlink,
    tar,
)

from brolga import LayerError, LayerWarning, StreamLayer
from brolga.errors import CorruptBlob
from brolga.images import whiteouts as merge
from brolga.images.flatten import flatten_layers, merge_layers
from brolga.spec.mediatypes import OCI_LAYER_GZIP, OCI_LAYER_ZSTD
from brolga.stream.compression import codec_for
from brolga.stream.decompression import Limits

if TYPE_CHECKING:
    from collections.abc import Sequence


# What hides what ---------------------------------------------------------------------------------


def test_merge_without_layers_is_empty_tar() -> None:
    """An image without layers shows nothing; a tar ends with two blocks of zeros."""
    assert merged() == bytes(1024)
    assert merged(b"", tar()) == bytes(1024)


def test_upper_file_hides_lower_file() -> None:
    """Later layers are applied over earlier ones (layer.md, Applying Changesets)."""
    out = merged(tar(entry("a", b"old"), entry("b", b"kept")), tar(entry("a", b"new")))
    assert listed(out) == {"a": (REG, b"new"), "b": (REG, b"kept")}


def test_whiteout_hides_file_and_itself() -> None:
    """A whiteout is an empty file whose name begins with `.wh.` (layer.md, Whiteouts)."""
    assert names(merged(tar("d/", "d/a", "d/b"), tar("d/.wh.a"))) == ["d", "d/b"]


def test_whiteout_hides_directory_and_its_content() -> None:
    """A deleted directory is gone with what was in it."""
    assert names(merged(tar("d/", "d/e/", "d/e/a", "dd"), tar(".wh.d"))) == ["dd"]


def test_whiteout_hides_lower_layers_only() -> None:
    """Whiteouts apply to lower layers only, wherever they stand (layer.md, Whiteouts)."""
    for upper in (tar(".wh.a", entry("a", b"new")), tar(entry("a", b"new"), ".wh.a")):
        assert listed(merged(tar(entry("a", b"old")), upper)) == {"a": (REG, b"new")}
    assert names(merged(tar("a"), tar(".wh.a"), tar("a"))) == ["a"]


def test_opaque_whiteout_hides_content_of_lower_directory() -> None:
    """All siblings are hidden in lower layers, the rest stays (layer.md, Opaque Whiteout)."""
    lower = tar(entry("d/", mode=0o700), "d/a", "d/e/", "d/e/b", "f")
    for upper in (tar("d/.wh..wh..opq", "d/new"), tar("d/new", "d/.wh..wh..opq")):
        assert sorted(names(merged(lower, upper))) == ["d", "d/new", "f"]


def test_opaque_root_hides_every_lower_layer() -> None:
    """The root is a directory like any other."""
    assert names(merged(tar("./", "a", "d/", "d/b"), tar(".wh..wh..opq", "c"))) == ["c", "."]


def test_files_of_aufs_are_left_out() -> None:
    """Names that begin with `.wh..wh.` are reserved, and not files of the image."""
    notes = tar(".wh..wh.plnk/", ".wh..wh.plnk/1.2", ".wh..wh.aufs", "a")
    assert names(merged(notes)) == ["a"]
    assert names(merged(tar("a.wh.b"))) == ["a.wh.b"]


@pytest.mark.parametrize("name", [".wh.", "d/.wh.", ".wh..", "d/.wh..."])
def test_whiteout_of_nothing_is_error(name: str) -> None:
    """`.wh...` would hide the parent directory."""
    with pytest.raises(LayerError, match="names nothing"):
        merged(tar(name))


def test_entry_below_whiteout_is_error() -> None:
    """Files whose names begin with `.wh.` are whiteouts, not directories."""
    with pytest.raises(LayerError, match=r"layer 1 of 1, sha256:.*'\.wh\.d/a' is below a whiteout"):
        merged(tar(".wh.d/a"))


def test_file_hides_directory_and_its_content() -> None:
    """A file replaces a whole directory."""
    assert names(merged(tar("d/", "d/a"), tar("d"))) == ["d"]
    assert listed(merged(tar("d/", "d/a"), tar(symlink("d", "x")))) == {"d": (SYM, b"x")}


def test_directory_hides_file() -> None:
    """A directory replaces a file, with an entry of its own or only with content."""
    assert listed(merged(tar("d"), tar("d/"))) == {"d": (DIR, b"")}
    lines: list[str] = []
    out = merged(tar("d"), tar("d/a"), on_warning=lines.append)
    assert listed(out) == {"d/a": (REG, b""), "d": (DIR, b"")}
    assert "'d' is not a directory, and layer 2 has 'd/a'" in lines[0]


def test_hidden_file_hides_lower_directory() -> None:
    """Directory, file, directory: the content of the lowest stays hidden."""
    assert sorted(names(merged(tar("d/", "d/old"), tar("d"), tar("d/", "d/new")))) == ["d", "d/new"]
    out = merged(tar("d/", "d/old"), tar("d"), tar("d/new"), on_warning=print)
    assert names(out) == ["d/new", "d"]


def test_directory_has_metadata_of_topmost_entry() -> None:
    """Directories are merged: content of all layers, metadata of the last."""
    out = merged(
        tar(entry("d/", mode=0o700), "d/a"), tar(entry("d/", mode=0o711), "d/b"), tar("d/c")
    )
    assert names(out) == ["d/c", "d", "d/b", "d/a"]
    with tarfile.open(fileobj=io.BytesIO(out)) as archive:
        assert archive.getmember("d").mode == 0o711


@pytest.mark.parametrize("spelling", ["d/a", "./d/a", "/d/a", "d//a", "./d/./a"])
def test_spellings_of_one_name_are_equal(spelling: str) -> None:
    """`./a`, `a/` and `/a` name the same file."""
    out = merged(tar(entry("d/a", b"old")), tar(entry(spelling, b"new")))
    assert listed(out) == {"d/a": (REG, b"new")}


def test_root_keeps_metadata() -> None:
    """The root has an entry like other directories."""
    root = single(merged(tar(entry("./", mode=0o700)), tar(entry("/", mode=0o711))))
    assert (root.name, root.mode, root.type) == (".", 0o711, DIR)


@pytest.mark.parametrize("name", ["../a", "d/../a", "..", "/.."])
def test_name_with_dot_dot_is_error(name: str) -> None:
    """`..` is refused in names, and in links as well."""
    with pytest.raises(LayerError, match="leads upwards"):
        merged(tar(name))
    with pytest.raises(LayerError, match="leads upwards"):
        merged(tar(link("a", name)))


def test_symbolic_link_target_may_have_dot_dot() -> None:
    """A symbolic link is passed on unchanged: it is followed when the image runs."""
    assert listed(merged(tar(symlink("a", "../../b")))) == {"a": (SYM, b"../../b")}


def test_name_longer_than_path_max_is_error() -> None:
    """PATH_MAX is 4096: each directory of a name is kept, so length is bounded."""
    assert len(names(merged(tar("a/" * 2047 + "b")))) == 1
    with pytest.raises(LayerError, match="a name of 4097 bytes"):
        merged(tar("a" * 4097))


def test_root_that_is_not_directory_is_error() -> None:
    """A file cannot replace the root."""
    with pytest.raises(LayerError, match="the root is not a directory"):
        merged(tar(symlink(".", "/etc")))


@pytest.mark.parametrize(
    "members",
    [
        (symlink("lib", "usr/lib"), entry("lib/")),
        (entry("lib/a"), symlink("lib", "usr/lib")),
        (entry("lib"), entry("lib/a")),
        (entry("lib/"), entry("lib")),
        (entry("lib"), entry("lib/")),
    ],
)
def test_name_of_two_kinds_in_one_layer_is_error(
    members: Sequence[tuple[tarfile.TarInfo, bytes]],
) -> None:
    """Some readers replace the first, others fail."""
    with pytest.raises(LayerError, match="'lib' is both a directory and something else"):
        merged(tar(*members))


# Links below -------------------------------------------------------------------------------------

BASE = tar("usr/lib/", entry("usr/lib/libc.so", b"libc"), symlink("lib", "usr/lib"))


def warned(*tars: bytes) -> tuple[dict[str, tuple[bytes, bytes]], list[str]]:
    """Return what the merged tar has, and the warnings."""
    lines: list[str] = []
    return listed(merged(*tars, on_warning=lines.append)), lines


def test_implied_directory_hides_lower_link_with_warning() -> None:
    """Overlayfs stacks directories; readers that extract a layer over others follow the link."""
    out, lines = warned(BASE, tar(entry("lib/new.so", b"new"), entry("lib/more.so")))
    assert out["lib"] == (DIR, b"")
    assert set(out) == {"lib", "lib/new.so", "lib/more.so", "usr/lib", "usr/lib/libc.so"}
    (line,) = lines
    assert line.startswith("layer 1 of 2, sha256:")
    assert "'lib' is a symbolic link to 'usr/lib', and layer 2 has 'lib/new.so'" in line


@pytest.mark.parametrize("mark", ["lib/.wh.libc.so", "lib/.wh..wh..opq"])
def test_whiteout_below_link_implies_directory_with_warning(mark: str) -> None:
    """Overlayfs has the whiteout in a directory; umoci removes what the link leads to."""
    out, lines = warned(BASE, tar(mark))
    assert out["lib"] == (DIR, b"")
    assert "usr/lib/libc.so" in out
    assert f"layer 2 has '{mark}'" in lines[0]


@pytest.mark.parametrize(
    "between",
    [tar("lib/"), tar(".wh.lib"), tar(".wh..wh..opq"), tar(".wh.lib", "lib/"), tar("x")[:512]],
)
def test_no_warning_if_layer_has_entry_for_directory(between: bytes) -> None:
    """A directory's own entry, or a whiteout, removes the link for every reader."""
    upper = tar("lib/", "lib/new.so")
    assert warned(BASE, between, upper)[1] == []
    lines = warned(BASE, between, tar("lib/new.so"))[1]
    assert bool(lines) is (between == tar("x")[:512])
    assert warned(BASE, tar(".wh.lib", "lib/new.so"))[1] == []


def test_directory_entry_after_its_content_is_warned() -> None:
    """A reader that extracts a layer over those below has followed the link by then."""
    assert warned(BASE, tar("lib/new.so", "lib/"))[1] != []
    assert warned(tar("lib/"), tar("lib/new.so", "lib/"))[1] == []


def test_link_through_dot_dot_is_warned() -> None:
    """`x -> lib/../usr` leads elsewhere if `lib` is a link of a lower layer."""
    lines = warned(BASE, tar(symlink("x", "lib/../usr"), "x/a"))[1]
    assert "'lib' is a symbolic link to 'usr/lib', and layer 2 has 'x/a'" in lines[0]


def test_strict_makes_warning_an_error() -> None:
    """The error has the text of the warning."""
    with pytest.raises(LayerError, match=r"layer 1 of 2, .*'lib' is a symbolic link.*Readers diff"):
        merged(BASE, tar("lib/new.so"), strict=True)


def test_warning_without_callback_is_python_warning() -> None:
    """The library does not differ silently either."""
    with pytest.warns(LayerWarning, match="'lib/new.so'"):
        merged(BASE, tar("lib/new.so"))


def test_number_of_warnings_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hostile image can have millions."""
    monkeypatch.setattr(merge, "_MAX_WARNINGS", 3)
    lower = tar(*[symlink(f"{n}", "x") for n in range(9)])
    lines = warned(lower, tar(*[f"{n}/a" for n in range(9)]))[1]
    assert len(lines) == 4
    assert lines[-1].endswith("readers differ on more entries, which are not named")


@pytest.mark.parametrize("target", ["usr/lib", "/usr/lib", "../../usr/./lib", "usr/x/../lib"])
def test_link_of_same_layer_is_followed(target: str) -> None:
    """The archive is extracted like a regular tar archive (layer.md): all readers go through."""
    members = ("usr/lib/", symlink("lib", target), entry("lib/a", b"1"), link("b", "lib/a"))
    out, lines = warned(tar(*members))
    assert lines == []
    assert set(out) == {"usr/lib", "lib", "usr/lib/a", "b"}
    assert out["b"] == (LNK, b"usr/lib/a")


def test_whiteout_through_link_of_same_layer_hides_target() -> None:
    """All readers agree on that."""
    out, lines = warned(tar("usr/lib/", "usr/lib/a"), tar(symlink("l", "usr/lib"), "l/.wh.a"))
    assert (set(out), lines) == ({"usr/lib", "l"}, [])


def test_hard_link_to_symbolic_link_is_symbolic_link() -> None:
    """It is another name of the symbolic link itself."""
    out = warned(tar("d/", symlink("l", "d"), link("m", "l"), "m/a"))[0]
    assert set(out) == {"d", "l", "m", "d/a"}


def test_circular_links_are_error() -> None:
    """Linux follows 40 links on one path."""
    with pytest.raises(LayerError, match="'a' leads through more than 40 symbolic links"):
        merged(tar(symlink("a", "b"), symlink("b", "a"), "a/x"))
    with pytest.raises(LayerError, match="'a' leads to a name of 6000 bytes"):
        merged(tar(symlink("a", "/".join(["x" * 1999] * 3) + "x"), "a/x"))


def test_last_entry_of_name_in_layer_counts() -> None:
    """Readers overwrite the first."""
    out = merged(tar(entry("a", b"1"), entry("a", b"2"), "d/", entry("d/", mode=0o700)))
    assert listed(out)["a"] == (REG, b"2")
    assert names(out) == ["a", "a", "d", "d"]


# Hard links --------------------------------------------------------------------------------------


def test_hard_links_come_last() -> None:
    """The target of a link comes before the link, from whichever layer."""
    out = merged(tar(entry("low", b"1"), link("x", "low"), "z"), tar(link("./y", "/low"), "b"))
    assert names(out) == ["b", "low", "z", "x", "y"]
    assert listed(out)["y"] == (LNK, b"low")


def test_hard_link_comes_after_its_target() -> None:
    """The links of lower layers come first, and each layer's in their order."""
    out = merged(tar(entry("a", b"1"), link("b", "a")), tar(link("c", "b"), link("d", "c")))
    assert names(out) == ["a", "b", "c", "d"]


def test_hard_link_can_be_hidden_and_hide() -> None:
    """A link is hidden like a file, and hides like one."""
    assert names(merged(tar("a", link("b", "a")), tar(".wh.b"))) == ["a"]
    assert listed(merged(tar("b/", "b/c", "a"), tar(link("b", "a")))) == {
        "a": (REG, b""),
        "b": (LNK, b"a"),
    }


def test_hidden_hard_link_may_have_hidden_target() -> None:
    """If all names of a file are hidden, its content is not needed."""
    out = merged(tar(entry("a", b"old"), link("b", "a")), tar("a", "b"))
    assert names(out) == ["a", "b"]


@pytest.mark.parametrize("upper", ["a", ".wh.a", "a/", "a/b"])
def test_hard_link_to_replaced_target_is_error(upper: str) -> None:
    """Its content was skipped before the link came: one pass cannot read it again."""
    with pytest.raises(LayerError, match=r"layer 1 of 2, .*'b' points to 'a', which a layer above"):
        merged(tar(entry("a", b"1"), link("b", "a")), tar(upper), on_warning=print)


@pytest.mark.parametrize(
    "members",
    [
        (link("a", "nothing"),),
        (link("a", "a"),),
        (link("a", "b"), link("b", "a")),
        (entry("d/"), link("a", "d")),
        (link("a", ""),),
        (entry("a"), link("a", "a")),
    ],
)
def test_hard_link_to_nothing_is_error(
    members: Sequence[tuple[tarfile.TarInfo, bytes]],
) -> None:
    """No reader could make such a link."""
    with pytest.raises(LayerError, match=r"which is not there|comes after a hard link|itself"):
        merged(tar(*members))


@pytest.mark.parametrize("again", [entry("a", b"2"), entry("a/"), symlink("a", "x")])
def test_hard_link_before_its_target_is_error(
    again: tuple[tarfile.TarInfo, bytes],
) -> None:
    """Some readers link to the earlier file, some to nothing."""
    for first in ((), (entry("a", b"1"),)):
        with pytest.raises(LayerError, match="'a' comes after a hard link that points to it"):
            merged(tar(entry("a", b"0")), tar(*first, link("b", "a"), again))


def test_file_replaces_hard_link_of_same_layer() -> None:
    """The last entry of a name counts."""
    out = merged(tar(entry("a", b"1"), link("b", "a"), entry("b", b"2")))
    assert listed(out) == {"a": (REG, b"1"), "b": (REG, b"2")}
    out = merged(tar(entry("a", b"1"), entry("b", b"2"), link("b", "a")))
    assert listed(out) == {"a": (REG, b"1"), "b": (LNK, b"a")}


# What comes in, what goes out --------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 511, 512, 513, 3_000_000])
@pytest.mark.parametrize("name", ["gzip", "zstd", "none"])
def test_merge_detects_compression_by_bytes(name: str, size: int) -> None:
    """The bytes decide, not the media type."""
    content = random.Random(size).randbytes(size)
    stream = StreamLayer([tar(entry("a", content))], name)
    with stream.open() as opened:
        packed = opened.read()
    out = b"".join(merge_layers([layer(packed, OCI_LAYER_ZSTD)]))
    assert listed(out) == {"a": (REG, content)}


def test_flatten_layers_returns_stream_of_gzip() -> None:
    """The layer is made while it is read; the same layers give the same bytes."""
    layers = [layer(gzip.compress(tar("a", "d/", "d/b")), OCI_LAYER_GZIP), layer(tar(".wh.a"))]
    first, second = flatten_layers(layers), flatten_layers(layers)
    with first.open() as stream, second.open() as other:
        data = stream.read()
        assert other.read() == data
    assert first.media_type == OCI_LAYER_GZIP
    assert names(DECOMPRESS["gzip"](data)) == ["d", "d/b"]
    assert first.diff_id.encoded == hashlib.sha256(b"".join(merge_layers(layers))).hexdigest()


def test_flatten_layers_rejects_stream() -> None:
    """A stream can be read only once, by its push."""
    with pytest.raises(LayerError, match="layer 2 of 2 can be read only once"):
        flatten_layers([layer(tar()), StreamLayer([tar()])])


def test_reading_flattened_layer_raises_cause() -> None:
    """The layer fails, so a part of it cannot be pushed."""
    broken = flatten_layers([layer(tar("../a"))])
    with pytest.raises(LayerError, match="leads upwards"), broken.open() as stream:
        stream.read()
    with pytest.raises(LayerError):
        _ = broken.digest


def test_merge_enforces_limits() -> None:
    """A bomb in a layer is an error that names the layer."""
    packed = layer(gzip.compress(tar(entry("a", bytes(100_000)))))
    with pytest.raises(CorruptBlob, match=r"layer 1 of 1, sha256:.* more than 9999 bytes"):
        list(merge_layers([packed], Limits(size=9999)))


def test_memory_for_names_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only names are kept, but an archive decides their number."""
    monkeypatch.setattr(merge, "_MAX_MEMORY", 5000)
    assert len(names(merged(tar(*[f"{n}" for n in range(40)])))) == 40
    for members in (
        [f"{n}" for n in range(60)],
        ["d/" * 60 + "a"],
        [f".wh.{n}" for n in range(60)],
        [f"{n}/.wh..wh..opq" for n in range(60)],
        ["a", *[link(f"{n}", "a") for n in range(8)]],
    ):
        with pytest.raises(LayerError, match="take more than 5000 bytes"):
            merged(tar(*members))


def test_merge_reads_each_layer_to_its_last_byte() -> None:
    """A digest is verified at the end of a blob, so bytes after a tar's end are read too."""
    packed = bytearray(gzip.compress(tar("a") + bytes(100_000)))
    packed[-5] ^= 1
    with pytest.raises(CorruptBlob, match="no valid gzip"):
        merged(bytes(packed))


def test_merge_reads_zstd_of_many_frames() -> None:
    """Our own zstd has a frame for each block."""
    data = tar(entry("a", b"x" * 3000))
    encode = codec_for("zstd").encode
    assert encode is not None
    frames = b"".join(encode(data[at : at + 700], b"") for at in range(0, len(data), 700))
    assert listed(merged(frames)) == {"a": (REG, b"x" * 3000)}
