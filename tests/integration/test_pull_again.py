"""Pulls that are killed, stopped or cut, and run again; and pulls of the same image at a time."""

from __future__ import annotations

import random
import re
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias

import pytest
from tests.images import assert_valid, digest_of
from tests.processes import brolga_text, finish, start_brolga, wait_until
from tests.real.cutting import Fault, proxy
from tests.tars import entry, tar

from brolga.client import Client
from brolga.images import Image
from brolga.stores.layout import Layout
from brolga.stream.layer import StreamLayer

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.real.cutting import Proxy

    from brolga.testing.plugin import BrolgaRegistry

# Less than two parts of a blob that is read over several connections.
DATA = tar(entry("file", random.Random(1).randbytes(6 << 20)))
STALLED = 4 << 20  # bytes of a connection
KEPT = "the bytes that came are kept: run it again, and it goes on from there"
WAITS = b"waits for another program, or thread, that fetches the same blob\n"


@pytest.fixture
def between(brolga_registry: BrolgaRegistry) -> Iterator[Proxy]:
    """Push an image with one large layer, and put a proxy in front of the registry."""
    with Client() as client:
        layer = StreamLayer([DATA], compression="none")
        client.push(f"{brolga_registry.repository('app')}:v1", Image.empty().append(layer))
    brolga_registry.use()
    with proxy(brolga_registry.address) as running:
        yield running


def to_layout(address: str, directory: Path) -> tuple[str, ...]:
    return "pull", f"{address}/app:v1", f"oci:{directory}/layout"


def to_file(address: str, directory: Path) -> tuple[str, ...]:
    return "blob", f"{address}/app@{digest_of(DATA)}", "-o", f"{directory}/file"


def to_stream(address: str, directory: Path) -> tuple[str, ...]:
    return "layer", "pull", f"{address}/app:v1", "-o", f"{directory}/file"


Form: TypeAlias = "Callable[[str, Path], tuple[str, ...]]"
each_form = pytest.mark.parametrize(
    "form", [to_layout, to_file, to_stream], ids=["layout", "file", "stream"]
)


def partial_size(directory: Path) -> int:
    """Return the size of the only partial file; 0 if there is none."""
    paths = [*directory.glob("**/partial.*"), *directory.glob("**/.*.partial")]
    return max((path.stat().st_size for path in paths), default=0)


def check(directory: Path) -> None:
    """Check that the blob is whole, and that nothing else is left."""
    assert partial_size(directory) == 0
    if (directory / "file").exists():
        assert (directory / "file").read_bytes() == DATA
    else:
        assert_valid(Layout(directory / "layout").tree("v1"))


def ranges(registry: BrolgaRegistry) -> list[str]:
    """Return the Range of each request for the layer, in order; "" for all of it."""
    found = [each for each in registry.requests if each.path.endswith(digest_of(DATA))]
    lower = [{key.lower(): value for key, value in each.headers.items()} for each in found]
    return [headers.get("range", "") for headers in lower]


@contextmanager
def stalled(
    between: Proxy, arguments: tuple[str, ...], directory: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """Start the command, and wait until it has written what comes before a stall."""
    struck = between.struck
    between.arm(Fault(act="stall", direction="down", offset=STALLED))
    before = partial_size(directory)
    with start_brolga(*arguments) as process:
        between.wait_until_struck(struck + 1)
        wait_until(lambda: partial_size(directory) > before)
        yield process


@each_form
def test_pull_that_was_killed_goes_on(
    brolga_registry: BrolgaRegistry, between: Proxy, tmp_path: Path, form: Form
) -> None:
    """SIGKILL: what is on disk is not fetched again, and the file has its name at the end."""
    arguments = form(between.address, tmp_path)
    with stalled(between, arguments, tmp_path) as process:
        assert not (tmp_path / "file").exists()
        process.kill()
        process.wait()
    size = partial_size(tmp_path)
    assert 0 < size < len(DATA)
    brolga_text(*arguments)
    check(tmp_path)
    assert ranges(brolga_registry) == ["", f"bytes={size}-"]


@each_form
def test_pull_that_was_killed_finds_damage(
    brolga_registry: BrolgaRegistry, between: Proxy, tmp_path: Path, form: Form
) -> None:
    """If a byte on disk is wrong, all is fetched again in the same run."""
    arguments = form(between.address, tmp_path)
    with stalled(between, arguments, tmp_path) as process:
        process.kill()
        process.wait()
    size = partial_size(tmp_path)
    (path,) = {*tmp_path.glob("**/partial.*"), *tmp_path.glob("**/.*.partial")}
    with path.open("r+b") as file:
        file.write(b"damage")
    brolga_text(*arguments)
    check(tmp_path)
    assert ranges(brolga_registry) == ["", f"bytes={size}-", ""]


@each_form
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_pull_that_was_stopped_goes_on(
    brolga_registry: BrolgaRegistry, between: Proxy, tmp_path: Path, form: Form, name: str
) -> None:
    """The last line says that it can be run again."""
    arguments, number = form(between.address, tmp_path), signal.Signals[name]
    with stalled(between, arguments, tmp_path) as process:
        process.send_signal(number)
        code, _, line = finish(process)
    assert code == 128 + number
    text = "interrupted" if number == signal.SIGINT else f"stopped by {name}"
    assert line == f"brolga: {text}; {KEPT}\n"
    size = partial_size(tmp_path)
    brolga_text(*arguments)
    check(tmp_path)
    assert ranges(brolga_registry) == ["", f"bytes={size}-"]


@each_form
def test_pull_waits_for_another_that_fetches_the_blob(
    brolga_registry: BrolgaRegistry, between: Proxy, tmp_path: Path, form: Form
) -> None:
    """Two processes fetch it once, and both succeed."""
    arguments = form(between.address, tmp_path)
    with stalled(between, arguments, tmp_path) as first, start_brolga(*arguments) as second:
        assert second.stderr is not None
        assert re.fullmatch(b"warning: .*: " + WAITS, second.stderr.readline())
        between.release()
        assert finish(first)[0] == finish(second)[0] == 0
    check(tmp_path)
    assert ranges(brolga_registry) == [""]


@each_form
def test_pull_takes_over_from_another_that_is_killed(
    brolga_registry: BrolgaRegistry, between: Proxy, tmp_path: Path, form: Form
) -> None:
    """The one that waits goes on with the bytes of the one that died."""
    arguments = form(between.address, tmp_path)
    with stalled(between, arguments, tmp_path) as first, start_brolga(*arguments) as second:
        assert second.stderr is not None
        second.stderr.readline()
        size = partial_size(tmp_path)
        first.kill()
        assert finish(second)[0] == 0
    check(tmp_path)
    assert ranges(brolga_registry) == ["", f"bytes={size}-"]


def test_pull_that_waits_can_be_interrupted(between: Proxy, tmp_path: Path) -> None:
    """Ctrl-C ends it at once, and does not touch what the other one has."""
    arguments = to_layout(between.address, tmp_path)
    with stalled(between, arguments, tmp_path) as first:
        with start_brolga(*arguments) as second:
            assert second.stderr is not None
            second.stderr.readline()
            second.send_signal(signal.SIGINT)
            assert finish(second) == (130, "", "brolga: interrupted\n")
        between.release()
        assert finish(first)[0] == 0
    check(tmp_path)


@each_form
def test_pull_survives_cuts_and_two_kills(
    brolga_registry: BrolgaRegistry, between: Proxy, tmp_path: Path, form: Form
) -> None:
    """Each request goes on; a kill costs no more than the bytes that were in memory."""
    arguments = form(between.address, tmp_path)
    sizes = [0]
    for _ in range(2):
        between.arm(Fault(act="cut", direction="down", offset=1 << 20, times=1))
        between.arm(Fault(act="stall", direction="down", offset=(1 << 20) + 1000, after=b"206"))
        struck = between.struck
        with start_brolga(*arguments) as process:
            between.wait_until_struck(struck + 2)
            process.kill()
            process.wait()
        sizes.append(partial_size(tmp_path))
    brolga_text(*arguments)
    check(tmp_path)
    starts = [int(re.sub("[^0-9]", "", each) or 0) for each in ranges(brolga_registry)]
    assert len(starts) == 5  # each run that was killed made two requests
    assert starts[::2] == sizes == sorted(sizes)
    assert starts[1] > 0
    assert starts[3] > starts[2]
