"""Measure how long commands take from start to exit; one table.

    python benchmarks/start.py            the medians of 20 runs, one command after the other
    python benchmarks/start.py --runs 3   does it all work?
    python benchmarks/start.py --modules  where the imports of `digest` take their time

A multiple is of `python -I -c pass`. CPU is what the process itself takes, so that it does not wait
for the registry. The verbs talk to an embedded registry in another process, as do peers on PATH.
"""

from __future__ import annotations

import argparse
import compileall
import re
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Final

import process

import brolga

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from process import Usage

_BASE: Final = "python -I -c pass"
# At most so many multiples.
_TARGETS: Final = {
    "import brolga": 1.5,
    "brolga version": 4.6,
    "brolga digest": 8.0,
    "brolga ls": 8.0,
    "brolga manifest": 8.0,
    "brolga layer push (empty)": 9.0,
    "brolga digest --help": 8.0,
}
_MIN_SHOWN_MS: Final = 0.4


def main() -> None:
    """Measure all commands, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=20, metavar="N", help="runs of each command")
    parser.add_argument("--modules", action="store_true", help="by module, of `digest`")
    options = parser.parse_args()
    # Installed packages are compiled; a source tree may not be.
    compileall.compile_dir(Path(brolga.__file__).parent, quiet=1)
    with _registry() as host:
        if options.modules:
            lines = _module_table(_import_times(host, options.runs))
        else:
            commands = {**_own_commands(host), **_peers(host)}
            lines = _table(_measure(commands, options.runs))
        for line in lines:
            print(line)


@contextmanager
def _registry() -> Iterator[str]:
    """Run an embedded registry with one image, `app:v1`; yield its HOST:PORT."""
    command = [sys.executable, "-m", "brolga", "registry", "serve", "--port", "0"]
    with tempfile.TemporaryDirectory() as directory:
        server = subprocess.Popen(
            [*command, directory], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        try:
            assert server.stdout is not None  # noqa: S101 - it is a pipe
            host = server.stdout.readline().strip().replace("127.0.0.1", "localhost")
            image = brolga.Image.empty()
            brolga.push(f"{host}/app:v1", image)
            yield host
        finally:
            server.terminate()
            server.wait()


def _own_commands(host: str) -> dict[str, Sequence[str]]:
    own = shutil.which("brolga", path=str(Path(sys.executable).parent)) or "brolga"
    verbs = {
        "brolga version": ["version"],
        "brolga digest": ["digest", f"{host}/app:v1"],
        "brolga ls": ["ls", f"{host}/app"],
        "brolga manifest": ["manifest", f"{host}/app:v1"],
        "brolga layer push (empty)": ["layer", "push", f"{host}/empty"],
        "brolga digest --help": ["digest", "--help"],
    }
    return {
        _BASE: [sys.executable, "-I", "-c", "pass"],
        "import brolga": [sys.executable, "-c", "import brolga"],
        **{name: [own, *arguments] for name, arguments in verbs.items()},
    }


def _peers(host: str) -> dict[str, Sequence[str]]:
    """Return what the peers on PATH call `digest`."""
    image = f"{host}/app:v1"
    peers = {
        "crane digest": ["crane", "digest", "--insecure", image],
        "oras resolve": ["oras", "resolve", "--plain-http", image],
        "skopeo inspect": ["skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{image}"],
    }
    return {name: command for name, command in peers.items() if shutil.which(command[0])}


def _measure(commands: Mapping[str, Sequence[str]], runs: int) -> dict[str, list[Usage]]:
    """Run the commands in turns; return what each run took."""
    samples: dict[str, list[Usage]] = {name: [] for name in commands}
    for number in range(runs + 1):
        for name, command in commands.items():
            usage = process.run(command)
            if number:  # the first run fills the caches
                samples[name].append(usage)
    return samples


def _table(samples: Mapping[str, Sequence[Usage]]) -> Iterator[str]:
    """Yield a line for each command: medians, and multiples of the first one's."""
    wall_s, cpu_s = (
        {name: median(getattr(usage, field) for usage in runs) for name, runs in samples.items()}
        for field in ("wall_s", "cpu_s")
    )
    yield f"{'':28}{'wall ms':>8}{'multiple':>10}{'target':>8}{'CPU ms':>8}{'multiple':>10}"
    for name in samples:
        multiple, target = wall_s[name] / wall_s[_BASE], _TARGETS.get(name)
        missed = "  missed" if target is not None and multiple > target else ""
        yield (
            f"{name:28}{1000 * wall_s[name]:8.1f}{multiple:10.2f}{target or '':>8}"
            f"{1000 * cpu_s[name]:8.1f}{cpu_s[name] / cpu_s[_BASE]:10.2f}{missed}"
        )


def _import_times(host: str, runs: int) -> dict[str, list[float]]:
    """Return how long the modules of each package take by themselves, in milliseconds."""
    code = "from brolga.cli.main import main; main()"
    command = [sys.executable, "-X", "importtime", "-c", code, "digest", f"{host}/app:v1"]
    samples: dict[str, list[float]] = {}
    for _ in range(runs):
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        lines = re.findall(r"import time: +(\d+) \| +\d+ \| +(\S+)", done.stderr)
        names = [name for _, name in lines]
        for microseconds, name in lines[names.index("site") + 1 :]:  # after Python's own start
            samples.setdefault(name, []).append(int(microseconds) / 1000)
    packages: dict[str, list[float]] = {}
    for name, times in samples.items():
        package = ".".join(name.split(".")[: 2 if name.startswith("brolga.") else 1])
        packages.setdefault(package, []).append(median(times))
    return packages


def _module_table(packages: Mapping[str, Sequence[float]]) -> Iterator[str]:
    """Yield a line for each package that takes long, and one for the others."""
    yield f"{'package':28}{'modules':>8}{'ms':>8}"
    ranked = sorted(packages.items(), key=lambda item: -sum(item[1]))
    shown = [(name, times) for name, times in ranked if sum(times) >= _MIN_SHOWN_MS]
    rest = [time for name, times in ranked if sum(times) < _MIN_SHOWN_MS for time in times]
    whole = [time for times in packages.values() for time in times]
    for name, times in [*shown, ("others", rest), ("sum", whole)]:
        yield f"{name:28}{len(times):8}{sum(times):8.1f}"


if __name__ == "__main__":
    main()
