"""A token server: distribution's token protocol, by GET and by POST, with real signatures.

See distribution, "Token Authentication Specification" and "OAuth2 Token Authentication". A grant is
a scope with a pattern for the name. The openssl program signs. Requests are recorded for
assertions, without passwords and tokens.
"""

from __future__ import annotations

import base64
import binascii
import fnmatch
import http.server
import json
import secrets
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

from tests.real.foreign import require

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

__all__ = ["LEEWAY_S", "Account", "Asked", "TokenKey", "TokenServer", "narrow", "token_server"]

LEEWAY_S = 60
"""For so long docker-registry takes a token that has expired (registry/auth/token/token.go)."""

_POLL_S = 0.02  # how often it looks whether it shall end
_IDLE_S = 10.0  # a client that says nothing is let go, so that the server can end


class TokenKey:
    """A key that signs tokens as distribution wants them (RS256, the certificate in x5c)."""

    def __init__(self, directory: Path) -> None:
        require("openssl")
        self._key = directory / "token.key"
        self.certificate = directory / "token.pem"
        command = "req -x509 -newkey rsa:2048 -nodes -subj /CN=tokens -days 2"
        subprocess.run(
            ["openssl", *command.split(), "-keyout", self._key, "-out", self.certificate],
            check=True,
            capture_output=True,
        )

    def sign(self, claims: Mapping[str, Any]) -> str:
        """Return the JWT of claims."""
        pem = self.certificate.read_text()
        header = {"typ": "JWT", "alg": "RS256", "x5c": ["".join(pem.splitlines()[1:-1])]}
        text = ".".join(_base64url(json.dumps(part).encode()) for part in (header, claims))
        signed = subprocess.run(
            ["openssl", "dgst", "-sha256", "-sign", self._key],
            input=text.encode(),
            capture_output=True,
            check=True,
        )
        return f"{text}.{_base64url(signed.stdout)}"


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


@dataclass(frozen=True)
class Account:
    """A password, and grants: scopes with patterns, as `repository:team/*:pull,push`."""

    password: str
    grants: tuple[str, ...]


class Asked(NamedTuple):
    """A request for a token, and the response; an empty account is anonymous."""

    method: str
    grant: str  # anonymous, basic, password, refresh_token
    account: str
    scopes: tuple[str, ...]
    granted: tuple[str, ...]
    status: int


def narrow(scopes: Iterable[str], grants: Iterable[str]) -> tuple[str, ...]:
    """Return the granted actions of each scope; leave out scopes without any."""
    granted = []
    for scope in scopes:
        resource, _, asked = scope.rpartition(":")
        allowed = {
            action
            for pattern, _, actions in (grant.rpartition(":") for grant in grants)
            if fnmatch.fnmatchcase(resource, pattern)
            for action in actions.split(",")
        }
        if kept := [action for action in asked.split(",") if action in allowed]:
            granted.append(f"{resource}:{','.join(kept)}")
    return tuple(granted)


class TokenServer(http.server.ThreadingHTTPServer):
    """A token server; its attributes may be changed while it runs."""

    daemon_threads = False  # so that closing waits for open requests

    def __init__(
        self,
        key: TokenKey,
        *,
        accounts: Mapping[str, Account] | None = None,
        public: tuple[str, ...] = (),
        context: ssl.SSLContext | None = None,
    ) -> None:
        """Take a free port; speak TLS with a context."""
        super().__init__(("127.0.0.1", 0), _Handler)
        if context:
            # The handshake is left to the thread of the connection: the first read makes it.
            self.socket = context.wrap_socket(
                self.socket, server_side=True, do_handshake_on_connect=False
            )
        self.key = key
        self.accounts = dict(accounts or {})
        self.public = public  # what everybody is granted
        self.realm = f"{'https' if context else 'http'}://127.0.0.1:{self.server_port}/token"
        self.service = "the registry"
        self.lifetime_s = 300  # of a token, as it is signed; negative: it has expired
        self.expires_in: float | None = 300  # what the answer says; None says nothing
        self.oauth: int = (
            HTTPStatus.OK
        )  # what POST answers: 404 and 405 make clients fall back to GET
        self.asked: list[Asked] = []
        self._refresh_tokens: dict[str, str] = {}
        self._good: int | None = None  # how many tokens are good before expired ones come
        self._expired = 0
        self._lock = threading.Lock()

    def section(self) -> dict[str, Any]:
        """Return the section `auth` with which a docker-registry trusts this server."""
        return {
            "token": {
                "realm": self.realm,
                "service": self.service,
                "issuer": "tests",
                "rootcertbundle": str(self.key.certificate),
            }
        }

    def refresh_token(self, account: str) -> str:
        """Make a refresh token, as `docker login` would have stored it."""
        token = secrets.token_urlsafe()
        self._refresh_tokens[token] = account
        return token

    def revoke(self) -> None:
        """Forget every refresh token."""
        self._refresh_tokens.clear()

    def issue_expired(self, times: int = 1, after: int = 0) -> None:
        """After so many good tokens issue expired ones, with an answer that tells nothing of it.

        Beyond the leeway, so that a registry refuses them at once.
        """
        with self._lock:
            self._good, self._expired = after, times

    def account_of(self, password: str, name: str) -> str | None:
        """Return an account that a password opens."""
        known = self.accounts.get(name)
        return name if known and known.password == password else None

    def account_of_refresh_token(self, token: str) -> str | None:
        """Return the account that a refresh token was made for."""
        return self._refresh_tokens.get(token)

    def granted(self, account: str, scopes: Iterable[str]) -> tuple[str, ...]:
        """Return the scopes that an account is granted."""
        known = self.accounts.get(account)
        return narrow(scopes, (*self.public, *(known.grants if known else ())))

    def token(self, account: str, service: str, granted: Iterable[str]) -> str:
        """Sign a token."""
        now = int(time.time())
        expires = now + self._lifetime()
        return self.key.sign(
            {
                "iss": "tests",
                "sub": account,
                "aud": service,
                "exp": expires,
                "nbf": min(now, expires) - LEEWAY_S,
                "iat": min(now, expires),
                "jti": secrets.token_hex(8),
                "access": [_access(scope) for scope in granted],
            }
        )

    def _lifetime(self) -> int:
        with self._lock:
            if self._good is None or not self._expired:
                return self.lifetime_s
            if self._good:
                self._good -= 1
                return self.lifetime_s
            self._expired -= 1
            return -2 * LEEWAY_S

    def handle_error(self, request: object, client_address: object) -> None:
        """Print exceptions of the server; a client may disconnect, or distrust the certificate."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


def _access(scope: str) -> dict[str, object]:
    resource, _, actions = scope.rpartition(":")
    kind, _, name = resource.partition(":")
    return {"type": kind, "name": name, "actions": actions.split(",")}


class _Handler(http.server.BaseHTTPRequestHandler):
    """One request for a token."""

    server: TokenServer
    timeout = _IDLE_S

    def do_GET(self) -> None:
        """Answer by the token protocol: anonymous, or by Basic credentials."""
        query = parse_qs(urlsplit(self.path).query)
        scopes = _scopes(query)
        given = self.headers["Authorization"]
        grant, name, account = "anonymous", "", ""
        if given is not None:
            grant = "basic"
            name, password = _basic(given)
            account_name = self.server.account_of(password, name)
            if account_name is None:
                self._answer(Asked("GET", grant, name, scopes, (), HTTPStatus.UNAUTHORIZED), {})
                return
            account = account_name
        granted = self.server.granted(account, scopes)
        answer: dict[str, object] = {"token": self._token(account, query, granted)}
        if account and _first(query, "offline_token") == "true":
            answer["refresh_token"] = self.server.refresh_token(account)
        self._answer(Asked("GET", grant, account, scopes, granted, HTTPStatus.OK), answer)

    def do_POST(self) -> None:
        """Answer by OAuth2, if that is on: a password or a refresh token in a form."""
        form = parse_qs(self._body().decode())
        scopes, grant, name = _scopes(form), _first(form, "grant_type"), _first(form, "username")
        if self.server.oauth != HTTPStatus.OK:
            self._answer(Asked("POST", grant, name, scopes, (), self.server.oauth), {})
            return
        account = None
        if grant == "password":
            account = self.server.account_of(_first(form, "password"), name)
        elif grant == "refresh_token":
            account = self.server.account_of_refresh_token(_first(form, "refresh_token"))
        whole = form.keys() >= {"service", "client_id"}
        if account is None or not whole:
            status = HTTPStatus.UNAUTHORIZED if whole else HTTPStatus.BAD_REQUEST
            error = {"error": "invalid_grant" if whole else "invalid_request"}
            self._answer(Asked("POST", grant, name, scopes, (), status), error)
            return
        granted = self.server.granted(account, scopes)
        answer: dict[str, object] = {
            "access_token": self._token(account, form, granted),
            "scope": " ".join(granted),
        }
        if grant == "refresh_token":
            answer["refresh_token"] = _first(form, "refresh_token")
        elif _first(form, "access_type") == "offline":
            answer["refresh_token"] = self.server.refresh_token(account)
        self._answer(Asked("POST", grant, account, scopes, granted, HTTPStatus.OK), answer)

    def _body(self) -> bytes:
        """Read the request's body; skopeo's comes in chunks."""
        if self.headers["Transfer-Encoding"] != "chunked":
            return self.rfile.read(int(self.headers["Content-Length"]))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _token(self, account: str, asked: Mapping[str, list[str]], granted: Iterable[str]) -> str:
        return self.server.token(account, _first(asked, "service"), granted)

    def _answer(self, asked: Asked, answer: Mapping[str, object]) -> None:
        """Note what was asked, then answer."""
        self.server.asked.append(asked)
        if asked.status == HTTPStatus.OK:
            now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            answer = {**answer, "issued_at": now}
            if self.server.expires_in is not None:
                answer["expires_in"] = self.server.expires_in
        body = json.dumps(answer or {"details": HTTPStatus(asked.status).phrase}).encode()
        self.send_response(asked.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its signature
        """Say nothing."""


def _first(form: Mapping[str, list[str]], name: str) -> str:
    return form.get(name, [""])[0]


def _scopes(form: Mapping[str, list[str]]) -> tuple[str, ...]:
    """Return the scopes: the parameter several times (GET), or with spaces (POST)."""
    return tuple(scope for value in form.get("scope", []) for scope in value.split())


def _basic(header: str) -> tuple[str, str]:
    """Return the name and the password of Basic credentials; empty ones of anything else."""
    scheme, _, encoded = header.partition(" ")
    try:
        plain = base64.b64decode(encoded, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        plain = ""
    name, _, password = plain.partition(":")
    return (name, password) if scheme.lower() == "basic" else ("", "")


@contextmanager
def token_server(
    key: TokenKey,
    *,
    accounts: Mapping[str, Account] | None = None,
    public: tuple[str, ...] = (),
    context: ssl.SSLContext | None = None,
) -> Iterator[TokenServer]:
    """Run a token server in a thread; by TLS with a context."""
    with TokenServer(key, accounts=accounts, public=public, context=context) as server:
        thread = threading.Thread(target=server.serve_forever, args=(_POLL_S,), name="tests-tokens")
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
