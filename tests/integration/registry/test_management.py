"""distribution-spec, section Content Management: each MUST by its sentence."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from tests.images import digest_of
from tests.integration.registry.conftest import IMAGE, INDEX, Client

from brolga.registry.options import Options
from brolga.registry.server import running

if TYPE_CHECKING:
    from pathlib import Path


def test_delete_tag(client: Client) -> None:
    """Upon success, the registry MUST respond with a `202 Accepted` code.

    Once deleted, a `GET` to `/v2/<name>/manifests/<tag>` will return a 404.
    """
    digest = client.pushed("v1")
    client.pushed("v2")
    assert client("DELETE", "manifests/v1").status == 202
    assert client("GET", "manifests/v1").status == 404
    assert client("DELETE", "manifests/v1").codes == ["MANIFEST_UNKNOWN"]
    for reference in ("v2", digest):
        assert client("GET", f"manifests/{reference}").status == 200
    assert client("DELETE", "manifests/v2").status == 202
    assert client("GET", f"manifests/{digest}").status == 200
    assert client("GET", "tags/list").json["tags"] == []


def test_delete_manifest(client: Client, root: Path) -> None:
    """Upon success, the registry MUST respond with a `202 Accepted` code.

    Once deleted, a `GET` to `/v2/<name>/manifests/<digest>` and any tag pointing to that digest
    will return a 404.
    """
    digest = client.pushed("v1")
    client.pushed("v2")
    other = client.pushed("v3", annotations={"n": "3"})
    assert client("DELETE", f"manifests/{digest}").status == 202
    for reference in (digest, "v1", "v2"):
        assert client("GET", f"manifests/{reference}").codes == ["MANIFEST_UNKNOWN"]
        assert client("DELETE", f"manifests/{reference}").codes == ["MANIFEST_UNKNOWN"]
    assert client("GET", f"manifests/{other}").status == 200
    # Its bytes are gone with it.
    assert not (root / client.name / "blobs" / digest.replace(":", "/")).exists()
    assert client.pushed("v1") == digest


@pytest.mark.parametrize("target", ["manifests/v1", f"manifests/{digest_of(b'')}"])
def test_delete_in_unknown_repository_is_404(client: Client, target: str) -> None:
    """If the repository does not exist, the response MUST return `404 Not Found`."""
    reply = client("DELETE", target)
    assert (reply.status, reply.codes) == (404, ["NAME_UNKNOWN"])


def test_delete_manifest_of_index(client: Client) -> None:
    """A manifest can be deleted though an index refers to it; it is gone all the same."""
    image = client.pushed("v1")
    size = int(client("HEAD", "manifests/v1").headers["Content-Length"])
    entry = {"mediaType": IMAGE, "digest": image, "size": size}
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}
    assert client.put("index", index, INDEX).status == 201
    assert client("DELETE", f"manifests/{image}").status == 202
    assert client("GET", f"manifests/{image}").status == 404
    assert client("DELETE", f"manifests/{image}").status == 404
    assert client("GET", "manifests/index").status == 200


def test_delete_blob(client: Client) -> None:
    """Upon success, the registry MUST respond with code `202 Accepted`.

    If the blob is not found, a `404 Not Found` code MUST be returned.
    """
    digest = digest_of(b"abc")
    assert client("DELETE", f"blobs/{digest}").codes == ["NAME_UNKNOWN"]
    client.push(b"abc")
    assert client("DELETE", f"blobs/{digest}").status == 202
    assert client("GET", f"blobs/{digest}").status == 404
    assert client("DELETE", f"blobs/{digest}").codes == ["BLOB_UNKNOWN"]
    client.push(b"abc")


def test_delete_manifest_as_blob_is_405(client: Client) -> None:
    """A manifest is not deleted behind the back of its tags."""
    digest = client.pushed("v1")
    reply = client("DELETE", f"blobs/{digest}")
    assert (reply.status, reply.codes) == (405, ["UNSUPPORTED"])
    assert client("GET", "manifests/v1").status == 200


def test_delete_in_read_only_registry_is_405(tmp_path: Path) -> None:
    """If manifest [tag, blob] deletion is disabled, the registry MUST respond with 400 or 405."""
    with running(tmp_path) as address:
        writable = Client(address, "a/b")
        manifest = writable.pushed("v1")
        blob = writable.push(b"abc")
    with running(tmp_path, Options(read_only=True)) as address:
        client = Client(address, "a/b")
        for method, target in (
            ("DELETE", "manifests/v1"),
            ("DELETE", f"manifests/{manifest}"),
            ("DELETE", f"blobs/{blob}"),
            ("POST", "blobs/uploads/"),
            ("PUT", "manifests/v2"),
            ("PATCH", "blobs/uploads/x"),
        ):
            reply = client(method, target)
            assert (reply.status, reply.codes) == (405, ["UNSUPPORTED"])
            assert reply.headers["Allow"] == "GET, HEAD"
        for target in ("manifests/v1", f"blobs/{blob}", "tags/list", f"referrers/{manifest}"):
            assert client("GET", target).status == 200


def test_delete_keeps_a_valid_layout(client: Client, root: Path) -> None:
    """image-layout.md, index.json: each entry is a descriptor of a blob that is there."""
    client.pushed("v1")
    gone = client.pushed("v2", annotations={"n": "2"})
    client("DELETE", f"manifests/{gone}")
    layout = root / client.name
    index = json.loads((layout / "index.json").read_bytes())
    assert len(index["manifests"]) == 1
    for entry in index["manifests"]:
        path = layout / "blobs" / entry["digest"].replace(":", "/")
        assert path.stat().st_size == entry["size"]
