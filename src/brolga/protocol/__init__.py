"""Conversations with a registry, as generators: sans-IO.

Knows the distribution-spec: which request follows which answer. Must not know sockets, HTTP
libraries, clocks or threads. A flow yields a `Request`, is sent a `Response`, has a transport's failure
thrown into it, and returns its result; a driver (about 20 lines, in `transport`) does the rest.

    urls      where a registry may send us, and what of it may be shown
    http      Call, Reply, Flow: the words of a conversation
    replies   what an answer means: errors, Location
    challenge what a registry asks for before it lets us in; tokens
    retry     when a call is made again
    access    the way in: API check, authorization, redirects
    session   the steps of an upload: POST, PATCH, GET, PUT, DELETE
    upload    one blob's upload, and what is done when it fails
    ladder    what a failure means, and what it leads to
    at_hand   the upload of bytes that are at hand
    profiles  how the registries differ
    blobs     is it there, read it, delete it
    manifests by tag or by digest: read, ask for, push, delete
    referrers what has a manifest as its subject
    listing   tags, catalog
"""

from brolga.protocol.access import Access, Credentials, RegistrySession, check_login, ping
from brolga.protocol.at_hand import upload_bytes
from brolga.protocol.blobs import ReadFlow, delete_blob, has_blob, read_blob
from brolga.protocol.http import BodyError, Flow, Request, Response, Timeout
from brolga.protocol.listing import list_repositories, list_tags
from brolga.protocol.manifests import (
    Receipt,
    Stored,
    delete_manifest,
    find_manifest,
    get_manifest,
    head_manifest,
    put_manifest,
)
from brolga.protocol.profiles import KnownRegistry, UploadStrategy, profile_of
from brolga.protocol.referrers import add_referrer, list_referrers, remove_referrer
from brolga.protocol.retry import Retry
from brolga.protocol.session import UploadSession, mount_blob
from brolga.protocol.upload import Body, upload_stream

__all__ = [
    "Access",
    "Body",
    "BodyError",
    "Credentials",
    "Flow",
    "KnownRegistry",
    "ReadFlow",
    "Receipt",
    "RegistrySession",
    "Request",
    "Response",
    "Retry",
    "Stored",
    "Timeout",
    "UploadSession",
    "UploadStrategy",
    "add_referrer",
    "check_login",
    "delete_blob",
    "delete_manifest",
    "find_manifest",
    "get_manifest",
    "has_blob",
    "head_manifest",
    "list_referrers",
    "list_repositories",
    "list_tags",
    "mount_blob",
    "ping",
    "profile_of",
    "put_manifest",
    "read_blob",
    "remove_referrer",
    "upload_bytes",
    "upload_stream",
]
