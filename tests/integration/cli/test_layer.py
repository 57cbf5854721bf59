"""brolga layer push."""

from __future__ import annotations

import errno
import gzip
import hashlib
import io
import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.raw_server import Peer, refusing_port, serve_script
from tests.tars import tar

from brolga.testing.faults import Answer, FaultPlan

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.command import Brolga
    from tests.conftest import Authority
    from tests.registries import EmbeddedRegistry

    from brolga.testing.plugin import BrolgaRegistry

DATA = b"some bytes to stream\n" * 1000
NOT_KEPT = (
    "warning: no manifest names this layer, and a garbage collection of the registry may "
    "delete it; REPO:TAG keeps it\n"
)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Write a source."""
    path = tmp_path / "source"
    path.write_bytes(DATA)
    return path


@pytest.fixture
def push_json(
    brolga: Brolga, registry: EmbeddedRegistry, source: Path
) -> Callable[..., dict[str, Any]]:
    """Push bytes without a tag; return the JSON object that is printed."""

    def push(data: bytes, *flags: str) -> dict[str, Any]:
        source.write_bytes(data)
        outcome = brolga("layer", "push", "--json", *flags, f"{registry.address}/x", str(source))
        assert (outcome.code, outcome.err) == (0, NOT_KEPT)
        return dict(json.loads(outcome.out))

    return push


def test_push_help_lists_flags_and_examples(brolga: Brolga) -> None:
    """Each example is on a line of its own, to be copied."""
    outcome = brolga("layer", "push", "--help")
    assert (outcome.code, outcome.err) == (0, "")
    lines = outcome.out.splitlines()
    assert "    tar -c app | brolga layer push registry.example/team/app:v1" in lines
    example = "brolga layer push --compression zstd:9 localhost:5000/dumps:monday -- pg_dump db"
    assert f"    {example}" in lines
    assert lines[0] == "Usage: brolga layer push [OPTIONS] REPO[:TAG] [SOURCE] [-- COMMAND ARG...]"
    for flag in ("compression", "media-type", "threads", "json", "progress", "insecure", "ca-cert"):
        assert f"  --{flag} " in outcome.out
    assert "  --tar / --no-tar " in outcome.out
    assert "\b" not in outcome.out
    assert "\\b" not in outcome.out


def test_push_prints_layer_and_warns_without_tag(
    brolga: Brolga, registry: EmbeddedRegistry, source: Path
) -> None:
    """`REPO@sha256:…`; stderr tells that nothing keeps the layer."""
    outcome = brolga("layer", "push", f"{registry.address}/a/b", str(source))
    (blob,) = registry.blobs("a/b")
    digest = f"sha256:{hashlib.sha256(blob.read_bytes()).hexdigest()}"
    assert (outcome.code, outcome.err) == (0, NOT_KEPT)
    assert outcome.out == f"{registry.address}/a/b@{digest}\n"
    assert gzip.decompress(blob.read_bytes()) == DATA


def test_push_prints_json(brolga: Brolga, registry: EmbeddedRegistry, source: Path) -> None:
    """ref, digest, diffId, size, uncompressedSize, mediaType, seconds."""
    outcome = brolga("layer", "push", "--json", f"{registry.address}/x", str(source))
    assert (outcome.code, outcome.err) == (0, NOT_KEPT)
    assert outcome.out.count("\n") == 1
    result = json.loads(outcome.out)
    (blob,) = registry.blobs("x")
    digest = f"sha256:{hashlib.sha256(blob.read_bytes()).hexdigest()}"
    assert result.pop("seconds") >= 0
    assert result == {
        "ref": f"{registry.address}/x@{digest}",
        "digest": digest,
        "diffId": f"sha256:{hashlib.sha256(DATA).hexdigest()}",
        "size": blob.stat().st_size,
        "uncompressedSize": len(DATA),
        "mediaType": "application/octet-stream+gzip",
    }


@pytest.mark.parametrize("arguments", [[], ["-"]])
def test_push_reads_stdin_by_default(
    brolga: Brolga, registry: EmbeddedRegistry, source: Path, arguments: list[str]
) -> None:
    """`tar -c … | brolga layer push REPO`."""
    arguments = ["layer", "push", "--json", f"{registry.address}/x", *arguments]
    with source.open() as stdin:
        outcome = brolga(*arguments, stdin=stdin)
    assert json.loads(outcome.out)["diffId"] == f"sha256:{hashlib.sha256(DATA).hexdigest()}"


@pytest.mark.parametrize(
    ("flags", "suffix"),
    [
        (["--compression", "zstd:1"], "+zstd"),
        (["--compression", "none"], ""),
        (["--compression", "gzip:9", "--threads", "1"], "+gzip"),
    ],
)
@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (tar("a"), "application/vnd.oci.image.layer.v1.tar"),
        (DATA, "application/octet-stream"),
        (b"", "application/octet-stream"),
        (tar("a")[:256], "application/octet-stream"),
    ],
)
def test_push_uses_tar_media_type_only_for_tar(
    push_json: Callable[..., dict[str, Any]], flags: list[str], suffix: str, data: bytes, kind: str
) -> None:
    """image-spec layer.md: one media type for each compression."""
    assert push_json(data, *flags)["mediaType"] == kind + suffix


def test_push_prefers_given_media_type(push_json: Callable[..., dict[str, Any]]) -> None:
    """For any bytes."""
    for data in (tar("a"), DATA):
        fields = push_json(data, "--media-type", "application/vnd.example")
        assert fields["mediaType"] == "application/vnd.example"


def test_push_no_tar_does_not_use_tar_media_type(
    brolga: Brolga, registry: EmbeddedRegistry, source: Path
) -> None:
    """An incomplete tar cannot be read as a tar."""
    source.write_bytes(tar("a")[:512])
    push = ["layer", "push", "--json", "--no-tar", f"{registry.address}/x", str(source)]
    assert json.loads(brolga(*push).out)["mediaType"] == "application/octet-stream+gzip"


# --- A manifest names the stream


def test_push_with_tag_makes_artifact(
    brolga: Brolga, registry: EmbeddedRegistry, source: Path
) -> None:
    """image-spec manifest.md, Guidelines for Artifact Usage: an empty config, an artifactType."""
    push = ["layer", "push", "--json", "-a", "k=v", "--artifact-type", "application/x"]
    outcome = brolga(*push, f"{registry.address}/x:v1", str(source))
    assert (outcome.code, outcome.err) == (0, "")
    fields = json.loads(outcome.out)
    raw = brolga("manifest", f"{registry.address}/x:v1").out
    assert fields["digest"] == f"sha256:{hashlib.sha256(raw.encode()).hexdigest()}"
    assert fields["ref"] == f"{registry.address}/x@{fields['digest']}"
    manifest = json.loads(raw)
    assert manifest["artifactType"] == fields["artifactType"] == "application/x"
    assert manifest["config"]["mediaType"] == "application/vnd.oci.empty.v1+json"
    assert manifest["annotations"]["k"] == "v"
    (described,) = manifest["layers"]
    layer = fields["layer"]
    assert described == {
        "mediaType": "application/octet-stream+gzip",
        "digest": layer["digest"],
        "size": layer["size"],
        "annotations": {"org.opencontainers.image.title": "source.gz"},
    }
    assert layer["diffId"] == f"sha256:{hashlib.sha256(DATA).hexdigest()}"
    assert (layer["uncompressedSize"], layer["mediaType"]) == (len(DATA), described["mediaType"])


@pytest.mark.parametrize("compression", ["gzip", "none"])
@pytest.mark.parametrize("place", ["REGISTRY/x", "oci:layout"])
def test_push_by_sha512(
    brolga: Brolga, registry: EmbeddedRegistry, source: Path, compression: str, place: str
) -> None:
    """From the stream to the manifest; the DiffID and the manifest's digest are by sha256."""
    home = place.replace("REGISTRY", registry.address).replace("oci:", f"oci:{source.parent}/")
    name = f"{home}:v1"
    flags = ("--digest-algorithm", "sha512", "--compression", compression)
    outcome = brolga("layer", "push", "--json", *flags, name, str(source))
    assert (outcome.code, outcome.err) == (0, "")
    pushed = json.loads(outcome.out)
    layer = pushed["layer"]
    assert pushed["digest"].startswith("sha256:")
    assert layer["diffId"] == f"sha256:{hashlib.sha256(DATA).hexdigest()}"
    root = source.parent / "layout" if name.startswith("oci:") else registry.directory / "x"
    algorithm, _, encoded = layer["digest"].partition(":")
    stored = (root / "blobs" / algorithm / encoded).read_bytes()
    assert (algorithm, encoded) == ("sha512", hashlib.sha512(stored).hexdigest())
    manifest = json.loads(brolga("manifest", name).out)
    assert [each["digest"] for each in manifest["layers"]] == [layer["digest"]]
    assert brolga("layer", "pull", name).out == DATA.decode()


@pytest.mark.brolga_registry(
    faults=FaultPlan(Answer(on="POST upload", status=400, code="DIGEST_INVALID", times=None))
)
def test_push_by_sha512_reports_registry_without_it(
    brolga: Brolga, brolga_registry: BrolgaRegistry, source: Path
) -> None:
    """One line says what was refused and what to do; nothing is committed."""
    name = f"{brolga_registry.repository('x')}:v1"
    outcome = brolga("layer", "push", "--digest-algorithm", "sha512", name, str(source))
    assert outcome.code != 0
    assert "DIGEST_INVALID" in outcome.err
    assert "if the registry does not take sha512, use another registry or oci:DIR" in outcome.err
    assert brolga_registry.blobs("x") == brolga_registry.uploads("x") == {}


def test_push_of_command_has_default_type_and_no_title(
    brolga: Brolga, registry: EmbeddedRegistry
) -> None:
    """ORAS has the same default; only a file has a name."""
    name = f"{registry.address}/x:v1"
    outcome = brolga("layer", "push", "--compression", "none", name, "--", "printf", "abc")
    manifest = json.loads(brolga("manifest", name).out)
    assert outcome.out.startswith(f"{registry.address}/x@sha256:")
    assert manifest["artifactType"] == "application/vnd.unknown.artifact.v1"
    assert manifest["layers"][0].keys() == {"mediaType", "digest", "size"}
    assert manifest["layers"][0]["mediaType"] == "application/octet-stream"


def test_push_keeps_tag_if_source_fails(
    brolga: Brolga, registry: EmbeddedRegistry, source: Path
) -> None:
    """If the source fails, the tag does not move."""
    name = f"{registry.address}/x:v1"
    assert brolga("layer", "push", name, str(source)).code == 0
    before = brolga("digest", name).out
    outcome = brolga("layer", "push", name, "--", "sh", "-c", "printf partial; exit 3")
    assert (outcome.code, outcome.err) == (7, "brolga: source: sh exited with 3\n")
    assert brolga("digest", name).out == before


def test_push_rejects_invalid_source_date_epoch(
    brolga: Brolga, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SOURCE_DATE_EPOCH is the time of the artifact; it is checked before anything is read."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "soon")
    outcome = brolga("layer", "push", NOWHERE + ":v1", str(source))
    assert outcome.code == 2
    assert "SOURCE_DATE_EPOCH" in outcome.err


@pytest.mark.parametrize("place", ["oci:layout:v1", "oci-archive:archive.tar:v1"])
def test_push_and_pull_use_local_places(
    brolga: Brolga, source: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, place: str
) -> None:
    """A layout, or with --spool an archive."""
    monkeypatch.chdir(tmp_path)
    assert brolga("layer", "push", "--spool", place, str(source)).code == 0
    assert brolga("layer", "pull", place, "-o", "out").code == 0
    assert Path("out").read_bytes() == DATA


def test_push_prints_plain_progress_on_stderr(
    brolga: Brolga, registry: EmbeddedRegistry, source: Path
) -> None:
    """Each blob has a line, and the last one sums up."""
    repository = f"{registry.address}/x"
    outcome = brolga("layer", "push", "--progress", "plain", repository, str(source))
    assert outcome.out.startswith(f"{repository}@sha256:")
    assert outcome.err.startswith(f"{source.name}: 21.0 kB in, ")
    assert "1 blob: 21.0 kB in, " in outcome.err


needs_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
PUSH = [sys.executable, "-m", "brolga", "layer", "push"]
USAGE = "see brolga layer push --help\n"
NOWHERE = "127.0.0.1:1/x"


@pytest.mark.parametrize(
    ("arguments", "start", "end"),
    [
        (["--compression", "lzma", NOWHERE], "compression 'lzma' is not one of gzip", USAGE),
        (["--compression", "gzip:99", NOWHERE], "gzip has levels 1 to 9, not 99", USAGE),
        (["--compression", "gzip:x", NOWHERE], "compression 'gzip:x': the level 'x'", USAGE),
        (["--compression", "none:1", NOWHERE], "compression none has no level", USAGE),
        (["--threads", "0", NOWHERE], "Invalid value for '--threads'", USAGE),
        (["--progress", "loud", NOWHERE], "Invalid value for '--progress'", USAGE),
        (["--timeout", "0", NOWHERE], "Invalid value for '--timeout'", USAGE),
        (["--media-type=", NOWHERE], "Invalid value for '--media-type': it is empty", USAGE),
        (["--ca-cert", "/dev/no", NOWHERE], "Invalid value for '--ca-cert'", USAGE),
        (["Nope/Nope"], "", "a repository is written like registry.example/team/app\n"),
        (["127.0.0.1:1/x@sha256:" + 64 * "a"], "a tag is wanted here: the digest", "team/app\n"),
        (["127.0.0.1:1/x:t@sha256:" + 64 * "a"], "a tag is wanted here", "team/app\n"),
        (["oci:there"], "oci:there: a layer alone is not an image", "name it: oci:DIR:TAG\n"),
        ([NOWHERE, "--artifact-type", "a/b"], "--artifact-type and --annotation need", USAGE),
        ([NOWHERE, "-a", "a=b"], "--artifact-type and --annotation need a manifest", USAGE),
        (
            [NOWHERE + ":t", "--artifact-type", "a"],
            "Invalid value for '--artifact-type': media type 'a'",
            USAGE,
        ),
        ([NOWHERE + ":t", "--media-type", "a/b"], "--media-type a/b does not say how", USAGE),
        (["http://127.0.0.1:1/x"], "", "team/app\n"),
        ([NOWHERE, "--"], "a COMMAND must follow --", USAGE),
        ([NOWHERE, "-", "--", "true"], "give either SOURCE or -- COMMAND, not both", USAGE),
        (["--", "true"], "Missing argument 'REPO[:TAG]'", USAGE),
    ],
)
def test_push_rejects_invalid_arguments(
    brolga: Brolga, source: Path, arguments: list[str], start: str, end: str
) -> None:
    """One line, exit code 2, and no connection was tried."""
    with source.open() as stdin:
        outcome = brolga("layer", "push", *arguments, stdin=stdin)
        assert stdin.buffer.read(1) == DATA[:1]
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith(f"brolga: {start}")
    assert outcome.err.endswith(end)
    assert outcome.err.count("\n") == 1


def test_push_rejects_invalid_ca_cert(brolga: Brolga, source: Path) -> None:
    """It says which file."""
    outcome = brolga("layer", "push", "--ca-cert", str(source), NOWHERE, str(source))
    assert outcome.code == 2
    assert outcome.err.startswith(f"brolga: --ca-cert: {source} ")
    assert outcome.err.count("\n") == 1


def test_push_rejects_terminal_as_source(brolga: Brolga) -> None:
    """A user who forgot the pipe gets an error instead of a wait."""
    master, slave = pty.openpty()
    with os.fdopen(slave) as stdin:
        outcome = brolga("layer", "push", NOWHERE, stdin=stdin)
    os.close(master)
    assert outcome.code == 2
    assert outcome.err == (
        "brolga: stdin is a terminal: pipe the bytes in, or name a file; " + USAGE
    )


def test_push_rejects_closed_stdin(brolga: Brolga) -> None:
    """Exit code 7."""
    closed = io.TextIOWrapper(io.BytesIO())
    closed.close()
    outcome = brolga("layer", "push", NOWHERE, stdin=closed)
    assert (outcome.code, outcome.err) == (7, "brolga: source: stdin is closed\n")


def test_push_accepts_compressed_source(
    brolga: Brolga, registry: EmbeddedRegistry, tmp_path: Path
) -> None:
    """A layer outside of an image may be any bytes."""
    source = tmp_path / "source.gz"
    source.write_bytes(gzip.compress(DATA))
    arguments = ["layer", "push", "--compression", "none", f"{registry.address}/x", str(source)]
    assert brolga(*arguments).code == 0
    (blob,) = registry.blobs("x")
    assert blob.read_bytes() == source.read_bytes()


def test_push_rejects_missing_file(brolga: Brolga, tmp_path: Path) -> None:
    """Exit code 7, and the name."""
    outcome = brolga("layer", "push", NOWHERE, str(tmp_path / "missing"))
    assert outcome.code == 7
    assert outcome.err == (
        "brolga: source: cannot open the source: [Errno 2] No such file or directory: "
        f"'{tmp_path}/missing'\n"
    )


def test_push_explains_how_to_stream_directory(brolga: Brolga, tmp_path: Path) -> None:
    """The command to copy has the name quoted."""
    directory = tmp_path / "my app"
    directory.mkdir()
    outcome = brolga("layer", "push", NOWHERE, str(directory))
    assert outcome.code == 7
    assert outcome.err == (
        f"brolga: source: {directory} is a directory; stream it with: tar -C '{directory}' -c . "
        "| brolga layer push …\n"
    )


def test_push_reports_unreachable_registry(brolga: Brolga, source: Path) -> None:
    """Exit code 5, with the address and a hint."""
    address = f"127.0.0.1:{refusing_port()}"
    refused = ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
    outcome = brolga("layer", "push", f"{address}/x", str(source))
    assert outcome.code == 5
    assert outcome.err == (
        f"brolga: registry: GET to {address}: cannot connect: {refused}; "
        "check the address, and that the registry is running\n"
    )


@pytest.mark.parametrize(
    ("status", "headers", "code"),
    [
        (401, ['WWW-Authenticate: Basic realm="x"'], 4),
        (403, [], 4),
        (404, [], 5),  # at /v2/: no registry
        (429, ["Retry-After: 7"], 5),
        (500, [], 5),
    ],
)
def test_push_maps_status_to_exit_code(
    brolga: Brolga, source: Path, status: int, headers: list[str], code: int
) -> None:
    """3 not found, 4 not authorised, 5 registry or network."""

    def script(peer: Peer) -> None:
        if peer.head():
            peer.answer(status, b"", *headers)

    with serve_script(script) as address:
        outcome = brolga("layer", "push", "--retries", "0", f"{address}/x", str(source))
    assert (outcome.code, outcome.out) == (code, "")
    assert outcome.err.count("\n") == 1
    assert outcome.err.startswith("brolga: registry: ")
    assert str(status) in outcome.err


def test_push_reports_missing_repository(brolga: Brolga, source: Path) -> None:
    """ECR: the repository must exist. Exit code 3."""
    body = json.dumps({"errors": [{"code": "NAME_UNKNOWN", "message": "no such repository"}]})

    def script(peer: Peer) -> None:
        while head := peer.head():
            if head[0].startswith("GET"):
                peer.answer(200)
            else:
                peer.answer(404, body.encode())

    with serve_script(script) as address:
        outcome = brolga("layer", "push", f"{address}/x", str(source))
    assert outcome.code == 3
    assert "NAME_UNKNOWN: no such repository; check that the name" in outcome.err


def test_push_reads_stdout_of_command(brolga: Brolga, registry: EmbeddedRegistry) -> None:
    """`brolga layer push REPO -- COMMAND`: its flags are its own; it exits with 0."""
    repository = f"{registry.address}/x"
    outcome = brolga(
        "layer", "push", repository, "--compression", "none", "--", "printf", "%s--", "--spool"
    )
    (blob,) = registry.blobs("x")
    assert (outcome.code, outcome.err) == (0, NOT_KEPT)
    assert blob.read_bytes() == b"--spool--"
    assert outcome.out == f"{repository}@sha256:{blob.name}\n"


@pytest.mark.parametrize(
    ("command", "why"),
    [
        (["sh", "-c", "printf data; exit 3"], "sh exited with 3"),
        (["sh", "-c", "printf data; kill -KILL $$"], "sh was killed by SIGKILL"),
        (["no-such-program"], "cannot run no-such-program: No such file or directory"),
    ],
)
def test_push_commits_nothing_if_command_fails(
    brolga: Brolga, registry: EmbeddedRegistry, command: list[str], why: str
) -> None:
    """Exit code 7, with the exit status; no blob and no session is left."""
    outcome = brolga("layer", "push", f"{registry.address}/x", "--", *command)
    assert (outcome.code, outcome.out) == (7, "")
    assert outcome.err == f"brolga: source: {why}\n"
    assert registry.blobs("x") == []
    assert registry.uploads("x") == []


def test_push_shows_stderr_of_command(registry: EmbeddedRegistry) -> None:
    """Before the line with its exit status."""
    script = "echo 'disk on fire' >&2; exit 5"
    done = subprocess.run(
        [*PUSH, f"{registry.address}/x", "--", "sh", "-c", script],
        check=False,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (7, "")
    assert done.stderr == "disk on fire\nbrolga: source: sh exited with 5\n"


def test_push_commits_nothing_if_command_fails_and_sigchld_was_ignored(
    registry: EmbeddedRegistry,
) -> None:
    """A daemon's children inherit that; the command gives SIGCHLD its default action again."""
    ignore = "import os, signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); "
    run = "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    command = ["--", "sh", "-c", "printf partial; exit 3"]
    done = subprocess.run(
        [sys.executable, "-c", ignore + run, *PUSH[1:], f"{registry.address}/x", *command],
        check=False,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (7, "")
    assert done.stderr == "brolga: source: sh exited with 3\n"
    assert registry.blobs("x") == []


def test_push_passes_stdin_to_command(registry: EmbeddedRegistry) -> None:
    """It may be a filter: `… | brolga layer push REPO -- gzip -dc`."""
    done = subprocess.run(
        [*PUSH, "--json", f"{registry.address}/x", "--", "gzip", "-dc"],
        check=True,
        input=gzip.compress(DATA),
        capture_output=True,
    )
    digest = hashlib.sha256(DATA).hexdigest()
    assert json.loads(done.stdout)["diffId"] == f"sha256:{digest}"


def test_push_hides_stdin_with_password_from_command(registry: EmbeddedRegistry) -> None:
    """An unknown part of the rest has been read ahead, so the command gets none of it."""
    password = ["-u", "me", "--password-stdin"]
    done = subprocess.run(
        [*PUSH, *password, f"{registry.address}/x", "--", "sh", "-c", "cat; echo end"],
        check=True,
        input=b"secret\nrest\n" + bytes(1_000_000),
        capture_output=True,
    )
    assert done.stderr == NOT_KEPT.encode()
    (blob,) = registry.blobs("x")
    assert gzip.decompress(blob.read_bytes()) == b"end\n"


@pytest.mark.parametrize("flags", [[], ["--tar"]])
def test_push_rejects_incomplete_tar(
    brolga: Brolga, registry: EmbeddedRegistry, tmp_path: Path, flags: list[str]
) -> None:
    """Exit code 6: a program that dies looks like the end of the stream. `--no-tar` pushes it."""
    source = tmp_path / "cut.tar"
    source.write_bytes(tar("a")[:512])
    push = ["layer", "push", f"{registry.address}/x", str(source)]
    outcome = brolga(*push, *flags)
    assert (outcome.code, outcome.out) == (6, "")
    assert outcome.err == (
        "brolga: source: the source is a tar cut short: after 512 bytes its end, two blocks of "
        "zeros, is missing; make sure that it is complete, or push it as it is with --no-tar\n"
    )
    assert registry.blobs("x") == []
    assert registry.uploads("x") == []
    assert brolga(*push, "--no-tar").code == 0


def test_push_rejects_other_bytes_only_with_tar(
    brolga: Brolga, registry: EmbeddedRegistry, source: Path
) -> None:
    """`--tar` requires a tar."""
    push = ["layer", "push", f"{registry.address}/x", str(source)]
    assert brolga(*push).code == 0
    outcome = brolga(*push, "--tar")
    assert (outcome.code, outcome.out) == (6, "")
    assert "not a complete tar: not a valid tar header at byte 0; make sure" in outcome.err


def test_push_accepts_certificate_with_flags(
    brolga: Brolga, source: Path, authority: Authority
) -> None:
    """`--ca-cert` and `--insecure`; without, exit code 5 and how to go on."""

    def script(peer: Peer) -> None:
        peer.head()
        peer.answer(418)

    with serve_script(script, tls=authority.server_context()) as address:
        arguments = ["layer", "push", f"{address}/x", str(source)]
        refused = brolga(*arguments)
        trusted = brolga(*arguments, "--ca-cert", str(authority.ca_cert))
        unverified = brolga(*arguments, "--insecure")
    assert refused.code == 5
    assert "the certificate is not trusted" in refused.err
    assert "trust its authority with --ca-cert, or use --insecure" in refused.err
    for outcome in (trusted, unverified):
        assert outcome.code == 5
        assert "with 418" in outcome.err


def test_push_rejects_password_and_source_on_stdin(brolga: Brolga, source: Path) -> None:
    """Neither is read, because the order would be ambiguous."""
    with source.open() as stdin:
        outcome = brolga("layer", "push", "-u", "me", "--password-stdin", NOWHERE, stdin=stdin)
        assert stdin.buffer.read(1) == DATA[:1]
    assert outcome.code == 2
    assert outcome.err == ("brolga: --password-stdin and - both want stdin: name a file; " + USAGE)


@pytest.mark.parametrize("flags", [[], ["--json"]])
@pytest.mark.parametrize(
    ("stdout", "why"),
    [
        (">&-", "it is closed"),
        pytest.param(">/dev/full", "No space left on device", marks=needs_full),
    ],
)
def test_push_reports_result_that_cannot_be_printed(
    registry: EmbeddedRegistry, source: Path, stdout: str, why: str, flags: list[str]
) -> None:
    """A result that was not printed is an error; the line contains the name of the layer."""
    done = subprocess.run(
        ["sh", "-c", f'exec "$@" {stdout}', "sh", *PUSH, *flags, f"{registry.address}/x", source],
        check=False,
        stderr=subprocess.PIPE,
        text=True,
    )
    (blob,) = registry.blobs("x")
    ref = f"{registry.address}/x@sha256:{hashlib.sha256(blob.read_bytes()).hexdigest()}"
    assert done.returncode == 1
    assert done.stderr == (
        f"brolga: local: stdout cannot be written: {why}; the layer was pushed anyway: {ref}\n"
    )


@needs_full
def test_push_ignores_progress_that_cannot_be_written(
    registry: EmbeddedRegistry, source: Path
) -> None:
    """Result and exit code stay."""
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = subprocess.run(
            [*PUSH, "--progress", "plain", f"{registry.address}/x", source],
            check=False,
            stdout=subprocess.PIPE,
            stderr=full,
            text=True,
        )
    assert done.returncode == 0
    assert done.stdout.startswith(f"{registry.address}/x@sha256:")
