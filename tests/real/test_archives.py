"""Archives of other programs, streamed into a registry; our archives, read by them."""

from __future__ import annotations

import json
import shutil
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from tests.images import blob_names
from tests.processes import BROLGA
from tests.real.foreign import buildah, copy, image_id, make_image, push, require, skopeo
from tests.tars import tar
from tests.unit.stores.archive.archives import docker_new, docker_old, stream_archive

from brolga.errors import BrolgaError
from brolga.protocol import ping
from brolga.spec.reference import Repository
from brolga.stores.archive import Archive, open_writer
from brolga.stores.push import push as push_into
from brolga.stores.registry import RegistryStore
from brolga.stores.store import read_tree
from brolga.stream.replay import MemoryBuffer
from brolga.transport import Transport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.real.foreign import Image
    from tests.registries import EmbeddedRegistry

pytestmark = pytest.mark.real

LAYERS = tuple(tar(*names) for names in (("a", "b"), ("c",), ("a", "b")))
PLATFORMS = ("linux/amd64", "linux/arm64")


@contextmanager
def remote(registry: EmbeddedRegistry, name: str) -> Iterator[RegistryStore]:
    """Give a repository as a store; nothing of an upload is kept to go out again."""
    repository = Repository.parse(f"{registry.address}/{name}")
    with Transport() as transport:
        entered = transport.run(ping(repository.api_host, schemes=("http",)))
        access = entered.access(repository, "pull,push")
        yield RegistryStore(repository, lambda: access, transport, keep=lambda **_: MemoryBuffer(0))


def streamed(registry: EmbeddedRegistry, file: Path, name: str = "", form: str = "") -> str:
    """Send a file down a pipe into the registry, in one pass; return its reference there."""
    with remote(registry, "app") as store, subprocess.Popen(["cat", file], stdout=-1) as cat:
        assert cat.stdout
        tree = stream_archive(cat.stdout, store, form=form, name=name)
        push_into(store, tree, "v1")
        assert cat.wait() == 0
        # The file itself is the same image.
        with Archive(file, form) as archive:
            again = archive.tree(name)
            push_into(store, again, "v2")
        assert again.digest == tree.digest
    return f"{registry.address}/app:v1"


def diff_ids(place: str) -> list[str]:
    """Return the DiffIDs of an image's config, as skopeo reads it."""
    flags = ["--tls-verify=false"] if place.startswith("docker:") else []
    config: dict[str, Any] = json.loads(skopeo("inspect", "--config", *flags, place))
    return list(config["rootfs"]["diff_ids"])


def comes_back(reference: str, wanted: list[str], tmp_path: Path) -> None:
    """Let skopeo read an image, and uncompress its layers: they have the DiffIDs of its config."""
    layout = tmp_path / "back"
    copy(f"docker://{reference}", f"dir:{layout}", "--dest-decompress")
    manifest = json.loads((layout / "manifest.json").read_text())
    assert [layer["digest"] for layer in manifest["layers"]] == wanted
    assert diff_ids(f"docker://{reference}") == wanted


def by_skopeo(image: Image, directory: Path) -> Path:
    file = directory / "skopeo.tar"
    copy(image.place, f"docker-archive:{file}:example.com/app:v1")
    return file


def by_skopeo_oci(image: Image, directory: Path) -> Path:
    file = directory / "skopeo-oci.tar"
    copy(image.place, f"oci-archive:{file}:v1")
    return file


def by_crane(image: Image, directory: Path) -> Path:
    require("crane")
    from brolga.registry.server import running

    file = directory / "crane.tar"
    with running(directory / "crane") as address:
        push(image, f"{address}/app:v1")
        subprocess.run(["crane", "pull", f"{address}/app:v1", file], check=True)
    return file


def by_tar(image: Image, directory: Path) -> Path:
    """Tar a layout that umoci has added an image to."""
    require("umoci", "tar")
    layout, file = directory / "umoci", directory / "umoci.tar"
    shutil.copytree(image.directory, layout)
    subprocess.run(["umoci", "config", "--image", f"{layout}:v1", "--author", "umoci"], check=True)
    subprocess.run(["tar", "-C", layout, "-cf", file, "."], check=True)
    return file


def by_buildah(image: Image, directory: Path, form: str = "docker-archive") -> Path:
    file = directory / f"{form}.tar"
    place = f"{form}:{file}" + (":example.com/app:v1" if form == "docker-archive" else "")
    buildah(directory, "push", buildah(directory, "pull", image.place), place)
    return file


def by_buildah_oci(image: Image, directory: Path) -> Path:
    return by_buildah(image, directory, "oci-archive")


WRITERS = [by_skopeo, by_skopeo_oci, by_crane, by_tar, by_buildah, by_buildah_oci]


@pytest.mark.parametrize("write", WRITERS, ids=lambda write: write.__name__)
def test_archive_of_another_program_streams_into_a_registry(
    write: Callable[[Image, Path], Path], image: Image, registry: EmbeddedRegistry, tmp_path: Path
) -> None:
    """From a real pipe; skopeo reads the same DiffIDs."""
    file = write(image, tmp_path)
    comes_back(streamed(registry, file), diff_ids(image.place), tmp_path)
    reference = f"{registry.address}/by-command:v1"
    with subprocess.Popen(["cat", file], stdout=-1) as cat:
        command = [*BROLGA, "push", "-", reference]
        done = subprocess.run(command, stdin=cat.stdout, capture_output=True, check=True)
    assert done.stdout.startswith(f"{registry.address}/by-command@sha256:".encode())
    comes_back(reference, diff_ids(image.place), tmp_path)


@pytest.mark.parametrize("members", [docker_old, docker_new])
@pytest.mark.parametrize("form", ["", "docker"])
def test_docker_save_archive_streams_into_a_registry(
    members: Callable[..., list[Any]], form: str, registry: EmbeddedRegistry, tmp_path: Path
) -> None:
    """Docker before 25, with a link for a layer that occurs twice, and since; skopeo agrees."""
    file = tmp_path / "saved.tar"
    file.write_bytes(tar(*members(LAYERS, "example.com/app:v1")))
    wanted = diff_ids(f"docker-archive:{file}")
    reference = streamed(registry, file, "example.com/app:v1", form)
    comes_back(reference, wanted, tmp_path)


def test_docker_save_archive_streams_as_an_oci_archive(
    registry: EmbeddedRegistry, tmp_path: Path
) -> None:
    """It keeps its digest and its layers, which are not compressed."""
    file = tmp_path / "saved.tar"
    file.write_bytes(tar(*docker_new(LAYERS)))
    reference = streamed(registry, file, "v1", "oci")
    comes_back(reference, diff_ids(f"oci-archive:{file}:v1"), tmp_path)


def test_oci_archive_of_an_index_keeps_all_digests(
    registry: EmbeddedRegistry, tmp_path: Path
) -> None:
    """An OCI archive of an index, by skopeo: the index, byte for byte."""
    images = make_image(tmp_path / "layout", PLATFORMS)
    file = tmp_path / "index.tar"
    copy(images.place, f"oci-archive:{file}:v1")
    reference = streamed(registry, file)
    copy(f"docker://{reference}", f"oci:{tmp_path / 'back'}:v1", "--preserve-digests")
    assert blob_names(tmp_path / "back") == blob_names(images.directory)


def test_truncated_archive_tags_nothing(
    image: Image, registry: EmbeddedRegistry, tmp_path: Path
) -> None:
    """`docker save` dies in the middle: an error, no tag, no open session."""
    data = by_skopeo(image, tmp_path).read_bytes()
    for size in (2_000_000, len(data) - 12000):
        file = tmp_path / "cut.tar"
        file.write_bytes(data[:size])
        with pytest.raises(BrolgaError, match="cut short"):
            streamed(registry, file)
    assert registry.uploads("app") == []
    assert not list((registry.directory / "app").glob("**/v1"))


def test_archive_layer_with_another_diff_id_is_not_committed(
    registry: EmbeddedRegistry, tmp_path: Path
) -> None:
    """The digest goes to the registry only after the DiffID was compared with the config's."""
    members = docker_new(LAYERS)
    info, data = members[1]
    members[1] = info, bytes(len(data) - 1024) + bytes(1024)
    file = tmp_path / "wrong.tar"
    file.write_bytes(tar(*members))
    with pytest.raises(BrolgaError, match="uncompressed, but"):
        streamed(registry, file)
    assert registry.blobs("app") == []
    assert registry.uploads("app") == []


# --- What we write


@pytest.fixture
def pushed(image: Image, registry: EmbeddedRegistry) -> Image:
    """Put the image into the registry."""
    push(image, f"{registry.address}/app:v1")
    return image


def pulled(registry: EmbeddedRegistry, form: str, file: Path, name: str) -> Path:
    """Write an image of the registry into a pipe, whose other end is a file."""
    with (
        remote(registry, "app") as store,
        file.open("wb") as out,
        subprocess.Popen(["cat"], stdin=-1, stdout=out) as cat,
    ):
        assert cat.stdin
        with open_writer(f"/proc/self/fd/{cat.stdin.fileno()}", form, name) as writer:
            push_into(writer, read_tree(store, "v1"), "", jobs=1)
    return file


def test_skopeo_buildah_and_crane_read_our_docker_archive(
    pushed: Image, registry: EmbeddedRegistry, tmp_path: Path
) -> None:
    """Each checks the DiffIDs that it reads."""
    file = pulled(registry, "docker", tmp_path / "ours.tar", "example.com/app:v1")
    wanted = diff_ids(pushed.place)
    assert diff_ids(f"docker-archive:{file}:example.com/app:v1") == wanted
    copy(f"docker-archive:{file}", f"docker://{registry.address}/skopeo:v1")
    comes_back(f"{registry.address}/skopeo:v1", wanted, tmp_path)
    if shutil.which("crane"):
        target = f"{registry.address}/crane:v1"
        subprocess.run(["crane", "push", file, target], check=True, capture_output=True)
        assert diff_ids(f"docker://{target}") == wanted
    assert buildah(tmp_path, "pull", f"docker-archive:{file}") == image_id(pushed)


def test_skopeo_buildah_and_umoci_read_our_oci_archive(
    pushed: Image, registry: EmbeddedRegistry, tmp_path: Path
) -> None:
    """Umoci reads the layout that tar unpacks."""
    file = pulled(registry, "oci", tmp_path / "ours.tar", "v1")
    wanted = diff_ids(pushed.place)
    assert diff_ids(f"oci-archive:{file}:v1") == wanted
    raw = skopeo("inspect", "--raw", f"oci-archive:{file}:v1")
    assert (
        raw.encode() == (pushed.directory / "blobs" / pushed.digest.replace(":", "/")).read_bytes()
    )
    assert buildah(tmp_path, "pull", f"oci-archive:{file}") == image_id(pushed)
    require("umoci", "tar")
    layout = tmp_path / "unpacked"
    layout.mkdir()
    subprocess.run(["tar", "-C", layout, "-xf", file], check=True)
    listed = subprocess.run(
        ["umoci", "list", "--layout", layout], capture_output=True, text=True, check=True
    )
    assert listed.stdout.split() == ["v1"]


def test_archive_streams_into_another_archive(image: Image, tmp_path: Path) -> None:
    """From a pipe to a file in one pass: skopeo reads the same image."""
    source, target = by_skopeo(image, tmp_path), tmp_path / "ours.tar"
    with open_writer(target, "docker", "a:b") as writer, source.open("rb") as file:
        tree = stream_archive(file, writer, compression="none")
        push_into(writer, tree, "", jobs=1)
    assert diff_ids(f"docker-archive:{target}") == diff_ids(image.place)
