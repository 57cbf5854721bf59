"""What a user of the library calls: a client of registries, and of what is on this machine.

Knows which store and which flow does what, and where credentials and connections come from. Must
not know HTTP or how bytes are compressed.

    connected   what a client is connected to, and as whom
    reading     what can be read of a place
    pushing     what can be written to one
    registries  which registries there are, and how a repository becomes a store
    remote      one repository of a registry, as a store of images
    local       layouts and archives, as stores of images
    target      where a tree is to go, by its name
    names       what a call is given, as a text or read already
    tags        which tag each image of an archive gets elsewhere
    referrers   what refers to a tree, copied with it
    streams     streams as artifacts of one blob
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from brolga.auth import default_keychain
from brolga.client.pushing import Pushing
from brolga.spec.mediatypes import UNKNOWN_ARTIFACT

if TYPE_CHECKING:
    from brolga.images import Image, Tree
    from brolga.spec.blob import Blob
    from brolga.spec.descriptor import Descriptor
    from brolga.spec.platform import Platform
    from brolga.spec.reference import Repository
    from brolga.stores.location import ImageRef, LocalRef
    from brolga.stream.layer import StreamLayer

__all__ = ["Client", "image", "push", "push_layer", "push_stream"]


class Client(Pushing):
    """A client of registries, with its connections. Threads may share one; close it at the end.

    Where it takes a name it takes a place on this machine too (`brolga.stores.location`): `oci:DIR:TAG`,
    `oci-archive:FILE:TAG`, `docker-archive:FILE:NAME:TAG`.

    `credentials` is a keychain, which is asked for each repository, or credentials for every
    registry; None is anonymous, whatever the environment holds. `insecure` allows plain http and
    unverified TLS; without it plain http is spoken to loopback addresses alone. `ca_cert` is a PEM
    file of further authorities, `client_cert` and `client_key` are what this client shows of
    itself. `timeout_s` bounds, in seconds, connecting, each write, and the wait for an answer.
    `jobs` is how many blobs are pushed at a time. `retry` says how often a call that may be
    repeated is, and after which pauses. `upload_style` is how blobs go out: `auto` (as suits the
    registry), `streamed`, `put`, `chunked` or `chunked:BYTES` (`UploadStrategy.override`); a
    mapping has that for registries by their names. `window` is how many bytes are kept in memory
    of each stream that can be read only once, to go out again if a connection fails; blobs that can
    be read again share another window. `spool` keeps all bytes instead, in a file without a name in
    that directory, or (True) in the system's for temporary files.
    `on_warning` is told host and text of a registry's warnings, each once.

    Raises OSError where a certificate cannot be read, ValueError where `timeout_s` is not a time
    of up to a day, `jobs` less than 1, `window` less than 0 or a style not one.
    """


def push_layer(repository: Repository | LocalRef | str, layer: Blob) -> Descriptor:
    """Stream a layer into a repository: see `Client.push_layer`.

    With a client of its own, and the credentials that the command uses (`default_keychain`).
    """
    with Client(credentials=default_keychain()) as client:
        return client.push_layer(repository, layer)


def push_stream(
    place: ImageRef | str, stream: StreamLayer, *, artifact_type: str = UNKNOWN_ARTIFACT
) -> ImageRef:
    """Push a stream under a name that keeps it: see `Client.push_stream`.

    Credentials are found as by `push_layer`.
    """
    with Client(credentials=default_keychain()) as client:
        return client.push_stream(place, stream, artifact_type=artifact_type)


def push(place: ImageRef | str, tree: Tree) -> ImageRef:
    """Push an image or an index: see `Client.push`; credentials are found as by `push_layer`."""
    with Client(credentials=default_keychain()) as client:
        return client.push(place, tree)


def image(place: ImageRef | str, platform: Platform | None = None) -> Image:
    """Return an image: see `Client.image`; credentials are found as by `push_layer`.

    Its layers are read when they are asked for. The connections are closed when nobody has any
    part of the image any more.
    """
    client = Client(credentials=default_keychain())
    try:
        found = client.image(place, platform)
    except BaseException:
        client.close()
        raise
    client.close_when_dropped()
    return found
