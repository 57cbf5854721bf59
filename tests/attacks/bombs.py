"""Small streams that become large."""

from __future__ import annotations

import gzip
import tarfile

__all__ = ["zeros_bomb"]

_MEMBER = 64 << 20


def zeros_bomb(size: int) -> bytes:
    """Return a gzip stream of a tar with one file of zeros, made of members of 64 MiB."""
    info = tarfile.TarInfo("zeros")
    info.size = size
    zeros = gzip.compress(bytes(_MEMBER), 1, mtime=0)
    end = gzip.compress(bytes(1024), mtime=0)
    return gzip.compress(info.tobuf(), mtime=0) + zeros * (size // _MEMBER) + end
