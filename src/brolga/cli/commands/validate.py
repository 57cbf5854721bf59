"""`brolga validate`: verify an image and everything in it."""

from typing import Final

import click

from brolga.cli import options
from brolga.cli.click_ext import verb
from brolga.cli.client_factory import open_client
from brolga.cli.local_paths import parse_source_path
from brolga.cli.output import eprint, print_result
from brolga.errors import one_line
from brolga.images.validate import validate
from brolga.spec.platform import Platform
from brolga.stores.location import parse_image_ref, registry_of, with_digest

_INTEGRITY: Final = 6  # exit code


@verb(
    "validate",
    "brolga validate --remote registry.example/team/app:v1",
    "brolga validate --fast --remote registry.example/team/app:v1",
)
@click.option("--remote", "ref", metavar="REF", help="The image or index to check.")
@click.option(
    "--tarball", "path", metavar="PATH", help="The archive or layout on this machine to check."
)
@click.option("--fast", is_flag=True, help="Read only manifests and configs, no layers.")
@options.platform
@options.jobs
@options.json_output
@options.connection
def command(  # noqa: PLR0913 - the flags of the verb
    *,
    ref: str | None,
    path: str | None,
    fast: bool,
    platform: Platform | None,
    jobs: int,
    as_json: bool,
    connection: options.ConnectionOptions,
) -> None:
    """Verify an image and everything in it.

    Every blob is read, and digests, sizes, DiffIDs, media types and tar entries are checked, and
    that manifest, config and history agree. If REF is an index, everything in it is checked, or the
    image for --platform.

    Prints PASS: REF, or FAIL: REF: PROBLEM for each problem; then the exit code is 6. With --json:
    ref, digest, valid, problems (each with place and what).
    """
    if (ref is None) == (path is None):
        raise click.UsageError("give either --remote REF or --tarball PATH")
    reference = parse_image_ref(ref) if ref is not None else parse_source_path(str(path))
    problems = []
    with open_client(connection, jobs=jobs) as client:
        # Not packed: a layer that is compressed only for a registry cannot be checked.
        tree = (
            client.image(reference, platform, compress_layers=False)
            if platform
            else client.get(reference, compress_layers=False)
        )
        for problem in validate(tree, fast=fast):
            problems.append(problem)
            if not as_json:
                print_result(f"FAIL: {reference}: {one_line(str(problem))}")
    if as_json or not problems:
        fields = {
            "ref": str(with_digest(reference, tree.digest)),
            "digest": str(tree.digest),
            "valid": not problems,
            "problems": [{"place": each.place, "what": each.what} for each in problems],
        }
        print_result(f"PASS: {reference}", fields, as_json=as_json)
    if problems:
        # A push does not check the blobs of a manifest that the registry has.
        side, flag = ("registry", " with --recheck") if registry_of(reference) else ("local", "")
        eprint(f"brolga: {side}: {reference} is not valid; push it again{flag}")
        raise click.exceptions.Exit(_INTEGRITY)
