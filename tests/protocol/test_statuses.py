"""wire/upload.py: every status as the answer to each call of an upload, once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from tests.protocol.scripted import BLOB, FIRST, REPOSITORY, Answer, Known, access, drive

from brolga.errors import BrolgaError, TransportError
from brolga.protocol import Request, Response, Retry, UploadStrategy, mount_blob, upload_stream
from brolga.protocol.profiles import PROFILES
from brolga.spec.reference import Repository

if TYPE_CHECKING:
    from brolga.protocol import Flow
    from brolga.spec.descriptor import Descriptor

STATUSES = range(300, 600)
# What passes by itself: the same call can end otherwise a moment later.
PASSING = {408, 429, *range(500, 600)} - {501, 505, 506, 507, 508, 510, 511}
LOST = {404, 410, 416}  # the session: another one is begun
SMALLER = {411, 413, 501}  # in requests of known length
SECOND = {400, 409} | LOST  # a closing PUT that a proxy sent twice
CUT = TransportError("cut", reason="cut", sent=2)


@dataclass
class Registered:
    """A registry that answers the first call of a method with a status, and all others well.

    `works` tells that a PUT does its work whatever it is answered; `cut` is the method whose first
    call is cut.
    """

    method: str
    status: int
    works: bool = False
    cut: str = ""
    has_blob: bool = False
    has_session: bool = True
    struck: bool = False

    def __call__(self, request: Request) -> Answer:
        method = "mount" if "mount=" in request.url else request.method
        if method == self.cut:
            self.cut = ""
            self._work(method)
            return CUT
        if method == self.method and not self.struck:
            self.struck = True
            if self.works:
                self._work(method)
            return Response(self.status)
        return self._answer(method)

    def _answer(self, method: str) -> Response:
        if method == "POST":
            self.has_session = True
            return Response(202, {"location": FIRST})
        if method in ("GET", "PATCH", "PUT") and not self.has_session:
            return Response(404)
        self._work(method)
        headers = {"docker-content-digest": str(BLOB.digest), "content-length": "4"}
        return {
            "mount": Response(201),
            "PATCH": Response(202, {"location": FIRST}),
            "GET": Response(204, {"range": "0-3"}),
            "PUT": Response(201),
            "HEAD": Response(200, headers) if self.has_blob else Response(404),
            "DELETE": Response(204),
        }[method]

    def _work(self, method: str) -> None:
        if method == "PUT":
            self.has_blob, self.has_session = True, False


def upload(style: UploadStrategy | None = None) -> Flow[Descriptor]:
    """Upload a blob whose bytes can all be had again."""
    way = access(retry=Retry(attempts=5))
    return upload_stream(way, Known([b"blob"]), lambda: BLOB, style=style)


def survived(
    method: str, style: UploadStrategy | None = None, *, works: bool = False, cut: str = ""
) -> set[int]:
    """Return the statuses that an upload survives as the answer to one call of a method."""
    found = set()
    for status in STATUSES:
        registry = Registered(method, status, works=works, cut=cut)
        try:
            assert drive(upload(style), registry) is BLOB
        except BrolgaError:
            continue
        assert registry.struck
        assert registry.has_blob
        found.add(status)
    return found


def test_post_survives_what_passes() -> None:
    """A second session does no harm; nothing else of a POST changes by itself."""
    assert survived("POST") == PASSING


@pytest.mark.parametrize(
    "style", [pytest.param(profile.style, id=profile.name) for profile in PROFILES]
)
def test_patch_survives_what_passes_what_is_lost_and_what_is_too_large(
    style: UploadStrategy,
) -> None:
    """The same session, a new one, or smaller requests, if the registry takes them."""
    smaller = SMALLER if style.can_shrink else set()
    assert survived("PATCH", style) == PASSING | LOST | smaller | {401}


def test_chunk_survives_a_smaller_one() -> None:
    """It has a Content-Length: 411 and 501 have no other answer."""
    style = UploadStrategy(chunk=4, smallest=1)
    assert survived("PATCH", style) == PASSING | LOST | {401, 413}


def test_put_that_did_nothing_is_made_again() -> None:
    """What is refused for good is told."""
    assert survived("PUT") == PASSING | LOST | SMALLER | {401}


def test_put_that_did_its_work_is_found_by_head() -> None:
    """The answer may be a proxy's own, or that to a second PUT which a proxy sent."""
    assert survived("PUT", works=True) >= PASSING | SECOND | SMALLER


def test_head_of_any_status_hides_no_blob() -> None:
    """The blob is asked for again, or the session, which the commit has ended."""
    assert survived("HEAD", cut="PUT") == set(STATUSES)


def test_status_of_a_session_of_any_status_loses_no_upload() -> None:
    """A session that does not tell how far it came is left for a new one."""
    assert survived("GET", cut="PATCH") == set(STATUSES)


def test_delete_of_any_status_is_no_failure() -> None:
    """A session that is left is the registry's to purge; the first error is the one to tell."""
    assert survived("DELETE", UploadStrategy(resumes=False), cut="PATCH") == set(STATUSES)


def test_mount_survives_what_passes() -> None:
    """A second mount of a blob does no harm."""
    found = set()
    for status in STATUSES:
        way = access(retry=Retry(attempts=5))
        source = Repository.parse(f"{REPOSITORY.registry}/team/base")
        try:
            assert drive(mount_blob(way, BLOB.digest, source), Registered("mount", status)) is None
        except BrolgaError:
            continue
        found.add(status)
    assert found == PASSING
