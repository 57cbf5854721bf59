"""`brolga export`: write the files of an image as a tar."""

from collections.abc import Iterator, Sequence
from functools import partial

import click

from brolga.cli import options
from brolga.cli.click_ext import verb
from brolga.cli.client_factory import open_client
from brolga.cli.local_paths import check_output
from brolga.cli.output import print_warning, write_blocks
from brolga.images.flatten import merge_layers
from brolga.spec.blob import Blob, Block
from brolga.spec.mediatypes import COMPRESSION_BY_LAYER, ENCRYPTED
from brolga.spec.platform import Platform


@verb(
    "export",
    "brolga export registry.example/app:v1 | tar -C rootfs -x",
    "brolga export registry.example/app:v1 app.tar",
)
@click.argument("ref")
@click.argument("target", metavar="[FILE]", default="-")
@options.platform
@options.strict
@options.spool_hidden
@options.jobs
@options.progress
@options.connection
def command(  # noqa: PLR0913 - the flags of the verb
    *,
    ref: str,
    target: str,
    platform: Platform | None,
    strict: bool,
    spool: str | bool,
    jobs: int,
    progress: str,
    connection: options.ConnectionOptions,
) -> None:
    """Write the files of an image as a tar.

    They are the files that all its layers show together in a container. If readers differ on an
    entry, stderr says so; with --strict it is an error. A hard link to a file that a layer above
    replaces or removes needs --spool. FILE appears only when the tar is complete; `-` is stdout. If
    REF is an index, --platform chooses the image, by default linux/amd64.

    If REF is an artifact of one file, the file is written as it is.
    """
    check_output(target, "tar")
    with open_client(connection, jobs=jobs, progress=progress) as client:
        layers = client.image(ref, platform).layers
        if client.progress:
            client.progress.plan(layers)
        blocks = (
            _file(layers[0])
            if _is_one_file(layers)
            else merge_layers(
                layers,
                strict=strict,
                on_warning=partial(print_warning, ref),
                spool=spool,
                jobs=jobs,
            )
        )
        write_blocks(blocks, target)


def _is_one_file(layers: Sequence[Blob]) -> bool:
    """Return whether the only blob of an image is not a layer by its media type, as crane does."""
    if len(layers) != 1:
        return False
    media_type = layers[0].descriptor.media_type
    return media_type not in COMPRESSION_BY_LAYER and not media_type.endswith(ENCRYPTED)


def _file(blob: Blob) -> Iterator[Block]:
    with blob.open() as stream:
        yield from stream
