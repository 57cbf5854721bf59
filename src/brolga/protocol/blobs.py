"""Blobs that a registry has: asked for, read, deleted.

Knows the distribution-spec's "Pulling blobs" and "Deleting blobs". Must not know what the bytes
are for.

Strategy: `read_blob` yields its calls and, between them, the blob's bytes. It hashes what comes by,
and keeps the last block back until all of it is right: who reads no more than the size is told of a
wrong byte too. A cut is mended by asking for the rest (RFC 9110, section 14), and the hash goes on
where it was. A registry that answers with something else is asked for the whole blob from then on.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, TypeAlias

from brolga.errors import DigestMismatch, ProtocolViolation, TransportError
from brolga.protocol.http import Request
from brolga.protocol.responses import expect_deleted, raise_for_status, shows_blob
from brolga.protocol.retry import RetryBudget
from brolga.protocol.urls import redact
from brolga.spec.digest import Verifier

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

    from brolga.protocol.access import Access
    from brolga.protocol.http import Flow, Response
    from brolga.spec.descriptor import Descriptor
    from brolga.spec.digest import Digest

__all__ = ["ReadFlow", "delete_blob", "has_blob", "read_blob"]

# A conversation that gives bytes on its way.
ReadFlow: TypeAlias = "Generator[Request | bytes, Response, None]"

_OK: Final = 200
_PARTIAL: Final = 206
_NOT_FOUND: Final = 404
_NO_SUCH_RANGE: Final = 416
_CONTENT_RANGE: Final = re.compile(
    r"bytes (?P<start>[0-9]{1,19})-(?:[0-9]{1,19}/(?P<size>[0-9]{1,19}))?"
)


def has_blob(access: Access, descriptor: Descriptor) -> Flow[bool]:
    """Ask whether the repository has a blob (distribution-spec, end-2).

    One of another size or digest does not count. Raises RegistryError but for 404.
    """
    request = Request("HEAD", access.url(f"blobs/{descriptor.digest}"))
    response = yield from access.send(request)
    if response.status == _NOT_FOUND:
        return False
    raise_for_status(request, response, _OK)
    return shows_blob(response, descriptor)


def delete_blob(access: Access, digest: Digest) -> Flow[None]:
    """Delete a blob from the repository (end-10). Raises NotFound, RegistryError."""
    request = Request("DELETE", access.url(f"blobs/{digest}"))
    expect_deleted(request, (yield from access.send(request)))


def read_blob(access: Access, digest: Digest, size: int | None = None) -> ReadFlow:
    """Yield a blob's bytes, verified (end-2).

    Raises DigestMismatch at the end where digest or `size` are not those that were read (sooner,
    where there are too many bytes), NotFound, RegistryError, and TransportError where the
    connection was cut too often.
    """
    verifier = Verifier(digest)
    setbacks = RetryBudget(access.registry.retry, access.registry.clock)
    offset, held, knows_ranges = 0, b"", True
    while True:
        before, start = offset, offset if knows_ranges else 0
        request = _get(access, digest, start, setbacks.pause_s())
        response = yield from access.send(request)
        blocks = response.body_stream or _whole(response.body)
        try:
            end = _end_of(request, response, start, size)
            for block in _rest(blocks, 0 if response.status == _PARTIAL else offset):
                offset += len(block)
                _check_room(access, digest, size, offset)
                verifier.update(block)
                if held:
                    yield held
                held = block
            _expect_end(request, offset, end)
            break
        except (TransportError, _OtherPart) as error:
            if offset == size:
                break  # it lacks nothing but the end of the answer
            knows_ranges &= offset > before or isinstance(error, TransportError)
            if not setbacks.record_failure(error, offset, 0):
                raise
        finally:
            blocks.close()
    _check(access, verifier, digest, size, offset)
    if held:
        yield held


class _OtherPart(ProtocolViolation):
    """An answer to a Range request that is not the rest: the blob is read from its first byte.

    What was handed on is passed over then; the hash goes over it and what follows.
    """


def _get(access: Access, digest: Digest, offset: int, pause_s: float) -> Request:
    """Return the call for a blob's bytes from `offset` on."""
    headers = {"Range": f"bytes={offset}-"} if offset else {}
    return Request(
        "GET", access.url(f"blobs/{digest}"), headers, delay_s=pause_s, stream_response=True
    )


def _end_of(request: Request, response: Response, offset: int, size: int | None) -> int | None:
    """Return how many bytes a blob has as the answer from `offset` on, a part, tells it.

    None for an answer that is the whole blob: its end is the end. Raises _OtherPart where it is
    another part, or none (416), and RegistryError, ProtocolViolation for any other answer.
    """
    if offset and response.status == _NO_SUCH_RANGE:
        raise _OtherPart(
            f"the registry has no bytes of {redact(request.url)} from byte {offset} on"
        )
    raise_for_status(request, response, *((_OK, _PARTIAL) if offset else (_OK,)))
    if response.status == _OK:
        return None
    part = _CONTENT_RANGE.match(response.headers.get("content-range", ""))
    if part is None or int(part["start"]) != offset:
        raise _OtherPart(
            f"the registry was asked for {redact(request.url)} from byte {offset} on, and "
            "answered with another part"
        )
    return int(part["size"] or 0) if size is None else size


def _expect_end(request: Request, read: int, end: int | None) -> None:
    """Raise _OtherPart if a part ended before the blob does."""
    if end is not None and read < end:
        raise _OtherPart(f"the registry gave a part of {redact(request.url)} that ends too early")


def _check_room(access: Access, digest: Digest, size: int | None, read: int) -> None:
    """Raise DigestMismatch if more was read than the blob has."""
    if size is not None and read > size:
        raise _wrong_size(access, digest, size, "more")


def _check(access: Access, verifier: Verifier, digest: Digest, size: int | None, read: int) -> None:
    """Raise DigestMismatch where what was read is not the blob."""
    if size is not None and read != size:
        raise _wrong_size(access, digest, size, str(read))
    try:
        verifier.verify()
    except DigestMismatch as error:
        raise DigestMismatch(
            f"{access.registry.base} gave other bytes as {digest}: they hash to {error.actual}",
            expected=error.expected,
            actual=error.actual,
        ) from None


def _whole(body: bytes) -> Generator[bytes, None, None]:
    yield body


def _rest(blocks: Iterable[bytes], known: int) -> Iterator[bytes]:
    """Yield blocks without their first `known` bytes: some registries know no ranges."""
    for block in blocks:
        if len(block) > known:
            yield block[known:] if known else block
        known = max(0, known - len(block))


def _wrong_size(access: Access, digest: Digest, expected: int, actual: str) -> DigestMismatch:
    return DigestMismatch(
        f"{access.registry.base} gave {actual} bytes as {digest}, where {expected} were expected",
        expected=str(digest),
        actual="",
    )
