"""The requests that a profile rejects, as a table of rules."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import parse_qs

from starlette.responses import Response

from brolga.registry.errors import error_response
from brolga.testing.emulation.locations import OWN_PATH, parse_session_path

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from brolga.testing.emulation.registries import Profile
    from brolga.testing.run import Session

__all__ = ["RequestFacts", "reject", "rejection"]

_CONTENT_RANGE: Final = re.compile("([0-9]{1,18})-([0-9]{1,18})")
_SEVERAL: Final = 2
# The statuses of a proxy's own responses.
_PROXY_STATUSES: Final = (408, 411, 413, 429, 501)
_PAGE: Final = "<html><body><center><h1>%d</h1></center></body></html>"


@dataclass
class RequestFacts:
    """The facts of a request that a rule may need.

    `path` is the registry's own, `request_path` the one that the client sent, at `origin`. `size`
    is how many bytes the session has stored.
    """

    kind: str
    origin: str
    request_path: str
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
        """The length of the body, if a header has it."""
        text = self.headers.get("content-length")
        return None if text is None else int(text)

    @property
    def is_stream(self) -> bool:
        """Whether a Content-Range is ignored."""
        streamed = self.length is None and self.profile.without_length == "streamed"
        return streamed or self.profile.content_range == "ignored"

    @cached_property
    def chunk(self) -> tuple[int, int] | None:
        """First and last byte of the Content-Range; None if there is none, or it is ignored."""
        match = _CONTENT_RANGE.fullmatch(self.headers.get("content-range", ""))
        return None if match is None or self.is_stream else (int(match[1]), int(match[2]))

    @property
    def has_body(self) -> bool:
        """Whether the body may have bytes."""
        return self.length != 0

    @property
    def skipped(self) -> int:
        """How many of the first bytes of the body are stored already."""
        overlap = self.chunk is not None and self.profile.content_range == "overlap"
        return self.size - self.chunk[0] if overlap and self.chunk else 0

    @property
    def limit(self) -> int | None:
        """How many bytes of the body are accepted; None for no limit."""
        limits = [None if self.profile.blob_max is None else self.profile.blob_max - self.size]
        if self.method == "PUT":
            limits.append(self.profile.put_max)
        limits.append(self.profile.request_max)
        return min((limit for limit in limits if limit is not None), default=None)

    def parameter(self, name: str) -> str:
        """Return a parameter of the query, or ""."""
        return parse_qs(self.query).get(name, [""])[0]


class _Rule(NamedTuple):
    """Rejects requests of some kinds, `when` something holds.

    `status` may be the name of a profile's field.
    """

    kinds: tuple[str, ...]
    when: Callable[[RequestFacts], object]
    status: int | str
    code: str
    reason: str


_CHANGES: Final = ("POST upload", "PATCH upload", "PUT upload", "DELETE upload", "PUT manifest")
_BYTES: Final = ("PATCH upload", "PUT upload")
_SESSION: Final = ("GET upload", "PATCH upload", "PUT upload", "DELETE upload")
_BODIES: Final = (*_BYTES, "POST upload", "PUT manifest")
_LISTS: Final = ("GET tags", "GET catalog", "GET referrers")


def _guessed_path(facts: RequestFacts) -> bool:
    """Whether a client built a session's path by itself, and the profile has another."""
    is_own = parse_session_path(facts.request_path) is not None
    return facts.profile.session_path != OWN_PATH and is_own


def _unsigned(facts: RequestFacts) -> bool:
    return bool(facts.profile.query) and not facts.query.startswith(facts.profile.query)


def _expired(facts: RequestFacts) -> bool:
    life_s = facts.profile.session_s
    return life_s is not None and facts.now - facts.session.begun > life_s


def _patched_enough(facts: RequestFacts) -> bool:
    """Whether another PATCH would reach a node that does not know the session."""
    return facts.profile.patches is not None and facts.session.patches >= facts.profile.patches


def _long_chunk(facts: RequestFacts) -> bool:
    if facts.profile.chunk_max is None or facts.chunk is None:
        return False
    return facts.chunk[1] - facts.chunk[0] + 1 > facts.profile.chunk_max


def _gap(facts: RequestFacts) -> bool:
    overlap = facts.profile.content_range == "overlap"
    return overlap and facts.chunk is not None and facts.chunk[0] > facts.size


def _without_last(facts: RequestFacts) -> bool:
    several = facts.session.patches >= _SEVERAL
    return facts.profile.last_in_put and several and not facts.has_body


def _page_too_long(facts: RequestFacts) -> bool:
    text = facts.parameter("n")
    limit = facts.profile.page_max
    return limit is not None and text.isdecimal() and int(text) > limit


def _is_chunked(facts: RequestFacts) -> bool:
    return "chunked" in facts.headers.get("transfer-encoding", "").lower()


_RULES: Final = (
    _Rule(
        _BODIES,
        lambda facts: facts.profile.chunked_status is not None and _is_chunked(facts),
        "chunked_status",
        "SIZE_INVALID",
        "a proxy takes no chunked transfer coding",
    ),
    _Rule(
        _BODIES,
        lambda facts: (
            facts.profile.request_max is not None
            and (facts.length or 0) > facts.profile.request_max
        ),
        413,
        "SIZE_INVALID",
        "a proxy lets no request of this size pass",
    ),
    _Rule(
        _CHANGES,
        lambda facts: facts.profile.cookie and "cookie" in facts.headers,
        403,
        "DENIED",
        "a browser's cookie without its CSRF token",
    ),
    _Rule(
        (*_CHANGES, "HEAD blob", "GET blob"),
        lambda facts: facts.profile.must_exist and not facts.exists,
        404,
        "NAME_UNKNOWN",
        "the repository must be made first",
    ),
    _Rule(
        ("POST upload",),
        lambda facts: (
            facts.profile.mount_needs_from
            and facts.parameter("mount")
            and not facts.parameter("from")
        ),
        405,
        "UNSUPPORTED",
        "mount without from",
    ),
    _Rule(_SESSION, _guessed_path, 404, "BLOB_UPLOAD_UNKNOWN", "no session is there"),
    _Rule(_SESSION, _unsigned, 403, "DENIED", "the signature of the Location is missing"),
    _Rule(_SESSION, _expired, 404, "BLOB_UPLOAD_UNKNOWN", "the session has lived too long"),
    _Rule(
        ("GET upload",),
        lambda facts: not facts.profile.says_status,
        404,
        "BLOB_UPLOAD_UNKNOWN",
        "no status is told here",
    ),
    _Rule(
        ("DELETE upload",),
        lambda facts: not facts.profile.may_cancel,
        403,
        "DENIED",
        "who pushes may not delete",
    ),
    _Rule(
        ("PATCH upload",),
        _patched_enough,
        404,
        "BLOB_UPLOAD_UNKNOWN",
        "another node has the session",
    ),
    _Rule(
        _BYTES,
        lambda facts: facts.profile.content_range == "refused" and "content-range" in facts.headers,
        400,
        "UNSUPPORTED",
        "no chunks here",
    ),
    _Rule(
        _BYTES,
        lambda facts: (
            facts.profile.without_length == "refused"
            and "content-range" in facts.headers
            and facts.length is None
        ),
        400,
        "SIZE_INVALID",
        "Content-Range without Content-Length",
    ),
    _Rule(
        ("PUT upload",),
        lambda facts: facts.profile.put_wants_length and facts.length is None,
        400,
        "SIZE_INVALID",
        "a PUT needs a Content-Length",
    ),
    _Rule(_BYTES, _long_chunk, "chunk_max_status", "SIZE_INVALID", "the chunk is too long"),
    _Rule(
        _BYTES,
        lambda facts: facts.session.short_chunk and facts.has_body,
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
        lambda facts: facts.limit is not None and (facts.length or 0) > facts.limit,
        "blob_max_status",
        "SIZE_INVALID",
        "more bytes than are taken here",
    ),
    _Rule(_LISTS, _page_too_long, 400, "UNSUPPORTED", "a page has fewer than these"),
    _Rule(
        ("DELETE manifest",),
        lambda facts: not facts.profile.deletes_tags and ":" not in facts.path,
        400,
        "DIGEST_INVALID",
        "a manifest is deleted by its digest alone",
    ),
    _Rule(
        ("GET referrers",),
        lambda facts: not facts.profile.referrers,
        404,
        "UNSUPPORTED",
        "no referrers API",
    ),
)


def rejection(facts: RequestFacts) -> Response | None:
    """Return the response to a request that the profile rejects, or None."""
    for rule in _RULES:
        if facts.kind in rule.kinds and rule.when(facts):
            if isinstance(rule.status, str):
                status = int(getattr(facts.profile, rule.status))
            else:
                status = rule.status
            return reject(facts.profile, status, rule.code, rule.reason)
    return None


def reject(profile: Profile, status: int, code: str, reason: str) -> Response:
    """Return the response of an error: the spec's, or a proxy's page."""
    if profile.proxy_pages and status in _PROXY_STATUSES:
        return Response(_PAGE % status, status_code=status, media_type="text/html")
    return error_response(status, code, {"reason": reason})
