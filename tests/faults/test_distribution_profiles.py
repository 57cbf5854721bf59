"""The profiles of distribution and of the proxies before it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from tests.faults.conftest import Raw, chunk, emulate, session_bytes

from brolga.registry.server import running
from brolga.testing.faults import Cut, FaultPlan, TooMany
from brolga.testing.injector import Injector
from brolga.testing.middleware import fault_middleware
from brolga.testing.registries import PROFILES

if TYPE_CHECKING:
    from pathlib import Path

    from brolga.testing.plugin import BrolgaRegistry

DATA = b"0123456789"


def test_distribution_accepts_older_state(brolga_registry: BrolgaRegistry, raw: Raw) -> None:
    """3.x: `_state` changes with each answer; a cut PATCH can be resumed after a GET."""
    profile = PROFILES["distribution-3"]
    brolga_registry.use(profile=profile, faults=FaultPlan(Cut(at=6)))
    location = raw.start()
    assert location.startswith("http://")
    assert raw.patch(location, [DATA]).status == 0
    status = raw("GET", location)
    assert (status.status, status.range) == (204, "0-5")
    newer = raw.resolve(location, status)
    assert newer != location
    assert chunk(raw, newer, 5, DATA[5:]).status == 416
    assert raw.finish(raw.resolve(newer, chunk(raw, newer, 6, DATA[6:])), DATA).status == 201


def test_distribution_cancels_session(brolga_registry: BrolgaRegistry, raw: Raw) -> None:
    """3.x: DELETE gives 204."""
    emulate(brolga_registry, "distribution-3")
    assert raw("DELETE", raw.start()).status == 204


@pytest.mark.parametrize("method", ["GET", "PATCH", "PUT", "DELETE"])
def test_distribution_2_ends_session_for_stale_state(
    brolga_registry: BrolgaRegistry, raw: Raw, method: str
) -> None:
    """2.8: after a cut, the session is cancelled by any method at the Location of before."""
    brolga_registry.use(profile="distribution-2.8", faults=FaultPlan(Cut(at=6)))
    location = raw.start()
    assert raw.patch(location, [DATA]).status == 0
    reply = raw(method, location)
    assert (reply.status, reply.code) == (404, "BLOB_UPLOAD_INVALID")
    assert session_bytes(brolga_registry) == []


def test_distribution_2_cancels_at_newest_location(
    brolga_registry: BrolgaRegistry, raw: Raw
) -> None:
    """2.8: DELETE works at the newest Location alone."""
    emulate(brolga_registry, "distribution-2.8")
    location = raw.start()
    newest = raw.resolve(location, raw.patch(location, DATA))
    assert raw("DELETE", newest).status == 204


def test_distribution_2_ignores_content_range(brolga_registry: BrolgaRegistry, raw: Raw) -> None:
    """2.8: whatever a chunk says, it is appended; Range is 0-0 for no byte and for one."""
    emulate(brolga_registry, "distribution-2.8")
    location = raw.start()
    assert raw("GET", location).range == "0-0"
    first = chunk(raw, location, 77, DATA[:1])
    assert (first.status, first.range) == (202, "0-0")
    assert chunk(raw, raw.resolve(location, first), 5, DATA[1:]).range == "0-9"


def test_harbor_rejects_returned_cookie(brolga_registry: BrolgaRegistry, raw: Raw) -> None:
    """Harbor sets a cookie; a client that returns it needs a CSRF token (dotnet/sdk#37221)."""
    emulate(brolga_registry, "harbor")
    cookie = raw("GET", "/v2/").headers["Set-Cookie"].partition(";")[0]
    reply = raw("POST", "blobs/uploads/", Cookie=cookie)
    assert (reply.status, reply.code) == (403, "DENIED")
    assert raw("GET", "/v2/", Cookie=cookie).status == 200


def test_harbor_fails_for_largest_layers(brolga_registry: BrolgaRegistry, raw: Raw) -> None:
    """Proxies in front of it give up: 502 (goharbor/harbor#19573)."""
    emulate(brolga_registry, "harbor", blob_max=9)
    location = raw.start()
    assert raw.patch(location, [DATA]).status == 502


@pytest.mark.parametrize("stream", [True, False])
def test_nginx_bounds_each_request(brolga_registry: BrolgaRegistry, raw: Raw, stream: bool) -> None:
    """413, with a page that is not JSON, whether the length is known before or not."""
    emulate(brolga_registry, "nginx", request_max=len(DATA) - 1)
    location = raw.start()
    refused = raw.patch(location, [DATA[:4], DATA[4:]] if stream else DATA)
    assert refused.status == 413
    assert refused.headers["Content-Type"].startswith("text/html")
    first = raw.patch(raw.start(), DATA[:4])
    assert first.status == 202
    location = raw.resolve(location, first)
    assert raw.patch(location, DATA[4:]).status == 202
    assert raw.finish(location, DATA).status == 201


@pytest.mark.parametrize("status", [411, 501])
def test_proxy_rejects_chunked_coding(
    brolga_registry: BrolgaRegistry, raw: Raw, status: int
) -> None:
    """A page, and the same bytes with a Content-Length are taken."""
    emulate(brolga_registry, "no-chunked", chunked_status=status)
    location = raw.start()
    refused = raw.patch(location, [DATA[:4], DATA[4:]])
    assert refused.status == status
    assert refused.headers["Content-Type"].startswith("text/html")
    taken = raw.patch(location, DATA)
    assert taken.status == 202
    assert raw.finish(raw.resolve(location, taken), DATA).status == 201


def test_proxy_bounds_the_wait_for_a_body(brolga_registry: BrolgaRegistry, raw: Raw) -> None:
    """408 (nginx, client_body_timeout), and what came before is stored."""
    emulate(brolga_registry, "nginx", body_wait_s=0.01)
    location = raw.start()
    with raw.connect() as connection:
        connection.sendall(raw.head("PATCH", location, len(DATA)) + DATA[:4])
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 408")
    assert raw.stored_range(location) == "0-3"


def test_docker_hub_429_is_not_json(brolga_registry: BrolgaRegistry) -> None:
    """Too many requests: what is said is for people."""
    brolga_registry.use(profile="docker-hub", faults=FaultPlan(TooMany(on="GET api", after_s=1)))
    raw = Raw(brolga_registry.address)
    raw.token = json.loads(raw("GET", "/token").body)["token"]
    refused = raw("GET", "/v2/")
    assert (refused.status, refused.body) == (429, b"Too Many Requests")
    assert refused.headers["Retry-After"] == "1"


def test_gitlab_tokens_live_five_minutes(tmp_path: Path) -> None:
    """A token is asked for, says how long it lives, and lives no longer."""
    now = 0.0
    injector = Injector(profile="gitlab", clock=lambda: now)
    with running(tmp_path, middleware=fault_middleware(injector)) as address:
        raw = Raw(address)
        assert raw("GET", "/v2/").status == 401
        reply = json.loads(raw("GET", "/token").body)
        assert reply["expires_in"] == 300
        raw.token = reply["token"]
        now = 299.0
        assert raw("GET", "/v2/").status == 200
        now = 300.0
        assert raw("GET", "/v2/").status == 401
