"""Run the registry: in the foreground for the command, in a thread for tests."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING

from brolga.registry.app import create_app
from brolga.registry.options import Options
from brolga.registry.serving.connection_limits import raise_nofile_limit
from brolga.registry.serving.server import Server, listen

if TYPE_CHECKING:
    import os
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

    The soft limit of open files is raised. Port 0 is a free one. Raises NotLoopback,
    InvalidHtpasswd, InvalidTls, and OSError for an address, a directory or a file.
    """
    options = options or Options()
    raise_nofile_limit()
    with listen(host, port, options) as listener:
        app = create_app(directory, options, middleware)
        Server(app, listener, on_ready, options).run([listener])


@contextmanager
def running(
    directory: str | os.PathLike[str],
    options: Options | None = None,
    middleware: Sequence[Middleware] = (),
) -> Iterator[str]:
    """Serve from a thread of this process; yields `127.0.0.1:PORT`. Raises as `serve` does."""
    options = options or Options()
    started: SimpleQueue[str | None] = SimpleQueue()
    with listen("127.0.0.1", 0, options) as listener:
        app = create_app(Path(directory), options, middleware)
        server = Server(app, listener, started.put, options)

        def run() -> None:
            try:
                server.run([listener])
            finally:
                started.put(None)

        thread = threading.Thread(target=run, name="brolga-registry")
        thread.start()
        try:
            address = started.get()
            if address is None:
                raise RuntimeError("the registry did not start")
            yield address
        finally:
            server.should_exit = True
            thread.join()
