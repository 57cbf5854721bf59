"""What a profile refuses, as a table of rules.

Knows a request to a registry and what a `Profile` says of it. Must not know ASGI's messages, or
what becomes of a request that is not refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import parse_qs

from starlette.responses import Response

from brolga.server.locations import OWN, session_in
from brolga.server.problems import answer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from brolga.server.injection import Session
    from brolga.server.profiles import Profile

__all__ = ["Case", "refusal", "said"]

_CONTENT_RANGE: Final = re.compile("([0-9]{1,18})-([0-9]{1,18})")
_SEVERAL: Final = 2
# What a proxy says by itself.
_PROXY_STATUSES: Final = (408, 411, 413, 429, 501)
_PAGE: Final = "<html><body><center><h1>%d</h1></center></body></html>"


@dataclass
class Case:
    """A request, and what a rule may want to know of it.

    `path` is the registry's own, `asked` the one that came, at `origin`. `size` is what the session
    has stored.
    """

    kind: str
    origin: str
    asked: str
    path: str
    query: str
    headers: Mapping[str, str]
    profile: Profile
    session: Session
    size: int
    exists: bool
    now: float

    @property
    def method(self) -> str:
        """The request's method."""
        return self.kind.partition(" ")[0]

    @cached_property
    def length(self) -> int | None:
        """The body's length, where a header says it."""
        said = self.headers.get("content-length")
        return None if said is None else int(said)

    @property
    def is_stream(self) -> bool:
        """Whether a Content-Range, if there is one, does not count."""
        streamed = self.length is None and self.profile.without_length == "streamed"
        return streamed or self.profile.content_range == "ignored"

    @cached_property
    def chunk(self) -> tuple[int, int] | None:
        """First and last byte, as Content-Range has them; None without one that counts."""
        match = _CONTENT_RANGE.fullmatch(self.headers.get("content-range", ""))
        return None if match is None or self.is_stream else (int(match[1]), int(match[2]))

    @property
    def has_body(self) -> bool:
        """Whether there are, or may be, bytes in the body."""
        return self.length != 0

    @property
    def skipped(self) -> int:
        """How many of the body's first bytes are there already."""
        overlap = self.chunk is not None and self.profile.content_range == "overlap"
        return self.size - self.chunk[0] if overlap and self.chunk else 0

    @property
    def room(self) -> int | None:
        """How many bytes of the body are taken; None for any number."""
        rooms = [None if self.profile.blob_max is None else self.profile.blob_max - self.size]
        if self.method == "PUT":
            rooms.append(self.profile.put_max)
        rooms.append(self.profile.request_max)
        return min((room for room in rooms if room is not None), default=None)

    def asks(self, name: str) -> str:
        """Return a parameter of the query, or nothing."""
        return parse_qs(self.query).get(name, [""])[0]


class _Rule(NamedTuple):
    """Refuses requests of some kinds, `when` something holds.

    `status` may be the name of what the profile has for it.
    """

    kinds: tuple[str, ...]
    when: Callable[[Case], object]
    status: int | str
    code: str
    reason: str


_CHANGES: Final = ("POST upload", "PATCH upload", "PUT upload", "DELETE upload", "PUT manifest")
_BYTES: Final = ("PATCH upload", "PUT upload")
_SESSION: Final = ("GET upload", "PATCH upload", "PUT upload", "DELETE upload")
_BODIES: Final = (*_BYTES, "POST upload", "PUT manifest")
_LISTS: Final = ("GET tags", "GET catalog", "GET referrers")


def _elsewhere(case: Case) -> bool:
    """Whether a client built a session's path by itself, where the profile has another."""
    return case.profile.session_path != OWN and session_in(case.asked) is not None


def _unsigned(case: Case) -> bool:
    return bool(case.profile.query) and not case.query.startswith(case.profile.query)


def _old(case: Case) -> bool:
    life_s = case.profile.session_s
    return life_s is not None and case.now - case.session.begun > life_s


def _spread(case: Case) -> bool:
    """Whether a further PATCH would reach a node that does not know the session."""
    return case.profile.patches is not None and case.session.patches >= case.profile.patches


def _long_chunk(case: Case) -> bool:
    if case.profile.chunk_max is None or case.chunk is None:
        return False
    return case.chunk[1] - case.chunk[0] + 1 > case.profile.chunk_max


def _gap(case: Case) -> bool:
    overlap = case.profile.content_range == "overlap"
    return overlap and case.chunk is not None and case.chunk[0] > case.size


def _without_last(case: Case) -> bool:
    several = case.session.patches >= _SEVERAL
    return case.profile.last_in_put and several and not case.has_body


def _page(case: Case) -> bool:
    asked = case.asks("n")
    most = case.profile.page_max
    return most is not None and asked.isdecimal() and int(asked) > most


def _is_chunked(case: Case) -> bool:
    return "chunked" in case.headers.get("transfer-encoding", "").lower()


_RULES: Final = (
    _Rule(
        _BODIES,
        lambda case: case.profile.chunked_status is not None and _is_chunked(case),
        "chunked_status",
        "SIZE_INVALID",
        "a proxy takes no chunked transfer coding",
    ),
    _Rule(
        _BODIES,
        lambda case: (
            case.profile.request_max is not None and (case.length or 0) > case.profile.request_max
        ),
        413,
        "SIZE_INVALID",
        "a proxy lets no request of this size pass",
    ),
    _Rule(
        _CHANGES,
        lambda case: case.profile.cookie and "cookie" in case.headers,
        403,
        "DENIED",
        "a browser's cookie without its CSRF token",
    ),
    _Rule(
        (*_CHANGES, "HEAD blob", "GET blob"),
        lambda case: case.profile.must_exist and not case.exists,
        404,
        "NAME_UNKNOWN",
        "the repository must be made first",
    ),
    _Rule(
        ("POST upload",),
        lambda case: case.profile.mount_needs_from and case.asks("mount") and not case.asks("from"),
        405,
        "UNSUPPORTED",
        "mount without from",
    ),
    _Rule(_SESSION, _elsewhere, 404, "BLOB_UPLOAD_UNKNOWN", "no session is there"),
    _Rule(_SESSION, _unsigned, 403, "DENIED", "the signature of the Location is missing"),
    _Rule(_SESSION, _old, 404, "BLOB_UPLOAD_UNKNOWN", "the session has lived too long"),
    _Rule(
        ("GET upload",),
        lambda case: not case.profile.says_status,
        404,
        "BLOB_UPLOAD_UNKNOWN",
        "no status is told here",
    ),
    _Rule(
        ("DELETE upload",),
        lambda case: not case.profile.may_cancel,
        403,
        "DENIED",
        "who pushes may not delete",
    ),
    _Rule(("PATCH upload",), _spread, 404, "BLOB_UPLOAD_UNKNOWN", "another node has the session"),
    _Rule(
        _BYTES,
        lambda case: case.profile.content_range == "refused" and "content-range" in case.headers,
        400,
        "UNSUPPORTED",
        "no chunks here",
    ),
    _Rule(
        _BYTES,
        lambda case: (
            case.profile.without_length == "refused"
            and "content-range" in case.headers
            and case.length is None
        ),
        400,
        "SIZE_INVALID",
        "Content-Range without Content-Length",
    ),
    _Rule(
        ("PUT upload",),
        lambda case: case.profile.put_wants_length and case.length is None,
        400,
        "SIZE_INVALID",
        "a PUT needs a Content-Length",
    ),
    _Rule(_BYTES, _long_chunk, "chunk_max_status", "SIZE_INVALID", "the chunk is too long"),
    _Rule(
        _BYTES,
        lambda case: case.session.short_chunk and case.has_body,
        400,
        "SIZE_INVALID",
        "the chunk before this one is too short not to be the last",
    ),
    _Rule(_BYTES, _gap, 416, "BLOB_UPLOAD_INVALID", "bytes before this chunk are missing"),
    _Rule(
        ("PUT upload",),
        _without_last,
        400,
        "BLOB_UPLOAD_INVALID",
        "the last of several chunks comes with the PUT",
    ),
    _Rule(
        _BYTES,
        lambda case: case.room is not None and (case.length or 0) > case.room,
        "blob_max_status",
        "SIZE_INVALID",
        "more bytes than are taken here",
    ),
    _Rule(_LISTS, _page, 400, "UNSUPPORTED", "a page has fewer than these"),
    _Rule(
        ("DELETE manifest",),
        lambda case: not case.profile.deletes_tags and ":" not in case.path,
        400,
        "DIGEST_INVALID",
        "a manifest is deleted by its digest alone",
    ),
    _Rule(
        ("GET referrers",),
        lambda case: not case.profile.referrers,
        404,
        "UNSUPPORTED",
        "no referrers API",
    ),
)


def refusal(case: Case) -> Response | None:
    """Return the answer to a request that the profile refuses, None where it does not."""
    for rule in _RULES:
        if case.kind in rule.kinds and rule.when(case):
            if isinstance(rule.status, str):
                status = int(getattr(case.profile, rule.status))
            else:
                status = rule.status
            return said(case.profile, status, rule.code, rule.reason)
    return None


def said(profile: Profile, status: int, code: str, reason: str) -> Response:
    """Return an error's answer: the spec's, or a proxy's page."""
    if profile.proxy_pages and status in _PROXY_STATUSES:
        return Response(_PAGE % status, status_code=status, media_type="text/html")
    return answer(status, code, {"reason": reason})
