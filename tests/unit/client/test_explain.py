"""client/explanation.py: how a repository would be pushed to, without a byte that changes it."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, cast

import pytest
from tests.protocol.driver import REPOSITORY, USER, Answer, drive

from brolga.client.explain import explain_push
from brolga.errors import TransportError
from brolga.protocol import Flow, RegistrySession, Request, Response, identify_registry

if TYPE_CHECKING:
    from collections.abc import Mapping

    from brolga.client.explain import Explanation
    from brolga.protocol import Credentials
    from brolga.transport import Transport


class Driver:
    """What stands for a transport: it gives one answer to all calls, and keeps them."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.calls: list[Request] = []

    def run(self, flow: Flow[Any]) -> Any:
        return drive(flow, self._note)

    def _note(self, request: Request) -> Answer:
        self.calls.append(request)
        return self.answer


def explain(
    host: str = "registry.example",
    shows: Mapping[str, str] | None = None,
    credentials: Credentials | None = None,
    answer: Answer | None = None,
    wish: str = "auto",
) -> Explanation:
    """Explain a push to a registry that shows such headers."""
    registry = RegistrySession(f"https://{host}", credentials, ping_headers=shows or {})
    driver = Driver(answer or Response(404))
    style = identify_registry(registry.host, registry.ping_headers).strategy.override(wish)
    said = explain_push(cast("Transport", driver), registry, REPOSITORY, credentials, style)
    assert {request.method for request in driver.calls} == {"GET"}
    return said


@pytest.mark.parametrize(
    ("host", "profile", "smaller", "last_in_put", "resumes"),
    [
        ("registry.example", "distribution", 32 << 20, False, True),
        ("1.dkr.ecr.eu-west-1.amazonaws.com", "ecr", 16 << 20, True, True),
        ("ghcr.io", "ghcr", 4 << 20, False, True),
        ("gcr.io", "gar", 0, False, False),
        ("mine.azurecr.io", "acr", 4 << 20, False, False),
        ("mine.jfrog.io", "jfrog", 0, False, False),
    ],
)
def test_explain_push_shows_what_an_upload_does(
    host: str, profile: str, smaller: int, last_in_put: bool, resumes: bool
) -> None:
    """Each known registry by its row of the table, and the reason."""
    said = explain(host)
    assert (said.profile, said.chunk, said.smaller) == (profile, 0, smaller)
    assert (said.last_in_put, said.resumes) == (last_in_put, resumes)
    assert said.why


@pytest.mark.parametrize(
    ("wish", "chunk", "smaller"),
    [
        ("chunked", 32 << 20, 16 << 20),
        ("chunked:5242880", 5 << 20, (5 << 20) // 2),
        ("chunked:1024", 1024, 0),
        ("streamed", 0, 32 << 20),
    ],
)
def test_explain_push_shows_the_chunk_after_a_413(wish: str, chunk: int, smaller: int) -> None:
    """Half of the chunk size, and 0 if that is the smallest already."""
    said = explain(wish=wish)
    assert (said.chunk, said.smaller, said.put_max) == (chunk, smaller, 0)


def test_explain_push_identifies_a_registry_by_its_headers() -> None:
    """The headers of the ping count if the host is not known."""
    assert explain(shows={"server": "zot"}).profile == "zot"


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (Response(200), "api"),
        (Response(404), "tag"),
        (Response(303), "not known: the answer is 303"),
        (TransportError("it is gone", reason="tls"), "not known: it is gone"),
    ],
)
def test_explain_push_shows_referrers_api_or_tag(answer: Answer, told: str) -> None:
    """A registry without the API answers 404 (distribution-spec, Unavailable Referrers API)."""
    assert explain(answer=answer).referrers == told


def test_explanation_has_no_secret() -> None:
    """It shows the origin of credentials, not the credentials."""
    said = explain(credentials=USER)
    assert said.credentials == "given"
    assert USER.password not in str(asdict(said))
    assert explain().credentials == "none: anonymous"
