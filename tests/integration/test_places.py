"""Places: any to any, by several processes at once, and through pipes."""

from __future__ import annotations

import io
import json
import os
import pty
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.images import assert_valid, image_of, push_index
from tests.killed_writer import contents, copy_source, killed_layouts
from tests.processes import BROLGA, PATIENCE_S, brolga
from tests.tars import tar

from brolga.client import Client, UploadOptions
from brolga.errors import NotFound
from brolga.images import Image, ImageIndex
from brolga.registry.server import running
from brolga.stores.layout import Layout
from brolga.stream.layer import StreamLayer

if TYPE_CHECKING:
    from tests.registries import EmbeddedRegistry
ROOT = Path(__file__).parents[2]

# --- Any to any


@pytest.fixture
def homes(registry: EmbeddedRegistry, tmp_path: Path) -> dict[str, str]:
    """Name a place of each kind, with a name."""
    return {
        "registry": f"{registry.address}/app:v1",
        "oci": f"oci:{tmp_path}/layout:v1",
        "oci-archive": f"oci-archive:{tmp_path}/oci.tar:v1",
        "docker-archive": f"docker-archive:{tmp_path}/docker.tar:localhost:5000/app:v1",
    }


@pytest.mark.parametrize("source", ["registry", "oci", "oci-archive"])
@pytest.mark.parametrize("target", ["registry", "oci", "oci-archive"])
def test_copy_keeps_an_index_between_all_places(
    source: str, target: str, homes: dict[str, str], tmp_path: Path
) -> None:
    """The copy of an index has the same digest and all images."""
    original = push_index(f"oci:{tmp_path}/made:v1")
    with Client() as client:
        client.copy(f"oci:{tmp_path}/made:v1", homes[source])
        place = homes[target].replace("v1", "v2") if source == target else homes[target]
        assert client.copy(homes[source], place).digest == original.digest
        copied = client.index(place)
        assert copied.index.raw == original.index.raw
        assert_valid(copied)


@pytest.mark.parametrize("source", ["registry", "oci", "oci-archive", "docker-archive"])
@pytest.mark.parametrize("target", ["registry", "oci", "oci-archive", "docker-archive"])
def test_copy_keeps_an_image_between_all_places(
    source: str, target: str, homes: dict[str, str], tmp_path: Path
) -> None:
    """The config, and so the image ID, stays; the digest too, except in Docker's archives."""
    with Client(uploads=UploadOptions(spool=True)) as client:
        original = image_of("a", "b")
        client.push(homes[source], original)
        place = homes[target].replace("v1", "v2")
        client.copy(homes[source], place)
        copied = client.image(place)
        assert copied.manifest.config.digest == original.manifest.config.digest
        if "docker-archive" not in {source, target}:
            assert copied.manifest.raw == original.manifest.raw
        assert_valid(copied)


@pytest.mark.parametrize("form", ["oci-archive", "docker-archive"])
@pytest.mark.parametrize("target", ["registry", "oci"])
def test_push_and_copy_read_an_archive_from_a_pipe(
    form: str, target: str, homes: dict[str, str], tmp_path: Path
) -> None:
    """`brolga copy oci:... FORM:- | brolga push - REF`: each side in one pass."""
    with Client() as client:
        original = image_of("a")
        client.push(f"oci:{tmp_path}/made:v1", original)
        archive = brolga("copy", f"oci:{tmp_path}/made:v1", f"{form}:-")
        printed = brolga("push", "-", homes[target], data=archive).decode().strip()
        second_copy = brolga("copy", f"{form}:-", homes[target], data=archive).decode().strip()
        assert printed == second_copy
        copied = client.image(homes[target])
        assert copied.manifest.config.digest == original.manifest.config.digest
        assert printed.endswith(f"@{copied.digest}")
        assert_valid(copied)


def test_push_reads_a_named_pipe_once(tmp_path: Path, homes: dict[str, str]) -> None:
    """A shell may give a process's output so."""
    brolga("append", "--spool", "-f", "-", "-t", homes["docker-archive"], data=tar("a"))
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with subprocess.Popen([*BROLGA, "push", pipe, homes["oci"]], stdout=subprocess.PIPE) as reader:
        pipe.write_bytes((tmp_path / "docker.tar").read_bytes())
        printed, _ = reader.communicate(timeout=PATIENCE_S)
    assert reader.returncode == 0
    assert printed == brolga("digest", "--full-ref", homes["oci"])


def test_append_adds_a_stream_to_an_image_of_a_layout(tmp_path: Path) -> None:
    """`tar | brolga append -b oci:... -f - -t oci:...`; the layers of the base stay."""
    base, place = f"oci:{tmp_path}/layout:base", f"oci:{tmp_path}/layout:v1"
    brolga("append", "-f", "-", "-t", base, data=tar("below"))
    printed = brolga("append", "-b", base, "-f", "-", "-t", place, data=tar("above"))
    layout = Layout(tmp_path / "layout")
    assert layout.tags() == ("base", "v1")
    assert printed.decode() == f"oci:{tmp_path}/layout@{layout.resolve('v1').digest}\n"
    assert_valid(layout.tree("v1"))


def test_copy_with_referrers_copies_them_into_a_layout_and_back(
    registry: EmbeddedRegistry, tmp_path: Path
) -> None:
    """An archive has no referrers: it is an error of usage."""
    name, place = f"{registry.address}/app:v1", f"oci:{tmp_path}/layout:v1"
    with Client() as client:
        original = image_of("a")
        client.push(name, original)
        note = image_of("n").with_subject(original.descriptor)
        client.push(f"{registry.address}/app:note", note)
        brolga("copy", "--referrers", name, place)
        assert [referrer.digest for referrer in client.referrers(place)] == [note.digest]
        second_copy = f"{registry.address}/again:v1"
        brolga("copy", "--referrers", place, second_copy)
        assert [referrer.digest for referrer in client.referrers(second_copy)] == [note.digest]
        assert client.referrers(place, "application/none") == ()
    stderr = brolga("copy", "--referrers", name, f"oci-archive:{tmp_path}/a.tar", code=2)
    assert stderr.decode().endswith(
        "is an archive: it has no referrers; copy it to oci:DIR first\n"
    )


def test_copy_all_tags_copies_a_layout_into_a_registry_and_back(
    registry: EmbeddedRegistry, tmp_path: Path
) -> None:
    """`copy --all-tags`, there and back."""
    for tag in ("v1", "v2"):
        brolga("append", "-f", "-", "-t", f"oci:{tmp_path}/layout:{tag}", data=tar(tag))
    home = f"{registry.address}/app"
    brolga("copy", "--all-tags", f"oci:{tmp_path}/layout", home)
    printed = brolga("copy", "-a", home, f"oci:{tmp_path}/back").decode().splitlines()
    layouts = Layout(tmp_path / "layout"), Layout(tmp_path / "back")
    assert [[layout.resolve(tag).digest for tag in ("v1", "v2")] for layout in layouts] == [
        [layouts[0].resolve(tag).digest for tag in ("v1", "v2")]
    ] * 2
    assert printed[0] == f"oci:{tmp_path}/back:v1@{layouts[0].resolve('v1').digest}"
    layouts[1].delete("v1")
    with Client() as client:
        client.delete(f"oci:{tmp_path}/back:v2")
        assert client.tags(f"oci:{tmp_path}/back") == []
    assert brolga("copy", "-a", "-n", home, f"oci:{tmp_path}/back").count(b"\n") == 2


@pytest.fixture
def several(tmp_path: Path) -> Path:
    """Write a docker archive of two images, one of which has two names of one tag."""
    first, other = (Image.empty().append(StreamLayer([tar(name)], "none")) for name in "ab")
    names = [("a.com/app:v1", first), ("b.com/app:v1", first), ("a.com/app:v2", other)]
    with Client(uploads=UploadOptions(spool=True)) as client:
        client.write_images(f"docker-archive:{tmp_path}/several.tar", names)
    return tmp_path / "several.tar"


@pytest.mark.parametrize("form", ["docker-archive", "oci-archive"])
@pytest.mark.parametrize("is_piped", [False, True])
def test_copy_all_tags_copies_an_archive_by_its_tags(
    registry: EmbeddedRegistry, several: Path, form: str, is_piped: bool
) -> None:
    """Names there are NAME:TAG. A repository gets the tags, from a pipe in one pass too."""
    home, file = f"{registry.address}/app", several
    if form == "oci-archive":
        file = several.with_name("oci.tar")
        with Client(uploads=UploadOptions(spool=True)) as client:
            trees = [
                (name, client.image(f"docker-archive:{several}:{name}"))
                for name in ("a.com/app:v1", "b.com/app:v1", "a.com/app:v2")
            ]
            client.write_images(f"oci-archive:{file}", trees)
    source, data = f"{form}:{file}", b""
    if is_piped:
        source, data = f"{form}:-", file.read_bytes()
    printed = brolga("copy", "--all-tags", source, home, data=data).decode()
    with Client() as client:
        assert sorted(client.tags(home)) == ["v1", "v2"]
        assert printed == "".join(
            f"{home}:{tag}@{client.head(f'{home}:{tag}').digest}\n" for tag in ("v1", "v2")
        )
        for tag in ("v1", "v2"):
            copied, original = (
                client.image(f"{home}:{tag}"),
                client.image(f"{form}:{file}:a.com/app:{tag}"),
            )
            assert copied.config_blob.descriptor.digest == original.config_blob.descriptor.digest
            assert_valid(copied)
    second_copy = subprocess.run(
        [*BROLGA, "copy", "--all-tags", "-n", source, home],
        input=data,
        capture_output=True,
        check=True,
        timeout=PATIENCE_S,
    )
    assert (second_copy.stdout, second_copy.stderr.count(b"it was there already")) == (b"", 2)


@pytest.mark.parametrize("is_piped", [False, True])
def test_copy_all_tags_fails_if_two_images_have_one_tag(
    registry: EmbeddedRegistry, tmp_path: Path, is_piped: bool
) -> None:
    """The error names both, and nothing is tagged."""
    first, other = (Image.empty().append(StreamLayer([tar(name)], "none")) for name in "ab")
    file, home = tmp_path / "a.tar", f"{registry.address}/app"
    with Client(uploads=UploadOptions(spool=True)) as client:
        client.write_images(
            f"docker-archive:{file}", [("a.com/app:v1", first), ("b.com/app:v1", other)]
        )
    source = "docker-archive:-" if is_piped else f"docker-archive:{file}"
    data = file.read_bytes() if is_piped else b""
    stderr = brolga("copy", "--all-tags", source, home, data=data, code=2).decode()
    assert (
        "'a.com/app:v1' and 'b.com/app:v1' are two images, and both would get the tag v1" in stderr
    )
    with Client() as client, pytest.raises(NotFound):
        client.head(f"{home}:v1")


def test_pull_and_copy_write_no_archive_to_a_terminal(tmp_path: Path) -> None:
    """The bytes would be of no use there."""
    place = f"oci:{tmp_path}/layout:v1"
    brolga("append", "-f", "-", "-t", place, data=tar("a"))
    ours, theirs = pty.openpty()
    try:
        for arguments in (["pull", place, "-"], ["copy", place, "oci-archive:-"]):
            done = subprocess.run(
                [*BROLGA, *arguments],
                stdout=theirs,
                stderr=subprocess.PIPE,
                stdin=subprocess.DEVNULL,
                check=False,
                timeout=PATIENCE_S,
            )
            assert done.returncode == 2
            assert (
                b"stdout is a terminal: pipe the archive into a program, or name a file"
                in done.stderr
            )
    finally:
        os.close(ours)
        os.close(theirs)


def test_flatten_of_an_index_fails_for_an_archive_target(tmp_path: Path) -> None:
    """An archive is written once, as a whole. The error comes before anything is written."""
    push_index(f"oci:{tmp_path}/layout:v1")
    archive = tmp_path / "a.tar"
    stderr = brolga("flatten", f"oci:{tmp_path}/layout:v1", "-t", f"oci-archive:{archive}", code=2)
    assert b"is an archive, which is written once, as a whole: copy it to oci:DIR first" in stderr
    assert not archive.exists()
    brolga("flatten", f"oci:{tmp_path}/layout:v1", "-t", f"oci:{tmp_path}/layout:flat")
    assert_valid(Layout(tmp_path / "layout").tree("flat"))


def test_pull_writes_several_images_into_one_archive(
    tmp_path: Path, registry: EmbeddedRegistry
) -> None:
    """`pull REF... PATH`, as crane has it: each image has its own name."""
    names = [f"{registry.address}/{name}:v1" for name in ("a", "b")]
    with Client() as client:
        for name in names:
            client.push(name, image_of(name))
    archive = brolga("pull", *names, "-")
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        manifest = opened.extractfile("manifest.json")
        assert manifest is not None
        assert [image["RepoTags"] for image in json.loads(manifest.read())] == [
            [name] for name in names
        ]
    pull = ("pull", "--annotate-ref", "--format", "oci")
    assert brolga(*pull, *names, tmp_path / "layout").count(b"\n") == 2


# --- Several at once


def test_layout_keeps_all_images_of_concurrent_writers_registry_and_gc(tmp_path: Path) -> None:
    """Writers, a registry with a client, and `layout gc` share one directory at the same time."""
    root = tmp_path / "root"
    layout = Layout(root / "app")
    with running(root) as address, Client() as client:
        client.push(f"{address}/app:first", image_of("first"))
        command = (
            "import sys; from brolga import Client; from tests.images import image_of\n"
            "with Client() as client:\n"
            "  for number in range(8):\n"
            "    name = f'{sys.argv[2]}{number}'\n"
            "    client.push(f'{sys.argv[1]}:{name}', image_of(name, 'in all of them'))"
        )
        places = {"a": f"oci:{layout.path}", "b": f"oci:{layout.path}", "c": f"{address}/app"}
        writers = [
            subprocess.Popen([sys.executable, "-c", command, place, name], cwd=ROOT)
            for name, place in places.items()
        ]
        while any(writer.poll() is None for writer in writers):
            layout.gc()
        assert [writer.returncode for writer in writers] == [0, 0, 0]
        layout.gc(older_than_s=0)
        tags = {f"{name}{number}" for name in places for number in range(8)} | {"first"}
        assert set(layout.tags()) == set(client.tags(f"{address}/app")) == tags
        for tag in tags:
            assert client.head(f"{address}/app:{tag}").digest == layout.resolve(tag).digest
        assert_valid(layout.whole())


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Return the layouts that writers left that were killed before any step."""
    return killed_layouts(tmp_path_factory.mktemp("killed"))


def test_layout_is_valid_after_sigkill_of_a_writer(killed: list[Path], tmp_path: Path) -> None:
    """Before any step: `v1` names the old or the new image, and all of it is there."""
    assert len(killed) > 30
    assert len(set(map(contents, killed))) > 10
    kinds = set()
    for path in killed:
        layout = Layout(shutil.copytree(path, tmp_path / path.name))
        assert_valid(layout.whole())
        kinds.add(type(layout.tree("v1")))
        layout.gc(older_than_s=0)
        assert_valid(layout.whole())
        assert list(layout.path.glob(".uploads/*")) == []
    assert kinds == {Image, ImageIndex}
    assert Layout(killed[-1]).tags() == ("v1", "copied")


def test_copy_goes_on_after_sigkill_of_a_writer(killed: list[Path], tmp_path: Path) -> None:
    """Before any step: the next copy is whole, and leaves nothing partial."""
    assert sum(any(path.glob(".uploads/partial.*")) for path in killed) > 3
    shutil.copytree(killed[0].with_name("source"), tmp_path / "source")
    for path in killed:
        layout = Layout(shutil.copytree(path, tmp_path / path.name))
        copy_source(layout.path)
        assert_valid(layout.tree("copied"))
        assert_valid(layout.whole())
        assert list(layout.path.glob(".uploads/partial.*")) == []


def test_head_of_a_blob_protects_it_from_gc(tmp_path: Path) -> None:
    """HEAD touches the blob: a push that skips its upload does not fail if a collection runs."""
    root, data = tmp_path / "root", tar("a")
    with running(root) as address, Client() as client:
        client.push(f"oci:{tmp_path}/here:v1", Image.empty().append(StreamLayer([data])))
        described = client.push_layer(f"{address}/app", StreamLayer([data]))
        blob = root / "app" / "blobs" / "sha256" / described.digest.encoded
        os.utime(blob, (0, 0))
        client.copy(f"oci:{tmp_path}/here:v1", f"{address}/app:v1")
        assert blob.stat().st_mtime > 0
        os.utime(blob, (0, 0))
        client.copy(f"{address}/app:v1", f"{address}/mounted:v1")
        assert (root / "mounted/blobs/sha256" / described.digest.encoded).stat().st_mtime > 0
