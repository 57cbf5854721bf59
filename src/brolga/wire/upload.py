"""One blob's upload: POST, one streamed PATCH, PUT, and DELETE where it fails.

Knows the distribution-spec's "Pushing blobs" and what registries make of it. Must not know what
the bytes are, or how they travel.

    POST  …/blobs/uploads/   the token is proved here, before any byte of the body
    PATCH Location           the stream, Transfer-Encoding: chunked, no Content-Range: the form
                             that every registry takes, for a length that nobody knows yet
    PUT   Location?digest=   an empty body: the registry compares its digest with ours
    DELETE Location          on any failure: an abandoned session is not left behind

The digest comes from `seal`, called after the last byte: a stream that did not end cleanly has no
digest, so it cannot be committed, whatever the registry answered.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from brolga.digest import Digest
from brolga.errors import (
    BrolgaError,
    DigestMismatch,
    InvalidDigest,
    TransportFailed,
    UploadInterrupted,
)
from brolga.wire.http import Call, Patience
from brolga.wire.replies import expect, location
from brolga.wire.urls import with_digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from brolga.descriptor import Descriptor
    from brolga.wire.access import Access
    from brolga.wire.http import Flow, Reply

__all__ = ["upload_stream"]

# One registry or another answers a PATCH with each of these (ECR 201, JFrog 200 and 204).
_PATCHED: Final = (200, 201, 202, 204)
# A proxy lost the registry's answer: the registry may have done its work all the same. Committing
# a large blob outlasts many a proxy's patience (goharbor/harbor#19573).
_GATEWAY: Final = (502, 504)
_OK: Final = 200


def upload_stream(
    access: Access, body: Iterable[bytes | memoryview], seal: Callable[[], Descriptor]
) -> Flow[Descriptor]:
    """Upload a stream of unknown length as a blob (distribution-spec, Pushing blobs).

    `seal` returns the blob's descriptor and is called once, after the whole body went out.

    Raises UploadInterrupted where the bytes did not all arrive, RegistryError where the registry
    refused, DigestMismatch where it stored other bytes, and whatever the body or `seal` raised.
    """
    session = yield from _start(access)
    try:
        session = yield from _send(access, session, body)
        descriptor = seal()
        yield from _commit(access, session, descriptor)
    except GeneratorExit:
        raise  # the flow was dropped: nobody is there to make a call
    except BaseException:
        yield from _cancel(access, session)
        raise
    return descriptor


def _start(access: Access) -> Flow[str]:
    """Open a session; return its Location (distribution-spec, end-4a)."""
    call = Call("POST", access.url("blobs/uploads/"), body=b"")
    reply = yield from access.send(call)
    expect(call, reply, 202)
    return location(call, reply)


def _send(access: Access, session: str, body: Iterable[bytes | memoryview]) -> Flow[str]:
    """Stream the body in one PATCH; return the session's next Location (end-5)."""
    call = Call("PATCH", session, {"Content-Type": "application/octet-stream"}, body)
    try:
        reply = yield from access.send(call)
    except TransportFailed as error:
        raise UploadInterrupted(
            f"the upload was cut after {error.sent} bytes ({error}); nothing was committed",
            sent=error.sent,
            acknowledged=0,
        ) from error
    expect(call, reply, *_PATCHED)
    if not reply.whole:
        raise UploadInterrupted(
            f"the registry answered {reply.status} after {reply.sent} bytes, before the end of the "
            "stream; nothing was committed",
            sent=reply.sent,
            acknowledged=0,
        )
    return location(call, reply) if "location" in reply.headers else session


def _commit(access: Access, session: str, descriptor: Descriptor) -> Flow[None]:
    """Close the session with the digest (end-6), and believe only an answer that agrees."""
    call = Call("PUT", with_digest(session, descriptor.digest), body=b"")
    try:
        reply = yield from access.send(call)
    except TransportFailed as error:
        # The PUT may have done its work and lost its answer alone: ask before calling it lost.
        if not (yield from _is_there(access, descriptor)):
            raise UploadInterrupted(
                f"all {descriptor.size} bytes arrived, but the registry did not confirm the blob "
                f"({error}) and does not show it",
                sent=descriptor.size,
                acknowledged=descriptor.size,
            ) from error
        return
    if reply.status in _GATEWAY and (yield from _is_there(access, descriptor)):
        return
    expect(call, reply, 201, 204)
    _check_digest(reply, descriptor.digest)


def _is_there(access: Access, descriptor: Descriptor) -> Flow[bool]:
    """Ask whether the registry has a blob of this digest and size (end-2)."""
    try:
        reply = yield from access.send(Call("HEAD", access.url(f"blobs/{descriptor.digest}")))
    except BrolgaError:
        return False
    length = reply.headers.get("content-length", "")
    return reply.status == _OK and length in {"", str(descriptor.size)}


def _check_digest(reply: Reply, expected: Digest) -> None:
    """Raise DigestMismatch where the registry says that it stored another blob."""
    said = reply.headers.get("docker-content-digest")
    try:
        actual = Digest.parse(said) if said else expected
    except InvalidDigest:
        return  # a header of another meaning; the registry has compared the digest in the URL
    # A registry may name the blob by another algorithm; that is no contradiction.
    if actual.algorithm == expected.algorithm and actual != expected:
        raise DigestMismatch(
            f"the registry stored {actual} where {expected} was sent",
            expected=str(expected),
            actual=str(actual),
        )


def _cancel(access: Access, session: str) -> Flow[None]:
    """Give the session up (end-14). A registry that refuses, or is gone, is no further error."""
    try:
        yield from access.send(Call("DELETE", session, body=b"", patience=Patience.HURRY))
    except Exception:  # noqa: BLE001 - whatever it is, the first error is the one to tell
        return
