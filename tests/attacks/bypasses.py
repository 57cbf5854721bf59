"""What went through the checks of other programs."""

from __future__ import annotations

import tarfile
from typing import TYPE_CHECKING, Final

from tests.tars import entry, link, symlink, tar

if TYPE_CHECKING:
    from tests.attacks.corpus import Layers

__all__ = ["bypasses"]

UP: Final = "../../outside"
OWNED: Final = b"owned"


def bypasses(out: str) -> dict[str, Layers]:
    """Return what went through the filters of tarfile and other programs."""
    return {
        "CVE-2025-4517, a chain of links longer than PATH_MAX": [_long_chain(out)],
        "CVE-2025-4330, a hard link to a symbolic link of another depth": [
            tar("a/", "a/b/", symlink("a/b/c", UP), link("c", "a/b/c"), entry("c/secret", OWNED))
        ],
        "CVE-2025-4138, a link over a link": [
            tar("d/", symlink("d/up", ".."), symlink("l", "d/up/../.."), "l/new"),
            tar("l/outside/new", symlink("m", "l/outside"), entry("m/secret", OWNED)),
        ],
        "CVE-2024-12718, the mode and times of a directory outside": [
            tar(symlink("l", out), entry("l/", mode=0o777, mtime=1)),
            tar(entry("l/private/", mode=0o777, mtime=1), entry("x/../..", mode=0o777)),
        ],
        "CVE-2026-50163, a hard link through a link that comes later": [
            tar("d/", entry("d/secret", OWNED), link("h", "d/secret")),
            tar(symlink("d", out), link("h", "d/secret"), entry("h", OWNED)),
        ],
        "CVE-2026-23745, a link to an absolute name": [
            tar(link("h", f"{out}/secret"), symlink("s", f"{out}/secret"), entry("s", OWNED))
        ],
        "CVE-2025-45582, a link of one archive, a file of the next": [
            tar(symlink("x", UP)),
            tar(entry("x/secret", OWNED)),
        ],
        "empty names of links (python/cpython#149486)": [
            tar(symlink("", ".."), symlink("./", ".."), entry("./neighbour", OWNED))
        ],
        "a hard link whose target is not there (python/cpython#151558)": [
            tar(symlink("l", f"{out}/secret"), link("h", "l/../x"), link("l", "gone"), "l")
        ],
        "a hard link that follows a link (python/cpython#157190)": [
            tar(
                symlink("l", f"{out}/secret"),
                entry("h", type=tarfile.LNKTYPE, linkname="l", mode=0o777, mtime=1),
                entry("h", OWNED, mode=0o777),
            )
        ],
    }


def _long_chain(out: str) -> bytes:
    """Build a path of links whose real path is longer than PATH_MAX, and leave it upwards."""
    component, steps = "d" * 247, "abcdefghijklmnop"
    members, path = [], ""
    for step in steps:
        members += [entry(f"{path}{component}/"), symlink(f"{path}{step}", component)]
        path += f"{component}/"
    short = "/".join(steps)
    members += [
        symlink(f"{short}/{'l' * 254}", "../" * len(steps)),
        symlink("escape", f"{short}/{'l' * 254}/{UP}"),
        link("flaglink", "escape/secret"),
        entry("flaglink", OWNED),
        entry("escape/new", OWNED),
        symlink("far", f"{short}/{'l' * 254}/{out}"),
        entry("far/secret", OWNED, mode=0o777),
    ]
    return tar(*members)
