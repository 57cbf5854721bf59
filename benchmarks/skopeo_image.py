"""Build the source of `skopeo copy`: an OCI layout of one uncompressed layer.

It is written before anything is timed.
"""

from __future__ import annotations

import hashlib
import json
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_TYPE = "application/vnd.oci.image"


def build(layer: Path, directory: Path) -> None:
    """Write the layout; the layer's blob is another name of the file `layer`."""
    blobs = directory / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    with layer.open("rb") as content:
        diff_id = hashlib.file_digest(content, "sha256").hexdigest()
    os.link(layer, blobs / diff_id)
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{diff_id}"]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{_TYPE}.manifest.v1+json",
        "config": _blob(blobs, f"{_TYPE}.config.v1+json", config),
        "layers": [_descriptor(f"{_TYPE}.layer.v1.tar", diff_id, layer.stat().st_size)],
    }
    entry = _blob(blobs, f"{_TYPE}.manifest.v1+json", manifest)
    entry["annotations"] = {"org.opencontainers.image.ref.name": "latest"}
    _write(directory / "index.json", {"schemaVersion": 2, "manifests": [entry]})
    _write(directory / "oci-layout", {"imageLayoutVersion": "1.0.0"})


def _blob(blobs: Path, media_type: str, content: object) -> dict[str, object]:
    """Write a JSON blob and return its descriptor."""
    data = json.dumps(content).encode()
    digest = hashlib.sha256(data).hexdigest()
    (blobs / digest).write_bytes(data)
    return _descriptor(media_type, digest, len(data))


def _descriptor(media_type: str, digest: str, size: int) -> dict[str, object]:
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": size}


def _write(path: Path, content: object) -> None:
    path.write_text(json.dumps(content))
