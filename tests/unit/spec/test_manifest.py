"""manifest.py: image manifests: parsed, written and changed."""

import copy
import json
import pickle
from dataclasses import replace
from typing import Any

import pytest
from tests.unit.spec.samples import (
    ARTIFACT,
    BUILDX,
    DOCKER,
    DOCKER_LIST,
    OCI,
    changed,
    digest_of,
    indented,
)

from brolga.errors import InvalidManifest
from brolga.spec.descriptor import Descriptor
from brolga.spec.digest import Digest
from brolga.spec.index import Index, parse_manifest
from brolga.spec.manifest import Manifest
from brolga.spec.mediatypes import (
    DOCKER_LAYER_GZIP,
    DOCKER_MANIFEST,
    DOCKER_SCHEMA_1,
    DOCKER_SCHEMA_1_SIGNED,
    OCI_CONFIG,
    OCI_EMPTY,
    OCI_INDEX,
    OCI_LAYER_GZIP,
    OCI_MANIFEST,
)

CONFIG = Descriptor(OCI_CONFIG, Digest.of(b"config"), 6)
LAYER = Descriptor(OCI_LAYER_GZIP, Digest.of(b"layer"), 5)
IMAGE = Descriptor(OCI_MANIFEST, Digest.of(b"image"), 5)


def without(document: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: item for key, item in document.items() if key != name}


def compact(document: dict[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


# Reading -----------------------------------------------------------------------------------------


def test_parse_reads_every_property_of_docker_manifest() -> None:
    """Each property of Docker's image manifest version 2, schema 2."""
    raw = indented(DOCKER)
    manifest = Manifest.parse(raw, DOCKER_MANIFEST)
    assert manifest.media_type == DOCKER_MANIFEST
    assert manifest.config.digest == Digest.parse(digest_of("docker config"))
    assert [layer.size for layer in manifest.layers] == [2811321, 1654613376]
    assert manifest.layers[0].media_type == DOCKER_LAYER_GZIP
    assert manifest.layers[1].urls == ("https://mirror.example/layers/1",)
    assert manifest.layers[1].extra == {"x": (True,)}
    assert manifest.config.extra == {"com.example.unknown": {"deep": (1, 2.5, None)}}
    assert manifest.subject is None
    assert manifest.annotations == {}
    assert manifest.artifact_type == "application/vnd.docker.container.image.v1+json"


def test_digest_and_size_are_those_of_raw_bytes() -> None:
    """'The raw content' is what size and digest are of (descriptor.md, Properties)."""
    raw = indented(DOCKER)
    manifest = Manifest.parse(raw)
    assert manifest.raw == raw
    assert manifest.digest == Digest.of(raw)
    assert manifest.size == len(raw)
    assert manifest.descriptor == Descriptor(DOCKER_MANIFEST, Digest.of(raw), len(raw))


def test_parse_ignores_content_of_artifact_config() -> None:
    """'Implementations MUST NOT attempt to parse the referenced content' (manifest.md, config)."""
    artifact = Manifest.parse(indented(ARTIFACT))
    assert artifact.artifact_type == "application/vnd.example.sbom.v1+json"
    assert artifact.config.media_type == OCI_EMPTY
    assert artifact.config.data == b"{}"
    assert artifact.subject == Descriptor(OCI_MANIFEST, Digest.parse(digest_of("image")), 1000)
    assert artifact.annotations["org.opencontainers.image.created"] == "2026-01-02T03:04:05Z"


@pytest.mark.parametrize("written", [None, ""])
def test_artifact_type_defaults_to_media_type_of_config(written: str | None) -> None:
    """'If the artifactType is empty or missing', it is 'the config descriptor mediaType value'."""
    manifest = Manifest.parse(indented({**OCI, "artifactType": written}))
    assert manifest.artifact_type == OCI_CONFIG


def test_parse_reads_null_layers_as_empty() -> None:
    """Go writes an empty list as null; images without layers exist."""
    manifest = Manifest.parse(indented({**OCI, "layers": None, "annotations": None}))
    assert manifest.layers == ()
    assert manifest.replace(layers=[]) is manifest
    assert manifest.replace(layers=[LAYER]).layers == (LAYER,)


PLACES: list[tuple[tuple[Any, ...], Any, str, str]] = [
    (("schemaVersion",), 3, "$.schemaVersion", "is not the number 2"),
    (("schemaVersion",), None, "$.schemaVersion", "is missing"),
    (("schemaVersion",), True, "$.schemaVersion", "is not the number 2"),
    (("schemaVersion",), 2.0, "$.schemaVersion", "is not the number 2"),
    (("schemaVersion",), "2", "$.schemaVersion", "is not the number 2"),
    (("mediaType",), 5, "$.mediaType", "must be a string, not a number"),
    (("mediaType",), "text/plain", "$.mediaType", "'text/plain' is neither an image"),
    (("mediaType",), OCI_INDEX, "$.mediaType", "is not the media type of an image manifest"),
    (("artifactType",), "a b", "$.artifactType", "is not type/subtype"),
    (("artifactType",), 1, "$.artifactType", "must be a string, not a number"),
    (("config",), None, "$.config", "is missing"),
    (("config",), [], "$.config", "must be an object, not an array"),
    (("config", "digest"), "sha256:1", "$.config.digest", "not the 64 lower-case"),
    (("config", "digest"), "1", "$.config.digest", "no ':'"),
    (("config", "digest"), {}, "$.config.digest", "must be a string, not an object"),
    (("config", "mediaType"), "x", "$.config.mediaType", "is not type/subtype"),
    (("config", "mediaType"), None, "$.config.mediaType", "is missing"),
    (("config", "size"), None, "$.config.size", "is missing"),
    (("layers",), {}, "$.layers", "must be an array, not an object"),
    (("layers", 0), "x", "$.layers[0]", "must be an object, not a string"),
    (("layers", 0, "size"), -1, "$.layers[0].size", "size '-1' is not a whole number of bytes"),
    (("layers", 0, "size"), 1.5, "$.layers[0].size", "not a whole number"),
    (("layers", 0, "size"), True, "$.layers[0].size", "not a whole number"),
    (("layers", 0, "size"), 2**63, "$.layers[0].size", "not a whole number"),
    (("layers", 0, "urls"), ["a", 1], "$.layers[0].urls[1]", "must be a string, not a number"),
    (
        ("layers", 0, "annotations"),
        {"a.b": 1},
        "$.layers[0].annotations['a.b']",
        "must be a string, not a number",
    ),
    (
        ("layers", 0, "annotations"),
        [],
        "$.layers[0].annotations",
        "must be an object, not an array",
    ),
    (("layers", 0, "platform"), 1, "$.layers[0].platform", "must be an object, not a number"),
    (
        ("layers", 0, "platform"),
        {"os": 1},
        "$.layers[0].platform.os",
        "must be a string, not a number",
    ),
    (
        ("layers", 0, "platform"),
        {"os.version": 1},
        "$.layers[0].platform['os.version']",
        "must be a string, not a number",
    ),
    (("layers", 0, "Size"), 5, "$.layers[0].Size", "other clients read it as 'size'"),
    (("subject",), {"size": 1}, "$.subject.mediaType", "is missing"),
    (("annotations",), {"a": None}, "$.annotations.a", "must be a string, not null"),
    (("annotations",), "x", "$.annotations", "must be an object, not a string"),
    (("manifests",), [], "$.manifests", "manifest and index at once"),
    (("Layers",), [], "$.Layers", "other clients read it as 'layers'"),
    (("layer\u017f",), [], "$['layer\\u017f']", "other clients read it as 'layers'"),
]


@pytest.mark.parametrize(("steps", "value", "place", "why"), PLACES)
def test_parse_error_begins_with_json_path(
    steps: tuple[Any, ...], value: Any, place: str, why: str
) -> None:
    """A wrong manifest is refused in one line that begins with the JSON path."""
    with pytest.raises(InvalidManifest) as caught:
        Manifest.parse(indented(changed(OCI, *steps, to=value)))
    assert str(caught.value).startswith(f"{place}: ")
    assert why in str(caught.value)


@pytest.mark.parametrize("name", ["config", "layers", "schemaVersion"])
def test_parse_rejects_missing_required_member(name: str) -> None:
    """'This REQUIRED property ...' (manifest.md)."""
    with pytest.raises(InvalidManifest, match=rf"^\$\.{name}: is missing"):
        Manifest.parse(indented(without(OCI, name)))


# Which document it is ----------------------------------------------------------------------------


@pytest.mark.parametrize("content_type", ["", OCI_MANIFEST, f"{OCI_MANIFEST.upper()}; charset=x"])
def test_parse_accepts_oci_manifest_without_media_type(content_type: str) -> None:
    """'This property SHOULD be used': it may be absent (manifest.md, mediaType)."""
    manifest = Manifest.parse(indented(without(OCI, "mediaType")), content_type)
    assert manifest.media_type == OCI_MANIFEST
    assert "mediaType" not in json.loads(manifest.replace(layers=[]).raw)


def test_parse_rejects_docker_manifest_without_media_type() -> None:
    """'mediaType ... This should be set to application/vnd.docker...v2+json' (Docker v2-2)."""
    with pytest.raises(InvalidManifest, match=r"^\$\.mediaType: is missing; Docker"):
        Manifest.parse(indented(without(DOCKER, "mediaType")), DOCKER_MANIFEST)


@pytest.mark.parametrize("content_type", [DOCKER_MANIFEST, OCI_INDEX, "application/json"])
def test_parse_rejects_content_type_that_differs(content_type: str) -> None:
    """'clients MUST set the Content-Type header to the value specified by the mediaType field'."""
    with pytest.raises(InvalidManifest, match=r"^\$\.mediaType: '.*' came with the Content-Type"):
        parse_manifest(indented(OCI), content_type)


def test_parse_rejects_content_type_of_other_format() -> None:
    """If the document does not declare a type, the header must name a known format."""
    with pytest.raises(
        InvalidManifest, match="'text/html' is neither an image manifest nor an index"
    ):
        parse_manifest(indented(without(OCI, "mediaType")), "text/html")


@pytest.mark.parametrize(
    ("document", "kind", "media_type"),
    [
        (OCI, Manifest, OCI_MANIFEST),
        (DOCKER, Manifest, DOCKER_MANIFEST),
        (BUILDX, Index, OCI_INDEX),
        (DOCKER_LIST, Index, DOCKER_LIST["mediaType"]),
        (without(OCI, "mediaType"), Manifest, OCI_MANIFEST),
        (without(BUILDX, "mediaType"), Index, OCI_INDEX),
        ({**OCI, "manifests": None}, Manifest, OCI_MANIFEST),
    ],
)
def test_parse_manifest_uses_declared_type_or_members(
    document: dict[str, Any], kind: type, media_type: str
) -> None:
    """The media type decides, else the members."""
    parsed = parse_manifest(indented(document))
    assert type(parsed) is kind
    assert parsed.media_type == media_type
    assert parse_manifest(parsed.raw, media_type) == parsed


@pytest.mark.parametrize("name", ["config", "layers"])
@pytest.mark.parametrize("media_type", [OCI_MANIFEST, OCI_INDEX, None])
def test_parse_manifest_rejects_manifest_and_index_at_once(
    name: str, media_type: str | None
) -> None:
    """CVE-2021-41190: a document that is a manifest to one client and an index to another."""
    document = {**BUILDX, name: OCI[name], "mediaType": media_type}
    with pytest.raises(InvalidManifest, match="manifest and index at once"):
        parse_manifest(indented(document))


def test_parse_manifest_rejects_document_that_is_neither() -> None:
    """An object without known members is not a manifest."""
    with pytest.raises(InvalidManifest, match="neither 'manifests' nor 'config'"):
        parse_manifest(b'{"schemaVersion":2}')


@pytest.mark.parametrize(
    ("document", "content_type"),
    [
        ({"schemaVersion": 1, "name": "a", "tag": "b", "fsLayers": [], "history": []}, ""),
        ({"schemaVersion": 1}, DOCKER_SCHEMA_1_SIGNED),
        ({"schemaVersion": 2, "mediaType": DOCKER_SCHEMA_1}, ""),
        ({**OCI, "fsLayers": [{"blobSum": digest_of("x")}]}, ""),
        (without(OCI, "mediaType"), f"{DOCKER_SCHEMA_1}; charset=utf-8"),
    ],
)
def test_parse_rejects_schema_1_with_hint(document: dict[str, Any], content_type: str) -> None:
    """The error names the format, and what to do."""
    with pytest.raises(InvalidManifest) as caught:
        parse_manifest(indented(document), content_type)
    assert "Docker's image manifest of schema 1" in str(caught.value)
    assert "push the image again with a client that writes schema 2 or OCI" in str(caught.value)


# Writing and changing ----------------------------------------------------------------------------


def test_new_writes_members_in_order() -> None:
    """schemaVersion, mediaType, artifactType, config, layers, subject, annotations."""
    manifest = Manifest.new(
        CONFIG, iter([LAYER]), annotations={"a": "1"}, subject=IMAGE, artifact_type="a/b"
    )
    assert list(json.loads(manifest.raw)) == [
        "schemaVersion",
        "mediaType",
        "artifactType",
        "config",
        "layers",
        "subject",
        "annotations",
    ]
    assert (manifest.config, manifest.layers, manifest.subject) == (CONFIG, (LAYER,), IMAGE)
    assert manifest.artifact_type == "a/b"
    assert b" " not in manifest.raw


def test_new_leaves_out_empty_members() -> None:
    """'this property MUST either be absent or be an empty map' (annotations.md, Rules)."""
    manifest = Manifest.new(CONFIG, [], media_type=DOCKER_MANIFEST)
    assert list(json.loads(manifest.raw)) == ["schemaVersion", "mediaType", "config", "layers"]
    assert manifest.media_type == DOCKER_MANIFEST


def test_new_requires_artifact_type_for_empty_config() -> None:
    """'This MUST be set when config.mediaType is set to the empty value' (manifest.md)."""
    empty = Descriptor(OCI_EMPTY, Digest.of(b"{}"), 2)
    with pytest.raises(InvalidManifest, match=r"^\$\.artifactType: is missing"):
        Manifest.new(empty, [])
    assert Manifest.new(empty, [], artifact_type="a/b").artifact_type == "a/b"


def test_replace_without_change_keeps_bytes() -> None:
    """Without a change nothing is encoded again."""
    manifest = Manifest.parse(indented(ARTIFACT))
    assert manifest.replace() is manifest
    same = manifest.replace(
        config=manifest.config,
        layers=list(manifest.layers),
        annotations=dict(manifest.annotations),
        subject=manifest.subject,
        media_type=manifest.media_type,
        artifact_type=manifest.artifact_type,
    )
    assert same is manifest


def test_replace_keeps_unknown_members_at_every_depth() -> None:
    """'MUST ignore unknown properties' does not mean to drop them (manifest.md, Extensibility)."""
    manifest = Manifest.parse(indented(DOCKER))
    config = replace(manifest.config, digest=CONFIG.digest, size=CONFIG.size)
    longer = manifest.replace(config=config, layers=[*manifest.layers, LAYER])
    document = json.loads(longer.raw)
    assert document["com.example.note"] == ["kept"]
    assert document["config"]["com.example.unknown"] == {"deep": [1, 2.5, None]}
    assert document["config"]["digest"] == str(CONFIG.digest)
    assert document["layers"] == [*DOCKER["layers"], LAYER.to_dict()]
    assert list(document) == list(DOCKER)


def test_replace_changes_only_the_given_members() -> None:
    """All other bytes are those that were read."""
    raw = compact(DOCKER)
    longer = Manifest.parse(raw).replace(layers=[*Manifest.parse(raw).layers, LAYER])
    addition = b"," + compact(LAYER.to_dict())
    at = raw.index(b'],"com.example.note"')
    assert longer.raw == raw[:at] + addition + raw[at:]


def test_replace_adds_and_removes_members() -> None:
    """None removes the subject; empty annotations and an empty type remove theirs."""
    manifest = Manifest.parse(indented(OCI))
    fuller = manifest.replace(subject=IMAGE, annotations={"a": "b"}, artifact_type="a/b")
    assert (fuller.subject, fuller.annotations, fuller.artifact_type) == (IMAGE, {"a": "b"}, "a/b")
    leaner = fuller.replace(subject=None, annotations={}, artifact_type="")
    assert list(json.loads(leaner.raw)) == ["schemaVersion", "mediaType", "config", "layers"]
    assert leaner.artifact_type == OCI_CONFIG
    assert fuller.replace(subject=IMAGE) is fuller


def test_replace_can_change_format() -> None:
    """Docker's format has no zstd: an image that gets such a layer becomes OCI's."""
    manifest = Manifest.parse(indented(DOCKER)).replace(media_type=OCI_MANIFEST)
    assert manifest.media_type == OCI_MANIFEST
    assert json.loads(manifest.raw)["mediaType"] == OCI_MANIFEST


def test_replace_checks_result() -> None:
    """The result passes the same checks as a document that is read."""
    manifest = Manifest.parse(indented(OCI))
    with pytest.raises(InvalidManifest, match=r"^\$\.annotations\.a: must be a string"):
        manifest.replace(annotations={"a": 1})  # type: ignore[dict-item]  # wrong on purpose
    with pytest.raises(InvalidManifest, match="but at most"):
        manifest.replace(annotations={"a": "x" * (4 << 20)})


def test_as_referrer_has_artifact_type_and_annotations() -> None:
    """'The descriptors MUST include annotations from the image manifest' (distribution-spec)."""
    manifest = Manifest.parse(indented(ARTIFACT))
    referrer = manifest.as_referrer
    assert (referrer.digest, referrer.size) == (manifest.digest, manifest.size)
    assert referrer.artifact_type == ARTIFACT["artifactType"]
    assert referrer.annotations == ARTIFACT["annotations"]


def test_manifest_is_value() -> None:
    """Equal bytes of one media type are equal, and can be pickled."""
    manifest = Manifest.parse(indented(ARTIFACT))
    assert manifest == Manifest.parse(indented(ARTIFACT), OCI_MANIFEST)
    assert manifest != Manifest.parse(compact(ARTIFACT))
    assert len({manifest, copy.deepcopy(manifest)}) == 1
    again = pickle.loads(pickle.dumps(manifest))  # noqa: S301 - made in this line
    assert again == manifest
    assert again.subject == manifest.subject
    assert len(repr(manifest)) < 300


def test_manifest_is_immutable() -> None:
    """A view that differs from the bytes would have a wrong digest."""
    manifest = Manifest.parse(indented(OCI))
    with pytest.raises(AttributeError):
        manifest.layers = ()  # type: ignore[misc]  # that it is frozen is the rule
    with pytest.raises(TypeError):
        manifest.annotations["a"] = "b"  # type: ignore[index]  # that it is read-only is the rule
