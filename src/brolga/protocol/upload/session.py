"""One upload session, request by request (distribution-spec, Pushing blobs).

The POST proves the token before any byte of the body is sent. The PATCH of a stream has no
Content-Range: every registry accepts that for an unknown length. Each function sends one request,
or returns it; `flow` decides what follows.
"""

from __future__ import annotations

import re
from contextlib import suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, NamedTuple

from brolga.errors import BrolgaError, DigestMismatch, ProtocolViolation, RegistryError
from brolga.protocol.blobs import head_blob
from brolga.protocol.http import Blocks, BodyError, Flow, Request, Response, Timeout
from brolga.protocol.responses import confirms_blob, content_digest, location, raise_for_status
from brolga.protocol.retry import TRANSIENT_STATUSES, is_transient
from brolga.protocol.urls import hostname, with_digest
from brolga.spec.digest import CANONICAL
from brolga.spec.value import replace

if TYPE_CHECKING:
    from collections.abc import Mapping

    from brolga.protocol.auth import Access
    from brolga.protocol.upload.body import Chunk
    from brolga.spec.descriptor import Descriptor
    from brolga.spec.digest import Digest

# Each of these is some registry's answer to a PATCH (ECR 201, JFrog 200 and 204).
PATCH_SUCCESS: Final = (200, 201, 202, 204)
_OCTETS: Final = "application/octet-stream"
# Some registries write "bytes=" before it, and Quay -1 for nothing.
_RANGE: Final = r"(?:bytes=)?0-(-?[0-9]{1,19})"
# A chunk is held in memory, and a registry does not choose how much: a larger wish is ignored.
_MAX_CHUNK: Final = 32 << 20  # bytes
_SIZE: Final = r"[0-9]{1,18}"


class ChunkLimits(NamedTuple):
    """The sizes in bytes that a registry wants of a chunk; 0 if it sets none.

    OCI-Chunk-Min-Length is of the distribution-spec; OCI-Chunk-Max-Length is proposed for it
    (opencontainers/distribution-spec#485).
    """

    smallest: int = 0
    largest: int = 0


class UploadSession(NamedTuple):
    """Where an upload session is, and how many bytes the registry has acknowledged.

    `redirected_from` is as in `Request`, if another host than the registry named the URL.
    """

    url: str
    acknowledged: int = 0
    redirected_from: str = ""
    limits: ChunkLimits = ChunkLimits()

    def request(
        self, method: str, headers: Mapping[str, str], body: bytes | Blocks | None = None
    ) -> Request:
        """Return a request to the session, which may take long: some storage moves the blob."""
        named_by = self.redirected_from
        return Request(method, self.url, headers, body, Timeout.LONG, redirected_from=named_by)


def session_at(request: Request, response: Response, acknowledged: int = 0) -> UploadSession:
    """Return the session at the Location of a response."""
    named_by = hostname(response.redirected_to) or request.redirected_from
    limits = _read_limits(response)
    return UploadSession(location(request, response), acknowledged, named_by, limits)


def open_session(
    access: Access, delay_s: float = 0.0, algorithm: str = CANONICAL
) -> Flow[UploadSession]:
    """Open a session (end-4a).

    "When pushing a blob with a digest algorithm other than `sha256`, the post request SHOULD
    include the `digest-algorithm` parameter" (end-4c; opencontainers/distribution-spec#543, commit
    dc18cea).
    """
    query = "" if algorithm == CANONICAL else f"?digest-algorithm={algorithm}"
    request = Request("POST", access.url(f"blobs/uploads/{query}"), body=b"", delay_s=delay_s)
    response = yield from send_post(access, request)
    raise_for_status(request, response, HTTPStatus.ACCEPTED)
    return (yield from enter_session(access, request, response))


def post_blob(access: Access, data: bytes, digest: Digest) -> Flow[UploadSession | None]:
    """Upload a small blob by one request (end-4b); return the session if the registry opens one."""
    url = with_digest(access.url("blobs/uploads/"), digest)
    request = Request("POST", url, {"Content-Type": _OCTETS}, data)
    response = yield from send_post(access, request)
    if response.status == HTTPStatus.ACCEPTED:
        return (yield from enter_session(access, request, response))
    verify_stored(request, response, digest)
    return None


def send_post(access: Access, request: Request) -> Flow[Response]:
    """Send a POST that may open a session. If an interrupt comes, cancel that session."""
    try:
        return (yield from access.send(request))
    except BodyError as failed:
        if failed.response is not None and failed.response.status == HTTPStatus.ACCEPTED:
            with suppress(ProtocolViolation):
                yield from cancel(access, session_at(request, failed.response))
        raise


def enter_session(access: Access, request: Request, response: Response) -> Flow[UploadSession]:
    """Return the session that a POST has opened. If an interrupt comes meanwhile, cancel it."""
    try:
        return session_at(request, response)
    except Exception:
        raise
    except BaseException:  # the first Location takes milliseconds
        yield from cancel(access, session_at(request, response))
        raise


def streamed_patch(session: UploadSession, body: Blocks) -> Request:
    """Return the PATCH that streams a body of unknown length."""
    return session.request("PATCH", {"Content-Type": _OCTETS}, body)


def chunk_patch(session: UploadSession, chunk: Chunk) -> Request:
    """Return the PATCH of one chunk, which begins at the session's offset (end-5)."""
    headers = {"Content-Type": _OCTETS, "Content-Range": _content_range(session, chunk.size)}
    return session.request("PATCH", headers, chunk.blocks)


def closing_put(session: UploadSession, digest: Digest, last: Chunk | None = None) -> Request:
    """Return the PUT that closes a session with its digest, and with the last chunk (end-6)."""
    headers = {"Content-Type": _OCTETS} if last else {}
    if last and session.acknowledged:
        headers["Content-Range"] = _content_range(session, last.size)
    body = last.blocks if last else b""
    return replace(session.request("PUT", headers, body), url=with_digest(session.url, digest))


def monolithic_put(session: UploadSession, digest: Digest, body: Blocks, size: int) -> Request:
    """Return the PUT that carries a whole blob of known length, and closes the session (end-6)."""
    put = session.request("PUT", {"Content-Type": _OCTETS}, body)
    return replace(put, url=with_digest(session.url, digest), size=size)


def follow_location(
    session: UploadSession, request: Request, response: Response, acknowledged: int
) -> UploadSession:
    """Return the session at the Location of a response, or at the same URL if it has none."""
    if "location" not in response.headers:
        return session._replace(acknowledged=acknowledged)
    return session_at(request, response, acknowledged)


def get_status(
    access: Access, session: UploadSession, sent: int, delay_s: float = 0.0
) -> Flow[UploadSession | None]:
    """Ask how many bytes the registry has (end-13), `sent` at most.

    Return None if the response does not say so, or the session is lost: nothing must be sent to a
    session whose offset is unknown. Raises an error if a later query may succeed.
    """
    named_by = session.redirected_from
    request = Request("GET", session.url, delay_s=delay_s, redirected_from=named_by)
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
    offset = _parse_range(response.headers.get("range", ""), session.acknowledged)
    if offset is None or not session.acknowledged <= offset <= sent:
        return None
    try:
        return follow_location(session, request, response, offset)
    except ProtocolViolation:
        return None


def query_blob(access: Access, descriptor: Descriptor, delay_s: float = 0.0) -> Flow[bool | None]:
    """Return whether the registry has a blob of this digest (end-2), or None if it does not say."""
    request = Request("HEAD", access.url(f"blobs/{descriptor.digest}"), delay_s=delay_s)
    try:
        response = yield from head_blob(access, request)
    except BrolgaError:
        return None
    is_known = response.status in (HTTPStatus.OK, HTTPStatus.NOT_FOUND)
    return confirms_blob(response, descriptor) if is_known else None


def verify_stored(request: Request, response: Response, expected: Digest) -> None:
    """Raise RegistryError if a blob was not stored, and DigestMismatch if other bytes were."""
    try:
        raise_for_status(request, response, 201, 204)
    except RegistryError as error:
        if error.code != "DIGEST_INVALID":
            raise
        message = f"the registry got other bytes than {expected}: {error}"
        raise DigestMismatch(message, expected=expected) from error
    actual = content_digest(response, expected)
    if actual not in {None, expected}:
        message = f"the registry stored {actual}, but {expected} was sent"
        raise DigestMismatch(message, expected=expected, actual=actual)


def cancel(access: Access, session: UploadSession) -> Flow[None]:
    """Cancel a session (end-14). Failures are ignored."""
    try:
        request = replace(session.request("DELETE", {}, b""), timeout=Timeout.SHORT)
        yield from access.send(request, retry=False)
    except Exception:  # noqa: BLE001 - the error that led here is the one to raise
        return


def _read_limits(response: Response) -> ChunkLimits:
    headers = (response.headers.get(f"oci-chunk-{kind}-length", "") for kind in ("min", "max"))
    smallest, largest = (int(text) if re.fullmatch(_SIZE, text) else 0 for text in headers)
    return ChunkLimits(smallest if smallest <= _MAX_CHUNK else 0, largest)


def _content_range(session: UploadSession, size: int) -> str:
    return f"{session.acknowledged}-{session.acknowledged + size - 1}"


def _parse_range(text: str, acknowledged: int) -> int | None:
    """Return how many bytes a Range header stands for, or None if it is not valid.

    Its end is inclusive. distribution 2.8 writes 0-0 for no byte and for one byte: none, if none
    was acknowledged. ECR's does not move (aws/containers-roadmap#2831): if it is behind the
    acknowledged bytes, those count.
    """
    match = re.fullmatch(_RANGE, text)
    if match is None:
        return None
    end = int(match[1])
    if end <= 0:
        return acknowledged
    return max(end + 1, acknowledged)
