"""`brolga flatten`: an image whose layers are one.

Knows flags, and what becomes of an index. Must not know how layers are put together.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Final

import click

from brolga.cli.click_ext import Verb
from brolga.cli.client_factory import Connection, open_client
from brolga.cli.mutation import check_clock, check_open, place, pushed, replaced, tag_flag, tree_of
from brolga.cli.options import (
    Sending,
    json_flag,
    platform_flag,
    registry_flags,
    strict_flag,
    upload_flags,
)
from brolga.cli.output import say, warn

if TYPE_CHECKING:
    from collections.abc import Callable

    from brolga.client import Client
    from brolga.images import Image, ImageIndex, Tree
    from brolga.spec.descriptor import Descriptor
    from brolga.spec.digest import Digest
    from brolga.spec.platform import Platform
    from brolga.spec.reference import Repository
    from brolga.stores.location import LocalRef

__all__ = ["command"]

_MAX_DEPTH: Final = 16  # indexes within indexes, as when they are pushed
_EXAMPLES = """\b
Examples:
  brolga flatten registry.example/app:v1
  brolga flatten registry.example/app:v1 -t localhost:5000/app:flat
"""


@click.command("flatten", cls=Verb, epilog=_EXAMPLES)
@click.argument("ref")
@tag_flag
@platform_flag
@strict_flag
@upload_flags
@json_flag
@registry_flags
def command(  # noqa: PLR0913 - the flags of the verb
    *,
    ref: str,
    tag: str | None,
    platform: Platform | None,
    strict: bool,
    sending: Sending,
    as_json: bool,
    connection: Connection,
) -> None:
    """Merge the layers of an image into one.

    It shows the same files as a container of the image. An entry on which readers differ is named
    on stderr; with --strict it is an error. If REF is an index, each of its images is flattened, or
    the one for --platform; whatever else is in it (attestations, which are about the old images) is
    left out. The new layer is made while it is pushed, in one pass over the old ones. Without
    --tag, the result replaces REF.

    Prints REPO@DIGEST. With --json: ref, digest, mediaType, size (bytes).
    """
    from brolga.stores.location import home_of, parse_image_ref, registry_of

    check_clock()
    source = parse_image_ref(ref)
    where = place(source, tag)
    home = home_of(where)
    with open_client(connection, registry=registry_of(home), sending=sending) as client:
        tree = tree_of(client, source, platform, in_place=where == source, compress_layers=False)
        expected = replaced(where, source, tree)
        flatten = partial(_flat_image, warn=partial(warn, ref), strict=strict)
        flat = _flat(client, home, tree, flatten)
        pushed(client, where, flat, as_json=as_json, expected=expected)


def _flat_image(image: Image, *, warn: Callable[[str], object], strict: bool) -> Image:
    return image.flatten(strict=strict, on_warning=warn)


def _flat(
    client: Client, home: Repository | LocalRef, tree: Tree, flatten: Callable[[Image], Image]
) -> Tree:
    from brolga.images import Image

    if isinstance(tree, Image):
        return flatten(tree)
    check_open(home)  # the images go one by one
    return _Flattening(client, home, flatten).index(tree)


@dataclass(frozen=True)
class _Flattening:
    """An index on its way to one of flat images; each child is flattened and pushed once."""

    client: Client
    home: Repository | LocalRef
    flatten: Callable[[Image], Image]
    done: dict[Digest, Tree] = field(default_factory=dict)

    def index(self, index: ImageIndex, depth: int = 0) -> ImageIndex:
        """Push each image of an index, flattened; return the index of them, which has digests then.

        Raises InvalidManifest for indexes that are nested too deep.
        """
        from brolga.errors import InvalidManifest

        if depth > _MAX_DEPTH:
            raise InvalidManifest(f"indexes are nested deeper than {_MAX_DEPTH} levels")
        flat = index.filter(lambda _: False)
        for descriptor in index.index.manifests:
            child = self._child(index, descriptor, depth)
            if child is None:
                say(f"left out {descriptor.digest}: it is not an image of files")
            else:
                flat = flat.append(child, described=_described(descriptor, child.descriptor))
        return flat

    def _child(self, index: ImageIndex, descriptor: Descriptor, depth: int) -> Tree | None:
        """Return what a child of an index becomes; None if it is not an image of files."""
        from brolga.images import Image
        from brolga.images.index import is_blob
        from brolga.spec.mediatypes import IMAGE_CONFIGS

        # buildkit's attestations are images by their types, and its cache index lists blobs
        is_attestation = descriptor.platform is not None and descriptor.platform.os == "unknown"
        if is_attestation or is_blob(descriptor):
            return None
        if descriptor.digest in self.done:
            return self.done[descriptor.digest]
        child = index.child(descriptor)
        if not isinstance(child, Image):
            flat: Tree = self.index(child, depth + 1)
        elif child.manifest.config.media_type in IMAGE_CONFIGS:
            flat = self.flatten(child)
        else:
            return None
        self.client.push(self.home, flat)
        self.done[descriptor.digest] = flat
        return flat


def _described(old: Descriptor, now: Descriptor) -> Descriptor:
    """Return what an index says of a child, with the digest that it has now."""
    return replace(old, media_type=now.media_type, digest=now.digest, size=now.size, data=None)
