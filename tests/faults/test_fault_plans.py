"""Plans of several faults, and what is recorded."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from tests.faults.conftest import NAME, Raw, arm, session_bytes
from tests.images import digest_of

from brolga.registry.server import running
from brolga.testing.faults import (
    Answer,
    Cut,
    DropAnswer,
    FaultPlan,
    Redirect,
    Slow,
    Stall,
    TooMany,
)
from brolga.testing.injector import Injector
from brolga.testing.middleware import fault_middleware

if TYPE_CHECKING:
    from pathlib import Path

    from brolga.testing.plugin import BrolgaRegistry

DATA = b"0123456789"


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
    """A fault that does not end a request comes before one that does."""
    slow, stall, cut = Slow(bytes_per_s=1e6), Stall(at=2, for_s=0.001), Cut(at=4)
    arm(brolga_registry, cut, stall, slow)
    assert raw.patch(raw.start(), DATA).status == 0
    assert brolga_registry.fired == (slow, stall, cut)
    assert brolga_registry.requests[-1].fired == (slow, stall, cut)
    assert session_bytes(brolga_registry) == [b"0123"]


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
            pending = pool.submit(Raw(address), "GET", "/v2/")
            connection, _ = silent.accept()
            connection.close()
            assert pending.result().status == 0


@pytest.mark.parametrize("status", [307, 308])
def test_redirect_leads_to_the_same_url(
    brolga_registry: BrolgaRegistry, raw: Raw, status: int
) -> None:
    """The registry keeps nothing of the body; the next request is the registry's own."""
    location = raw.start("?x=1")
    arm(
        brolga_registry,
        Redirect(status=status, at=2),
        Redirect(on="POST upload", status=status),
    )
    reply = raw.patch(location, DATA)
    assert (reply.status, raw.resolve(location, reply)) == (status, location)
    assert raw.patch(location, DATA).status == 202
    reply = raw("POST", "blobs/uploads/?x=1")
    assert reply.headers["Location"].endswith("/blobs/uploads/?x=1")
    assert brolga_registry.pending == ()
