"""brolga export."""

from __future__ import annotations

import os
import sys
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.cli_images import push_image
from tests.tars import REG, entry, link, listed, names, symlink, tar

from brolga.cli.main import main
from brolga.images import Artifact, Image, InMemoryBlob
from brolga.spec.mediatypes import OCI_LAYER, OCI_LAYER_GZIP
from brolga.stream.layer import StreamLayer

if TYPE_CHECKING:
    from tests.command import Brolga
    from tests.registries import EmbeddedRegistry


@pytest.fixture
def app(registry: EmbeddedRegistry) -> str:
    """Push an image of two layers, the upper one hides a file of the lower."""
    name = f"{registry.address}/app"
    layers = tar(entry("a", b"below"), entry("gone")), tar(entry("a", b"above"), ".wh.gone")
    push_image(name, Image.empty().append(*(StreamLayer([data]) for data in layers)))
    return name


def files_of(directory: Path) -> list[str]:
    """Return the names of a directory's files; the registry has a directory in it."""
    return [path.name for path in directory.iterdir() if path.is_file()]


def test_export_writes_files_of_all_layers(brolga: Brolga, app: str, tmp_path: Path) -> None:
    """Crane export IMAGE FILE; a file that was there is replaced, with the usual rights."""
    target = tmp_path / "app.tar"
    target.write_bytes(b"old")
    outcome = brolga("export", app, str(target))
    assert (outcome.code, outcome.out, outcome.err) == (0, "", "")
    assert names(target.read_bytes()) == ["a"]
    assert listed(target.read_bytes())["a"][1] == b"above"
    assert files_of(tmp_path) == ["app.tar"]
    (tmp_path / "plain").touch()
    assert target.stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("flags", [[], ["-"]])
def test_export_writes_to_stdout_without_file(
    app: str,
    flags: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsysbinary: pytest.CaptureFixture[bytes],
) -> None:
    """Crane export IMAGE -."""
    monkeypatch.setattr("sys.argv", ["brolga", "export", app, *flags])
    main()
    out, err = capsysbinary.readouterr()
    assert (names(out), err) == (["a"], b"")


def test_export_writes_to_device(brolga: Brolga, app: str) -> None:
    """A device cannot be replaced by a file."""
    assert brolga("export", app, os.devnull).code == 0
    assert not Path(os.devnull).is_file()


def test_export_keeps_old_file_after_failure(
    brolga: Brolga, registry: EmbeddedRegistry, tmp_path: Path
) -> None:
    """The file is complete or missing."""
    name, target = f"{registry.address}/app", tmp_path / "app.tar"
    layers = [StreamLayer([b"no tar"]), StreamLayer([tar("a")])]
    push_image(name, Image.empty().append(*layers))
    target.write_bytes(b"old")
    outcome = brolga("export", name, str(target))
    assert (outcome.code, outcome.out) == (6, "")
    assert "layer 1 of 2" in outcome.err
    assert target.read_bytes() == b"old"
    assert files_of(tmp_path) == ["app.tar"]


def test_export_reports_output_before_failure(brolga: Brolga, registry: EmbeddedRegistry) -> None:
    """It must not be used; the exit code is not 0."""
    name = f"{registry.address}/app"
    layers = [StreamLayer([b"no tar"]), StreamLayer([tar("a")])]
    push_image(name, Image.empty().append(*layers))
    outcome = brolga("export", name)
    assert outcome.code == 6
    assert "which must not be used; try again" in outcome.err


def test_export_rejects_missing_directory(brolga: Brolga, app: str, tmp_path: Path) -> None:
    """One line, which names the file as the user did; exit code 2, before anything is read."""
    target = tmp_path / "none" / "app.tar"
    outcome = brolga("export", app, str(target))
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err == (
        f"brolga: {target}: directory {target.parent} does not exist; see brolga export --help\n"
    )


def test_export_rejects_directory(brolga: Brolga, tmp_path: Path) -> None:
    """Exit code 2, before any request."""
    outcome = brolga("export", "127.0.0.1:1/x", str(tmp_path))
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith(f"brolga: {tmp_path} is a directory, not a file;")


def test_export_reports_file_that_cannot_be_created(
    brolga: Brolga, app: str, tmp_path: Path
) -> None:
    """One line, which names the file as the user did."""
    target = tmp_path / (256 * "n")
    outcome = brolga("export", app, str(target))
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err == f"brolga: local: {target} cannot be written: File name too long\n"


def test_export_names_file_that_cannot_be_written(brolga: Brolga, app: str) -> None:
    """A full disk; the file's name says which one."""
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    outcome = brolga("export", app, "/dev/full")
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err == "brolga: local: /dev/full cannot be written: No space left on device\n"


def test_export_keeps_permissions_and_link(brolga: Brolga, app: str, tmp_path: Path) -> None:
    """As `blob -o` does; what a killed export left under the name it would take is no obstacle."""
    (tmp_path / "files.tar").touch(0o600)
    (tmp_path / "link").symlink_to("files.tar")
    (tmp_path / f".link.{os.getpid()}").touch()
    assert brolga("export", app, str(tmp_path / "link")).code == 0
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "files.tar").stat().st_mode & 0o777 == 0o600
    assert tarfile.is_tarfile(tmp_path / "files.tar")


def test_export_rejects_terminal(brolga: Brolga, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 2, as `pull` has it: a terminal would obey what is in the files."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    outcome = brolga("export", "127.0.0.1:1/x")
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith("brolga: stdout is a terminal: pipe the tar into a program")


def test_export_names_entry_on_which_readers_differ(
    brolga: Brolga, registry: EmbeddedRegistry
) -> None:
    """A line on stderr; with --strict an error."""
    name = f"{registry.address}/linked:1"
    layers = tar(entry("usr/"), symlink("lib", "usr")), tar(entry("lib/.wh.gone"))
    push_image(name, Image.empty().append(*(StreamLayer([data]) for data in layers)))
    outcome = brolga("export", name, os.devnull)
    assert outcome.code == 0
    assert outcome.err.startswith(f"warning: {name}: layer 1 of 2, sha256:")
    assert "'lib' is a symbolic link to 'usr', and layer 2 has 'lib/.wh.gone'" in outcome.err
    outcome = brolga("export", "--strict", name, os.devnull)
    assert outcome.code == 1
    assert "Readers differ" in outcome.err


def test_export_needs_spool_for_link_to_replaced_file(
    brolga: Brolga, registry: EmbeddedRegistry, tmp_path: Path
) -> None:
    """The error names --spool; with it, the tar has the file that the link shows."""
    name, target = f"{registry.address}/linked:1", tmp_path / "app.tar"
    layers = tar(entry("a", b"1"), link("b", "a")), tar(entry("a", b"2"))
    push_image(name, Image.empty().append(*(StreamLayer([data]) for data in layers)))
    outcome = brolga("export", name, str(target))
    assert outcome.code == 1
    assert "'b' points to 'a', which a layer above replaces or removes" in outcome.err
    assert "--spool" in outcome.err
    for flag in ("--spool", f"--spool={tmp_path}"):
        assert brolga("export", flag, name, str(target)).code == 0
        assert listed(target.read_bytes()) == {"a": (REG, b"2"), "b": (REG, b"1")}
    assert files_of(tmp_path) == ["app.tar"]


@pytest.mark.parametrize("target", ["-", "file"])
def test_export_writes_artifact_of_one_file(
    brolga: Brolga, registry: EmbeddedRegistry, tmp_path: Path, target: str
) -> None:
    """Crane export: "single layer, non-tarball images" (google/go-containerregistry, crane)."""
    name = f"{registry.address}/note:1"
    push_image(name, Artifact.of("application/x.note", InMemoryBlob(b"hello\n", "text/plain")))
    file = str(tmp_path / "note.txt") if target == "file" else "-"
    outcome = brolga("export", name, file)
    assert (outcome.code, outcome.err) == (0, "")
    assert (outcome.out or Path(file).read_text()) == "hello\n"


def test_export_rejects_artifact_with_wrong_digest(
    brolga: Brolga, registry: EmbeddedRegistry, tmp_path: Path
) -> None:
    """It is verified while it is written; the file is complete or missing."""
    name = f"{registry.address}/note:1"
    blob = InMemoryBlob(b"hello\n", "text/plain")
    push_image(name, Artifact.of("application/x.note", blob))
    (stored,) = registry.directory.rglob(blob.descriptor.digest.encoded)
    stored.write_bytes(b"jello\n")
    outcome = brolga("export", name, str(tmp_path / "note.txt"))
    assert outcome.code == 6
    assert not (tmp_path / "note.txt").exists()


def test_export_rejects_artifact_of_several_files(
    brolga: Brolga, registry: EmbeddedRegistry
) -> None:
    """Several files do not make a tar: the error names the media type."""
    name = f"{registry.address}/notes:1"
    blobs = [InMemoryBlob(text, "text/plain") for text in (b"1", b"2")]
    push_image(name, Artifact.of("application/x.note", *blobs))
    outcome = brolga("export", name)
    assert outcome.code == 6
    assert "layer 2 of 2" in outcome.err
    assert "of the media type text/plain, which is not a layer's" in outcome.err


@pytest.mark.parametrize(
    ("blob", "code", "line"),
    [
        (
            InMemoryBlob(b"x", f"{OCI_LAYER_GZIP}+encrypted"),
            1,
            "it is encrypted: decrypt the image",
        ),
        (
            InMemoryBlob(b"\xfd7zXZ\x00" + bytes(30), OCI_LAYER),
            6,
            "compressed by xz, which layers",
        ),
        (
            InMemoryBlob(b"BZh9" + bytes(30), OCI_LAYER),
            6,
            "compressed by bzip2, which layers do not have",
        ),
    ],
)
def test_export_names_unsupported_layer_format(
    brolga: Brolga, registry: EmbeddedRegistry, blob: InMemoryBlob, code: int, line: str
) -> None:
    """The error names the format instead of reporting damage."""
    name = f"{registry.address}/odd:1"
    push_image(name, Artifact.of("application/x", blob))
    outcome = brolga("export", name)
    assert (outcome.code, outcome.out) == (code, "")
    assert line in outcome.err
