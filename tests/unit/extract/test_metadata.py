"""Owners, modes, times, xattrs and devices: what is set, and what only by the user's word."""

from __future__ import annotations

import base64
import os
import stat
import tarfile
from typing import TYPE_CHECKING, Any

import pytest
from tests.attacks.sparse import FORMS, sparse_file
from tests.file_trees import read_tree
from tests.tars import DIR, entry, layer, link, symlink, tar

from brolga.extract import ExtractOptions, extract_layers

if TYPE_CHECKING:
    from pathlib import Path

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may do this")

# setcap cap_net_raw+ep, as setcap(8) stores it (linux/capability.h, VFS_CAP_REVISION_2).
CAPABILITY = bytes.fromhex("0100000200200000000000000000000000000000")[:20]


def extract(directory: Path, *tars: bytes, **options: object) -> list[str]:
    """Extract layers; return the warnings."""
    lines: list[str] = []
    chosen = ExtractOptions(on_warning=lines.append, **options)  # type: ignore[arg-type]
    extract_layers([layer(data) for data in tars], directory, chosen)
    return lines


@pytest.mark.parametrize("name", ["f", "d/"])
@pytest.mark.parametrize("keep", [False, True], ids=["default", "setuid"])
def test_setuid_bits_are_kept_only_by_option(name: str, keep: bool, tmp_path: Path) -> None:
    """Setuid and setgid; the sticky bit gives nobody more rights."""
    extract(tmp_path / "x", tar(entry(name, mode=0o7755)), setuid=keep)
    mode = stat.S_IMODE((tmp_path / "x" / name).lstat().st_mode)
    assert mode == (0o7755 if keep else 0o1755)


@needs_root
@pytest.mark.parametrize("keep", [False, True], ids=["default", "setuid"])
def test_file_capabilities_are_kept_only_by_option(keep: bool, tmp_path: Path) -> None:
    """They give rights as the setuid bit does."""
    value = CAPABILITY.decode("utf-8", "surrogateescape")
    data = tar(entry("f", b"1", pax_headers={"SCHILY.xattr.security.capability": value}))
    extract(tmp_path / "x", data, setuid=keep)
    found = read_tree(tmp_path / "x")[b"f"].xattrs
    assert found == ((("security.capability", CAPABILITY),) if keep else ())


@needs_root
def test_device_nodes_are_made_only_by_option(tmp_path: Path) -> None:
    """By default each is left out with a warning."""
    data = tar(
        entry("c", type=tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666),
        entry("b", type=tarfile.BLKTYPE, devmajor=7, devminor=1, mode=0o600),
        "f",
    )
    lines = extract(tmp_path / "default", data)
    assert len(lines) == 2
    assert {path.name for path in (tmp_path / "default").iterdir()} == {"f"}
    extract(tmp_path / "devices", data, devices=True)
    status = (tmp_path / "devices" / "c").lstat()
    assert stat.S_ISCHR(status.st_mode)
    assert status.st_rdev == os.makedev(1, 3)
    assert stat.S_IMODE(status.st_mode) == 0o666


def test_device_node_removes_what_it_replaces(tmp_path: Path) -> None:
    """A device that is left out still hides the file of a lower layer."""
    device = entry("n", type=tarfile.CHRTYPE, devmajor=1, devminor=3)
    lines = extract(tmp_path / "x", tar(entry("n", b"lower"), "f"), tar(device))
    assert len(lines) == 1
    assert {path.name for path in (tmp_path / "x").iterdir()} == {"f"}


def test_fifo_is_made(tmp_path: Path) -> None:
    """It is no device, and harmless."""
    extract(tmp_path / "x", tar(entry("f", type=tarfile.FIFOTYPE, mode=0o622)))
    assert stat.filemode((tmp_path / "x" / "f").lstat().st_mode) == "prw--w--w-"


def test_times_are_exact(tmp_path: Path) -> None:
    """Nanoseconds of a pax header; before 1970; and of a directory after its files were written."""
    data = tar(
        entry("d/", pax_headers={"mtime": "1000000000.123456789"}),
        entry("d/f", b"1", pax_headers={"mtime": "-1.5"}),
        symlink("s", "d"),
    )
    extract(tmp_path / "x", data, tar(entry("d/g", b"2", mtime=5)))
    tree = read_tree(tmp_path / "x")
    assert tree[b"d"].mtime_ns == 1_000_000_000_123_456_789
    assert tree[b"d/f"].mtime_ns == -1_500_000_000
    assert (tree[b"s"].mtime_ns, tree[b"d/g"].mtime_ns) == (0, 5_000_000_000)


def test_root_directory_gets_its_entry(tmp_path: Path) -> None:
    """`./` is the directory itself."""
    data = tar(entry("./", mode=0o711, mtime=7), "f")
    extract(tmp_path / "x", data, tar("g"))
    status = (tmp_path / "x").stat()
    assert (stat.S_IMODE(status.st_mode), status.st_mtime) == (0o711, 7)


@needs_root
@pytest.mark.parametrize("mapped", [None, (1234, 5678)])
def test_owner_is_that_of_image_or_mapped_one(
    mapped: tuple[int, int] | None, tmp_path: Path
) -> None:
    """Numbers, not names; of files, directories, links and implied directories."""
    owned: dict[str, Any] = {"uid": 2**31, "gid": 77, "uname": "root", "gname": "root"}
    data = tar(
        entry("f", **owned),
        entry("d/", **owned),
        entry("s", type=tarfile.SYMTYPE, linkname="f", **owned),
        entry("i/f", **owned),
        entry("p", type=tarfile.FIFOTYPE, **owned),
    )
    extract(tmp_path / "x", data, map_owner=mapped)
    tree = read_tree(tmp_path / "x")
    wanted = mapped or (2**31, 77)
    assert {path: tree[path].owner for path in (b"f", b"d", b"s", b"i/f", b"p")} == dict.fromkeys(
        (b"f", b"d", b"s", b"i/f", b"p"), wanted
    )
    assert tree[b"i"].owner == (mapped or (0, 0))


@pytest.mark.skipif(os.geteuid() == 0, reason="root keeps the owners of the image")
def test_files_of_ordinary_user_are_his(tmp_path: Path) -> None:
    """Whatever the image says."""
    extract(tmp_path / "x", tar(entry("f", uid=0), entry("d/", uid=0, gid=0)))
    owners = {item.owner for item in read_tree(tmp_path / "x").values()}
    assert owners == {(os.geteuid(), os.getegid())}


def test_xattrs_are_set_or_warned_of(tmp_path: Path) -> None:
    """`user.*` of files and directories, an empty value too; others not, but with a warning."""
    xattrs = {
        "SCHILY.xattr.user.a": "\udcff\n=",
        "SCHILY.xattr.user.empty": "",
        "SCHILY.xattr.user.overlay.opaque": "y",
        "SCHILY.xattr.trusted.overlay.opaque": "y",
        "LIBARCHIVE.xattr.user.b": base64.b64encode(b"b").decode(),
    }
    made = entry("f", b"1", pax_headers=xattrs), entry("d/", type=DIR, pax_headers=xattrs)
    lines = extract(tmp_path / "x", tar(*made))
    tree = read_tree(tmp_path / "x")
    for path in (b"f", b"d"):
        assert dict(tree[path].xattrs).items() >= {"user.a": b"\xff\n=", "user.empty": b""}.items()
        assert not [name for name, _ in tree[path].xattrs if "overlay" in name]
    assert any("user.overlay.opaque" in line for line in lines)


@pytest.mark.parametrize("form", FORMS)
def test_sparse_file_is_extracted(form: str, tmp_path: Path) -> None:
    """Each form of GNU tar; holes stay holes, the one at the end as well."""
    parts = [(0, b"a" * 1024), (1 << 20, b"b" * 700), (8 << 20, b"")]
    extract(tmp_path / "x", sparse_file("s", 8 << 20, parts, form))
    data = (tmp_path / "x" / "s").read_bytes()
    assert len(data) == 8 << 20
    assert data.strip(b"\0") == b"a" * 1024 + bytes((1 << 20) - 1024) + b"b" * 700
    assert (tmp_path / "x" / "s").stat().st_blocks < 1000


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param([(1024, b"a" * 512), (0, b"b" * 512)], id="backwards"),
        pytest.param([(0, b"a" * 1024), (512, b"b" * 512)], id="overlapping"),
        pytest.param([(4096, b"a" * 512)], id="beyond the end"),
        pytest.param([(2**63 - 1, b"a" * 512)], id="beyond any file"),
        pytest.param([(2**63, b"")], id="beyond any number"),
    ],
)
@pytest.mark.parametrize("form", ["0.1", "1.0"])
def test_sparse_map_that_is_not_valid_is_error(
    parts: list[tuple[int, bytes]], form: str, tmp_path: Path
) -> None:
    """Readers differ on such files."""
    from brolga.errors import CorruptBlob

    with pytest.raises(CorruptBlob, match="layer 1 of 1"):
        extract(tmp_path / "x", sparse_file("s", 4096, parts, form))


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("new\nline", id="newline"),
        pytest.param("\udcff\udcfe", id="not UTF-8"),
        pytest.param("\x1b[31mred", id="escape"),
        pytest.param("n" * 255, id="255 bytes"),
        pytest.param("/".join(["d" * 200] * 19) + "/f", id="3821 bytes"),
        pytest.param(" ", id="space"),
        pytest.param("a\\b", id="backslash"),
        pytest.param("-rf", id="option"),
        pytest.param("...", id="three dots"),
    ],
)
@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT], ids=["pax", "GNU"])
def test_name_is_extracted_as_it_is(name: str, form: int, tmp_path: Path) -> None:
    """Of files, of links and of their targets."""
    data = tar(entry(name, b"1"), link("h", name), symlink("s", name), form=form)
    extract(tmp_path / "x", data)
    raw = name.encode("utf-8", "surrogateescape")
    tree = read_tree(tmp_path / "x")
    assert (tree[raw].content, tree[b"h"].inode) == (b"1", tree[raw].inode)
    assert tree[b"s"].content == raw
