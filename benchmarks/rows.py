"""The rows of the table: each is a job that yields samples.

A peer that is not on this machine is a `Skipped` row.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

import kernels
import process
import skopeo_image
from kernels import Timing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from sink import Sink

# The repository in the sink that every program pushes to.
_NAME = "bench/x"
# Stands for the digest of the input in the commands that read it; inputs are made later.
_EXPECTED = "{digest}"

_DXF = "import sys, dxf; dxf.DXF(sys.argv[1], sys.argv[2], insecure=True).push_blob(sys.argv[3])"
_ORAS_PY = (
    "import sys, oras.client; oras.client.OrasClient(insecure=True)"
    ".push(target=sys.argv[1], files=[sys.argv[2]], disable_path_validation=True)"
)


@dataclass(frozen=True)
class Sample:
    """One measurement. Seconds and bytes of one run; bytes that do not apply are 0."""

    wall_s: float
    cpu_s: float
    sink_cpu_s: float = 0.0
    feed_cpu_s: float = 0.0
    rss: int = 0
    bytes_in: int = 0
    bytes_out: int = 0


@dataclass(frozen=True)
class Row:
    """One job: its place in the table, the number of runs, and the function that runs it.

    `run` returns samples by label: one, or the many of the kernels. `prepare` comes once before,
    untimed. `limit` names the compression and the kernel that reads, if the row has a limit; `bare`
    the row of the section that does only the work of this one.
    """

    section: str
    name: str
    runs: int
    run: Callable[[], Mapping[str, Sample]]
    limit: tuple[str, str] | None = None
    bare: str = ""
    prepare: Callable[[], None] | None = None


@dataclass(frozen=True)
class Skipped:
    """A row that this machine cannot run, and why."""

    section: str
    name: str
    reason: str


def key(row: Row | Skipped) -> str:
    """Return the name that `--rows` is matched against."""
    return f"{row.section}/{row.name}".replace(" ", "-")


@dataclass(frozen=True)
class Setup:
    """The parameters of all rows."""

    sink: Sink
    inputs: Mapping[str, Path]
    work: Path
    size: int
    brolga: str
    peer_python: str
    runs: int
    starts: int
    sample: int
    memory_factor: int
    env: Mapping[str, str]

    @property
    def repository(self) -> str:
        """The repository, with its host."""
        return f"{self.sink.host}/{_NAME}"


def every(setup: Setup) -> Iterator[Row | Skipped]:
    """Yield all rows in the order of the table."""
    for name in setup.inputs:
        yield Row(name, "kernels", setup.runs, partial(_kernels, setup, name))
        yield from _brolga(setup, name)
        if name == "tree":
            yield from _peers(setup, setup.inputs[name])
    yield from _reads(setup)
    yield from _memory(setup)
    yield from _starts(setup)


def _kernels(setup: Setup, name: str) -> Mapping[str, Sample]:
    """Measure the kernels over one input in a process of their own."""
    path = setup.inputs[name]
    _warm(path)
    program = str(Path(__file__).with_name("kernels.py"))
    command = [sys.executable, program, str(path), str(setup.sink.port), str(setup.sample)]
    timings = json.loads(process.run(command).stdout)
    return {label: _of_timing(Timing(*timing)) for label, timing in timings.items()}


def _of_timing(timing: Timing) -> Sample:
    out = int(timing.ratio * kernels.GIB)
    return Sample(timing.wall_s, timing.cpu_s, bytes_in=kernels.GIB, bytes_out=out)


@dataclass(frozen=True)
class _Push:
    """One push of a file by a command, through a pipe as often as `repeat` says."""

    setup: Setup
    label: str
    command: tuple[str, ...]
    path: Path
    repeat: int = 0

    def __call__(self) -> Mapping[str, Sample]:
        """Run it, and count the bytes of its input and those that arrived."""
        sink, path = self.setup.sink, self.path
        _warm(path)
        sink.forget()
        before = sink.count()
        feed = [path] * self.repeat
        usage = process.run(self.command, feed=feed, cwd=path.parent, env=self.setup.env)
        count = sink.count() - before
        size = path.stat().st_size * max(self.repeat, 1)
        if self.command[0] == self.setup.brolga:
            _check(json.loads(usage.stdout), size, count.received)
        elif not count.received:
            raise process.Failed("nothing arrived at the sink")
        times = usage.wall_s, usage.cpu_s, count.cpu_s, usage.feed_cpu_s
        return {self.label: Sample(*times, usage.rss, size, count.received)}


def _check(result: Mapping[str, object], size: int, received: int) -> None:
    """Compare the result of brolga with its input and with the bytes that arrived."""
    sizes = result["uncompressedSize"], result["size"]
    if sizes != (size, received):
        raise process.Failed(f"says {sizes} bytes in and out; it was {size}, {received}")


def _warm(path: Path) -> None:
    """Read the input into the page cache: reading from a disk is not compared."""
    subprocess.run(["cat", path], stdout=subprocess.DEVNULL, check=True)


def _brolga_command(setup: Setup, compression: str, source: str) -> tuple[str, ...]:
    options = ("--json", "--progress", "none", "--compression", compression)
    return (setup.brolga, "layer", "push", *options, setup.repository, source)


def _brolga(setup: Setup, name: str) -> Iterator[Row]:
    path = setup.inputs[name]
    for compression in kernels.LIMIT_CODECS:
        bare = f"bare {compression} pipe"
        command = _bare_command("push", setup, compression)
        job = _Push(setup, bare, command, path, 1)
        yield Row(name, bare, setup.runs, job, (compression, "pipe read"))
        for read, source, repeat in (("pipe", "-", 1), ("file", str(path), 0)):
            label = f"brolga {compression} {read}"
            command = _brolga_command(setup, compression, source)
            job = _Push(setup, label, command, path, repeat)
            yield Row(name, label, setup.runs, job, (compression, f"{read} read"), bare)


def _bare_command(verb: str, setup: Setup, argument: str) -> tuple[str, ...]:
    program = str(Path(__file__).with_name("bare.py"))
    return (sys.executable, program, verb, str(setup.sink.port), argument)


def _peers(setup: Setup, path: Path) -> Iterator[Row | Skipped]:
    """Yield the other uploaders: crane reads a pipe, the rest a file or an image."""
    target = f"{setup.repository}:latest"
    crane = ["crane", "append", "-t", target, "-f"]
    yield _peer(setup, "crane gzip pipe", [*crane, "-"], path, repeat=1)
    yield _peer(setup, "crane gzip file", [*crane, str(path)], path)
    skopeo = ["skopeo", "--insecure-policy", "--tmpdir", str(setup.work), "copy", "--quiet"]
    skopeo += ["--dest-tls-verify=false", "--dest-compress-format", "gzip"]
    image = f"oci:{setup.work / 'image'}:latest"
    row = _peer(setup, "skopeo gzip image", [*skopeo, image, f"docker://{target}"], path)
    build = partial(skopeo_image.build, path, setup.work / "image")
    yield replace(row, prepare=build) if isinstance(row, Row) else row
    oras = ["oras", "push", "--plain-http", target, f"{path.name}:application/x-tar"]
    yield _peer(setup, "oras none file", oras, path)
    oras = ["oras", "blob", "push", "--plain-http", "--no-tty", setup.repository, str(path)]
    yield _peer(setup, "oras blob none file", oras, path)
    yield _python_peer(setup, "oras", "oras-py none file", [_ORAS_PY, target, str(path)])
    yield _python_peer(setup, "dxf", "dxf none file", [_DXF, setup.sink.host, _NAME, str(path)])


def _peer(
    setup: Setup, label: str, command: list[str], path: Path, *, repeat: int = 0
) -> Row | Skipped:
    if not shutil.which(command[0]):
        return Skipped("tree", label, f"{command[0]} is not on PATH")
    job = _Push(setup, label, tuple(command), path, repeat)
    return Row("tree", label, setup.runs, job)


def _python_peer(setup: Setup, module: str, label: str, program: list[str]) -> Row | Skipped:
    """Yield a row for a Python library, if the interpreter that was named can import it."""
    probe = f"from {module} import {'DXF' if module == 'dxf' else 'client'}"
    try:
        process.run([setup.peer_python, "-c", probe])
    except process.Failed:
        return Skipped("tree", label, f"{setup.peer_python} cannot import it (--peer-python)")
    return _peer(setup, label, [setup.peer_python, "-c", *program], setup.inputs["tree"])


def _reads(setup: Setup) -> Iterator[Row | Skipped]:
    """Yield the readers of one blob, which discard what they read."""
    path = setup.inputs["tree"]
    digest = f"sha256:{_EXPECTED}"
    reference = f"{setup.repository}@{digest}"
    commands = {
        "bare read": _bare_command("pull", setup, f"/v2/{_NAME}/blobs/{digest}"),
        "brolga blob": (setup.brolga, "blob", reference),
        "crane blob": ("crane", "blob", reference),
        "oras blob fetch": ("oras", "blob", "fetch", "--plain-http", "--output", "-", reference),
    }
    for label, command in commands.items():
        if shutil.which(command[0]):
            job = _Read(setup, label, command, path)
            bare = "" if label == "bare read" else "bare read"
            yield Row("read", label, setup.runs, job, bare=bare)
        else:
            yield Skipped("read", label, f"{command[0]} is not on PATH")


@dataclass(frozen=True)
class _Read:
    """One read of a file by a command, from the sink. The command names it by `_EXPECTED`."""

    setup: Setup
    label: str
    command: tuple[str, ...]
    path: Path

    def __call__(self) -> Mapping[str, Sample]:
        """Run it, and count the bytes that the sink sent."""
        sink = self.setup.sink
        _warm(self.path)
        digest = _digest(self.path)
        sink.offer(digest, self.path)
        command = [word.replace(_EXPECTED, digest) for word in self.command]
        before = sink.count()
        usage = process.run(command, env=self.setup.env, discard=True)
        count = sink.count() - before
        size = self.path.stat().st_size
        if count.sent != size:
            raise process.Failed(f"read {count.sent} bytes of {size}")
        times = usage.wall_s, usage.cpu_s, count.cpu_s
        return {self.label: Sample(*times, rss=usage.rss, bytes_in=size, bytes_out=size)}


@cache
def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _memory(setup: Setup) -> Iterator[Row]:
    """Yield one run each over the tree once and many times, through a pipe."""
    path = setup.inputs["tree"]
    for repeat in (1, setup.memory_factor):
        size = setup.size * repeat / kernels.GIB
        for compression in kernels.LIMIT_CODECS:
            label = f"brolga {compression} {size:g} GiB"
            command = _brolga_command(setup, compression, "-")
            job = _Push(setup, label, command, path, repeat)
            yield Row("memory", label, 1, job)


def _starts(setup: Setup) -> Iterator[Row | Skipped]:
    """Yield the programs that only start, or push next to nothing: the cost of each run."""
    commands = {
        "brolga version": [setup.brolga, "version"],
        "brolga push of nothing": [*_brolga_command(setup, "none", os.devnull)],
        "python -c pass": [sys.executable, "-c", "pass"],
        "crane version": ["crane", "version"],
    }
    for label, command in commands.items():
        if shutil.which(command[0]):
            yield Row("start", label, setup.starts, partial(_start, setup, label, command))
        else:
            yield Skipped("start", label, f"{command[0]} is not on PATH")


def _start(setup: Setup, label: str, command: list[str]) -> Mapping[str, Sample]:
    usage = process.run(command, env=setup.env)
    return {label: Sample(usage.wall_s, usage.cpu_s, rss=usage.rss)}


def clean_environment(work: Path) -> dict[str, str]:
    """Return this environment without the user's settings and proxies, its files below `work`."""
    home = work / "home"
    home.mkdir(exist_ok=True)
    kept = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    return {**kept, "HOME": str(home), "TMPDIR": str(work), "DOCKER_CONFIG": str(home)}
