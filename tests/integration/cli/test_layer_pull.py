"""brolga layer pull: a stream comes back as it was pushed, complete or not at all."""

from __future__ import annotations

import gzip
import json
import random
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from tests.tars import tar

from brolga.client import Client
from brolga.images import Artifact, InMemoryBlob

if TYPE_CHECKING:
    from pathlib import Path

    from tests.command import Brolga
    from tests.registries import EmbeddedRegistry

DATA = b"some bytes to stream\n" * 1000
NOISE = random.Random(9).randbytes(3_000_001)
PULL = [sys.executable, "-m", "brolga", "layer", "pull"]


def pull(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    """Run `layer pull` with a pipe as its stdout."""
    return subprocess.run([*PULL, *arguments], check=False, capture_output=True)


@pytest.mark.parametrize("compression", ["gzip", "gzip:9", "zstd", "none"])
@pytest.mark.parametrize(
    "data",
    [DATA, NOISE, b"", tar("a"), gzip.compress(DATA)],
    ids=["text", "noise", "empty", "tar", "gzip"],
)
def test_pull_restores_pushed_stream(
    brolga: Brolga, registry: EmbeddedRegistry, tmp_path: Path, compression: str, data: bytes
) -> None:
    """Decompressed as the media type says: what was a gzip file before is one again."""
    source, name = tmp_path / "source", f"{registry.address}/x:v1"
    source.write_bytes(data)
    assert brolga("layer", "push", "--compression", compression, name, str(source)).code == 0
    outcome = brolga("layer", "pull", name, "-o", str(tmp_path / "out"))
    assert (outcome.code, outcome.out, outcome.err) == (0, "", "")
    assert (tmp_path / "out").read_bytes() == data


def test_pull_writes_to_stdout_and_raw_is_compressed(
    brolga: Brolga, registry: EmbeddedRegistry, tmp_path: Path
) -> None:
    """With --raw the bytes are compressed as the registry has them."""
    source, name = tmp_path / "source", f"{registry.address}/x:v1"
    source.write_bytes(DATA)
    brolga("layer", "push", name, str(source))
    done = pull(name)
    assert (done.returncode, done.stdout, done.stderr) == (0, DATA, b"")
    raw = pull("--raw", "-o", "-", name).stdout
    assert raw != DATA
    assert gzip.decompress(raw) == DATA


def artifact(registry: EmbeddedRegistry, *blobs: InMemoryBlob, name: str = "x:v1") -> str:
    """Push an artifact of blobs; return its name."""
    ref = f"{registry.address}/{name}"
    with Client() as client:
        client.push(ref, Artifact.of("application/x", *blobs))
    return ref


@pytest.mark.parametrize(
    ("media_type", "data"),
    [
        ("application/x+gzip", gzip.compress(DATA)),
        ("application/vnd.docker.image.rootfs.diff.tar.gzip", gzip.compress(DATA)),
        ("application/gzip", DATA),
        ("text/plain", DATA),
    ],
)
def test_pull_decompresses_by_media_type(
    registry: EmbeddedRegistry, media_type: str, data: bytes
) -> None:
    """A suffix says how the bytes are compressed; application/gzip is a file of that kind."""
    done = pull(artifact(registry, InMemoryBlob(data, media_type)))
    assert (done.returncode, done.stdout) == (0, DATA)


@pytest.mark.parametrize(
    ("compression", "data", "why"),
    [
        ("gzip", DATA, "the bytes are not gzip, though their media type says so"),
        ("zstd", gzip.compress(DATA), "the bytes are not zstd"),
        ("gzip", b"", "the bytes are not gzip"),
        ("gzip", gzip.compress(NOISE)[:-5], "the gzip stream is cut short"),
        ("gzip", gzip.compress(NOISE) + b"not gzip at all", "no valid gzip"),
    ],
)
def test_pull_leaves_no_file_if_media_type_is_wrong(
    brolga: Brolga, registry: EmbeddedRegistry, compression: str, data: bytes, why: str
) -> None:
    """Exit code 6. An existing file of that name stays unchanged."""
    name = artifact(registry, InMemoryBlob(data, f"application/x+{compression}"))
    out = registry.directory.parent / "files" / "out"
    out.parent.mkdir()
    out.write_bytes(b"before")
    outcome = brolga("layer", "pull", name, "-o", str(out))
    assert (outcome.code, outcome.out) == (6, "")
    assert why in outcome.err
    assert list(out.parent.iterdir()) == [out]
    assert out.read_bytes() == b"before"


def test_pull_leaves_no_file_if_a_byte_is_wrong(
    brolga: Brolga, registry: EmbeddedRegistry, tmp_path: Path
) -> None:
    """The registry gives other bytes of the same size: exit code 6."""
    name = artifact(registry, InMemoryBlob(NOISE, "application/x"))
    (blob,) = [one for one in registry.blobs("x") if one.stat().st_size == len(NOISE)]
    blob.write_bytes(NOISE[:-1] + bytes([NOISE[-1] ^ 1]))
    outcome = brolga("layer", "pull", name, "-o", str(tmp_path / "out"))
    assert outcome.code == 6
    assert not (tmp_path / "out").exists()
    done = pull(name)
    assert done.returncode == 6
    assert b"which must not be used" in done.stderr


def test_pull_rejects_stream_above_max_size(
    brolga: Brolga, registry: EmbeddedRegistry, tmp_path: Path
) -> None:
    """--max-size bounds what a compressed stream may grow to."""
    name = artifact(registry, InMemoryBlob(gzip.compress(bytes(2_000_000)), "application/x+gzip"))
    out = tmp_path / "out"
    outcome = brolga("layer", "pull", name, "-o", str(out), "--max-size", "1999999")
    assert outcome.code == 6
    assert "more than 1999999 bytes uncompressed" in outcome.err
    assert not out.exists()
    assert brolga("layer", "pull", name, "-o", str(out), "--max-size", "2000000").code == 0


def test_pull_rejects_index_and_artifact_of_several_files(
    brolga: Brolga, registry: EmbeddedRegistry, tmp_path: Path
) -> None:
    """An index, or an artifact of several files, is read by other verbs."""
    two = artifact(registry, InMemoryBlob(b"a", "text/plain"), InMemoryBlob(b"b", "text/plain"))
    outcome = brolga("layer", "pull", two, "-o", str(tmp_path / "out"))
    assert "has 2 layers, and a stream is one blob; use brolga export" in outcome.err
    one = artifact(registry, InMemoryBlob(b"a", "text/plain"), name="x:one")
    index = f"{registry.address}/x:index"
    assert brolga("index", "append", "-m", one, "-t", index).code == 0
    outcome = brolga("layer", "pull", index, "-o", str(tmp_path / "out"))
    assert "is an index, and a stream is one blob; name one of its manifests" in outcome.err
    assert not (tmp_path / "out").exists()


def test_pull_rejects_impossible_output_file(brolga: Brolga, tmp_path: Path) -> None:
    """Before anything is asked."""
    outcome = brolga("layer", "pull", "127.0.0.1:1/x:v1", "-o", str(tmp_path))
    assert (outcome.code, outcome.out) == (2, "")
    assert "is a directory, not a file" in outcome.err


# --- Garbage collection


def test_gc_keeps_stream_with_tag(
    brolga: Brolga, registry: EmbeddedRegistry, tmp_path: Path
) -> None:
    """In a layout, and in the embedded registry's directory. Without a tag it is deleted."""
    source, layout = tmp_path / "source", tmp_path / "layout"
    source.write_bytes(DATA)
    for place in (f"oci:{layout}:v1", f"{registry.address}/x:v1", f"{registry.address}/y"):
        assert brolga("layer", "push", place, str(source)).code == 0
    directories = [layout, registry.directory / "x", registry.directory / "y"]
    for directory in directories:
        assert (directory / "index.json").exists() or directory.name == "y"
        brolga("layout", "gc", "--older-than", "0", str(directory))
    assert registry.blobs("y") == []
    for place in (f"oci:{layout}:v1", f"{registry.address}/x:v1"):
        out = tmp_path / "out"
        out.unlink(missing_ok=True)
        assert brolga("layer", "pull", place, "-o", str(out)).code == 0
        assert out.read_bytes() == DATA


def test_push_manifest_lists_layer_and_type(brolga: Brolga, registry: EmbeddedRegistry) -> None:
    """What a registry's garbage collection goes by: the descriptors of the manifest."""
    name = f"{registry.address}/x:v1"
    fields = json.loads(brolga("layer", "push", "--json", name, "--", "printf", "abc").out)
    manifest = json.loads(brolga("manifest", name).out)
    assert [one["digest"] for one in manifest["layers"]] == [fields["layer"]["digest"]]
