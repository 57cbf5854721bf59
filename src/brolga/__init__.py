"""brolga: stream anything into a container registry, in one pass.

    import brolga

    layer = brolga.StreamLayer(sys.stdin.buffer)
    brolga.push_stream("registry.example/app:v1", layer)
    print(layer.digest, layer.diff_id)

Everything public is here. A name is loaded when it is first used, so that `import brolga` is fast.
"""

from __future__ import annotations

from brolga._lazy import lazy_names
from brolga._version import __version__

TYPE_CHECKING = False  # see _lazy
if TYPE_CHECKING:
    from brolga.aio import AsyncClient
    from brolga.auth import Keychain, default_keychain
    from brolga.client import (
        Client,
        TransportOptions,
        UploadOptions,
        image,
        push,
        push_layer,
        push_stream,
    )
    from brolga.errors import (
        BrolgaError,
        CorruptBlob,
        CredentialsError,
        Denied,
        DigestMismatch,
        ExtractionError,
        ImageNotFound,
        InvalidDigest,
        InvalidLayout,
        InvalidManifest,
        InvalidReference,
        LayerError,
        NotComputed,
        NotFound,
        PlatformNotFound,
        ProtocolViolation,
        RangeNotSupported,
        RateLimited,
        RegistryError,
        SourceError,
        SpoolError,
        StateError,
        StreamConsumed,
        StreamNotReplayable,
        TagConflict,
        TransportError,
        Unauthorized,
        UploadInterrupted,
    )
    from brolga.extract import ExtractLimits, ExtractOptions
    from brolga.images import (
        Image,
        ImageIndex,
        InMemoryBlob,
        RangeOptions,
        SeekableBlob,
        StoredBlob,
        uncompressed,
    )
    from brolga.images.layer_notes import LayerWarning
    from brolga.images.validate import Problem, validate
    from brolga.protocol import Credentials, Retry
    from brolga.spec.blob import Blob, BlobStream, Layer, LayerState, Progress
    from brolga.spec.config import History, ImageConfig
    from brolga.spec.descriptor import Descriptor
    from brolga.spec.digest import Digest
    from brolga.spec.index import Index
    from brolga.spec.manifest import Manifest
    from brolga.spec.platform import Platform
    from brolga.spec.progress import (
        BlobBegun,
        BlobDone,
        BlobEvent,
        BlobFailed,
        BlobMounted,
        BlobMoved,
        BlobResumed,
        BlobRetried,
        BlobSkipped,
        BlobsPlanned,
        ProgressEvent,
    )
    from brolga.spec.reference import Reference, Repository
    from brolga.stores.layout import Layout
    from brolga.stores.location import ImageRef, LocalRef, parse_image_ref
    from brolga.stores.read_budget import ReadOptions
    from brolga.stream.command import Command
    from brolga.stream.decompression import Limits
    from brolga.stream.layer import LayerStream, StreamLayer
else:
    __getattr__ = lazy_names(
        __name__,
        {
            "brolga.aio": "AsyncClient",
            "brolga.auth": "Keychain default_keychain",
            "brolga.client": (
                "Client TransportOptions UploadOptions image push push_layer push_stream"
            ),
            "brolga.errors": (
                "BrolgaError CorruptBlob CredentialsError Denied DigestMismatch "
                "ExtractionError ImageNotFound InvalidDigest InvalidLayout InvalidManifest "
                "InvalidReference LayerError NotComputed NotFound PlatformNotFound "
                "ProtocolViolation RangeNotSupported RateLimited RegistryError "
                "SourceError SpoolError StateError StreamConsumed StreamNotReplayable "
                "TagConflict TransportError Unauthorized UploadInterrupted"
            ),
            "brolga.extract": "ExtractLimits ExtractOptions",
            "brolga.images": (
                "Image ImageIndex InMemoryBlob RangeOptions SeekableBlob StoredBlob uncompressed"
            ),
            "brolga.images.layer_notes": "LayerWarning",
            "brolga.images.validate": "Problem validate",
            "brolga.protocol": "Credentials Retry",
            "brolga.spec.blob": "Blob BlobStream Layer LayerState Progress",
            "brolga.spec.config": "History ImageConfig",
            "brolga.spec.descriptor": "Descriptor",
            "brolga.spec.digest": "Digest",
            "brolga.spec.index": "Index",
            "brolga.spec.manifest": "Manifest",
            "brolga.spec.platform": "Platform",
            "brolga.spec.progress": (
                "BlobBegun BlobDone BlobEvent BlobFailed BlobMounted BlobMoved BlobResumed "
                "BlobRetried BlobSkipped BlobsPlanned ProgressEvent"
            ),
            "brolga.spec.reference": "Reference Repository",
            "brolga.stores.layout": "Layout",
            "brolga.stores.location": "ImageRef LocalRef parse_image_ref",
            "brolga.stores.read_budget": "ReadOptions",
            "brolga.stream.command": "Command",
            "brolga.stream.decompression": "Limits",
            "brolga.stream.layer": "LayerStream StreamLayer",
        },
    )

__all__ = [
    "AsyncClient",
    "Blob",
    "BlobBegun",
    "BlobDone",
    "BlobEvent",
    "BlobFailed",
    "BlobMounted",
    "BlobMoved",
    "BlobResumed",
    "BlobRetried",
    "BlobSkipped",
    "BlobStream",
    "BlobsPlanned",
    "BrolgaError",
    "Client",
    "Command",
    "CorruptBlob",
    "Credentials",
    "CredentialsError",
    "Denied",
    "Descriptor",
    "Digest",
    "DigestMismatch",
    "ExtractLimits",
    "ExtractOptions",
    "ExtractionError",
    "History",
    "Image",
    "ImageConfig",
    "ImageIndex",
    "ImageNotFound",
    "ImageRef",
    "InMemoryBlob",
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
    "LocalRef",
    "Manifest",
    "NotComputed",
    "NotFound",
    "Platform",
    "PlatformNotFound",
    "Problem",
    "Progress",
    "ProgressEvent",
    "ProtocolViolation",
    "RangeNotSupported",
    "RangeOptions",
    "RateLimited",
    "ReadOptions",
    "Reference",
    "RegistryError",
    "Repository",
    "Retry",
    "SeekableBlob",
    "SourceError",
    "SpoolError",
    "StateError",
    "StoredBlob",
    "StreamConsumed",
    "StreamLayer",
    "StreamNotReplayable",
    "TagConflict",
    "TransportError",
    "TransportOptions",
    "Unauthorized",
    "UploadInterrupted",
    "UploadOptions",
    "__version__",
    "default_keychain",
    "image",
    "parse_image_ref",
    "push",
    "push_layer",
    "push_stream",
    "uncompressed",
    "validate",
]


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return sorted(__all__)
