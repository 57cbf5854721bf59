"""`brolga flatten`: an image whose layers are one.

Knows flags, and what becomes of an index. Must not know how layers are put together.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import click

from brolga.cli.changing import (
    check_clock,
    check_open,
    home_of,
    place,
    pushed,
    replaced,
    tag_flag,
    tree_of,
)
from brolga.cli.connection import Connection, open_client
from brolga.cli.options import Sending, json_flag, platform_flag, registry_flags, upload_flags
from brolga.cli.output import say
from brolga.cli.places import registry_of
from brolga.cli.verbs import Verb

if TYPE_CHECKING:
    from brolga.client import Client
    from brolga.descriptor import Descriptor, Platform
    from brolga.images import ImageIndex, Tree
    from brolga.place import Local
    from brolga.reference import Repository

__all__ = ["command"]

_EXAMPLES = """\b
Examples:
  brolga flatten registry.example/app:v1
  brolga flatten registry.example/app:v1 -t localhost:5000/app:flat
"""


@click.command("flatten", cls=Verb, epilog=_EXAMPLES)
@click.argument("ref")
@tag_flag
@platform_flag
@upload_flags
@json_flag
@registry_flags
def command(  # noqa: PLR0913 - the flags of the verb
    *,
    ref: str,
    tag: str | None,
    platform: Platform | None,
    sending: Sending,
    as_json: bool,
    connection: Connection,
) -> None:
    """Merge the layers of an image into one.

    It shows the same files. If REF is an index, each of its images is flattened, or the one for
    --platform; whatever else is in it (attestations, which are about the old images) is left out.
    The new layer is made while it is pushed, in one pass over the old ones. Without --tag, the
    result replaces REF.

    Prints REPO@DIGEST. With --json: ref, digest, mediaType, size (bytes).
    """
    from brolga.place import parse_place

    check_clock()
    source = parse_place(ref)
    where = place(source, tag)
    home = home_of(where)
    with open_client(connection, registry=registry_of(home), sending=sending) as client:
        tree = tree_of(client, source, platform, in_place=where == source, packed=False)
        expected = replaced(where, source, tree)
        flat = _flat(client, home, tree)
        pushed(client, where, flat, as_json=as_json, expected=expected)


def _flat(client: Client, home: Repository | Local, tree: Tree) -> Tree:
    from brolga.images import Image

    return tree.flatten() if isinstance(tree, Image) else _flat_index(client, home, tree)


def _flat_index(client: Client, home: Repository | Local, index: ImageIndex) -> ImageIndex:
    """Push each image of an index, flattened; return the index of them, which has digests then."""
    from brolga.images.index import is_blob

    check_open(home)  # the images go one by one
    flat = index.filter(lambda _: False)
    for descriptor in index.index.manifests:
        child = None if is_blob(descriptor) else index.child(descriptor)
        if child is None or not _has_files(descriptor, child):
            say(f"left out {descriptor.digest}: it is not an image of files")
            continue
        child = _flat(client, home, child)
        client.push(home, child)
        now = child.descriptor
        described = replace(
            descriptor,
            media_type=now.media_type,
            digest=now.digest,
            size=now.size,
            data=None,
        )
        flat = flat.append(child, described=described)
    return flat


def _has_files(descriptor: Descriptor, child: Tree) -> bool:
    """Tell whether a child of an index is an image that runs: its layers are tars."""
    from brolga.images import ImageIndex
    from brolga.mediatypes import DOCKER_CONFIG, OCI_CONFIG

    if descriptor.platform is not None and descriptor.platform.os == "unknown":
        return False  # buildkit's attestations are images by their types
    return isinstance(child, ImageIndex) or (
        child.manifest.config.media_type in {OCI_CONFIG, DOCKER_CONFIG}
    )
