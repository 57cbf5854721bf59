"""brolga append."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from typing import TYPE_CHECKING, Any

import pytest
from tests.cli_images import index, push, push_image, read, stream

from brolga.client import Client
from brolga.images import Image, InMemoryBlob
from brolga.spec.config import ImageConfig
from brolga.spec.manifest import Manifest
from brolga.spec.mediatypes import DOCKER_LAYER_GZIP
from brolga.spec.platform import Platform

if TYPE_CHECKING:
    from pathlib import Path

    from tests.command import Brolga
    from tests.registries import EmbeddedRegistry

    from brolga.testing.plugin import BrolgaRegistry

AMD64, ARM64 = Platform("linux", "amd64"), Platform("linux", "arm64")
NOWHERE = "127.0.0.1:1/x"
USAGE = "see brolga append --help\n"


def tar(name: str) -> bytes:
    """Return an archive with one empty file."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo(name))
    return buffer.getvalue()


@pytest.fixture
def first(tmp_path: Path) -> str:
    """Write an archive."""
    path = tmp_path / "first.tar"
    path.write_bytes(tar("first"))
    return str(path)


@pytest.fixture
def second(tmp_path: Path) -> str:
    """Write another one."""
    path = tmp_path / "second.tar"
    path.write_bytes(tar("second"))
    return str(path)


def diff_ids(image: Image) -> list[str]:
    """Return the DiffIDs as text."""
    return [str(digest) for digest in image.config.diff_ids]


def diff_id(data: bytes) -> str:
    """Return the digest of an archive."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def test_append_makes_image_without_base(
    brolga: Brolga, registry: EmbeddedRegistry, first: str
) -> None:
    """OCI's types, linux/amd64, DiffID and history; `REPO@DIGEST` is printed."""
    name = f"{registry.address}/a/b"
    outcome = brolga("append", "-f", first, "-t", f"{name}:v1")
    image = read(f"{name}:v1")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out == f"{name}@{image.digest}\n"
    assert image.media_type == "application/vnd.oci.image.manifest.v1+json"
    assert image.platform == AMD64
    assert diff_ids(image) == [diff_id(tar("first"))]
    (entry,) = image.config.history
    assert (entry.created_by, entry.created) == ("brolga append", "1970-01-01T00:00:00Z")


def test_append_sets_platform_without_base(
    brolga: Brolga, registry: EmbeddedRegistry, first: str
) -> None:
    """`--platform`; crane's --oci-empty-base changes nothing."""
    name = f"{registry.address}/x"
    flags = ["--platform", "linux/arm64/v8", "--oci-empty-base"]
    assert brolga("append", *flags, "-f", first, "-t", name).code == 0
    assert read(name).platform == Platform("linux", "arm64", "v8")


def test_append_adds_layers_in_order(
    brolga: Brolga, registry: EmbeddedRegistry, first: str, second: str, tmp_path: Path
) -> None:
    """`-f A -f -`: the lowest first, a pipe among them; the base's layers below."""
    base, name = f"{registry.address}/base", f"{registry.address}/app:v1"
    brolga("append", "-f", first, "-t", base)
    piped = tmp_path / "piped"
    piped.write_bytes(tar("piped"))
    with piped.open() as stdin:
        outcome = brolga("append", "-b", base, "-f", second, "-f", "-", "-t", name, stdin=stdin)
    assert (outcome.code, outcome.err) == (0, "")
    below, image = read(base), read(name)
    assert diff_ids(image) == [diff_id(tar(name)) for name in ("first", "second", "piped")]
    assert image.manifest.layers[0] == below.manifest.layers[0]


def test_append_prints_image_and_layers_as_json(
    brolga: Brolga, registry: EmbeddedRegistry, first: str, second: str
) -> None:
    """ref, digest, mediaType, size, layers, seconds."""
    name = f"{registry.address}/x"
    flags = ["--compression", "none", "--threads", "1", "--jobs", "2", "--json"]
    outcome = brolga("append", *flags, "-f", first, "-f", second, "-t", name)
    assert (outcome.code, outcome.err) == (0, "")
    result: dict[str, Any] = json.loads(outcome.out)
    image = read(name)
    assert result.pop("seconds") >= 0
    layers = result.pop("layers")
    assert result == {
        "ref": f"{name}@{image.digest}",
        "digest": str(image.digest),
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "size": image.descriptor.size,
    }
    assert layers == [
        {
            "digest": diff_id(data),
            "diffId": diff_id(data),
            "size": len(data),
            "uncompressedSize": len(data),
            "mediaType": "application/vnd.oci.image.layer.v1.tar",
        }
        for data in (tar("first"), tar("second"))
    ]


def test_append_chooses_base_of_index_by_platform(
    brolga: Brolga, registry: EmbeddedRegistry, first: str
) -> None:
    """`--platform`, else linux/amd64; a missing one is exit code 3."""
    base, name = f"{registry.address}/base", f"{registry.address}/x"
    index(base, AMD64, ARM64)
    with Client() as client:
        arm = client.image(base, ARM64).digest
    flags = ["-b", base, "-f", first, "-t", name]
    assert brolga("append", *flags).code == 0
    assert read(name).platform == AMD64
    annotate = ["--platform", "linux/arm64", "--set-base-image-annotations"]
    assert brolga("append", *flags, *annotate).code == 0
    image = read(name)
    assert image.platform == ARM64
    assert image.annotations == {
        "org.opencontainers.image.base.digest": str(arm),
        "org.opencontainers.image.base.name": f"{base}:latest",
    }
    missing = brolga("append", *flags, "--platform", "linux/s390x")
    assert missing.code == 3
    assert "it has 'linux/amd64', 'linux/arm64'; choose another with --platform" in missing.err


def test_append_annotates_base_by_digest_without_name(
    brolga: Brolga, registry: EmbeddedRegistry, first: str
) -> None:
    """Crane: the name is annotated if BASE is a tag. The user's annotations take precedence."""
    base, name = f"{registry.address}/base", f"{registry.address}/x"
    digest = brolga("append", "-f", first, "-t", base).out.strip().partition("@")[2]
    flags = ["--set-base-image-annotations", "--annotation", "a=b=c", "--created-by", "me"]
    outcome = brolga("append", "-b", f"{base}@{digest}", *flags, "-f", first, "-t", name)
    assert (outcome.code, outcome.err) == (0, "")
    image = read(name)
    assert image.annotations == {"org.opencontainers.image.base.digest": digest, "a": "b=c"}
    assert [entry.created_by for entry in image.config.history] == ["brolga append", "me"]


def test_append_removes_annotations_of_base_about_its_base(
    brolga: Brolga, registry: EmbeddedRegistry, first: str
) -> None:
    """annotations.md: name and digest are of one image, "the image this image is based on"."""
    base, name = f"{registry.address}/base", f"{registry.address}/x"
    below = {f"org.opencontainers.image.base.{part}": "old" for part in ("name", "digest")}
    digest = push_image(base, Image.empty().append(stream("layer")).with_annotations(below))
    flags = ["-b", f"{base}@{digest}", "--set-base-image-annotations"]
    assert brolga("append", *flags, "-f", first, "-t", name).code == 0
    assert read(name).annotations == {"org.opencontainers.image.base.digest": digest}


def test_append_by_sha512(
    brolga: Brolga, registry: EmbeddedRegistry, first: str, second: str, tmp_path: Path
) -> None:
    """The new layers alone have such digests, in an archive too; the image can be read."""
    name = f"{registry.address}/x:v1"
    assert brolga("append", "-f", first, "-t", name).code == 0
    for target in (f"{registry.address}/x:v2", f"oci-archive:{tmp_path}/a.tar:v2"):
        flags = ("--digest-algorithm", "sha512", "--spool")
        outcome = brolga("append", "-b", name, "-f", second, "-t", target, *flags)
        assert (outcome.code, outcome.err) == (0, "")
        with Client() as client:
            image = client.image(target)
            layers = image.manifest.layers
            assert [layer.digest.algorithm for layer in layers] == ["sha256", "sha512"]
        assert brolga("validate", "--remote", target).code == 0


def test_append_sets_several_tags(
    brolga: Brolga, brolga_registry: BrolgaRegistry, first: str
) -> None:
    """With one request."""
    repository = brolga_registry.repository("x")
    targets = [flag for tag in ("1.2", "1", "latest") for flag in ("-t", f"{repository}:{tag}")]
    outcome = brolga("append", "-f", first, *targets)
    assert (outcome.code, outcome.err) == (0, "")
    with Client() as client:
        digests = {client.head(f"{repository}:{tag}").digest for tag in ("1.2", "1", "latest")}
    assert [f"{repository}@{digest}\n" for digest in digests] == [outcome.out]
    puts = [request for request in brolga_registry.requests if request.kind == "PUT manifest"]
    assert [request.query for request in puts] == ["tag=1.2&tag=1&tag=latest"]


def test_append_splits_sources_at_commas(
    brolga: Brolga, registry: EmbeddedRegistry, first: str, second: str
) -> None:
    """Crane: `-f a.tar,b.tar`."""
    name = f"{registry.address}/x"
    assert brolga("append", "-f", f"{first},{second}", "-f", first, "-t", name).code == 0
    assert diff_ids(read(name)) == [diff_id(tar(one)) for one in ("first", "second", "first")]


def test_append_accepts_media_type_of_docker(
    brolga: Brolga, registry: EmbeddedRegistry, first: str
) -> None:
    """The manifest gives it the name of its own family."""
    name = f"{registry.address}/x"
    flags = ["--media-type", DOCKER_LAYER_GZIP]
    assert brolga("append", *flags, "-f", first, "-t", name).code == 0
    (layer,) = read(name).manifest.layers
    assert layer.media_type == "application/vnd.oci.image.layer.v1.tar+gzip"


def test_append_writes_archive_with_output(
    brolga: Brolga, registry: EmbeddedRegistry, first: str, tmp_path: Path
) -> None:
    """Crane: `-o FILE`, a tarball with the image's name in it; nothing is pushed."""
    file = tmp_path / "out.tar"
    outcome = brolga("append", "-f", first, "-t", f"{registry.address}/x:v1", "-o", str(file))
    place = f"docker-archive:{file}:{registry.address}/x:v1"
    assert (outcome.code, outcome.out, outcome.err) == (0, f"{place}\n", "")
    assert registry.blobs("x") == []
    assert diff_ids(read(place)) == [diff_id(tar("first"))]
    stdout = brolga("append", "-f", first, "-t", f"{registry.address}/x", "-o", "-", "--json")
    assert (stdout.code, stdout.out) == (2, "")


@pytest.mark.parametrize("count", [0, 2])
def test_append_rejects_broken_base_before_reading_stdin(
    brolga: Brolga, registry: EmbeddedRegistry, tmp_path: Path, count: int
) -> None:
    """Exit code 6, with the place: a stream can be read only once."""
    base, piped = f"{registry.address}/base", tmp_path / "piped"
    below = stream("layer")
    image = Image.empty().append(below)
    with Client() as client:
        client.push_layer(f"{registry.address}/base", below)
        config = ImageConfig.empty().replace(diff_ids=[below.diff_id] * count)
        blob = InMemoryBlob(config.raw, image.manifest.config.media_type)
        manifest = Manifest.new(blob.descriptor, [below.descriptor])
        client.push(base, Image(manifest, blob, image.layers))
    piped.write_bytes(tar("piped"))
    with piped.open() as stdin:
        outcome = brolga("append", "-b", base, "-f", "-", "-t", f"{base}:v1", stdin=stdin)
        assert stdin.buffer.read() == tar("piped")
    assert (outcome.code, outcome.out) == (6, "")
    assert outcome.err.startswith(f"brolga: registry: config {blob.descriptor.digest}, $.rootfs.d")
    assert f": {count} DiffIDs, but the manifest has 1 layers" in outcome.err


def test_append_shows_progress_of_all_layers(
    brolga: Brolga, registry: EmbeddedRegistry, first: str, second: str
) -> None:
    """As `layer push` does."""
    arguments = ["-f", first, "-f", second, "-t", f"{registry.address}/x", "--progress", "plain"]
    outcome = brolga("append", *arguments)
    lines = outcome.err.splitlines()
    assert {line.partition(": ")[0] for line in lines} >= {"first.tar", "second.tar"}
    assert lines[-1].startswith("3 blobs: ")


@pytest.mark.parametrize(
    ("arguments", "start"),
    [
        (["-t", NOWHERE], "Missing option '-f' / '--new_layer'"),
        (["-f", "x"], "Missing option '-t' / '--new_tag' / '--tag'"),
        (["-f", "-", "-f", "-", "-t", NOWHERE], "-f -: stdin can be only one SOURCE"),
        (["-f", "x", "-t", f"{NOWHERE}@sha256:{64 * 'a'}"], "-t: give a tag; the digest"),
        (["-f", "x", "-t", NOWHERE, "-a", "a"], "Invalid value for '-a' / '--annotation'"),
        (["-f", "x", "-t", NOWHERE, "--platform", "linux"], "--platform: linux is not OS/ARCH"),
        (["-f", "x", "-t", NOWHERE, "--compression", "lzma"], "compression 'lzma' is not one of"),
        (["-f", "x", "-t", NOWHERE, "-b", ""], "Invalid value for '-b' / '--base': it is empty"),
        (["-f", "", "-t", NOWHERE], "Invalid value for '-f' / '--new_layer': it is empty"),
        (["-f", "x,", "-t", NOWHERE], "Invalid value for '-f' / '--new_layer': 'x,' has an empty"),
        (["-f", "x", "-t", ""], "Invalid value for '-t' / '--new_tag' / '--tag': it is empty"),
        (
            ["-f", "x", "-t", "a/b:1", "-t", "a/c:1"],
            "-t: docker.io/a/c:1 is not in the repository of",
        ),
        (["-f", "x", "-t", NOWHERE, "-t", f"{NOWHERE}@sha256:{64 * 'a'}"], "-t: give a tag; the"),
        (["-f", "x", "-t", "oci:x:y", "-o", "z"], "--output: oci:x:y is not the name of an image"),
        (
            ["-f", "x", "-t", NOWHERE, "--media-type", "text/plain"],
            "--media-type: 'text/plain' is not the type of a layer of an image that is compressed",
        ),
        (
            [
                "-f",
                "x",
                "-t",
                NOWHERE,
                "--compression",
                "zstd:9",
                "--media-type",
                DOCKER_LAYER_GZIP,
            ],
            f"--media-type: '{DOCKER_LAYER_GZIP}' is not the type of a layer",
        ),
        (["-f", "x", "-t", NOWHERE, "--jobs", "0"], "Invalid value for '-j' / '--jobs'"),
        (
            ["-f", "-", "-t", NOWHERE, "-u", "me", "--password-stdin"],
            "--password-stdin and - both want stdin",
        ),
    ],
)
def test_append_rejects_invalid_flags(brolga: Brolga, arguments: list[str], start: str) -> None:
    """Exit code 2, before any request."""
    outcome = brolga("append", *arguments)
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith(f"brolga: {start}")
    assert outcome.err.endswith(USAGE)


@pytest.mark.parametrize("flags", [["-t", "x:y:z"], ["-t", NOWHERE, "-b", "x@nope"]])
def test_append_rejects_invalid_name(brolga: Brolga, flags: list[str]) -> None:
    """Exit code 2."""
    outcome = brolga("append", "-f", "x", *flags)
    assert (outcome.code, outcome.out) == (2, "")


def test_append_rejects_invalid_source_date_epoch(
    brolga: Brolga, registry: EmbeddedRegistry, first: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SOURCE_DATE_EPOCH is the history's time."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    outcome = brolga("append", "-f", first, "-t", f"{registry.address}/x")
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith("brolga: SOURCE_DATE_EPOCH is not a number of seconds")
    assert registry.blobs("x") == []


def test_append_rejects_compressed_source(
    brolga: Brolga, registry: EmbeddedRegistry, tmp_path: Path
) -> None:
    """From a file and a pipe: exit code 7, a hint, and nothing was pushed."""
    name, file = f"{registry.address}/x", tmp_path / "x.tgz"
    file.write_bytes(gzip.compress(tar("x")))
    outcome = brolga("append", "-f", str(file), "-t", name)
    with file.open() as stdin:
        piped = brolga("append", "-f", "-", "-t", name, stdin=stdin)
    wrong = "is already compressed, and a layer is made from the tar: use the output of `gzip -dc"
    assert (outcome.code, outcome.out) == (piped.code, piped.out) == (7, "")
    assert outcome.err == f"brolga: source: {file} {wrong} {file}`\n"
    assert piped.err == f"brolga: source: stdin {wrong}`\n"
    assert registry.blobs("x") == []


def test_append_rejects_incomplete_tar(
    brolga: Brolga, registry: EmbeddedRegistry, tmp_path: Path
) -> None:
    """Exit code 6: a layer of an image is a complete tar (layer.md)."""
    name, file = f"{registry.address}/x", tmp_path / "x.tar"
    for data, why in (
        (tar("x")[:512], "the source is a tar cut short: after 512 bytes"),
        (b"", "the source is empty, but must be a tar"),
        (bytes(100), "the source is a tar cut short: after 100 bytes"),
        (b"x" * 1000, "the source is not a complete tar: not a valid tar header at byte 0"),
    ):
        file.write_bytes(data)
        outcome = brolga("append", "-f", str(file), "-t", name)
        assert (outcome.code, outcome.out) == (6, "")
        assert outcome.err.startswith(f"brolga: source: {why}")
    assert registry.blobs("x") == []
    assert registry.uploads("x") == []


@pytest.mark.parametrize(("name", "why"), [("missing", "No such file"), ("dir", "is a directory")])
def test_append_rejects_missing_source_before_any_request(
    brolga: Brolga, tmp_path: Path, name: str, why: str
) -> None:
    """Exit code 7: the registry, which does not exist, was not asked."""
    (tmp_path / "dir").mkdir()
    outcome = brolga("append", "-b", NOWHERE, "-f", str(tmp_path / name), "-t", NOWHERE)
    assert outcome.code == 7
    assert why in outcome.err


def test_append_reports_missing_base(
    brolga: Brolga, registry: EmbeddedRegistry, first: str
) -> None:
    """Exit code 3."""
    name = f"{registry.address}/x"
    outcome = brolga("append", "-b", f"{registry.address}/base", "-f", first, "-t", name)
    assert (outcome.code, outcome.out) == (3, "")


def test_append_mounts_base_within_registry(
    brolga: Brolga, registry: EmbeddedRegistry, first: str
) -> None:
    """The layer is in the new repository, and its bytes were not sent again."""
    base, name = f"{registry.address}/base", f"{registry.address}/x"
    push(base, "a layer")
    assert brolga("append", "-b", base, "-f", first, "-t", name).code == 0
    mine = {blob.name for blob in registry.blobs("x")}
    assert {one.digest.encoded for one in read(base).manifest.layers} <= mine
