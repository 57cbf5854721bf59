"""`brolga pull`: images from a registry onto this machine.

Knows flags, and what an image is called where it goes. Must not know how anything is pulled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from brolga.cli.click_ext import Verb
from brolga.cli.client_factory import Connection, open_client
from brolga.cli.local_paths import as_path, check_source, check_target, told
from brolga.cli.options import jobs_flag, json_flag, platform_flag, registry_flags, spool_flag
from brolga.cli.output import result

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from brolga.client import Client
    from brolga.images import Tree
    from brolga.spec.platform import Platform
    from brolga.stores.location import ImageRef, Kind, LocalRef

__all__ = ["command"]

_KINDS: Final[dict[str, Kind]] = {"tarball": "docker-archive", "oci": "oci"}
# The backspace keeps click from filling the lines.
_EXAMPLES: Final = """\b
Examples:
  brolga pull registry.example/team/app:1 app.tar
  brolga pull registry.example/team/app:1 - | docker load
  brolga pull --format oci registry.example/team/app:1 layout
"""


@click.command("pull", cls=Verb, epilog=_EXAMPLES)
@click.argument("refs", metavar="REF...", nargs=-1)
@click.argument("path")
@click.option(
    "--format",
    "form",
    type=click.Choice(["tarball", "legacy", "oci"]),
    default="tarball",
    show_default=True,
    help="tarball: what docker load reads. oci: an image layout in the directory PATH.",
)
@click.option(
    "--annotate-ref",
    "whole_name",
    is_flag=True,
    help="With oci: name the image by the whole REF; default: by its tag.",
)
@platform_flag
@jobs_flag
@spool_flag
@json_flag
@registry_flags
def command(  # noqa: PLR0913 - the flags of the verb
    *,
    refs: tuple[str, ...],
    path: str,
    form: str,
    whole_name: bool,
    platform: Platform | None,
    jobs: int,
    spool: str | bool,
    as_json: bool,
    connection: Connection,
) -> None:
    """Write images to an archive or a layout.

    PATH is a file, or with --format oci a directory; `-` is stdout. A layout keeps what it has.
    oci:DIR:TAG, oci-archive:FILE:TAG and docker-archive:FILE:NAME:TAG give form and name at once.
    If a REF is an index, a layout gets all of it, or the image for --platform; a docker archive
    gets one image, by default the one for linux/amd64.

    Prints the name by digest of each, or nothing if the archive goes to stdout. With --json: images
    (each with ref, digest).
    """
    from brolga.stores.location import parse_image_ref

    if not refs:
        raise click.UsageError(f"give both REF and PATH; {path} is only one of them")
    target = as_path(path) or _by_format(path, form)
    sources = [parse_image_ref(ref) for ref in refs]
    if target.name and len(sources) > 1:
        raise click.UsageError(f"{target} is the name of one image, but {len(sources)} were given")
    check_target(target, as_json=as_json)
    for source in sources:
        check_source(source, connection)
    _check_names(sources, target, whole_name=whole_name)
    with open_client(connection, jobs=jobs, spool=spool) as client:
        images = _read(client, sources, target, platform, whole_name=whole_name)
        saved = client.write_images(target, images)
    _print(saved, as_json=as_json)


def _by_format(path: str, form: str) -> LocalRef:
    from brolga.stores.location import LocalRef

    if form not in _KINDS:
        raise click.UsageError(
            f"--format {form} is not supported: docker load reads `tarball` since version 1.10"
        )
    return LocalRef(_KINDS[form], path)


def _read(
    client: Client,
    sources: Sequence[ImageRef],
    target: LocalRef,
    platform: Platform | None,
    *,
    whole_name: bool,
) -> Iterator[tuple[str, Tree]]:
    """Yield each image with its name where it goes."""
    # Docker's archives have layers as they are; what reads one compresses them.
    from brolga.stores.location import keeps_layers

    is_docker = keeps_layers(target)
    for source in sources:
        tree: Tree = (
            client.image(source, platform, compress_layers=not is_docker)
            if platform is not None or is_docker
            else client.get(source)
        )
        yield target.tag or _name(source, target.kind, whole=whole_name), tree


def _check_names(sources: Sequence[ImageRef], target: LocalRef, *, whole_name: bool) -> None:
    """Raise UsageError where two images would get one name: the first would lose it."""
    named: dict[str, ImageRef] = {}
    for source in sources:
        name = target.tag or _name(source, target.kind, whole=whole_name)
        other = named.setdefault(name, source)
        if name and other != source:
            advice = "" if whole_name else ": --annotate-ref names each by all of its REF"
            raise click.UsageError(f"{other} and {source} would both be named {name}{advice}")


def _name(source: ImageRef, kind: Kind, *, whole: bool) -> str:
    from brolga.stores.location import LocalRef

    if isinstance(source, LocalRef):
        return source.tag if kind != "docker-archive" or source.kind == kind else ""
    if source.tag is None or kind == "docker-archive" or whole:
        return f"{source.repository}:{source.tag}" if source.tag else ""
    return source.tag


def _print(saved: Sequence[ImageRef], *, as_json: bool) -> None:
    if as_json:
        images = [
            {"ref": str(place), "digest": str(place.digest) if place.digest else None}
            for place in saved
        ]
        result("", {"images": images}, as_json=True, done="they were pulled anyway")
    else:
        for place in saved:
            told(place, done="pulled", as_json=False)
