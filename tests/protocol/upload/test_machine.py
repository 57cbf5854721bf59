"""upload/machine.py: the states of an upload, their transitions, and the figure of them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args
from xml.etree import ElementTree as ET

import pytest
from tests.protocol.driver import BLOB, PING

from brolga.errors import BrolgaError
from brolga.protocol import UploadSession, UploadStrategy
from brolga.protocol.upload.machine import (
    TRANSITIONS,
    Committing,
    Done,
    Event,
    Failed,
    Idle,
    Open,
    Recovery,
    State,
    Suspended,
    Uncertain,
    Unconfirmed,
    advance,
)

FIGURE = Path(__file__).parents[3] / "docs" / "upload.svg"
SVG = "{http://www.w3.org/2000/svg}"

COMMON: dict[str, Any] = {
    "strategy": UploadStrategy(chunk_size=7),
    "cause": BrolgaError("cut"),
    "unconfirmed": Unconfirmed(BLOB, 1),
}
SESSION: dict[str, Any] = COMMON | {
    "session": UploadSession("here", 3),
    "resumed": True,
    "split": True,
    "redirects": ("there",),
}
PUT: dict[str, Any] = {"descriptor": BLOB, "put": PING, "size": 4}
STATES: tuple[State, ...] = (
    Idle(**COMMON),
    Open(**SESSION),
    Uncertain(**SESSION, replayable=True, sent=5, failed_queries=2),
    Committing(**SESSION, **PUT),
    Done(BLOB),
    Suspended(SESSION["session"], BLOB),
    Failed(),
)


def _transitions() -> set[tuple[str, str, str]]:
    return {
        (state.__name__, event.name, target.__name__)
        for state, targets in TRANSITIONS.items()
        for event, target in targets.items()
    }


def _groups(name: str) -> list[ET.Element]:
    figure = ET.parse(FIGURE)  # noqa: S314 - a file of this repository
    return [group for group in figure.iter(f"{SVG}g") if group.attrib["class"].split()[0] == name]


def _texts(group: ET.Element) -> list[str]:
    return [text.text or "" for text in group.iter(f"{SVG}text")]


# --- The figure


def test_figure_has_each_state_of_the_table_and_no_other() -> None:
    """A box has the name of its state in it."""
    names = {state.__name__ for state in TRANSITIONS}
    assert names == {state.__name__ for state in get_args(State)}
    boxes = {}
    for group in _groups("state"):
        (box,) = group.iter(f"{SVG}rect")
        boxes[box.attrib["id"]] = _texts(group)[0]
    assert boxes == {name: name for name in names}


def test_figure_has_each_transition_of_the_table_and_no_other() -> None:
    """The label of an arrow has the names of its events."""
    drawn = [
        (group.attrib["data-from"], event, group.attrib["data-to"])
        for group in _groups("transition")
        for event in _texts(group)[0].split(", ")
    ]
    assert len(drawn) == len(set(drawn))
    assert set(drawn) == _transitions()


def test_figure_draws_each_arrow_between_the_boxes_of_its_states() -> None:
    """An arrow begins and ends at the border of a box, or a pixel before it."""
    boxes = {}
    for group in _groups("state"):
        (box,) = group.iter(f"{SVG}rect")
        x, y, width, height = (int(box.attrib[name]) for name in ("x", "y", "width", "height"))
        boxes[box.attrib["id"]] = (x - 1, y - 1, x + width + 1, y + height + 1)
    for group in _groups("transition"):
        (path,) = group.iter(f"{SVG}path")
        points = [tuple(map(int, pair)) for pair in re.findall(r"(\d+) (\d+)", path.attrib["d"])]
        for (x, y), end in ((points[0], "data-from"), (points[-1], "data-to")):
            left, top, right, bottom = boxes[group.attrib[end]]
            assert left <= x <= right, (group.attrib, end)
            assert top <= y <= bottom, (group.attrib, end)


# --- The table


def test_transitions_lead_from_each_state_but_the_last_ones_to_an_end() -> None:
    """No state is a trap, each is reached, and each event leads somewhere."""
    reached = {target for targets in TRANSITIONS.values() for target in targets.values()}
    assert reached == set(TRANSITIONS)
    events = {event for targets in TRANSITIONS.values() for event in targets}
    assert events == {*Event, *Recovery}
    for state, targets in TRANSITIONS.items():
        is_end = state in {Done, Suspended, Failed}
        assert is_end is not (Recovery.FAIL in targets)
        assert is_end is not (Event.FOUND in targets)
        assert not (is_end and targets)


@pytest.mark.parametrize("state", STATES, ids=lambda state: type(state).__name__)
@pytest.mark.parametrize("event", [*Event, *Recovery], ids=lambda event: event.name)
def test_advance_follows_the_table_and_keeps_what_the_states_share(
    state: State, event: Event | Recovery
) -> None:
    """A field is changed, or it is what it was; no other transition is possible."""
    needed = SESSION | PUT | {"replayable": False, "sent": 5, "failed_queries": 0}
    if event not in TRANSITIONS[type(state)]:
        with pytest.raises(KeyError):
            advance(state, event)
        return
    target = TRANSITIONS[type(state)][event]
    missing = {
        name: value
        for name, value in needed.items()
        if name in target.__dataclass_fields__ and not hasattr(state, name)
    }
    after = advance(state, event, **missing)
    assert type(after) is target
    assert vars(after) == {
        name: missing[name] if name in missing else getattr(state, name) for name in vars(after)
    }


def test_advance_changes_the_given_fields() -> None:
    """All others stay."""
    before = Open(strategy=UploadStrategy(), session=UploadSession("here"))
    after = advance(before, Event.ACKNOWLEDGED, session=UploadSession("there", 9))
    assert after == Open(strategy=UploadStrategy(), session=UploadSession("there", 9))
    assert before.session == UploadSession("here")


def test_advance_to_idle_forgets_the_session() -> None:
    """What a new session does not know is not known of it."""
    uncertain = Uncertain(**SESSION, replayable=True, sent=5)
    assert advance(uncertain, Recovery.RESTART) == Idle(**COMMON)
    opened = advance(Idle(**COMMON), Event.OPENED, session=UploadSession("there"))
    assert opened == Open(**COMMON, session=UploadSession("there"))


@pytest.mark.parametrize(
    ("state", "acknowledged"), [(Idle(**COMMON), 0), (Open(**SESSION), 3)], ids=["Idle", "Open"]
)
def test_acknowledged_is_what_the_session_has(state: Idle | Open, acknowledged: int) -> None:
    """No session has nothing."""
    assert state.acknowledged == acknowledged


@pytest.mark.parametrize(("resumed", "split"), [(False, False), (True, False), (False, True)])
def test_is_continued_after_a_failure_or_a_silence(*, resumed: bool, split: bool) -> None:
    """Either may have left another offset than is assumed."""
    strategy, session = UploadStrategy(), UploadSession("here")
    state = Open(strategy=strategy, session=session, resumed=resumed, split=split)
    assert state.is_continued is (resumed or split)
