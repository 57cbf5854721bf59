"""Upload sessions: their paths and Locations (RFC 3986), their state, and their end."""

from __future__ import annotations

import base64
import posixpath
import re
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Final
from urllib.parse import urljoin, urlsplit

from brolga.registry.storage.uploads import Upload, UploadBusy, UploadUnknown, open_writer

if TYPE_CHECKING:
    from brolga.registry.storage.repository import Repo
    from brolga.testing.faults import LocationForm
    from brolga.testing.run import Session


OWN_PATH: Final = "/v2/{name}/blobs/uploads/{upload}"
_ELSEWHERE: Final = "/elsewhere"
_STATE: Final = re.compile("(?:^|&)_state=([A-Za-z0-9_=-]+)(?:&|$)")


def parse_session_path(path: str, template: str = OWN_PATH) -> tuple[str, str] | None:
    """Return the repository and the session in a path that matches a template, or None."""
    match = _pattern(template).fullmatch(path)
    return (match["name"], match["upload"]) if match else None


def to_own_path(path: str, template: str) -> str:
    """Return the registry's own path for one that may be a profile's, or a fault's."""
    path = path.removeprefix(_ELSEWHERE)
    session = parse_session_path(path, template)
    return OWN_PATH.format(name=session[0], upload=session[1]) if session else path


def convert_location(target: str, form: LocationForm, origin: str, request_path: str) -> str:
    """Return a Location in another form."""
    # It may have been converted to a relative one before.
    parts = urlsplit(urljoin(request_path, target))
    path = parts.path
    if form == "elsewhere":
        path = _ELSEWHERE + path.removeprefix(_ELSEWHERE)
    elif form == "relative":
        path = posixpath.relpath(path, posixpath.dirname(request_path))
    location = path + (f"?{parts.query}" if parts.query else "")
    return origin + location if form == "absolute" else location


@cache
def _pattern(template: str) -> re.Pattern[str]:
    text = re.escape(template).replace(r"\{name\}", "(?P<name>.+)")
    return re.compile(text.replace(r"\{upload\}", "(?P<upload>[^/]+)"))


def find_upload(path: str, repo: Repo | None) -> Upload | None:
    """Return the session in a path, or None if it does not exist."""
    session = parse_session_path(path)
    if session is None or repo is None:
        return None
    try:
        upload = repo.upload(session[1])
        upload.size()
    except UploadUnknown:
        return None
    return upload


async def discard(upload: Upload) -> None:
    """End a session, if it exists and no request is writing to it."""
    with suppress(UploadBusy, UploadUnknown):
        async with open_writer(upload) as writer:
            writer.discard()


def parse_state(query: str, upload: Upload) -> int | None:
    """Return the session's size when a Location was issued; None for another session's."""
    match = _STATE.search(query)
    try:
        upload_id, offset, _ = base64.urlsafe_b64decode(match[1] if match else "").split(b":")
    except ValueError:
        return None
    return int(offset) if upload_id.decode() == upload.id else None


def new_state(upload: Upload, session: Session) -> str:
    """Return the `_state` of a Location: opaque, and never the same twice."""
    session.serial += 1
    text = f"{upload.id}:{upload.size()}:{session.serial}"
    return base64.urlsafe_b64encode(text.encode()).decode()


async def stored_size(upload: Upload | None) -> int:
    """Return the size of a session, once no request is writing to it."""
    if upload is None:
        return 0
    try:
        async with open_writer(upload) as writer:
            return writer.size
    except UploadBusy:
        return upload.size()
    except UploadUnknown:
        return 0  # the last writer ended it; the registry answers 404
