"""`brolga layout`: maintain an image layout."""

import click

from brolga.cli.click_ext import VerbGroup, examples
from brolga.cli.output import eprint, print_result, print_warning
from brolga.cli.params import Parsed, parse_duration
from brolga.spec.value import as_dict
from brolga.stores.layout import GCResult, Layout


@click.group("layout", cls=VerbGroup)
def command() -> None:
    """Maintain an OCI image layout."""


@command.command(
    "gc",
    epilog=examples("brolga layout gc build", "brolga layout gc --untagged --older-than 0 build"),
)
@click.argument("directory", metavar="DIR")
@click.option(
    "--older-than",
    "older_than_s",
    type=Parsed(parse_duration),
    default="1h",
    show_default=True,
    metavar="TIME",
    help="Keep younger blobs: a client of a registry on DIR may need them.",
)
@click.option(
    "--untagged",
    is_flag=True,
    help="Also delete images without a name, unless they refer to one that stays.",
)
@click.option("--dry-run", is_flag=True, help="Delete nothing; print what would be deleted.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def gc(
    *, directory: str, older_than_s: float, untagged: bool, dry_run: bool, as_json: bool
) -> None:
    """Delete the blobs that no image of a layout refers to.

    It waits for pushes of brolga into DIR. If a registry serves DIR, blobs that its clients are
    pushing are kept because of their age: with --older-than 0, no client may push meanwhile.

    Prints what was deleted. With --json: blobs, size (their bytes), young (blobs kept because of
    their age), scratch (files that interrupted writers left), unread (manifests that cannot be
    read, with the reason; what they refer to is kept).
    """
    collected = Layout(directory.removeprefix("oci:")).gc(
        older_than_s=older_than_s,
        untagged=untagged,
        dry_run=dry_run,
        waiting=lambda: eprint(f"brolga: waiting for another writer of {directory}"),
    )
    for manifest in collected.unread:
        print_warning(directory, f"manifest {manifest}; what it refers to is kept")
    print_result(_format(collected, dry_run=dry_run), as_dict(collected), as_json=as_json)


def _format(collected: GCResult, *, dry_run: bool) -> str:
    line = f"{'would delete' if dry_run else 'deleted'} {_count(collected.blobs, 'blob')}"
    line += f" of {_count(collected.size, 'byte')}"
    if collected.scratch:
        line += f", {_count(collected.scratch, 'file')} left over"
    return f"{line}; kept {_count(collected.young, 'young one')}" if collected.young else line


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
