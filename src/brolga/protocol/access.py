"""The way into a registry: API check, authorization, redirects, second tries.

Knows Basic (RFC 7617), the token protocol of distribution and its OAuth2 form, and when a call may
be sent again. Must not know where credentials come from, or how bytes travel.

Strategy: `ping` finds the registry and returns a `RegistrySession`, which keeps what one host asks for
and the tokens that it gave, by scope. An `Access` is the view of it that a conversation has: one
scope. Every call goes through `Access.send`, which authorizes it, answers a 401 by a new token,
follows a redirect of a read, and repeats what may be repeated (`retry`). **A streamed body is never
sent twice**: its failure goes to the flow.
"""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

from brolga.errors import ProtocolViolation, TransportError
from brolga.protocol.challenge import parse_challenges, parse_token
from brolga.protocol.http import Request
from brolga.protocol.redirects import follow
from brolga.protocol.responses import is_json, raise_for_status, reject_html
from brolga.protocol.retry import Retry, send_with_retry
from brolga.protocol.tokens import Tokens
from brolga.protocol.urls import check, host_of, origin, redact

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from brolga.protocol.http import Flow, Response, Timeout
    from brolga.spec.reference import Repository

__all__ = ["Access", "Credentials", "RegistrySession", "check_login", "ping"]

_OK: Final = 200
_UNAUTHORIZED: Final = 401
_NO_API: Final = (400, 404, 405)
_VERSION: Final = "docker-distribution-api-version"
# What a token server without the OAuth2 form says to a POST.
_NO_OAUTH: Final = (400, 404, 405)
# What tells that the registry speaks the other protocol: reasons of a TransportError, by the
# scheme that was tried. A TLS connection that is cut may be an attack, and is not such a sign.
_OTHER_SCHEME: Final = {"https": ("tls", "connect"), "http": ("connect", "cut")}
_NOT_HTTP_HERE: Final = 400  # what a TLS server answers to plain http
_NOTHING_ANSWERS: Final = ("connect", "tls")
_CLIENT_ID: Final = "brolga"
# A token is renewed when this part of its life is left, at most so many seconds.
_LAST_PART: Final = 0.2
_LAST_S: Final = 10.0


@dataclass(frozen=True)
class Credentials:
    """Credentials: a name and password, or a token. Secrets are never shown.

    `identity_token` is an OAuth2 refresh token (docker's `identitytoken`), `registry_token` a
    bearer token to be sent as it is (docker's `registrytoken`). `origin` says where they are from.
    """

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    registry_token: str = field(default="", repr=False)
    origin: str = field(default="", compare=False)

    @property
    def basic(self) -> str:
        """The value of a Basic Authorization header (RFC 7617); empty without a secret for it."""
        secret = self.password or self.identity_token
        if not secret:
            return ""
        # What the environment holds beside UTF-8 reads as lone surrogates (PEP 383): its own
        # bytes go out.
        pair = f"{self.username}:{secret}".encode("utf-8", "surrogateescape")
        return "Basic " + b64encode(pair).decode()


def _never() -> float:
    return 0.0


class RegistrySession:
    """One registry, found at its base URL: what it asks for, and the tokens that it gave.

    `clock` gives monotonic seconds, by which tokens are renewed before they expire. `shows` are the
    headers of its API check. Threads may share one: at worst two of them ask for the same token.
    """

    def __init__(
        self,
        base: str,
        credentials: Credentials | None = None,
        *,
        retry: Retry | None = None,
        clock: Callable[[], float] = _never,
        shows: Mapping[str, str] | None = None,
    ) -> None:
        self.base = base
        self.retry = retry or Retry()
        self.shows = shows or {}
        self.asks = False  # whether it has asked for authorization
        self.clock = clock
        self._credentials = credentials or Credentials()
        self._bearer: dict[str, str] | None = None
        self._basic = ""
        self._tokens = Tokens()

    @property
    def host(self) -> str:
        """The host's name, without its port."""
        return host_of(self.base)

    @property
    def auth_scheme(self) -> str:
        """What it has asked for so far: `token`, with its realm's host, `basic`, or `nothing`."""
        if self._bearer is not None:
            return f"token of {host_of(self._bearer['realm'])}"
        return "basic" if self._basic else "nothing"

    def access(self, repository: Repository, actions: str = "pull", *also: Repository) -> Access:
        """Return the view that may do `actions` in a repository, and pull from some others."""
        scopes = [f"repository:{repository.path}:{actions}"]
        scopes += sorted({f"repository:{other.path}:pull" for other in also} - {scopes[0]})
        return Access(self, tuple(scopes), f"{self.base}/v2/{repository.path}/")

    def catalog(self) -> Access:
        """Return the view that may list the registry's repositories."""
        return Access(self, ("registry:catalog:*",), f"{self.base}/v2/")

    def is_home(self, url: str) -> bool:
        """Return whether a URL has the registry's scheme, host and port: it may be authorized."""
        return origin(url) == origin(self.base)

    def authorization(self, scope: tuple[str, ...], patience: Timeout) -> Flow[str]:
        """Return the value of the Authorization header for a scope; empty if none is asked for.

        Raises what the way to a token raises.
        """
        if self._credentials.registry_token:
            return f"Bearer {self._credentials.registry_token}"
        if self._bearer is None:
            return self._basic
        now = self.clock()
        if said := self._tokens.find(scope, now):
            return said
        response = yield from self._ask_realm(self._bearer, scope, patience)
        token = parse_token(response.body)
        left = min(token.lifetime_s * _LAST_PART, _LAST_S)
        said = f"Bearer {token.text}"
        self._tokens.keep(scope, said, now + token.lifetime_s - left, self.clock())
        return said

    def handle_challenge(
        self, request: Request, response: Response, refused: str = "", scope: tuple[str, ...] = ()
    ) -> None:
        """Take in the challenge of a 401; `refused` is what did not do for `scope`.

        Raises Unauthorized if there is nothing else to try, ProtocolViolation for a realm that
        must not be asked.
        """
        self.asks = True
        challenges = parse_challenges(response.headers.get("www-authenticate", ""))
        self._tokens.forget(scope, refused)
        if self._credentials.registry_token:
            if refused:
                raise_for_status(request, response)  # it is all there is
        elif "bearer" in challenges:
            self._bearer = {**challenges["bearer"], "realm": self._realm(challenges["bearer"])}
        elif "basic" in challenges and self._credentials.basic not in {"", refused}:
            self._basic, self._bearer = self._credentials.basic, None
        else:
            raise_for_status(request, response)

    def _realm(self, params: dict[str, str]) -> str:
        """Return the realm, which gets the password: a URL that the user's trust can extend to."""
        realm = params.get("realm", "").partition("#")[0]
        if not realm:
            raise ProtocolViolation(f"{self.base} asks for a token, but names no realm to get it")
        return check(realm, "token realm", seen_from=self.base)

    def _ask_realm(
        self, params: dict[str, str], scope: tuple[str, ...], patience: Timeout
    ) -> Flow[Response]:
        """Ask for a token (distribution, Token Authentication; OAuth2 Token Authentication).

        The scope is our own, not the challenge's: no registry chooses what its token can do.
        """
        fields = [("scope", part) for part in scope]
        fields += [("service", params["service"])] if params.get("service") else []
        realm = params["realm"]
        ask = Request("GET", realm, timeout=patience)
        if token := self._credentials.identity_token:
            # A refresh token is for the OAuth2 form; a server without it takes it as a password.
            form = {"grant_type": "refresh_token", "client_id": _CLIENT_ID, "refresh_token": token}
            fields_once = [(name, value) for name, value in fields if name != "scope"]
            fields_once += [("scope", " ".join(scope))] if scope else []
            body = urlencode([*form.items(), *fields_once]).encode()
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            request = replace(ask, method="POST", headers=headers, body=body)
            response = yield from send_with_retry(self.retry, request, self._at_realm)
            if response.status not in _NO_OAUTH:
                raise_for_status(request, response, _OK, who="the token server")
                return response
        basic = self._credentials.basic
        url = f"{realm}{'&' if '?' in realm else '?'}{urlencode(fields)}"
        request = replace(ask, url=url, headers={"Authorization": basic} if basic else {})
        response = yield from send_with_retry(self.retry, request, self._at_realm)
        raise_for_status(request, response, _OK, who="the token server")
        return response

    def _at_realm(self, request: Request) -> Flow[Response]:
        """Make a call to the token server, and follow its redirects.

        Credentials go along within one origin alone.
        """
        return (yield from follow(request, self._one_hop, "the token server", resends=True))

    def _one_hop(self, request: Request) -> Flow[Response]:
        """Make a call; the registry's own host is named by the user."""
        away = not self.is_home(request.url)
        return (
            yield replace(
                request, redirected_from=(request.redirected_from or self.host) if away else ""
            )
        )


@dataclass(frozen=True)
class Access:
    """What one conversation may do at a registry: a scope, and the URLs below `root`."""

    registry: RegistrySession
    scope: tuple[str, ...]
    root: str

    def url(self, path: str) -> str:
        """Return the URL of `path` below this repository."""
        return self.root + path

    def send(self, request: Request, *, once: bool = False) -> Flow[Response]:
        """Make a call with the authorization, and again if it may be (`once`: not after a 401).

        A read follows redirects; the authorization goes to the registry's own scheme, host and
        port alone, and a URL elsewhere is checked before it is called.

        Raises Unauthorized if the credentials are wrong or missing, what the way to a token
        raises, and TransportError if there was no answer.
        """
        if once:
            return (yield from self._authorized(request))
        if self.registry.is_home(request.url):
            # Before the attempts at the call: the token server has attempts of its own.
            yield from self.registry.authorization(self.scope, request.timeout)
        return (yield from send_with_retry(self.registry.retry, request, self._followed))

    def _followed(self, request: Request) -> Flow[Response]:
        """Make a call and, if it reads, follow redirects."""
        return (yield from follow(request, self._authorized, self.registry.base))

    def _authorized(self, request: Request) -> Flow[Response]:
        """Make a call with the authorization; on 401 renew it and, with no stream, try again."""
        registry = self.registry
        if not registry.is_home(request.url):
            return (yield from self._away(request))
        request = replace(request, redirected_from="")
        said = yield from registry.authorization(self.scope, request.timeout)
        response = yield _with(request, said)
        if response.status != _UNAUTHORIZED or not request.is_repeatable:
            return response
        if "www-authenticate" not in response.headers:
            return response  # it asks for no authorization: nothing else can be tried
        registry.handle_challenge(request, response, said, self.scope)
        said = yield from registry.authorization(self.scope, request.timeout)
        return (yield _with(replace(request, delay_s=0.0), said))

    def _away(self, request: Request) -> Flow[Response]:
        """Make a call to a URL elsewhere, which the registry named: without the authorization.

        Another port of the registry's own name is named by the registry too: the name may have
        come to mean another address since.

        Raises ProtocolViolation, which is not tried again, if nothing answers at such a port: it
        is most likely one that the registry's answer has lost.
        """
        registry = self.registry
        try:
            return (
                yield replace(request, redirected_from=request.redirected_from or registry.host)
            )
        except TransportError as error:
            if not _is_lost_port(error, request.url, registry):
                raise
            lost = ProtocolViolation(f"{registry.base} named {redact(request.url)}, and {error}")
            lost.add_note("if its port is wrong, the proxy in front must pass the Host header on")
            raise lost from error


def _is_lost_port(error: TransportError, url: str, registry: RegistrySession) -> bool:
    """Return whether nothing answers at another port of the registry's own host."""
    return error.reason in _NOTHING_ANSWERS and host_of(url) == registry.host


def ping(
    api_host: str,
    credentials: Credentials | None = None,
    *,
    schemes: Sequence[str] = ("https",),
    retry: Retry | None = None,
    clock: Callable[[], float] = _never,
) -> Flow[RegistrySession]:
    """Check that a host speaks the API, and learn what it asks for (distribution-spec, end-1).

    `schemes` are tried in order; the next one only if the registry does not speak the one before.

    Raises TransportError if it cannot be reached, Unauthorized if it asks for other credentials,
    ProtocolViolation if it is not a registry.
    """
    retry = retry or Retry()
    base, request, response = yield from _knock(retry, [f"{name}://{api_host}" for name in schemes])
    registry = RegistrySession(base, credentials, retry=retry, clock=clock, shows=response.headers)
    if response.status == _UNAUTHORIZED:
        registry.handle_challenge(request, response)
    elif response.status in _NO_API:
        raise ProtocolViolation(
            f"{base} answers {response.status} at /v2/: it is not an OCI registry"
        )
    else:
        _expect_api(request, response)
    return registry


def check_login(registry: RegistrySession) -> Flow[bool]:
    """Call the API with the credentials; return whether the registry asked for them.

    Of a token server a token without a scope is wanted, which asks for the password alone.

    Raises Unauthorized or Denied if they are refused, and what the way to a token raises.
    """
    access = Access(registry, (), f"{registry.base}/v2/")
    request = Request("GET", access.url(""))
    response = yield from access.send(request)
    _expect_api(request, response)
    return registry.asks


def _expect_api(request: Request, response: Response) -> None:
    """Raise if an answer to the API check is not a registry's.

    Quay gives `true` as text/html (quay/quay, endpoints/v2/__init__.py): what names the API's
    version, or is JSON, is not a page.
    """
    raise_for_status(request, response, _OK)
    if not response.headers.get(_VERSION, "").startswith("registry/2") and not is_json(response):
        reject_html(request, response)


def _knock(retry: Retry, bases: Sequence[str]) -> Flow[tuple[str, Request, Response]]:
    """Ask for /v2/ at the first base that speaks its scheme; return base, call and answer."""
    base, *others = bases
    request = Request("GET", f"{base}/v2/")
    scheme = base.partition(":")[0]
    try:
        # A failure to connect is told at once: a wrong address is likelier than a passing fault.
        response = yield from send_with_retry(retry, request, _just_once, reasons=())
    except TransportError as error:
        if not others or error.reason not in _OTHER_SCHEME[scheme]:
            raise
        if error.reason == "connect" and origin(base)[2] == origin(others[0])[2]:
            raise  # the port was named, and nothing listens there, whatever the scheme
        # Inside the handler: if the next one fails too, a traceback shows both.
        return (yield from _knock(retry, others))
    if others and scheme == "http" and response.status == _NOT_HTTP_HERE:
        return (yield from _knock(retry, others))
    return base, request, response


def _just_once(request: Request) -> Flow[Response]:
    return (yield request)


def _with(request: Request, authorization: str) -> Request:
    if not authorization:
        return request
    return replace(request, headers={**request.headers, "Authorization": authorization})
