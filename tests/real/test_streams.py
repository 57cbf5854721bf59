"""A registry's garbage collection keeps a stream that a manifest names."""

from __future__ import annotations

import gzip
import subprocess
from typing import TYPE_CHECKING

import pytest

from brolga import Client, StreamLayer

if TYPE_CHECKING:
    from tests.real.foreign import DockerRegistry

pytestmark = pytest.mark.real

DATA = b"a dump of a database\n" * 1000


def collect_garbage(registry: DockerRegistry) -> str:
    """Run docker-registry's own garbage collection; return what it prints."""
    command = ["docker-registry", "garbage-collect", str(registry.directory / "config.yml")]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def blobs(registry: DockerRegistry) -> set[str]:
    """Return the digests of the blobs that are stored."""
    return {f"sha256:{file.parent.name}" for file in registry.storage.rglob("blobs/**/data")}


@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
def test_garbage_collection_keeps_only_streams_with_a_tag(
    own_registry: DockerRegistry, compression: str
) -> None:
    """One that no manifest names is deleted, as the warning of `push_layer` says."""
    home = f"{own_registry.address}/dumps"
    named, unnamed = (
        StreamLayer([DATA, end], compression=compression) for end in (b"kept", b"lost")
    )
    with Client() as client:
        ref = client.push_stream(f"{home}:monday", named, artifact_type="application/x-dump")
        client.push_layer(home, unnamed)
        assert {str(named.digest), str(unnamed.digest)} <= blobs(own_registry)
        assert str(unnamed.digest) in collect_garbage(own_registry)
        assert str(named.digest) in blobs(own_registry)
        assert str(unnamed.digest) not in blobs(own_registry)
        for place in (f"{home}:monday", ref):
            with client.pull_stream(place) as stream:
                assert stream.read() == DATA + b"kept"
        with client.pull_stream(ref, raw=True) as stream:
            stored = stream.read()
    assert compression != "gzip" or gzip.decompress(stored) == DATA + b"kept"
