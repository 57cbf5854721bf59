"""Conversations with a registry, as generators: sans-IO.

Knows the distribution-spec: which request follows which answer. Must not know sockets, HTTP
libraries, clocks or threads. A flow yields a `Call`, is sent a `Reply`, has a transport's failure
thrown into it, and returns its result; a driver (about 20 lines, in `transport`) does the rest.

    urls      where a registry may send us, and what of it may be shown
    http      Call, Reply, Flow: the words of a conversation
    replies   what an answer means: errors, Location
    challenge what a registry asks for before it lets us in; tokens
    retry     when a call is made again
    access    the way in: API check, authorization, redirects
    upload    the upload of a blob, as a state machine; how the registries differ
    blobs     is it there, read it, delete it
    manifests by tag or by digest: read, ask for, push, delete
    referrers what has a manifest as its subject
    listing   tags, catalog
"""

from brolga.wire.access import Access, Credentials, Registry, check_login, enter
from brolga.wire.blobs import ReadFlow, delete_blob, has_blob, read_blob
from brolga.wire.http import BodyFailed, Call, Flow, Patience, Reply
from brolga.wire.listing import list_repositories, list_tags
from brolga.wire.manifests import (
    Receipt,
    Stored,
    delete_manifest,
    find_manifest,
    get_manifest,
    head_manifest,
    put_manifest,
)
from brolga.wire.referrers import add_referrer, list_referrers, remove_referrer
from brolga.wire.retry import Retry
from brolga.wire.upload import (
    Body,
    KnownRegistry,
    UploadSession,
    UploadStrategy,
    identify_registry,
    mount_blob,
    upload_bytes,
    upload_stream,
)

__all__ = [
    "Access",
    "Body",
    "BodyFailed",
    "Call",
    "Credentials",
    "Flow",
    "KnownRegistry",
    "Patience",
    "ReadFlow",
    "Receipt",
    "Registry",
    "Reply",
    "Retry",
    "Stored",
    "UploadSession",
    "UploadStrategy",
    "add_referrer",
    "check_login",
    "delete_blob",
    "delete_manifest",
    "enter",
    "find_manifest",
    "get_manifest",
    "has_blob",
    "head_manifest",
    "identify_registry",
    "list_referrers",
    "list_repositories",
    "list_tags",
    "mount_blob",
    "put_manifest",
    "read_blob",
    "remove_referrer",
    "upload_bytes",
    "upload_stream",
]
