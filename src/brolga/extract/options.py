"""What to extract of an image, and how."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final

from brolga.errors import ExtractionError
from brolga.extract.limits import DEFAULT_LIMITS, ExtractLimits
from brolga.extract.selection import Selection
from brolga.spec.value import Value

_MAX_ID: Final = 2**32 - 2  # the next one means "unchanged" in chown(2)


class ExtractOptions(Value, kw_only=True):
    """What to extract of an image, and how.

    `only` has the paths to extract, with all that is below them; if it is empty, everything is
    extracted. `devices` creates device nodes, and `setuid` keeps what gives a program the rights of
    others: the setuid and setgid bits, and file capabilities. `map_owner` is the user and group of
    all files; None keeps those of the image if root extracts it.

    `strict` makes an error of an entry on which readers differ. What is left out, and without
    `strict` such an entry too, is reported to `on_warning` as a line of text, by default as a
    LayerWarning. `clean` deletes what an interrupted extraction left, and starts over.

    Raises ExtractionError if an owner is not valid, LayerError for a path that leads upwards.
    """

    only: tuple[str, ...] = ()
    devices: bool = False
    setuid: bool = False
    map_owner: tuple[int, int] | None = None
    limits: ExtractLimits = DEFAULT_LIMITS
    strict: bool = False
    on_warning: Callable[[str], object] | None = None
    clean: bool = False

    def __post_init__(self) -> None:
        """Check the paths and the owner."""
        self.selection  # noqa: B018 - it is valid
        if self.map_owner is not None and not all(0 <= each <= _MAX_ID for each in self.map_owner):
            raise ExtractionError(f"an owner has numbers from 0 to {_MAX_ID}")

    @property
    def selection(self) -> Selection:
        """The paths of `only`. Raises LayerError for one that leads upwards."""
        return Selection.of(map(os.fsencode, self.only))


DEFAULT_OPTIONS: Final = ExtractOptions()
