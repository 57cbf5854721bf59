"""`brolga copy`: an image, an index or a repository's tags to another place.

Knows flags, and how results are printed. Must not know how anything is copied.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import click

from brolga.cli.connection import Connection, open_client
from brolga.cli.options import (
    Sending,
    jobs_flag,
    json_flag,
    platform_flag,
    registry_flags,
    upload_flags,
)
from brolga.cli.output import result, say
from brolga.cli.places import check_source, check_target, named, registry_of, told
from brolga.cli.verbs import Verb
from brolga.errors import Denied, NoSuchImage, NotFound

if TYPE_CHECKING:
    from collections.abc import Callable

    from brolga.client import Client
    from brolga.descriptor import Platform
    from brolga.place import Local, Place
    from brolga.reference import Repository

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
    docker-archive:FILE[:NAME:TAG]; FILE `-` is stdin or stdout.

    Prints REPO@DIGEST, with --all-tags REPO:TAG@DIGEST for each tag. With --json: ref, digest;
    with --all-tags: repository, tags (each with its digest), kept (those that --no-clobber left).
    """
    from brolga.place import parse_home, parse_place

    if all_tags:
        origin, home = parse_home(source), parse_home(target)
        _check_homes(origin, home)
    else:
        name, place = parse_place(source), parse_place(target)
        check_source(name, connection)
        check_target(place, as_json=as_json)
    registry = registry_of(home if all_tags else place)
    with open_client(connection, jobs=jobs, registry=registry, sending=sending) as client:
        copy = partial(client.copy, platform=platform, referrers=referrers)
        if all_tags:
            _copy_tags(client, copy, origin, home, no_clobber=no_clobber, as_json=as_json)
        else:
            if no_clobber and place.tag:
                _refuse_existing(client, place)
            told(copy(name, place), done="copied", as_json=as_json)


def _check_homes(source: Repository | Local, target: Repository | Local) -> None:
    """Raise UsageError where the tags of a place cannot be copied one after another."""
    from brolga.place import Local

    if isinstance(source, Local) and source.is_pipe:
        raise click.UsageError("--all-tags: stdin is read once: name a file")
    if isinstance(target, Local) and target.kind != "oci":
        raise click.UsageError(f"--all-tags: {target} takes one image; a layout takes them all")


def _copy_tags(  # noqa: PLR0913 - the flags that matter to it
    client: Client,
    copy: Callable[[Place, Place], Place],
    source: Repository | Local,
    target: Repository | Local,
    *,
    no_clobber: bool,
    as_json: bool,
) -> None:
    """Copy each tag; print it when it is there, so that a failure leaves what was done known."""
    taken = _tags(client, target) if no_clobber else frozenset[str]()
    copied: dict[str, str] = {}
    kept: list[str] = []
    for tag in client.tags(source):
        if tag in taken:
            kept.append(tag)
            say(f"kept {target}:{tag}: it was there already")
            continue
        digest = copy(named(source, tag), named(target, tag)).digest
        copied[tag] = str(digest)
        if not as_json:
            ref = f"{target}:{tag}@{digest}"
            result(ref, done=f"it was copied all the same: {ref}")
    if as_json:
        fields = {"repository": str(target), "tags": copied, "kept": kept}
        done = f"{len(copied)} tags were copied all the same"
        result("", fields, as_json=True, done=done)


def _tags(client: Client, home: Repository | Local) -> frozenset[str]:
    """Return the tags of a repository, none where it is not there yet."""
    try:
        return frozenset(client.tags(home))
    except (NotFound, NoSuchImage, Denied):  # some registries deny what is not there
        return frozenset()


def _refuse_existing(client: Client, target: Place) -> None:
    """Raise ClickException where a name is taken."""
    try:
        found = client.head(target)
    except (NotFound, NoSuchImage, Denied):  # some registries deny what is not there
        return
    raise click.ClickException(
        f"{target} already exists, as {found.digest}: nothing was copied (--no-clobber)"
    )
