"""Make the inputs of three kinds. The same machine and size give the same bytes.

Run as a program of its own (`inputs.py KIND FILE BYTES`), because the memory that
writing a tar needs would count as peak memory of every program started afterwards (see process).
"""

from __future__ import annotations

import math
import os
import random
import sys
import tarfile
from itertools import accumulate, chain, count
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB = 1 << 20

# Programs and libraries, then text and data: what layers of images are made of.
_ROOTS = ("/usr/lib", "/usr/share", "/usr/bin", "/usr/local", sys.base_prefix)
# The spread of a linear layer's weights. Only the exponents depend on it.
_WEIGHT_SIGMA = 0.02


def kinds() -> dict[str, str]:
    """Return the description of each kind of input."""
    return {
        "tree": "a real file tree (/usr/lib, /usr/share, ...) as tar",
        "weights": "bfloat16 weights, normal with sigma 0.02",
        "random": "random bytes",
    }


def write(kind: str, path: Path, size: int) -> None:
    """Write about `size` bytes of `kind` to `path`: a tar ends at a whole file."""
    if kind == "tree":
        _write_tree(path, size)
        return
    block = _weights_block if kind == "weights" else _random_block
    source = random.Random(kind)  # noqa: S311 - it must be the same bytes each time
    with path.open("wb") as out:
        for start in range(0, size, MIB):
            out.write(block(source)[: size - start])


def _random_block(source: random.Random) -> bytes:
    return source.randbytes(MIB)


def _weights_block(source: random.Random) -> bytes:
    """Return 1 MiB of little-endian bfloat16.

    The high byte, which is the sign and seven bits of the exponent, has the distribution of a
    normal variable; the low byte, which is nearly all mantissa, is uniform.
    """
    block = bytearray(MIB)
    block[0::2] = source.randbytes(MIB // 2)
    block[1::2] = source.randbytes(MIB // 2).translate(_HIGH_BYTES)
    return bytes(block)


def _high_byte_table() -> bytes:
    """Return 256 high bytes, each as often as a normal variable has it."""
    shares: list[float] = []
    for high in range(128):  # the exponents 2 * high and 2 * high + 1, biased by 127
        low, top = 2.0 ** (2 * high - 127), 2.0 ** min(2 * high - 125, 127)
        shares.append(_below(top) - _below(low))
    ends = [round(128 * share) for share in accumulate(shares)]
    half = bytearray()
    for high, end in enumerate(ends):
        half += bytes([high]) * (end - len(half))
    return bytes(half) + bytes(value | 0x80 for value in half)


def _below(magnitude: float) -> float:
    """Return the share of weights whose magnitude is smaller."""
    return math.erf(magnitude / _WEIGHT_SIGMA / math.sqrt(2))


_HIGH_BYTES = _high_byte_table()


def _write_tree(path: Path, size: int) -> None:
    """Write a tar of real files until it has `size` bytes, repeating them if there are less."""
    left = size
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for copy in count():
            for member in _members(_ROOTS):
                before = tar.offset
                _add(tar, member, f"{copy}{member}", left)
                left -= tar.offset - before
                if left < tarfile.RECORDSIZE:
                    return
            if left == size:
                raise SystemExit("inputs: found no readable file for the file tree")


def _members(roots: tuple[str, ...]) -> Iterator[Path]:
    """Walk the roots by directory: those in an order that favours none, its files by name."""
    walks = chain.from_iterable(os.walk(root) for root in roots)
    directories = sorted((directory, sorted(files)) for directory, _, files in walks)
    random.Random("tree").shuffle(directories)  # noqa: S311 - the same order each time
    for directory, files in directories:
        for name in files:
            yield Path(directory, name)


def _add(tar: tarfile.TarFile, member: Path, name: str, left: int) -> None:
    """Add one regular file or symbolic link, unless it is unreadable or larger than `left`."""
    try:
        info = tar.gettarinfo(member, name)
        if info.issym():
            tar.addfile(info)
        elif info.isreg() and info.size <= left - 4 * tarfile.BLOCKSIZE:
            with member.open("rb") as content:
                tar.addfile(info, content)
    except PermissionError:
        return


if __name__ == "__main__":
    write(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
