"""The registry's paths, names, errors and headers."""

from __future__ import annotations

import errno
import json
import shutil
import uuid
from typing import TYPE_CHECKING

import pytest
from tests.unit.registry.conftest import ABC, MANIFEST, Registry, put_manifest

from brolga._version import __version__
from brolga.disk.layout import DATABASE
from brolga.registry.storage.repository import Repo
from brolga.registry.storage.uploads import UploadWriter
from brolga.spec.digest import Digest
from brolga.spec.mediatypes import OCI_INDEX
from brolga.testing.injector import Injector
from brolga.testing.middleware import fault_middleware

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_ping(registry: Registry, method: str) -> None:
    """If the response is `200 OK`, then the registry implements this specification."""
    answer = registry(method, "/v2/")
    assert answer.status == 200
    assert answer.headers["docker-distribution-api-version"] == "registry/2.0"


@pytest.mark.parametrize("target", ["/", "/v2", "/v1/", "/v2/a", "/v2/a/nothing/here", "/v2//"])
def test_unknown_path_is_404(registry: Registry, target: str) -> None:
    """The `code` field MUST be one of the following."""
    answer = registry("GET", target)
    assert (answer.status, answer.code) == (404, "UNSUPPORTED")
    assert answer.headers["docker-distribution-api-version"] == "registry/2.0"


def test_unknown_method_is_405(registry: Registry) -> None:
    """RFC 9110, 15.5.6: the server MUST generate an Allow header field in a 405 response."""
    answer = registry("PUT", "/v2/a/b/tags/list")
    assert (answer.status, answer.code) == (405, "UNSUPPORTED")
    assert answer.headers["allow"] == "GET, HEAD"
    answer = registry("POST", "/v2/a/b/blobs/uploads/x")
    assert answer.headers["allow"] == "DELETE, GET, HEAD, PATCH, PUT"


@pytest.mark.parametrize(
    "name",
    [
        "A", "a/B", "a//b", "/a", "-a", "a-", "a___b", ".uploads", "a/.uploads", "..", "a/../b",
        "%2e%2e/a", "a/%2e%2e/%2e%2e/etc", "a%00b", "a%0a", "%2fetc", "a b", "\u00e4", "a" * 300,
        "..%2f..%2fetc", "a\\b", "a:b",
    ],
)  # fmt: skip
def test_invalid_name_is_rejected(registry: Registry, name: str) -> None:
    """`<name>` MUST match the following regular expression."""
    for method, rest in (
        ("POST", "blobs/uploads/"),
        ("PATCH", f"blobs/uploads/{uuid.uuid4().hex}"),
        ("GET", f"blobs/{ABC}"),
        ("PUT", "manifests/x"),
        ("GET", "manifests/x"),
        ("GET", "tags/list"),
    ):
        answer = registry(method, f"/v2/{name}/{rest}", MANIFEST)
        # A name with a line feed is in no route at all.
        assert (answer.status, answer.code) in {(400, "NAME_INVALID"), (404, "UNSUPPORTED")}
    assert registry.files() == set()


@pytest.mark.parametrize("name", ["blobs", "a/blobs/sha256", "index.json", "a/oci-layout"])
def test_reserved_name_is_rejected(registry: Registry, name: str) -> None:
    """A name that is legal and cannot be stored is refused, and told why."""
    answer = registry("POST", f"/v2/{name}/blobs/uploads/")
    assert (answer.status, answer.code) == (400, "NAME_INVALID")
    assert "image layout" in answer.reason


@pytest.mark.parametrize("name", ["a", "a/b/c/d", "a.b_c__d-e---f", "manifests", "tags/list/x"])
def test_valid_name_is_accepted(registry: Registry, name: str) -> None:
    r"""`[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*`."""
    digest = registry.push(b"abc", name)
    assert registry("GET", f"/v2/{name}/blobs/{digest}").body == b"abc"
    # An encoded colon is the same digest.
    assert registry("GET", f"/v2/{name}/blobs/{digest}".replace(":", "%3A")).body == b"abc"


def test_repository_below_another(registry: Registry) -> None:
    """A repository's blobs are its own, even if its name begins with another's."""
    digest = registry.push(b"abc", "a")
    registry.push(b"def", "a/b")
    assert registry("GET", f"/v2/a/b/blobs/{digest}").code == "BLOB_UNKNOWN"


def test_full_disk_is_507(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk is an answer of its own; what was there stays."""
    stored = registry.push(b"x")
    location = registry.start()

    def full(_self: UploadWriter, _block: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(UploadWriter, "write", full)
        answer = registry("PATCH", location, b"abc")
    assert (answer.status, answer.code) == (507, "UNKNOWN")
    assert registry("GET", f"/v2/a/b/blobs/{stored}").status == 200
    assert registry("PUT", f"{location}?digest={ABC}", b"abcdef").status == 201


@pytest.mark.parametrize("error", [OSError(5, "no"), RuntimeError("bug")])
def test_bug_is_500(registry: Registry, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """An unexpected exception reaches the server, which logs it."""

    def fail(_self: Repo) -> None:
        raise error

    monkeypatch.setattr(Repo, "start_upload", fail)
    with pytest.raises(type(error)):
        registry("POST", "/v2/a/b/blobs/uploads/")


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", "/v2/a/b/tags/list"),
        ("GET", "/v2/a/b/manifests/v1"),
        ("GET", f"/v2/a/b/manifests/{ABC}"),
        ("GET", f"/v2/a/b/referrers/{ABC}"),
        ("PUT", "/v2/a/b/manifests/v1"),
        ("DELETE", "/v2/a/b/manifests/v1"),
        ("DELETE", f"/v2/a/b/blobs/{ABC}"),
    ],
)
def test_broken_index_is_500(
    registry: Registry, caplog: pytest.LogCaptureFixture, method: str, target: str
) -> None:
    """The response has a code, the log names the file, and the file is not overwritten."""
    registry.push(b"x")
    index = registry.root / "a/b/index.json"
    index.write_bytes(b'{"manifests":{}}')
    before = registry.files()
    body = MANIFEST if method == "PUT" else b""
    answer = registry(method, target, body, {"Content-Type": OCI_INDEX})
    assert (answer.status, answer.code) == (500, "UNKNOWN")
    assert "a file of this repository is broken" in answer.reason
    assert str(registry.root) not in answer.reason
    assert str(index) in caplog.text
    assert index.read_bytes() == b'{"manifests":{}}'
    assert registry.files() == before


def test_empty_layout_of_umoci_is_a_repository(registry: Registry) -> None:
    """A layout that umoci made is a repository like any other."""
    registry.push(b"x")
    (registry.root / "a/b/index.json").write_text('{"schemaVersion":2,"manifests":null}')
    answer = registry("GET", "/v2/a/b/tags/list")
    assert json.loads(answer.body) == {"name": "a/b", "tags": []}
    assert put_manifest(registry, "v1").status == 201
    assert json.loads(registry("GET", "/v2/a/b/tags/list").body)["tags"] == ["v1"]


def test_unreadable_manifest_hides_no_other(
    registry: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    """An error in one manifest does not hide the others."""
    answer = put_manifest(registry, "v1")
    digest = Digest.parse(answer.headers["docker-content-digest"])
    path = registry.root / "a/b/blobs/sha256" / digest.encoded
    path.unlink()
    path.mkdir()
    shutil.rmtree(registry.root / "a/b" / DATABASE)
    assert registry("GET", f"/v2/a/b/referrers/{ABC}").status == 200
    assert path.name in caplog.text


def test_response_has_server_header(registry: Registry) -> None:
    """RFC 9110, 10.2.4: Server is information about the software used by the origin server."""
    for target in ("/v2/", "/nothing"):
        assert registry("GET", target).headers["server"] == f"brolga/{__version__}"


def test_emulated_registry_has_no_server_header(tmp_path: Path) -> None:
    """A registry that plays another one does not say that it is this one."""
    other = Registry(tmp_path, middleware=fault_middleware(Injector(profile="harbor")))
    assert "server" not in other("GET", "/v2/").headers
    same = Registry(tmp_path, middleware=fault_middleware(Injector()))
    assert same("GET", "/v2/").headers["server"] == f"brolga/{__version__}"
