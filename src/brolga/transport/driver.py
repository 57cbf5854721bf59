"""The blocking driver: performs the steps of a flow in the thread that runs it."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, Self, TypeVar

from brolga.protocol.http import BlockingCall, BodyError, ReadBlock, Request
from brolga.stream.worker import sleep
from brolga.transport.requests import Requests, SecondInterrupt
from brolga.transport.steps import perform

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from brolga.protocol import Flow
    from brolga.protocol.http import Step

_T = TypeVar("_T")
_A = TypeVar("_A")


class Transport:
    """Connections to registries, and the driver that performs a flow's requests over them.

    `insecure` disables the verification of TLS certificates; `ca_cert` is a PEM file of authorities
    to trust in addition to the system's. `client_cert` and `client_key` are PEM files (the key may
    be in the certificate's) for hosts that the user names; `certs_dirs` are docker's `certs.d`, in
    which a directory HOST or HOST:PORT has authorities (*.crt) and client pairs (*.cert, *.key).

    `timeout_s` limits connecting, each write and the wait for the whole head of a response; the
    response to an upload's PATCH or PUT has 15 times as long. A body of less than 1,024 bytes a
    second, over that much waiting, fails. At most `keepalive` idle connections are kept.
    `on_warning` is called with host and text of each new warning of a registry. `pause` sleeps for
    a number of seconds. Proxies are read from the environment now. Threads may share a transport.

    Raises OSError if a file cannot be read as certificates, ValueError if `timeout_s` is not a time
    of up to a day, or a key has no certificate.
    """

    def __init__(self, *, pause: Callable[[float], None] = sleep, **options: Any) -> None:  # noqa: ANN401 - those of `Requests`, which checks them
        self._pause = pause
        self._requests = Requests(**options)

    def __enter__(self) -> Self:
        """Return the transport itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close every connection."""
        self.close()

    def close(self) -> None:
        """Close every connection. The transport cannot be used any more."""
        self._requests.pool.close()

    def close_when_dropped(self) -> None:
        """Close every connection when this transport is collected, or Python ends."""
        weakref.finalize(self, self._requests.pool.close)

    def run(self, flow: Flow[_T]) -> _T:
        """Drive a flow to its end; return its result.

        Errors of a request (TransportError, ProtocolViolation, KeyboardInterrupt) are thrown into
        the flow, which may make further requests. Source errors, and interrupts during a PATCH or
        POST, are thrown in as BodyError. If the flow lets it propagate, the original error is
        raised. A second interrupt closes the flow at once.

        Raises RuntimeError after `close`.
        """
        steps: Generator[object, None, _T] = self.stream(flow)
        try:
            while True:
                next(steps)
        except StopIteration as end:
            result: _T = end.value
            return result

    def stream(self, flow: Generator[Step | _A, Any, _T]) -> Generator[_A, None, _T]:
        """Drive a flow as `run` does; yield the bytes, or pages of a list, between its requests."""
        try:
            self._requests.pool.check_open()
            item = next(flow)
            while True:
                if not isinstance(item, Request | BlockingCall | ReadBlock):
                    yield item
                    item = next(flow)
                    continue
                try:
                    result = self._take(item)
                except SecondInterrupt:
                    raise
                except BaseException as error:  # noqa: BLE001 - the flow handles or re-raises it
                    item = flow.throw(error)
                else:
                    del item  # its body may be a chunk, and the flow collects the next one
                    item = flow.send(result)
                    del result
        except StopIteration as end:
            value: _T = end.value
            return value
        except (BodyError, SecondInterrupt) as wrapper:
            cause = wrapper.error
        finally:
            flow.close()
        # Raised outside of the handler, it keeps its own context.
        try:
            raise cause
        finally:
            del cause  # its traceback refers to this frame

    def _take(self, step: Step) -> object:
        if isinstance(step, BlockingCall):
            return step.function()
        if isinstance(step, ReadBlock):
            return next(step.stream, None)
        if step.delay_s > 0:
            self._pause(step.delay_s)
        return perform(self._requests.perform(step))
