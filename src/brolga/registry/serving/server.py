"""The uvicorn server, its listening socket, and its TLS files.

The socket listens before the server starts, so a port that is taken is an error at once, and the
number of a free one (port 0) is known. At the end, requests have a moment before they are cut:
their sessions stay on disk and continue after a restart.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import signal
import socket
import ssl
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NoReturn

import uvicorn

from brolga.errors import BrolgaError
from brolga.registry.serving.connection_limits import (
    Connection,
    close_connections,
    connection_limits,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from starlette.applications import Starlette

    from brolga.registry.options import Options
    from brolga.registry.storage.store import Store


_log = logging.getLogger("brolga.registry")

_GRACE_S: Final = 0.5  # how long requests may continue after the signal to stop

# Longer than a client's pool keeps an idle connection, so that the client closes it.
_KEEP_ALIVE_S: Final = 75

# The intervals of the checks of connections, and of sessions, which expire after a day.
_CHECK_S: Final = 5.0
_EXPIRE_S: Final = 3600.0

_LOG_INTERVAL_S: Final = 60.0  # how often the same error is logged


class NotLoopback(BrolgaError, ValueError):
    """An address that other machines can reach, without authentication."""


class InvalidTls(BrolgaError, ValueError):
    """A certificate or a key that cannot be used."""


def _check_tls(cert: Path, key: Path | None) -> None:
    """Load a certificate and its key as the server will.

    OpenSSL would prompt for the password of a key, and names only a line of its source for most
    errors. Raises InvalidTls, OSError.
    """
    key_file = key or cert
    if b"CERTIFICATE-----" not in cert.read_bytes():
        raise InvalidTls(f"{cert} has no certificate in PEM form")
    if b"PRIVATE KEY-----" not in key_file.read_bytes():
        hint = "" if key else "; name the file that has it"
        raise InvalidTls(f"{key_file} has no private key in PEM form{hint}")

    def reject_encrypted() -> NoReturn:
        raise InvalidTls(
            f"the key in {key_file} is encrypted, and the registry does not ask for its password: "
            f"decrypt it with `openssl pkey -in {key_file} -out PLAIN`"
        )

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, reject_encrypted)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise InvalidTls(f"the key in {key_file} is not that of {cert}") from error
        raise InvalidTls(f"{cert} and its key cannot be used: {error}") from error


def listen(host: str, port: int, options: Options) -> socket.socket:
    """Listen on an address that only permitted clients reach. Raises NotLoopback, InvalidTls."""
    if options.tls_cert is not None:
        _check_tls(options.tls_cert, options.tls_key)
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    is_protected = options.htpasswd is not None or options.allow_anonymous
    # A link-local address has its interface after a percent sign.
    if not is_protected and not ipaddress.ip_address(str(address[0]).partition("%")[0]).is_loopback:
        raise NotLoopback(
            f"{host} can be reached from outside: give a password file, or allow it to everyone"
        )
    # asyncio sets TCP_NODELAY on accepted connections only if the protocol is explicit.
    listener = socket.socket(family, kind, protocol)
    try:
        # A restart must not wait for the TIME_WAIT of the last connections.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen()
    except BaseException:
        listener.close()
        raise
    return listener


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class ThrottledLog:
    """An exception handler of the loop that logs failures to accept once a minute."""

    def __init__(self) -> None:
        self._next = 0.0

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Log an exception."""
        if not str(context.get("message")).startswith("socket.accept()"):
            loop.default_exception_handler(context)
        elif loop.time() >= self._next:
            self._next = loop.time() + _LOG_INTERVAL_S
            _log.error("connections must wait: %s", context.get("exception"))


class Server(uvicorn.Server):
    """A uvicorn server that reports readiness, exits with status 0, and bounds the shutdown."""

    def __init__(
        self,
        app: Starlette,
        listener: socket.socket,
        on_ready: Callable[[str], None],
        options: Options,
    ) -> None:
        super().__init__(_config(app, options))
        self._store: Store = app.state.store
        self._options = options
        self._tasks: list[asyncio.Task[None]] = []
        self._on_ready = on_ready
        self._address = _address(listener)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and report it."""
        asyncio.get_running_loop().set_exception_handler(ThrottledLog())
        await super().startup(sockets)
        jobs = [self._close_overdue()]
        if not self._options.read_only:
            jobs.append(self._expire_uploads())
        self._tasks = [asyncio.create_task(job) for job in jobs]
        self._on_ready(self._address)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept no more connections; after a moment, close those with a request."""
        for task in self._tasks:
            task.cancel()
        loop = asyncio.get_running_loop()
        timer = loop.call_later(_GRACE_S, close_connections, self.server_state.connections)
        try:
            await super().shutdown(sockets)
        finally:
            timer.cancel()

    async def _close_overdue(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            close_connections(self.server_state.connections, loop.time())
            await asyncio.sleep(_CHECK_S)

    async def _expire_uploads(self) -> None:
        age_s = self._options.upload_expiry_s
        while True:
            try:
                await asyncio.to_thread(self._store.expire, age_s)
            except Exception:  # noqa: BLE001 - whatever it is, the next round may succeed
                _log.exception("uploads do not expire")
            await asyncio.sleep(min(_EXPIRE_S, max(_CHECK_S, age_s)))

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop at a signal, and exit well: uvicorn's own method raises it again at the end."""
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


def _config(app: Starlette, options: Options) -> uvicorn.Config:
    """Return the loaded configuration. Raises OSError."""
    connections, backlog = connection_limits()
    bounds = {"idle_s": options.idle_s, "max_connections": connections}
    config = uvicorn.Config(
        app,
        http=type("Connection", (Connection,), bounds),
        backlog=backlog,
        # asyncio reads 256 KiB at once and sends files; uvloop reads 64 KiB and does not.
        loop="asyncio",
        ssl_certfile=options.tls_cert,
        ssl_keyfile=options.tls_key,
        # This is the server of one socket: it leaves proxies, logs and processes alone.
        log_config=None,
        # A client that tries TLS on a plain http port need not be logged.
        log_level="error",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        lifespan="off",
        ws="none",
        timeout_keep_alive=_KEEP_ALIVE_S,
        # A handler that a closed connection does not end is cancelled.
        timeout_graceful_shutdown=10,
    )
    # Now, so that the caller gets its errors.
    config.load()
    return config
