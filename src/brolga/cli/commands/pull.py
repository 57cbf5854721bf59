"""`brolga pull`: write images to an archive or a layout."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

import click

from brolga import images
from brolga.cli import options
from brolga.cli.click_ext import verb
from brolga.cli.client_factory import open_client
from brolga.cli.local_paths import check_source, check_target, parse_local_ref, print_ref
from brolga.cli.output import print_result
from brolga.stores.location import ImageRef, Kind, LocalRef, keeps_layers, parse_image_ref

if TYPE_CHECKING:
    from brolga.client import Client
    from brolga.images import Tree
    from brolga.spec.platform import Platform

_KINDS: Final[dict[str, Kind]] = {"tarball": "docker-archive", "oci": "oci"}


@verb(
    "pull",
    "brolga pull registry.example/team/app:1 app.tar",
    "brolga pull registry.example/team/app:1 - | docker load",
    "brolga pull registry.example/team/app:1 layout/",
)
@click.argument("refs", metavar="REF...", nargs=-1)
@click.argument("path")
@click.option(
    "--format",
    "format_",
    type=click.Choice(["tarball", "legacy", "oci"]),
    help="tarball: what docker load reads. oci: an image layout in the directory PATH. Default: "
    "oci if PATH is a directory or ends with /, else tarball.",
)
@click.option(
    "--annotate-ref",
    "whole_name",
    is_flag=True,
    help="With oci: name the image by the whole REF; default: by its tag.",
)
@options.platforms
@options.progress
@options.jobs
@options.spool
@options.json_output
@options.connection
def command(  # noqa: PLR0913 - the flags of the verb
    *,
    refs: tuple[str, ...],
    path: str,
    format_: str | None,
    whole_name: bool,
    choice: options.PlatformChoice,
    progress: str,
    jobs: int,
    spool: str | bool,
    as_json: bool,
    connection: options.ConnectionOptions,
) -> None:
    """Write images to an archive or a layout.

    PATH is a file, `-` is stdout. A directory, or a name that ends with /, becomes an image layout,
    which keeps what it has. oci:DIR:TAG, oci-archive:FILE:TAG and docker-archive:FILE:NAME:TAG set
    both format and name.

    If a REF is an index, a layout gets all of it, or the images for --platform; a docker archive
    gets one image, by default the one for linux/amd64.

    Each blob is verified before it has its name. If brolga is stopped or killed, or the network
    fails, the same command goes on with the bytes that a layout has. Of two that pull the same blob
    into one layout, one waits for the other.

    Prints the name by digest of each, or nothing if the archive goes to stdout. With --json: images
    (each with ref, digest).
    """
    if not refs:
        raise click.UsageError(f"give both REF and PATH; {path} is only one of them")
    target = parse_local_ref(path) or _unprefixed(path, format_)
    if keeps_layers(target):
        if choice.all_platforms:
            raise click.UsageError(
                "--all-platforms: a docker archive has no index; pull to oci:DIR"
            )
        choice.only("a docker archive has no index")
    sources = [parse_image_ref(ref) for ref in refs]
    if target.name and len(sources) > 1:
        raise click.UsageError(f"{target} is the name of one image, but {len(sources)} were given")
    check_target(target, as_json=as_json)
    for source in sources:
        check_source(source, connection)
    names = _names(sources, target, whole_name=whole_name)
    with open_client(connection, jobs=jobs, spool=spool, progress=progress) as client:
        trees = _read_trees(client, sources, target, choice.chosen)
        written = client.write_images(target, zip(names, trees, strict=True))
    if as_json:
        fields = [
            {"ref": str(ref), "digest": str(ref.digest) if ref.digest else None} for ref in written
        ]
        print_result("", {"images": fields}, as_json=True, done="they were pulled anyway")
    else:
        for ref in written:
            print_ref(ref, done="pulled", as_json=False)


def _unprefixed(path: str, format_: str | None) -> LocalRef:
    """Return what PATH becomes, by --format or by its form. Raises UsageError."""
    if format_ is None:
        is_directory = path.endswith("/") or os.path.isdir(path)  # noqa: PTH112 - Path's may raise
        format_ = "oci" if is_directory else "tarball"
    if format_ not in _KINDS:
        raise click.UsageError(
            f"--format {format_} is not supported: docker load reads `tarball` since version 1.10"
        )
    kind = _KINDS[format_]
    return LocalRef(kind, path.rstrip("/") or path if kind == "oci" else path)


def _read_trees(
    client: Client, sources: Sequence[ImageRef], target: LocalRef, platforms: Sequence[Platform]
) -> Iterator[Tree]:
    platform = platforms[0] if len(platforms) == 1 else None
    is_docker = keeps_layers(target)  # an archive's layers are compressed when it is read
    for source in sources:
        if platform is not None or is_docker:
            yield client.image(source, platform, compress_layers=not is_docker)
        else:
            yield images.choose(client.get(source), platforms)


def _names(sources: Sequence[ImageRef], target: LocalRef, *, whole_name: bool) -> list[str]:
    """Return the names of the images in the target. Raises UsageError if two are equal."""
    names = [target.tag or _name(source, target.kind, whole=whole_name) for source in sources]
    first: dict[str, ImageRef] = {}
    for name, source in zip(names, sources, strict=True):
        other = first.setdefault(name, source)
        if name and other != source:
            hint = "" if whole_name else ": --annotate-ref names each by all of its REF"
            raise click.UsageError(f"{other} and {source} would both be named {name}{hint}")
    return names


def _name(source: ImageRef, kind: Kind, *, whole: bool) -> str:
    if isinstance(source, LocalRef):
        return source.tag if kind != "docker-archive" or source.kind == kind else ""
    if source.tag is None or kind == "docker-archive" or whole:
        return f"{source.repository}:{source.tag}" if source.tag else ""
    return source.tag
