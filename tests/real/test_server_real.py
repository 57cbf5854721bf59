"""Foreign clients and a foreign registry against the embedded one."""

from __future__ import annotations

import hashlib
import json
import shutil
import socket
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from brolga.mediatypes import OCI_CONFIG, OCI_LAYER, OCI_MANIFEST
from brolga.server.running import running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(shutil.which("skopeo") is None, reason="skopeo is not on PATH"),
]


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    """Write an image of two layers as an OCI layout."""
    directory = tmp_path / "image"
    (directory / "blobs/sha256").mkdir(parents=True)

    def blob(data: bytes, media_type: str) -> dict[str, object]:
        encoded = hashlib.sha256(data).hexdigest()
        (directory / "blobs/sha256" / encoded).write_bytes(data)
        return {"mediaType": media_type, "digest": f"sha256:{encoded}", "size": len(data)}

    layers = [blob(bytes([n]) * 3_000_000 + bytes(1024), OCI_LAYER) for n in range(2)]
    rootfs = {"type": "layers", "diff_ids": [layer["digest"] for layer in layers]}
    config = json.dumps({"architecture": "amd64", "os": "linux", "rootfs": rootfs, "history": []})
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": blob(config.encode(), OCI_CONFIG),
        "layers": layers,
    }
    entry = blob(json.dumps(manifest).encode(), OCI_MANIFEST)
    entry["annotations"] = {"org.opencontainers.image.ref.name": "v1"}
    index = {"schemaVersion": 2, "manifests": [entry]}
    (directory / "index.json").write_text(json.dumps(index))
    (directory / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    return directory


def skopeo(*arguments: str) -> str:
    """Run skopeo; return its output."""
    done = subprocess.run(
        ["skopeo", "--insecure-policy", *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def copy(source: str, target: str) -> None:
    """Copy an image with its digests as they are."""
    flags = ["--src-tls-verify=false"] if source.startswith("docker:") else []
    flags += ["--dest-tls-verify=false"] if target.startswith("docker:") else []
    skopeo("copy", "--preserve-digests", *flags, source, target)


def blobs(layout: Path) -> dict[str, bytes]:
    """Return a layout's blobs by their names."""
    return {path.name: path.read_bytes() for path in (layout / "blobs/sha256").iterdir()}


@contextmanager
def docker_registry(directory: Path) -> Iterator[str]:
    """Run Debian's registry on a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = directory / "config.yml"
    config.write_text(
        "version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\n"
        f"storage: {{filesystem: {{rootdirectory: {directory / 'data'}}}}}\n"
        f"http: {{addr: '127.0.0.1:{port}'}}\n"
    )
    with subprocess.Popen(
        ["docker-registry", "serve", str(config)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as server:
        try:
            _wait_for(port)
            yield f"127.0.0.1:{port}"
        finally:
            server.terminate()


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        else:
            return


def test_skopeo_there_and_back(layout: Path, tmp_path: Path) -> None:
    """What skopeo pushes it pulls again, byte for byte; the store is a layout that it reads."""
    with running(tmp_path / "store") as address:
        copy(f"oci:{layout}:v1", f"docker://{address}/some/image:v1")
        copy(f"docker://{address}/some/image:v1", f"oci:{tmp_path / 'back'}:v1")
        copy(f"docker://{address}/some/image:v1", f"docker://{address}/other:v2")
        listed = json.loads(
            skopeo("list-tags", "--tls-verify=false", f"docker://{address}/some/image")
        )
    assert listed["Tags"] == ["v1"]
    assert blobs(tmp_path / "back") == blobs(layout)
    copy(f"oci:{tmp_path / 'store/some/image'}:v1", f"oci:{tmp_path / 'direct'}:v1")
    assert blobs(tmp_path / "direct") == blobs(layout)


@pytest.mark.skipif(
    shutil.which("docker-registry") is None, reason="docker-registry is not on PATH"
)
def test_from_another_registry_and_back(layout: Path, tmp_path: Path) -> None:
    """An image goes from docker-registry to the embedded one and back unchanged."""
    with docker_registry(tmp_path) as theirs, running(tmp_path / "store") as ours:
        copy(f"oci:{layout}:v1", f"docker://{theirs}/image:v1")
        copy(f"docker://{theirs}/image:v1", f"docker://{ours}/image:v1")
        copy(f"docker://{ours}/image:v1", f"docker://{theirs}/again:v1")
        copy(f"docker://{theirs}/again:v1", f"oci:{tmp_path / 'back'}:v1")
    assert blobs(tmp_path / "back") == blobs(layout)
