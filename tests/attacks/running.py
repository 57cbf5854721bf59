"""Extract attacks below a guarded tree; as a program, as an ordinary user.

The program is started by root. It does everything twice: first as root, so that what is imported
is loaded, since an ordinary user may not be able to read it.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from tests.attacks.corpus import ATTACKS, attack
from tests.guard import guarded
from tests.killed_extraction import compare_killed, compare_swapped
from tests.tars import layer

from brolga.errors import BrolgaError
from brolga.extract import ExtractOptions, extract_layers

if TYPE_CHECKING:
    from tests.file_trees import Item

__all__ = ["run_attack"]

NOBODY = 65534


def run_attack(name: str, *, everything: bool) -> dict[bytes, tuple[Item | None, Item | None]]:
    """Extract the layers of an attack; return what it changed outside.

    `everything` allows devices, setuid bits and file capabilities. Any error but one of ours is
    raised.
    """
    options = ExtractOptions(devices=everything, setuid=everything, on_warning=lambda _: None)
    with guarded() as guard:
        layers = [layer(data) for data in attack(name, guard.outside)]
        with suppress(BrolgaError):
            extract_layers(layers, guard.directory, options)
        return guard.changes()


def _main() -> int:
    from tests.property import test_extract_properties as properties

    def run_all() -> None:
        for name in ATTACKS:
            if changes := run_attack(name, everything=True):
                print(name, changes)  # noqa: T201 - the result of the program
        properties.IS_ROOT = os.geteuid() == 0
        properties.test_extract_layers_changes_nothing_outside()
        properties.test_extract_layers_equals_plain_reader()

    run_all()
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    os.chdir("/")
    run_all()
    for compare in (compare_killed, compare_swapped):
        for problem in compare(lambda steps: range(1, steps, 7)):
            print(problem)  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(_main())
