"""`brolga layout`: what is done to an image layout as a whole.

Knows flags, and how what was done is printed. Must not know what a layout is.
"""

from __future__ import annotations

import re
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

import click

from brolga.cli.click_ext import Verbs
from brolga.cli.output import result, say, warn

if TYPE_CHECKING:
    from brolga.stores.layout import GCResult

__all__ = ["command"]

_UNITS: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_AGE: Final = re.compile(r"([0-9]{1,9})([smhd]?)", re.ASCII)
# The backspace keeps click from filling the lines.
_EXAMPLES: Final = """\b
Examples:
  brolga layout gc build
  brolga layout gc --untagged --older-than 0 build
"""


class _Age(click.ParamType):  # type: ignore[type-arg] # not generic before click 8.4
    """A time, in seconds, minutes, hours or days."""

    name = "age"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        match = _AGE.fullmatch(str(value))
        if match is None:
            self.fail(f"{value!r} is not a time: a number with s, m, h or d after it", param, ctx)
        return float(int(match[1]) * _UNITS[match[2]])


@click.group("layout", cls=Verbs)
def command() -> None:
    """Maintain an OCI image layout."""


@command.command("gc", epilog=_EXAMPLES)
@click.argument("directory", metavar="DIR")
@click.option(
    "--older-than",
    "older_than_s",
    type=_Age(),
    default="1h",
    show_default=True,
    metavar="TIME",
    help="Leave what is younger: a client of a registry on DIR may want it.",
)
@click.option(
    "--untagged", is_flag=True, help="Delete images without a name too, but their referrers."
)
@click.option("--dry-run", is_flag=True, help="Delete nothing; tell what would be.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def gc(
    *, directory: str, older_than_s: float, untagged: bool, dry_run: bool, as_json: bool
) -> None:
    """Delete the blobs that no image of a layout refers to.

    Pushes that brolga makes into DIR at the same time are waited for. What clients push to a
    registry that serves DIR is kept by its age: with --older-than 0 none must be running.

    Prints what was deleted. With --json: blobs, size (bytes of them), young (blobs that were left
    for their age), scratch (files that were left by writers), unread (manifests that cannot be
    read, with the reason; all that they mention is left).
    """
    from brolga.stores.layout import Layout

    swept = Layout(directory.removeprefix("oci:")).gc(
        older_than_s=older_than_s,
        untagged=untagged,
        dry_run=dry_run,
        waiting=lambda: say(f"brolga: waiting for whoever writes into {directory}"),
    )
    for one in swept.unread:
        warn(directory, f"manifest {one}; all that it mentions is left")
    result(_line(swept, dry_run=dry_run), asdict(swept), as_json=as_json)


def _line(swept: GCResult, *, dry_run: bool) -> str:
    line = f"{'would delete' if dry_run else 'deleted'} {_count(swept.blobs, 'blob')}"
    line += f" of {_count(swept.size, 'byte')}"
    if swept.scratch:
        line += f", {_count(swept.scratch, 'file')} left over"
    return f"{line}; left {_count(swept.young, 'young one')}" if swept.young else line


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
