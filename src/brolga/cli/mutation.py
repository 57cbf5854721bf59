"""What the verbs share that change what is in a registry: what they read, where the result goes.

Knows crane's rules for the name of a result, and how it is printed. Must not know what is changed.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import click

from brolga.cli.local_paths import check_target, told

if TYPE_CHECKING:
    from collections.abc import Mapping

    from brolga.client import Client
    from brolga.images import ImageIndex, Tree
    from brolga.spec.digest import Digest
    from brolga.spec.platform import Platform
    from brolga.spec.reference import Repository
    from brolga.stores.location import ImageRef

__all__ = [
    "check_clock",
    "check_open",
    "index_of",
    "place",
    "pushed",
    "replaced",
    "tag_flag",
    "tree_of",
]

tag_flag = click.option(
    "-t",
    "--tag",
    metavar="REF",
    help="The name of the result; default: REF, or no tag if that is a digest.",
)


def check_clock() -> None:
    """Raise UsageError where SOURCE_DATE_EPOCH, which the result tells as its time, is none."""
    from brolga.images import creation_time

    try:
        creation_time()
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def place(source: ImageRef, tag: str | None) -> ImageRef | Repository:
    """Return where the result goes: as `tag`, a whole name, or in the place of `source`.

    What is named by digest cannot be changed: the result goes beside it, under its own digest.
    Raises InvalidReference, UsageError for an archive, which is not changed in its place.
    """
    from brolga.stores.location import LocalRef, is_archive, parse_image_ref

    name = source if tag is None else parse_image_ref(tag)
    if isinstance(name, LocalRef):
        if tag is None and (is_archive(name) or not name.name):
            raise click.UsageError(
                f"{name} cannot be changed in place: name the result with --tag, or an image "
                "of a layout as oci:DIR:NAME"
            )
        check_target(name)
        return name if name.tag else replace(name, name="")
    return name.repository if name.digest is not None else name


def check_open(where: ImageRef | Repository) -> None:
    """Raise UsageError for an archive: it takes one image, or index, with all that it has."""
    from brolga.stores.location import is_archive

    if is_archive(where):
        raise click.UsageError(
            f"{where} is an archive, which is written once, as a whole: copy it to oci:DIR first"
        )


def tree_of(
    client: Client,
    source: ImageRef,
    platform: Platform | None,
    *,
    in_place: bool,
    compress_layers: bool = True,
) -> Tree:
    """Return what `source` names: an image or an index, with `platform` one image of it.

    `compress_layers` is as in `Client.get`.

    Raises UsageError where the result would take the place of a whole index.
    """
    from brolga.images import ImageIndex

    tree = client.get(source, compress_layers=compress_layers, platform=platform)
    if platform is None or not isinstance(tree, ImageIndex):
        return tree
    if in_place and source.digest is None:
        raise click.UsageError(
            f"{source} is an index, and its name would then stand for only one of its images: "
            "name the result with --tag"
        )
    return tree.image(platform)


def index_of(client: Client, source: ImageRef) -> ImageIndex:
    """Return the index that `source` names. Raises UsageError where it is an image."""
    from brolga.images import ImageIndex

    tree = client.get(source)
    if isinstance(tree, ImageIndex):
        return tree
    raise click.UsageError(f"{source} is an image, not an index")


def replaced(where: ImageRef | Repository, source: ImageRef, read: Tree) -> Digest | None:
    """Return what the name of a result must stand for until the end; None where that is no matter.

    Where the result takes the place of `source`, that is what was `read` under its name: what
    another client gives it meanwhile must not disappear.
    """
    return read.digest if where == source and source.digest is None else None


def pushed(  # noqa: PLR0913 - what goes where, and how it is printed
    client: Client,
    where: ImageRef | Repository,
    tree: Tree,
    *,
    as_json: bool,
    expected: Digest | None = None,
    more: Mapping[str, object] | None = None,
) -> None:
    """Push a tree and print its name by digest; `more` is what else its JSON object has.

    `expected` is as `replaced` tells. Raises TagConflict.
    """
    ref = client.push(where, tree, expected=expected)
    descriptor = tree.descriptor
    more = {"mediaType": descriptor.media_type, "size": descriptor.size, **(more or {})}
    told(ref, done="pushed", as_json=as_json, more=more, digest=descriptor.digest)
