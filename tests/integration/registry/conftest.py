"""A client that is http.client and no more, and registries to ask."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from tests.images import digest_of
from tests.registries import request

from brolga.registry.server import running

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from tests.registries import Reply

IMAGE = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"


def describe(data: bytes, media_type: str, **more: Any) -> dict[str, Any]:
    """Return a descriptor."""
    return {"mediaType": media_type, "digest": digest_of(data), "size": len(data), **more}


class Client:
    """Asks one registry about one repository."""

    def __init__(self, address: str, name: str) -> None:
        self.address = address
        self.name = name

    def __call__(
        self,
        method: str,
        target: str,
        body: bytes | Iterable[bytes] = b"",
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """Send one request, chunked if the body is in pieces."""
        target = target if target.startswith("/") else f"/v2/{self.name}/{target}"
        return request(self.address, method, target, body, headers)

    def of(self, name: str) -> Client:
        """Return a client for another repository."""
        return Client(self.address, name)

    def start(self, query: str = "") -> str:
        """Open a session; return its location."""
        reply = self("POST", f"blobs/uploads/{query}", headers={"Content-Length": "0"})
        assert reply.status == 202
        return reply.location

    def push(self, data: bytes, algorithm: str = "sha256") -> str:
        """Push a blob; return its digest."""
        digest = digest_of(data, algorithm)
        assert self("PUT", f"{self.start()}?digest={digest}", data).status == 201
        return digest

    def put(self, reference: str, document: bytes | dict[str, Any], kind: str = IMAGE) -> Reply:
        """Push a manifest."""
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        return self("PUT", f"manifests/{reference}", body, {"Content-Type": kind})

    def image(self, **more: Any) -> dict[str, Any]:
        """Push a config and a layer; return a manifest of the two."""
        for data in (b"{}", b"layer"):
            self.push(data)
        return {
            "schemaVersion": 2,
            "mediaType": IMAGE,
            "config": describe(b"{}", CONFIG),
            "layers": [describe(b"layer", LAYER)],
            **more,
        }

    def pushed(self, reference: str, **more: Any) -> str:
        """Push an image; return its digest."""
        reply = self.put(reference, self.image(**more))
        assert reply.status == 201
        return str(reply.headers["Docker-Content-Digest"])


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of the module's registry."""
    return tmp_path_factory.mktemp("registry")


@pytest.fixture(scope="module")
def address(root: Path) -> Iterator[str]:
    """Return the address of the module's registry."""
    with running(root) as address:
        yield address


@pytest.fixture
def client(address: str) -> Client:
    """Return a client for a repository of the test's own."""
    return Client(address, f"tests/{uuid.uuid4().hex}")
