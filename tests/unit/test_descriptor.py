"""descriptor.py: what a descriptor takes, refuses and prints."""

import copy
import dataclasses
import json
import pickle
from typing import Any, cast

import pytest

from brolga.descriptor import Descriptor
from brolga.digest import Digest
from brolga.mediatypes import OCI_LAYER_GZIP, OCI_MANIFEST

DIGEST = Digest.parse("sha256:5b0bcabd1ed22e9fb1310cf6c2dec7cdef19f0ad69efa1f392e94a4333501270")


def test_a_descriptor_prints_the_properties_by_their_json_names() -> None:
    """The example of descriptor.md: 'mediaType', 'digest', 'size', and nothing that is empty."""
    assert Descriptor(OCI_MANIFEST, DIGEST, 7682).to_dict() == {
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "size": 7682,
        "digest": "sha256:5b0bcabd1ed22e9fb1310cf6c2dec7cdef19f0ad69efa1f392e94a4333501270",
    }


def test_the_properties_are_ready_for_json() -> None:
    """Annotations are a 'string-string map'; 'the value MAY be an empty string'."""
    descriptor = Descriptor(OCI_MANIFEST, DIGEST, 0, {"com.example.key": "", "b": "é"})
    read = json.loads(json.dumps(descriptor.to_dict()))
    assert read["annotations"] == {"com.example.key": "", "b": "é"}
    assert list(read) == ["mediaType", "digest", "size", "annotations"]


@pytest.mark.parametrize("size", [0, 1, 2**31, 2**63 - 1])
def test_a_size_of_int64_from_zero_is_taken(size: int) -> None:
    """'size: int64. The size, in bytes, of the raw content' (descriptor.md, Properties)."""
    assert Descriptor(OCI_LAYER_GZIP, DIGEST, size).size == size


@pytest.mark.parametrize("size", [-1, 2**63, 10**1000, True, False, 1.0, "1", None])
def test_another_size_is_refused(size: object) -> None:
    """A size below zero, above int64 or not whole is no size; nor is a truth value."""
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
def test_a_media_type_of_rfc_6838_is_taken(media_type: str) -> None:
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
def test_another_media_type_is_refused(media_type: str) -> None:
    """'Values MUST comply with RFC 6838' (descriptor.md, Properties); parameters are no part."""
    with pytest.raises(ValueError, match="is not type/subtype as of RFC 6838") as caught:
        Descriptor(media_type, DIGEST, 1)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("annotations", [{"a": 1}, {1: "a"}, {"a": None}, {"a": ["x" * 9999]}])
def test_annotations_that_are_not_strings_are_refused(annotations: dict[Any, Any]) -> None:
    """'both the key and value MUST be strings' (annotations.md, Rules)."""
    with pytest.raises(ValueError, match=r"annotation .* is not a string") as caught:
        Descriptor(OCI_MANIFEST, DIGEST, 1, annotations)
    assert len(str(caught.value)) < 200


def test_annotations_cannot_be_changed_afterwards() -> None:
    """A descriptor keeps a copy, and lends it for reading only."""
    given = {"a": "1"}
    descriptor = Descriptor(OCI_MANIFEST, DIGEST, 1, given)
    given["a"] = "2"
    assert descriptor.annotations == {"a": "1"}
    with pytest.raises(TypeError):
        descriptor.annotations["a"] = "2"  # type: ignore[index]  # that it is read-only is the rule
    with pytest.raises(AttributeError):
        descriptor.size = 2  # type: ignore[misc]  # that it is frozen is the rule


def test_a_descriptor_is_a_value() -> None:
    """Equal descriptors are equal and hash alike; annotations are part of what is equal."""
    plain = Descriptor(OCI_MANIFEST, DIGEST, 1)
    noted = Descriptor(OCI_MANIFEST, DIGEST, 1, {"a": "1"})
    assert plain == Descriptor(OCI_MANIFEST, DIGEST, 1, {})
    assert plain != noted
    assert len({plain, noted, dataclasses.replace(noted), dataclasses.replace(noted, size=2)}) == 3


def test_a_descriptor_can_be_copied_and_sent_to_another_process() -> None:
    """A distributed run hands descriptors between processes."""
    descriptor = Descriptor(OCI_MANIFEST, DIGEST, 1, {"a": "1"})
    assert pickle.loads(pickle.dumps(descriptor)) == descriptor  # noqa: S301 - made in this line
    assert copy.deepcopy(descriptor) == descriptor
