"""Manifests that the registry accepts can be read by all readers of its directories."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from brolga.spec.digest import Digest
from brolga.spec.index import parse_manifest
from brolga.spec.mediatypes import DOCKER_MANIFEST, DOCKER_MANIFEST_LIST, OCI_INDEX, OCI_MANIFEST
from brolga.stores.layout import Layout

if TYPE_CHECKING:
    from tests.unit.registry.conftest import Registry

NUMBERS = itertools.count()
KNOWN = [OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_MANIFEST_LIST]
OTHERS = [
    "application/vnd.docker.distribution.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
    "application/vnd.example+json",
    "application/vnd.OCI.image.manifest.v1+json",
    "text/plain",
    "text",
    "",
]
PARTS = {b"{}": "application/vnd.oci.image.config.v1+json", b"layer": "application/x"}


def describe(data: bytes, /, **more: Any) -> dict[str, Any]:
    """Return a descriptor of something that is there."""
    descriptor = {"mediaType": PARTS[data], "digest": str(Digest.of(data)), "size": len(data)}
    return descriptor | more


IMAGE = {"schemaVersion": 2, "config": describe(b"{}"), "layers": [describe(b"layer")]}
INDEX = {"schemaVersion": 2, "manifests": [describe(b"layer")]}
# Text that is not Unicode, and the media types of the spec.
TEXTS = st.sampled_from(["", "a/b", "\ud800", "\U0001f600", *KNOWN, *OTHERS]) | st.text(max_size=3)
LEAVES = (
    st.none() | st.booleans() | st.integers(-1, 3) | st.floats() | TEXTS | st.just(describe(b"{}"))
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)
NAMES = st.sampled_from(
    ["schemaVersion", "mediaType", "artifactType", "config", "layers", "manifests", "subject",
     "annotations", "fsLayers", "Layers", "MANIFESTS", "Subject", "x", "\ud800"]
)  # fmt: skip
INNER = st.sampled_from(
    ["mediaType", "digest", "size", "urls", "annotations", "data", "platform", "artifactType",
     "Size", "x"]
)  # fmt: skip
PLATFORMS = st.dictionaries(
    st.sampled_from(["os", "architecture", "variant", "os.version", "os.features", "OS"]), VALUES
)
BROKEN = st.builds(
    lambda data, changes: describe(data) | changes,
    st.sampled_from([b"{}", b"layer"]),
    st.dictionaries(INNER, VALUES | PLATFORMS, max_size=2),
)


def nested(depth: int) -> Any:
    """Return an array in arrays."""
    value: Any = 0
    for _ in range(depth):
        value = [value]
    return value


DEEP = st.integers(60, 66).map(nested)
CHANGES = st.dictionaries(
    NAMES, VALUES | BROKEN | st.lists(BROKEN, max_size=2) | DEEP | st.just(2), max_size=2
)


@st.composite
def manifests(draw: st.DrawFn) -> tuple[str, bytes]:
    """Return a Content-Type, and a body that is nearly a manifest of some type."""
    kind = draw(st.sampled_from(KNOWN))
    document: dict[str, Any] = dict(IMAGE if kind in {OCI_MANIFEST, DOCKER_MANIFEST} else INDEX)
    if draw(st.integers(0, 4)):
        document["mediaType"] = kind
    document |= draw(CHANGES)
    body = json.dumps(document)
    if draw(st.integers(0, 19)) == 19:
        body = body[:-1] + ',"schemaVersion":2}'
    content_type = draw(st.sampled_from([kind] * 10 + [kind.upper(), *OTHERS]))
    return content_type, body.encode()


@given(pushed=manifests())
@settings(
    deadline=None,
    max_examples=300,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_accepted_manifest_can_be_read_by_the_client(
    registry: Registry, pushed: tuple[str, bytes]
) -> None:
    """No client can push what disables `brolga layout` for the repository, or is read otherwise."""
    content_type, body = pushed
    name = f"r{next(NUMBERS)}"
    for part in PARTS:
        registry.push(part, name)
    answer = registry("PUT", f"/v2/{name}/manifests/v1", body, {"Content-Type": content_type})
    assert answer.status in {201, 400, 404}
    layout = Layout(registry.root / name)
    layout.gc(untagged=True)
    layout.referrers(Digest.of(b"{}"))
    if answer.status != 201:
        return
    [listed] = layout.whole().index.manifests
    if listed.media_type in KNOWN:
        assert parse_manifest(body, content_type).media_type == listed.media_type
        assert layout.fetch_manifest("v1").raw == body
    assert registry("GET", f"/v2/{name}/referrers/{Digest.of(b'{}')}").status == 200


@pytest.mark.parametrize("kind", KNOWN)
def test_valid_manifest_is_accepted(registry: Registry, kind: str) -> None:
    """The property holds of something."""
    document = IMAGE if kind in {OCI_MANIFEST, DOCKER_MANIFEST} else INDEX
    for part in PARTS:
        registry.push(part, "a")
    body = json.dumps({**document, "mediaType": kind}).encode()
    answer = registry("PUT", "/v2/a/manifests/v1", body, {"Content-Type": kind.upper()})
    assert answer.status == 201
    assert Layout(registry.root / "a").fetch_manifest("v1").media_type == kind


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"n": float("nan")}, "a number that JSON does not have"),
        ({"n": nested(65)}, "nested deeper"),
        ({"artifactType": "a/\ud800"}, "half of a surrogate pair"),
        ({"Layers": []}, "Layers"),
        ({"schemaVersion": 1}, "schemaVersion"),
        ({"schemaVersion": True}, "schemaVersion"),
        ({"schemaVersion": 2.0}, "schemaVersion"),
        ({"manifests": []}, "manifests stands in a manifest of type"),
        ({"fsLayers": []}, "fsLayers"),
        ({"mediaType": DOCKER_MANIFEST}, "the Content-Type is"),
        ({"annotations": {"a": 1}}, "annotations"),
        ({"subject": {}}, "subject"),
        ({"layers": [describe(b"layer", data="e30=")]}, "data"),
        ({"layers": [describe(b"layer", Size=1)]}, "Size"),
        ({"layers": None}, "layers is missing"),
    ],
)
def test_ambiguous_manifest_is_rejected(
    registry: Registry, change: dict[str, Any], why: str
) -> None:
    """It is MANIFEST_INVALID, and says why; nothing of it stays."""
    for part in PARTS:
        registry.push(part, "a")
    before = registry.files()
    body = json.dumps(IMAGE | change).encode()
    answer = registry("PUT", "/v2/a/manifests/v1", body, {"Content-Type": OCI_MANIFEST})
    assert (answer.status, answer.code) == (400, "MANIFEST_INVALID")
    assert why in answer.reason
    assert registry.files() == before


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        (OTHERS[0], "schema 1"),
        (OTHERS[1], "schema 1"),
        (DOCKER_MANIFEST, "mediaType is missing"),
        ("", "neither a Content-Type"),
    ],
)
def test_obsolete_or_missing_type_is_rejected(registry: Registry, kind: str, why: str) -> None:
    """A manifest needs a media type, and one that is not obsolete."""
    answer = registry(
        "PUT", "/v2/a/manifests/v1", json.dumps(IMAGE).encode(), {"Content-Type": kind}
    )
    assert (answer.status, answer.code) == (400, "MANIFEST_INVALID")
    assert why in answer.reason


def test_media_type_in_other_case_is_rejected(registry: Registry) -> None:
    """RFC 9110, section 8.3.1: type and subtype are case-insensitive; readers are not."""
    body = json.dumps({**INDEX, "mediaType": OCI_INDEX.upper()}).encode()
    answer = registry("PUT", "/v2/a/manifests/v1", body, {"Content-Type": OCI_INDEX})
    assert (answer.status, answer.code) == (400, "MANIFEST_INVALID")
    assert f"is written {OCI_INDEX!r}" in answer.reason
