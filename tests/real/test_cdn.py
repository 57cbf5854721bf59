"""Blobs that come from a CDN behind a registry's redirects: nginx, with what CDNs do wrong."""

from __future__ import annotations

import filecmp
import subprocess
from contextlib import contextmanager
from math import inf
from typing import TYPE_CHECKING

import pytest
from tests.images import blob_names
from tests.real.cdn import FALLBACK_MODES, MODES, PASSWORD, USERNAME, Cdn, Mode, cdn
from tests.real.foreign import make_image, push, tree, write_auths

from brolga import Client, Credentials, DigestMismatch, ReadOptions
from brolga.protocol import Retry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.command import Brolga
    from tests.real.foreign import DockerRegistry, Image
    from tests.registries import EmbeddedRegistry

pytestmark = pytest.mark.real

SIZE = 12_000_000
ALL_MODES = MODES | FALLBACK_MODES
QUICK = Retry(attempts=6, initial_delay_s=0.01, max_delay_s=0.05)
# In parts from the first block on, however fast it comes.
EAGER = ReadOptions(
    part_size=500_000,
    patience_s=-1,
    wait_share=-1,
    fast_rate=inf,
    responses_ahead=0,
    begin_s=30,
    slow_after_s=0.5,
)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """Write an image whose first layer is worth several requests."""
    return make_image(tmp_path_factory.mktemp("large") / "layout", size=SIZE)


@contextmanager
def docker_cdn(
    registry: DockerRegistry, image: Image, directory: Path, mode: Mode
) -> Iterator[Cdn]:
    """Run a CDN beside docker-registry; the image is `cdn/app:v1`."""
    push(image, f"{registry.address}/cdn/app:v1")
    blobs = f"{registry.storage}/docker/registry/v2/blobs/sha256/$first/$first$rest/data"
    with cdn(directory, registry.address, blobs, mode) as running:
        yield running


@contextmanager
def embedded_cdn(
    registry: EmbeddedRegistry, image: Image, directory: Path, mode: Mode
) -> Iterator[Cdn]:
    """Run a CDN beside the embedded registry."""
    push(image, f"{registry.address}/cdn/app:v1")
    blobs = f"{registry.directory}/cdn/app/blobs/sha256/$first$rest"
    with cdn(directory, registry.address, blobs, mode) as running:
        yield running


def client() -> Client:
    return Client(credentials=Credentials(USERNAME, PASSWORD), retry=QUICK, reads=EAGER)


def check_requests(running: Cdn, mode: str) -> None:
    """Assert that faults struck, parts came, and the registry got the password, the CDN never."""
    assert running.faulty is None or running.faulty.struck > 0
    if mode in MODES:
        assert [fetch.status for fetch in running.fetches()].count(206) >= 4
    assert all(header.startswith("Basic ") for header in running.redirects())
    assert running.redirects()
    assert {fetch.credentials for fetch in running.fetches()} == {""}


def large_layer(image: Image) -> Path:
    """Return the file of the large layer; its name is its digest."""
    return max((image.directory / "blobs/sha256").iterdir(), key=lambda path: path.stat().st_size)


@pytest.mark.parametrize("mode", ALL_MODES)
def test_blob_from_cdn_is_whole(
    plain_registry: DockerRegistry, large: Image, tmp_path: Path, mode: str
) -> None:
    """Whatever the CDN does, each byte comes, and no password goes to it."""
    layer = large_layer(large)
    with docker_cdn(plain_registry, large, tmp_path / "nginx", ALL_MODES[mode]) as running:
        name = f"{running.address}/cdn/app@sha256:{layer.name}"
        with client() as reader, reader.blob(name) as stream:
            assert b"".join(map(bytes, stream.blocks())) == layer.read_bytes()
        check_requests(running, mode)


@pytest.mark.parametrize("mode", ALL_MODES)
def test_copy_from_cdn_is_whole(
    registry: EmbeddedRegistry, large: Image, tmp_path: Path, mode: str
) -> None:
    """All blobs of an image, several at a time, from the embedded registry's files."""
    with embedded_cdn(registry, large, tmp_path / "nginx", ALL_MODES[mode]) as running:
        with client() as copier:
            copier.copy(f"{running.address}/cdn/app:v1", f"oci:{tmp_path / 'layout'}:v1")
        check_requests(running, mode)
    assert blob_names(tmp_path / "layout") == blob_names(large.directory)


@pytest.mark.parametrize("mode", ["cut, links for one request", "another part"])
def test_export_extract_and_validate_from_cdn(  # noqa: PLR0917 - fixtures
    plain_registry: DockerRegistry,
    large: Image,
    tmp_path: Path,
    brolga: Brolga,
    monkeypatch: pytest.MonkeyPatch,
    mode: str,
) -> None:
    """The commands: `export` writes the same tar as from the registry itself."""
    monkeypatch.setattr("brolga.stores.read_budget.ReadOptions", lambda: EAGER)
    with docker_cdn(plain_registry, large, tmp_path / "nginx", ALL_MODES[mode]) as running:
        write_auths(tmp_path / "config.json", passwords={running.address: (USERNAME, PASSWORD)})
        monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
        names = (f"{plain_registry.address}/cdn/app:v1", f"{running.address}/cdn/app:v1")
        files = tmp_path / "direct.tar", tmp_path / "cdn.tar"
        for name, file in zip(names, files, strict=True):
            assert brolga("export", name, str(file)).code == 0
        assert filecmp.cmp(*files, shallow=False)
        assert brolga("extract", names[1], str(tmp_path / "extracted")).code == 0
        assert brolga("validate", "--remote", names[1]).code == 0
        check_requests(running, mode)
    (tmp_path / "exported").mkdir()
    subprocess.run(["tar", "-xpf", files[0], "-C", tmp_path / "exported"], check=True)
    assert tree(tmp_path / "extracted") == tree(tmp_path / "exported")


def test_blob_with_wrong_bytes_from_cdn_fails(
    plain_registry: DockerRegistry, large: Image, tmp_path: Path
) -> None:
    """The files of the CDN are not those of the registry: of the same size, with other bytes."""
    layer, stale = large_layer(large), tmp_path / "stale"
    data = bytearray(layer.read_bytes())
    data[len(data) // 2] ^= 1
    stale.write_bytes(data)
    with cdn(tmp_path / "nginx", plain_registry.address, str(stale), Mode()) as running:
        name = f"{running.address}/cdn/app@sha256:{layer.name}"
        with client() as reader, reader.blob(name) as stream, pytest.raises(DigestMismatch):
            list(stream.blocks())
