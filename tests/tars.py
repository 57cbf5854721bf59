"""Tar archives for the tests, written and listed by the standard library."""

from __future__ import annotations

import io
import tarfile
from typing import TYPE_CHECKING

from brolga.images import InMemoryBlob
from brolga.images.flatten import merge_layers
from brolga.spec.mediatypes import OCI_LAYER

if TYPE_CHECKING:
    from collections.abc import Callable

    from brolga.spec.blob import Blob

__all__ = [
    "DIR",
    "LNK",
    "REG",
    "SYM",
    "entry",
    "layer",
    "link",
    "listed",
    "merged",
    "names",
    "single",
    "symlink",
    "tar",
]

REG, LNK, SYM, DIR = tarfile.REGTYPE, tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.DIRTYPE


def entry(name: str, data: bytes = b"", **members: object) -> tuple[tarfile.TarInfo, bytes]:
    """Make an entry: a directory if the name ends with a slash, else a file."""
    info = tarfile.TarInfo(name.removesuffix("/") or "/")
    info.type, info.mode = (DIR, 0o755) if name.endswith("/") else (REG, 0o644)
    info.size = len(data)
    for member, value in members.items():
        setattr(info, member, value)
    return info, data


def link(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    return entry(name, type=LNK, linkname=target)


def symlink(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    return entry(name, type=SYM, linkname=target)


def tar(*members: tuple[tarfile.TarInfo, bytes] | str, form: int = tarfile.PAX_FORMAT) -> bytes:
    """Write a tar of entries; a text is the name of an empty file or a directory."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for member in members:
            info, data = entry(member) if isinstance(member, str) else member
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def layer(data: bytes, media_type: str = OCI_LAYER) -> Blob:
    return InMemoryBlob(data, media_type)


def merged(
    *tars: bytes,
    strict: bool = False,
    on_warning: Callable[[str], object] | None = None,
    spool: bool = False,
) -> bytes:
    layers = [layer(data) for data in tars]
    return b"".join(merge_layers(layers, strict=strict, on_warning=on_warning, spool=spool))


def listed(data: bytes) -> dict[str, tuple[bytes, bytes]]:
    """Return the entries of a tar by name: the type, and the content or target."""
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {member.name: (member.type, _content(archive, member)) for member in archive}


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    if member.isreg():
        content = archive.extractfile(member)
        assert content is not None
        return content.read()
    return member.linkname.encode()


def names(data: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return archive.getnames()


def single(data: bytes) -> tarfile.TarInfo:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        (member,) = archive
    return member
