"""Each fault, on the wire: what a client sees, and what the registry has then."""

from __future__ import annotations

import json
import socket
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from tests.faults.conftest import NAME, Raw, digest_of, held

from brolga.registry.server import running
from brolga.testing.faults import (
    Answer,
    Cut,
    CutAnswer,
    DropAnswer,
    FaultPlan,
    FrozenRange,
    MissingRange,
    OtherLocation,
    Resend,
    ShiftedRange,
    Slow,
    StaleState,
    Stall,
    TokenDies,
    TooMany,
)
from brolga.testing.injector import Injector
from brolga.testing.middleware import fault_middleware

if TYPE_CHECKING:
    from pathlib import Path

    from brolga.testing.faults import Fault, LocationForm
    from brolga.testing.plugin import BrolgaRegistry

DATA = b"0123456789"


def arm(registry: BrolgaRegistry, *faults: Fault) -> FaultPlan:
    """Put faults in force."""
    plan = FaultPlan(*faults)
    registry.use(faults=plan)
    return plan


def wait_until_fired(registry: BrolgaRegistry, raw: Raw) -> None:
    """Return when a fault has fired on another connection."""
    for _ in range(10_000):
        if registry.fired:
            return
        raw("GET", "/v2/")
    raise AssertionError("no fault fired")


# --- The connection


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
    assert held(brolga_registry) == [left]
    assert brolga_registry.fired == plan.faults
    assert raw.said(location) == f"0-{max(len(left) - 1, 0)}"
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
    assert held(brolga_registry) == [DATA]


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
    """What did not come to its byte has not fired."""
    arm(brolga_registry, Cut(at=8))
    location = raw.start()
    with raw.connect() as connection:
        connection.sendall(raw.head("PATCH", location, 10) + b"012")
    # The registry looks whether anybody still writes before it tells.
    assert raw.said(location) in ("0-0", "0-2")
    assert brolga_registry.fired == ()


def test_drop_answer(brolga_registry: BrolgaRegistry, raw: Raw) -> None:
    """DropAnswer: the registry does its work, and nobody says so."""
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
    assert held(brolga_registry) == [b""]


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


# --- Answers


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
    assert held(brolga_registry) == [left]


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


# --- Time


@pytest.mark.parametrize("at", [0, 3, None])
def test_stall_ends_with_the_plan(
    brolga_registry: BrolgaRegistry, raw: Raw, at: int | None
) -> None:
    """Stall: no answer comes; another plan lets go of the connection."""
    plan = arm(brolga_registry, Stall(at=at))
    location = raw.start()
    with raw.connect() as connection:
        connection.sendall(raw.head("PATCH", location, 10) + DATA)
        wait_until_fired(brolga_registry, raw)
        assert brolga_registry.fired == plan.faults
        assert held(brolga_registry)[0] in (b"", DATA)
        connection.setblocking(False)
        with pytest.raises(BlockingIOError):
            connection.recv(1)
        connection.settimeout(30)
        brolga_registry.use()
        with pytest.raises(ConnectionResetError):
            connection.recv(1)


@pytest.mark.parametrize("name", ["distribution-3", "zot"])
def test_stall_ends_when_the_client_returns(
    brolga_registry: BrolgaRegistry, raw: Raw, name: str
) -> None:
    """A registry that reads nothing hears of no hang-up: the next request to the session tells it.

    What it had read is stored by then, and where a cut ends the session, this ends it.
    """
    brolga_registry.use(profile=name, faults=FaultPlan(Stall(at=3)))
    location = raw.start()
    with raw.connect() as connection:
        connection.sendall(raw.head("PATCH", location, 10) + DATA)
        wait_until_fired(brolga_registry, raw)
        asked = raw("GET", location)
        assert (asked.status, asked.range) == ((404, None) if name == "zot" else (204, "0-2"))
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
    assert raw("DELETE", location).status == (404 if name == "zot" else 204)


def test_stall_of_request_without_body(brolga_registry: BrolgaRegistry, raw: Raw) -> None:
    """A request that nobody reads a body of is stalled too; one that ends goes on."""
    plan = arm(brolga_registry, Stall(on="POST upload", for_s=0.001))
    assert raw("POST", "blobs/uploads/").status == 202
    assert brolga_registry.fired == plan.faults


def test_stall_ends_with_the_registry(tmp_path: Path) -> None:
    """Who stops the registry does not wait for what is stalled."""
    injector = Injector(FaultPlan(Stall(on="GET api")))
    with running(tmp_path, middleware=fault_middleware(injector)) as address:
        raw = Raw(address)
        connection = raw.connect()
        connection.sendall(raw.head("GET", "/v2/", 0))
        while not injector.fired:
            raw("GET", "/v2/_catalog")
    with connection, pytest.raises(ConnectionResetError):
        connection.recv(1)


def test_slow(brolga_registry: BrolgaRegistry, raw: Raw) -> None:
    """Slow: everything arrives."""
    plan = arm(brolga_registry, Slow(bytes_per_s=1e6))
    location = raw.start()
    assert raw.patch(location, DATA).range == "0-9"
    assert brolga_registry.fired == plan.faults


# --- What is said of a session


def test_missing_range(brolga_registry: BrolgaRegistry, raw: Raw) -> None:
    """MissingRange, in answers to PATCH and GET."""
    arm(brolga_registry, MissingRange(on="PATCH upload"), MissingRange(on="GET upload"))
    location = raw.start()
    assert raw.patch(location, DATA).range is None
    assert raw.said(location) is None


def test_frozen_range(brolga_registry: BrolgaRegistry, raw: Raw) -> None:
    """FrozenRange: it stays where the first PATCH left it, although all is stored."""
    plan = arm(brolga_registry, FrozenRange())
    location = raw.start()
    assert raw.patch(location, b"0123").range == "0-3"
    assert brolga_registry.fired == ()
    assert raw.patch(location, b"456789").range == "0-3"
    assert raw.said(location) == "0-3"
    assert brolga_registry.fired == 2 * plan.faults
    assert raw.finish(location, DATA).status == 201


@pytest.mark.parametrize(("by", "said"), [(3, "0-12"), (-3, "0-6"), (-100, "0-0")])
def test_shifted_range(brolga_registry: BrolgaRegistry, raw: Raw, by: int, said: str) -> None:
    """ShiftedRange: more than has arrived, or less."""
    arm(brolga_registry, ShiftedRange(by=by, on="GET upload"))
    location = raw.start()
    assert raw.patch(location, DATA).range == "0-9"
    assert raw.said(location) == said


@pytest.mark.parametrize("method", ["GET", "PATCH", "PUT", "DELETE"])
def test_stale_state_ends_session_at_older_location(
    brolga_registry: BrolgaRegistry, raw: Raw, method: str
) -> None:
    """StaleState: one that is not of the session's size is refused, and the session is gone."""
    plan = arm(brolga_registry, StaleState())
    older = raw.start()
    newest = raw.resolve(older, raw.patch(older, DATA))
    assert urlsplit(newest).path == urlsplit(older).path
    response = raw(method, older)
    assert (response.status, response.code) == (404, "BLOB_UPLOAD_INVALID")
    assert brolga_registry.fired == plan.faults
    assert held(brolga_registry) == []
    assert raw("GET", newest).status == 404


def test_stale_state_accepts_newest_location(brolga_registry: BrolgaRegistry, raw: Raw) -> None:
    """StaleState: the newest Location, with its query as it is, does."""
    arm(brolga_registry, StaleState())
    location = raw.start()
    for part in (DATA[:4], DATA[4:]):
        location = raw.resolve(location, raw.patch(location, part))
    assert raw.finish(location, DATA).status == 201
    assert brolga_registry.fired == ()


@pytest.mark.parametrize("query", ["", "?_state=x", "?_state=AAAA", "?_state=MTox"])
def test_stale_state_rejects_location_without_query(
    brolga_registry: BrolgaRegistry, raw: Raw, query: str
) -> None:
    """A Location's query is kept byte for byte: without it there is no session."""
    arm(brolga_registry, StaleState())
    location = urlsplit(raw.start()).path
    assert raw.patch(location + query, DATA).status == 404
    # It is not the session's fault.
    assert held(brolga_registry) == [b""]


@pytest.mark.parametrize(
    ("form", "begins"),
    [
        ("absolute", "http://127.0.0.1:"),
        ("path", "/v2/team/"),
        ("relative", "."),
        ("elsewhere", "/elsewhere/v2/team/"),
    ],
)
def test_other_location(
    brolga_registry: BrolgaRegistry, raw: Raw, form: LocationForm, begins: str
) -> None:
    """OtherLocation: whatever its form is, resolved it leads to the session (RFC 9110, 10.2.2)."""
    arm(brolga_registry, OtherLocation(form=form))
    asked = f"/v2/{NAME}/blobs/uploads/"
    opened = raw("POST", asked)
    said = opened.headers["Location"]
    assert said.startswith(begins) or (form == "relative" and "/" not in said)
    location = raw.resolve(asked, opened)
    for part in (DATA[:4], DATA[4:]):
        location = raw.resolve(location, raw.patch(location, part))
    assert raw.finish(location, DATA).status == 201
    assert len(brolga_registry.fired) == 3


# --- Tokens


def token_of(raw: Raw, method: str = "GET") -> dict[str, Any]:
    """Ask for a token as a challenge says; return the header that shows it."""
    challenge = raw("GET", "/v2/")
    assert challenge.status == 401
    assert challenge.headers["WWW-Authenticate"] == (
        f'Bearer realm="http://{raw.address}/token",service="brolga"'
    )
    given = raw(method, "/token")
    assert given.status == 200
    return {"Authorization": f"Bearer {json.loads(given.body)['token']}"}


def test_token_dies_after_uses(brolga_registry: BrolgaRegistry, raw: Raw) -> None:
    """TokenDies: the token of that number, before the time that it says."""
    plan = arm(brolga_registry, TokenDies(uses=2))
    first = token_of(raw)
    assert [raw("GET", "/v2/", **first).status for _ in range(3)] == [200, 200, 401]
    assert brolga_registry.fired == plan.faults
    second = token_of(raw, "POST")
    assert [raw("GET", "/v2/", **second).status for _ in range(3)] == [200, 200, 200]


@pytest.mark.parametrize("said", ["Basic YTpi", "Bearer nobody-gave-it", ""])
def test_token_dies_rejects_missing_token(
    brolga_registry: BrolgaRegistry, raw: Raw, said: str
) -> None:
    """Where a plan has tokens, nothing else lets anybody in."""
    arm(brolga_registry, TokenDies())
    assert raw("GET", "/v2/", Authorization=said).status == 401


def test_token_dies_after_seconds(tmp_path: Path) -> None:
    """TokenDies: after so many seconds of the registry's clock."""
    now = [1000.0]
    injector = Injector(FaultPlan(TokenDies(after_s=60)), clock=lambda: now[0])
    with running(tmp_path, middleware=fault_middleware(injector)) as address:
        raw = Raw(address)
        token = token_of(raw)
        now[0] += 59
        assert raw("GET", "/v2/", **token).status == 200
        now[0] += 1
        assert raw("GET", "/v2/", **token).status == 401


# --- Plans


def test_several_faults_in_one_upload(brolga_registry: BrolgaRegistry, raw: Raw) -> None:
    """Faults compose: each counts the requests of its kind for itself."""
    plan = arm(
        brolga_registry,
        TooMany(after_s=0),
        Cut(at=2),
        Answer(nth=2, status=503),
        DropAnswer(),
    )
    assert raw("POST", "blobs/uploads/").status == 429
    location = raw.start()
    assert raw.patch(location, DATA).status == 0
    assert raw.patch(location, DATA[2:]).status == 503
    assert raw.patch(location, DATA[2:]).status == 202
    assert raw.finish(location, DATA).status == 0
    assert brolga_registry.fired == plan.faults
    assert brolga_registry.pending == ()
    assert brolga_registry.blobs(NAME) == {digest_of(DATA): DATA}


def test_several_faults_in_one_request(brolga_registry: BrolgaRegistry, raw: Raw) -> None:
    """What does not end a request goes before what does."""
    slow, stall, cut = Slow(bytes_per_s=1e6), Stall(at=2, for_s=0.001), Cut(at=4)
    arm(brolga_registry, cut, stall, slow)
    assert raw.patch(raw.start(), DATA).status == 0
    assert brolga_registry.fired == (slow, stall, cut)
    assert brolga_registry.requests[-1].fired == (slow, stall, cut)
    assert held(brolga_registry) == [b"0123"]


def test_first_ending_in_the_plan_fires(brolga_registry: BrolgaRegistry, raw: Raw) -> None:
    """Of the faults that end a request, the first in the plan does."""
    arm(brolga_registry, Answer(status=500), Cut())
    assert raw.patch(raw.start(), DATA).status == 500
    assert brolga_registry.pending == (Cut(),)


def test_fault_fires_times(brolga_registry: BrolgaRegistry, raw: Raw) -> None:
    """The `nth` request of a kind and those after it, `times` in all; requests from any thread."""
    arm(brolga_registry, Answer(on="GET api", status=500, nth=3, times=5))
    assert [raw("GET", "/v2/").status for _ in range(9)] == [200] * 2 + [500] * 5 + [200] * 2
    arm(brolga_registry, Answer(on="GET api", status=500, nth=11, times=17))
    with ThreadPoolExecutor(4) as pool:
        statuses = list(pool.map(lambda _: raw("GET", "/v2/").status, range(40)))
    assert statuses.count(500) == 17
    assert len(brolga_registry.fired) == 17
    assert len(brolga_registry.requests) == 40


def test_fault_on_any_method(brolga_registry: BrolgaRegistry, raw: Raw) -> None:
    """`any upload` is each method; `any` each request, also one of no route."""
    arm(brolga_registry, Answer(on="any upload", status=500), Answer(on="any", nth=3, status=502))
    assert raw("GET", "/v2/").status == 200
    assert raw("POST", "blobs/uploads/").status == 500
    assert raw("GET", "/nothing").status == 502
    kinds = [seen.kind for seen in brolga_registry.requests]
    assert kinds == ["GET api", "POST upload", "GET other"]


def test_reset_repeats_the_plan(tmp_path: Path) -> None:
    """A reset forgets counts and records; the plan does the same again."""
    injector = Injector(FaultPlan(Answer(on="GET api", status=500, nth=2)), "zot")
    with running(tmp_path, middleware=fault_middleware(injector)) as address:
        raw = Raw(address)
        for _ in range(2):
            assert [raw("GET", "/v2/").status for _ in range(3)] == [200, 500, 200]
            assert injector.fired == injector.plan.faults
            injector.reset()
            assert (injector.fired, injector.requests) == ((), ())
            assert injector.pending == injector.plan.faults
            assert injector.profile is not None
            assert injector.profile.name == "zot"


def test_requests_are_recorded(brolga_registry: BrolgaRegistry, raw: Raw) -> None:
    """Each request is listed with what it was, and what was answered."""
    raw("GET", "/v2/_catalog?n=5", X_Mark="7")
    [seen] = brolga_registry.requests
    assert (seen.kind, seen.method, seen.path) == ("GET catalog", "GET", "/v2/_catalog")
    assert (seen.query, seen.headers["x-mark"], seen.status) == ("n=5", "7", 200)


def test_raw_reports_status_zero_without_answer() -> None:
    """The helper's status 0 stands for no answer."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(Raw(address), "GET", "/v2/")
            connection, _ = silent.accept()
            connection.close()
            assert asked.result().status == 0
