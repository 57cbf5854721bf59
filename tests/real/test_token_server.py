"""The token server of these tests, by itself and with docker-registry."""

from __future__ import annotations

import http.client
import json
import ssl
from base64 import urlsafe_b64decode
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

import pytest
from tests.real.calls import basic, call, trusting
from tests.real.foreign import (
    Access,
    push,
    write_auths,
)
from tests.real.tokens import LEEWAY_S, Asked, narrow, token_server

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Authority
    from tests.real.foreign import DockerRegistry, Image
    from tests.real.tokens import TokenKey, TokenServer

pytestmark = pytest.mark.real


def claims(token: str) -> dict[str, Any]:
    """Return the claims of a JWT."""
    body = token.split(".")[1]
    payload: dict[str, Any] = json.loads(urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    return payload


def ask(
    server: TokenServer,
    authority: Authority,
    *scopes: str,
    authorization: str = "",
    form: dict[str, str] | None = None,
    offline: bool = False,
) -> tuple[int, dict[str, Any]]:
    """Ask for a token: by POST with a form, else by GET; return status and answer."""
    realm = urlsplit(server.realm)
    asked = [("service", server.service), *(("scope", scope) for scope in scopes)]
    asked += [("offline_token", "true")] if offline else []
    headers = {"Authorization": authorization} if authorization else {}
    if form is None:
        method, path, body = "GET", f"{realm.path}?{urlencode(asked)}", b""
    else:
        whole = {"service": server.service, "client_id": "tests", "scope": " ".join(scopes)} | form
        method, path, body = "POST", realm.path, urlencode(whole).encode()
    context = trusting(authority) if realm.scheme == "https" else None
    status, _, answer = call(realm.netloc, method, path, body, headers=headers, context=context)
    return status, json.loads(answer)


APP = "repository:team/app:pull,push"


class TestTokens:
    """The token server, by itself."""

    @pytest.mark.parametrize(
        ("scopes", "grants", "expected"),
        [
            ([APP], ["repository:team/*:pull,push"], [APP]),
            ([APP], ["repository:team/*:pull"], ["repository:team/app:pull"]),
            ([APP], ["repository:team/*:pull", "repository:*:push"], [APP]),
            ([APP], ["repository:other/*:pull"], []),
            ([APP], ["registry:*:pull"], []),
            ([APP], [], []),
            ([], ["repository:*:pull"], []),
            (["registry:catalog:*"], ["registry:catalog:*"], ["registry:catalog:*"]),
            ([APP, "repository:x:pull"], ["repository:x:pull"], ["repository:x:pull"]),
        ],
    )
    def test_token_server_grants_what_the_account_may_do(
        self, scopes: list[str], grants: list[str], expected: list[str]
    ) -> None:
        """The server may give less than was asked for (distribution)."""
        assert narrow(scopes, grants) == tuple(expected)

    def test_token_get_without_credentials_grants_public_pulls(
        self, tokens: TokenServer, authority: Authority
    ) -> None:
        """The claims are signed."""
        both = ("repository:public/x:pull,push", APP)
        status, answer = ask(tokens, authority, *both, offline=True)
        assert (status, answer["expires_in"], "refresh_token" in answer) == (200, 300, False)
        payload = claims(answer["token"])
        assert payload["access"] == [
            {"type": "repository", "name": "public/x", "actions": ["pull"]}
        ]
        assert payload["exp"] - payload["iat"] == 300
        granted = ("repository:public/x:pull",)
        assert tokens.asked == [Asked("GET", "anonymous", "", both, granted, 200)]

    @pytest.mark.parametrize("offline", [True, False])
    def test_token_get_with_credentials_gives_a_refresh_token(
        self, tokens: TokenServer, authority: Authority, offline: bool
    ) -> None:
        """With `offline_token=true`."""
        authorization = basic("someone", "secret")
        status, answer = ask(tokens, authority, APP, authorization=authorization, offline=offline)
        assert (status, claims(answer["token"])["sub"]) == (200, "someone")
        assert ("refresh_token" in answer) is offline
        assert tokens.asked == [Asked("GET", "basic", "someone", (APP,), (APP,), 200)]

    @pytest.mark.parametrize(
        "authorization",
        [basic("someone", "wrong"), basic("nobody", "secret"), "Bearer x", "Basic ?", "Basic /w=="],
    )
    def test_token_get_with_wrong_credentials_is_401(
        self, tokens: TokenServer, authority: Authority, authorization: str
    ) -> None:
        """Only the name is recorded."""
        status, answer = ask(tokens, authority, APP, authorization=authorization)
        assert (status, answer) == (401, {"details": "Unauthorized"})
        assert tokens.asked[0].status == 401
        assert "secret" not in repr(tokens.asked)

    def test_token_post_with_a_password(self, tokens: TokenServer, authority: Authority) -> None:
        """OAuth2: the answer has `access_token` and `scope`, and a refresh token if asked for."""
        form = {"grant_type": "password", "username": "reader", "password": "secret too"}
        status, answer = ask(tokens, authority, APP, form=form)
        granted = "repository:team/app:pull"
        assert (status, answer["scope"], "refresh_token" in answer) == (200, granted, False)
        assert claims(answer["access_token"])["sub"] == "reader"
        answer = ask(tokens, authority, APP, form=form | {"access_type": "offline"})[1]
        assert tokens.account_of_refresh_token(answer["refresh_token"]) == "reader"
        expected = Asked("POST", "password", "reader", (APP,), (granted,), 200)
        assert tokens.asked == [expected, expected]

    def test_token_post_with_a_refresh_token(
        self, tokens: TokenServer, authority: Authority
    ) -> None:
        """It is valid until it is revoked."""
        token = tokens.refresh_token("someone")
        form = {"grant_type": "refresh_token", "refresh_token": token}
        status, answer = ask(tokens, authority, APP, "registry:catalog:*", form=form)
        assert (status, answer["refresh_token"]) == (200, token)
        assert answer["scope"] == f"{APP} registry:catalog:*"
        tokens.revoke()
        assert ask(tokens, authority, APP, form=form) == (401, {"error": "invalid_grant"})
        assert token not in repr(tokens.asked)

    @pytest.mark.parametrize(
        ("form", "expected"),
        [
            ({"grant_type": "password", "username": "reader", "password": "no"}, 401),
            ({"grant_type": "magic"}, 401),
            ({"grant_type": "magic", "client_id": ""}, 400),
        ],
    )
    def test_token_post_is_refused(
        self, tokens: TokenServer, authority: Authority, form: dict[str, str], expected: int
    ) -> None:
        """401 for an unknown account, 400 if the form is not complete (RFC 6749, section 5.2)."""
        assert ask(tokens, authority, APP, form=form)[0] == expected

    @pytest.mark.parametrize("status", [404, 405])
    def test_token_post_is_404_if_switched_off(
        self, tokens: TokenServer, authority: Authority, status: int
    ) -> None:
        """As at the servers that have only GET."""
        tokens.oauth = status
        form = {"grant_type": "refresh_token", "refresh_token": tokens.refresh_token("someone")}
        assert ask(tokens, authority, APP, form=form)[0] == status
        assert tokens.asked == [Asked("POST", "refresh_token", "", (APP,), (), status)]

    def test_token_lifetimes_signed_and_announced_may_differ(
        self, tokens: TokenServer, authority: Authority
    ) -> None:
        """`exp` in the token and `expires_in` in the response are set separately."""
        tokens.lifetime_s, tokens.expires_in = 7, None
        answer = ask(tokens, authority, APP)[1]
        payload = claims(answer["token"])
        assert payload["exp"] - payload["iat"] == 7
        assert "expires_in" not in answer

    def test_token_server_gives_expired_tokens_on_demand(
        self, tokens: TokenServer, authority: Authority
    ) -> None:
        """Some number after some good ones; the response is the same."""
        tokens.issue_expired(times=2, after=1)
        answers = [ask(tokens, authority, APP)[1] for _ in range(4)]
        assert {answer["expires_in"] for answer in answers} == {300}
        lives = [claims(answer["token"]) for answer in answers]
        # An expired one was issued, as it says, when it expired.
        assert [payload["exp"] > payload["iat"] for payload in lives] == [True, False, False, True]

    def test_token_server_survives_a_client_that_disconnects(
        self, tokens: TokenServer, authority: Authority, capfd: pytest.CaptureFixture[str]
    ) -> None:
        """A client may distrust the certificate; the server goes on, and prints nothing."""
        with pytest.raises(ssl.SSLCertVerificationError):
            call(
                f"127.0.0.1:{tokens.server_port}",
                *("GET", "/token"),
                context=ssl.create_default_context(),
            )
        assert ask(tokens, authority, APP)[0] == 200
        assert capfd.readouterr().err == ""

    def test_token_server_prints_its_exceptions(
        self, token_key: TokenKey, capfd: pytest.CaptureFixture[str]
    ) -> None:
        """On stderr, which pytest shows."""
        with token_server(token_key) as server:
            server.public = None  # type: ignore[assignment]
            with pytest.raises(http.client.RemoteDisconnected):
                call(f"127.0.0.1:{server.server_port}", "GET", "/token")
        assert "TypeError" in capfd.readouterr().err


class TestTokenRegistry:
    """docker-registry with the token server."""

    def test_token_challenge_has_realm_service_and_scope(
        self, token_registry: DockerRegistry, tokens: TokenServer, authority: Authority
    ) -> None:
        """Clients follow it."""
        status, headers, _ = call(
            token_registry.address, "GET", "/v2/team/app/tags/list", context=trusting(authority)
        )
        assert status == 401
        assert headers["Www-Authenticate"] == (
            f'Bearer realm="{tokens.realm}",service="{tokens.service}",'
            'scope="repository:team/app:pull"'
        )

    @pytest.mark.parametrize(
        ("lifetime_s", "expected"),
        [(300, 200), (-LEEWAY_S // 2, 200), (-2 * LEEWAY_S, 401)],
        ids=["good", "expired, within the leeway", "expired"],
    )
    def test_docker_registry_accepts_tokens_60_s_after_expiry(
        self,
        token_registry: DockerRegistry,
        tokens: TokenServer,
        authority: Authority,
        lifetime_s: int,
        expected: int,
    ) -> None:
        """By distribution 2.8.2, which grants 60 seconds of leeway to `exp`."""
        tokens.lifetime_s = lifetime_s
        scopes = ["registry:catalog:*"]
        token = tokens.token("someone", tokens.service, tokens.granted("someone", scopes))
        given = {"Authorization": f"Bearer {token}"}
        context = trusting(authority)
        answer = call(token_registry.address, "GET", "/v2/_catalog", headers=given, context=context)
        assert answer[0] == expected

    def test_skopeo_pushes_with_a_password_and_a_token(
        self,
        token_registry: DockerRegistry,
        tokens: TokenServer,
        trust: Access,
        image: Image,
        tmp_path: Path,
    ) -> None:
        """A foreign client follows the challenge to the token server."""
        address = token_registry.address
        auths = write_auths(tmp_path / "auths", passwords={address: ("someone", "secret")})
        access = Access(certificates=trust.certificates, authfile=auths)
        assert push(image, f"{address}/team/app:v1", access=access) == image.digest
        scope = "repository:team/app:pull,push"
        assert Asked("GET", "basic", "someone", (scope,), (scope,), 200) in tokens.asked

    def test_skopeo_pushes_with_a_refresh_token(
        self,
        token_registry: DockerRegistry,
        tokens: TokenServer,
        trust: Access,
        image: Image,
        tmp_path: Path,
    ) -> None:
        """An identity token in the config is a refresh token for POST."""
        address = token_registry.address
        identity = {address: tokens.refresh_token("someone")}
        auths = write_auths(tmp_path / "auths", identity_tokens=identity)
        push(
            image,
            f"{address}/team/app:v1",
            access=Access(certificates=trust.certificates, authfile=auths),
        )
        assert {(asked.method, asked.grant, asked.account) for asked in tokens.asked} == {
            ("POST", "refresh_token", "someone")
        }

    def test_skopeo_push_fails_without_the_grant(
        self,
        token_registry: DockerRegistry,
        trust: Access,
        image: Image,
        tmp_path: Path,
    ) -> None:
        """`reader` may pull `team/*`, and push nothing."""
        address = token_registry.address
        auths = write_auths(tmp_path / "auths", passwords={address: ("reader", "secret too")})
        access = Access(certificates=trust.certificates, authfile=auths)
        with pytest.raises(AssertionError, match=r"denied|authentication required"):
            push(image, f"{address}/team/app:v1", access=access)
