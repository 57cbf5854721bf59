"""brolga attach."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING

import pytest
from tests.cli_images import index, push
from tests.command import stdin_of

from brolga.client import Client
from brolga.spec.digest import Digest
from brolga.spec.mediatypes import OCI_EMPTY, OCI_MANIFEST
from brolga.spec.platform import Platform

if TYPE_CHECKING:
    from pathlib import Path

    from tests.command import Brolga
    from tests.registries import EmbeddedRegistry

    from brolga.spec.manifest import Manifest

TITLE = "org.opencontainers.image.title"
CREATED = "org.opencontainers.image.created"
TYPE = ["--artifact-type", "application/vnd.example"]
NOWHERE = "127.0.0.1:1/x"
USAGE = "see brolga attach --help\n"


def read(name: str) -> Manifest:
    """Return an artifact's manifest."""
    with Client() as client:
        return client.image(name).manifest


def test_attach_stores_files_as_layers(brolga: Brolga, app: str, tmp_path: Path) -> None:
    """oras: the empty config, a layer for each file, its name as title, and the subject."""
    (tmp_path / "sbom.json").write_bytes(b"{}\n")
    (tmp_path / "sig").write_bytes(b"signed")
    files = [f"{tmp_path}/sbom.json:application/spdx+json", f"{tmp_path}/sig"]
    outcome = brolga("attach", app, *files, *TYPE, "-a", "who=me")
    assert (outcome.code, outcome.err) == (0, "")
    manifest = read(outcome.out.strip())
    with Client() as client:
        subject = client.head(app)
        (referrer,) = client.referrers(app)
    assert outcome.out == f"{app.removesuffix(':v1')}@{manifest.digest}\n"
    assert (referrer.digest, referrer.artifact_type) == (manifest.digest, TYPE[1])
    assert manifest.media_type == OCI_MANIFEST
    assert manifest.artifact_type == TYPE[1]
    assert manifest.subject == subject
    assert manifest.annotations == {CREATED: "1970-01-01T00:00:00Z", "who": "me"}
    assert (manifest.config.media_type, manifest.config.size) == (OCI_EMPTY, 2)
    assert [
        (layer.media_type, layer.digest, layer.annotations[TITLE]) for layer in manifest.layers
    ] == [
        ("application/spdx+json", Digest.of(b"{}\n"), "sbom.json"),
        ("application/octet-stream", Digest.of(b"signed"), "sig"),
    ]


def test_attach_prints_subject_as_json(brolga: Brolga, app: str) -> None:
    """One object: ref, digest, mediaType, size, artifactType, subject."""
    outcome = brolga("attach", "--json", app, *TYPE)
    fields = json.loads(outcome.out)
    manifest = read(fields["ref"])
    with Client() as client:
        subject = client.head(app)
    assert fields == {
        "ref": f"{app.removesuffix(':v1')}@{manifest.digest}",
        "digest": str(manifest.digest),
        "mediaType": OCI_MANIFEST,
        "size": manifest.size,
        "artifactType": TYPE[1],
        "subject": subject.to_dict(),
    }


def test_attach_without_file_pushes_only_annotations(brolga: Brolga, app: str) -> None:
    """manifest.md: 'If the artifact does not need layers, a single layer SHOULD be included'."""
    manifest = read(brolga("attach", app, *TYPE, "-a", f"{CREATED}=then").out.strip())
    assert [(layer.media_type, layer.digest) for layer in manifest.layers] == [
        (OCI_EMPTY, Digest.of(b"{}"))
    ]
    assert manifest.annotations == {CREATED: "then"}


@pytest.mark.parametrize(
    ("file", "media_type"), [("-", "application/octet-stream"), ("-:text/plain", "text/plain")]
)
def test_attach_streams_stdin_without_name(
    brolga: Brolga, app: str, file: str, media_type: str
) -> None:
    """`make-sbom | brolga attach SUBJECT -:text/spdx`."""
    with stdin_of(b"piped") as stdin:
        outcome = brolga("attach", app, file, *TYPE, stdin=stdin)
    (layer,) = read(outcome.out.strip()).layers
    assert (layer.digest, layer.media_type) == (Digest.of(b"piped"), media_type)
    assert layer.annotations == {}


def test_attach_accepts_file_name_with_colon(
    brolga: Brolga, app: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The text after a colon is a type only if it contains a slash."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a:b").write_bytes(b"1")
    (tmp_path / "c:text").mkdir()
    (tmp_path / "c:text" / "plain").write_bytes(b"2")
    manifest = read(brolga("attach", app, "a:b", "c:text/plain", *TYPE).out.strip())
    titles = [layer.annotations[TITLE] for layer in manifest.layers]
    assert titles == ["a:b", "plain"]
    assert {layer.media_type for layer in manifest.layers} == {"application/octet-stream"}


def test_attach_chooses_subject_by_platform(
    brolga: Brolga, registry: EmbeddedRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it is the index itself."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    name = f"{registry.address}/multi:1"
    digest = index(name, Platform("linux", "amd64"), Platform("linux", "arm64"))
    whole = read(brolga("attach", name, *TYPE).out.strip()).subject
    arm = read(brolga("attach", name, *TYPE, "--platform", "linux/arm64").out.strip()).subject
    with Client() as client:
        child = client.image(name, Platform("linux", "arm64")).descriptor
    assert whole
    assert str(whole.digest) == digest
    assert arm == child


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([NOWHERE], "Missing option '--artifact-type'"),
        (
            [NOWHERE, "--artifact-type", "text"],
            "Invalid value for '--artifact-type': media type 'text'",
        ),
        ([NOWHERE, "x:te?t/plain", *TYPE], "x:te?t/plain: media type 'te?t/plain' is not"),
        (
            [NOWHERE, "x", "dir/x", *TYPE],
            "two files are named x: a pull would keep only one",
        ),
        ([NOWHERE, "-", "-:text/plain", *TYPE], "stdin can be only one FILE"),
        (["nope/Nope", *TYPE], "path 'nope/Nope' has upper-case letters"),
        ([NOWHERE, "-", *TYPE, "-u", "me", "--password-stdin"], "--password-stdin and -"),
    ],
)
def test_attach_rejects_invalid_arguments(brolga: Brolga, arguments: list[str], line: str) -> None:
    """Exit code 2, before any request."""
    outcome = brolga("attach", *arguments, stdin=io.StringIO())
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith(f"brolga: {line}")


def test_attach_rejects_missing_file(brolga: Brolga, app: str) -> None:
    """Exit code 7, and the image has no referrers."""
    outcome = brolga("attach", app, "missing", *TYPE)
    assert outcome.code == 7
    with Client() as client:
        assert client.referrers(app) == ()


def test_attach_reports_missing_subject(brolga: Brolga, registry: EmbeddedRegistry) -> None:
    """Exit code 3."""
    push(f"{registry.address}/app:v1", "layer")
    assert brolga("attach", f"{registry.address}/app:v2", *TYPE).code == 3
