"""Extract attacks below a guarded tree; as a program, as an ordinary user.

The program is started by root. It does everything twice: first as root, so that what is imported
is loaded, since an ordinary user may not be able to read it.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, given, settings
from tests.attacks.corpus import ATTACKS, attack
from tests.drawn_layers import STACKS, Drawn
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


def _run_all(examples: int, step: int) -> None:
    """Run all attacks, so many drawn ones, and those of each so many steps of an extraction."""
    from tests.property import test_extract_properties as properties

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(stack_of=properties.HOSTILE)
    def extract_hostile(stack_of: list[list[properties.Hostile]]) -> None:
        properties.extract_hostile(stack_of, everything=True)

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(stack_of=STACKS, form=properties.FORMS)
    def compare_with_reference(stack_of: list[list[Drawn]], form: int) -> None:
        properties.compare_with_reference(stack_of, form)

    for name in ATTACKS:
        if changes := run_attack(name, everything=True):
            print(name, changes)  # noqa: T201 - the result of the program
    extract_hostile()
    compare_with_reference()
    for compare in (compare_killed, compare_swapped):
        for problem in compare(lambda steps: range(1, steps, step)):
            print(problem)  # noqa: T201


def _main() -> int:
    _run_all(examples=5, step=50)
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    os.chdir("/")
    _run_all(examples=100, step=5)
    return 0


if __name__ == "__main__":
    sys.exit(_main())
