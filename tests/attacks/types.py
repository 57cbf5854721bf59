"""Attacks by whiteouts, types, metadata, and names of our own."""

from __future__ import annotations

import tarfile
from typing import TYPE_CHECKING, Any, Final

from tests.tars import SYM, entry, link, symlink, tar

if TYPE_CHECKING:
    from tests.attacks.corpus import Layers

__all__ = ["kinds", "markers", "metadata", "whiteouts"]

UP: Final = "../../outside"
OWNED: Final = b"owned"
OPAQUE: Final = ".wh..wh..opq"
METADATA: Final[dict[str, dict[str, Any]]] = {
    "mode": {"mode": 0o4777},
    "owner": {"uid": 65534, "gid": 65534},
    "times": {"mtime": 1, "pax_headers": {"mtime": "1.5", "atime": "2.5"}},
    "xattrs": {
        "pax_headers": {
            "SCHILY.xattr.user.owned": "1",
            "SCHILY.xattr.trusted.owned": "1",
            "SCHILY.xattr.security.owned": "1",
        }
    },
}


def whiteouts(out: str) -> dict[str, Layers]:
    """Return whiteouts of what is outside, or of nothing."""
    lower = tar("d/", "d/secret", symlink("l", out), symlink("r", UP))
    marks = {
        "by dotdot": "../.wh.neighbour",
        "by dotdot in the middle": "d/../../.wh.near",
        "of dotdot": ".wh...",
        "of dotdot below": "d/.wh...",
        "of dot": ".wh..",
        "of nothing": ".wh.",
        "of nothing below": "d/.wh.",
        "absolute": f"{out}/.wh.secret",
        "through a link": "l/.wh.secret",
        "through a relative link": "r/.wh.private",
        "opaque by dotdot": f"../{OPAQUE}",
        "opaque by an absolute name": f"{out}/{OPAQUE}",
        "opaque through a link": f"l/{OPAQUE}",
        "opaque through a relative link": f"r/{OPAQUE}",
        "opaque below a link": f"l/private/{OPAQUE}",
        "with a slash at its end": ".wh.l/",
        "of a link": ".wh.l",
        "with something below": ".wh.l/secret",
        "of another private name": "d/.wh..wh.secret",
    }
    attacks = {name: [lower, tar(mark)] for name, mark in marks.items()}
    attacks |= {
        f"{name}, in one layer": [tar("d/", symlink("l", out), symlink("r", UP), mark)]
        for name, mark in marks.items()
    }
    return attacks | {
        "of a directory that has links in it": [
            tar(
                "d/", symlink("d/l", out), symlink("d/r", f"../{UP}"), "d/e/", symlink("d/e/l", out)
            ),
            tar(".wh.d"),
        ],
        "opaque, of a directory that has links in it": [
            tar("d/", symlink("d/l", out), "d/e/", symlink("d/e/l", out)),
            tar("d/", f"d/{OPAQUE}"),
        ],
        "opaque, of the root": [lower, tar(OPAQUE)],
        "as a symbolic link": [lower, tar(symlink(".wh.l", out), symlink(f"d/{OPAQUE}", out))],
        "as a directory": [lower, tar(".wh.d/", "d/.wh..wh..opq/")],
        "as a hard link": [lower, tar(link(".wh.d", f"{out}/secret"))],
        "of aufs, as a directory of links": [
            tar(".wh..wh.plnk/", symlink(".wh..wh.plnk/l", out), ".wh..wh.plnk/l/new")
        ],
    }


def kinds(out: str) -> dict[str, Layers]:
    """Return devices and FIFOs, and entries of one kind in the place of another."""
    fifo = entry("f", type=tarfile.FIFOTYPE)
    null = entry("n", type=tarfile.CHRTYPE, devmajor=1, devminor=3)
    disk = entry("n", type=tarfile.BLKTYPE, devmajor=8, devminor=0, mode=0o666)
    return {
        "character device": [tar(null), tar(entry("n", OWNED))],
        "block device": [tar(disk), tar(entry("n", OWNED))],
        "overlayfs's whiteout": [
            tar("d/", "d/x"),
            tar(entry("d", type=tarfile.CHRTYPE, devmajor=0, devminor=0)),
        ],
        "hard link to a device": [tar(null, link("h", "n"), entry("h", OWNED))],
        "below a device": [tar(null, "n/x")],
        "file over a FIFO": [tar(fifo, entry("f", OWNED))],
        "file over a FIFO of a lower layer": [tar(fifo), tar(entry("f", OWNED))],
        "hard link to a FIFO": [tar(fifo, link("h", "f")), tar(entry("h", OWNED))],
        "below a FIFO": [tar(fifo, "f/x"), tar("f/y")],
        "FIFO over a directory, before its times are set": [
            tar(entry("f/", mtime=1), fifo),
            tar(entry("f/", mtime=1), "f/x"),
        ],
        "whiteouts below a FIFO": [tar(fifo), tar("f/.wh.x", f"f/{OPAQUE}")],
        "file in the place of a parent": [tar("a", "a/b")],
        "file in the place of a parent of a lower layer": [tar("a"), tar("a/b")],
        "whiteout below a file": [tar("a"), tar("a/.wh.b")],
        "opaque marker below a file": [tar("a"), tar(f"a/{OPAQUE}")],
        "directory over a file, and back": [tar("a"), tar("a/", "a/b"), tar("a"), tar("a/")],
        "link over a directory that is not empty": [
            tar("d/", "d/x", symlink("d", out), entry("d/secret", OWNED))
        ],
        "old file whose name ends with a slash": [tar(symlink("l", out), old_file("l/"))],
        "old file that is a directory": [tar(old_file("d/"), "d/x")],
        "contiguous file over a link": [
            tar(symlink("l", f"{out}/secret"), entry("l", OWNED, type=tarfile.CONTTYPE))
        ],
        "type not known": [tar(entry("s", OWNED, type=b"Z"))],
        "entries that come twice": [
            tar(symlink("l", out), "l", symlink("l", out), "l/", symlink("l", out), "l/new")
        ],
    }


def old_file(name: str) -> tuple[tarfile.TarInfo, bytes]:
    """Make an entry of Unix V7, which has no type for directories."""
    info = tarfile.TarInfo(name)
    info.type, info.mode = tarfile.AREGTYPE, 0o777
    return info, b""


def metadata(out: str) -> dict[str, Layers]:
    """Return links with metadata, which must not be set on what they lead to."""
    kinds = {"symbolic link": SYM, "hard link": tarfile.LNKTYPE}
    attacks: dict[str, Layers] = {}
    for name, kind in kinds.items():
        for end, target in {"file": f"{out}/secret", "directory": f"{out}/private"}.items():
            for what, members in METADATA.items():
                at = entry("l", type=kind, linkname=target, **members)
                attacks[f"{what} of a {name} to a {end}"] = [tar(at), tar(at)]
    return attacks | {
        "mode of the root": [tar(entry("./", mode=0o1777, mtime=1))],
        "a file that the owner may not write, replaced": [
            tar(entry("f", mode=0), entry("f", OWNED, mode=0o444), entry("f", OWNED))
        ],
        "a directory that the owner may not write": [
            tar(entry("d/", mode=0), "d/x"),
            tar("d/y", "d/.wh.x"),
            tar(".wh.d"),
        ],
    }


def markers(out: str) -> dict[str, Layers]:
    """Return entries with the name of the file by which an unfinished extraction is recognised."""
    name = ".brolga-extract"
    return {
        "as a symbolic link": [tar(symlink(name, f"{out}/secret")), tar("a"), tar("b")],
        "as a symbolic link to nothing": [tar(symlink(name, f"{out}/new")), tar("a"), tar("b")],
        "as a hard link": [tar("a", link(name, f"{out}/secret")), tar("a")],
        "as a directory": [tar(f"{name}/", f"{name}/x"), tar("a")],
        "as a FIFO": [tar(entry(name, type=tarfile.FIFOTYPE)), tar("a")],
        "removed": [tar("a"), tar(f".wh.{name}"), tar(OPAQUE), tar("b")],
        "linked to": [tar(link("h", name), entry("h", OWNED)), tar("a")],
        "beside the directory": [tar(entry(f"../{name}", OWNED), symlink(f"../DIR{name}", out))],
    }
