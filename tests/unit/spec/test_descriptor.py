"""descriptor.py: which properties are accepted, and how they are read and written."""

import copy
import dataclasses
import json
import pickle
from collections.abc import Callable
from typing import Any, cast

import pytest

from brolga.errors import InvalidManifest
from brolga.spec.config import History
from brolga.spec.descriptor import Descriptor
from brolga.spec.digest import Digest
from brolga.spec.mediatypes import (
    OCI_EMPTY,
    OCI_LAYER,
    OCI_LAYER_GZIP,
    OCI_MANIFEST,
    check_media_type,
)
from brolga.spec.platform import Platform

DIGEST = Digest.parse("sha256:5b0bcabd1ed22e9fb1310cf6c2dec7cdef19f0ad69efa1f392e94a4333501270")


def test_to_dict_uses_json_names() -> None:
    """The example of descriptor.md: 'mediaType', 'digest', 'size', and nothing empty."""
    assert Descriptor(OCI_MANIFEST, DIGEST, 7682).to_dict() == {
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "size": 7682,
        "digest": "sha256:5b0bcabd1ed22e9fb1310cf6c2dec7cdef19f0ad69efa1f392e94a4333501270",
    }


def test_to_dict_can_be_written_as_json() -> None:
    """Annotations are a 'string-string map'; 'the value MAY be an empty string'."""
    descriptor = Descriptor(OCI_MANIFEST, DIGEST, 0, {"com.example.key": "", "b": "é"})
    read = json.loads(json.dumps(descriptor.to_dict()))
    assert read["annotations"] == {"com.example.key": "", "b": "é"}
    assert list(read) == ["mediaType", "digest", "size", "annotations"]


@pytest.mark.parametrize("size", [0, 1, 2**31, 2**63 - 1])
def test_descriptor_accepts_int64_size(size: int) -> None:
    """'size: int64. The size, in bytes, of the raw content' (descriptor.md, Properties)."""
    assert Descriptor(OCI_LAYER_GZIP, DIGEST, size).size == size


@pytest.mark.parametrize("size", [-1, 2**63, 10**1000, True, False, 1.0, "1", None])
def test_descriptor_rejects_other_size(size: object) -> None:
    """A size is a whole number from 0 to the largest int64, and not a boolean."""
    with pytest.raises(ValueError, match="not a whole number of bytes") as caught:
        Descriptor(OCI_LAYER_GZIP, DIGEST, cast("int", size))
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    "media_type",
    [
        "a/b",
        "text/plain",
        "application/x-tar",
        "A0!#$&-^_.+/0!#$&-^_.+",
        f"{'a' * 127}/{'b' * 127}",
    ],
)
def test_descriptor_accepts_media_type_of_rfc_6838(media_type: str) -> None:
    """'restricted-name = restricted-name-first *126restricted-name-chars' (RFC 6838, 4.2)."""
    assert Descriptor(media_type, DIGEST, 1).media_type == media_type


@pytest.mark.parametrize(
    "media_type",
    [
        "",
        "text",
        "text/",
        "/plain",
        "a/b/c",
        "text/plain\n",
        "text/plain; charset=utf-8",
        " text/plain",
        "text/pl ain",
        "text/pl%ain",
        "te\u0301xt/plain",
        "\u0661/a",
        "+a/b",
        "a/.b",
        f"{'a' * 128}/b",
        f"a/{'b' * 128}",
        "a/" + "b" * 1_000_000,
    ],
)
def test_descriptor_rejects_other_media_type(media_type: str) -> None:
    """'Values MUST comply with RFC 6838' (descriptor.md, Properties); without parameters."""
    with pytest.raises(ValueError, match="is not type/subtype as of RFC 6838") as caught:
        Descriptor(media_type, DIGEST, 1)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("annotations", [{"a": 1}, {1: "a"}, {"a": None}, {"a": ["x" * 9999]}])
def test_descriptor_rejects_annotations_that_are_not_strings(annotations: dict[Any, Any]) -> None:
    """'both the key and value MUST be strings' (annotations.md, Rules)."""
    with pytest.raises(ValueError, match=r"annotation .* is not a string") as caught:
        Descriptor(OCI_MANIFEST, DIGEST, 1, annotations)
    assert len(str(caught.value)) < 200


def test_annotations_are_read_only_copy() -> None:
    """A descriptor keeps a read-only copy."""
    given = {"a": "1"}
    descriptor = Descriptor(OCI_MANIFEST, DIGEST, 1, given)
    given["a"] = "2"
    assert descriptor.annotations == {"a": "1"}
    with pytest.raises(TypeError):
        descriptor.annotations["a"] = "2"  # type: ignore[index]  # that it is read-only is the rule
    with pytest.raises(AttributeError):
        descriptor.size = 2  # type: ignore[misc]  # that it is frozen is the rule


def test_descriptor_is_value() -> None:
    """Equal descriptors have equal hashes; annotations count."""
    plain = Descriptor(OCI_MANIFEST, DIGEST, 1)
    noted = Descriptor(OCI_MANIFEST, DIGEST, 1, {"a": "1"})
    assert plain == Descriptor(OCI_MANIFEST, DIGEST, 1, {})
    assert plain != noted
    assert len({plain, noted, dataclasses.replace(noted), dataclasses.replace(noted, size=2)}) == 3


def test_descriptor_can_be_copied_and_pickled() -> None:
    """A distributed run passes descriptors between processes."""
    descriptor = Descriptor(OCI_MANIFEST, DIGEST, 1, {"a": "1"})
    assert pickle.loads(pickle.dumps(descriptor)) == descriptor  # noqa: S301 - made in this line
    assert copy.deepcopy(descriptor) == descriptor


# From JSON and back ------------------------------------------------------------------------------

FULL: dict[str, Any] = {
    "mediaType": OCI_EMPTY,
    "digest": str(Digest.of(b"{}")),
    "size": 2,
    "urls": ["https://example.com/a"],
    "annotations": {"com.example.key": "value"},
    "data": "e30=",
    "platform": {
        "architecture": "amd64",
        "os": "windows",
        "os.version": "10.0.20348.1",
        "os.features": ["win32k"],
        "variant": "v2",
        "features": ["sse4"],
    },
    "artifactType": "application/vnd.example.sbom",
    "com.example.unknown": {"deep": [{"a": None}]},
}


def test_from_dict_and_to_dict_keep_every_property() -> None:
    """The names of descriptor.md, and of image-index.md for the platform; unknown ones stay."""
    descriptor = Descriptor.from_dict(FULL)
    assert descriptor.data == b"{}"
    assert descriptor.urls == ("https://example.com/a",)
    assert descriptor.artifact_type == "application/vnd.example.sbom"
    assert descriptor.platform == Platform(
        "windows", "amd64", "v2", "10.0.20348.1", ("win32k",), extra={"features": ["sse4"]}
    )
    assert descriptor.extra == {"com.example.unknown": {"deep": ({"a": None},)}}
    written = descriptor.to_dict()
    assert written == FULL
    assert list(written) == list(FULL)
    assert json.loads(json.dumps(written)) == FULL


def test_from_dict_reads_null_and_empty_as_absent() -> None:
    """Go leaves out an empty member when it writes, and reads null as absent."""
    bare = {name: FULL[name] for name in ("mediaType", "digest", "size")}
    empty = {"urls": [], "annotations": {}, "data": "", "artifactType": ""}
    null = dict.fromkeys([*empty, "platform"])
    assert Descriptor.from_dict({**bare, **empty}) == Descriptor.from_dict({**bare, **null})
    assert Descriptor.from_dict({**bare, **empty}).to_dict() == bare
    assert Descriptor(OCI_EMPTY, Digest.of(b""), 0, data=b"").data is None


def test_descriptor_with_every_property_is_value() -> None:
    """Hash, equality, copies, pickles and `replace` keep every property."""
    descriptor = Descriptor.from_dict(FULL)
    again = pickle.loads(pickle.dumps(descriptor))  # noqa: S301 - made in this line
    assert again == copy.deepcopy(descriptor) == dataclasses.replace(descriptor) == descriptor
    assert hash(again) == hash(descriptor)
    assert again.to_dict() == FULL
    assert dataclasses.replace(descriptor, annotations={}).extra == descriptor.extra
    assert descriptor != dataclasses.replace(descriptor, extra={})


def test_extra_is_frozen_at_every_depth() -> None:
    """A view is read-only at every depth, and `to_dict` returns a copy."""
    descriptor = Descriptor.from_dict(FULL)
    deep = cast("Any", descriptor.extra["com.example.unknown"])
    with pytest.raises(TypeError):
        deep["deep"] = 1
    with pytest.raises(AttributeError):
        deep["deep"].append(1)
    cast("Any", descriptor.to_dict())["com.example.unknown"]["deep"].clear()
    assert descriptor.to_dict() == FULL


def test_extra_rejects_known_member() -> None:
    """One property has one value."""
    with pytest.raises(ValueError, match="extra holds 'size', which is a property of its own"):
        Descriptor(OCI_MANIFEST, DIGEST, 1, extra={"size": 2, "x": 1})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": "e30"}, r"^\$\.data: Incorrect padding"),
        ({"data": "e3\n0="}, r"^\$\.data: "),
        ({"data": "é"}, r"^\$\.data: "),
        ({"data": 1}, r"^\$\.data: must be a string, not a number"),
        ({"data": "e319"}, r"^\$\.data: the embedded data has 3 bytes, but size is 2"),
        ({"data": "W10="}, r"^\$\.data: the embedded data does not have the digest sha256:"),
        ({"digest": f"blake3:{'0' * 64}"}, r"^\$\.data: digest algorithm 'blake3' cannot be comp"),
        ({"artifactType": "a"}, r"^\$\.artifactType: media type 'a' is not type/subtype"),
        ({"platform": {"OS": "linux"}}, r"^\$\.platform\.OS: other clients read it as 'os'"),
        ({"MediaType": "a/b"}, r"^\$\.MediaType: other clients read it as 'mediaType'"),
    ],
)
def test_from_dict_error_begins_with_json_path(changes: dict[str, Any], message: str) -> None:
    """'decoded data MUST be identical to the referenced content' (descriptor.md, data)."""
    with pytest.raises(InvalidManifest, match=message):
        Descriptor.from_dict({**FULL, **changes})


def test_from_dict_error_begins_with_given_path() -> None:
    """`path` is the JSON path of the whole object."""
    with pytest.raises(InvalidManifest, match=r"^\$\.layers\[3\]\.size: is missing"):
        Descriptor.from_dict({**FULL, "size": None}, "$.layers[3]")
    with pytest.raises(InvalidManifest, match=r"^\$: must be an object, not a Python value"):
        Descriptor.from_dict(b"{}")


def test_descriptor_checks_data_and_artifact_type() -> None:
    """'SHOULD be verified against the digest and size fields' (descriptor.md, data)."""
    with pytest.raises(ValueError, match="the embedded data has 3 bytes, but size is 2"):
        Descriptor(OCI_EMPTY, Digest.of(b"{}"), 2, data=b"{ }")
    with pytest.raises(ValueError, match="the embedded data does not have"):
        Descriptor(OCI_EMPTY, Digest.of(b"{}"), 2, data=b"[]")
    with pytest.raises(ValueError, match="is not type/subtype"):
        Descriptor(OCI_EMPTY, Digest.of(b"{}"), 2, artifact_type="a b")
    check_media_type(Descriptor(OCI_EMPTY, DIGEST, 2, artifact_type="a/b").artifact_type)


@pytest.mark.parametrize(
    "make",
    [
        lambda n: Descriptor(OCI_LAYER, Digest.of(b""), 0, {"name": f"v{n}"}),
        lambda n: Descriptor(OCI_LAYER, Digest.of(b""), 0, extra={"x": [{"n": n}]}),
        lambda n: Descriptor(
            OCI_LAYER, Digest.of(b""), 0, platform=Platform("a", "b", extra={"n": n})
        ),
        lambda n: Descriptor(OCI_LAYER, Digest.of(b""), 0, urls=(f"https://h.example/{n}",)),
        lambda n: History(extra={"n": n}),
    ],
    ids=["annotations", "extra", "platform", "urls", "history"],
)
def test_hash_differs_if_any_field_differs(make: Callable[[int], object]) -> None:
    """A set of many values that differ in one field compares only a few of them."""
    assert len({hash(make(n)) for n in range(100)}) > 90
    assert hash(make(1)) == hash(make(1))
