"""The docker-registry of these tests: each form, killed and started again."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from tests.real.calls import basic, call, trusting
from tests.real.foreign import (
    READ_ONLY,
    Access,
    docker_registry,
    push,
    require,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Authority
    from tests.real.foreign import DockerRegistry, Image

pytestmark = pytest.mark.real


def start_upload(address: str, repository: str) -> str:
    """Open an upload session; return its path and query."""
    status, headers, _ = call(address, "POST", f"/v2/{repository}/blobs/uploads/")
    assert status == 202
    location = urlsplit(headers["Location"])
    return f"{location.path}?{location.query}"


class TestForms:
    """docker-registry in each form."""

    def test_plain_registry_answers_over_http(self, plain_registry: DockerRegistry) -> None:
        """It needs no credentials."""
        assert call(plain_registry.address, "GET", "/v2/")[0] == 200

    def test_docker_registry_deletes_only_if_enabled(self, image: Image, tmp_path: Path) -> None:
        """202 with `delete` enabled; 405 without (distribution, `storage.delete`)."""
        for enabled, expected in ((True, 202), (False, 405)):
            storage = {"delete": {"enabled": enabled}}
            with docker_registry(tmp_path / str(enabled), storage=storage) as running:
                digest = push(image, f"{running.address}/x:v1")
                path = f"/v2/x/manifests/{digest}"
                assert call(running.address, "DELETE", path)[0] == expected

    def test_tls_registry_has_the_test_certificate(
        self, tls_registry: DockerRegistry, authority: Authority
    ) -> None:
        """No other authority is accepted."""
        assert call(tls_registry.address, "GET", "/v2/", context=trusting(authority))[0] == 200
        with pytest.raises(ssl.SSLCertVerificationError):
            call(tls_registry.address, "GET", "/v2/", context=ssl.create_default_context())

    def test_mutual_tls_registry_needs_a_client_certificate(
        self, mutual_tls_registry: DockerRegistry, authority: Authority, client_trust: Access
    ) -> None:
        """The registry gives no response without a certificate."""
        context = trusting(authority)
        with pytest.raises((ssl.SSLError, ConnectionError)):
            call(mutual_tls_registry.address, "GET", "/v2/", context=context)
        place = client_trust.certificates
        assert place
        context.load_cert_chain(place / "client.cert", place / "client.key")
        assert call(mutual_tls_registry.address, "GET", "/v2/", context=context)[0] == 200

    def test_basic_registry_needs_the_password(
        self, basic_registry: DockerRegistry, authority: Authority
    ) -> None:
        """401 with a Basic challenge, 200 with the right password."""
        context = trusting(authority)
        status, headers, _ = call(basic_registry.address, "GET", "/v2/", context=context)
        assert (status, headers["Www-Authenticate"]) == (401, 'Basic realm="tests"')
        for password, expected in (("secret", 200), ("wrong", 401)):
            given = {"Authorization": basic("someone", password)}
            answer = call(basic_registry.address, "GET", "/v2/", headers=given, context=context)
            assert answer[0] == expected

    def test_read_only_registry_answers_405_to_changes(
        self, own_registry: DockerRegistry, image: Image
    ) -> None:
        """It still answers reads."""
        push(image, f"{own_registry.address}/x:v1")
        own_registry.kill()
        own_registry.start(storage=READ_ONLY)
        accept = {"Accept": "application/vnd.oci.image.manifest.v1+json"}
        assert call(own_registry.address, "GET", "/v2/x/manifests/v1", headers=accept)[0] == 200
        assert call(own_registry.address, "POST", "/v2/x/blobs/uploads/")[0] == 405

    def test_docker_registry_start_failure_has_the_log(self, tmp_path: Path) -> None:
        """Its log is in the failure."""
        with (
            pytest.raises(pytest.fail.Exception, match=r"does not run.*nonsense"),
            docker_registry(tmp_path, storage={"nonsense": {}}),
        ):
            pass

    def test_require_skips_with_the_name_of_the_program(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A skip says which program is not there."""
        monkeypatch.setenv("PATH", "")
        with pytest.raises(pytest.skip.Exception, match="docker-registry is not on PATH"):
            require("docker-registry")


class TestDeath:
    """A docker-registry that is killed with -9 and started again."""

    def test_docker_registry_restarts_on_its_port_with_its_data(
        self, own_registry: DockerRegistry, image: Image
    ) -> None:
        """While it is down the port refuses connections, and no other process gets it."""
        address = own_registry.address
        push(image, f"{address}/x:v1")
        own_registry.kill()
        with pytest.raises(ConnectionRefusedError):
            call(address, "GET", "/v2/")
        own_registry.start()
        assert own_registry.address == address
        assert call(address, "GET", "/v2/x/tags/list")[2] == b'{"name":"x","tags":["v1"]}\n'

    @pytest.mark.parametrize(("secret", "expected"), [("of the tests", 204), ("another", 404)])
    def test_upload_sessions_survive_a_restart_with_the_same_secret(
        self, own_registry: DockerRegistry, secret: str, expected: int
    ) -> None:
        """`_state` in the Location is signed with `http.secret`."""
        session = start_upload(own_registry.address, "x")
        own_registry.kill()
        own_registry.start(http={"secret": secret})
        assert call(own_registry.address, "GET", session)[0] == expected
