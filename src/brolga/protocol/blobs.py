"""Check, read and delete the blobs of a repository (Pulling blobs, Deleting blobs).

`read_blob` yields the last block only after the digest matches, so that a reader that stops at
the size still gets DigestMismatch. It resumes an interrupted response with Range (RFC 9110,
section 14), and reads the whole blob again if the registry responds with something else.
"""

from __future__ import annotations

import re
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from brolga.errors import DigestMismatch, ProtocolViolation, TransportError
from brolga.protocol.http import Flow, Request, Response, Step, call, read_block
from brolga.protocol.responses import confirms_blob, raise_for_status, raise_unless_deleted
from brolga.protocol.retry import RetryBudget
from brolga.protocol.urls import redact
from brolga.spec.digest import Digest, hasher
from brolga.spec.value import replace

if TYPE_CHECKING:
    from collections.abc import Generator

    from brolga.protocol.auth import Access
    from brolga.spec.descriptor import Descriptor

_NO_HEAD: Final = (403, 405, 501)  # of a server that a HEAD was redirected to
# A flow that yields bytes between its requests.
ReadFlow: TypeAlias = "Generator[Step | bytes | memoryview, Any, None]"

_CONTENT_RANGE: Final = r"bytes (?P<start>[0-9]{1,19})-(?:[0-9]{1,19}/(?P<size>[0-9]{1,19}))?"


def has_blob(access: Access, descriptor: Descriptor) -> Flow[bool]:
    """Return whether the repository has a blob of that digest and size (end-2)."""
    request = Request("HEAD", access.url(f"blobs/{descriptor.digest}"))
    response = yield from head_blob(access, request)
    if response.status == HTTPStatus.NOT_FOUND:
        return False
    raise_for_status(request, response, HTTPStatus.OK)
    return confirms_blob(response, descriptor)


def head_blob(access: Access, request: Request) -> Flow[Response]:
    """Send the HEAD request of a blob; GET if HEAD is redirected to a server that refuses it.

    The URLs of a store may be signed for GET alone. No byte of the body is read.
    """
    response = yield from access.send(request)
    if response.redirected_to and response.status in _NO_HEAD:
        response = yield from access.send(replace(request, method="GET", stream_response=True))
        if response.body_stream is not None:
            response.body_stream.close()
    return response


def delete_blob(access: Access, digest: Digest) -> Flow[None]:
    """Delete a blob from the repository (end-10). Raises NotFound, RegistryError."""
    request = Request("DELETE", access.url(f"blobs/{digest}"))
    raise_unless_deleted(request, (yield from access.send(request)))


def read_blob(access: Access, digest: Digest, size: int | None = None) -> ReadFlow:
    """Yield a blob's verified bytes (end-2).

    Raises DigestMismatch at the end if digest or `size` differ, or as soon as there are too many
    bytes; NotFound; RegistryError; TransportError if the connection was cut too often.
    """
    state = hasher(digest.algorithm)
    budget = RetryBudget(access.registry.retry, access.registry.clock)
    offset, supports_range = 0, True
    last_block: bytes | memoryview = b""
    while True:
        before, start = offset, offset if supports_range else 0
        headers = {"Range": f"bytes={start}-"} if start else {}
        url, delay_s = access.url(f"blobs/{digest}"), budget.take_delay_s()
        request = Request("GET", url, headers, delay_s=delay_s, stream_response=True)
        response = yield from access.send(request)
        try:
            end = _end_of_range(request, response, start, size)
            is_part = response.status == HTTPStatus.PARTIAL_CONTENT
            known = 0 if is_part else offset  # bytes that were read before
            while (block := (yield from _next_block(response, known))) is not None:
                known = 0
                offset += len(block)
                _check_size(access, digest, size, offset, is_end=False)
                yield from call(partial(state.update, block))
                if last_block:
                    yield last_block
                last_block = block
            _check_end(request, offset, end)
            break
        except (TransportError, _RangeError) as error:
            if offset == size:
                break  # only the end of the response is missing
            supports_range &= offset > before or isinstance(error, TransportError)
            if not budget.record_failure(error, offset, 0):
                raise
        finally:
            if response.body_stream is not None:
                response.body_stream.close()
    _check_size(access, digest, size, offset, is_end=True)
    _check_digest(access, digest, Digest.from_hasher(state))
    if last_block:
        yield last_block


class _RangeError(ProtocolViolation):
    """A response to Range that is not the rest of the blob, which is read from its start then."""


def _end_of_range(
    request: Request, response: Response, offset: int, size: int | None
) -> int | None:
    """Return the size of the blob if a response is the part from `offset` on; None if it is all.

    Raises _RangeError for another part, or 416.
    """
    if offset and response.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        raise _RangeError(
            f"the registry has no bytes of {redact(request.url)} from byte {offset} on"
        )
    raise_for_status(request, response, *((200, 206) if offset else (200,)))
    if response.status == HTTPStatus.OK:
        return None
    part = re.match(_CONTENT_RANGE, response.headers.get("content-range", ""))
    if part is None or int(part["start"]) != offset:
        raise _RangeError(
            f"the registry was asked for {redact(request.url)} from byte {offset} on, and "
            "answered with another part"
        )
    return int(part["size"] or 0) if size is None else size


def _check_end(request: Request, offset: int, end: int | None) -> None:
    if end is not None and offset < end:
        raise _RangeError(f"the registry gave a part of {redact(request.url)} that ends too early")


def _next_block(response: Response, skip: int) -> Flow[bytes | memoryview | None]:
    """Read the next block of a body after its first `skip` bytes; None is the end."""
    assert response.body_stream is not None  # noqa: S101 - the request asked for it
    while (block := (yield from read_block(response.body_stream))) is not None:
        if len(block) > skip:
            return memoryview(block)[skip:] if skip else block
        skip -= len(block)
    return None


def _check_digest(access: Access, expected: Digest, actual: Digest) -> None:
    if actual != expected:
        text = f"{access.registry.base} gave other bytes as {expected}: they hash to {actual}"
        raise DigestMismatch(text, expected=expected, actual=actual)


def _check_size(
    access: Access, digest: Digest, expected: int | None, actual: int, *, is_end: bool
) -> None:
    if expected is None or actual == expected or (actual < expected and not is_end):
        return
    count = actual if is_end else "more"
    text = f"{access.registry.base} gave {count} bytes as {digest}, not the expected {expected}"
    raise DigestMismatch(text, expected=digest)
