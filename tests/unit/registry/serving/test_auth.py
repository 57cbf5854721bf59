"""guard.py: requests that a page of another site makes a browser send."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from tests.unit.registry.conftest import Registry

from brolga.registry.options import Options
from brolga.spec.mediatypes import OCI_INDEX

if TYPE_CHECKING:
    from pathlib import Path

FOREIGN = "rebound.example:5000"


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1:5000", "[::1]:5000", "localhost", "LOCALHOST:1", "registry:5000", "10.0.0.1",
     "a.localhost", "host.docker.internal:5000", "localhost.", ""],
)  # fmt: skip
def test_host_of_this_machine_is_served(registry: Registry, host: str) -> None:
    """An address, a name without a dot or a reserved one cannot be rebound by a page."""
    assert registry("GET", "/v2/", headers={"Host": host}).status == 200


@pytest.mark.parametrize("host", [FOREIGN, "127.0.0.1.example", "a.localhost.example", "[x.y"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_host_of_another_site_is_refused(registry: Registry, host: str, method: str) -> None:
    """DNS rebinding: the page's own name leads to this machine, and the page could read it all."""
    answer = registry(method, "/v2/a/blobs/uploads/", headers={"Host": host})
    assert (answer.status, answer.code) == (403, "DENIED")
    assert "--allow-host" in answer.reason
    assert registry.files() == set()


@pytest.mark.parametrize(
    "options",
    [Options(allow_host=("rebound.example",)), Options(allow_anonymous=True)],
    ids=["allow_host", "allow_anonymous"],
)
def test_host_is_not_checked_if_others_may_reach_the_registry(
    tmp_path: Path, options: Options
) -> None:
    """They know it by a name of their own."""
    registry = Registry(tmp_path, options)
    assert registry("GET", "/v2/", headers={"Host": FOREIGN}).status == 200


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost:5001", ""])
def test_origin_of_another_site_is_refused(registry: Registry, origin: str) -> None:
    """A page may send a POST to any address, with no preflight."""
    headers = {"Host": "localhost:5000", "Origin": origin}
    answer = registry("POST", "/v2/a/blobs/uploads/", headers=headers)
    assert (answer.status, answer.code) == (403, "DENIED")
    assert registry.files() == set()


def test_origin_of_the_registry_itself_is_served(registry: Registry) -> None:
    """A page of its own may come."""
    headers = {"Host": "localhost:5000", "Origin": "http://localhost:5000"}
    assert registry("GET", "/v2/", headers=headers).status == 200


def test_no_browser_runs_what_a_client_pushed(registry: Registry) -> None:
    """A manifest has whatever media type its client gave it, and a blob whatever bytes."""
    body = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}).encode()
    put = registry("PUT", "/v2/a/manifests/x", body, {"Content-Type": "text/html"})
    digest = registry.push(b"<script>", "a")
    for target in ("manifests/x", f"blobs/{digest}", "tags/list", "nothing"):
        answer = registry("GET", f"/v2/a/{target}")
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "sandbox" in answer.headers["content-security-policy"]
        assert answer.headers["content-disposition"] == "attachment"
    assert put.status in {201, 400}
