"""Authentication, public addresses and TLS."""

from __future__ import annotations

import base64
import http.client
import socket
import ssl
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from tests.images import digest_of
from tests.integration.registry.conftest import Client

from brolga.registry.options import Options
from brolga.registry.server import running, serve
from brolga.registry.serving.htpasswd import InvalidHtpasswd
from brolga.registry.serving.server import InvalidTls, NotLoopback

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Authority

bcrypt = pytest.importorskip("bcrypt")


def entry(name: str, password: str, prefix: bytes = b"$2y") -> str:
    """Return a line of a password file, as `htpasswd -B` writes it but cheaper."""
    hashed: bytes = bcrypt.hashpw(password.encode(), bcrypt.gensalt(4))
    return f"{name}:{(prefix + hashed[3:]).decode()}\n"


def basic(name: str, password: str) -> dict[str, str]:
    """Return the header of Basic credentials (RFC 7617)."""
    return {"Authorization": "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()}


@pytest.fixture
def users(tmp_path: Path) -> Path:
    """Write a password file of two users."""
    path = tmp_path / "htpasswd"
    path.write_text("# users\n\n" + entry("ann", "s\u00e9cret:x") + entry("bob", "b", b"$2b"))
    return path


def test_basic_authentication(tmp_path: Path, users: Path) -> None:
    """RFC 9110, 15.5.2: the server generating a 401 response MUST send a WWW-Authenticate."""
    with running(tmp_path / "store", Options(htpasswd=users)) as address:
        client = Client(address, "a/b")
        for headers in (
            {},
            basic("ann", "wrong"),
            basic("nobody", "s\u00e9cret:x"),
            basic("", ""),
            {"Authorization": "Bearer x"},
            {"Authorization": "Basic"},
            {"Authorization": "Basic ???"},
            {"Authorization": "Basic " + base64.b64encode(b"ann").decode()},
            {"Authorization": "Basic " + base64.b64encode(b"\xff:x").decode()},
        ):
            for method, target in (("GET", "/v2/"), ("POST", "blobs/uploads/"), ("GET", "/x")):
                reply = client(method, target, headers=headers)
                assert (reply.status, reply.codes) == (401, ["UNAUTHORIZED"])
                assert reply.headers["WWW-Authenticate"] == 'Basic realm="brolga", charset="UTF-8"'
        # Once by bcrypt, then remembered.
        for _ in range(2):
            assert client("GET", "/v2/", headers=basic("ann", "s\u00e9cret:x")).status == 200
            assert client("GET", "/v2/", headers=basic("bob", "b")).status == 200
            assert client("GET", "/v2/", headers=basic("bob", "s\u00e9cret:x")).status == 401
    assert not (tmp_path / "store/a").exists()


def test_401_before_the_body(tmp_path: Path, users: Path) -> None:
    """A 401 comes before the body, which the server does not wait for."""
    with running(tmp_path / "store", Options(htpasswd=users)) as address:
        host, _, port = address.partition(":")
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            connection.sendall(
                b"PATCH /v2/a/blobs/uploads/x HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n"
            )
            response = http.client.HTTPResponse(connection)
            response.begin()
            assert response.status == 401
            response.close()


def test_changed_password_file_is_reloaded(
    tmp_path: Path, users: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A removed user loses access; a file that cannot be read changes no users."""
    with running(tmp_path / "store", Options(htpasswd=users)) as address:
        client = Client(address, "a/b")

        def status(name: str, password: str) -> int:
            return client("GET", "/v2/", headers=basic(name, password)).status

        assert status("bob", "b") == 200
        users.write_text("no entry\n")
        assert status("bob", "b") == 200
        users.unlink()
        assert status("bob", "b") == 200
        assert caplog.text.count("cannot be read again") == 2
        users.write_text(entry("carol", "c"))
        assert status("bob", "b") == 401
        assert status("carol", "c") == 200


@pytest.mark.parametrize(
    "line",
    ["ann", "ann:", "ann:secret", ":$2y$04$" + "a" * 53, "ann:{SHA}xxx",
     "ann:$apr1$abc$def", "ann:$2y$99$" + "a" * 53, "ann:$2y$05$" + "!" * 53],
)  # fmt: skip
def test_invalid_password_file_raises(tmp_path: Path, line: str) -> None:
    """An invalid entry is an error at the start, with its line number and never its text."""
    path = tmp_path / "htpasswd"
    path.write_text(entry("bob", "b") + line + "\n")
    if line.startswith(":"):
        path.write_text(entry("bob", "b") + entry("", "x"))
    with (
        pytest.raises(InvalidHtpasswd, match="line 2") as caught,
        running(tmp_path / "store", Options(htpasswd=path)),
    ):
        raise AssertionError
    assert "secret" not in str(caught.value)


def test_missing_password_file_raises(tmp_path: Path) -> None:
    """A registry does not run open because its password file is missing."""
    with pytest.raises(FileNotFoundError), running(tmp_path, Options(htpasswd=tmp_path / "none")):
        raise AssertionError


def test_public_address_requires_protection(tmp_path: Path, users: Path) -> None:
    """A public address needs authentication, or the option that allows it."""
    with pytest.raises(NotLoopback):
        serve(tmp_path, "0.0.0.0")  # noqa: S104 - refused
    # An address that no interface has: it gets as far as to be bound.
    for options in (Options(htpasswd=users), Options(allow_anonymous=True)):
        with pytest.raises(OSError, match="assign"):
            serve(tmp_path, "192.0.2.1", options=options)


def test_https(tmp_path: Path, authority: Authority) -> None:
    """With a certificate all of it is https, whole blobs and ranges too."""
    cert, key = authority.certificate()
    data = b"abc" * 1_000_000
    with running(tmp_path / "store", Options(tls_cert=cert, tls_key=key)) as address:
        context = ssl.create_default_context(cafile=authority.ca_cert)
        with closing(http.client.HTTPSConnection(address, timeout=30, context=context)) as secure:

            def ask(
                method: str, target: str, body: bytes = b"", headers: dict[str, str] | None = None
            ) -> http.client.HTTPResponse:
                secure.request(method, target, body, headers or {})
                return secure.getresponse()

            query = f"digest={digest_of(data)}"
            response = ask("POST", f"/v2/a/blobs/uploads/?{query}", data)
            assert response.read() == b""
            assert response.status == 201
            location = str(response.headers["Location"])
            assert ask("GET", location).read() == data
            part = ask("GET", location, headers={"Range": "bytes=1-2000000"})
            assert part.read() == data[1:2_000_001]
        with pytest.raises(http.client.BadStatusLine):
            Client(address, "a")("GET", "/v2/")


def test_key_without_certificate_raises(tmp_path: Path) -> None:
    """A registry with a key does not run without TLS."""
    with pytest.raises(ValueError, match="certificate"):
        Options(tls_key=tmp_path / "key")


def test_invalid_certificate_raises(tmp_path: Path, authority: Authority) -> None:
    """An invalid file is an error at the start."""
    cert, _ = authority.certificate()
    _, key = authority.certificate("elsewhere")
    with (
        pytest.raises(InvalidTls, match="is not that of"),
        running(tmp_path / "store", Options(tls_cert=cert, tls_key=key)),
    ):
        raise AssertionError
    with (
        pytest.raises(FileNotFoundError),
        running(tmp_path / "store", Options(tls_cert=tmp_path / "none", tls_key=key)),
    ):
        raise AssertionError
