"""Conversations with a registry, as generators: sans-IO.

Knows the distribution-spec: which request follows which answer. Must not know sockets, HTTP
libraries, clocks or threads. A flow yields a `Call`, is sent a `Reply`, has a transport's failure
thrown into it, and returns its result; a driver (about 20 lines, in `transport`) does the rest.

    urls      where a registry may send us, and what of it may be shown
    http      Call, Reply, Flow: the words of a conversation
    replies   what an answer means: errors, Location
    access    the way in: API check, challenge, token, the Authorization header
    upload    one blob: POST, PATCH, PUT, DELETE
"""

from brolga.wire.access import Access, Credentials, enter
from brolga.wire.http import BodyFailed, Call, Flow, Patience, Reply
from brolga.wire.upload import upload_stream

__all__ = [
    "Access",
    "BodyFailed",
    "Call",
    "Credentials",
    "Flow",
    "Patience",
    "Reply",
    "enter",
    "upload_stream",
]
