"""Where a session is, in a profile's words and in the registry's own.

Knows paths and URLs (RFC 3986). Must not know requests or sessions.
"""

from __future__ import annotations

import posixpath
import re
from functools import cache
from typing import TYPE_CHECKING, Final
from urllib.parse import urljoin, urlsplit

if TYPE_CHECKING:
    from brolga.server.faults import LocationForm

__all__ = ["OWN", "canonical", "respell", "session_in"]

OWN: Final = "/v2/{name}/blobs/uploads/{upload}"
_ELSEWHERE: Final = "/elsewhere"


def session_in(path: str, template: str = OWN) -> tuple[str, str] | None:
    """Return the repository and the session that a path names, as a template has them."""
    match = _pattern(template).fullmatch(path)
    return (match["name"], match["upload"]) if match else None


def canonical(path: str, template: str) -> str:
    """Return the registry's own path for one that may be a profile's, or a fault's."""
    path = path.removeprefix(_ELSEWHERE)
    found = session_in(path, template)
    return OWN.format(name=found[0], upload=found[1]) if found else path


def respell(target: str, form: LocationForm, origin: str, asked: str) -> str:
    """Return a Location in another form; `asked` is the path of the request that it answers."""
    # One that has been respelled already may be relative.
    parts = urlsplit(urljoin(asked, target))
    path = parts.path
    if form == "elsewhere":
        path = _ELSEWHERE + path.removeprefix(_ELSEWHERE)
    elif form == "relative":
        path = posixpath.relpath(path, posixpath.dirname(asked))
    spelled = path + (f"?{parts.query}" if parts.query else "")
    return origin + spelled if form == "absolute" else spelled


@cache
def _pattern(template: str) -> re.Pattern[str]:
    text = re.escape(template).replace(r"\{name\}", "(?P<name>.+)")
    return re.compile(text.replace(r"\{upload\}", "(?P<upload>[^/]+)"))
