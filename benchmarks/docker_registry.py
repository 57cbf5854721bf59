"""docker-registry on a free port of 127.0.0.1, for the benchmarks that need one."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_PATIENCE_S = 30.0


def start(directory: Path, *, access_log: bool = False) -> subprocess.Popen[bytes]:
    """Start it on a directory; its configuration and its log are files beside the directory."""
    # It has no cache of what it stores: a benchmark may change that.
    config = {
        "version": "0.1",
        "log": {"level": "info", "accesslog": {"disabled": not access_log}},
        "storage": {"filesystem": {"rootdirectory": str(directory)}},
        "http": {"addr": "127.0.0.1:0"},
    }
    file = directory.with_suffix(".json")
    file.write_text(json.dumps(config))  # JSON is YAML
    with directory.with_suffix(".log").open("wb") as log:
        return subprocess.Popen(["docker-registry", "serve", file], stdout=log, stderr=log)


def wait_for_address(log: Path, process: subprocess.Popen[bytes]) -> str:
    """Wait until the log has the address on which the process listens; return it."""
    end = time.monotonic() + _PATIENCE_S
    while not (match := re.search(r"listening on ([0-9.]+:\d+)", log.read_text())):
        if process.poll() is not None or time.monotonic() > end:
            raise SystemExit(f"the registry did not start: {log.read_text()}")
        time.sleep(0.02)
    return match[1]


@contextmanager
def running(directory: Path, *, access_log: bool = False) -> Iterator[str]:
    """Run it; give its address."""
    if not shutil.which("docker-registry"):
        raise SystemExit("docker-registry is not on PATH: install it for this benchmark")
    process = start(directory, access_log=access_log)
    try:
        yield wait_for_address(directory.with_suffix(".log"), process)
    finally:
        process.kill()
        process.wait()
