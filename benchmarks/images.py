"""Measure whole images beside crane and skopeo: time, requests, blob bytes read; one table.

    python benchmarks/images.py                               medians of 5, about 3 minutes
    python benchmarks/images.py --runs 1 --layer-size 1MiB    does it all work?
    python benchmarks/images.py --rows 'copy*' digest

Every run is a new process of the tool, against the same two docker-registries (plain http on
loopback). Their contents are restored before each run, and skopeo's cache is empty. A round runs
each row with each tool, so that a noisy minute hits all alike. Requests and the blob bytes that
were read are counted in an untimed run before, from docker-registry's log.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import http.client
import io
import json
import os
import re
import shutil
import sys
import tarfile
import tempfile
import time
from collections import defaultdict
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import docker_registry
import process
from options import parse_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

_MIB = 1 << 20
_TAGS = 5000
_LAYERS = 20
_SETTINGS = ("XDG_", "REGISTRY_AUTH_FILE", "PYTHONDONTWRITEBYTECODE")
_QUIET_S = 0.2  # a log that has not grown for so long has all of a tool's requests
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"

# Pushes an image of an OCI layout by the library: arguments are the layout and a reference.
_PUSH = """
import json, sys
from functools import partial
from pathlib import Path
import brolga
from brolga.images import BlockStream

def blocks(path):
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            yield block

blobs = Path(sys.argv[1], "blobs", "sha256")
raw = (blobs / json.loads((blobs / "../../index.json").read_bytes())["manifests"][0]["digest"][7:])
manifest = brolga.Manifest.parse(raw.read_bytes())
layers = [
    brolga.StoredBlob(one, lambda path=blobs / one.digest.encoded: BlockStream(blocks(path)))
    for one in (manifest.config, *manifest.layers)
]
with brolga.Client() as client:
    print(client.push(sys.argv[2], brolga.Image(manifest, layers[0], tuple(layers[1:]))))
"""

_NOTES = """\
ms: wall time of a process, its start included. ratio: brolga's time / the other's, less is better.
KiB read: bytes of blobs that the registries sent.
push    brolga by its library, StoredBlobs over the files of an OCI layout; crane push and skopeo
        copy oci:... read the same layout. Its layers are compressed already.
copy    `within`: to another repository of the registry, whose blobs can be mounted; `across`: to
        another registry; `there`: the target has all of it already.
append  one layer more, an uncompressed tar, on the image in another repository. Each tool
        compresses by its default: brolga gzip 1, crane gzip of Go's default level. skopeo has none.
digest  skopeo by inspect --no-tags, which reads the config too."""


@dataclass(frozen=True)
class Inputs:
    """An image as an OCI layout, one more layer, and the digest of the manifest."""

    layout: Path
    layer: Path
    digest: str


@dataclass(frozen=True)
class Places:
    """The addresses of the two registries, and the inputs."""

    a: str
    b: str
    inputs: Inputs


Command = list[str]


@dataclass(frozen=True)
class Row:
    """One job: the states of the registries before, the command of each tool, and the check.

    `a` and `b` are states of the registries: nothing, image, tags. `target` is the manifest that
    must be there in the end, in which registry, with the digest of the image if `same`.
    """

    name: str
    a: str
    b: str
    commands: Callable[[Places], Mapping[str, Command]]
    target: tuple[str, str] | None = None
    same: bool = True


def _brolga(*words: str) -> Command:
    return [sys.executable, "-m", "brolga", *words]


def _skopeo(*words: str) -> Command:
    return ["skopeo", "--insecure-policy", *words]


def _push(places: Places) -> Mapping[str, Command]:
    layout, target = str(places.inputs.layout), f"{places.a}/app:1"
    skopeo = _skopeo("copy", "--quiet", "--dest-tls-verify=false")
    return {
        "brolga": [sys.executable, "-c", _PUSH, layout, target],
        "crane": ["crane", "push", layout, target],
        "skopeo": [*skopeo, f"oci:{layout}:1", f"docker://{target}"],
    }


def _copy(source: str, target: str) -> Mapping[str, Command]:
    skopeo = _skopeo("copy", "--quiet", "--src-tls-verify=false", "--dest-tls-verify=false")
    return {
        "brolga": _brolga("copy", source, target),
        "crane": ["crane", "copy", source, target],
        "skopeo": [*skopeo, f"docker://{source}", f"docker://{target}"],
    }


def _append(places: Places) -> Mapping[str, Command]:
    words = ["append", "-b", f"{places.a}/app:1", "-f", str(places.inputs.layer)]
    words += ["-t", f"{places.a}/other:2"]
    return {"brolga": _brolga(*words), "crane": ["crane", *words]}


def _digest(places: Places) -> Mapping[str, Command]:
    name = f"{places.a}/app:1"
    skopeo = _skopeo("inspect", "--tls-verify=false", "--no-tags", "--format", "{{.Digest}}")
    return {
        "brolga": _brolga("digest", name),
        "crane": ["crane", "digest", name],
        "skopeo": [*skopeo, f"docker://{name}"],
    }


def _ls(places: Places) -> Mapping[str, Command]:
    name = f"{places.a}/app"
    return {
        "brolga": _brolga("ls", name),
        "crane": ["crane", "ls", name],
        "skopeo": _skopeo("list-tags", "--tls-verify=false", f"docker://{name}"),
    }


def _version(_places: Places) -> Mapping[str, Command]:
    return {
        "brolga": _brolga("version"),
        "crane": ["crane", "version"],
        "skopeo": ["skopeo", "--version"],
    }


def _within(places: Places) -> Mapping[str, Command]:
    return _copy(f"{places.a}/app:1", f"{places.a}/other:1")


def _across(places: Places) -> Mapping[str, Command]:
    return _copy(f"{places.a}/app:1", f"{places.b}/app:1")


ROWS = (
    Row("push, new", "nothing", "nothing", _push, ("a", "app/manifests/1")),
    Row("push, there", "image", "nothing", _push, ("a", "app/manifests/1")),
    Row("append, within", "image", "nothing", _append, ("a", "other/manifests/2"), same=False),
    Row("copy, within", "image", "nothing", _within, ("a", "other/manifests/1")),
    Row("copy, across", "image", "nothing", _across, ("b", "app/manifests/1")),
    Row("copy, there", "image", "image", _across, ("b", "app/manifests/1")),
    Row("digest", "image", "nothing", _digest),
    Row(f"ls, {_TAGS} tags", "tags", "nothing", _ls),
    Row("start", "nothing", "nothing", _version),
)


@dataclass(frozen=True)
class Count:
    """The requests of a tool to the registries, and the bytes of blobs that it read."""

    requests: int
    blob_bytes: int
    lines: Sequence[str]


@dataclass
class Results:
    """Seconds and counts by row and tool, and what failed."""

    seconds: dict[tuple[str, str], list[float]] = field(default_factory=lambda: defaultdict(list))
    counts: dict[tuple[str, str], Count] = field(default_factory=dict)
    failures: dict[tuple[str, str], str] = field(default_factory=dict)


def main() -> None:
    """Measure what the options choose, and print it."""
    options = _options()
    tools = ["brolga", *(name for name in ("crane", "skopeo") if shutil.which(name))]
    chosen = [row for row in ROWS if any(fnmatch(row.name, pattern) for pattern in options.rows)]
    if not chosen:
        names = "\n  ".join(row.name for row in ROWS)
        raise SystemExit(f"images: no such row. The rows are:\n  {names}")
    with tempfile.TemporaryDirectory(prefix="bench-images-", dir=options.work_dir) as name:
        work = Path(name)
        inputs = _inputs(work, options.layer_size)
        _make_states(work, inputs)
        results = Results()
        with _registries(work, inputs, log=True) as pair:
            _count(pair, chosen, tools, results)
        with _registries(work, inputs, log=False) as pair:
            for number in range(options.runs):
                _round(pair, chosen, tools, results, f"{number + 1}/{options.runs}")
    print("\n".join(_table(chosen, tools, results, options)))
    if options.json:
        options.json.write_text(json.dumps(_samples(results), indent=1) + "\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    shm = Path("/dev/shm")  # noqa: S108 - a tmpfs leaves the disk out of it
    add("--runs", type=int, default=5, help="median of so many (5)")
    add("--layer-size", type=parse_size, default=10_000_000, help="of each of 20 layers (10 MB)")
    add("--rows", nargs="+", default=["*"], metavar="PATTERN", help="rows by name, e.g. 'copy*'")
    add("--work-dir", type=Path, default=shm if shm.is_dir() else None, help="for all files")
    add("--json", type=Path, metavar="FILE", help="write samples and requests as well")
    return parser.parse_args()


# --- Inputs


def _inputs(work: Path, size: int) -> Inputs:
    """Write an image of random layers as an OCI layout, and a tar that the image lacks."""
    layout = work / "layout"
    (layout / "blobs/sha256").mkdir(parents=True)
    tars = [_tar(f"file-{number}", size) for number in range(_LAYERS)]
    config = {
        "architecture": "amd64",
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [_sha256(tar) for tar in tars]},
        "history": [{"created_by": f"layer {number}"} for number in range(_LAYERS)],
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": _MANIFEST,
        "config": _blob(layout, _CONFIG, json.dumps(config).encode()),
        "layers": [_blob(layout, _LAYER, gzip.compress(tar, 1, mtime=0)) for tar in tars],
    }
    entry = _blob(layout, _MANIFEST, json.dumps(manifest).encode())
    entry["annotations"] = {"org.opencontainers.image.ref.name": "1"}
    index = {"schemaVersion": 2, "manifests": [entry]}
    (layout / "index.json").write_text(json.dumps(index))
    (layout / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    (work / "layer.tar").write_bytes(_tar("file-more", size))
    return Inputs(layout, work / "layer.tar", entry["digest"])


def _tar(name: str, size: int) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        entry = tarfile.TarInfo(name)
        entry.size = size
        archive.addfile(entry, io.BytesIO(os.urandom(size)))
    return buffer.getvalue()


def _sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _blob(layout: Path, media_type: str, data: bytes) -> dict[str, Any]:
    """Write a blob into the layout; return its descriptor."""
    digest = _sha256(data)
    (layout / "blobs" / digest.replace(":", "/")).write_bytes(data)
    return {"mediaType": media_type, "digest": digest, "size": len(data)}


def _make_states(work: Path, inputs: Inputs) -> None:
    """Make the states of a registry before a run: nothing, the image, the image and tags."""
    (work / "states/nothing").mkdir(parents=True)
    with _registries(work, inputs, log=False) as pair:
        process.run(_push(pair.places)["brolga"], env=_environment(work))
    shutil.copytree(work / "a", work / "states/image")
    shutil.copytree(work / "a", work / "states/tags", copy_function=os.link)
    hexed = inputs.digest.partition(":")[2]
    tags = work / "states/tags/docker/registry/v2/repositories/app/_manifests/tags"
    for number in range(_TAGS):
        for directory in ("current", f"index/sha256/{hexed}"):
            (tags / f"v{number:04}" / directory).mkdir(parents=True)
            (tags / f"v{number:04}" / directory / "link").write_text(inputs.digest)


# --- Registries


@dataclass
class Pair:
    """Two running registries and their states, which are restored by hard links."""

    work: Path
    places: Places
    holds: dict[str, str] = field(default_factory=dict)
    lines_read: dict[str, int] = field(default_factory=dict)

    def hold(self, row: Row) -> None:
        """Restore the states that a row begins with."""
        for name, state in (("a", row.a), ("b", row.b)):
            if self.holds.get(name) != state:
                shutil.rmtree(self.work / name, ignore_errors=True)
                origin = self.work / "states" / state
                shutil.copytree(origin, self.work / name, copy_function=os.link)
                self.holds[name] = state

    def log(self) -> list[str]:
        """Return the new lines of both access logs, when they have stopped growing."""
        files = [self.work / f"{name}.log" for name in ("a", "b")]
        before = -1
        while (size := sum(file.stat().st_size for file in files)) != before:
            before = size
            time.sleep(_QUIET_S)
        lines = []
        for file in files:
            log = file.read_text().splitlines()
            lines += log[self.lines_read.get(file.name, 0) :]
            self.lines_read[file.name] = len(log)
        return lines


@contextmanager
def _registries(work: Path, inputs: Inputs, *, log: bool) -> Iterator[Pair]:
    """Run two registries, with an access log if `log`."""
    with ExitStack() as stack:
        addresses = []
        for name in ("a", "b"):
            (work / name).mkdir(exist_ok=True)
            registry = docker_registry.running(work / name, access_log=log)
            addresses.append(stack.enter_context(registry))
        yield Pair(work, Places(addresses[0], addresses[1], inputs))


# --- Runs


def _environment(work: Path) -> dict[str, str]:
    """Return this environment with an empty home, without settings, caches and proxies."""
    home = work / "home"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir()
    kept = {
        name: value
        for name, value in os.environ.items()
        if "proxy" not in name.lower() and not name.startswith(_SETTINGS)
    }
    return {
        **kept,
        "HOME": str(home),
        "TMPDIR": str(home),
        "DOCKER_CONFIG": str(home),
        "XDG_DATA_HOME": str(home),
        # Compiled once, as an installed program is; a checkout may have no bytecode.
        "PYTHONPYCACHEPREFIX": str(work / "bytecode"),
        # As root skopeo would keep its cache below /var/lib.
        "_CONTAINERS_ROOTLESS_UID": "1",
    }


def _run(pair: Pair, row: Row, command: Command) -> float:
    """Run a tool once from the row's beginning; return the seconds. Raises process.Failed."""
    pair.hold(row)
    usage = process.run(command, env=_environment(pair.work))
    if row.target:
        pair.holds.clear()
    elif row.commands is not _version and not {"v4999", pair.places.inputs.digest} & set(
        re.findall(r"v4999|sha256:\w+", usage.stdout)
    ):
        raise process.Failed("it does not print the digest or the tags")
    return usage.wall_s


def _check(pair: Pair, row: Row) -> None:
    """Ask for the manifest that a tool should have pushed. Raises process.Failed."""
    if not row.target:
        return
    registry, path = row.target
    connection = http.client.HTTPConnection(getattr(pair.places, registry))
    connection.request("HEAD", f"/v2/{path}", headers={"Accept": _MANIFEST})
    answer = connection.getresponse()
    connection.close()
    found = answer.headers.get("Docker-Content-Digest", "")
    if answer.status != http.client.OK or (row.same and found != pair.places.inputs.digest):
        raise process.Failed(f"{path} is not what was pushed: {answer.status} {found}")


def _count(pair: Pair, rows: Sequence[Row], tools: Sequence[str], results: Results) -> None:
    """Run each row once with each tool, and count its requests."""
    for row in rows:
        for tool, command in row.commands(pair.places).items():
            if tool not in tools:
                continue
            pair.log()
            try:
                _run(pair, row, command)
                lines = pair.log()
                _check(pair, row)
            except process.Failed as failed:
                results.failures[row.name, tool] = str(failed)
                continue
            results.counts[row.name, tool] = _counted(lines)
            _progress(f"counted {row.name}: {tool}")


def _counted(lines: Sequence[str]) -> Count:
    """Read lines of the access log, in the form that Apache calls combined."""
    found = [re.search(r'"([A-Z]+) (\S+) HTTP/[\d.]+" (\d+) (\d+) ', line) for line in lines]
    seen = [match for match in found if match]
    blob_bytes = sum(
        int(match[4]) for match in seen if match[1] == "GET" and "/blobs/sha256:" in match[2]
    )
    return Count(len(seen), blob_bytes, [" ".join(match.groups()) for match in seen])


def _round(
    pair: Pair, rows: Sequence[Row], tools: Sequence[str], results: Results, what: str
) -> None:
    """Run each row once with each tool, and measure the time."""
    for row in rows:
        for tool, command in row.commands(pair.places).items():
            key = row.name, tool
            if tool not in tools or key in results.failures:
                continue
            try:
                results.seconds[key].append(_run(pair, row, command))
            except process.Failed as failed:
                results.failures[key] = str(failed)
        _progress(f"{what} {row.name}")


# --- Table


def _table(
    rows: Sequence[Row], tools: Sequence[str], results: Results, options: argparse.Namespace
) -> Iterator[str]:
    """Yield the lines: medians, ratios and counts, notes, failures."""
    yield (
        f"images of {_LAYERS} layers of {options.layer_size / 1e6:g} MB, medians of"
        f" {options.runs}, {os.cpu_count()} cores"
    )
    yield ""
    groups = {"ms": tools, "ratio to": tools[1:], "requests": tools, "KiB read": tools}
    yield f"{'':16}" + "".join(f"  {title:<{9 * len(of)}}" for title, of in groups.items())
    yield f"{'':16}" + "".join(
        "  " + "".join(f"{tool:>9}" for tool in of) for of in groups.values()
    )
    for row in rows:
        yield f"{row.name:16}" + "".join(
            "  " + "".join(f"{_cell(results, title, row.name, tool):>9}" for tool in of)
            for title, of in groups.items()
        )
    yield ""
    yield _NOTES
    for (name, tool), problem in results.failures.items():
        yield f"failed: {name}, {tool}: {problem}"


def _cell(results: Results, group: str, row: str, tool: str) -> str:
    """Return a figure, or - if it was not measured."""
    samples, mine = results.seconds.get((row, tool)), results.seconds.get((row, "brolga"))
    count = results.counts.get((row, tool))
    if group == "ms":
        return f"{1000 * median(samples):.0f}" if samples else "-"
    if group == "ratio to":
        return f"{median(mine) / median(samples):.2f}" if samples and mine else "-"
    if count is None:
        return "-"
    return str(count.requests) if group == "requests" else f"{count.blob_bytes / 1024:.0f}"


def _samples(results: Results) -> dict[str, Any]:
    """Return every sample and every request, ready for json."""
    return {
        f"{row}: {tool}": {
            "seconds": results.seconds.get((row, tool), []),
            "requests": count.lines,
            "blob_bytes": count.blob_bytes,
        }
        for (row, tool), count in results.counts.items()
    }


def _progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
