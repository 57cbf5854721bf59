"""The rows of benchmarks/pull.py: the command of each tool for each task, over each link."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

NAME = "bench/app"
CONNECTIONS = 4  # of curl; brolga's default is as many
# What bounds a read: these only receive, and are not counted as peers.
LIMITS = ("recv + sha256", "curl", f"{CONNECTIONS} x curl")

_DXF = """
import sys, dxf
registry = dxf.DXF(sys.argv[1], sys.argv[2], insecure=True)
for _ in registry.pull_blob(sys.argv[3], chunk_size=1 << 20):
    pass
"""
_ORAS_PY = """
import sys, oras.client
client = oras.client.OrasClient(insecure=True)
client.download_blob(f"{sys.argv[1]}/{sys.argv[2]}", sys.argv[3], "/dev/null")
"""


@dataclass(frozen=True)
class Link:
    """What lies between the registry and its clients."""

    name: str
    rate: float = 0  # bytes/s of each connection
    round_trip_s: float = 0

    @property
    def is_slow(self) -> bool:
        """Whether there is a proxy."""
        return bool(self.rate or self.round_trip_s)


LINKS = (
    Link("plain"),
    Link("75 MB/s", 75e6),
    Link("75 MB/s, 20 ms", 75e6, 0.02),
    Link("75 MB/s, 100 ms", 75e6, 0.1),
    Link("20 ms", 0, 0.02),
    Link("100 ms", 0, 0.1),
)


@dataclass(frozen=True)
class Setup:
    """The parameters of all rows; `addresses` by the names of links, `layers` by tags."""

    addresses: Mapping[str, str]
    layers: Mapping[str, Sequence[tuple[str, int]]]
    output: Path  # the target of pulls and extractions
    large_output: Path  # that of the pull of the image `holes`
    brolga: str
    peer_python: str


@dataclass(frozen=True)
class Row:
    """One job of one tool. `output` is removed before each run; `size` bytes are read."""

    link: Link
    task: str
    tool: str
    command: tuple[str, ...]
    size: int
    output: Path | None = None
    once: bool = False

    @property
    def title(self) -> str:
        """Link and task, as the table and the targets name them."""
        return f"{self.link.name}: {self.task}"

    @property
    def key(self) -> str:
        """The name that `--rows` is matched against."""
        return f"{self.link.name}/{self.task}/{self.tool}".replace(" ", "-").replace(",", "")


@dataclass(frozen=True)
class _Source:
    """An image behind a link, and the target of its copies."""

    setup: Setup
    link: Link
    tag: str

    @property
    def address(self) -> str:
        return self.setup.addresses[self.link.name]

    @property
    def ref(self) -> str:
        return f"{self.address}/{NAME}:{self.tag}"

    @property
    def digest(self) -> str:
        return self.setup.layers[self.tag][0][0]

    @property
    def size(self) -> int:
        return sum(size for _, size in self.setup.layers[self.tag])

    @property
    def output(self) -> Path:
        return self.setup.large_output if self.tag == "holes" else self.setup.output


def every(setup: Setup) -> Iterator[Row]:
    """Yield all rows in the order of the table."""
    for link in LINKS:
        once = bool(link.rate)  # what is bound by a rate takes the same time each time
        one, four = _Source(setup, link, "one"), _Source(setup, link, "four")
        yield from _rows(one, "blob", _blob, once=once)
        yield from _rows(one, "pull", _pull, once=once)
        yield from _rows(four, "pull, 4 layers", _pull, once=once)
    yield from _rows(_Source(setup, LINKS[0], "four"), "export", _export)
    yield from _rows(_Source(setup, LINKS[0], "four"), "extract", _extract)
    if "holes" in setup.layers:
        yield from _large(setup)


def _large(setup: Setup) -> Iterator[Row]:
    """Yield the rows whose memory counts; over a slow link only that of brolga, to save time."""
    plain, slow = (_Source(setup, link, "holes") for link in LINKS[:2])
    size = f"{plain.size / (1 << 30):.3g} GiB"
    for name, commands in (("blob", _blob), ("pull", _pull), ("export", _export)):
        yield from _rows(plain, f"{name}, {size}", commands, once=True)
    yield from islice(_rows(slow, f"blob, {size}", _blob, once=True), 1)


def _rows(
    source: _Source,
    task: str,
    commands: Callable[[_Source], Mapping[str, list[str]]],
    *,
    once: bool = False,
) -> Iterator[Row]:
    for tool, command in commands(source).items():
        if is_available(command):
            writes = str(source.output) in " ".join(command)
            output = source.output if writes else None
            yield Row(source.link, task, tool, tuple(command), source.size, output, once)


def is_available(command: Sequence[str]) -> bool:
    """Return whether this machine has the programs, packages and verbs of a command."""
    if command[0] == "sh":
        return all(shutil.which(word) for word in _PROGRAMS if f"{word} " in command[-1])
    probes = {_DXF: "import dxf", _ORAS_PY: "import oras.client"}
    probe: list[str] | None = None
    if command[1] == "-c":
        probe = [command[0], "-c", probes[command[2]]]
    elif command[1] == "extract":
        probe = [command[0], "extract", "--help"]
    try:
        if probe:
            process.run(probe)
    except process.Failed:
        return False
    return shutil.which(command[0]) is not None


_PROGRAMS = ("curl", "crane", "skopeo", "umoci", "tar")


def _blob(source: _Source) -> dict[str, list[str]]:
    """Read a blob into /dev/null. curl does not verify it."""
    host, _, port = source.address.rpartition(":")
    path = f"/v2/{NAME}/blobs/{source.digest}"
    ref = f"{source.address}/{NAME}@{source.digest}"
    bare = str(Path(__file__).with_name("bare.py"))
    peer, arguments = source.setup.peer_python, [source.address, NAME, source.digest]
    return {
        "brolga": [source.setup.brolga, "blob", ref],
        LIMITS[0]: [sys.executable, bare, "pull", port, path],
        LIMITS[1]: ["curl", "-sf", "-o", "/dev/null", f"http://{host}:{port}{path}"],
        LIMITS[2]: ["sh", "-c", _curls(f"http://{source.address}{path}", source.size)],
        "crane": ["crane", "blob", ref],
        "oras": ["oras", "blob", "fetch", "--plain-http", "--output", "-", ref],
        "regctl": [*_regctl(source), "blob", "get", f"{source.address}/{NAME}", source.digest],
        "python-dxf": [peer, "-c", _DXF, *arguments],
        "oras-py": [peer, "-c", _ORAS_PY, *arguments],
    }


def _regctl(source: _Source) -> list[str]:
    return ["regctl", "--host", f"reg={source.address},tls=disabled"]


def _curls(url: str, size: int) -> str:
    part = -(-size // CONNECTIONS)
    parts = (f"{start}-{min(start + part, size) - 1}" for start in range(0, size, part))
    commands = (f'curl -sf -o /dev/null -r {span} {url} & pids="$pids $!"; ' for span in parts)
    return "".join(commands) + "for pid in $pids; do wait $pid || exit 1; done"


def _pull(source: _Source) -> dict[str, list[str]]:
    """Copy an image into a layout."""
    skopeo = [*_SKOPEO, "--src-tls-verify=false", f"docker://{source.ref}"]
    oras = ["oras", "copy", "--no-tty", "--from-plain-http", source.ref]
    regctl = [*_regctl(source), "image", "copy", source.ref, f"ocidir://{source.output}:1"]
    return {
        "brolga": [source.setup.brolga, "pull", source.ref, f"oci:{source.output}:1"],
        "crane": ["crane", "pull", "--format", "oci", source.ref, str(source.output)],
        "skopeo": [*skopeo, _AS_IT_IS, f"oci:{source.output}:1"],
        "oras": [*oras, "--to-oci-layout", f"{source.output}:1"],
        "regctl": regctl,
    }


_SKOPEO = ("skopeo", "--insecure-policy", "copy", "--quiet")
# Else skopeo compresses the layer, which takes most of its time.
_AS_IT_IS = "--dest-oci-accept-uncompressed-layers"


def _export(source: _Source) -> dict[str, list[str]]:
    """Write the files of an image as a tar into /dev/null."""
    return {
        "brolga": [source.setup.brolga, "export", source.ref, "-"],
        "crane": ["crane", "export", source.ref, "-"],
    }


def _extract(source: _Source) -> dict[str, list[str]]:
    """Write the files of an image into a directory; umoci reads them from a layout."""
    output = source.output
    rootless = "" if os.geteuid() == 0 else " --rootless"
    unpack = f"umoci unpack{rootless} --image"
    copy = " ".join([*_SKOPEO, "--src-tls-verify=false", f"docker://{source.ref}"])
    crane = f"mkdir {output} && crane export {source.ref} - | tar -x -C {output}"
    both = f"{copy} oci:{output}/layout:1 && {unpack} {output}/layout:1 {output}/bundle"
    return {
        "brolga": [source.setup.brolga, "extract", source.ref, str(output)],
        "crane + tar": ["sh", "-c", crane],
        "umoci": ["sh", "-c", f"{unpack} {_layout(source.setup)}:1 {output}"],
        "skopeo + umoci": ["sh", "-c", f"mkdir {output} && {both}"],
    }


def _layout(setup: Setup) -> Path:
    return setup.output.with_name("layout")


def prepare(setup: Setup) -> None:
    """Copy the image that umoci reads into a layout."""
    source = _Source(setup, LINKS[0], "four")
    command = [setup.brolga, "pull", source.ref, f"oci:{_layout(setup)}:1"]
    process.run(command)
