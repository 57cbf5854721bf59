"""What the verbs share that change what is in a registry: what they read, where the result goes.

Knows crane's rules for the name of a result, and how it is printed. Must not know what is changed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from brolga.cli.output import result

if TYPE_CHECKING:
    from collections.abc import Mapping

    from brolga.client import Client
    from brolga.descriptor import Platform
    from brolga.images import ImageIndex, Tree
    from brolga.reference import Reference, Repository

__all__ = ["check_clock", "home_of", "index_of", "place", "pushed", "tag_flag", "tree_of"]

tag_flag = click.option(
    "-t",
    "--tag",
    metavar="REF",
    help="The name of the result; default: what is changed; where that is a digest, no tag.",
)


def check_clock() -> None:
    """Raise UsageError where SOURCE_DATE_EPOCH, which the result tells as its time, is none."""
    from brolga.images import created_now

    try:
        created_now()
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def place(source: Reference, tag: str | None) -> Reference | Repository:
    """Return where the result goes: as `tag`, a whole reference, or in the place of `source`.

    What is named by digest cannot be changed: the result goes beside it, under its own digest.
    Raises InvalidReference.
    """
    from brolga.reference import Reference

    name = source if tag is None else Reference.parse(tag)
    return name.repository if name.digest is not None else name


def home_of(where: Reference | Repository) -> Repository:
    """Return the repository that the result goes into: --username is for its registry."""
    from brolga.reference import Repository

    return where if isinstance(where, Repository) else where.repository


def tree_of(
    client: Client, source: Reference, platform: Platform | None, *, in_place: bool
) -> Tree:
    """Return what `source` names: an image or an index, with `platform` one image of it.

    Raises UsageError where the result would take the place of a whole index.
    """
    from brolga.images import ImageIndex

    tree = client.get(source)
    if platform is None or not isinstance(tree, ImageIndex):
        return tree
    if in_place and source.digest is None:
        raise click.UsageError(
            f"{source} is an index, and its name would stand for one of its images alone: "
            "name the result with --tag"
        )
    return tree.image(platform)


def index_of(client: Client, source: Reference) -> ImageIndex:
    """Return the index that `source` names. Raises UsageError where it is an image."""
    from brolga.images import ImageIndex

    tree = client.get(source)
    if isinstance(tree, ImageIndex):
        return tree
    raise click.UsageError(f"{source} is an image, where an index is wanted")


def pushed(
    client: Client,
    where: Reference | Repository,
    tree: Tree,
    *,
    as_json: bool,
    more: Mapping[str, object] | None = None,
) -> None:
    """Push a tree and print its name by digest; `more` is what else its JSON object has."""
    ref = client.push(where, tree)
    descriptor = tree.descriptor
    fields = {
        "ref": str(ref),
        "digest": str(descriptor.digest),
        "mediaType": descriptor.media_type,
        "size": descriptor.size,
        **(more or {}),
    }
    result(str(ref), fields, as_json=as_json, done=f"it was pushed all the same: {ref}")
