"""An answer on its way in: its headers, a small body at once, a large one block by block.

Knows how much of an answer is kept, and what a Warning header says. Must not know what it answers.
"""

from __future__ import annotations

import re
import threading
import time
from contextlib import closing
from typing import TYPE_CHECKING, Final

import httpcore2 as httpcore

from brolga.errors import one_line
from brolga.transport.failures import FAILURES
from brolga.transport.forks import after_fork
from brolga.transport.outgoing import UNDER_WAY, Outgoing, under_way
from brolga.transport.pace import LOWEST_RATE, Pace

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

    from brolga.errors import TransportError

__all__ = ["Warnings", "capped", "headers", "streamed"]

_MAX_BODY: Final = 4 << 20  # bytes of an answer that are kept (the spec's bound of a manifest)
_MAX_WARNINGS: Final = 100  # in all; a registry may not fill the memory with them
_MAX_HEADER: Final = 8192  # characters of a Warning header that are read
_MAX_WARNING: Final = 300  # characters of one warning
# `299 - "text"`: code, agent, text as a quoted-string (RFC 7234, section 5.5).
_WARNING: Final = re.compile(r'(?:^|,)\s*299 [^\s",]++ "((?:[^"\\]|\\.)*+)"')


def headers(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return headers by lower-case name; those that came twice are joined (RFC 9110, 5.3)."""
    joined: dict[str, str] = {}
    for name, value in raw:
        key, text = name.decode("ascii").lower(), value.decode("latin-1")
        joined[key] = f"{joined[key]}, {text}" if key in joined else text
    return joined


def capped(blocks: Iterable[bytes], seconds: float) -> bytes:
    """Return what comes of an answer in `seconds`, at most `_MAX_BODY` bytes.

    The rest is not read: an answer that drips must not hold anybody up.
    """
    end = time.monotonic() + seconds
    body = bytearray()
    for block in blocks:
        body += block
        if len(body) >= _MAX_BODY or time.monotonic() > end:
            break
    return bytes(body[:_MAX_BODY])


def streamed(
    response: httpcore.Response, failed: Callable[[Exception], TransportError], seconds: float
) -> Generator[bytes, None, None]:
    """Return the blocks of an answer's body as they come, at most 256 KiB each.

    At their end the connection goes back to its pool; closed before, the connection is closed.
    They raise what `failed` makes of the library's error if the body is cut or stalls, or comes
    more slowly than the lowest rate while `seconds` are waited for it.
    """
    blocks = _blocks(response, failed, seconds)
    next(blocks)  # a generator that was never started would not close anything
    return blocks


def _blocks(
    response: httpcore.Response, failed: Callable[[Exception], TransportError], seconds: float
) -> Generator[bytes, None, None]:
    outgoing = UNDER_WAY.get()
    with closing(response):
        yield b""
        try:
            yield from _paced(iter(response.iter_stream()), seconds, outgoing)
        except FAILURES as error:
            raise failed(error) from error


def _paced(
    blocks: Iterator[bytes], seconds: float, outgoing: Outgoing
) -> Generator[bytes, None, None]:
    """Yield blocks. Raises ReadTimeout of the library if they come too slowly.

    Another request may be under way by now, whose body these blocks are: it is not the one that
    is waited for.
    """
    pace = Pace()
    while True:
        began = time.monotonic()
        with under_way(outgoing):
            block = next(blocks, None)
        if block is None:
            return
        if pace.is_too_slow(time.monotonic() - began, len(block), seconds):
            raise httpcore.ReadTimeout(f"less than {LOWEST_RATE} bytes a second came")
        yield block


class Warnings:
    """What registries warn of (distribution-spec, Warnings), each text of a host told once.

    `tell` is called with host and text. Threads may share one.
    """

    def __init__(self, tell: Callable[[str, str], None]) -> None:
        self._tell = tell
        self._told: set[tuple[str, str]] = set()
        self.renew()
        after_fork(self)

    def renew(self) -> None:
        """Make a new lock: a child process has the old one as it stood."""
        self._lock = threading.Lock()

    def hear(self, host: str, header: str) -> None:
        """Tell the texts of a Warning header that were not told before."""
        for match in _WARNING.finditer(header[:_MAX_HEADER]):
            warning = host, _readable(match[1])
            with self._lock:
                is_new = warning not in self._told and len(self._told) < _MAX_WARNINGS
                if is_new:
                    self._told.add(warning)
            if is_new:
                self._tell(*warning)


def _readable(quoted: str) -> str:
    """Return a quoted-string's text as one short printable line."""
    text = re.sub(r"\\(.)", r"\1", quoted).encode("latin-1").decode("utf-8", "replace")
    return one_line(text, _MAX_WARNING)
