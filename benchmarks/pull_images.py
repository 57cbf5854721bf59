"""Fill a docker-registry's directory with the images that benchmarks/pull.py reads.

    python benchmarks/pull_images.py TREE DIRECTORY NAME SIZE

`one` has the file tree as one layer, not compressed; `four` has it as four layers, by gzip; `holes`
has one layer, a tar of a file of SIZE zeros, which takes no space on disk. It is a program of its
own, so that its memory is not counted as that of the programs that are measured.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import shutil
import sys
import tarfile
from pathlib import Path
from typing import Any

_TYPE = "application/vnd.oci.image"
_LAYERS = 4
# Descriptor and DiffID of each.
Layers = list[tuple[dict[str, Any], str]]


class Repository:
    """A repository in the directory of a docker-registry, which is written without one."""

    def __init__(self, directory: Path, name: str) -> None:
        root = directory / "docker/registry/v2"
        self._blobs = root / "blobs/sha256"
        self._repository = root / "repositories" / name
        self.new = directory / "new"
        self.new.parent.mkdir(parents=True, exist_ok=True)

    def add_layer(self, file: Path, diff_id: str, media_type: str) -> tuple[dict[str, Any], str]:
        """Move a file to the blobs; return its descriptor, and the DiffID."""
        return self._move(file, media_type), f"sha256:{diff_id}"

    def add_image(self, tag: str, layers: Layers) -> None:
        """Write config and manifest of an image, and its tag."""
        diff_ids = [diff_id for _, diff_id in layers]
        rootfs = {"type": "layers", "diff_ids": diff_ids}
        config = {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": rootfs}
        manifest = {
            "schemaVersion": 2,
            "mediaType": f"{_TYPE}.manifest.v1+json",
            "config": self._write(config, f"{_TYPE}.config.v1+json"),
            "layers": [layer for layer, _ in layers],
        }
        digest = self._write(manifest, f"{_TYPE}.manifest.v1+json")["digest"]
        for place in (f"revisions/{digest}", f"tags/{tag}/current", f"tags/{tag}/index/{digest}"):
            _link(self._repository / "_manifests" / place.replace(":", "/"), digest)

    def _write(self, content: object, media_type: str) -> dict[str, Any]:
        self.new.write_text(json.dumps(content))
        return self._move(self.new, media_type)

    def _move(self, file: Path, media_type: str) -> dict[str, Any]:
        with file.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        blob = self._blobs / digest[:2] / digest / "data"
        blob.parent.mkdir(parents=True, exist_ok=True)
        size = file.stat().st_size
        file.replace(blob)
        _link(self._repository / "_layers/sha256" / digest, f"sha256:{digest}")
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": size}


def _link(directory: Path, digest: str) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "link").write_text(digest)


class _Hashed(io.RawIOBase):
    """A file that is written and hashed."""

    def __init__(self, sink: gzip.GzipFile) -> None:
        super().__init__()
        self._sink = sink
        self.state = hashlib.sha256()

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, data: Any) -> int:  # noqa: ANN401 - any buffer
        """Pass bytes on."""
        self.state.update(data)
        return self._sink.write(data)


def _one(repository: Repository, tree: Path) -> Layers:
    shutil.copyfile(tree, repository.new)
    with tree.open("rb") as file:
        diff_id = hashlib.file_digest(file, "sha256").hexdigest()
    return [repository.add_layer(repository.new, diff_id, f"{_TYPE}.layer.v1.tar")]


def _four(repository: Repository, tree: Path) -> Layers:
    part = tree.stat().st_size / _LAYERS
    layers: Layers = []
    with tarfile.open(tree) as source:
        members = iter(source)
        for number in range(_LAYERS):
            with repository.new.open("wb") as raw, gzip.GzipFile("", "wb", 1, raw, 0) as packed:
                hashed = _Hashed(packed)
                with tarfile.open(fileobj=hashed, mode="w|", format=tarfile.PAX_FORMAT) as layer:
                    for member in members:
                        content = source.extractfile(member) if member.isreg() else None
                        layer.addfile(member, content)
                        if member.offset > part * (number + 1):
                            break
            media_type = f"{_TYPE}.layer.v1.tar+gzip"
            diff_id = hashed.state.hexdigest()
            layers.append(repository.add_layer(repository.new, diff_id, media_type))
    return layers


def _holes(repository: Repository, size: int) -> Layers:
    info = tarfile.TarInfo("zeros")
    info.size = size
    end = -size % tarfile.BLOCKSIZE + 2 * tarfile.BLOCKSIZE
    with repository.new.open("wb") as file:
        head = info.tobuf(tarfile.PAX_FORMAT)
        file.write(head)
        file.truncate(len(head) + size + end)
    with repository.new.open("rb") as file:
        diff_id = hashlib.file_digest(file, "sha256").hexdigest()
    return [repository.add_layer(repository.new, diff_id, f"{_TYPE}.layer.v1.tar")]


def main() -> None:
    """Write the images; print digest and size of the layers of each, as JSON."""
    tree, directory, name, size = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4]
    os.umask(0o022)
    repository = Repository(directory, name)
    images = {"one": _one(repository, tree), "four": _four(repository, tree)}
    if int(size):
        images["holes"] = _holes(repository, int(size))
    for tag, layers in images.items():
        repository.add_image(tag, layers)
    facts = {
        tag: [(layer["digest"], layer["size"]) for layer, _ in layers]
        for tag, layers in images.items()
    }
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
