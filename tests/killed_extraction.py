"""An extraction that is killed at every point, and run again; one that another process disturbs.

Run as a program, `killed` or `swapped`, it extracts some layers in a child process. Before one of
its steps the child is killed (SIGKILL); then the layers are extracted again in the same directory.
Or directories are replaced by links to the outside, as another process could do it between any two
system calls. It prints what is not as it should be. A step is whatever changes the disk, or a block
that is read.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from tests.file_trees import link_groups, read_tree
from tests.guard import guarded
from tests.tars import entry, link, symlink, tar

from brolga.errors import BrolgaError
from brolga.extract import ExtractOptions, extract_layers
from brolga.images.blobs import BlockStream, InMemoryBlob
from brolga.spec.mediatypes import OCI_LAYER

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable
    from pathlib import Path

    from tests.file_trees import Item
    from tests.guard import Guard

    from brolga.spec.blob import Block

__all__ = ["compare_killed", "compare_swapped"]

# The audit events that change the disk, or that come right before an operation that does.
_STEPS: Final = frozenset(
    {
        *("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink"),
        *("os.chmod", "os.chown", "os.utime", "os.truncate", "os.setxattr", "read a block"),
    }
)
_OLD: Final[dict[str, Any]] = {"mtime": 1_000_000_000}

STACK: Final = (
    tar(
        entry("./", mode=0o755, **_OLD),
        entry("d/", mode=0o750, **_OLD),
        entry("d/a", b"1" * 3000, mode=0o640, **_OLD),
        link("d/b", "d/a"),
        entry("e/", mode=0o500, **_OLD),
        entry("e/f/", mode=0o700, **_OLD),
        entry("e/f/a", b"2", **_OLD),
        entry("g", b"3", **_OLD),
        symlink("s", "d"),
    ),
    tar(
        entry("d/a", b"4" * 2000, **_OLD),
        link("h", "g"),
        "e/f/.wh.a",
        entry("e/g", b"5", **_OLD),
        entry("s/", mode=0o711, **_OLD),
        entry("s/x", b"6", pax_headers={"SCHILY.xattr.user.a": "b"}, **_OLD),
    ),
    tar(
        ".wh.g",
        entry("d/", mode=0o555, mtime=2_000_000_000),
        "d/.wh..wh..opq",
        link("d/c", "h"),
        entry("e", b"7", **_OLD),
        symlink("s", "e"),
        link("t", "s"),
    ),
)


class _Blob(InMemoryBlob):
    """A blob in small blocks; reading one is a step."""

    def open(self) -> BlockStream:
        def blocks() -> Generator[Block, None, None]:
            for start in range(0, len(self.data), 700):
                sys.audit("read a block", "")
                yield self.data[start : start + 700]

        return BlockStream(blocks())


def compare_killed(kill_points: Callable[[int], Iterable[int]]) -> list[str]:
    """Extract whole once; then for each point that `kill_points` returns, of so many, kill.

    Return what is different after the second run.
    """
    problems = []
    with guarded() as guard:  # so that everything is imported
        _extract(guard.directory)
    with guarded() as guard:
        steps = int(_extract_in_child(guard.directory, sys.maxsize, _kill))
        whole = read_tree(guard.directory)
        assert not [path for path in whole if b".brolga" in path]
    for point in kill_points(steps):
        with guarded() as guard:
            if text := _extract_in_child(guard.directory, point, _kill):
                problems.append(f"{point} of {steps}: it was not killed: {text}")
            wanted = whole
            if (guard.directory / ".brolga-extract").exists() or not any(
                guard.root.glob("parent/DIR/*")
            ):
                _extract(guard.directory)
            else:  # it was complete, but for the time of the directory itself
                wanted = whole | {b"": read_tree(guard.directory)[b""]}
            problems += [
                f"{point} of {steps}: {text}"
                for text in (
                    *_differences(wanted, read_tree(guard.directory)),
                    *(f"{path!r} outside changed" for path in guard.changes()),
                )
            ]
    return problems


def compare_swapped(points: Callable[[int], Iterable[int]]) -> list[str]:
    """Extract, and replace directories by links before a step; return what changed outside."""
    problems = []
    with guarded() as guard:
        steps = int(_extract_in_child(guard.directory, sys.maxsize, _kill))
    for point in points(steps):
        with guarded() as guard:
            text = _extract_in_child(guard.directory, point, partial(_swap, guard))
            if not text.isdigit():
                problems.append(f"swapped at {point} of {steps}: {text}")
            changed = guard.changes()
            problems += [f"swapped at {point} of {steps}: {path!r} changed" for path in changed]
    return problems


def _extract(directory: Path) -> None:
    options = ExtractOptions(on_warning=lambda _: None)
    extract_layers([_Blob(data, OCI_LAYER) for data in STACK], directory, options)


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _swap(guard: Guard) -> None:
    """Replace directories by links to the outside."""
    for name in ("d", "e/f", "e"):
        path = guard.directory / name
        if path.is_dir() and not path.is_symlink():
            path.rename(path.with_name(f"{path.name}.moved"))
            path.symlink_to(guard.outside)


def _extract_in_child(directory: Path, point: int, act: Callable[[], None]) -> str:
    """Extract in a child, which acts before a step.

    Return the number of steps, or what was raised if it is not one of our errors.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        step = 0

        def count(event: str, arguments: tuple[object, ...]) -> None:
            nonlocal step
            if event in _STEPS:
                step += 1
                if step == point:
                    act()

        sys.addaudithook(count)
        try:
            with suppress(BrolgaError):
                _extract(directory)
            os.write(writer, b"%d" % step)
        except BaseException as error:  # noqa: BLE001 - it is passed on as a text
            os.write(writer, repr(error).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    return text


def _differences(whole: dict[bytes, Item], tree: dict[bytes, Item]) -> list[str]:
    """Compare two trees, but for what two runs have otherwise."""
    texts = [] if link_groups(whole) == link_groups(tree) else [f"links: {link_groups(tree)}"]
    for path in sorted(whole.keys() | tree.keys()):
        pair = whole.get(path), tree.get(path)
        wanted, found = (each and each._replace(ctime_ns=0, inode=0, links=0) for each in pair)
        if wanted != found:
            texts.append(f"{path!r} is {found}, wanted {wanted}")
    return texts


def _main() -> int:
    compare = {"killed": compare_killed, "swapped": compare_swapped}[sys.argv[1]]
    problems = compare(lambda steps: range(1, steps + 1))
    print("\n".join(problems), end="")  # noqa: T201 - the result of the program
    return 0


if __name__ == "__main__":
    sys.exit(_main())
