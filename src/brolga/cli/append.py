"""`brolga append`: an image with further layers.

Knows flags, and how a result is printed. Must not know how layers are read, or an image pushed.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import click

from brolga.cli.options import (
    Connection,
    Making,
    Sending,
    jobs_flag,
    json_flag,
    layer_flags,
    open_client,
    platform_flag,
    registry_flags,
    upload_flags,
)
from brolga.cli.output import result
from brolga.cli.places import check_source, check_target, registry_of
from brolga.cli.values import variables
from brolga.cli.verbs import Verb

if TYPE_CHECKING:
    from collections.abc import Sequence

    from brolga.descriptor import Platform
    from brolga.images import Image
    from brolga.layer import StreamLayer
    from brolga.place import Place

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
@click.option("-b", "--base", metavar="BASE", help="The image below; default: an empty one.")
@click.option(
    "-f",
    "--new_layer",
    "sources",
    metavar="SOURCE",
    multiple=True,
    required=True,
    help="A tar file, or - for stdin; again for each further layer, the lowest first.",
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
@platform_flag
@click.option(
    "--created-by",
    default="brolga append",
    show_default=True,
    metavar="TEXT",
    help="What the image's history says of the layers.",
)
@click.option(
    "-a",
    "--annotation",
    "annotations",
    metavar="KEY=VALUE",
    multiple=True,
    callback=variables,
    help="An annotation of the manifest; may be given again.",
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
    help="For crane's users: without BASE an image has OCI's media types anyway.",
)
@layer_flags
@jobs_flag
@upload_flags
@json_flag
@registry_flags
def command(  # noqa: PLR0913 - the flags of the verb
    *,
    base: str | None,
    sources: tuple[str, ...],
    target: str,
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
    """Push an image with further layers, in one pass.

    Each SOURCE becomes a layer on top of BASE, and the image is pushed as REF. A SOURCE is an
    uncompressed tar; one that is cut short is refused. The layers of BASE are mounted or copied
    where REF's repository lacks them. --username is for REF's registry. BASE and REF may be places
    on this machine too: oci:DIR:TAG, oci-archive:FILE:TAG, docker-archive:FILE:NAME:TAG.

    Prints REPO@DIGEST. With --json: ref, digest, mediaType, size, layers (those that were
    appended), seconds.
    """
    from brolga.cli.progress import shown
    from brolga.cli.source import refuse_compressed, stream_layer
    from brolga.place import Local, parse_place

    began = time.monotonic()
    reference, under = parse_place(target), parse_place(base) if base else None
    check_target(reference, as_json=as_json)
    if reference.digest:
        raise click.UsageError("-t: a tag is wanted; the digest is the new image's own")
    if platform and not under and not platform.architecture:
        raise click.UsageError(f"--platform: {platform} is no OS/ARCH, and an image has both")
    if under:
        check_source(under, connection)
    if sources.count("-") + (isinstance(under, Local) and under.is_pipe) > 1:
        raise click.UsageError("-f -: stdin can be one SOURCE alone, or BASE")
    verb = "brolga append -f - …"
    layers = [stream_layer(name, making, connection, verb, tar=True) for name in sources]
    for name in set(sources) - {"-"}:
        refuse_compressed(name)
    registry = registry_of(reference)
    made: list[Image] = []

    def appended(image: Image) -> Image:
        notes = {**_of_base(under, image), **annotations} if under and names_base else annotations
        if "-" in sources:
            refuse_compressed("-")
        made.append(_appended(image, layers, created_by).with_annotations(notes))
        return made[0]

    with (
        open_client(connection, jobs=jobs, registry=registry, sending=sending) as client,
        shown(layers, making.progress),
    ):
        pushed = (
            client.derive(under, reference, appended, platform)
            if under
            else client.push(reference, appended(_empty(platform)))
        )
    _print(pushed, made[0], layers, time.monotonic() - began, as_json=as_json)


def _empty(platform: Platform | None) -> Image:
    from brolga.descriptor import DEFAULT_PLATFORM
    from brolga.images import Image

    return Image.empty(platform or DEFAULT_PLATFORM)


def _of_base(reference: Place, base: Image) -> dict[str, str]:
    """Return the annotations that tell what an image is built on."""
    from brolga.reference import Reference

    said = {_BASE_DIGEST: str(base.digest)}
    if isinstance(reference, Reference) and reference.tag is not None:
        said[_BASE_NAME] = str(Reference(reference.repository, reference.tag))
    return said


def _appended(image: Image, layers: Sequence[StreamLayer], created_by: str) -> Image:
    try:
        return image.append(*layers, created_by=created_by)
    except ValueError as error:  # SOURCE_DATE_EPOCH
        raise click.UsageError(str(error)) from error


def _print(
    ref: Place, image: Image, layers: Sequence[StreamLayer], seconds: float, *, as_json: bool
) -> None:
    from brolga.place import Local

    if isinstance(ref, Local) and ref.is_pipe:
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
    result(str(ref), fields, as_json=as_json, done=f"the image was pushed all the same: {ref}")
