"""Copies from one registry to another, over sockets, with drawn faults in both.

All of the image is there, or the client raises a typed error. Then the tag is not there, each blob
has its own digest, and no session is left that could be cancelled.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from tests.images import digest_of
from tests.loops import DRIVERS
from tests.progress_events import assert_in_order
from tests.property.test_socket_upload_properties import (
    BYTES,
    MIB,
    STYLES,
    Plan,
    any_faults,
    client_of,
    fault_tuples,
    is_lost,
    transient_faults,
    uncancelled,
    upload_settings,
)

from brolga.client import Client
from brolga.errors import BrolgaError
from brolga.images import Image
from brolga.registry.server import running
from brolga.stream.layer import StreamLayer
from brolga.testing.faults import CutAnswer, Fault, FaultPlan
from brolga.testing.injector import Injector
from brolga.testing.middleware import fault_middleware
from brolga.testing.plugin import BrolgaRegistry
from brolga.testing.registries import PROFILES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from brolga.spec.progress import ProgressEvent

NAME, FROM = "team/app", "base/image"
SIZE = MIB + 300_000
LAYERS = (BYTES[:SIZE], BYTES[:1000])
# A copy takes several times as many requests as an upload.
copy_settings = settings(upload_settings, max_examples=upload_settings.max_examples // 2)


@dataclass(frozen=True)
class Original:
    """The registry that is copied from, and its image."""

    registry: BrolgaRegistry
    manifest: bytes
    blobs: dict[str, bytes]


def manifest_of(registry: BrolgaRegistry, name: str) -> bytes | None:
    """Read a manifest without brolga; return None if it is not there."""
    try:
        with urlopen(f"http://{registry.address}/v2/{name}/manifests/v1") as read:
            manifest: bytes = read.read()
            return manifest
    except HTTPError as error:
        error.close()
        return None


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Original]:
    """Run a second registry that has an image."""
    directory, injector = tmp_path_factory.mktemp("original"), Injector()
    with running(directory, middleware=fault_middleware(injector)) as address:
        registry = BrolgaRegistry(address, directory, injector)
        image = Image.empty().append(
            *(StreamLayer(iter([data]), compression="none", tar=False) for data in LAYERS)
        )
        with Client() as client:
            client.push(f"{address}/{FROM}:v1", image)
        manifest = manifest_of(registry, FROM)
        assert manifest
        yield Original(registry, manifest, registry.blobs(FROM))


READS = (*3 * ("GET blob",), "GET manifest", "HEAD manifest", "GET token", "any")


def read_faults() -> st.SearchStrategy[Fault]:
    """Draw what fails while the image is read."""
    cut = st.builds(
        CutAnswer,
        # Progress resets the attempts.
        at=st.just(0) | st.integers(200_000, SIZE),
        nth=st.integers(1, 4),
        times=st.integers(1, 3) | st.none(),
    )
    return st.integers(0, 1).flatmap([cut, transient_faults(0, READS, None)].__getitem__)


def copy_plans(faults: st.SearchStrategy[Fault]) -> st.SearchStrategy[Plan]:
    """Draw how the client sends, and what fails while the image is pushed."""
    return st.builds(
        Plan,
        profile=st.sampled_from(sorted(PROFILES)),
        faults=fault_tuples(faults),
        size=st.just(SIZE),
        window=st.none() | st.sampled_from([0, MIB, 32 * MIB]),
        style=st.sampled_from(STYLES),
        attempts=st.sampled_from([1, 3, 5]),
    )


@pytest.mark.parametrize("driver", DRIVERS)
@copy_settings
@given(plan=copy_plans(any_faults(SIZE)), reading=fault_tuples(read_faults()))
def test_copy_gives_the_image_or_a_typed_error(
    brolga_registry: BrolgaRegistry,
    original: Original,
    driver: str,
    plan: Plan,
    reading: tuple[Fault, ...],
) -> None:
    """If either registry fails: all of the image is there, or the tag is not.

    The events of each blob are in order in any case.
    """
    target, source = brolga_registry, original.registry
    target.clear(profile=plan.emulated, faults=FaultPlan(*plan.faults))
    source.use(faults=FaultPlan(*reading))
    home = target.repository(NAME)
    error: Any = None
    events: list[ProgressEvent] = []
    with client_of(plan, driver, events.append) as client:
        try:
            client.copy(f"{source.address}/{FROM}:v1", f"{home}:v1")
        except BrolgaError as failed:
            error = failed
    requests, uploads = target.requests, list(target.uploads(NAME))
    target.use()
    source.use()
    event(type(error).__name__)
    assert_in_order(events, succeeded=error is None)
    blobs = target.blobs(NAME)
    assert all(digest_of(data) == digest for digest, data in blobs.items())
    assert set(uploads) <= uncancelled(plan, requests, uploads)
    manifest = manifest_of(target, NAME)
    if error is None:
        assert manifest == original.manifest
    put = [seen for seen in requests if seen.kind == "PUT manifest"]
    assert manifest is None or error is None or any(is_lost(seen) for seen in put)
    if manifest is not None:
        assert blobs == original.blobs


@pytest.mark.parametrize("driver", DRIVERS)
@copy_settings
@given(style=st.sampled_from(STYLES), reading=fault_tuples(read_faults()))
def test_copy_blames_the_source_if_only_it_fails(
    brolga_registry: BrolgaRegistry,
    original: Original,
    driver: str,
    style: str,
    reading: tuple[Fault, ...],
) -> None:
    """Each blob has one session, however often it is read. Nothing is left in the target."""
    target, source = brolga_registry, original.registry
    plan = Plan(profile="distribution-3", style=style, attempts=3)
    target.clear(profile=plan.emulated)
    source.use(faults=FaultPlan(*reading))
    error: Any = None
    with client_of(plan, driver) as client:
        try:
            client.copy(f"{source.address}/{FROM}:v1", f"{target.repository(NAME)}:v1")
        except BrolgaError as failed:
            error = failed
    source.use()
    kinds = [seen.kind for seen in target.requests]
    event(type(error).__name__)
    assert kinds.count("POST upload") <= len(LAYERS) + 1
    assert target.uploads(NAME) == {}
    if error is None:
        assert manifest_of(target, NAME) == original.manifest
    else:
        assert target.address not in str(error)
        assert manifest_of(target, NAME) is None
