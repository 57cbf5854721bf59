"""Fixtures of the tests of streams."""

from __future__ import annotations

import random
import threading
from typing import TYPE_CHECKING

import pytest

from brolga.stream.compression import BLOCK_SIZE

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def large() -> bytes:
    """Several blocks and a bit, of bytes that compress somewhat."""
    words = random.Random(3)
    return b" ".join(b"%d" % words.randrange(9999) for _ in range(1_200_000))[: 5 * BLOCK_SIZE + 33]


@pytest.fixture
def no_thread_is_left() -> Iterator[None]:
    """No thread outlives a test, whatever it did to the stream."""
    before = living()
    yield
    assert living() <= before


def living() -> set[threading.Thread]:
    """Return the running threads.

    What Python calls a dummy is an entry for a thread of C that it came across (one that starts a
    worker, while garbage is collected in it), and stays after its end.
    """
    return {
        thread for thread in threading.enumerate() if not isinstance(thread, threading._DummyThread)
    }
