"""Shared by verbs that change an image: how they read it, and name and print the result."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import click

from brolga import images
from brolga.cli.local_paths import check_target, print_ref
from brolga.spec.value import replace
from brolga.stores.location import ImageRef, LocalRef, is_archive, parse_image_ref

if TYPE_CHECKING:
    from brolga.client import Client
    from brolga.images import ImageIndex, Tree
    from brolga.spec.digest import Digest
    from brolga.spec.platform import Platform
    from brolga.spec.reference import Repository

# image-spec annotations.md, Pre-Defined Annotation Keys.
BASE_DIGEST: Final = "org.opencontainers.image.base.digest"
BASE_NAME: Final = "org.opencontainers.image.base.name"


def check_clock() -> None:
    """Raise UsageError if SOURCE_DATE_EPOCH is not a valid timestamp."""
    try:
        images.creation_time()
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def result_ref(source: ImageRef, tag: str | None) -> ImageRef | Repository:
    """Return the name of the result: `tag`, which is a whole name, or the name of `source`.

    If that has a digest, return its repository: the result is pushed by its own digest. Raises
    InvalidReference, and UsageError for an archive, which cannot be changed in place.
    """
    ref = source if tag is None else parse_image_ref(tag)
    if isinstance(ref, LocalRef):
        if tag is None and (is_archive(ref) or not ref.name):
            raise click.UsageError(
                f"{ref} cannot be changed in place: name the result with --tag, or an image "
                "of a layout as oci:DIR:NAME"
            )
        check_target(ref)
        return ref if ref.tag else replace(ref, name="")
    return ref.repository if ref.digest is not None else ref


def refuse_archive(target: ImageRef | Repository) -> None:
    """Raise UsageError for an archive, which is written once, with one image or index."""
    if is_archive(target):
        raise click.UsageError(
            f"{target} is an archive, which is written once, as a whole: copy it to oci:DIR first"
        )


def get_tree(
    client: Client,
    source: ImageRef,
    platform: Platform | None,
    *,
    in_place: bool,
    compress_layers: bool = True,
) -> Tree:
    """Return the image or index that `source` names; if `platform` is given, an image.

    `compress_layers` is as in `Client.get`. Raises UsageError if an image would replace its index.
    """
    tree = client.get(source, compress_layers=compress_layers, platform=platform)
    if platform is None or not isinstance(tree, images.ImageIndex):
        return tree
    if in_place and source.digest is None:
        raise click.UsageError(
            f"{source} is an index, and its name would then stand for only one of its images: "
            "name the result with --tag"
        )
    return tree.image(platform)


def get_index(client: Client, source: ImageRef) -> ImageIndex:
    """Return the index that `source` names. Raises UsageError if it is an image."""
    tree = client.get(source)
    if isinstance(tree, images.ImageIndex):
        return tree
    raise click.UsageError(f"{source} is an image, not an index")


def expected_digest(
    target: ImageRef | Repository, source: ImageRef, original: Tree
) -> Digest | None:
    """Return the digest that the tag of a result must have until it is written, or None.

    If the result replaces `source`, that is the digest of the `original`: the change of another
    client must not be lost.
    """
    return original.digest if target == source and source.digest is None else None


def push_and_print(  # noqa: PLR0913 - an image, its place, and its output
    client: Client,
    target: ImageRef | Repository,
    tree: Tree,
    *,
    as_json: bool,
    expected: Digest | None = None,
    more: Mapping[str, object] | None = None,
) -> None:
    """Push a tree and print its name by digest; `more` is added to the JSON object.

    `expected` is from `expected_digest`. Raises TagConflict.
    """
    ref = client.push(target, tree, expected=expected)
    descriptor = tree.descriptor
    more = {"mediaType": descriptor.media_type, "size": descriptor.size, **(more or {})}
    print_ref(ref, done="pushed", as_json=as_json, more=more, digest=descriptor.digest)
