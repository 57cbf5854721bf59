"""manifest/history.py: entries, and how they are counted against the layers."""

import pickle

import pytest

from brolga.errors import InvalidManifest
from brolga.spec.config import History, align_history, count_layers

A, B, C = (History(created_by=name) for name in "abc")
NONE = History(created_by="ENV", empty_layer=True)


def test_an_entry_is_read_and_written() -> None:
    """Each field of config.md, history, and what it does not define."""
    document = {
        "created": "2026-01-01T00:00:00Z",
        "created_by": "a",
        "author": "b",
        "comment": "c",
        "empty_layer": True,
        "x": {"y": [1]},
    }
    entry = History.from_dict(document)
    assert entry == History("2026-01-01T00:00:00Z", "a", "b", "c", True, extra={"x": {"y": [1]}})
    assert entry.to_dict() == document
    assert History.from_dict({"created": None}).to_dict() == {}
    assert pickle.loads(pickle.dumps(entry)) == entry  # noqa: S301 - made in this line
    assert len({entry, History.from_dict(document)}) == 1


@pytest.mark.parametrize(
    ("document", "why"),
    [
        ([], r"^\$: must be an object, not an array"),
        ({"created_by": 1}, r"^\$\.created_by: must be a string, not a number"),
        ({"empty_layer": 1}, r"^\$\.empty_layer: must be true or false, not a number"),
    ],
)
def test_a_wrong_entry_is_refused(document: object, why: str) -> None:
    """'empty_layer boolean, OPTIONAL' (config.md, history)."""
    with pytest.raises(InvalidManifest, match=why):
        History.from_dict(document)


@pytest.mark.parametrize(
    ("history", "layers", "expected"),
    [
        ((), 0, ()),
        ((A, NONE, B), 2, (A, NONE, B)),
        ((), 2, (History(), History())),
        ((A, NONE), 2, (A, NONE, History())),
        ((A, B, NONE, C), 1, (A, "b", NONE, "c")),
        ((A,), 0, ("a",)),
    ],
)
def test_there_is_an_entry_for_each_layer(
    history: tuple[History, ...], layers: int, expected: tuple[History | str, ...]
) -> None:
    """Docker: 'invalid history: the number of non-empty entries must match the layers'."""
    wanted = tuple(
        History(created_by=entry, empty_layer=True) if isinstance(entry, str) else entry
        for entry in expected
    )
    assert align_history(history, layers) == wanted
    assert count_layers(wanted) == layers
