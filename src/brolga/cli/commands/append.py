"""`brolga append`: an image with further layers.

Knows flags, and how a result is printed. Must not know how layers are read, or an image pushed.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import click

from brolga.cli.click_ext import MAY_BE_EMPTY, Verb
from brolga.cli.client_factory import Connection, open_client
from brolga.cli.local_paths import archive_of, beside, check_source, check_target
from brolga.cli.mutation import replaced
from brolga.cli.options import (
    Making,
    Sending,
    jobs_flag,
    json_flag,
    layer_flags,
    platform_flag,
    registry_flags,
    upload_flags,
)
from brolga.cli.output import result
from brolga.cli.params import names, pairs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from brolga.client import Client
    from brolga.images import Image
    from brolga.spec.digest import Digest
    from brolga.spec.platform import Platform
    from brolga.stores.location import ImageRef
    from brolga.stream.layer import StreamLayer

__all__ = ["command"]

# The backspace keeps click from filling the lines.
_EXAMPLES = """\b
Examples:
  tar -c app | brolga append -b python:3.13 -f - -t registry.example/team/app:1
  brolga append -f root.tar -f app.tar -t localhost:5000/team/app
"""
# image-spec annotations.md, Pre-Defined Annotation Keys.
_BASE_DIGEST: Final = "org.opencontainers.image.base.digest"
_BASE_NAME: Final = "org.opencontainers.image.base.name"


@click.command("append", cls=Verb, epilog=_EXAMPLES)
@click.option("-b", "--base", metavar="BASE", help="The image to build on; default: an empty one.")
@click.option(
    "-f",
    "--new_layer",
    "sources",
    metavar="SOURCE",
    multiple=True,
    required=True,
    callback=names,
    help="A tar file, or - for stdin; repeatable, or a list with commas: the lowest layer first.",
)
@click.option(
    "-t",
    "--new_tag",
    "--tag",
    "target",
    metavar="REF",
    required=True,
    help="The name of the new image.",
)
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    help="Write the image to a docker archive instead, under the name REF; - for stdout.",
)
@platform_flag
@click.option(
    "--created-by",
    default="brolga append",
    type=MAY_BE_EMPTY,
    show_default=True,
    metavar="TEXT",
    help="What the image's history says about the layers.",
)
@click.option(
    "-a",
    "--annotation",
    "annotations",
    metavar="KEY=VALUE",
    multiple=True,
    callback=pairs,
    help="An annotation of the manifest; repeatable.",
)
@click.option(
    "--set-base-image-annotations",
    "names_base",
    is_flag=True,
    help="Annotate the image with its base's name and digest.",
)
@click.option(
    "--oci-empty-base",
    is_flag=True,
    expose_value=False,
    help="Accepted for crane's users: without BASE, an image has OCI's media types anyway.",
)
@layer_flags
@jobs_flag
@upload_flags
@json_flag
@registry_flags
def command(  # noqa: PLR0913 - the flags of the verb
    *,
    base: str | None,
    sources: list[str],
    target: str,
    output: str | None,
    platform: Platform | None,
    created_by: str,
    annotations: dict[str, str],
    names_base: bool,
    making: Making,
    jobs: int,
    sending: Sending,
    as_json: bool,
    connection: Connection,
) -> None:
    """Push an image with more layers, in one pass.

    Each SOURCE becomes a layer on top of BASE, and the image is pushed as REF. A SOURCE is an
    uncompressed tar; one that is cut short is refused. Layers of BASE that REF's repository lacks
    are mounted or copied. --username is for REF's registry. BASE and REF may also be places on this
    machine: oci:DIR:TAG, oci-archive:FILE:TAG, docker-archive:FILE:NAME:TAG.

    Prints REPO@DIGEST. With --json: ref, digest, mediaType, size, layers (the new ones), seconds.
    """
    from brolga.cli.progress import shown
    from brolga.cli.source import refuse_compressed, stream_layer
    from brolga.stores.location import is_pipe, parse_image_ref, registry_of

    began = time.monotonic()
    reference, under = parse_image_ref(target), None if base is None else parse_image_ref(base)
    if reference.digest:
        raise click.UsageError("-t: give a tag; the digest is the new image's own")
    if output is not None:
        reference = archive_of(output, reference)
    check_target(reference, as_json=as_json)
    if platform and not under and not platform.architecture:
        raise click.UsageError(f"--platform: {platform} is not OS/ARCH, and an image has both")
    if under:
        check_source(under, connection)
    is_piped = under is not None and is_pipe(under)
    if sources.count("-") + is_piped > 1:
        raise click.UsageError("-f -: stdin can be only one SOURCE, or BASE")
    _check_media_type(making)
    verb = "brolga append -f - …"
    layers = [stream_layer(name, making, connection, verb, tar=True) for name in sources]
    for name in set(sources) - {"-"}:
        refuse_compressed(name)
    registry, sending = registry_of(reference), beside(output, sending)
    made: list[Image] = []

    def appended(image: Image) -> Image:
        image.load_config()  # an invalid base is an error before a stream is read
        said = {**_of_base(under, image), **annotations} if under and names_base else annotations
        if "-" in sources:
            refuse_compressed("-")
        made.append(_appended(image, layers, created_by).with_annotations(said))
        return made[0]

    with (
        open_client(connection, jobs=jobs, registry=registry, sending=sending) as client,
        shown(layers, making.progress),
    ):
        if under and is_piped:
            pushed = client.push_mutated(under, reference, appended, platform)
        else:
            image, expected = _base(client, under, platform, reference)
            pushed = client.push(reference, appended(image), expected=expected)
    _print(pushed, made[0], layers, time.monotonic() - began, as_json=as_json)


def _base(
    client: Client, under: ImageRef | None, platform: Platform | None, target: ImageRef
) -> tuple[Image, Digest | None]:
    """Return the image to append to, and what the target must stand for until the end."""
    from brolga.images import ImageIndex
    from brolga.spec.platform import DEFAULT_PLATFORM

    if under is None:
        return _empty(platform), None
    tree = client.get(under, platform=platform)
    image = tree.image(platform or DEFAULT_PLATFORM) if isinstance(tree, ImageIndex) else tree
    return image, replaced(target, under, tree)


def _empty(platform: Platform | None) -> Image:
    from brolga.images import Image
    from brolga.spec.platform import DEFAULT_PLATFORM

    return Image.empty(platform or DEFAULT_PLATFORM)


def _check_media_type(making: Making) -> None:
    """Raise UsageError for a media type that no tool would unpack such a layer by."""
    from brolga.spec.mediatypes import COMPRESSION_BY_LAYER

    name = making.compression.partition(":")[0]
    if making.media_type is None or COMPRESSION_BY_LAYER.get(making.media_type) == name:
        return
    raise click.UsageError(
        f"--media-type: {making.media_type!r} is not the type of a layer of an image that is "
        f"compressed with {name}: leave it out"
    )


def _of_base(reference: ImageRef, base: Image) -> dict[str, str | None]:
    """Return the annotations that tell what an image is built on; None drops the base's own."""
    from brolga.spec.reference import Reference

    said: dict[str, str | None] = {_BASE_DIGEST: str(base.digest), _BASE_NAME: None}
    if isinstance(reference, Reference) and reference.tag is not None:
        said[_BASE_NAME] = str(Reference(reference.repository, reference.tag))
    return said


def _appended(image: Image, layers: Sequence[StreamLayer], created_by: str) -> Image:
    try:
        return image.append(*layers, created_by=created_by)
    except ValueError as error:  # SOURCE_DATE_EPOCH
        raise click.UsageError(str(error)) from error


def _print(
    ref: ImageRef, image: Image, layers: Sequence[StreamLayer], seconds: float, *, as_json: bool
) -> None:
    from brolga.stores.location import is_pipe

    if is_pipe(ref):
        return
    described = image.descriptor
    fields = {
        "ref": str(ref),
        "digest": str(described.digest),
        "mediaType": described.media_type,
        "size": described.size,
        "layers": [
            {
                "digest": str(layer.digest),
                "diffId": str(layer.diff_id),
                "size": layer.size,
                "uncompressedSize": layer.uncompressed_size,
                "mediaType": layer.media_type,
            }
            for layer in layers
        ],
        "seconds": round(seconds, 3),
    }
    result(str(ref), fields, as_json=as_json, done=f"the image was pushed anyway: {ref}")
