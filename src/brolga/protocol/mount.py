"""Mount a blob of another repository instead of an upload (distribution-spec, end-11)."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from brolga.errors import RegistryError, TransportError
from brolga.protocol.http import Flow, Request
from brolga.protocol.responses import raise_for_status
from brolga.protocol.upload.session import UploadSession, enter_session, send_post

if TYPE_CHECKING:
    from brolga.protocol.auth import Access
    from brolga.spec.digest import Digest
    from brolga.spec.reference import Repository

# A mount may be refused for many reasons: the blob is unknown, or may not be read there (docker.io
# says 401). Then it is uploaded, unless the registry is overloaded or cannot be reached.
_OVERLOADED: Final = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)
_LOST_RESPONSE: Final = ("cut", "timeout")


def mount_blob(access: Access, digest: Digest, source: Repository) -> Flow[UploadSession | None]:
    """Mount another repository's blob (end-11); return the session if the registry opens one."""
    query = f"mount={quote(str(digest), safe='')}&from={quote(source.path, safe='')}"
    request = Request("POST", access.url(f"blobs/uploads/?{query}"), body=b"")
    response = yield from send_post(access, request)
    raise_for_status(request, response, HTTPStatus.CREATED, HTTPStatus.ACCEPTED)
    if response.status == HTTPStatus.CREATED:
        return None
    return (yield from enter_session(access, request, response))


def try_mount(
    access: Access, digest: Digest, source: Repository
) -> Flow[tuple[bool, UploadSession | None]]:
    """Mount a blob if the registry allows it.

    Return whether the blob is mounted, and the session that the registry opened instead, if any.
    """
    try:
        session = yield from mount_blob(access, digest, source)
    except RegistryError as error:
        if error.status in _OVERLOADED:
            raise
        return False, None
    except TransportError as error:
        if error.reason not in _LOST_RESPONSE:
            raise
        return False, None
    return session is None, session
