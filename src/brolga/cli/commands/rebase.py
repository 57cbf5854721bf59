"""`brolga rebase`: put an image on a new base."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from brolga.cli import options
from brolga.cli.click_ext import verb
from brolga.cli.client_factory import open_client
from brolga.cli.mutation import (
    BASE_DIGEST,
    BASE_NAME,
    check_clock,
    expected_digest,
    get_tree,
    push_and_print,
    result_ref,
)
from brolga.cli.output import eprint
from brolga.images import Image, ImageIndex
from brolga.spec.digest import Digest
from brolga.spec.reference import Reference
from brolga.stores.location import ImageRef, parse_image_ref, with_digest

if TYPE_CHECKING:
    from brolga.client import Client
    from brolga.spec.platform import Platform


@verb(
    "rebase",
    "brolga rebase registry.example/app:v1 --old_base debian:12.1 --new_base debian:12.2",
    "brolga rebase registry.example/app:v1 -t registry.example/app:v1-rebased",
)
@click.argument("ref")
@click.option(
    "--old_base",
    metavar="REF",
    help=f"The base to remove; default: the annotations {BASE_NAME} and {BASE_DIGEST} of REF.",
)
@click.option(
    "--new_base",
    metavar="REF",
    help=f"The base to use instead; default: the annotation {BASE_NAME}.",
)
@options.tag
@click.option("--rebased", metavar="REF", hidden=True)  # crane's older name of --tag
@options.platform
@options.upload
@options.json_output
@options.connection
def command(  # noqa: PLR0913 - the flags of the verb
    *,
    ref: str,
    old_base: str | None,
    new_base: str | None,
    tag: str | None,
    rebased: str | None,
    platform: Platform | None,
    upload_opts: options.UploadFlags,
    as_json: bool,
    connection: options.ConnectionOptions,
) -> None:
    """Put an image on a new base, without building it again.

    The layers of the old base are replaced by those of the new one; the layers above stay as they
    are, and nothing checks that they suit the new base. The result is annotated with its base, so
    that next time no base has to be named. Without --tag, it replaces REF.

    Prints REPO@DIGEST. With --json: ref, digest, mediaType, size (bytes).
    """
    check_clock()
    source = parse_image_ref(ref)
    target = result_ref(source, rebased if tag is None else tag)
    with open_client(connection, target=target, upload_opts=upload_opts) as client:
        image = get_tree(client, source, platform, in_place=target == source)
        if isinstance(image, ImageIndex):
            raise click.UsageError(f"{source} is an index: choose one image with --platform")
        old, new = _bases(image.annotations, old_base, new_base)
        old_image, _ = _get_base(client, old, platform, image)
        new_image, annotations = _get_base(client, new, platform, image)
        if old_image.digest == new_image.digest:
            eprint(f"{source} is already based on {new}: its layers stay")
            rebased_image = image
        else:
            rebased_image = image.rebase(old_image, new_image)
        result = rebased_image.with_annotations(annotations)
        expected = expected_digest(target, source, image)
        push_and_print(client, target, result, as_json=as_json, expected=expected)


def _bases(
    annotations: Mapping[str, str], old: str | None, new: str | None
) -> tuple[ImageRef, ImageRef]:
    """Return the old and the new base, as given or from the annotations.

    Raises UsageError if neither is known, InvalidReference.
    """
    name, digest = annotations.get(BASE_NAME), annotations.get(BASE_DIGEST)
    new = new or name
    if new is None:
        raise click.UsageError(
            f"the image has no annotation {BASE_NAME}: name a base with --new_base"
        )
    new_ref = parse_image_ref(new)
    if old is not None:
        return parse_image_ref(old), new_ref
    if not digest:
        raise click.UsageError(
            f"the image has no annotation {BASE_DIGEST}: name its base with --old_base"
        )
    base_ref = parse_image_ref(name) if name else new_ref
    return with_digest(base_ref, Digest.parse(digest)), new_ref


def _get_base(
    client: Client, ref: ImageRef, platform: Platform | None, image: Image
) -> tuple[Image, dict[str, str | None]]:
    """Return a base for an image, and the annotations of an image on that base.

    If the base is an index, choose the image for `platform`, else the one nearest to the image's
    platform; the digest in the annotations is the index's.
    """
    tree = client.get(ref, platform=platform or image.platform)
    if isinstance(tree, ImageIndex):
        base = tree.image(platform or image.platform, nearest=platform is None)
    else:
        base = tree
    name = None  # a place on this machine is not known elsewhere
    if isinstance(ref, Reference):
        name = str(Reference(ref.repository, ref.tag) if ref.tag else ref)
    return base, {BASE_DIGEST: str(tree.digest), BASE_NAME: name}
