"""One upload session, step by step: open, send, ask, commit, cancel.

Knows the requests of the distribution-spec's "Pushing blobs" and what registries answer to each.
Must not know which step follows which: that is `upload`.

    POST   …/blobs/uploads/   the token is proved here, before any byte of the body; with `mount`,
                              a blob of another repository is taken over, and nothing is sent; with
                              `digest`, a tiny blob is the body, and that is all
    PATCH  Location           a stream (Transfer-Encoding: chunked, no Content-Range: what every
                              registry takes, for a length that nobody knows yet), or one chunk
    GET    Location           how many bytes the registry has
    PUT    Location?digest=   all bytes, the last, or none: the registry compares its digest with
                              ours
    DELETE Location           an abandoned session is not left behind

A `UploadSession` is a value: where it is, and how many bytes the registry acknowledged.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import quote

from brolga.errors import (
    BrolgaError,
    DigestMismatch,
    ProtocolViolation,
    RegistryError,
)
from brolga.protocol.http import BodyError, Request, Timeout
from brolga.protocol.responses import location, named_digest, raise_for_status, shows_blob
from brolga.protocol.retry import TRANSIENT_STATUSES, is_transient
from brolga.protocol.urls import with_digest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from brolga.protocol.access import Access
    from brolga.protocol.http import Blocks, Flow, Response
    from brolga.spec.descriptor import Descriptor
    from brolga.spec.digest import Digest
    from brolga.spec.reference import Repository

__all__ = [
    "PATCH_SUCCESS",
    "Chunk",
    "UploadSession",
    "cancel",
    "chunk_call",
    "chunks",
    "commit_call",
    "follow_location",
    "get_status",
    "is_there",
    "monolithic_put",
    "mount_blob",
    "post_blob",
    "start",
    "stream_call",
    "verify_stored",
]

# One registry or another answers a PATCH with each of these (ECR 201, JFrog 200 and 204).
PATCH_SUCCESS: Final = (200, 201, 202, 204)
_OK: Final = 200
_CREATED: Final = 201
_ACCEPTED: Final = 202
_NOT_FOUND: Final = 404
_OCTETS: Final = "application/octet-stream"
# Some write "bytes=" before it, and Quay -1 for nothing.
_RANGE: Final = re.compile(r"(?:bytes=)?0-(-?[0-9]{1,19})")
# A chunk is held in memory, and a registry does not choose how much: a wish for more is not heard.
_MAX_CHUNK: Final = 32 << 20  # bytes
_MIN_CHUNK: Final = re.compile(r"[0-9]{1,8}")


class UploadSession(NamedTuple):
    """Where an upload session is, and how many bytes the registry has acknowledged."""

    url: str
    acknowledged: int = 0


class Chunk(NamedTuple):
    """A part of a blob, in blocks of memory that others hold too."""

    blocks: tuple[bytes | memoryview, ...]
    size: int
    is_last: bool = False


def start(access: Access, pause_s: float = 0.0) -> Flow[tuple[UploadSession, int]]:
    """Open a session (distribution-spec, end-4a).

    Return it and the smallest chunk in bytes that the registry wants (OCI-Chunk-Min-Length), or 0.
    """
    request = Request("POST", access.url("blobs/uploads/"), body=b"", delay_s=pause_s)
    response = yield from _opening(access, request)
    raise_for_status(request, response, 202)
    wish = _MIN_CHUNK.fullmatch(response.headers.get("oci-chunk-min-length", ""))
    smallest = int(wish[0]) if wish else 0
    return UploadSession(location(request, response)), smallest if smallest <= _MAX_CHUNK else 0


def post_blob(
    access: Access, data: bytes, digest: Digest, pause_s: float = 0.0
) -> Flow[UploadSession | None]:
    """Upload a tiny blob by one request (end-4b).

    Return None where that is done, or the session that a registry without that opened instead.

    Raises DigestMismatch, RegistryError.
    """
    url = with_digest(access.url("blobs/uploads/"), digest)
    request = Request("POST", url, {"Content-Type": _OCTETS}, data, delay_s=pause_s)
    response = yield from _opening(access, request)
    if response.status == _ACCEPTED:
        return UploadSession(location(request, response))
    verify_stored(request, response, digest)
    return None


def mount_blob(access: Access, digest: Digest, source: Repository) -> Flow[UploadSession | None]:
    """Take a blob over from another repository of the same registry (end-11).

    Return None where that is done, or the session that the registry opened instead: the blob has
    to be uploaded then.
    """
    query = f"mount={quote(str(digest), safe='')}&from={quote(source.path, safe='')}"
    request = Request("POST", access.url(f"blobs/uploads/?{query}"), body=b"")
    response = yield from _opening(access, request)
    raise_for_status(request, response, 201, 202)
    return None if response.status == _CREATED else UploadSession(location(request, response))


def _opening(access: Access, request: Request) -> Flow[Response]:
    """Make a call that may open a session; where an interrupt came, do not leave that behind."""
    try:
        return (yield from access.send(request))
    except BodyError as failed:
        if failed.response is not None and failed.response.status == _ACCEPTED:
            with suppress(ProtocolViolation):
                yield from cancel(access, UploadSession(location(request, failed.response)))
        raise


def stream_call(session: UploadSession, body: Blocks) -> Request:
    """Return the PATCH that streams a body of unknown length."""
    # Some storage moves the whole blob before it answers.
    return Request("PATCH", session.url, {"Content-Type": _OCTETS}, body, Timeout.LONG)


def chunk_call(session: UploadSession, chunk: Chunk) -> Request:
    """Return the PATCH of one chunk, which the registry must have up to its first byte (end-5)."""
    headers = {"Content-Type": _OCTETS, "Content-Range": _range(session, chunk.size)}
    return Request("PATCH", session.url, headers, chunk.blocks, Timeout.LONG)


def commit_call(session: UploadSession, digest: Digest, last: Chunk | None = None) -> Request:
    """Return the PUT that closes a session with its digest, and with the last bytes (end-6)."""
    headers = {"Content-Type": _OCTETS} if last else {}
    if last and session.acknowledged:
        headers["Content-Range"] = _range(session, last.size)
    body = last.blocks if last else b""
    return Request("PUT", with_digest(session.url, digest), headers, body, Timeout.LONG)


def monolithic_put(session: UploadSession, digest: Digest, body: Blocks, size: int) -> Request:
    """Return the PUT that carries a whole blob of known length, and closes the session (end-6)."""
    headers = {"Content-Type": _OCTETS}
    url = with_digest(session.url, digest)
    return Request("PUT", url, headers, body, Timeout.LONG, size=size)


def follow_location(
    session: UploadSession, request: Request, response: Response, acknowledged: int
) -> UploadSession:
    """Return the session after an answer that may have moved it on.

    Raises ProtocolViolation for a Location that is not safe to call.
    """
    if "location" not in response.headers:
        return UploadSession(session.url, acknowledged)
    return UploadSession(location(request, response), acknowledged)


def get_status(
    access: Access, session: UploadSession, sent: int, pause_s: float = 0.0
) -> Flow[UploadSession | None]:
    """Ask how many bytes the registry has (end-13); None where it cannot be told, or is lost.

    `sent` is how many there can be at most. Whatever the registry answers, a session whose offset
    is not known is not written to.

    Raises TransportError or RegistryError where it may be told later.
    """
    request = Request("GET", session.url, delay_s=pause_s)
    try:
        response = yield from access.send(request)
    except BrolgaError as error:
        if is_transient(error):  # the token server's, or no answer
            raise
        return None
    if response.status in TRANSIENT_STATUSES:
        raise_for_status(request, response)
    if response.status not in (200, 202, 204):
        return None
    known = _offset(response.headers.get("range", ""), session.acknowledged)
    if known is None or not session.acknowledged <= known <= sent:
        return None
    try:
        return follow_location(session, request, response, known)
    except ProtocolViolation:
        return None


def is_there(access: Access, descriptor: Descriptor, pause_s: float = 0.0) -> Flow[bool | None]:
    """Ask whether the registry shows a blob of this digest, and says so (end-2).

    None where that cannot be told.
    """
    request = Request("HEAD", access.url(f"blobs/{descriptor.digest}"), delay_s=pause_s)
    try:
        response = yield from access.send(request)
    except BrolgaError:
        return None
    if response.status not in (_OK, _NOT_FOUND):
        return None
    return shows_blob(response, descriptor)


def verify_stored(request: Request, response: Response, expected: Digest) -> None:
    """Raise DigestMismatch where the registry says that it has got, or stored, other bytes."""
    try:
        raise_for_status(request, response, 201, 204)
    except RegistryError as error:
        if error.code != "DIGEST_INVALID":
            raise
        raise DigestMismatch(
            f"the registry got other bytes than {expected}: {error}",
            expected=str(expected),
            actual="",
        ) from error
    actual = named_digest(response, expected)
    if actual not in {None, expected}:
        raise DigestMismatch(
            f"the registry stored {actual} where {expected} was sent",
            expected=str(expected),
            actual=str(actual),
        )


def chunks(blocks: Blocks, size: int) -> Iterator[Chunk]:
    """Put blocks together to chunks of `size` bytes, the last one shorter. No byte is copied."""
    pieces: list[memoryview] = []
    held = 0
    for block in blocks:
        rest = memoryview(block)
        while held + len(rest) > size:
            missing = size - held
            yield Chunk((*pieces, rest[:missing]) if missing else tuple(pieces), size)
            pieces, held, rest = [], 0, rest[missing:]
        if rest:
            pieces.append(rest)
            held += len(rest)
    if held:
        yield Chunk(tuple(pieces), held, is_last=True)


def cancel(access: Access, session: UploadSession) -> Flow[None]:
    """Give the session up (end-14). A registry that refuses, or is gone, is no further error."""
    try:
        request = Request("DELETE", session.url, body=b"", timeout=Timeout.SHORT)
        yield from access.send(request, once=True)
    except Exception:  # noqa: BLE001 - whatever it is, the first error is the one to tell
        return


def _range(session: UploadSession, size: int) -> str:
    return f"{session.acknowledged}-{session.acknowledged + size - 1}"


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
