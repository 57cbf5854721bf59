"""Conversations with a registry, as generators without I/O.

Each is a flow (`http.Flow`): the requests of one task of the distribution-spec, and what happens
after each response and failure. `Transport` in `brolga.transport` runs them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from brolga._lazy import lazy_names

if TYPE_CHECKING:
    from brolga.protocol.api_check import check_login, ping
    from brolga.protocol.auth import Access, Credentials, RegistrySession
    from brolga.protocol.blobs import (
        BlobHead,
        ReadFlow,
        delete_blob,
        get_blob_size,
        has_blob,
        read_blob,
        read_range,
    )
    from brolga.protocol.http import Blocks, BodyError, Flow, Request, Response, Timeout
    from brolga.protocol.listing import ListFlow, list_repositories, list_tags
    from brolga.protocol.manifests import (
        delete_manifest,
        find_manifest,
        get_manifest,
        head_manifest,
        put_manifest,
        put_with_tags,
    )
    from brolga.protocol.mount import mount_blob, try_mount
    from brolga.protocol.referrers import add_referrer, list_referrers, remove_referrer
    from brolga.protocol.retry import Retry
    from brolga.protocol.upload import upload_bytes, upload_stream
    from brolga.protocol.upload.known_registries import UploadStrategy, identify_registry
    from brolga.protocol.upload.session import UploadSession, cancel
    from brolga.protocol.urls import redact
else:
    __getattr__ = lazy_names(
        __name__,
        {
            "brolga.protocol.api_check": "check_login ping",
            "brolga.protocol.auth": "Access Credentials RegistrySession",
            "brolga.protocol.blobs": (
                "BlobHead ReadFlow delete_blob get_blob_size has_blob read_blob read_range"
            ),
            "brolga.protocol.http": "Blocks BodyError Flow Request Response Timeout",
            "brolga.protocol.listing": "ListFlow list_repositories list_tags",
            "brolga.protocol.manifests": (
                "delete_manifest find_manifest get_manifest head_manifest put_manifest "
                "put_with_tags"
            ),
            "brolga.protocol.mount": "mount_blob try_mount",
            "brolga.protocol.referrers": "add_referrer list_referrers remove_referrer",
            "brolga.protocol.retry": "Retry",
            "brolga.protocol.upload": "upload_bytes upload_stream",
            "brolga.protocol.upload.known_registries": "UploadStrategy identify_registry",
            "brolga.protocol.upload.session": "UploadSession cancel",
            "brolga.protocol.urls": "redact",
        },
    )

__all__ = [
    "Access",
    "BlobHead",
    "Blocks",
    "BodyError",
    "Credentials",
    "Flow",
    "ListFlow",
    "ReadFlow",
    "RegistrySession",
    "Request",
    "Response",
    "Retry",
    "Timeout",
    "UploadSession",
    "UploadStrategy",
    "add_referrer",
    "cancel",
    "check_login",
    "delete_blob",
    "delete_manifest",
    "find_manifest",
    "get_blob_size",
    "get_manifest",
    "has_blob",
    "head_manifest",
    "identify_registry",
    "list_referrers",
    "list_repositories",
    "list_tags",
    "mount_blob",
    "ping",
    "put_manifest",
    "put_with_tags",
    "read_blob",
    "read_range",
    "redact",
    "remove_referrer",
    "try_mount",
    "upload_bytes",
    "upload_stream",
]
