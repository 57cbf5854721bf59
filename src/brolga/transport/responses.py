"""The warnings that responses of registries carry."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from brolga.errors import one_line
from brolga.transport.forks import ForkSafeLock

if TYPE_CHECKING:
    from collections.abc import Callable

_MAX_WARNINGS: Final = 100  # in all
_MAX_HEADER: Final = 8192  # characters of a Warning header that are read
_MAX_WARNING: Final = 300  # characters of one warning
# `299 - "text"`: code, agent, text as a quoted-string (RFC 7234, section 5.5).
_WARNING: Final = re.compile(r'(?:^|,)\s*299 [^\s",]++ "((?:[^"\\]|\\.)*+)"')


class Warnings:
    """Warnings of registries (distribution-spec, Warnings); each text of a host is reported once.

    `on_warning` is called with host and text. Threads may share an instance.
    """

    def __init__(self, on_warning: Callable[[str, str], None]) -> None:
        self._on_warning = on_warning
        self._seen: set[tuple[str, str]] = set()
        self._lock = ForkSafeLock()

    def report(self, host: str, header: str) -> None:
        """Report the new texts of a Warning header."""
        for match in _WARNING.finditer(header[:_MAX_HEADER]):
            text = re.sub(r"\\(.)", r"\1", match[1]).encode("latin-1").decode("utf-8", "replace")
            warning = host, one_line(text, _MAX_WARNING)
            with self._lock:
                is_new = warning not in self._seen and len(self._seen) < _MAX_WARNINGS
                if is_new:
                    self._seen.add(warning)
            if is_new:
                self._on_warning(*warning)
