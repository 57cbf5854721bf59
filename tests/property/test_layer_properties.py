"""The compressed bytes of a layer depend only on the source's bytes."""

from __future__ import annotations

import hashlib
import os
import threading
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.formats import DECOMPRESS

from brolga import StreamLayer
from brolga.stream.compression import BLOCK_SIZE

# Around the borders of blocks, and of the window before them.
SIZES = st.one_of(
    st.integers(0, 100),
    st.sampled_from([BLOCK_SIZE * n + d for n in (1, 2, 3) for d in (-1, 0, 1)]),
    st.integers(0, 3 * BLOCK_SIZE),
)
CODECS = st.sampled_from([("gzip", 1), ("gzip", 2), ("gzip", 6), ("zstd", 1), ("none", None)])


def made(size: int, seed: int) -> bytes:
    """Bytes that compress by about half, of any size, quickly."""
    noise = hashlib.shake_256(b"%d" % seed).digest(1 + size // 2)
    return (noise + noise)[:size] if size % 2 else bytes(a // 16 for a in noise + noise)[:size]


@settings(max_examples=40, deadline=None)
@given(
    size=SIZES,
    seed=st.integers(0, 9),
    cuts=st.lists(st.integers(0, 3 * BLOCK_SIZE), max_size=12),
    codec=CODECS,
    threads=st.integers(1, 5),
)
def test_output_does_not_depend_on_threads_or_pieces(
    size: int, seed: int, cuts: list[int], codec: tuple[str, int | None], threads: int
) -> None:
    """The bytes do not depend on the number of threads or on block boundaries of the source."""
    data = made(size, seed)
    borders = [0, *sorted(min(cut, size) for cut in cuts), size]
    reference = StreamLayer([data], *codec, threads=1)
    layer = StreamLayer([data[a:b] for a, b in pairwise(borders)], *codec, threads=threads)
    with reference.open() as one, layer.open() as other:
        out = other.read()
        assert one.read() == out
    assert DECOMPRESS[codec[0]](out) == data
    assert (layer.digest, layer.size) == (reference.digest, reference.size)
    assert layer.diff_id.encoded == hashlib.sha256(data).hexdigest()


@settings(max_examples=20, deadline=None)
@given(
    size=SIZES,
    writes=st.lists(st.integers(1, BLOCK_SIZE), min_size=1, max_size=8),
    reads=st.lists(st.integers(1, 2 * BLOCK_SIZE), min_size=1, max_size=8),
    threads=st.integers(1, 3),
)
def test_layer_of_pipe_does_not_depend_on_timing(
    size: int, writes: list[int], reads: list[int], threads: int
) -> None:
    """Nor do they depend on timing: on how the producer writes and the consumer reads."""
    data = made(size, 1)
    reader, writer = os.pipe()

    def produce() -> None:
        with os.fdopen(writer, "wb", buffering=0) as out:
            at = turn = 0
            while at < size:
                at += out.write(data[at : at + writes[turn % len(writes)]]) or 0
                turn += 1

    producer = threading.Thread(target=produce)
    producer.start()
    with os.fdopen(reader, "rb") as file, StreamLayer(file, threads=threads).open() as stream:
        parts, turn = [], 0
        while part := stream.read(reads[turn % len(reads)]):
            parts.append(part)
            turn += 1
    producer.join()
    with StreamLayer([data]).open() as whole:
        assert b"".join(parts) == whole.read()
