"""`brolga flatten`: merge the layers of an image into one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

import click

from brolga.cli import options
from brolga.cli.click_ext import verb
from brolga.cli.client_factory import open_client
from brolga.cli.mutation import (
    check_clock,
    expected_digest,
    get_tree,
    push_and_print,
    refuse_archive,
    result_ref,
)
from brolga.cli.output import eprint, print_warning
from brolga.errors import InvalidManifest
from brolga.images import Image, ImageIndex, Tree
from brolga.images.index import is_blob
from brolga.spec.mediatypes import IMAGE_CONFIGS
from brolga.spec.value import Value, field, replace
from brolga.stores.location import LocalRef, home_of, parse_image_ref

if TYPE_CHECKING:
    from brolga.client import Client
    from brolga.spec.descriptor import Descriptor
    from brolga.spec.digest import Digest
    from brolga.spec.platform import Platform
    from brolga.spec.reference import Repository

_MAX_DEPTH: Final = 16  # indexes within indexes, as when they are pushed


@verb(
    "flatten",
    "brolga flatten registry.example/app:v1",
    "brolga flatten registry.example/app:v1 -t localhost:5000/app:flat",
)
@click.argument("ref")
@options.tag
@options.platform
@options.strict
@options.upload
@options.json_output
@options.connection
def command(  # noqa: PLR0913 - the flags of the verb
    *,
    ref: str,
    tag: str | None,
    platform: Platform | None,
    strict: bool,
    upload_opts: options.UploadFlags,
    as_json: bool,
    connection: options.ConnectionOptions,
) -> None:
    """Merge the layers of an image into one.

    It shows the same files as a container of the image. If readers differ on an entry, stderr says
    so; with --strict it is an error. If REF is an index, each of its images is flattened, or the
    one for --platform; anything else in it (attestations, which describe the old images) is left
    out. The new layer is made while it is pushed, in one pass over the old ones; a hard link to a
    file that a layer above replaces or removes needs --spool. Without --tag, the result replaces
    REF.

    Prints REPO@DIGEST. With --json: ref, digest, mediaType, size (bytes).
    """
    check_clock()
    source = parse_image_ref(ref)
    target = result_ref(source, tag)
    home = home_of(target)

    def flatten(image: Image) -> Image:
        warn, spool = partial(print_warning, ref), upload_opts.spool
        return image.flatten(strict=strict, on_warning=warn, spool=spool)

    with open_client(connection, target=home, upload_opts=upload_opts) as client:
        tree = get_tree(client, source, platform, in_place=target == source, compress_layers=False)
        expected = expected_digest(target, source, tree)
        if isinstance(tree, Image):
            flat: Tree = flatten(tree)
        else:
            refuse_archive(home)  # the images are pushed one by one
            flat = _IndexFlattener(client, home, flatten).flatten_index(tree)
        push_and_print(client, target, flat, as_json=as_json, expected=expected)


class _IndexFlattener(Value):
    """Flattens and pushes each image of an index once."""

    client: Client
    home: Repository | LocalRef
    flatten: Callable[[Image], Image]
    done: dict[Digest, Tree] = field(default_factory=dict)

    def flatten_index(self, index: ImageIndex, depth: int = 0) -> ImageIndex:
        """Push the flattened images of an index; return the index of them.

        Raises InvalidManifest for indexes that are nested too deep.
        """
        if depth > _MAX_DEPTH:
            raise InvalidManifest(f"indexes are nested deeper than {_MAX_DEPTH} levels")
        flat = index.filter(lambda _: False)
        for descriptor in index.index.manifests:
            child = self._flatten_child(index, descriptor, depth)
            if child is None:
                eprint(f"left out {descriptor.digest}: it is not an image of files")
                continue
            new = child.descriptor
            described = replace(
                descriptor, media_type=new.media_type, digest=new.digest, size=new.size, data=None
            )
            flat = flat.append(child, described=described)
        return flat

    def _flatten_child(
        self, index: ImageIndex, descriptor: Descriptor, depth: int
    ) -> Image | ImageIndex | None:
        """Push a flattened child of an index; return it, or None if it is not an image of files."""
        # buildkit's attestations are images by their types, and its cache index lists blobs
        is_attestation = descriptor.platform is not None and descriptor.platform.os == "unknown"
        if is_attestation or is_blob(descriptor):
            return None
        if descriptor.digest in self.done:
            return self.done[descriptor.digest]
        child = index.child(descriptor)
        if not isinstance(child, Image):
            flat: Tree = self.flatten_index(child, depth + 1)
        elif child.manifest.config.media_type in IMAGE_CONFIGS:
            flat = self.flatten(child)
        else:
            return None
        self.client.push(self.home, flat)
        self.done[descriptor.digest] = flat
        return flat
