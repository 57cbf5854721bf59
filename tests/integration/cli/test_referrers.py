"""brolga referrers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from brolga.client import Client
from brolga.images import Image, InMemoryBlob
from brolga.spec.descriptor import Descriptor
from brolga.spec.digest import Digest
from brolga.spec.manifest import Manifest
from brolga.spec.mediatypes import OCI_EMPTY

if TYPE_CHECKING:
    from tests.command import Brolga

SBOM, SIGNATURE = "application/vnd.example.sbom", "application/vnd.example.signature"


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


def test_referrers_prints_digest_and_type(brolga: Brolga, app: str) -> None:
    """By tag or by digest; `--artifact-type` filters."""
    assert brolga("referrers", app).out == ""
    sbom, signature = refer(app, SBOM), refer(app, SIGNATURE)
    outcome = brolga("referrers", app)
    assert (outcome.code, outcome.err) == (0, "")
    assert set(outcome.out.splitlines()) == {f"{sbom} {SBOM}", f"{signature} {SIGNATURE}"}
    named = brolga("digest", "--full-ref", app).out.strip()
    filtered = brolga("referrers", "--artifact-type", SBOM, named)
    assert filtered.out == f"{sbom} {SBOM}\n"


def test_referrers_prints_index_as_json(brolga: Brolga, app: str) -> None:
    """distribution-spec, Listing Referrers: an image index."""
    sbom = refer(app, SBOM)
    result = json.loads(brolga("referrers", "--json", app).out)
    assert result["schemaVersion"] == 2
    assert result["mediaType"] == "application/vnd.oci.image.index.v1+json"
    (entry,) = result["manifests"]
    assert (entry["digest"], entry["artifactType"]) == (sbom, SBOM)


def test_referrers_reports_missing_image(brolga: Brolga, app: str) -> None:
    """A tag that does not exist: exit code 3."""
    assert brolga("referrers", f"{app}-nope").code == 3
