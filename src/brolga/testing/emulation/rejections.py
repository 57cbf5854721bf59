"""The requests that a profile rejects, as rules."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs

from starlette.responses import Response

from brolga.registry.errors import error_response
from brolga.testing.sessions import OWN_PATH, parse_session_path

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from brolga.registry.storage.repository import Repo
    from brolga.registry.storage.uploads import Upload
    from brolga.testing.registries import Profile
    from brolga.testing.run import Session


_CONTENT_RANGE: Final = re.compile("([0-9]{1,18})-([0-9]{1,18})")
# The statuses of a proxy's own responses.
_PROXY_STATUSES: Final = (408, 411, 413, 429, 501)
_PAGE: Final = "<html><body><center><h1>%d</h1></center></body></html>"


@dataclass
class RequestFacts:
    """The facts of a request that a rule may need.

    `path` is the registry's own, `request_path` the one that the client sent, at `origin`. `upload`
    is None if the session does not exist; `size` is how many bytes it has stored.
    """

    repo: Repo | None
    upload: Upload | None
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
        """First and last byte of the Content-Range; None if it is missing or ignored."""
        match = _CONTENT_RANGE.fullmatch(self.headers.get("content-range", ""))
        return None if match is None or self.is_stream else (int(match[1]), int(match[2]))

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


_CHANGES: Final = ("POST upload", "PATCH upload", "PUT upload", "DELETE upload", "PUT manifest")
_BYTES: Final = ("PATCH upload", "PUT upload")
_SESSION: Final = ("GET upload", "PATCH upload", "PUT upload", "DELETE upload")
_BODIES: Final = (*_BYTES, "POST upload", "PUT manifest")
_LISTS: Final = ("GET tags", "GET catalog", "GET referrers")

# Whether a rule rejects the request; the status, the code and the reason of the response.
_Rule = tuple[object, int, str, str]


def rejection(facts: RequestFacts) -> Response | None:
    """Return the response to a request that the profile rejects, or None."""
    for rules in (_request_rules, _session_rules, _chunk_rules):
        for is_rejected, status, code, reason in rules(facts):
            if is_rejected:
                return reject(facts.profile, status, code, reason)
    return None


def _request_rules(facts: RequestFacts) -> Iterator[_Rule]:
    profile, kind = facts.profile, facts.kind
    if kind in _BODIES and profile.chunked_status is not None:
        is_chunked = "chunked" in facts.headers.get("transfer-encoding", "").lower()
        reason = "a proxy takes no chunked transfer coding"
        yield is_chunked, profile.chunked_status, "SIZE_INVALID", reason
    if kind in _BODIES and profile.request_max is not None:
        is_too_long = (facts.length or 0) > profile.request_max
        yield is_too_long, 413, "SIZE_INVALID", "a proxy lets no request of this size pass"
    if kind in _CHANGES and profile.cookie:
        yield "cookie" in facts.headers, 403, "DENIED", "a browser's cookie without its CSRF token"
    if kind in (*_CHANGES, "HEAD blob", "GET blob") and profile.must_exist:
        yield not facts.exists, 404, "NAME_UNKNOWN", "the repository must be created first"
    if kind == "POST upload" and profile.mount_needs_from:
        is_without = facts.parameter("mount") and not facts.parameter("from")
        yield is_without, 405, "UNSUPPORTED", "mount without from"
    if kind in _LISTS and profile.page_max is not None:
        text = facts.parameter("n")
        is_too_long = text.isdecimal() and int(text) > profile.page_max
        yield is_too_long, 400, "UNSUPPORTED", "a page has fewer entries"
    if kind == "DELETE manifest" and not profile.deletes_tags:
        reason = "a manifest is deleted by its digest alone"
        yield ":" not in facts.path, 400, "DIGEST_INVALID", reason
    if kind == "GET referrers":
        yield not profile.referrers, 404, "UNSUPPORTED", "no referrers API"


def _session_rules(facts: RequestFacts) -> Iterator[_Rule]:
    profile, kind, session = facts.profile, facts.kind, facts.session
    if kind in _SESSION and profile.session_path != OWN_PATH:
        # The client built the path by itself.
        is_guessed = parse_session_path(facts.request_path)
        yield is_guessed, 404, "BLOB_UPLOAD_UNKNOWN", "no session is there"
    if kind in _SESSION and profile.query:
        is_unsigned = not facts.query.startswith(profile.query)
        yield is_unsigned, 403, "DENIED", "the signature of the Location is missing"
    if kind in _SESSION and profile.session_s is not None:
        is_expired = facts.now - session.begun > profile.session_s
        yield is_expired, 404, "BLOB_UPLOAD_UNKNOWN", "the session has lived too long"
    if kind == "GET upload":
        yield not profile.has_status, 404, "BLOB_UPLOAD_UNKNOWN", "no status is available"
    if kind == "DELETE upload":
        yield not profile.may_cancel, 403, "DENIED", "a pusher may not delete"
    if kind == "PATCH upload" and profile.patches is not None:
        has_moved = session.patches >= profile.patches
        yield has_moved, 404, "BLOB_UPLOAD_UNKNOWN", "another node has the session"


def _chunk_rules(facts: RequestFacts) -> Iterator[_Rule]:
    profile, session, chunk = facts.profile, facts.session, facts.chunk
    if facts.kind not in _BYTES:
        return
    is_put, has_range = facts.method == "PUT", "content-range" in facts.headers
    is_rejected = profile.content_range == "refused" and has_range
    yield is_rejected, 400, "UNSUPPORTED", "no chunks here"
    if facts.length is None:
        is_rejected = profile.without_length == "refused" and has_range
        yield is_rejected, 400, "SIZE_INVALID", "Content-Range without Content-Length"
        is_rejected = is_put and profile.put_wants_length
        yield is_rejected, 400, "SIZE_INVALID", "a PUT needs a Content-Length"
    if chunk is not None and profile.chunk_max is not None:
        is_too_long = chunk[1] - chunk[0] + 1 > profile.chunk_max
        yield is_too_long, profile.chunk_max_status, "SIZE_INVALID", "the chunk is too long"
    reason = "the chunk before this one is too short not to be the last"
    yield session.short_chunk and facts.length != 0, 400, "SIZE_INVALID", reason
    if chunk is not None and profile.content_range == "overlap":
        reason = "bytes before this chunk are missing"
        yield chunk[0] > facts.size, 416, "BLOB_UPLOAD_INVALID", reason
    has_last = session.patches <= 1 or facts.length != 0
    reason = "the last of several chunks comes with the PUT"
    yield is_put and profile.last_in_put and not has_last, 400, "BLOB_UPLOAD_INVALID", reason
    if facts.limit is not None:
        is_too_long = (facts.length or 0) > facts.limit
        reason = "more bytes than are accepted"
        yield is_too_long, profile.blob_max_status, "SIZE_INVALID", reason


def reject(profile: Profile, status: int, code: str, reason: str) -> Response:
    """Return the response of an error: the spec's, or a proxy's page."""
    if profile.proxy_pages and status in _PROXY_STATUSES:
        return Response(_PAGE % status, status_code=status, media_type="text/html")
    return error_response(status, code, reason)
