"""What a user is told about entries that are not extracted as they are."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Final

from brolga.errors import LayerError
from brolga.images.layer_notes import LayerWarning

_MAX_WARNINGS: Final = 100  # of one image


class Report:
    """Passes on warnings, up to a number. `place` is the layer that is extracted."""

    def __init__(self, on_warning: Callable[[str], object] | None, *, strict: bool) -> None:
        self.place = ""
        self._on_warning = on_warning or _warn
        self._strict = strict
        self._count = 0

    def warn(self, text: str) -> None:
        """Report something that is left out."""
        self._count += 1
        if self._count <= _MAX_WARNINGS:
            self._on_warning(f"{self.place}: {text}")
        elif self._count == _MAX_WARNINGS + 1:
            self._on_warning(f"{self.place}: there is more to report, which is not named")

    def report_difference(self, text: str) -> None:
        """Report an entry on which readers differ. Raises LayerError if that is an error."""
        if self._strict:
            raise LayerError(text)
        self.warn(text)


def _warn(text: str) -> None:
    warnings.warn(text, LayerWarning, stacklevel=4)
