"""Faults that end a request."""

from __future__ import annotations

from datetime import timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

import pytest
from tests.faults.conftest import NAME, Raw, arm, session_bytes
from tests.images import digest_of

from brolga.testing.faults import (
    Answer,
    Cut,
    CutAnswer,
    DropAnswer,
    Resend,
    TooMany,
)

if TYPE_CHECKING:
    from brolga.testing.plugin import BrolgaRegistry

DATA = b"0123456789"


@pytest.mark.parametrize(("stored", "left"), [(0, b""), (2, b"01"), (None, b"01234")])
@pytest.mark.parametrize("chunked", [False, True])
def test_cut_before_during_or_after_storing(
    brolga_registry: BrolgaRegistry, raw: Raw, stored: int | None, left: bytes, chunked: bool
) -> None:
    """Cut: the connection ends at byte `at`; of what came, the first `stored` bytes are kept."""
    plan = arm(brolga_registry, Cut(at=5, stored=stored))
    location = raw.start()
    response = raw.patch(location, [DATA[:3], DATA[3:]] if chunked else DATA)
    assert response.status == 0
    assert session_bytes(brolga_registry) == [left]
    assert brolga_registry.fired == plan.faults
    assert raw.stored_range(location) == f"0-{max(len(left) - 1, 0)}"
    # The session goes on.
    rest = raw.patch(location, DATA[len(left) :])
    assert (rest.status, rest.range) == (202, "0-9")
    assert raw.finish(location, DATA).status == 201


def test_cut_at_first_byte(brolga_registry: BrolgaRegistry, raw: Raw) -> None:
    """At byte 0 nothing of the body is read."""
    arm(brolga_registry, Cut())
    assert raw.patch(raw.start(), DATA).status == 0
    assert brolga_registry.requests[-1].received == 0


def test_cut_after_the_end_of_the_body(brolga_registry: BrolgaRegistry, raw: Raw) -> None:
    """A body that ends before byte `at` is cut at its end: the fault fires all the same."""
    arm(brolga_registry, Cut(at=1000, on="PUT upload"))
    location = raw.start()
    assert raw.finish(location, DATA, DATA).status == 0
    assert brolga_registry.blobs(NAME) == {}
    assert session_bytes(brolga_registry) == [DATA]


def test_cut_resets_connection(brolga_registry: BrolgaRegistry, raw: Raw) -> None:
    """Cut: by RST."""
    arm(brolga_registry, Cut())
    location = raw.start()
    with raw.connect() as connection, pytest.raises(ConnectionResetError):
        connection.sendall(raw.head("PATCH", location, 10))
        connection.recv(1)


def test_cut_without_reset_closes_connection(brolga_registry: BrolgaRegistry, raw: Raw) -> None:
    """Cut without `reset`: by FIN."""
    arm(brolga_registry, Cut(reset=False))
    location = raw.start()
    with raw.connect() as connection:
        connection.sendall(raw.head("PATCH", location, 10))
        assert connection.recv(1) == b""


def test_cut_of_rejected_request(brolga_registry: BrolgaRegistry, raw: Raw) -> None:
    """A fault fires too if the registry would answer before the body."""
    plan = arm(brolga_registry, Cut(at=5))
    assert raw.patch(f"/v2/{NAME}/blobs/uploads/{32 * '0'}", DATA).status == 0
    assert brolga_registry.fired == plan.faults


def test_fault_does_not_fire_if_client_leaves_before(
    brolga_registry: BrolgaRegistry, raw: Raw
) -> None:
    """A fault whose byte did not arrive has not fired."""
    arm(brolga_registry, Cut(at=8))
    location = raw.start()
    with raw.connect() as connection:
        connection.sendall(raw.head("PATCH", location, 10) + b"012")
    # The registry looks whether anybody still writes before it tells.
    assert raw.stored_range(location) in ("0-0", "0-2")
    assert brolga_registry.fired == ()


def test_drop_answer(brolga_registry: BrolgaRegistry, raw: Raw) -> None:
    """DropAnswer: the registry completes the request and does not answer."""
    plan = arm(brolga_registry, DropAnswer())
    assert raw.finish(raw.start(), DATA, DATA).status == 0
    assert brolga_registry.blobs(NAME) == {digest_of(DATA): DATA}
    assert brolga_registry.fired == plan.faults


@pytest.mark.parametrize("reset", [False, True])
def test_drop_answer_of_another_kind(
    brolga_registry: BrolgaRegistry, raw: Raw, reset: bool
) -> None:
    """A session is open, and its Location is lost."""
    arm(brolga_registry, DropAnswer(on="POST upload", reset=reset))
    assert raw("POST", "blobs/uploads/").status == 0
    assert session_bytes(brolga_registry) == [b""]


def test_resend_answers_as_to_a_second_request(brolga_registry: BrolgaRegistry, raw: Raw) -> None:
    """The first one did its work: the session is gone, and the blob is there."""
    plan = arm(brolga_registry, Resend())
    response = raw.finish(raw.start(), DATA, DATA)
    assert (response.status, b"BLOB_UPLOAD_UNKNOWN" in response.body) == (404, True)
    assert brolga_registry.blobs(NAME) == {digest_of(DATA): DATA}
    assert brolga_registry.fired == plan.faults


def test_cut_answer(brolga_registry: BrolgaRegistry, raw: Raw) -> None:
    """CutAnswer: the head promises more than comes."""
    digest = raw.push(DATA)
    plan = arm(brolga_registry, CutAnswer(at=4))
    cut = raw("GET", f"blobs/{digest}")
    assert (cut.status, cut.headers["Content-Length"], cut.body) == (200, "10", b"0123")
    assert brolga_registry.fired == plan.faults
    assert raw("GET", f"blobs/{digest}").body == DATA


def test_answer_before_the_body(brolga_registry: BrolgaRegistry, raw: Raw) -> None:
    """Answer, at byte 0: before anything of the body was sent."""
    arm(brolga_registry, Answer(status=401, code="UNAUTHORIZED"))
    location = raw.start()
    with raw.connect() as connection:
        connection.sendall(raw.head("PATCH", location, 10))
        assert connection.recv(4096).startswith(b"HTTP/1.1 401 ")


@pytest.mark.parametrize(("stored", "left"), [(0, b""), (3, b"012"), (None, b"01234")])
def test_answer_during_the_body(
    brolga_registry: BrolgaRegistry, raw: Raw, stored: int | None, left: bytes
) -> None:
    """Answer, at byte n: as soon as n bytes came."""
    arm(brolga_registry, Answer(status=500, at=5, stored=stored))
    location = raw.start()
    with raw.connect() as connection:
        connection.sendall(raw.head("PATCH", location, 10) + DATA[:5])
        assert connection.recv(4096).startswith(b"HTTP/1.1 500 ")
    assert session_bytes(brolga_registry) == [left]


@pytest.mark.parametrize(("stored", "committed"), [(0, False), (2, False), (None, True)])
def test_answer_after_the_body(
    brolga_registry: BrolgaRegistry, raw: Raw, stored: int | None, committed: bool
) -> None:
    """Answer, after it all: with `stored` None it hides what the registry did."""
    arm(brolga_registry, Answer(on="PUT upload", status=502, at=None, stored=stored))
    response = raw.finish(raw.start(), DATA, DATA)
    assert (response.status, response.code) == (502, "UNKNOWN")
    assert bool(brolga_registry.blobs(NAME)) is committed
    assert brolga_registry.requests[-1].received == len(DATA)


def test_answer_has_code_headers_and_body(brolga_registry: BrolgaRegistry, raw: Raw) -> None:
    """An answer may be a proxy's page, or have any code."""
    arm(
        brolga_registry,
        Answer(on="POST upload", status=507, code="QUOTA", headers=(("X-Request-Id", "7"),)),
        Answer(on="POST upload", nth=2, status=503, body=b"<html>"),
    )
    first, second = raw("POST", "blobs/uploads/"), raw("POST", "blobs/uploads/")
    assert (first.status, first.code, first.headers["X-Request-Id"]) == (507, "QUOTA", "7")
    assert (second.status, second.body) == (503, b"<html>")
    assert [seen.status for seen in brolga_registry.requests] == [507, 503]


def test_too_many_with_seconds(brolga_registry: BrolgaRegistry, raw: Raw) -> None:
    """Retry-After: delay-seconds (RFC 9110, section 10.2.3)."""
    arm(brolga_registry, TooMany(after_s=7))
    response = raw("POST", "blobs/uploads/")
    assert (response.status, response.code) == (429, "TOOMANYREQUESTS")
    assert response.headers["Retry-After"] == "7"
    assert raw("POST", "blobs/uploads/").status == 202


def test_too_many_with_date(brolga_registry: BrolgaRegistry, raw: Raw) -> None:
    """Retry-After: HTTP-date, which is after the answer's own Date."""
    arm(brolga_registry, TooMany(after_s=3600, as_date=True))
    headers = raw("POST", "blobs/uploads/").headers
    wait = parsedate_to_datetime(headers["Retry-After"]) - parsedate_to_datetime(headers["Date"])
    assert timedelta(seconds=3590) <= wait <= timedelta(seconds=3610)
