"""wire/ladder.py: what a failure means, as a table."""

from __future__ import annotations

from dataclasses import replace

import pytest

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
from brolga.protocol import UploadStrategy
from brolga.protocol.ladder import (
    Recovery,
    Standing,
    decide,
    is_session_lost,
    is_silence,
    may_be_second,
    refuses_more,
)

OPEN = Standing(UploadStrategy(), acknowledged=4)
CLOSED = Standing(UploadStrategy(), is_open=False)
RESUMED = replace(OPEN, has_resumed=True)
TIRED = replace(OPEN, asks=3)
UNASKED = replace(OPEN, style=UploadStrategy(resumes=False))
CHUNKED = replace(OPEN, style=UploadStrategy(chunk=4 << 20))
FIRST_CHUNK = replace(CHUNKED, acknowledged=0)
GAR = UploadStrategy(smaller=0)
SMALLEST = replace(OPEN, style=UploadStrategy(chunk=1 << 20))


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


@pytest.mark.parametrize(
    ("error", "at", "what"),
    [
        # What passes: the session is asked.
        *[(lost(reason), OPEN, Recovery.RESUME) for reason in ("cut", "connect", "timeout")],
        *[(says(status), OPEN, Recovery.RESUME) for status in (401, 408, 429, 500, 502, 503, 504)],
        *[
            (says(status), OPEN, Recovery.RESUME) for status in (520, 522, 524, 530)
        ],  # Cloudflare's own
        (EARLY, OPEN, Recovery.RESUME),
        (TransportError("no", reason="timeout"), OPEN, Recovery.RESUME),
        # Where that is not worth it, or was done in vain, a new one.
        (lost("cut"), UNASKED, Recovery.RESTART),
        (lost("cut"), TIRED, Recovery.RESTART),
        (lost("cut"), replace(TIRED, has_all=False), Recovery.RESUME),
        # The session is lost.
        *[(says(status), OPEN, Recovery.RESTART) for status in (404, 410, 416)],
        *[
            (says(400, code), OPEN, Recovery.RESTART)
            for code in (
                "BLOB_UPLOAD_UNKNOWN",
                "BLOB_UPLOAD_INVALID",
                "RANGE_INVALID",
                "SIZE_INVALID",
            )
        ],
        (says(500, "BLOB_UPLOAD_INVALID"), OPEN, Recovery.RESTART),
        # What may have come of a wrong offset.
        (says(400), RESUMED, Recovery.RESTART),
        (says(400), OPEN, Recovery.FAIL),
        (OTHER_BYTES, RESUMED, Recovery.RESTART),
        (OTHER_BYTES, OPEN, Recovery.FAIL),
        # Smaller requests.
        (says(413), OPEN, Recovery.SHRINK),
        (says(413), CHUNKED, Recovery.SHRINK),
        (says(413), SMALLEST, Recovery.FAIL),
        (says(413), replace(OPEN, style=UploadStrategy(smaller=0)), Recovery.FAIL),
        (says(413), CLOSED, Recovery.FAIL),
        (says(416), FIRST_CHUNK, Recovery.SHRINK),
        (says(416), CHUNKED, Recovery.RESTART),
        (says(416), replace(FIRST_CHUNK, style=UploadStrategy(chunk=1 << 20)), Recovery.RESTART),
        (
            says(416),
            replace(FIRST_CHUNK, has_resumed=True),
            Recovery.RESTART,
        ),  # 0-0 may be one byte
        # What stays.
        (lost("certificate"), OPEN, Recovery.FAIL),
        (TransportError("no", reason="tls"), OPEN, Recovery.FAIL),
        *[(says(status), OPEN, Recovery.FAIL) for status in (403, 405, 505, 507)],
        # A proxy that takes no chunked transfer coding.
        *[(says(status), OPEN, Recovery.SHRINK) for status in (411, 501)],
        *[(says(status), CHUNKED, Recovery.FAIL) for status in (411, 501)],
        *[(says(status), replace(OPEN, style=GAR), Recovery.FAIL) for status in (411, 501)],
        # The POST, which was made again as often as it may be.
        *[(says(status), CLOSED, Recovery.FAIL) for status in (401, 403, 404, 411, 429, 503)],
        *[(says(status), CLOSED, Recovery.FAIL) for status in (408, 500, 501, 502, 504, 520)],
        *[
            (TransportError("no", reason=reason), CLOSED, Recovery.FAIL)
            for reason in ("cut", "connect", "timeout")
        ],
    ],
)
def test_what_a_failure_leads_to(error: BrolgaError, at: Standing, what: Recovery) -> None:
    """The ladder: the same session, a new one, smaller requests, the failure itself."""
    assert decide(error, at) is what


@pytest.mark.parametrize(
    ("error", "gone"),
    [
        (says(404), True),
        (says(410), True),
        (says(400, "BLOB_UPLOAD_UNKNOWN"), True),
        (says(502, "BLOB_UPLOAD_UNKNOWN"), False),
        (says(400), False),
        (lost("cut"), False),
        (OTHER_BYTES, False),
    ],
)
def test_a_session_that_is_not_known_may_have_been_committed(
    error: BrolgaError, gone: bool
) -> None:
    """A proxy's page says nothing of it."""
    assert is_session_lost(error) is gone


@pytest.mark.parametrize(
    ("error", "second"),
    [
        *[(says(status), True) for status in (400, 404, 409, 410, 416)],
        (says(500, "BLOB_UPLOAD_UNKNOWN"), False),
        *[(says(status), False) for status in (401, 403, 405, 411, 413, 429, 500, 503)],
        (lost("cut"), False),
        (OTHER_BYTES, False),
    ],
)
def test_a_refused_closing_may_be_the_second_one(error: BrolgaError, second: bool) -> None:
    """A proxy sends a PUT again whose answer it lost (nginx, proxy_next_upstream)."""
    assert may_be_second(error) is second


@pytest.mark.parametrize(
    ("error", "silence"),
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
def test_a_request_may_fail_for_want_of_bytes(error: BrolgaError, silence: bool) -> None:
    """408 Request Timeout, or a connection that is cut (RFC 9110, section 15.5.9)."""
    assert is_silence(error) is silence


@pytest.mark.parametrize(
    ("error", "refuses"),
    [
        *[(says(status), True) for status in (400, 403, 404, 405, 411, 416)],
        (OTHER_BYTES, True),
        *[(says(status), False) for status in (401, 408, 429, 500, 502, 503)],
        (lost("cut"), False),
    ],
)
def test_a_session_may_take_one_patch_alone(error: BrolgaError, refuses: bool) -> None:
    """JFrog: the next one may reach a node that does not know it (containerd/containerd#3533)."""
    assert refuses_more(error) is refuses
