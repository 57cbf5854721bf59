"""An ASGI application called without a socket."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pytest

from brolga.disk.layout import DATABASE
from brolga.registry.app import create_app
from brolga.spec.digest import Digest
from brolga.spec.mediatypes import OCI_INDEX

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from starlette.middleware import Middleware
    from starlette.types import Message, Scope

    from brolga.registry.options import Options

# The shortest manifest that needs nothing else.
MANIFEST = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}).encode()
ABC = Digest.of(b"abcdef")


@dataclass
class Answer:
    """A response of the application."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def code(self) -> str:
        """The first error's code, or nothing."""
        return str(json.loads(self.body)["errors"][0]["code"])

    @property
    def reason(self) -> str:
        """The first error's reason."""
        return str(json.loads(self.body)["errors"][0]["detail"]["reason"])


class Registry:
    """A registry in a directory, called one request at a time."""

    def __init__(
        self,
        root: Path,
        options: Options | None = None,
        middleware: Sequence[Middleware] = (),
    ) -> None:
        self.root = root
        self.app = create_app(root, options, middleware)

    def __call__(
        self,
        method: str,
        target: str,
        body: bytes | Iterable[bytes] = b"",
        headers: Mapping[str, str] | None = None,
        *,
        cut: bool = False,
    ) -> Answer:
        """Send a request; its body in pieces if it is a list, and without its end if cut."""
        pieces = [body] if isinstance(body, bytes) else list(body)
        return asyncio.run(self.call(method, target, pieces, headers or {}, cut=cut))

    async def call(
        self,
        method: str,
        target: str,
        pieces: list[bytes],
        headers: Mapping[str, str],
        *,
        cut: bool = False,
    ) -> Answer:
        """Send a request within a running loop."""
        answer = Answer()
        messages: list[Message] = [
            {"type": "http.request", "body": piece, "more_body": True} for piece in pieces
        ]
        end = {"type": "http.disconnect"} if cut else {"type": "http.request", "body": b""}
        messages.append(end)

        async def receive() -> Message:
            if not messages:
                await asyncio.Event().wait()
            await asyncio.sleep(0)
            return messages.pop(0)

        async def send(message: Message) -> None:
            await asyncio.sleep(0)
            if message["type"] == "http.response.start":
                answer.status = message["status"]
                answer.headers = {k.decode(): v.decode() for k, v in message["headers"]}
            else:
                answer.body += message["body"]

        await self.app(_scope(method, target, headers), receive, send)
        return answer

    def start(self, name: str = "a/b") -> str:
        """Open a session; return its location."""
        answer = self("POST", f"/v2/{name}/blobs/uploads/")
        assert answer.status == 202
        return answer.headers["location"]

    def push(self, data: bytes, name: str = "a/b", algorithm: str = "sha256") -> Digest:
        """Push a blob in one request."""
        digest = Digest.of(data, algorithm)
        answer = self("PUT", f"{self.start(name)}?digest={digest}", data)
        assert answer.status == 201
        return digest

    def files(self) -> set[str]:
        """Return every file below the root, sessions too; an index can be made anew at any time."""
        paths = (p.relative_to(self.root) for p in self.root.rglob("*") if p.is_file())
        return {str(path) for path in paths if DATABASE not in path.parts}

    def blobs(self) -> set[str]:
        """Return the path of every blob below the root."""
        return {name for name in self.files() if "blobs/" in name}


def _scope(method: str, target: str, headers: Mapping[str, str]) -> Scope:
    path, _, query = target.partition("?")
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "path": unquote(path),
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": [(k.lower().encode(), v.encode()) for k, v in headers.items()],
        "server": ("127.0.0.1", 80),
        "scheme": "http",
    }
    return scope


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """Return a registry in an empty directory."""
    return Registry(tmp_path / "registry")


def put_manifest(
    registry: Registry, reference: str, body: bytes = MANIFEST, kind: str = OCI_INDEX
) -> Answer:
    """Push a manifest."""
    headers = {"Content-Type": kind} if kind else {}
    return registry("PUT", f"/v2/a/b/manifests/{reference}", body, headers)
