"""Stalls, and faults in a session's responses and in tokens."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from tests.faults.conftest import NAME, Raw, arm, session_bytes

from brolga.registry.server import running
from brolga.testing.faults import (
    FaultPlan,
    FrozenRange,
    MissingRange,
    OtherLocation,
    ShiftedRange,
    Slow,
    StaleState,
    Stall,
    TokenDies,
)
from brolga.testing.injector import Injector
from brolga.testing.middleware import fault_middleware

if TYPE_CHECKING:
    from pathlib import Path

    from brolga.testing.faults import LocationForm
    from brolga.testing.plugin import BrolgaRegistry

DATA = b"0123456789"


def wait_until_fired(registry: BrolgaRegistry, raw: Raw) -> None:
    """Return when a fault has fired on another connection."""
    for _ in range(10_000):
        if registry.fired:
            return
        raw("GET", "/v2/")
    raise AssertionError("no fault fired")


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
        assert session_bytes(brolga_registry)[0] in (b"", DATA)
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

    What it had read is stored by then, and if a cut ends the session, this ends it.
    """
    brolga_registry.use(profile=name, faults=FaultPlan(Stall(at=3)))
    location = raw.start()
    with raw.connect() as connection:
        connection.sendall(raw.head("PATCH", location, 10) + DATA)
        wait_until_fired(brolga_registry, raw)
        status = raw("GET", location)
        assert (status.status, status.range) == ((404, None) if name == "zot" else (204, "0-2"))
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
    assert raw("DELETE", location).status == (404 if name == "zot" else 204)


def test_stall_of_request_without_body(brolga_registry: BrolgaRegistry, raw: Raw) -> None:
    """A request whose body is not read is stalled too; a stall that ends lets it continue."""
    plan = arm(brolga_registry, Stall(on="POST upload", for_s=0.001))
    assert raw("POST", "blobs/uploads/").status == 202
    assert brolga_registry.fired == plan.faults


def test_stall_ends_with_the_registry(tmp_path: Path) -> None:
    """The registry stops without waiting for stalled requests."""
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


def test_missing_range(brolga_registry: BrolgaRegistry, raw: Raw) -> None:
    """MissingRange, in answers to PATCH and GET."""
    arm(brolga_registry, MissingRange(on="PATCH upload"), MissingRange(on="GET upload"))
    location = raw.start()
    assert raw.patch(location, DATA).range is None
    assert raw.stored_range(location) is None


def test_frozen_range(brolga_registry: BrolgaRegistry, raw: Raw) -> None:
    """FrozenRange: it stays where the first PATCH left it, although all is stored."""
    plan = arm(brolga_registry, FrozenRange())
    location = raw.start()
    assert raw.patch(location, b"0123").range == "0-3"
    assert brolga_registry.fired == ()
    assert raw.patch(location, b"456789").range == "0-3"
    assert raw.stored_range(location) == "0-3"
    assert brolga_registry.fired == 2 * plan.faults
    assert raw.finish(location, DATA).status == 201


@pytest.mark.parametrize(("by", "expected"), [(3, "0-12"), (-3, "0-6"), (-100, "0-0")])
def test_shifted_range(brolga_registry: BrolgaRegistry, raw: Raw, by: int, expected: str) -> None:
    """ShiftedRange: more than has arrived, or less."""
    arm(brolga_registry, ShiftedRange(by=by, on="GET upload"))
    location = raw.start()
    assert raw.patch(location, DATA).range == "0-9"
    assert raw.stored_range(location) == expected


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
    assert session_bytes(brolga_registry) == []
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
    """A Location's query is kept byte for byte: without it the session is unknown."""
    arm(brolga_registry, StaleState())
    location = urlsplit(raw.start()).path
    assert raw.patch(location + query, DATA).status == 404
    # It is not the session's fault.
    assert session_bytes(brolga_registry) == [b""]


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
    target = f"/v2/{NAME}/blobs/uploads/"
    opened = raw("POST", target)
    location_header = opened.headers["Location"]
    assert location_header.startswith(begins) or (form == "relative" and "/" not in location_header)
    location = raw.resolve(target, opened)
    for part in (DATA[:4], DATA[4:]):
        location = raw.resolve(location, raw.patch(location, part))
    assert raw.finish(location, DATA).status == 201
    assert len(brolga_registry.fired) == 3


def token_of(raw: Raw, method: str = "GET") -> dict[str, Any]:
    """Ask for a token as a challenge says; return the header that shows it."""
    challenge = raw("GET", "/v2/")
    assert challenge.status == 401
    assert challenge.headers["WWW-Authenticate"] == (
        f'Bearer realm="http://{raw.address}/token",service="brolga"'
    )
    reply = raw(method, "/token")
    assert reply.status == 200
    return {"Authorization": f"Bearer {json.loads(reply.body)['token']}"}


def test_token_dies_after_uses(brolga_registry: BrolgaRegistry, raw: Raw) -> None:
    """TokenDies: the token of that number, before the time that it says."""
    plan = arm(brolga_registry, TokenDies(uses=2))
    first = token_of(raw)
    assert [raw("GET", "/v2/", **first).status for _ in range(3)] == [200, 200, 401]
    assert brolga_registry.fired == plan.faults
    second = token_of(raw, "POST")
    assert [raw("GET", "/v2/", **second).status for _ in range(3)] == [200, 200, 200]


@pytest.mark.parametrize("header", ["Basic YTpi", "Bearer unknown-token", ""])
def test_token_dies_rejects_missing_token(
    brolga_registry: BrolgaRegistry, raw: Raw, header: str
) -> None:
    """If a plan has tokens, a client needs one."""
    arm(brolga_registry, TokenDies())
    assert raw("GET", "/v2/", Authorization=header).status == 401


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
