"""Requests to the servers of these tests, by the client of the standard library."""

from __future__ import annotations

import http.client
import ssl
from base64 import b64encode
from contextlib import closing
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.conftest import Authority

__all__ = ["basic", "call", "trusting"]

Answer = tuple[int, dict[str, str], bytes]


def call(
    address: str,
    method: str,
    path: str,
    body: bytes = b"",
    *,
    headers: dict[str, str] | None = None,
    context: ssl.SSLContext | None = None,
) -> Answer:
    """Make one call with the standard library's client; by https with a context."""
    host, _, port = address.rpartition(":")
    connection = (
        http.client.HTTPSConnection(host, int(port), context=context)
        if context
        else http.client.HTTPConnection(host, int(port))
    )
    with closing(connection):
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, dict(answer.headers), answer.read()


def trusting(authority: Authority) -> ssl.SSLContext:
    """Return a context that trusts the tests' authority alone."""
    return ssl.create_default_context(cafile=str(authority.ca_cert))


def basic(name: str, password: str) -> str:
    """Return the header of Basic credentials."""
    return "Basic " + b64encode(f"{name}:{password}".encode()).decode()
