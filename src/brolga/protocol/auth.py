"""Authorize requests: Basic (RFC 7617), the token protocol of distribution, and its OAuth2 form.

A `RegistrySession` remembers what one registry asks for, and its tokens by scope. An `Access` is
its view with one scope. `Access.send` authorizes a request, answers a 401 with a new token, and
follows redirects. It never sends a stream twice.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from brolga.errors import ProtocolViolation, TransportError
from brolga.protocol.auth_tokens import TokenCache, parse_challenges, parse_token
from brolga.protocol.http import Flow, Request, Response, Timeout, send_request
from brolga.protocol.redirects import follow_redirects
from brolga.protocol.responses import raise_for_status
from brolga.protocol.retry import (
    OnRetry,
    Retry,
    RetryBudget,
    ignore_retry,
    no_clock,
    send_with_retry,
)
from brolga.protocol.urls import check_url, hostname, origin, redact
from brolga.spec.value import Value, field, replace

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from brolga.spec.reference import Repository

_TOKEN_SERVER: Final = "the token server"  # noqa: S105 - not a secret
# How a token server without the OAuth2 form responds to a POST.
_NO_OAUTH2: Final = (400, 404, 405)
_CLIENT_ID: Final = "brolga"


class Credentials(Value):
    """A username and password, or a token. No secret appears in the repr.

    `identity_token` is an OAuth2 refresh token (docker's `identitytoken`), `registry_token` a
    bearer token that is sent as it is (docker's `registrytoken`). `source` says where the
    credentials are from.
    """

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    registry_token: str = field(default="", repr=False)
    source: str = field(default="", compare=False)

    @property
    def basic(self) -> str:
        """The value of a Basic Authorization header (RFC 7617); "" without a secret for it."""
        from base64 import b64encode

        secret = self.password or self.identity_token
        if not secret:
            return ""
        # Bytes of the environment that are not UTF-8 are read as lone surrogates (PEP 383), and
        # sent as the same bytes.
        pair = f"{self.username}:{secret}".encode("utf-8", "surrogateescape")
        return "Basic " + b64encode(pair).decode()


class RegistrySession:
    """One registry at its base URL: what it asks for, and the tokens that it gave.

    `clock` returns monotonic seconds, by which tokens are renewed before they expire.
    `ping_headers` are the headers of the response to the API check. Threads may share a session:
    at worst two ask for the same token.
    """

    def __init__(
        self,
        base: str,
        credentials: Credentials | None = None,
        *,
        retry: Retry | None = None,
        clock: Callable[[], float] = no_clock,
        ping_headers: Mapping[str, str] | None = None,
    ) -> None:
        self.base = base
        self.retry = retry or Retry()
        self.ping_headers = ping_headers or {}
        self.requires_auth = False  # whether it has sent a challenge
        self.clock = clock
        self._credentials = credentials or Credentials()
        self._bearer: dict[str, str] | None = None  # the parameters of its challenge
        self._basic = ""
        self._tokens = TokenCache()

    @property
    def host(self) -> str:
        """The registry's host without its port."""
        return hostname(self.base)

    @property
    def auth_scheme(self) -> str:
        """What it has asked for so far: `token of HOST`, `basic` or `nothing`."""
        if self._bearer is not None:
            return f"token of {hostname(self._bearer['realm'])}"
        return "basic" if self._basic else "nothing"

    def access(self, repository: Repository, actions: str = "pull", *also: Repository) -> Access:
        """Return the access for `actions` in a repository, and to pull from others as well."""
        scopes = [f"repository:{repository.path}:{actions}"]
        scopes += sorted({f"repository:{other.path}:pull" for other in also} - {scopes[0]})
        return Access(self, tuple(scopes), f"{self.base}/v2/{repository.path}/")

    def catalog_access(self) -> Access:
        """Return the access to the list of repositories."""
        return Access(self, ("registry:catalog:*",), f"{self.base}/v2/")

    def is_same_origin(self, url: str) -> bool:
        """Return whether a URL has the registry's scheme, host and port."""
        return origin(url) == origin(self.base)

    def authorize(self, scope: tuple[str, ...], timeout: Timeout) -> Flow[str]:
        """Return the Authorization header for a scope; "" if none is required. May get a token."""
        if self._credentials.registry_token:
            return f"Bearer {self._credentials.registry_token}"
        if self._bearer is None:
            return self._basic
        now = self.clock()
        if header := self._tokens.get(scope, now):
            return header
        response = yield from self._get_token(self._bearer, scope, timeout)
        token = parse_token(response.body)
        header = f"Bearer {token.text}"
        self._tokens.store(scope, header, now + token.renewed_after_s, self.clock())
        return header

    def handle_challenge(
        self, request: Request, response: Response, refused: str = "", scope: tuple[str, ...] = ()
    ) -> None:
        """Remember the challenge of a 401; `refused` is the header that was sent for `scope`.

        Raises Unauthorized if nothing else can be tried, ProtocolViolation if the realm is not
        safe to call.
        """
        self.requires_auth = True
        challenges = parse_challenges(response.headers.get("www-authenticate", ""))
        self._tokens.discard(scope, refused)
        if self._credentials.registry_token:
            if refused:
                raise_for_status(request, response)
        elif "bearer" in challenges:
            realm = challenges["bearer"].get("realm", "").partition("#")[0]
            if not realm:
                raise ProtocolViolation(
                    f"{self.base} asks for a token, but names no realm to get it"
                )
            check_url(realm, "token realm", named_by=self.base)  # the password is sent there
            self._bearer = {**challenges["bearer"], "realm": realm}
        elif "basic" in challenges and self._credentials.basic not in {"", refused}:
            self._basic, self._bearer = self._credentials.basic, None
        else:
            raise_for_status(request, response)

    def _get_token(
        self, params: dict[str, str], scope: tuple[str, ...], timeout: Timeout
    ) -> Flow[Response]:
        """Ask for a token for our own scope, not the challenge's (Token Authentication, OAuth2)."""
        from urllib.parse import urlencode

        service = [("service", params["service"])] if params.get("service") else []
        request = Request("GET", params["realm"], timeout=timeout)
        if token := self._credentials.identity_token:
            # A refresh token is for the OAuth2 form; a server without it takes it as a password.
            form = [
                ("grant_type", "refresh_token"),
                ("client_id", _CLIENT_ID),
                ("refresh_token", token),
                *service,
                *([("scope", " ".join(scope))] if scope else []),
            ]
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            post = replace(request, method="POST", headers=headers, body=urlencode(form).encode())
            response = yield from send_with_retry(self.retry, post, self._send_to_realm)
            if response.status not in _NO_OAUTH2:
                raise_for_status(post, response, HTTPStatus.OK, server=_TOKEN_SERVER)
                return response
        query = urlencode([*(("scope", part) for part in scope), *service])
        basic = self._credentials.basic
        request = replace(
            request,
            url=f"{request.url}{'&' if '?' in request.url else '?'}{query}",
            headers={"Authorization": basic} if basic else {},
        )
        response = yield from send_with_retry(self.retry, request, self._send_to_realm)
        raise_for_status(request, response, HTTPStatus.OK, server=_TOKEN_SERVER)
        return response

    def _send_to_realm(self, request: Request) -> Flow[Response]:
        """Send a request to the token server, and follow redirects."""

        def send(request: Request) -> Flow[Response]:
            # The user named the registry's origin; any other URL was named by a response.
            named_by = request.redirected_from or self.host
            is_home = self.is_same_origin(request.url)
            return send_request(replace(request, redirected_from="" if is_home else named_by))

        return (yield from follow_redirects(request, send, _TOKEN_SERVER, within_origin=True))


def _ignore_resume(_kept: int) -> None:
    """Do nothing: the default of what is called when an upload goes on."""


class Access(Value):
    """The access of one conversation to a registry: a scope, and the URLs below `root`.

    `on_retry` is called before a request, or the rest of a blob, is sent or asked for again;
    `on_resume` with the number of bytes that an earlier run has sent, if an upload goes on there.
    """

    registry: RegistrySession
    scope: tuple[str, ...]
    root: str
    on_retry: OnRetry = field(default=ignore_retry, compare=False, repr=False)
    on_resume: Callable[[int], object] = field(default=_ignore_resume, compare=False, repr=False)

    def url(self, path: str) -> str:
        """Return the URL of `path` below this repository."""
        return self.root + path

    def retry_budget(self, retry: Retry | None = None) -> RetryBudget:
        """Return the budget of one blob's failures; `retry` None is that of the registry."""
        return RetryBudget(retry or self.registry.retry, self.registry.clock, self.on_retry)

    def send(self, request: Request, *, retry: bool = True) -> Flow[Response]:
        """Send an authorized request. Repeat it if its failure may pass, unless `retry` is false.

        In any case a 401 is answered, and a redirect is followed, if the body can be sent again.
        """
        if not retry:
            return (yield from self._send_redirected(request))
        if self.registry.is_same_origin(request.url):
            # Outside the attempts at the request: the token server has attempts of its own.
            yield from self.registry.authorize(self.scope, request.timeout)
        send, on_retry = self._send_redirected, self.on_retry
        return (yield from send_with_retry(self.registry.retry, request, send, on_retry=on_retry))

    def _send_redirected(self, request: Request) -> Flow[Response]:
        return (yield from follow_redirects(request, self._send_authorized, self.registry.base))

    def _send_authorized(self, request: Request) -> Flow[Response]:
        """Send a request; after a 401 renew the authorization and, if possible, send it again."""
        registry = self.registry
        if not registry.is_same_origin(request.url):
            return (yield from self._send_elsewhere(request))
        request = replace(request, redirected_from="")
        header = yield from registry.authorize(self.scope, request.timeout)
        response = yield from send_request(_with_authorization(request, header))
        if (
            response.status != HTTPStatus.UNAUTHORIZED
            or not request.is_repeatable
            or "www-authenticate" not in response.headers
        ):
            return response
        registry.handle_challenge(request, response, header, self.scope)
        header = yield from registry.authorize(self.scope, request.timeout)
        request = _with_authorization(replace(request, delay_s=0.0), header)
        return (yield from send_request(request))

    def _send_elsewhere(self, request: Request) -> Flow[Response]:
        """Send a request, without authorization, to another origin that the registry named.

        Another port of the registry's own host is such an origin: its name may resolve to another
        address by now. If nothing answers there, the registry's response most likely lost its
        port: that is a ProtocolViolation, which is not retried.
        """
        registry = self.registry
        redirected_from = request.redirected_from or registry.host
        try:
            return (yield from send_request(replace(request, redirected_from=redirected_from)))
        except TransportError as error:
            if error.reason not in ("connect", "tls") or hostname(request.url) != registry.host:
                raise
            raise ProtocolViolation(
                f"{registry.base} named {redact(request.url)}, and {error}",
                hint="if its port is wrong, the proxy in front must pass the Host header on",
            ) from error


def _with_authorization(request: Request, header: str) -> Request:
    if not header:
        return request
    return replace(request, headers={**request.headers, "Authorization": header})
