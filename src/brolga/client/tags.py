"""The tags that the images of a place get elsewhere, each by the name that it has there.

Knows how tags and longer names are written. Must not know how an image is read or copied.

Strategy: a registry's repository has tags, an archive names like `example.com/app:v1`. Of such a
name the tag counts. Two images that would get one tag are an error, before anything is copied.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from brolga.client import local
from brolga.client.names import named
from brolga.errors import ImageNotFound, InvalidDigest, InvalidReference, excerpt
from brolga.images import Image
from brolga.spec.digest import Digest
from brolga.spec.reference import Reference, Repository
from brolga.stores.location import LocalRef

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from brolga.client.reading import Reading
    from brolga.images import Tree
    from brolga.spec.platform import Platform

__all__ = ["tags_between", "tags_of"]


def tags_between(
    client: Reading,
    source: Repository | LocalRef,
    target: Repository | LocalRef,
    platform: Platform | None = None,
) -> dict[str, str]:
    """Return for each tag that `target` would get the name in `source` that has it.

    `platform` is what chooses one of several images of one name: without it they are an error.
    """
    if isinstance(source, LocalRef):
        local.check_tags(source, is_one_each=platform is None)
    names = client.tags(source)
    if isinstance(source, Repository) or (source.kind == "oci" and isinstance(target, LocalRef)):
        return {name: name for name in names}
    return tags_of(names, lambda name: client.get(named(source, name), platform=platform))


def tags_of(names: Iterable[str], tree: Callable[[str], Tree]) -> dict[str, str]:
    """Return for each tag the name that has it; `tree` reads the image of a name.

    What is named by its file or digest has none. Raises InvalidReference for two images of one tag,
    and for a name that ends with none, ImageNotFound where there are images and no tag.
    """
    names = list(names)
    found: dict[str, str] = {}
    for name in names:
        tag = _tag(name)
        if not tag:
            continue
        other = found.setdefault(tag, name)
        if other != name and _identity(tree(other)) != _identity(tree(name)):
            error = InvalidReference(
                f"{excerpt(other)} and {excerpt(name)} are two images, and both would get the "
                f"tag {tag}"
            )
            error.add_note("copy them one by one")
            raise error
    if names and not found:
        raise ImageNotFound("none of the images has a tag: copy each by its number, as SRC:@0")
    return found


def _tag(name: str) -> str:
    """Return the tag of a name, "" where it has none. Raises InvalidReference."""
    with suppress(InvalidDigest):
        if Digest.parse(name).is_computable:  # app:v1 is in the grammar of digests, too
            return ""
    if not {"/", ":", "@"} & set(name):
        return "" if name.endswith(".json") else name
    reference = Reference.parse(name)
    return "" if reference.tag_is_default else reference.tag or ""


def _identity(tree: Tree) -> Digest:
    """Return what two names of one image have in common: in Docker's form that is the config."""
    return tree.config_blob.descriptor.digest if isinstance(tree, Image) else tree.digest
