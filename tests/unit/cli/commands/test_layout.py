"""brolga layout gc."""

from __future__ import annotations

import json
import os
import threading
from typing import TYPE_CHECKING

import pytest
from tests.cli_images import push_image

from brolga.images import Image, InMemoryBlob
from brolga.spec.index import Index
from brolga.stores.layout import Layout
from brolga.stream.layer import StreamLayer

if TYPE_CHECKING:
    from pathlib import Path

    from tests.command import Brolga


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """Write a layout with an image, and an old and a young blob that no image refers to."""
    push_image(f"oci:{tmp_path}/layout:v1", Image.empty().append(StreamLayer([b""])))
    layout = Layout(tmp_path / "layout")
    old = layout.push(InMemoryBlob(b"old", "a/b"))
    os.utime(layout.path / "blobs" / "sha256" / old.digest.encoded, (0, 0))
    layout.push(InMemoryBlob(b"young", "a/b"))
    return layout


def test_gc_prints_what_was_deleted(brolga: Brolga, layout: Layout) -> None:
    """As a line or an object; with --dry-run nothing is deleted."""
    outcome = brolga("layout", "gc", "--dry-run", str(layout.path))
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out == "would delete 1 blob of 3 bytes; kept 1 young one\n"
    outcome = brolga("layout", "gc", f"oci:{layout.path}", "--json")
    expected = {"blobs": 1, "size": 3, "young": 1, "scratch": 0, "unread": []}
    assert json.loads(outcome.out) == expected
    (layout.path / ".uploads" / "blob.1").touch()
    outcome = brolga("layout", "gc", "--older-than", "0", str(layout.path))
    assert outcome.out == "deleted 1 blob of 5 bytes, 1 file left over\n"


def test_gc_untagged_deletes_images_without_name(brolga: Brolga, layout: Layout) -> None:
    """`--untagged`."""
    push_image(f"oci:{layout.path}:v1", Image.empty().append(StreamLayer([b"b" * 512])))
    assert len(layout.whole().index.manifests) == 2
    assert brolga("layout", "gc", "--untagged", "--older-than", "0s", str(layout.path)).code == 0
    assert len(layout.whole().index.manifests) == 1


def test_gc_prints_that_it_waits(brolga: Brolga, layout: Layout) -> None:
    """A running push may take long."""
    entered, leave = threading.Event(), threading.Event()

    def write() -> None:
        with layout.writing():
            entered.set()
            leave.wait(30)

    thread = threading.Thread(target=write)
    thread.start()
    assert entered.wait(30)
    # The line comes before the wait, which ends when the writer does.
    gc = Layout.gc

    def waited(self: Layout, **more: object) -> object:
        say = more.pop("waiting")

        def waiting() -> None:
            assert callable(say)
            say()
            leave.set()

        return gc(self, waiting=waiting, **more)  # type: ignore[arg-type] # passed on

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Layout, "gc", waited)
        outcome = brolga("layout", "gc", str(layout.path))
    thread.join()
    assert (outcome.code, outcome.err) == (
        0,
        f"brolga: waiting for another writer of {layout.path}\n",
    )


def test_gc_and_referrers_warn_of_unreadable_manifest(brolga: Brolga, layout: Layout) -> None:
    """A warning, by gc and by referrers; the rest is done."""
    image = layout.tree("v1")
    assert isinstance(image, Image)
    strange = image.manifest.raw[:-1] + b',"x":NaN}'
    described = layout.push(InMemoryBlob(strange, image.media_type))
    index = Index.new([*layout.whole().index.manifests, described])
    (layout.path / "index.json").write_bytes(index.raw)
    outcome = brolga("layout", "gc", str(layout.path))
    assert (outcome.code, outcome.out) == (0, "deleted 1 blob of 3 bytes; kept 1 young one\n")
    what = f"{described.digest}: $.x: a number that JSON does not have, or out of range"
    assert outcome.err == (f"warning: {layout.path}: manifest {what}; what it refers to is kept\n")
    outcome = brolga("referrers", f"oci:{layout.path}:v1")
    assert outcome.code == 0
    assert f"{described.digest} is passed over: " in outcome.err


@pytest.mark.parametrize("age", ["1w", "x", "-1", "1.5h", ""])
def test_gc_rejects_invalid_time(brolga: Brolga, age: str) -> None:
    """Exit code 2."""
    outcome = brolga("layout", "gc", "--older-than", age, "x")
    assert outcome.code == 2
    assert "is not a valid time: use a number with suffix s, m, h or d" in outcome.err


def test_gc_rejects_other_directory(brolga: Brolga, tmp_path: Path) -> None:
    """Not there: 3. Something else: 6."""
    assert brolga("layout", "gc", f"{tmp_path}/none").code == 3
    assert brolga("layout", "gc", str(tmp_path)).code == 6


def test_layout_prints_help(brolga: Brolga) -> None:
    """`brolga layout` alone is a question."""
    outcome = brolga("layout")
    assert outcome.code == 2
    assert "gc  Delete the blobs that no image of a layout refers to." in outcome.err
