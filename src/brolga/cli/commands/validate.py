"""`brolga validate`: whether images are what they say they are.

Knows flags, and how problems are printed. Must not know what can be wrong with an image.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from brolga.cli.click_ext import Verb
from brolga.cli.client_factory import Connection, open_client
from brolga.cli.local_paths import found
from brolga.cli.options import json_flag, platform_flag, registry_flags
from brolga.cli.output import result, say
from brolga.errors import one_line

if TYPE_CHECKING:
    from brolga.images.validate import Problem
    from brolga.spec.digest import Digest
    from brolga.spec.platform import Platform
    from brolga.stores.location import ImageRef

__all__ = ["command"]

_INTEGRITY: Final = 6  # exit code
# The backspace keeps click from filling the lines.
_EXAMPLES: Final = """\b
Examples:
  brolga validate --remote registry.example/team/app:v1
  brolga validate --fast --remote registry.example/team/app:v1
"""


@click.command("validate", cls=Verb, epilog=_EXAMPLES)
@click.option("--remote", "ref", metavar="REF", help="The image or index to check.")
@click.option(
    "--tarball", "path", metavar="PATH", help="The archive or layout on this machine to check."
)
@click.option("--fast", is_flag=True, help="Read only manifests and configs, no layers.")
@platform_flag
@json_flag
@registry_flags
def command(  # noqa: PLR0913 - the flags of the verb
    *,
    ref: str | None,
    path: str | None,
    fast: bool,
    platform: Platform | None,
    as_json: bool,
    connection: Connection,
) -> None:
    """Verify an image and everything in it.

    Every blob is read, and digests, sizes, DiffIDs, media types and tar entries are checked, and
    that manifest, config and history agree. If REF is an index, everything in it is checked, or the
    image for --platform.

    Prints PASS: REF, or FAIL: REF: PROBLEM for each problem; then the exit code is 6. With --json:
    ref, digest, valid, problems (each with place and what).
    """
    from brolga.images.validate import validate
    from brolga.stores.location import parse_image_ref, registry_of

    if (ref is None) == (path is None):
        raise click.UsageError("give either --remote REF or --tarball PATH")
    reference = parse_image_ref(ref) if ref is not None else found(str(path))
    problems = []
    with open_client(connection) as client:
        # As it is: what is compressed on the way to a registry is not there to be checked.
        tree = (
            client.image(reference, platform, compress_layers=False)
            if platform
            else client.get(reference, compress_layers=False)
        )
        for problem in validate(tree, fast=fast):
            problems.append(problem)
            if not as_json:
                result(f"FAIL: {reference}: {one_line(str(problem))}")
    _print(reference, tree.digest, problems, as_json=as_json)
    if problems:
        # A registry is not asked for blobs below a manifest that it has.
        side, how = ("registry", " with --recheck") if registry_of(reference) else ("local", "")
        say(f"brolga: {side}: {reference} is not valid; push it again{how}")
        raise click.exceptions.Exit(_INTEGRITY)


def _print(reference: ImageRef, digest: Digest, problems: list[Problem], *, as_json: bool) -> None:
    from brolga.stores.location import with_digest

    if as_json or not problems:
        fields = {
            "ref": str(with_digest(reference, digest)),
            "digest": str(digest),
            "valid": not problems,
            "problems": [{"place": one.place, "what": one.what} for one in problems],
        }
        result(f"PASS: {reference}", fields, as_json=as_json)
