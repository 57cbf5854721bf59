"""Readers of the compressed formats that share no code with brolga."""

from __future__ import annotations

import gzip
import sys
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["DECOMPRESS"]


def _zstd(data: bytes) -> bytes:
    name = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
    return bytes(import_module(name).decompress(data))


DECOMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.decompress,
    "zstd": _zstd,
    "none": bytes,
}
