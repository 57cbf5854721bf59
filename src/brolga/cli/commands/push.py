"""`brolga push`: push an image from this machine."""

from collections.abc import Sequence
from pathlib import Path

import click

from brolga.cli import options
from brolga.cli.click_ext import verb
from brolga.cli.client_factory import open_client
from brolga.cli.local_paths import check_source, check_target, parse_source_path, print_ref
from brolga.errors import ImageNotFound
from brolga.spec.platform import Platform
from brolga.spec.reference import Reference, Repository
from brolga.stores.layout import Layout
from brolga.stores.location import ImageRef, is_archive, parse_image_ref


@verb(
    "push",
    "docker save app:1 | brolga push - registry.example/team/app:1",
    "brolga push app.tar registry.example/team/app:1",
    "brolga push oci:build:v1 localhost:5000/team/app:1",
    "brolga push app.tar registry.example/team/app -t 1.2.3 -t 1.2 -t latest",
)
@click.argument("path")
@click.argument("ref")
@click.option(
    "-t",
    "--tag",
    "tags",
    metavar="TAG",
    multiple=True,
    help="Another tag, in the same repository; repeatable. If REF has no tag, it gets only these.",
)
@click.option("--index", "whole", is_flag=True, help="Push all images of a layout as one index.")
@click.option(
    "--image-refs",
    "refs",
    metavar="FILE",
    help="Also write REPO@DIGEST to FILE.",
)
@options.recheck
@options.platform
@options.progress
@options.jobs
@options.upload
@options.json_output
@options.connection
def command(  # noqa: PLR0913 - the flags of the verb
    *,
    path: str,
    ref: str,
    tags: tuple[str, ...],
    whole: bool,
    refs: str | None,
    recheck: bool,
    platform: Platform | None,
    progress: str,
    jobs: int,
    upload_opts: options.UploadFlags,
    as_json: bool,
    connection: options.ConnectionOptions,
) -> None:
    """Push an image from this machine: a layout or an archive.

    PATH is a directory with an OCI image layout, or an archive: what docker save writes, or a
    layout in a tar; brolga detects which. `-` is an archive from stdin, which is read once: blobs
    are pushed as they arrive. oci:DIR:TAG and similar names choose one image of several. Digests
    stay the same, but uncompressed layers of a docker archive are compressed with gzip.

    Prints REPO@DIGEST. With --json: ref, digest.
    """
    source, target = parse_source_path(path), _target(ref, tags)
    if whole and (is_archive(source) or source.name or platform):
        raise click.UsageError("--index is for all images of a layout: name only its directory")
    check_source(source, connection)
    check_target(target, as_json=as_json)
    with open_client(
        connection, jobs=jobs, target=target, upload_opts=upload_opts, progress=progress
    ) as client:
        if whole:
            index = Layout(source.path).whole()
            pushed = client.push(target, index, tags=tags, verify_existing=recheck)
        else:
            try:
                pushed = client.copy(
                    source, target, tags=tags, platform=platform, verify_existing=recheck
                )
            except ImageNotFound as error:
                if source.kind == "oci" and not source.name and error.available:
                    error.add_note(f"push oci:{source.path}:NAME, or all of them with --index")
                raise
    if refs is not None:
        try:
            Path(refs).write_text(f"{pushed}\n")
        except OSError as error:
            raise click.ClickException(
                f"--image-refs {refs}: {error.strerror}; it was pushed anyway: {pushed}"
            ) from error
    print_ref(pushed, done="pushed", as_json=as_json)


def _target(ref: str, tags: Sequence[str]) -> ImageRef | Repository:
    """Return REF, without its default tag if there are others."""
    target = parse_image_ref(ref)
    if tags and isinstance(target, Reference) and target.tag_is_default:
        return target.repository
    return target
