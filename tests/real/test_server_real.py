"""Foreign clients and a foreign registry against the embedded one."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from tests.real.foreign import (
    Access,
    bcrypt,
    certificates,
    copy,
    make_image,
    require,
    skopeo,
    write_auths,
)

from brolga.registry.options import Options
from brolga.registry.server import running

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Authority
    from tests.real.foreign import DockerRegistry, Image

pytestmark = pytest.mark.real


def blobs(layout: Path) -> dict[str, bytes]:
    """Return a layout's blobs by their names."""
    return {path.name: path.read_bytes() for path in (layout / "blobs/sha256").iterdir()}


def test_skopeo_pushes_and_pulls_the_same_bytes(image: Image, tmp_path: Path) -> None:
    """The store is a layout that skopeo reads."""
    with running(tmp_path / "store") as address:
        place = f"docker://{address}/some/image:v1"
        _copy(image.place, place)
        _copy(place, f"oci:{tmp_path / 'back'}:v1")
        _copy(place, f"docker://{address}/other:v2")
        listed = json.loads(
            skopeo("list-tags", "--tls-verify=false", f"docker://{address}/some/image")
        )
    assert listed["Tags"] == ["v1"]
    assert blobs(tmp_path / "back") == blobs(image.directory)
    _copy(f"oci:{tmp_path / 'store/some/image'}:v1", f"oci:{tmp_path / 'direct'}:v1")
    assert blobs(tmp_path / "direct") == blobs(image.directory)


def test_image_is_unchanged_from_docker_registry_and_back(
    image: Image, plain_registry: DockerRegistry, tmp_path: Path
) -> None:
    """An image goes from docker-registry to the embedded one and back unchanged."""
    theirs = f"docker://{plain_registry.address}/embedded"
    with running(tmp_path / "store") as address:
        ours = f"docker://{address}/image:v1"
        _copy(image.place, f"{theirs}/image:v1")
        _copy(f"{theirs}/image:v1", ours)
        _copy(ours, f"{theirs}/again:v1")
        _copy(f"{theirs}/again:v1", f"oci:{tmp_path / 'back'}:v1")
    assert blobs(tmp_path / "back") == blobs(image.directory)


def test_skopeo_logs_in_over_tls(image: Image, tmp_path: Path, authority: Authority) -> None:
    """A wrong password is refused."""
    pytest.importorskip("bcrypt")
    users = tmp_path / "htpasswd"
    users.write_text(f"user:{bcrypt('secret')}\n")
    cert, key = authority.certificate()
    trusted = certificates(authority, tmp_path / "trusted")
    options = Options(htpasswd=users, tls_cert=cert, tls_key=key)
    with running(tmp_path / "store", options) as address:

        def access(password: str) -> Access:
            file = tmp_path / f"{password}.json"
            write_auths(file, passwords={address: ("user", password)})
            return Access(certificates=trusted, authfile=file)

        place, back = f"docker://{address}/image:v1", f"oci:{tmp_path / 'back'}:v1"
        copy(image.place, place, target_access=access("secret"))
        with pytest.raises(AssertionError, match=r"unauthorized|authentication"):
            copy(image.place, place, target_access=access("wrong"))
        copy(place, back, "--preserve-digests", source_access=access("secret"))
    assert blobs(tmp_path / "back") == blobs(image.directory)


def test_skopeo_delete_removes_an_image_and_its_tags(image: Image, tmp_path: Path) -> None:
    """An image of another repository stays."""
    with running(tmp_path / "store") as address:
        for place in ("image:v1", "image:v2", "other:v1"):
            _copy(image.place, f"docker://{address}/{place}")
        skopeo("delete", "--tls-verify=false", f"docker://{address}/image:v1")
        with pytest.raises(AssertionError, match="manifest unknown"):
            skopeo("inspect", "--tls-verify=false", f"docker://{address}/image:v2")
        skopeo("inspect", "--tls-verify=false", f"docker://{address}/other:v1")


def test_skopeo_pushes_and_pulls_an_index(tmp_path: Path) -> None:
    """An index in skopeo's own layout is served too."""
    index = make_image(tmp_path / "index", platforms=("linux/amd64", "linux/arm64"))
    with running(tmp_path / "store") as address:
        _copy(index.place, f"docker://{address}/pushed:v1")
        _copy(f"docker://{address}/pushed:v1", f"oci:{tmp_path / 'back'}:v1")
        # A directory that was not made by the registry: it lists the index alone.
        shutil.copytree(tmp_path / "back", tmp_path / "store/found")
        _copy(f"docker://{address}/found:v1", f"oci:{tmp_path / 'again'}:v1")
    assert blobs(tmp_path / "back") == blobs(index.directory)
    assert blobs(tmp_path / "again") == blobs(index.directory)


def test_registry_serves_a_layout_that_umoci_changes(image: Image, tmp_path: Path) -> None:
    """An empty layout of umoci is a repository."""
    require("umoci")
    layout = tmp_path / "store/um"
    layout.parent.mkdir()
    subprocess.run(["umoci", "init", "--layout", str(layout)], check=True)
    with running(tmp_path / "store") as address:
        listed = ("list-tags", "--tls-verify=false", f"docker://{address}/um")
        assert json.loads(skopeo(*listed))["Tags"] == []
        _copy(image.place, f"docker://{address}/um:v1")
        changed = ["umoci", "config", "--image", f"{layout}:v1", "--tag", "v2", "--author", "me"]
        subprocess.run(changed, check=True)
        assert json.loads(skopeo(*listed))["Tags"] == ["v1", "v2"]
        _copy(f"docker://{address}/um:v2", f"oci:{tmp_path / 'back'}:v2")


def _copy(source: str, target: str) -> None:
    """Copy with the digests as they are."""
    copy(source, target, "--preserve-digests")
