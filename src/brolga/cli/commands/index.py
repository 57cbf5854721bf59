"""`brolga index`: what is in an index, and indexes made of others.

Knows flags and how a list is printed. Must not know how an index is written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from brolga.cli.click_ext import Verbs
from brolga.cli.client_factory import Connection, open_client
from brolga.cli.mutation import index_of, place, pushed, replaced, tag_flag
from brolga.cli.options import Sending, json_flag, registry_flags, upload_flags
from brolga.cli.output import lines, result
from brolga.cli.params import names, platforms

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from brolga.client import Client
    from brolga.images import ImageIndex, Tree
    from brolga.spec.blob import Blob
    from brolga.spec.descriptor import Descriptor
    from brolga.spec.platform import Platform

__all__ = ["command"]

_APPEND = """\b
Examples:
  brolga index append -m localhost:5000/app:amd64 -m localhost:5000/app:arm64 -t localhost:5000/app
"""
_FILTER = """\b
Examples:
  brolga index filter debian:12 --platform linux/amd64,linux/arm64 -t registry.example/debian:12
"""


@click.group("index", cls=Verbs)
def command() -> None:
    """List, extend and filter indexes of several platforms."""


@command.command("list")
@click.argument("ref")
@json_flag
@registry_flags
def list_(*, ref: str, as_json: bool, connection: Connection) -> None:
    """List what is in an index: platform, digest and size in bytes, one line each.

    With --json one object: ref, digest, mediaType, manifests (the descriptors of the index).
    """
    from brolga.stores.location import parse_image_ref, with_digest

    source = parse_image_ref(ref)
    with open_client(connection) as client:
        index = index_of(client, source).index
    if as_json:
        fields = {
            "ref": str(with_digest(source, index.digest)),
            "digest": str(index.digest),
            "mediaType": index.media_type,
            "manifests": [one.to_dict() for one in index.manifests],
        }
        result("", fields, as_json=True)
        return
    names = [str(one.platform or "-") for one in index.manifests]
    width = max(map(len, names), default=0)
    lines(
        f"{name:{width}} {one.digest} {one.size}"
        for name, one in zip(names, index.manifests, strict=True)
    )


@command.command("filter", epilog=_FILTER)
@click.argument("ref")
@click.option(
    "--platform",
    "wanted",
    multiple=True,
    required=True,
    callback=platforms,
    metavar="OS[/ARCH[/VARIANT]]",
    help="A platform to keep; repeatable, or a list with commas.",
)
@tag_flag
@json_flag
@registry_flags
def filter_(
    *,
    ref: str,
    wanted: list[Platform],
    tag: str | None,
    as_json: bool,
    connection: Connection,
) -> None:
    """Keep only the images for some platforms in an index.

    Without --tag, the result replaces REF.

    Prints REPO@DIGEST. With --json: ref, digest, mediaType, size (bytes).
    """
    from brolga.stores.location import parse_image_ref, registry_of

    source = parse_image_ref(ref)
    where = place(source, tag)
    with open_client(connection, registry=registry_of(where)) as client:
        index = index_of(client, source)
        kept = index.filter(lambda one: _is_one_of(one, wanted))
        if not kept.index.manifests:
            index.index.select(wanted[0])  # it says what there is
        expected = replaced(where, source, index)
        pushed(client, where, kept, as_json=as_json, expected=expected)


def _is_one_of(descriptor: Descriptor, wanted: Sequence[Platform]) -> bool:
    offered = descriptor.platform
    return offered is not None and any(offered.matches(one) for one in wanted)


@command.command("append", epilog=_APPEND)
@click.argument("base", metavar="[BASE]", required=False)
@click.option(
    "-m",
    "--manifest",
    "manifests",
    multiple=True,
    required=True,
    callback=names,
    metavar="REF",
    help="An image to append; repeatable, or a list with commas.",
)
@click.option(
    "--flatten/--no-flatten",
    default=True,
    show_default=True,
    help="If REF is an index, append what is in it, or the index itself.",
)
@click.option(
    "--docker-empty-base", is_flag=True, help="Without BASE: an index of Docker's media type."
)
@tag_flag
@upload_flags
@json_flag
@registry_flags
def append(  # noqa: PLR0913 - the flags of the verb
    *,
    base: str | None,
    manifests: list[str],
    flatten: bool,
    docker_empty_base: bool,
    tag: str | None,
    sending: Sending,
    as_json: bool,
    connection: Connection,
) -> None:
    """Append images to the index BASE, or without BASE make an index of them.

    The platform of an image is taken from its config. Without --tag, the result replaces BASE.
    Images in other repositories are copied to where the index goes.

    Prints REPO@DIGEST. With --json: ref, digest, mediaType, size (bytes).
    """
    from brolga.images import ImageIndex
    from brolga.spec.mediatypes import DOCKER_MANIFEST_LIST, OCI_INDEX
    from brolga.stores.location import parse_image_ref, registry_of

    name = base if base is not None else tag
    if name is None:
        raise click.UsageError("without BASE, the result needs a name: give one with --tag")
    where = place(parse_image_ref(name), tag)
    registry = registry_of(where)
    with open_client(connection, registry=registry, sending=sending) as client:
        expected = None
        if base is None:
            index = ImageIndex.empty(DOCKER_MANIFEST_LIST if docker_empty_base else OCI_INDEX)
        else:
            index = index_of(client, parse_image_ref(base))
            expected = replaced(where, parse_image_ref(base), index)
        for child, described in _children(client, manifests, flatten=flatten):
            index = index.append(child, described=described)
        pushed(client, where, index, as_json=as_json, expected=expected)


def _children(
    client: Client, names: Sequence[str], *, flatten: bool
) -> Iterator[tuple[Tree | Blob, Descriptor | None]]:
    """Yield what is to be appended, and how the index that it is of describes it."""
    from brolga.images import ImageIndex

    for name in names:
        tree = client.get(name)
        if flatten and isinstance(tree, ImageIndex):
            yield from _of(tree)
        else:
            yield tree, None


def _of(index: ImageIndex) -> Iterator[tuple[Tree | Blob, Descriptor]]:
    from brolga.images.index import is_blob

    for descriptor in index.index.manifests:
        one = index.blob(descriptor) if is_blob(descriptor) else index.child(descriptor)
        yield one, descriptor
