"""transport/request_state.py: the rate of a body, and the end of a state."""

from __future__ import annotations

import gc
import weakref

import pytest

from brolga.transport.request_state import MIN_RATE, RateMonitor, RequestState


@pytest.mark.parametrize(
    ("waits", "slow"),
    [
        ([(1.0, 10), (1.0, 10)], True),
        ([(1.0, 10), (1.0, 2 * MIN_RATE)], False),
        ([(0.5, 0), (0.5, 0), (0.5, 0)], False),
        ([(2.0, 2 * MIN_RATE), (2.0, 0)], True),
    ],
)
def test_is_too_slow_measures_waiting_time(waits: list[tuple[float, int]], slow: bool) -> None:
    """It is judged each time that a timeout's worth of waiting is over."""
    pace = RateMonitor()
    results = [pace.is_too_slow(*wait, 2.0) for wait in waits]
    assert any(results) is slow
    assert not RateMonitor().is_too_slow(1e6, 0, None)


def test_close_of_state_drops_body() -> None:
    """A stream that is cut often must not keep each failed request until a cycle is collected."""
    state = RequestState(bytes(1) for _ in range(2))
    next(state.body)
    gone = weakref.ref(state)
    gc.disable()
    try:
        state.close()
        del state
        assert gone() is None
    finally:
        gc.enable()
