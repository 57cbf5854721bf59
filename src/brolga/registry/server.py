"""Run the registry: in the foreground for the command, in a thread for tests."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from brolga.registry.app import create_app
from brolga.registry.options import Options
from brolga.registry.serving.connection import raise_nofile_limit
from brolga.registry.serving.server import Server, check_tls, listen

if TYPE_CHECKING:
    import os
    import socket
    from collections.abc import Callable, Iterator, Sequence

    from starlette.middleware import Middleware


def serve(  # noqa: PLR0913 - the settings of the command
    directory: Path,
    host: str = "127.0.0.1",
    port: int = 0,
    on_ready: Callable[[str], None] = print,
    options: Options | None = None,
    *,
    middleware: Sequence[Middleware] = (),
) -> None:
    """Serve until SIGINT or SIGTERM; call `on_ready` with `host:port` once requests are accepted.

    The soft limit of open files is raised. Port 0 is a free one. Raises NotLoopback;
    InvalidHtpasswd; InvalidTls; OSError for an address that is taken, a directory that cannot be
    created or a file that cannot be read.
    """
    options = options or Options()
    raise_nofile_limit()
    with listen(host, port, options) as listener:
        _create(directory, listener, on_ready, options, middleware).run([listener])


@contextmanager
def running(
    directory: str | os.PathLike[str],
    options: Options | None = None,
    middleware: Sequence[Middleware] = (),
) -> Iterator[str]:
    """Serve from a thread of this process; yields `127.0.0.1:PORT`. Raises as `serve` does."""
    options = options or Options()
    addresses: list[str] = []
    settled = threading.Event()

    def on_ready(address: str) -> None:
        addresses.append(address)
        settled.set()

    with listen("127.0.0.1", 0, options) as listener:
        server = _create(Path(directory), listener, on_ready, options, middleware)

        def run() -> None:
            try:
                server.run([listener])
            finally:
                settled.set()

        thread = threading.Thread(target=run, name="brolga-registry")
        thread.start()
        try:
            settled.wait()
            if not addresses:
                raise RuntimeError("the registry did not start")
            yield addresses[0]
        finally:
            server.should_exit = True
            thread.join()


def _create(
    directory: Path,
    listener: socket.socket,
    on_ready: Callable[[str], None],
    options: Options,
    middleware: Sequence[Middleware],
) -> Server:
    if options.tls_cert is not None:
        check_tls(options.tls_cert, options.tls_key)
    return Server(create_app(directory, options, middleware), listener, on_ready, options)
