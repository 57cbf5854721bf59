"""`brolga copy`: copy an image, an index or all tags of a repository."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Final

import click

from brolga import images
from brolga.cli import options
from brolga.cli.click_ext import verb
from brolga.cli.client_factory import open_client
from brolga.cli.local_paths import check_source, check_target, print_ref
from brolga.cli.output import eprint, print_result
from brolga.errors import Denied, ImageNotFound, NotFound
from brolga.stores.location import (
    ImageRef,
    LocalRef,
    is_archive,
    parse_image_ref,
    parse_repository_ref,
)

if TYPE_CHECKING:
    from brolga.client import Client
    from brolga.spec.reference import Repository

_NOT_FOUND: Final = (NotFound, ImageNotFound, Denied)  # some registries answer 403, not 404


@verb(
    "copy",
    "brolga copy python:3.13 registry.example/mirror/python:3.13",
    "brolga copy --all-tags registry.example/team/app localhost:5000/team/app",
    "brolga copy oci:build:v1 registry.example/team/app:1",
)
@click.argument("source", metavar="SRC")
@click.argument("target", metavar="DST")
@click.option(
    "-a",
    "--all-tags",
    is_flag=True,
    help="SRC and DST are repositories: copy every tag.",
)
@click.option(
    "-n", "--no-clobber", is_flag=True, help="Do not overwrite tags that DST already has."
)
@click.option("--referrers", is_flag=True, help="Also copy what refers to it: signatures, SBOMs.")
@options.recheck
@options.platforms
@options.progress
@options.jobs
@options.upload
@options.json_output
@options.connection
def command(  # noqa: PLR0913 - the flags of the verb
    *,
    source: str,
    target: str,
    all_tags: bool,
    no_clobber: bool,
    referrers: bool,
    recheck: bool,
    choice: options.PlatformChoice,
    progress: str,
    jobs: int,
    upload_opts: options.UploadFlags,
    as_json: bool,
    connection: options.ConnectionOptions,
) -> None:
    """Copy an image from SRC to DST, keeping its digest.

    If SRC is an index, all its images are copied, or those for --platform. What DST already has
    is not sent; within one registry, blobs are mounted. Nothing is kept on disk. --username is for
    DST's registry.

    SRC and DST may also be places on this machine: oci:DIR[:TAG], oci-archive:FILE[:TAG],
    docker-archive:FILE[:NAME:TAG]; FILE `-` is stdin or stdout. With --all-tags an image named
    example.com/app:v1 gets the tag v1.

    Prints REPO@DIGEST, with --all-tags REPO:TAG@DIGEST for each tag. With --json: ref, digest;
    with --all-tags: repository, tags (each with its digest), kept (tags not overwritten).
    """
    platform = choice.only("--all-tags") if all_tags or len(choice.chosen) == 1 else None
    if all_tags:
        origin, home = parse_repository_ref(source), parse_repository_ref(target)
        check_source(origin, connection)
        if is_archive(home):
            raise click.UsageError(f"--all-tags: {home} takes one image; a layout takes them all")
    else:
        source_ref, target_ref = parse_image_ref(source), parse_image_ref(target)
        check_source(source_ref, connection)
        check_target(target_ref, as_json=as_json)
    place = home if all_tags else target_ref
    with open_client(
        connection, jobs=jobs, target=place, upload_opts=upload_opts, progress=progress
    ) as client:
        if all_tags:
            copies = client.copy_all(
                origin,
                home,
                platform=platform,
                referrers=referrers,
                exclude=_existing_tags(client, home) if no_clobber else frozenset(),
                verify_existing=recheck,
            )
            _print_copies(copies, home, as_json=as_json)
        else:
            if no_clobber and target_ref.tag:
                _refuse_existing(client, target_ref)
            copy = client.copy(
                source_ref,
                target_ref,
                platform=platform,
                referrers=referrers,
                verify_existing=recheck,
                change=partial(images.choose, platforms=() if platform else choice.chosen),
            )
    if not all_tags:
        print_ref(copy, done="copied", as_json=as_json)


def _print_copies(
    copies: Iterable[tuple[str, ImageRef | None]], home: Repository | LocalRef, *, as_json: bool
) -> None:
    """Print each tag when it is copied, so that the tags before a failure are known."""
    copied: dict[str, str] = {}
    kept: list[str] = []
    for tag, copy in copies:
        if copy is None:
            kept.append(tag)
            eprint(f"kept {home}:{tag}: it was there already")
            continue
        copied[tag] = str(copy.digest)
        if not as_json:
            ref = f"{home}:{tag}@{copy.digest}"
            print_result(ref, done=f"it was copied anyway: {ref}")
    if as_json:
        fields = {"repository": str(home), "tags": copied, "kept": kept}
        done = f"{len(copied)} tags were copied anyway"
        print_result("", fields, as_json=True, done=done)


def _existing_tags(client: Client, home: Repository | LocalRef) -> frozenset[str]:
    """Return the tags of a repository, which may not exist."""
    try:
        return frozenset(client.tags(home))
    except _NOT_FOUND:
        return frozenset()


def _refuse_existing(client: Client, target: ImageRef) -> None:
    """Raise ClickException if the target exists."""
    try:
        digest = client.head(target).digest
    except _NOT_FOUND:
        return
    raise click.ClickException(
        f"{target} already exists, as {digest}: nothing was copied (--no-clobber)"
    )
