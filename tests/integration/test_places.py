"""Places: any to any, by several processes at once, and through pipes."""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.killing import killed_layouts
from tests.tars import tar

from brolga.client import Client, UploadOptions
from brolga.errors import NotFound
from brolga.images import Image, ImageIndex
from brolga.images.validate import validate
from brolga.registry.server import running
from brolga.spec.platform import DEFAULT_PLATFORM, Platform
from brolga.stores.layout import Layout
from brolga.stream.layer import StreamLayer

if TYPE_CHECKING:
    from tests.conftest import Embedded

    from brolga.images import Tree

BROLGA = [sys.executable, "-m", "brolga"]
ARM64 = Platform("linux", "arm64")
PATIENCE_S = 120
ROOT = Path(__file__).parents[2]


def brolga(*arguments: str | Path, data: bytes = b"", code: int = 0) -> bytes:
    """Run the command with bytes on stdin; return what it prints, of an error what it says."""
    done = subprocess.run(
        [*BROLGA, *arguments], input=data, capture_output=True, check=False, timeout=PATIENCE_S
    )
    assert done.returncode == code, done.stderr
    assert code or done.stderr == b""
    return done.stderr if code else done.stdout


def stream(text: str) -> StreamLayer:
    return StreamLayer([tar(text)])


def index(place: str) -> ImageIndex:
    """Push an index of images for two platforms; return it."""
    made = ImageIndex.empty()
    with Client() as client:
        for platform in (DEFAULT_PLATFORM, ARM64):
            child = Image.empty(platform).append(stream(str(platform.architecture)))
            client.push(place, child)
            made = made.append(child)
        client.push(place, made)
    return made


def check(tree: Tree) -> None:
    assert list(validate(tree)) == []


# --- Any to any


@pytest.fixture
def homes(registry: Embedded, tmp_path: Path) -> dict[str, str]:
    """Name a place of each kind, with a name."""
    return {
        "registry": f"{registry.address}/app:v1",
        "oci": f"oci:{tmp_path}/layout:v1",
        "oci-archive": f"oci-archive:{tmp_path}/oci.tar:v1",
        "docker-archive": f"docker-archive:{tmp_path}/docker.tar:localhost:5000/app:v1",
    }


@pytest.mark.parametrize("source", ["registry", "oci", "oci-archive"])
@pytest.mark.parametrize("target", ["registry", "oci", "oci-archive"])
def test_an_index_keeps_its_bytes_from_any_place_to_any(
    source: str, target: str, homes: dict[str, str], tmp_path: Path
) -> None:
    """An index copied has the digest that it had, with all its images."""
    made = index(f"oci:{tmp_path}/made:v1")
    with Client() as client:
        client.copy(f"oci:{tmp_path}/made:v1", homes[source])
        place = homes[target].replace("v1", "v2") if source == target else homes[target]
        assert client.copy(homes[source], place).digest == made.digest
        found = client.index(place)
        assert found.index.raw == made.index.raw
        check(found)


@pytest.mark.parametrize("source", ["registry", "oci", "oci-archive", "docker-archive"])
@pytest.mark.parametrize("target", ["registry", "oci", "oci-archive", "docker-archive"])
def test_an_image_goes_from_any_place_to_any(
    source: str, target: str, homes: dict[str, str], tmp_path: Path
) -> None:
    """The config, and so the image's ID, is the same in each; in all but docker's, the digest."""
    with Client(uploads=UploadOptions(spool=True)) as client:
        made = Image.empty().append(stream("a"), stream("b"))
        client.push(homes[source], made)
        place = homes[target].replace("v1", "v2")
        client.copy(homes[source], place)
        found = client.image(place)
        assert found.manifest.config.digest == made.manifest.config.digest
        if "docker-archive" not in {source, target}:
            assert found.manifest.raw == made.manifest.raw
        check(found)


@pytest.mark.parametrize("form", ["oci-archive", "docker-archive"])
@pytest.mark.parametrize("target", ["registry", "oci"])
def test_an_archive_goes_through_a_pipe(
    form: str, target: str, homes: dict[str, str], tmp_path: Path
) -> None:
    """`brolga copy oci:... FORM:- | brolga push - REF`: each side in one pass."""
    with Client() as client:
        made = Image.empty().append(stream("a"))
        client.push(f"oci:{tmp_path}/made:v1", made)
        archive = brolga("copy", f"oci:{tmp_path}/made:v1", f"{form}:-")
        printed = brolga("push", "-", homes[target], data=archive).decode().strip()
        again = brolga("copy", f"{form}:-", homes[target], data=archive).decode().strip()
        assert printed == again
        found = client.image(homes[target])
        assert found.manifest.config.digest == made.manifest.config.digest
        assert printed.endswith(f"@{found.digest}")
        check(found)


def test_a_named_pipe_is_read_once(tmp_path: Path, homes: dict[str, str]) -> None:
    """What can be read once alone is read so: a process's output by the shell, too."""
    brolga("append", "--spool", "-f", "-", "-t", homes["docker-archive"], data=tar("a"))
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with subprocess.Popen([*BROLGA, "push", pipe, homes["oci"]], stdout=subprocess.PIPE) as reader:
        pipe.write_bytes((tmp_path / "docker.tar").read_bytes())
        printed, _ = reader.communicate(timeout=PATIENCE_S)
    assert reader.returncode == 0
    assert printed == brolga("digest", "--full-ref", homes["oci"])


def test_a_stream_is_appended_to_a_layout_s_image(tmp_path: Path) -> None:
    """`tar | brolga append -b oci:... -f - -t oci:...`, with the base's layers where they are."""
    base, place = f"oci:{tmp_path}/layout:base", f"oci:{tmp_path}/layout:v1"
    brolga("append", "-f", "-", "-t", base, data=tar("below"))
    printed = brolga("append", "-b", base, "-f", "-", "-t", place, data=tar("above"))
    layout = Layout(tmp_path / "layout")
    assert layout.tags() == ("base", "v1")
    assert printed.decode() == f"oci:{tmp_path}/layout@{layout.resolve('v1').digest}\n"
    check(layout.tree("v1"))


def test_referrers_are_copied_with_an_image(registry: Embedded, tmp_path: Path) -> None:
    """From a registry into a layout and back; those of its referrers too."""
    name, place = f"{registry.address}/app:v1", f"oci:{tmp_path}/layout:v1"
    with Client() as client:
        made = Image.empty().append(stream("a"))
        client.push(name, made)
        note = Image.empty().append(stream("n")).with_subject(made.descriptor)
        client.push(f"{registry.address}/app:note", note)
        brolga("copy", "--referrers", name, place)
        assert [one.digest for one in client.referrers(place)] == [note.digest]
        again = f"{registry.address}/again:v1"
        brolga("copy", "--referrers", place, again)
        assert [one.digest for one in client.referrers(again)] == [note.digest]
        assert client.referrers(place, "application/none") == ()
    said = brolga("copy", "--referrers", name, f"oci-archive:{tmp_path}/a.tar", code=2)
    assert said.decode().endswith("is an archive: it has no referrers; copy it to oci:DIR first\n")


def test_all_names_of_a_layout_are_copied(registry: Embedded, tmp_path: Path) -> None:
    """`copy --all-tags`, there and back."""
    for tag in ("v1", "v2"):
        brolga("append", "-f", "-", "-t", f"oci:{tmp_path}/layout:{tag}", data=tar(tag))
    home = f"{registry.address}/app"
    brolga("copy", "--all-tags", f"oci:{tmp_path}/layout", home)
    printed = brolga("copy", "-a", home, f"oci:{tmp_path}/back").decode().splitlines()
    layouts = Layout(tmp_path / "layout"), Layout(tmp_path / "back")
    assert [[one.resolve(tag).digest for tag in ("v1", "v2")] for one in layouts] == [
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
    one, other = (Image.empty().append(StreamLayer([tar(name)], "none")) for name in "ab")
    names = [("a.com/app:v1", one), ("b.com/app:v1", one), ("a.com/app:v2", other)]
    with Client(uploads=UploadOptions(spool=True)) as client:
        client.write_images(f"docker-archive:{tmp_path}/several.tar", names)
    return tmp_path / "several.tar"


@pytest.mark.parametrize("form", ["docker-archive", "oci-archive"])
@pytest.mark.parametrize("is_piped", [False, True])
def test_all_images_of_an_archive_are_copied_by_their_tags(
    registry: Embedded, several: Path, form: str, is_piped: bool
) -> None:
    """Names there are NAME:TAG: a repository gets the tags, in one pass over a pipe too."""
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
            found, made = (
                client.image(f"{home}:{tag}"),
                client.image(f"{form}:{file}:a.com/app:{tag}"),
            )
            assert found.config_blob.descriptor.digest == made.config_blob.descriptor.digest
            check(found)
    again = subprocess.run(
        [*BROLGA, "copy", "--all-tags", "-n", source, home],
        input=data,
        capture_output=True,
        check=True,
        timeout=PATIENCE_S,
    )
    assert (again.stdout, again.stderr.count(b"it was there already")) == (b"", 2)


@pytest.mark.parametrize("is_piped", [False, True])
def test_two_images_of_one_tag_are_an_error(
    registry: Embedded, tmp_path: Path, is_piped: bool
) -> None:
    """Both are named, and nothing is tagged."""
    one, other = (Image.empty().append(StreamLayer([tar(name)], "none")) for name in "ab")
    file, home = tmp_path / "a.tar", f"{registry.address}/app"
    with Client(uploads=UploadOptions(spool=True)) as client:
        client.write_images(
            f"docker-archive:{file}", [("a.com/app:v1", one), ("b.com/app:v1", other)]
        )
    source = "docker-archive:-" if is_piped else f"docker-archive:{file}"
    data = file.read_bytes() if is_piped else b""
    said = brolga("copy", "--all-tags", source, home, data=data, code=2).decode()
    assert "'a.com/app:v1' and 'b.com/app:v1' are two images, and both would get the tag v1" in said
    with Client() as client, pytest.raises(NotFound):
        client.head(f"{home}:v1")


def test_stdout_that_is_a_terminal_takes_no_archive(tmp_path: Path) -> None:
    """Bytes on a terminal help nobody."""
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


def test_an_index_is_flattened_into_what_takes_its_images_one_by_one(tmp_path: Path) -> None:
    """An archive does not; it is said before anything is written."""
    index(f"oci:{tmp_path}/layout:v1")
    archive = tmp_path / "a.tar"
    said = brolga("flatten", f"oci:{tmp_path}/layout:v1", "-t", f"oci-archive:{archive}", code=2)
    assert b"is an archive, which is written once, as a whole: copy it to oci:DIR first" in said
    assert not archive.exists()
    brolga("flatten", f"oci:{tmp_path}/layout:v1", "-t", f"oci:{tmp_path}/layout:flat")
    check(Layout(tmp_path / "layout").tree("flat"))


def test_several_images_are_pulled_into_one_archive(tmp_path: Path, registry: Embedded) -> None:
    """`pull REF... PATH`, as crane's: each with its own name."""
    names = [f"{registry.address}/{name}:v1" for name in ("a", "b")]
    with Client() as client:
        for name in names:
            client.push(name, Image.empty().append(stream(name)))
    archive = brolga("pull", *names, "-")
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        manifest = opened.extractfile("manifest.json")
        assert manifest is not None
        assert [one["RepoTags"] for one in json.loads(manifest.read())] == [[one] for one in names]
    pull = ("pull", "--annotate-ref", "--format", "oci")
    assert brolga(*pull, *names, tmp_path / "layout").count(b"\n") == 2


# --- Several at once


def test_processes_write_while_a_registry_serves_and_gc_sweeps(tmp_path: Path) -> None:
    """One directory: writers, a registry with a client, and `layout gc`, all at the same time.

    Nothing that was pushed is lost, and nothing is broken.
    """
    root = tmp_path / "root"
    layout = Layout(root / "app")
    with running(root) as address, Client() as client:
        client.push(f"{address}/app:first", Image.empty().append(stream("first")))
        command = (
            "import sys; from brolga import *; from tests.tars import tar\n"
            "with Client() as client:\n"
            "  for number in range(8):\n"
            "    data = [tar(f'{sys.argv[2]}{number}'), tar('in all of them')]\n"
            "    layers = [StreamLayer([one]) for one in data]\n"
            "    client.push(f'{sys.argv[1]}:{sys.argv[2]}{number}', Image.empty().append(*layers))"
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
        check(layout.whole())


def test_a_writer_that_is_killed_leaves_a_layout(tmp_path: Path) -> None:
    """SIGKILL before any step: the tag names what it named or what it shall name, all of it whole.

    And `gc` takes away what was left.
    """
    paths = killed_layouts(tmp_path)
    assert len(paths) > 100
    kinds = set()
    for path in paths:
        layout = Layout(path)
        check(layout.whole())
        kinds.add(type(layout.tree("v1")))
        layout.gc(older_than_s=0)
        check(layout.whole())
        assert list(layout.path.glob(".uploads/*")) == []
    assert kinds == {Image, ImageIndex}
    assert Layout(paths[-1]).tags() == ("v1",)


def test_a_client_of_a_registry_keeps_what_it_was_told_of(tmp_path: Path) -> None:
    """HEAD makes a blob young: the upload that it saves does not fail, whoever sweeps meanwhile."""
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
