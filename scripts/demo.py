"""Show the main job: a real tar through stdin into a registry, in one pass, and read back.

Starts the embedded registry on a free port of 127.0.0.1, runs

    tar -c src tests docs .venv | brolga layer push --json 127.0.0.1:PORT/demo

then fetches the blob without brolga (urllib, gzip, hashlib, tarfile), and checks its digest, its
DiffID and that the tar is complete.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import subprocess
import sys
import tarfile
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast
from urllib.request import urlopen

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
BROLGA = str(Path(sys.executable).with_name("brolga"))
TREES = ["src", "tests", "docs", ".venv"]
READ_SIZE = 1 << 20  # bytes


def main() -> None:
    """Run the demo; exit with 1 if a check fails."""
    with (
        tempfile.TemporaryDirectory(prefix="brolga-demo-") as directory,
        registry(directory) as address,
    ):
        print(f"registry    {address}, storing in {directory}")
        result = push(f"{address}/demo")
        for name in ("ref", "diffId", "size", "uncompressedSize", "mediaType", "seconds"):
            print(f"{name:<17}{result[name]}")
        rate = result["uncompressedSize"] / result["seconds"] / 1e6
        print(
            f"{'rate':<17}{rate:.0f} MB/s, ratio {result['size'] / result['uncompressedSize']:.2f}"
        )
        check(f"http://{address}/v2/demo/blobs/{result['digest']}", result)
    print("registry stopped")


@contextmanager
def registry(directory: str) -> Iterator[str]:
    """Run the embedded registry; yield its HOST:PORT."""
    command = [BROLGA, "registry", "serve", directory, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None  # noqa: S101 - it is a pipe
            address = server.stdout.readline().strip()
            if not address:
                sys.exit("demo: the registry did not start")
            yield address
        finally:
            server.terminate()


def push(repository: str) -> dict[str, Any]:
    """Stream the trees into the repository; return the result that brolga prints."""
    tar = ["tar", "-c", "-C", str(ROOT), *(tree for tree in TREES if (ROOT / tree).exists())]
    brolga = [BROLGA, "layer", "push", "--json", repository]
    print(f"$ tar -c {' '.join(tar[4:])} | brolga {' '.join(brolga[1:])}")
    with subprocess.Popen(tar, stdout=subprocess.PIPE) as source:
        pushed = subprocess.run(brolga, stdin=source.stdout, stdout=subprocess.PIPE, check=False)
    if source.returncode or pushed.returncode:
        sys.exit(f"demo: tar exited {source.returncode}, brolga {pushed.returncode}")
    result: dict[str, Any] = json.loads(pushed.stdout)
    return result


def check(url: str, result: dict[str, Any]) -> None:
    """Fetch the blob and compare it with the result of brolga; exit with 1 if it differs."""
    with urlopen(url) as response:  # noqa: S310 - the registry of this demo, on 127.0.0.1
        blob = Hashed(response)
        with gzip.open(cast("BinaryIO", blob)) as plain:
            content = Hashed(plain)
            with tarfile.open(fileobj=cast("BinaryIO", content), mode="r|") as tar:
                count = sum(1 for _ in tar)
            while content.read(READ_SIZE):  # tar pads its end
                pass
        while blob.read(READ_SIZE):
            pass
    expect("digest", blob.digest, result["digest"])
    expect("size", blob.size, result["size"])
    expect("DiffID", content.digest, result["diffId"])
    expect("uncompressed size", content.size, result["uncompressedSize"])
    print(f"read back        {count} members, the tar is complete")


def expect(name: str, actual: object, expected: object) -> None:
    """Print one check; exit with 1 if it fails."""
    if actual != expected:
        sys.exit(f"demo: {name} is {actual}, but brolga printed {expected}")
    print(f"read back        {name} is right")


class Hashed:
    """A file whose bytes are hashed and counted as they are read."""

    def __init__(self, file: Any) -> None:  # noqa: ANN401 - an HTTP response or a GzipFile
        self._file: BinaryIO = file
        self._sha256 = hashlib.sha256()
        self.size = 0

    def read(self, size: int = -1) -> bytes:
        """Return at most `size` bytes of the file."""
        block = self._file.read(size)
        self._sha256.update(block)
        self.size += len(block)
        return block

    @property
    def digest(self) -> str:
        """The digest of the bytes read so far."""
        return f"sha256:{self._sha256.hexdigest()}"


if __name__ == "__main__":
    main()
