"""spec/: properties of every document, and of every wrong one."""

import contextlib
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.spec import samples

from brolga.errors import InvalidManifest
from brolga.spec.config import History, ImageConfig, count_layers
from brolga.spec.descriptor import Descriptor
from brolga.spec.digest import Digest
from brolga.spec.index import Index, parse_manifest
from brolga.spec.json import decode, encode
from brolga.spec.manifest import Manifest
from brolga.spec.mediatypes import OCI_LAYER_GZIP
from brolga.spec.platform import Platform

# A rule of bytes does not depend on how busy the machine is.
untimed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

# Text without surrogates, which have no UTF-8.
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
)
values = st.recursive(
    scalars | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
objects = st.dictionaries(texts, values, max_size=5)
# Names that no version of the spec will have.
unknown = st.dictionaries(texts.map(lambda text: f"com.example.{text}"), values, max_size=3)
digests = st.binary(max_size=4).map(Digest.of)
annotations = st.dictionaries(texts, texts, max_size=3)
descriptors = st.builds(
    Descriptor,
    st.sampled_from([OCI_LAYER_GZIP, "a/b"]),
    digests,
    st.integers(0, 2**63 - 1),
    annotations,
    platform=st.none() | st.builds(Platform, texts, texts, texts, extra=unknown),
    urls=st.lists(texts, max_size=2).map(tuple),
    extra=unknown,
)
histories = st.builds(History, texts, texts, empty_layer=st.booleans(), extra=unknown)

MANIFESTS = [samples.DOCKER, samples.OCI, samples.ARTIFACT]
INDEXES = [samples.BUILDX, samples.DOCKER_LIST]
# What a document may have where something else belongs.
odd = values | st.sampled_from(
    [-1, 2**63, 1e300, "", "sha256:", {}, [], [[]], [{}], {"a": 1}, {"size": -1}, "\ud800"]
)


def places(value: object, steps: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """List the way to each member and item of a document."""
    paths = [steps] if steps else []
    if isinstance(value, dict):
        for name, item in value.items():
            paths += places(item, (*steps, name))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            paths += places(item, (*steps, number))
    return paths


def dropped(document: dict[str, Any], steps: tuple[Any, ...]) -> dict[str, Any]:
    copy: dict[str, Any] = json.loads(json.dumps(document))
    inner: Any = copy
    for step in steps[:-1]:
        inner = inner[step]
    del inner[steps[-1]]
    return copy


@untimed
@given(objects)
def test_decode_reverses_encode(document: dict[str, Any]) -> None:
    """A document that is decoded from its encoding is the same, in the same order."""
    read = decode(encode(document))
    assert read == document
    assert list(read) == list(document)
    assert encode(read) == encode(document)


@untimed
@given(descriptors)
def test_descriptor_round_trips(descriptor: Descriptor) -> None:
    """from_dict(to_dict(x)) is x, and so it is by way of bytes."""
    written = descriptor.to_dict()
    assert Descriptor.from_dict(written) == descriptor
    assert Descriptor.from_dict(decode(encode(written))) == descriptor


@untimed
@given(histories)
def test_history_entry_round_trips(entry: History) -> None:
    """from_dict(to_dict(x)) is x."""
    assert History.from_dict(decode(encode(entry.to_dict()))) == entry


@untimed
@given(st.sampled_from(MANIFESTS), unknown, unknown, st.lists(descriptors, max_size=3), annotations)
def test_replace_keeps_unknown_members(
    sample: dict[str, Any],
    top: dict[str, Any],
    deep: dict[str, Any],
    layers: list[Descriptor],
    noted: dict[str, str],
) -> None:
    """A change keeps every unknown member, at each depth."""
    document = {**samples.changed(sample, "layers", 0, to={**sample["layers"][0], **deep}), **top}
    manifest = Manifest.parse(samples.indented(document))
    assert manifest.replace(layers=manifest.layers) is manifest
    other = manifest.replace(layers=[*layers, *manifest.layers], annotations=noted)
    read = json.loads(other.raw)
    assert {name: read[name] for name in top} == top
    assert read["layers"] == [*(layer.to_dict() for layer in layers), *document["layers"]]
    assert read["config"] == document["config"]
    assert other.layers == (*layers, *manifest.layers)
    assert other.annotations == noted
    assert other.digest == Digest.of(other.raw)


@untimed
@given(
    st.lists(histories, max_size=6),
    st.lists(digests, max_size=4),
    digests,
    st.lists(digests, max_size=4),
)
def test_history_fits_layers_after_any_change(
    history: list[History], diff_ids: list[Digest], added: Digest, others: list[Digest]
) -> None:
    """'empty_layer ... doesn't correspond to an actual layer in the rootfs section'."""
    document = {
        **samples.CONFIG,
        "history": [entry.to_dict() for entry in history],
        "rootfs": {"type": "layers", "diff_ids": [str(diff_id) for diff_id in diff_ids]},
    }
    base = ImageConfig.parse(samples.indented(document))
    for config in (
        base.append(added),
        base.replace(diff_ids=[*others, added, *diff_ids]),
        base.replace(created="now"),
    ):
        assert count_layers(config.history) == len(config.diff_ids)
        kept = config.history[: len(history)]
        assert [entry.created_by for entry in kept] == [entry.created_by for entry in history]
        assert [entry.extra for entry in kept] == [entry.extra for entry in history]
        assert config.config == base.config
        assert json.loads(config.raw)["container"] == "c0ffee"
    assert base.append(added).diff_ids == (*diff_ids, added)


def _read(document: dict[str, Any], content_type: str = "") -> None:
    raw = json.dumps(document).encode()
    parsed = parse_manifest(raw, content_type)
    assert parsed.raw == raw
    if isinstance(parsed, Index):
        parsed.replace(manifests=[*parsed.manifests, *parsed.manifests])
    else:
        parsed.replace(layers=[*parsed.layers, *parsed.layers])


@untimed
@given(st.data())
def test_wrong_manifest_raises_only_invalid_manifest(data: st.DataObject) -> None:
    """Any value in any place is read, or raises InvalidManifest with the place."""
    sample = data.draw(st.sampled_from(MANIFESTS + INDEXES))
    place = data.draw(st.sampled_from(places(sample)))
    document = samples.changed(sample, *place, to=data.draw(odd))
    with contextlib.suppress(InvalidManifest):
        _read(document, data.draw(st.sampled_from(["", sample["mediaType"], "a/b"])))
    with contextlib.suppress(InvalidManifest):
        _read(dropped(sample, place))
    document = {**sample, data.draw(texts): data.draw(odd)}
    with contextlib.suppress(InvalidManifest):
        _read(document)


@untimed
@given(st.data())
def test_wrong_config_raises_only_invalid_manifest(data: st.DataObject) -> None:
    """Any value in any place is read, or raises InvalidManifest with the place."""
    place = data.draw(st.sampled_from(places(samples.CONFIG)))
    for document in (
        samples.changed(samples.CONFIG, *place, to=data.draw(odd)),
        dropped(samples.CONFIG, place),
    ):
        with contextlib.suppress(InvalidManifest):
            config = ImageConfig.parse(json.dumps(document).encode())
            config.append(Digest.of(b"")).replace(config={"User": "1"}, author="a")


@untimed
@given(st.sampled_from(MANIFESTS + INDEXES), st.data())
def test_damaged_bytes_raise_only_invalid_manifest(
    sample: dict[str, Any], data: st.DataObject
) -> None:
    """A document that is cut short, or has other bytes in it."""
    raw = samples.indented(sample)
    start = data.draw(st.integers(0, len(raw)))
    end = data.draw(st.integers(start, len(raw)))
    with contextlib.suppress(InvalidManifest):
        parse_manifest(raw[:start] + data.draw(st.binary(max_size=8)) + raw[end:])


@untimed
@given(st.binary(max_size=64))
def test_any_bytes_parse_or_raise_invalid_manifest(raw: bytes) -> None:
    """No bytes raise another error."""
    with contextlib.suppress(InvalidManifest):
        decode(raw)
    with pytest.raises(InvalidManifest):
        parse_manifest(raw)
