"""Attacks by names, and by what links lead to."""

from __future__ import annotations

import tarfile
from typing import TYPE_CHECKING, Final

from tests.tars import entry, link, symlink, tar

if TYPE_CHECKING:
    from tests.attacks.corpus import Layers

__all__ = ["hard_links", "links", "names"]

UP: Final = "../../outside"
OWNED: Final = b"owned"


def names(out: str) -> dict[str, Layers]:
    """Return names that lead upwards, or from the root."""
    return {
        "dotdot": [tar(entry("../neighbour", OWNED))],
        "dotdot to a new file": [tar(entry("../new", OWNED))],
        "dotdot behind a directory": [tar("a/", entry("a/../../neighbour", OWNED))],
        "dotdot behind nothing": [tar(entry("a/../../neighbour", OWNED))],
        "dotdot at the end": [tar("a/", entry("a/../..", OWNED, mode=0o777))],
        "dotdot as a directory": [tar(entry("../", mode=0o777))],
        "dotdot of a directory behind a name": [tar(entry("a/../../", mode=0o777))],
        "dotdot of a new directory": [tar(entry("../../outside/new/"))],
        "dotdot in an absolute name": [tar(entry("/../neighbour", OWNED))],
        "dotdot doubled": [tar(entry("....//....//outside/secret", OWNED))],
        "dotdot by backslashes": [tar(entry("..\\neighbour", OWNED))],
        "absolute": [tar(entry(f"{out}/secret", OWNED))],
        "absolute, doubled": [tar(entry(f"/{out}/secret", OWNED))],
        "absolute directory": [tar(entry(f"{out}/private/", mode=0o777))],
        "absolute symbolic link": [tar(symlink(f"{out}/link", "elsewhere"))],
        "absolute hard link": [tar(link(f"{out}/new", f"{out}/secret"))],
        "in a long pax path": [tar(entry("a/" * 100 + "../" * 102 + "outside/secret", OWNED))],
        "in a long GNU name": [
            tar(
                entry("a/" * 100 + "../" * 102 + "outside/secret", OWNED),
                form=tarfile.GNU_FORMAT,
            )
        ],
        "in a pax path, unlike the header's": [
            tar(entry("ok", OWNED, pax_headers={"path": "../neighbour"}))
        ],
        "behind a zero byte": [
            tar(entry("ok", OWNED, pax_headers={"path": "a\0/../../neighbour"}))
        ],
        "in a global pax header": [
            tar(entry("../neighbour", b"", type=tarfile.XGLTYPE), entry("ok", OWNED))
        ],
        "empty": [tar(entry("", OWNED))],
        "the root as a file": [tar(entry(".", OWNED))],
        "the root as a link": [tar(symlink(".", out)), tar(entry("secret", OWNED))],
        "the root as a link, by an empty name": [tar(symlink("", out), entry("secret", OWNED))],
        "the root as a hard link": [tar(link("./", f"{out}/private"))],
        "the root as a device": [tar(entry("./.", type=tarfile.CHRTYPE, devmajor=1, devminor=3))],
    }


def links(out: str) -> dict[str, Layers]:
    """Return symbolic links to the outside, and what is written through them."""
    through = {
        "absolute": symlink("l", out),
        "relative": symlink("l", UP),
        "over a name that is not there": symlink("l", f"x/../{UP}"),
        "with a slash at its end": symlink("l", f"{out}/"),
        "many times upwards": symlink("l", "../" * 40 + out.lstrip("/")),
    }
    attacks = {
        f"{name}, in one layer": [tar(at, "l/new", "l/private/new")] for name, at in through.items()
    }
    attacks |= {
        f"{name}, in a lower layer": [tar(at), tar(entry("l/secret", OWNED), "l/private/new")]
        for name, at in through.items()
    }
    return attacks | {
        "through a chain": [
            tar(symlink("a", "b"), symlink("b", "c"), symlink("c", out), entry("a/secret", OWNED))
        ],
        "through a link in a linked directory": [
            tar("d/", symlink("e", "d"), symlink("e/l", out), entry("d/l/secret", OWNED))
        ],
        "to the root, then upwards": [tar(symlink("l", ".."), entry("l/neighbour", OWNED))],
        "to the current directory, then upwards": [
            tar(symlink("l", "."), entry("l/../neighbour", OWNED))
        ],
        "a file over a link": [tar(symlink("l", f"{out}/secret"), entry("l", OWNED))],
        "a file over a link of a lower layer": [
            tar(symlink("l", f"{out}/secret")),
            tar(entry("l", OWNED, mode=0o777)),
        ],
        "a new file over a link to nothing": [
            tar(symlink("l", f"{out}/new")),
            tar(entry("l", OWNED)),
        ],
        "a directory over a link": [tar(symlink("l", out), entry("l/", mode=0o777), "l/new")],
        "a directory over a link of a lower layer": [
            tar(symlink("l", out)),
            tar(entry("l/", mode=0o777), entry("l/secret", OWNED)),
        ],
        "a link over a directory, before its times are set": [
            tar(entry("d/", mode=0o777, mtime=1), "d/x", symlink("d", out))
        ],
        "a link over a directory of a lower layer": [
            tar(entry("d/", mode=0o700, mtime=1), "d/secret", "d/private/"),
            tar(symlink("d", out)),
            tar(entry("d/secret", OWNED), "d/private/new"),
        ],
        "a link over a whiteout's directory": [
            tar("d/", "d/secret"),
            tar(".wh.d", symlink("d", out)),
            tar(entry("d/secret", OWNED)),
        ],
        "a link over the parent of an entry, and back": [
            tar("d/", symlink("e", out)),
            tar(".wh.d", symlink("d", "e"), entry("d/secret", OWNED), ".wh.e"),
        ],
        "to this process": [tar(symlink("l", "/proc/self/cwd"), "l/new", "l/../new")],
        "to the descriptors of this process": [
            tar(symlink("l", "/proc/self/fd"), *(f"l/{number}/new" for number in range(3, 12)))
        ],
        "in a circle": [tar(symlink("a", "b"), symlink("b", "a"), "a/new")],
    }


def hard_links(out: str) -> dict[str, Layers]:
    """Return hard links to the outside, and what is written to them."""
    targets = {
        "absolute": f"{out}/secret",
        "relative": f"{UP}/secret",
        "beside": "../neighbour",
        "behind a name": f"a/../{UP}/secret",
        "to a directory": f"{out}/private",
        "to a FIFO": f"{out}/fifo",
        "to a link": f"{out}/link",
        "to a device": "/dev/null",
    }
    attacks = {
        f"{name}, then a file": [tar("a/", link("h", target), entry("h", OWNED, mode=0o777))]
        for name, target in targets.items()
    }
    attacks |= {
        f"{name}, with another mode": [
            tar("a/"),
            tar(entry("h", type=tarfile.LNKTYPE, linkname=target, mode=0o4777, uid=1, mtime=1)),
        ]
        for name, target in targets.items()
    }
    to_secret = symlink("l", f"{out}/secret")
    return attacks | {
        "to a symbolic link": [tar(to_secret, link("h", "l"), entry("h", OWNED, mode=0o777))],
        "to a symbolic link of a lower layer": [
            tar(to_secret),
            tar(link("h", "l")),
            tar(entry("h", OWNED)),
        ],
        "to a symbolic link, with a mode": [
            tar(to_secret, entry("h", type=tarfile.LNKTYPE, linkname="l", mode=0o666, mtime=1))
        ],
        "to a symbolic link that leads outside from another directory": [
            tar("a/", "a/b/", symlink("a/b/l", UP), link("l", "a/b/l"), "l/new")
        ],
        "through a symbolic link": [
            tar(symlink("l", out), link("h", "l/secret"), entry("h", OWNED))
        ],
        "through a symbolic link of a lower layer": [
            tar(symlink("l", out)),
            tar(link("h", "l/secret"), entry("h", OWNED)),
        ],
        "into a linked directory": [
            tar(symlink("l", out), entry("f", OWNED), link("l/new", "f"), link("l/secret", "f"))
        ],
        "to the root": [tar(link("h", "."), "h/new")],
        "to what is above": [tar(link("h", ".."), "h/new")],
        "in a pax linkpath, unlike the header's": [
            tar(
                "a",
                entry(
                    "h",
                    type=tarfile.LNKTYPE,
                    linkname="a",
                    pax_headers={"linkpath": f"{out}/secret"},
                ),
                entry("h", OWNED),
            )
        ],
        "in a long GNU link": [
            tar(
                link("h", "a/" * 60 + "../" * 62 + "outside/secret"),
                entry("h", OWNED),
                form=tarfile.GNU_FORMAT,
            )
        ],
        "with no target": [tar(entry("h", type=tarfile.LNKTYPE, linkname=""))],
        "to itself": [tar(entry("h", OWNED), link("h", "h"), link("n", "n"))],
    }
