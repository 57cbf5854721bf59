"""brolga mutate."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING

import pytest
from tests.cli_images import index, push, push_image, read, stream
from tests.command import stdin_of
from tests.tars import tar

from brolga.client import Client
from brolga.images import Artifact, Image
from brolga.spec.digest import Digest
from brolga.spec.platform import Platform

if TYPE_CHECKING:
    from pathlib import Path

    from tests.command import Brolga
    from tests.registries import EmbeddedRegistry

AMD64, ARM64 = Platform("linux", "amd64"), Platform("linux", "arm64")
USAGE = "see brolga mutate --help\n"


@pytest.fixture
def app(registry: EmbeddedRegistry) -> str:
    """Push an image that has something of everything."""
    name = f"{registry.address}/app:v1"
    image = (
        Image.empty()
        .append(stream("layer"))
        .with_config(
            Env=["PATH=/bin", "lonely", "HOME=/root"],
            Entrypoint=["/old"],
            Cmd=["old"],
            Labels={"a": "1", "b": "2"},
            User="root",
            WorkingDir="/old",
            ExposedPorts={"80/tcp": {}},
        )
    )
    push_image(name, image.with_annotations({"kept": "yes"}))
    return name


def test_mutate_changes_only_given_fields(brolga: Brolga, app: str) -> None:
    """Crane mutate's flags; layers stay, history too."""
    before = read(app)
    outcome = brolga(
        "mutate", app, "-t", f"{app}-new",
        "-l", "b=3", "-l", "c=4,d=5", "-a", "note=new", "-e", "HOME=/me", "-e", "NEW=a,b=c",
        "--entrypoint", "/bin/sh,-c", "--cmd", "run", "-u", "me", "-w", "/work",
        "--exposed-ports", "81/tcp,82/udp", "--set-platform", "linux/arm64/v8",
    )  # fmt: skip
    after = read(f"{app}-new")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out == f"{app.removesuffix(':v1')}@{after.digest}\n"
    assert after.annotations == {"kept": "yes", "note": "new"}
    assert dict(after.config.config) == {
        "Env": ("PATH=/bin", "lonely", "HOME=/me", "NEW=a,b=c"),
        "Entrypoint": ("/bin/sh", "-c"),
        "Cmd": ("run",),
        "Labels": {"a": "1", "b": "3", "c": "4,d=5"},
        "User": "me",
        "WorkingDir": "/work",
        "ExposedPorts": {"81/tcp": {}, "82/udp": {}},
    }
    assert after.config.platform == Platform("linux", "arm64", "v8")
    assert after.manifest.layers == before.manifest.layers
    assert after.config.history == before.config.history
    assert read(app).digest == before.digest


def test_mutate_entrypoint_removes_command(brolga: Brolga, app: str) -> None:
    """As docker does: the command was arguments for the old one."""
    brolga("mutate", app, "--entrypoint", "/new")
    assert read(app).config.config["Entrypoint"] == ("/new",)
    assert "Cmd" not in read(app).config.config


def test_mutate_empty_value_removes_field(brolga: Brolga, app: str) -> None:
    """And the rest stays."""
    flags = [f"--{name}=" for name in ("entrypoint", "cmd", "user", "workdir", "exposed-ports")]
    assert brolga("mutate", app, *flags).code == 0
    assert set(read(app).config.config) == {"Env", "Labels"}


def test_mutate_env_uses_upper_case_for_windows(brolga: Brolga, registry: EmbeddedRegistry) -> None:
    """Windows does not know names in two spellings; what is there stays."""
    name = f"{registry.address}/app"
    push_image(name, Image.empty(Platform("windows", "amd64")).with_config(Env=["Path=C:"]))
    brolga("mutate", name, "-e", "Path=D:", "-e", "new=1", "--platform", "windows/amd64")
    assert read(name).config.config["Env"] == ("Path=D:", "NEW=1")


def test_mutate_without_change_keeps_digest(brolga: Brolga, app: str) -> None:
    """The bytes stay, and so does the digest."""
    before = read(app).digest
    assert brolga("mutate", app).out.endswith(f"@{before}\n")


def test_mutate_replaces_tag(brolga: Brolga, app: str) -> None:
    """Crane says: if the new ref isn't provided, write over the original image."""
    outcome = brolga("mutate", "--json", "-l", "x=y", app)
    after = read(app)
    assert json.loads(outcome.out) == {
        "ref": f"{app.removesuffix(':v1')}@{after.digest}",
        "digest": str(after.digest),
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "size": after.manifest.size,
    }
    assert after.config.config["Labels"]["x"] == "y"


@pytest.mark.parametrize("tag", ["", ":v1"])
def test_mutate_of_digest_writes_no_tag(brolga: Brolga, app: str, tag: str) -> None:
    """A digest cannot be changed in place: the result is pushed by its own digest."""
    before = read(app).digest
    repository = app.removesuffix(":v1")
    outcome = brolga("mutate", "-l", "x=y", f"{repository}{tag}@{before}")
    assert outcome.code == 0
    assert read(app).digest == before
    assert read(outcome.out.strip()).config.config["Labels"]["x"] == "y"
    with Client() as client:
        assert client.tags(repository) == ["v1"]


def test_mutate_repo_pushes_by_digest(brolga: Brolga, app: str, registry: EmbeddedRegistry) -> None:
    """crane: 'Repository to push the mutated image to. If provided, push by digest'."""
    outcome = brolga("mutate", "-l", "x=y", "--repo", f"{registry.address}/other", app)
    assert outcome.out.startswith(f"{registry.address}/other@sha256:")
    assert read(outcome.out.strip()).config.config["Labels"]["x"] == "y"
    with Client() as client:
        assert client.tags(f"{registry.address}/other") == []


def test_mutate_append_adds_layers_of_file_and_stdin(
    brolga: Brolga, app: str, tmp_path: Path
) -> None:
    """In the order of the flags, on top; it is streamed."""
    archives = [tar("one"), tar("two")]
    (tmp_path / "one.tar").write_bytes(archives[0])
    with stdin_of(archives[1]) as stdin:
        flags = ["--append", str(tmp_path / "one.tar"), "--append", "-"]
        outcome = brolga("mutate", app, *flags, stdin=stdin)
    assert (outcome.code, outcome.err) == (0, "")
    after = read(app)
    expected = tuple(Digest.of(data) for data in (b"layer", *archives))
    assert after.config.diff_ids == expected
    assert [entry.created_by for entry in after.config.history][1:] == ["brolga mutate"] * 2


def test_mutate_append_rejects_stdin_twice(brolga: Brolga) -> None:
    """A second one would be empty."""
    flags = ["--append", "-", "--append", "-"]
    outcome = brolga("mutate", "127.0.0.1:1/x", *flags, stdin=io.StringIO())
    assert outcome.code == 2
    assert outcome.err == f"brolga: --append -: stdin can be only one SOURCE; {USAGE}"


def test_mutate_index_accepts_only_annotations(brolga: Brolga, registry: EmbeddedRegistry) -> None:
    """The error says how to choose an image."""
    name = f"{registry.address}/multi:1"
    index(name, AMD64, ARM64)
    for flags in (["-l", "a=b"], ["--user="]):
        outcome = brolga("mutate", name, *flags)
        assert (outcome.code, outcome.out) == (2, "")
        assert "is an index: choose one of its images with --platform" in outcome.err
    assert brolga("mutate", name, "-a", "a=b").code == 0
    with Client() as client:
        changed = client.index(name).index
    assert changed.annotations == {"a": "b"}
    assert changed.platforms == (AMD64, ARM64)


def test_mutate_image_of_index_requires_tag(brolga: Brolga, registry: EmbeddedRegistry) -> None:
    """The index's name would stand for one of its images, and the others be lost."""
    name = f"{registry.address}/multi:1"
    digest = index(name, AMD64, ARM64)
    flags = ["--platform", "linux/arm64", "-l", "a=b"]
    outcome = brolga("mutate", name, *flags)
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err == (
        f"brolga: {name} is an index, and its name would then stand for only one of its images: "
        f"name the result with --tag; {USAGE}"
    )
    assert brolga("mutate", name, *flags, "-t", f"{name}-arm").code == 0
    assert read(f"{name}-arm").platform == ARM64
    by_digest = brolga("mutate", f"{registry.address}/multi@{digest}", *flags)
    assert read(by_digest.out.strip()).digest == read(f"{name}-arm").digest


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--repo", "127.0.0.1:1/y", "-t", "127.0.0.1:1/y:1"], "--repo pushes by digest"),
        (["-l", "nothing"], "Invalid value for '-l' / '--label': 'nothing' is not KEY=VALUE"),
        (["--set-platform", "a b"], "Invalid value for '--set-platform': platform 'a b'"),
        (["--set-platform", "linux"], "Invalid value for '--set-platform': linux is not OS/ARCH"),
        (["-t", "127.0.0.1:1/Nope"], ""),
        (["--repo", "127.0.0.1:1/x:tag"], "a repository is wanted here"),
        (["--username", "me"], "--username needs --password-stdin"),
    ],
)
def test_mutate_rejects_invalid_flags(brolga: Brolga, flags: list[str], line: str) -> None:
    """Exit code 2, before any request."""
    outcome = brolga("mutate", "127.0.0.1:1/x", *flags)
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith(f"brolga: {line}")


def test_mutate_rejects_invalid_source_date_epoch(
    brolga: Brolga, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SOURCE_DATE_EPOCH is in seconds; it is checked before any request."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    outcome = brolga("mutate", "127.0.0.1:1/x")
    assert outcome.code == 2
    assert "SOURCE_DATE_EPOCH is not a number of seconds" in outcome.err


def test_mutate_append_rejects_compressed_layer(brolga: Brolga, tmp_path: Path) -> None:
    """Its DiffID would be that of the compressed bytes."""
    (tmp_path / "x.tgz").write_bytes(b"\x1f\x8b\x08")
    outcome = brolga("mutate", "127.0.0.1:1/x", "--append", str(tmp_path / "x.tgz"))
    assert outcome.code == 7
    assert "is already compressed" in outcome.err


def test_mutate_reports_missing_image(brolga: Brolga, registry: EmbeddedRegistry) -> None:
    """Exit code 3."""
    push(f"{registry.address}/app:v1", "layer")
    assert brolga("mutate", f"{registry.address}/app:v2").code == 3


def test_mutate_annotates_artifact(brolga: Brolga, registry: EmbeddedRegistry) -> None:
    """An artifact has no image config to change."""
    name = f"{registry.address}/app"
    push_image(name, Artifact.of("application/vnd.example"))
    outcome = brolga("mutate", "-a", "k=v,w", name)
    assert (outcome.code, outcome.err) == (0, "")
    with Client() as client:
        assert client.image(name).annotations["k"] == "v,w"
    outcome = brolga("mutate", "-l", "k=v", name)
    assert (outcome.code, outcome.out) == (6, "")
    assert "not an image, but an artifact: its config is application/vnd.oci.empty" in outcome.err


def test_mutate_writes_archive_with_output(brolga: Brolga, app: str, tmp_path: Path) -> None:
    """Crane: `-o FILE`, a tarball with the result's name in it; REF stays."""
    before, file = read(app).digest, tmp_path / "out.tar"
    outcome = brolga("mutate", app, "-l", "x=y", "-o", str(file))
    assert (outcome.code, outcome.out) == (0, f"docker-archive:{file}:{app}\n")
    assert read(f"docker-archive:{file}:{app}").config.config["Labels"]["x"] == "y"
    assert brolga("mutate", app, "-l", "x=z", "-o", str(file), "-t", f"{app}-new").code == 0
    assert read(f"docker-archive:{file}:{app}-new").config.config["Labels"]["x"] == "z"
    assert read(app).digest == before
    refused = brolga("mutate", app, "-o", str(file), "--repo", "127.0.0.1:1/x")
    assert (refused.code, refused.out) == (2, "")
