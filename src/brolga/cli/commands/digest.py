"""`brolga digest`: print the digest of an image or index."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from brolga.cli import options
from brolga.cli.click_ext import verb
from brolga.cli.client_factory import open_client
from brolga.cli.local_paths import check_source, parse_source_path
from brolga.cli.output import print_result
from brolga.stores.location import parse_image_ref, with_digest, with_name

if TYPE_CHECKING:
    from brolga.spec.platform import Platform


@verb("digest")
@click.argument("ref", required=False)
@click.option("--full-ref", is_flag=True, help="Print REPO@DIGEST.")
@click.option(
    "--tarball",
    "path",
    metavar="PATH",
    help="Look in an archive or a layout on this machine; REF is a name in it.",
)
@options.platform
@options.json_output
@options.connection
def command(  # noqa: PLR0913 - the flags of the verb
    *,
    ref: str | None,
    full_ref: bool,
    path: str | None,
    platform: Platform | None,
    as_json: bool,
    connection: options.ConnectionOptions,
) -> None:
    """Print the digest of an image or index.

    If REF is an index, --platform prints the digest of one of its images. With --json: ref, digest,
    mediaType, size (bytes of the manifest).
    """
    if ref is None and path is None:
        raise click.UsageError("Missing argument 'REF'.")
    source = (
        with_name(parse_source_path(path), ref or "")
        if path is not None
        else parse_image_ref(str(ref))
    )
    check_source(source, connection)
    with open_client(connection) as client:
        descriptor = (
            client.manifest(source, platform).descriptor if platform else client.head(source)
        )
    full = str(with_digest(source, descriptor.digest))
    fields = {
        "ref": full,
        "digest": str(descriptor.digest),
        "mediaType": descriptor.media_type,
        "size": descriptor.size,
    }
    print_result(full if full_ref else str(descriptor.digest), fields, as_json=as_json)
