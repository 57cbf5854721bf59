from __future__ import annotations

from typing import TYPE_CHECKING, Any

from brolga.registry.serving.server import ThrottledLog

if TYPE_CHECKING:
    import pytest


def test_throttled_log_repeats_accept_errors_once_a_minute(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A failure to accept is logged once; anything else goes to the loop's own handler."""
    passed: list[Any] = []
    now = iter([1000.0, 1000.1, 1000.2, 1061.0, 1061.1])

    class Loop:
        def time(self) -> float:
            return next(now)

        def default_exception_handler(self, context: Any) -> None:
            passed.append(context)

    loop: Any = Loop()
    log = ThrottledLog()
    full = {"message": "socket.accept() out of system resource", "exception": OSError("too many")}
    for context in (full, full, {"message": "other"}, full):
        log(loop, context)
    assert caplog.text.count("connections must wait: too many") == 2
    assert passed == [{"message": "other"}]
