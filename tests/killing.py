"""A writer of image layouts that is killed at every point; the tests look at what it leaves.

Knows the audit events of Python, by which each step of a writer can be counted. Must not know what
is right afterwards.

Strategy: run as a program, it makes one layout for each point: `DIR/0001`, `DIR/0002`, … Each has
an image already, `v1`. A child process then pushes an index of new images as `v1` and `v2`, and is
killed (SIGKILL) before its Nth step. The last layout is the one of a child that came to its end.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from tests.tars import entry, tar

from brolga.images import Image, ImageIndex
from brolga.spec.platform import Platform
from brolga.stores.copy import push
from brolga.stores.layout import Layout
from brolga.stream.layer import StreamLayer

__all__ = ["killed_layouts"]

# Each changes what is on disk, or comes right before what does.
_STEPS = frozenset({"open", "os.rename", "os.mkdir", "os.remove", "os.utime", "fcntl.flock"})
_DATA = bytes(range(256)) * 8192  # two blocks


def killed_layouts(directory: Path) -> list[Path]:
    """Run this program; return the layouts that it left, in order."""
    root = Path(__file__).parents[1]
    subprocess.run(
        [sys.executable, __file__, directory],
        check=True,
        env=os.environ | {"PYTHONPATH": f"{root}{os.pathsep}{root / 'src'}"},
    )
    return sorted(directory.glob("[0-9]*"))


def _layer(text: str) -> StreamLayer:
    return StreamLayer([tar(entry(text, _DATA))], threads=1)


def _write(path: Path) -> None:
    layout = Layout(path)
    index = ImageIndex.empty()
    with layout.writing():
        for architecture in ("amd64", "arm64"):
            image = Image.empty(Platform("linux", architecture)).append(_layer(architecture))
            push(layout, image)
            index = index.append(image)
        push(layout, index, "v1")
        push(layout, index, "v2")
        layout.delete("v2")


def _killed_at(step: int, path: Path) -> bool:
    """Write in a child that ends before its Nth step; return whether it came to that."""
    child = os.fork()
    if child == 0:
        left = step

        def count(event: str, arguments: tuple[object, ...]) -> None:
            nonlocal left
            if event in _STEPS and (event == "fcntl.flock" or str(path) in str(arguments[0])):
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)
        _write(path)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def _main(directory: Path) -> None:
    first = directory / "first"
    push(Layout(first), Image.empty().append(_layer("first")), "v1")
    step, killed = 0, True
    while killed:
        step += 1
        path = directory / f"{step:04}"
        shutil.copytree(first, path)
        killed = _killed_at(step, path)


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
