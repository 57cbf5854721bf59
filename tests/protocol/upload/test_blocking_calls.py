"""upload/flow.py: what reads the source before a request is a call that the driver makes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.protocol.driver import (
    ACCEPTED,
    BLOB,
    FIRST,
    POST,
    KnownBody,
    delete,
    make_access,
    make_call,
)
from tests.protocol.upload.conversation import BODY, CREATED, GONE, NEXT, finalize

from brolga.protocol import Request, UploadStrategy, upload_stream
from brolga.protocol.http import BlockingCall

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from brolga.protocol import Flow
    from brolga.spec.descriptor import Descriptor

ANSWERS = {"POST": ACCEPTED, "PATCH": NEXT, "PUT": CREATED}
# Flows whose first step in the session is another call each.
FLOWS: dict[str, Callable[[Iterator[bytes]], Flow[Descriptor]]] = {
    "wait for bytes": lambda source: upload_stream(
        make_access(), KnownBody(source, bytes_read=0, ended=False), finalize
    ),
    "watch the silence": lambda source: upload_stream(make_access(), KnownBody(source), finalize),
    "gather a chunk": lambda source: upload_stream(
        make_access(), KnownBody(source), finalize, strategy=UploadStrategy(chunk_size=2)
    ),
}


@pytest.fixture(params=FLOWS)
def open_flow(request: pytest.FixtureRequest) -> Callable[[Iterator[bytes]], Flow[Descriptor]]:
    """Return the function that makes a flow."""
    return FLOWS[request.param]


def begin_call(flow: Flow[Descriptor]) -> None:
    """Let a flow open its session and yield its first call."""
    assert next(flow) == POST
    assert isinstance(flow.send(ACCEPTED), BlockingCall)


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), OSError("the driver's own")], ids=repr)
def test_upload_stream_cancels_session_if_driver_fails_during_call(
    open_flow: Callable[[Iterator[bytes]], Flow[Descriptor]], failure: BaseException
) -> None:
    """Clients SHOULD send DELETE when aborting a blob upload (Cancel a blob upload)."""
    flow = open_flow(iter(BODY))
    begin_call(flow)
    assert flow.throw(failure) == delete(FIRST)
    with pytest.raises(type(failure)) as caught:
        flow.send(GONE)
    assert caught.value is failure


def test_upload_stream_sends_nothing_after_close_during_call(
    open_flow: Callable[[Iterator[bytes]], Flow[Descriptor]],
) -> None:
    """A generator that is closed must not yield (PEP 342)."""
    flow = open_flow(iter(BODY))
    begin_call(flow)
    flow.close()


def test_upload_stream_reads_source_during_calls_only(
    open_flow: Callable[[Iterator[bytes]], Flow[Descriptor]],
) -> None:
    """A source may block: the flow itself must not, as an event loop may run it."""
    taken: list[bytes] = []

    def source() -> Iterator[bytes]:
        for block in BODY:
            taken.append(block)
            yield block

    flow = open_flow(source())
    result: object = None
    with pytest.raises(StopIteration) as end:
        while True:
            before = len(taken)
            step = flow.send(result)
            assert len(taken) == before
            assert isinstance(step, Request | BlockingCall)
            result = ANSWERS[step.method] if isinstance(step, Request) else make_call(step)
    assert end.value.value == BLOB
    assert taken
