"""A source that is silent for a while, over sockets: a pipe that is written when it is time."""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from tests.faults.conftest import NAME

from brolga.client import Client, TransportOptions
from brolga.protocol import Retry
from brolga.stream.layer import StreamLayer
from brolga.testing.registries import PROFILES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    from brolga.testing.plugin import BrolgaRegistry

BLOCK = b"1" * (1 << 20)  # what a file is read in
REST = b"2" * 100_000
GUARD_S = 60
DISTRIBUTION = PROFILES["distribution-3"]


def answered(registry: BrolgaRegistry, kind: str, status: int) -> bool:
    """Return whether a request of a kind had this status."""
    return (kind, status) in [(seen.kind, seen.status) for seen in registry.requests]


@contextmanager
def written(registry: BrolgaRegistry, *steps: bytes | tuple[str, int]) -> Iterator[BinaryIO]:
    """Give a pipe that gets bytes, and the rest only when a request of a kind had an answer."""
    read, write = os.pipe()

    def run() -> None:
        with os.fdopen(write, "wb", buffering=0) as file:
            for step in steps:
                if isinstance(step, bytes):
                    file.write(step)
                    continue
                while not over.is_set() and not answered(registry, *step):
                    over.wait(0.01)

    over = threading.Event()
    thread = threading.Thread(target=run)
    with os.fdopen(read, "rb") as source:
        thread.start()
        try:
            yield source
        finally:
            over.set()
    thread.join(GUARD_S)
    assert not thread.is_alive()


def push(registry: BrolgaRegistry, source: BinaryIO, *, attempts: int = 2) -> list[int | None]:
    """Push what comes; return how each PATCH was answered."""
    home = registry.repository(NAME)
    layer = StreamLayer(source, compression="none", tar=False)
    with Client(
        retry=Retry(initial_delay_s=0, attempts=attempts),
        transport=TransportOptions(timeout_s=GUARD_S),
    ) as client:
        descriptor = client.push_layer(home, layer)
    assert registry.blobs(NAME) == {str(descriptor.digest): BLOCK + REST}
    assert not registry.profile or not registry.profile.may_cancel or not registry.uploads(NAME)
    return [seen.status for seen in registry.requests if seen.kind == "PATCH upload"]


def test_patch_starts_with_the_first_bytes(brolga_registry: BrolgaRegistry) -> None:
    """The session is open, and nothing waits for a body: a proxy has nothing to bound."""
    brolga_registry.use(profile=DISTRIBUTION)
    with written(brolga_registry, ("POST upload", 202), BLOCK, REST) as source:
        assert push(brolga_registry, source) == [202]


def test_silent_patch_is_ended_in_order(
    brolga_registry: BrolgaRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The registry acknowledges what it has; the next PATCH goes on in the same session."""
    monkeypatch.setattr("brolga.protocol.upload.body._IDLE_S", 0.01)
    brolga_registry.use(profile=DISTRIBUTION)
    with written(brolga_registry, BLOCK, ("PATCH upload", 202), REST) as source:
        assert push(brolga_registry, source, attempts=1) == [202, 202]
    assert [seen.kind for seen in brolga_registry.requests].count("POST upload") == 1


@pytest.mark.parametrize("name", ["jfrog", "nginx"])
def test_push_survives_408_for_silence(
    brolga_registry: BrolgaRegistry, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """408: the rest in the same session; or, if that takes one PATCH, all of it in another."""
    monkeypatch.setattr("brolga.protocol.upload.body._IDLE_S", GUARD_S)
    brolga_registry.use(profile=replace(PROFILES[name], request_max=None, body_wait_s=0.05))
    with written(brolga_registry, BLOCK, ("PATCH upload", 408), REST) as source:
        # On a busy machine the proxy may lose its patience more than once.
        statuses = push(brolga_registry, source, attempts=40)
    assert statuses[0] == 408
