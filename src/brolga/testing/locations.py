"""The paths of upload sessions, in the registry's own form and in a profile's (RFC 3986)."""

from __future__ import annotations

import posixpath
import re
from functools import cache
from typing import TYPE_CHECKING, Final
from urllib.parse import urljoin, urlsplit

if TYPE_CHECKING:
    from brolga.testing.faults import LocationForm


OWN_PATH: Final = "/v2/{name}/blobs/uploads/{upload}"
_ELSEWHERE: Final = "/elsewhere"


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
