"""Whiteouts that come again and again: no directory is listed twice for them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
from tests.extracted import extract, files_in
from tests.layer_readers import stack, without_traces
from tests.tars import tar

if TYPE_CHECKING:
    from pathlib import Path

OPAQUE = ".wh..wh..opq"
DEEP = ["/".join(["a"] * depth) for depth in range(1, 31)]

LAYERS = {
    "opaque": ["d/", "d/x", *[f"d/{OPAQUE}"] * 50],
    "of one name": ["d/", "d/x", *[".wh.d"] * 50],
    "opaque, then of the name": ["d/", "d/x", *[f"d/{OPAQUE}", ".wh.d"] * 50],
    "opaque at each level, inner first": ["b", *(f"{path}/{OPAQUE}" for path in DEEP[::-1])],
    "opaque at each level, outer first": ["b", *(f"{path}/{OPAQUE}" for path in DEEP)],
    "of each level, inner first": [
        f"{DEEP[-1]}/x",
        *(f"{path}/.wh.a" for path in DEEP[-2::-1]),
        ".wh.a",
    ],
    "below an opaque directory": [
        f"{DEEP[-1]}/x",
        f"a/{OPAQUE}",
        *(f"{path}/.wh.{name}" for path in DEEP[:-1] for name in "abc"),
    ],
}


@pytest.mark.parametrize("name", LAYERS)
def test_directory_is_listed_once_for_all_whiteouts_of_layer(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time is not the product of the files of a layer and its whiteouts."""
    listed = 0
    scan = os.scandir

    def count(path: Any) -> Any:
        nonlocal listed
        listed += isinstance(path, int)
        return scan(path)

    lower = tar("d/old", f"{DEEP[-1]}/old", f"{DEEP[3]}/old")
    upper = tar(*LAYERS[name])
    monkeypatch.setattr(os, "scandir", count)
    extract(tmp_path / "root", lower, upper)
    monkeypatch.undo()
    assert listed <= len(DEEP) + 3
    present, wanted = files_in(tmp_path / "root").keys(), stack([lower, upper])
    assert without_traces(wanted).keys() <= present <= wanted.keys()
