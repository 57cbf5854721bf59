"""The events of a client's blobs, at a registry with faults."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import pytest
from tests.faults.conftest import NAME, arm
from tests.faults.pushing import AT_ONCE, DATA, MIB, MIDDLE
from tests.images import digest_of

import brolga
from brolga.client import Client
from brolga.errors import RegistryError
from brolga.images import Image
from brolga.spec.progress import (
    BlobBegun,
    BlobDone,
    BlobEvent,
    BlobMounted,
    BlobMoved,
    BlobRetried,
    BlobsPlanned,
)
from brolga.spec.reference import Repository
from brolga.stream.layer import StreamLayer
from brolga.testing.faults import Answer, Cut

if TYPE_CHECKING:
    from brolga.spec.progress import ProgressEvent
    from brolga.testing.plugin import BrolgaRegistry


def layer() -> StreamLayer:
    return StreamLayer([DATA], "none", tar=False)


def image() -> Image:
    return Image.empty().append(layer())


def kinds(events: list[ProgressEvent], key: int = 1) -> list[str]:
    """Return the kinds of a blob's events, without its moves."""
    mine = [event for event in events if isinstance(event, BlobEvent) and event.key == key]
    return [type(event).__name__ for event in mine if not isinstance(event, BlobMoved)]


def test_push_reports_cut_and_goes_on(brolga_registry: BrolgaRegistry) -> None:
    """The bytes that the registry has do not move again."""
    arm(brolga_registry, Cut(at=MIDDLE, stored=MIB))
    events: list[ProgressEvent] = []
    with Client(progress=events.append, retry=AT_ONCE) as client:
        descriptor = client.push_layer(brolga_registry.repository(NAME), layer())
    assert kinds(events) == ["BlobBegun", "BlobRetried", "BlobDone"]
    (retried,) = [event for event in events if isinstance(event, BlobRetried)]
    assert (retried.reason, retried.delay_s) == ("cut", 0.0)
    assert 0 < retried.moved <= len(DATA)
    assert events[-1] == BlobDone(1, descriptor.digest, len(DATA), len(DATA))


def test_failed_push_reports_its_end(brolga_registry: BrolgaRegistry) -> None:
    """The error itself is raised."""
    arm(brolga_registry, Answer(status=403, code="DENIED", at=MIDDLE, times=None))
    events: list[ProgressEvent] = []
    with Client(progress=events.append) as client, pytest.raises(RegistryError):
        client.push_layer(brolga_registry.repository(NAME), layer())
    assert kinds(events) == ["BlobBegun", "BlobFailed"]


def test_copy_reports_each_blob_once(brolga_registry: BrolgaRegistry) -> None:
    """What is retried in reading is told with the blob that is pushed."""
    source, target = (brolga_registry.repository(name) for name in (NAME, "copy"))
    with Client() as client:
        client.push(f"{source}:v1", image())
    arm(brolga_registry, Answer(on="GET blob", status=503))
    events: list[ProgressEvent] = []
    with Client(progress=events.append, retry=AT_ONCE) as client:
        # With another name of its host, the registry cannot mount.
        client.copy(f"{source}:v1", f"{target}:v1".replace("127.0.0.1", "localhost"))
    begun = [event for event in events if isinstance(event, BlobBegun)]
    assert [event.action for event in begun] == ["push", "push"]
    assert sorted(event.reason for event in events if isinstance(event, BlobRetried)) == [
        "status 503"
    ]
    plans = [event for event in events if isinstance(event, BlobsPlanned)]
    assert [plan.count for plan in plans] == [1, 1]
    assert plans[0].size == len(DATA)


def test_push_reports_what_is_mounted_or_there(brolga_registry: BrolgaRegistry) -> None:
    """Neither moves a byte."""
    names = [f"{brolga_registry.repository(name)}:v1" for name in (NAME, "other")]
    events: list[ProgressEvent] = []
    with Client(progress=events.append) as client:
        client.push(names[0], image())
        events.clear()
        client.copy(names[0], names[1])
        home = Repository.parse(brolga_registry.repository(NAME))
        assert [event.source for event in events if isinstance(event, BlobMounted)] == [home, home]
        events.clear()
        client.push(names[0], client.image(names[0]), verify_existing=True)
    assert {kind for event in events for kind in [type(event).__name__]} == {
        "BlobsPlanned",
        "BlobBegun",
        "BlobSkipped",
    }


def test_blob_reports_size_of_response(brolga_registry: BrolgaRegistry) -> None:
    """The digest does not say it."""
    name = brolga_registry.repository(NAME)
    events: list[ProgressEvent] = []
    with Client(progress=events.append) as client:
        client.push_layer(name, layer())
        events.clear()
        with client.blob(f"{name}@{digest_of(DATA)}") as stream:
            stream.read()
    assert isinstance(events[0], BlobBegun)
    assert events[0].size is None
    assert {event.size for event in events if isinstance(event, BlobMoved)} == {len(DATA)}


def test_error_of_progress_fails_push(brolga_registry: BrolgaRegistry) -> None:
    """As an error of the source does: the session is cancelled."""

    def progress(event: ProgressEvent) -> None:
        if isinstance(event, BlobMoved):
            raise KeyError(event.key)

    with Client(progress=progress) as client, pytest.raises(KeyError):
        client.push_layer(brolga_registry.repository(NAME), layer())
    assert brolga_registry.uploads(NAME) == {}


def test_async_client_reports_in_event_loop(brolga_registry: BrolgaRegistry) -> None:
    """So that a consumer needs no lock."""
    name = brolga_registry.repository(NAME)
    seen: list[tuple[str, threading.Thread]] = []

    def progress(event: ProgressEvent) -> None:
        seen.append((type(event).__name__, threading.current_thread()))

    async def run() -> None:
        async with brolga.AsyncClient(progress=progress) as client:
            await client.push_layer(name, layer())

    asyncio.run(run())
    assert [kind for kind, _ in seen if kind != "BlobMoved"] == ["BlobBegun", "BlobDone"]
    assert {thread for _, thread in seen} == {threading.current_thread()}
