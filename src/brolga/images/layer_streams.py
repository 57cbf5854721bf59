"""The uncompressed bytes of layers that are read one after the other.

While one is read, a thread decompresses it ahead, and another reads the next one. The bytes that
wait are bounded, whatever the number of layers and their sizes.
"""

from __future__ import annotations

from collections import deque
from contextlib import closing
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Final, TypeAlias

from brolga.spec.blob import runs_user_code
from brolga.stream.decompression import decompress
from brolga.stream.read_ahead import ReadAhead

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from brolga.spec.blob import Blob, Block
    from brolga.stream.decompression import Limits

    _Blocks: TypeAlias = "Generator[Block, None, object] | ReadAhead"

MAX_LAYERS: Final = 2  # that are read at a time: each has some MiB in memory
# Bytes that wait at most, and one block more.
_COMPRESSED: Final = 2 << 20  # of each layer
_UNCOMPRESSED: Final = 2 << 20  # of the layer that is read


def open_layers(
    layers: Sequence[Blob], limits: Limits, jobs: int = MAX_LAYERS
) -> Generator[_Blocks, None, None]:
    """Yield the blocks of each layer, which end when those of the next one are requested.

    Up to `jobs` layers are read at a time, and no more than MAX_LAYERS. A layer of the user's code
    is read in the thread that reads its blocks. Reading them raises CorruptBlob as `decompress`
    does, and what reading the layer raises.
    """
    started: deque[_Blocks] = deque()
    rest, count = iter(layers), max(1, min(jobs, MAX_LAYERS))
    try:
        for _ in layers:
            started.extend(map(_start, islice(rest, count - len(started))))
            compressed = started[0]
            # The innermost is closed first, as it wakes the one that waits for it.
            with closing(_decompressed(compressed, limits)) as blocks, closing(compressed):
                yield blocks
            started.popleft()
    finally:
        for compressed in started:
            compressed.close()


def _start(layer: Blob) -> _Blocks:
    """Return the bytes of a layer, which are read from now on, unless the user's code runs then."""
    if runs_user_code(layer):
        return _read(layer)
    ahead = ReadAhead(partial(_read, layer), limit=_COMPRESSED)
    ahead.start()
    return ahead


def _read(layer: Blob) -> Generator[Block, None, None]:
    with layer.open() as stream:
        yield from stream


def _decompressed(compressed: _Blocks, limits: Limits) -> _Blocks:
    if isinstance(compressed, ReadAhead):
        return ReadAhead(partial(decompress, compressed, limits), limit=_UNCOMPRESSED)
    return decompress(compressed, limits)
