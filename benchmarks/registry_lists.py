"""Measure the embedded registry with many tags and many referrers; one table.

    python benchmarks/registry_lists.py                            17,000 tags, 1,000 referrers
    python benchmarks/registry_lists.py --tags 1000 --referrers 100    does it all work?

The layout is written as by another program, so the first request reads all of it; those after that,
and those after a restart, read the index. While one client lists the tags of the large repository
without a pause, another asks a small repository. A push changes one tag of the large repository.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import json
import re
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
REF_NAME = "org.opencontainers.image.ref.name"
EMPTY = {"mediaType": "application/vnd.oci.empty.v1+json", "size": 2}
_TIMES = 5


def main() -> None:
    """Measure what the options choose, and print it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--tags", type=int, default=17_000, help="each of a manifest of its own")
    parser.add_argument("--referrers", type=int, default=1000, help="of one of them")
    parser.add_argument("--work-dir", type=Path, help="the layouts go below it")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-lists-", dir=options.work_dir) as name:
        root = Path(name)
        subject = _write(root / "large", options.tags, options.referrers)
        _write(root / "small", 1, 0)
        rows = _measure(root, subject)
    print(f"{options.tags} tags, {options.referrers} referrers")
    for label, seconds in rows:
        print(f"{label:44}{1000 * seconds:12.1f} ms")


# --- The layout


def _write(path: Path, tags: int, referrers: int) -> str:
    """Write a layout; return the digest of the subject."""
    (path / "blobs/sha256").mkdir(parents=True)
    (path / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    config = {**EMPTY, "digest": _blob(path, b"{}")}
    base = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": []}
    entries = []
    for number in range(tags):
        entry = _manifest(path, {**base, "annotations": {"number": str(number)}})
        entries.append({**entry, "annotations": {REF_NAME: f"v{number}"}})
    subject = {name: entries[0][name] for name in ("mediaType", "digest", "size")}
    for number in range(referrers):
        annotations = {"note": str(number)}
        entries.append(_manifest(path, {**base, "subject": subject, "annotations": annotations}))
    document = {"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}
    (path / "index.json").write_text(json.dumps(document))
    return str(subject["digest"])


def _manifest(path: Path, document: dict[str, object]) -> dict[str, object]:
    body = json.dumps(document).encode()
    return {"mediaType": MANIFEST, "digest": _blob(path, body), "size": len(body)}


def _blob(path: Path, body: bytes) -> str:
    encoded = hashlib.sha256(body).hexdigest()
    (path / "blobs/sha256" / encoded).write_bytes(body)
    return f"sha256:{encoded}"


# --- The server


@contextmanager
def _running(root: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    command = [sys.executable, "-m", "brolga", "registry", "serve", str(root), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process.stdout.readline().strip() if process.stdout else "", process
        finally:
            process.kill()


def _request(address: str, method: str, target: str, body: bytes | None = None) -> bytes:
    connection = http.client.HTTPConnection(address)
    headers = {"Content-Type": MANIFEST} if body else {}
    connection.request(method, target, body=body, headers=headers)
    response = connection.getresponse()
    answer = response.read()
    connection.close()
    if response.status not in {http.client.OK, http.client.CREATED}:
        raise SystemExit(f"registry_lists: {response.status} {answer!r}")
    return answer


def _measure(root: Path, subject: str) -> list[tuple[str, float]]:
    """Return the seconds that each kind of request takes."""
    tags, page = "/v2/large/tags/list", "/v2/large/tags/list?n=100&last=v5"
    refers = f"/v2/large/referrers/{subject}"
    body = (root / "large/blobs/sha256" / subject.removeprefix("sha256:")).read_bytes()
    rows = []
    with _running(root) as (address, _):
        rows.append(("the first request, which reads the layout", _time(address, tags, once=True)))
        time.sleep(2.5)  # an index.json that has just changed is read again each time
        rows += [(label, _time(address, target)) for label, target in (
            ("all tags", tags), ("a page of 100 tags", page), ("a manifest by tag",
             "/v2/large/manifests/v1"), ("referrers", refers),
            ("referrers of a type without any", f"{refers}?artifactType=none/none"),
            ("the catalog", "/v2/_catalog"),
        )]  # fmt: skip
        rows.append(("the tags of a small repository", _time(address, "/v2/small/tags/list")))
        rows.append(("the same beside a client of the large one", _time_under_load(address, tags)))
        put = _seconds(lambda: _request(address, "PUT", "/v2/large/manifests/moved", body))
        rows.append(("a push of one tag", put))
        rows.append(("the first list after it", _time(address, tags, once=True)))
    with _running(root) as (address, process):
        rows.append(("the first request after a restart", _time(address, tags, once=True)))
        status = Path(f"/proc/{process.pid}/status").read_text()
        found = re.search(r"VmHWM:\s*(\d+) kB", status)
        print(f"peak of memory after it: {int(found[1]) / 1024 if found else 0:.0f} MiB")
    return rows


def _time(address: str, target: str, *, once: bool = False) -> float:
    return _seconds(lambda: _request(address, "GET", target), 1 if once else _TIMES)


def _seconds(work: Callable[[], object], times: int = 1) -> float:
    seconds = []
    for _ in range(times):
        begin = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - begin)
    return median(seconds)


def _time_under_load(address: str, target: str) -> float:
    """Ask a small repository while another client asks the large one all the time."""
    stop = threading.Event()

    def load() -> None:
        while not stop.is_set():
            _request(address, "GET", target)

    thread = threading.Thread(target=load)
    thread.start()
    try:
        return _time(address, "/v2/small/tags/list")
    finally:
        stop.set()
        thread.join()


if __name__ == "__main__":
    main()
