"""brolga delete, also of registries that cannot delete."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import pytest
from tests.cli_images import push
from tests.raw_server import Peer, serve_script

if TYPE_CHECKING:
    from tests.command import Brolga
    from tests.registries import EmbeddedRegistry

DIGEST = f"sha256:{64 * 'a'}"
TYPE = "Content-Type: application/vnd.oci.image.manifest.v1+json"


def test_delete_removes_tag_or_image_with_tags(
    brolga: Brolga, registry: EmbeddedRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is printed."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")  # the same image each time
    repository = f"{registry.address}/a"
    for tag in ("v1", "v2", "v3"):
        digest = push(f"{repository}:{tag}", "layer")
    outcome = brolga("delete", f"{repository}:v1")
    assert (outcome.code, outcome.out, outcome.err) == (0, "", "")
    assert brolga("ls", repository).out == "v2\nv3\n"
    assert brolga("delete", f"{repository}@{digest}").code == 0
    assert brolga("ls", repository).out == ""
    for name in (f"{repository}:v1", f"{repository}@{digest}"):
        assert brolga("delete", name).code == 3


def delete(brolga: Brolga, ref: str, status: int, found: int) -> tuple[int, str]:
    """Ask a registry that answers DELETE with `status` and HEAD with `found`."""
    body = json.dumps({"errors": [{"code": "UNSUPPORTED", "message": "no"}]}).encode()

    def script(peer: Peer) -> None:
        while head := peer.head():
            if head[0].startswith("DELETE"):
                peer.answer(status, body)
            elif head[0].startswith("GET") and "/manifests/" in head[0]:
                peer.answer(found)  # asked if HEAD is refused
            elif head[0].startswith("HEAD"):
                peer.socket.sendall(
                    f"HTTP/1.1 {found} .\r\nContent-Length: 2\r\n"
                    f"Docker-Content-Digest: {DIGEST}\r\n{TYPE}\r\n\r\n".encode()
                )
            else:
                peer.answer(200)

    with serve_script(script) as address:
        outcome = brolga("delete", f"{address}/{ref}")
    assert outcome.out == ""
    return outcome.code, outcome.err.replace(address, "HOST")


@pytest.mark.parametrize("status", [400, 404, 405])
def test_delete_hints_at_digest_if_tags_cannot_be_deleted(brolga: Brolga, status: int) -> None:
    """docker-registry answers 400 or 405: the line has the command that deletes the image."""
    code, line = delete(brolga, "x:v1", status, found=200)
    assert code == (3 if status == 404 else 5)
    assert line == (
        f"brolga: registry: the registry answered DELETE http://HOST/v2/x/manifests/v1 with "
        f"{status}: UNSUPPORTED: no; it may not support deleting tags: to delete the image with "
        f"all its tags, run brolga delete HOST/x@{DIGEST}\n"
    )


def test_delete_reports_missing_tag(brolga: Brolga) -> None:
    """docker-registry answers 400 to that too, so the tag is looked up."""
    code, line = delete(brolga, "x:v1", 400, found=404)
    assert code == 3
    assert "check that the name is right and exists" in line


def test_delete_reports_first_error_if_digest_is_unknown(brolga: Brolga) -> None:
    """The lookup is only for the hint."""
    code, line = delete(brolga, "x:v1", 405, found=403)
    assert code == 5
    assert line.endswith("405: UNSUPPORTED: no; it does not allow this: ask its administrator\n")


def test_delete_reports_denied(brolga: Brolga) -> None:
    """Exit code 4."""
    code, line = delete(brolga, "x:v1", 403, found=200)
    assert code == 4
    assert line.endswith("; use credentials that are allowed to do this\n")


def test_delete_reports_registry_without_deletion(brolga: Brolga) -> None:
    """A digest cannot be deleted in another way: the hint is to ask the administrator."""
    manifest = (
        b'{"schemaVersion":2,"config":{"mediaType":"a/b","digest":"%s","size":2},"layers":[]}'
    )
    body = manifest % DIGEST.encode()
    digest = f"sha256:{hashlib.sha256(body).hexdigest()}"

    def script(peer: Peer) -> None:
        while head := peer.head():
            if head[0].startswith("DELETE"):
                peer.answer(405)
            else:
                peer.answer(200, b"" if head[0].startswith("GET /v2/ ") else body, TYPE)

    with serve_script(script) as address:
        outcome = brolga("delete", f"{address}/x@{digest}")
    assert outcome.code == 5
    assert outcome.err.endswith(" with 405; it does not allow this: ask its administrator\n")
