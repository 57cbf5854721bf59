"""testing.injector and testing.run: the plan and the profile in force."""

from __future__ import annotations

import asyncio

import pytest

from brolga.testing.faults import Cut, FaultPlan
from brolga.testing.injector import Injector
from brolga.testing.registries import PROFILES, find_profile
from brolga.testing.run import kind_of


@pytest.mark.parametrize(
    ("method", "path", "kind"),
    [
        ("GET", "/v2/", "GET api"),
        ("GET", "/token", "GET token"),
        ("GET", "/v2/_catalog", "GET catalog"),
        ("POST", "/v2/a/b/blobs/uploads/", "POST upload"),
        ("POST", "/v2/a/b/blobs/uploads", "POST upload"),
        ("PATCH", "/v2/a/b/blobs/uploads/1", "PATCH upload"),
        ("HEAD", "/v2/a/blobs/sha256:1", "HEAD blob"),
        ("PUT", "/v2/a/manifests/v1", "PUT manifest"),
        ("GET", "/v2/a/tags/list", "GET tags"),
        ("GET", "/v2/a/referrers/sha256:1", "GET referrers"),
        ("GET", "/favicon.ico", "GET other"),
    ],
)
def test_kind_of(method: str, path: str, kind: str) -> None:
    """A request's kind is its method and what it is for."""
    assert kind_of(method, path) == kind


def test_find_profile_and_unknown_name() -> None:
    """A profile is found by its name; the error for an unknown one lists all."""
    assert all(find_profile(name).name == name for name in PROFILES)
    with pytest.raises(ValueError, match="no profile 'docker': there are distribution-3, "):
        Injector(profile="docker")


def test_fire_counts_equal_faults_separately() -> None:
    """Two equal faults of a plan fire on the same request; each is recorded."""
    first, second = Cut(), Cut()
    injector = Injector(FaultPlan(first, second))
    exchange = injector.begin("PATCH", "/v2/a/blobs/uploads/1", "", {})
    assert exchange.due(Cut) == [first, second]
    exchange.fire(second)
    assert injector.pending == (first,)
    assert injector.pending[0] is first


def test_fire_after_reset_leaves_no_trace() -> None:
    """A request that began before a reset leaves no trace after it."""
    injector = Injector(FaultPlan(Cut()))
    exchange = injector.begin("PATCH", "/v2/a/blobs/uploads/1", "", {})
    injector.reset()
    exchange.fire(exchange.due(Cut)[0])
    assert (injector.fired, injector.requests) == ((), ())
    assert injector.pending == injector.plan.faults
    assert exchange.request.fired == (Cut(),)


def test_add_waiting_after_the_run_sets_event_at_once() -> None:
    """A stall after the end of the run is released at once."""
    loop = asyncio.new_event_loop()
    injector = Injector()
    exchange = injector.begin("GET", "/v2/", "", {})
    early, late = asyncio.Event(), asyncio.Event()
    exchange.add_waiting(loop, early)
    injector.use()
    exchange.add_waiting(loop, late)
    exchange.remove_waiting(late)
    assert late.is_set()
    loop.run_until_complete(early.wait())
    loop.close()
