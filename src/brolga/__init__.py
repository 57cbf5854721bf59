"""brolga: stream anything into a container registry, in one pass.

    import brolga

    layer = brolga.StreamLayer(sys.stdin.buffer)
    brolga.push_stream("registry.example/app:v1", layer)
    print(layer.digest, layer.diff_id)

Everything public is here. A name is loaded when it is first used, so that importing brolga, and
starting its command, costs little.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from brolga._version import __version__

if TYPE_CHECKING:
    from brolga.auth import Keychain, default_keychain
    from brolga.blob import Blob, BlobStream, Layer, LayerState, Progress
    from brolga.client import (
        Client,
        TransportOptions,
        UploadOptions,
        image,
        push,
        push_layer,
        push_stream,
    )
    from brolga.command import Command
    from brolga.descriptor import Descriptor, Platform
    from brolga.digest import Digest
    from brolga.errors import (
        BrolgaError,
        CorruptBlob,
        CredentialsError,
        Denied,
        DigestMismatch,
        InvalidDigest,
        InvalidLayout,
        InvalidManifest,
        InvalidReference,
        LayerError,
        NoSuchImage,
        NoSuchPlatform,
        NotComputed,
        NotFound,
        ProtocolViolation,
        RateLimited,
        RegistryError,
        SourceError,
        SpoolFailed,
        StreamConsumed,
        StreamNotReplayable,
        TagMoved,
        TransportFailed,
        Unauthorized,
        UploadInterrupted,
    )
    from brolga.images import BlobLayer, BytesBlob, Image, ImageIndex
    from brolga.images.flatten import LayerWarning
    from brolga.images.validate import Limits, Problem, validate
    from brolga.layer import LayerStream, StreamLayer
    from brolga.layout import Layout
    from brolga.manifest import History, ImageConfig, Index, Manifest
    from brolga.place import Local, Place, parse_place
    from brolga.reference import Reference, Repository
    from brolga.wire import Credentials, Retry

__all__ = [
    "Blob",
    "BlobLayer",
    "BlobStream",
    "BrolgaError",
    "BytesBlob",
    "Client",
    "Command",
    "CorruptBlob",
    "Credentials",
    "CredentialsError",
    "Denied",
    "Descriptor",
    "Digest",
    "DigestMismatch",
    "History",
    "Image",
    "ImageConfig",
    "ImageIndex",
    "Index",
    "InvalidDigest",
    "InvalidLayout",
    "InvalidManifest",
    "InvalidReference",
    "Keychain",
    "Layer",
    "LayerError",
    "LayerState",
    "LayerStream",
    "LayerWarning",
    "Layout",
    "Limits",
    "Local",
    "Manifest",
    "NoSuchImage",
    "NoSuchPlatform",
    "NotComputed",
    "NotFound",
    "Place",
    "Platform",
    "Problem",
    "Progress",
    "ProtocolViolation",
    "RateLimited",
    "Reference",
    "RegistryError",
    "Repository",
    "Retry",
    "SourceError",
    "SpoolFailed",
    "StreamConsumed",
    "StreamLayer",
    "StreamNotReplayable",
    "TagMoved",
    "TransportFailed",
    "TransportOptions",
    "Unauthorized",
    "UploadInterrupted",
    "UploadOptions",
    "__version__",
    "default_keychain",
    "image",
    "parse_place",
    "push",
    "push_layer",
    "push_stream",
    "validate",
]

_HOMES = {
    "brolga.auth": ("Keychain", "default_keychain"),
    "brolga.blob": ("Blob", "BlobStream", "Layer", "LayerState", "Progress"),
    "brolga.client": (
        "Client",
        "TransportOptions",
        "UploadOptions",
        "image",
        "push",
        "push_layer",
        "push_stream",
    ),
    "brolga.command": ("Command",),
    "brolga.descriptor": ("Descriptor", "Platform"),
    "brolga.digest": ("Digest",),
    "brolga.images": ("BlobLayer", "BytesBlob", "Image", "ImageIndex"),
    "brolga.images.flatten": ("LayerWarning",),
    "brolga.images.validate": ("Limits", "Problem", "validate"),
    "brolga.layer": ("LayerStream", "StreamLayer"),
    "brolga.layout": ("Layout",),
    "brolga.manifest": ("History", "ImageConfig", "Index", "Manifest"),
    "brolga.place": ("Local", "Place", "parse_place"),
    "brolga.reference": ("Reference", "Repository"),
    "brolga.wire": ("Credentials", "Retry"),
}
_HOME_BY_NAME = {name: home for home, names in _HOMES.items() for name in names}


if not TYPE_CHECKING:  # to a type checker, a name that is not in `__all__` is an error

    def __getattr__(name: str) -> object:
        """Load a public name from the module that it lives in (PEP 562)."""
        if name not in __all__:
            raise AttributeError(f"module 'brolga' has no attribute {name!r}")
        value: object = getattr(import_module(_HOME_BY_NAME.get(name, "brolga.errors")), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return sorted(__all__)
