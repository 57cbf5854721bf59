"""Functions with a client of their own, which uses the credentials of the command.

They are the methods of that name: see `Client`, and `default_keychain`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from brolga.auth import default_keychain
from brolga.client.client import Client
from brolga.spec.mediatypes import UNKNOWN_ARTIFACT

if TYPE_CHECKING:
    from brolga.images import Image, Tree
    from brolga.spec.blob import Blob
    from brolga.spec.descriptor import Descriptor
    from brolga.spec.platform import Platform
    from brolga.spec.reference import Repository
    from brolga.stores.location import ImageRef, LocalRef
    from brolga.stream.layer import StreamLayer


def push_layer(repository: Repository | LocalRef | str, layer: Blob) -> Descriptor:
    """Stream a layer into a repository: see `Client.push_layer`."""
    with Client(credentials=default_keychain()) as client:
        return client.push_layer(repository, layer)


def push_stream(
    place: ImageRef | str, stream: StreamLayer, *, artifact_type: str = UNKNOWN_ARTIFACT
) -> ImageRef:
    """Push a stream under a name that keeps it: see `Client.push_stream`."""
    with Client(credentials=default_keychain()) as client:
        return client.push_stream(place, stream, artifact_type=artifact_type)


def push(place: ImageRef | str, tree: Tree) -> ImageRef:
    """Push an image or an index: see `Client.push`."""
    with Client(credentials=default_keychain()) as client:
        return client.push(place, tree)


def image(place: ImageRef | str, platform: Platform | None = None) -> Image:
    """Return an image, whose layers are read when they are needed: see `Client.image`."""
    client = Client(credentials=default_keychain())
    try:
        pulled = client.image(place, platform)
    except BaseException:
        client.close()
        raise
    client.close_when_dropped()
    return pulled
