"""`brolga index`: list, append to and filter indexes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

from brolga.cli import options
from brolga.cli.click_ext import VerbGroup, examples
from brolga.cli.client_factory import open_client
from brolga.cli.mutation import expected_digest, get_index, push_and_print, result_ref
from brolga.cli.output import print_lines, print_result
from brolga.cli.params import parse_platforms, split_names
from brolga.images import Image, ImageIndex
from brolga.images.index import is_blob
from brolga.spec.mediatypes import DOCKER_MANIFEST_LIST, OCI_INDEX
from brolga.stores.location import parse_image_ref, with_digest

if TYPE_CHECKING:
    from brolga.client import Client
    from brolga.spec.blob import Blob
    from brolga.spec.descriptor import Descriptor
    from brolga.spec.platform import Platform


@click.group("index", cls=VerbGroup)
def command() -> None:
    """List, extend and filter indexes of several platforms."""


@command.command("list")
@click.argument("ref")
@options.json_output
@options.connection
def list_(*, ref: str, as_json: bool, connection: options.ConnectionOptions) -> None:
    """List what is in an index: platform, digest and size in bytes, one line each.

    With --json one object: ref, digest, mediaType, manifests (the descriptors of the index).
    """
    source = parse_image_ref(ref)
    with open_client(connection) as client:
        index = get_index(client, source).index
    if as_json:
        fields = {
            "ref": str(with_digest(source, index.digest)),
            "digest": str(index.digest),
            "mediaType": index.media_type,
            "manifests": [descriptor.to_dict() for descriptor in index.manifests],
        }
        print_result("", fields, as_json=True)
        return
    platforms = [str(descriptor.platform or "-") for descriptor in index.manifests]
    width = max(map(len, platforms), default=0)
    print_lines(
        f"{platform:{width}} {descriptor.digest} {descriptor.size}"
        for platform, descriptor in zip(platforms, index.manifests, strict=True)
    )


@command.command(
    "filter",
    epilog=examples(
        "brolga index filter debian:12 --platform linux/amd64,linux/arm64 "
        "-t registry.example/debian:12"
    ),
)
@click.argument("ref")
@click.option(
    "--platform",
    "wanted",
    multiple=True,
    required=True,
    callback=parse_platforms,
    metavar="OS[/ARCH[/VARIANT]]",
    help="A platform to keep; repeatable, or a list with commas.",
)
@options.tag
@options.json_output
@options.connection
def filter_(
    *,
    ref: str,
    wanted: list[Platform],
    tag: str | None,
    as_json: bool,
    connection: options.ConnectionOptions,
) -> None:
    """Keep only the images for some platforms in an index.

    Without --tag, the result replaces REF.

    Prints REPO@DIGEST. With --json: ref, digest, mediaType, size (bytes).
    """
    source = parse_image_ref(ref)
    target = result_ref(source, tag)
    with open_client(connection, target=target) as client:
        index = get_index(client, source)
        kept = index.for_platforms(wanted)
        if not kept.index.manifests:
            index.index.select(wanted[0])  # raises PlatformNotFound
        expected = expected_digest(target, source, index)
        push_and_print(client, target, kept, as_json=as_json, expected=expected)


@command.command(
    "append",
    epilog=examples(
        "brolga index append -m localhost:5000/app:amd64 -m localhost:5000/app:arm64 "
        "-t localhost:5000/app"
    ),
)
@click.argument("base", metavar="[BASE]", required=False)
@click.option(
    "-m",
    "--manifest",
    "manifests",
    multiple=True,
    required=True,
    callback=split_names,
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
@options.tag
@options.upload
@options.json_output
@options.connection
def append(  # noqa: PLR0913 - the flags of the verb
    *,
    base: str | None,
    manifests: list[str],
    flatten: bool,
    docker_empty_base: bool,
    tag: str | None,
    upload_opts: options.UploadFlags,
    as_json: bool,
    connection: options.ConnectionOptions,
) -> None:
    """Append images to the index BASE, or without BASE make an index of them.

    The platform of an image is taken from its config. Without --tag, the result replaces BASE.
    Images in other repositories are copied to where the index goes.

    Prints REPO@DIGEST. With --json: ref, digest, mediaType, size (bytes).
    """
    name = base if base is not None else tag
    if name is None:
        raise click.UsageError("without BASE, the result needs a name: give one with --tag")
    source = parse_image_ref(name)
    target = result_ref(source, tag)
    with open_client(connection, target=target, upload_opts=upload_opts) as client:
        expected = None
        if base is None:
            index = ImageIndex.empty(DOCKER_MANIFEST_LIST if docker_empty_base else OCI_INDEX)
        else:
            index = get_index(client, source)
            expected = expected_digest(target, source, index)
        for child, described in _children(client, manifests, flatten=flatten):
            index = index.append(child, described=described)
        push_and_print(client, target, index, as_json=as_json, expected=expected)


def _children(
    client: Client, names: Sequence[str], *, flatten: bool
) -> Iterator[tuple[Image | ImageIndex | Blob, Descriptor | None]]:
    """Yield each image to append, and its descriptor if it comes from an index."""
    for name in names:
        tree = client.get(name)
        if flatten and isinstance(tree, ImageIndex):
            for descriptor in tree.index.manifests:
                child = tree.blob(descriptor) if is_blob(descriptor) else tree.child(descriptor)
                yield child, descriptor
        else:
            yield tree, None
