"""upload/flow.py: the way through the states, conversation by conversation."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from tests.protocol.driver import BLOB, SECOND, Answer, KnownBody, drive, make_access
from tests.protocol.upload.conversation import BODY, CUT, LENGTH
from tests.protocol.upload.journals import KnownJournal

from brolga.errors import BrolgaError
from brolga.protocol import (
    Request,
    Response,
    Retry,
    UploadSession,
    UploadStrategy,
    upload_stream,
)
from brolga.protocol.upload import flow
from brolga.protocol.upload.journal import Record
from brolga.protocol.upload.machine import TRANSITIONS, Event, Recovery, State, advance

if TYPE_CHECKING:
    from collections.abc import Iterator

# What the registry answers to each request, and the way through the states. GET answers a Range.
CONVERSATIONS = {
    "success": (
        "POST 202, PATCH 202, PUT 201",
        "Idle OPENED Open ACKNOWLEDGED Open SENT Committing STORED Done",
    ),
    "refused POST": ("POST 403", "Idle FAIL Failed"),
    "refused PATCH": ("POST 202, PATCH 403, DELETE 204", "Idle OPENED Open FAIL Failed"),
    "refused PUT": (
        "POST 202, PATCH 202, PUT 403, DELETE 204",
        "Idle OPENED Open ACKNOWLEDGED Open SENT Committing FAIL Failed",
    ),
    "cut PATCH": (
        "POST 202, PATCH cut, GET 0-1, PATCH 202, PUT 201",
        (
            "Idle OPENED Open RESUME Uncertain LOCATED Open ACKNOWLEDGED Open SENT Committing "
            "STORED Done"
        ),
    ),
    "cut PATCH, and a query that fails once": (
        "POST 202, PATCH cut, GET 503, GET 503, GET 503, GET 0-3, PUT 201",
        (
            "Idle OPENED Open RESUME Uncertain RESUME Uncertain LOCATED Open SENT Committing "
            "STORED Done"
        ),
    ),
    "cut PATCH, and queries that fail": (
        "POST 202, PATCH cut, GET 503, GET 503, GET 503, GET 503, GET 503, GET 503, DELETE 204",
        "Idle OPENED Open RESUME Uncertain RESUME Uncertain FAIL Failed",
    ),
    "cut PATCH, and a session without an offset": (
        "POST 202, PATCH cut, GET 404, DELETE 204, POST 403",
        "Idle OPENED Open RESUME Uncertain RESTART Idle FAIL Failed",
    ),
    "PATCH that is redirected": (
        "POST 202, PATCH 307, PATCH 308, PATCH 202, PUT 201",
        ("Idle OPENED Open MOVED Open MOVED Open ACKNOWLEDGED Open SENT Committing STORED Done"),
    ),
    "PUT of all that is redirected": (
        "POST 202, PUT 307, PUT 201",
        "Idle OPENED Open SENT Committing MOVED Committing STORED Done",
    ),
    "PATCH to a lost session": (
        "POST 202, PATCH 404, DELETE 204, POST 403",
        "Idle OPENED Open RESTART Idle FAIL Failed",
    ),
    "PATCH that is too large": (
        "POST 202, PATCH 413, DELETE 204, POST 403",
        "Idle OPENED Open SHRINK Idle FAIL Failed",
    ),
    "PUT that is too large": (
        "POST 202, PATCH 202, PUT 413, DELETE 204, POST 403",
        "Idle OPENED Open ACKNOWLEDGED Open SENT Committing SHRINK Idle FAIL Failed",
    ),
    "PUT to a lost session": (
        "POST 202, PATCH 202, PUT 404, HEAD 404, DELETE 204, POST 403",
        (
            "Idle OPENED Open ACKNOWLEDGED Open SENT Committing UNCONFIRMED Committing "
            "RESTART Idle FAIL Failed"
        ),
    ),
    "PUT that is refused for now": (
        "POST 202, PATCH 202, PUT 503, GET 0-3, PUT 201",
        (
            "Idle OPENED Open ACKNOWLEDGED Open SENT Committing UNCONFIRMED Committing "
            "RESUME Uncertain LOCATED Open SENT Committing STORED Done"
        ),
    ),
    "PUT whose answer is lost": (
        "POST 202, PATCH 202, PUT cut, HEAD 200, DELETE 404",
        "Idle OPENED Open ACKNOWLEDGED Open SENT Committing UNCONFIRMED Committing FOUND Done",
    ),
    "PUT that takes longer than its answer": (
        "POST 202, PATCH 202, PUT 503, GET 404, HEAD 200, DELETE 404",
        (
            "Idle OPENED Open ACKNOWLEDGED Open SENT Committing UNCONFIRMED Committing "
            "RESUME Uncertain FOUND Done"
        ),
    ),
    "PUT that takes longer than its session": (
        "POST 202, PATCH 202, PUT 503, GET 404, HEAD 404, DELETE 404, POST 404, HEAD 200",
        (
            "Idle OPENED Open ACKNOWLEDGED Open SENT Committing UNCONFIRMED Committing "
            "RESUME Uncertain RESTART Idle FOUND Done"
        ),
    ),
    "PUT that takes longer than the next session": (
        (
            "POST 202, PATCH 202, PUT 503, GET 404, HEAD 404, DELETE 404, POST 202, PATCH 404, "
            "HEAD 200, DELETE 404"
        ),
        (
            "Idle OPENED Open ACKNOWLEDGED Open SENT Committing UNCONFIRMED Committing "
            "RESUME Uncertain RESTART Idle OPENED Open FOUND Done"
        ),
    ),
}

# With a journal, in which an earlier run has left a session or not.
JOURNALED = {
    "session of an earlier run": (
        "GET 0-1, PATCH 202, PUT 201",
        "Idle RECORDED Uncertain LOCATED Open ACKNOWLEDGED Open SENT Committing STORED Done",
    ),
    "interrupted PATCH": (
        "POST 202, PATCH interrupt",
        "Idle OPENED Open SUSPEND Suspended",
    ),
    "interrupted GET": (
        "GET interrupt",
        "Idle RECORDED Uncertain SUSPEND Suspended",
    ),
    "interrupted PUT": (
        "POST 202, PATCH 202, PUT interrupt",
        "Idle OPENED Open ACKNOWLEDGED Open SENT Committing SUSPEND Suspended",
    ),
}


def respond(text: str) -> Answer:
    """Return the answer that a conversation names."""
    if text == "cut":
        return CUT
    if text == "interrupt":
        return KeyboardInterrupt()
    if not text.isdecimal():
        return Response(204, {"range": text})
    locations = {status: {"location": SECOND} for status in ("202", "307", "308")}
    headers = {"200": LENGTH, **locations}.get(text, {})
    return Response(int(text), headers, sent=4)


@pytest.mark.parametrize(
    ("answers", "way"), (CONVERSATIONS | JOURNALED).values(), ids=CONVERSATIONS | JOURNALED
)
def test_upload_goes_through_the_states(
    answers: str, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each request is the next one of the conversation, and each state the next one of the way."""
    states = ["Idle"]

    def record(state: State, event: Event | Recovery, **changes: object) -> State:
        after = advance(state, event, **changes)
        states.extend((event.name, type(after).__name__))
        return after

    monkeypatch.setattr(flow, "advance", record)
    steps: Iterator[list[str]] = iter([step.split() for step in answers.split(", ")])

    def answer(request: Request) -> Answer:
        method, text = next(steps)
        assert request.method == method
        return respond(text)

    is_known = "PATCH" not in answers and "PUT" in answers
    journal = None
    if (answers, way) in JOURNALED.values():
        left = UploadSession(SECOND) if "RECORDED" in way else None
        journal = KnownJournal(Record(left))
    upload = upload_stream(
        make_access(retry=Retry(attempts=3)),
        KnownBody(BODY),
        lambda: BLOB,
        descriptor=BLOB if is_known else None,
        strategy=UploadStrategy(monolithic_max=4),
        journal=journal,
    )
    with suppress(BrolgaError, KeyboardInterrupt):
        drive(upload, answer)
    assert " ".join(states) == way
    assert next(steps, None) is None


def test_conversations_take_each_transition_of_the_table() -> None:
    """The table has no transition that is never taken."""
    taken = set()
    for _, way in (CONVERSATIONS | JOURNALED).values():
        names = way.split()
        taken |= set(zip(names[:-2:2], names[1:-1:2], names[2::2], strict=True))
    assert taken == {
        (state.__name__, event.name, target.__name__)
        for state, targets in TRANSITIONS.items()
        for event, target in targets.items()
    }
