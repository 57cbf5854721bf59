"""Requests and responses of an upload, for its tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.protocol.driver import (
    ACCEPTED,
    BLOB,
    FIRST,
    HEAD,
    POST,
    SECOND,
    UPLOADS,
    KnownBody,
    Step,
    make_access,
    patch,
    put,
    with_delay,
)

from brolga.errors import (
    NotComputed,
    TransportError,
)
from brolga.protocol import (
    Flow,
    Request,
    Response,
    Retry,
    Timeout,
    UploadStrategy,
    upload_stream,
)
from brolga.spec.digest import Digest

if TYPE_CHECKING:
    from brolga.protocol import Flow
    from brolga.spec.descriptor import Descriptor

OCTETS = {"Content-Type": "application/octet-stream"}
MISMATCH = Response(400, body=b'{"errors": [{"code": "DIGEST_INVALID"}]}')
BODY = [b"bl", b"", b"ob"]
NEXT = Response(202, {"location": SECOND, "range": "0-3"}, sent=4)
CREATED = Response(201, {"location": "/v2/team/app/blobs/somewhere"})
CUT = TransportError("the connection was cut", reason="cut", sent=3)
TOKEN = Response(200, body=b'{"token": "t1"}')
GONE = Response(204)
THIRD = f"{UPLOADS}one?_state=c"
NOT_THERE: tuple[Step, ...] = (
    (HEAD, Response(404)),
    (with_delay(HEAD, 0.5), Response(404)),
    (with_delay(HEAD, 1.5), Response(404)),
)
LENGTH = {"content-length": "4"}
DIGEST = {"docker-content-digest": str(BLOB.digest)}
OTHER = {"docker-content-digest": str(Digest.of(b"other"))}


def finalize() -> Descriptor:
    """Return the descriptor of the layer."""
    return BLOB


def finalize_too_early() -> Descriptor:
    """Raise the error of a stream that did not end cleanly."""
    raise NotComputed("the stream is not at its end")


def upload(
    body: KnownBody | None = None, strategy: UploadStrategy | None = None, attempts: int = 3
) -> Flow[Descriptor]:
    """Upload BODY, with second tries."""
    way = make_access(retry=Retry(attempts=attempts))
    return upload_stream(
        way, body or KnownBody(BODY), lambda: BLOB, strategy=strategy or UploadStrategy()
    )


def query(session: str, delay: float = 0.5) -> Request:
    """Return the request for the status of a session."""
    return Request("GET", session, delay_s=delay)


def located(end: str, location: str = THIRD, status: int = 204) -> Response:
    """Return the response with the Range of a session."""
    return Response(status, {"range": end, "location": location})


def chunk(session: str, start: int, data: bytes) -> Request:
    """Return the PATCH of one chunk."""
    content_range = f"{start}-{start + len(data) - 1}"
    headers = {"Content-Type": "application/octet-stream", "Content-Range": content_range}
    return Request("PATCH", session, headers, data, Timeout.LONG)


def restart(delay: float = 0.5) -> tuple[Step, Step, Step]:
    """Return the steps of an upload from the beginning, with success."""
    return (with_delay(POST, delay), ACCEPTED), (patch(BODY), NEXT), (put(), CREATED)


def put_whole(data: bytes = b"blob") -> Request:
    """Return the PUT of a whole blob."""
    headers = {"Content-Type": "application/octet-stream"}
    url = f"{FIRST}&digest=sha256%3A{Digest.of(data).encoded}"
    return Request("PUT", url, headers, data, Timeout.LONG)
