"""Small streams that become large."""

from __future__ import annotations

import gzip
import tarfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["zeros_bomb"]

_MEMBER = 64 << 20


def zeros_bomb(size: int, compress: Callable[[bytes], bytes] = gzip.compress) -> bytes:
    """Return a compressed tar with one file of zeros, made of members or frames of 64 MiB."""
    info = tarfile.TarInfo("zeros")
    info.size = size
    zeros = compress(bytes(_MEMBER))
    return compress(info.tobuf()) + zeros * (size // _MEMBER) + compress(bytes(1024))
