"""The client's pushes, to each emulated registry."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from tests.faults.conftest import NAME
from tests.faults.counterparts import as_hosted
from tests.faults.pushing import AT_ONCE, DATA, MIB, MIDDLE, SILENT, SURVIVED, pieces, push

from brolga.client import Client
from brolga.errors import (
    BrolgaError,
    NotFound,
    RegistryError,
)
from brolga.spec.reference import Repository
from brolga.stream.layer import StreamLayer
from brolga.testing.faults import (
    Answer,
    FaultPlan,
)
from brolga.testing.registries import PROFILES

if TYPE_CHECKING:
    from brolga.testing.faults import Fault
    from brolga.testing.plugin import BrolgaRegistry


@pytest.mark.parametrize("style", ["auto", "streamed"])
@pytest.mark.parametrize("brolga_registry", PROFILES, indirect=True)
def test_push_to_every_profile(brolga_registry: BrolgaRegistry, style: str) -> None:
    """A stream of unknown length goes into every kind of registry."""
    assert push(brolga_registry, style=style) is None
    assert brolga_registry.uploads(NAME) == {}


CHUNK = MIB


@pytest.mark.parametrize("name", PROFILES)
def test_push_to_every_known_registry(brolga_registry: BrolgaRegistry, name: str) -> None:
    """The client's row for a registry fits what that registry does."""
    brolga_registry.use(profile=name)
    with as_hosted(name):
        assert push(brolga_registry) is None


# A registry that is known to want its chunks otherwise, or none: the error if a user insists.
INSISTED: dict[str, type[BrolgaError] | None] = {
    **dict.fromkeys(PROFILES),
    "ecr": RegistryError,  # 5 MiB at least
    "ecr-public": RegistryError,
    "gar": RegistryError,  # no Content-Range
    "jfrog": NotFound,  # one PATCH
}


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(("name", "kind"), INSISTED.items())
def test_push_in_chunks_to_every_profile(
    brolga_registry: BrolgaRegistry, name: str, kind: type[BrolgaError] | None, known: bool
) -> None:
    """Chunks go into each that takes them; the others refuse, by a typed error."""
    brolga_registry.use(profile=name)
    with as_hosted(name) if known else nullcontext():
        error = push(brolga_registry, style=f"chunked:{CHUNK}")
    assert type(error) is (kind or type(None))


SMALL = {
    "ecr": replace(PROFILES["ecr"], chunk_min=CHUNK, chunk_max=2 * CHUNK),
    "ghcr": replace(PROFILES["ghcr"], chunk_max=CHUNK),
    "acr": replace(PROFILES["acr"], chunk_max=CHUNK, put_max=CHUNK),
}


@pytest.mark.parametrize("name", SMALL)
def test_push_keeps_limits_of_known_registry(brolga_registry: BrolgaRegistry, name: str) -> None:
    """Chunks of the size that a registry takes, the last one in the request that it requires."""
    brolga_registry.use(profile=SMALL[name])
    with as_hosted(name):
        assert push(brolga_registry, style=f"chunked:{CHUNK}") is None
    patched = [seen for seen in brolga_registry.requests if seen.kind == "PATCH upload"]
    assert {seen.received for seen in patched} <= {CHUNK, len(DATA) % CHUNK}
    assert len(patched) == (2 if name == "ecr" else 3)


@pytest.mark.parametrize("name", ["ghcr", "acr", "nginx"])
def test_push_shrinks_rejected_chunk(brolga_registry: BrolgaRegistry, name: str) -> None:
    """It is halved, whether the registry says so by 413, by a page of a proxy's, or by 416."""
    sizes = {"request_max": CHUNK} if name == "nginx" else {"chunk_max": CHUNK}
    brolga_registry.use(profile=replace(PROFILES[name], **sizes))  # type: ignore[arg-type] # bytes
    with as_hosted(name):
        assert push(brolga_registry, style=f"chunked:{2 * CHUNK}") is None
    refused = [seen.status for seen in brolga_registry.requests if seen.kind == "PATCH upload"]
    assert refused[0] == (416 if name == "ghcr" else 413)


# Those on which the kind of registry makes a difference.
TOGETHER = (
    "cut while storing",
    "cut after storing",
    "cut at the end",
    "no answer to a PATCH",
    "no answer to a PUT",
    "no answer to a PUT that failed",
    "500 in the middle",
    "502 after it all",
    "404 in the middle",
    "413 in the middle",
    "a PUT that a proxy sent twice",
    "429 to a PUT",
    "a Range that is too far",
    "a stale state",
    "relative Location, cut",
    "a token that dies before the PUT",
    "several",
)


# All is survived everywhere, except a 413 if no smaller requests are accepted.
NOT_SURVIVED: dict[tuple[str, str], type[BrolgaError]] = {
    ("gar", "413 in the middle"): RegistryError,
    ("jfrog", "413 in the middle"): RegistryError,
}


# The rest of a stream that was cut goes with the PUT at ECR, without a second PATCH.
NOT_MET: dict[tuple[str, str], set[Fault]] = {("ecr", "several"): {Answer(nth=2, status=500)}}


@pytest.mark.parametrize("chosen", TOGETHER)
@pytest.mark.parametrize("name", PROFILES)
def test_push_survives_faults_of_every_profile(
    brolga_registry: BrolgaRegistry, name: str, chosen: str
) -> None:
    """Whatever comes together, the client's row for each registry brings the blob there."""
    faults = SURVIVED[chosen]
    brolga_registry.use(profile=name, faults=FaultPlan(*faults))
    with as_hosted(name):
        error = push(brolga_registry)
    assert type(error) is NOT_SURVIVED.get((name, chosen), type(None))
    assert set(faults) - set(brolga_registry.fired) <= SILENT | NOT_MET.get((name, chosen), set())


@pytest.mark.parametrize("name", ["distribution-3", "ghcr", "acr"])
def test_push_sends_smaller_requests_after_413(brolga_registry: BrolgaRegistry, name: str) -> None:
    """On 413 halve and begin again (opencontainers/distribution-spec#485)."""
    too_large = Answer(status=413, code="SIZE_INVALID", at=MIDDLE)
    brolga_registry.use(profile=PROFILES[name], faults=FaultPlan(too_large))
    assert push(brolga_registry, style=f"chunked:{2 * CHUNK}") is None
    assert brolga_registry.fired == (too_large,)


def test_push_fails_for_layer_over_the_limit(brolga_registry: BrolgaRegistry) -> None:
    """A blob over the registry's limit is refused, whatever its chunks are."""
    brolga_registry.use(profile=replace(PROFILES["ghcr"], blob_max=MIB))
    error = push(brolga_registry, style=f"chunked:{CHUNK}")
    assert isinstance(error, RegistryError)
    assert error.status == 413


def test_push_fails_without_repository(brolga_registry: BrolgaRegistry) -> None:
    """ECR: the repository must exist; nothing of the stream is read before that is known."""
    brolga_registry.use(profile="ecr")
    layer = StreamLayer(pieces(), compression="none", tar=False)
    with Client(retry=AT_ONCE) as client, pytest.raises(RegistryError) as caught:
        client.push_layer(Repository.parse(f"{brolga_registry.address}/not/made"), layer)
    assert caught.value.code == "NAME_UNKNOWN"
    assert "PATCH upload" not in {seen.kind for seen in brolga_registry.requests}
