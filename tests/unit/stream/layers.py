"""Helpers for the tests of layers."""

from __future__ import annotations

import hashlib

import pytest

from brolga import (
    Digest,
    NotComputed,
    StreamLayer,
)

SMALL = b"brolga wades in streams\n" * 1000

RESULTS = ("digest", "diff_id", "size", "uncompressed_size", "descriptor")


def sha256(data: bytes) -> Digest:
    return Digest("sha256", hashlib.sha256(data).hexdigest())


def drain(layer: StreamLayer) -> bytes:
    with layer.open() as stream:
        return b"".join(stream)


def assert_not_computed(layer: StreamLayer) -> None:
    for name in RESULTS:
        with pytest.raises(NotComputed, match=f"{name} is not known until"):
            getattr(layer, name)
