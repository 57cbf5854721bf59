"""`brolga append`: push an image with more layers."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import click

from brolga.cli import options
from brolga.cli.click_ext import MAY_BE_EMPTY, verb
from brolga.cli.client_factory import open_client
from brolga.cli.local_paths import archive_ref, check_source, check_target, print_ref, spool_beside
from brolga.cli.mutation import BASE_DIGEST, BASE_NAME, check_clock, expected_digest
from brolga.cli.params import split_names
from brolga.cli.source import layer_fields, refuse_compressed, stream_layer
from brolga.images import Image, ImageIndex
from brolga.spec.mediatypes import COMPRESSION_BY_LAYER
from brolga.spec.platform import DEFAULT_PLATFORM, Platform
from brolga.spec.reference import Reference
from brolga.stores.location import ImageRef, home_of, is_pipe, parse_image_ref

if TYPE_CHECKING:
    from brolga.client import Client
    from brolga.spec.digest import Digest
    from brolga.stream.layer import StreamLayer


@verb(
    "append",
    "tar -c app | brolga append -b python:3.13 -f - -t registry.example/team/app:1",
    "brolga append -f root.tar -f app.tar -t localhost:5000/team/app",
)
@click.option("-b", "--base", metavar="BASE", help="The image to build on; default: an empty one.")
@click.option(
    "-f",
    "--new_layer",
    "sources",
    metavar="SOURCE",
    multiple=True,
    required=True,
    callback=split_names,
    help="A tar file, or - for stdin; repeatable, or a list with commas: the lowest layer first.",
)
@click.option(
    "-t",
    "--new_tag",
    "--tag",
    "targets",
    metavar="REF",
    multiple=True,
    required=True,
    help="The name of the new image; repeatable, in one repository.",
)
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    help="Write the image to a docker archive instead, under the name REF; - for stdout.",
)
@options.platform
@click.option(
    "--created-by",
    default="brolga append",
    type=MAY_BE_EMPTY,
    show_default=True,
    metavar="TEXT",
    help="What the image's history says about the layers.",
)
@options.annotation(help="An annotation of the manifest; repeatable.")
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
@options.layer
@options.progress
@options.jobs
@options.upload
@options.json_output
@options.connection
def command(  # noqa: PLR0913 - the flags of the verb
    *,
    base: str | None,
    sources: list[str],
    targets: tuple[str, ...],
    output: str | None,
    platform: Platform | None,
    created_by: str,
    annotations: dict[str, str],
    names_base: bool,
    layer_opts: options.LayerOptions,
    progress: str,
    jobs: int,
    upload_opts: options.UploadFlags,
    as_json: bool,
    connection: options.ConnectionOptions,
) -> None:
    """Push an image with more layers, in one pass.

    Each SOURCE becomes a layer on top of BASE, and the image is pushed as REF. A SOURCE is an
    uncompressed tar; one that is cut short is refused. Layers of BASE that REF's repository lacks
    are mounted or copied. --username is for REF's registry. BASE and REF may also be places on this
    machine: oci:DIR:TAG, oci-archive:FILE:TAG, docker-archive:FILE:NAME:TAG.

    Prints REPO@DIGEST. With --json: ref, digest, mediaType, size, layers (the new ones), seconds.
    """
    check_clock()
    start_s = time.monotonic()
    ref, tags = _parse_targets(targets)
    base_ref = None if base is None else parse_image_ref(base)
    if output is not None:
        ref = archive_ref(output, ref)
    check_target(ref, as_json=as_json)
    if platform and not base_ref and not platform.architecture:
        raise click.UsageError(f"--platform: {platform} is not OS/ARCH, and an image has both")
    if base_ref:
        check_source(base_ref, connection)
    is_piped = base_ref is not None and is_pipe(base_ref)
    if sources.count("-") + is_piped > 1:
        raise click.UsageError("-f -: stdin can be only one SOURCE, or BASE")
    _check_media_type(layer_opts)
    layers = [
        stream_layer(name, layer_opts, connection, "brolga append -f - …", tar=True)
        for name in sources
    ]
    for name in set(sources) - {"-"}:
        refuse_compressed(name)
    appender = _Appender(
        layers,
        created_by,
        annotations,
        base_ref if names_base else None,
        reads_stdin="-" in sources,
    )
    upload_opts = spool_beside(output, upload_opts)
    with open_client(
        connection, jobs=jobs, target=ref, upload_opts=upload_opts, progress=progress
    ) as client:
        if base_ref and is_piped:
            ref = client.push_mutated(base_ref, ref, appender.append, platform, tags=tags)
        else:
            image, expected = _get_base(client, base_ref, platform, ref)
            ref = client.push(ref, appender.append(image), tags=tags, expected=expected)
    _print(ref, appender, time.monotonic() - start_s, as_json=as_json)


def _parse_targets(targets: Sequence[str]) -> tuple[ImageRef, Sequence[str]]:
    """Return the first REF, and the tags of the others, which must be in the same repository."""
    refs = [parse_image_ref(target) for target in targets]
    if any(ref.digest for ref in refs):
        raise click.UsageError("-t: give a tag; the digest is the new image's own")
    first, *others = refs
    for ref in others:
        if home_of(ref) != home_of(first):
            raise click.UsageError(f"-t: {ref} is not in the repository of {first}")
    return first, [ref.tag or "" for ref in others]


class _Appender:
    """The additions to a base; `image` is the result."""

    def __init__(
        self,
        layers: Sequence[StreamLayer],
        created_by: str,
        annotations: Mapping[str, str | None],
        base_ref: ImageRef | None,
        *,
        reads_stdin: bool,
    ) -> None:
        self.layers = layers
        self.created_by = created_by
        self.annotations = annotations
        self.base_ref = base_ref
        self.reads_stdin = reads_stdin
        self.image: Image | None = None

    def append(self, base: Image) -> Image:
        """Return the base with the layers and annotations. Raises SourceError."""
        base.load_config()  # an invalid base is an error before a stream is read
        if self.reads_stdin:
            refuse_compressed("-")
        annotations: dict[str, str | None] = {}
        if ref := self.base_ref:
            name = None  # removes the name of the base's own base
            if isinstance(ref, Reference) and ref.tag is not None:
                name = str(Reference(ref.repository, ref.tag))
            annotations = {BASE_DIGEST: str(base.digest), BASE_NAME: name}
        image = base.append(*self.layers, created_by=self.created_by)
        self.image = image.with_annotations({**annotations, **self.annotations})
        return self.image


def _get_base(
    client: Client, base_ref: ImageRef | None, platform: Platform | None, target: ImageRef
) -> tuple[Image, Digest | None]:
    """Return the image to append to, and the digest that the target must keep until the end."""
    if base_ref is None:
        return Image.empty(platform or DEFAULT_PLATFORM), None
    tree = client.get(base_ref, platform=platform)
    image = tree.image(platform or DEFAULT_PLATFORM) if isinstance(tree, ImageIndex) else tree
    return image, expected_digest(target, base_ref, tree)


def _check_media_type(layer_opts: options.LayerOptions) -> None:
    """Raise UsageError for a media type that does not fit an image's layer."""
    compression = layer_opts.compression.partition(":")[0]
    media_type = layer_opts.media_type
    if media_type is not None and COMPRESSION_BY_LAYER.get(media_type) != compression:
        raise click.UsageError(
            f"--media-type: {media_type!r} is not the type of a layer of an image that is "
            f"compressed with {compression}: leave it out"
        )


def _print(ref: ImageRef, appender: _Appender, seconds: float, *, as_json: bool) -> None:
    if is_pipe(ref) or appender.image is None:
        return
    descriptor = appender.image.descriptor
    more = {
        "mediaType": descriptor.media_type,
        "size": descriptor.size,
        "layers": [layer_fields(layer, layer.media_type) for layer in appender.layers],
        "seconds": round(seconds, 3),
    }
    print_ref(ref, done="pushed", as_json=as_json, more=more, digest=descriptor.digest)
