"""A server on a real socket whose every byte the test decides: one function per connection."""

from __future__ import annotations

import contextlib
import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator
    from typing import Self

__all__ = ["Peer", "refusing_port", "serve_script"]


_CLIENT_HELLO = b"\x16"  # the first byte of a TLS handshake (RFC 8446, section 5.1)


class Peer:
    """One connection as the server sees it."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.arrived = b""  # received, not yet returned
        self.ended = False  # the client closed or reset the connection

    def receive(self, size: int = 1 << 16) -> bool:
        """Receive bytes; return whether any came."""
        try:
            data = self.socket.recv(size)
        except OSError:
            data = b""
        self.arrived += data
        self.ended = not data
        return bool(data)

    def line(self) -> bytes:
        """Return a line without its end, or a part of it if the client has gone."""
        while b"\r\n" not in self.arrived and self.receive():
            pass
        line, _, self.arrived = self.arrived.partition(b"\r\n")
        return line

    def head(self) -> list[str]:
        """Return the lines of a request's head, [] if none came."""
        lines = []
        while line := self.line():
            lines.append(line.decode())
        return lines

    def header(self, name: str, head: list[str]) -> list[str]:
        """Return the values of a header in a head."""
        pairs = [line.partition(": ") for line in head[1:]]
        return [value for key, _, value in pairs if key.lower() == name.lower()]

    def chunk(self) -> bytes | None:
        """Return one chunk (RFC 9112, section 7.1), b"" for the last; None if it is cut off."""
        size = self.line()
        if not size or self.ended:
            return None
        wanted = int(size, 16) + len(b"\r\n")
        while len(self.arrived) < wanted and self.receive():
            pass
        if len(self.arrived) < wanted:
            return None
        chunk, self.arrived = self.arrived[: wanted - 2], self.arrived[wanted:]
        return chunk

    def chunks(self) -> tuple[list[bytes], bool]:
        """Return the chunks of a body, and whether the last one came."""
        chunks = []
        while chunk := self.chunk():
            chunks.append(chunk)
        return chunks, chunk == b""

    def drain(self) -> bytes:
        """Return all bytes until the client closes."""
        while self.receive():
            pass
        rest, self.arrived = self.arrived, b""
        return rest

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.socket.sendall(data)

    def answer(self, status: int, body: bytes = b"", *headers: str) -> None:
        """Send a complete response."""
        lines = [f"HTTP/1.1 {status} Scripted", f"Content-Length: {len(body)}", *headers, "", ""]
        self.send("\r\n".join(lines).encode("latin-1") + body)


class _Server:
    def __init__(
        self,
        script: Callable[[Peer], None],
        listener: socket.socket,
        tls: ssl.SSLContext | None,
        *,
        refuse_tls: bool,
    ) -> None:
        self._script = script
        self._listener = listener
        self._tls = tls
        self._refuse_tls = refuse_tls
        self._thread = threading.Thread(target=self._accept)
        self._last: object = None
        self.errors: list[BaseException] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        # A last connection: all connections before it have been accepted then.
        with socket.socket(self._listener.family) as last:
            last.bind((self._listener.getsockname()[0], 0))
            self._last = last.getsockname()
            last.connect(self._listener.getsockname())
            self._thread.join()

    def _accept(self) -> None:
        threads = []
        while True:
            connection, address = self._listener.accept()
            if address == self._last:
                break
            threads.append(threading.Thread(target=self._serve, args=(connection,)))
            threads[-1].start()
        connection.close()
        for thread in threads:
            thread.join()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.ExitStack() as stack:
            stack.enter_context(connection)
            try:
                if self._refuse_tls and connection.recv(1, socket.MSG_PEEK) == _CLIENT_HELLO:
                    return
                if self._tls is not None:
                    connection = self._tls.wrap_socket(connection, server_side=True)
                    stack.enter_context(connection)
                self._script(Peer(connection))
            except OSError:
                pass  # the client went away, or failed the handshake
            except BaseException as error:  # noqa: BLE001 - the test raises it
                self.errors.append(error)


@contextmanager
def serve_script(
    script: Callable[[Peer], None],
    *,
    tls: ssl.SSLContext | None = None,
    host: str = "127.0.0.1",
    receive_buffer: int | None = None,
    refuse_tls: bool = True,
) -> Iterator[str]:
    """Run `script` for each connection, in a thread of its own; yield `HOST:PORT`.

    Without `tls`, a connection that starts with TLS is closed; if `refuse_tls` is false, the
    script gets it. Any exception of a script, a failed assertion too, is raised at the end.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listener:
        if receive_buffer is not None:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        listener.bind((host, 0))
        listener.listen()
        port = listener.getsockname()[1]
        refuse_tls = refuse_tls and tls is None
        with _Server(script, listener, tls, refuse_tls=refuse_tls) as server:
            yield f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        if server.errors:
            raise server.errors[0]


def refusing_port() -> int:
    """Return a port on 127.0.0.1 on which no process listens."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port: int = unused.getsockname()[1]
        return port
