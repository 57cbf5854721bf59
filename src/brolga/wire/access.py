"""The way into a registry: API check, challenge, token, the Authorization header.

Knows Basic (RFC 7617), the token protocol of distribution, and when a call may be sent again.
Must not know where credentials come from, or how bytes travel.

Strategy: `enter` proves the registry and returns an `Access`, through which every later call goes.
`Access.send` answers a 401 by a new token and a second try, **for calls whose body is bytes**. A
streamed body is never sent twice: its 401 goes to the flow, which cancels the upload.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

from brolga.errors import ProtocolViolation, TransportFailed
from brolga.wire.http import Call
from brolga.wire.replies import expect
from brolga.wire.urls import check, origin

if TYPE_CHECKING:
    from collections.abc import Sequence

    from brolga.reference import Repository
    from brolga.wire.http import Flow, Patience, Reply

__all__ = ["Access", "Credentials", "enter"]

_OK: Final = 200
_UNAUTHORIZED: Final = 401
_NO_API: Final = (400, 404, 405)
# What tells that the registry speaks the other protocol: reasons of a TransportFailed, by the
# scheme that was tried. A TLS connection that is cut may be an attack, and is no such sign.
_OTHER_SCHEME: Final = {"https": ("tls", "connect"), "http": ("connect", "cut")}
_NOT_HTTP_HERE: Final = 400  # what a TLS server answers to plain http
_MAX_CHALLENGE: Final = 8192  # characters
_MAX_TOKEN: Final = 65536  # characters
# RFC 9110, section 11.2: a parameter, a scheme, or what is neither (a token68, garbage). Repeated
# classes are possessive, so that nothing is tried twice; groups are not, as Python before 3.11.5
# gets possessive groups wrong (python/cpython#106052).
_CHALLENGE_PART: Final = re.compile(
    r"""
      (?P<name>[A-Za-z0-9_-]++)\s*+=\s*+(?:"(?P<quoted>(?:[^"\\]++|\\.)*)"|(?P<plain>[^\s,"]++))
    | (?P<scheme>[A-Za-z0-9!#$%&'*+.^_`|~-]++)(?=[\s,]|$)
    | [^\s,]++
    """,
    re.VERBOSE | re.DOTALL,
)
_TOKEN: Final = re.compile(r"[!-~]++")


@dataclass(frozen=True)
class Credentials:
    """Who asks: a name and password, or a token. Secrets are never shown.

    `identity_token` is an OAuth2 refresh token (docker's `identitytoken`), `registry_token` a bearer
    token to be sent as it is (docker's `registrytoken`). `origin` says where they come from.
    """

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    registry_token: str = field(default="", repr=False)
    origin: str = field(default="", compare=False)

    @property
    def basic(self) -> str:
        """The value of a Basic Authorization header (RFC 7617)."""
        # What the environment holds beside UTF-8 reads as lone surrogates (PEP 383): its own
        # bytes go out.
        pair = f"{self.username}:{self.password}".encode("utf-8", "surrogateescape")
        return "Basic " + b64encode(pair).decode()


class Access:
    """A proved way to one repository of one registry: its base URL and its authorization.

    The authorization goes to the registry's own scheme, host and port alone.
    """

    def __init__(self, base: str, repository: Repository, credentials: Credentials | None) -> None:
        self.base = base
        self.repository = repository
        self._credentials = credentials
        self._authorization = ""

    def url(self, path: str) -> str:
        """Return the URL of `path` below this repository."""
        return f"{self.base}/v2/{self.repository.path}/{path}"

    def send(self, call: Call) -> Flow[Reply]:
        """Make a call with the authorization; on 401 renew it and, with no stream, try again.

        Raises Unauthorized where the credentials are wrong or missing, and what the way to a
        token raises.
        """
        reply = yield self._authorized(call)
        if reply.status != _UNAUTHORIZED or not self._is_home(call.url):
            return reply
        if not isinstance(call.body, bytes | None):
            return reply
        yield from self.authorize(call, reply)
        return (yield self._authorized(call))

    def authorize(self, call: Call, reply: Reply) -> Flow[None]:
        """Answer the challenge of a 401 reply.

        Raises Unauthorized where the credentials are wrong or missing.
        """
        challenges = _parse_challenges(reply.headers.get("www-authenticate", ""))
        if "bearer" in challenges:
            self._authorization = yield from self._token(challenges["bearer"], call.patience)
        elif "basic" in challenges and self._credentials:
            if self._authorization == self._credentials.basic:
                expect(call, reply)  # these credentials were refused: raises
            self._authorization = self._credentials.basic
        else:
            expect(call, reply)

    def _token(self, params: dict[str, str], patience: Patience) -> Flow[str]:
        """Ask the realm for a token to push here (distribution, Token Authentication)."""
        # The realm gets the password: it must be a URL that the user's trust can extend to.
        realm = params.get("realm", "").partition("#")[0]
        check(realm, "token realm", seen_from=self.base)
        # Our own scope, not the challenge's: the registry does not choose what the token can do.
        query = {"scope": f"repository:{self.repository.path}:pull,push"}
        if service := params.get("service"):
            query["service"] = service
        url = f"{realm}{'&' if '?' in realm else '?'}{urlencode(query)}"
        headers = {"Authorization": self._credentials.basic} if self._credentials else {}
        call = Call("GET", url, headers, patience=patience)
        reply = yield call
        expect(call, reply, _OK)
        return f"Bearer {_token_in(reply.body)}"

    def _authorized(self, call: Call) -> Call:
        if not self._authorization or not self._is_home(call.url):
            return call
        return replace(call, headers={**call.headers, "Authorization": self._authorization})

    def _is_home(self, url: str) -> bool:
        return origin(url) == origin(self.base)


def enter(
    repository: Repository,
    credentials: Credentials | None = None,
    *,
    schemes: Sequence[str] = ("https",),
) -> Flow[Access]:
    """Check that the registry speaks the API, and find the way in (distribution-spec, end-1).

    `schemes` are tried in order; the next one only where the registry did not speak this one.

    Raises TransportFailed where it cannot be reached, Unauthorized, ProtocolViolation where it is
    no registry.
    """
    base, call, reply = yield from _knock([f"{name}://{repository.api_host}" for name in schemes])
    access = Access(base, repository, credentials)
    if reply.status == _UNAUTHORIZED:
        yield from access.authorize(call, reply)
    elif reply.status in _NO_API:
        raise ProtocolViolation(f"{base} answers {reply.status} at /v2/: it is not an OCI registry")
    else:
        expect(call, reply, _OK)
    return access


def _knock(bases: Sequence[str]) -> Flow[tuple[str, Call, Reply]]:
    """Ask for /v2/ at the first base that speaks its scheme; return base, call and answer."""
    base, *others = bases
    call = Call("GET", f"{base}/v2/")
    scheme = base.partition(":")[0]
    try:
        reply = yield call
    except TransportFailed as error:
        if not others or error.reason not in _OTHER_SCHEME[scheme]:
            raise
        # Inside the handler: where the next one fails too, a traceback shows both.
        return (yield from _knock(others))
    if others and scheme == "http" and reply.status == _NOT_HTTP_HERE:
        return (yield from _knock(others))
    return base, call, reply


def _parse_challenges(header: str) -> dict[str, dict[str, str]]:
    """Return a WWW-Authenticate header's challenges: parameters by scheme, both in lower case.

    Where a scheme comes twice, the first counts (RFC 9110, section 11.6.1).
    """
    challenges: dict[str, dict[str, str]] = {}
    params: dict[str, str] = {}
    for part in _CHALLENGE_PART.finditer(header[:_MAX_CHALLENGE]):
        if part["scheme"]:
            params = {}
            challenges.setdefault(part["scheme"].lower(), params)
        elif part["name"]:
            quoted = part["quoted"]
            value = part["plain"] if quoted is None else re.sub(r"(?s)\\(.)", r"\1", quoted)
            params.setdefault(part["name"].lower(), value)
    return challenges


def _token_in(body: bytes) -> str:
    """Return the token of a token server's answer, under either of its two names."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        document = None
    if isinstance(document, dict):
        token = document.get("token") or document.get("access_token")
        # It goes into a header: nothing but visible ASCII, and not without an end.
        if isinstance(token, str) and len(token) <= _MAX_TOKEN and _TOKEN.fullmatch(token):
            return token
    raise ProtocolViolation("the token server answered without a usable token")
