"""One upload session, step by step: open, send, ask, commit, cancel.

Knows the requests of the distribution-spec's "Pushing blobs" and what registries answer to each.
Must not know which step follows which: that is `upload`.

    POST   …/blobs/uploads/   the token is proved here, before any byte of the body; with `mount`,
                              a blob of another repository is taken over, and nothing is sent
    PATCH  Location           a stream (Transfer-Encoding: chunked, no Content-Range: what every
                              registry takes, for a length that nobody knows yet), or one chunk
    GET    Location           how many bytes the registry has
    PUT    Location?digest=   the last bytes, or none: the registry compares its digest with ours
    DELETE Location           an abandoned session is not left behind

A `Session` is a value: where it is, and how many bytes the registry acknowledged.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import quote

from brolga.digest import Digest
from brolga.errors import (
    BrolgaError,
    DigestMismatch,
    InvalidDigest,
    ProtocolViolation,
    RegistryError,
    TransportFailed,
)
from brolga.wire.http import Call, Patience
from brolga.wire.replies import expect, location
from brolga.wire.retry import PASSING, PASSING_REASONS
from brolga.wire.urls import with_digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from brolga.descriptor import Descriptor
    from brolga.reference import Repository
    from brolga.wire.access import Access
    from brolga.wire.http import Flow, Reply

__all__ = [
    "PATCHED",
    "Session",
    "cancel",
    "chunk_call",
    "chunks",
    "commit_call",
    "expect_stored",
    "is_lost",
    "is_there",
    "is_too_large",
    "mount_blob",
    "moved",
    "start",
    "status",
    "stream_call",
]

# One registry or another answers a PATCH with each of these (ECR 201, JFrog 200 and 204).
PATCHED: Final = (200, 201, 202, 204)
_OK: Final = 200
_CREATED: Final = 201
_NOT_FOUND: Final = 404
_OCTETS: Final = "application/octet-stream"
# Some write "bytes=" before it, and Quay -1 for nothing.
_RANGE: Final = re.compile(r"(?:bytes=)?0-(-?[0-9]{1,19})")
_TOO_LARGE: Final = 413
# What says that the session is gone, or not where we think that it is; 413 wants smaller requests,
# from the beginning.
_LOST: Final = (404, _TOO_LARGE, 416)
_LOST_CODES: Final = ("BLOB_UPLOAD_UNKNOWN", "BLOB_UPLOAD_INVALID", "RANGE_INVALID", "SIZE_INVALID")
# Up to 99,999,999 bytes: a chunk is held in memory, and a registry does not choose how much.
_MIN_CHUNK: Final = re.compile(r"[0-9]{1,8}")


class Session(NamedTuple):
    """Where an upload session is, and how many bytes the registry has acknowledged."""

    url: str
    acknowledged: int = 0


def start(access: Access, pause_s: float = 0.0) -> Flow[tuple[Session, int]]:
    """Open a session (distribution-spec, end-4a).

    Return it and the smallest chunk in bytes that the registry wants (OCI-Chunk-Min-Length), or 0.
    """
    call = Call("POST", access.url("blobs/uploads/"), body=b"", after_s=pause_s)
    reply = yield from access.send(call)
    expect(call, reply, 202)
    smallest = _MIN_CHUNK.fullmatch(reply.headers.get("oci-chunk-min-length", ""))
    return Session(location(call, reply)), int(smallest[0]) if smallest else 0


def mount_blob(access: Access, digest: Digest, source: Repository) -> Flow[str]:
    """Take a blob over from another repository of the same registry (end-11).

    Return "" where that is done, or the Location of the session that the registry opened instead:
    the blob has to be uploaded then.
    """
    query = f"mount={quote(str(digest), safe='')}&from={quote(source.path, safe='')}"
    call = Call("POST", access.url(f"blobs/uploads/?{query}"), body=b"")
    reply = yield from access.send(call)
    expect(call, reply, 201, 202)
    return "" if reply.status == _CREATED else location(call, reply)


def stream_call(session: Session, body: Iterable[bytes | memoryview]) -> Call:
    """Return the PATCH that streams a body of unknown length."""
    # Some storage moves the whole blob before it answers.
    return Call("PATCH", session.url, {"Content-Type": _OCTETS}, body, Patience.LONG)


def chunk_call(session: Session, chunk: bytes) -> Call:
    """Return the PATCH of one chunk, which the registry must have up to its first byte (end-5)."""
    headers = {"Content-Type": _OCTETS, "Content-Range": _range(session, chunk)}
    return Call("PATCH", session.url, headers, chunk, Patience.LONG)


def commit_call(session: Session, digest: Digest, last: bytes = b"") -> Call:
    """Return the PUT that closes a session with its digest, and with the last bytes (end-6)."""
    headers = {"Content-Type": _OCTETS} if last else {}
    if last and session.acknowledged:
        headers["Content-Range"] = _range(session, last)
    return Call("PUT", with_digest(session.url, digest), headers, last, Patience.LONG)


def moved(session: Session, call: Call, reply: Reply, acknowledged: int) -> Session:
    """Return the session after an answer that may have moved it on.

    Raises ProtocolViolation for a Location that is not safe to call.
    """
    if "location" not in reply.headers:
        return Session(session.url, acknowledged)
    return Session(location(call, reply), acknowledged)


def status(
    access: Access, session: Session, sent: int, pause_s: float = 0.0
) -> Flow[Session | None]:
    """Ask how many bytes the registry has (end-13); None where it cannot be told, or is lost.

    `sent` is how many there can be at most. Whatever the registry answers, a session whose offset
    is not known is not written to.

    Raises TransportFailed or RegistryError where it may be told later.
    """
    call = Call("GET", session.url, after_s=pause_s)
    try:
        reply = yield from access.send(call)
    except BrolgaError as error:
        if isinstance(error, TransportFailed) and error.reason in PASSING_REASONS:
            raise
        return None
    if reply.status in PASSING:
        expect(call, reply)
    if reply.status not in (200, 202, 204):
        return None
    known = _offset(reply.headers.get("range", ""), session.acknowledged)
    if known is None or not session.acknowledged <= known <= sent:
        return None
    try:
        return moved(session, call, reply, known)
    except ProtocolViolation:
        return None


def is_there(access: Access, descriptor: Descriptor, pause_s: float = 0.0) -> Flow[bool | None]:
    """Ask whether the registry shows a blob of this digest, and says so (end-2).

    None where that cannot be told.
    """
    call = Call("HEAD", access.url(f"blobs/{descriptor.digest}"), after_s=pause_s)
    try:
        reply = yield from access.send(call)
    except BrolgaError:
        return None
    if reply.status not in (_OK, _NOT_FOUND):
        return None
    # A page that a proxy answers with is no blob: digest or length must be ours, and neither
    # another. Some say a length of 0 with every HEAD.
    digest = _named(reply, descriptor.digest)
    length = reply.headers.get("content-length", "")
    return (
        reply.status == _OK
        and digest in {None, descriptor.digest}
        and length in {str(descriptor.size), *(("0", "") if digest else ())}
    )


def expect_stored(call: Call, reply: Reply, expected: Digest) -> None:
    """Raise DigestMismatch where the registry says that it has got, or stored, other bytes."""
    try:
        expect(call, reply, 201, 204)
    except RegistryError as error:
        if error.code != "DIGEST_INVALID":
            raise
        raise DigestMismatch(
            f"the registry got other bytes than {expected}: {error}",
            expected=str(expected),
            actual="",
        ) from error
    actual = _named(reply, expected)
    if actual not in {None, expected}:
        raise DigestMismatch(
            f"the registry stored {actual} where {expected} was sent",
            expected=str(expected),
            actual=str(actual),
        )


def _named(reply: Reply, expected: Digest) -> Digest | None:
    """Return the digest that an answer names; None where it can be no contradiction.

    A registry may name a blob by another algorithm, or put something else into the header.
    """
    try:
        actual = Digest.parse(reply.headers.get("docker-content-digest", ""))
    except InvalidDigest:
        return None
    return actual if actual.algorithm == expected.algorithm else None


def is_too_large(error: BrolgaError) -> bool:
    """Tell whether smaller requests are wanted."""
    return isinstance(error, RegistryError) and error.status == _TOO_LARGE


def is_lost(error: BrolgaError) -> bool:
    """Tell whether the session cannot be gone on with, so that it need not be asked."""
    if isinstance(error, RegistryError):
        return error.status in _LOST or error.code in _LOST_CODES
    return isinstance(error, DigestMismatch)


def chunks(blocks: Iterable[bytes | memoryview], size: int) -> Iterator[tuple[bytes, bool]]:
    """Join blocks to chunks of `size` bytes, the last one shorter; tell which is the last."""
    chunk = bytearray()
    for block in blocks:
        chunk += block
        while len(chunk) > size:
            yield bytes(memoryview(chunk)[:size]), False
            del chunk[:size]
    if chunk:
        yield bytes(chunk), True


def cancel(access: Access, session: Session) -> Flow[None]:
    """Give the session up (end-14). A registry that refuses, or is gone, is no further error."""
    try:
        call = Call("DELETE", session.url, body=b"", patience=Patience.HURRY)
        yield from access.send(call, once=True)
    except Exception:  # noqa: BLE001 - whatever it is, the first error is the one to tell
        return


def _range(session: Session, data: bytes) -> str:
    return f"{session.acknowledged}-{session.acknowledged + len(data) - 1}"


def _offset(said: str, acknowledged: int) -> int | None:
    """Return how many bytes a Range header tells of, None where it tells nothing.

    Its end is inclusive. distribution 2.8 says 0-0 for none and for one byte: where nothing was
    acknowledged that is none. ECR's stands still (aws/containers-roadmap#2831): where it is behind
    what a 2xx acknowledged, that counts.
    """
    match = _RANGE.fullmatch(said)
    if match is None:
        return None
    end = int(match[1])
    if end <= 0:
        return acknowledged
    return max(end + 1, acknowledged)
