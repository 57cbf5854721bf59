"""upload/flow.py: every status as the answer to each request of an upload, once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from tests.protocol.driver import BLOB, FIRST, REPOSITORY, Answer, KnownBody, drive, make_access

from brolga.errors import BrolgaError, TransportError
from brolga.protocol import Request, Response, Retry, UploadStrategy, mount_blob, upload_stream
from brolga.protocol.upload.known_registries import KNOWN_REGISTRIES
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


def upload(strategy: UploadStrategy | None = None) -> Flow[Descriptor]:
    """Upload a blob whose bytes can all be had again."""
    way = make_access(retry=Retry(attempts=5))
    return upload_stream(way, KnownBody([b"blob"]), lambda: BLOB, strategy=strategy)


def survived(
    method: str, strategy: UploadStrategy | None = None, *, works: bool = False, cut: str = ""
) -> set[int]:
    """Return the statuses that an upload survives as the answer to one call of a method."""
    statuses = set()
    for status in STATUSES:
        registry = Registered(method, status, works=works, cut=cut)
        try:
            assert drive(upload(strategy), registry) is BLOB
        except BrolgaError:
            continue
        assert registry.struck
        assert registry.has_blob
        statuses.add(status)
    return statuses


def test_post_survives_transient_statuses() -> None:
    """A second session does no harm; nothing else of a POST changes by itself."""
    assert survived("POST") == PASSING


@pytest.mark.parametrize(
    "strategy", [pytest.param(profile.strategy, id=profile.name) for profile in KNOWN_REGISTRIES]
)
def test_patch_survives_transient_lost_and_too_large_statuses(
    strategy: UploadStrategy,
) -> None:
    """The same session, a new one, or smaller requests, if the registry takes them."""
    smaller = SMALLER if strategy.can_shrink else set()
    assert survived("PATCH", strategy) == PASSING | LOST | smaller | {401}


def test_chunk_survives_413_by_smaller_chunks() -> None:
    """It has a Content-Length: 411 and 501 have no other answer."""
    strategy = UploadStrategy(chunk_size=4, min_chunk_size=1)
    assert survived("PATCH", strategy) == PASSING | LOST | {401, 413}


def test_put_survives_statuses_if_it_did_nothing() -> None:
    """A permanent refusal is raised."""
    assert survived("PUT") == PASSING | LOST | SMALLER | {401}


def test_put_survives_statuses_if_it_stored_the_blob() -> None:
    """The answer may be a proxy's own, or that to a second PUT which a proxy sent."""
    assert survived("PUT", works=True) >= PASSING | SECOND | SMALLER


def test_head_survives_any_status() -> None:
    """The blob is asked for again, or the session, which the commit has ended."""
    assert survived("HEAD", cut="PUT") == set(STATUSES)


def test_get_survives_any_status() -> None:
    """A session without a valid offset is left for a new one."""
    assert survived("GET", cut="PATCH") == set(STATUSES)


def test_delete_survives_any_status() -> None:
    """A session that is left is the registry's to purge; the first error is the one to raise."""
    assert survived("DELETE", UploadStrategy(resumes=False), cut="PATCH") == set(STATUSES)


def test_mount_survives_transient_statuses() -> None:
    """A second mount of a blob does no harm."""
    statuses = set()
    for status in STATUSES:
        way = make_access(retry=Retry(attempts=5))
        source = Repository.parse(f"{REPOSITORY.registry}/team/base")
        try:
            assert drive(mount_blob(way, BLOB.digest, source), Registered("mount", status)) is None
        except BrolgaError:
            continue
        statuses.add(status)
    assert statuses == PASSING
