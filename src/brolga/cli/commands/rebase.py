"""`brolga rebase`: an image on a new base, without building it again.

Knows flags, and the annotations that name an image's base. Must not know how layers are exchanged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from brolga.cli.click_ext import Verb
from brolga.cli.client_factory import Connection, open_client
from brolga.cli.mutation import check_clock, place, pushed, replaced, tag_flag, tree_of
from brolga.cli.options import Sending, json_flag, platform_flag, registry_flags, upload_flags
from brolga.cli.output import say

if TYPE_CHECKING:
    from collections.abc import Mapping

    from brolga.client import Client
    from brolga.images import Image
    from brolga.spec.platform import Platform
    from brolga.stores.location import ImageRef

__all__ = ["command"]

# image-spec annotations.md, Pre-Defined Annotation Keys.
_NAME: Final = "org.opencontainers.image.base.name"
_DIGEST: Final = "org.opencontainers.image.base.digest"

_EXAMPLES = """\b
Examples:
  brolga rebase registry.example/app:v1 --old_base debian:12.1 --new_base debian:12.2
  brolga rebase registry.example/app:v1 -t registry.example/app:v1-rebased
"""


@click.command("rebase", cls=Verb, epilog=_EXAMPLES)
@click.argument("ref")
@click.option(
    "--old_base",
    metavar="REF",
    help=f"The base to remove; default: the annotations {_NAME} and {_DIGEST} of REF.",
)
@click.option(
    "--new_base", metavar="REF", help=f"The base to use instead; default: the annotation {_NAME}."
)
@tag_flag
@click.option("--rebased", metavar="REF", hidden=True)  # crane's older name of --tag
@platform_flag
@upload_flags
@json_flag
@registry_flags
def command(  # noqa: PLR0913 - the flags of the verb
    *,
    ref: str,
    old_base: str | None,
    new_base: str | None,
    tag: str | None,
    rebased: str | None,
    platform: Platform | None,
    sending: Sending,
    as_json: bool,
    connection: Connection,
) -> None:
    """Put an image on a new base, without building it again.

    The layers of the old base are replaced by those of the new one; the layers above stay as they
    are, and nothing checks that they suit the new base. The result is annotated with its base, so
    that next time no base has to be named. Without --tag, it replaces REF.

    Prints REPO@DIGEST. With --json: ref, digest, mediaType, size (bytes).
    """
    from brolga.images import ImageIndex
    from brolga.stores.location import parse_image_ref, registry_of

    check_clock()
    source = parse_image_ref(ref)
    where = place(source, rebased if tag is None else tag)
    registry = registry_of(where)
    with open_client(connection, registry=registry, sending=sending) as client:
        image = tree_of(client, source, platform, in_place=where == source)
        if isinstance(image, ImageIndex):
            raise click.UsageError(f"{source} is an index: choose one image with --platform")
        old, new = _bases(image.annotations, old_base, new_base)
        before, _ = _base(client, old, platform, image)
        after, annotations = _base(client, new, platform, image)
        if before.digest == after.digest:
            say(f"{source} is already based on {new}: its layers stay")
            changed = image
        else:
            changed = image.rebase(before, after)
        changed = changed.with_annotations(annotations)
        expected = replaced(where, source, image)
        pushed(client, where, changed, as_json=as_json, expected=expected)


def _bases(
    annotations: Mapping[str, str], old: str | None, new: str | None
) -> tuple[ImageRef, ImageRef]:
    """Return the old and the new base: as they are given, else as the annotations say.

    Raises UsageError where neither tells, InvalidReference.
    """
    from brolga.spec.digest import Digest
    from brolga.stores.location import parse_image_ref, with_digest

    name, digest = annotations.get(_NAME), annotations.get(_DIGEST)
    new = new or name
    if new is None:
        raise click.UsageError(f"the image has no annotation {_NAME}: name a base with --new_base")
    target = parse_image_ref(new)
    if old is not None:
        return parse_image_ref(old), target
    if not digest:
        raise click.UsageError(
            f"the image has no annotation {_DIGEST}: name its base with --old_base"
        )
    known = parse_image_ref(name) if name else target
    return with_digest(known, Digest.parse(digest)), target


def _base(
    client: Client, place: ImageRef, platform: Platform | None, image: Image
) -> tuple[Image, dict[str, str | None]]:
    """Return a base for an image, and the annotations of an image that is based on it.

    Of an index, the one for `platform`, else the one that is nearest to the image's. The digest
    is that of the index, where it is one: what the name stands for.
    """
    from brolga.images import ImageIndex
    from brolga.spec.reference import Reference

    tree = client.get(place, platform=platform or image.platform)
    if isinstance(tree, ImageIndex):
        found = tree.image(platform or image.platform, nearest=platform is None)
    else:
        found = tree
    # Others do not find what is on this machine, so that it has no name for them.
    said: dict[str, str | None] = {_DIGEST: str(tree.digest), _NAME: None}
    if isinstance(place, Reference):
        said[_NAME] = str(Reference(place.repository, place.tag) if place.tag else place)
    return found, said
