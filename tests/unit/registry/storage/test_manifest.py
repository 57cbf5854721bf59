from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brolga.registry.storage.manifest import Manifest, parse_manifest, read_manifest
from brolga.spec.digest import Digest
from brolga.spec.json import decode
from brolga.spec.mediatypes import DOCKER_MANIFEST, DOCKER_MANIFEST_LIST, OCI_INDEX, OCI_MANIFEST

KINDS = [OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_MANIFEST_LIST, "application/x"]
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
DESCRIPTORS = st.fixed_dictionaries(
    {
        "mediaType": st.just("application/x") | SCALARS,
        "digest": st.just(str(Digest.of(b""))) | SCALARS,
        "size": st.integers() | SCALARS,
    },
    optional={"urls": st.lists(st.text()) | SCALARS},
)
ANY = st.recursive(SCALARS | DESCRIPTORS, lambda inner: st.lists(inner, max_size=3), max_leaves=6)
NAMES = st.sampled_from(
    ["config", "layers", "manifests", "subject", "artifactType", "annotations", "mediaType"]
)
OBJECTS = st.dictionaries(NAMES, ANY | st.dictionaries(st.text(), SCALARS))


@given(kind=st.sampled_from(KINDS), fields=OBJECTS)
@settings(deadline=None)
def test_read_manifest_accepts_any_json(kind: str, fields: dict[str, Any]) -> None:
    """A manifest of another program is parsed or rejected; no other error is raised."""
    manifest = read_manifest(kind, json.dumps(fields).encode())
    assert manifest is None or isinstance(manifest, Manifest)


@given(st.binary())
@settings(deadline=None)
def test_decode_accepts_or_rejects_any_bytes(body: bytes) -> None:
    """Bytes that are not JSON raise one kind of error only."""
    with suppress(ValueError):
        assert isinstance(decode(body), dict)


def descriptor(data: bytes) -> dict[str, Any]:
    """Return a descriptor of some bytes."""
    return {"mediaType": "application/x", "digest": str(Digest.of(data)), "size": len(data)}


def test_parse_manifest_of_image() -> None:
    """Config first, then each layer that is not kept elsewhere, in order."""
    fields = {
        "schemaVersion": 2,
        "config": descriptor(b"c"),
        "layers": [descriptor(b"1"), {**descriptor(b"2"), "urls": ["x"]}, descriptor(b"3")],
    }
    document = parse_manifest(OCI_MANIFEST, fields)
    assert [need.digest for need in document.blobs] == [Digest.of(x) for x in (b"c", b"1", b"3")]
    assert document.manifests == ()
    assert document.artifact_type == "application/x"


def test_parse_manifest_of_index() -> None:
    """Manifests, and no blobs."""
    fields = {"schemaVersion": 2, "manifests": [descriptor(b"1")], "config": None}
    document = parse_manifest(OCI_INDEX, fields)
    assert document.blobs == ()
    assert [need.digest for need in document.manifests] == [Digest.of(b"1")]
    assert document.artifact_type is None


@pytest.mark.parametrize("kind", [DOCKER_MANIFEST, DOCKER_MANIFEST_LIST, "application/x"])
def test_parse_manifest_ignores_subject_of_docker_types(kind: str) -> None:
    """A `subject` of a type whose spec has none makes no referrer."""
    fields: dict[str, Any] = {"schemaVersion": 2, "mediaType": kind, "subject": descriptor(b"s")}
    fields |= (
        {"manifests": []}
        if kind == DOCKER_MANIFEST_LIST
        else {"config": descriptor(b"c"), "layers": []}
    )
    assert parse_manifest(kind, fields).subject is None
