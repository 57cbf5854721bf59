"""`brolga copy`: an image, an index or a repository's tags to another place.

Knows flags, and how results are printed. Must not know how anything is copied.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from brolga.cli.click_ext import Verb
from brolga.cli.client_factory import Connection, open_client
from brolga.cli.local_paths import check_source, check_target, told
from brolga.cli.options import (
    Sending,
    jobs_flag,
    json_flag,
    platform_flag,
    recheck_flag,
    registry_flags,
    upload_flags,
)
from brolga.cli.output import result, say
from brolga.errors import Denied, ImageNotFound, NotFound

if TYPE_CHECKING:
    from collections.abc import Iterable

    from brolga.client import Client
    from brolga.spec.platform import Platform
    from brolga.spec.reference import Repository
    from brolga.stores.location import ImageRef, LocalRef

__all__ = ["command"]

# The backspace keeps click from filling the lines.
_EXAMPLES = """\b
Examples:
  brolga copy python:3.13 registry.example/mirror/python:3.13
  brolga copy --all-tags registry.example/team/app localhost:5000/team/app
  brolga copy oci:build:v1 registry.example/team/app:1
"""


@click.command("copy", cls=Verb, epilog=_EXAMPLES)
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
@recheck_flag
@platform_flag
@jobs_flag
@upload_flags
@json_flag
@registry_flags
def command(  # noqa: PLR0913 - the flags of the verb
    *,
    source: str,
    target: str,
    all_tags: bool,
    no_clobber: bool,
    referrers: bool,
    recheck: bool,
    platform: Platform | None,
    jobs: int,
    sending: Sending,
    as_json: bool,
    connection: Connection,
) -> None:
    """Copy an image from SRC to DST, keeping its digest.

    If SRC is an index, all its images are copied, or the one for --platform. What DST already has
    is not sent; within one registry, blobs are mounted. Nothing is kept on disk. --username is for
    DST's registry.

    Each may be a place on this machine too: oci:DIR[:TAG], oci-archive:FILE[:TAG],
    docker-archive:FILE[:NAME:TAG]; FILE `-` is stdin or stdout. With --all-tags an image named
    example.com/app:v1 gets the tag v1.

    Prints REPO@DIGEST, with --all-tags REPO:TAG@DIGEST for each tag. With --json: ref, digest;
    with --all-tags: repository, tags (each with its digest), kept (those that --no-clobber left).
    """
    from brolga.stores.location import parse_image_ref, parse_repository_ref, registry_of

    if all_tags:
        origin, home = parse_repository_ref(source), parse_repository_ref(target)
        _check_homes(origin, home, connection)
    else:
        name, place = parse_image_ref(source), parse_image_ref(target)
        check_source(name, connection)
        check_target(place, as_json=as_json)
    registry = registry_of(home if all_tags else place)
    with open_client(connection, jobs=jobs, registry=registry, sending=sending) as client:
        if all_tags:
            taken = _tags(client, home) if no_clobber else frozenset[str]()
            copied = client.copy_all(
                origin,
                home,
                platform=platform,
                referrers=referrers,
                exclude=taken,
                verify_existing=recheck,
            )
            _print(copied, home, as_json=as_json)
        else:
            if no_clobber and place.tag:
                _refuse_existing(client, place)
            pushed = client.copy(
                name, place, platform=platform, referrers=referrers, verify_existing=recheck
            )
            told(pushed, done="copied", as_json=as_json)


def _check_homes(
    source: Repository | LocalRef, target: Repository | LocalRef, connection: Connection
) -> None:
    """Raise UsageError where the tags of a place cannot be copied one after another."""
    from brolga.stores.location import is_archive

    check_source(source, connection)
    if is_archive(target):
        raise click.UsageError(f"--all-tags: {target} takes one image; a layout takes them all")


def _print(
    copies: Iterable[tuple[str, ImageRef | None]], home: Repository | LocalRef, *, as_json: bool
) -> None:
    """Print each tag when it is there, so that a failure leaves what was done known."""
    copied: dict[str, str] = {}
    kept: list[str] = []
    for tag, place in copies:
        if place is None:
            kept.append(tag)
            say(f"kept {home}:{tag}: it was there already")
            continue
        copied[tag] = str(place.digest)
        if not as_json:
            ref = f"{home}:{tag}@{place.digest}"
            result(ref, done=f"it was copied all the same: {ref}")
    if as_json:
        fields = {"repository": str(home), "tags": copied, "kept": kept}
        done = f"{len(copied)} tags were copied all the same"
        result("", fields, as_json=True, done=done)


def _tags(client: Client, home: Repository | LocalRef) -> frozenset[str]:
    """Return the tags of a repository, none where it is not there yet."""
    try:
        return frozenset(client.tags(home))
    except (NotFound, ImageNotFound, Denied):  # some registries deny what is not there
        return frozenset()


def _refuse_existing(client: Client, target: ImageRef) -> None:
    """Raise ClickException where a name is taken."""
    try:
        found = client.head(target)
    except (NotFound, ImageNotFound, Denied):  # some registries deny what is not there
        return
    raise click.ClickException(
        f"{target} already exists, as {found.digest}: nothing was copied (--no-clobber)"
    )
