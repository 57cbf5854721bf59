"""The registry on a socket: for the command, and in a thread for tests.

Knows uvicorn, sockets, threads, signals, and what is done now and then. Must not know what the
application does.

The socket is bound and listening before the server starts, so a port that is taken is an error
at once and port 0 is a free one whose number is known. At the end, requests in flight get a
moment and are then cut: their sessions stay on disk, and go on after a restart.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import signal
import socket
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn

from brolga.errors import BrolgaError
from brolga.server.app import create_app
from brolga.server.connections import Connection, cut_all, cut_overdue, room, widen
from brolga.server.options import Options
from brolga.server.tls import check

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator

    from brolga.server.storage import Store

__all__ = ["NotLoopback", "running", "serve"]

_log = logging.getLogger("brolga.server")

# How long requests in flight may go on after the signal to stop.
_GRACE_S = 0.5

# Longer than a client's pool keeps an idle connection: the one who closes it is the client then.
_KEEP_ALIVE_S = 75


# How often connections are looked at, and sessions, which expire within days.
_LOOK_S = 5.0

# How often the same complaint is told.
_REPEAT_S = 60.0
_EXPIRE_S = 3600.0


class NotLoopback(BrolgaError, ValueError):
    """An address that other machines could reach, without authentication."""


def serve(
    directory: Path,
    host: str = "127.0.0.1",
    port: int = 0,
    on_ready: Callable[[str], None] = print,
    options: Options | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM; call `on_ready` with `host:port` once requests are taken.

    The process may open more files from now on, where its soft limit is below the hard one.
    Port 0 is a free one. Raises NotLoopback; InvalidHtpasswd; InvalidTls; OSError for an address
    that is taken, a directory that cannot be made or a file that cannot be read.
    """
    options = options or Options()
    widen()
    with _bind(host, port, options) as listener:
        _Server(directory, listener, on_ready, options).run([listener])


@contextmanager
def running(directory: str | os.PathLike[str], options: Options | None = None) -> Iterator[str]:
    """Serve from a thread of this process; gives `127.0.0.1:PORT`. Raises as `serve` does."""
    options = options or Options()
    ready: list[str] = []
    settled = threading.Event()

    def on_ready(address: str) -> None:
        ready.append(address)
        settled.set()

    with _bind("127.0.0.1", 0, options) as listener:
        server = _Server(Path(directory), listener, on_ready, options)

        def run() -> None:
            try:
                server.run([listener])
            finally:
                settled.set()

        thread = threading.Thread(target=run, name="brolga-registry")
        thread.start()
        try:
            settled.wait()
            if not ready:
                raise RuntimeError("the registry did not start")
            yield ready[0]
        finally:
            server.should_exit = True
            thread.join()


def _bind(host: str, port: int, options: Options) -> socket.socket:
    """Listen on an address that only those can reach who may. Raises NotLoopback, OSError."""
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    guarded = options.htpasswd is not None or options.allow_anonymous
    # A link-local address has its interface behind a percent sign.
    if not guarded and not ipaddress.ip_address(str(address[0]).partition("%")[0]).is_loopback:
        raise NotLoopback(
            f"{host} can be reached from outside: give a password file, or allow it to everyone"
        )
    # asyncio sets TCP_NODELAY on what it accepts only if it is told that this is TCP.
    listener = socket.socket(family, kind, protocol)
    try:
        # A restart must not wait for the last connections' TIME_WAIT.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen()
    except BaseException:
        listener.close()
        raise
    return listener


def _spelled(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class _Complaints:
    """What the loop complains of, once where it would be told of each connection that waits."""

    def __init__(self) -> None:
        self._next = 0.0

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Log it."""
        if not str(context.get("message")).startswith("socket.accept()"):
            loop.default_exception_handler(context)
        elif loop.time() >= self._next:
            self._next = loop.time() + _REPEAT_S
            _log.error("connections must wait: %s", context.get("exception"))


class _Server(uvicorn.Server):
    """uvicorn that says when it is ready, ends with exit status 0, and does not wait for ever."""

    def __init__(
        self,
        directory: Path,
        listener: socket.socket,
        on_ready: Callable[[str], None],
        options: Options,
    ) -> None:
        if options.tls_cert is not None:
            check(options.tls_cert, options.tls_key)
        app = create_app(directory, options)
        most, backlog = room()
        bounds = {"idle_s": options.idle_s, "most": most}
        config = uvicorn.Config(
            app,
            http=type("Connection", (Connection,), bounds),
            backlog=backlog,
            # It reads 256 KiB at once and sends files; uvloop reads 64 and does not.
            loop="asyncio",
            ssl_certfile=options.tls_cert,
            ssl_keyfile=options.tls_key,
            # Nothing of the proxy's, the log's or the process's: this is one socket's server.
            log_config=None,
            # A client that tries TLS before plain http is no event to tell of.
            log_level="error",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            lifespan="off",
            ws="none",
            timeout_keep_alive=_KEEP_ALIVE_S,
            # A handler that a cut does not end is cancelled.
            timeout_graceful_shutdown=10,
        )
        # Here, so that whoever starts it hears of what cannot be loaded.
        config.load()
        super().__init__(config)
        self._store: Store = app.state.store
        self._options = options
        self._chores: list[asyncio.Task[None]] = []
        self._on_ready = on_ready
        self._address = _spelled(listener)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say so."""
        asyncio.get_running_loop().set_exception_handler(_Complaints())
        await super().startup(sockets)
        chores = [self._look()] if self._options.read_only else [self._look(), self._expire()]
        self._chores = [asyncio.create_task(chore) for chore in chores]
        self._on_ready(self._address)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no more connections; after a moment, cut those with a request in flight."""
        for chore in self._chores:
            chore.cancel()
        cut = asyncio.get_running_loop().call_later(_GRACE_S, self._cut)
        try:
            await super().shutdown(sockets)
        finally:
            cut.cancel()

    async def _look(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            cut_overdue(self.server_state.connections, loop.time())
            await asyncio.sleep(_LOOK_S)

    async def _expire(self) -> None:
        age_s = self._options.upload_expiry_s
        while True:
            try:
                await asyncio.to_thread(self._store.expire, age_s)
            except Exception:  # noqa: BLE001 - whatever it is, the next round may go better
                _log.exception("uploads do not expire")
            await asyncio.sleep(min(_EXPIRE_S, max(_LOOK_S, age_s)))

    def _cut(self) -> None:
        cut_all(self.server_state.connections)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop at a signal, and end well: uvicorn's own would raise it again at the end."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        numbers = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self.handle_exit) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
