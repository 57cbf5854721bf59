"""flatten.py: one layer shows what all of them show together."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import random
import shutil
import stat
import subprocess
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
from brolga.images import changesets as merge
from brolga.images.flatten import flattened, merged_tar
from brolga.spec.mediatypes import OCI_LAYER, OCI_LAYER_GZIP, OCI_LAYER_ZSTD
from brolga.stream.compression import codec_for
from brolga.stream.decompression import Limits

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path


# What hides what ---------------------------------------------------------------------------------


def test_no_layer_is_an_empty_archive() -> None:
    """An image without layers shows nothing; a tar ends with two blocks of zeros."""
    assert merged() == bytes(1024)
    assert merged(b"", tar()) == bytes(1024)


def test_the_upper_file_hides_the_lower() -> None:
    """Later layers are applied over earlier ones (layer.md, Applying Changesets)."""
    out = merged(tar(entry("a", b"old"), entry("b", b"kept")), tar(entry("a", b"new")))
    assert listed(out) == {"a": (REG, b"new"), "b": (REG, b"kept")}


def test_a_whiteout_hides_a_file_and_itself() -> None:
    """A whiteout is an empty file whose name begins with `.wh.` (layer.md, Whiteouts)."""
    assert names(merged(tar("d/", "d/a", "d/b"), tar("d/.wh.a"))) == ["d", "d/b"]


def test_a_whiteout_of_a_directory_hides_all_below() -> None:
    """A deleted directory is gone with what was in it."""
    assert names(merged(tar("d/", "d/e/", "d/e/a", "dd"), tar(".wh.d"))) == ["dd"]


def test_a_whiteout_hides_lower_layers_only() -> None:
    """Whiteouts apply to lower layers only, wherever they stand (layer.md, Whiteouts)."""
    for upper in (tar(".wh.a", entry("a", b"new")), tar(entry("a", b"new"), ".wh.a")):
        assert listed(merged(tar(entry("a", b"old")), upper)) == {"a": (REG, b"new")}
    assert names(merged(tar("a"), tar(".wh.a"), tar("a"))) == ["a"]


def test_an_opaque_whiteout_hides_what_is_in_a_directory_below() -> None:
    """All siblings are hidden in lower layers, the rest stays (layer.md, Opaque Whiteout)."""
    lower = tar(entry("d/", mode=0o700), "d/a", "d/e/", "d/e/b", "f")
    for upper in (tar("d/.wh..wh..opq", "d/new"), tar("d/new", "d/.wh..wh..opq")):
        assert sorted(names(merged(lower, upper))) == ["d", "d/new", "f"]


def test_an_opaque_root_hides_every_layer_below() -> None:
    """The root is a directory like any other."""
    assert names(merged(tar("./", "a", "d/", "d/b"), tar(".wh..wh..opq", "c"))) == ["c", "."]


def test_notes_of_aufs_are_not_shown() -> None:
    """Names that begin with `.wh..wh.` are reserved, and no files of the image."""
    notes = tar(".wh..wh.plnk/", ".wh..wh.plnk/1.2", ".wh..wh.aufs", "a")
    assert names(merged(notes)) == ["a"]
    assert names(merged(tar("a.wh.b"))) == ["a.wh.b"]


@pytest.mark.parametrize("name", [".wh.", "d/.wh.", ".wh..", "d/.wh..."])
def test_a_whiteout_of_nothing_is_an_error(name: str) -> None:
    """`.wh...` would hide the parent directory."""
    with pytest.raises(LayerError, match="names nothing"):
        merged(tar(name))


def test_something_below_a_whiteout_is_an_error() -> None:
    """Files whose names begin with `.wh.` are whiteouts, and those have nothing below."""
    with pytest.raises(LayerError, match=r"layer 1 of 1, sha256:.*'\.wh\.d/a' is below a whiteout"):
        merged(tar(".wh.d/a"))


def test_a_file_hides_a_directory_with_all_below() -> None:
    """What is no directory replaces a directory whole."""
    assert names(merged(tar("d/", "d/a"), tar("d"))) == ["d"]
    assert listed(merged(tar("d/", "d/a"), tar(symlink("d", "x")))) == {"d": (SYM, b"x")}


def test_a_directory_hides_a_file() -> None:
    """A directory replaces what is none, whether its entry or only its content is there."""
    assert listed(merged(tar("d"), tar("d/"))) == {"d": (DIR, b"")}
    told: list[str] = []
    out = merged(tar("d"), tar("d/a"), on_warning=told.append)
    assert listed(out) == {"d/a": (REG, b""), "d": (DIR, b"")}
    assert "'d' is not a directory, and layer 2 has 'd/a'" in told[0]


def test_a_hidden_file_hides_what_is_below_it() -> None:
    """Directory, file, directory: the lowest one's content did not come back."""
    assert sorted(names(merged(tar("d/", "d/old"), tar("d"), tar("d/", "d/new")))) == ["d", "d/new"]
    out = merged(tar("d/", "d/old"), tar("d"), tar("d/new"), on_warning=print)
    assert names(out) == ["d/new", "d"]


def test_the_topmost_entry_of_a_directory_tells_its_metadata() -> None:
    """Directories are merged: content of all layers, metadata of the last."""
    out = merged(
        tar(entry("d/", mode=0o700), "d/a"), tar(entry("d/", mode=0o711), "d/b"), tar("d/c")
    )
    assert names(out) == ["d/c", "d", "d/b", "d/a"]
    with tarfile.open(fileobj=io.BytesIO(out)) as archive:
        assert archive.getmember("d").mode == 0o711


@pytest.mark.parametrize("spelling", ["d/a", "./d/a", "/d/a", "d//a", "./d/./a"])
def test_spellings_of_one_name_are_one(spelling: str) -> None:
    """`./a`, `a/` and `/a` name the same file."""
    out = merged(tar(entry("d/a", b"old")), tar(entry(spelling, b"new")))
    assert listed(out) == {"d/a": (REG, b"new")}


def test_the_root_keeps_its_metadata() -> None:
    """The root has an entry like other directories."""
    one = single(merged(tar(entry("./", mode=0o700)), tar(entry("/", mode=0o711))))
    assert (one.name, one.mode, one.type) == (".", 0o711, DIR)


@pytest.mark.parametrize("name", ["../a", "d/../a", "..", "/.."])
def test_a_name_that_leads_upwards_is_an_error(name: str) -> None:
    """`..` is refused wherever it stands, in links as well."""
    with pytest.raises(LayerError, match="leads upwards"):
        merged(tar(name))
    with pytest.raises(LayerError, match="leads upwards"):
        merged(tar(link("a", name)))


def test_the_target_of_a_symbolic_link_may_lead_upwards() -> None:
    """A symbolic link is passed on as it is: it is followed where the image runs."""
    assert listed(merged(tar(symlink("a", "../../b")))) == {"a": (SYM, b"../../b")}


def test_a_name_longer_than_any_path_is_an_error() -> None:
    """PATH_MAX is 4096: each directory of a name is kept, so length is bounded."""
    assert len(names(merged(tar("a/" * 2047 + "b")))) == 1
    with pytest.raises(LayerError, match="a name of 4097 bytes"):
        merged(tar("a" * 4097))


def test_the_root_is_a_directory() -> None:
    """What is no directory cannot stand for the root."""
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
def test_a_name_of_two_kinds_in_one_layer_is_an_error(
    members: Sequence[tuple[tarfile.TarInfo, bytes]],
) -> None:
    """Some readers replace what is there, others fail."""
    with pytest.raises(LayerError, match="'lib' is both a directory and something else"):
        merged(tar(*members))


# Links below -------------------------------------------------------------------------------------

BASE = tar("usr/lib/", entry("usr/lib/libc.so", b"libc"), symlink("lib", "usr/lib"))


def warned(*tars: bytes) -> tuple[dict[str, tuple[bytes, bytes]], list[str]]:
    """Return what the merged tar has, and the warnings."""
    told: list[str] = []
    return listed(merged(*tars, on_warning=told.append)), told


def test_a_directory_without_an_entry_hides_a_link_below_and_that_is_told() -> None:
    """Overlayfs stacks directories; who extracts a layer over those below follows the link."""
    out, told = warned(BASE, tar(entry("lib/new.so", b"new"), entry("lib/more.so")))
    assert out["lib"] == (DIR, b"")
    assert set(out) == {"lib", "lib/new.so", "lib/more.so", "usr/lib", "usr/lib/libc.so"}
    (line,) = told
    assert line.startswith("layer 1 of 2, sha256:")
    assert "'lib' is a symbolic link to 'usr/lib', and layer 2 has 'lib/new.so'" in line


@pytest.mark.parametrize("mark", ["lib/.wh.libc.so", "lib/.wh..wh..opq"])
def test_a_whiteout_below_a_link_makes_a_directory_and_is_told(mark: str) -> None:
    """Overlayfs has the whiteout in a directory; umoci removes what the link leads to."""
    out, told = warned(BASE, tar(mark))
    assert out["lib"] == (DIR, b"")
    assert "usr/lib/libc.so" in out
    assert f"layer 2 has '{mark}'" in told[0]


@pytest.mark.parametrize(
    "between",
    [tar("lib/"), tar(".wh.lib"), tar(".wh..wh..opq"), tar(".wh.lib", "lib/"), tar("x")[:512]],
)
def test_readers_agree_if_a_layer_says_what_is_there(between: bytes) -> None:
    """A directory's own entry, or a whiteout, takes the link away for every reader."""
    upper = tar("lib/", "lib/new.so")
    assert warned(BASE, between, upper)[1] == []
    told = warned(BASE, between, tar("lib/new.so"))[1]
    assert bool(told) is (between == tar("x")[:512])
    assert warned(BASE, tar(".wh.lib", "lib/new.so"))[1] == []


def test_an_entry_that_comes_after_its_content_is_told() -> None:
    """Who extracts a layer over those below has followed the link by then."""
    assert warned(BASE, tar("lib/new.so", "lib/"))[1] != []
    assert warned(tar("lib/"), tar("lib/new.so", "lib/"))[1] == []


def test_what_a_link_leaves_by_dots_is_told() -> None:
    """`x -> lib/../usr` leads elsewhere where `lib` is a link of a lower layer."""
    told = warned(BASE, tar(symlink("x", "lib/../usr"), "x/a"))[1]
    assert "'lib' is a symbolic link to 'usr/lib', and layer 2 has 'x/a'" in told[0]


def test_with_strict_an_entry_on_which_readers_differ_is_an_error() -> None:
    """The error says the same as the warning."""
    with pytest.raises(LayerError, match=r"layer 1 of 2, .*'lib' is a symbolic link.*Readers diff"):
        merged(BASE, tar("lib/new.so"), strict=True)


def test_without_a_callback_a_python_warning_names_the_entry() -> None:
    """Nothing differs in silence, in the library too."""
    with pytest.warns(LayerWarning, match="'lib/new.so'"):
        merged(BASE, tar("lib/new.so"))


def test_the_number_of_warnings_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hostile image can have millions."""
    monkeypatch.setattr(merge, "_MAX_WARNINGS", 3)
    lower = tar(*[symlink(f"{n}", "x") for n in range(9)])
    told = warned(lower, tar(*[f"{n}/a" for n in range(9)]))[1]
    assert len(told) == 4
    assert told[-1].endswith("readers differ on more entries, which are not named")


@pytest.mark.parametrize("target", ["usr/lib", "/usr/lib", "../../usr/./lib", "usr/x/../lib"])
def test_a_link_of_the_same_layer_is_followed(target: str) -> None:
    """The archive is extracted like a regular tar archive (layer.md): all readers go through."""
    members = ("usr/lib/", symlink("lib", target), entry("lib/a", b"1"), link("b", "lib/a"))
    out, told = warned(tar(*members))
    assert told == []
    assert set(out) == {"usr/lib", "lib", "usr/lib/a", "b"}
    assert out["b"] == (LNK, b"usr/lib/a")


def test_a_whiteout_through_a_link_of_the_same_layer_hides_what_it_leads_to() -> None:
    """As all readers take it."""
    out, told = warned(tar("usr/lib/", "usr/lib/a"), tar(symlink("l", "usr/lib"), "l/.wh.a"))
    assert (set(out), told) == ({"usr/lib", "l"}, [])


def test_a_hard_link_to_a_symbolic_link_is_one() -> None:
    """It is another name of the link itself."""
    out = warned(tar("d/", symlink("l", "d"), link("m", "l"), "m/a"))[0]
    assert set(out) == {"d", "l", "m", "d/a"}


def test_links_that_lead_in_a_circle_are_an_error() -> None:
    """Linux follows 40 links on one path."""
    with pytest.raises(LayerError, match="'a' leads through more than 40 symbolic links"):
        merged(tar(symlink("a", "b"), symlink("b", "a"), "a/x"))
    with pytest.raises(LayerError, match="'a' leads to a name of 6000 bytes"):
        merged(tar(symlink("a", "/".join(["x" * 1999] * 3) + "x"), "a/x"))


def test_a_name_that_comes_twice_in_a_layer_ends_as_its_last() -> None:
    """Readers write over the first."""
    out = merged(tar(entry("a", b"1"), entry("a", b"2"), "d/", entry("d/", mode=0o700)))
    assert listed(out)["a"] == (REG, b"2")
    assert names(out) == ["a", "a", "d", "d"]


# Hard links --------------------------------------------------------------------------------------


def test_hard_links_come_last() -> None:
    """The target of a link is there before the link, wherever it comes from."""
    out = merged(tar(entry("low", b"1"), link("x", "low"), "z"), tar(link("./y", "/low"), "b"))
    assert names(out) == ["b", "low", "z", "x", "y"]
    assert listed(out)["y"] == (LNK, b"low")


def test_a_link_to_a_link_comes_after_it() -> None:
    """The links of lower layers come first, and each layer's in their order."""
    out = merged(tar(entry("a", b"1"), link("b", "a")), tar(link("c", "b"), link("d", "c")))
    assert names(out) == ["a", "b", "c", "d"]


def test_a_hidden_link_is_hidden() -> None:
    """A link is hidden as a file is, and hides as one."""
    assert names(merged(tar("a", link("b", "a")), tar(".wh.b"))) == ["a"]
    assert listed(merged(tar("b/", "b/c", "a"), tar(link("b", "a")))) == {
        "a": (REG, b""),
        "b": (LNK, b"a"),
    }


def test_a_link_whose_target_is_hidden_too_needs_nothing() -> None:
    """What hides all names of a file is no obstacle."""
    out = merged(tar(entry("a", b"old"), link("b", "a")), tar("a", "b"))
    assert names(out) == ["a", "b"]


@pytest.mark.parametrize("upper", ["a", ".wh.a", "a/", "a/b"])
def test_a_link_whose_target_is_replaced_is_an_error(upper: str) -> None:
    """Its content went by before the link came: one pass cannot bring it back."""
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
def test_a_link_to_nothing_is_an_error(
    members: Sequence[tuple[tarfile.TarInfo, bytes]],
) -> None:
    """No reader could make such a link."""
    with pytest.raises(LayerError, match=r"which is not there|comes after a hard link|itself"):
        merged(tar(*members))


@pytest.mark.parametrize("again", [entry("a", b"2"), entry("a/"), symlink("a", "x")])
def test_a_target_that_comes_after_its_link_is_an_error(
    again: tuple[tarfile.TarInfo, bytes],
) -> None:
    """Some readers link to what was there before, some to nothing."""
    for first in ((), (entry("a", b"1"),)):
        with pytest.raises(LayerError, match="'a' comes after a hard link that points to it"):
            merged(tar(entry("a", b"0")), tar(*first, link("b", "a"), again))


def test_a_link_that_a_file_of_its_layer_replaces_is_gone() -> None:
    """The last entry of a name counts."""
    out = merged(tar(entry("a", b"1"), link("b", "a"), entry("b", b"2")))
    assert listed(out) == {"a": (REG, b"1"), "b": (REG, b"2")}
    out = merged(tar(entry("a", b"1"), entry("b", b"2"), link("b", "a")))
    assert listed(out) == {"a": (REG, b"1"), "b": (LNK, b"a")}


# What comes in, what goes out --------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 511, 512, 513, 3_000_000])
@pytest.mark.parametrize("name", ["gzip", "zstd", "none"])
def test_layers_may_be_compressed_in_any_way(name: str, size: int) -> None:
    """Bytes tell the compression, not the media type."""
    content = random.Random(size).randbytes(size)
    stream = StreamLayer([tar(entry("a", content))], name)
    with stream.open() as opened:
        packed = opened.read()
    out = b"".join(merged_tar([layer(packed, OCI_LAYER_ZSTD)]))
    assert listed(out) == {"a": (REG, content)}


def test_flattened_is_a_stream_of_gzip() -> None:
    """The layer is made while it is read; the same layers give the same bytes."""
    layers = [layer(gzip.compress(tar("a", "d/", "d/b")), OCI_LAYER_GZIP), layer(tar(".wh.a"))]
    first, second = flattened(layers), flattened(layers)
    with first.open() as one, second.open() as two:
        data = one.read()
        assert two.read() == data
    assert first.media_type == OCI_LAYER_GZIP
    assert names(DECOMPRESS["gzip"](data)) == ["d", "d/b"]
    assert first.diff_id.encoded == hashlib.sha256(b"".join(merged_tar(layers))).hexdigest()


def test_a_stream_among_the_layers_is_an_error() -> None:
    """A stream is read once, and that is by its push."""
    with pytest.raises(LayerError, match="layer 2 of 2 can be read only once"):
        flattened([layer(tar()), StreamLayer([tar()])])


def test_reading_a_flattened_layer_fails_with_the_cause() -> None:
    """The layer fails, so nothing half-made can be pushed."""
    broken = flattened([layer(tar("../a"))])
    with pytest.raises(LayerError, match="leads upwards"), broken.open() as stream:
        stream.read()
    with pytest.raises(LayerError):
        _ = broken.digest


def test_limits_hold() -> None:
    """A bomb in a layer is an error that names the layer."""
    packed = layer(gzip.compress(tar(entry("a", bytes(100_000)))))
    with pytest.raises(CorruptBlob, match=r"layer 1 of 1, sha256:.* more than 9999 bytes"):
        list(merged_tar([packed], Limits(size=9999)))


def test_the_memory_for_names_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names are all that is kept, and their number is what an archive claims."""
    monkeypatch.setattr(merge, "_MAX_KEPT", 5000)
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


def test_each_layer_is_read_to_its_last_byte() -> None:
    """A digest is verified at the end of a blob: what follows an archive's end is read too."""
    packed = bytearray(gzip.compress(tar("a") + bytes(100_000)))
    packed[-5] ^= 1
    with pytest.raises(CorruptBlob, match="no valid gzip"):
        merged(bytes(packed))


# Against a foreign reader ------------------------------------------------------------------------


def layout(directory: Path, tars: Sequence[bytes]) -> None:
    """Write an OCI layout with one image, whose tag is `latest`."""
    blobs = directory / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def put(data: bytes, media_type: str) -> dict[str, object]:
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}

    def document(value: object, media_type: str) -> dict[str, object]:
        return put(json.dumps(value).encode(), f"application/vnd.oci.image.{media_type}.v1+json")

    layers = [put(data, OCI_LAYER) for data in tars]
    rootfs = {"type": "layers", "diff_ids": [one["digest"] for one in layers]}
    config = document(
        {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": rootfs}, "config"
    )
    manifest = document({"schemaVersion": 2, "config": config, "layers": layers}, "manifest")
    manifest["annotations"] = {"org.opencontainers.image.ref.name": "latest"}
    (directory / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [manifest]}))
    (directory / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')


def unpacked(directory: Path, tars: Sequence[bytes]) -> dict[str, tuple[object, ...]]:
    """Let umoci unpack an image; return what is there: by name kind, mode, time and content."""
    layout(directory / "layout", tars)
    bundle = directory / "bundle"
    command = [
        "umoci",
        "unpack",
        "--rootless",
        "--image",
        str(directory / "layout:latest"),
        str(bundle),
    ]
    subprocess.run(command, check=True, capture_output=True)
    return dict(_walked(bundle / "rootfs"))


def _walked(root: Path) -> Iterable[tuple[str, tuple[object, ...]]]:
    inodes: dict[int, str] = {}
    for path in sorted(root.rglob("*")):
        name, found = str(path.relative_to(root)), path.lstat()
        first = inodes.setdefault(found.st_ino, name)
        content = (
            str(path.readlink())
            if path.is_symlink()
            else path.read_bytes()
            if stat.S_ISREG(found.st_mode)
            else b""
        )
        yield name, (found.st_mode, int(found.st_mtime), first, content)


STACKS: dict[str, Sequence[bytes]] = {
    "whiteouts": [tar("d/", "d/a", "d/b", "e/", "e/f"), tar("d/.wh.a", ".wh.e"), tar("e/", "e/g")],
    "opaque": [tar("d/", "d/a", "d/e/", "d/e/f"), tar("d/", "d/.wh..wh..opq", "d/new")],
    "kinds": [tar("d/", "d/a", "f"), tar("d", "f/", "f/a"), tar("d/", "d/b")],
    "metadata": [
        tar(entry("d/", mode=0o700, mtime=1), entry("d/a", b"1", mode=0o644, mtime=2)),
        tar(entry("d/", mode=0o755, mtime=3), entry("d/b", b"2", mode=0o4711, mtime=4)),
        tar(entry("d/b", b"3", mode=0o600, mtime=5), entry("d/", mode=0o750, mtime=6)),
    ],
    "links": [
        tar(entry("a", b"1"), link("b", "a"), symlink("s", "a")),
        tar("d/", link("d/c", "b"), entry("x", b"2"), link("y", "x")),
        tar(".wh.s", symlink("t", "../x"), entry("y", b"3")),
    ],
    "names": [tar("./", "./d/", "./d/a"), tar(entry("/d/a", b"new"), "d//b"), tar("n" * 200)],
}


@pytest.mark.real
@pytest.mark.skipif(shutil.which("umoci") is None, reason="the umoci program is not on PATH")
@pytest.mark.parametrize("name", STACKS)
def test_umoci_unpacks_the_same(name: str, tmp_path: Path) -> None:
    """A foreign reader sees in the one layer what it sees in all of them."""
    stack = STACKS[name]
    assert unpacked(tmp_path / "one", [merged(*stack)]) == unpacked(tmp_path / "all", stack)


def test_a_codec_of_many_frames_is_read() -> None:
    """Our own zstd has a frame for each block."""
    data = tar(entry("a", b"x" * 3000))
    encode = codec_for("zstd").encode
    assert encode is not None
    frames = b"".join(encode(data[at : at + 700], b"") for at in range(0, len(data), 700))
    assert listed(merged(frames)) == {"a": (REG, b"x" * 3000)}
