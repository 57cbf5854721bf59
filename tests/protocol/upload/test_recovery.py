"""upload/recovery.py: what follows a failure, as a table."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from tests.protocol.driver import BLOB, PING

from brolga.errors import (
    BrolgaError,
    Denied,
    DigestMismatch,
    NotFound,
    RateLimited,
    RegistryError,
    TransportError,
    Unauthorized,
    UploadInterrupted,
)
from brolga.protocol import UploadSession, UploadStrategy
from brolga.protocol.upload.machine import Committing, Idle, InSession, Open, Recovery, Uncertain
from brolga.protocol.upload.recovery import adapt, decide, may_be_idle_timeout, may_follow_commit

if TYPE_CHECKING:
    from brolga.protocol.upload.machine import Active

OPEN = Open(strategy=UploadStrategy(), session=UploadSession("", 4))
IDLE = Idle(strategy=UploadStrategy())
RESUMED = replace(OPEN, resumed=True)
SPLIT = replace(OPEN, split=True)
UNCERTAIN = Uncertain(
    strategy=UploadStrategy(), session=UploadSession("", 4), replayable=True, sent=4
)
QUERIED = replace(UNCERTAIN, failed_queries=2)
CHUNKED = replace(OPEN, strategy=UploadStrategy(chunk_size=4 << 20))
FIRST_CHUNK = replace(CHUNKED, session=UploadSession(""))
SMALLEST = replace(OPEN, strategy=UploadStrategy(chunk_size=1 << 20))
FIRST_AND_SMALLEST = replace(SMALLEST, session=UploadSession(""))
NO_RESUME = replace(OPEN, strategy=UploadStrategy(resumes=False))
NO_CHUNKS = replace(OPEN, strategy=UploadStrategy(fallback_chunk_size=0))


def says(status: int, code: str = "") -> RegistryError:
    """Return the error of a status."""
    kinds: dict[int, type[RegistryError]] = {
        401: Unauthorized,
        403: Denied,
        404: NotFound,
        429: RateLimited,
    }
    kind = kinds.get(status, RegistryError)
    return kind("no", method="PATCH", url="", status=status, code=code)


def lost(reason: str) -> UploadInterrupted:
    """Return the error of a stream that was cut for a reason."""
    error = UploadInterrupted("cut", sent=1, acknowledged=0)
    error.__cause__ = TransportError("cut", reason=reason)
    return error


EARLY = UploadInterrupted("the registry answered before the end", sent=1, acknowledged=0)
OTHER_BYTES = DigestMismatch("no", expected="", actual="")
RESUME, RESTART, SHRINK, _SUSPEND, FAIL = Recovery


@pytest.mark.parametrize(
    ("error", "state", "expected"),
    [
        # A transient failure: the session is queried.
        *[(lost(reason), OPEN, RESUME) for reason in ("cut", "connect", "timeout")],
        *[(says(status), OPEN, RESUME) for status in (401, 408, 429, 500, 502, 503, 504)],
        *[(says(status), OPEN, RESUME) for status in (520, 522, 524, 530)],  # Cloudflare's own
        (EARLY, OPEN, RESUME),
        (TransportError("no", reason="timeout"), OPEN, RESUME),
        (TransportError("no", reason="timeout"), UNCERTAIN, RESUME),
        # If that is not worth it, or failed too often, a new one.
        (lost("cut"), NO_RESUME, RESTART),
        (says(500), replace(UNCERTAIN, failed_queries=1), RESUME),
        (says(500), QUERIED, RESTART),
        (says(500), replace(QUERIED, replayable=False), RESUME),
        # The session is lost.
        *[(says(status), OPEN, RESTART) for status in (404, 410, 416)],
        *[
            (says(400, code), OPEN, RESTART)
            for code in (
                "BLOB_UPLOAD_UNKNOWN",
                "BLOB_UPLOAD_INVALID",
                "RANGE_INVALID",
                "SIZE_INVALID",
            )
        ],
        (says(500, "BLOB_UPLOAD_INVALID"), OPEN, RESTART),
        (says(500, "BLOB_UPLOAD_INVALID"), UNCERTAIN, RESTART),
        # What may have come of a wrong offset.
        (says(400), RESUMED, RESTART),
        (says(400), SPLIT, RESTART),
        (says(400), OPEN, FAIL),
        (OTHER_BYTES, RESUMED, RESTART),
        (OTHER_BYTES, SPLIT, RESTART),
        (OTHER_BYTES, OPEN, FAIL),
        # Smaller requests.
        (says(413), OPEN, SHRINK),
        (says(413), CHUNKED, SHRINK),
        (says(413), SMALLEST, FAIL),
        (says(413), NO_CHUNKS, FAIL),
        (says(413), IDLE, FAIL),
        (says(416), FIRST_CHUNK, SHRINK),
        (says(416), CHUNKED, RESTART),
        (says(416), FIRST_AND_SMALLEST, RESTART),
        (says(416), replace(FIRST_CHUNK, resumed=True), RESTART),  # 0-0 may be one byte
        # What is final.
        (lost("certificate"), OPEN, FAIL),
        (TransportError("no", reason="tls"), OPEN, FAIL),
        *[(says(status), OPEN, FAIL) for status in (403, 405, 505, 507)],
        # A proxy that accepts no chunked transfer coding.
        *[(says(status), OPEN, SHRINK) for status in (411, 501)],
        *[(says(status), CHUNKED, FAIL) for status in (411, 501)],
        *[(says(status), NO_CHUNKS, FAIL) for status in (411, 501)],
        # The POST, which was repeated as often as it may be.
        *[(says(status), IDLE, FAIL) for status in (401, 403, 404, 411, 429, 503)],
        *[(says(status), IDLE, FAIL) for status in (408, 500, 501, 502, 504, 520)],
        *[
            (TransportError("no", reason=reason), IDLE, FAIL)
            for reason in ("cut", "connect", "timeout")
        ],
        (OTHER_BYTES, IDLE, FAIL),
    ],
)
def test_decide_follows_the_table(error: BrolgaError, state: Active, expected: Recovery) -> None:
    """The same session, a new one, smaller requests, or the error. A PUT fails as a PATCH does."""
    assert decide(state, error) is expected
    if isinstance(state, Open):
        committing = Committing(descriptor=BLOB, put=PING, size=0, **vars(state))
        assert decide(committing, error) is expected


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        *[(says(status), True) for status in (400, 404, 409, 410, 416)],
        (says(400, "BLOB_UPLOAD_UNKNOWN"), True),
        *[(says(status, "BLOB_UPLOAD_UNKNOWN"), False) for status in (500, 502)],
        *[(says(status), False) for status in (401, 403, 405, 411, 413, 429, 500, 503)],
        (lost("cut"), False),
        (OTHER_BYTES, False),
    ],
)
def test_may_follow_commit_if_the_session_is_closed(error: BrolgaError, expected: bool) -> None:
    """A proxy repeats a PUT whose response it lost (nginx, proxy_next_upstream)."""
    assert may_follow_commit(error) is expected


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (lost("cut"), True),
        (lost("timeout"), True),
        (EARLY, True),
        *[(says(status), True) for status in (408, 502, 504)],
        *[(says(status), False) for status in (401, 404, 411, 413, 429, 500, 503)],
        (TransportError("no", reason="cut"), False),
        (OTHER_BYTES, False),
    ],
)
def test_may_be_idle_timeout_by_error(error: BrolgaError, expected: bool) -> None:
    """408 Request Timeout, or a connection that is cut (RFC 9110, section 15.5.9)."""
    assert may_be_idle_timeout(error) is expected


@pytest.mark.parametrize(
    ("error", "refuses"),
    [
        *[(says(status), True) for status in (400, 403, 404, 405, 411, 416)],
        (OTHER_BYTES, True),
        *[(says(status), False) for status in (401, 408, 429, 500, 502, 503)],
        (lost("cut"), False),
    ],
)
@pytest.mark.parametrize("state", [OPEN, SPLIT])
def test_adapt_ends_splitting_after_a_second_patch_is_refused(
    state: InSession, error: BrolgaError, refuses: bool
) -> None:
    """JFrog: the next one may reach a node that does not know it (containerd/containerd#3533)."""
    splits = not (state.split and refuses)
    assert adapt(state, error, RESTART) == replace(state.strategy, splits=splits)


def test_adapt_shrinks_requests_for_shrink_only() -> None:
    """Chunks first, then of half the size."""
    assert adapt(OPEN, says(413), SHRINK).chunk_size == 32 << 20
    assert adapt(CHUNKED, says(413), SHRINK).chunk_size == 2 << 20
    assert adapt(OPEN, says(500), RESUME) == OPEN.strategy
