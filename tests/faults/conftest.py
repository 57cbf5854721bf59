"""A client of http.client alone, and the plan or the profile of a test."""

from __future__ import annotations

import http.client
import json
import socket
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

import pytest
from tests.images import digest_of

from brolga.testing.faults import Fault, FaultPlan
from brolga.testing.registries import PROFILES, Profile

if TYPE_CHECKING:
    from collections.abc import Iterable

    from brolga.testing.plugin import BrolgaRegistry

PATIENCE_S = 30.0
NAME = "team/app"


@dataclass(frozen=True)
class Reply:
    """A response; status 0 means that there was none."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes = b""

    @property
    def range(self) -> str | None:
        """The header Range."""
        return self.headers["Range"]

    @property
    def code(self) -> str:
        """The code of the first error."""
        return str(json.loads(self.body)["errors"][0]["code"])


class Raw:
    """A client of one repository."""

    def __init__(self, address: str, name: str = NAME) -> None:
        self.address = address
        self.name = name
        self.token = ""

    def __call__(
        self,
        method: str,
        target: str,
        body: bytes | Iterable[bytes] = b"",
        **headers: Any,
    ) -> Reply:
        """Send a request, chunked if the body is in pieces; status 0 means no response."""
        parts = urlsplit(target)
        path = parts.path if parts.path.startswith("/") else f"/v2/{self.name}/{parts.path}"
        path += f"?{parts.query}" if parts.query else ""
        named = {name.replace("_", "-"): str(value) for name, value in headers.items()}
        if self.token:
            named.setdefault("Authorization", f"Bearer {self.token}")
        with closing(http.client.HTTPConnection(self.address, timeout=PATIENCE_S)) as connection:
            try:
                connection.request(
                    method, path, body, named, encode_chunked=not isinstance(body, bytes)
                )
                response = connection.getresponse()
            except (ConnectionError, http.client.BadStatusLine):
                return Reply(0, http.client.HTTPMessage())
            try:
                return Reply(response.status, response.headers, response.read())
            except http.client.IncompleteRead as error:
                return Reply(response.status, response.headers, error.partial)

    def start(self, query: str = "") -> str:
        """Open a session; return its location."""
        reply = self("POST", f"/v2/{self.name}/blobs/uploads/{query}")
        assert reply.status == 202
        return self.resolve(f"/v2/{self.name}/blobs/uploads/", reply)

    def resolve(self, target: str, reply: Reply) -> str:
        """Return where an answer to a request for `target` points (RFC 9110, section 10.2.2)."""
        url = urljoin(f"http://{self.address}/", target)
        return urljoin(url, str(reply.headers["Location"]))

    def patch(self, location: str, body: bytes | Iterable[bytes], **headers: Any) -> Reply:
        """Send bytes into a session."""
        return self("PATCH", location, body, **headers)

    def finish(self, location: str, data: bytes, body: bytes = b"", **headers: Any) -> Reply:
        """Close a session that has, with `body`, the bytes of `data`."""
        mark = "&" if "?" in location else "?"
        return self("PUT", f"{location}{mark}digest={digest_of(data)}", body, **headers)

    def push(self, data: bytes) -> str:
        """Push a blob; return its digest."""
        assert self.finish(self.start(), data, data).status == 201
        return digest_of(data)

    def stored_range(self, location: str) -> str | None:
        """Return the Range in the status of a session."""
        return self("GET", location).range

    def connect(self) -> socket.socket:
        """Return a bare connection."""
        host, _, port = self.address.rpartition(":")
        return socket.create_connection((host, int(port)), timeout=PATIENCE_S)

    def head(self, method: str, location: str, length: int) -> bytes:
        """Return a request's head."""
        parts = urlsplit(location)
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        lines = (f"{method} {path} HTTP/1.1", f"Host: {self.address}", f"Content-Length: {length}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode()


def session_bytes(registry: BrolgaRegistry, name: str = NAME) -> list[bytes]:
    """Return the bytes of each open session."""
    return list(registry.uploads(name).values())


def arm(registry: BrolgaRegistry, *faults: Fault) -> FaultPlan:
    """Put faults in force."""
    plan = FaultPlan(*faults)
    registry.use(faults=plan)
    return plan


def emulate(registry: BrolgaRegistry, name: str, **other: Any) -> Profile:
    """Emulate a profile, with other values for some of its fields."""
    profile = replace(PROFILES[name], **other)
    registry.use(profile=profile)
    return profile


def chunk(raw: Raw, location: str, start: int, data: bytes) -> Reply:
    """Send a chunk with Content-Range and Content-Length."""
    return raw.patch(location, data, Content_Range=f"{start}-{start + len(data) - 1}")


@pytest.fixture
def raw(brolga_registry: BrolgaRegistry) -> Raw:
    """Return a bare client of the registry."""
    brolga_registry.repository(NAME)
    raw = Raw(brolga_registry.address)
    if brolga_registry.profile is not None and brolga_registry.profile.token_s is not None:
        raw.token = json.loads(raw("GET", "/token").body)["token"]
    return raw
