"""cli.layout: an image layout as a whole."""

from __future__ import annotations

import json
import os
import threading
from typing import TYPE_CHECKING

import pytest
from tests.unit.cli.images import pushed

from brolga.images import Image, InMemoryBlob
from brolga.spec.index import Index
from brolga.stores.layout import Layout
from brolga.stream.layer import StreamLayer

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.cli.conftest import Brolga


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """Write a layout with an image, an old blob that nobody needs and a young one."""
    pushed(f"oci:{tmp_path}/layout:v1", Image.empty().append(StreamLayer([b""])))
    layout = Layout(tmp_path / "layout")
    old = layout.push(InMemoryBlob(b"old", "a/b"))
    os.utime(layout.path / "blobs" / "sha256" / old.digest.encoded, (0, 0))
    layout.push(InMemoryBlob(b"young", "a/b"))
    return layout


def test_what_was_deleted_is_told(brolga: Brolga, layout: Layout) -> None:
    """A line, or an object; with --dry-run nothing goes."""
    outcome = brolga("layout", "gc", "--dry-run", str(layout.path))
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out == "would delete 1 blob of 3 bytes; left 1 young one\n"
    outcome = brolga("layout", "gc", f"oci:{layout.path}", "--json")
    told = {"blobs": 1, "size": 3, "young": 1, "scratch": 0, "unread": []}
    assert json.loads(outcome.out) == told
    (layout.path / ".uploads" / "blob.1").touch()
    outcome = brolga("layout", "gc", "--older-than", "0", str(layout.path))
    assert outcome.out == "deleted 1 blob of 5 bytes, 1 file left over\n"


def test_images_without_a_name_go_too_where_it_is_asked_for(brolga: Brolga, layout: Layout) -> None:
    """`--untagged`."""
    pushed(f"oci:{layout.path}:v1", Image.empty().append(StreamLayer([b"b" * 512])))
    assert len(layout.whole().index.manifests) == 2
    assert brolga("layout", "gc", "--untagged", "--older-than", "0s", str(layout.path)).code == 0
    assert len(layout.whole().index.manifests) == 1


def test_it_says_that_it_waits(brolga: Brolga, layout: Layout) -> None:
    """A push that is under way may take its time."""
    entered, leave = threading.Event(), threading.Event()

    def write() -> None:
        with layout.writing():
            entered.set()
            leave.wait(30)

    thread = threading.Thread(target=write)
    thread.start()
    assert entered.wait(30)
    # It is told before the wait; the wait ends when the writer does.
    gc = Layout.gc

    def waited(self: Layout, **more: object) -> object:
        say = more.pop("waiting")

        def waiting() -> None:
            assert callable(say)
            say()
            leave.set()

        return gc(self, waiting=waiting, **more)  # type: ignore[arg-type] # as they were given

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Layout, "gc", waited)
        outcome = brolga("layout", "gc", str(layout.path))
    thread.join()
    assert (outcome.code, outcome.err) == (
        0,
        f"brolga: waiting for whoever writes into {layout.path}\n",
    )


def test_a_manifest_that_cannot_be_read_is_told_of(brolga: Brolga, layout: Layout) -> None:
    """A warning, by gc and by referrers; the rest is done."""
    image = layout.tree("v1")
    assert isinstance(image, Image)
    strange = image.manifest.raw[:-1] + b',"x":NaN}'
    described = layout.push(InMemoryBlob(strange, image.media_type))
    index = Index.new([*layout.whole().index.manifests, described])
    (layout.path / "index.json").write_bytes(index.raw)
    outcome = brolga("layout", "gc", str(layout.path))
    assert (outcome.code, outcome.out) == (0, "deleted 1 blob of 3 bytes; left 1 young one\n")
    what = f"{described.digest}: $.x: a number that JSON does not have, or out of range"
    assert outcome.err == (
        f"warning: {layout.path}: manifest {what}; all that it mentions is left\n"
    )
    outcome = brolga("referrers", f"oci:{layout.path}:v1")
    assert outcome.code == 0
    assert f"{described.digest} is passed over: " in outcome.err


@pytest.mark.parametrize("age", ["1w", "x", "-1", "1.5h", ""])
def test_what_is_no_time_is_usage(brolga: Brolga, age: str) -> None:
    """Exit code 2."""
    outcome = brolga("layout", "gc", "--older-than", age, "x")
    assert outcome.code == 2
    assert "is not a time: a number with s, m, h or d after it" in outcome.err


def test_what_is_no_layout_is_not_swept(brolga: Brolga, tmp_path: Path) -> None:
    """Not there: 3. Something else: 6."""
    assert brolga("layout", "gc", f"{tmp_path}/none").code == 3
    assert brolga("layout", "gc", str(tmp_path)).code == 6


def test_the_group_shows_its_help(brolga: Brolga) -> None:
    """`brolga layout` alone is a question."""
    outcome = brolga("layout")
    assert outcome.code == 2
    assert "gc  Delete the blobs that no image of a layout refers to." in outcome.err
