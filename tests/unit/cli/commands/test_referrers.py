"""cli.referrers: what refers to an image or index."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from tests.unit.cli.images import push

from brolga.client import Client
from brolga.images import Image, InMemoryBlob
from brolga.spec.descriptor import Descriptor
from brolga.spec.digest import Digest
from brolga.spec.manifest import Manifest
from brolga.spec.mediatypes import OCI_EMPTY

if TYPE_CHECKING:
    from tests.conftest import Embedded
    from tests.unit.cli.conftest import Brolga

SBOM, SIGNATURE = "application/vnd.example.sbom", "application/vnd.example.signature"


@pytest.fixture
def app(registry: Embedded) -> str:
    """Push an image."""
    name = f"{registry.address}/app:v1"
    push(name, "layer")
    return name


def refer(name: str, artifact_type: str) -> str:
    """Push an artifact that refers to an image; return its digest."""
    empty = InMemoryBlob(b"{}", OCI_EMPTY)
    with Client() as client:
        subject = client.head(name)
        manifest = Manifest.new(
            Descriptor(OCI_EMPTY, Digest.of(b"{}"), 2),
            [],
            subject=subject,
            artifact_type=artifact_type,
        )
        pushed = client.push(f"{name}-{artifact_type[-4:]}", Image(manifest, empty, ()))
    return str(pushed.digest)


def test_each_is_a_line_of_digest_and_type(brolga: Brolga, app: str) -> None:
    """By tag or by digest; `--artifact-type` filters."""
    assert brolga("referrers", app).out == ""
    sbom, signature = refer(app, SBOM), refer(app, SIGNATURE)
    outcome = brolga("referrers", app)
    assert (outcome.code, outcome.err) == (0, "")
    assert set(outcome.out.splitlines()) == {f"{sbom} {SBOM}", f"{signature} {SIGNATURE}"}
    named = brolga("digest", "--full-ref", app).out.strip()
    filtered = brolga("referrers", "--artifact-type", SBOM, named)
    assert filtered.out == f"{sbom} {SBOM}\n"


def test_json_is_the_index_of_them(brolga: Brolga, app: str) -> None:
    """distribution-spec, Listing Referrers: an image index."""
    sbom = refer(app, SBOM)
    found = json.loads(brolga("referrers", "--json", app).out)
    assert found["schemaVersion"] == 2
    assert found["mediaType"] == "application/vnd.oci.image.index.v1+json"
    (entry,) = found["manifests"]
    assert (entry["digest"], entry["artifactType"]) == (sbom, SBOM)


def test_what_is_not_there_is_not_found(brolga: Brolga, app: str) -> None:
    """A tag that is none: exit code 3."""
    assert brolga("referrers", f"{app}-nope").code == 3
