"""Check, read and delete the blobs of a repository (Pulling blobs, Deleting blobs).

`read_blob` reads a blob by one request, and resumes it with Range (RFC 9110, section 14) after a
cut; `read_range` reads a part. `stores.blob_reader` verifies the bytes.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from brolga.errors import (
    BrolgaError,
    DigestMismatch,
    ProtocolViolation,
    RangeNotSupported,
    RegistryError,
    TransportError,
)
from brolga.protocol.http import Flow, Request, Response, Step, read_block
from brolga.protocol.redirects import redirect
from brolga.protocol.responses import confirms_blob, raise_for_status, raise_unless_deleted
from brolga.protocol.urls import redact
from brolga.spec.value import Value, field, replace

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from brolga.protocol.auth import Access
    from brolga.protocol.retry import RetryBudget
    from brolga.spec.descriptor import Descriptor
    from brolga.spec.digest import Digest

_NO_HEAD: Final = (403, 405, 501)  # of a server that a HEAD was redirected to
_CONTENT_RANGE: Final = r"bytes (?P<start>[0-9]{1,19})-(?:[0-9]{1,19}/(?P<size>[0-9]{1,19}))?"
_NUMBER: Final = r"[0-9]{1,19}"


class BlobHead(Value):
    """What the response to a GET says before its bytes.

    `size` is that of the whole blob, if it is known. `url` is where the registry redirected to: it
    may be signed, and so expire.
    """

    size: int | None
    url: str = field(default="", repr=False)


# A flow that yields a head, and then bytes, between its requests. After a cut, another head.
ReadFlow: TypeAlias = "Generator[Step | BlobHead | bytes | memoryview, Any, None]"


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


def get_blob_size(access: Access, digest: Digest) -> Flow[int]:
    """Return the size of a blob (end-2). Raises NotFound, RegistryError, ProtocolViolation.

    Some registries answer HEAD without it, or with 0; a GET of which no byte is read has it then.
    """
    request = Request("HEAD", access.url(f"blobs/{digest}"))
    response = yield from head_blob(access, request)
    if response.headers.get("content-length", "0") == "0":
        request = replace(request, method="GET", stream_response=True)
        response = yield from access.send(request)
        if response.body_stream is not None:
            response.body_stream.close()
    raise_for_status(request, response, HTTPStatus.OK)
    size = response.headers.get("content-length", "")
    if not re.fullmatch("[0-9]{1,19}", size):
        raise ProtocolViolation(f"the registry does not say the size of {redact(request.url)}")
    return int(size)


def delete_blob(access: Access, digest: Digest) -> Flow[None]:
    """Delete a blob from the repository (end-10). Raises NotFound, RegistryError."""
    request = Request("DELETE", access.url(f"blobs/{digest}"))
    raise_unless_deleted(request, (yield from access.send(request)))


def read_blob(access: Access, digest: Digest, size: int | None = None, start: int = 0) -> ReadFlow:
    """Yield the bytes of a blob from offset `start` on (end-2). They are not verified.

    If the registry ignores Range, or answers with another part, the whole blob is read, and the
    bytes before `start`, or those that were yielded, are skipped.

    Raises DigestMismatch as soon as there are more than `size` bytes; NotFound; RegistryError;
    TransportError if the connection was cut too often.
    """
    budget = access.retry_budget()
    offset, supports_range, is_renewed = start, True, False
    while True:
        before, first = offset, offset if supports_range else 0
        headers = {"Range": f"bytes={first}-"} if first else {}
        request = _get(access, digest, headers, budget)
        response = yield from access.send(request)
        try:
            head = _read_head(request, response, size)
            yield head
            is_part = response.status == HTTPStatus.PARTIAL_CONTENT
            known = 0 if is_part else offset  # bytes that were read before
            while (block := (yield from _next_block(response, known))) is not None:
                known = 0
                offset += len(block)
                _check_size(access, digest, size, offset)
                yield block
            _check_end(request, offset, head.size if is_part else None)
            return  # noqa: TRY300 - the end, inside of what closes the response
        except RegistryError:
            if not response.redirected_to or is_renewed:
                raise
            is_renewed = True  # its URL may have expired: the registry gives another one
        except (TransportError, RangeNotSupported) as error:
            if offset == size:
                return  # only the end of the response is missing
            supports_range &= offset > before or isinstance(error, TransportError)
            is_renewed &= offset == before
            if not budget.record_failure(error, offset, 0):
                raise
        finally:
            _close(response)


def read_range(access: Access, digest: Digest, start: int, stop: int, url: str = "") -> ReadFlow:
    """Yield the bytes of a blob from `start` to `stop`, which is not included. Not verified.

    `url` is where the registry redirected an earlier request to. It is asked first; if that fails
    in any way, the registry is asked again.

    Raises RangeNotSupported if the response is not this part, and what `read_blob` raises.
    """
    budget = access.retry_budget()
    offset, may_renew = start, True
    while offset < stop:
        headers = {"Range": f"bytes={offset}-{stop - 1}"}
        request = _get(access, digest, headers, budget)
        response = None
        try:
            if url:
                response = yield from access.send(redirect(request, url), retry=False)
            else:
                response = yield from access.send(request)
            yield _read_head(request, response, None, is_part=True)
            # More may follow, without an end: it is not received.
            while offset < stop and (block := (yield from _next_block(response, 0))) is not None:
                block = block[: stop - offset]
                offset += len(block)
                may_renew = True
                yield block
            _check_end(request, offset, stop, TransportError, reason="cut")
        except (RegistryError, ProtocolViolation):
            if not url and not (may_renew and response is not None and response.redirected_to):
                raise
            may_renew, url = bool(url), ""
        except TransportError as error:
            is_cut = response is not None
            if not url and not (is_cut and budget.record_failure(error, offset, 0)):
                raise
            url = ""
        finally:
            _close(response)


def _get(access: Access, digest: Digest, headers: dict[str, str], budget: RetryBudget) -> Request:
    url, delay_s = access.url(f"blobs/{digest}"), budget.take_delay_s()
    return Request("GET", url, headers, delay_s=delay_s, stream_response=True)


def _close(response: Response | None) -> None:
    if response is not None and response.body_stream is not None:
        response.body_stream.close()


def _read_head(
    request: Request, response: Response, size: int | None, *, is_part: bool = False
) -> BlobHead:
    """Return the head of a response that has the bytes that were asked for, or all of them.

    `size` is that of the blob, if it is known. Raises RangeNotSupported for another part, for 416,
    and, if it `is_part` of the blob that is wanted, for all of it.
    """
    named, wanted = redact(request.url), re.findall(_NUMBER, request.headers.get("Range", ""))
    if wanted and response.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        raise RangeNotSupported(f"the registry has no bytes of {named} from byte {wanted[0]} on")
    raise_for_status(request, response, *((200, 206) if wanted else (200,)))
    url = response.redirected_to
    if response.status == HTTPStatus.OK:
        if is_part:
            raise RangeNotSupported(f"the registry ignores Range for {named}")
        length = re.fullmatch(_NUMBER, response.headers.get("content-length", ""))
        return BlobHead(int(length[0]) if size is None and length else size, url)
    part = re.match(_CONTENT_RANGE, response.headers.get("content-range", ""))
    if part is None or int(part["start"]) != int(wanted[0]):
        raise RangeNotSupported(
            f"the registry was asked for {named} from byte {wanted[0]} on, and answered with "
            "another part"
        )
    return BlobHead(int(part["size"]) if size is None and part["size"] else size, url)


def _check_end(
    request: Request,
    offset: int,
    end: int | None,
    error: Callable[..., BrolgaError] = RangeNotSupported,
    **context: str,
) -> None:
    """Raise an error, by default RangeNotSupported, for a part that ends too early."""
    if end is not None and offset < end:
        text = f"the registry gave a part of {redact(request.url)} that ends too early"
        raise error(text, **context)


def _next_block(response: Response, skip: int) -> Flow[bytes | memoryview | None]:
    """Read the next block of a body after its first `skip` bytes; None is the end."""
    assert response.body_stream is not None  # noqa: S101 - the request asked for it
    while (block := (yield from read_block(response.body_stream))) is not None:
        if len(block) > skip:
            return memoryview(block)[skip:] if skip else block
        skip -= len(block)
    return None


def _check_size(access: Access, digest: Digest, expected: int | None, actual: int) -> None:
    if expected is not None and actual > expected:
        text = f"{access.registry.base} gave more bytes as {digest}, not the expected {expected}"
        raise DigestMismatch(text, expected=digest)
