"""A writer of image layouts that is killed at every point; tests look at what it leaves.

Run as a program, it makes one layout for each point: `DIR/0001`, `DIR/0002`, … Each has an image
`v1` at first. A child process pushes an index of new images as `v1` and `v2`, copies the image of
the layout `DIR/source` as `copied`, and is killed (SIGKILL) before one of its steps. The child of
the last layout comes to its end.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tests.tars import entry, tar

from brolga.images import Image, ImageIndex
from brolga.spec.platform import Platform
from brolga.stores.layout import Layout
from brolga.stores.push import push
from brolga.stream.layer import StreamLayer

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["contents", "copy_source", "killed_layouts"]

# The audit events that change the disk, or that come right before an operation that does.
_STEPS = frozenset({"open", "os.rename", "os.mkdir", "os.remove", "os.utime", "fcntl.flock"})


def killed_layouts(directory: Path) -> list[Path]:
    """Run this program; return the layouts that it left, in order."""
    root = Path(__file__).parents[1]
    subprocess.run(
        [sys.executable, __file__, directory],
        check=True,
        env=os.environ | {"PYTHONPATH": f"{root}{os.pathsep}{root / 'src'}"},
    )
    return sorted(directory.glob("[0-9]*"))


def contents(layout: Path) -> tuple[bytes, frozenset[tuple[str, int]]]:
    """Return what a reader sees of a layout: index.json, the names and sizes of the blobs."""
    blobs = frozenset((path.name, path.stat().st_size) for path in layout.glob("blobs/*/*"))
    return (layout / "index.json").read_bytes(), blobs


def copy_source(path: Path) -> None:
    """Copy the image of `source`, which lies beside a layout, into that layout."""
    push(Layout(path), Layout(path.parent / "source").tree(), "copied", jobs=1)


def _layer(text: str) -> StreamLayer:
    return StreamLayer([tar(entry(text, text.encode()))], threads=1)


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
    copy_source(path)


def _write_in_child(path: Path, before_step: Callable[[int], None]) -> int:
    """Write in a child that calls `before_step` with the number of each step; return its status."""
    child = os.fork()
    if child == 0:
        step = 0

        def count(event: str, arguments: tuple[object, ...]) -> None:
            nonlocal step
            if event in _STEPS and (event == "fcntl.flock" or str(path) in str(arguments[0])):
                step += 1
                before_step(step)

        sys.addaudithook(count)
        _write(path)
        os._exit(0)
    return os.waitpid(child, 0)[1]


def _on_disk(path: Path) -> list[tuple[str, int, int, int]]:
    entries = []
    for directory, _, names in os.walk(path):
        for name in (".", *names):
            status = (Path(directory) / name).lstat()
            entries.append(
                (f"{directory}/{name}", status.st_ino, status.st_size, status.st_mtime_ns)
            )
    return sorted(entries)


def _steps_of_change(path: Path, log: Path) -> list[int]:
    """Write once; return the steps before which the disk is not as before the step before."""
    before: object = None
    looking = False

    def compare(step: int) -> None:
        nonlocal before, looking
        if not looking:
            looking = True
            now = _on_disk(path)
            if now != before:
                with log.open("a") as file:
                    file.write(f"{step}\n")
            before, looking = now, False

    assert _write_in_child(path, compare) == 0
    return [int(line) for line in log.read_text().split()]


def _main(directory: Path) -> None:
    first = directory / "first"
    push(Layout(first), Image.empty().append(_layer("first")), "v1")
    push(Layout(directory / "source"), Image.empty().append(_layer("a"), _layer("b")), "v1")
    shutil.copytree(first, directory / "counted")
    steps = _steps_of_change(directory / "counted", directory / "log")
    # The last step does not come: that child ends by itself.
    for number, last_step in enumerate([*steps, sys.maxsize], 1):
        path = directory / f"{number:04}"
        shutil.copytree(first, path)

        def kill(step: int, last_step: int = last_step) -> None:
            if step == last_step:
                os.kill(os.getpid(), signal.SIGKILL)

        status = _write_in_child(path, kill)
        assert os.WIFSIGNALED(status) == (last_step != sys.maxsize)


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
